"""`mvmsr web`: a web page for upscaling images."""

from __future__ import annotations

import importlib.util
import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mvmsr.cli.options import Device, Precision, Tile, tile_side
from mvmsr.cli.plain_text import plain

if TYPE_CHECKING:
    from mvmsr.web.server import Address

_WITHOUT = "mvmsr web needs gradio, which is not installed; in the folder of your clone: pip install -e '.[web]'"


def command(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model to offer, besides the built-in ones and bicubic: weights file (.safetensors, .pth, "
            ".onnx) or run directory. Give it several times for several; the first is proposed."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to serve on; 127.0.0.1 is reachable only from this machine, 0.0.0.0 from all.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to serve on.")] = 7860,
    share: Annotated[
        bool, typer.Option("--share", help="Also create a public address, through a tunnel of gradio's makers.")
    ] = False,
    max_upload: Annotated[str, typer.Option(help="Largest upload, such as 64M.")] = "64M",
    max_pixels: Annotated[
        str,
        typer.Option(help="Most pixels of an image, such as 4M (millions); results may have at most 16 times as many."),
    ] = "4M",
    max_seconds: Annotated[float, typer.Option(help="Longest processing time for one image, in seconds.")] = 300.0,
    queue: Annotated[int, typer.Option(min=1, help="Images that may wait; one is processed at a time.")] = 8,
    tile: Tile = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Serve a web page on which images are upscaled, compared and downloaded."""
    console = Console(stderr=True, emoji=False)
    if importlib.util.find_spec("gradio") is None:
        console.print(f"[red]error[/] {plain(_WITHOUT)}", soft_wrap=True)
        raise typer.Exit(2)
    side = tile_side(tile)
    from mvmsr.inference.memory import parse_bytes
    from mvmsr.web.limits import Limits, parse_pixels
    from mvmsr.web.models import Models
    from mvmsr.web.server import Address, serve

    address = Address(host, port, share)
    until = threading.Event()
    try:
        limits = Limits(parse_bytes(max_upload), parse_pixels(max_pixels), max_seconds, queue)
        models = Models(model or (), side, device, precision)
        console.print(f"models: {plain(', '.join(models.names))}", soft_wrap=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: until.set())
        serve(models, limits, address, until, lambda url, public: _tell(console, address, url, public))
    except (ValueError, OSError, RuntimeError) as error:
        console.print(f"[red]error[/] {plain(error)}", soft_wrap=True)
        raise typer.Exit(2) from error
    console.print("stopped; uploads and results are removed")


def _tell(console: Console, address: Address, url: str, public: str | None) -> None:
    console.print(f"open [bold]{plain(url)}[/] (Ctrl-C stops)", soft_wrap=True)
    if public is not None:
        console.print(
            f"[yellow]public[/] {plain(public)}: whoever knows this address can use this machine by this page, from "
            "anywhere and without a password; images pass through the servers of gradio's makers",
            soft_wrap=True,
        )
    elif not address.local:
        console.print(
            f"[yellow]open to others[/] every machine that reaches {plain(address.host)}:{address.port} can use this "
            "page, without a password and unencrypted",
            soft_wrap=True,
        )
