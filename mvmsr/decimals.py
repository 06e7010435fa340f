"""Figures with a fixed number of decimals, in tables."""

from __future__ import annotations


def fixed(value: float, decimals: int, sign: bool = False) -> str:
    """The value with so many decimals; what rounds to zero has no sign, on whichever side of zero it lies.

    >>> fixed(-0.00001, 4), fixed(-1.5, 2), fixed(float("inf"), 2)
    ('0.0000', '-1.50', 'inf')
    >>> fixed(0.25, 1, sign=True), fixed(0.002, 2, sign=True)
    ('+0.2', '0.00')

    Args:
        sign: positive values have a plus.
    """
    text = f"{value:{'+' if sign else ''}.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text
