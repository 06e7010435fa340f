"""Claims judged on our figures, in words that the figures choose."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mvmsr.benchmark.statistics import FEW_IMAGES, Interval, paired_bootstrap
from mvmsr.reproduction.claims import Claim, Condition, Outcome, judge
from mvmsr.reproduction.published import DECIMALS, HIGHER_IS_BETTER
from mvmsr.reproduction.scoring import Score, Scores

STAND_IN = {"lpips": "st_lpips"}
"""What judges where a metric of the paper could not be computed for any row."""
_SHOWN = 6


@dataclass(frozen=True)
class Comparison:
    """A row beside the one that decides a condition.

    Attributes:
        difference, low, high: of the scores, row less rival, over the pictures that both have, with the 95 % interval
            of the paired bootstrap; None where one cannot say.
        images: how many pictures that are.
        seeds_error: standard error of the difference over the seeds; None with one seed each.
        beyond_chance: zero is outside the interval on the side of the means, and, where there are several seeds, the
            means differ by more than two such standard errors.
    """

    row: str
    rival: str
    set: str
    metric: str
    met: bool
    difference: float | None
    low: float | None
    high: float | None
    images: int
    seeds_error: float | None
    beyond_chance: bool


@dataclass(frozen=True)
class Judgement:
    """A claim's outcome on our figures.

    Attributes:
        sure, against: met and unmet conditions whose paired interval over the pictures (95 %) leaves out zero.
        replaced: metrics that another one stood in for.
        comparisons: of every decided condition, the paired difference to the row that decides, and how sure it is.
    """

    claim: Claim
    outcome: Outcome
    sure: int
    against: int
    replaced: tuple[str, ...]
    means: dict[str, dict[str, dict[str, float]]]
    comparisons: tuple[Comparison, ...] = ()

    @property
    def text(self) -> str:
        """The verdict with its counts and exceptions."""
        outcome, total = self.outcome, len(self.claim.conditions)
        parts = [f"{outcome.verdict}: {len(outcome.met)} of {total} comparisons ({self.claim.needed} are needed)"]
        if outcome.met:
            parts.append(f"{self.sure} of them beyond chance over the images (95 %, paired bootstrap){self._seeds()}")
        if outcome.unmet:
            shown = [self._told(condition) for condition in outcome.unmet[:_SHOWN]]
            more = f" and {len(outcome.unmet) - _SHOWN} more" if len(outcome.unmet) > _SHOWN else ""
            parts.append(f"against it ({self.against} beyond chance): {', '.join(shown)}{more}")
        if outcome.open:
            rows = sorted({row for c in outcome.open for row in (c.row, *c.others) if self._lacks(row, c)})
            parts.append(f"{len(outcome.open)} await {', '.join(rows)}")
        parts += [f"{name} could not be computed, {STAND_IN[name]} stands in for it" for name in self.replaced]
        return "; ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        outcome = self.outcome
        return {
            "claim": self.claim.key,
            "text": self.claim.text,
            "verdict": outcome.verdict,
            "met": len(outcome.met),
            "unmet": len(outcome.unmet),
            "open": len(outcome.open),
            "needed": self.claim.needed,
            "beyond_chance": self.sure,
            "against_beyond_chance": self.against,
            "replaced": list(self.replaced),
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "in_words": self.text,
        }

    def _seeds(self) -> str:
        met = [comparison for comparison in self.comparisons if comparison.met]
        several = [comparison for comparison in met if comparison.seeds_error is not None]
        if not several:
            return ""
        if len(several) == len(met):
            return " and over the seeds (two standard errors)"
        sure = sum(comparison.beyond_chance for comparison in several)
        return f", {sure} of these also over the seeds (two standard errors; the others have one seed)"

    def _lacks(self, row: str, condition: Condition) -> bool:
        return condition.metric not in self.means.get(row, {}).get(condition.set, {})

    def _told(self, condition: Condition) -> str:
        rival = condition.rival(self.means)
        assert rival is not None  # the condition is decided
        decimals = DECIMALS.get(condition.metric, 4)
        own, other = (self.means[row][condition.set][condition.metric] for row in (condition.row, rival))
        return f"{condition.set} {condition.metric} {own:.{decimals}f} ({rival} {other:.{decimals}f})"


def judge_claim(claim: Claim, scores: Scores) -> Judgement:
    """A claim on scores of the rows; a metric that no row has is replaced by its stand-in, where that was computed.

    A mean over a part of the pictures decides nothing: which ones are lacking would.
    """
    known = {metric for sets in scores.values() for metrics in sets.values() for metric in metrics}
    wanted = {condition.metric for condition in claim.conditions}
    replaced = tuple(sorted(m for m in wanted if m not in known and STAND_IN.get(m) in known))
    conditions = tuple(
        replace(condition, metric=STAND_IN[condition.metric]) if condition.metric in replaced else condition
        for condition in claim.conditions
    )
    claim = replace(claim, conditions=conditions)
    means = {
        row: {name: {m: score.mean for m, score in metrics.items() if not score.part} for name, metrics in sets.items()}
        for row, sets in scores.items()
    }
    outcome = judge(claim, means)
    decided = [(condition, True) for condition in outcome.met] + [(condition, False) for condition in outcome.unmet]
    comparisons = tuple(_compared(condition, met, means, scores) for condition, met in decided)
    sure = sum(one.beyond_chance for one in comparisons if one.met)
    against = sum(one.beyond_chance for one in comparisons if not one.met)
    return Judgement(claim, outcome, sure, against, replaced, means, comparisons)


def _compared(condition: Condition, met: bool, means: dict[str, Any], scores: Scores) -> Comparison:
    """The difference of a decided condition's row to the one that decides, and whether chance explains it."""
    rival = condition.rival(means)
    assert rival is not None  # the condition is decided
    own, other = (scores[row][condition.set][condition.metric] for row in (condition.row, rival))
    pairs = [own.images[image] - other.images[image] for image in own.images if image in other.images]
    interval = paired_bootstrap([np.array(pairs, dtype=np.float64)]) if pairs else None
    seeds_error = _seeds_error(own, other)
    sure = len(pairs) >= FEW_IMAGES and interval is not None and _leaves_out_zero(interval, condition, met)
    if seeds_error is not None:
        sure = sure and abs(own.mean - other.mean) > 2 * seeds_error
    return Comparison(
        condition.row,
        rival,
        condition.set,
        condition.metric,
        met,
        interval.difference if interval else None,
        interval.low if interval else None,
        interval.high if interval else None,
        len(pairs),
        seeds_error,
        sure,
    )


def _leaves_out_zero(interval: Interval, condition: Condition, met: bool) -> bool:
    """Whether zero is outside the interval, on the side that the means are on."""
    if interval.low is None or interval.high is None:
        return False
    better_is_higher = HIGHER_IS_BETTER.get(condition.metric, False)
    return interval.low > 0 if better_is_higher == met else interval.high < 0


def _seeds_error(own: Score, other: Score) -> float | None:
    """sqrt(s_a^2 / n_a + s_b^2 / n_b) of the means over the seeds; None where neither has several."""
    spread = [score.deviation**2 / score.seeds for score in (own, other) if score.deviation is not None]
    return math.sqrt(sum(spread)) if spread else None
