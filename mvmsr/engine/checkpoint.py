"""Complete training states on disk: written aside, synced, renamed, verified when read.

Which one is the newest is a matter of its iteration, never of a file's time: clocks jump.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch

from mvmsr import __version__
from mvmsr.atomic import put_in_place, recover, remove, sync
from mvmsr.checksum import file_sha256
from mvmsr.counting import counted

log = logging.getLogger(__name__)

FORMAT = 1
"""Of what a state holds; raised when older programs cannot continue from it."""
_STATE, _MANIFEST = "state.pt", "manifest.json"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or continued; the message names it and says what to do."""


class CheckpointWriteError(CheckpointError):
    """The disk refused a checkpoint or weights; what was saved before is untouched."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint that is incomplete or whose bytes have changed; an older one may be good."""


def checkpoint_dir(root: Path, iteration: int) -> Path:
    """Where the checkpoint after `iteration` iterations lies."""
    return root / f"{iteration:08d}"


def save_checkpoint(root: Path, iteration: int, state: dict[str, Any]) -> Path:
    """Write `state` as the checkpoint of `iteration`; it exists whole or not at all.

    Args:
        root: the run's `checkpoints` folder.
        state: tensors, numbers, strings, and containers of them (what `torch.load(weights_only=True)` reads).

    Raises:
        CheckpointWriteError: the disk refused; earlier checkpoints, also one of this iteration, are untouched.
    """
    final = checkpoint_dir(root, iteration)
    aside = root / f".{final.name}.{os.getpid()}.tmp"
    try:
        root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        torch.save(state, aside / _STATE)
        digest = file_sha256(aside / _STATE)
        manifest = {"iteration": iteration, "version": __version__, "format": FORMAT, "sha256": digest}
        (aside / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        for path in (aside / _STATE, aside / _MANIFEST, aside):
            sync(path)
        put_in_place(aside, final)
    except (OSError, RuntimeError) as error:  # torch's writer has its own words for a disk that refuses
        shutil.rmtree(aside, ignore_errors=True)
        raise CheckpointWriteError(
            f"cannot save {final}: {error}; free some space or repair the folder, then --auto-resume"
        ) from error
    return final


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint folder.

    Raises:
        DamagedCheckpointError: the folder is incomplete, its bytes have changed, or it holds code.
        CheckpointError: a later version wrote it in a way that this one does not know.
    """
    advice = "delete the folder to go on from an older one"
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
        digest, written_as = manifest["sha256"], manifest.get("format", 1)
        if file_sha256(path / _STATE) != digest:
            raise DamagedCheckpointError(f"{path}: the state's checksum differs from its manifest; {advice}")
        if written_as > FORMAT:
            raise CheckpointError(
                f"{path} was written by mvmsr {manifest.get('version')} in format {written_as}, and this is mvmsr "
                f"{__version__}, which reads formats up to {FORMAT}; continue the run with that version or a later one"
            )
        return torch.load(path / _STATE, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DamagedCheckpointError(
            f"{path}: the state holds other things than tensors and plain values, so mvmsr did not write it; {advice}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(f"{path}: not a complete checkpoint ({error}); {advice}") from error


def list_checkpoints(root: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    if not root.is_dir():
        return []
    complete = (p for p in root.iterdir() if p.name.isdigit() and (p / _MANIFEST).is_file())
    return sorted(complete, key=lambda path: int(path.name))


def latest_checkpoint(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that can be read, with its state; damaged ones are passed over with a warning.

    Raises:
        CheckpointError: there are checkpoints, and all of them are damaged. (To begin anew would overwrite what may
            still be mended.) Or the newest is of a later version.
    """
    paths = list_checkpoints(root)
    for path in reversed(paths):
        try:
            return path, load_checkpoint(path)
        except DamagedCheckpointError as error:
            log.warning("Skipping a damaged checkpoint. %s", error)
    if paths:
        raise CheckpointError(
            f"{counted(len(paths), 'checkpoint')} in {root}, none of which can be read; bring one back from a backup, "
            f"or delete {root} to start the run again"
        )
    return None


def expired(root: Path, iteration: int, keep_last: int, keep: set[int]) -> list[int]:
    """The iterations of all checkpoints up to `iteration` but the newest `keep_last` and those in `keep`.

    Later ones were passed over as damaged when the run was continued: they count for nothing, and stay as they are.
    """
    past = [number for path in list_checkpoints(root) if (number := int(path.name)) <= iteration]
    return [number for number in past[:-keep_last] if number not in keep]


def prune(root: Path, iteration: int, keep_last: int, keep: set[int]) -> list[int]:
    """Delete the expired checkpoints; returns their iterations."""
    gone = expired(root, iteration, keep_last, keep)
    for iteration in gone:
        remove_checkpoint(root, iteration)
    return gone


def remove_checkpoint(root: Path, iteration: int) -> None:
    """Delete the checkpoint of an iteration."""
    remove(checkpoint_dir(root, iteration))


def clear_leftovers(root: Path) -> None:
    """Remove what saves that were killed left behind, and put back what they were about to replace."""
    if root.is_dir():
        recover(root)
        for path in root.glob(".*.tmp"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
