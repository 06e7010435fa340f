"""What an options file of a training run may say: BasicSR's key names, typed and frozen.

Sections that name a `type` (networks, losses, data sets, optimizers) keep their other keys as arguments; they are
checked against the class's constructor when the run is built. A key with nothing behind it (`~`) counts as not written.
"""

from __future__ import annotations

import copy
import os
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from mvmsr.config.errors import OptionsError, Problem
from mvmsr.config.yaml_source import LARGEST, Keys, Source


def _whole(value: Any) -> Any:
    """`4e5` is how people write iteration counts; a float without a fraction is a whole number."""
    if isinstance(value, tuple):
        return tuple(_whole(v) for v in value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: Any) -> Any:
    """`precision: 32` is a number to YAML."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _file_name(value: str) -> str:
    """Names become files and folders, and must not lead anywhere else."""
    if not re.fullmatch(r"\w([\w.\- ]*[\w\-])?", value) or len(value.encode()) > 200:
        raise ValueError(
            f"expected the name of a folder, got {value!r}; letters, digits, `_`, `-`, `.` and spaces make one, "
            "beginning with a letter or digit, at most 200 bytes long"
        )
    return value


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"names {twice[0]!r} twice; scores are kept by name, so take one out")
    return names


Count = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=LARGEST)]
Positive = Annotated[int, BeforeValidator(_whole), Field(gt=0, le=LARGEST)]
FileName = Annotated[str, AfterValidator(_file_name)]
HomePath = Annotated[str, AfterValidator(os.path.expanduser)]
"""May begin with `~`."""


class Section(BaseModel):
    """A part of the options with a fixed set of keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: Any) -> Any:
        return {k: v for k, v in values.items() if v is not None} if isinstance(values, dict) else values


class Component(BaseModel):
    """A `type` and the arguments of its constructor."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    type: str

    @property
    def args(self) -> dict[str, Any]:
        """The constructor's arguments as written; a copy."""
        return copy.deepcopy(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {k: v for k, v in values.items() if v is not None or k not in cls.model_fields}

    @model_serializer(mode="wrap")
    def _keep_nulls(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # None as an argument is the user's word, whatever the dump leaves out.
        return {**handler(self), **self.args}


class Optimizer(Component):
    """A `torch.optim` class by name with its arguments."""

    type: str = "Adam"
    lr: Annotated[float, Field(gt=0)] = 1e-4


class MetricOptimizer(Optimizer):
    """The metric network's: by default it learns faster than the rest, or its distance lags behind the generator.

    An Adam of any kind takes betas of 0.5 and 0.999, as is usual for discriminators: with 0.9 its momentum can carry
    it past the distance that it has found, whose loss then bursts for a hundred iterations.
    """

    lr: Annotated[float, Field(gt=0)] = 3e-4

    @model_validator(mode="before")
    @classmethod
    def _fill_in_betas(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "adam" not in str(values.get("type") or "Adam").lower():
            return values
        return {"betas": (0.5, 0.999), **values}


class Scheduler(Component):
    """A learning-rate schedule with its arguments; `milestones: [1e5, 2e5]` are iteration counts."""

    @model_validator(mode="before")
    @classmethod
    def _counts(cls, values: Any) -> Any:
        return {k: _whole(v) for k, v in values.items()} if isinstance(values, dict) else values


class TrainSet(Component):
    """The pictures to train on, and how many crops make a batch."""

    type: str = "PairedImageDataset"
    name: str = "train"
    batch_size_per_gpu: Positive = 16
    dataset_enlarge_ratio: Positive = 1

    @property
    def gt_size(self) -> int:
        """Side of the high-resolution patches; where it is not written down, that of `PairedImageDataset`."""
        return int(self.args.get("gt_size", 96))


class ValSet(Section):
    """A set to validate on; without `dataroot_gt`, the set of that name below the data root."""

    name: FileName
    type: Literal["PairedImageDataset"] = "PairedImageDataset"
    dataroot_gt: str | None = None
    dataroot_lq: str | None = None
    filename_tmpl: str = "{}"
    meta_info_file: str | None = None

    @model_validator(mode="after")
    def _needs_gt(self) -> ValSet:
        where = ("dataroot_lq", "filename_tmpl", "meta_info_file")
        useless = [key for key in where if getattr(self, key) != type(self).model_fields[key].default]
        if self.dataroot_gt is None and useless:
            raise ValueError(f"dataroot_gt is missing, without which {', '.join(useless)} would have no effect")
        return self


class Datasets(Section, extra="allow"):
    """`train`, and any number of `val`, `val_2`, ..."""

    train: TrainSet
    __pydantic_extra__: dict[str, ValSet]

    @property
    def val(self) -> tuple[ValSet, ...]:
        """The validation sets in the order of the file."""
        return tuple((self.__pydantic_extra__ or {}).values())

    @model_validator(mode="before")
    @classmethod
    def _name_by_key(cls, values: Any) -> Any:
        """A set that says where its pictures are needs no name of its own."""
        if not isinstance(values, dict):
            return values
        nameless = (k for k, v in values.items() if k != "train" and isinstance(v, dict) and v.get("name") is None)
        named = {k: {**values[k], "name": k} for k in nameless if values[k].get("dataroot_gt") is not None}
        return {**values, **named}

    @model_validator(mode="after")
    def _names_differ(self) -> Datasets:
        names = [val.name for val in self.val]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two validation sets have the name {twice[0]!r}; scores are kept by name, so rename one")
        return self


class Paths(Section):
    """Weights to begin with, and where runs go."""

    pretrain_network_g: HomePath | None = None
    pretrain_network_d: HomePath | None = None
    pretrain_network_m: HomePath | None = None
    param_key_g: str = "params_ema"
    strict_load_g: bool = True
    param_key_d: str = "params"
    strict_load_d: bool = True
    experiments_root: HomePath = "experiments"


class Train(Section, extra="allow"):
    """Schedule, optimizers, and one weighted loss term for every `<name>_opt`."""

    __pydantic_extra__: dict[str, Component]

    total_iter: Positive
    warmup_iter: Annotated[int, BeforeValidator(_whole), Field(ge=-1, le=LARGEST)] = -1
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    optim_g: Optimizer = Optimizer()
    optim_d: Optimizer = Optimizer()
    optim_m: MetricOptimizer = MetricOptimizer()
    scheduler: Scheduler | None = None
    update: Literal["alternating", "simultaneous"] = "alternating"
    accumulate: Positive = 1
    grad_clip: Annotated[float, Field(gt=0)] | None = None
    net_d_iters: Positive = 1
    net_d_init_iters: Count = 0
    match_after_iter: Count = 0
    """Iterations that the metric network trains alone before the terms on its embeddings reach the generator."""
    recompute_fake: bool = False
    """Whether the critics see pictures made anew after the generator's step (`alternating` alone)."""
    metric_grad_leak: bool = False
    """Whether the metric network's step follows the generator's matching terms too (`alternating` alone)."""
    shard_generator: bool = False
    """Whether several processes split the generator, its gradients, moments and average among them."""
    max_rollbacks: Count = 0
    """How often a run may go back to its last checkpoint, and on with other pictures, when a value is not finite."""

    @property
    def terms(self) -> dict[str, Component]:
        """The loss terms, named by their keys without `_opt`."""
        return {key.removesuffix("_opt"): value for key, value in (self.__pydantic_extra__ or {}).items()}


class Val(Section):
    """Validation while training: how often, by which metrics and protocol."""

    val_freq: Positive = 5000
    save_img: bool = False
    metrics: Annotated[tuple[str, ...], AfterValidator(_each_once)] = ("psnr", "ssim")
    protocol: str = "y"
    crop_border: Count | None = None
    samples: Count = 4
    """Pictures of the first set that are saved beside the ground truth at every validation."""
    embedding_patches: Count = 1024
    """Patches of the validation sets that the metric network is looked at on at every validation; 0 leaves it out."""


class Logger(Section):
    """What is written while training, and how often (in iterations)."""

    print_freq: Positive = 100
    save_checkpoint_freq: Positive = 5000
    use_tb_logger: bool = True
    keep_last: Positive = 3


class RunOptions(Section):
    """All options of a run, which know where each was written."""

    _source: Source = PrivateAttr(default_factory=lambda: Source("options"))

    def problem(self, keys: Keys, message: str) -> Problem:
        """A problem with the value at `keys`, with the file and line that it was written on."""
        return self._source.problem(keys, message)

    def error(self, keys: Keys, message: str) -> OptionsError:
        """An error of one problem (see `problem`)."""
        return OptionsError([self.problem(keys, message)])


class TrainOptions(RunOptions):
    """All options of a training run."""

    name: FileName
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
