"""`mvmsr explain-gap`: which way of measuring gives a paper's figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvmsr.cli.options import Device, Precision
from mvmsr.decimals import fixed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from mvmsr.benchmark.explain_gap import Convention, Explanation, Target


NARROW = 120
"""Characters of a line below which a figure and its difference stand below one another."""


def command(
    target: Annotated[list[str], typer.Option(help="psnr=26.00 or ssim=0.7027, with the paper's digits. One or both.")],
    set_name: Annotated[str, typer.Option("--set", help="A set below the data root, or a folder.")],
    method: Annotated[
        str, typer.Option(help="bicubic, a weights file, a run directory, onnx:FILE or images:DIR.")
    ] = "bicubic",
    data_root: Annotated[
        str | None, typer.Option(help="Folder of the sets; default: $MVMSR_DATA_ROOT or ./datasets.")
    ] = None,
    scale: Annotated[int, typer.Option(min=1, help="Upscaling factor.")] = 4,
    top: Annotated[int, typer.Option(min=1, help="How many conventions to show.")] = 10,
    json: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write every convention and its figures to this file.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Try every convention of PSNR and SSIM and name those that give a paper's figures.

    Exits 0 where one gives all targets to their digits, 1 where none does or a picture fails, 2 for a wrong question.
    """
    from rich.console import Console

    from mvmsr.benchmark.explain_gap import TargetError, explain, measure, parse_target
    from mvmsr.benchmark.image_sets import load_image_set
    from mvmsr.benchmark.methods import MethodError, parse_method
    from mvmsr.benchmark.writable import check_folder
    from mvmsr.cli.errors import shown_as_messages
    from mvmsr.cli.progress import picture_bar
    from mvmsr.cli.tables import print_table, table_console
    from mvmsr.data.layouts import LayoutError

    console, errors = table_console(), Console(stderr=True)
    try:
        targets = [parse_target(text) for text in target]
        if len({one.metric for one in targets}) < len(targets):
            raise TargetError(f"targets {', '.join(target)}: give one figure of a metric")
        if json is not None:
            check_folder(json.parent)
        restore = parse_method(method, scale, device, precision)
        try:
            image_set = load_image_set(set_name, data_root, scale, "file")
        except LayoutError:  # no low-quality files: all are made
            image_set = load_image_set(set_name, data_root, scale, "make")
        opened = restore.open()
    except (TargetError, MethodError, LayoutError, ValueError, OSError) as error:
        errors.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    with shown_as_messages(ValueError, OSError), picture_bar(errors) as bar:
        task = bar.add_task("", total=len(image_set))

        def on_picture(done: int, _: int, name: str) -> None:
            bar.update(task, completed=done, description=f"{restore.name} on {image_set.name}, {name}")

        found = explain(measure(opened, image_set, [t.metric for t in targets], on_picture), targets)
    title = f"{restore.name} on {image_set.name}, x{scale}: {', '.join(target)}"
    print_table(console, _table(found[:top], targets, scale, title, narrow=console.width < NARROW))
    console.print(_summary(found, scale), highlight=False, markup=False)
    if json is not None:
        _write(json, found, scale, title)
    if not found[0].fits:
        raise typer.Exit(1)


def _table(found: Sequence[Explanation], targets: Sequence[Target], scale: int, title: str, narrow: bool) -> Table:
    """One row a way of measuring, each figure with its difference to the target."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("fits", no_wrap=True)
    for target in targets:
        table.add_column(f"{target.metric} (off by)", justify="right", no_wrap=not narrow)
    table.add_column("low quality and rounding, colour, border, metric", overflow="fold")
    table.add_column("--protocol", no_wrap=True)
    for one in found:
        figures = [_figure(one.values[target.metric], target, "\n" if narrow else " ") for target in targets]
        cells = ["yes" if one.fits else "no", *figures, _told(one.conventions), one.protocol(scale) or "-"]
        table.add_row(*cells, style="bold" if one.fits else "")
    return table


def _figure(value: float, target: Target, between: str) -> str:
    decimals = _decimals(target) + 2
    return f"{fixed(value, decimals)}{between}({fixed(value - target.value, decimals, sign=True)})"


def _told(conventions: Mapping[str, Convention]) -> str:
    """A way of measuring in words; it differs between the metrics in their variants alone."""
    shared = next(iter(conventions.values()))
    grey = [f"grey files {shared.grey}"] if shared.grey else []
    variants = [f"{metric.upper()}: {convention.variant}" for metric, convention in conventions.items()]
    return "; ".join([shared.how, shared.color, *grey, f"{shared.border} px cropped", *variants])


def _decimals(target: Target) -> int:
    """Of the figure in the paper."""
    import math

    return max(0, round(-math.log10(2 * target.tolerance)))


def _summary(found: Sequence[Explanation], scale: int) -> str:
    fitting = [one for one in found if one.fits]
    tried = f"{len(found):,} conventions tried"
    if not fitting:
        return f"{tried}; none gives the figures to their digits. The nearest is shown first."
    names = dict.fromkeys(name for one in fitting if (name := one.protocol(scale)) is not None)
    known = f" Measure so by --protocol {' or '.join(names)}." if names else " No --protocol measures so."
    several = " Another target, or another set, tells them apart." if len(fitting) > 1 else ""
    return f"{tried}; {len(fitting):,} fit.{known}{several}"


def _write(path: Path, found: Sequence[Explanation], scale: int, title: str) -> None:
    from dataclasses import asdict
    from json import dumps

    from mvmsr.benchmark.results import write_text

    rows = [
        {
            "fits": one.fits,
            "distance": one.distance,
            "values": dict(one.values),
            "conventions": {metric: asdict(convention) for metric, convention in one.conventions.items()},
            "protocol": one.protocol(scale),
        }
        for one in found
    ]
    write_text(path, dumps({"question": title, "conventions": rows}, indent=1) + "\n")
