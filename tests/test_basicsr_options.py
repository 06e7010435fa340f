"""Options files of BasicSR 1.4 (keys as in its MSRResNet, MSRGAN and ESRGAN files) are read, and train."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
from pathlib import Path

import pytest

from mvmsr.config import OptionsError, load
from mvmsr.config.load import validate
from mvmsr.config.yaml_source import Source, read_yaml, write_yaml

FOLDER = Path(__file__).parent / "basicsr_options"
FILES = {name: FOLDER / f"train_{name}_x4.yml" for name in ("MSRResNet", "MSRGAN", "ESRGAN")}
GAN_FILES = ("MSRGAN", "ESRGAN")
needs_basicsr = pytest.mark.skipif(
    importlib.util.find_spec("basicsr") is None,
    reason="RRDBNet and VGGStyleDiscriminator are BasicSR's: pip install basicsr",
)


def test_msrresnet():
    options = load(FILES["MSRResNet"])
    assert options.name == "001_MSRResNet_x4_f64b16_DIV2K_1000k_B16G1_wandb"
    assert options.network_g.args == {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 64, "num_block": 16, "upscale": 4}
    train = options.datasets.train
    assert (train.type, train.name, train.batch_size_per_gpu) == ("PairedImageDataset", "DIV2K", 16)
    assert train.dataset_enlarge_ratio == 100
    assert train.args == {
        "dataroot_gt": "datasets/DIV2K/DIV2K_train_HR_sub",
        "dataroot_lq": "datasets/DIV2K/DIV2K_train_LR_bicubic/X4_sub",
        "meta_info_file": "basicsr/data/meta_info/meta_info_DIV2K800sub_GT.txt",
        "filename_tmpl": "{}",
        "gt_size": 128,
        "use_hflip": True,
        "use_rot": True,
    }
    assert [(val.name, val.dataroot_lq) for val in options.datasets.val] == [
        ("Set5", "datasets/Set5/LRbicx4"),
        ("Set14", "datasets/Set14/LRbicx4"),
    ]
    assert (options.train.total_iter, options.train.warmup_iter, options.train.ema_decay) == (1_000_000, -1, 0.999)
    assert options.train.optim_g.lr == 2e-4
    assert options.train.optim_g.args == {"weight_decay": 0, "betas": (0.9, 0.99)}
    assert options.train.scheduler.type == "CosineAnnealingRestartLR"
    assert options.train.scheduler.args == {
        "periods": (250_000,) * 4,
        "restart_weights": (1, 1, 1, 1),
        "eta_min": 1e-7,
    }
    assert options.train.terms["pixel"].args == {"loss_weight": 1.0, "reduction": "mean"}
    assert (options.val.val_freq, options.val.metrics) == (5000, ("psnr", "ssim"))
    assert (options.val.protocol, options.val.crop_border) == ("rgb", 4)
    assert options.logger.save_checkpoint_freq == 5000
    assert options.path.pretrain_network_g is None


@pytest.mark.parametrize("name", GAN_FILES)
def test_gans(name):
    options = load(FILES[name])
    assert options.train.total_iter == 400_000
    assert options.train.scheduler.type == "MultiStepLR"
    assert options.train.scheduler.args == {"milestones": (50_000, 100_000, 200_000, 300_000), "gamma": 0.5}
    assert options.network_d.type == "VGGStyleDiscriminator"
    assert list(options.train.terms) == ["pixel", "perceptual", "gan"]
    assert options.train.terms["perceptual"].args["layer_weights"] == {"conv5_4": 1}
    assert (options.train.net_d_iters, options.train.net_d_init_iters) == (1, 0)
    gan = options.train.terms["gan"].args
    assert gan.pop("loss_weight") == 5e-3
    labels = {"real_label_val": 1.0, "fake_label_val": 0.0}
    if name == "ESRGAN":  # relativistic by BasicSR's model, which says so nowhere in the file
        assert gan == {"gan_type": "relativistic", "relativistic_reduction": "mean", **labels}
        assert options.train.ema_decay == 0
    else:
        assert gan == {"gan_type": "vanilla", **labels}


@pytest.mark.parametrize("name", FILES)
def test_what_is_ignored_is_said_once(name, caplog):
    with caplog.at_level(logging.INFO, logger="mvmsr"):
        load(FILES[name])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    said, _, keys = record.getMessage().partition(": ")
    assert "ignored" in said
    expected = {"num_gpu", "dist_params", "datasets.train.io_backend", "datasets.train.num_worker_per_gpu"}
    expected |= {"datasets.val.io_backend", "logger.wandb"}
    expected |= {"MSRResNet": {"datasets.val_2.io_backend"}, "ESRGAN": set()}.get(name, {"datasets.train.use_shuffle"})
    assert sorted(keys.split(", ")) == sorted(expected)


def test_nothing_is_said_where_nothing_is_ignored(caplog):
    with caplog.at_level(logging.INFO, logger="mvmsr"):
        options = translated(datasets={"train": {"prefetch_mode": None}}, path={"resume_state": None})
    assert options.path.param_key_g == "params"
    assert not caplog.records


def translated(**values):
    """Options from a minimal BasicSR file with these sections merged in."""
    plain = {
        "name": "x",
        "model_type": "SRModel",
        "datasets": {"train": {"dataroot_gt": "a"}},
        "network_g": {"type": "MSRResNet"},
        "train": {"total_iter": 5, "pixel_opt": {"type": "L1Loss"}},
    }
    for key, value in values.items():
        plain[key] = {**plain[key], **value} if isinstance(value, dict) and key in plain else value
    return validate(plain, Source("o.yml"))


def test_the_values_given_are_left_as_they_are():
    values = {
        "name": "x",
        "model_type": "ESRGANModel",
        "num_gpu": 0,
        "datasets": {"train": {"dataroot_gt": "a", "phase": "train"}, "val": {"name": "v", "phase": "val"}},
        "network_g": {"type": "MSRResNet"},
        "path": {"resume_state": None},
        "train": {"total_iter": 5, "gan_opt": {"type": "GANLoss", "gan_type": "vanilla"}},
        "val": {"metrics": {"psnr": PSNR}, "pbar": False},
    }
    before = copy.deepcopy(values)
    assert validate(values, Source("o.yml")).train.terms["gan"].args["gan_type"] == "relativistic"
    assert values == before


def test_swinirs_model_is_the_plain_one():
    assert translated(model_type="SwinIRModel").network_g == translated().network_g


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (None, "params"),
        ({}, "params"),
        ({"param_key_g": None}, "params"),
        ({"param_key_g": "params_ema"}, "params_ema"),
    ],
)
def test_the_state_in_a_weights_file_is_the_one_basicsr_takes(path, key):
    assert translated(path=path).path.param_key_g == key
    assert translated(path=path, model_type=None).path.param_key_g == (path or {}).get("param_key_g", None) or "params"


def test_no_gpu_means_the_processor():
    assert translated(num_gpu=0).device == "cpu"
    assert translated(num_gpu=0, device="cuda").device == "cuda"
    assert translated(num_gpu="auto").device == "auto"


PSNR = {"type": "calculate_psnr", "crop_border": 4, "test_y_channel": True, "better": "higher"}
SSIM = {"type": "calculate_ssim", "crop_border": 4, "test_y_channel": True}
RGB_PSNR = {**PSNR, "test_y_channel": False}
Y_FLOAT_CROP4 = ("psnr_y_float_crop4", "ssim_y_float_crop4")
NIQE = {"type": "calculate_niqe", "crop_border": 4, "better": "lower"}


@pytest.mark.parametrize(
    ("metrics", "names", "protocol", "border"),
    [
        ({"a": PSNR, "b": SSIM}, ("psnr", "ssim"), "y_float", 4),
        ({"psnr": {**PSNR, "test_y_channel": False, "crop_border": 0}}, ("psnr",), "rgb", 0),
        ({"psnr": {"type": "calculate_psnr"}}, ("psnr",), "rgb", 0),
        ({"niqe": NIQE, "psnr": PSNR}, ("niqe_y_crop4", "psnr"), "y_float", 4),
        ({"psnr": PSNR, "niqe": {"type": "calculate_niqe"}}, ("psnr", "niqe_y"), "y_float", 4),
        ({"niqe": {**NIQE, "convert_to": "gray", "num_thread": 2}}, ("niqe_crop4",), "y", None),
        ({"psnr": PSNR, "lpips": {"type": "calculate_lpips"}}, ("psnr", "lpips"), "y_float", 4),
        ({"psnr": RGB_PSNR, "psnr_y": PSNR, "ssim": SSIM}, ("psnr", *Y_FLOAT_CROP4), "rgb", 4),
        ({"a": PSNR, "b": {**SSIM, "crop_border": 0}}, ("psnr", "ssim_y_float_crop0"), "y_float", 4),
        ({"a": PSNR, "b": {**PSNR, "better": "lower"}, "c": SSIM}, ("psnr", "ssim"), "y_float", 4),
        ({"a": NIQE, "b": NIQE}, ("niqe_y_crop4",), "y", None),
        (None, (), "y", None),
        ({}, (), "y", None),
    ],
)
def test_metrics(metrics, names, protocol, border):
    val = translated(val={"val_freq": 5e3, "metrics": metrics}).val
    assert (val.metrics, val.protocol, val.crop_border, val.val_freq) == (names, protocol, border, 5000)


def test_a_file_without_validation_has_none():
    options = translated(val=None, logger=None, path=None)
    assert options.datasets.val == ()


REFUSED = [
    (
        {"model_type": "RealESRGANModel", "gt_size": 256, "l1_gt_usm": True},
        "model_type",
        ["is for RealESRGANDataset, got 'PairedImageDataset'; to train on pairs, take SRGANModel with"],
    ),
    (
        {
            "model_type": "RealESRNetModel",
            "high_order_degradation": False,
            "datasets": {"train": {"dataroot_gt": "a", "type": "RealESRGANDataset"}},
        },
        "model_type",
        ["is for RealESRGANDataset", "take SRModel with PairedImageDataset"],
    ),
    (
        {
            "model_type": "RealESRNetModel",
            "gt_size": 128,
            "datasets": {"train": {"dataroot_gt": "a", "type": "RealESRGANDataset", "gt_size": 256}},
        },
        "gt_size",
        ["is 128, but 256 in datasets.train; keep one of them"],
    ),
    ({"model_type": "RealESRGANmodel"}, "model_type", ["mean 'RealESRGANModel'?"]),
    ({"model_type": "SRGANmodel"}, "model_type", ["Did you mean 'SRGANModel'?"]),
    ({"path": {"resume_state": "a.state"}}, "path.resume_state", [".state files cannot be", "--auto-resume"]),
    ({"path": {"models": "x"}}, "path.models", ["is unknown", "pretrain_network_g"]),
    (
        {"datasets": {"train": {"dataroot_gt": "a", "io_backend": {"type": "lmdb"}}}},
        "datasets.train.io_backend",
        ["'lmdb' storage is not read", "folders of images", "packs them"],
    ),
    (
        {"datasets": {"train": {"dataroot_gt": "a"}, "val": {"name": "v", "io_backend": {"type": "memcached"}}}},
        "datasets.val.io_backend",
        ["'memcached' storage is not read"],
    ),
    (
        {"datasets": {"train": {"dataroot_gt": "DIV2K/train_sub.lmdb/", "io_backend": {"type": "disk"}}}},
        "datasets.train.dataroot_gt",
        ["'DIV2K/train_sub.lmdb/' is an LMDB database, which is not read"],
    ),
    (
        {"datasets": {"train": {"dataroot_gt": "a"}, "val": {"name": "v", "type": "SingleImageDataset"}}},
        "datasets.val.type",
        ["'PairedImageDataset', got 'SingleImageDataset'"],
    ),
    ({"val": {"metrics": {"a": {"crop_border": 4}}}}, "val.metrics.a", ["section with a `type`", "calculate_psnr"]),
    ({"val": {"metrics": {"a": 5}}}, "val.metrics.a", ["section with a `type`", "got 5"]),
    ({"val": {"metrics": {"a": {**PSNR, "cropborder": 4}}}}, "val.metrics.a.cropborder", ["mean 'crop_border'?"]),
    ({"val": {"metrics": {"a": {**PSNR, "crop_border": -1}}}}, "val.metrics.a.crop_border", ["from 0 to 999, got -1"]),
    (
        {
            "model_type": "ESRGANModel",
            "train": {"total_iter": 5, "gan_opt": {"type": "GANLoss", "gan_type": "lsgan"}},
        },
        "train.gan_opt.gan_type",
        ["ESRGANModel is relativistic", "got 'lsgan'"],
    ),
]


@pytest.mark.parametrize(("values", "key", "parts"), REFUSED, ids=[f"{row[1]}-{row[2][0]}" for row in REFUSED])
def test_what_we_do_otherwise_is_refused(values, key, parts, caplog):
    with pytest.raises(OptionsError) as caught:
        translated(**values)
    (problem,) = caught.value.problems
    assert problem.key == key
    for part in parts:
        assert part in problem.message


# -- Real-ESRGAN's files -----------------------------------------------------------------------------------------

REALESRGAN = FOLDER / "train_RealESRGAN_x4.yml"
ITS_TOP_LEVEL = {"resize_prob", "jpeg_range", "second_blur_prob", "resize_range2", "gray_noise_prob2", "gt_size"}


def realesrnet(path: Path) -> Path:
    """Real-ESRGAN's file of its first stage, which has neither discriminator nor perceptual loss."""
    values, _ = read_yaml(REALESRGAN)
    for key in ("l1_gt_usm", "percep_gt_usm", "gan_gt_usm", "network_d"):
        del values[key]
    for key in ("optim_d", "perceptual_opt", "gan_opt", "net_d_iters", "net_d_init_iters"):
        del values["train"][key]
    path.write_text(write_yaml({**values, "model_type": "RealESRNetModel", "gt_usm": True}))
    return path


@pytest.mark.parametrize("kind", ["net", "gan"])
def test_real_esrgans_keys_go_to_its_data_set(kind, tmp_path, caplog):
    from mvmsr.data.second_order import SecondOrder, second_order

    path = REALESRGAN if kind == "gan" else realesrnet(tmp_path / "net.yml")
    with caplog.at_level(logging.INFO, logger="mvmsr"):
        options = load(path, ["gray_noise_prob2=0.3"])
    train = options.datasets.train
    assert (train.type, train.gt_size, train.batch_size_per_gpu) == ("RealESRGANDataset", 64, 2)
    assert train.args["meta_info_file"] == "datasets/DF2K/meta_info/meta_info_DF2Kmultiscale+OST_sub.txt"
    assert set(train.args) >= ITS_TOP_LEVEL
    assert train.args["gt_usm"] is True
    assert second_order(train.args).second.gray_noise_prob == 0.3
    assert second_order({**train.args, "gray_noise_prob2": 0.4}) == SecondOrder()
    ignored, *said = sorted((record.getMessage() for record in caplog.records), key=lambda m: "ignored" not in m)
    assert "queue_size" in ignored
    if kind == "net":
        assert not said
        return
    (mixed,) = said
    assert mixed.startswith("l1_gt_usm: true, percep_gt_usm: true, gan_gt_usm: false: here all loss terms, the disc")
    assert "see the same ground truth, sharpened as l1_gt_usm says" in mixed


@pytest.mark.parametrize(
    ("l1", "percep", "gan", "warned", "sharpened"),
    [
        (True, True, True, False, True),
        (None, None, None, False, True),
        (False, True, True, True, False),
        (True, False, True, True, True),
        (False, False, False, True, False),
    ],
)
def test_one_ground_truth_is_for_all(l1, percep, gan, warned, sharpened, caplog):
    usm = {"l1_gt_usm": l1, "percep_gt_usm": percep, "gan_gt_usm": gan}
    dataset = {"dataroot_gt": "a", "type": "RealESRGANDataset"}
    options = translated(model_type="RealESRGANModel", datasets={"train": dataset}, **usm)
    assert options.datasets.train.args["gt_usm"] is sharpened
    assert bool(caplog.records) is warned
    assert ("plain as l1_gt_usm says" in caplog.text) == (warned and not sharpened)


def test_a_moved_key_is_named_with_its_line():
    from mvmsr.engine.check import check

    line = REALESRGAN.read_text().splitlines().index("resize_range2: [0.3, 1.2]") + 1
    assert load(REALESRGAN).problem(("datasets", "train", "resize_range2"), "").where == f"{REALESRGAN}:{line}"
    dataset = {"dataroot_gt": "a", "type": "RealESRGANDataset"}
    wrong = translated(model_type="RealESRNetModel", datasets={"train": dataset}, jpeg_range=(90, 30))
    with pytest.raises(OptionsError, match=r"datasets\.train\.jpeg_range: jpeg_range must be"):
        check(wrong)


def test_a_loss_that_real_esrgan_does_use_is_not_ignored():
    dataset = {"dataroot_gt": "a", "type": "RealESRGANDataset"}
    train = {"ldl_opt": {"type": "LDLLoss"}}
    options = translated(model_type="RealESRGANModel", datasets={"train": dataset}, train=train)
    assert list(options.train.terms) == ["pixel", "ldl"]


@needs_basicsr
@pytest.mark.parametrize("kind", ["net", "gan"])
def test_real_esrgans_files_train(kind, pictures, tmp_path):
    from typer.testing import CliRunner

    from mvmsr.cli import app
    from mvmsr.engine.loop import train

    path = REALESRGAN if kind == "gan" else realesrnet(tmp_path / "net.yml")
    changes = [
        *(f"datasets.train.dataroot_gt={pictures / 'gt'}", f"datasets.train.meta_info={pictures / 'meta.txt'}"),
        *(f"datasets.train.cache_dir={tmp_path / 'cache'}", f"path.experiments_root={tmp_path / 'runs'}"),
        *("train.total_iter=10", "device=cpu", "logger.print_freq=5", "logger.use_tb_logger=false"),
    ]
    if kind == "gan":
        changes.append("train.perceptual_opt=null")
    sets = [part for change in changes for part in ("--set", change)]
    dry = CliRunner().invoke(app, ["train", "-opt", str(path), "--dry-run", *sets], env={"COLUMNS": "200"})
    assert dry.exit_code == 0, dry.output
    assert "Options are valid" in dry.output
    run = train(load(path, changes))
    last = json.loads(run.stats.read_text().splitlines()[-1])
    assert last["iter"] == 10
    assert ("loss_d/gan" in last) == (kind == "gan")
    assert load(run.root / "options.yml").datasets.train == load(path, changes).datasets.train


# -- Training, with everything made small ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Three pairs of 128x128 and 32x32 pictures in folders as BasicSR's, and a meta_info file that names two."""
    import numpy as np

    from mvmsr.data.image_io import write_rgb
    from mvmsr.data.imresize import imresize

    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:128, :128]
    for number in range(3):
        wave = 127 + 100 * np.sin(x / rng.uniform(3, 9) + y / rng.uniform(3, 9))
        gt = np.stack([wave, wave.T, 255 - wave], axis=2).astype(np.uint8)
        write_rgb(root / "gt" / f"{number:04d}.png", gt)
        write_rgb(root / "lq" / f"{number:04d}x4.png", imresize(gt, scale=1 / 4))
    (root / "meta.txt").write_text("0000.png (128,128,3)\n0002.png (128,128,3)\n")
    return root


@pytest.fixture
def weights_dir(tmp_path, monkeypatch) -> Path:
    """Where VGG weights are sought; nothing lies there yet."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("MVMSR_WEIGHTS_DIR", str(folder))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return folder


def shrunk(name: str, pictures: Path, tmp_path: Path, *more: str):
    """The options of that file with small networks, two iterations, and the made pictures."""
    options = [
        *(f"datasets.{key}.dataroot_gt={pictures / 'gt'}" for key in ("train", "val")),
        *(f"datasets.{key}.dataroot_lq={pictures / 'lq'}" for key in ("train", "val")),
        *("datasets.train.batch_size_per_gpu=2", "datasets.train.filename_tmpl='{}x4'", "datasets.val_2=null"),
        *(f"datasets.train.cache_dir={tmp_path / 'cache'}", f"path.experiments_root={tmp_path / 'runs'}"),
        *("network_g.num_feat=4", "network_g.num_block=1", "train.total_iter=2", "device=cpu"),
        *("val.val_freq=!!float 2", "logger.print_freq=1", "logger.use_tb_logger=false"),
    ]
    if name in GAN_FILES:
        options += ["network_d.num_feat=4", "train.perceptual_opt.layer_weights={conv1_2: 1}"]
    if name == "ESRGAN":
        options += ["network_g.num_grow_ch=4", "precision=bf16-mixed"]  # in which layouts other than BasicSR's tempt
    if name == "MSRResNet":
        options += [f"datasets.train.meta_info_file={pictures / 'meta.txt'}"]
    return load(FILES[name], [*options, *more])


def make_vgg(folder: Path) -> None:
    """A file with the first two convolutions of a VGG19 nobody trained, under torchvision's names."""
    import torch

    torch.manual_seed(0)
    shapes = {"0.weight": (64, 3, 3, 3), "0.bias": (64,), "2.weight": (64, 64, 3, 3), "2.bias": (64,)}
    state = {f"features.{name}": 0.05 * torch.randn(shape) for name, shape in shapes.items()}
    torch.save(state, folder / "vgg19-dcbb9e9d.pth")


@pytest.mark.parametrize("name", ["MSRResNet", *(pytest.param(name, marks=needs_basicsr) for name in GAN_FILES)])
def test_they_train(name, pictures, weights_dir, tmp_path):
    from mvmsr.engine.loop import train
    from mvmsr.inference.weights import read_info

    make_vgg(weights_dir)
    run = train(shrunk(name, pictures, tmp_path))
    records = [json.loads(line) for line in run.stats.read_text().splitlines()]
    assert max(record["iter"] for record in records) == 2
    logged = set().union(*records)
    assert "val/Set5/psnr" in logged if name == "MSRResNet" else "val/Set14/psnr" in logged
    for term in ("pixel", "perceptual", "gan") if name in GAN_FILES else ("pixel",):
        assert any(term in key for key in logged), logged
    (best,) = run.weights.glob("*_g_best.safetensors")
    info = read_info(best)
    assert (info.arch, info.scale) == ("RRDBNet" if name == "ESRGAN" else "MSRResNet", 4)
    assert info.extra["averaged"] == ("false" if name == "ESRGAN" else "true")
    saved = list(run.samples.glob("00000002/Set14/*.png"))
    assert len(saved) == (3 if name in GAN_FILES else 0)  # val.save_img
    again = load(run.root / "options.yml")
    assert again == shrunk(name, pictures, tmp_path)


def test_validation_without_metrics_makes_pictures(pictures, tmp_path):
    from mvmsr.engine.loop import train

    run = train(shrunk("MSRResNet", pictures, tmp_path, "val.metrics=~", "val.save_img=true", "train.total_iter=1"))
    assert len(list(run.samples.glob("00000001/Set5/*.png"))) == 3
    assert not any(key.startswith("val/") for key in json.loads(run.stats.read_text().splitlines()[-1]))


@needs_basicsr
@pytest.mark.parametrize("name", GAN_FILES)
def test_missing_vgg_weights_are_said_before_any_work(name, pictures, weights_dir, tmp_path):
    from mvmsr.engine.loop import train

    with pytest.raises(OptionsError) as caught:
        train(shrunk(name, pictures, tmp_path))
    (problem,) = caught.value.problems
    assert problem.key == "train.perceptual_opt"
    assert problem.where.startswith(f"{FILES[name]}:")
    assert str(weights_dir / "vgg19-dcbb9e9d.pth") in problem.message
    assert "Remedy: `mvmsr doctor --fetch vgg19`" in problem.message
    assert "$MVMSR_WEIGHTS_DIR" in problem.message
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "cache").exists()


def test_a_loss_that_basicsr_builds_and_never_uses_is_ignored(caplog):
    train = {"ldl_opt": {"type": "L1Loss", "loss_weight": 1.0}}
    with caplog.at_level(logging.WARNING, logger="mvmsr"):
        options = translated(model_type="SRGANModel", train=train)
    assert list(options.train.terms) == ["pixel"]
    assert "train.ldl_opt" in caplog.text
    assert list(translated(model_type=None, train=train).train.terms) == ["pixel", "ldl"]


def test_its_test_options_are_answered_with_a_command(tmp_path):
    from mvmsr.benchmark.plan import PlanError, load_plan

    path = tmp_path / "test.yml"
    path.write_text(
        "name: x\nmodel_type: SRModel\nscale: 4\n"
        "datasets: {test_1: {name: Set5, dataroot_gt: d/Set5/GTmod12}, test_2: {dataroot_gt: d/Set14}}\n"
        "path: {pretrain_network_g: a.pth}\n"
        "val: {metrics: {psnr: {type: calculate_psnr, crop_border: 4, test_y_channel: true}}}\n"
    )
    command = "mvmsr test --method a.pth --set-names d/Set5/GTmod12 d/Set14 --scale 4 --metrics psnr --protocol y_float"
    with pytest.raises(PlanError, match="these are BasicSR's options") as caught:
        load_plan(path)
    assert command in str(caught.value)


def test_its_test_options_with_low_quality_files_are_answered_with_a_command_for_each_set(tmp_path):
    from mvmsr.benchmark.plan import PlanError, load_plan

    path = tmp_path / "test.yml"
    path.write_text(
        "name: x\nmodel_type: SRModel\nscale: 4\npath: {pretrain_network_g: a.pth}\n"
        "datasets:\n"
        "  test_1: {name: Set5, dataroot_gt: d/Set5/GTmod12, dataroot_lq: d/Set5/LRbicx4}\n"
        "  test_2: {name: Set14, dataroot_gt: d/Set14/GTmod12, dataroot_lq: d/Set14/LRbicx4}\n"
        "  test_3: {dataroot_gt: d/BSD100}\n"
    )
    with pytest.raises(PlanError) as caught:
        load_plan(path)
    assert str(caught.value).splitlines()[1:] == [
        "  mvmsr test --method a.pth --set-names d/Set5/GTmod12 --lq d/Set5/LRbicx4 --scale 4",
        "  mvmsr test --method a.pth --set-names d/Set14/GTmod12 --lq d/Set14/LRbicx4 --scale 4",
        "  mvmsr test --method a.pth --set-names d/BSD100 --scale 4",
    ]
