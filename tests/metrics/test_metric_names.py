from __future__ import annotations

import numpy as np
import pytest

from mvmsr.metrics import PROTOCOLS, ProtocolError, Psnr, make_protocol
from mvmsr.metrics.build import build_metric, build_metrics, metric_names
from mvmsr.registry import RegistryError


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return tuple(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8) for _ in range(2))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("y", {"color": "y", "round_y": True, "crop_border": 3, "ssim_window": "valid", "luma_first": False}),
        ("y_float", {"color": "y", "round_y": False, "crop_border": 3, "ssim_window": "valid", "luma_first": False}),
        ("y_only", {"color": "y", "crop_border": 3, "luma_first": True}),
        ("rgb", {"color": "rgb", "crop_border": 3, "ssim_window": "valid"}),
        ("rgb_zero_pad", {"color": "rgb", "crop_border": 0, "ssim_window": "zero_pad"}),
    ],
)
def test_protocols(name: str, expected: dict) -> None:
    fields = make_protocol(name, 3).as_dict()
    assert fields["name"] == name
    assert fields["scale"] == 3
    assert {key: fields[key] for key in expected} == expected


def test_descriptions_tell_protocols_apart() -> None:
    texts = [make_protocol(name, 4).describe() for name in PROTOCOLS]
    assert len({text.split("(")[1] for text in texts}) == len(PROTOCOLS)
    assert texts[0] == "y (luma, rounded, 4 px border cropped, x4)"


def test_unknown_protocol_and_scale() -> None:
    with pytest.raises(ProtocolError, match="Did you mean 'y_float'"):
        make_protocol("y_flaot", 4)
    with pytest.raises(ProtocolError, match="scale is 0"):
        make_protocol("y", 0)
    with pytest.raises(ProtocolError, match="crop_border is -1"):
        make_protocol("y", 4, crop_border=-1)


def test_names() -> None:
    assert {"psnr", "ssim", "niqe", "lpips", "lpips_vgg", "consistency", "calculate_psnr"} <= set(metric_names())
    with pytest.raises(RegistryError, match="Did you mean 'ssim'"):
        build_metric("sim")
    with pytest.raises(ValueError, match="takes no 'window'"):
        build_metric("psnr", {"window": 3})


def test_basicsr_names_and_the_order_asked_for() -> None:
    metrics, missing = build_metrics(["calculate_ssim", "psnr"])
    assert list(metrics) == ["ssim", "psnr"]
    assert missing == []


def test_missing_weights_are_listed_not_raised(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("MVMSR_WEIGHTS_DIR", raising=False)
    metrics, missing = build_metrics(["psnr", "lpips"])
    assert list(metrics) == ["psnr"]
    assert [m.metric for m in missing] == ["lpips"]
    assert "alexnet-owt-7be5be79.pth" in missing[0].why


def test_another_border_shows_in_the_name(pictures) -> None:
    protocol = make_protocol("rgb", 4, crop_border=2)
    assert (protocol.name, protocol.crop_border) == ("rgb_crop2", 2)
    assert make_protocol("rgb", 4, crop_border=4) == make_protocol("rgb", 4)
    inner = [picture[2:-2, 2:-2] for picture in pictures]
    assert Psnr()(*pictures, protocol) == Psnr()(*inner, make_protocol("rgb_zero_pad", 4))


def test_variants_have_names_of_their_own() -> None:
    metrics, _ = build_metrics(["niqe", "calculate_niqe"])
    assert {name: metric.luma for name, metric in metrics.items()} == {"niqe": "gray", "niqe_y": "y"}
    assert build_metric("niqe", {"crop_border": 4}).crop_border == 4
    assert build_metric("niqe_y_crop4", {"crop_border": 2}).name == "niqe_y_crop2"  # what is asked for comes last


def test_consistency(pictures) -> None:
    from mvmsr.data.imresize import imresize

    sr, gt = pictures
    metric = build_metric("consistency")
    protocol = make_protocol("y", 4)
    assert metric(gt, gt, protocol) == float("inf")
    small = [imresize(image, scale=0.25).astype(float) for image in (sr, gt)]
    assert metric(sr, gt, protocol) == pytest.approx(10 * np.log10(255**2 / np.mean((small[0] - small[1]) ** 2)))
