"""Copies are found however they were changed, and pictures of other things are not."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvmsr.data.image_io import read_rgb
from mvmsr.data.layouts import find_pairs
from mvmsr.data.near_duplicates import THRESHOLD, Match, exact_duplicates, fingerprints, near_duplicates

Change = Callable[[np.ndarray], np.ndarray]


def _scene(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """A sky over a ground, with rectangles and discs of random colours: coarse light alike in all of them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    picture = np.repeat(np.linspace(220, 60, height)[:, None, None], width, 1) * np.ones(3)
    for _ in range(14):
        cy, cx, size = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(6, 30)
        inside = (abs(y - cy) < size) & (abs(x - cx) < size / 2)
        if rng.random() < 0.5:
            inside = (y - cy) ** 2 + (x - cx) ** 2 < size**2
        picture[inside] = rng.uniform(0, 255, 3)
    return picture.astype(np.uint8)


def _resized(picture: np.ndarray, factor: float) -> np.ndarray:
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def _jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))


def _cropped(picture: np.ndarray, share: float, place: float) -> np.ndarray:
    height, width = (round(side * (1 - share)) for side in picture.shape[:2])
    top, left = (round(place * (a - b)) for a, b in zip(picture.shape[:2], (height, width), strict=True))
    return picture[top : top + height, left : left + width]


CHANGES: dict[str, Change] = {
    "nothing": lambda p: p,
    "mirrored": lambda p: p[:, ::-1],
    "upside down": lambda p: p[::-1],
    "turned": lambda p: np.rot90(p),
    "halved": lambda p: _resized(p, 0.5),
    "quartered": lambda p: _resized(p, 0.25),
    "doubled": lambda p: _resized(p, 2),
    "JPEG 30": lambda p: _jpeg(p, 30),
    "JPEG 10": lambda p: _jpeg(p, 10),
    "cropped by 5 %": lambda p: _cropped(p, 0.05, 0.3),
    "cropped by 10 %": lambda p: _cropped(p, 0.1, 0.8),
    "all of it": lambda p: _jpeg(_resized(_cropped(p, 0.08, 0.5)[:, ::-1], 0.6), 40),
    "brighter": lambda p: np.clip(p * 0.8 + 40, 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_is_found_among_others(name: str) -> None:
    scenes = [_scene(seed) for seed in range(8)]
    copy = np.ascontiguousarray(CHANGES[name](scenes[5]))
    originals = [fingerprints(scene) for scene in scenes]
    for found in (near_duplicates(originals, [fingerprints(copy)]), near_duplicates([fingerprints(copy)], originals)):
        assert {(match.first, match.second) for match in found} <= {(5, 0), (0, 5)}
        assert len(found) == 1
        assert THRESHOLD <= found[0].likeness <= 1.0001


def test_different_scenes_are_not_alike() -> None:
    pictures = [fingerprints(_scene(seed)) for seed in range(20)]
    assert {(m.first, m.second) for m in near_duplicates(pictures, pictures)} == {(k, k) for k in range(20)}


def test_pictures_without_detail_are_like_nothing() -> None:
    flat = fingerprints(np.full((40, 50, 3), 77, np.uint8))
    ramp = fingerprints(np.repeat(np.linspace(0, 255, 64)[:, None, None], 64, 1).repeat(3, 2).astype(np.uint8))
    assert not flat.whole.any()
    assert near_duplicates([flat], [flat, ramp]) == []


def test_a_fingerprint_has_length_one_and_its_symmetries() -> None:
    picture = _scene(3, 96, 96)
    one, mirrored = fingerprints(picture), fingerprints(np.ascontiguousarray(picture[:, ::-1]))
    np.testing.assert_allclose((one.whole**2).sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose((one.crops**2).sum(1), 1, rtol=1e-5)
    # The mirrored picture's eight symmetries are the same eight in another order.
    np.testing.assert_allclose((one.whole @ mirrored.whole.T).max(1), 1, atol=1e-4)
    assert one.crops.shape[0] == 19


def test_exact_duplicates_are_those_of_all_pixels() -> None:
    a, b = _scene(0), _scene(1)
    almost = a.copy()
    almost[0, 0, 0] ^= 1
    pictures = [fingerprints(p) for p in (a, b, almost, a.copy(), b, a.reshape(160, 120, 3))]
    assert exact_duplicates(pictures) == [(0, 3), (1, 4)]


def test_nothing_to_compare() -> None:
    assert near_duplicates([], [fingerprints(_scene(0))]) == []
    assert Match(0, 1, 0.5).likeness == 0.5


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif("MVMSR_DATA_ROOT" not in os.environ, reason="needs BSD100 and BSDS400 below MVMSR_DATA_ROOT")
def test_the_disjoint_halves_of_the_berkeley_pictures() -> None:
    """Different pictures of the same makers; and copies of some among them."""
    root = Path(os.environ["MVMSR_DATA_ROOT"])
    if not all((root / name).is_dir() for name in ("BSD100", "BSDS400")):
        pytest.skip(f"needs BSD100 and BSDS400 in {root}")
    held_out, training = (
        [read_rgb(pair.gt) for pair in find_pairs(root / name, None, 4)] for name in ("BSD100", "BSDS400")
    )
    theirs, mine = ([fingerprints(p) for p in pictures] for pictures in (held_out, training))
    assert near_duplicates(theirs, mine) == []
    changes = list(CHANGES.values())
    copies = [
        fingerprints(np.ascontiguousarray(changes[k % len(changes)](picture))) for k, picture in enumerate(held_out)
    ]
    found = {(match.first, match.second) for match in near_duplicates(theirs, mine + copies)}
    assert found == {(k, len(mine) + k) for k in range(len(copies))}


def test_the_same_bytes_in_another_shape_are_another_picture() -> None:
    black = [fingerprints(np.zeros((*sides, 3), np.uint8)) for sides in ((8, 18), (12, 12), (8, 18))]
    assert exact_duplicates(black) == [(0, 2)]
