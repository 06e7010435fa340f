from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvmsr.data.imresize import imresize, taps
from mvmsr.inference.resizing import Rows, cut, resize_strips

SIDES = st.integers(1, 150)


@settings(max_examples=60, deadline=None)
@given(SIDES, st.integers(1, 9), SIDES, st.integers(1, 9), st.integers(1, 70))
def test_strips_give_what_the_whole_gives(height: int, width: int, new_height: int, new_width: int, rows: int) -> None:
    picture = np.random.default_rng(height * width).random((height, width, 3), np.float32)
    strips = (picture[start : start + rows] for start in range(0, height, rows))
    resized = np.concatenate(list(resize_strips(strips, (height, width), (new_height, new_width))))
    assert resized.shape == (new_height, new_width, 3)
    assert np.abs(resized - imresize(picture, output_size=(new_height, new_width))).max() < 1e-5


@given(st.integers(1, 300), st.integers(1, 600))
def test_no_row_reads_above_what_the_row_before_it_reads(height: int, new_height: int) -> None:
    indices, _ = taps(height, new_height, new_height / height)
    assert (np.diff(indices.min(axis=1)) >= 0).all()


def test_planes_without_channels() -> None:
    plane = np.random.default_rng(0).random((300, 7), np.float32)
    resized = np.concatenate(list(resize_strips(cut(plane), plane.shape, (450, 10))))
    assert np.abs(resized - imresize(plane, output_size=(450, 10))).max() < 1e-5


def test_no_more_than_a_few_strips_are_held() -> None:
    taken = []

    def strips():
        for index in range(50):
            taken.append(index)
            yield np.zeros((64, 3), np.float32)

    resized = resize_strips(strips(), (3200, 3), (6400, 3))
    next(resized)
    assert len(taken) <= 2


@pytest.mark.parametrize("counts", [[5, 5], [1, 2, 7], [10]])
def test_rows_are_taken_in_any_height(counts: list[int]) -> None:
    source = np.arange(30).reshape(10, 3)
    rows = Rows(iter([source[:4], source[4:5], source[5:]]))
    assert np.array_equal(np.concatenate([rows.take(count) for count in counts]), source)
