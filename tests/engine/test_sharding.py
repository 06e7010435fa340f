"""A generator that is split over processes is trained as a whole one is, and its files are the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from process_groups import Gang
from rich.console import Console
from shared_gradients import BATCH, in_double, share
from test_distributed_runs import run_share, run_with_bad_term, show
from tiny_runs import assert_same_runs, comparable_stats, final_state, options_file, tiny_options
from torch import Tensor, nn

from mvmsr.config import OptionsError
from mvmsr.data.image_io import read_rgb
from mvmsr.engine.build import Experiment, build
from mvmsr.engine.checkpoint import checkpoint_dir
from mvmsr.engine.distributed_group import is_sharded
from mvmsr.engine.finite_state import non_finite_state
from mvmsr.engine.guard import FiniteGuard, NonFiniteLossError
from mvmsr.engine.iteration import run_iteration
from mvmsr.engine.logs import RunningMeans
from mvmsr.engine.loop import train
from mvmsr.engine.run import Detour
from mvmsr.engine.sharding import ELEMENTWISE, blocks, local, obstacle
from mvmsr.engine.state import collect_state, restore_state
from mvmsr.registry import ARCHS

pytestmark = pytest.mark.skipif(
    obstacle(False, "32", "Adam") is not None, reason="this PyTorch has no fully_shard as it is used here"
)

SIZES = [2, pytest.param(4, marks=pytest.mark.slow)]
RAGAN = {"type": "GANLoss", "gan_type": "relativistic", "loss_weight": 0.1}
OBJECTIVES: dict[str, tuple[str, dict[str, Any]]] = {
    "L1 and manifold matching": ("GM", {}),
    "L1 and RaGAN": ("GD", {"train.gan_opt": RAGAN}),
}
SHARDED = {"train.shard_generator": True}
ADAM = {f"train.optim_{n}": {"type": "Adam", "lr": 1e-3} for n in "gdm"}


@pytest.fixture(scope="module", params=SIZES)
def gang(request: pytest.FixtureRequest) -> Iterator[Gang]:
    """Two processes, or four."""
    processes = Gang(request.param)
    yield processes
    processes.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[Gang]:
    """Two processes."""
    processes = Gang(2)
    yield processes
    processes.close()


def _begin(folder: Path, pictures: Path, networks: str, changes: dict[str, Any]) -> Experiment:
    """A sharded experiment in float64; in one process the option means nothing."""
    all_changes = {**ADAM, **SHARDED, "train.ema_decay": 0.9, "train.grad_clip": 0.5, **changes}
    experiment = in_double(folder, pictures, networks, changes.get("train.update", "alternating"), all_changes)
    assert experiment.ema is not None
    experiment.ema.double()
    assert (experiment.sharding is not None) == (experiment.processes.size > 1)
    return experiment


def _go_on(experiment: Experiment, iterations: int) -> list[float]:
    norms = []
    for _ in range(iterations):
        parts = range(experiment.options.train.accumulate)
        values, _ = run_iteration(experiment, [share(experiment, 10 * experiment.iteration + k) for k in parts])
        norms.append(float(values["grad_norm/generator"]))
    return norms


def _state(experiment: Experiment) -> dict[str, Any]:
    return collect_state(experiment, RunningMeans(), {}, Detour(), {})


def _outcome(experiment: Experiment, norms: list[float]) -> dict[str, np.ndarray]:
    with experiment.whole_generator():
        modules = {**experiment.modules, "generator": experiment.eval_generator}
        weights = {f"{n} {k}": t.numpy().copy() for n, m in modules.items() for k, t in m.state_dict().items()}
    return {**weights, "gradient norms": np.array(norms)}


def of_iterations(folder: Path, pictures: Path) -> dict[str, dict[str, np.ndarray]]:
    """What four iterations leave, and the gradients' norms on the way."""
    found = {}
    for label, (networks, changes) in OBJECTIVES.items():
        for update in ("alternating", "simultaneous"):
            for accumulate in (1, 2):
                more = {"train.update": update, "train.accumulate": accumulate}
                experiment = _begin(folder, pictures, networks, {**changes, **more})
                with experiment.processes.running():
                    found[f"{label}, {update}, {accumulate}"] = _outcome(experiment, _go_on(experiment, 4))
    return found


def of_optimizers(folder: Path, pictures: Path) -> dict[str, dict[str, np.ndarray]]:
    """What two iterations of every optimizer leave; without clipping, and with a generator that waits for one."""
    found = {}
    for kind in ELEMENTWISE:
        changes = {
            "train.optim_g": {"type": kind, "lr": 1e-3},
            "train.grad_clip": None,
            "train.gan_opt": RAGAN,
            "train.net_d_iters": 2,
        }
        experiment = _begin(folder, pictures, "GD", changes)
        with experiment.processes.running():
            for k in range(5):
                run_iteration(experiment, [share(experiment, k)])
            found[kind] = _outcome(experiment, [])
    return found


def _assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for case, tensors in expected.items():
        assert list(found[case]) == list(tensors)
        for name, want in tensors.items():
            np.testing.assert_allclose(found[case][name], want, rtol=1e-6, atol=1e-9, err_msg=f"{case}: {name}")


def test_weights_averages_and_norms_are_those_of_one_process(gang: Gang, pictures: Path, tmp_path: Path) -> None:
    expected = of_iterations(tmp_path, pictures)
    for found in gang.run(of_iterations, tmp_path, pictures):
        _assert_same(found, expected)


def test_every_optimizer_steps_pieces_as_it_steps_wholes(pair: Gang, pictures: Path, tmp_path: Path) -> None:
    expected = of_optimizers(tmp_path, pictures)
    for found in pair.run(of_optimizers, tmp_path, pictures):
        _assert_same(found, expected)


def of_state(folder: Path, pictures: Path, begins_with: Path | None, ends_with: Path) -> dict[str, Any]:
    """Two iterations, from a state in a file or from the start; the state is left in a file."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    experiment = _begin(folder, pictures, "GM", {"datasets.train.batch_size_per_gpu": BATCH // size})
    with experiment.processes.running():
        if begins_with:
            restore_state(experiment, RunningMeans(), torch.load(begins_with, weights_only=True))
        _go_on(experiment, 2)
        state = _state(experiment)
        experiment.processes.first("writing", lambda: torch.save(state, ends_with))
        return _held(experiment)


def _held(experiment: Experiment) -> dict[str, tuple[int, int, int]]:
    """Elements of the generator that this process holds, that all hold, and for which it has memory."""
    player, module = experiment.players["generator"], experiment.modules["generator"]
    assert experiment.ema is not None
    tensors: dict[str, list[Tensor]] = {
        "weights": list(module.parameters()),
        "gradients": [p.grad for p in module.parameters() if p.grad is not None],
        "average": list(experiment.ema.parameters()),
        **{key: [s[key] for s in player.optimizer.state.values()] for key in ("exp_avg", "exp_avg_sq")},
    }
    return {
        name: (
            sum(local(t).numel() for t in some),
            sum(t.numel() for t in some),
            sum({s.data_ptr(): s.nbytes() // 8 for s in (local(t).untyped_storage() for t in some)}.values()),
        )
        for name, some in tensors.items()
    }


def _plain(state: Any, path: str = "") -> dict[str, Any]:
    """Leaves by path, with their types."""
    if isinstance(state, dict):
        return {k: v for key, value in state.items() for k, v in _plain(value, f"{path}.{key}").items()}
    if isinstance(state, (list, tuple)):
        return {k: v for key, value in enumerate(state) for k, v in _plain(value, f"{path}[{key}]").items()}
    return {path: state}


def _assert_same_states(a: dict[str, Any], b: dict[str, Any]) -> None:
    keys = ("iteration", "archs", "networks", "ema", "optimizers", "batch_size")
    mine, theirs = ({k: v for key in keys for k, v in _plain(s[key], key).items()} for s in (a, b))
    assert list(mine) == list(theirs)
    for path, value in mine.items():
        assert type(value) is type(theirs[path]), path
        if isinstance(value, Tensor):
            assert value.stride() == theirs[path].stride(), path
            torch.testing.assert_close(value, theirs[path], rtol=1e-6, atol=1e-9, msg=lambda m, p=path: f"{p}: {m}")
        else:
            assert value == theirs[path], path


def test_states_are_those_of_a_whole_generator_and_continue_either_way(
    gang: Gang, pictures: Path, tmp_path: Path
) -> None:
    size = len(gang.run(os.getpid))
    states: dict[str, Any] = {}
    for name, begins, by in (
        ("whole", None, None),
        ("whole, whole", "whole", None),
        ("split", None, gang),
        ("whole, split", "whole", gang),
        ("split, split", "split", gang),
        ("split, whole", "split", None),
    ):
        path = tmp_path / f"{name}.pt"
        args = (tmp_path, pictures, tmp_path / f"{begins}.pt" if begins else None, path)
        parts = by.run(of_state, *args) if by else [of_state(*args)]
        states[name] = torch.load(path, weights_only=True)
        for kind, (_, total, _) in parts[0].items():
            held = [part[kind][0] for part in parts]
            assert sum(held) == total > 0, kind
            if by:
                assert max(held) < 1.3 * total / size, (name, kind)
                # Padding to pieces of one size is all that is allocated beside them.
                assert max(part[kind][2] for part in parts) < 1.3 * total / size, (name, kind)
    _assert_same_states(states["split"], states["whole"])
    for name in ("whole, split", "split, split", "split, whole"):
        _assert_same_states(states[name], states["whole, whole"])


def test_one_process_with_the_option_is_unchanged(pictures: Path, tmp_path: Path) -> None:
    finals = []
    for name, changes in (("with", SHARDED), ("without", {})):
        options = tiny_options(tmp_path / name, pictures, "GM", {**changes, "train.ema_decay": 0.9})
        train(options, console=Console(quiet=True))
        finals.append(tmp_path / name / "tiny")
    assert_same_runs(*finals)


# Whole runs, in float32.


def _changes(pictures: Path, batch: int) -> dict[str, Any]:
    # Adam divides gradients that are nothing but rounding errors by their own size, and L1's jump.
    calm = {"type": "Adam", "lr": 1e-3, "eps": 1e-3}
    return {
        **SHARDED,
        "train.ema_decay": 0.9,
        "train.grad_clip": 1.0,
        **{f"train.optim_{n}": calm for n in "gm"},
        "train.pixel_opt": {"type": "MSELoss"},
        "train.triplet_opt": {"type": "DirectedTripletLoss", "triplets": "shuffle", "hinge": "softplus"},
        "datasets.train.batch_size_per_gpu": batch,
        "datasets.train.gt_size": 32,
        "datasets.val": {"name": "made", "dataroot_gt": str(pictures)},
        "val": {"val_freq": 5, "metrics": ["psnr"], "samples": 3, "embedding_patches": 4},
    }


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten iterations of one process with batches of 4."""
    root = tmp_path_factory.mktemp("whole")
    return train(tiny_options(root, pictures, "GM", _changes(pictures, 4)), console=Console(quiet=True)).root


@pytest.fixture(scope="module")
def split(pair: Gang, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of two processes with 2 pictures each."""
    root = tmp_path_factory.mktemp("split")
    assert pair.run(run_share, options_file(root, pictures, "GM", _changes(pictures, 2)), False) == ["done"] * 2
    return root / "tiny"


def _assert_close_runs(mine: Path, theirs: Path) -> None:
    a, b = final_state(mine), final_state(theirs)
    for name in ("networks", "ema", "optimizers"):
        one, other = _plain(a[name]), _plain(b[name])
        assert list(one) == list(other)
        for path, value in one.items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(value, other[path], rtol=1e-2, atol=1e-4, msg=lambda m, p=path: f"{p}: {m}")
    for record, other in zip(comparable_stats(mine), comparable_stats(theirs), strict=True):
        assert record == pytest.approx(other, rel=1e-2, abs=1e-3)


def test_a_run_with_validation_is_that_of_one_process(whole: Path, split: Path) -> None:
    _assert_close_runs(split, whole)
    for folder in ("samples", "weights", "embeddings", "checkpoints"):
        names = sorted(p.name for p in (whole / folder).iterdir())
        assert sorted(p.name for p in (split / folder).iterdir()) == names
        assert names
    for path in (whole / "samples").iterdir():
        assert abs(read_rgb(split / "samples" / path.name).astype(int) - read_rgb(path)).max() <= 1


def test_weights_files_hold_the_average(split: Path) -> None:
    from mvmsr.inference.weights import load_state

    average = final_state(split)["ema"]
    for path in (split / "weights").iterdir():
        state = load_state(path)
        assert sorted(state) == sorted(average)
    newest = load_state(sorted(p for p in (split / "weights").iterdir() if "best" not in p.name)[-1])
    assert all(torch.equal(newest[name], tensor) for name, tensor in average.items())


def test_a_run_continues_itself_to_the_bit(pair: Gang, split: Path, pictures: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(split, tmp_path / "tiny")
    shutil.rmtree(checkpoint_dir(tmp_path / "tiny" / "checkpoints", 10))
    path = options_file(tmp_path, pictures, "GM", _changes(pictures, 2))
    assert pair.run(run_share, path, True) == ["done"] * 2
    assert_same_runs(split, tmp_path / "tiny")


def test_all_go_back_from_a_value_that_is_not_finite(pair: Gang, pictures: Path, tmp_path: Path) -> None:
    changes = {**_changes(pictures, 2), "logger.save_checkpoint_freq": 3, "train.max_rollbacks": 1}
    path = options_file(tmp_path, pictures, "GM", {**changes, "train.total_iter": 6})
    assert pair.run(run_with_bad_term, path, 1) == ["done"] * 2
    state = final_state(tmp_path / "tiny")
    assert state["iteration"] == 6
    assert state["detour"]["rollbacks"] == 1


def test_dry_run_counts_the_whole_and_what_lies_here(pair: Gang, pictures: Path, tmp_path: Path) -> None:
    changes = {"network_g": {"type": "SRResNet", "num_feat": 64, "num_block": 4}}
    texts = {}
    for name, more in (("split", SHARDED), ("whole", {})):
        folder = tmp_path / name
        texts[name], _ = pair.run(show, options_file(folder, pictures, "G", {**changes, **more}))
    rows = [next(line for line in text.splitlines() if "generator" in line) for text in texts.values()]
    assert rows[0] == rows[1]
    mib = [float(text.split("moments take ")[1].split(" MiB")[0]) for text in texts.values()]
    assert mib[0] == pytest.approx(mib[1] / 2, rel=0.1)


# What goes wrong.


def of_bad_values(folder: Path, pictures: Path) -> tuple[str, bool, Any]:
    """A NaN that is seen late, whether it reached the weights, and one that sits in one process's piece."""
    experiment = _begin(folder, pictures, "G", {})
    with experiment.processes.running():
        _go_on(experiment, 1)
        experiment.guard = FiniteGuard(experiment.device, lag=4, processes=experiment.processes)
        before = [local(p).detach().clone() for p in experiment.modules["generator"].parameters()]
        images = share(experiment, 5)
        if experiment.processes.is_first:
            images.gt[0] = float("nan")
        run_iteration(experiment, [images])
        message = ""
        try:
            experiment.guard.flush()
        except NonFiniteLossError as error:
            message = str(error)
        after = [local(p).detach() for p in experiment.modules["generator"].parameters()]
        same = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        found = [non_finite_state(experiment)]
        weight = next(p for p in experiment.modules["generator"].parameters() if p.ndim == 4)
        if experiment.processes.rank == 1:
            local(weight).detach().fill_(float("inf"))
        found.append(non_finite_state(experiment))
    return message, same, found


def test_values_that_are_not_finite_stop_all(pair: Gang, pictures: Path, tmp_path: Path) -> None:
    first, second = pair.run(of_bad_values, tmp_path, pictures)
    assert first == second
    message, same, found = first
    assert message.startswith("iteration 2: pixel = nan in the update of the generator")
    assert same
    assert found == [None, ("generator", "conv_first.weight")]


def of_refusal(path: Path) -> str:
    """What `build` says."""
    from mvmsr import config

    try:
        build(config.load(path))
    except OptionsError as error:
        return str(error)
    return "built"


def test_a_compiled_sharded_generator_is_refused_where_it_would_be_sharded(
    pair: Gang, pictures: Path, tmp_path: Path
) -> None:
    path = options_file(tmp_path, pictures, "G", {**SHARDED, "compile": True})
    for error in pair.run(of_refusal, path):
        assert "a sharded generator is not compiled" in error
        assert f"{path.name}:" in error
    assert of_refusal(path) == "built"


@pytest.mark.parametrize(
    ("compiles", "precision", "optimizer", "key", "message"),
    [
        (True, "32", "Adam", ("compile",), "use compile: auto or train.shard_generator: false"),
        (False, "16-mixed", "Adam", ("train", "shard_generator"), "works in precision 32 and bf16-mixed only"),
        (False, "32", "LBFGS", ("train", "optim_g", "type"), "use one of Adam, AdamW"),
        (False, "bf16-mixed", "Adafactor", ("train", "optim_g", "type"), "looks at more than single elements"),
    ],
)
def test_obstacles(compiles: bool, precision: str, optimizer: str, key: tuple[str, ...], message: str) -> None:
    found = obstacle(compiles, precision, optimizer)
    assert found is not None
    assert found[0] == key
    assert message in found[1]


def test_an_old_pytorch_is_refused_with_the_version_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.fsdp import FSDPModule

    assert obstacle(False, "32", "Adam") is None
    monkeypatch.delattr(FSDPModule, "set_custom_reduce_scatter")
    found = obstacle(False, "32", "Adam")
    assert found is not None
    assert found[0] == ("train", "shard_generator")
    assert f"this is {torch.__version__}; install torch 2.14.1" in found[1]


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        self.body[1].weight = self.body[0].weight


def test_blocks_are_members_of_lists_and_large_ones_are_split() -> None:
    network = ARCHS.get("SRResNet")(num_feat=4, num_block=16)
    names = {module: name for name, module in network.named_modules()}
    found = [names[block] for block in blocks(network)]
    assert found[:16] == [f"body.{k}" for k in range(16)]
    assert all(name.count(".") == 1 for name in found)

    inner = nn.Sequential(*[nn.Linear(8, 8) for _ in range(3)])
    outer = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), inner)
    assert blocks(nn.ModuleList([outer])) == [outer[0], *inner, inner, outer]
    assert blocks(_Tied()) == []


def test_only_pieces_count_as_sharded() -> None:
    tensor = torch.ones(2)
    assert not is_sharded(tensor)
    assert local(tensor) is tensor
