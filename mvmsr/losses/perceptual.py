"""Distance of two pictures in the features of a fixed network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvmsr.losses.choices import one_of
from mvmsr.losses.pixel import check_images
from mvmsr.losses.term import JudgedTerm
from mvmsr.registry import LOSSES

Criterion = Literal["l1", "l2", "fro"]
FeatureNorm = Literal["none", "image_mean"]

_EPS = 1e-8
"""Feature maps whose mean magnitude is below this count as black."""


def feature_distance(sr_features: Tensor, gt_features: Tensor, criterion: Criterion = "l1") -> Tensor:
    """Distance of two tensors of equal shape; a scalar.

    >>> a, b = torch.zeros(1, 1, 1, 2), torch.tensor([[[[3.0, 4.0]]]])
    >>> [feature_distance(a, b, c).item() for c in ("l1", "l2", "fro")]
    [3.5, 12.5, 5.0]

    Args:
        criterion: "l1" mean absolute, "l2" mean squared difference, whatever the size; "fro" Frobenius norm of the
            whole difference, growing with the root of batch and picture size.
    """
    one_of("criterion", criterion, get_args(Criterion))
    if criterion == "l1":
        return F.l1_loss(sr_features, gt_features)
    if criterion == "l2":
        return F.mse_loss(sr_features, gt_features)
    return torch.linalg.vector_norm(sr_features - gt_features)


def gram_matrix(features: Tensor) -> Tensor:
    """Channel products of features (N, C, H, W), divided by C*H*W; shape (N, C, C).

    >>> gram_matrix(torch.tensor([[[[1.0, 2.0]], [[0.0, 4.0]]]]))
    tensor([[[1.2500, 2.0000],
             [2.0000, 4.0000]]])

    Source: Gatys et al., Image Style Transfer Using Convolutional Neural Networks, CVPR 2016, equation (3).
    """
    channels, height, width = features.shape[1:]
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / (channels * height * width)


def over_image_mean(features: Tensor) -> Tensor:
    """Features (N, C, H, W) over each picture's mean magnitude; all-zero maps stay zero.

    After a ReLU the mean magnitude is the mean, by which EnhanceNet makes layers comparable.

    >>> over_image_mean(torch.tensor([[[[1.0, 3.0]]]]))
    tensor([[[[0.5000, 1.5000]]]])

    Source: Sajjadi et al., EnhanceNet, https://arxiv.org/abs/1612.07919
    """
    return features / features.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=_EPS)


def _check_layers(layer_weights: Mapping[str, float]) -> None:
    if not isinstance(layer_weights, Mapping) or not layer_weights:
        raise ValueError(
            f"layer_weights: expected a weight by layer name, as {{'conv5_4': 1.0}}; got {layer_weights!r}"
        )


@LOSSES.register()
class PerceptualLoss(JudgedTerm):
    """perceptual_weight * sum_l w_l d(phi_l(sr), phi_l(gt)) + style_weight * the same of Gram matrices.

    Args:
        extractor: network of images (N, 3, H, W) to a dict of layer name to features (N, C, h, w); made from
            `extractor_spec`. It is frozen and kept in evaluation mode.
        layer_weights: w_l by layer name, as {"conv5_4": 1.0}.
        vgg_type, use_input_norm, range_norm, vgg_weights: by which the extractor was built (`extractor_spec`).
            `vgg_weights` are torchvision's unless a file, or the name of a pretrained one (`st_lpips_vgg`), is given.
        perceptual_weight: factor of the features' distance; 0 leaves it out.
        style_weight: factor of the Gram matrices' distance; 0 leaves it out.
        criterion: d: "l1", "l2" or "fro", see `feature_distance`.
        feature_norm: "none", or "image_mean" to divide features first, see `over_image_mean`.

    `loss_weight` is 1: the two weights are in the value, as in BasicSR. What a run logs are the two parts without them.

    Raises:
        ValueError: no layer, both weights zero, unknown criterion or feature_norm.

    Source: Johnson et al., Perceptual Losses for Real-Time Style Transfer, https://arxiv.org/abs/1603.08155
    """

    needs_pairs: ClassVar[bool] = True

    def __init__(
        self,
        extractor: nn.Module,
        layer_weights: dict[str, float],
        vgg_type: str = "vgg19",
        use_input_norm: bool = True,
        range_norm: bool = False,
        perceptual_weight: float = 1.0,
        style_weight: float = 0.0,
        criterion: Criterion = "l1",
        feature_norm: FeatureNorm = "none",
        vgg_weights: str | None = None,
    ) -> None:
        super().__init__(extractor)
        one_of("criterion", criterion, get_args(Criterion))
        one_of("feature_norm", feature_norm, get_args(FeatureNorm))
        if perceptual_weight == 0 and style_weight == 0:
            raise ValueError(
                "perceptual_weight and style_weight: expected at least one not to be 0; else drop the loss"
            )
        _check_layers(layer_weights)
        self.layer_weights = {name: float(weight) for name, weight in layer_weights.items()}
        self.perceptual_weight = float(perceptual_weight)
        self.style_weight = float(style_weight)
        self.criterion: Criterion = criterion
        self.feature_norm: FeatureNorm = feature_norm

    @property
    def is_mean_over_pictures(self) -> bool:
        """True but for "fro", which is one norm of the whole batch."""
        return self.criterion != "fro"

    @property
    def grows_with_batch(self) -> bool:
        """True for "fro"."""
        return self.criterion == "fro"

    @staticmethod
    def extractor_spec(
        layer_weights: Mapping[str, float],
        vgg_type: str = "vgg19",
        use_input_norm: bool = True,
        range_norm: bool = False,
        vgg_weights: str | None = None,
    ) -> dict[str, Any]:
        """The network that a loss with these options needs, as an options entry with a `type` and its `weights`.

        >>> PerceptualLoss.extractor_spec({"conv5_4": 1.0})["layers"]
        ['conv5_4']

        Raises:
            ValueError: `layer_weights` is no mapping, or empty.
        """
        _check_layers(layer_weights)
        return {
            "type": "VGGFeatures",
            "vgg_type": vgg_type,
            "layers": list(layer_weights),
            "use_input_norm": use_input_norm,
            "range_norm": range_norm,
            "weights": vgg_weights or vgg_type,
        }

    def components(self, sr: Tensor, gt: Tensor) -> dict[str, Tensor]:
        """`perceptual` and `style`, unweighted scalars of pictures (N, 3, H, W); one of weight 0 is left out.

        Raises:
            ValueError: unequal shapes, or a layer that the extractor does not return.
        """
        check_images(sr, gt)
        with torch.no_grad():
            gt_features = self._features(gt)
        sr_features = self._features(sr)
        result: dict[str, Tensor] = {}
        if self.perceptual_weight != 0:
            result["perceptual"] = self._distance(sr_features, gt_features)
        if self.style_weight != 0:
            grams = [{name: gram_matrix(f) for name, f in features.items()} for features in (sr_features, gt_features)]
            result["style"] = self._distance(*grams)
        return result

    def weighted_components(self) -> tuple[Callable[..., dict[str, Tensor]], dict[str, float]]:
        """`components` and the two weights."""
        return self.components, {"perceptual": self.perceptual_weight, "style": self.style_weight}

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        """The loss of pictures (N, 3, H, W) in the extractor's range, both weights applied; a scalar."""
        weights = self.weighted_components()[1]
        parts = [weights[name] * value for name, value in self.components(sr, gt).items()]
        return torch.stack(parts).sum()

    def _features(self, image: Tensor) -> dict[str, Tensor]:
        features = self.extractor(image)
        missing = [name for name in self.layer_weights if name not in features]
        if missing:
            raise ValueError(f"layer_weights: the extractor returns {', '.join(features)}, not {', '.join(missing)}")
        chosen = {name: features[name] for name in self.layer_weights}
        if self.feature_norm == "image_mean":
            chosen = {name: over_image_mean(f) for name, f in chosen.items()}
        return chosen

    def _distance(self, sr_features: Mapping[str, Tensor], gt_features: Mapping[str, Tensor]) -> Tensor:
        distances = [
            weight * feature_distance(sr_features[name], gt_features[name], self.criterion)
            for name, weight in self.layer_weights.items()
        ]
        return torch.stack(distances).sum()
