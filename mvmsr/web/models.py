"""The models that visitors can choose from, loaded once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mvmsr.hardware import pick_device, pick_precision
from mvmsr.inference.model_card import card_of
from mvmsr.inference.restorer import Restorer, load_restorer
from mvmsr.inference.upscaler import BICUBIC, Upscaler
from mvmsr.inference.weights import WeightsError, builtin_names, default_model
from mvmsr.web.limits import Refused


class Models:
    """Models by the name that visitors see: those asked for, the built-in ones, bicubic.

    Args:
        asked: weights files, run directories or built-in names; the first is what the page proposes.
        tile: see `Upscaler`.
        device: see `Upscaler`.
        precision: see `Upscaler`.

    Raises:
        WeightsError: one of them cannot be found or used.
        ValueError: the device, precision or tile is not available.
    """

    def __init__(
        self,
        asked: Sequence[str] = (),
        tile: int | Literal["auto"] = "auto",
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        pick_precision(precision, pick_device(device))
        self._tile = tile
        self._restorers: dict[str, Restorer | None] = {}
        self._upscalers: dict[tuple[str, int], Upscaler] = {}
        for model in [*asked, *_built_in()]:
            name = _visible_name(model, self._restorers)
            if name not in self._restorers:
                self._restorers[name] = None if model == BICUBIC else load_restorer(model, device, precision)
        self._restorers.setdefault(BICUBIC, None)

    @property
    def names(self) -> list[str]:
        """Every model's name, the proposed one first."""
        return list(self._restorers)

    def title(self, name: str) -> str:
        """What the page calls a model: its name, and the title on its card."""
        restorer = self._restorers[name]
        title = card_of(restorer.info).get("title") if restorer is not None and restorer.info is not None else None
        return f"{name}: {title}" if title else name

    def upscaler(self, name: str, scale: int) -> Upscaler:
        """The model for a factor; the same object each time, so that what it measured is measured once.

        Raises:
            Refused: there is no such model.
        """
        if name not in self._restorers:
            raise Refused(f"there is no model {name!r} here; choose one of {', '.join(self.names)}")
        if (name, scale) not in self._upscalers:
            model = self._restorers[name] or BICUBIC
            self._upscalers[name, scale] = Upscaler(model, self._tile, outscale=scale)
        return self._upscalers[name, scale]


def _built_in() -> list[str]:
    names = builtin_names()
    try:
        first = default_model()
    except WeightsError:
        return names
    return [first, *(name for name in names if name != first)]


def _visible_name(model: str, taken: dict[str, Restorer | None]) -> str:
    """A file's name without folder and suffix: visitors need not know where it lies."""
    if model == BICUBIC or model in builtin_names():
        return model
    path = Path(model)
    stem = path.resolve().name if path.is_dir() else path.stem
    return next(name for name in (stem, *(f"{stem} ({n})" for n in range(2, 1000))) if name not in taken)
