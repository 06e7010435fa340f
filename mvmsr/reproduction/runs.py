"""The training runs behind a table: which there are, how far each is, and what it would take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mvmsr.config import OptionsError, TrainOptions, load
from mvmsr.config.nmd_options import NMDOptions, load_nmd
from mvmsr.counting import counted
from mvmsr.engine.checkpoint import list_checkpoints
from mvmsr.engine.nmd_run import weights_path
from mvmsr.engine.run_dir import RunDir, as_plain, flat
from mvmsr.inference.weights import WeightsError, read_info
from mvmsr.reproduction.rows import Budget, ReproductionError, Row, nmd_options_file, rows_of

NMD_PREFIX = "nmd."
"""Overrides that begin so belong to the discriminator's training, all others to the rows'."""
_FREE = {"experiments_root", "logger", "val", "name", "device", "nmd_path", "cache_dir"}
"""Options that may differ from those a run began with: they do not change what it learns."""


@dataclass(frozen=True)
class Run:
    """One training that a table needs.

    Attributes:
        key: the row and seed, as scores call it (`g_seed0`); `nmd` for the discriminator.
        row: None for the discriminator.
        overrides: what the training command is given by `--set`.
    """

    key: str
    row: Row | None
    seed: int
    options_file: Path
    overrides: tuple[str, ...]
    folder: Path
    total_iter: int
    weights: Path
    cost: str

    @property
    def iterations(self) -> int:
        """Iterations that are trained and saved."""
        if self.done:
            return self.total_iter
        checkpoints = list_checkpoints(RunDir(self.folder).checkpoints)
        return int(checkpoints[-1].name) if checkpoints else 0

    @property
    def done(self) -> bool:
        """Whether its weights are there: after all iterations or, of the discriminator, at its curriculum's end."""
        try:
            extra = read_info(self.weights).extra
        except WeightsError:
            return False
        return int(extra.get("iterations", -1)) >= self.total_iter or extra.get("curriculum_finished") == "true"

    @property
    def status(self) -> str:
        """One of `done`, `not yet run`, and how far it is."""
        if self.done:
            return "done"
        return f"{self.iterations:,} of {counted(self.total_iter, 'iteration')}" if self.iterations else "not yet run"

    def command(self, python: str, data_root: str | None = None) -> list[str]:
        """The training command that begins or continues it."""
        arguments = [python, "-c", "from mvmsr.cli import main; main()", "train", "-opt", str(self.options_file)]
        for override in self.overrides:
            arguments += ["--set", override]
        return [*arguments, "--auto-resume", *(["--data-root", data_root] if data_root is not None else [])]


def runs_of(
    table: str,
    budget: Budget,
    options: Path,
    out: Path,
    seeds: int = 1,
    overrides: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
) -> list[Run]:
    """Every run that the rows need, in the order in which they are to be trained; bicubic needs none.

    Args:
        options: the folder `options/reproduce`.
        out: runs are in `out`/runs.
        overrides: for every row; those beginning with `nmd.` are for the discriminator.

    Raises:
        ReproductionError: an unknown table or row, an options file that is missing.
        OptionsError: an override that does not fit.
    """
    root = out / "runs"
    rows = [row for row in rows_of(table, only) if row.stem]
    nmd_overrides = tuple(o.removeprefix(NMD_PREFIX) for o in overrides if o.startswith(NMD_PREFIX))
    row_overrides = tuple(o for o in overrides if not o.startswith(NMD_PREFIX))
    runs = []
    if any(row.needs_nmd for row in rows):
        runs.append(_nmd_run(_existing(nmd_options_file(options, budget)), root, nmd_overrides))
    for seed in range(seeds):
        for row in rows:
            more = (f'train.naturalness_opt.nmd_path="{runs[0].weights}"',) if row.needs_nmd else ()
            runs.append(
                _row_run(row, seed, _existing(row.options_file(options, budget)), root, (*more, *row_overrides))
            )
    return runs


def changed_options(run: Run) -> list[str]:
    """Options, by dotted key, in which a run that has begun differs from what would be trained now."""
    path = run.folder / "options.yml"
    if not path.is_file():
        return []
    after = flat(_plain(run, run.options_file, run.overrides))
    try:
        before = flat(_plain(run, path, ()))  # options that a later version added have their defaults
    except OptionsError:  # of a version whose options are not today's
        before = flat(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    return sorted(
        key
        for key in {*before, *after}
        # Where defaults could not be filled in, an option that is off and one that is not there are the same.
        if before.get(key) != after.get(key) and (key in before or after[key]) and not _is_free(key)
    )


def _plain(run: Run, path: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    return as_plain(load_nmd(path, overrides) if run.row is None else load(path, overrides))


def stale_runs(runs: Sequence[Run]) -> dict[str, str]:
    """Why runs belong to no table of today, by key: they, or their discriminator, were begun with other options."""
    stale = {
        run.key: f"stale, begun with other options ({', '.join(changed)})"
        for run in runs
        if (changed := changed_options(run))
    }
    if "nmd" in stale:
        for run in runs:
            if run.row is not None and run.row.needs_nmd and run.iterations:
                stale.setdefault(run.key, f"its discriminator is {stale['nmd']}")
    return stale


def curriculum_of(run: Run) -> str:
    """How far a discriminator's curriculum came, in words; empty of rows' runs and where there are no weights.

    Such a run may be done, its iterations being spent, long before the pictures became as hard as NatSR's.
    """
    if run.row is not None:
        return ""
    try:
        extra = read_info(run.weights).extra
    except WeightsError:
        return ""
    if not {"sigma", "alpha"} <= extra.keys():
        return ""
    early = "" if extra.get("curriculum_finished") == "true" else " before its end"
    return f"its discriminator's curriculum stopped{early} at sigma {extra['sigma']}, alpha {extra['alpha']}"


def _is_free(key: str) -> bool:
    return bool(_FREE & set(key.split("."))) or key.startswith("datasets.val")


def _row_run(row: Row, seed: int, path: Path, root: Path, overrides: tuple[str, ...]) -> Run:
    name = f"{path.stem}_seed{seed}"
    overrides = (*overrides, f"manual_seed={seed}", f"name={name}", f'path.experiments_root="{root}"')
    options: TrainOptions = load(path, overrides)
    folder, total = root / name, options.train.total_iter
    weights = RunDir(folder).weights / f"{name}_g_{total:08d}.safetensors"
    return Run(f"{row.key}_seed{seed}", row, seed, path, overrides, folder, total, weights, cost_of(path))


def _nmd_run(path: Path, root: Path, overrides: tuple[str, ...]) -> Run:
    overrides = (*overrides, f'path.experiments_root="{root}"')
    options: NMDOptions = load_nmd(path, overrides)
    folder, total = root / options.name, options.train.total_iter
    return Run("nmd", None, options.manual_seed, path, overrides, folder, total, weights_path(options), cost_of(path))


def cost_of(path: Path) -> str:
    """What an options file says it costs, in its opening comment."""
    comment = re.match(r"(#.*\n)+", path.read_text(encoding="utf-8"))
    found = re.search(r"^# Cost: *((?:.*\n)(?:#   .*\n)*)", comment[0], re.MULTILINE) if comment else None
    return " ".join(found[1].replace("#", " ").split()) if found else ""


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ReproductionError(f"no options file {path}; name the folder options/reproduce by --options")
    return path
