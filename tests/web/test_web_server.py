"""The page as other programs see it: real requests to a real server."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from served_page import MAX_UPLOAD, Served

from mvmsr.inference import Upscaler


def _client(served: Served) -> Any:
    gradio_client = pytest.importorskip("gradio_client")
    return gradio_client.Client(served.url, verbose=False, analytics_enabled=False)


def _enlarge(client: Any, source: Path, model: str = "tiny", scale: int = 4, format_: str = "PNG") -> Path:
    from gradio_client import handle_file

    _, download, _ = client.predict(handle_file(source), model, scale, format_, 95, api_name="/enlarge")
    return Path(download["value"] if isinstance(download, dict) else download)


def _status(served: Served, path: str, host: str | None = None) -> tuple[int, bytes]:
    """Asks for the path as it is written: clients of a higher level take the dots out."""
    address = urllib.parse.urlsplit(served.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    connection.putrequest("GET", path, skip_host=host is not None)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


def _post(served: Served, path: str, body: bytes, content_type: str) -> tuple[int, str]:
    request = urllib.request.Request(served.url + path, body, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _upload(served: Served, content: bytes, name: str = "a.png") -> tuple[int, str]:
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    body = head + content + f"\r\n--{mark}--\r\n".encode()
    return _post(served, "/gradio_api/upload", body, f"multipart/form-data; boundary={mark}")


def _upload_in_chunks(served: Served, chunk: bytes, count: int) -> tuple[int, str]:
    """Without saying before how long it is."""

    def parts() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        yield from [chunk] * count
        yield b"\r\n--x--\r\n"

    address = urllib.parse.urlsplit(served.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    connection.request("POST", "/gradio_api/upload", parts(), headers, encode_chunked=False)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@pytest.mark.parametrize(
    ("name", "scale", "format_"), [("plain", 4, "PNG"), ("deep", 2, "PNG"), ("clear", 3, "WebP"), ("plain", 8, "JPEG")]
)
def test_the_download_is_the_file_of_upscale(
    served: Served, tiny: Path, pictures: Path, tmp_path: Path, name: str, scale: int, format_: str
) -> None:
    result = _enlarge(_client(served), pictures / f"{name}.png", "tiny", scale, format_)
    same = tmp_path / f"same{result.suffix}"
    Upscaler(str(tiny), device="cpu", outscale=scale).upscale_file(pictures / f"{name}.png", same)
    assert result.read_bytes() == same.read_bytes()
    with Image.open(same) as picture:
        assert picture.size == (scale * (41 if name == "plain" else 31), scale * (30 if name == "plain" else 20))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("junk", "is not an image"),
        ("empty", "is not an image"),
        ("cut", "damaged"),
        ("wide", "takes at most 0.0 mill"),
    ],
)
def test_junk_gets_a_sentence_without_paths(served: Served, pictures: Path, name: str, why: str) -> None:
    with pytest.raises(Exception, match=why) as told:
        _enlarge(_client(served), pictures / f"{name}.png")
    assert f"{name}.png" in str(told.value)
    assert str(served.folder) not in str(told.value)
    assert served.process.poll() is None


def test_files_of_the_machine_are_out_of_reach(served: Served, tiny: Path) -> None:
    here, climb = Path.cwd(), "../" * 12
    names = [
        "/etc/passwd",
        f"{climb}etc/passwd",
        f"{served.folder}/files/{climb}etc/passwd",
        f"{served.folder}/files/..%2f{climb.replace('/', '%2f')}etc%2fpasswd",
        "%2fetc%2fpasswd",
        "//etc/passwd",
        str(here / "setup.py"),
        "setup.py",
        str(here / "mvmsr" / "__init__.py"),
        str(tiny),
        str(served.folder),
        f"{served.folder}/parts",
        "http://127.0.0.1:9/",
        "file:///etc/passwd",
    ]
    for name in names:
        for route in ("/file=", "/gradio_api/file=", "/gradio_api/file/", "/static/", "/assets/", "/svelte/"):
            status, body = _status(served, route + name)
            assert status in (307, 400, 403, 404), (route, name, status)
            assert b"root:" not in body
            assert b"setuptools" not in body
    assert _status(served, "/gradio_api/proxy=http://127.0.0.1:9/")[0] == 404
    assert _status(served, "/", host="evil.example")[0] == 403


def test_requests_that_name_other_files_fetch_nothing(served: Served) -> None:
    for path in ("/etc/passwd", "http://127.0.0.1:9/a.png", f"{served.folder}/files/../../x"):
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, "tiny", 4, "PNG", 95]
        for route in ("/gradio_api/queue/join", "/gradio_api/call/enlarge", "/gradio_api/run/predict"):
            body = json.dumps({"data": data, "fn_index": 0, "session_hash": "x"}).encode()
            assert _post(served, route, body, "application/json")[0] == 403


def test_the_queue_cannot_be_passed_by(served: Served) -> None:
    config = json.loads(_status(served, "/config")[1])
    (number,) = [item["id"] for item in config["dependencies"] if item["api_name"] == "enlarge"]
    body = json.dumps({"data": [None, "tiny", 4, "PNG", 95], "fn_index": number, "session_hash": "x"}).encode()
    assert _post(served, "/gradio_api/run/predict", body, "application/json")[0] == 404


def test_large_uploads_are_refused_and_small_ones_are_not(served: Served) -> None:
    assert _upload(served, b"x" * 1000)[0] == 200
    status, told = _upload(served, b"x" * (MAX_UPLOAD + 100))
    assert status == 413
    assert "size" in told
    status, told = _upload(served, b"x" * (3 * MAX_UPLOAD))
    assert status == 413
    assert "at most 1 MiB" in told
    assert _upload_in_chunks(served, b"x" * (MAX_UPLOAD // 8), 24)[0] == 413
    for name in ("../../../evil.png", "/tmp/evil.png", "..", ""):
        status, told = _upload(served, b"y", name)
        assert status in (200, 400)
        assert status == 400 or Path(json.loads(told)[0]).resolve().is_relative_to(served.folder / "files")


def test_many_at_once_are_served_or_told_to_wait(served: Served, pictures: Path) -> None:
    clients = [_client(served) for _ in range(2)]

    def one(number: int) -> str:
        try:
            return str(_enlarge(clients[number % 2], pictures / "plain.png", scale=2).stat().st_size > 0)
        except Exception as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(one, range(8)))
    assert "True" in told
    # 503: an upload that had to wait, of which gradio's client shows the number alone
    assert all(text == "True" or "Queue is full" in text or "503" in text for text in told), told
    assert one(0) == "True"


def test_no_page_but_the_one_and_no_address_outside(served: Served) -> None:
    for path in ("/docs", "/openapi.json", "/monitoring", "/gradio_api/openapi.json", "/gradio_api/runs"):
        assert _status(served, path)[0] == 404
    config = json.loads(_status(served, "/config")[1])
    assert config.get("analytics_enabled") is not True
    assert [line for line in served.lines if "OUTSIDE" in line] == []
    assert str(Path.cwd()) not in json.dumps(config)
