from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from mvmsr.benchmark.plan import Plan, PlanError, load_plan, make_plan
from mvmsr.benchmark.results import read_results
from mvmsr.benchmark.run import run_benchmark
from mvmsr.benchmark.writable import check_folder
from mvmsr.cli.several_values import SeveralValues, spread
from mvmsr.cli.test import command
from mvmsr.data.image_io import read_rgb, write_rgb
from mvmsr.data.imresize import imresize
from mvmsr.metrics import metric_names

app = typer.Typer()
app.command("test", cls=SeveralValues)(command)
app.command("other")(lambda: None)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["test", *arguments], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for set_name in ("A", "B"):
        for index in range(2):
            coarse = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
            write_rgb(tmp_path / "data" / set_name / f"p{index}.png", imresize(coarse, scale=4))
    return tmp_path / "data"


def test_results_and_tables_are_written(data_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, output = run(
        *("--method", "bicubic", "again=bicubic", "--set-names", "A", "B", "--metrics", "psnr", "ssim"),
        *("--data-root", str(data_root), "--out", str(out), "--json", str(tmp_path / "r.json"), "--save-images"),
        *("--device", "cpu"),
    )
    assert code == 0, output
    document = json.loads((tmp_path / "r.json").read_text())
    assert document == json.loads((out / "results.json").read_text())
    assert [(row["method"], row["set"], row["images"]) for row in document["means"]] == [
        ("bicubic", "A", 2),
        ("bicubic", "B", 2),
        ("again", "A", 2),
        ("again", "B", 2),
    ]
    assert document["means"][0]["psnr"] == document["means"][2]["psnr"]
    assert "| bicubic |" in (out / "results.md").read_text()
    assert len((out / "results.csv").read_text().splitlines()) == 9
    gt = read_rgb(data_root / "A" / "p1.png")
    saved = read_rgb(out / "images" / "bicubic" / "A" / "p1.png")
    assert np.array_equal(saved, imresize(imresize(gt, scale=0.25), scale=4))
    assert "Protocol y (luma, rounded, 4 px border cropped, x4)" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set-names", "A", "absent"), "no data at 'absent'"),
        (("--method", "bicubic", "nosuch.pth"), "unknown method 'nosuch.pth'"),
        (("--metrics", "psnr", "lpips"), "lpips was not computed: alexnet"),
    ],
)
def test_what_cannot_be_done_is_said_and_the_rest_is_done(
    arguments: tuple[str, ...],
    message: str,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("MVMSR_WEIGHTS_DIR", raising=False)
    options = tmp_path / "o.yml"
    options.write_text("sets: [A]\nmetrics: [psnr]\n")
    defaults = ("-opt", str(options), "--data-root", str(data_root), "--json", str(tmp_path / "r"))
    code, output = run(*defaults, *arguments)
    assert code == 1
    assert message in output
    assert json.loads((tmp_path / "r").read_text())["means"][0]["psnr"] > 0


def test_a_broken_picture_is_a_failure(data_root: Path) -> None:
    (data_root / "A" / "p0.png").write_bytes(b"\x89PNG broken")
    code, output = run("--set-names", "A", "--data-root", str(data_root))
    assert code == 1
    assert "failed: bicubic, A, p0" in output


def test_allow_missing(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("MVMSR_WEIGHTS_DIR", raising=False)
    code, output = run(
        "--set-names", "A", "--metrics", "psnr", "lpips", "--data-root", str(data_root), "--allow-missing"
    )
    assert code == 0
    assert "lpips was not computed" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--protocol", "yy"), "unknown protocol 'yy'"),
        (("--metrics", "pnsr"), "Did you mean 'psnr'"),
        (("--metrics", "psnr,ssim"), "separated by spaces, without commas: psnr ssim"),
        (("--method", "bicubic,mvm"), "separated by spaces, without commas: bicubic mvm"),
        (("--method", "bicubic", "--method", "bicubic"), "names 'bicubic' twice"),
        (("--metrics", "niqe_yy"), "Did you mean 'niqe_y'"),
        (("--method", ""), "methods holds an empty name"),
        (("--out", ""), "out is an empty name"),
        (("--save-images",), "save_images needs out"),
        (("--device", "abacus"), "device 'abacus' is unknown"),
        (("--lq", "maek"), "use 'make'"),
        (("--set-names", "B", "--lq", "low"), "the low-quality images of one set; name one set"),
        (("--protocol", "y_only", "--lq", "file"), "cannot take lq: file"),
    ],
)
def test_wrong_questions(arguments: tuple[str, ...], message: str, data_root: Path) -> None:
    code, output = run("--set-names", "A", "--data-root", str(data_root), *arguments)
    assert code == 2
    assert message in output


def test_options_file_and_overrides(data_root: Path, tmp_path: Path) -> None:
    options = tmp_path / "bench.yml"
    options.write_text(f"sets: [A]\nmetrics: [ssim]\nprotocol: rgb\nprecision: 32\ndata_root: {data_root}\n")
    code, output = run("-opt", str(options), "--metrics", "psnr", "--json", str(tmp_path / "r.json"))
    assert code == 0, output
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["protocol"]["name"] == "rgb"
    assert list(document["metrics"]) == ["psnr"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("protocl: y", "unknown key 'protocl'. Did you mean 'protocol'"),
        ("scale: four", "scale: expected int, got 'four'"),
        ("scale: true", "scale: expected int, got True"),
        ("sets: {a: 1}", "sets: expected a list of names"),
        ("methods: []", "methods is empty"),
        ("- bicubic", "expected a mapping of options"),
        ("a: [", "not valid YAML"),
    ],
)
def test_bad_options_files(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "o.yml").write_text(text)
    with pytest.raises(PlanError, match=f"o.yml:.* {message[:20]}") as caught:
        load_plan(tmp_path / "o.yml")
    assert message in str(caught.value)


def test_a_file_that_multiplies_itself_is_refused_in_a_few_words(tmp_path: Path) -> None:
    lines = ["methods:", "- &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"- &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    (tmp_path / "o.yml").write_text("\n".join(lines))
    with pytest.raises(PlanError, match="more than 5000 values") as caught:
        load_plan(tmp_path / "o.yml")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("arguments", [("--set-names", "Aa"), ("--method", "bicubik"), ("--method", __file__)])
def test_a_typing_error_leaves_results_as_they_are(arguments: tuple[str, ...], data_root: Path, tmp_path: Path) -> None:
    right = {"--method": "bicubic", "--set-names": "A", "--metrics": "psnr"}
    given = ("--data-root", str(data_root), "--out", str(tmp_path / "out"), "--no-report")
    assert run(*given, *(word for pair in right.items() for word in pair))[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("results.*")}
    wrong = right | {arguments[0]: arguments[1]}
    code, output = run(*given, *(word for pair in wrong.items() for word in pair))
    assert code == 2
    assert "nothing was measured, and nothing written" in output
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("results.*")} == before


def test_plans() -> None:
    plan = make_plan({"sets": "Set5", "out": None, "precision": 32})
    assert (plan.sets, plan.out, plan.precision) == (("Set5",), None, "32")
    assert make_plan({"protocol": "rgb"}, plan).sets == ("Set5",)


def test_the_shipped_options_file_is_valid() -> None:
    plan = load_plan(Path(__file__).parents[2] / "options/test/benchmark_x4.yml")
    assert isinstance(plan, Plan)
    assert plan.sets == ("Set5", "Set14", "BSD100", "Urban100")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--metrics", "a", "b"], ["--metrics", "a", "--metrics", "b"]),
        (["--metrics=a", "b"], ["--metrics=a", "--metrics", "b"]),
        (["--method", "a", "--method", "b"], ["--method", "a", "--method", "b"]),
        (["--method", "a", "--out", "d", "-opt", "f"], ["--method", "a", "--out", "d", "-opt", "f"]),
        (["--out", "d", "e"], ["--out", "d", "e"]),
        (["--metrics", "--out", "d"], ["--metrics", "--out", "d"]),
    ],
)
def test_spread(given: list[str], expected: list[str]) -> None:
    assert spread(given, ["--method", "--set-names", "--metrics"]) == expected


def test_stray_words_are_refused(data_root: Path) -> None:
    code, output = run("--data-root", str(data_root), "stray")
    assert code == 2
    assert "unexpected extra argument" in output.lower()


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems have no such names")
@pytest.mark.parametrize("where", ["image", "set", "method"])
def test_names_that_are_no_utf_8(where: str, data_root: Path, tmp_path: Path) -> None:
    odd, image_set, method = "caf\udce9", "A", "bicubic"
    if where == "image":
        (data_root / "A" / "p0.png").rename(data_root / "A" / f"{odd}.png")
    elif where == "set":
        image_set = odd
        (data_root / "A").rename(data_root / odd)
    else:
        method = f"{odd}=bicubic"
    out = tmp_path / "out"
    asked = ("--method", method, "x=bicubic", "--set-names", image_set, "--metrics", "psnr", "--data-root")
    for times in range(2):
        code, output = run(*asked, str(data_root), "--out", str(out), "--device", "cpu")
        assert code == 0, output
        assert ("4 of 4 images were measured before" in output) == bool(times)
    assert len(list((out / "images").rglob("*.png"))) == 4
    results = read_results(out / "results.json")
    assert any(row[where] == odd for row in results["images"])
    for name in ("results.json", "results.md", "results.csv", "results.tex", "report.html", "plots/scores_psnr.svg"):
        (out / name).read_text(encoding="utf-8")


def test_what_cannot_be_done_is_said_before_the_first_picture(data_root: Path) -> None:
    events: list[str] = []
    plan = Plan(("bicubic", "nosuch.pth"), ("A", "A,B"), ("psnr",), data_root=str(data_root), device="cpu")
    results = run_benchmark(plan, lambda done, total, what: events.append(f"{done} done"), events.append)
    first = events.index("1 done")
    assert any("nosuch.pth is left out, the rest is measured" in event for event in events[:first])
    assert any("without commas: A B" in event for event in events[:first])
    assert len(results["failures"]) == 2


def test_a_protocol_for_bicubic_alone_leaves_out_other_methods_before_the_first_picture(data_root: Path) -> None:
    said = "protocol 'y_only' resizes luma itself, so it exists for bicubic alone, not for 'B'"
    events: list[str] = []
    plan = Plan(("bicubic", f"images:{data_root / 'B'}"), ("A",), ("psnr",), "y_only", data_root=str(data_root))
    results = run_benchmark(plan, lambda done, total, what: events.append(f"{done} done"), events.append)
    assert any(said in event for event in events[: events.index("1 done")])
    assert [method["name"] for method in results["methods"]] == ["bicubic"]
    assert [failure["method"] for failure in results["failures"]] == [f"images:{data_root / 'B'}"]
    with pytest.raises(PlanError, match="nothing was measured, and nothing written, for no method can be used"):
        run_benchmark(make_plan({"methods": plan.methods[1:]}, plan))


@pytest.mark.parametrize("flag", ["--out", "--json"])
def test_where_nothing_can_be_written_nothing_is_measured(flag: str, data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, output = run("--set-names", "A", "--data-root", str(data_root), flag, str(tmp_path / "file" / "x" / "y"))
    assert code == 2
    assert f"{tmp_path / 'file'} is a file" in output
    assert "psnr" not in output


def test_folders_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_folder(tmp_path / "new" / "newer")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(PlanError, match="correct its permissions or name another folder"):
        check_folder(tmp_path / "new" / "newer")


def test_a_disk_that_is_full_half_way_is_a_message(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "partial.jsonl")

    monkeypatch.setattr("mvmsr.benchmark.journal.Journal.add_score", full)
    code, output = run("--set-names", "A", "--data-root", str(data_root), "--out", str(tmp_path / "out"))
    assert code == 1
    assert "No space left on device" in output
    assert "the same command resumes from there" in output


def test_pictures_without_a_score_are_told_with_the_cause(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    black = np.zeros((96, 192, 3), np.uint8)
    pictures = {"flat": black, "small": rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)}
    pictures["fine"] = rng.integers(0, 256, (192, 192, 3), dtype=np.uint8)
    for name, picture in pictures.items():
        write_rgb(tmp_path / "C" / f"{name}.png", picture)
    code, output = run("--set-names", str(tmp_path / "C"), "--metrics", "niqe", "--method", f"same=images:{tmp_path}")
    assert code == 0, output
    assert "niqe leaves out 1 of C (small): NIQE needs two whole blocks of 96x96 px" in output
    assert "niqe leaves out 1 of C (flat): fewer than two blocks of 96x96 px have texture" in output


def test_the_help_names_every_metric() -> None:
    _, output = run("--help")
    told = " ".join(word.strip("│ ") for word in output.split())
    for name in (*metric_names(), "pyiqa:NAME"):
        assert name.startswith("calculate_") or f"{name}," in told or f"{name};" in told or f"{name} for" in told


def test_options_of_another_command_are_told_so() -> None:
    options = Path(__file__).parents[2] / "options"
    for file, other in (("train/mvm_srresnet_x4_cpu.yml", "train"), ("train/nmd.yml", "train-nmd")):
        with pytest.raises(PlanError, match=f"these are options of `mvmsr {other}`, not of `mvmsr test`"):
            load_plan(options / file)
