from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mvmsr.archs import SRResNet
from mvmsr.inference import WeightsError, read_info, save_weights
from mvmsr.inference import weights as weights_room
from mvmsr.inference.export import export
from mvmsr.inference.folding import fold_batch_norm
from mvmsr.inference.model_card import card_of, read_card
from mvmsr.inference.weights import default_model, load_generator

ARGS = {"num_feat": 8, "num_block": 2}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(weights_room, "BUILTIN_DIR", tmp_path / "models")
    return tmp_path / "models"


def _add(folder: Path, name: str, **card: str) -> None:
    save_weights(folder / f"{name}.safetensors", SRResNet(**ARGS).state_dict(), "SRResNet", ARGS, 4, card, half=True)


def test_models_lie_in_the_package() -> None:
    import mvmsr

    assert Path(mvmsr.__file__).parent / "models" == weights_room.BUILTIN_DIR


def test_the_default_is_the_only_one_or_the_marked_one(folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"no --model was named\. This installation has no built-in models"):
        default_model()
    _add(folder, "b")
    assert default_model() == "b"
    _add(folder, "a")
    with pytest.raises(WeightsError, match="0 of the built-in ones are the default: a, b"):
        default_model()
    _add(folder, "c", default="yes")
    assert default_model() == "c"
    _add(folder, "d", default="yes")
    with pytest.raises(WeightsError, match="2 of the built-in ones"):
        default_model()


def test_half_the_size_and_hardly_another_picture(network: SRResNet, weights: Path, tmp_path: Path) -> None:
    module, info = load_generator(weights)
    difference = export(module, info, "safetensors", tmp_path / "half.safetensors", half=True)
    assert 0 < difference <= 0.5 / 255
    again, described = load_generator(tmp_path / "half.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * weights.stat().st_size
    assert described.extra == info.extra
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    lq = torch.rand(1, 3, 9, 9)
    with torch.no_grad():
        assert (again(lq) - network(lq)).abs().max() <= 0.5 / 255


def test_values_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="w holds values up to 70000, beyond float16"):
        save_weights(tmp_path / "a.safetensors", {"w": torch.tensor([7e4])}, "SRResNet", {}, 4, half=True)


def test_halving_is_for_safetensors(weights: Path, tmp_path: Path) -> None:
    module, info = load_generator(weights)
    with pytest.raises(WeightsError, match="only safetensors are stored as float16, not pth"):
        export(module, info, "pth", tmp_path / "a.pth", half=True)


def test_a_card_is_read_and_shown_in_its_order(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "card.yml").write_text("date: 2026-11-22\ntitle: quick, x4\ndefault: yes\n")
    card = read_card(tmp_path / "card.yml")
    assert card == {"date": "2026-11-22", "title": "quick, x4", "default": "yes"}
    _add(folder, "a", **card, iterations="7")
    assert list(card_of(read_info(folder / "a.safetensors"))) == ["title", "date", "default"]
    assert default_model() == "a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("titel: x", "unknown key 'titel'. Did you mean 'title'"),
        ("title: [a]", "title must be a text"),
        ("- a", "lines of `key: text`"),
        ("a: [", "cannot be read as a model card"),
    ],
)
def test_cards_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "card.yml").write_text(text)
    with pytest.raises(WeightsError, match=message):
        read_card(tmp_path / "card.yml")


def test_folding_keeps_the_values() -> None:
    torch.manual_seed(0)
    module = SRResNet(**ARGS)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    module.eval()
    lq = torch.rand(1, 3, 12, 10)
    with torch.no_grad():
        before = module(lq)
        assert fold_batch_norm(module) == 5
        after = module(lq)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    assert (after - before).abs().max() < 1e-5
    assert fold_batch_norm(module) == 0


def test_folding_what_trains_is_refused() -> None:
    with pytest.raises(ValueError, match="eval mode only"):
        fold_batch_norm(SRResNet(**ARGS).train())
