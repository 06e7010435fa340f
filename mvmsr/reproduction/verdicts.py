"""Claims judged on our figures, in words that the figures choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mvmsr.benchmark.statistics import FEW_IMAGES, paired_bootstrap
from mvmsr.reproduction.claims import Claim, Condition, Outcome, judge
from mvmsr.reproduction.published import DECIMALS, HIGHER_IS_BETTER
from mvmsr.reproduction.scoring import Scores

STAND_IN = {"lpips": "st_lpips"}
"""What judges where a metric of the paper could not be computed for any row."""
_SHOWN = 6


@dataclass(frozen=True)
class Judgement:
    """A claim's outcome on our figures.

    Attributes:
        sure, against: met and unmet conditions whose paired interval over the pictures (95 %) leaves out zero.
        replaced: metrics that another one stood in for.
    """

    claim: Claim
    outcome: Outcome
    sure: int
    against: int
    replaced: tuple[str, ...]
    means: dict[str, dict[str, dict[str, float]]]

    @property
    def text(self) -> str:
        """The verdict with its counts and exceptions."""
        outcome, total = self.outcome, len(self.claim.conditions)
        parts = [f"{outcome.verdict}: {len(outcome.met)} of {total} comparisons ({self.claim.needed} are needed)"]
        if outcome.met:
            parts.append(f"{self.sure} of them beyond chance over the pictures (95 %, paired bootstrap)")
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
            "in_words": self.text,
        }

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
        condition.with_metric(STAND_IN[condition.metric]) if condition.metric in replaced else condition
        for condition in claim.conditions
    )
    claim = Claim(claim.key, claim.table, claim.text, conditions, claim.needed)
    means = {
        row: {name: {m: score.mean for m, score in metrics.items() if not score.part} for name, metrics in sets.items()}
        for row, sets in scores.items()
    }
    outcome = judge(claim, means)
    sure = sum(_beyond_chance(condition, outcome, means, scores) for condition in outcome.met)
    against = sum(_beyond_chance(condition, outcome, means, scores) for condition in outcome.unmet)
    return Judgement(claim, outcome, sure, against, replaced, means)


def _beyond_chance(condition: Condition, outcome: Outcome, means: dict[str, Any], scores: Scores) -> bool:
    """Whether the interval of the difference to the row that decides leaves out zero on the side of the means."""
    rival = condition.rival(means)
    if rival is None:
        return False
    own, other = (scores[row][condition.set][condition.metric].images for row in (condition.row, rival))
    differences = np.array([own[image] - other[image] for image in own if image in other], dtype=np.float64)
    if len(differences) < FEW_IMAGES:
        return False
    interval = paired_bootstrap([differences])
    if interval.low is None or interval.high is None:
        return False
    better_is_higher = HIGHER_IS_BETTER.get(condition.metric, False)
    met = condition in outcome.met
    return interval.low > 0 if better_is_higher == met else interval.high < 0
