"""One order after another, without a server."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from served_page import noise

from mvmsr.data.image_io import Picture, read_picture, write_picture
from mvmsr.inference import Upscaler
from mvmsr.web import job
from mvmsr.web.desk import Desk
from mvmsr.web.folder import Folder
from mvmsr.web.job import Done, Order, carry_out, size_within
from mvmsr.web.limits import Limits, Refused
from mvmsr.web.shelf import Shelf
from mvmsr.web.watch import Stopped, Watch


@pytest.fixture(scope="module")
def shelf(tiny: Path) -> Shelf:
    return Shelf([str(tiny)], device="cpu")


def _carry_out(order: Order, shelf: Shelf, folder: Path) -> Done:
    watch = Watch(1, 1e9, lambda _part: None)
    return carry_out(order, shelf.upscaler(order.model, order.scale), folder, watch, 40_000)


@pytest.mark.parametrize("model", ["tiny", "bicubic"])
@pytest.mark.parametrize(("name", "format_", "scale"), [("deep", "PNG", 4), ("clear", "WebP", 3), ("plain", "JPEG", 2)])
def test_the_file_is_that_of_upscale(
    shelf: Shelf, tiny: Path, pictures: Path, tmp_path: Path, model: str, name: str, format_: str, scale: int
) -> None:
    source = pictures / f"{name}.png"
    done = _carry_out(Order(source, model, scale, format_, 80), shelf, tmp_path)
    weights = str(tiny) if model == "tiny" else model
    same = tmp_path / f"same{done.file.suffix}"
    Upscaler(weights, device="cpu", outscale=scale).upscale_file(source, same, quality=80)
    assert done.file.read_bytes() == same.read_bytes()
    assert done.file.name == f"{name}_x{scale}{done.file.suffix}"
    assert (done.height, done.width) == read_picture(same).rgb.shape[:2]


def test_what_was_turned_and_coloured_stays_so(shelf: Shelf, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    profile = b"\0" * 16 + b"RGB " + b"\0" * 108
    Image.fromarray(noise(12, 20, 3)).save(tmp_path / "turned.png", exif=exif, icc_profile=profile)
    done = _carry_out(Order(tmp_path / "turned.png", "tiny"), shelf, tmp_path)
    with Image.open(done.file) as result:
        assert result.size == (48, 80)
        assert result.info["icc_profile"] == profile
        assert result.getexif()[0x010E] == "a description"
        assert result.getexif()[0x0112] == 1


def test_previews_are_bicubic_and_the_result(shelf: Shelf, pictures: Path, tmp_path: Path) -> None:
    done = _carry_out(Order(pictures / "clear.png", "tiny"), shelf, tmp_path)
    source = read_picture(pictures / "clear.png")
    before, after = read_picture(done.before), read_picture(done.after)
    bicubic = Upscaler("bicubic", outscale=4).upscale(source)
    assert (before.rgb == bicubic.rgb).all()
    assert before.alpha is not None
    assert (before.alpha == bicubic.alpha).all()
    assert (after.rgb == read_picture(done.file).rgb).all()
    assert done.notes == ()


def test_large_results_are_compared_reduced(
    shelf: Shelf, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "PREVIEW_SIDE", 62)
    done = _carry_out(Order(pictures / "clear.png", "bicubic"), shelf, tmp_path)
    before, after = read_picture(done.before), read_picture(done.after)
    assert before.rgb.shape == after.rgb.shape == (40, 62, 3)
    assert (done.width, done.height) == (124, 80)
    assert done.notes == ("The comparison is reduced to 50%; the download is not.",)
    # enlarged four times and halved is nearly enlarged twice
    assert np.abs(before.rgb[4:-4, 4:-4].astype(float) - after.rgb[4:-4, 4:-4]).mean() < 6


def test_what_a_format_loses_is_said(shelf: Shelf, pictures: Path, tmp_path: Path) -> None:
    notes = _carry_out(Order(pictures / "deep.png", "bicubic", 2, "JPEG"), shelf, tmp_path).notes
    assert len(notes) == 2
    assert "16 bits" in notes[0]
    assert "laid over white" in notes[1]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("junk", "is not an image"),
        ("program", "is not an image"),
        ("empty", "is not an image"),
        ("wide", "has 201 × 200 pixels"),
    ],
)
def test_other_files_are_refused_by_their_first_bytes(pictures: Path, name: str, why: str) -> None:
    with pytest.raises(Refused, match=f"^{name}.png {why}"):
        size_within(pictures / f"{name}.png", 4, Limits(pixels=40_000))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [((5,), "scale"), ((4, "EXE"), "format"), ((4, "JPEG", 0), "quality"), ((4, "PNG", 101), "qua")],
)
def test_other_orders_are_refused(arguments: tuple, why: str) -> None:
    with pytest.raises(Refused, match=why):
        Order(Path("a.png"), "tiny", *arguments)


def test_a_bomb_is_refused_by_its_header(pictures: Path, tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    png = (pictures / "plain.png").read_bytes()
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:])
    with pytest.raises(Refused, match=r"bomb\.png is far too large"):
        size_within(bomb, 4, Limits(pixels=10**12))


class TestDesk:
    @pytest.fixture
    def desk(self, shelf: Shelf) -> Desk:
        return Desk(shelf, Limits(pixels=40_000), Folder())

    @pytest.fixture(autouse=True)
    def _clean(self, desk: Desk) -> object:
        yield
        desk.folder.remove()

    def test_progress_ends_at_the_whole_and_the_result_is_kept(self, desk: Desk, pictures: Path) -> None:
        told: list[float] = []
        finished = desk.serve("a", Order(pictures / "plain.png", "tiny"), told.append)
        assert told
        assert told == sorted(told)
        assert finished.done.file.parent.parent == desk.folder.files
        assert finished.seconds > 0

    def test_messages_name_no_folder_and_nothing_is_left(self, desk: Desk, pictures: Path) -> None:
        for name, model in (("cut", "tiny"), ("junk", "tiny"), ("plain", "absent")):
            with pytest.raises(Refused) as refused:
                desk.serve("a", Order(pictures / f"{name}.png", model), lambda _part: None)
            assert str(pictures) not in str(refused.value)
        assert list(desk.folder.files.iterdir()) == []

    def test_a_job_that_is_called_off_leaves_nothing(self, desk: Desk, pictures: Path) -> None:
        desk.call_off("nobody")
        with pytest.raises(Stopped):
            desk.serve("a", Order(pictures / "middling.png", "tiny"), lambda _part: desk.call_off("a"))
        assert list(desk.folder.files.iterdir()) == []
        desk.serve("a", Order(pictures / "plain.png", "tiny"), lambda _part: desk.call_off("b"))

    def test_time_runs_out(self, shelf: Shelf, pictures: Path, desk: Desk) -> None:
        hasty = Desk(shelf, Limits(seconds=1e-6), desk.folder)
        with pytest.raises(Stopped, match="Given up"):
            hasty.serve("a", Order(pictures / "plain.png", "tiny"), lambda _part: None)

    def test_one_picture_at_a_time(self, desk: Desk, pictures: Path) -> None:
        begun, go_on, second = threading.Event(), threading.Event(), []

        def wait(_part: float) -> None:
            begun.set()
            go_on.wait(30)

        order = Order(pictures / "plain.png", "bicubic")
        threads = [threading.Thread(target=desk.serve, args=("a", order, wait))]
        threads.append(threading.Thread(target=desk.serve, args=("b", order, second.append)))
        threads[0].start()
        assert begun.wait(30)
        threads[1].start()
        threads[1].join(0.3)
        assert threads[1].is_alive()
        assert not second
        go_on.set()
        for thread in threads:
            thread.join(30)
        assert second

    def test_closing_ends_the_work_and_takes_no_more(self, desk: Desk, pictures: Path) -> None:
        begun, ended = threading.Event(), []

        def work() -> None:
            with pytest.raises(Stopped, match="being closed"):
                desk.serve("a", Order(pictures / "middling.png", "tiny"), lambda _part: begun.wait(30) and None)
            ended.append(1)

        thread = threading.Thread(target=work)
        thread.start()
        threading.Timer(0.2, begun.set).start()
        while not desk._watches:
            pass
        desk.close()
        thread.join(30)
        assert ended
        with pytest.raises(Stopped, match="being closed"):
            desk.serve("b", Order(pictures / "plain.png", "tiny"), lambda _part: None)
        assert list(desk.folder.files.iterdir()) == []


def test_models_are_called_by_their_names_and_kept(tiny: Path, tmp_path: Path) -> None:
    other = tmp_path / "tiny.safetensors"
    other.write_bytes(tiny.read_bytes())
    shelf = Shelf([str(tiny), str(other)], device="cpu")
    assert shelf.names[:2] == ["tiny", "tiny (2)"]
    assert shelf.names[-1] == "bicubic"
    assert shelf.upscaler("tiny", 2) is shelf.upscaler("tiny", 2)
    assert shelf.upscaler("tiny", 2).restorer is shelf.upscaler("tiny", 4).restorer
    with pytest.raises(Refused, match="choose one of tiny"):
        shelf.upscaler(str(tiny), 4)


def test_a_missing_model_is_an_error_at_the_start() -> None:
    with pytest.raises(ValueError, match="neither a file, nor a run directory"):
        Shelf(["absent"])


def test_the_folder_is_private_and_swept(tmp_path: Path) -> None:
    folder = Folder()
    assert folder.root.stat().st_mode & 0o777 == 0o700
    old, new = folder.new(), folder.new()
    for place in (old, new):
        write_picture(place / "a.png", Picture(noise(4, 4, 3)))
    assert folder.bytes() == 2 * (old / "a.png").stat().st_size
    for path in (old / "a.png", old):
        os.utime(path, (1, 1))
    folder.sweep(60)
    assert list(folder.files.iterdir()) == [new]
    folder.remove()
    assert not folder.root.exists()
