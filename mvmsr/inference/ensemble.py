"""Self-ensemble: the mean over the eight ways to turn and mirror a picture."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def self_ensemble(run: Callable[[Tensor], Tensor], lq: Tensor) -> Tensor:
    """Mean of `undo(run(turned lq))` over the symmetries of the square; eight runs.

    Args:
        run: (N, C, h, w) -> (N, C, h*scale, w*scale).

    Source: Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", 2017, section 3.4.
    """
    total: Tensor | None = None
    for mirrored in (False, True):
        for quarter_turns in range(4):
            turned = lq.flip(-1) if mirrored else lq
            sr = run(turned.rot90(quarter_turns, (-2, -1))).rot90(-quarter_turns, (-2, -1))
            sr = sr.flip(-1) if mirrored else sr
            total = sr if total is None else total + sr
    assert total is not None
    return total / 8
