"""Pictures in, larger pictures out: depth, transparency, grey, colour profile and EXIF stay what they were."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mvmsr.data.image_io import Picture, read_picture, write_picture
from mvmsr.data.imresize import imresize
from mvmsr.inference.ensemble import self_ensemble
from mvmsr.inference.receptive_field import Margins, bytes_per_pixel, measure_margins
from mvmsr.inference.restorer import Restorer, load_restorer
from mvmsr.inference.tiling import MIN_TILE, Run, auto_tile, is_out_of_memory, release_memory, run_bands
from mvmsr.inference.transparency import bleed_colours

logger = logging.getLogger(__name__)

BICUBIC = "bicubic"
_LUMA = (0.299, 0.587, 0.114)
_DEFAULT_SCALE = 4

OnPixels = Callable[[int], object]


class Upscaler:
    """Enlarges pictures by a network, in tiles where they are large.

    Args:
        model: a weights file, a run directory, a built-in name, `bicubic`, or a `Restorer`.
        tile: side of the tiles in input pixels; `auto` fits it to the free memory, 0 tiles only where the
            whole picture does not fit.
        device: `auto`, `cpu`, `cuda`, `mps`; not used with a `Restorer`, which has one.
        precision: `auto`, `32`, `bf16-mixed`, `16-mixed`; pictures of 16 bits are always computed in float32.
        ensemble: average over the eight turned and mirrored versions (eight times the work).
        outscale: final factor; where it differs from the network's, the result is resized bicubically.

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
    ) -> None:
        if tile != "auto" and (not isinstance(tile, int) or tile < 0):
            raise ValueError(f"tile must be `auto`, 0 (the whole picture) or a positive number of pixels, got {tile!r}")
        if outscale is not None and not 0 < outscale <= 64:
            raise ValueError(f"outscale must be above 0 and at most 64, got {outscale:g}")
        self.restorer: Restorer | None
        if isinstance(model, Restorer):
            self.restorer = model
        else:
            self.restorer = None if str(model) == BICUBIC else load_restorer(model, device, precision)
        self.tile = tile
        self.ensemble = ensemble
        self.scale = self.restorer.scale if self.restorer else (outscale or _DEFAULT_SCALE)
        self.outscale = outscale or self.scale

    def upscale(self, picture: Picture, on_pixels: OnPixels | None = None) -> Picture:
        """The picture, enlarged; same depth, channels, colour profile and EXIF.

        Args:
            on_pixels: told the number of input pixels done, as work goes on.
        """
        dtype = picture.rgb.dtype
        limit = float(np.iinfo(dtype).max)
        size = tuple(max(round(side * self.outscale), 1) for side in picture.rgb.shape[:2])
        alpha = None if picture.alpha is None else imresize(picture.alpha, output_size=size)
        rgb = picture.rgb.astype(np.float32) / limit
        if picture.alpha is not None:
            rgb = bleed_colours(rgb, picture.alpha)
        bands = self._bands(rgb, dtype == np.uint16, on_pixels)
        if picture.grey:
            bands = (_to_grey(band) for band in bands)
        if self.outscale == self.scale:
            enlarged = np.concatenate([_quantised(band, dtype) for band in bands])
        else:
            enlarged = _quantised(imresize(np.concatenate(list(bands)), output_size=size), dtype)
        return replace(picture, rgb=enlarged, alpha=alpha)

    def upscale_array(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) RGB, uint8 or uint16 -> (H*outscale, W*outscale, 3) of the same dtype."""
        return self.upscale(Picture(image)).rgb

    def upscale_file(self, src: str | Path, dst: str | Path, on_pixels: OnPixels | None = None) -> None:
        """Reads, enlarges and writes; the suffix of `dst` chooses the format, and what it cannot hold is reduced.

        Raises:
            ImageError: a file cannot be read or written.
        """
        picture = read_picture(src)
        if picture.rgb.dtype == np.uint16 and Path(dst).suffix.lower() not in (".png", ".tif", ".tiff"):
            logger.warning("%s: its 16 bits are reduced to 8 for %s; choose png to keep them", src, Path(dst).suffix)
            picture = picture.as_8_bit()
        write_picture(dst, self.upscale(picture, on_pixels))

    def _bands(self, rgb: np.ndarray, deep: bool, on_pixels: OnPixels | None) -> Iterator[np.ndarray]:
        """Finished rows (rows, W*scale, 3), float32 in [0, 1], from the top."""
        height, width = rgb.shape[:2]
        if self.restorer is None:
            size = (max(round(height * self.scale), 1), max(round(width * self.scale), 1))
            yield imresize(rgb, output_size=size).clip(0, 1)
            if on_pixels is not None:
                on_pixels(height * width)
            return
        # bfloat16 has 8 significant bits, float16 has 11: neither can tell neighbouring values of 16 bits apart.
        restorer = self.restorer.with_precision("32") if deep else self.restorer
        run = partial(self_ensemble, restorer) if self.ensemble else restorer
        lq = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None]
        side, tile = max(height, width), self._tile_side(height, width)
        if tile >= side:
            whole = _unless_out_of_memory(run, lq)
            if whole is not None:
                yield _to_numpy(whole)
                if on_pixels is not None:
                    on_pixels(height * width)
                return
            tile = max(side // 2, MIN_TILE)
            logger.warning("the whole picture does not fit into memory; going on in tiles of %d pixels", tile)
        halo, blend, multiple = self._margins.halo, self._margins.blend, self._margins.multiple
        for band in run_bands(run, lq, restorer.scale, tile, halo, blend, multiple, on_pixels):
            yield _to_numpy(band)

    def _tile_side(self, height: int, width: int) -> int:
        side = max(height, width)
        tileable = getattr(self._network.module, "tileable", True)
        if self.tile == 0 or (self.tile == "auto" and not tileable):
            return side
        if self.tile != "auto":
            return self.tile
        fitting = auto_tile(self._bytes_per_pixel, self._network.device, 0, self._multiple)
        if side <= fitting:
            return side
        margins = self._margins
        return auto_tile(self._bytes_per_pixel, self._network.device, margins.halo + margins.blend, self._multiple)

    @property
    def _network(self) -> Restorer:
        assert self.restorer is not None
        return self.restorer

    @property
    def _multiple(self) -> int:
        return getattr(self._network.module, "multiple", 1)

    @cached_property
    def _margins(self) -> Margins:
        return measure_margins(self._network.module, self._network.scale, self._multiple)

    @cached_property
    def _bytes_per_pixel(self) -> int:
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
