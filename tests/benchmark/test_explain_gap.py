from __future__ import annotations

import io
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor
from typer.testing import CliRunner

from mvmsr.benchmark.evaluate import evaluate
from mvmsr.benchmark.explain_gap import (
    Convention,
    Explanation,
    Target,
    TargetError,
    explain,
    measure,
    parse_target,
)
from mvmsr.benchmark.image_sets import ImageSet, load_image_set
from mvmsr.benchmark.methods import Bicubic, SavedPictures
from mvmsr.cli import app
from mvmsr.cli.explain_gap import NARROW, _table
from mvmsr.cli.tables import print_table
from mvmsr.data.image_io import Picture, write_picture, write_rgb
from mvmsr.metrics import PROTOCOLS, Psnr, Ssim, make_protocol

METRICS = {"psnr": Psnr(), "ssim": Ssim()}


def smooth_picture(seed: int, height: int = 64, width: int = 52) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(-60, 315, (1, 3, height // 6, width // 6)))  # much of it saturated
    large = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return (large[0].permute(1, 2, 0).numpy() + rng.normal(0, 8, (height, width, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def image_set(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """Two colour pictures, one with sides that 4 does not divide, and a grey file."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("Three")
    write_rgb(folder / "a.png", smooth_picture(0))
    write_rgb(folder / "b.png", smooth_picture(1, 67, 70))
    Image.fromarray(smooth_picture(2)[..., 0]).save(folder / "grey.png")
    return load_image_set(folder, scale=4)


@pytest.fixture(scope="module")
def scores(image_set: ImageSet) -> dict[str, dict[Convention, float]]:
    return measure(Bicubic(4), image_set, ["psnr", "ssim"])


def mean(method: object, image_set: ImageSet, protocol: str, metric: str, border: int | None = None) -> float:
    found = evaluate(method, image_set, METRICS, make_protocol(protocol, 4, border))  # type: ignore[arg-type]
    return sum(score.scores[metric] for score in found) / len(found)  # type: ignore[misc]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("metric", ["psnr", "ssim"])
def test_every_protocol_is_among_the_conventions(
    protocol: str, metric: str, image_set: ImageSet, scores: dict[str, dict[Convention, float]]
) -> None:
    """Two programs of one protocol agree, and the name that an explanation gives is right."""
    named = {key: value for key, value in scores[metric].items() if key.protocol(4) == protocol}
    if metric == "psnr" or protocol != "rgb_zero_pad":
        assert len(named) == 1
    for value in named.values():
        assert value == pytest.approx(mean(Bicubic(4), image_set, protocol, metric), abs=1e-9)


@pytest.mark.parametrize("border", [0, 10])
def test_other_borders(border: int, image_set: ImageSet, scores: dict[str, dict[Convention, float]]) -> None:
    for metric, variant in (("psnr", "mean of PSNR"), ("ssim", "gaussian")):
        value = scores[metric][Convention("MATLAB, rounded", "rgb", None, border, variant)]
        assert value == pytest.approx(mean(Bicubic(4), image_set, "rgb", metric, border), abs=1e-9)


def test_psnr_of_the_mean_error(scores: dict[str, dict[Convention, float]], image_set: ImageSet) -> None:
    psnrs = [score.scores["psnr"] for score in evaluate(Bicubic(4), image_set, METRICS, make_protocol("rgb", 4))]
    mse = sum(10 ** (-psnr / 10) for psnr in psnrs) / 3  # type: ignore[operator]
    value = scores["psnr"][Convention("MATLAB, rounded", "rgb", None, 4, "PSNR of mean MSE")]
    assert value == pytest.approx(-10 * math.log10(mse))


def test_other_libraries_and_roundings(scores: dict[str, dict[Convention, float]], image_set: ImageSet) -> None:
    import cv2
    from PIL import Image

    def psnr_by(name: str) -> float:
        return scores["psnr"][Convention(name, "rgb", None, 0, "mean of PSNR")]

    expected = {"Pillow, rounded": 0.0, "OpenCV, rounded": 0.0}
    for pair in image_set.pairs:
        _, gt = image_set.load(pair)
        size, small = (gt.shape[1], gt.shape[0]), (gt.shape[1] // 4, gt.shape[0] // 4)
        picture = Image.fromarray(gt)
        pillow = np.asarray(picture.resize(small, Image.Resampling.BICUBIC).resize(size, Image.Resampling.BICUBIC))
        opencv = cv2.resize(cv2.resize(gt, small, interpolation=cv2.INTER_CUBIC), size, interpolation=cv2.INTER_CUBIC)
        for name, sr in (("Pillow, rounded", pillow), ("OpenCV, rounded", opencv)):
            mse = np.mean((sr.astype(float) - gt) ** 2)
            expected[name] += 10 * math.log10(255**2 / mse) / 3
    for name, value in expected.items():
        assert psnr_by(name) == pytest.approx(value, abs=1e-9)
    names = ("MATLAB, rounded", "MATLAB, truncated", "MATLAB, not rounded", *expected)
    assert len({round(psnr_by(name), 6) for name in names}) == len(names)
    assert psnr_by("MATLAB, truncated") < psnr_by("MATLAB, rounded")


def test_grey_files_matter_to_luma_alone(scores: dict[str, dict[Convention, float]], image_set: ImageSet) -> None:
    def difference(color: str) -> float:
        ways = [Convention("MATLAB, rounded", color, grey, 4, "mean of PSNR") for grey in ("as RGB", "as it is")]
        return scores["psnr"][ways[0]] - scores["psnr"][ways[1]]

    assert difference("y") == pytest.approx(20 * math.log10(255 / 219) / 3, abs=0.01)
    assert not [key for key in scores["psnr"] if key.color == "rgb" and key.grey is not None]
    colour_only = ImageSet("Two", image_set.pairs[:2], 4)
    assert {key.grey for key in measure(Bicubic(4), colour_only, ["psnr"])["psnr"]} == {None}


def test_a_model_is_called_on_each_kind_of_low_quality(image_set: ImageSet) -> None:
    """Nearest neighbours; luma first is for bicubic alone."""

    def enlarge(lq: Tensor) -> Tensor:
        return lq.repeat_interleave(4, 2).repeat_interleave(4, 3)

    found = measure(enlarge, image_set, ["psnr"])["psnr"]
    assert {key.how.split(",")[0] for key in found} == {"MATLAB", "Pillow", "OpenCV"}
    value = found[Convention("MATLAB, rounded", "rgb", None, 4, "mean of PSNR")]
    assert value == pytest.approx(mean(enlarge, image_set, "rgb", "psnr"), abs=1e-4)


def test_saved_pictures_are_taken_as_they_are(image_set: ImageSet, tmp_path: Path) -> None:
    for pair in image_set.pairs:
        _, gt = image_set.load(pair)
        write_rgb(tmp_path / f"{pair.name}.png", (gt.astype(int) // 8 * 8).astype(np.uint8))
    found = measure(SavedPictures(tmp_path), image_set, ["psnr"])["psnr"]
    assert {key.how for key in found} == {"its own images"}
    value = found[Convention("its own images", "rgb", None, 4, "mean of PSNR")]
    assert value == pytest.approx(mean(SavedPictures(tmp_path), image_set, "rgb", "psnr"), abs=1e-9)


def test_the_sets_own_files_are_tried(tmp_path: Path) -> None:
    gt = smooth_picture(3)
    write_rgb(tmp_path / "image_SRF_4" / "img_001_SRF_4_HR.png", gt)
    write_rgb(tmp_path / "image_SRF_4" / "img_001_SRF_4_LR.png", gt[::4, ::4])
    owned = load_image_set(tmp_path, scale=4, lq="file")
    found = measure(Bicubic(4), owned, ["psnr"])["psnr"]
    value = found[Convention("the set's files, rounded", "rgb", None, 4, "mean of PSNR")]
    assert value == pytest.approx(mean(Bicubic(4), owned, "rgb", "psnr"), abs=1e-9)


def test_pictures_are_counted(image_set: ImageSet) -> None:
    seen: list[tuple[int, int, str]] = []
    measure(Bicubic(4), image_set, ["psnr"], lambda *what: seen.append(what), workers=2)
    assert seen == [(1, 3, "a"), (2, 3, "b"), (3, 3, "grey")]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("psnr=26.00", Target("psnr", 26.0, 0.005)),
        ("PSNR=26.0", Target("psnr", 26.0, 0.05)),
        ("ssim=.7027", Target("ssim", 0.7027, 0.00005)),
        ("psnr=26", Target("psnr", 26.0, 0.5)),
    ],
)
def test_digits_are_the_tolerance(text: str, target: Target) -> None:
    found = parse_target(text)
    assert (found.metric, found.value) == (target.metric, target.value)
    assert found.tolerance == pytest.approx(target.tolerance)


@pytest.mark.parametrize("text", ["psnr", "psnr=", "psnr=abc", "psnr=nan", "psnr=inf", "lpips=0.3", "26.00"])
def test_targets_refused(text: str) -> None:
    with pytest.raises(TargetError, match="target"):
        parse_target(text)


def test_the_nearest_is_first_and_the_worst_target_counts() -> None:
    first, second = Convention("x", "y", None, 4), Convention("x", "rgb", None, 4)

    def of(key: Convention, variant: str) -> Convention:
        return Convention(key.how, key.color, key.grey, key.border, variant)

    scores = {
        "psnr": {of(first, "p"): 26.004, of(second, "p"): 26.0},
        "ssim": {of(first, "s"): 0.70273, of(first, "t"): 0.70276, of(second, "s"): 0.7019},
    }
    found = explain(scores, [parse_target("psnr=26.00"), parse_target("ssim=0.7027")])
    assert [one.values["ssim"] for one in found] == [0.70273, 0.70276, 0.7019]
    assert [one.distance for one in found] == pytest.approx([0.8, 1.2, 16.0])
    assert [one.fits for one in found] == [True, False, False]
    assert Explanation({}, {}, 1.0).fits  # a tie in the last digit may be rounded either way
    for targets in ([], [parse_target("psnr=1"), parse_target("psnr=2")]):
        with pytest.raises(TargetError, match="one target each"):
            explain(scores, targets)
    with pytest.raises(TargetError, match="for some of psnr; got ssim"):
        explain({"psnr": scores["psnr"]}, [parse_target("ssim=0.7")])


def test_targets_of_two_protocols_have_none() -> None:
    rgb = Convention("MATLAB, rounded", "rgb", None, 4, "mean of PSNR")
    luma = Convention("MATLAB, rounded", "y", None, 4, "gaussian")
    assert Explanation({"psnr": rgb}, {}, 0.0).protocol(4) == "rgb"
    assert Explanation({"ssim": luma}, {}, 0.0).protocol(4) == "y_float"
    assert Explanation({"psnr": rgb, "ssim": luma}, {}, 0.0).protocol(4) is None


def test_conventions_that_lack_a_picture_are_left_out(image_set: ImageSet, tmp_path: Path) -> None:
    """Of 16 x 16 pixels a border of 10 leaves none, and one of 4 no window of SSIM."""
    write_rgb(tmp_path / "tiny.png", smooth_picture(4, 16, 16))
    tiny = load_image_set(tmp_path, scale=4).pairs
    found = measure(Bicubic(4), ImageSet("Two", (image_set.pairs[0], *tiny), 4), ["psnr", "ssim"])
    assert {key.border for key in found["psnr"]} == {0, 4}
    assert {key.border for key in found["ssim"]} == {0}


def test_images_of_a_wrong_size_are_named_with_both_sizes(tmp_path: Path) -> None:
    folder = tmp_path / "originals"
    write_rgb(folder / "a.png", smooth_picture(0))
    saved = written(tmp_path / "saved" / "a.png", 60, 52)
    tiny = written(tmp_path / "tiny" / "a.png", 3, 52)
    low = written(tmp_path / "low" / "a.png", 15, 9)
    whole = load_image_set(folder, scale=4)
    for method, images, message in (
        (SavedPictures(saved.parent), whole, f"{saved} is 52x60, the original 52x64; they must be equal"),
        (Bicubic(4), load_image_set(tiny.parent, scale=4), f"{tiny} is 52x3, too small for x4"),
        (Bicubic(4), load_image_set(folder, scale=4, lq=str(low.parent)), f"{low} is 9x15; expected 13x16, 1/4 of a"),
        (lambda lq: lq, whole, "a: the result is 13x16, the original 52x64; they must be equal"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            measure(method, images, ["psnr"])  # type: ignore[arg-type]


def test_images_that_are_too_small_for_ssim_are_told_so(tmp_path: Path) -> None:
    written(tmp_path / "a.png", 8, 52)
    small = load_image_set(tmp_path, scale=4)
    assert measure(Bicubic(4), small, ["psnr"])["psnr"]
    with pytest.raises(ValueError, match="ssim needs images of at least 11x11 pixels, and not all are"):
        measure(Bicubic(4), small, ["psnr", "ssim"])


def test_files_made_after_the_usual_cut_are_compared_with_the_cut_original(tmp_path: Path) -> None:
    write_rgb(tmp_path / "whole" / "a.png", smooth_picture(0))
    write_rgb(tmp_path / "cut" / "a.png", smooth_picture(0)[:60, :48])
    written(tmp_path / "low" / "a.png", 15, 12)
    found = [
        measure(Bicubic(4), load_image_set(tmp_path / name, scale=4, lq=str(tmp_path / "low")), ["psnr"])
        for name in ("whole", "cut")
    ]
    assert found[0] == found[1]


def written(path: Path, height: int, width: int) -> Path:
    write_rgb(path, smooth_picture(1)[:height, :width])
    return path


def test_transparent_originals_lie_over_white(tmp_path: Path) -> None:
    alpha = np.add.outer(np.arange(64), np.arange(52)).astype(np.uint8)
    write_picture(tmp_path / "a.png", Picture(smooth_picture(5), alpha))
    clear = load_image_set(tmp_path, scale=4)
    value = measure(Bicubic(4), clear, ["psnr"])["psnr"][Convention("MATLAB, rounded", "rgb", None, 4, "mean of PSNR")]
    assert value == pytest.approx(mean(Bicubic(4), clear, "rgb", "psnr"), abs=1e-9)


def invoke(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["explain-gap", *map(str, arguments)], env={"COLUMNS": "240"})
    return done.exit_code, done.output


def test_command_finds_the_convention(image_set: ImageSet, tmp_path: Path) -> None:
    folder = image_set.pairs[0].gt.parent
    target = f"psnr={mean(Bicubic(4), image_set, 'rgb', 'psnr'):.6f}"
    code, output = invoke("--target", target, "--set", folder, "--json", tmp_path / "all.json", "--top", 3)
    assert code == 0, output
    assert "1 fit. Measure so by --protocol rgb." in output
    rows = json.loads((tmp_path / "all.json").read_text())["conventions"]
    assert rows[0]["fits"]
    assert rows[0]["protocol"] == "rgb"
    assert rows[0]["conventions"]["psnr"]["color"] == "rgb"
    assert [row["distance"] for row in rows] == sorted(row["distance"] for row in rows)
    assert output.count("MATLAB") + output.count("luma first") + output.count("Pillow") + output.count("OpenCV") == 3


@pytest.mark.parametrize("width", [60, 80, NARROW, 200])
def test_figures_are_whole_on_every_terminal(width: int, scores: dict[str, dict[Convention, float]]) -> None:
    targets = [parse_target("psnr=26.00"), parse_target("ssim=0.7027")]
    found = explain(scores, targets)[:20]
    console = Console(file=io.StringIO(), width=width)
    print_table(console, _table(found, targets, 4, "title", narrow=width < NARROW))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert width < 80 or max(map(len, text.splitlines())) <= width
    for one in found:
        for target, decimals in zip(targets, (4, 6), strict=True):
            value = one.values[target.metric]
            assert f"{value:.{decimals}f}" in text
            assert f"({value - target.value:+.{decimals}f})" in text


def test_command_says_when_none_fits(image_set: ImageSet) -> None:
    code, output = invoke("--target", "psnr=77.77", "--set", image_set.pairs[0].gt.parent)
    assert code == 1
    assert "none gives the figures" in output


def test_wrong_questions(tmp_path: Path, image_set: ImageSet) -> None:
    folder = image_set.pairs[0].gt.parent
    for arguments, message in (
        (("--target", "niqe=7.0", "--set", folder), "not for 'niqe'"),
        (("--target", "psnr=26.00", "--set", tmp_path / "none"), "none"),
        (("--target", "psnr=26.00", "--set", folder, "--method", "nothing"), "unknown method 'nothing'"),
        (("--set", folder), "--target"),
        (("--target", "psnr=26.00", "psnr=27", "--set", folder), "give one figure of a metric"),
        (("--target", "psnr=26.00", "--set", folder, "--scale", 0), "--scale"),
    ):
        code, output = invoke(*arguments)
        assert code == 2, output
        assert message in output


@pytest.mark.data
def test_the_published_row_of_set5_is_luma_first() -> None:
    if not os.environ.get("MVMSR_DATA_ROOT"):
        pytest.skip("no benchmark images; set MVMSR_DATA_ROOT to the folder that holds Set5 and the others")
    image_set = load_image_set("Set5", os.environ["MVMSR_DATA_ROOT"], 4, "file")
    found = explain(
        measure(Bicubic(4), image_set, ["psnr", "ssim"]), [parse_target("psnr=28.42"), parse_target("ssim=0.8104")]
    )
    assert found[0].protocol(4) == "y_only"
    assert {one.conventions["psnr"].how for one in found if one.fits} == {
        "luma first",
        "luma first, clipped to [0, 255]",
    }
