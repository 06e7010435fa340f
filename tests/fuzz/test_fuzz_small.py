"""A little of `benchmarks/fuzz.py`, on every run of the tests: hostile files are used or refused, and nothing else."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mvmsr.config import OptionsError, TrainOptions, load
from mvmsr.data.image_io import ImageError, image_size, read_picture

SMALL = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
OPTIONS = b"""\
name: small
datasets:
  train: {dataroot_gt: pictures, gt_size: 32}
  val: {name: Set5}
network_g: {type: SRResNet, num_feat: 8}
train:
  total_iter: 10
  optim_g: &optim {type: Adam, lr: 1e-4, betas: [0.9, 0.99]}
  optim_d: *optim
  pixel_opt: {<<: {loss_weight: 1}, type: L1Loss}
"""
PIECES = st.sampled_from(
    (
        *(
            b"&a ",
            b"*a",
            b"<<: ",
            b"!!python/object/apply:os.system [ls]",
            b"!!float ''",
            b'"\\UFFFFFFFF"',
            b"\0",
            b"\t",
            b"\r",
        ),
        *(
            b"\xff\xfe",
            b"\xef\xbb\xbf",
            b".nan",
            b"9" * 5000,
            b"[" * 60,
            b"{a: " * 60,
            b"---\n",
            b"? ",
            b"|",
            b"%",
            b"x" * 9000,
        ),
    )
)


def pictures() -> list[bytes]:
    """Small files of several formats and depths."""
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    for image, kind in (
        *((rgb, "PNG"), (rgb, "JPEG"), (rgb, "WEBP"), (rgb, "TIFF"), (rgb, "BMP"), (rgb, "GIF")),
        *(
            (rgb.convert("CMYK"), "TIFF"),
            (rgb.convert("P"), "PNG"),
            (rgb.convert("I;16"), "PNG"),
            (rgb.convert("LA"), "PNG"),
        ),
    ):
        buffer = io.BytesIO()
        image.save(buffer, kind, **({"exif": exif} if kind in ("JPEG", "TIFF", "PNG", "WEBP") else {}))
        made.append(buffer.getvalue())
    return made


PICTURES = pictures()


def changed(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """The data with parts replaced: (where, how many bytes go, what comes)."""
    for where, gone, piece in changes:
        at = where % (len(data) + 1)
        data = data[:at] + piece + data[at + gone :]
    return data


def read_options(data: bytes) -> TrainOptions | None:
    """Valid options, or None for a refusal that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.yml"
        path.write_bytes(data)
        try:
            return load(path)
        except OptionsError as error:
            said = str(error)
    assert "case.yml" in said
    assert len(said) < 16_384
    return None


@SMALL
@given(st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 8), PIECES | st.binary(max_size=4)), max_size=4))
def test_changed_options_are_valid_or_refused(changes: list[tuple[int, int, bytes]]):
    options = read_options(changed(OPTIONS, changes))
    assert options is None or isinstance(options, TrainOptions)
    assert changes or options is not None


@SMALL
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_anything_is_no_options(data: bytes):
    assert read_options(data) is None


@SMALL
@given(
    st.sampled_from(PICTURES),
    st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 8), st.binary(max_size=8)), max_size=4),
    st.integers(0, 9999),
)
def test_changed_pictures_are_read_or_refused(data: bytes, changes: list[tuple[int, int, bytes]], length: int):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.png"
        path.write_bytes(changed(data, changes)[: length or None])
        try:
            size, said = image_size(path), ""
            picture = read_picture(path)
        except ImageError as error:
            said = str(error)
    assert "case.png" in said if said else min(size) > 0 and picture.rgb.shape[2] == 3


def test_unchanged_pictures_are_read(tmp_path: Path):
    for data in PICTURES:
        (tmp_path / "case.png").write_bytes(data)
        assert read_picture(tmp_path / "case.png").rgb.shape[:2] == image_size(tmp_path / "case.png")
