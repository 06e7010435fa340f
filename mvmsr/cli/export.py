"""`mvmsr export`: weights in the formats of other tools."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mvmsr.cli.plain_text import plain
from mvmsr.cli.stopping import stoppable


class Target(str, Enum):
    """Formats that weights can be written in."""

    pth = "pth"
    safetensors = "safetensors"
    torchscript = "torchscript"
    onnx = "onnx"


@stoppable()
def command(
    model: Annotated[str, typer.Argument(help="Weights file, run directory or built-in name.")],
    to: Annotated[
        Target, typer.Option("--to", help="pth is BasicSR's layout; safetensors is mvmsr's own, self-describing one.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="The file to write; by default NAME.pth, .safetensors, .pt or .onnx in the current folder.",
        ),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            help='For plain state files: the network, such as SRResNet or {"type": "SRResNet", "num_block": 16}.'
        ),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store weights as float16 (safetensors).")] = False,
    card: Annotated[
        Path | None,
        typer.Option(help="Model card to include, YAML (safetensors, pth): title, good_for, trained_on, scores, ..."),
    ] = None,
    blend: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL=SHARE",
            help="First mix in another model of the same kind: OTHER.pth=0.3 makes the weights 0.7 of this one's and "
            "0.3 of the other's.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a model in another format, and check that it still gives the same images."""
    from mvmsr.benchmark.writable import check_folder
    from mvmsr.inference.blending import blend as blend_networks
    from mvmsr.inference.blending import parse_share
    from mvmsr.inference.export import FORMATS, export, parse_arch
    from mvmsr.inference.model_card import read_card
    from mvmsr.inference.weights import WeightsError, find_weights, load_generator

    console = Console(stderr=True, emoji=False)
    try:
        source = find_weights(model)
        out = out or Path(f"{source.stem}{FORMATS[to.value]}")
        if out.is_dir():
            raise WeightsError(f"{out} is a folder; name a file, such as {out / (source.stem + FORMATS[to.value])}")
        check_folder(out.parent)
        if out.exists() and not overwrite:
            raise WeightsError(f"{out} exists and is left alone; --overwrite replaces it, -o names another")
        module, info = load_generator(source, parse_arch(arch) if arch else None)
        if blend is not None:
            name, share = parse_share(blend)
            module, info = blend_networks(module, info, *load_generator(find_weights(name)), share)
        if card is not None:
            info = replace(info, extra={**info.extra, **read_card(card)})
        difference = export(module, info, to.value, out, half=half)
    except (WeightsError, OSError, ValueError) as error:
        console.print(f"[red]error[/] {plain(error)}", soft_wrap=True)
        raise typer.Exit(1) from error
    console.print(
        f"{plain(out)}: {info.arch} x{info.scale}, largest difference from the source {difference:.3g}",
        soft_wrap=True,
    )
