"""The one door to BasicSR, opened only when somebody asks for a name that we do not have.

BasicSR 1.4.2 imports `torchvision.transforms.functional_tensor`, which newer torchvision releases removed, and it
cannot be installed on Python 3.13. Everything here therefore answers "nothing found" where BasicSR is absent.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

_PACKAGES = {"ARCH_REGISTRY": "basicsr.archs", "LOSS_REGISTRY": "basicsr.losses"}


@cache
def import_basicsr(module: str = "basicsr") -> Any | None:
    """BasicSR's module of that name, or None where BasicSR is not installed."""
    if importlib.util.find_spec("basicsr") is None:
        return None
    missing = "torchvision.transforms.functional_tensor"
    if missing not in sys.modules and importlib.util.find_spec(missing) is None:
        # The functions it needs live on in `functional` under the same names.
        sys.modules[missing] = importlib.import_module("torchvision.transforms.functional")
    return importlib.import_module(module)


def _registry(registry: str) -> Any | None:
    if import_basicsr(_PACKAGES[registry]) is None:
        return None
    return getattr(import_basicsr("basicsr.utils.registry"), registry)


def find(registry: str, name: str) -> Callable[..., Any] | None:
    """The class that BasicSR registered as `name` in `ARCH_REGISTRY` or `LOSS_REGISTRY`, or None.

    Some names have a suffix there that its own look-up adds: `SRVGGNetCompact` is `SRVGGNetCompact_basicsr`.
    """
    entries = _registry(registry)
    if entries is None:
        return None
    return entries._obj_map.get(name) or entries._obj_map.get(f"{name}_basicsr")


def names(registry: str) -> list[str]:
    """The names in BasicSR's registry, sorted; empty where BasicSR is absent."""
    entries = _registry(registry)
    return sorted(entries._obj_map) if entries is not None else []
