from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mvmsr.benchmark.evaluate import ImageScore, evaluate, quantise, score_picture, to_tensor
from mvmsr.benchmark.image_sets import ImageSet, load_image_set
from mvmsr.benchmark.methods import Bicubic, SavedPictures
from mvmsr.color import rgb_to_y
from mvmsr.data.image_io import write_rgb
from mvmsr.data.imresize import imresize
from mvmsr.metrics import Metric, Niqe, Protocol, ProtocolError, Psnr, Ssim, make_protocol
from mvmsr.metrics.build import build_metric
from mvmsr.metrics.psnr import psnr

METRICS = {"psnr": Psnr(), "ssim": Ssim()}


def picture(seed: int, height: int = 40, width: int = 48) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return imresize(coarse, scale=4)


@pytest.fixture
def image_set(tmp_path: Path) -> ImageSet:
    for seed in range(3):
        write_rgb(tmp_path / "set" / f"p{seed}.png", picture(seed))
    return load_image_set(tmp_path / "set", scale=4)


def test_bicubic_by_hand(image_set: ImageSet) -> None:
    scores = evaluate(Bicubic(4), image_set, METRICS, make_protocol("rgb", 4), name="bicubic")
    assert [(s.method, s.set, s.image) for s in scores] == [("bicubic", "set", f"p{i}") for i in range(3)]
    gt = picture(1)
    sr = imresize(imresize(gt, scale=0.25), scale=4)
    expected = psnr(sr[4:-4, 4:-4].astype(float), gt[4:-4, 4:-4].astype(float))
    assert scores[1].scores["psnr"] == pytest.approx(expected, abs=1e-12)
    assert scores[1].error is None
    assert scores[1].seconds > 0


def test_any_function_of_lq_is_a_method(image_set: ImageSet) -> None:
    seen: list[Tensor] = []

    def nearest(lq: Tensor) -> Tensor:
        seen.append(lq)
        assert not torch.is_grad_enabled()
        return torch.nn.functional.interpolate(lq, scale_factor=4)

    scores = evaluate(nearest, image_set, METRICS, make_protocol("y", 4))
    lq, gt = image_set.load(image_set.pairs[0])
    assert seen[0].dtype == torch.float32
    assert torch.equal(seen[0], torch.from_numpy(lq).permute(2, 0, 1)[None] / 255)
    expected = Psnr()(lq.repeat(4, axis=0).repeat(4, axis=1), gt, make_protocol("y", 4))
    assert scores[0].scores["psnr"] == pytest.approx(expected, abs=1e-12)


def test_a_perfect_method_scores_infinity(image_set: ImageSet) -> None:
    answers = iter([to_tensor(image_set.load(pair)[1]) for pair in image_set.pairs])
    scores = evaluate(lambda lq: next(answers), image_set, METRICS, make_protocol("y", 4))
    assert [s.scores["psnr"] for s in scores] == [math.inf] * 3


def test_failures_name_the_picture_and_the_rest_is_done(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(4):
        write_rgb(tmp_path / f"p{seed}.png", picture(seed))
    (tmp_path / "p0.png").write_bytes(b"not an image")
    calls = iter(range(9))

    def method(lq: Tensor) -> Tensor:
        call = next(calls)
        sr = torch.nn.functional.interpolate(lq, scale_factor=4)
        return [sr[..., 1:], sr * math.nan, sr][call]

    seen: list[tuple[ImageScore, bool]] = []
    with caplog.at_level(logging.WARNING):
        scores = evaluate(
            method,
            load_image_set(tmp_path, scale=4),
            METRICS,
            make_protocol("y", 4),
            lambda score, sr: seen.append((score, sr is not None)),
        )
    assert "p0.png" in scores[0].error
    assert "the result is 47x40, the original 48x40" in scores[1].error
    assert "not finite" in scores[2].error
    assert [bool(s.scores) for s in scores] == [False, False, False, True]
    assert seen == list(zip(scores, [False, False, False, True], strict=True))
    assert len(caplog.records) == 3


def test_programming_errors_are_not_hidden(image_set: ImageSet) -> None:
    with pytest.raises(TypeError):
        evaluate(lambda: None, image_set, METRICS, make_protocol("y", 4))  # type: ignore[arg-type, misc]


def test_saved_pictures(image_set: ImageSet, tmp_path: Path) -> None:
    for seed in (0, 2):
        gt = picture(seed)
        write_rgb(tmp_path / "theirs" / f"p{seed}.png", gt if seed == 0 else gt[:-4])
    scores = evaluate(SavedPictures(tmp_path / "theirs"), image_set, METRICS, make_protocol("y", 4))
    assert scores[0].scores["psnr"] == math.inf
    assert scores[0].seconds is None
    assert "no file for p1" in scores[1].error
    assert "the result is 48x36" in scores[2].error


def test_a_metric_that_does_not_apply_says_why(image_set: ImageSet) -> None:
    scores = evaluate(Bicubic(4), image_set, {**METRICS, "niqe": Niqe()}, make_protocol("y", 4))
    assert scores[0].scores["niqe"] is None
    assert "48x40" in scores[0].notes["niqe"]
    assert scores[0].scores["psnr"] is not None


class _ByNetwork(Metric):
    """A metric with a network, which is called apart from the others."""

    name, higher_is_better, why_nan = "net", True, "the network knows no answer"

    def __init__(self, answer: float) -> None:
        self.network, self.answer = torch.nn.Identity(), answer

    def __call__(self, sr: np.ndarray, gt: np.ndarray | None, protocol: Protocol) -> float:
        return self.answer


@pytest.mark.parametrize("answer", [3.0, math.nan])
def test_networks_do_not_hide_what_others_say(image_set: ImageSet, answer: float) -> None:
    metrics = {"net": _ByNetwork(answer), "niqe": Niqe(), **METRICS}
    score = evaluate(Bicubic(4), image_set, metrics, make_protocol("y", 4))[0]
    assert list(score.scores) == list(metrics)
    assert "48x40" in score.notes["niqe"]
    if math.isnan(answer):
        assert score.scores["net"] is None
        assert score.notes["net"] == "the network knows no answer"
    else:
        assert score.scores["net"] == answer
        assert "net" not in score.notes


def test_y_only(image_set: ImageSet) -> None:
    protocol = make_protocol("y_only", 4)
    scores = evaluate(Bicubic(4), image_set, {**METRICS, "niqe": Niqe()}, protocol, name="bicubic")
    luma = rgb_to_y(picture(2), round_y=True)
    sr = np.round(imresize(imresize(luma, scale=0.25), scale=4).clip(16, 235))
    assert scores[2].scores["psnr"] == pytest.approx(psnr(sr[4:-4, 4:-4], luma[4:-4, 4:-4]), abs=1e-9)
    assert "luma only" in scores[2].notes["niqe"]
    with pytest.raises(ProtocolError, match="exists for bicubic alone, not for 'mine'"):
        evaluate(lambda lq: lq, image_set, METRICS, protocol, name="mine")


def test_y_only_takes_grey_files_as_they_are(tmp_path: Path) -> None:
    from PIL import Image

    levels = picture(5)[..., 0]
    Image.fromarray(levels).save(tmp_path / "grey.png")
    scores = evaluate(Bicubic(4), load_image_set(tmp_path, scale=4), METRICS, make_protocol("y_only", 4))
    sr = np.floor(imresize(imresize(levels.astype(float), scale=0.25), scale=4).clip(16, 235) + 0.5)
    expected = psnr(sr[4:-4, 4:-4], levels[4:-4, 4:-4].astype(float))
    assert scores[0].scores["psnr"] == pytest.approx(expected, abs=1e-9)


def test_scales_must_agree(image_set: ImageSet) -> None:
    with pytest.raises(ProtocolError, match="protocol of x2 on set, which is x4"):
        evaluate(Bicubic(4), image_set, METRICS, make_protocol("y", 2))


def test_quantise() -> None:
    values = torch.tensor([-1.0, 0.0, 0.5 / 255, 0.499 / 255, 127.5 / 255, 254.6 / 255, 1.0, 2.0])
    image = values.view(1, 1, 1, 8).expand(1, 3, 1, 8)
    assert quantise(image)[0, :, 1].tolist() == [0, 0, 1, 0, 128, 255, 255, 255]
    rgb = picture(7)
    assert np.array_equal(quantise(to_tensor(rgb)), rgb)
    with pytest.raises(ValueError, match="expected a result of shape"):
        quantise(torch.zeros(3, 4, 4))


def test_score_picture_refuses_other_sizes() -> None:
    with pytest.raises(ValueError, match="the result is 48x36, the original 48x40"):
        score_picture(picture(0)[:-4], picture(0), METRICS, make_protocol("y", 4))


def test_a_border_that_leaves_nothing_costs_its_own_metric_alone(image_set: ImageSet) -> None:
    metrics = {**METRICS, "psnr_y_crop20": build_metric("psnr_y_crop20")}
    score = evaluate(Bicubic(4), image_set, metrics, make_protocol("y", 4))[0]
    assert score.error is None
    assert score.scores["psnr"] is not None
    assert score.notes["psnr_y_crop20"] == "PSNR needs more than the 20 px cropped at each side; the image is 48x40"


def test_memory_that_is_not_there_fails_one_picture(image_set: ImageSet) -> None:
    calls = iter([MemoryError("no room"), None, None])

    def method(lq: Tensor) -> Tensor:
        if error := next(calls):
            raise error
        return Bicubic(4)(lq)

    scores = evaluate(method, image_set, METRICS, make_protocol("y", 4))
    assert [score.error for score in scores] == ["no room", None, None]
