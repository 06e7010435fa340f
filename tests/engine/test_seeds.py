"""Seeds do not change: runs are continued, and made again, by them."""

from __future__ import annotations

from mvmsr.engine.seeds import mixed_seed


def test_by_hand_and_within_what_torch_takes() -> None:
    assert mixed_seed(0, 0, 7) == 7
    assert mixed_seed(2, 3, 5) == (2_000_006 + 3) * 65_537 + 5 == 131_074_589_838
    assert mixed_seed(2**63 - 1, 1, 1) < 2**63
