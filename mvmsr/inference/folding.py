"""Batch normalisation folded into the convolutions before it: the same values for less time and memory."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_batch_norm(module: nn.Module) -> int:
    """Folds every BatchNorm2d that follows a convolution in a `Sequential`, in place; how many there were.

    The module must be in eval mode and is of no use for training afterwards. Only direct neighbours in a
    `Sequential` are folded, because only there the order of calls is known, and no convolution that the network
    holds in several places.

    Raises:
        ValueError: the module is in training mode, where batch normalisation uses the batch's own statistics.
    """
    if module.training:
        raise ValueError("batch normalisation can be folded in eval mode only; call module.eval() first")
    places = Counter(id(part) for _, part in module.named_modules(remove_duplicate=False))
    folded = 0
    for part in module.modules():
        if not isinstance(part, nn.Sequential):
            continue
        for index, (conv, norm) in enumerate(pairwise(list(part)), start=1):  # `children` leaves repetitions out
            if type(conv) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d or norm.running_mean is None:
                continue
            if places[id(conv)] > 1:
                continue
            assert norm.running_var is not None
            conv.weight, conv.bias = fuse_conv_bn_weights(  # type: ignore[assignment]
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            part[index] = nn.Identity()
            folded += 1
    return folded
