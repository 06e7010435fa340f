"""Options of runs that take a fraction of a second, and what to compare two runs by."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from mvmsr import config
from mvmsr.config import TrainOptions
from mvmsr.engine.checkpoint import list_checkpoints, load_checkpoint
from mvmsr.engine.logs import read_stats
from mvmsr.engine.step import Images

TIMING = ("step_seconds", "data_seconds", "memory_mib")
"""What two equal runs need not agree on."""

_BASE = {
    "name": "tiny",
    "scale": 4,
    "manual_seed": 3,
    "device": "cpu",
    "precision": "32",
    "compile": False,
    "channels_last": False,
    "datasets": {"train": {"gt_size": 16, "batch_size_per_gpu": 2}},
    "network_g": {"type": "SRResNet", "num_feat": 8, "num_block": 1, "bn": True},
    "path": {},
    "train": {
        "total_iter": 10,
        "optim_g": {"type": "Adam", "lr": 1e-3},
        "scheduler": {"type": "CosineAnnealingLR"},
        "pixel_opt": {"type": "L1Loss"},
    },
    "logger": {"print_freq": 3, "save_checkpoint_freq": 5, "use_tb_logger": False},
}
_OF_NETWORK = {
    "D": {
        "network_d": {"type": "SRGANDiscriminator", "num_feat": 2},
        "train.optim_d": {"type": "Adam", "lr": 1e-3},
        "train.gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
    },
    "M": {
        "network_m": {"type": "MetricNet", "num_feat": 4, "num_layer": 3, "embedding_dim": 4},
        "train.optim_m": {"type": "Adam", "lr": 1e-3},
        "train.pair_opt": {"type": "PairLoss", "loss_weight": 0.01},
        "train.manifold_opt": {"type": "ManifoldMatchingLoss", "loss_weight": 0.01},
        "train.triplet_opt": {"type": "DirectedTripletLoss", "triplets": "shuffle"},
    },
}


def options_file(folder: Path, pictures: Path, networks: str = "G", changes: Mapping[str, Any] | None = None) -> Path:
    """Write the options of a tiny run in `folder` and return the file.

    Args:
        pictures: where the ground truth lies.
        networks: "G" and, after it, "D" and "M": which networks are trained.
        changes: values by dotted key; None removes the key.
    """
    values: dict[str, Any] = copy.deepcopy(_BASE)
    values["datasets"]["train"] |= {"dataroot_gt": str(pictures), "cache_dir": str(pictures.parent / "cache")}
    values["path"]["experiments_root"] = str(folder)
    for network in networks[1:]:
        for key, value in _OF_NETWORK[network].items():
            _put(values, key, copy.deepcopy(value))
    for key, value in (changes or {}).items():
        _put(values, key, value)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "options.yml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def tiny_options(
    folder: Path, pictures: Path, networks: str = "G", changes: Mapping[str, Any] | None = None
) -> TrainOptions:
    """The options of a tiny run that goes to `folder / "tiny"`; see `options_file`."""
    return config.load(options_file(folder, pictures, networks, changes))


def _put(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for key in parents:
        values = values.setdefault(key, {})
    if value is None:
        values.pop(last, None)
    else:
        values[last] = value


def random_images(count: int = 4, side: int = 16, seed: int = 0) -> Images:
    """A batch of noise for x4."""
    generator = torch.Generator().manual_seed(seed)
    lq = torch.rand(count, 3, side // 4, side // 4, generator=generator)
    gt = torch.rand(count, 3, side, side, generator=generator)
    return Images(lq, gt, tuple(f"picture{k}" for k in range(count)))


def final_state(run: Path) -> dict[str, Any]:
    """The newest checkpoint of a run's folder."""
    return load_checkpoint(list_checkpoints(run / "checkpoints")[-1])


def comparable_stats(run: Path) -> list[dict[str, Any]]:
    """The records of a run without what depends on the clock."""
    return [{k: v for k, v in r.items() if k not in TIMING} for r in read_stats(run / "stats.jsonl")]


def differences(a: Any, b: Any, path: str = "state") -> list[str]:
    """Where two nested states are not bit for bit the same."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [path]
    if type(a) is not type(b):
        return [f"{path}: {type(a).__name__} and {type(b).__name__}"]
    if isinstance(a, dict):
        if list(a) != list(b):
            return [f"{path}: keys {list(a)} and {list(b)}"]
        return [d for key in a for d in differences(a[key], b[key], f"{path}.{key}")]
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return [f"{path}: {len(a)} and {len(b)} items"]
        return [d for k, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{path}[{k}]")]
    return [] if a == b else [f"{path}: {a!r} and {b!r}"]


def assert_same_runs(a: Path, b: Path) -> None:
    """Same networks, averages, optimizers, random states, partial means, best scores, and statistics."""
    assert differences(final_state(a), final_state(b)) == []
    assert comparable_stats(a) == comparable_stats(b)
