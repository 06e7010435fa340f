"""VGG features: layer numbers, taps before and after in-place activations, weights files."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mvmsr.archs import VGG_LAYERS, VGGFeatures

torchvision = pytest.importorskip("torchvision")


def _torchvision_state(vgg_type: str, stages: int) -> dict[str, torch.Tensor]:
    """Random parameters under torchvision's names, of the first stages only (the whole network is large)."""
    with torch.device("meta"):
        features = getattr(torchvision.models, vgg_type)().features
    end = [i for i, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)][stages - 1]
    torch.manual_seed(0)
    return {
        f"features.{name}": torch.randn(value.shape) * (0.05 if value.dim() == 4 else 0.5)
        for name, value in features[:end].state_dict().items()
    }


@pytest.mark.parametrize("vgg_type", ["vgg16", "vgg19"])
def test_layers_stand_where_torchvision_has_them(vgg_type):
    with torch.device("meta"):
        features = getattr(torchvision.models, vgg_type)().features
        ours = VGGFeatures(vgg_type, ["pool5"]).features
    kinds = {"conv": nn.Conv2d, "relu": nn.ReLU, "pool": nn.MaxPool2d}
    assert [kinds[name[:4]] for name in VGG_LAYERS[vgg_type]] == [type(layer) for layer in features]
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in features.state_dict().items()}


@pytest.mark.parametrize(
    ("vgg_type", "layer", "layers_built"),
    [("vgg16", "pool5", 31), ("vgg19", "pool2", 10), ("vgg19", "pool5", 37), ("vgg19", "conv5_4", 35)],
)
def test_only_the_needed_prefix_is_built(vgg_type, layer, layers_built):
    with torch.device("meta"):
        assert len(VGGFeatures(vgg_type, [layer]).features) == layers_built


@pytest.mark.parametrize("use_input_norm", [True, False])
@pytest.mark.parametrize("range_norm", [True, False])
def test_features_equal_torchvisions_layer_by_layer(tmp_path, use_input_norm, range_norm):
    state = _torchvision_state("vgg19", 2)
    torch.save(state, tmp_path / "vgg19.pth")
    layers = ["relu2_2", "conv1_1", "relu1_1", "conv2_2", "pool2"]
    ours = VGGFeatures("vgg19", layers, use_input_norm, range_norm, tmp_path / "vgg19.pth")
    reference = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"][:6])
    reference.load_state_dict({name.removeprefix("features."): value for name, value in state.items()})
    images = torch.rand(2, 3, 16, 12)
    x = images / 2 + 0.5 if range_norm else images
    if use_input_norm:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    expected = {}
    for name, layer in zip(VGG_LAYERS["vgg19"], reference, strict=False):
        x = layer(x.clone())  # its activations work in place
        expected[name] = x.clone()
    found = ours(images)
    assert list(found) == layers
    assert found["conv1_1"].min() < 0 == found["relu1_1"].min()
    for name in layers:
        torch.testing.assert_close(found[name], expected[name])


def test_frozen_in_evaluation_mode_yet_passing_gradients_on():
    vgg = VGGFeatures("vgg16", ["conv1_2", "relu1_2"])
    holder = nn.ModuleList([vgg]).train()
    assert not any(module.training for module in vgg.modules())
    assert not any(p.requires_grad for p in holder.parameters())
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    sum(f.square().sum() for f in vgg(images).values()).backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("bare", [True, False])
def test_weights_files_with_and_without_the_prefix(tmp_path, suffix, bare):
    state = _torchvision_state("vgg16", 1)
    if bare:
        state = {name.removeprefix("features."): value for name, value in state.items()}
    else:
        state["classifier.6.bias"] = torch.zeros(1000)
    path = tmp_path / f"vgg{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    vgg = VGGFeatures("vgg16", ["conv1_2"], weights_path=str(path))
    assert torch.equal(vgg.features[2].weight, state["2.weight" if bare else "features.2.weight"])


@pytest.mark.parametrize(
    ("vgg_type", "layers", "change", "message"),
    [
        ("vgg16", ["conv2_1"], lambda s: s.pop("features.5.bias"), r"lacks features\.5\.bias, which vgg16 needs"),
        (
            "vgg16",
            ["conv1_1"],
            lambda s: s.update({"features.0.weight": torch.zeros(64, 1, 3, 3)}),
            r"features\.0\.weight has shape \(64, 1, 3, 3\), vgg16 needs \(64, 3, 3, 3\)",
        ),
        # With batch normalisation the running means stand at other numbers.
        (
            "vgg16",
            ["conv1_1"],
            lambda s: s.update({"features.1.running_mean": torch.zeros(64)}),
            r"not a state dict of vgg16: unexpected features\.1\.running_mean; give torchvision's vgg16",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, vgg_type, layers, change, message):
    state = _torchvision_state("vgg16", 2)
    change(state)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=message):
        VGGFeatures(vgg_type, layers, weights_path=tmp_path / "weights.pth")


def test_the_other_networks_file_is_noticed_though_the_needed_layers_have_the_same_shapes(tmp_path):
    state = {name: value[:1].clone() for name, value in _torchvision_state("vgg16", 4).items()}
    torch.save(state, tmp_path / "vgg16.pth")
    with pytest.raises(ValueError, match=r"not a state dict of vgg19: unexpected features\.17\.bias"):
        VGGFeatures("vgg19", ["conv1_1"], weights_path=tmp_path / "vgg16.pth")


@pytest.mark.parametrize(
    ("vgg_type", "layers", "message"),
    [
        ("vgg11", ["conv1_1"], "vgg_type must be one of vgg16, vgg19, got 'vgg11'"),
        ("vgg16", ["conv5_4"], "vgg16 has no layer conv5_4; it has conv1_1"),
        ("vgg16", [], "at least one layer name"),
        ("vgg16", "conv1_1", "must be a list"),
    ],
)
def test_unknown_networks_and_layers_are_refused(vgg_type, layers, message):
    with pytest.raises(ValueError, match=message):
        VGGFeatures(vgg_type, layers)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no VGG weights at .*absent\.pth"):
        VGGFeatures("vgg16", ["conv1_1"], weights_path=tmp_path / "absent.pth")
