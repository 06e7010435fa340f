"""Pictures in, larger pictures out: depth, transparency, grey, colour profile and EXIF stay what they were."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mvmsr.data.image_io import ImageError, Picture, read_picture, write_picture
from mvmsr.inference.ensemble import self_ensemble
from mvmsr.inference.failures import network_failures
from mvmsr.inference.in_memory import array_of_picture, image_of_picture, picture_of_array, picture_of_image
from mvmsr.inference.memory import MIN_TILE, auto_tile, is_out_of_memory, mebibytes, release_memory, require_room
from mvmsr.inference.receptive_field import Margins, bytes_per_pixel, measure_margins
from mvmsr.inference.resizing import Rows, cut, low_strips, resize_strips
from mvmsr.inference.restorer import Restorer, load_restorer
from mvmsr.inference.strip_writing import STRIP_SUFFIXES, Layout, write_strips
from mvmsr.inference.tiling import Run, run_bands
from mvmsr.inference.transparency import bleed_colours

logger = logging.getLogger(__name__)

BICUBIC = "bicubic"
LARGE = 2**24
"""Pixels of output from which a file is written while it is computed."""
_LONGEST = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383, ".avif": 65535}
_BYTES_AS_A_WHOLE = 3 + 4 + 2  # ours, Pillow's and the encoder's, for a pixel
_LUMA = (0.299, 0.587, 0.114)
_DEFAULT_SCALE = 4
_BICUBIC_ROWS, _BICUBIC_ROWS_OUT = 256, 64
_MEASURING = "the network cannot be measured for tiles, as it fails on some sizes (`--tile 0` takes images whole)"

OnPixels = Callable[[int], object]


class Upscaler:
    """Enlarges pictures by a network, in tiles where they are large.

    Args:
        model: a weights file (an ONNX file, too), a run directory, a built-in name, `bicubic`, or a `Restorer`.
        tile: side of the tiles in input pixels; `auto` fits it to the free memory, 0 tiles only where the
            whole picture does not fit.
        device: `auto`, `cpu`, `cuda`, `mps`; not used with a `Restorer`, which has one.
        precision: `auto`, `32`, `bf16-mixed`, `16-mixed`; pictures of 16 bits are always computed in float32.
        ensemble: average over the eight turned and mirrored versions (eight times the work).
        outscale: final factor; where it differs from the network's, the result is resized bicubically.
        max_memory: bytes that this process may hold (on a GPU: there); tiles are chosen by it where `tile` is `auto`.

    Raises:
        WeightsError: the model cannot be found or used.
        ValueError: an argument is out of range, or not available on this machine.
    """

    def __init__(
        self,
        model: str | Path | Restorer,
        tile: int | Literal["auto"] = "auto",
        device: str | torch.device = "auto",
        precision: str = "auto",
        ensemble: bool = False,
        outscale: float | None = None,
        max_memory: int | None = None,
    ) -> None:
        if tile != "auto" and (not isinstance(tile, int) or tile < 0):
            raise ValueError(f"tile must be `auto`, 0 (the whole image) or a positive number of pixels, got {tile!r}")
        if outscale is not None and not 0 < outscale <= 64:
            raise ValueError(f"outscale must be above 0 and at most 64, got {outscale:g}")
        if max_memory is not None and (max_memory <= 0 or tile != "auto"):
            raise ValueError("max_memory must be positive, and chooses the tiles: leave tile at `auto`")
        self.restorer: Restorer | None
        if isinstance(model, Restorer):
            self.restorer = model
        else:
            self.restorer = None if str(model) == BICUBIC else load_restorer(model, device, precision)
        self.tile = tile
        self.ensemble = ensemble
        self.scale = self.restorer.scale if self.restorer else (outscale or _DEFAULT_SCALE)
        self.outscale = outscale or self.scale
        self.max_memory = max_memory

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the result of a picture of that size."""
        return max(round(height * self.outscale), 1), max(round(width * self.outscale), 1)

    def upscale(self, picture: Picture, on_pixels: OnPixels | None = None) -> Picture:
        """The picture, enlarged; same depth, channels, colour profile and EXIF.

        Args:
            on_pixels: told the number of input pixels done, as work goes on.
        """
        size = self.size_of(*picture.rgb.shape[:2])
        rgb = np.empty((*size, 3), picture.rgb.dtype)
        alpha = None if picture.alpha is None else np.empty(size, picture.rgb.dtype)
        row = 0
        for strip in self.strips(picture, on_pixels):
            rgb[row : row + len(strip)] = strip[..., :3]
            if alpha is not None:
                alpha[row : row + len(strip)] = strip[..., 3]
            row += len(strip)
        return replace(picture, rgb=rgb, alpha=alpha)

    def strips(self, picture: Picture, on_pixels: OnPixels | None = None) -> Iterator[np.ndarray]:
        """Finished rows of the result from the top, (rows, W, 3 or 4) of the picture's type; RGB, then alpha."""
        dtype, (height, width) = picture.rgb.dtype, picture.rgb.shape[:2]
        limit, size = np.iinfo(dtype).max, self.size_of(height, width)
        if picture.alpha is None:
            source, peak = picture.rgb, float(limit)
        else:
            source, peak = bleed_colours(picture.rgb.astype(np.float32) / limit, picture.alpha), 1.0
        lq = torch.from_numpy(np.require(source, requirements=("C", "W"))).permute(2, 0, 1)[None]
        strips = self._enlarged(lq, peak, dtype == np.uint16, on_pixels)
        alphas = None if picture.alpha is None else Rows(resize_strips(cut(picture.alpha), (height, width), size))
        for strip in low_strips(strips):
            quantised = _quantised(_to_grey(strip) if picture.grey else strip, dtype)
            if alphas is not None:
                # alpha is in levels already, and rounded as imresize rounds integers
                levels = (alphas.take(len(strip)) + 0.5).clip(0, limit).astype(dtype)
                quantised = np.concatenate([quantised, levels[..., None]], axis=2)
            yield quantised
            del strip  # its name would hold the rows of a tile while the next ones are computed

    def upscale_array(self, image: np.ndarray) -> np.ndarray:
        """(H, W) or (H, W, 1 to 4), uint8 or uint16 -> the same, (H*outscale, W*outscale, ...), of the same dtype.

        Raises:
            ValueError: another shape or type.
        """
        picture = self.upscale(picture_of_array(image))
        return array_of_picture(picture, None if image.ndim == 2 else image.shape[2])

    def upscale_image(self, image: Image.Image) -> Image.Image:
        """One of Pillow's images, upright by its EXIF orientation, with its colour profile in `info`.

        Raises:
            ValueError: it holds several frames or 32-bit values.
        """
        return image_of_picture(self.upscale(picture_of_image(image)))

    def upscale_tensor(self, lq: Tensor) -> Tensor:
        """(N, 3, h, w) or (3, h, w), float in [0, 1] -> the same, enlarged, float32 in [0, 1], on the CPU.

        Raises:
            ValueError: another shape or type.
        """
        if lq.ndim not in (3, 4) or lq.shape[-3] != 3 or 0 in lq.shape or not lq.is_floating_point():
            raise ValueError(
                f"expected a float tensor (N, 3, h, w) or (3, h, w), RGB in [0, 1]; got {tuple(lq.shape)} of {lq.dtype}"
            )
        batch = lq.detach().cpu().float()[None] if lq.ndim == 3 else lq.detach().cpu().float()
        results = [np.concatenate(list(self._enlarged(one[None], 1.0, False, None))) for one in batch]
        sr = torch.from_numpy(np.stack(results)).permute(0, 3, 1, 2).clamp(0, 1)
        return sr[0] if lq.ndim == 3 else sr

    def upscale_file(
        self, src: str | Path, dst: str | Path, on_pixels: OnPixels | None = None, quality: int = 95
    ) -> None:
        """Reads, enlarges and writes; the suffix of `dst` chooses the format, and what it cannot hold is reduced.

        Raises:
            ImageError: a file cannot be read or written.
        """
        self.upscale_to(read_picture(src), dst, on_pixels, quality)

    def upscale_to(
        self, picture: Picture, dst: str | Path, on_pixels: OnPixels | None = None, quality: int = 95
    ) -> None:
        """Enlarges and writes a picture; large PNG and TIFF files while they are computed.

        Args:
            quality: 1 to 100, of JPEG, WebP and AVIF.

        Raises:
            ImageError: the file cannot be written, or its format cannot hold so large a picture.
        """
        suffix = Path(dst).suffix.lower()
        if picture.rgb.dtype == np.uint16 and suffix not in STRIP_SUFFIXES:
            logger.warning("%s: 16 bits are reduced to 8 for %s; choose png to keep them", dst, suffix)
            picture = picture.as_8_bit()
        height, width = self.size_of(*picture.rgb.shape[:2])
        self._check_room(Path(dst), height, width)
        deep_tiff = suffix in (".tif", ".tiff") and picture.rgb.dtype == np.uint16
        small = height * width < LARGE and self.max_memory is None and not deep_tiff
        if suffix not in STRIP_SUFFIXES or small:
            write_picture(dst, self.upscale(picture, on_pixels), quality)
            return
        channels = (1 if picture.grey else 3) + (picture.alpha is not None)
        space = b"GRAY" if picture.grey else b"RGB "
        profile = picture.icc_profile if (picture.icc_profile or b"")[16:20] == space else None
        layout = Layout(height, width, channels, picture.rgb.dtype, profile, picture.exif)
        strips = self.strips(picture, on_pixels)
        if picture.grey:
            strips = (np.ascontiguousarray(np.delete(strip, (1, 2), axis=2)) for strip in strips)
        write_strips(dst, layout, strips)

    def _check_room(self, dst: Path, height: int, width: int) -> None:
        """Refuses before the work what could not be written after it."""
        above = next(folder for folder in dst.absolute().parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            why = f"no rights to {above}" if above.is_dir() else f"{above} is a file"
            raise ImageError(dst, f"cannot be written ({why})", "name another folder")
        suffix = dst.suffix.lower()
        longest = _LONGEST.get(suffix, max(height, width))
        if max(height, width) > longest:
            cause = f"{suffix} holds at most {longest} pixels a side, the result has {width} x {height}"
            raise ImageError(dst, cause, "choose png or tif")
        needed = height * width * _BYTES_AS_A_WHOLE
        if self.max_memory is not None and suffix not in STRIP_SUFFIXES and needed > self.max_memory // 2:
            cause = f"{suffix} is written as a whole, which needs {mebibytes(needed)}"
            raise ImageError(dst, cause, f"choose png or tif, or allow more than {mebibytes(2 * needed)}")

    def _enlarged(self, lq: Tensor, peak: float, deep: bool, on_pixels: OnPixels | None) -> Iterator[np.ndarray]:
        """Rows of the result, (rows, W, 3) float32 about [0, 1], of (1, 3, h, w) in [0, peak]."""
        height, width = lq.shape[-2:]
        size = self.size_of(height, width)
        if self.restorer is None:
            yield from self._bicubic(lq, peak, size, on_pixels)
            return
        bands = self._bands(lq, peak, deep, on_pixels)
        if self.outscale == self.scale:
            yield from bands
        else:
            yield from resize_strips(bands, (height * self.restorer.scale, width * self.restorer.scale), size)

    def _bicubic(
        self, lq: Tensor, peak: float, size: tuple[int, int], on_pixels: OnPixels | None
    ) -> Iterator[np.ndarray]:
        height, width = lq.shape[-2:]
        if self.max_memory is not None:
            rows = 3 * _BICUBIC_ROWS + 5 * _BICUBIC_ROWS_OUT * max(self.outscale, 1)  # measured: so many are alive
            require_room("the rows of a bicubic enlargement need", int(rows * width * 4 * 3), self.max_memory)

        def strips() -> Iterator[np.ndarray]:
            for start in range(0, height, _BICUBIC_ROWS):
                rows = _to_numpy(lq[..., start : start + _BICUBIC_ROWS, :].to(torch.float32) / peak)
                yield rows
                if on_pixels is not None:
                    on_pixels(len(rows) * width)

        yield from resize_strips(strips(), (height, width), size)

    def _bands(self, lq: Tensor, peak: float, deep: bool, on_pixels: OnPixels | None) -> Iterator[np.ndarray]:
        """Rows (rows, W*scale, 3) of the network's output, float32 in [0, 1], from the top."""
        height, width = lq.shape[-2:]
        # bfloat16 has 8 significant bits, float16 has 11: neither can tell neighbouring values of 16 bits apart.
        restorer = self._network.with_precision("32") if deep else self._network
        network = partial(self_ensemble, restorer) if self.ensemble else restorer

        def run(region: Tensor) -> Tensor:  # only a tile at a time is held as floating point
            return network(region.to(torch.float32) / peak if peak != 1 else region)

        side, tile = max(height, width), self._tile_side(height, width, restorer.precision)
        if tile >= side:
            whole = _unless_out_of_memory(run, lq)
            if whole is not None:
                yield _to_numpy(whole)
                if on_pixels is not None:
                    on_pixels(height * width)
                return
            tile = max(side // 2, MIN_TILE)
            logger.warning("the whole image does not fit into memory; continuing with tiles of %d pixels", tile)
        halo, blend, multiple = self._margins.halo, self._margins.blend, self._margins.multiple
        for band in run_bands(run, lq, restorer.scale, tile, halo, blend, multiple, on_pixels):
            yield _to_numpy(band)
            del band  # as in `strips`

    def _tile_side(self, height: int, width: int, precision: str) -> int:
        side = max(height, width)
        tileable = getattr(self._network.module, "tileable", True)
        if self.tile == 0 or (self.tile == "auto" and not tileable):
            return side
        if self.tile != "auto":
            return self.tile
        device, area = self._network.device, self._bytes_per_pixel
        if precision != "32":
            area = area * 5 // 8  # activations in half, input and output in float32
        beside = (width, max(self.scale, self.outscale), self.max_memory)
        if side <= auto_tile(area, device, 0, self._multiple, *beside):
            return side
        margins = self._margins
        return auto_tile(area, device, margins.halo + margins.blend, margins.multiple, *beside)

    @property
    def _network(self) -> Restorer:
        assert self.restorer is not None
        return self.restorer

    @property
    def _multiple(self) -> int:
        return getattr(self._network.module, "multiple", 1)

    @cached_property
    def _margins(self) -> Margins:
        with network_failures(_MEASURING):
            return measure_margins(self._network.module, self._network.scale, self._multiple)

    @cached_property
    def _bytes_per_pixel(self) -> int:
        with network_failures(_MEASURING):
            return bytes_per_pixel(self._network.module, self._network.scale, self._multiple)


def _unless_out_of_memory(run: Run, lq: Tensor) -> Tensor | None:
    try:
        return run(lq).cpu()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    release_memory()
    return None


def _to_numpy(band: Tensor) -> np.ndarray:
    return band[0].permute(1, 2, 0).numpy()


def _to_grey(band: np.ndarray) -> np.ndarray:
    luma = band @ np.asarray(_LUMA, dtype=band.dtype)
    return np.repeat(luma[..., None], 3, axis=2)


def _quantised(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    limit = np.iinfo(dtype).max
    return (values * limit + 0.5).clip(0, limit).astype(dtype)
