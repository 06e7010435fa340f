"""The two sides of a GAN, from the discriminator's logits of references (`gt`) and super-resolved pictures (`sr`).

Logits have any shape (N, ...); means are over all their elements, so that a discriminator with one logit a picture
and one with a map of them are treated alike. No function detaches anything: the caller freezes the network that is
not updated, and detaches the pictures for the discriminator's step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from mvmsr.losses.choices import one_of
from mvmsr.losses.term import Objective, Term
from mvmsr.registry import LOSSES

GANType = Literal["vanilla", "lsgan", "wgan", "wgan_softplus", "hinge", "template", "relativistic"]
RelativisticReduction = Literal["sum", "mean"]

UNPAIRED_TYPES = tuple(name for name in get_args(GANType) if name != "relativistic")
LABELLED_TYPES = ("vanilla", "lsgan", "relativistic")


def check_logits(**named: Tensor) -> None:
    """Refuse logits that are no batch, or two batches from different discriminators.

    Raises:
        ValueError: a shape that is not (N, ...), an empty tensor, or unequal shapes after N.
    """
    for name, logits in named.items():
        if logits.ndim == 0 or logits.numel() == 0:
            raise ValueError(f"expected {name} of shape (N, ...) with N > 0, got {tuple(logits.shape)}")
    shapes = {name: tuple(logits.shape) for name, logits in named.items()}
    if len({shape[1:] for shape in shapes.values()}) > 1:
        raise ValueError(
            f"expected {' and '.join(shapes)} of the same shape (N, ...) but for N, "
            f"got {' and '.join(map(str, shapes.values()))}"
        )


def _cross_entropy(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def _squared_error(logits: Tensor, label: float) -> Tensor:
    return (logits - label).square().mean()


def unpaired_generator_loss(sr_logits: Tensor, gan_type: GANType, real_label_val: float = 1.0) -> Tensor:
    """The generator's loss of GANs that judge each picture by itself; a scalar, mean over all logits f.

    vanilla softplus(-f) (cross entropy with `real_label_val`), lsgan (f - real_label_val)^2, wgan and hinge -f,
    wgan_softplus softplus(-f), template 1 - sigmoid(f).

    >>> unpaired_generator_loss(torch.tensor([[0.0]]), "vanilla")  # log 2
    tensor(0.6931)

    Raises:
        ValueError: no logits, unknown type.
    """
    one_of("gan_type", gan_type, UNPAIRED_TYPES)
    check_logits(sr_logits=sr_logits)
    if gan_type == "vanilla":
        return _cross_entropy(sr_logits, real_label_val)
    if gan_type == "lsgan":
        return _squared_error(sr_logits, real_label_val)
    if gan_type == "wgan_softplus":
        return F.softplus(-sr_logits).mean()
    if gan_type == "template":
        return 1 - torch.sigmoid(sr_logits).mean()
    return -sr_logits.mean()


def unpaired_discriminator_loss(
    gt_logits: Tensor,
    sr_logits: Tensor,
    gan_type: GANType,
    real_label_val: float = 1.0,
    fake_label_val: float = 0.0,
) -> Tensor:
    """The discriminator's loss of GANs that judge each picture by itself; a scalar, the sum of two means.

    With r of references and f of super-resolved pictures: vanilla softplus(-r) + softplus(f) (cross entropies with the
    labels), lsgan (r - real_label_val)^2 + (f - fake_label_val)^2, wgan f - r, wgan_softplus as vanilla without labels,
    hinge relu(1 - r) + relu(1 + f), template 1 - sigmoid(r) + sigmoid(f).

    >>> unpaired_discriminator_loss(torch.tensor([[0.5]]), torch.tensor([[-3.0]]), "hinge")
    tensor(0.5000)

    Raises:
        ValueError: no logits, unequal shapes, unknown type.

    Source: "template" is https://github.com/leftthomas/SRGAN.
    """
    one_of("gan_type", gan_type, UNPAIRED_TYPES)
    check_logits(gt_logits=gt_logits, sr_logits=sr_logits)
    if gan_type == "vanilla":
        return _cross_entropy(gt_logits, real_label_val) + _cross_entropy(sr_logits, fake_label_val)
    if gan_type == "lsgan":
        return _squared_error(gt_logits, real_label_val) + _squared_error(sr_logits, fake_label_val)
    if gan_type == "wgan_softplus":
        return F.softplus(-gt_logits).mean() + F.softplus(sr_logits).mean()
    if gan_type == "hinge":
        return F.relu(1 - gt_logits).mean() + F.relu(1 + sr_logits).mean()
    if gan_type == "template":
        return 1 - torch.sigmoid(gt_logits).mean() + torch.sigmoid(sr_logits).mean()
    return sr_logits.mean() - gt_logits.mean()


def relativistic_loss(
    raised: Tensor,
    lowered: Tensor,
    reduction: RelativisticReduction = "sum",
    real_label_val: float = 1.0,
    fake_label_val: float = 0.0,
) -> Tensor:
    """mean CE(raised - mean(lowered), real) + mean CE(lowered - mean(raised), fake), CE with logits; a scalar.

    Both sides of the relativistic average GAN: the discriminator raises gt's logits above sr's, the generator sr's
    above gt's.

    >>> relativistic_loss(torch.tensor([[2.0]]), torch.tensor([[2.0]]))  # 2 log 2
    tensor(1.3863)

    Args:
        raised, lowered: logits (N, ...).
        reduction: "sum" of the two terms as in the paper and NatSR; "mean" is half of that, as in ESRGAN.
        real_label_val, fake_label_val: targets of the cross entropies.

    Raises:
        ValueError: unknown reduction.

    Source: Jolicoeur-Martineau, The Relativistic Discriminator, https://arxiv.org/abs/1807.00734
    """
    one_of("relativistic_reduction", reduction, get_args(RelativisticReduction))
    total = _cross_entropy(raised - lowered.mean(), real_label_val) + _cross_entropy(
        lowered - raised.mean(), fake_label_val
    )
    return total if reduction == "sum" else total / 2


@LOSSES.register()
class GANLoss(Term):
    """The generator's and the discriminator's objective of one GAN.

    Args:
        gan_type: "vanilla" (non-saturating), "lsgan", "wgan", "wgan_softplus", "hinge", "relativistic" (average), or
            "template" (linear in the sigmoid). See `unpaired_generator_loss`, `unpaired_discriminator_loss` and
            `relativistic_loss` for the formulas.
        real_label_val, fake_label_val: targets of vanilla, lsgan and relativistic; no other type has labels.
        loss_weight: factor in the generator's objective; the discriminator's weight is always 1.
        relativistic_reduction: "sum" or "mean" of the two relativistic terms, on both sides.

    Raises:
        ValueError: unknown value, or one that the type would not use.
    """

    def __init__(
        self,
        gan_type: GANType = "vanilla",
        real_label_val: float = 1.0,
        fake_label_val: float = 0.0,
        loss_weight: float = 1.0,
        relativistic_reduction: RelativisticReduction = "sum",
    ) -> None:
        super().__init__(loss_weight)
        one_of("gan_type", gan_type, get_args(GANType))
        one_of("relativistic_reduction", relativistic_reduction, get_args(RelativisticReduction))
        if gan_type not in LABELLED_TYPES and (real_label_val, fake_label_val) != (1.0, 0.0):
            raise ValueError(
                f"gan_type {gan_type!r} has no labels, got real_label_val {real_label_val!r} and fake_label_val "
                f"{fake_label_val!r}; leave them out, or choose one of {', '.join(LABELLED_TYPES)}"
            )
        if gan_type != "relativistic" and relativistic_reduction != "sum":
            raise ValueError(
                f"relativistic_reduction {relativistic_reduction!r} has no effect on gan_type {gan_type!r}; "
                "leave it out, or choose gan_type 'relativistic'"
            )
        self.gan_type = gan_type
        self.real_label_val = float(real_label_val)
        self.fake_label_val = float(fake_label_val)
        self.relativistic_reduction: RelativisticReduction = relativistic_reduction

    def forward(self, sr_logits: Tensor, gt_logits: Tensor | None = None) -> Tensor:
        """The generator's loss, unweighted; a scalar. Only the relativistic type looks at `gt_logits`."""
        if self.gan_type != "relativistic":
            return self.unpaired_generator_loss(sr_logits)
        if gt_logits is None:
            raise ValueError("gan_type 'relativistic': expected gt_logits beside sr_logits, got none")
        return self.relativistic_generator_loss(sr_logits, gt_logits)

    def unpaired_generator_loss(self, sr_logits: Tensor) -> Tensor:
        """The generator's loss of every type but the relativistic, unweighted; a scalar."""
        return unpaired_generator_loss(sr_logits, self.gan_type, self.real_label_val)

    def relativistic_generator_loss(self, sr_logits: Tensor, gt_logits: Tensor) -> Tensor:
        """The generator's loss of the relativistic type, unweighted; a scalar."""
        check_logits(sr_logits=sr_logits, gt_logits=gt_logits)
        return relativistic_loss(
            sr_logits, gt_logits, self.relativistic_reduction, self.real_label_val, self.fake_label_val
        )

    def discriminator_loss(self, gt_logits: Tensor, sr_logits: Tensor) -> Tensor:
        """The discriminator's loss; a scalar. `sr_logits` should come from detached pictures."""
        if self.gan_type != "relativistic":
            return unpaired_discriminator_loss(
                gt_logits, sr_logits, self.gan_type, self.real_label_val, self.fake_label_val
            )
        check_logits(gt_logits=gt_logits, sr_logits=sr_logits)
        return relativistic_loss(
            gt_logits, sr_logits, self.relativistic_reduction, self.real_label_val, self.fake_label_val
        )

    def objectives(self) -> dict[Objective, Callable[..., Tensor]]:
        """Both sides; the generator's asks for `gt_logits` only where the type uses them."""
        relativistic = self.gan_type == "relativistic"
        generator = self.relativistic_generator_loss if relativistic else self.unpaired_generator_loss
        return {"generator": generator, "discriminator": self.discriminator_loss}

    def weight_for(self, objective: Objective) -> float:
        """`loss_weight` for the generator, 1 for the discriminator."""
        weight = super().weight_for(objective)
        return weight if objective == "generator" else 1.0
