"""The natural manifold discriminator: its curriculum by hand, learning, resuming to the bit, weights, messages."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tiny_runs import differences, final_state
from typer.testing import CliRunner

from mvmsr.cli import app
from mvmsr.config import OptionsError
from mvmsr.config.nmd_options import NMDCurriculum, load_nmd
from mvmsr.engine import nmd_training
from mvmsr.engine.checkpoint import CheckpointError, CheckpointWriteError
from mvmsr.engine.nmd_curriculum import begin, observe
from mvmsr.engine.nmd_run import build_nmd
from mvmsr.engine.nmd_training import accuracies, nmd_loss, train_nmd
from mvmsr.engine.run_lock import locked
from mvmsr.inference.weights import load_state, read_info

OPTIONS = """\
task: nmd
name: nmd
device: cpu
precision: 32
datasets:
  train: {{dataroot_gt: {pictures}, cache_dir: {cache}, gt_size: 32, batch_size_per_gpu: 8, held_out: 2,
           least_gradient: 0, least_variance: 0}}
network: {{type: NMD, num_feat: 4}}
path: {{experiments_root: {root}}}
train:
  total_iter: 6
  optim: {{type: Adam, lr: 1e-3}}
  curriculum: {{every: 2, window: 1, pictures: 4}}
logger: {{print_freq: 4, save_checkpoint_freq: 3, use_tb_logger: false}}
"""
QUIET = Console(file=io.StringIO())


@pytest.fixture
def options_file(tmp_path: Path, pictures: Path) -> Path:
    path = tmp_path / "nmd.yml"
    path.write_text(OPTIONS.format(pictures=pictures, cache=pictures.parent / "cache", root=tmp_path), encoding="utf-8")
    return path


def test_levels_follow_the_mean_of_the_window() -> None:
    options = NMDCurriculum(window=2, sigma_last=0.07, alpha=0.7)
    state = begin(options)
    state = observe(state, 1.0, 0.5, options)
    assert (state.sigma, state.alpha) == (0.1, 0.7), "one accuracy does not fill a window of two"
    state = observe(state, 0.9, 0.9, options)  # means 0.95 and 0.7
    assert (state.sigma, state.alpha) == (pytest.approx(0.08), 0.7)
    assert (state.noisy, state.blurry) == ((), (0.5, 0.9)), "a new level begins without accuracies"
    state = observe(state, 0.95, 1.0, options)
    assert (state.sigma, state.alpha) == (pytest.approx(0.08), pytest.approx(0.8))
    state = observe(observe(state, 0.95, 0.9, options), 1.0, 0.9, options)
    assert state.sigma == pytest.approx(0.064)
    assert not state.finished
    state = observe(observe(state, 1.0, 1.0, options), 1.0, 1.0, options)
    assert state.finished
    assert (state.sigma, state.alpha) == (pytest.approx(0.064), pytest.approx(0.8)), "the last levels stay"


def test_the_published_end_is_fourteen_steps_away() -> None:
    options = NMDCurriculum(window=1)
    state, levels = begin(options), 0
    while not state.noisy_done:
        before = state.sigma
        state = observe(state, 1.0, 0.0, options)
        levels += state.sigma < before
    assert levels == 14
    assert state.sigma == pytest.approx(0.1 * 0.8**14)


def test_a_quarter_is_noisy_a_quarter_blurry_and_the_rest_as_it_is(
    options_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build_nmd(load_nmd(options_file))
    batch = run.batches.batch(0)
    seen: list[torch.Tensor] = []

    def judge(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return torch.tensor([[-1.0]] * 2 + [[2.0]] * 2 + [[3.0]] * 4)

    monkeypatch.setattr(run, "network", judge)
    loss, right = nmd_loss(run, batch)
    gt = batch.gt.float() / 255
    changed = [not torch.allclose(a, b, atol=1e-6) for a, b in zip(seen[0], gt, strict=True)]
    assert changed == [True] * 4 + [False] * 4
    softplus = torch.nn.functional.softplus(torch.tensor([-1.0, -1.0, 2.0, 2.0, -3.0, -3.0, -3.0, -3.0]))
    torch.testing.assert_close(loss, softplus.mean())
    assert right.item() == 6 / 8  # the blurry ones were taken for natural


def test_accuracies_count_both_kinds_against_the_clean_ones(
    options_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build_nmd(load_nmd(options_file))
    answers = iter([[-1.0] * 4, [-1.0, -1.0, 1.0, 1.0], [1.0, 1.0, 1.0, -1.0]])  # noisy, blurry, clean
    monkeypatch.setattr(run, "network", lambda images: torch.tensor(next(answers))[:, None])
    assert accuracies(run) == (7 / 8, 5 / 8)
    trained = {name for batch in (run.batches.batch(k) for k in range(3)) for name in batch.names}
    assert len(trained) == 4
    assert not trained & {name for batch in run.held_out for name in batch.names}


def test_it_learns_to_see_strong_noise(options_file: Path) -> None:
    run = build_nmd(load_nmd(options_file, ["train.curriculum.sigma=1.0", "train.optim.lr=3e-3"]))
    losses = []
    for number in range(40):
        loss, _ = nmd_loss(run, run.batches.batch(number))
        run.optimizer.zero_grad()
        run.fabric.backward(loss)
        run.optimizer.step()
        run.iteration += 1
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert accuracies(run)[0] >= 0.75


def test_a_resumed_run_is_the_uninterrupted_one(options_file: Path, tmp_path: Path) -> None:
    whole = load_nmd(options_file, ["name=whole"])
    train_nmd(whole, console=QUIET)
    halves = ["name=halves", "train.total_iter=3"]
    train_nmd(load_nmd(options_file, halves), console=QUIET)
    train_nmd(load_nmd(options_file, halves[:1]), auto_resume=True, console=QUIET)
    assert differences(final_state(tmp_path / "whole"), final_state(tmp_path / "halves")) == []


def test_options_of_a_run_that_cannot_go_on_leave_the_record_as_it_is(options_file: Path, tmp_path: Path) -> None:
    train_nmd(load_nmd(options_file, ["train.total_iter=3"]), console=QUIET)
    record = (tmp_path / "nmd" / "options.yml").read_bytes()
    with pytest.raises(CheckpointError, match="does not fit the options' discriminator"):
        train_nmd(load_nmd(options_file, ["network.num_feat=8"]), auto_resume=True, console=QUIET)
    assert (tmp_path / "nmd" / "options.yml").read_bytes() == record


def test_a_change_of_options_is_told(options_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train_nmd(load_nmd(options_file, ["train.total_iter=3"]), console=QUIET)
    train_nmd(load_nmd(options_file), auto_resume=True, console=QUIET)
    assert "train.total_iter: 3 -> 6" in caplog.text
    assert "total_iter: 6" in (tmp_path / "nmd" / "options.yml").read_text()


def test_the_weights_say_what_they_are(options_file: Path, tmp_path: Path) -> None:
    path = train_nmd(load_nmd(options_file), console=QUIET)
    assert path == tmp_path / "nmd" / "weights" / "nmd.safetensors"
    info = read_info(path)
    assert (info.arch, info.args["num_feat"], info.extra["iterations"]) == ("NMD", 4, "6")
    assert float(info.extra["sigma"]) <= 0.1
    assert "features.0.weight" in load_state(path)


def test_a_run_that_dies_while_saving_its_weights_makes_them_again(
    options_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_nmd(load_nmd(options_file, ["train.total_iter=3"]), console=QUIET)

    def refuse(*args: object, **others: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr("mvmsr.engine.nmd_run.save_weights", refuse)
        with pytest.raises(CheckpointWriteError, match="no space left"):
            train_nmd(load_nmd(options_file), auto_resume=True, console=QUIET)
    path = train_nmd(load_nmd(options_file), auto_resume=True, console=QUIET)
    assert read_info(path).extra["iterations"] == "6"


def test_a_finished_curriculum_ends_the_run(options_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nmd_training, "accuracies", lambda run: (1.0, 1.0))
    steps = ["train.total_iter=50", "train.curriculum.sigma_last=0.09", "train.curriculum.alpha=0.8"]
    path = train_nmd(load_nmd(options_file, steps), console=QUIET)
    assert read_info(path).extra["iterations"] == "4"  # two levels of noise, judged every two iterations
    assert read_info(path).extra["curriculum_finished"] == "true"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("datasets.train.batch_size_per_gpu=6", "must be a multiple of 4"),
        ("datasets.train.gt_size=36", "multiple of 8 from 16 on, got 36"),
        ("train.curriculum.sigm=0.1", r"train.curriculum.sigm.* is unknown. Did you mean 'sigma'\?"),
        ("network.type=NMDD", "Did you mean 'NMD'"),
        ("train.optim.type=Adamm", "Adamm cannot be made"),
    ],
)
def test_mistakes_are_refused(options_file: Path, change: str, message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        build_nmd(load_nmd(options_file, [change]))


def test_too_few_pictures_are_refused(options_file: Path) -> None:
    with pytest.raises(OptionsError, match="held_out: 6 images, of which 6 are to be held out"):
        build_nmd(load_nmd(options_file, ["datasets.train.held_out=6"]))


@pytest.mark.parametrize("command", ["train", "train-nmd"])
def test_either_command_trains_it_and_begins_no_run_twice(options_file: Path, command: str) -> None:
    arguments = [command, "-opt", str(options_file), "--set", "train.total_iter=1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "nmd.safetensors" in result.output
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "--auto-resume continues it" in again.output
    assert CliRunner().invoke(app, [*arguments, "--auto-resume"]).exit_code == 0


def test_two_commands_do_not_train_one_run(options_file: Path) -> None:
    arguments = ["train-nmd", "-opt", str(options_file), "--set", "train.total_iter=1"]
    root = Path(load_nmd(options_file, []).path.experiments_root) / "nmd"
    root.mkdir(parents=True)
    with locked(root):
        busy = CliRunner().invoke(app, arguments)
    assert busy.exit_code == 1
    assert "is being trained by process" in busy.output
    assert not (root / "options.yml").exists()
    assert CliRunner().invoke(app, arguments).exit_code == 0
