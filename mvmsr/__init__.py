"""mvmsr: train, benchmark and use x4 super-resolution models; home of manifold matching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvmsr.inference.upscaler import Upscaler

__version__ = "0.1.0"
__all__ = ["Upscaler", "__version__"]


def __getattr__(name: str) -> Any:
    """`mvmsr.Upscaler`, looked up when it is used: it brings torch, which takes a second to import."""
    if name == "Upscaler":
        from mvmsr.inference.upscaler import Upscaler

        return Upscaler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
