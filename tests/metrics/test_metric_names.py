from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mvmsr.metrics import PROTOCOLS, ProtocolError, Psnr, make_protocol
from mvmsr.metrics.build import build_metric, build_metrics, metric_from_options, metric_names
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


@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        ({"type": "calculate_psnr", "crop_border": 4, "test_y_channel": True}, make_protocol("y_float", 4)),
        (
            {"type": "calculate_psnr", "crop_border": 4, "test_y_channel": False, "better": "higher"},
            make_protocol("rgb", 4),
        ),
        (
            {"type": "calculate_psnr", "crop_border": 2},
            dataclasses.replace(make_protocol("rgb", 4), name="rgb_crop2", crop_border=2),
        ),
        ({"type": "psnr", "protocol": "y"}, make_protocol("y", 4)),
    ],
)
def test_options_fix_the_protocol(options: dict, protocol, pictures) -> None:
    metric = metric_from_options(options, scale=4)
    assert metric.name == "psnr"
    assert metric.higher_is_better
    assert metric(*pictures, make_protocol("rgb_zero_pad", 4)) == Psnr()(*pictures, protocol)


def test_options_without_protocol_follow_the_caller(pictures) -> None:
    metric = metric_from_options({"type": "psnr"}, scale=4)
    assert metric(*pictures, make_protocol("rgb", 2)) != metric(*pictures, make_protocol("y", 2))


def test_options_of_calculate_niqe() -> None:
    metric = metric_from_options({"type": "calculate_niqe", "crop_border": 4, "num_thread": 8}, scale=4)
    assert (metric.name, metric.luma, metric.crop_border) == ("niqe_y", "y", 4)


def test_options_need_a_type_and_refuse_unknown_keys() -> None:
    with pytest.raises(ValueError, match="needs `type`"):
        metric_from_options({"crop_border": 4}, scale=4)
    with pytest.raises(ValueError, match="takes no 'croop_border'"):
        metric_from_options({"type": "ssim", "croop_border": 4}, scale=4)


def test_consistency(pictures) -> None:
    from mvmsr.data.imresize import imresize

    sr, gt = pictures
    metric = build_metric("consistency")
    protocol = make_protocol("y", 4)
    assert metric(gt, gt, protocol) == float("inf")
    small = [imresize(image, scale=0.25).astype(float) for image in (sr, gt)]
    assert metric(sr, gt, protocol) == pytest.approx(10 * np.log10(255**2 / np.mean((small[0] - small[1]) ** 2)))
