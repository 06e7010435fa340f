"""Networks between two trained ones, as between one of high PSNR and what fine-tuning with a GAN made of it."""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import nn

from mvmsr.inference.weights_file import WeightsError, WeightsInfo


def parse_share(text: str) -> tuple[str, float]:
    """The model and the share of `MODEL=SHARE`.

    Raises:
        WeightsError: there is no `=`, or no number between 0 and 1 behind it.

    >>> parse_share("experiments/a=b=0.25")
    ('experiments/a=b', 0.25)
    """
    model, _, number = text.rpartition("=")
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not model or not 0 <= share <= 1:
        raise WeightsError(f"--blend {text}: expected MODEL=SHARE with a share from 0 to 1, such as psnr=0.3")
    return model, share


def blend(
    module: nn.Module, info: WeightsInfo, other: nn.Module, other_info: WeightsInfo, share: float
) -> tuple[nn.Module, WeightsInfo]:
    """The network whose weights are (1 - share) * module's + share * other's, and its description.

    What lies between can be a useful network where one was trained from the other's weights; between strangers it is
    none. Texts of the card, scores above all, are not taken over.

    Raises:
        WeightsError: the networks differ in their kind, arguments or tensors.

    Source: Wang et al., "Deep Network Interpolation for Continuous Imagery Effect Transition", CVPR 2019, equation 2.
    """
    state, others = module.state_dict(), other.state_dict()
    shapes, other_shapes = ({name: v.shape for name, v in s.items()} for s in (state, others))
    if (info.arch, info.args, shapes) != (other_info.arch, other_info.args, other_shapes):
        raise WeightsError(
            f"{other_info.path} cannot be blended with {info.path}: {_told(other_info)} and {_told(info)} are "
            "different networks; both must have the same type and arguments, as after fine-tuning one into the other"
        )
    mean = {k: v.lerp(others[k].to(v.dtype), share) if v.is_floating_point() else v for k, v in state.items()}
    module = copy.deepcopy(module)
    module.load_state_dict(mean)
    recipe = f"{1 - share:g} {info.path.stem} + {share:g} {other_info.path.stem}"
    return module, replace(info, extra={"name": recipe, "blended": "true"})


def _told(info: WeightsInfo) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in info.args.items())
    return f"{info.arch}({arguments}) x{info.scale}"
