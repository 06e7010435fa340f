"""The training pictures of the built-in models beside BSDS400: photographs that Debian's packages of wallpapers carry.

    python datasets/builtin_photos.py --bsds datasets/BSDS400 --out datasets/builtin [--debs FOLDER]

Writes three folders below `--out`:

- `debian`: 37 photographs, reduced to at most 1.2 megapixels and to half their size at least, which leaves neither
  noise nor traces of JPEG, and cut into tiles of at most 480 x 320 pixels. Tiles with hardly any detail are left out.
- `bsds_065`: BSDS400, reduced to 0.65 of its size, so that its details are finer and its traces of JPEG gone.
- `lq`: BSDS400 and those two as low-quality pictures, a quarter of their sides by MATLAB's bicubic kernel, for a
  teacher to enlarge: see options/train/builtin_psnr.yml.

The packages (Debian 12) come from `apt-get download`, or from `--debs` where somebody has them already; each is checked
by its SHA-256. Their licences are in PACKAGES; `mvmsr models info` repeats them for the weights.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mvmsr.data.imresize import imresize

TILE_HEIGHT, TILE_WIDTH = 320, 480
LEAST_DETAIL = 2.0
"""Standard deviation of the Laplacian in grey levels; skies and blurred backgrounds are below."""


class Package(NamedTuple):
    sha256: str
    folder: str
    pictures: tuple[str, ...]
    licence: str


PACKAGES = {
    "gnome-backgrounds": Package(
        "a670dea21572652127d6e55f9cdb3a226d0037854fdbfd037003c7d00ee0dc4e",
        "usr/share/backgrounds/gnome",
        ("grid-d.webp", "licorice-d.webp", "licorice-l.webp", "wood-l.webp"),
        "CC-BY-SA-3.0",
    ),
    "lomiri-wallpapers-16.04": Package(
        "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
        "usr/share/backgrounds",
        (
            "Bridge_by_Sander_Klootwijk.jpg",
            "Dragonfly_by_Bolly.jpg",
            "Picture_0B_by_freespace.jpg",
            "Picture_1A_by_freespace.jpg",
            "Wine_by_Jakkub_Mede.jpg",
            "aitzgorri_by_Aitzol_Berasategi.jpg",
            "free_by_Peter_Nerlich.jpg",
            "friends_by_Aitzol_Berasategi.jpg",
            "greentock_by_Peter_Nerlich.jpg",
            "life_by_Aitzol_Berasategi.jpg",
            "picosdeeuropa_by_Aitzol_Berasategi.jpg",
            "seeding_by_Clements_Engelhardt.jpg",
            "sunset_by_Aitzol_Berasategi.jpg",
        ),
        "CC-BY-4.0, CC-BY-SA-4.0, CC0-1.0",
    ),
    "lomiri-wallpapers-20.04": Package(
        "d44e89b8473aafe64a5b678f014862dc31335aaaf18665c544d985d854f1a709",
        "usr/share/backgrounds",
        ("Kleiber_by_Lukas_Baubkus.jpg",),
        "CC-BY-SA-3.0",
    ),
    "mate-backgrounds": Package(
        "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04",
        "usr/share/backgrounds/mate",
        (
            "abstract/Elephants.jpg",
            "nature/Dune.jpg",
            "nature/GreenMeadow.jpg",
            "nature/LadyBird.jpg",
            "nature/RainDrops.jpg",
            "nature/TwoWings.jpg",
            "nature/Wood.jpg",
        ),
        "GPL-2.0-or-later",
    ),
    "palapeli-data": Package(
        "69a15dce2ac25ed8708ac518cd0cee5f4eb0c70ed15da2fdb8899a19ac0ee058",
        "usr/share/palapeli/collection",
        (
            "cincinnati-bridge.jpg",
            "citrus-fruits.jpg",
            "european-honey-bee.jpg",
            "panther-chameleon-female.jpg",
        ),
        "public domain, GFDL-1.2-or-later (the chameleon)",
    ),
    "plasma-workspace-wallpapers": Package(
        "32cd18b71c8c938a18b3b351f217c02ac590e323caa3cf322fbb875ce8892f8b",
        "usr/share/wallpapers",
        tuple(
            f"{name}/contents/images/2560x1600.jpg"
            for name in (
                "BytheWater",
                "ColdRipple",
                "ColorfulCups",
                "EveningGlow",
                "FallenLeaf",
                "Grey",
                "OneStandsOut",
                "Path",
            )
        ),
        "LGPL-3.0",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bsds", type=Path, required=True, help="folder of BSDS400's images")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--debs", type=Path, help="folder with the .deb files; without it, apt-get fetches them")
    args = parser.parse_args()
    print(f"{reduce_all(args.bsds, args.out / 'bsds_065', 0.65)} images in {args.out / 'bsds_065'}")
    with tempfile.TemporaryDirectory() as fetched:
        debs = args.debs or Path(fetched)
        tiles = sum(tiles_of_package(name, package, debs, args.out / "debian") for name, package in PACKAGES.items())
    print(f"{tiles} tiles in {args.out / 'debian'}")
    sources = {"bsds400": args.bsds, "bsds_065": args.out / "bsds_065", "debian": args.out / "debian"}
    count = sum(low_quality(source, args.out / "lq" / name) for name, source in sources.items())
    print(f"{count} images in {args.out / 'lq'}")


def reduce_all(source: Path, out: Path, factor: float) -> int:
    """Every picture of a folder by `factor`, as PNG; the number of them."""
    return change_all(source, out, lambda picture: resize(picture, factor))


def low_quality(source: Path, out: Path) -> int:
    """Every picture of a folder at a quarter of its sides, as the data set makes it in training; the number of them."""
    return change_all(source, out, lambda picture: imresize(whole_quarters(picture), 0.25))


def change_all(source: Path, out: Path, change: Callable[[np.ndarray], np.ndarray]) -> int:
    """Every picture of a folder, changed, as PNG; the number of them."""
    out.mkdir(parents=True, exist_ok=True)
    paths = sorted(path for path in source.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    for path in paths:
        write(out / f"{path.stem}.png", change(read(path)))
    return len(paths)


def whole_quarters(picture: np.ndarray) -> np.ndarray:
    """Without the rest at the right and bottom where a side is no multiple of 4."""
    return picture[: picture.shape[0] // 4 * 4, : picture.shape[1] // 4 * 4]


def tiles_of_package(name: str, package: Package, debs: Path, out: Path) -> int:
    """Unpack a package, reduce and cut its pictures; the number of tiles."""
    found = sorted(debs.glob(f"{name}_*.deb"))
    if not found:
        subprocess.run(["apt-get", "download", name], cwd=debs, check=True)
        found = sorted(debs.glob(f"{name}_*.deb"))
    digest = hashlib.sha256(found[-1].read_bytes()).hexdigest()
    if digest != package.sha256:
        raise SystemExit(f"{found[-1]} is another version of {name}: SHA-256 {digest}, expected {package.sha256}")
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    with tempfile.TemporaryDirectory() as unpacked:
        subprocess.run(["dpkg-deb", "-x", str(found[-1]), unpacked], check=True)
        for relative in package.pictures:
            picture = read(Path(unpacked) / package.folder / relative)
            factor = min(0.5, (1.2e6 / (picture.shape[0] * picture.shape[1])) ** 0.5)
            label = relative.replace("/", "_").rsplit(".", 1)[0]
            for index, tile in enumerate(detailed_tiles(resize(picture, factor))):
                write(out / f"{label}_{index:02d}.png", tile)
                count += 1
    return count


def detailed_tiles(picture: np.ndarray) -> list[np.ndarray]:
    """Equal tiles that cover the picture, without those that have hardly any detail."""
    height, width = picture.shape[:2]
    rows = np.linspace(0, height, -(-height // TILE_HEIGHT) + 1).astype(int)
    columns = np.linspace(0, width, -(-width // TILE_WIDTH) + 1).astype(int)
    tiles = [
        picture[top:bottom, left:right]
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]
    return [
        tile
        for tile in tiles
        if cv2.Laplacian(cv2.cvtColor(tile, cv2.COLOR_BGR2GRAY), cv2.CV_64F).std() >= LEAST_DETAIL
    ]


def resize(picture: np.ndarray, factor: float) -> np.ndarray:
    """By area averages, which neither ring nor alias."""
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{path} is not an image that OpenCV reads")
    return picture


def write(path: Path, picture: np.ndarray) -> None:
    if not cv2.imwrite(str(path), picture):
        raise SystemExit(f"{path} could not be written")


if __name__ == "__main__":
    main()
