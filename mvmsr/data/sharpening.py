"""Unsharp masking, by which Real-ESRGAN's ground truth is made crisper."""

from __future__ import annotations

import numpy as np

_SIDE = 51
_AMOUNT = 0.5
_THRESHOLD = 10


def sharpened(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with half of its difference to a blurred copy added, where that is above 10 levels of 255.

    The blur is a Gaussian of 51 pixels and standard deviation 8; the places are faded by the same Gaussian.

    Source: Wang et al., "Real-ESRGAN", ICCVW 2021, section 3.5.
    """
    import cv2

    values = picture.astype(np.float32)
    detail = values - cv2.GaussianBlur(values, (_SIDE, _SIDE), 0)
    where = cv2.GaussianBlur((np.abs(detail) > _THRESHOLD).astype(np.float32), (_SIDE, _SIDE), 0)
    sharp = (values + _AMOUNT * detail).clip(0, 255)
    return (where * sharp + (1 - where) * values + 0.5).astype(np.uint8)
