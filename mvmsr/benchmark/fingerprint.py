"""What a score depends on, as short checksums: a picture measured before is taken over only where all of them agree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mvmsr.benchmark.methods import Method, MethodError, SavedPictures
from mvmsr.checksum import file_sha256
from mvmsr.data.layouts import ImagePair
from mvmsr.metrics.build import PYIQA_PREFIX
from mvmsr.metrics.metric import Metric
from mvmsr.metrics.protocol import Protocol

Fingerprint = dict[str, str]
"""Checksums by what they stand for: protocol, metrics, versions, device, method, picture; a package if it is used."""
PYIQA, ONNX = ("pyiqa",), ("onnxruntime", "onnxruntime-gpu")
"""Packages that some metrics or methods alone compute by."""


def of_surroundings(
    protocol: Protocol,
    lq: str,
    metrics: Mapping[str, Metric],
    versions: Mapping[str, str],
    device: torch.device,
    precision: str,
) -> Fingerprint:
    """The part that all methods and pictures of a run share."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    every = {package: version for package, version in versions.items() if package not in (*PYIQA, *ONNX)}
    pyiqa = any(name.startswith(PYIQA_PREFIX) for name in metrics)
    return {
        "protocol": _digest({**protocol.as_dict(), "lq": lq}),
        "metrics": _digest({name: metric_checksum(metric) for name, metric in metrics.items()}),
        "versions": _digest(every),
        "device": _digest([str(device), gpu, precision]),
        **({"pyiqa": _digest([versions.get(package) for package in PYIQA])} if pyiqa else {}),
    }


def of_method(method: Method, versions: Mapping[str, str]) -> Fingerprint:
    """The part of a method: the contents of its files, and what runs them."""
    source = method.source
    if source is None or not source.is_file():
        return {"method": _digest([method.name, str(source) if source else None])}
    beside = source.with_name(source.name + ".data")  # where ONNX keeps the weights of large networks
    of = {"method": _digest([method.sha256, _stat(beside) if beside.is_file() else None])}
    if source.suffix.lower() == ".onnx":
        of["onnxruntime"] = _digest([versions.get(package) for package in ONNX])
    return of


def of_picture(pair: ImagePair, set_name: str, saved: SavedPictures | None = None) -> Fingerprint:
    """The part of one picture: the contents of its files and of the saved result, wherever and however old they are."""
    files = [pair.gt, *([pair.lq] if pair.lq else [])]
    found: list[Any] = [of_file(path) for path in files]
    if saved is not None:
        try:
            found.append(of_file(saved.find(set_name, pair)))
        except MethodError:
            found.append(None)
    return {"picture": _digest(found)}


def metric_checksum(metric: Metric) -> str:
    """Class, arguments and weights of a metric."""
    return _digest([type(metric).__qualname__, {key: _content(value) for key, value in vars(metric).items()}])


def _content(value: Any) -> Any:
    """Something that JSON can hold and that changes with the value."""
    if isinstance(value, nn.Module):
        return {key: _content(tensor) for key, tensor in value.state_dict().items()}
    if isinstance(value, torch.Tensor):
        return _content(value.detach().cpu().float().numpy())
    if isinstance(value, np.ndarray):
        return [list(value.shape), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, (list, tuple)):
        return [_content(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _content(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    # An object's `repr` may hold its address, which differs from run to run.
    return type(value).__qualname__ if not isinstance(value, (Path, torch.device)) else str(value)


def of_file(path: Path) -> str | None:
    """The checksum of a file's contents; None of what cannot be read: scoring it says why."""
    stat = _stat(path)
    try:
        return _contents_of(path, *stat) if stat is not None and path.is_file() else None
    except OSError:
        return None


@lru_cache(maxsize=10_000)
def _contents_of(path: Path, size: int, mtime_ns: int) -> str:
    """Read once for all methods, as long as its size and time stay."""
    return file_sha256(path)


def _stat(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
