"""Every options file that comes with the project can be run, and says at its top what it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mvmsr import config
from mvmsr.benchmark.plan import load_plan
from mvmsr.cli import app
from mvmsr.config import TrainOptions
from mvmsr.config.nmd_options import is_nmd, load_nmd
from mvmsr.engine.build import build
from mvmsr.engine.check import check
from mvmsr.metrics import make_protocol, metric_names
from mvmsr.registry import ARCHS, RegistryError

ROOT = Path(__file__).resolve().parents[1] / "options"
ALL = sorted([*ROOT.glob("train/*.yml"), *ROOT.glob("reproduce/**/*.yml")])
NMD_FILES = [path for path in ALL if is_nmd(path)]
TRAIN = [path for path in ALL if path not in NMD_FILES]
TEST = sorted(ROOT.glob("test/*.yml"))
HEADER = ("Reproduces", "Cost", "Expected", "Measured")
PARAMETERS = {"RDN": 22_271_107, "NSRNet": 4_959_235, "SRResNet": 1_549_462, "SRResNet without bn": 1_545_238}


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT).with_suffix(""))


@pytest.fixture(scope="module")
def esrgan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny x4 network that spandrel recognises as ESRGAN's."""
    pytest.importorskip("spandrel")
    try:
        network = ARCHS.get("RRDBNet")
    except RegistryError:
        pytest.skip("BasicSR is not installed")
    path = tmp_path_factory.mktemp("weights") / "esrgan.pth"
    torch.save({"params_ema": network(3, 3, scale=4, num_feat=8, num_block=1).state_dict()}, path)
    return path


def _overrides(path: Path, request: pytest.FixtureRequest) -> list[str]:
    """What a machine without a GPU, and without downloaded weights, needs to build the file's networks quickly."""
    overrides = ["device=cpu", "compile=false"]
    if "type: spandrel" in path.read_text(encoding="utf-8"):
        overrides.append(f'network_g.path="{request.getfixturevalue("esrgan_file")}"')
    return overrides


def test_there_are_files() -> None:
    assert len(TRAIN) >= 10
    assert TEST


@pytest.mark.parametrize("path", ALL, ids=_id)
def test_the_opening_comment_tells_what_the_run_is_good_for(path: Path) -> None:
    header = re.match(r"(#.*\n)+", path.read_text(encoding="utf-8"))
    assert header, "the file begins without a comment"
    for word in HEADER:
        told = re.search(rf"^# {word}: *(.*)$", header[0], re.MULTILINE)
        assert told, f"the opening comment has no line `# {word}: ...`"
        assert len(told[1]) >= 10, f"`# {word}:` says nothing"


@pytest.mark.parametrize("path", TRAIN, ids=_id)
def test_a_training_file_is_valid_and_its_networks_can_be_built(path: Path, request: pytest.FixtureRequest) -> None:
    options = config.load(path, _overrides(path, request))
    assert options.name == path.stem, "runs are found by the name of their options file"
    check(options)
    experiment = build(options)
    assert experiment.modules["generator"].scale == options.scale
    kind = options.network_g.type + ("" if options.network_g.args.get("bn", True) else " without bn")
    if kind in PARAMETERS:
        assert sum(p.numel() for p in experiment.modules["generator"].parameters()) == PARAMETERS[kind]
    assert {"L1Loss"} <= {term.type for term in options.train.terms.values()}


@pytest.mark.parametrize("path", NMD_FILES, ids=_id)
def test_a_discriminators_file_is_valid(path: Path) -> None:
    options = load_nmd(path)
    assert options.name == path.stem
    assert ARCHS.get(options.network.type)(**options.network.args)


@pytest.mark.parametrize("path", TRAIN, ids=_id)
def test_validation_scores_by_metrics_and_protocols_that_exist(path: Path) -> None:
    options = config.load(path)
    assert options.datasets.val
    assert set(options.val.metrics) <= set(metric_names())
    make_protocol(options.val.protocol, options.scale)


@pytest.mark.slow
@pytest.mark.parametrize("path", TRAIN, ids=_id)
def test_the_dry_run_passes(path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT.parent)
    arguments = ["train", "-opt", str(path), "--dry-run"]
    for override in [*_overrides(path, request), "datasets.train.batch_size_per_gpu=2"]:
        arguments += ["--set", override]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "Options are valid." in result.output
    assert "s an iteration on this machine" in result.output


@pytest.mark.parametrize("path", TEST, ids=_id)
def test_a_benchmark_file_is_a_plan(path: Path) -> None:
    plan = load_plan(path)
    assert set(plan.metrics) <= set(metric_names())
    make_protocol(plan.protocol, plan.scale, plan.crop_border)
    assert plan.out, "its results would be written nowhere"
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("loss", ["manifold", "triplet"])
def test_the_paper_and_the_official_file_differ_in_their_presets(loss: str) -> None:
    def preset(name: str) -> str:
        options: TrainOptions = config.load(ROOT / "train" / f"{name}.yml")
        return options.train.terms[loss].args["preset"]

    assert preset("mvm_srresnet_x4") == "paper"
    assert preset("mvm_official_srresnet_x4") == "official"


def test_the_official_metric_network_has_its_size() -> None:
    options = config.load(ROOT / "train" / "mvm_official_srresnet_x4.yml")
    assert options.network_m is not None
    network = ARCHS.get("MetricNet")(**options.network_m.args)
    assert sum(p.numel() for p in network.parameters()) == 2_935_296
    assert network(torch.zeros(2, 3, 192, 192)).shape == (2, 32)
