"""The folder of a run: made, claimed, and described so that it can be understood years later."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mvmsr import __version__
from mvmsr.atomic import write_whole
from mvmsr.config import TrainOptions
from mvmsr.config.nmd_options import NMDOptions
from mvmsr.config.yaml_source import write_yaml
from mvmsr.engine.checkpoint import clear_leftovers
from mvmsr.engine.rehearsal import SetupError
from mvmsr.engine.run_lock import locked
from mvmsr.revision import revision

log = logging.getLogger(__name__)


class RunExistsError(RuntimeError):
    """A run of that name exists, and nobody said to continue it."""


@dataclass(frozen=True)
class RunDir:
    """Paths inside a run's folder."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        """Complete training states."""
        return self.root / "checkpoints"

    @property
    def weights(self) -> Path:
        """Generators to use, as safetensors."""
        return self.root / "weights"

    @property
    def samples(self) -> Path:
        """Pictures made while validating."""
        return self.root / "samples"

    @property
    def embeddings(self) -> Path:
        """What the metric network made of held-out patches at each validation."""
        return self.root / "embeddings"

    @property
    def stats(self) -> Path:
        """Every logged value."""
        return self.root / "stats.jsonl"


def run_dir_of(options: TrainOptions | NMDOptions) -> RunDir:
    """The folder of the run that the options describe, whether it exists or not."""
    return RunDir(Path(options.path.experiments_root) / options.name)


def require_free_run_dir(options: TrainOptions | NMDOptions, resume: bool) -> RunDir:
    """The run's folder, which need not exist yet.

    Raises:
        RunExistsError: the run has begun before and `resume` is false.
        OptionsError: a file stands where the folder should go.
    """
    root = Path(options.path.experiments_root)
    if any(part.exists() and not part.is_dir() for part in (root, *root.parents)):
        raise options.error(("path", "experiments_root"), f"{root} is not a folder, nor can one be made there")
    run = run_dir_of(options)
    has_begun = run.stats.exists() and run.stats.stat().st_size > 0
    if (has_begun or run.checkpoints.exists()) and not resume:
        raise RunExistsError(
            f"{run.root} exists already; --auto-resume continues it, --set name=... starts another run beside it"
        )
    return run


def open_run_dir(
    options: TrainOptions | NMDOptions, resume: bool, held: ExitStack | None = None, runs_as: str = ""
) -> RunDir:
    """The run's folder, made if need be, with `options.yml` in it; that of a run to be continued stays as it is.

    What processes that were killed left half done in it is cleared away.

    Args:
        held: keeps the run to this process until it is closed; without it the run is not locked.
        runs_as: what `auto` came to on this machine, for whoever reads `options.yml`.

    Raises:
        RunExistsError: the run has begun before and `resume` is false.
        RunBusyError: another process trains it now.
        SetupError: the folder cannot be written.
    """
    run = require_free_run_dir(options, resume)
    try:
        run.root.mkdir(parents=True, exist_ok=True)
        if held is not None:
            held.enter_context(locked(run.root))
        clear_leftovers(run.root)
        kept = run.root / "options.yml"
        if resume and _is_record(kept):
            write_whole(kept, kept.read_bytes())  # a folder that cannot be written is found out now
        else:
            if resume and kept.exists():
                log.warning("%s cannot be read; it is written again", kept)
            _write_options(run, options, runs_as)
        for folder in (run.checkpoints, run.weights):
            clear_leftovers(folder)
    except OSError as error:
        raise SetupError(
            f"{run.root} cannot be written: {error}; free some space, correct its permissions, or set "
            "path.experiments_root to another place"
        ) from error
    return run


def record_changes(run: RunDir, options: TrainOptions | NMDOptions, runs_as: str = "") -> None:
    """`options.yml` of a continued run as it goes on, and a warning that names what differs from before.

    Only once nothing can refuse the run any more, and only if it goes on: else the record would be of a training that
    never was.

    Raises:
        SetupError: the file cannot be written.
    """
    warn_of_changes(run.root / "options.yml", options)
    try:
        _write_options(run, options, runs_as)
    except OSError as error:
        raise SetupError(
            f"{run.root} cannot be written: {error}; free some space, or correct its permissions"
        ) from error


def _is_record(path: Path) -> bool:
    """Whether the file is there and whole: one that a kill or a disk cut off says nothing, and is written anew."""
    try:
        return isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError, yaml.YAMLError):
        return False


def _write_options(run: RunDir, options: TrainOptions | NMDOptions, runs_as: str) -> None:
    code = f"{__version__} ({commit})" if (commit := revision()) else __version__
    header = f"# mvmsr {code}; {shlex.join(sys.argv)}\n" + (f"# {runs_as}\n" if runs_as else "")
    write_whole(run.root / "options.yml", (header + write_yaml(as_plain(options))).encode())


def as_plain(options: TrainOptions | NMDOptions) -> dict[str, Any]:
    """The options as resolved, in plain values that YAML and JSON can hold and `config.load` reads again."""
    return json.loads(options.model_dump_json(exclude_none=True))


def options_hash(options: TrainOptions) -> str:
    """A short fingerprint of the options, stored with the weights they made."""
    return hashlib.sha256(json.dumps(as_plain(options), sort_keys=True).encode()).hexdigest()[:16]


def warn_of_changes(path: Path, options: TrainOptions | NMDOptions) -> None:
    """Say which options differ from those in the run's `options.yml`."""
    if not path.is_file():
        return
    try:
        before = flat(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (yaml.YAMLError, ValueError) as error:
        log.warning("%s cannot be read (%s); it is written again", path, error)
        return
    after = flat(as_plain(options))
    changed = [
        f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and (key in before or after[key])  # later versions add options that are 0
    ]
    if changed:
        log.warning("The run continues with options that differ from those it started with: %s", "; ".join(changed))


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested options by dotted key.

    >>> flat({"train": {"optim_g": {"lr": 0.1}}, "scale": 4})
    {'train.optim_g.lr': 0.1, 'scale': 4}
    """
    if not isinstance(value, dict):
        return {prefix: value}
    result: dict[str, Any] = {}
    for key, child in value.items():
        result |= flat(child, f"{prefix}.{key}" if prefix else str(key))
    return result
