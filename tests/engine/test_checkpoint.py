"""Checkpoints exist whole or not at all, and read no code."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mvmsr import atomic
from mvmsr.engine import checkpoint as checkpoint_module
from mvmsr.engine.checkpoint import (
    CheckpointError,
    checkpoint_dir,
    clear_leftovers,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    prune,
    save_checkpoint,
)


def _state(value: float = 1.0) -> dict[str, Any]:
    return {"weights": {"w": torch.full((50,), value)}, "iteration": 3, "name": "x", "none": None, "list": [1, (2, 3)]}


def _names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_round_trip(tmp_path: Path) -> None:
    root = tmp_path / "not" / "there"
    path = save_checkpoint(root, 3, _state())
    assert path == root / "00000003"
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.pop("weights")["w"], torch.ones(50))
    assert loaded == {"iteration": 3, "name": "x", "none": None, "list": [1, (2, 3)]}
    assert _names(root) == ["00000003"]


def test_saving_twice_keeps_the_later(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        save_checkpoint(tmp_path, 3, _state(value))
    assert load_checkpoint(checkpoint_dir(tmp_path, 3))["weights"]["w"][0] == 2
    assert _names(tmp_path) == ["00000003"]


def test_a_failing_write_leaves_the_older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 3, _state())

    def full(state: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"cannot save .*00000006: .*No space left.*; free some space"):
        save_checkpoint(tmp_path, 6, _state())
    with pytest.raises(CheckpointError):
        save_checkpoint(tmp_path, 3, _state(2.0))
    assert _names(tmp_path) == ["00000003"]
    assert load_checkpoint(checkpoint_dir(tmp_path, 3))["weights"]["w"][0] == 1


def test_a_disk_that_refuses(tmp_path: Path) -> None:
    """torch's own writer says what the system refuses in another kind of error than Python's files."""
    resource = pytest.importorskip("resource")
    save_checkpoint(tmp_path, 3, _state())
    large = {"weights": torch.zeros(1 << 18)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"cannot save .*00000006"):
            save_checkpoint(tmp_path, 6, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert _names(tmp_path) == ["00000003"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot save"):
        save_checkpoint(tmp_path / "file", 3, _state())


def test_everything_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    replace = os.replace

    def renamed(source: Path, target: Path) -> None:
        events.append("rename")
        replace(source, target)

    for module in (checkpoint_module, atomic):
        monkeypatch.setattr(module, "sync", lambda path: events.append(path.name))
    monkeypatch.setattr(os, "replace", renamed)
    save_checkpoint(tmp_path / "root", 3, _state())
    assert events[:2] == ["state.pt", "manifest.json"]
    assert events[2].endswith(".tmp")
    assert events[3:] == ["rename", "root"]


def _flip(path: Path) -> None:
    data = bytearray((path / "state.pt").read_bytes())
    data[len(data) // 2] ^= 0x10
    (path / "state.pt").write_bytes(data)


def _shorten(path: Path) -> None:
    (path / "state.pt").write_bytes((path / "state.pt").read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_flip, "the state's checksum differs from its manifest; delete the folder"),
        (_shorten, "the state's checksum differs"),
        (lambda path: (path / "state.pt").unlink(), r"not a complete checkpoint \(.*state.pt"),
        (lambda path: (path / "manifest.json").unlink(), r"not a complete checkpoint \(.*manifest.json"),
        (lambda path: (path / "manifest.json").write_text(""), "not a complete checkpoint"),
        (lambda path: (path / "manifest.json").write_text("{}"), r"not a complete checkpoint \('sha256'\)"),
        (lambda path: (path / "manifest.json").write_text("[]"), "not a complete checkpoint"),
        (lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe"), "not a complete checkpoint"),
    ],
    ids=["flipped", "short", "no state", "no manifest", "empty manifest", "no sum", "a list", "no text"],
)
def test_damage_is_found_and_passed_over(damage: Any, message: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 3, _state(3.0))
    newest = save_checkpoint(tmp_path, 6, _state(6.0))
    damage(newest)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(newest)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[0].name == "00000003"
    assert found[1]["weights"]["w"][0] == 3


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nowhere") is None


def test_nothing_is_begun_anew_over_checkpoints_that_cannot_be_read(tmp_path: Path) -> None:
    for iteration in (3, 6):
        _flip(save_checkpoint(tmp_path, iteration, _state()))
    with pytest.raises(CheckpointError, match=r"2 checkpoints in .*, none of which can be read; bring one back"):
        latest_checkpoint(tmp_path)


def test_a_later_format_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 3, _state())
    manifest = save_checkpoint(tmp_path, 6, _state()) / "manifest.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "format": 2, "version": "9.1"}))
    with pytest.raises(CheckpointError, match=r"00000006 was written by mvmsr 9\.1 in format 2, and this is mvmsr"):
        latest_checkpoint(tmp_path)
    del document["format"]  # as the first versions wrote it
    manifest.write_text(json.dumps(document))
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[0].name == "00000006"


def test_the_newest_is_so_by_iteration_whatever_the_clock_said(tmp_path: Path) -> None:
    for number, iteration in enumerate((99_999_999, 100_000_000, 3)):
        path = save_checkpoint(tmp_path, iteration, {"iteration": iteration})
        for file in (path, *path.iterdir()):
            os.utime(file, (2e9 - 1e9 * number,) * 2)  # the newest are the oldest by their times
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["iteration"] == 100_000_000
    assert prune(tmp_path, 100_000_000, 1, set()) == [3, 99_999_999]


def test_one_of_the_same_iteration_is_there_until_the_new_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process may die between any two renames."""
    save_checkpoint(tmp_path, 3, _state(1.0))
    rename = os.rename

    class _Died(BaseException):
        """No error of the system: the end of the process."""

    for last in range(3):
        with monkeypatch.context() as patch:
            done: list[str] = []

            def deadly(source: Path, target: Path, last: int = last, done: list[str] = done) -> None:
                if len(done) == last:
                    raise _Died
                done.append(str(target))
                rename(source, target)

            patch.setattr(os, "rename", deadly)
            with pytest.raises(_Died):
                save_checkpoint(tmp_path, 3, _state(2.0))
        clear_leftovers(tmp_path)
        found = latest_checkpoint(tmp_path)
        assert found is not None
        assert found[1]["weights"]["w"][0] == (2 if last == 2 else 1)
        assert _names(tmp_path) == ["00000003"]


def test_pruning_that_dies_leaves_no_half_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for iteration in (1, 2, 3):
        save_checkpoint(tmp_path, iteration, _state())

    def dies(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", dies)
        with pytest.raises(KeyboardInterrupt):
            prune(tmp_path, 3, 1, set())
    assert [p.name for p in list_checkpoints(tmp_path)] == ["00000002", "00000003"]
    clear_leftovers(tmp_path)
    assert _names(tmp_path) == ["00000002", "00000003"]


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


def test_no_code_is_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_checkpoint(tmp_path, 3, {"evil": _Evil()})
    with pytest.raises(CheckpointError, match=r"00000003: the state holds other things than tensors"):
        load_checkpoint(path)
    assert capsys.readouterr().out == ""


def test_what_counts_as_a_checkpoint(tmp_path: Path) -> None:
    for iteration in (20, 100, 3):
        save_checkpoint(tmp_path, iteration, _state())
    shutil.copytree(tmp_path / "00000003", tmp_path / ".00000004.99.tmp")
    shutil.copytree(tmp_path / "00000003", tmp_path / "mine")
    (tmp_path / "00000200").mkdir()  # nothing in it
    assert [path.name for path in list_checkpoints(tmp_path)] == ["00000003", "00000020", "00000100"]
    clear_leftovers(tmp_path)
    assert _names(tmp_path) == ["00000003", "00000020", "00000100", "00000200", "mine"]
    clear_leftovers(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("keep_last", "keep", "gone"),
    [(3, set(), [1, 2]), (1, {2}, [1, 3, 4]), (2, {1, 5, 77}, [2, 3]), (9, set(), []), (5, set(), [])],
)
def test_pruning_keeps_the_newest_and_the_best(keep_last: int, keep: set[int], gone: list[int], tmp_path: Path) -> None:
    for iteration in range(1, 6):
        save_checkpoint(tmp_path, iteration, {})
    save_checkpoint(tmp_path, 9, {})  # of before, passed over as damaged
    assert prune(tmp_path, 5, keep_last, keep) == gone
    assert [int(path.name) for path in list_checkpoints(tmp_path)] == [i for i in (*range(1, 6), 9) if i not in gone]


def test_the_manifest_names_the_iteration(tmp_path: Path) -> None:
    manifest = json.loads((save_checkpoint(tmp_path, 12, {}) / "manifest.json").read_text())
    assert manifest["iteration"] == 12
    assert len(manifest["sha256"]) == 64
