"""Every options file that comes with the project can be run, and says at its top what it is."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from mvmsr import config
from mvmsr.archs import VGG_LAYERS
from mvmsr.benchmark.plan import load_plan
from mvmsr.cli import app
from mvmsr.config import TrainOptions
from mvmsr.config.nmd_options import is_nmd, load_nmd
from mvmsr.data import write_rgb
from mvmsr.engine.build import build
from mvmsr.engine.check import check
from mvmsr.engine.loop import train
from mvmsr.engine.nmd_training import train_nmd
from mvmsr.inference.weights import read_info, save_weights
from mvmsr.metrics import make_protocol, metric_names
from mvmsr.registry import ARCHS, RegistryError

ROOT = Path(__file__).resolve().parents[1] / "options"
ALL = sorted([*ROOT.glob("train/*.yml"), *ROOT.glob("reproduce/**/*.yml")])
NMD_FILES = [path for path in ALL if is_nmd(path)]
TRAIN = [path for path in ALL if path not in NMD_FILES]
TEST = sorted(ROOT.glob("test/*.yml"))
HEADER = ("Reproduces", "Cost", "Expected", "Measured")
PARAMETERS = {"RDN": 22_271_107, "NSRNet": 4_959_235, "SRResNet": 1_549_462, "SRResNet without bn": 1_545_238}
SMALL = {
    "SRResNet": ["num_feat=8", "num_block=1"],
    "RDN": ["num_feat=8", "num_block=1", "num_layer=2", "num_grow_ch=4"],
    "NSRNet": ["num_feat=4", "num_layer=1"],
}
QUIET = Console(file=io.StringIO())


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


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG16, VGG19 and ST-LPIPS' trunk in files of a few kilobytes: every filter is one number."""
    folder = tmp_path_factory.mktemp("vgg")

    def fill(layers: list[str], names: list[str], path: Path) -> None:
        state, in_ch = {}, 3
        for layer, name in zip(layers, names, strict=True):
            out_ch = {"1": 64, "2": 128, "3": 256}.get(layer[4], 512)
            state[f"{name}.weight"] = torch.tensor(1 / (9 * in_ch)).expand(out_ch, in_ch, 3, 3)
            state[f"{name}.bias"] = torch.tensor(0.01).expand(out_ch)
            in_ch = out_ch
        if path.name.startswith("vgg_shift"):
            state["net.slice2.5.filt"] = torch.ones(1)
        torch.save(state, path)

    for vgg_type, filename in (("vgg16", "vgg16-397923af.pth"), ("vgg19", "vgg19-dcbb9e9d.pth")):
        numbers = [i for i, name in enumerate(VGG_LAYERS[vgg_type]) if name.startswith("conv")]
        layers = [VGG_LAYERS[vgg_type][i] for i in numbers]
        fill(layers, [f"features.{i}" for i in numbers], folder / filename)
        if vgg_type == "vgg16":
            fill(layers, [f"net.slice1.{i}" for i in numbers], folder / "vgg_shift_tolerant.pth")
    return folder


@pytest.fixture(scope="module")
def nmd_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny natural manifold discriminator."""
    path = tmp_path_factory.mktemp("nmd") / "nmd.safetensors"
    args = {"num_feat": 2}
    return save_weights(path, ARCHS.get("NMD")(**args).state_dict(), "NMD", args, scale=1)


def _overrides(path: Path, request: pytest.FixtureRequest) -> list[str]:
    """What a machine without a GPU, and without downloaded weights, needs to build the file's networks quickly."""
    overrides, text = ["device=cpu", "compile=false"], path.read_text(encoding="utf-8")
    if "type: spandrel" in text:
        overrides.append(f'network_g.path="{request.getfixturevalue("esrgan_file")}"')
    if "pretrain_network_g: experiments/" in text:  # of an earlier run
        overrides.append("path.pretrain_network_g=null")
    if "type: PerceptualLoss" in text:
        request.getfixturevalue("monkeypatch").setenv("MVMSR_WEIGHTS_DIR", str(request.getfixturevalue("weights_dir")))
    if "type: NaturalnessLoss" in text:
        overrides.append(f'train.naturalness_opt.nmd_path="{request.getfixturevalue("nmd_file")}"')
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
    if kind in PARAMETERS and not ("cpu" in path.stem and "SRResNet" not in kind):
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
    assert "Options are valid" in result.output
    assert "s per iteration on this machine" in result.output


@pytest.mark.parametrize("path", NMD_FILES, ids=_id)
def test_the_dry_run_of_a_discriminator_passes(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MVMSR_DATA_ROOT", str(tmp_path))  # which holds nothing

    def dry_run(*overrides: str) -> Result:
        sets = [part for override in ("device=cpu", *overrides) for part in ("--set", override)]
        return CliRunner().invoke(app, ["train", "-opt", str(path), "--dry-run", *sets], env={"COLUMNS": "200"})

    result = dry_run()
    assert result.exit_code == 0, result.output
    assert "Options are valid." in result.output
    assert "parameters" in result.output
    assert "no data at" in result.output
    (tmp_path / "one").mkdir()
    write_rgb(tmp_path / "one" / "a.png", np.zeros((200, 200, 3), np.uint8))
    for overrides, message in (
        (["datasets.train.dataroot_gt=one"], "1 image, of which "),
        (["datasets.train.dataroot_gt=one", "datasets.train.gt_size=208"], "datasets.train.gt_size: 1 image cannot"),
        (["device=gpu"], "device: device 'gpu' is unknown"),
    ):
        result = dry_run(*overrides)
        assert isinstance(result.exception, SystemExit), f"a traceback: {result.exception!r}"
        assert message in result.output
    assert [entry.name for entry in tmp_path.iterdir()] == ["one"], "a dry run packs nothing"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four noisy pictures."""
    folder = tmp_path_factory.mktemp("made") / "pictures"
    for number in range(4):
        picture = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        write_rgb(folder / f"{number}.png", picture)
    return folder


def _made(pictures: Path) -> list[str]:
    return [f"datasets.train.dataroot_gt={pictures}", f"datasets.train.cache_dir={pictures.parent / 'cache'}"]


REPRODUCE = [
    pytest.param(path, marks=() if "cpu" in path.parts else pytest.mark.slow, id=_id(path))
    for path in TRAIN
    if "reproduce" in path.parts
]


@pytest.mark.parametrize("path", REPRODUCE)
def test_ten_iterations_of_a_shrunken_reproduction(
    path: Path, request: pytest.FixtureRequest, pictures: Path, tmp_path: Path
) -> None:
    options = config.load(path)
    shrink = [f"network_g.{argument}" for argument in SMALL[options.network_g.type]]
    shrink += [f"network_{key}.num_feat=4" for key in "dm" if getattr(options, f"network_{key}") is not None]
    shrink += [f"datasets.{key}=null" for key in ("val", "val_2", "val_3")]
    shrink += ["datasets.train.gt_size=48", "datasets.train.batch_size_per_gpu=2", "train.total_iter=10"]
    if "perceptual" in options.train.terms:  # no deeper than this, for time's sake
        shrink.append("train.perceptual_opt.layer_weights={pool2: 1.0}")
    shrink += ["precision=32", "logger.use_tb_logger=false", f"path.experiments_root={tmp_path}"]
    shrink.append("path.pretrain_network_g=null")  # it is larger
    folder = train(config.load(path, [*_overrides(path, request), *_made(pictures), *shrink]), console=QUIET)
    (weights,) = folder.weights.glob("*.safetensors")
    assert read_info(weights).extra["iterations"] == "10"


@pytest.mark.parametrize("path", NMD_FILES, ids=_id)
def test_ten_iterations_of_a_shrunken_discriminator(path: Path, pictures: Path, tmp_path: Path) -> None:
    shrink = ["network.num_feat=2", "datasets.train.gt_size=32", "datasets.train.batch_size_per_gpu=4"]
    shrink += ["datasets.train.held_out=1", "train.total_iter=10", "train.curriculum.every=5"]
    shrink += ["train.curriculum.pictures=2", "device=cpu", "precision=32", "logger.use_tb_logger=false"]
    weights = train_nmd(load_nmd(path, [*_made(pictures), *shrink, f"path.experiments_root={tmp_path}"]), console=QUIET)
    assert read_info(weights).extra["iterations"] == "10"


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
        options: TrainOptions = config.load(ROOT / f"{name}.yml")
        return options.train.terms[loss].args["preset"]

    assert preset("reproduce/table3_srresnet_mvm_x4") == "paper"
    assert preset("train/mvm_official_srresnet_x4") == "official"


def test_the_official_metric_network_has_its_size() -> None:
    options = config.load(ROOT / "train" / "mvm_official_srresnet_x4.yml")
    assert options.network_m is not None
    network = ARCHS.get("MetricNet")(**options.network_m.args)
    assert sum(p.numel() for p in network.parameters()) == 2_935_296
    assert network(torch.zeros(2, 3, 192, 192)).shape == (2, 32)


OWN_OF_A_ROW = re.compile(
    r"name|network_[dm](\.|$)|train\.\w+_opt(\.|$)|train\.optim_[dm]\.|train\.match_after_iter|val(\.|$)"
)
"""What the rows of one table may differ in; the rest is the same, so that what they compare are the losses."""


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """The values by dotted key."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, child in value.items() for k, v in _flat(child, f"{prefix}.{key}" if prefix else key).items()}


def _rows() -> dict[tuple[str, str], list[Path]]:
    """The files of each table and backbone (table 5 has one) on each budget."""
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted((ROOT / "reproduce").rglob("table*.yml")):
        table, backbone, *_ = path.stem.split("_")
        found.setdefault((path.parent.name, table if table == "table5" else f"{table}_{backbone}"), []).append(path)
    return found


@pytest.mark.parametrize("paths", _rows().values(), ids=["-".join(key) for key in _rows()])
def test_the_rows_of_a_table_differ_in_their_losses_alone(paths: list[Path]) -> None:
    assert len(paths) >= 2
    common = []
    for path in paths:
        flat = _flat(yaml.safe_load(path.read_text(encoding="utf-8")))
        common.append({key: value for key, value in flat.items() if not OWN_OF_A_ROW.match(key)})
    for path, values in zip(paths[1:], common[1:], strict=True):
        different = {key for key in {*values, *common[0]} if values.get(key) != common[0].get(key)}
        assert not different, f"{path.name} and {paths[0].name} differ in {sorted(different)}"
