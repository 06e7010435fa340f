"""`mvmsr demo`: upscale, train, benchmark and report on scikit-image's sample images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvmsr.cli.stopping import stoppable

if TYPE_CHECKING:
    from rich.console import Console

TRAIN = (
    *("coffee.png", "motorcycle_left.png", "motorcycle_right.png", "rocket.jpg", "ihc.png", "retina.jpg"),
    *("hubble_deep_field.jpg", "brick.png", "grass.png", "gravel.png", "page.png", "coins.png", "moon.png"),
)
HELD_OUT = ("astronaut.png", "chelsea.png", "camera.png")


@stoppable()
def command(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for everything the demo writes.")] = Path(
        "demo_output"
    ),
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Number of training iterations.", show_default="700")
    ] = None,
) -> None:
    """Upscale an image, train a small MvM model for a few minutes, compare it with bicubic, and write a report."""
    import time

    from rich.console import Console
    from rich.markup import escape

    from mvmsr.cli.logs import log_to

    if any(path.exists() and not path.is_dir() for path in (out, *out.parents)):
        raise typer.BadParameter(f"{out} is not a folder, nor can one be made there; name another", param_hint="--out")
    begun = time.monotonic()
    console = Console()
    log_to(console)
    _copy_pictures(out)
    console.rule("1 of 4: upscale an image with the built-in model")
    picture = _upscale(out, console)
    console.rule("2 of 4: train a small SRResNet with manifold matching")
    console.print(f"({len(TRAIN)} images are too few for a metric network: a warning about it is to be expected here.)")
    run = _train(out, iterations, console)
    console.rule("3 of 4: benchmark it against bicubic on images it has not seen")
    results = _benchmark(out, run, console)
    console.rule("4 of 4: report")
    report = _report(out, run, results)
    console.print(
        f"Done in {time.monotonic() - begun:.0f} seconds. Open [bold]{escape(str(report))}[/bold] in a browser; "
        f"the upscaled image is {escape(str(picture))}.\n\n"
        "What to do next:\n"
        "  mvmsr upscale IMAGE -o upscaled                    your own images, by a built-in model\n"
        f"  mvmsr upscale IMAGE -o toy --model {escape(str(run))}      the same by this toy model\n"
        "  mvmsr doctor                                       what this machine has and lacks\n"
        "  mvmsr datasets list                                the data for real training and benchmarks\n"
        "  mvmsr train -opt options/train/mvm_srresnet_x4_cpu.yml    a real model",
        highlight=False,
        soft_wrap=True,
    )


def _copy_pictures(out: Path) -> None:
    """The training and the held-out pictures, from scikit-image's wheel to `out`/data."""
    from importlib import resources

    source = resources.files("skimage.data")
    for folder, names in (("train", TRAIN), ("held-out", HELD_OUT)):
        target = out / "data" / folder
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            (target / name).write_bytes((source / name).read_bytes())


def _upscale(out: Path, console: Console) -> Path:
    from mvmsr.inference.upscaler import Upscaler
    from mvmsr.inference.weights import default_model

    source, target = out / "data" / "held-out" / "chelsea.png", out / "upscaled" / "chelsea_x4.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    Upscaler(default_model()).upscale_file(source, target)
    console.print(f"{source} -> {target}", soft_wrap=True, markup=False)
    return target


def _train(out: Path, iterations: int | None, console: Console) -> Path:
    from importlib import resources

    from mvmsr.config import load
    from mvmsr.engine.loop import train
    from mvmsr.engine.stop import Stopped

    shutil.rmtree(out / "experiments" / "demo", ignore_errors=True)
    paths = {
        "datasets.train.dataroot_gt": out / "data" / "train",
        "datasets.train.cache_dir": out / "data" / "cache",
        "datasets.val.dataroot_gt": out / "data" / "held-out",
        "path.experiments_root": out / "experiments",
    }
    overrides = [f"{key}={json.dumps(str(path.resolve()))}" for key, path in paths.items()]
    if iterations is not None:
        overrides += [f"train.total_iter={iterations}", f"val.val_freq={max(iterations // 4, 1)}"]
    with resources.as_file(resources.files("mvmsr.cli") / "demo_options.yml") as options:
        try:
            return train(load(options, overrides), console=console).root
        except Stopped as stopped:
            console.print("Stopped; the same command starts over.")
            raise typer.Exit(stopped.exit_status) from stopped


def _benchmark(out: Path, run: Path, console: Console) -> Path:
    from mvmsr.benchmark.plan import Plan
    from mvmsr.benchmark.results import write_results
    from mvmsr.benchmark.run import run_benchmark
    from mvmsr.benchmark.table import rich_tables

    plan = Plan(methods=("bicubic", f"MvM (demo)={run}"), sets=(str(out / "data" / "held-out"),))
    results = run_benchmark(plan)
    for table in rich_tables(results, console.width):
        console.print(table)
    path = out / "results.json"
    write_results(path, results)
    return path


def _report(out: Path, run: Path, results: Path) -> Path:
    from mvmsr.report import write_report

    return write_report([run], out / "report.html", [results])
