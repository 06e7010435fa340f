"""What an options file of a training run may say: BasicSR's key names, typed and frozen.

Sections that name a `type` (networks, losses, data sets, optimizers) keep their other keys as arguments; they are
checked against the class's constructor when the run is built.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from mvmsr.config.errors import OptionsError, Problem
from mvmsr.config.yaml_source import Keys, Source


def _whole(value: Any) -> Any:
    """`4e5` is how people write iteration counts; a float without a fraction is a whole number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: Any) -> Any:
    """`precision: 32` is a number to YAML."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Count = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(_whole), Field(gt=0)]


class Section(BaseModel):
    """A part of the options with a fixed set of keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Component(BaseModel):
    """A `type` and the arguments of its constructor."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    type: str

    @property
    def args(self) -> dict[str, Any]:
        """The constructor's arguments as written."""
        return dict(self.model_extra or {})


class Optimizer(Component):
    """A `torch.optim` class by name with its arguments."""

    type: str = "Adam"
    lr: Annotated[float, Field(gt=0)] = 1e-4


class TrainSet(Component):
    """The pictures to train on, and how many crops make a batch."""

    type: str = "PairedImageDataset"
    name: str = "train"
    batch_size_per_gpu: Positive = 16
    dataset_enlarge_ratio: Positive = 1


class ValSet(Section):
    """A set to validate on; without `dataroot_gt`, the set of that name below the data root."""

    name: str
    type: str = "PairedImageDataset"
    dataroot_gt: str | None = None
    dataroot_lq: str | None = None
    filename_tmpl: str = "{}"
    meta_info_file: str | None = None


class Datasets(BaseModel):
    """`train`, and any number of `val`, `val_2`, ..."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    train: TrainSet
    __pydantic_extra__: dict[str, ValSet]

    @property
    def val(self) -> tuple[ValSet, ...]:
        """The validation sets in the order of the file."""
        return tuple((self.__pydantic_extra__ or {}).values())

    @model_validator(mode="after")
    def _names(self) -> Datasets:
        for key in self.__pydantic_extra__ or {}:
            if not key.startswith("val"):
                raise ValueError(f"{key!r} is unknown here; data sets are called train, val, val_2, ...")
        return self


class Paths(Section):
    """Weights to begin with, and where runs go."""

    pretrain_network_g: str | None = None
    pretrain_network_d: str | None = None
    pretrain_network_m: str | None = None
    param_key_g: str = "params_ema"
    strict_load_g: bool = True
    experiments_root: str = "experiments"


class Train(BaseModel):
    """Schedule, optimizers, and one weighted loss term for every `<name>_opt`."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    __pydantic_extra__: dict[str, Component | None]

    total_iter: Positive
    warmup_iter: Annotated[int, BeforeValidator(_whole)] = -1
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    optim_g: Optimizer = Optimizer()
    optim_d: Optimizer = Optimizer()
    optim_m: Optimizer = Optimizer()
    scheduler: Component | None = None
    update: Literal["alternating", "simultaneous"] = "alternating"
    accumulate: Positive = 1
    grad_clip: Annotated[float, Field(gt=0)] | None = None
    net_d_iters: Positive = 1
    net_d_init_iters: Count = 0
    match_after_iter: Count = 0
    """Iterations that the metric network trains alone before the terms on its embeddings reach the generator."""

    @property
    def terms(self) -> dict[str, Component]:
        """The loss terms, named by their keys without `_opt`."""
        extra = self.__pydantic_extra__ or {}
        return {key.removesuffix("_opt"): value for key, value in extra.items() if value is not None}


class Val(Section):
    """Validation while training: how often, by which metrics and protocol."""

    val_freq: Positive = 5000
    save_img: bool = False
    metrics: tuple[str, ...] = ("psnr", "ssim")
    protocol: str = "y"
    crop_border: Count | None = None
    samples: Count = 4
    """Pictures of the first set that are saved beside the ground truth at every validation."""


class Logger(Section):
    """What is written while training, and how often (in iterations)."""

    print_freq: Positive = 100
    save_checkpoint_freq: Positive = 5000
    use_tb_logger: bool = True
    keep_last: Positive = 3


class TrainOptions(Section):
    """All options of a training run."""

    name: Annotated[str, Field(pattern=r"^[\w][\w.\- ]*$")]
    scale: Positive = 4
    manual_seed: Count = 0
    device: str = "auto"
    precision: Annotated[Literal["auto", "32", "bf16-mixed", "16-mixed"], BeforeValidator(_text)] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    datasets: Datasets
    network_g: Component
    network_d: Component | None = None
    network_m: Component | None = None
    path: Paths = Paths()
    train: Train
    val: Val = Val()
    logger: Logger = Logger()

    _source: Source = PrivateAttr(default_factory=lambda: Source("options"))

    def problem(self, keys: Keys, message: str) -> Problem:
        """A problem with the value at `keys`, with the file and line that it was written on."""
        return self._source.problem(keys, message)

    def error(self, keys: Keys, message: str) -> OptionsError:
        """An error of one problem (see `problem`)."""
        return OptionsError([self.problem(keys, message)])
