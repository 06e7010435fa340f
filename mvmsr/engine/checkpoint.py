"""Complete training states on disk: written aside, synced, renamed, verified when read."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch

from mvmsr import __version__

log = logging.getLogger(__name__)

_STATE, _MANIFEST = "state.pt", "manifest.json"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or continued; the message names it and says what to do."""


def checkpoint_dir(root: Path, iteration: int) -> Path:
    """Where the checkpoint after `iteration` iterations lies."""
    return root / f"{iteration:08d}"


def save_checkpoint(root: Path, iteration: int, state: dict[str, Any]) -> Path:
    """Write `state` as the checkpoint of `iteration`; it exists whole or not at all.

    Args:
        root: the run's `checkpoints` folder.
        state: tensors, numbers, strings, and containers of them (what `torch.load(weights_only=True)` reads).

    Raises:
        CheckpointError: the disk refused; earlier checkpoints are untouched.
    """
    final = checkpoint_dir(root, iteration)
    aside = root / f".{final.name}.{os.getpid()}.tmp"
    try:
        root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        torch.save(state, aside / _STATE)
        manifest = {"iteration": iteration, "version": __version__, "sha256": _sha256(aside / _STATE)}
        (aside / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        for path in (aside / _STATE, aside / _MANIFEST, aside):
            _sync(path)
        if final.exists():
            shutil.rmtree(final)
        aside.rename(final)
        _sync(root)
    except (OSError, RuntimeError) as error:  # torch's writer has its own words for a disk that refuses
        shutil.rmtree(aside, ignore_errors=True)
        raise CheckpointError(
            f"cannot save {final}: {error}; free some space or mend the folder, then --auto-resume"
        ) from error
    return final


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint folder.

    Raises:
        CheckpointError: the folder is incomplete, its bytes have changed, or it holds code.
    """
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
        if _sha256(path / _STATE) != manifest["sha256"]:
            raise CheckpointError(
                f"{path}: the state's checksum differs from its manifest; delete the folder to go on from an older one"
            )
        return torch.load(path / _STATE, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: the state holds other things than tensors and plain values, so it is not one of ours; delete the "
            "folder to go on from an older one"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not a complete checkpoint ({error}); delete the folder to go on from an older one"
        ) from error


def list_checkpoints(root: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    if not root.is_dir():
        return []
    return sorted(p for p in root.iterdir() if p.name.isdigit() and (p / _MANIFEST).is_file())


def latest_checkpoint(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that can be read, with its state; damaged ones are passed over with a warning."""
    for path in reversed(list_checkpoints(root)):
        try:
            return path, load_checkpoint(path)
        except CheckpointError as error:
            log.warning("Passing over a damaged checkpoint. %s", error)
    return None


def prune(root: Path, keep_last: int, keep: set[int]) -> list[int]:
    """Delete all but the newest `keep_last` checkpoints and those of the iterations in `keep`; returns what went."""
    gone = []
    for path in list_checkpoints(root)[:-keep_last]:
        if int(path.name) not in keep:
            shutil.rmtree(path)
            gone.append(int(path.name))
    return gone


def clear_leftovers(root: Path) -> None:
    """Remove what saves that were killed left behind."""
    if root.is_dir():
        for path in root.glob(".*.tmp"):
            shutil.rmtree(path, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
