"""Weights files that would run code, fill the memory or read other files; none of them may."""

from __future__ import annotations

import io
import json
import os
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mvmsr.archs.bounded_building import OutgrownError, bounded_by
from mvmsr.inference import load_generator
from mvmsr.inference.weights import WeightsError, find_weights, read_info
from mvmsr.registry import ARCHS

ARGS = {"num_feat": 8, "num_block": 2}


class Call:
    """Pickles into a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.args


def refusal(path: Path) -> str:
    """What is said of a file, in a message that names it and fits the screen, within seconds."""
    start = time.process_time()
    with pytest.raises(WeightsError) as caught:
        load_generator(path)
    assert time.process_time() - start < 5
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 4000
    return str(caught.value)


def described(path: Path, state: dict[str, Tensor], **about: Any) -> Path:
    """One of our files whose description says something else."""
    from safetensors.torch import save_file

    text = json.dumps({"format": 1, "arch": "SRResNet", "args": ARGS, "scale": 4, "version": "0", **about})
    save_file({name: value.clone() for name, value in state.items()}, path, metadata={"mvmsr": text})
    return path


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("place", ["whole", "beside", "inside"])
@pytest.mark.parametrize("call", ["system", "exec", "mkdir", "save"])
def test_code_in_a_file_does_not_run(tmp_path: Path, network: nn.Module, call: str, place: str, legacy: bool):
    canary = tmp_path / "canary"
    hostile = {
        "system": Call(os.system, f"touch {canary}"),
        "exec": Call(exec, f"open({str(canary)!r}, 'w')"),
        "mkdir": Call(os.mkdir, str(canary)),
        "save": Call(torch.save, 5, str(canary)),
    }[call]
    state = dict(network.state_dict())
    content = {
        "whole": hostile,
        "beside": {"params": state, "x": hostile},
        "inside": {"params": {**state, "x": hostile}},
    }
    path = tmp_path / "a.pth"
    torch.save(content[place], path, _use_new_zipfile_serialization=not legacy)
    assert "Files that would run code are not loaded" in refusal(path)
    assert not canary.exists()


def test_a_bare_pickle_does_not_run(tmp_path: Path):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "a.pt").write_bytes(pickle.dumps(Call(os.mkdir, str(tmp_path / "canary")), protocol))
        refusal(tmp_path / "a.pt")
        assert not (tmp_path / "canary").exists()


def test_tensors_larger_than_their_file_are_refused(tmp_path: Path, network: nn.Module):
    state = dict(network.state_dict())
    state["conv_first.weight"] = torch.zeros(1).expand(10**6, 3, 9, 9)
    torch.save(state, tmp_path / "a.pth")
    assert "its tensors would take" in refusal(tmp_path / "a.pth")
    same = torch.zeros(2**20)
    torch.save({f"t{i}": same for i in range(20)}, tmp_path / "b.pth")  # 80 MiB by name, 4 in the file
    assert "its tensors would take" in refusal(tmp_path / "b.pth")


def test_a_packed_archive_is_not_unpacked(tmp_path: Path):
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(2**23)}, buffer)
    with (
        zipfile.ZipFile(buffer) as source,
        zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert (tmp_path / "a.pth").stat().st_size < 2**17
    assert "its tensors would take 33,55" in refusal(tmp_path / "a.pth")


def test_states_of_other_than_plain_tensors_and_names(tmp_path: Path, network: nn.Module):
    state = dict(network.state_dict())
    torch.save({"params": {**state, "conv_first.weight": torch.eye(3).to_sparse()}}, tmp_path / "a.pth")
    assert "conv_first.weight is no plain tensor" in refusal(tmp_path / "a.pth")
    torch.save({5: torch.zeros(3), ("a",): torch.zeros(3)}, tmp_path / "b.pth")
    assert "holds no network state; keys are 5, ('a',)" in refusal(tmp_path / "b.pth")
    torch.save({**state, 5: 6}, tmp_path / "c.pth")
    module, _ = load_generator(tmp_path / "c.pth", arch={"type": "SRResNet", **ARGS})
    assert module.scale == 4


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"args": {"num_feat": 10**6}}, "far more than the file holds"),
        ({"args": {**ARGS, "num_block": 10**9}}, "parts for the"),
        ({"args": {"num_feat": -1}}, "cannot be built with"),
        ({"args": {"num_feat": 0}}, "SRResNet"),
        ({"args": {"num_feat": 1e308}}, "cannot be built with"),
        ({"args": {**ARGS, "upscale": 2**62}}, "do not fit network SRResNet"),
        ({"args": {**ARGS, "nothing": "x" * 10**5}}, "cannot be built with"),
        ({"arch": "VGGFeatures", "args": {"path": "/etc/passwd"}}, "names a file, '/etc/passwd'"),
        ({"arch": "BasicVSR", "args": {"deep": [{"spynet_path": "other.PTH"}]}}, "names a file, 'other.PTH'"),
        ({"arch": "x" * 10**5}, "lacks a proper arch"),
        ({"arch": "MetricNet", "args": {}}, "MetricNet"),
        ({"scale": 0}, "says scale 0"),
        ({"format": "9" * 10**5}, "weights format '999"),
    ],
)
def test_descriptions_that_ask_too_much(tmp_path: Path, network: nn.Module, about: dict[str, Any], message: str):
    assert message in refusal(described(tmp_path / "a.safetensors", network.state_dict(), **about))


@pytest.mark.parametrize("text", ['{"a":' * 10**5, "[" * 10**5, '{"format": ' + "9" * 5000 + "}"])
def test_descriptions_that_are_hard_to_parse(tmp_path: Path, text: str):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(3)}, path, metadata={"mvmsr": text})
    assert "description is not JSON" in refusal(path)
    with pytest.raises(WeightsError, match="description is not JSON"):
        read_info(path)


@pytest.mark.parametrize("index", ["999999999", "9" * 30, "x", "\u00b2"])
def test_layers_that_are_only_names(tmp_path: Path, index: str):
    from safetensors.torch import save_file

    state = dict(ARCHS.get("Compact")(num_feat=8, num_conv=3).state_dict())
    path = tmp_path / "a.safetensors"
    save_file(state, path)
    assert load_generator(path)[1].arch == "RealESRGAN Compact"
    save_file({**state, f"body.{index}.weight": torch.zeros(8)}, path)
    refusal(path)


@pytest.mark.parametrize("number", ["999999999", "99999999999999999999"])
def test_depths_that_spandrel_would_compute_with(tmp_path: Path, number: str):
    """ESRGAN's scale is two to the power of a layer's number: a number with a third of a billion bits, and more."""
    from safetensors.torch import save_file
    from spandrel.architectures.ESRGAN import ESRGAN

    state = ESRGAN(num_filters=8, num_blocks=1).state_dict()
    save_file({**state, f"model.{number}.weight": torch.zeros(8)}, tmp_path / "a.safetensors")
    assert "far beyond" in refusal(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="far beyond"):
        ARCHS.get("spandrel")(path=str(tmp_path / "a.safetensors"))


def test_networks_may_be_as_large_as_their_state_and_a_little_larger():
    made = nn.Sequential(*(nn.Conv2d(8, 8, 3) for _ in range(20)))
    with bounded_by(made.state_dict(), 1000):
        nn.Sequential(*(nn.Conv2d(8, 8, 3) for _ in range(20)))
    with pytest.raises(OutgrownError, match="far more than the file holds"), bounded_by(made.state_dict(), 1000):
        nn.Sequential(*(nn.Conv2d(8, 8, 3) for _ in range(110)))
    with pytest.raises(OutgrownError, match="parts for the 1 tensors"), bounded_by({"a": torch.zeros(9)}, 10**9):
        nn.Sequential(*(nn.Identity() for _ in range(2000)))
    nn.Sequential(*(nn.Identity() for _ in range(2000)))  # outside, nothing is counted


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(10**12),
        lambda: torch.zeros(10**6, 10**6),
        lambda: torch.arange(10**12),
        lambda: torch.eye(10**6),
        lambda: torch.linspace(0, 1, 10**12),
        lambda: torch.full((10**6, 10**6), 1.0),
        lambda: torch.zeros(10).repeat(10**4),
    ],
)
def test_large_tensors_are_refused_before_they_take_memory(make: Any):
    with pytest.raises(OutgrownError), bounded_by({}, 10_000):
        make()


def test_names_that_no_file_can_have():
    for name in ("x" * 5000, "a\0b", ""):
        with pytest.raises(WeightsError):
            find_weights(name)
        with pytest.raises(WeightsError):
            load_generator(name)


def test_a_version_of_megabytes_is_not_read(tmp_path: Path, network: nn.Module):
    path = tmp_path / "swollen.pth"
    torch.save(network.state_dict(), path)
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data * 2**20 if name.endswith("/version") else data)
    assert "version has 2,097,152 bytes; it is damaged" in refusal(path)
