"""What an options file of the natural manifold discriminator's training may say (`task: nmd`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from mvmsr.config.errors import OptionsError
from mvmsr.config.kinds import command_of
from mvmsr.config.load import problems_of, read_options
from mvmsr.config.schema import Component, Count, FileName, HomePath, Optimizer, Positive, RunOptions, Section, _text
from mvmsr.config.yaml_source import read_yaml

Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(gt=0)]


class NMDNetwork(Component):
    """The discriminator and its arguments."""

    type: str = "NMD"


class NMDTrainSet(Section):
    """The natural pictures: which, how large the crops are, and how many of the pictures only judge."""

    dataroot_gt: str | tuple[str, ...]
    gt_size: Positive = 192
    batch_size_per_gpu: Positive = 32
    held_out: Positive = 100
    """Pictures that are kept for the accuracies, spread evenly over the data set."""
    least_gradient: Annotated[float, Field(ge=0)] = 0.005
    least_variance: Annotated[float, Field(ge=0)] = 0.03
    cache_dir: str | None = None

    @model_validator(mode="after")
    def _sizes_fit(self) -> NMDTrainSet:
        if self.batch_size_per_gpu % 4:
            raise ValueError(
                f"batch_size_per_gpu must be a multiple of 4 (noisy, blurry, and two quarters as they are), "
                f"got {self.batch_size_per_gpu}"
            )
        if self.gt_size % 8 or self.gt_size < 16:
            raise ValueError(f"gt_size must be a multiple of 8 from 16 on, got {self.gt_size}")
        return self


class NMDDatasets(Section):
    """`train` alone: what judges is held out of it."""

    train: NMDTrainSet


class NMDCurriculum(Section):
    """How the degradations become slighter as the discriminator learns to see them."""

    sigma: Level = 0.1
    sigma_factor: Annotated[float, Field(gt=0, lt=1)] = 0.8
    sigma_last: Level = 0.0045
    alpha: Share = 0.5
    alpha_step: Level = 0.1
    alpha_last: Share = 0.8
    accuracy: Share = 0.95
    window: Positive = 10
    """Accuracies whose mean has to reach `accuracy` before a degradation becomes slighter."""
    every: Positive = 100
    """Iterations between two accuracies."""
    pictures: Positive = 100
    """Crops that an accuracy degrades; as many are left as they are."""


class NMDTrain(Section):
    """Length, optimizer and curriculum."""

    total_iter: Positive = 100_000
    optim: Optimizer = Optimizer()
    curriculum: NMDCurriculum = NMDCurriculum()


class NMDPaths(Section):
    """Where runs go."""

    experiments_root: HomePath = "experiments"


class NMDLogger(Section):
    """What is written while training, and how often (in iterations)."""

    print_freq: Positive = 100
    save_checkpoint_freq: Positive = 1000
    keep_last: Positive = 1
    use_tb_logger: bool = True


class NMDOptions(RunOptions):
    """All options of a natural manifold discriminator's training."""

    task: Literal["nmd"]
    name: FileName
    scale: Positive = 4
    manual_seed: Count = 0
    device: str = "auto"
    precision: Annotated[Literal["auto", "32", "bf16-mixed"], BeforeValidator(_text)] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    datasets: NMDDatasets
    network: NMDNetwork = NMDNetwork()
    path: NMDPaths = NMDPaths()
    train: NMDTrain = NMDTrain()
    logger: NMDLogger = NMDLogger()

    @model_validator(mode="after")
    def _scale_fits(self) -> NMDOptions:
        if self.datasets.train.gt_size % self.scale:
            raise ValueError(f"gt_size must be a multiple of scale {self.scale}, got {self.datasets.train.gt_size}")
        return self


def load_nmd(path: str | Path, overrides: Sequence[str] = ()) -> NMDOptions:
    """Read, override and validate the options of a discriminator's training.

    Raises:
        OptionsError: every problem at once, each with file, line, dotted key, value and what is accepted.
    """
    values, source = read_options(path, "train-nmd", overrides)
    try:
        options = NMDOptions.model_validate(values)
    except ValidationError as error:
        raise OptionsError(problems_of(error, values, source, NMDOptions)) from error
    options._source = source
    return options


def is_nmd(path: str | Path) -> bool:
    """Whether an options file trains the discriminator rather than a generator."""
    return command_of(read_yaml(Path(path))[0]) == "train-nmd"
