"""One job after another, without a server."""

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
from mvmsr.web.folder import Folder
from mvmsr.web.job import Job, Result, run_job, size_within
from mvmsr.web.job_queue import JobQueue
from mvmsr.web.limits import Limits, Refused
from mvmsr.web.models import Models
from mvmsr.web.watch import Stopped, Watch


@pytest.fixture(scope="module")
def models(tiny: Path) -> Models:
    return Models([str(tiny)], device="cpu")


def _run_job(job: Job, models: Models, folder: Path) -> Result:
    watch = Watch(1, 1e9, lambda _part: None)
    return run_job(job, models.upscaler(job.model, job.scale), folder, watch, 40_000)


@pytest.mark.parametrize("model", ["tiny", "bicubic"])
@pytest.mark.parametrize(("name", "format_", "scale"), [("deep", "PNG", 4), ("clear", "WebP", 3), ("plain", "JPEG", 2)])
def test_the_file_is_that_of_upscale(
    models: Models, tiny: Path, pictures: Path, tmp_path: Path, model: str, name: str, format_: str, scale: int
) -> None:
    source = pictures / f"{name}.png"
    result = _run_job(Job(source, model, scale, format_, 80), models, tmp_path)
    weights = str(tiny) if model == "tiny" else model
    same = tmp_path / f"same{result.file.suffix}"
    Upscaler(weights, device="cpu", outscale=scale).upscale_file(source, same, quality=80)
    assert result.file.read_bytes() == same.read_bytes()
    assert result.file.name == f"{name}_x{scale}{result.file.suffix}"
    assert (result.height, result.width) == read_picture(same).rgb.shape[:2]


def test_what_was_turned_and_coloured_stays_so(models: Models, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    profile = b"\0" * 16 + b"RGB " + b"\0" * 108
    Image.fromarray(noise(12, 20, 3)).save(tmp_path / "turned.png", exif=exif, icc_profile=profile)
    result = _run_job(Job(tmp_path / "turned.png", "tiny"), models, tmp_path)
    with Image.open(result.file) as turned:
        assert turned.size == (48, 80)
        assert turned.info["icc_profile"] == profile
        assert turned.getexif()[0x010E] == "a description"
        assert turned.getexif()[0x0112] == 1


def test_previews_are_bicubic_and_the_result(models: Models, pictures: Path, tmp_path: Path) -> None:
    result = _run_job(Job(pictures / "clear.png", "tiny"), models, tmp_path)
    source = read_picture(pictures / "clear.png")
    before, after = read_picture(result.before), read_picture(result.after)
    bicubic = Upscaler("bicubic", outscale=4).upscale(source)
    assert (before.rgb == bicubic.rgb).all()
    assert before.alpha is not None
    assert (before.alpha == bicubic.alpha).all()
    assert (after.rgb == read_picture(result.file).rgb).all()
    assert result.notes == ()


def test_large_results_are_compared_reduced(
    models: Models, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "PREVIEW_SIDE", 62)
    result = _run_job(Job(pictures / "clear.png", "bicubic"), models, tmp_path)
    before, after = read_picture(result.before), read_picture(result.after)
    assert before.rgb.shape == after.rgb.shape == (40, 62, 3)
    assert (result.width, result.height) == (124, 80)
    assert result.notes == ("The comparison is reduced to 50%; the download is not.",)
    # enlarged four times and halved is nearly enlarged twice
    assert np.abs(before.rgb[4:-4, 4:-4].astype(float) - after.rgb[4:-4, 4:-4]).mean() < 6


def test_what_a_format_loses_is_said(models: Models, pictures: Path, tmp_path: Path) -> None:
    notes = _run_job(Job(pictures / "deep.png", "bicubic", 2, "JPEG"), models, tmp_path).notes
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
        Job(Path("a.png"), "tiny", *arguments)


def test_a_bomb_is_refused_by_its_header(pictures: Path, tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    png = (pictures / "plain.png").read_bytes()
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:])
    with pytest.raises(Refused, match=r"bomb\.png is far too large"):
        size_within(bomb, 4, Limits(pixels=10**12))


class TestDesk:
    @pytest.fixture
    def jobs(self, models: Models) -> JobQueue:
        return JobQueue(models, Limits(pixels=40_000), Folder())

    @pytest.fixture(autouse=True)
    def _clean(self, jobs: JobQueue) -> object:
        yield
        jobs.folder.remove()

    def test_progress_ends_at_the_whole_and_the_result_is_kept(self, jobs: JobQueue, pictures: Path) -> None:
        told: list[float] = []
        finished = jobs.run("a", Job(pictures / "plain.png", "tiny"), told.append)
        assert told
        assert told == sorted(told)
        assert finished.result.file.parent.parent == jobs.folder.files
        assert finished.seconds > 0

    def test_messages_name_no_folder_and_nothing_is_left(self, jobs: JobQueue, pictures: Path) -> None:
        for name, model in (("cut", "tiny"), ("junk", "tiny"), ("plain", "absent")):
            with pytest.raises(Refused) as refused:
                jobs.run("a", Job(pictures / f"{name}.png", model), lambda _part: None)
            assert str(pictures) not in str(refused.value)
        assert list(jobs.folder.files.iterdir()) == []

    def test_a_job_that_is_cancelled_leaves_nothing(self, jobs: JobQueue, pictures: Path) -> None:
        jobs.cancel("nobody")
        with pytest.raises(Stopped):
            jobs.run("a", Job(pictures / "middling.png", "tiny"), lambda _part: jobs.cancel("a"))
        assert list(jobs.folder.files.iterdir()) == []
        jobs.run("a", Job(pictures / "plain.png", "tiny"), lambda _part: jobs.cancel("b"))

    def test_time_runs_out(self, models: Models, pictures: Path, jobs: JobQueue) -> None:
        hasty = JobQueue(models, Limits(seconds=1e-6), jobs.folder)
        with pytest.raises(Stopped, match="Given up"):
            hasty.run("a", Job(pictures / "plain.png", "tiny"), lambda _part: None)

    def test_one_picture_at_a_time(self, jobs: JobQueue, pictures: Path) -> None:
        begun, go_on, second = threading.Event(), threading.Event(), []

        def wait(_part: float) -> None:
            begun.set()
            go_on.wait(30)

        job = Job(pictures / "plain.png", "bicubic")
        threads = [threading.Thread(target=jobs.run, args=("a", job, wait))]
        threads.append(threading.Thread(target=jobs.run, args=("b", job, second.append)))
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

    def test_closing_ends_the_work_and_takes_no_more(self, jobs: JobQueue, pictures: Path) -> None:
        begun, ended = threading.Event(), []

        def work() -> None:
            with pytest.raises(Stopped, match="being closed"):
                jobs.run("a", Job(pictures / "middling.png", "tiny"), lambda _part: begun.wait(30) and None)
            ended.append(1)

        thread = threading.Thread(target=work)
        thread.start()
        threading.Timer(0.2, begun.set).start()
        while not jobs._watches:
            pass
        jobs.close()
        thread.join(30)
        assert ended
        with pytest.raises(Stopped, match="being closed"):
            jobs.run("b", Job(pictures / "plain.png", "tiny"), lambda _part: None)
        assert list(jobs.folder.files.iterdir()) == []


def test_models_are_called_by_their_names_and_kept(tiny: Path, tmp_path: Path) -> None:
    other = tmp_path / "tiny.safetensors"
    other.write_bytes(tiny.read_bytes())
    models = Models([str(tiny), str(other)], device="cpu")
    assert models.names[:2] == ["tiny", "tiny (2)"]
    assert models.names[-1] == "bicubic"
    assert models.upscaler("tiny", 2) is models.upscaler("tiny", 2)
    assert models.upscaler("tiny", 2).restorer is models.upscaler("tiny", 4).restorer
    with pytest.raises(Refused, match="choose one of tiny"):
        models.upscaler(str(tiny), 4)


def test_a_missing_model_is_an_error_at_the_start() -> None:
    with pytest.raises(ValueError, match="neither a file, nor a run directory"):
        Models(["absent"])


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
