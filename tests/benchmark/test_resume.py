"""A benchmark that is stopped anywhere and started again ends as if it had not been stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import BaseContext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mvmsr.benchmark import journal, measure, run
from mvmsr.benchmark.journal import JOURNAL, Journal
from mvmsr.benchmark.methods import Bicubic
from mvmsr.benchmark.plan import Plan, PlanError
from mvmsr.benchmark.results import Results, versions
from mvmsr.data.image_io import read_rgb, write_rgb
from mvmsr.data.imresize import imresize
from mvmsr.report.benchmark_originals import Originals

NAMES = ("p0", "p1", "p2")
SCRIPT = Path(__file__).parents[2] / "test_sr.py"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    rng = np.random.default_rng(0)
    for set_name in ("A", "B"):
        for name in NAMES:
            coarse = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
            write_rgb(tmp_path / "data" / set_name / f"{name}.png", imresize(coarse, scale=4))
    return Plan(
        methods=("bicubic", "again=bicubic"),
        sets=("A", "B"),
        data_root=str(tmp_path / "data"),
        out=str(tmp_path / "out"),
        save_images=True,
        device="cpu",
        workers=1,
    )


@pytest.fixture(scope="module")
def forks() -> BaseContext:
    """Processes that are forked from one which imported everything and started no thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mvmsr.benchmark.run", "mvmsr.metrics", "pytest"])
    return context


def timeless(results: Results) -> dict[str, Any]:
    """Results without what differs from run to run: date, machine, times and memory."""
    methods = [
        {**method, "cost": {**method["cost"], "seconds_per_megapixel": None, "peak_mib": None}}
        for method in results["methods"]
    ]
    rows = {key: [{**row, "seconds": None} for row in results[key]] for key in ("means", "images")}
    return {**results, **rows, "methods": methods, "date": None, "machine": None}


def measured(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> tuple[Results, list[tuple[str, str, str]], list[str]]:
    """Results, the pictures that were scored for them, and the lines that were said."""
    scored: list[tuple[str, str, str]] = []
    lines: list[str] = []
    original = Journal.add_score

    def add_score(self: Journal, score: Any, of: Any, picture: Any) -> None:
        scored.append((score.method, score.set, score.image))
        original(self, score, of, picture)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add_score", add_score)
        results = run.run_benchmark(plan, say=lines.append)
    return results, scored, lines


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after_a_line(plan: Plan, count: int) -> None:
    calls = iter(range(count))
    journal.os.fsync = lambda _: None if next(calls, None) is not None else die()  # type: ignore[assignment]
    run.run_benchmark(plan)


def die_within_a_line(plan: Plan, count: int) -> None:
    calls = iter(range(count))

    def half(value: Any, **_: Any) -> str:
        line = json.dumps(value)
        if next(calls, None) is None:
            path = Path(plan.out or "", JOURNAL)
            path.parent.mkdir(exist_ok=True)
            with path.open("ab", buffering=0) as file:
                file.write(line.encode()[:-20])
            die()
        return line

    journal.json = SimpleNamespace(dumps=half, loads=json.loads)  # type: ignore[assignment]
    run.run_benchmark(plan)


def die_before_a_rename(plan: Plan, count: int) -> None:
    calls = iter(range(count))
    real = os.replace
    os.replace = lambda a, b: real(a, b) if next(calls, None) is not None else die()  # type: ignore
    run.run_benchmark(plan)


def test_methods_that_would_write_the_same_files_are_refused(plan: Plan) -> None:
    plan = replace(plan, methods=("a b=bicubic", "a_b=bicubic"))
    with pytest.raises(PlanError, match="'a b' and 'a_b' would write the same images"):
        run.run_benchmark(plan)
    run.run_benchmark(replace(plan, save_images=False))
    # One folder where file systems do not tell cases apart, as on Windows and macOS.
    with pytest.raises(PlanError, match="'One' and 'one' would write the same images"):
        run.run_benchmark(replace(plan, methods=("One=bicubic", "one=bicubic")))


def test_sets_that_would_write_the_same_files_are_refused(plan: Plan, tmp_path: Path) -> None:
    for name in ("A B", "A_B"):
        shutil.copytree(tmp_path / "data" / "A", tmp_path / "data" / name)
    plan = replace(plan, sets=("A B", "A_B"))
    with pytest.raises(PlanError, match="'A B' and 'A_B' would write the same images"):
        run.run_benchmark(plan)


@pytest.mark.parametrize(("where", "asked"), [("A", "."), ("A/below", "..")])
def test_the_folder_where_one_is_has_a_name(
    where: str, asked: str, plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "data" / where).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "data" / where)
    results = run.run_benchmark(replace(plan, sets=(asked,), methods=("..=bicubic", f"images:{asked}")))
    assert [(row["method"], row["set"]) for row in results["means"]] == [("..", "A"), ("A", "A")]
    saved = {path.relative_to(tmp_path / "out" / "images").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert saved == {f"{method}/A/{name}.png" for method in ("_", "A") for name in NAMES}
    assert Originals([tmp_path / "none"], 4, [asked])("A", "p0") is not None


def test_every_image_is_saved_under_a_name_of_its_own(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = ("x y", "x_y", "x:y", "x*y")
    for number, name in enumerate(names):
        write_rgb(tmp_path / "data" / "C" / f"{name}.png", np.full((32, 40, 3), 40 * number, np.uint8))
    plan = replace(plan, methods=("bicubic",), sets=("C",))
    run.run_benchmark(plan)
    saved = sorted((tmp_path / "out" / "images" / "bicubic" / "C").iterdir())
    assert len({read_rgb(path).tobytes() for path in saved}) == len(names)
    assert {"x y.png", "x_y.png"} < {path.name for path in saved}
    assert measured(plan, monkeypatch)[1] == []


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize(
    ("death", "count", "kept"),  # a line is one of a method, then one of each of its six pictures
    [
        *((die_after_a_line, count, kept) for count, kept in ((0, 0), (1, 1), (5, 5), (9, 8))),
        *((die_within_a_line, count, kept) for count, kept in ((0, 0), (1, 0), (5, 4), (9, 7))),
        *((die_before_a_rename, count, kept) for count, kept in ((0, 0), (5, 5), (9, 9))),
    ],
)
def test_killed_and_started_again(
    death: Callable[[Plan, int], None],
    count: int,
    kept: int,
    plan: Plan,
    forks: BaseContext,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    whole = run.run_benchmark(replace(plan, out=str(tmp_path / "whole")))
    child = forks.Process(target=death, args=(plan, count), daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    results, scored, _ = measured(plan, monkeypatch)
    assert timeless(results) == timeless(whole)
    order = [(method, set_name, name) for method in ("bicubic", "again") for set_name in ("A", "B") for name in NAMES]
    assert scored == order[kept:]
    for path in sorted((tmp_path / "whole" / "images").rglob("*.png")):
        again = tmp_path / "out" / path.relative_to(tmp_path / "whole")
        assert np.array_equal(read_rgb(again), read_rgb(path))


def test_the_same_command_takes_everything_over(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    first, scored, lines = measured(plan, monkeypatch)
    assert (len(scored), lines) == (12, [])
    second, scored, lines = measured(plan, monkeypatch)
    assert scored == []
    assert timeless(second) == timeless(first)
    assert second["images"] == first["images"]  # times too: they are those of the measurement
    assert len(lines) == 1
    assert lines[0].startswith("12 of 12 images were measured before")
    assert "--restart" in lines[0]
    assert len(measured(replace(plan, restart=True), monkeypatch)[1]) == 12


def test_what_changed_is_measured_again_and_said(plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run.run_benchmark(plan)
    write_rgb(tmp_path / "data" / "A" / "p1.png", np.full((32, 40, 3), 7, np.uint8))
    _, scored, lines = measured(plan, monkeypatch)
    assert scored == [("bicubic", "A", "p1"), ("again", "A", "p1")]
    assert "2 are measured again, since this has changed: image" in lines
    (tmp_path / "out" / "images" / "again" / "B" / "p2.png").unlink()
    assert measured(plan, monkeypatch)[1] == [("again", "B", "p2")]
    assert measured(replace(plan, save_images=False, methods=("bicubic",)), monkeypatch)[1] == []


def test_pictures_that_were_copied_are_the_same(plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = run.run_benchmark(plan)
    shutil.copytree(tmp_path / "data", tmp_path / "moved", copy_function=shutil.copyfile)
    for path in (tmp_path / "moved").rglob("*.png"):
        os.utime(path, (1, 1))
    second, scored, _ = measured(replace(plan, data_root=str(tmp_path / "moved")), monkeypatch)
    assert scored == []
    assert timeless(second) == timeless(first)


def test_the_pictures_beside_the_scores_are_those_that_were_scored(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "data", tmp_path / "saved")
    first = replace(plan, methods=(f"mine=images:{tmp_path / 'saved'}",))
    other = replace(plan, methods=("mine=bicubic",))
    assert [len(measured(p, monkeypatch)[1]) for p in (first, other, first, first)] == [6, 6, 6, 0]
    written = read_rgb(tmp_path / "out" / "images" / "mine" / "A" / "p0.png")
    assert np.array_equal(written, read_rgb(tmp_path / "data" / "A" / "p0.png"))
    scores = replace(first, save_images=False)  # without pictures, those of before hold
    assert [len(measured(replace(p, save_images=False), monkeypatch)[1]) for p in (scores, other)] == [0, 0]


def test_a_picture_that_changes_while_others_are_measured_is_measured_again(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original, changed = Journal.add_score, np.full((32, 40, 3), 7, np.uint8)

    def add_score(self: Journal, score: Any, of: Any, picture: Any) -> None:
        original(self, score, of, picture)
        if (score.method, score.set, score.image) == ("again", "A", "p0"):
            write_rgb(tmp_path / "data" / "A" / "p1.png", changed)  # long since in memory

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add_score", add_score)
        run.run_benchmark(plan)
    assert measured(plan, monkeypatch)[1] == [("bicubic", "A", "p1"), ("again", "A", "p1")]


def test_a_file_that_cannot_be_read_is_one_failure(plan: Plan, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    shutil.copytree(tmp_path / "data", saved)
    (saved / "A" / "p0.png").unlink()
    (saved / "A" / "p0.png").mkdir()
    plan = replace(plan, methods=(f"images:{saved}",), save_images=False)
    for _ in range(2):
        results = run.run_benchmark(plan)
        assert [(failure["set"], failure["image"]) for failure in results["failures"]] == [("A", "p0")]


def test_of_two_methods_of_one_name_another_is_proposed(plan: Plan) -> None:
    with pytest.raises(PlanError, match=r"two methods are called 'a'; give one a label, as in other=psnr$"):
        run.run_benchmark(replace(plan, methods=("a=bicubic", "a=psnr")))


@pytest.mark.parametrize("names", [("a/HR", "b/HR"), ("A", "A/")])
def test_two_sets_of_one_name_are_refused(names: tuple[str, str], plan: Plan, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        shutil.copytree(tmp_path / "data" / "A", tmp_path / folder / "HR", dirs_exist_ok=True)
    sets = tuple(str(tmp_path / name) if "HR" in name else name for name in names)
    with pytest.raises(PlanError, match=r"two sets are called '(HR|A)'"):
        run.run_benchmark(replace(plan, sets=sets))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"protocol": "rgb"}, "protocol"),
        ({"crop_border": 2}, "protocol"),
        ({"metrics": ("psnr",)}, "metrics"),
        ({"precision": "32"}, "device"),
    ],
)
def test_other_conditions(change: dict[str, Any], what: str, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    run.run_benchmark(plan)
    _, scored, lines = measured(replace(plan, **change), monkeypatch)
    assert len(scored) == 12
    assert lines[-1] == f"12 are measured again, since this has changed: {what}"
    assert measured(plan, monkeypatch)[1] == []  # the first measurement is still there


def test_a_new_version_measures_again(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    run.run_benchmark(plan)
    monkeypatch.setattr(measure, "versions", lambda: {"mvmsr": "99"})
    assert measured(plan, monkeypatch)[2][-1] == "12 are measured again, since this has changed: versions"


@pytest.mark.parametrize("package", ["pillow", "pyiqa", "onnxruntime", "onnxruntime-gpu"])
def test_another_version_of_a_package_matters_where_it_is_used(
    package: str, plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mvmsr.metrics import Psnr

    with_pyiqa = {"psnr": Psnr(), "pyiqa:psnr": Psnr()}
    monkeypatch.setattr(run, "build_metrics", lambda names, **_: ({name: with_pyiqa[name] for name in names}, []))
    (tmp_path / "net.onnx").write_bytes(b"none")
    monkeypatch.setattr("mvmsr.benchmark.methods._open_onnx", lambda _, scale, __: Bicubic(scale))
    plan = replace(plan, methods=("bicubic", str(tmp_path / "net.onnx")), sets=("A",), metrics=("psnr",))
    both = replace(plan, out=str(tmp_path / "both"), metrics=("psnr", "pyiqa:psnr"))
    for one in (plan, both):
        run.run_benchmark(one)
    monkeypatch.setattr("mvmsr.benchmark.measure.versions", lambda: {**versions(), package: "99"})
    assert "pillow" in versions()
    counts = {"pillow": (6, 6), "pyiqa": (0, 6)}.get(package, (3, 3))
    assert tuple(len(measured(one, monkeypatch)[1]) for one in (plan, both)) == counts


def test_saved_pictures_that_changed_are_scored_again(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in NAMES:
        write_rgb(tmp_path / "theirs" / f"{name}.png", np.zeros((32, 40, 3), np.uint8))
    plan = replace(plan, methods=(f"images:{tmp_path / 'theirs'}",), sets=("A",))
    assert len(measured(plan, monkeypatch)[1]) == 3
    write_rgb(tmp_path / "theirs" / "p1.png", np.ones((32, 40, 3), np.uint8))
    assert measured(plan, monkeypatch)[1] == [("theirs", "A", "p1")]


def test_other_weights_under_the_same_name(plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    from mvmsr.archs import SRResNet
    from mvmsr.inference.weights import save_weights

    path = tmp_path / "net.safetensors"
    plan = replace(plan, methods=(str(path),), sets=("A",))
    psnr = []
    for seed in (0, None, 1):
        if seed is not None:
            torch.manual_seed(seed)
            net = SRResNet(num_feat=4, num_block=1, upscale=4)
            save_weights(path, net.state_dict(), "SRResNet", {"num_feat": 4, "num_block": 1, "upscale": 4}, 4)
        results, scored, _ = measured(plan, monkeypatch)
        psnr.append((results["means"][0]["psnr"], len(scored)))
    assert psnr[1] == (psnr[0][0], 0)
    assert psnr[2][0] != psnr[0][0]
    assert psnr[2][1] == 3
    cost = results["methods"][0]["cost"]
    merged = sum(p.numel() for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters())
    assert cost["parameters"] == sum(p.numel() for p in net.parameters()) - merged
    assert cost["multiply_adds_720p"] > 0
    assert cost["seconds_per_megapixel"] > 0


def test_failures_are_tried_again(plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good = (tmp_path / "data" / "A" / "p1.png").read_bytes()
    (tmp_path / "data" / "A" / "p1.png").write_bytes(b"\x89PNG broken")
    results, _, _ = measured(plan, monkeypatch)
    assert [(f["method"], f["image"]) for f in results["failures"]] == [("bicubic", "p1"), ("again", "p1")]
    (tmp_path / "data" / "A" / "p1.png").write_bytes(good)
    results, scored, _ = measured(plan, monkeypatch)
    assert results["failures"] == []
    assert scored == [("bicubic", "A", "p1"), ("again", "A", "p1")]


def test_damaged_lines_are_passed_over(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    run.run_benchmark(plan)
    path = Path(plan.out or "") / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2 + 12
    path.write_bytes(b"".join([lines[0], b"\x00\xff\n", b'{"key": ["x"]}\n', b"[]\n", *lines[2:]]))
    assert measured(plan, monkeypatch)[1] == [("bicubic", "A", "p0")]


def test_a_method_may_be_called_inf(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = replace(plan, methods=("inf=bicubic",))
    run.run_benchmark(plan)
    assert measured(plan, monkeypatch)[1] == []


def test_infinite_scores_survive(plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = replace(plan, methods=(f"images:{tmp_path / 'data'}",))
    first = run.run_benchmark(plan)
    assert first["means"][0]["psnr"] == float("inf")
    assert timeless(run.run_benchmark(plan)) == timeless(first)


@pytest.mark.slow
def test_the_command_stopped_at_random_moments(plan: Plan, tmp_path: Path) -> None:
    sets = ("--set-names", *plan.sets, "--data-root", str(plan.data_root))

    def start(out: Path) -> subprocess.Popen[bytes]:
        command = (sys.executable, str(SCRIPT), "--method", *plan.methods, *sets, "--out", str(out), "--no-report")
        return subprocess.Popen((*command, "--workers", "2"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def lines(out: Path) -> int:
        return (out / JOURNAL).read_bytes().count(b"\n") if (out / JOURNAL).exists() else 0

    whole, out = tmp_path / "whole", tmp_path / "out"
    children = [start(whole), start(out)]
    for stop in (signal.SIGKILL, signal.SIGINT):
        before = lines(out)
        while children[-1].poll() is None and lines(out) < before + 3:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.02))
        children[-1].send_signal(stop)
        assert children[-1].wait() in (-stop, 130, 0)  # 0: it was quicker than the signal
        children.append(start(out))
    assert (children[0].wait(), children[-1].wait()) == (0, 0)
    first, last = (json.loads((folder / "results.json").read_text()) for folder in (whole, out))
    assert timeless(first) == timeless(last)
