"""`mvmsr test`: score methods on benchmark sets and write the results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvmsr.cli.stopping import stoppable

if TYPE_CHECKING:
    from rich.console import Console

    from mvmsr.benchmark.plan import Plan
    from mvmsr.benchmark.results import Results


@stoppable()
def command(
    opt: Annotated[
        Path | None,
        typer.Option("-opt", "--opt", help="Options file, such as options/test/benchmark_x4.yml; flags override it."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="bicubic, a weights file, a run directory, onnx:FILE or images:DIR; LABEL=... names it. One or more."
        ),
    ] = None,
    set_names: Annotated[
        list[str] | None, typer.Option(help="Sets below the data root, or folders. One or more.", show_default="Set5")
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            help="psnr, ssim, consistency, lpips, lpips_vgg, st_lpips, st_lpips_vgg, niqe, niqe_y; pyiqa:NAME for one "
            "of pyiqa's; psnr_rgb, ssim_y_float, ... under another protocol. One or more.",
            show_default="psnr ssim",
        ),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="y, y_float, y_only, rgb or rgb_zero_pad.", show_default="y")
    ] = None,
    data_root: Annotated[
        str | None, typer.Option(help="Folder of the sets; default: $MVMSR_DATA_ROOT or ./datasets.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder for results.json, .csv, .md and .tex, images, plots and report.html.")
    ] = None,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Also write results.json here.")] = None,
    scale: Annotated[int | None, typer.Option(help="Upscaling factor.", show_default="4")] = None,
    lq: Annotated[
        str | None,
        typer.Option(
            help="make: create the low-quality images with MATLAB's bicubic; file: use each set's own; or a folder of "
            "them.",
            show_default="make",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda, mps or cpu.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, 32, bf16-mixed or 16-mixed.")] = None,
    weights_dir: Annotated[
        str | None,
        typer.Option(help="Folder searched first for pretrained weights of metrics; also $MVMSR_WEIGHTS_DIR."),
    ] = None,
    save_images: Annotated[
        bool | None,
        typer.Option(
            "--save-images/--no-save-images",
            help="Write every restored image below OUT/images, where the report finds it.",
            show_default="with --out",
        ),
    ] = None,
    report: Annotated[
        bool,
        typer.Option("--report/--no-report", help="Write OUT/report.html and OUT/plots.", show_default="with --out"),
    ] = True,
    allow_missing: Annotated[
        bool | None, typer.Option("--allow-missing", help="Do not fail if a metric's weights are missing.")
    ] = None,
    workers: Annotated[
        str | None, typer.Option(help="Threads that read and score images; auto is as many as torch uses, at most 8.")
    ] = None,
    restart: Annotated[
        bool | None,
        typer.Option("--restart", help="Measure everything again instead of reusing the scores in OUT/partial.jsonl."),
    ] = None,
) -> None:
    """Score methods on benchmark sets; exits 0 only if everything requested was done.

    With --out, scores are saved as they are computed: the same command resumes where it stopped.
    """
    from rich.console import Console

    from mvmsr.benchmark.plan import PlanError, load_plan, make_plan
    from mvmsr.benchmark.run import is_complete, run_benchmark
    from mvmsr.benchmark.writable import check_folder
    from mvmsr.cli.errors import shown_as_messages
    from mvmsr.cli.progress import picture_bar
    from mvmsr.cli.tables import print_gaps, table_console
    from mvmsr.registry import RegistryError

    console, errors = table_console(), Console(stderr=True)
    flags = {
        "methods": method or None,
        "sets": set_names or None,
        "metrics": metrics or None,
        "protocol": protocol,
        "data_root": data_root,
        "out": out,
        "scale": scale,
        "lq": lq,
        "device": device,
        "precision": precision,
        "weights_dir": weights_dir,
        "save_images": save_images,
        "allow_missing": allow_missing,
        "workers": workers,
        "restart": restart,
    }
    try:
        plan = make_plan(flags, load_plan(opt) if opt is not None else None)
        if plan.save_images is None:
            plan = replace(plan, save_images=plan.out is not None)
        if json is not None:
            check_folder(json.parent)
        with picture_bar(errors) as bar:
            task = bar.add_task("", total=None)
            results = run_benchmark(
                plan,
                lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
                lambda line: _say(errors, line, ""),
            )
    except (PlanError, RegistryError, ValueError) as error:
        _say(errors, str(error), "red")
        raise typer.Exit(2) from error
    except KeyboardInterrupt as stop:
        kept = "; the scores so far are kept, and the same command resumes from there" if plan.out else ""
        _say(errors, f"stopped{kept}", "yellow")
        raise typer.Exit(130) from stop
    except OSError as error:  # of the disk, half-way; files that cannot be read are failures of their own
        _say(errors, f"stopped, {error}; the scores so far are kept, and the same command resumes from there", "red")
        raise typer.Exit(1) from error
    _show(results, console)
    with shown_as_messages(OSError):
        for path in [*_write(results, plan, json), *(_report(plan) if report else ())]:
            console.print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)
    print_gaps(errors, results)
    if not is_complete(results, plan.allow_missing):
        raise typer.Exit(1)


def _show(results: Results, console: Console) -> None:
    from mvmsr.benchmark.cost_table import cost_table
    from mvmsr.benchmark.table import rich_tables
    from mvmsr.cli.tables import print_table

    for table in (*rich_tables(results, console.width), cost_table(results)):
        if table is not None:
            print_table(console, table)


def _write(results: Results, plan: Plan, json: Path | None) -> list[Path]:
    from mvmsr.benchmark.cost_table import cost_markdown
    from mvmsr.benchmark.gaps import gaps_markdown
    from mvmsr.benchmark.latex import to_latex
    from mvmsr.benchmark.results import to_csv, write_results, write_text
    from mvmsr.benchmark.statistics_table import statistics_markdown
    from mvmsr.benchmark.table import to_markdown

    written = [json] if json is not None else []
    if plan.out is not None:
        folder = Path(plan.out)
        written.append(folder / "results.json")
        write_text(folder / "results.csv", to_csv(results))
        tables = (to_markdown(results), gaps_markdown(results), statistics_markdown(results), cost_markdown(results))
        write_text(folder / "results.md", "\n".join(table for table in tables if table))
        write_text(folder / "results.tex", to_latex(results))
    for path in written:
        write_results(path, results)
    return written + ([Path(plan.out) / f"results.{kind}" for kind in ("csv", "md", "tex")] if plan.out else [])


def _report(plan: Plan) -> list[Path]:
    from mvmsr.report import write_benchmark_report

    if plan.out is None:
        return []
    return write_benchmark_report([Path(plan.out)], sets=plan.sets, data_root=plan.data_root, keep_originals=True)


def _say(console: Console, text: str, style: str) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
