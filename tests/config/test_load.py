"""From options files to frozen options, and what is said about those that cannot be used."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mvmsr.config import OptionsError, TrainOptions
from mvmsr.config.load import validate
from mvmsr.config.yaml_source import Source, parse_yaml


@pytest.mark.parametrize(
    ("written", "args"),
    [
        ("null", {"betas": (0.5, 0.999)}),
        ("{lr: 3e-4}", {"betas": (0.5, 0.999)}),
        ("{type: null}", {"betas": (0.5, 0.999)}),
        ("{type: NAdam}", {"betas": (0.5, 0.999)}),
        ("{betas: [0.9, 0.99]}", {"betas": (0.9, 0.99)}),
        ("{type: SGD, momentum: 0.9}", {"momentum": 0.9}),
    ],
)
def test_the_metric_networks_optimizer_is_faster_and_calmer_by_default(read, written, args):
    optimizer = read(f"train.optim_m={written}").train.optim_m
    assert (optimizer.lr, optimizer.args) == (3e-4, args)


def test_defaults_and_types(read):
    options = read()
    assert (options.name, options.scale, options.manual_seed) == ("small", 4, 0)
    assert (options.precision, options.channels_last, options.compile, options.device) == ("auto",) * 4
    assert options.network_g.type == "SRResNet"
    assert options.network_g.args == {"num_feat": 8}
    assert options.network_d is options.network_m is options.train.scheduler is None
    assert options.train.optim_g.lr == 1e-4
    assert options.train.optim_g.args == {"betas": (0.9, 0.99)}
    assert (options.train.optim_d.type, options.train.optim_d.lr) == ("Adam", 1e-4)
    assert (options.train.optim_m.type, options.train.optim_m.lr) == ("Adam", 3e-4)
    assert list(options.train.terms) == ["pixel"]
    assert options.datasets.train.args == {"dataroot_gt": "pictures", "gt_size": 32}
    assert options.datasets.train.gt_size == 32
    assert (options.val.samples, options.val.embedding_patches) == (4, 1024)
    assert (options.logger.print_freq, options.logger.save_checkpoint_freq, options.logger.keep_last) == (100, 5000, 3)
    assert options.datasets.train.batch_size_per_gpu == 2
    assert [val.name for val in options.datasets.val] == ["Set5"]
    assert options.val.metrics == ("psnr", "ssim")
    assert (options.val.protocol, options.val.crop_border) == ("y", None)
    assert (options.path.param_key_g, options.path.param_key_d) == ("params_ema", "params")
    assert options.path.strict_load_g is options.path.strict_load_d is True
    assert (options.train.update, options.train.accumulate, options.train.grad_clip) == ("alternating", 1, None)
    assert (options.train.warmup_iter, options.train.ema_decay) == (-1, 0.0)
    assert (options.train.net_d_iters, options.train.net_d_init_iters, options.train.match_after_iter) == (1, 0, 0)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.total_iter=4e5", 400_000),
        ("train.total_iter=!!float 5e3", 5000),
        ("train.total_iter=1_000", 1000),
        ("train.warmup_iter=-1", -1),
        ("train.ema_decay=0", 0.0),
        ("train.optim_g.lr=1", 1.0),
        ("train.grad_clip=5E-1", 0.5),
        ("train.match_after_iter=0", 0),
        ("precision=32", "32"),
        ("precision='32'", "32"),
        ("precision=bf16-mixed", "bf16-mixed"),
        ("compile=false", False),
        ("channels_last=on", True),
        ("val.crop_border=0", 0),
        ("val.metrics=[]", ()),
        ("val.metrics=~", ()),
        ("val.metrics=[lpips]", ("lpips",)),
        ("name=2024-05-01", "2024-05-01"),
        ("name=007", "007"),
        ("name=größe 2.1_b-c", "größe 2.1_b-c"),
    ],
)
def test_values_get_the_type_of_their_key(read, override, value):
    found = read(override)
    for key in override.partition("=")[0].split("."):
        found = getattr(found, key)
    assert found == value
    assert type(found) is type(value)


def test_milestones_are_iteration_counts(read):
    options = read("train.scheduler={type: MultiStepLR, milestones: [1e3, 5e3], gamma: 0.5}")
    args = options.train.scheduler.args
    assert args == {"milestones": (1000, 5000), "gamma": 0.5}
    assert [type(step) for step in args["milestones"]] == [int, int]


@pytest.mark.parametrize(
    ("override", "default"),
    [
        ("train.optim_g=null", 1e-4),
        ("train.optim_g.lr=~", 1e-4),
        ("val=null", 5000),
        ("val.val_freq=", 5000),
        ("path=null", "experiments"),
        ("logger=~", True),
        ("manual_seed=null", 0),
    ],
)
def test_null_counts_as_not_written(read, override, default):
    options = read("val.val_freq=7", "train.optim_g.lr=3", "manual_seed=9", override)
    found = {
        "train": options.train.optim_g.lr,
        "val": options.val.val_freq,
        "path": options.path.experiments_root,
        "logger": options.logger.use_tb_logger,
        "manual_seed": options.manual_seed,
    }
    assert found[override.partition("=")[0].partition(".")[0]] == default


def test_null_takes_terms_networks_and_sets_away_but_stays_an_argument(read):
    options = read(
        "network_d={type: SRGANDiscriminator}",
        "train.gan_opt={type: GANLoss}",
        "datasets.val_2={name: Set14}",
        "train.scheduler={type: CosineAnnealingLR}",
        "network_d=null",
        "train.gan_opt=null",
        "datasets.val=null",
        "train.scheduler=null",
        "network_g.bn=null",
    )
    assert options.network_d is options.train.scheduler is None
    assert list(options.train.terms) == ["pixel"]
    assert [val.name for val in options.datasets.val] == ["Set14"]
    assert options.network_g.args == {"num_feat": 8, "bn": None}


def test_overrides_come_in_order_and_add_what_is_not_there(read):
    options = read("train.pair_opt.type=PairLoss", "train.pair_opt.loss_weight=1", "train.pair_opt.loss_weight=1e-3")
    assert options.train.terms["pair"].args == {"loss_weight": 1e-3}


def test_validation_sets_take_their_name_from_their_key_if_they_say_where_they_are(read):
    options = read("datasets.val_b={dataroot_gt: a, dataroot_lq: b}", "datasets.val_2={name: X, dataroot_gt: a}")
    assert [val.name for val in options.datasets.val] == ["Set5", "val_b", "X"]


TABLE = [
    # (overrides or a line of the file to replace), where, key, parts of the message
    ("nmae=x", "--set nmae", "nmae", ["is unknown. Did you mean 'name'?", "Accepted here: name, scale, manual_seed"]),
    ("update=simultaneous", None, "update", ["is unknown. Did you mean 'train.update'?", "Accepted here: name, "]),
    ("pair_opt={type: PairLoss}", None, "pair_opt", ["is unknown. Did you mean 'train.pair_opt'?"]),
    ("batch_size_per_gpu=4", None, "batch_size_per_gpu", ["Did you mean 'datasets.train.batch_size_per_gpu'?"]),
    ("type=SRModel", None, "type", ["is unknown. Accepted here: name"]),
    ("datasets.test={name: x}", "--set datasets.test", "datasets.test", ["is unknown", "called val, val_2, ..."]),
    ("datasets.trian={}", "--set datasets.trian", "datasets.trian", ["Did you mean 'train'?"]),
    ("datasets.validation={}", "--set datasets.validation", "datasets.validation", ["is unknown", "val_2"]),
    ("datasets.val.nam=x", "--set datasets.val.nam", "datasets.val.nam", ["Did you mean 'name'?", "dataroot_lq"]),
    ("path.pretrained_network_g=x", None, "path.pretrained_network_g", ["Did you mean 'pretrain_network_g'?"]),
    ("train.totl_iter=5", None, "train.totl_iter", ["Did you mean 'total_iter'?", "Loss terms end in `_opt`."]),
    ("train.pixel={type: L1Loss}", None, "train.pixel", ["is unknown.", "Loss terms end in `_opt`."]),
    ("val.metric=[psnr]", None, "val.metric", ["Did you mean 'metrics'?", "Accepted here: val_freq, save_img"]),
    ("logger.print_frequency=5", None, "logger.print_frequency", ["Did you mean 'print_freq'?"]),
    ("train.total_iter=0", None, "train.total_iter", ["expected a number greater than 0, got 0"]),
    ("train.total_iter=-5", None, "train.total_iter", ["expected a number greater than 0, got -5"]),
    ("train.total_iter=1.5", None, "train.total_iter", ["expected a whole number, got 1.5"]),
    ("train.total_iter=true", None, "train.total_iter", ["expected a whole number, got True"]),
    ("train.total_iter=many", None, "train.total_iter", ["expected a whole number, got 'many'"]),
    ("train.total_iter=[5]", None, "train.total_iter", ["expected a whole number, got (5,)"]),
    ("train.total_iter=1e30", None, "train.total_iter", ["less than or equal to 9223372036854775807"]),
    ("train.total_iter=~", None, "train.total_iter", ["is required and missing"]),
    ("train.warmup_iter=-2", None, "train.warmup_iter", ["greater than or equal to -1, got -2"]),
    ("train.net_d_init_iters=-1", None, "train.net_d_init_iters", ["greater than or equal to 0, got -1"]),
    ("train.net_d_iters=0", None, "train.net_d_iters", ["greater than 0, got 0"]),
    ("train.accumulate=0", None, "train.accumulate", ["greater than 0, got 0"]),
    ("train.ema_decay=1", None, "train.ema_decay", ["less than 1, got 1"]),
    ("train.ema_decay=-0.1", None, "train.ema_decay", ["greater than or equal to 0, got -0.1"]),
    ("train.grad_clip=0", None, "train.grad_clip", ["greater than 0"]),
    ("train.optim_g.lr=0", None, "train.optim_g.lr", ["greater than 0, got 0"]),
    ("train.optim_g.lr=fast", None, "train.optim_g.lr", ["expected a number, got 'fast'"]),
    ("train.optim_g.lr=.inf", "--set train.optim_g.lr=.inf", "train.optim_g.lr", ["expected a finite number"]),
    ("train.optim_g=Adam", None, "train.optim_g", ["expected a section of keys and values, got 'Adam'"]),
    ("train.optim_g.type=5", None, "train.optim_g.type", ["expected text, got 5; put it in quotes"]),
    ("train.pixel_opt={loss_weight: 1}", "--set train.pixel_opt", "train.pixel_opt.type", ["required and missing"]),
    ("train.pixel_opt=[]", None, "train.pixel_opt", ["expected a section of keys and values, got ()"]),
    ("train.update=simultanous", None, "train.update", ["'alternating' or 'simultaneous'", "mean 'simultaneous'?"]),
    ("train=5", None, "train", ["expected a section of keys and values, got 5"]),
    ("train=~", None, "train", ["is required and missing"]),
    ("datasets=[a]", None, "datasets", ["expected a section of keys and values, got ('a',)"]),
    ("datasets.train=~", None, "datasets.train", ["is required and missing"]),
    ("datasets.train.batch_size_per_gpu=0", None, "datasets.train.batch_size_per_gpu", ["greater than 0, got 0"]),
    ("datasets.train.dataset_enlarge_ratio=-1", None, "datasets.train.dataset_enlarge_ratio", ["greater than 0"]),
    ("datasets.val=Set5", None, "datasets.val", ["expected a section of keys and values, got 'Set5'"]),
    ("datasets.val={}", "--set datasets.val", "datasets.val.name", ["is required and missing"]),
    ("datasets.val.type=SingleImageDataset", None, "datasets.val.type", ["'PairedImageDataset', got 'SingleImage"]),
    ("datasets.val.dataroot_lq=x", "options.yml:5", "datasets.val", ["dataroot_gt is missing", "dataroot_lq"]),
    ("datasets.val_2.dataroot_lq=x", "--set datasets.val_2.dataroot_lq", "datasets.val_2.name", ["required"]),
    ("datasets.valid.name=x", "--set datasets.valid.name", "datasets.valid", ["is unknown", "val_2"]),
    ("network_m.num_feat=8", "--set network_m.num_feat", "network_m.type", ["is required and missing"]),
    ("datasets.val_2={name: Set5}", "options.yml:3", "datasets", ["two validation sets have the name 'Set5'"]),
    ("network_g=SRResNet", None, "network_g", ["expected a section of keys and values, got 'SRResNet'"]),
    ("network_g=null", None, "network_g", ["is required and missing"]),
    ("network_m={}", "--set network_m", "network_m.type", ["is required and missing"]),
    ("network_m.norm=group", "--set network_m.norm", "network_m.type", ["is required and missing"]),
    ("train.gan_opt.loss_weight=1", "--set train.gan_opt.loss_weight", "train.gan_opt.type", ["required and missing"]),
    ("scale=0", None, "scale", ["greater than 0, got 0"]),
    ("scale=four", None, "scale", ["expected a whole number, got 'four'"]),
    ("manual_seed=-1", None, "manual_seed", ["greater than or equal to 0, got -1"]),
    ("precision=16", None, "precision", ["'auto', '32', 'bf16-mixed' or '16-mixed', got '16'"]),
    ("precision=bf16-mix", None, "precision", ["Did you mean 'bf16-mixed'?"]),
    ("precision=true", None, "precision", ["got True"]),
    ("compile=maybe", None, "compile", ["expected true or false or 'auto', got 'maybe'"]),
    ("compile=1", None, "compile", ["expected true or false or 'auto', got 1"]),
    ("channels_last=autp", None, "channels_last", ["Did you mean 'auto'?"]),
    ("device=0", None, "device", ["expected text, got 0; put it in quotes"]),
    ("val.metrics=psnr", None, "val.metrics", ["expected a list, such as [a, b], got 'psnr'"]),
    ("val.metrics=[psnr, ssim, psnr]", "--set val.metrics", "val.metrics", ["names 'psnr' twice; scores are kept by"]),
    ("val.metrics=[psnr, 5]", "--set val.metrics", "val.metrics.1", ["expected text, got 5"]),
    ("val.val_freq=0", None, "val.val_freq", ["greater than 0, got 0"]),
    ("val.save_img=5", None, "val.save_img", ["expected true or false, got 5"]),
    ("val.samples=-1", None, "val.samples", ["greater than or equal to 0"]),
    ("val.crop_border=-1", None, "val.crop_border", ["greater than or equal to 0"]),
    ("logger.print_freq=0", None, "logger.print_freq", ["greater than 0"]),
    ("logger.save_checkpoint_freq=0", None, "logger.save_checkpoint_freq", ["greater than 0"]),
    ("logger.keep_last=0", None, "logger.keep_last", ["greater than 0"]),
]


@pytest.mark.parametrize(("override", "where", "key", "parts"), TABLE, ids=[row[0] for row in TABLE])
def test_overrides_that_are_refused(read, override, where, key, parts):
    with pytest.raises(OptionsError) as caught:
        read(override)
    (problem,) = caught.value.problems
    assert problem.key == key
    assert problem.where.endswith(where or f"--set {key}")
    for part in parts:
        assert part in problem.message
    named = problem.where if problem.where == f"--set {key}" else f"{problem.where}: {key}"
    assert str(caught.value) == f"{named}: {problem.message}"


NAMES = [
    "../x",
    "/tmp/x",
    "",
    ".",
    "..",
    "a/b",
    "a\\b",
    ".hidden",
    "-x",
    "a.",
    "a ",
    " a",
    "x" * 201,
    "a\nb",
    "é" * 101,
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_would_leave_the_run_directory(small, name):
    values = parse_yaml(small, Source("o.yml"))
    values["name"] = name
    values["datasets"]["val"]["name"] = name
    with pytest.raises(OptionsError) as caught:
        validate(values, Source("o.yml"))
    assert {problem.key for problem in caught.value.problems} == {"name", "datasets.val.name"}
    assert all("expected the name of a folder, got " in problem.message for problem in caught.value.problems)


def test_every_problem_is_reported_with_its_line(read, tmp_path):
    text = """\
nam: small
scale: four
datasets:
  train: {dataroot_gt: pictures, batch_size_per_gpu: 0}
  testing: {name: Set5}
network_g:
  num_feat: 8
train:
  total_iter: -10
  optim_g:
    type: Adam
    lr: 0
  pixel: {type: L1Loss}
path:
  resume_state: some.state
val:
  metrics:
    psnr: {type: calculate_psnr, border: 4}
"""
    with pytest.raises(OptionsError) as caught:
        read(text=text)
    found = {(p.where.rpartition(":")[2], p.key) for p in caught.value.problems}
    assert found == {
        ("1", "nam"),
        (str(tmp_path / "options.yml"), "name"),
        ("2", "scale"),
        ("4", "datasets.train.batch_size_per_gpu"),
        ("5", "datasets.testing"),
        ("6", "network_g.type"),
        ("9", "train.total_iter"),
        ("12", "train.optim_g.lr"),
        ("13", "train.pixel"),
        ("15", "path.resume_state"),
        ("18", "val.metrics.psnr.border"),
    }
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert all(line.startswith(str(tmp_path / "options.yml")) for line in lines)


def test_a_missing_key_is_looked_for_in_its_section(read, small):
    with pytest.raises(OptionsError, match=r"options\.yml:9: train\.total_iter: is required and missing"):
        read(text=small.replace("  total_iter: 10\n", ""))


def test_options_are_frozen(read):
    options = read()
    for target, name in (
        (options, "name"),
        (options.train, "total_iter"),
        (options.train, "pixel_opt"),
        (options.network_g, "num_feat"),
        (options.network_g, "unheard_of"),
        (options.datasets.val[0], "name"),
        (options.val, "metrics"),
    ):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(target, name, 5)
    arguments = options.train.optim_g.args
    arguments["betas"] = 1
    assert options.train.optim_g.args == {"betas": (0.9, 0.99)}


def test_nested_arguments_are_handed_out_as_copies(read):
    options = read("train.perceptual_opt={type: PerceptualLoss, layer_weights: {conv5_4: 1}}")
    options.train.terms["perceptual"].args["layer_weights"]["conv1_1"] = 1
    assert options.train.terms["perceptual"].args == {"layer_weights": {"conv5_4": 1}}


ROUND_TRIPS = [
    (),
    ("train.grad_clip=1e-7", "train.ema_decay=0.999", "precision=32", "compile=false"),
    ("network_g.bn=null", "network_m={type: MetricNet, a: {b: null, c: [1, null, 1e-9]}}"),
    ("datasets.val=null", "val.metrics=[]", "val.crop_border=3"),
    ("datasets.val_b={dataroot_gt: a, filename_tmpl: '{}x4'}", "name='2024-05-01'"),
    ("name='010'", "device='cuda:1'", "network_g.note='yes'", "network_g.other='1:30'", "network_g.void='~'"),
    ("train.scheduler={type: MultiStepLR, milestones: [1e3], restart_weights: [1, 0.5]}",),
]


@pytest.mark.parametrize("overrides", ROUND_TRIPS, ids=str)
def test_resolved_options_mean_the_same_when_they_are_read_again(read, overrides):
    from mvmsr.engine.run_dir import as_plain

    options = read(*overrides)
    again = read(text=yaml.safe_dump(as_plain(options), sort_keys=False, allow_unicode=True))
    assert again == options
    assert as_plain(again) == as_plain(options)
    assert [val.name for val in again.datasets.val] == [val.name for val in options.datasets.val]
    assert again != read(*overrides, "manual_seed=5")


def test_the_run_directory_holds_options_that_load(read, tmp_path):
    from mvmsr.config import load
    from mvmsr.engine.run_dir import open_run_dir

    options = read(f"path.experiments_root={tmp_path}", "network_g.bn=null")
    run = open_run_dir(options, resume=False)
    assert run.root == tmp_path / "small"
    assert load(run.root / "options.yml") == options


_KEYS = st.sampled_from(
    (
        *TrainOptions.model_fields,
        *("type", "total_iter", "pixel_opt", "optim_g", "lr", "val_2", "metrics", "psnr", "crop_border", "milestones"),
        *("model_type", "io_backend", "resume_state", "gan_opt", "gan_type", "scheduler", "__class__", "args", "", "?"),
    )
)
_LEAVES = st.sampled_from(
    (
        *(None, True, 0, -1, 2**70, 0.5, 1e300, float("nan"), float("-inf"), "", "x", "auto", "../x", "x.lmdb", "lmdb"),
        *("SRModel", "ESRGANModel", "vanilla", "calculate_psnr", "Adam", "PairedImageDataset"),
    )
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=2).map(tuple) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(_KEYS, _VALUES, max_size=6))
@example({"val": {"metrics": {"psnr": {"type": "calculate_psnr", "crop_border": ({},)}, "b": {"type": "x"}}}})
@example({"model_type": {"a": ()}, "path": (), "datasets": {"train": (), "val": 5}})
@example({"model_type": "ESRGANModel", "path": 5, "train": {"gan_opt": {"gan_type": {}}}})
@example({"datasets": {"val": {"name": ()}, "val_2": {"name": {}, "dataroot_gt": ()}}})
def test_arbitrary_values_are_options_or_an_options_error(values):
    _check_values(values)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.lists(_KEYS, min_size=1, max_size=3), _VALUES), max_size=3))
def test_valid_options_with_arbitrary_changes_are_options_or_an_options_error(small, changes):
    values = parse_yaml(small, Source("o.yml"))
    for keys, value in changes:
        target = values
        for key in keys[:-1]:
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                break
        else:
            target[keys[-1]] = value
    _check_values(values)


def _check_values(values):
    before = repr(values)
    problems, options = (), None
    try:
        options = validate(values, Source("o.yml"))
    except OptionsError as error:
        problems = error.problems
    assert (options is None) == bool(problems)
    assert len({str(problem) for problem in problems}) == len(problems)
    assert repr(values) == before


def test_reading_options_leaves_torch_alone(tmp_path, small):
    (tmp_path / "o.yml").write_text(small, encoding="utf-8")
    heavy = "torch", "numpy", "basicsr", "lightning_fabric"
    program = f"""
import sys, mvmsr.config
imported = [m for m in {heavy} if m in sys.modules]
mvmsr.config.load("o.yml")
print(imported, [m for m in {heavy} if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"
