"""What is wrong with a metric network in training, in words, and what to do about it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mvmsr.engine.build import Experiment

log = logging.getLogger(__name__)

COLLAPSED = 0.1
"""A 2-diameter of the real patches below this leaves matching nothing to match (a triplet margin being 1)."""
FAINT = 0.01
"""Matching terms below this share of the pixel terms' gradient change nothing that anybody could see."""
OVERWHELMING = 10.0
"""Matching terms at this multiple of the pixel terms' gradient keep a generator from learning: SRResNet from scratch,
under 13 to 28 times the pixel loss's gradient, was at bicubic's PSNR after 500 iterations and after 3,000."""
BLIND = 0.8
"""A metric network whose loss is above this share of what chance gives tells next to nothing."""
YOUNG = 500
"""Iterations before which no metric network is expected to have learned anything."""


@dataclass(frozen=True)
class Finding:
    """Something wrong, and the remedy."""

    problem: str
    remedy: str


class Teller:
    """Logs findings; a remedy is told once."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, iteration: int, found: Sequence[Finding]) -> bool:
        """Log warnings; whether there was anything to tell."""
        for finding in found:
            remedy = "" if finding.remedy in self._told else f" {finding.remedy}"
            log.warning("iter %d  %s%s", iteration, finding.problem, remedy)
            self._told.add(finding.remedy)
        return bool(found)


def chances(experiment: Experiment) -> dict[str, float]:
    """By name, what the metric network's terms are for a network that has learned nothing.

    Empty as long as it need not have learned: in the first iterations, and before its terms reach the generator.
    """
    if experiment.iteration < max(YOUNG, experiment.options.train.match_after_iter):
        return {}
    return {t.name: t.term.chance for t in experiment.players["metric_net"].terms if t.term.chance is not None}


def findings(
    values: Mapping[str, float],
    by_chance: Mapping[str, float] = MappingProxyType({}),
    patches: str = "held-out patches",
) -> list[Finding]:
    """What is wrong with the values of `look_at_held_out`; empty where nothing is.

    Args:
        by_chance: as `chances` gives it; terms that are not in it are not judged.
        patches: what the values are of, in words.
    """
    found = []
    if values["diam2_gt"] < COLLAPSED:
        found.append(
            Finding(
                "The metric network has collapsed, or has not begun: the 2-diameter of real patches is "
                f"{values['diam2_gt']:.3g}, so there is nothing to match.",
                "Raise optim_m.lr, or use network_m's defaults (norm: batch, init: kaiming, input_range: "
                "minus_one_one).",
            )
        )
    for name, chance in by_chance.items():
        if name in values and values[name] >= BLIND * chance:
            found.append(
                Finding(
                    f"The metric network tells real from generated images hardly better than chance ({name} "
                    f"{values[name]:.3g} on {patches}, where one that knows nothing has {chance:.3g}).",
                    "Matching then moves the images under a distance that means little. Try more training images, "
                    "network_m's init: detail, triplets: all, optim_m.lr: 3e-4, a larger batch, or a later "
                    "match_after_iter.",
                )
            )
    share = values.get("matching_share")
    if share is not None and share < FAINT:
        found.append(
            Finding(
                f"The matching terms pull at the images with {100 * share:.2g} % of the pixel loss's gradient, which "
                "changes nothing.",
                "Raise the loss_weight of pair_opt and manifold_opt if they are meant to act.",
            )
        )
    if share is not None and share > OVERWHELMING:
        found.append(
            Finding(
                f"The matching terms pull at the images with {share:.3g} times the pixel loss's gradient: a generator "
                "that is not trained yet will hardly learn.",
                "Lower the loss_weight of pair_opt and manifold_opt, start from a trained generator "
                "(path.pretrain_network_g), or from scratch use network_m's defaults.",
            )
        )
    return found


def findings_of_batches(experiment: Experiment, report: Mapping[str, float]) -> list[Finding]:
    """The same of what is logged of the training batches, for runs that are not validated, or long not yet.

    Nothing in the first iterations, in which every metric network may still be without a shape.
    """
    if "diam2_gt" not in report or experiment.iteration < YOUNG:
        return []
    losses = {name.removeprefix("loss_m/"): value for name, value in report.items() if name.startswith("loss_m/")}
    return findings({**losses, "diam2_gt": report["diam2_gt"]}, chances(experiment), "training patches")
