from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mvmsr.benchmark import pipeline
from mvmsr.benchmark.evaluate import evaluate
from mvmsr.benchmark.image_sets import load_image_set
from mvmsr.benchmark.measure import pick_workers
from mvmsr.benchmark.pipeline import in_order
from mvmsr.data.image_io import write_rgb
from mvmsr.data.imresize import imresize
from mvmsr.metrics import Niqe, Psnr, Ssim, make_protocol
from mvmsr.metrics.metric import Metric


class Watch:
    """Counts what goes on at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = {"load": 0, "work": 0, "score": 0}
        self.most = dict(self.now)
        self.beside_work = 0
        self.loaded = self.scored = self.furthest = 0

    def during(self, what: str, value: int) -> int:
        with self.lock:
            self.now[what] += 1
            self.most[what] = max(self.most[what], self.now[what])
        time.sleep(0.002)
        with self.lock:
            if what == "work":
                self.beside_work = max(self.beside_work, self.now["load"] + self.now["score"])
            self.now[what] -= 1
            self.loaded += what == "load"
            self.scored += what == "score"
            self.furthest = max(self.furthest, self.loaded - self.scored)
        return value

    def work(self, item: int, load: Callable[[], int]) -> int:
        return self.during("work", load() * 10)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("count", [0, 1, 25])
def test_everything_comes_in_order(workers: int, beside: bool, count: int) -> None:
    watch = Watch()
    items = list(range(count))
    results = in_order(
        items,
        lambda n: watch.during("load", n + 1),
        watch.work,
        lambda n: watch.during("score", n + 5),
        workers,
        beside,
    )
    assert list(results) == [((n + 1) * 10, (n + 1) * 10 + 5) for n in items]
    assert watch.most["work"] <= 1
    assert watch.most["load"] + watch.most["score"] <= 2 * workers
    assert watch.furthest <= 6 * workers  # never all of them in memory
    if not beside:
        assert watch.beside_work == 0  # what is timed has the machine for itself


def test_slow_work_does_not_wait_for_its_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "WORK_SECONDS", 0.0)
    watch = Watch()
    worked = []
    results = in_order(
        range(8), lambda n: n, lambda n, load: (worked.append(n), watch.work(n, load))[1], lambda n: n, 4
    )
    next(results)
    assert worked == [0]


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_of_loading_reach_the_work_and_others_the_caller(workers: int) -> None:
    def load(n: int) -> int:
        if n == 1:
            raise OSError("broken")
        return n

    def work(n: int, load: Callable[[], int]) -> str:
        try:
            return f"read {load()}"
        except OSError as error:
            return str(error)

    assert [output for output, _ in in_order(range(3), load, work, len, workers)] == ["read 0", "broken", "read 2"]
    with pytest.raises(TypeError):
        list(in_order(range(3), load, work, lambda text: text + 1, workers))  # type: ignore[operator]


class Network(Metric):
    """A metric by torch, and the threads it was called from."""

    name = "network"
    higher_is_better = True

    def __init__(self) -> None:
        self.network = nn.Identity()
        self.threads: set[str] = set()

    def __call__(self, sr: np.ndarray, gt: np.ndarray | None, protocol: object) -> float:
        self.threads.add(threading.current_thread().name)
        return float(sr.mean())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_scores_do_not_depend_on_workers(device: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(7):
        coarse = rng.integers(0, 256, (24 + number, 50, 3), dtype=np.uint8)
        write_rgb(tmp_path / f"p{number}.png", imresize(coarse, scale=4))
    (tmp_path / "p3.png").write_bytes(b"broken")

    class Nearest:
        """Says where it computes, and does it on the CPU."""

        def __init__(self) -> None:
            self.device = torch.device(device)

        def __call__(self, lq: Tensor) -> Tensor:
            assert threading.current_thread() is threading.main_thread()
            return nn.functional.interpolate(lq, scale_factor=4)

    network = Network()
    metrics = {"psnr": Psnr(), "network": network, "ssim": Ssim(), "niqe": Niqe()}
    runs = []
    for workers in (1, 3):
        seen: list[str] = []
        scores = evaluate(
            Nearest(),
            load_image_set(tmp_path, scale=4),
            metrics,
            make_protocol("y", 4),
            lambda score, sr, seen=seen: seen.append(score.image),
            workers=workers,
        )
        assert seen == [f"p{number}" for number in range(7)]
        runs.append([(s.image, s.scores, list(s.scores), s.notes, s.error) for s in scores])
    assert runs[0] == runs[1]
    assert list(runs[0][0][1]) == list(metrics)
    assert "p3.png" in str(runs[0][3][4])
    assert network.threads == {threading.main_thread().name}


def test_luma_alone_by_several_workers(tmp_path: Path) -> None:
    from mvmsr.benchmark.methods import Bicubic

    for seed in range(3):
        coarse = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        write_rgb(tmp_path / f"p{seed}.png", imresize(coarse, scale=4))
    one, two = (
        evaluate(Bicubic(4), load_image_set(tmp_path), {"psnr": Psnr()}, make_protocol("y_only", 4), workers=workers)
        for workers in (1, 2)
    )
    assert [score.scores for score in one] == [score.scores for score in two]


def test_workers_follow_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads, workers in ((1, 1), (4, 4), (64, 8)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert pick_workers(0) == workers
    assert pick_workers(12) == 12
