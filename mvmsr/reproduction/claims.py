"""What the paper concludes from its tables, each claim a number of conditions that figures meet or not.

Source: M. Dai and H. Hang, ICCV 2021, section 4.2; where the text says "in most cases", more than half are asked for,
and where its own table has exceptions, as many are granted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mvmsr.reproduction.published import HIGHER_IS_BETTER, SETS

Means = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By row, set and metric; what is not known is not there."""


@dataclass(frozen=True)
class Condition:
    """One row against others, by one metric on one set.

    Attributes:
        row: the row that is said to be good.
        others: those it is compared with.
        place: 1 for better than all of them, 2 for better than all but one.
    """

    row: str
    others: tuple[str, ...]
    set: str
    metric: str
    place: int = 1

    def holds(self, means: Means) -> bool | None:
        """Whether the figures meet it; None where one that is needed is missing. Equal figures are no better."""
        values = [means.get(row, {}).get(self.set, {}).get(self.metric) for row in (self.row, *self.others)]
        own, rest = values[0], values[1:]
        if own is None or any(value is None for value in rest):
            return None
        sign = 1 if HIGHER_IS_BETTER.get(self.metric, False) else -1
        ahead = sum(sign * value >= sign * own for value in rest if value is not None)
        return ahead < self.place

    def rival(self, means: Means) -> str | None:
        """The row that decides it: of the others, the best one (the second best for place 2); None where unknown."""
        if self.holds(means) is None:
            return None
        sign = -1 if HIGHER_IS_BETTER.get(self.metric, False) else 1
        ranked = sorted(self.others, key=lambda row: sign * means[row][self.set][self.metric])
        return ranked[min(self.place, len(ranked)) - 1]


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, and how many of its conditions have to be met."""

    key: str
    table: str
    text: str
    conditions: tuple[Condition, ...]
    needed: int


Verdict = Literal["holds", "does not hold", "not decided yet"]


@dataclass(frozen=True)
class Outcome:
    """What figures say about a claim: conditions that they meet, do not meet, and do not decide."""

    met: tuple[Condition, ...]
    unmet: tuple[Condition, ...]
    open: tuple[Condition, ...]
    needed: int

    @property
    def verdict(self) -> Verdict:
        """Decided as soon as the open conditions cannot change it."""
        if len(self.met) >= self.needed:
            return "holds"
        return "does not hold" if len(self.met) + len(self.open) < self.needed else "not decided yet"


def judge(claim: Claim, means: Means) -> Outcome:
    """The outcome of a claim under some figures."""
    found: dict[bool | None, list[Condition]] = {True: [], False: [], None: []}
    for condition in claim.conditions:
        found[condition.holds(means)].append(condition)
    return Outcome(tuple(found[True]), tuple(found[False]), tuple(found[None]), claim.needed)


def _each(row: str, others: tuple[str, ...], metrics: tuple[str, ...]) -> tuple[Condition, ...]:
    """The row against each of the others by itself."""
    return tuple(
        Condition(row, (other,), set_name, metric) for other in others for set_name in SETS for metric in metrics
    )


def _backbones(metrics: tuple[str, ...]) -> tuple[Condition, ...]:
    nets = ("srresnet", "rdn", "nsrnet")
    return tuple(condition for net in nets for condition in _each(f"{net}_mvm", (f"{net}_gan",), metrics))


_RIVALS = ("b", "c", "d", "e", "f")


def _best(metric: str, place: int = 1) -> tuple[Condition, ...]:
    return tuple(Condition("g", _RIVALS, set_name, metric, place) for set_name in SETS)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "fidelity",
        "table3",
        "Under each backbone MvM has a higher PSNR and SSIM than the GAN on all four sets",
        _backbones(("psnr", "ssim")),
        24,
    ),
    Claim(
        "perception",
        "table3",
        "Under each backbone MvM has better perceptual scores (LPIPS, NIQE) than the GAN in the majority of cases",
        _backbones(("lpips", "niqe")),
        13,
    ),
    Claim("psnr", "table5", "MvM (G) has the highest PSNR of B to G on all four sets", _best("psnr"), 4),
    Claim("ssim", "table5", "MvM (G) has the highest SSIM of B to G on three of four sets", _best("ssim"), 3),
    Claim("niqe", "table5", "MvM (G) has the lowest NIQE of B to G on three of four sets", _best("niqe"), 3),
    Claim("lpips", "table5", "MvM (G) has the lowest LPIPS of B to G or the second on all sets", _best("lpips", 2), 4),
    Claim(
        "most_fidelity",
        "table5",
        "MvM (G) is better than each of B to F in most cases by PSNR and SSIM",
        _each("g", _RIVALS, ("psnr", "ssim")),
        21,
    ),
    Claim(
        "most_perception",
        "table5",
        "MvM (G) is better than each of B to F in most cases by LPIPS and NIQE",
        _each("g", _RIVALS, ("lpips", "niqe")),
        21,
    ),
)


def claims_of(table: str) -> tuple[Claim, ...]:
    """The claims that a table bears out."""
    return tuple(claim for claim in CLAIMS if claim.table == table)
