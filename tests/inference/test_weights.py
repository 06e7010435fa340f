from __future__ import annotations

import json
import logging
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mvmsr import basicsr_shim
from mvmsr.archs import SRResNet, count_parameters
from mvmsr.inference import WeightsError, find_weights, load_generator, read_info, save_weights
from mvmsr.inference import weights as weights_room
from mvmsr.inference.state_reading import NoSuchStateError, read_state

ARGS = {"num_feat": 8, "num_block": 2}


def test_round_trip_keeps_every_tensor_and_the_description(network: SRResNet, weights: Path) -> None:
    module, info = load_generator(weights)
    assert (info.arch, info.args, info.scale, info.source) == ("SRResNet", ARGS, 4, "mvmsr")
    assert info.extra == {"name": "tiny"}
    assert not module.training
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in network.state_dict().items())


def test_parameters_are_counted_without_running_statistics(network: SRResNet, weights: Path) -> None:
    assert read_info(weights).parameters == count_parameters(network)
    assert load_generator(weights)[1] == read_info(weights)


def test_description_is_read_from_the_header_alone(weights: Path) -> None:
    content = weights.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    # The same header over garbage tensors: only a reader of tensors could tell.
    weights.write_bytes(content[: 8 + length] + b"\xff" * (len(content) - 8 - length))
    assert read_info(weights).arch == "SRResNet"


def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    network: SRResNet, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_weights(weights, network.state_dict(), "SRResNet", ARGS, 4)
    assert weights.read_bytes() == before
    assert list(weights.parent.iterdir()) == [weights]


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    shared = torch.rand(3)
    path = save_weights(tmp_path / "tied.safetensors", {"a": shared, "b": shared}, "SRResNet", {}, 4)
    assert read_info(path).parameters == 6


def _write(path: Path, network: nn.Module, **about: object) -> Path:
    description = {"format": 1, "arch": "SRResNet", "args": ARGS, "scale": 4, "version": "0", **about}
    save_file(network.state_dict(), path, metadata={"mvmsr": json.dumps(description)})
    return path


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"arch": "SRResNett"}, "Did you mean 'SRResNet'"),
        ({"args": {"num_feat": 8, "num_blocks": 2}}, "cannot be built with .*num_blocks"),
        ({"args": {"num_feat": 9, "num_block": 2}}, "of another shape .*body.0.body.0.weight"),
        ({"args": {"num_feat": 8, "num_block": 3}}, "missing .*body.3"),
        ({"scale": 2}, "says scale 2, but its network SRResNet has scale 4"),
        ({"format": 2}, "weights format 2; this version .* reads 1"),
        ({"args": None}, "lacks a proper args"),
    ],
)
def test_descriptions_that_do_not_fit(
    network: SRResNet, tmp_path: Path, about: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(basicsr_shim, "find", lambda *_: None)  # importing BasicSR takes seconds
    monkeypatch.setattr(basicsr_shim, "names", lambda *_: [])
    path = _write(tmp_path / "odd.safetensors", network, **about)
    with pytest.raises(WeightsError, match=message) as caught:
        load_generator(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kept", [0, 5, 300, -1])
def test_a_truncated_file_is_named(weights: Path, kept: int) -> None:
    weights.write_bytes(weights.read_bytes()[:kept])
    for read in (read_info, load_generator):
        with pytest.raises(WeightsError, match=r"tiny\.safetensors.* damaged or cut short"):
            read(weights)


def test_a_truncated_pth_is_named(network: SRResNet, tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"params": network.state_dict()}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(WeightsError, match=r"cut\.pth.* damaged"):
        load_generator(path)


class _Trap:
    def __reduce__(self) -> tuple:
        return os.mkdir, (str(_Trap.target),)

    target = Path()


def test_pickled_code_never_runs(tmp_path: Path) -> None:
    _Trap.target = tmp_path / "sprung"
    torch.save({"params": _Trap()}, tmp_path / "trap.pth")
    with pytest.raises(WeightsError, match="Files that would run code are not loaded"):
        load_generator(tmp_path / "trap.pth")
    assert not _Trap.target.exists()


def test_a_whole_pickled_network_is_named_without_advice_to_run_it(network: SRResNet, tmp_path: Path) -> None:
    torch.save(network, tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match=r"holds more than tensors, .*\.SRResNet") as caught:
        load_generator(tmp_path / "whole.pth")
    assert "trust" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_checkpoint_is_told_from_weights(network: SRResNet, tmp_path: Path) -> None:
    content = {"archs": {"generator": "SRResNet"}, "networks": {"generator": network.state_dict()}, "rng": {"cpu": 1}}
    torch.save({**content, "ema": network.state_dict()}, tmp_path / "state.pt")
    for prefer in (None, "params_ema"):
        with pytest.raises(WeightsError, match=r"a checkpoint, to continue its run from.*name the run's folder"):
            read_state(tmp_path / "state.pt", prefer)
    assert read_state(tmp_path / "state.pt", "ema")[1].keys() == network.state_dict().keys()


def test_a_plain_state_of_ours_says_what_it_needs_and_loads_when_told(network: SRResNet, tmp_path: Path) -> None:
    path = tmp_path / "net_g_latest.pth"
    torch.save({"params": {}, "params_ema": {f"module.{k}": v for k, v in network.state_dict().items()}}, path)
    with pytest.raises(WeightsError, match="does not say which network it needs"):
        load_generator(path)
    module, info = load_generator(path, arch={"type": "SRResNet", **ARGS})
    assert info.source == "given"
    assert torch.equal(module.conv_last.weight, network.conv_last.weight)


def test_files_of_other_tools_come_by_spandrel(compact: nn.Module, tmp_path: Path) -> None:
    for path, save in (
        (tmp_path / "c.pth", lambda p: torch.save({"params": compact.state_dict()}, p)),
        (tmp_path / "c.safetensors", lambda p: save_file(compact.state_dict(), p)),
    ):
        save(path)
        module, info = load_generator(path)
        assert (info.source, info.scale, info.arch) == ("spandrel", 4, "RealESRGAN Compact")
        lq = torch.rand(1, 3, 7, 9)
        assert torch.allclose(module(lq), compact(lq).clamp(0, 1), atol=1e-6)


def test_weights_trained_on_from_another_tools_file_need_no_second_file(compact: nn.Module, tmp_path: Path) -> None:
    args = {"path": str(tmp_path / "gone.pth")}
    path = save_weights(tmp_path / "tuned.safetensors", compact.state_dict(), "spandrel", args, 4)
    module, info = load_generator(path)
    assert (info.arch, info.scale, module.scale) == ("RealESRGAN Compact", 4, 4)
    assert (info.args, info.source) == ({}, "spandrel")


@pytest.fixture
def compact() -> nn.Module:
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    torch.manual_seed(0)
    return SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=4).eval()


def test_a_run_directory_gives_its_furthest_weights(
    network: SRResNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for iterations in (900, 1000, 80):  # the oldest is written last, as a copy might
        name = tmp_path / "run" / "weights" / f"run_g_{iterations}.safetensors"
        save_weights(name, network.state_dict(), "SRResNet", ARGS, 4, {"iterations": str(iterations)})
    assert find_weights(tmp_path / "run").stem == "run_g_1000"
    monkeypatch.setattr(weights_room, "RUNS_FOLDER", tmp_path)
    assert find_weights("run").stem == "run_g_1000"  # a name alone is sought among the runs
    elsewhere = tmp_path / "elsewhere" / "run" / "other.safetensors"
    save_weights(elsewhere, network.state_dict(), "SRResNet", ARGS, 4)
    assert find_weights("run", tmp_path / "elsewhere") == elsewhere  # first among those of the caller
    assert find_weights("run", tmp_path / "nowhere").stem == "run_g_1000"


def test_built_in_names_are_found_and_suggested(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_room, "BUILTIN_DIR", weights.parent)
    assert find_weights("tiny") == weights
    with pytest.raises(WeightsError, match=r"Did you mean 'tiny'\? Built-in names: tiny"):
        find_weights("tinny")


def test_a_folder_does_not_hide_a_built_in_name(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_room, "BUILTIN_DIR", weights.parent)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert find_weights("tiny") == weights
    with pytest.raises(WeightsError, match="no weights/"):
        find_weights("./tiny")


def test_a_directory_without_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights/\*\.safetensors"):
        find_weights(tmp_path)


def test_the_state_that_is_preferred_is_taken(tmp_path: Path) -> None:
    torch.save({"params": {"a": torch.ones(1)}, "params_ema": {"a": torch.zeros(1)}}, tmp_path / "a.pth")
    for prefer, value in (("params", 1), ("params_ema", 0), ("state_dict", 0), (None, 0)):
        assert read_state(tmp_path / "a.pth", prefer)[1]["a"].item() == value


def test_taking_another_usual_state_than_the_one_asked_for_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"params": {"a": torch.ones(1)}, "params_ema": {}}, tmp_path / "a.pth")
    torch.save({"a": torch.ones(1), "moments": {"a": torch.zeros(1)}}, tmp_path / "bare.pth")
    with caplog.at_level(logging.INFO):
        for file, prefer in (("a.pth", "params"), ("a.pth", None), ("bare.pth", "params_ema")):
            assert read_state(tmp_path / file, prefer)[1]["a"].item() == 1
        assert caplog.messages == []
        read_state(tmp_path / "a.pth", "params_ema")
    assert caplog.messages == [f"{tmp_path / 'a.pth'}: has no state 'params_ema'; its 'params' is taken"]


@pytest.mark.parametrize(
    ("content", "prefer", "message"),
    [
        ({"params": 1, "params_ema": 1}, "params_em", "'params_em'. Did you mean 'params_ema'. It holds params, par"),
        ({"params": 1, "optimizer": 0}, "elsewhere", "has no state 'elsewhere'. It holds params$"),
        ({"gen": 1, "gen_ema": 1, 7: 1}, "params_ema", "has no state 'params_ema'. It holds gen, gen_ema$"),
    ],
)
def test_a_state_that_the_file_does_not_hold(
    content: dict[str, int], prefer: str, message: str, tmp_path: Path
) -> None:
    held = {key: {"a": torch.ones(1)} if tensors else {"lr": 0.1} for key, tensors in content.items()}
    torch.save(held, tmp_path / "a.pth")
    with pytest.raises(NoSuchStateError, match=message):
        read_state(tmp_path / "a.pth", prefer)


def test_names_lose_a_prefix_that_all_of_them_have(tmp_path: Path) -> None:
    for names, expected in ((["module.a", "module.b"], {"a", "b"}), (["module.a", "b"], {"module.a", "b"})):
        torch.save({name: torch.zeros(1) for name in names}, tmp_path / "a.pth")
        assert set(read_state(tmp_path / "a.pth")[1]) == expected
