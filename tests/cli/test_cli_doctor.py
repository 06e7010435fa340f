from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from mvmsr import pretrained
from mvmsr.archs import NMD, SRResNet
from mvmsr.cli import doctor, doctor_machine
from mvmsr.data.image_io import write_rgb
from mvmsr.data.known_pictures import Verdict
from mvmsr.engine.checkpoint import save_checkpoint
from mvmsr.inference.weights import save_weights

ARGS = {"num_feat": 4, "num_block": 1, "bn": False}
OPTIONS = """\
name: small
datasets: {train: {dataroot_gt: pictures, gt_size: 32}}
network_g: {type: SRResNet, num_feat: 4, num_block: 1, bn: false}
train: {total_iter: 100, pixel_opt: {type: L1Loss}}
"""


def _run(*arguments: object) -> Any:
    app = typer.Typer()
    app.command()(doctor.command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "300"})


def _findings(*arguments: object) -> tuple[int, dict[tuple[str, str], list[dict[str, Any]]]]:
    """Exit status, and the findings by section and name."""
    result = _run(*arguments, "--json")
    document = json.loads(result.output)
    assert document["ok"] == (result.exit_code == 0)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for finding in document["findings"]:
        found.setdefault((finding["section"], finding["name"]), []).append(finding)
    return result.exit_code, found


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without data and weights."""
    for variable in ("MVMSR_DATA_ROOT", "MVMSR_WEIGHTS_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_missing_data_and_weights_are_told_with_their_remedy_and_are_no_failure(elsewhere: Path) -> None:
    status, found = _findings("--no-speed")
    assert status == 0
    (set5,), (alexnet,), (root,) = found["Data", "Set5"], found["Weights", "alexnet"], found["Data", "data root"]
    assert (set5["state"], set5["remedy"]) == ("missing", "mvmsr datasets prepare Set5")
    assert alexnet["state"] == "missing"
    assert "LPIPS" in alexnet["text"]
    assert pretrained.FILES["alexnet"].url in alexnet["remedy"]
    assert root["state"] == "missing"
    assert found["Versions", "torch"][0]["values"] == {"version": metadata.version("torch")}
    assert not any(section == "Speed" for section, _ in found)


def test_the_machine_is_described_in_words(elsewhere: Path) -> None:
    result = _run("--no-speed")
    assert result.exit_code == 0
    for word in (
        "Versions",
        "torchvision",
        "Computing",
        "precision",
        "channels_last",
        "threads",
        "GiB free",
        "Urban100",
    ):
        assert word in result.output, word
    assert "Nothing is broken; " in result.output


def test_what_auto_means_is_told(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmsr.hardware.has_fast_bf16", lambda device: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("mvmsr.hardware._has_mps", lambda: False)
    _, found = _findings("--no-speed")
    assert found["Computing", "device"][0]["values"] == {"device": "cpu"}
    assert found["Computing", "precision"][0]["values"] == {"precision": "32"}
    assert "no hardware for bfloat16" in found["Computing", "precision"][0]["text"]
    assert found["Computing", "channels_last"][0]["values"] == {"channels_last": False}


@pytest.mark.parametrize(
    ("seconds", "advice"),
    [
        ({"32": 1.0, "bf16-mixed": 0.5}, "bf16-mixed was 2.0 times as fast as 32"),
        ({"32": 1.0, "bf16-mixed": 0.9}, None),
        ({"32": 0.1, "bf16-mixed": 0.9}, None),
    ],
)
def test_a_slow_choice_is_noted(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], advice: str | None) -> None:
    monkeypatch.setattr("mvmsr.hardware.has_fast_bf16", lambda device: False)
    monkeypatch.setattr(doctor_machine, "seconds_per_pass", lambda device, precision: seconds[precision])
    found = [*doctor_machine.measured_speed()]
    assert [finding.values["seconds"] for finding in found[:2]] == list(seconds.values())
    assert [finding.text.startswith(advice or "") for finding in found[2:]] == ([True] if advice else [])


def test_a_precision_that_fails_is_broken_only_if_it_is_the_chosen_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: torch.device, precision: str) -> float:
        if precision == "bf16-mixed":
            raise RuntimeError("no kernel\nmore")
        return 1.0

    monkeypatch.setattr(doctor_machine, "seconds_per_pass", fail)
    for fast, state in ((False, "note"), (True, "broken")):
        monkeypatch.setattr("mvmsr.hardware.has_fast_bf16", lambda device, fast=fast: fast)
        bf16 = [*doctor_machine.measured_speed()][1]
        assert bf16.state.value == state
        assert bf16.text.endswith("no kernel")


def test_a_pass_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "_PATCH", 4)
    assert 0 < doctor_machine.seconds_per_pass(torch.device("cpu"), "32") < 30


def test_torchvision_of_another_torch_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.4.1+cpu", "torchvision": "0.18.0"}
    monkeypatch.setattr(doctor_machine, "_version", lambda name, module: versions.get(name, "1.0"))
    notes = [finding for finding in doctor_machine.versions() if finding.state.value == "note"]
    assert [note.remedy for note in notes] == ["pip install 'torchvision==0.19.*'"]
    versions["torchvision"] = "0.19.1"
    assert all(finding.state.value == "ok" for finding in doctor_machine.versions())


def test_needed_packages_are_broken_and_others_missing_when_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "_version", lambda name, module: None)
    states = {finding.name: finding.state.value for finding in doctor_machine.versions()}
    assert states["torch"] == "broken"
    assert states["spandrel"] == "missing"


def _pictures(folder: Path, count: int) -> None:
    for number in range(count):
        folder.mkdir(parents=True, exist_ok=True)
        write_rgb(folder / f"img_{number}.png", np.full((16, 16, 3), number, np.uint8))


def test_a_benchmark_set_with_too_few_pictures_is_broken(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pictures(elsewhere / "data" / "Set5", 5)
    status, found = _findings("--no-speed", "--data-root", elsewhere / "data")
    assert (status, found["Data", "Set5"][0]["state"]) == (1, "broken"), "five images, but not those of Set5"
    monkeypatch.setattr("mvmsr.data.prepare.compare", lambda name, pictures: Verdict(name, 5, 5, (), True))
    status, found = _findings("--no-speed", "--data-root", elsewhere / "data")
    assert status == 0
    assert found["Data", "Set5"][0]["state"] == "ok"
    assert found["Data", "Set5"][0]["values"]["pictures"] == 5
    _pictures(elsewhere / "data" / "Set14", 5)
    status, found = _findings("--no-speed", "--data-root", elsewhere / "data")
    assert status == 1
    assert "5 images" in found["Data", "Set14"][0]["text"]
    assert "has 14" in found["Data", "Set14"][0]["text"]


def test_a_benchmark_folder_without_pictures_is_broken(elsewhere: Path) -> None:
    (elsewhere / "datasets" / "Urban100").mkdir(parents=True)
    status, found = _findings("--no-speed")
    assert status == 1
    assert found["Data", "Urban100"][0]["state"] == "broken"
    assert found["Data", "Urban100"][0]["remedy"].startswith("mvmsr datasets check ")


def test_a_damaged_pretrained_file_is_broken(elsewhere: Path) -> None:
    folder = elsewhere / "weights"
    folder.mkdir()
    (folder / "vgg16-397923af.pth").write_bytes(b"not those weights")
    result = _run("--no-speed", "--weights-dir", folder)
    assert result.exit_code == 1
    assert "expected 397923af" in result.output
    assert "1 broken; " in result.output


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run of 20 iterations with two checkpoints and one weights file."""
    root = tmp_path / "experiments" / "small"
    root.mkdir(parents=True)
    (root / "options.yml").write_text(OPTIONS)
    lines = [json.dumps({"iter": n, "loss_g/pixel": 1 / n}) + "\n" for n in (10, 20, 30)]
    (root / "stats.jsonl").write_text("".join(lines))
    for iteration in (10, 20):
        save_checkpoint(root / "checkpoints", iteration, {"iteration": iteration})
    extra = {"iterations": "20"}
    state = SRResNet(**ARGS).state_dict()
    save_weights(root / "weights" / "small_g_00000020.safetensors", state, "SRResNet", ARGS, 4, extra)
    return root


def test_a_sound_run_is_told_to_be_so(trained: Path) -> None:
    status, found = _findings(trained, "--no-data")
    assert status == 0
    assert {finding["state"] for one in found.values() for finding in one} == {"ok"}
    assert found["Run", "options"][0]["values"] == {"total_iter": 100}
    assert found["Run", "stats"][0]["values"] == {"records": 3, "last_iteration": 30}
    (checkpoints,) = found["Run", "checkpoints"]
    assert checkpoints["values"] == {"iterations": [10, 20]}
    assert "goes on from iteration 20; 10 logged iterations after it would be repeated" in checkpoints["text"]
    assert "after 20 iterations" in found["Run", "weights"][0]["text"]


def test_a_sound_discriminator_is_told_to_be_so(tmp_path: Path) -> None:
    root = tmp_path / "nmd"
    root.mkdir()
    example = Path(__file__).parents[2] / "options" / "reproduce" / "cpu" / "nmd_cpu.yml"
    (root / "options.yml").write_text(example.read_text())
    (root / "stats.jsonl").write_text(json.dumps({"iter": 10, "loss": 1.0}) + "\n")
    save_checkpoint(root / "checkpoints", 10, {"iteration": 10})
    state = NMD(num_feat=8).state_dict()
    save_weights(root / "weights" / "nmd.safetensors", state, "NMD", {"num_feat": 8}, 1, {"iterations": "10"})
    status, found = _findings(root, "--no-data")
    assert status == 0, found
    assert found["Run", "options"][0]["values"] == {"total_iter": 6000}
    assert "NMD" in found["Run", "weights"][0]["text"]
    state.popitem()
    save_weights(root / "weights" / "nmd.safetensors", state, "NMD", {"num_feat": 8}, 1, {"iterations": "10"})
    assert _findings(root, "--no-data")[0] == 1


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _damage_options(root: Path) -> None:
    (root / "options.yml").write_text(OPTIONS.replace("total_iter", "total_itre"))


def _damage_stats(root: Path) -> None:
    (root / "stats.jsonl").write_text('{"iter": 10}\n{"it\n{"iter": 30}\n')


def _mix_stats(root: Path) -> None:
    (root / "stats.jsonl").write_text('{"iter": 10}\n{"iter": 20}\n{"iter": 10}\n')


@pytest.mark.parametrize(
    ("damage", "name", "message"),
    [
        (_damage_options, "options", "total_itre"),
        (lambda root: (root / "options.yml").unlink(), "options", "options.yml is missing"),
        (_damage_stats, "stats", "line 2 cannot be read"),
        (_mix_stats, "stats", "goes back to iteration 10"),
        (lambda root: _cut(root / "checkpoints/00000020/state.pt"), "checkpoint", "checksum differs"),
        (
            lambda root: (root / "checkpoints/00000010/manifest.json").unlink(),
            "checkpoint",
            "not a complete checkpoint",
        ),
        (lambda root: _cut(root / "weights/small_g_00000020.safetensors"), "weights", "damaged or cut short"),
    ],
)
def test_damage_in_a_run_is_found_and_fails(
    trained: Path, damage: Callable[[Path], object], name: str, message: str
) -> None:
    damage(trained)
    status, found = _findings(trained)
    assert status == 1
    broken = [(where[1], f["text"]) for where, one in found.items() for f in one if f["state"] == "broken"]
    assert [where for where, _ in broken] == [name]
    assert message in broken[0][1]


def test_a_damaged_checkpoint_leaves_the_one_before_it_to_continue(trained: Path) -> None:
    _cut(trained / "checkpoints/00000020/state.pt")
    (checkpoints,) = _findings(trained)[1]["Run", "checkpoints"]
    assert "goes on from iteration 10; 20 logged" in checkpoints["text"]


def test_a_run_under_way_is_not_broken(trained: Path) -> None:
    with (trained / "stats.jsonl").open("a") as file:
        file.write('{"iter": 40, "loss_g/pix')
    (trained / "checkpoints" / ".00000030.1.tmp").mkdir()
    status, found = _findings(trained)
    assert status == 0
    assert "a last line is unfinished" in found["Run", "stats"][0]["text"]
    assert found["Run", "checkpoint"][0]["state"] == "note"


def test_a_run_that_has_just_begun_is_not_broken(tmp_path: Path) -> None:
    (tmp_path / "options.yml").write_text(OPTIONS)
    status, found = _findings(tmp_path)
    assert status == 0
    assert [found["Run", name][0]["state"] for name in ("stats", "checkpoints", "weights")] == ["note"] * 3


def test_losses_that_are_not_finite_are_noted(trained: Path) -> None:
    (trained / "stats.jsonl").write_text('{"iter": 10, "a": 1.0}\n{"iter": 20, "a": NaN}\n')
    status, found = _findings(trained)
    assert status == 0
    assert [finding["state"] for finding in found["Run", "stats"]] == ["note", "ok"]
    assert found["Run", "stats"][0]["text"] == "not finite from iteration 20 on, at times: a"


def test_a_stop_at_a_value_that_is_not_finite_is_noted(trained: Path) -> None:
    (trained / "nonfinite" / "00000021_generator").mkdir(parents=True)
    status, found = _findings(trained)
    assert status == 0
    (finding,) = found["Run", "nonfinite"]
    assert finding["state"] == "note"
    assert finding["text"].startswith("a value was not finite in iteration 21 (generator)")


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_what_is_no_run_is_broken(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    result = _run(tmp_path / name)
    assert result.exit_code == 1
    assert name in result.output


def test_missing_weights_are_fetched_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = tmp_path / "published.pth"
    published.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()[:8]
    entry = pretrained.PretrainedFile("made", "made.pth", "a test", published.as_uri(), digest)
    monkeypatch.setitem(pretrained.FILES, "made", entry)
    result = _run("--fetch", "made", "--weights-dir", tmp_path / "w", "--no-speed")
    assert result.exit_code == 0
    assert (tmp_path / "w/made.pth").read_bytes() == b"weights"
    assert "made" in result.stderr

    result = _run("--fetch", "all", "--fetch", "mode", "--weights-dir", tmp_path / "w", "--no-speed")
    assert result.exit_code == 2
    assert "Did you mean 'made'" in result.stderr

    published.write_bytes(b"other weights")
    result = _run("--fetch", "made", "--weights-dir", tmp_path / "v", "--no-speed")
    assert result.exit_code == 1
    assert "not the published file" in result.stderr
    assert not list((tmp_path / "v").iterdir())
