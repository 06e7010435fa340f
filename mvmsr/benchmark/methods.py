"""What a benchmark compares, and how a command line names it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Union

import torch
from torch import Tensor

from mvmsr.benchmark.image_sets import name_of
from mvmsr.checksum import file_sha256
from mvmsr.data.image_io import IMAGE_SUFFIXES
from mvmsr.data.imresize import imresize
from mvmsr.data.layouts import ImagePair

SPELLINGS = (
    "`bicubic`, a weights file, a run directory, the name of built-in weights, `onnx:FILE`, or `images:DIR` (each also "
    "as LABEL=...)"
)


class MethodError(ValueError):
    """A method that does not exist or cannot be used as asked; the message says what can."""


@dataclass(frozen=True)
class Bicubic:
    """MATLAB's bicubic upscaling of the uint8 picture, rounded to uint8."""

    scale: int

    def __call__(self, lq: Tensor) -> Tensor:
        """(1, 3, h, w) in [0, 1] -> (1, 3, h * scale, w * scale), whole levels of 255."""
        levels = (lq[0] * 255).round().clamp(0, 255).to(torch.uint8)
        sr = imresize(levels.permute(1, 2, 0).cpu().numpy(), scale=self.scale)
        return torch.from_numpy(sr).permute(2, 0, 1)[None].float() / 255


@dataclass(frozen=True)
class SavedPictures:
    """Results that somebody else wrote: `folder` itself, or one folder in it for each set."""

    folder: Path

    def find(self, set_name: str, pair: ImagePair) -> Path:
        """The file for one picture of a set.

        Named as the original (`img_001_SRF_4_HR`) or as the pair (`img_001`), else beginning with the pair's name
        and a separator (`img_001_SwinIR`, `babyx4`).

        Raises:
            MethodError: no file fits, or several do.
        """
        folder = self.folder / set_name if (self.folder / set_name).is_dir() else self.folder
        files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}
        for stem in (pair.name, pair.gt.stem):
            if stem in files:
                return files[stem]
        begins = re.compile(re.escape(pair.name) + r"([^0-9A-Za-z].*|x\d+.*)")
        fitting = [path for stem, path in files.items() if begins.fullmatch(stem)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            names = ", ".join(path.name for path in fitting[:4])
            raise MethodError(f"{folder}: {len(fitting)} files could be {pair.name}: {names}; keep one of them")
        raise MethodError(f"{folder}: no file for {pair.name}; name it {pair.name}.png")


Restore = Union[Callable[[Tensor], Tensor], SavedPictures]  # noqa: UP007 -- evaluated at run time, on 3.10 too


@dataclass(frozen=True)
class Method:
    """One row of a table.

    Attributes:
        name: its label.
        source: the file or folder that it comes from; None is bicubic.
        open: makes it ready; the result maps lq (1, 3, h, w) in [0, 1] to sr (1, 3, h * scale, w * scale). Opened one
            after the other, so that a machine holds one network at a time.
    """

    name: str
    source: Path | None
    open: Callable[[], Restore]

    @cached_property
    def sha256(self) -> str | None:
        """The checksum of `source` where that is a file."""
        return file_sha256(self.source) if self.source is not None and self.source.is_file() else None

    def as_dict(self) -> dict[str, str | None]:
        """Name, source and, of a file, its checksum, for result files."""
        return {"name": self.name, "source": str(self.source) if self.source else None, "sha256": self.sha256}


def parse_method(spec: str, scale: int, device: str = "auto", precision: str = "auto") -> Method:
    """The method that a word on the command line or in an options file means.

    `bicubic`; a weights file; a run directory, whose newest weights are taken (its name alone is sought in
    `experiments/`); the name of built-in weights; `onnx:FILE` (or just FILE.onnx); `images:DIR`. `LABEL=` before any of
    them names it in tables.

    Raises:
        MethodError: nothing of that name exists.
    """
    label, spec = _split_label(spec)
    if spec == "bicubic":
        return Method(label or "bicubic", None, lambda: Bicubic(scale))
    if spec.startswith("images:"):
        folder = Path(spec.removeprefix("images:")).expanduser()
        if not folder.is_dir():
            raise MethodError(f"method {spec!r}: {folder} is not a folder of images")
        return Method(label or name_of(folder), folder, lambda: SavedPictures(folder))
    if spec.startswith("onnx:") or spec.endswith(".onnx"):
        file = Path(spec.removeprefix("onnx:")).expanduser()
        if not file.is_file():
            raise MethodError(f"method {spec!r}: there is no file {file}")
        if file.suffix.lower() != ".onnx":
            raise MethodError(f"method {spec!r}: {file} does not end in .onnx; name other weights without `onnx:`")
        return Method(label or file.stem, file, lambda: _open_onnx(file, scale, device))
    from mvmsr.inference.weights import BUILTIN_DIR, WeightsError, find_weights

    path = Path(spec).expanduser()
    try:
        weights = find_weights(path)
    except WeightsError as error:
        raise MethodError(f"unknown method {spec!r}; a method is {SPELLINGS}. {error}") from error
    name = weights.stem if weights in (path, BUILTIN_DIR / weights.name) else path.resolve().name
    return Method(label or name, weights, lambda: _open_model(weights, scale, device, precision))


def _split_label(spec: str) -> tuple[str | None, str]:
    label, separator, rest = spec.partition("=")
    if separator and rest and label and "/" not in label and not Path(spec).exists():
        return label, rest
    return None, spec


def _open_model(path: Path, scale: int, device: str, precision: str) -> Restore:
    from mvmsr.inference.restorer import load_restorer

    restorer = load_restorer(path, device, precision)
    _check_scale(path, restorer.scale, scale)
    return restorer


def _open_onnx(path: Path, scale: int, device: str) -> Restore:
    from mvmsr.benchmark.onnx_model import OnnxModel

    model = OnnxModel(path, device)
    _check_scale(path, model.scale, scale)
    return model


def _check_scale(path: Path, found: int, scale: int) -> None:
    if found != scale:
        raise MethodError(f"{path} magnifies x{found}, the benchmark is x{scale}; set scale: {found} (--scale {found})")
