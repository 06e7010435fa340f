"""`mvmsr models`: the available networks and weights, and what a weights file holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mvmsr.cli.plain_text import plain

if TYPE_CHECKING:
    from torch import nn

app = typer.Typer(help="Networks and weights.", no_args_is_help=True)


@app.command("list")
def list_models() -> None:
    """List the built-in weights and the networks that options files can name."""
    from mvmsr.inference.model_card import card_of, is_default
    from mvmsr.inference.weights import BUILTIN_DIR, NO_BUILTIN, WeightsError, builtin_names, read_info

    console = Console(emoji=False)
    weights = Table("name", "good for", "network", "scale", "parameters", title="Built-in models", title_justify="left")
    broken = []
    for name in builtin_names():
        try:
            info = read_info(BUILTIN_DIR / f"{name}.safetensors")
        except WeightsError as error:
            broken.append(str(error))
            continue
        card = card_of(info)
        purpose = card.get("good_for", card.get("title", "")) + (" (the default)" if is_default(info) else "")
        weights.add_row(name, plain(purpose), info.arch, f"x{info.scale}", f"{info.parameters:,}")
    console.print(weights if weights.rows else NO_BUILTIN)
    networks = Table(
        "type", "use", "parameters", title="\nNetworks, with their default arguments", title_justify="left"
    )
    for row in _networks():
        networks.add_row(*row)
    console.print(networks)
    console.print(
        "Besides these, --model takes any .pth or .safetensors file that spandrel reads (ESRGAN, Real-ESRGAN, SwinIR, "
        "HAT, ...), a run directory or a run's name; `mvmsr models info NAME` describes each of them. `bicubic` is no "
        "network and needs no weights."
    )
    for message in broken:
        Console(stderr=True, emoji=False).print(f"[red]broken[/] {plain(message)}", soft_wrap=True)
    if broken:
        raise typer.Exit(1)


@app.command("info")
def info_command(
    file: Annotated[str, typer.Argument(help="Weights file, run directory or built-in name.")],
    size: Annotated[int, typer.Option(min=1, help="Side of the input for which multiply-adds are counted.")] = 128,
) -> None:
    """Show what a weights file holds, and what running it costs."""
    from mvmsr.archs.flops import multiply_adds
    from mvmsr.inference.foreign import unwrapped
    from mvmsr.inference.model_card import CARD, card_of
    from mvmsr.inference.weights import WeightsError, find_weights, load_generator

    console = Console(emoji=False)
    try:
        module, info = load_generator(find_weights(file))
    except WeightsError as error:
        Console(stderr=True, emoji=False).print(f"[red]error[/] {plain(error)}", soft_wrap=True)
        raise typer.Exit(1) from error
    rows = {
        "file": str(info.path),
        "network": info.arch,
        "arguments": ", ".join(f"{key}={value}" for key, value in info.args.items()) or "-",
        "scale": f"x{info.scale}",
        "parameters": f"{info.parameters:,}",
        "written by": f"mvmsr {info.version}" if info.version else "another tool (read by spandrel)",
        **card_of(info),
        **{key: value for key, value in info.extra.items() if key not in CARD},
    }
    try:
        rows[f"multiply-adds at {size} x {size}"] = f"{multiply_adds(unwrapped(module), size, size) / 1e9:,.2f} G"
    except (RuntimeError, NotImplementedError, ValueError) as error:
        rows["multiply-adds"] = f"cannot be counted ({str(error).splitlines()[0]})"
    table = Table(show_header=False, box=None)
    for key, value in rows.items():
        table.add_row(f"[bold]{plain(key)}", plain(value))
    console.print(table, soft_wrap=True)
    if message := _not_finite(unwrapped(module)):
        Console(stderr=True, emoji=False).print(f"[red]broken[/] {plain(info.path)}: {plain(message)}", soft_wrap=True)
        raise typer.Exit(1)


def _not_finite(module: nn.Module) -> str:
    """How many values of a network are NaN or infinite, where, and what to do; empty where none is."""
    counts = {name: int((~value.isfinite()).sum()) for name, value in module.state_dict().items()}
    broken = [name for name, count in counts.items() if count]
    if not broken:
        return ""
    return (
        f"{sum(counts.values()):,} of its values are NaN or infinite, the first in {broken[0]}; its training diverged "
        "or the file is damaged. Use weights of an earlier save"
    )


def _networks() -> list[tuple[str, str, str]]:
    """Name, use and parameter count of each registered network."""
    from mvmsr.archs import count_parameters
    from mvmsr.registry import ARCHS

    rows = []
    for name in ARCHS.names():
        try:
            module = ARCHS.get(name)()
        except (TypeError, ValueError, RuntimeError, OSError):
            rows.append((name, "", "needs arguments or files"))
            continue
        use = "generator" if isinstance(getattr(module, "scale", None), int) else "discriminator or metric net"
        rows.append((name, use, f"{count_parameters(module):,}"))
    return rows
