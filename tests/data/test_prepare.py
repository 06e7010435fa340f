from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mvmsr.cli.datasets import app
from mvmsr.data import prepare
from mvmsr.data.download import DownloadError, download, extract_folder
from mvmsr.data.image_io import write_rgb
from mvmsr.data.known_pictures import Verdict
from mvmsr.data.prepare import PrepareError, adopt, check, fetch, find_known, known_sets


class Server:
    """A local file server with ranges, which can break connections off."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str | None] = []
        self.cut_after: list[int] = []
        self.ranges = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = outer.files.get(self.path)
                wanted = self.headers.get("Range")
                outer.requests.append(wanted)
                if data is None:
                    self.send_error(404)
                    return
                start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and outer.ranges else 0
                if start >= len(data):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(data)}")
                    self.end_headers()
                    return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                stop = start + outer.cut_after.pop(0) if outer.cut_after else len(data)
                self.wfile.write(data[start:stop])

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = Server()
    yield running
    running.close()


def png(height: int, width: int, seed: int, folder: Path) -> bytes:
    path = folder / "one.png"
    write_rgb(path, np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
    return path.read_bytes()


def zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def made_zip(tmp_path: Path) -> bytes:
    folder = tmp_path / "making"
    entries = {"Tiny/readme.txt": b"hello"}
    for number in (1, 2):
        stem = f"Tiny/image_SRF_4/img_00{number}_SRF_4"
        entries[f"{stem}_HR.png"] = png(32, 40, number, folder)
        entries[f"{stem}_LR.png"] = png(8, 10, number, folder)
        entries[f"{stem}_other.png"] = b"left out"
    return zipped(entries)


def manifest(tmp_path: Path, url: str, data: bytes, **changes: object) -> Path:
    archive = {
        "url": url,
        "file": "Tiny.zip",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "provides": "image_SRF_4",
        "keep": ["*_HR.png", "*_LR.png"],
        "pictures": 4,
        **changes,
    }
    path = tmp_path / "manifest.json"
    entry = {"title": "tiny", "home": "here", "terms": "none", "archives": [archive]}
    path.write_text(json.dumps({"Tiny": entry}))
    return path


def test_our_manifest_is_sound():
    known = known_sets()
    assert set(known) == {"DIV2K", "BSDS400", "Set5", "Set14", "BSD100", "Urban100"}
    for one in known.values():
        for archive in one.archives:
            assert archive.url.startswith("https://")
            assert archive.sha256 is None or len(archive.sha256) == 64
            assert archive.pictures > 0
    assert [a.sha256 is not None for a in known["DIV2K"].archives] == [True, True]


def test_names_in_any_case_and_unknown_ones():
    assert find_known("set5", known_sets()).name == "Set5"
    with pytest.raises(PrepareError, match=r"'Ste5'\. Did you mean 'Set5'\? Known: DIV2K, BSDS400, Set5"):
        find_known("Ste5", known_sets())


def test_a_set_that_is_made_by_hand_says_how_and_no_benchmark_is_taken_for_it(tmp_path: Path, made_set):
    known = find_known("BSDS400", known_sets())
    assert known.home == "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html"
    assert not known.is_complete(tmp_path)
    with pytest.raises(PrepareError, match=r"images/train and of \.\.\./test.*not those of \.\.\./val.*BSD100"):
        fetch(known, tmp_path)
    with pytest.raises(PrepareError, match="which has 400 images in one folder, not 5"):
        adopt(known, made_set("mine"), tmp_path / "root")
    small = replace(known, pictures=5)
    assert adopt(small, made_set("mine"), tmp_path / "root") == tmp_path / "root/BSDS400"
    assert small.is_complete(tmp_path / "root")
    assert fetch(small, tmp_path / "root") == tmp_path / "root/BSDS400"
    for misspelt in ("BSDS500", "bsds40"):
        with pytest.raises(PrepareError, match="Did you mean 'BSDS400'"):
            find_known(misspelt, known_sets())


def test_fetch_downloads_checks_and_unpacks(server: Server, tmp_path: Path, made_zip: bytes):
    server.files["/Tiny.zip"] = made_zip
    known = known_sets(manifest(tmp_path, f"{server.address}/Tiny.zip", made_zip))["Tiny"]
    root = tmp_path / "root"
    seen: list[tuple[int, int | None]] = []
    assert not known.is_complete(root)
    folder = fetch(known, root, lambda have, total: seen.append((have, total)))
    assert seen[-1] == (len(made_zip), len(made_zip))
    assert sorted(path.name for path in (folder / "image_SRF_4").iterdir()) == [
        "img_001_SRF_4_HR.png",
        "img_001_SRF_4_LR.png",
        "img_002_SRF_4_HR.png",
        "img_002_SRF_4_LR.png",
    ]
    assert known.is_complete(root)
    assert check(folder).problems == []
    server.files.clear()
    fetch(known, root)  # complete: nothing is asked of the server
    assert len(server.requests) == 1


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path):
    data = zipped({"a/x.bin": bytes(range(256)) * 40})
    server.files["/a.zip"] = data
    server.cut_after = [3000, 2000]
    expected = hashlib.sha256(data).hexdigest()
    digest = download(f"{server.address}/a.zip", tmp_path / "a.zip", sha256=expected, pause_sec=0)
    assert server.requests == [None, "bytes=3000-", "bytes=5000-"]
    assert (tmp_path / "a.zip").read_bytes() == data
    assert digest == expected


def test_a_later_call_goes_on_too(server: Server, tmp_path: Path):
    data = zipped({"a/x.bin": bytes(5000)})
    server.files["/a.zip"] = data
    server.cut_after = [1000]
    with pytest.raises(DownloadError, match="connection ended after 1000"):
        download(f"{server.address}/a.zip", tmp_path / "a.zip", attempts=1)
    assert not (tmp_path / "a.zip").exists()
    download(f"{server.address}/a.zip", tmp_path / "a.zip", attempts=1)
    assert server.requests[-1] == "bytes=1000-"
    assert (tmp_path / "a.zip").read_bytes() == data


def test_a_complete_part_and_a_server_without_ranges(server: Server, tmp_path: Path):
    data = zipped({"a/x.bin": bytes(5000)})
    server.files["/a.zip"] = data
    (tmp_path / "a.zip.part").write_bytes(data)
    download(f"{server.address}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == data
    server.ranges = False
    (tmp_path / "b.zip.part").write_bytes(data[:700])
    download(f"{server.address}/a.zip", tmp_path / "b.zip")
    assert (tmp_path / "b.zip").read_bytes() == data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "instead of 0000"),
        ({"bytes": 12}, "bytes instead of 12"),
    ],
)
def test_a_wrong_file_is_not_used(server: Server, tmp_path: Path, made_zip: bytes, changes: dict, message: str):
    server.files["/Tiny.zip"] = made_zip
    known = known_sets(manifest(tmp_path, f"{server.address}/Tiny.zip", made_zip, **changes))["Tiny"]
    with pytest.raises(PrepareError, match=message):
        fetch(known, tmp_path / "root")
    assert not (tmp_path / "root/Tiny").exists()
    assert [path.name for path in (tmp_path / "root/downloads").iterdir()] == ["Tiny.zip.bad"]


def test_a_web_page_in_place_of_the_archive(server: Server, tmp_path: Path):
    server.files["/a.zip"] = b"<html>please log in</html>"
    with pytest.raises(DownloadError, match="is no zip archive"):
        download(f"{server.address}/a.zip", tmp_path / "a.zip")


def test_an_unknown_checksum_is_recorded_and_held_to(server: Server, tmp_path: Path):
    data = zipped({"a/x.bin": bytes(100)})
    server.files["/a.zip"] = data
    digest = download(f"{server.address}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip.sha256").read_text() == f"{digest}  a.zip\n"
    (tmp_path / "a.zip").unlink()
    server.files["/a.zip"] = zipped({"a/x.bin": bytes(101)})
    with pytest.raises(DownloadError, match=f"instead of {digest}"):
        download(f"{server.address}/a.zip", tmp_path / "a.zip")


@pytest.mark.parametrize("path", ["/gone.zip", None])
def test_what_to_do_where_nothing_can_be_fetched(server: Server, tmp_path: Path, path: str | None, monkeypatch):
    url = f"{server.address}{path}" if path else "http://127.0.0.1:9/Tiny.zip"
    monkeypatch.setattr("mvmsr.data.download.time.sleep", lambda _: None)
    known = known_sets(manifest(tmp_path, url, b""))["Tiny"]
    with pytest.raises(PrepareError) as caught:
        fetch(known, tmp_path / "root")
    assert url in str(caught.value)
    assert str(tmp_path / "root/downloads/Tiny.zip") in str(caught.value)
    assert "--from FOLDER" in str(caught.value)


def test_an_archive_put_there_by_hand_is_used(tmp_path: Path, made_zip: bytes):
    known = known_sets(manifest(tmp_path, "http://127.0.0.1:9/Tiny.zip", made_zip))["Tiny"]
    (tmp_path / "root/downloads").mkdir(parents=True)
    (tmp_path / "root/downloads/Tiny.zip").write_bytes(made_zip)
    assert len(list((fetch(known, tmp_path / "root") / "image_SRF_4").iterdir())) == 4


def link_entry() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("set/a.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def damaged() -> bytes:
    data = bytearray(zipped({"set/a.png": b"0123456789" * 20}))
    data[60] ^= 255
    return bytes(data)


def doubled() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("set/a.png", b"x")
        archive.writestr("set/b.png", b"y")
    return buffer.getvalue().replace(b"set/b.png", b"set/a.png")


def encrypted() -> bytes:
    data = bytearray(zipped({"set/a.png": b"x"}))
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(header) + flags] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (zipped({"set/a.png": b"x", "../evil.png": b"x"}), "points outside"),
        (zipped({"set/../../evil.png": b"x"}), "points outside"),
        (zipped({"/set/a.png": b"x"}), "points outside"),
        (zipped({"C:/set/a.png": b"x"}), "points outside"),
        (zipped({"..\\evil.png": b"x", "set/a.png": b"x"}), "points outside"),
        (link_entry(), "has the link"),
        (damaged(), "is damaged"),
        (doubled(), "is damaged"),
        (encrypted(), "is damaged"),
        (zipped({"other/a.png": b"x"}), "has no folder set"),
        (zipped({"set/a.txt": b"x"}), r"with \*\.png"),
        (zipped({"one/set/a.png": b"x", "two/set/a.png": b"x"}), "several folders"),
        (b"no zip", "is damaged"),
    ],
)
def test_archives_that_are_refused(tmp_path: Path, data: bytes, message: str):
    archive = tmp_path / "in" / "bad.zip"
    archive.parent.mkdir()
    archive.write_bytes(data)
    with pytest.raises(DownloadError, match=message):
        extract_folder(archive, "set", ["*.png"], tmp_path / "out" / "set")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]
    assert not (tmp_path / "out" / "set").exists()


@pytest.fixture
def any_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder holds the pictures that it is said to hold."""
    monkeypatch.setattr(prepare, "compare", lambda name, pictures: Verdict(name, 5, 5, (), True))


@pytest.mark.usefixtures("any_pictures")
def test_adopt_links_a_good_folder_and_refuses_others(tmp_path: Path, made_set, picture):
    known = known_sets()["Set5"]
    mine = made_set("mine")
    target = adopt(known, mine, tmp_path / "root")
    assert target == tmp_path / "root/Set5"
    assert target.resolve() == mine.resolve()
    assert adopt(known, mine, tmp_path / "root") == target  # again: nothing to do
    with pytest.raises(PrepareError, match="exists already"):
        adopt(known, made_set("other"), tmp_path / "root")
    (mine / "img2.png").write_bytes(b"broken")
    with pytest.raises(PrepareError, match=r"(?s)has problems:.*img2\.png"):
        adopt(known_sets()["Set14"], mine, tmp_path / "root")


@pytest.mark.usefixtures("any_pictures")
def test_links_that_lead_nowhere_and_roots_that_cannot_be_made(tmp_path: Path, made_set):
    mine = made_set("mine")
    folder = adopt(known_sets()["Set5"], mine, tmp_path / "root")
    mine.rename(tmp_path / "moved")
    for prepare_it in (
        lambda: adopt(known_sets()["Set5"], tmp_path / "moved", tmp_path / "root"),
        lambda: fetch(known_sets()["Set5"], tmp_path / "root"),
    ):
        with pytest.raises(PrepareError, match=r"root/Set5 is a link to .*mine, which is gone; remove the link"):
            prepare_it()
    folder.unlink()
    (tmp_path / "file").write_bytes(b"")
    result = CliRunner().invoke(
        app, ["prepare", "Set5", "--from", str(tmp_path / "moved"), "--data-root", str(tmp_path / "file" / "root")]
    )
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)


@pytest.mark.usefixtures("any_pictures")
def test_adopt_copies_where_links_are_not_possible(tmp_path: Path, made_set, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError("links are not allowed")

    monkeypatch.setattr(prepare.os, "symlink", fail)
    target = adopt(known_sets()["Set5"], made_set("mine"), tmp_path / "root")
    assert not target.is_symlink()
    assert len(list(target.iterdir())) == 5


def test_check_command(tmp_path: Path, made_set, picture):
    root = made_set("set", count=3)
    result = CliRunner().invoke(app, ["check", str(root)])
    assert result.exit_code == 0
    assert "layout folder of images" in result.output
    assert "3 pairs, 0 with low-quality files, 3 to be made" in result.output

    write_rgb(tmp_path / "pairs/HR/a.png", picture(32, 32))
    write_rgb(tmp_path / "pairs/LR_bicubic/X4/ax4.png", picture(9, 9))
    result = CliRunner().invoke(app, ["check", str(tmp_path / "pairs")])
    assert result.exit_code == 1
    assert "ax4.png: 9x9, expected 8x8" in result.output

    (root / "img2.png").write_bytes((root / "img2.png").read_bytes()[:600])
    assert CliRunner().invoke(app, ["check", str(root)]).exit_code == 0  # the header is fine
    result = CliRunner().invoke(app, ["check", str(root), "--decode"])
    assert result.exit_code == 1
    assert "truncated" in result.output

    assert CliRunner().invoke(app, ["check", str(tmp_path / "none")]).exit_code == 1


def test_a_set_is_checked_by_its_name_below_the_data_root(tmp_path: Path, made_set):
    made_set("root[1]/mine", count=2)
    result = CliRunner().invoke(app, ["check", "mine", "--data-root", str(tmp_path / "root[1]")])
    assert result.exit_code == 0, result.output
    assert "2 pairs" in result.output
    result = CliRunner().invoke(app, ["check", "mine"], env={"MVMSR_DATA_ROOT": str(tmp_path)})
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert "no data at 'mine'" in result.output


@pytest.mark.usefixtures("any_pictures")
def test_list_and_prepare_commands(tmp_path: Path, made_set):
    root = str(tmp_path / "root")
    result = CliRunner().invoke(app, ["prepare", "set5", "--data-root", root, "--from", str(made_set("mine"))])
    assert result.exit_code == 0
    assert "5 pairs" in result.output
    result = CliRunner().invoke(app, ["list", "--data-root", root])
    assert result.exit_code == 0
    assert "Urban100" in result.output
    for known in known_sets().values():
        assert f"{known.name}: {known.home}" in result.output
    assert "To get BSDS400, download BSDS500" in result.output
    assert "there" in result.output
    result = CliRunner().invoke(app, ["prepare", "nothing"])
    assert result.exit_code == 1
    assert "Known: DIV2K" in result.output
