"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

AutoResume = Annotated[
    bool, typer.Option("--auto-resume", help="Continue from the run's newest checkpoint, if it has one.")
]
DataRoot = Annotated[str | None, typer.Option(help="Folder of the data sets; default: $MVMSR_DATA_ROOT or ./datasets.")]
Device = Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")]
Precision = Annotated[str, typer.Option(help="auto, 32, bf16-mixed or 16-mixed.")]
Tile = Annotated[
    str, typer.Option(help="Side of the tiles in input pixels; `auto` fits the memory, 0 disables tiling.")
]


def tile_side(tile: str) -> int | Literal["auto"]:
    """What `Tile` was given.

    Raises:
        typer.BadParameter: it is neither `auto` nor a number.
    """
    if tile == "auto":
        return "auto"
    if not tile.isdecimal():
        raise typer.BadParameter(f"expected `auto` or a number of pixels, got {tile!r}", param_hint="--tile")
    return int(tile)
