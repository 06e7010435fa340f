"""Crops of scikit-image's pictures, reduced to a quarter and enlarged again: bicubic, built-in models, the original.

    python benchmarks/before_after.py [--models psnr mvm] [-o docs/images/before_after.jpg]

Each picture is reduced by MATLAB's bicubic kernel, as in the benchmarks; the models see the whole reduced picture. None
of them was trained on these pictures.
"""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mvmsr.data.imresize import imresize
from mvmsr.inference.upscaler import Upscaler

SIDE, GAP, LABEL = 200, 4, 22


class Crop(NamedTuple):
    picture: str
    top: int
    left: int


CROPS = (Crop("astronaut.png", 24, 148), Crop("chelsea.png", 52, 104), Crop("motorcycle_left.png", 196, 332))


def main() -> None:
    """Enlarge, cut out, put together, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["psnr", "mvm"], help="built-in names, runs or weights files")
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/images/before_after.jpg"))
    args = parser.parse_args()
    upscalers = {label_of(name): Upscaler(name) for name in ["bicubic", *args.models]}
    rows = [row_of(crop, upscalers) for crop in CROPS]
    sheet(rows, [*upscalers, "original"]).save(args.out, quality=92)
    print(args.out)


def label_of(model: str) -> str:
    """A file's name without its ending; a run's may have dots of its own."""
    return Path(model).stem if Path(model).is_file() else Path(model).name


def row_of(crop: Crop, upscalers: dict[str, Upscaler]) -> list[np.ndarray]:
    """The crop of every result and of the original, (SIDE, SIDE, 3) uint8 each."""
    with resources.as_file(resources.files("skimage.data") / crop.picture) as path:
        gt = np.asarray(Image.open(path).convert("RGB"))
    gt = gt[: gt.shape[0] // 4 * 4, : gt.shape[1] // 4 * 4]
    lq = imresize(gt, 0.25)
    results = [upscaler.upscale_array(lq) for upscaler in upscalers.values()]
    return [image[crop.top : crop.top + SIDE, crop.left : crop.left + SIDE] for image in (*results, gt)]


def sheet(rows: list[list[np.ndarray]], labels: list[str]) -> Image.Image:
    """The rows below one another, with the labels above."""
    width = len(labels) * (SIDE + GAP) - GAP
    page = Image.new("RGB", (width, LABEL + len(rows) * (SIDE + GAP) - GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for column, label in enumerate(labels):
        draw.text((column * (SIDE + GAP) + SIDE // 2, LABEL // 2), label, "black", font, anchor="mm")
        for row, images in enumerate(rows):
            page.paste(Image.fromarray(images[column]), (column * (SIDE + GAP), LABEL + row * (SIDE + GAP)))
    return page


if __name__ == "__main__":
    main()
