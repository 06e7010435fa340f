"""What happens to a run when the disk, the clock, the data or the memory fail it."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_runs import assert_same_runs, final_state, tiny_options

from mvmsr.atomic import put_in_place, recover, write_whole
from mvmsr.config import OptionsError, TrainOptions
from mvmsr.data.image_io import read_rgb, write_rgb
from mvmsr.engine import loop, saving
from mvmsr.engine.checkpoint import CheckpointError, CheckpointWriteError, list_checkpoints, load_checkpoint
from mvmsr.engine.logs import StatsLog, read_stats
from mvmsr.engine.loop import train
from mvmsr.engine.memory import NotEnoughMemoryError
from mvmsr.engine.rehearsal import SetupError
from mvmsr.engine.run_dir import open_run_dir
from mvmsr.engine.stop import Stopped


def _options(folder: Path, pictures: Path, changes: dict[str, Any] | None = None) -> TrainOptions:
    values: dict[str, Any] = {
        "train.total_iter": 10,
        "train.ema_decay": 0.9,
        "datasets.val": {"name": "made", "dataroot_gt": str(pictures)},
        "val": {"val_freq": 4, "metrics": ["psnr"], "samples": 0, "embedding_patches": 0},
        "logger.print_freq": 2,
        "logger.save_checkpoint_freq": 3,
    }
    return tiny_options(folder, pictures, "GM", {**values, **(changes or {})})


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "LAST_SAVE_TRIES", 3)
    monkeypatch.setattr(saving, "SECONDS_BETWEEN_TRIES", 0.01)


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    return train(_options(tmp_path_factory.mktemp("whole"), pictures)).root


@pytest.fixture
def before_iteration(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """`before_iteration(k, act)`: call `act` once, before the k-th iteration."""
    acts: dict[int, Callable[[], None]] = {}
    iterate = loop.run_iteration

    def watched(experiment: Any, parts: Any) -> Any:
        acts.pop(experiment.iteration + 1, lambda: None)()
        return iterate(experiment, parts)

    monkeypatch.setattr(loop, "run_iteration", watched)
    return lambda iteration, act: acts.update({iteration: act})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes, of which a run takes one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(disk: Path) -> None:
    with (disk / "other people's files").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(512))
        except OSError:
            return


def _make_room(disk: Path) -> None:
    (disk / "other people's files").unlink()


def test_a_full_disk_is_waited_for(
    small_disk: Path, before_iteration: Any, whole: Path, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Full from the fifth iteration to the eighth: the save of the sixth fails, that after the eighth does not."""
    good: list[str] = []

    def look_and_make_room() -> None:
        good.extend(p.name for p in list_checkpoints(small_disk / "tiny" / "checkpoints"))
        assert load_checkpoint(small_disk / "tiny" / "checkpoints" / good[-1])["iteration"] == 4
        _make_room(small_disk)

    before_iteration(5, lambda: _fill(small_disk))
    before_iteration(8, look_and_make_room)
    with caplog.at_level(logging.INFO):
        train(_options(small_disk, pictures))
    assert good == ["00000003", "00000004"]  # the fourth is the best so far
    assert "iter 6  cannot save" in caplog.text
    assert "No space left on device" in caplog.text
    assert "training goes on and retries soon; the newest good checkpoint is" in caplog.text
    assert [p.name for p in list_checkpoints(small_disk / "tiny" / "checkpoints")] == [
        "00000008",
        "00000009",
        "00000010",
    ]
    assert_same_runs(whole, small_disk / "tiny")


def test_a_disk_that_stays_full_ends_the_run_with_its_checkpoint(
    small_disk: Path,
    before_iteration: Any,
    whole: Path,
    pictures: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before_iteration(8, lambda: _fill(small_disk))
    with pytest.raises(CheckpointWriteError, match=r"free some space or repair the folder, then --auto-resume"):
        train(_options(small_disk, pictures))
    assert caplog.text.count("this is tried again until it succeeds") == 2
    assert [p.name for p in list_checkpoints(small_disk / "tiny" / "checkpoints")] == [
        "00000003",
        "00000004",
        "00000006",
    ]
    _make_room(small_disk)
    train(_options(small_disk, pictures), auto_resume=True)
    assert_same_runs(whole, small_disk / "tiny")


def test_room_that_is_made_at_the_end_is_found(
    whole: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the right to mount: the writer itself says that the disk is full."""
    write, failures = saving.save_checkpoint, itertools.count()

    def full_at_first(root: Path, iteration: int, state: Any) -> Path:
        if iteration == 10 and next(failures) < 2:
            raise CheckpointWriteError("No space left on device")
        return write(root, iteration, state)

    monkeypatch.setattr(saving, "save_checkpoint", full_at_first)
    train(_options(tmp_path, pictures))
    assert next(failures) == 3
    assert_same_runs(whole, tmp_path / "tiny")


def test_a_run_that_is_to_stop_cannot_wait_for_room(
    before_iteration: Any, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(root: Path, iteration: int, state: Any) -> Path:
        raise CheckpointWriteError(f"cannot save {iteration}")

    monkeypatch.setattr(saving, "save_checkpoint", full)
    before_iteration(2, lambda: os.kill(os.getpid(), 15))
    with pytest.raises(CheckpointWriteError, match="cannot save 2"):
        train(_options(tmp_path, pictures))


def test_a_folder_that_becomes_read_only(
    small_disk: Path, before_iteration: Any, whole: Path, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(small_disk)], check=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "LAST_SAVE_TRIES", 1)
        # The log's file is open for writing, which Linux would not let go read-only: close it as a failing disk would.
        patch.setattr(StatsLog, "_flush", lambda self: None)
        before_iteration(7, lambda: _refuse_writing(patch))
        with pytest.raises(CheckpointWriteError, match="Read-only file system"):
            train(_options(small_disk, pictures))
    remount("ro")
    try:
        with pytest.raises(SetupError, match=r"tiny cannot be written: .*Read-only.*set path\.experiments_root"):
            open_run_dir(_options_without_file(small_disk, pictures, whole), resume=True)
    finally:
        remount("rw")
    train(_options(small_disk, pictures), auto_resume=True)
    assert final_state(small_disk / "tiny")["iteration"] == 10


def _refuse_writing(patch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *arguments: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    patch.setattr(Path, "mkdir", refused)
    patch.setattr(os, "rename", refused)


def _options_without_file(folder: Path, pictures: Path, scratch: Path) -> TrainOptions:
    return _options(scratch, pictures).model_copy(
        update={"path": _options(scratch, pictures).path.model_copy(update={"experiments_root": str(folder)})}
    )


@pytest.fixture
def no_rename_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that renames over nothing."""

    def strict(original: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def rename(source: Any, target: Any) -> None:
            if os.path.exists(target):
                raise FileExistsError(errno.EEXIST, "File exists", str(source), None, str(target))
            original(source, target)

        return rename

    monkeypatch.setattr(os, "rename", strict(os.rename))
    monkeypatch.setattr(os, "replace", strict(os.replace))


@pytest.mark.usefixtures("no_rename_over")
def test_a_file_system_without_rename_over_files(whole: Path, pictures: Path, tmp_path: Path) -> None:
    train(_options(tmp_path, pictures, {"train.total_iter": 6, "train.scheduler": None}))
    train(_options(tmp_path, pictures, {"train.scheduler": None}), auto_resume=True)
    assert final_state(tmp_path / "tiny")["iteration"] == 10
    assert [p.name for p in (tmp_path / "tiny").rglob(".*")] == [".lock"]


@pytest.mark.usefixtures("no_rename_over")
@pytest.mark.parametrize("died_after", [0, 1, 2])
def test_an_exchange_is_finished_or_undone(died_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stats.jsonl"
    path.write_text("old")
    rename, count = os.rename, itertools.count()

    def deadly(source: Any, target: Any) -> None:
        if next(count) == died_after:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", deadly)
        if died_after < 2:
            with pytest.raises(KeyboardInterrupt):
                write_whole(path, b"new")
        else:
            write_whole(path, b"new")
    recover(tmp_path)
    assert path.read_text() == ("old" if died_after < 2 else "new")
    assert list(tmp_path.glob(".*.old")) == []


def test_a_file_never_takes_a_folders_place(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match="run"):
        write_whole(folder, b"a report")
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "checkpoints"]


def test_what_cannot_be_replaced_stays(tmp_path: Path) -> None:
    new, path = tmp_path / "new", tmp_path / "path"
    path.write_text("old")
    with pytest.raises(FileNotFoundError):
        put_in_place(new, path)
    assert path.read_text() == "old"


def test_clocks_may_jump(
    before_iteration: Any, whole: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    monkeypatch.setattr(time, "time", lambda: float(rng.uniform(0, 4e9)))
    before_iteration(8, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(_options(tmp_path, pictures))
    for number, path in enumerate(sorted((tmp_path / "tiny").rglob("*"))):  # the newest are the oldest by their times
        os.utime(path, (1e9 - number * 1e6,) * 2)
    train(_options(tmp_path, pictures), auto_resume=True)
    assert_same_runs(whole, tmp_path / "tiny")


@pytest.fixture
def own_pictures(pictures: Path, tmp_path: Path) -> Path:
    """A copy of the pictures, to be spoilt, with the cache beside it."""
    return Path(shutil.copytree(pictures, tmp_path / "set" / "pictures"))


def test_pictures_may_vanish_while_the_run_goes_on(
    before_iteration: Any, own_pictures: Path, whole: Path, pictures: Path, tmp_path: Path
) -> None:
    changes = {"datasets.train.dataroot_gt": str(own_pictures), "datasets.train.cache_dir": str(tmp_path / "cache")}

    def spoil() -> None:
        (own_pictures / "p0.png").unlink()
        (own_pictures / "p1.png").write_bytes((own_pictures / "p1.png").read_bytes()[:100])
        write_rgb(own_pictures / "p2.png", np.zeros((64, 64, 3), np.uint8))

    before_iteration(4, spoil)
    train(_options(tmp_path, pictures, changes))
    assert_same_runs(whole, tmp_path / "tiny")


def _continued(own_pictures: Path, pictures: Path, tmp_path: Path, spoil: Callable[[], None]) -> None:
    changes = {"datasets.train.dataroot_gt": str(own_pictures), "datasets.train.cache_dir": str(tmp_path / "cache")}
    iterate = loop.run_iteration

    def stops(experiment: Any, parts: Any) -> Any:
        if experiment.iteration == 5:
            os.kill(os.getpid(), 15)
        return iterate(experiment, parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "run_iteration", stops)
        with pytest.raises(Stopped):
            train(_options(tmp_path, pictures, changes))
    spoil()
    train(_options(tmp_path, pictures, changes), auto_resume=True)


def test_pictures_that_are_damaged_when_a_run_continues(own_pictures: Path, pictures: Path, tmp_path: Path) -> None:
    whole_file = (own_pictures / "p1.png").read_bytes()
    with pytest.raises(OptionsError, match=r"datasets\.train\.dataroot_gt: 1 image cannot be used:\n.*p1"):
        _continued(own_pictures, pictures, tmp_path, lambda: (own_pictures / "p1.png").write_bytes(whole_file[:2000]))
    assert final_state(tmp_path / "tiny")["iteration"] == 6


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("one less", "the run began with 6 training images, and there are 5 now: the run goes on, but it is no longer"),
        ("other pixels", "some of the 6 training images (or their names) have changed: the run goes on, but"),
        ("saved again", None),
        ("store cut off", None),
    ],
)
def test_pictures_that_changed_when_a_run_continues(
    what: str,
    message: str | None,
    own_pictures: Path,
    whole: Path,
    pictures: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def spoil() -> None:
        if what == "one less":
            (own_pictures / "p5.png").unlink()
        elif what == "other pixels":
            write_rgb(own_pictures / "p5.png", read_rgb(own_pictures / "p5.png") // 2)
        elif what == "saved again":
            write_rgb(own_pictures / "p5.png", read_rgb(own_pictures / "p5.png"))
        else:
            (pixels,) = (tmp_path / "cache").glob("*.mvmpack/pixels.bin")
            os.truncate(pixels, 1000)

    _continued(own_pictures, pictures, tmp_path, spoil)
    if message:
        assert message in caplog.text
        assert final_state(tmp_path / "tiny")["iteration"] == 10
    else:
        assert "training images" not in caplog.text
        (tmp_path / "tiny" / "checkpoints" / "00000003").exists()
        assert_same_runs(whole, tmp_path / "tiny")


def test_memory_that_is_not_there(before_iteration: Any, pictures: Path, tmp_path: Path, console: Console) -> None:
    before_iteration(5, lambda: torch.empty(1 << 58, dtype=torch.uint8).fill_(0))
    with pytest.raises(NotEnoughMemoryError) as caught:
        train(_options(tmp_path, pictures, {"datasets.train.batch_size_per_gpu": 4}), console=console)
    text = str(caught.value)
    assert "not enough memory in iteration 5, with batches of 4 patches of 16 pixels" in text
    assert "datasets.train.batch_size_per_gpu=2 with train.accumulate=2" in text
    assert "datasets.train.gt_size=8" in text
    assert "precision=bf16-mixed" in text
    assert final_state(tmp_path / "tiny")["iteration"] == 4
    smaller = {"datasets.train.batch_size_per_gpu": 2, "train.accumulate": 2}
    train(_options(tmp_path, pictures, smaller), auto_resume=True, console=console)
    assert final_state(tmp_path / "tiny")["iteration"] == 10


def test_a_checkpoint_of_another_training(whole: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "tiny")
    (newest,) = [p for p in list_checkpoints(tmp_path / "tiny" / "checkpoints") if p.name == "00000010"]
    state = load_checkpoint(newest)
    del state["optimizers"]
    from mvmsr.engine.checkpoint import save_checkpoint

    save_checkpoint(newest.parent, 10, state)
    with pytest.raises(CheckpointError, match=r"the checkpoint lacks optimizers: another .*checkpoints/00000010"):
        train(_options(tmp_path, pictures), auto_resume=True)


def test_a_missing_network_is_named(whole: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "tiny")
    options = tiny_options(tmp_path, pictures, "G", {"train.total_iter": 12})
    with pytest.raises(CheckpointError, match=r"holds .*'metric_net': 'MetricNet'.*but the options describe"):
        train(options, auto_resume=True)


def test_records_wait_for_a_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that takes seven bytes at a time, then none, then all."""

    class Awkward:
        def __init__(self, path: Path) -> None:
            self.file = path.open("ab", buffering=0)
            self.taken = 0

        def write(self, content: bytes) -> int:
            self.taken += 1
            if 3 <= self.taken < 6:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(content[:7]))

        def close(self) -> None:
            self.file.close()

    log = StatsLog(tmp_path, 0, tensorboard=False)
    log._file.close()
    log._file = Awkward(tmp_path / "stats.jsonl")  # type: ignore[assignment]
    with caplog.at_level(logging.INFO):
        for iteration in (1, 2, 3, 4):
            log.write(iteration, {"loss": iteration / 2})
    log.close()
    assert read_stats(tmp_path / "stats.jsonl") == [{"iter": i, "loss": i / 2} for i in (1, 2, 3, 4)]
    assert caplog.text.count("cannot be written: ") == 1
    assert caplog.text.count("can be written again") == 1


def test_options_that_a_kill_cut_off_do_not_stop_the_run(whole: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "tiny")
    (tmp_path / "tiny" / "options.yml").write_text('name: "ti')
    train(_options(tmp_path, pictures), auto_resume=True)
    assert json.loads((tmp_path / "tiny" / "stats.jsonl").read_text().splitlines()[-1])["iter"] == 10
    assert "total_iter: 10" in (tmp_path / "tiny" / "options.yml").read_text()
