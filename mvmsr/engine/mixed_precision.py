"""Mixed precision that leaves the pictures as they are."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric.plugins.precision import MixedPrecision
from lightning_fabric.plugins.precision import Precision as Plugin

from mvmsr.hardware import Precision


class ExactInputs(MixedPrecision):
    """Fabric's autocast, without its rounding of what goes into a network.

    A byte divided by 255 lies just below a number that bfloat16 can hold, so that nearly all bytes are rounded up, and
    a network that adds its input to its output gives the sums in steps of a whole level besides. A generator trained
    on pictures so brightened learns to darken: by 0.4 levels of 255, measured, on pictures that are not. The layers
    that autocast runs in half precision round their inputs by themselves, alike in training and in use.
    """

    def convert_input(self, data: Any) -> Any:
        """As it is: float32."""
        return data

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's scale of losses, in float16."""
        if self.scaler is not None:
            # By a new scaler: the old one may hold that the gradients of a step that was broken off are unscaled
            # already, and would refuse the next ones.
            self.scaler = torch.amp.GradScaler(self.device)
        super().load_state_dict(state_dict)


def precision_plugin(precision: Precision, device: torch.device) -> Plugin:
    """What Fabric computes in, for its `plugins`."""
    return Plugin() if precision == "32" else ExactInputs(precision, device.type)
