"""Validation options that would fail hours into a run are refused at its start."""

from __future__ import annotations

import pytest

from mvmsr.config import OptionsError
from mvmsr.config.load import validate
from mvmsr.config.yaml_source import Source
from mvmsr.engine.validate import build_validation


def options(val_section, **sets):
    values = {
        "name": "x",
        "datasets": {"train": {}, **sets},
        "network_g": {"type": "SRResNet"},
        "train": {"total_iter": 5},
        "val": val_section,
    }
    return validate(values, Source("o.yml"))


@pytest.mark.parametrize(
    ("val", "key", "message"),
    [
        ({"protocol": "y_only"}, "val.protocol", "y_only exists for bicubic upscaling alone; use y"),
        ({"protocol": "y_only", "crop_border": 2}, "val.protocol", "for bicubic upscaling alone; use y"),
        ({"protocol": "yy"}, "val.protocol", "unknown protocol 'yy'. Did you mean 'y'?"),
        ({"metrics": ("psmr",)}, "val.metrics", "Did you mean 'psnr'?"),
        ({}, "datasets.val", "no data at 'Nowhere'"),
    ],
)
def test_refused(tmp_path, monkeypatch, val, key, message):
    monkeypatch.setenv("MVMSR_DATA_ROOT", str(tmp_path))
    with pytest.raises(OptionsError) as caught:
        build_validation(options(val, val={"name": "Nowhere"}))
    (problem,) = caught.value.problems
    assert problem.key == key
    assert message in problem.message


def test_a_border_of_ones_own_shows_in_the_protocols_name(tmp_path):
    from mvmsr.data.image_io import write_rgb

    np = pytest.importorskip("numpy")
    write_rgb(tmp_path / "a.png", np.zeros((16, 16, 3), np.uint8))
    for border, name in ((None, "y"), (4, "y"), (2, "y_crop2")):
        validation = build_validation(options({"crop_border": border}, val={"dataroot_gt": str(tmp_path)}))
        assert validation.protocol.name == name
        assert validation.protocol.crop_border == (4 if border is None else border)
        assert [image_set.name for image_set in validation.sets] == ["val"]
    assert build_validation(options({"protocol": "unheard of"})) is None
