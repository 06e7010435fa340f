"""Reproducing a table with tiny networks on made-up pictures: trainings, continuation, scores, documents, messages."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from matplotlib.axes import Axes
from rich.console import Console
from typer.testing import CliRunner

from mvmsr.cli import app
from mvmsr.cli.reproduce import _show_plan
from mvmsr.data import write_rgb
from mvmsr.reproduction import figures as figures_module
from mvmsr.reproduction import runs as runs_module
from mvmsr.reproduction.document import to_json, to_latex, to_markdown
from mvmsr.reproduction.launch import launch_process
from mvmsr.reproduction.published import PUBLISHED, SETS
from mvmsr.reproduction.reproduce import Settings, describe, find_options, plan, reproduce, write_section
from mvmsr.reproduction.rows import ROWS, ReproductionError
from mvmsr.reproduction.runs import Run, changed_options, runs_of
from mvmsr.reproduction.scoring import LUMA, PAPER, Score, scores_by_row
from mvmsr.reproduction.training import Interrupted, train_missing

SIZES = {"Set5": 2, "Set14": 1, "BSD100": 1, "Urban100": 1}
TINY = (
    *("device=cpu", "precision=32", "compile=false", "logger.use_tb_logger=false", "datasets.val=null"),
    *("train.total_iter=3", "datasets.train.gt_size=48", "datasets.train.batch_size_per_gpu=2"),
    *("logger.print_freq=1", "logger.save_checkpoint_freq=1", "network_g.num_feat=8"),
    "path.pretrain_network_g=null",  # it is larger
)
METRICS = {PAPER: ("psnr", "ssim"), LUMA: ("psnr",)}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four sets and BSDS400, of noise."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, count in {**SIZES, "BSDS400": 3}.items():
        for number in range(count):
            write_rgb(root / name / f"{number}.png", rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    return root


@pytest.fixture
def settings(tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("MVMSR_DATA_ROOT", str(data_root))
    overrides = (*TINY, f"datasets.train.dataroot_gt={data_root / 'BSDS400'}")
    return Settings(
        "table5", "cpu", tmp_path, find_options(), overrides=overrides, data_root=str(data_root), metrics=METRICS
    )


@pytest.fixture
def launched() -> list[list[str]]:
    return []


@pytest.fixture
def launch(launched: list[list[str]]) -> Callable[[Sequence[str]], int]:
    """Runs the training command in this process."""

    def run(command: Sequence[str]) -> int:
        launched.append(list(command))
        return CliRunner().invoke(app, list(command[3:])).exit_code

    return run


def test_a_table_from_nothing(settings: Settings, launch, launched: list[list[str]]) -> None:
    settings = replace(
        settings,
        only=("b", "g"),
        overrides=(*settings.overrides, "network_g.num_block=1", "network_d.num_feat=4"),
    )
    # Row G has a metric network, row B has none; an override of it would be refused there.
    document = reproduce(settings, launch)
    assert [command[command.index("-opt") + 1].split("/")[-1][:8] for command in launched] == ["table5_b", "table5_g"]
    states = {row.key: document.status(row) for row in document.rows}
    assert states == {**dict.fromkeys("cdef", "not yet run"), **dict.fromkeys("abg", "done")}
    assert not document.complete

    text = (settings.out / "table5.md").read_text()
    assert "| C SRGAN | not yet run |" in text
    assert all(f"| {row.label} |" in text for row in ROWS["table5"])
    stored = json.loads((settings.out / "table5.json").read_text())
    ours = {row["key"]: row["ours"] for row in stored["rows"]}
    assert ours["c"].get(PAPER) in (None, {})
    results = json.loads((settings.out / "benchmark" / PAPER / "results.json").read_text())
    mean = np.mean([x["psnr"] for x in results["images"] if x["method"] == "g_seed0" and x["set"] == "Set5"])
    assert ours["g"][PAPER]["Set5"]["psnr"]["mean"] == pytest.approx(mean)
    assert f"{mean:.2f} ({PUBLISHED['table5']['g']['Set5']['psnr']:.2f})" in text
    assert ours["g"][LUMA]["Urban100"]["psnr"]["images"] == 1
    verdicts = {claim["claim"]: claim["verdict"] for claim in stored["claims"]}
    assert verdicts["niqe"] == "not decided yet"
    for caption, path in document.figures.items():
        assert (settings.out / path).stat().st_size > 1000, caption
    assert {path.split("_")[-1] for path in document.figures.values()} == {"plane.png", "crops.png", "distances.png"}

    launched.clear()
    assert train_missing(plan(settings), launch=launch) == {}
    assert launched == [], "what is done is not trained again"
    latex = (settings.out / "table5.tex").read_text()
    assert latex.count(r"\\") == 2 + 7


def test_a_cut_off_run_is_continued(settings: Settings, launch, launched: list[list[str]]) -> None:
    settings = replace(settings, only=("b",), overrides=(*settings.overrides, "network_g.num_block=1"))
    (run,) = plan(replace(settings, overrides=(*settings.overrides, "train.total_iter=1")))
    assert launch(run.command(sys.executable)) == 0
    (run,) = plan(settings)
    assert run.status == "1 of 3 iterations"
    # The length of a schedule changes what is learnt: it is not continued silently.
    assert changed_options(run) == ["train.total_iter"]
    failed = train_missing([run], launch=launch)
    assert "begun with other options (train.total_iter); choose another --out" in failed["b_seed0"]
    # So does where it begins; where it is kept does not.
    more = ("train.total_iter=1", 'path.pretrain_network_g="psnr"', "logger.print_freq=7")
    (run,) = plan(replace(settings, overrides=(*settings.overrides, *more)))
    assert changed_options(run) == ["path.pretrain_network_g"]
    # An option that a later version added has its default in runs from before it.
    (run,) = plan(replace(settings, overrides=(*settings.overrides, "train.total_iter=1")))
    saved = yaml.safe_load((run.folder / "options.yml").read_text())
    assert saved["path"].pop("strict_load_d") is True
    (run.folder / "options.yml").write_text(yaml.safe_dump(saved))
    assert changed_options(run) == []


def test_a_run_of_other_options_is_stale_and_not_scored(settings: Settings, launch) -> None:
    small = replace(settings, only=("b",), overrides=(*settings.overrides, "network_g.num_block=1"))
    first = reproduce(small, launch)
    assert {row.key for row in first.rows if first.status(row) == "done"} == {"a", "b"}
    now = replace(small, only=("a",), overrides=(*small.overrides, "train.optim_g.lr=0.5"))
    stored = {PAPER: json.loads((settings.out / "benchmark" / PAPER / "results.json").read_text())}
    for document in (describe(now, stored, {}), reproduce(now, launch)):
        (row,) = (row for row in document.rows if row.key == "b")
        assert document.status(row) == "stale, begun with other options (train.optim_g.lr)"
        assert set(document.scores[PAPER]) == {"a"}
        assert "| – (29.66) |" in to_markdown(document)
    (run,) = plan(replace(now, only=("b",)))
    console = Console(width=200, file=io.StringIO())
    _show_plan(now, [run], console)
    assert "stale" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 of 1 run still to be trained" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_stale_discriminator_makes_its_row_stale(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = plan(replace(settings, only=("f", "g")))
    monkeypatch.setattr(Run, "iterations", 3)
    monkeypatch.setattr(runs_module, "changed_options", lambda run: ["lr"] if run.key == "nmd" else [])
    stale = runs_module.stale_runs(runs)
    assert set(stale) == {"nmd", "f_seed0"}
    assert "its discriminator is stale, begun with other options (lr)" in stale["f_seed0"]


def test_continuing_leaves_what_is_there(settings: Settings, launch) -> None:
    settings = replace(settings, only=("b",), overrides=(*settings.overrides, "network_g.num_block=1"))
    (run,) = plan(settings)
    assert train_missing([run], launch=launch) == {}
    run.weights.unlink()
    for checkpoint in ("00000003", "00000002"):
        for path in sorted((run.folder / "checkpoints" / checkpoint).glob("*")):
            path.unlink()
    assert (run.status, run.iterations) in {("not yet run", 0), ("1 of 3 iterations", 1)}
    assert train_missing([run], launch=launch) == {}
    assert run.done


def test_rows_come_with_their_discriminator(settings: Settings, launch, launched: list[list[str]]) -> None:
    tiny_nmd = ["network.num_feat=2", "datasets.train.gt_size=32", "datasets.train.batch_size_per_gpu=4", "device=cpu"]
    tiny_nmd += ["datasets.train.held_out=1", "train.total_iter=2", "precision=32", "logger.use_tb_logger=false"]
    tiny_nmd += [f"datasets.train.dataroot_gt={settings.data_root}/BSDS400", "train.curriculum.pictures=2"]
    small = ("network_g.num_block=1", "network_d.num_feat=4")
    overrides = (*settings.overrides, *small, *(f"nmd.{override}" for override in tiny_nmd))
    runs = plan(replace(settings, only=("f",), overrides=overrides))
    assert [run.key for run in runs] == ["nmd", "f_seed0"]
    assert train_missing(runs, launch=launch) == {}
    assert all(run.done for run in runs)
    assert any(f'nmd_path="{runs[0].weights}"' in word for word in launched[1])
    # Two iterations are no curriculum: done is not all that is to be said.
    document = describe(replace(settings, overrides=overrides), {}, {})
    (row,) = (row for row in document.rows if row.key == "f")
    assert "its discriminator's curriculum stopped before its end at sigma 0." in document.status(row)
    assert ", alpha 0." in document.status(row)
    assert "curriculum" in to_markdown(document)


def test_a_row_without_its_discriminator_is_not_tried(settings: Settings) -> None:
    runs = plan(replace(settings, only=("f",)))
    asked = []

    def fail(command: Sequence[str]) -> int:
        asked.append(command)
        return 1

    failed = train_missing(runs, launch=fail)
    assert len(asked) == 1
    assert failed["nmd"] == "its training ended with status 1 after 0 iterations"
    assert failed["f_seed0"].startswith("its discriminator is missing")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", *(["SIGHUP"] if hasattr(signal, "SIGHUP") else [])])
def test_a_stopped_training_stops_everything(name: str, settings: Settings) -> None:
    status = 128 + getattr(signal, name)
    with pytest.raises(Interrupted, match="the same command resumes"):
        train_missing(plan(settings), launch=lambda command: status)


def test_seeds_are_runs_of_their_own(settings: Settings) -> None:
    runs = runs_of("table3", "cpu", settings.options, settings.out, seeds=2)
    assert len(runs) == 12
    assert len({run.folder for run in runs}) == 12
    assert [run.seed for run in runs] == [0] * 6 + [1] * 6
    assert "manual_seed=1" in runs[-1].overrides


@pytest.mark.parametrize("budget", ["cpu", "paper"])
@pytest.mark.parametrize("table", ["table3", "table5"])
def test_every_row_has_its_options_and_says_its_cost(settings: Settings, table: str, budget) -> None:
    runs = runs_of(table, budget, settings.options, settings.out)
    keys = [row.key for row in ROWS[table] if row.stem]
    assert [run.row.key for run in runs if run.row] == keys
    assert all("minutes" in run.cost or "hours" in run.cost for run in runs)


def test_scores_are_means_over_seeds_of_means_over_pictures() -> None:
    def line(seed: int, image: str, value: float | None) -> dict[str, object]:
        return {"method": f"srresnet_mvm_seed{seed}", "set": "Set5", "image": image, "psnr": value}

    lines = [line(0, "a", 20.0), line(0, "b", 30.0), line(1, "a", 22.0), line(1, "b", 34.0), line(1, "c", None)]
    score = scores_by_row({"images": lines, "metrics": {"psnr": {}}})["srresnet_mvm"]["Set5"]["psnr"]
    assert score.mean == 26.5
    assert score.deviation == pytest.approx(np.std([25.0, 28.0], ddof=1))
    assert dict(score.images) == {"a": 21.0, "b": 32.0}


def test_bicubic_as_printed_is_not_set_beside_rgb(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[float, float]] = []
    plot = Axes.plot

    def noted(axes: Axes, x: float, y: float, *rest: object, **more: object) -> object:
        drawn.append((x, y))
        return plot(axes, x, y, *rest, **more)

    monkeypatch.setattr(Axes, "plot", noted)
    score = Score(30.0, None, 1, {"a": 30.0})
    ours = {key: {"Set5": {"psnr": score, "niqe": score}} for key in "ag"}
    figures_module._plane("table5", [row for row in ROWS["table5"] if row.key in "ag"], ours, tmp_path / "plane.png")
    printed = {key: (one["Set5"]["psnr"], one["Set5"]["niqe"]) for key, one in PUBLISHED["table5"].items()}
    assert drawn.count((30.0, 30.0)) == 2
    assert printed["g"] in drawn
    assert printed["a"] not in drawn
    assert "bicubic row was measured on luma" in to_latex(describe(settings, {}, {}))
    assert "bicubic" not in to_latex(describe(replace(settings, table="table3"), {}, {}))


def test_a_row_that_lacks_pictures_decides_nothing(settings: Settings) -> None:
    def line(row: str, image: str, value: float) -> dict[str, object]:
        return {"method": f"{row}_seed0", "set": "Set5", "image": image, "psnr": value}

    easy = [line("g", "a", 34.0), line("b", "a", 30.0), line("b", "hard", 20.0)]
    results = {"images": easy, "metrics": {"psnr": {}}, "missing": [], "failures": []}
    scores = scores_by_row(results)
    assert (scores["g"]["Set5"]["psnr"].part, scores["b"]["Set5"]["psnr"].part) == ("1 of 2", "")
    document = describe(settings, {PAPER: results}, {})
    (most,) = (judged for judged in document.judgements if judged.claim.key == "most_fidelity")
    assert not most.outcome.met
    assert not most.outcome.unmet
    for text in (to_markdown(document), to_latex(document)):
        assert "34.00 [1 of 2] (29.87)" in text
        assert "25.00 (29.66)" in text
        assert "no claim is judged by it" in text


def test_an_unmeasured_table_shows_every_row_and_the_papers_figures(settings: Settings, tmp_path: Path) -> None:
    longer = tmp_path / "doc.md"
    longer.write_text("# Before\n")
    document = describe(replace(settings, table="table3"), {}, {})
    write_section(document, longer)
    write_section(document, longer)
    text = longer.read_text()
    assert text.startswith("# Before\n\n<!-- table3 cpu -->\n")
    assert text.count("<!-- table3 cpu -->") == 1
    assert text.count("| not yet run |") == 6
    for figures in PUBLISHED["table3"].values():
        for name in SETS:
            assert f"– ({figures[name]['psnr']:.2f})" in text
    assert text.count("not decided yet") == 2


def test_the_plan_costs_nothing(tmp_path: Path) -> None:
    arguments = ["reproduce", "table5", "--only", "b", "g", "--plan", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "250"})
    assert result.exit_code == 0, result.output
    assert "b_seed0" in result.output
    assert "g_seed0" in result.output
    assert "c_seed0" not in result.output
    assert "2 of 2 runs still to be trained" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--only", "b", "g", "table5"],
        ["--only", "b", "--only", "g", "table5"],
        ["--only", "b", "g", "--seeds", "1", "table5"],
        ["table5", "--only=b", "g"],
        ["table5", "--only", "b", "--set", "manual_seed=3", "train.ema_decay=0", "--only", "g"],
    ],
)
def test_the_table_may_stand_anywhere(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["reproduce", *arguments, "--plan"], env={"COLUMNS": "250"})
    assert result.exit_code == 0, result.output
    assert "2 of 2 runs still to be trained" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table5", "--only", "b,g"], "separated by spaces, without commas: b g"),
        (["table9"], "unknown table 'table9'"),
        (["table5", "--only", "z"], "table5 has no row 'z'"),
        (["table5", "--options", "nowhere"], "no options file nowhere"),
        (["table5", "--set", "train.total_itr=3"], "Did you mean 'total_iter'"),
    ],
)
def test_mistakes_are_messages(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["reproduce", *arguments, "--plan"], env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert message in result.output


def test_a_folder_that_cannot_be_made_is_told_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for flags in (["--out", str(tmp_path / "file" / "x")], ["--plan", "--document", str(tmp_path / "file" / "x.md")]):
        result = CliRunner().invoke(app, ["reproduce", "table5", *flags], env={"COLUMNS": "200"})
        assert result.exit_code == 1
        assert "is a file; name another folder" in result.output


def test_a_row_of_fewer_seeds_is_marked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def status(run: Run) -> str:
        return "done" if run.seed == 0 else "1 of 3 iterations"

    monkeypatch.setattr(Run, "status", property(status))
    rows = [("b_seed0", 25.0), ("g_seed0", 34.0), ("g_seed7", 99.0), ("a_seed0", 20.0)]
    lines = [
        {"method": method, "set": name, "image": "0", "psnr": psnr} for name in SETS for method, psnr in rows
    ]  # seed 7 is none of those that are asked for
    results = {"images": lines, "metrics": {"psnr": {}}, "missing": [], "failures": []}
    document = describe(replace(settings, seeds=2), {PAPER: results}, {})
    state = "1 of 2 seeds done; seed 1: 1 of 3 iterations"
    assert {row["key"]: row["state"] for row in to_json(document)["rows"]}["g"] == state
    for text in (to_markdown(document), to_latex(document)):
        assert "34.00 [1 of 2 seeds] (" in text
        assert "20.00 (" in text  # bicubic has no seeds
        assert "the others are still lacking" in text
    assert f"| G MvM | {state} |" in to_markdown(document)
    shown = io.StringIO()
    _show_plan(replace(settings, seeds=2), plan(replace(settings, seeds=2)), Console(file=shown, width=80))
    assert "1 of 3" in shown.getvalue()


def test_no_seed_is_refused(settings: Settings) -> None:
    with pytest.raises(ReproductionError, match="at least one seed, got 0"):
        plan(replace(settings, seeds=0))


def test_a_command_in_a_process_of_its_own_returns_its_status() -> None:
    assert launch_process([sys.executable, "-c", "raise SystemExit(7)"]) == 7


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_reaches_the_training_and_its_end_is_waited_for(name: str, tmp_path: Path) -> None:
    child = (
        f"import signal, sys, time; signal.signal(signal.{name}, lambda n, _: (print('saved'), sys.exit(128 + n))); "
        f"open({str(tmp_path / 'ready')!r}, 'w'); time.sleep(60)"
    )
    parent = (
        "import sys; from mvmsr.reproduction.launch import launch_process; "
        f"sys.exit(launch_process([sys.executable, '-c', {child!r}]))"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    printed, _ = process.communicate(timeout=60)
    assert (process.returncode, printed) == (128 + getattr(signal, name), "saved\n")


def test_a_run_from_before_an_option_that_is_off_is_no_other_run(settings: Settings, launch) -> None:
    (run,) = plan(replace(settings, only=("b",), overrides=(*settings.overrides, "network_g.num_block=1")))
    assert launch(run.command(sys.executable)) == 0
    kept = run.folder / "options.yml"
    options = yaml.safe_load(kept.read_text(encoding="utf-8"))
    assert options["train"].pop("shard_generator") is False
    kept.write_text(yaml.safe_dump(options), encoding="utf-8")
    assert changed_options(run) == []
    options["train"].pop("total_iter")  # not off: something else was trained
    kept.write_text(yaml.safe_dump(options), encoding="utf-8")
    assert changed_options(run) == ["train.total_iter"]
