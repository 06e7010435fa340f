"""Networks that spandrel recognises become generators that train."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mvmsr.archs import SpandrelNet, SRResNet
from mvmsr.registry import ARCHS, RegistryError

spandrel = pytest.importorskip("spandrel")


@pytest.fixture(scope="module")
def esrgan_file(tmp_path_factory) -> str:
    """A small RRDBNet by BasicSR's names, at x2: it unshuffles pixels first and so needs even sizes."""
    try:
        network = ARCHS.get("RRDBNet")
    except RegistryError:
        pytest.skip("BasicSR is not installed")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "esrgan_x2.safetensors"
    state = network(num_in_ch=3, num_out_ch=3, scale=2, num_feat=8, num_block=1).state_dict()
    save_file(state, path)
    return str(path)


def test_it_is_the_files_network_by_spandrels_names(esrgan_file):
    net = SpandrelNet(esrgan_file)
    by_spandrel = spandrel.ModelLoader(device="cpu").load_from_file(esrgan_file)
    assert net.scale == by_spandrel.scale == 2
    assert list(net.state_dict()) == list(by_spandrel.model.state_dict())
    assert [n for n, _ in net.named_parameters()] == [n for n, _ in by_spandrel.model.named_parameters()]
    lq = torch.rand(1, 3, 8, 4)
    with torch.no_grad():
        torch.testing.assert_close(net(lq), by_spandrel.model(lq))


def test_its_output_is_raw_where_spandrels_own_call_clamps(esrgan_file):
    net = SpandrelNet(esrgan_file)
    nn.init.constant_(list(net.parameters())[-1], 2.0)  # the last bias
    assert net(torch.rand(1, 3, 8, 8)).min() > 1


def test_it_trains_and_its_state_can_be_read_as_the_file_was(esrgan_file, tmp_path):
    net = SpandrelNet(esrgan_file)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    lq = torch.rand(1, 3, 8, 8)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    before = (net(lq) - 1).square().mean()
    for _ in range(3):
        optimizer.zero_grad()
        (net(lq) - 1).square().mean().backward()
        optimizer.step()
    assert (net(lq) - 1).square().mean() < before
    torch.save(net.state_dict(), tmp_path / "tuned.pth")
    again = SpandrelNet(str(tmp_path / "tuned.pth"))
    with torch.no_grad():
        torch.testing.assert_close(again(lq), net(lq))


@pytest.mark.parametrize("size", [(7, 5), (1, 9), (2, 3)])
def test_sizes_that_the_network_cannot_take_are_padded_as_by_spandrel(esrgan_file, size):
    net = SpandrelNet(esrgan_file).eval()
    lq = torch.rand(1, 3, *size)
    with torch.no_grad():
        sr = net(lq)
        expected = spandrel.ModelLoader(device="cpu").load_from_file(esrgan_file)(lq)
    assert sr.shape == (1, 3, 2 * size[0], 2 * size[1])
    torch.testing.assert_close(sr.clamp(0, 1), expected)


def test_networks_that_use_the_word_scale_otherwise_keep_their_meaning(esrgan_file):
    """An x2 ESRGAN enlarges by 4 after it has unshuffled the pixels by 2."""
    net = SpandrelNet(esrgan_file)
    assert (net.scale, net._network.scale) == (2, 4)


def test_moving_it_moves_the_network(esrgan_file):
    net = SpandrelNet(esrgan_file).double()
    assert {p.dtype for p in net._network.parameters()} == {torch.float64}
    assert net(torch.rand(1, 3, 4, 4, dtype=torch.float64)).dtype == torch.float64


def test_copies_train_independently(esrgan_file):
    net = SpandrelNet(esrgan_file)
    twin = copy.deepcopy(net)
    assert twin.scale == 2
    lq = torch.rand(1, 3, 7, 7)
    with torch.no_grad():
        expected = net(lq)
        next(twin.parameters()).add_(1)
        twin.eval()
        assert net._network.training
        assert not twin._network.training
        assert not torch.equal(twin(lq), expected)
        assert torch.equal(net(lq), expected)


def test_a_file_that_looks_like_a_network_but_is_none_is_refused(esrgan_file, tmp_path):
    state = load_file(esrgan_file)
    state["body.0.rdb1.conv2.weight"] = torch.zeros(4, 12, 3, 3)
    save_file(state, tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match=r"broken\.safetensors: spandrel .* cannot load it: (?s:.*)size mismatch"):
        SpandrelNet(str(tmp_path / "broken.safetensors"))


def test_an_unknown_network_is_refused(tmp_path):
    torch.save(SRResNet(num_feat=4, num_block=1).state_dict(), tmp_path / "ours.pth")
    with pytest.raises(ValueError, match=r"ours\.pth: spandrel .* recognises no network"):
        SpandrelNet(str(tmp_path / "ours.pth"))


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"no weights file at absent\.pth"):
        SpandrelNet("absent.pth")


def test_without_spandrel_it_says_what_to_install(tmp_path, monkeypatch):
    torch.save({}, tmp_path / "any.pth")
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ImportError, match="pip install spandrel"):
        SpandrelNet(str(tmp_path / "any.pth"))
