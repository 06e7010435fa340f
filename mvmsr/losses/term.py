"""What a loss is to the trainer: one weighted term of some network's objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

Objective = Literal["generator", "discriminator", "metric_net"]


class Term(nn.Module):
    """One term of an objective; subclasses compute it, unweighted, in `forward`.

    The parameter names of `forward` say which tensors of the training step it wants. The step offers

    - `lq`, `sr`, `gt`: images (N, 3, H, W), float32, nominally in [0, 1];
    - `sr_embeddings`, `gt_embeddings`: the metric network's outputs (N, D), float32;
    - `sr_logits`, `gt_logits`: the discriminator's outputs (N, ...), float32;
    - `positive_index`, `negative_index`: two independent random permutations of range(N), int64.

    Args:
        loss_weight: factor of this term in its objective.
    """

    objective: ClassVar[Objective] = "generator"
    """The network whose parameters `forward` is minimised over."""
    needs_pairs: ClassVar[bool] = False
    """Whether sr[i] and gt[i] must show the same picture."""
    compares_pixels: ClassVar[bool] = False
    """Whether it is a plain distance of sr's pixels from gt's, which others are weighed against."""

    extractor_spec: ClassVar[Callable[..., dict[str, Any]] | None] = None
    """Of a term that judges by a frozen network, its constructor's argument `extractor`: a static method that takes
    others of the constructor's arguments and describes the network, as an options entry with a `type` and its
    `weights`."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = float(loss_weight)

    def objectives(self) -> dict[Objective, Callable[..., Tensor]]:
        """Every objective that this term belongs to, with the function that computes it (a scalar).

        The parameter names of these functions count as those of `forward` do; a term whose needs depend on its options
        returns the function that asks for no more than it uses.
        """
        return {self.objective: self.forward}

    def weighted_components(self) -> tuple[Callable[..., dict[str, Tensor]], dict[str, float]] | None:
        """Where `forward` is a weighted sum itself: what computes its parts, unweighted, and their weights.

        The function asks for the same tensors as `forward`. None where the term has no weights but `loss_weight`.
        """
        return None

    def health(
        self, gt_embeddings: Tensor, sr_embeddings: Tensor, positive_index: Tensor, negative_index: Tensor
    ) -> dict[str, Tensor]:
        """Of a metric network's term, what else tells how training goes: scalars by name, without gradient."""
        return {}

    @property
    def is_mean_over_pictures(self) -> bool:
        """Whether the value of a batch is the mean of the values of its pictures, with the options as they are.

        Where several processes share a batch, each evaluates such a term of `lq`, `sr` and `gt` on its own pictures;
        for all other terms the pictures of all are gathered first, which is right for every function of the batch.
        """
        return False

    @property
    def chance(self) -> float | None:
        """The value for a network that cannot tell real pictures from generated ones; None where that is not known.

        A value near it means that the network has learned nothing yet.
        """
        return None

    @property
    def grows_with_batch(self) -> bool:
        """Whether a batch of twice the pictures has a larger value, as sums and norms of the whole batch do."""
        return False

    def weight_for(self, objective: Objective) -> float:
        """The factor of this term in `objective`: `loss_weight`, unless a subclass says otherwise.

        Raises:
            ValueError: the term has no part in that objective.
        """
        if objective not in self.objectives():
            raise ValueError(
                f"{type(self).__name__} has no part in the objective {objective!r}; "
                f"expected one of: {', '.join(self.objectives())}"
            )
        return self.loss_weight


class JudgedTerm(Term):
    """A term that judges by a frozen network, its `extractor` (see `extractor_spec`), always in evaluation mode."""

    def __init__(self, extractor: nn.Module, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.extractor = extractor.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> JudgedTerm:
        """Set the mode of everything but the extractor."""
        super().train(mode)
        self.extractor.eval()
        return self
