"""A run in progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvmsr.data.batches import Batch
from mvmsr.engine.build import Experiment
from mvmsr.engine.held_out import HeldOutPatches
from mvmsr.engine.logs import NoLog, RunningMeans, StatsLog
from mvmsr.engine.metric_warnings import Teller
from mvmsr.engine.run_dir import RunDir
from mvmsr.engine.validate import Validation


@dataclass(frozen=True)
class Detour:
    """How often the run went back to a checkpoint, and how many batches it left out thereby; part of a checkpoint."""

    rollbacks: int = 0
    batches: int = 0

    def numbers_of(self, iteration: int, parts: int) -> range:
        """The numbers of the `parts` batches that the iteration (counted from 1) is made of."""
        first = (iteration - 1) * parts + self.batches
        return range(first, first + parts)


@dataclass
class Run:
    """The experiment, its folder, and what it writes.

    Attributes:
        best: metric, value and iteration of the best validation so far.
        familiar: training batches that the metric network's statistics are measured on before it is judged.
        data: identity of the training pictures (`data_identity`); empty where nobody asked.
        teller: of what is wrong with the metric network.
    """

    experiment: Experiment
    folder: RunDir
    stats: StatsLog | NoLog
    means: RunningMeans
    validation: Validation | None
    best: dict[str, Any]
    held_out: HeldOutPatches | None = None
    familiar: list[Batch] = field(default_factory=list)
    detour: Detour = field(default_factory=Detour)
    data: dict[str, Any] = field(default_factory=dict)
    teller: Teller = field(default_factory=Teller)

    def weights_path(self, label: str) -> Path:
        """Where weights of that label (`best`, or eight digits of an iteration) go."""
        return self.folder.weights / f"{self.experiment.options.name}_g_{label}.safetensors"
