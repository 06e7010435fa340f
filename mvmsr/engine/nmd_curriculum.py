"""How slight the degradations are that a natural manifold discriminator has to see, as a function of its accuracies.

Source: Soh et al., CVPR 2019, section 3.2; https://github.com/JWSoh/NatSR
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from mvmsr.config.nmd_options import NMDCurriculum


@dataclass(frozen=True)
class Curriculum:
    """The state of a curriculum.

    Attributes:
        sigma: standard deviation of the noise on the highest frequencies.
        alpha: share of the original in a blurry picture.
        noisy, blurry: accuracies at the present levels, oldest first; forgotten when the level changes.
        noisy_done, blurry_done: whether the last level has been mastered.
    """

    sigma: float
    alpha: float
    noisy: tuple[float, ...] = ()
    blurry: tuple[float, ...] = ()
    noisy_done: bool = False
    blurry_done: bool = False

    @property
    def finished(self) -> bool:
        """Whether nothing is left to learn."""
        return self.noisy_done and self.blurry_done

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)


def begin(options: NMDCurriculum) -> Curriculum:
    """The first level."""
    return Curriculum(options.sigma, options.alpha)


def observe(state: Curriculum, noisy: float, blurry: float, options: NMDCurriculum) -> Curriculum:
    """The state after another pair of accuracies (0 to 1).

    Where the mean of the last `window` accuracies at a level reaches `accuracy`, that degradation becomes slighter:
    sigma is multiplied by `sigma_factor` until it is at most `sigma_last`, alpha rises by `alpha_step` up to
    `alpha_last`. NatSR's code raises alpha only when the mean is exactly 95 %; here it is enough to reach it.
    """
    state = replace(
        state,
        noisy=(*state.noisy, noisy)[-options.window :],
        blurry=(*state.blurry, blurry)[-options.window :],
    )
    if _mastered(state.noisy, options):
        if state.sigma <= options.sigma_last:
            state = replace(state, noisy_done=True)
        else:
            state = replace(state, sigma=state.sigma * options.sigma_factor, noisy=())
    if _mastered(state.blurry, options):
        # Ten steps of 0.1 are not exactly 1.
        if state.alpha >= options.alpha_last - 1e-9:
            state = replace(state, blurry_done=True)
        else:
            state = replace(state, alpha=min(state.alpha + options.alpha_step, options.alpha_last), blurry=())
    return state


def _mastered(accuracies: tuple[float, ...], options: NMDCurriculum) -> bool:
    full = len(accuracies) == options.window
    return full and sum(accuracies) / len(accuracies) >= options.accuracy - 1e-9
