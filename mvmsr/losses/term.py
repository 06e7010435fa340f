"""What a loss is to the trainer: one weighted term of some network's objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

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

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = float(loss_weight)

    def objectives(self) -> dict[Objective, Callable[..., Tensor]]:
        """Every objective that this term belongs to, with the function that computes it (a scalar)."""
        return {self.objective: self.forward}
