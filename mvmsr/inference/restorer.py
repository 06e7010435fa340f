"""A generator made ready for use: on its device, in its precision, with checked inputs and finite outputs."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from mvmsr.archs.padded import padded
from mvmsr.hardware import autocast, full_float32, pick_channels_last, pick_device, pick_precision
from mvmsr.inference.failures import network_failures
from mvmsr.inference.folding import fold_batch_norm
from mvmsr.inference.weights import WeightsInfo, find_weights, load_generator

logger = logging.getLogger(__name__)


class Restorer:
    """`restorer(lq (N, 3, h, w) in [0, 1]) -> sr (N, 3, h*scale, w*scale) in [0, 1]`, float32, on its device.

    Networks that are known to take sides of a multiple only (`size_multiple`) see padded pictures; others take any size
    or bring their own padding. Where half precision overflows, the picture is computed again in float32.

    Args:
        module: the generator; it is moved to the device and put into eval mode.
        scale: its factor.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, or a torch.device.
        precision: `auto`, `32` (never TF32), `bf16-mixed` or `16-mixed`.
        channels_last: whether to lay tensors out as NHWC; `auto` where that is faster.
        info: the description of its weights, where there is one.

    Raises:
        ValueError: the device or precision is unknown, or not available for this network or machine.
    """

    def __init__(
        self,
        module: nn.Module,
        scale: int,
        device: str | torch.device = "auto",
        precision: str = "auto",
        channels_last: bool | Literal["auto"] = "auto",
        info: WeightsInfo | None = None,
    ) -> None:
        self.scale = int(scale)
        self.device = pick_device(str(device))
        self.precision = _precision_for(module, precision, self.device)
        self.channels_last = pick_channels_last(channels_last, self.device, self.precision)
        self.info = info
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        self.module = padded(module.eval(), self.scale).to(self.device).to(memory_format=layout)

    @torch.no_grad()
    def __call__(self, lq: Tensor) -> Tensor:
        """Restores a batch.

        Raises:
            ValueError: the input has another shape or range, or the network's output another size than `scale` says.
            FloatingPointError: the output is not finite even in float32.
            NetworkError: the network failed, by an assertion for example.
        """
        _check(lq)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        lq = lq.to(self.device, torch.float32).contiguous(memory_format=layout)
        sr = self._run(lq, self.precision)
        if self.precision != "32" and not _all_finite(sr):
            logger.warning("the network overflows in %s; computing again in float32", self.precision)
            sr = self._run(lq, "32")
        if not _all_finite(sr):
            raise FloatingPointError(
                "the network's output is not finite in float32: its weights are damaged, or its training diverged; "
                "use an earlier checkpoint"
            )
        return sr.clamp(0, 1)

    def with_precision(self, precision: str) -> Restorer:
        """The same network on the same device in another precision; the weights are shared."""
        other = copy.copy(self)
        other.precision = _precision_for(self.module, precision, self.device)
        return other

    def _run(self, lq: Tensor, precision: str) -> Tensor:
        n, _, height, width = lq.shape
        with (
            network_failures(f"the network fails on {width} x {height} pixels"),
            autocast(self.device, precision),
            full_float32(precision == "32"),
        ):
            sr = self.module(lq)
        expected = (n, 3, height * self.scale, width * self.scale)
        if tuple(sr.shape) != expected:
            raise ValueError(f"the network gave {tuple(sr.shape)}, expected {expected}; is its scale {self.scale}?")
        return sr.float()


def load_restorer(model: str | Path, device: str | torch.device = "auto", precision: str = "auto") -> Restorer:
    """The restorer of a weights file, an ONNX file, a run directory or a built-in name.

    Raises:
        WeightsError: see `find_weights`, `load_generator` and `OnnxNetwork`.
        ValueError: the device or precision is not available.
    """
    path = find_weights(model)
    if path.suffix.lower() == ".onnx":
        from mvmsr.inference.onnx_network import load_onnx

        network, about = load_onnx(path, pick_device(str(device)))
        return Restorer(network, about.scale, device, precision, info=about)
    module, info = load_generator(path)
    if info.source != "spandrel":  # others may read the maps between a convolution and its normalisation
        fold_batch_norm(module)
    return Restorer(module, info.scale, device, precision, info=info)


def _precision_for(module: nn.Module, name: str, device: torch.device) -> str:
    precision = pick_precision(name, device)
    able = getattr(module, "precisions", None)
    if able is None or precision in able:
        return precision
    if name == "auto":
        return "32"
    raise ValueError(f"this network cannot compute in {name!r}, only in {', '.join(able)}; use --precision 32")


def _all_finite(values: Tensor) -> bool:
    """Whether there is neither NaN nor infinity, in one pass: extremes are the one or the other where there is."""
    return all(bool(bound.isfinite()) for bound in values.aminmax())


def _check(lq: Tensor) -> None:
    if lq.ndim != 4 or lq.shape[1] != 3 or 0 in lq.shape or not lq.is_floating_point():
        raise ValueError(
            f"expected a float tensor (N, 3, h, w), RGB in [0, 1]; got {tuple(lq.shape)} of {lq.dtype}. "
            "Divide uint8 by 255 and put the channels first"
        )
    low, high = (float(bound) for bound in lq.aminmax())
    if low < -1 or high > 2:
        raise ValueError(f"expected values in [0, 1], got {low:g} to {high:g}; divide images of 0..255 by 255")
