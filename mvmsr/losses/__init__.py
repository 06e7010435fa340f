"""Losses: pure functions of tensors, and the terms that put them into an objective."""

from mvmsr.losses.adversarial import GANLoss
from mvmsr.losses.geometry import health
from mvmsr.losses.manifold import ManifoldMatchingLoss, PairLoss
from mvmsr.losses.naturalness import NaturalnessLoss
from mvmsr.losses.perceptual import PerceptualLoss
from mvmsr.losses.pixel import CharbonnierLoss, L1Loss, MSELoss
from mvmsr.losses.quality import QualityLoss
from mvmsr.losses.term import Objective, Term
from mvmsr.losses.total_variation import WeightedTVLoss
from mvmsr.losses.triplet import DirectedTripletLoss

__all__ = [
    "CharbonnierLoss",
    "DirectedTripletLoss",
    "GANLoss",
    "L1Loss",
    "MSELoss",
    "ManifoldMatchingLoss",
    "NaturalnessLoss",
    "Objective",
    "PairLoss",
    "PerceptualLoss",
    "QualityLoss",
    "Term",
    "WeightedTVLoss",
    "health",
]
