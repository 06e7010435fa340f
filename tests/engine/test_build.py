"""Options become the objects that they describe."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import differences, tiny_options

from mvmsr.config import OptionsError
from mvmsr.engine.build import build, build_batches
from mvmsr.engine.compiling import compiles, compiles_metric_net
from mvmsr.engine.distributed import ALONE
from mvmsr.engine.optimizers import schedule_misfits
from mvmsr.inference.weights import BUILTIN_DIR, load_state, read_info, save_weights


def test_every_network_has_its_own_optimizer_and_objective(pictures: Path, tmp_path: Path) -> None:
    changes = {"train.optim_m": {"type": "AdamW", "lr": 0.25, "weight_decay": 0.125}, "train.ema_decay": 0.9}
    experiment = build(tiny_options(tmp_path, pictures, "GDM", changes))
    assert list(experiment.players) == ["generator", "discriminator", "metric_net"]
    terms = {name: [term.name for term in player.terms] for name, player in experiment.players.items()}
    assert terms == {
        "generator": ["pixel", "gan", "pair", "manifold"],
        "discriminator": ["gan"],
        "metric_net": ["triplet"],
    }
    for name, player in experiment.players.items():
        assert {id(p) for p in player.parameters} == {id(p) for p in experiment.modules[name].parameters()}
    optimizer = experiment.players["metric_net"].optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (0.25, 0.125)
    assert experiment.eval_generator is experiment.ema
    assert build(tiny_options(tmp_path, pictures)).eval_generator is not None


def test_the_seed_decides_the_weights(pictures: Path, tmp_path: Path) -> None:
    def weights(seed: int) -> dict[str, Any]:
        torch.rand(3)  # whatever was drawn before
        modules = build(tiny_options(tmp_path, pictures, "GDM", {"manual_seed": seed})).modules
        return {name: module.state_dict() for name, module in modules.items()}

    assert differences(weights(1), weights(1)) == []
    assert differences(weights(1), weights(2)) != []


def test_batch_sizes_and_scale_reach_the_data(pictures: Path, tmp_path: Path) -> None:
    batch = build_batches(tiny_options(tmp_path, pictures, changes={"datasets.train.batch_size_per_gpu": 3})).batch(0)
    assert batch.lq.shape == (3, 3, 4, 4)
    assert batch.gt.shape == (3, 3, 16, 16)


@pytest.mark.parametrize(
    ("networks", "changes", "said"),
    [
        (
            "GM",
            {"train.match_after_iter": 3},
            "train.match_after_iter: 3 is not below total_iter 3, so the terms under",
        ),
        ("GM", {"train.match_after_iter": 2}, None),
        ("G", {"train.match_after_iter": 9}, None),
        ("GD", {"train.net_d_init_iters": 9}, "train.net_d_init_iters: 9 is not below total_iter 3, so the generator"),
        ("GD", {"train.net_d_init_iters": 2}, None),
    ],
)
def test_delays_that_a_run_never_gets_over_are_named(
    pictures: Path, tmp_path: Path, networks: str, changes: dict[str, Any], said: str | None
) -> None:
    options = tiny_options(tmp_path, pictures, networks, {"train.total_iter": 3, **changes})
    found = [str(problem) for problem in schedule_misfits(options)]
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


@pytest.mark.parametrize(("processors", "several"), [(2, True), (1, False)])
def test_crops_that_take_long_are_made_by_several_threads(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int, several: bool
) -> None:
    monkeypatch.setattr("mvmsr.engine.build.usable_processors", lambda: processors)
    batches = build_batches(tiny_options(tmp_path, pictures, changes={"datasets.train.type": "RealESRGANDataset"}))
    original, makers = batches.dataset.crop_views, set()

    def watched(*arguments: Any) -> Any:
        makers.add(threading.current_thread().name)
        return original(*arguments)

    monkeypatch.setattr(batches.dataset, "crop_views", watched)
    next(batches.iterate(0))
    assert all(name.startswith("mvmsr-crops") == several for name in makers)


@pytest.fixture
def weights(pictures: Path, tmp_path: Path) -> Path:
    """Weights of a tiny generator drawn from another seed."""
    state = build(tiny_options(tmp_path, pictures, changes={"manual_seed": 9})).modules["generator"].state_dict()
    path = tmp_path / "other.safetensors"
    save_weights(path, state, "SRResNet", {"num_feat": 8, "num_block": 1, "upscale": 4}, 4)
    assert read_info(path).arch == "SRResNet"
    return path


def test_pretrained_weights_are_taken_up(
    weights: Path, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = build(tiny_options(tmp_path, pictures, changes={"manual_seed": 9})).modules["generator"].state_dict()
    changes = {"path.pretrain_network_g": str(weights), "train.ema_decay": 0.9}
    with caplog.at_level(logging.INFO):
        experiment = build(tiny_options(tmp_path, pictures, changes=changes))
    assert differences(dict(experiment.modules["generator"].state_dict()), dict(expected)) == []
    assert experiment.ema is not None
    assert differences(dict(experiment.ema.state_dict()), dict(expected)) == []  # where the average begins
    assert f"Loaded generator from {weights}" in caplog.text


def test_training_can_begin_from_a_built_in_model_or_a_run(weights: Path, pictures: Path, tmp_path: Path) -> None:
    srresnet = {"type": "SRResNet", "num_feat": 64, "num_block": 16, "bn": False, "global_skip": "bicubic"}
    builtin: dict[str, Any] = {"path.pretrain_network_g": "psnr", "network_g": srresnet}
    run = {"path.pretrain_network_g": str(weights.parent)}
    for changes, file in ((builtin, BUILTIN_DIR / "psnr.safetensors"), (run, weights)):
        state = build(tiny_options(tmp_path, pictures, changes=changes)).modules["generator"].state_dict()
        for name, expected in load_state(file).items():  # built-in ones are float16
            assert torch.equal(state[name], expected.to(state[name].dtype)), name


def test_training_can_begin_from_a_run_by_its_name(weights: Path, pictures: Path, tmp_path: Path) -> None:
    place = tmp_path / "before" / "weights" / "before_g_best.safetensors"
    place.parent.mkdir(parents=True)
    weights.rename(place)
    options = tiny_options(tmp_path, pictures, changes={"path.pretrain_network_g": "before"})
    state = build(options).modules["generator"].state_dict()
    for name, expected in load_state(place).items():
        assert torch.equal(state[name], expected), name


def test_pretrained_weights_that_are_not_there(pictures: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"path.pretrain_network_g": "psnrr"}
    with pytest.raises(OptionsError, match=r"path.pretrain_network_g: psnrr: neither a file.*Did you mean 'psnr'"):
        build(tiny_options(tmp_path, pictures, changes=changes))


def test_pretrained_weights_that_do_not_fit(weights: Path, pictures: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"path.pretrain_network_g": str(weights), "network_g.num_feat": 4}
    expected = (
        r"path\.pretrain_network_g: .*other\.safetensors does not fit SRResNet: (\d+) of \d+ entries differ, the first "
        r"being \S+: \(8, 3, 9, 9\) in the file, \(4, 3, 9, 9\) in the network\. Give network_g .*strict_load_g: false"
    )
    with pytest.raises(OptionsError, match=expected) as caught:
        build(tiny_options(tmp_path, pictures, changes=changes))
    assert "\n" not in str(caught.value)


def test_weights_with_more_than_the_network_has(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = dict(build(tiny_options(tmp_path, pictures)).modules["generator"].state_dict())
    path = tmp_path / "more.pth"
    torch.save({"params": {**state, "more": torch.zeros(1)}}, path)
    changes = {"path.pretrain_network_g": str(path)}
    with pytest.raises(OptionsError, match=r"path.pretrain_network_g: .*more.pth does not fit SRResNet: "):
        build(tiny_options(tmp_path, pictures, changes=changes))
    with caplog.at_level(logging.INFO):
        build(tiny_options(tmp_path, pictures, changes={**changes, "path.strict_load_g": False}))
    count = len(state)
    assert f"Loaded generator from {path}: {count} of its {count} tensors; 1 of the file not used (more)" in caplog.text


def test_weights_of_other_shapes_are_left_out_unless_all_must_fit(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = dict(build(tiny_options(tmp_path, pictures)).modules["generator"].state_dict())
    first, *_, last = (name for name, value in given.items() if value.ndim == 4)
    path = tmp_path / "resized.pth"
    filled = {name: torch.full_like(value, 0.5) for name, value in given.items()}
    torch.save({"params": {**filled, last: torch.zeros(2, *given[last].shape[1:])}}, path)
    changes = {"path.pretrain_network_g": str(path)}
    with pytest.raises(OptionsError, match=r"resized.pth does not fit SRResNet: "):
        build(tiny_options(tmp_path, pictures, changes=changes))
    with caplog.at_level(logging.INFO):
        loaded = build(tiny_options(tmp_path, pictures, changes={**changes, "path.strict_load_g": False}))
    assert f"left out for their shape: {last} is (2, " in caplog.text
    assert f"Loaded generator from {path}: {len(given) - 1} of its {len(given)} tensors" in caplog.text
    state = loaded.modules["generator"].state_dict()
    assert (state[first] == 0.5).all()
    assert not (state[last] == 0.5).any()


@pytest.mark.parametrize("unfit", ["names", "shapes"])
def test_weights_of_which_nothing_fits_are_refused(unfit: str, pictures: Path, tmp_path: Path) -> None:
    given = dict(build(tiny_options(tmp_path, pictures)).modules["generator"].state_dict())
    reshaped = {name: value if value.ndim == 0 else torch.zeros(3, 5, 7) for name, value in given.items()}
    assert any(value.ndim == 0 for value in given.values())  # counts of batches fit any network
    path = tmp_path / "foreign.pth"
    torch.save({"params": {f"body.{name}": v for name, v in given.items()} if unfit == "names" else reshaped}, path)
    changes: dict[str, Any] = {"path.pretrain_network_g": str(path), "path.strict_load_g": False}
    expected = r"foreign.pth does not fit SRResNet: none of its \d+ tensors can be taken up, .* entries differ.*Give "
    with pytest.raises(OptionsError, match="path.pretrain_network_g: .*" + expected):
        build(tiny_options(tmp_path, pictures, changes=changes))
    with pytest.raises(OptionsError, match="does not fit SRResNet") as caught:
        build(tiny_options(tmp_path, pictures, changes={**changes, "path.strict_load_g": True}))
    assert "strict_load_g" not in str(caught.value)  # which would not help


def test_weights_that_are_not_finite_are_refused(pictures: Path, tmp_path: Path) -> None:
    state = dict(build(tiny_options(tmp_path, pictures)).modules["generator"].state_dict())
    torch.save({**state, "conv_last.bias": torch.tensor([0.0, float("nan"), 0.0])}, tmp_path / "diverged.pth")
    changes: dict[str, Any] = {"path.pretrain_network_g": str(tmp_path / "diverged.pth")}
    with pytest.raises(OptionsError, match=r"network_g: .*diverged.pth: conv_last.bias holds .* not finite.*diverged"):
        build(tiny_options(tmp_path, pictures, changes=changes))


def test_a_misspelt_key_of_the_weights_is_named(pictures: Path, tmp_path: Path) -> None:
    state = dict(build(tiny_options(tmp_path, pictures, "GD")).modules["discriminator"].state_dict())
    path = tmp_path / "states.pth"
    torch.save({"params": state, "params_ema": state}, path)
    for part, given in (("g", "params_em"), ("d", "prams")):
        changes: dict[str, Any] = {f"path.pretrain_network_{part}": str(path), f"path.param_key_{part}": given}
        with pytest.raises(OptionsError, match=rf"path.param_key_{part}: .*no state '{given}'. Did you mean 'params"):
            build(tiny_options(tmp_path, pictures, "GD", changes))


def test_a_device_or_precision_that_is_not_here(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="precision '16-mixed' needs a GPU"):
        build(tiny_options(tmp_path, pictures, changes={"precision": "16-mixed"}))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch sees no CUDA device here"):
            build(tiny_options(tmp_path, pictures, changes={"device": "cuda"}))


@pytest.mark.parametrize(
    ("compile_option", "device", "iterations", "compilers", "expected"),
    [
        ("auto", "cuda", 10, [], True),
        ("auto", "cpu", 10, ["g++"], False),  # too short to repay the compilation
        ("auto", "cpu", 5000, ["g++"], True),
        ("auto", "cpu", 5000, [], False),
        ("auto", "mps", 5000, ["g++"], False),
        (True, "cpu", 10, [], True),
        (False, "cuda", 5000, ["g++"], False),
    ],
)
def test_when_compilation_pays(
    compile_option: bool | str,
    device: str,
    iterations: int,
    compilers: list[str],
    expected: bool,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: name if name in compilers else None)
    options = tiny_options(tmp_path, pictures, changes={"compile": compile_option, "train.total_iter": iterations})
    assert compiles(options, torch.device(device), 2_000) is expected


@pytest.mark.parametrize(
    ("networks", "changes", "device", "expected"),
    [
        ("GM", {}, "cpu", True),
        ("GM", {"train.total_iter": 5_000}, "cpu", False),  # too short to repay the compilation
        ("GM", {"train.total_iter": 5_000, "compile": True}, "cpu", True),
        ("GM", {"compile": False}, "cpu", False),
        ("GM", {"train.update": "alternating"}, "cpu", False),  # every update has a pass of its own
        ("GM", {}, "cuda", False),
        ("G", {}, "cpu", False),
    ],
)
def test_when_the_metric_network_is_compiled(
    networks: str,
    changes: dict[str, Any],
    device: str,
    expected: bool,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)
    long = {"compile": "auto", "train.total_iter": 20_000, "train.update": "simultaneous"}
    options = tiny_options(tmp_path, pictures, networks, {**long, **changes})
    assert compiles_metric_net(options, torch.device(device), ALONE) is expected


@pytest.mark.parametrize("argument", ["foreach", "differentiable"])
def test_an_optimizer_that_cannot_be_fused_is_not(argument: str, pictures: Path, tmp_path: Path) -> None:
    experiment = build(tiny_options(tmp_path, pictures, changes={f"train.optim_g.{argument}": True}))
    group = experiment.players["generator"].optimizer.param_groups[0]
    assert group[argument]
    assert not group["fused"]


def test_paths_may_begin_at_home(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    changes = {"path.pretrain_network_g": "~/g.pth", "path.experiments_root": "~/runs"}
    path = tiny_options(tmp_path, pictures, changes=changes).path
    assert (path.pretrain_network_g, path.experiments_root) == (f"{tmp_path}/g.pth", f"{tmp_path}/runs")


def test_the_discriminator_is_loaded_by_keys_of_its_own(pictures: Path, tmp_path: Path) -> None:
    state = dict(build(tiny_options(tmp_path, pictures, "GD")).modules["discriminator"].state_dict())
    first = next(iter(state))
    path = tmp_path / "judge.pth"
    partial = {name: value for name, value in state.items() if name != first}
    torch.save({"params": partial, "whole": state}, path)
    changes: dict[str, Any] = {"path.pretrain_network_d": str(path), "path.strict_load_g": False}
    with pytest.raises(OptionsError, match=r"path.pretrain_network_d: .*judge.pth does not fit SRGANDiscriminator"):
        build(tiny_options(tmp_path, pictures, "GD", changes))
    build(tiny_options(tmp_path, pictures, "GD", {**changes, "path.strict_load_d": False}))
    build(tiny_options(tmp_path, pictures, "GD", {**changes, "path.param_key_d": "whole"}))
