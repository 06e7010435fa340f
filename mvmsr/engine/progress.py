"""What a person watching a run sees: a bar with pace, time left and losses; plain lines where there is no terminal."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger(__name__)


class TrainProgress:
    """A progress bar over iterations.

    Args:
        console: where to draw.
        start, total: iterations done, and to be done in all.
    """

    def __init__(self, console: Console, start: int, total: int) -> None:
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}", markup=False),
            console=console,
            transient=False,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("train", total=total, completed=start, pace="", losses="")
        self._total = total

    def __enter__(self) -> TrainProgress:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def advance(self, iteration: int) -> None:
        """The iteration is done."""
        self._bar.update(self._task, completed=iteration)

    def report(self, iteration: int, values: Mapping[str, float]) -> None:
        """Show the means since the last report; without a terminal, as a log line."""
        losses = " ".join(f"{name} {value:.4g}" for name, value in _losses(values).items())
        pace = 1 / values["step_seconds"] if values.get("step_seconds") else 0.0
        self._bar.update(self._task, pace=f"{pace:.1f} it/s", losses=losses)
        if self._bar.disable:
            left = (self._total - iteration) * values.get("step_seconds", 0.0)
            log.info("iter %d/%d  %.2f it/s  %.0f min left  %s", iteration, self._total, pace, left / 60, losses)


def _losses(values: Mapping[str, float]) -> dict[str, float]:
    """The loss terms by their names; with their network's letter (`gan_g`, `gan_d`) where two networks share one."""
    terms = [(name.partition("loss_")[2].partition("/"), value) for name, value in values.items() if "loss_" in name]
    names = [term for (_, _, term), _ in terms]
    return {term if names.count(term) == 1 else f"{term}_{letter}": value for (letter, _, term), value in terms}
