"""Unsharp masking as Real-ESRGAN's."""

from __future__ import annotations

import numpy as np
import pytest

from mvmsr.basicsr_shim import import_basicsr
from mvmsr.data.sharpening import sharpened


def test_an_edge_overshoots_and_flat_parts_stay():
    picture = np.full((120, 120, 3), 100, np.uint8)
    picture[:, 60:] = 160
    result = sharpened(picture).astype(int)
    assert result.dtype == int
    assert result[60, 58, 0] < 100
    assert result[60, 61, 0] > 160
    assert (result[:, [0, -1], 0] == [100, 160]).all()


def test_fine_detail_below_the_threshold_stays():
    picture = np.random.default_rng(0).integers(100, 110, (80, 80, 3), np.uint8)
    np.testing.assert_array_equal(sharpened(picture), picture)


def test_it_is_basicsrs(picture):
    theirs = import_basicsr("basicsr.utils.img_process_util")
    if theirs is None:
        pytest.skip("BasicSR is not installed")
    import torch

    made = np.kron(picture(16, 20), np.ones((6, 6, 1), np.uint8))
    given = torch.from_numpy(made).permute(2, 0, 1)[None].float() / 255
    expected = theirs.USMSharp()(given)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(expected - made).max() > 10
    np.testing.assert_allclose(sharpened(made), expected, atol=0.51)
