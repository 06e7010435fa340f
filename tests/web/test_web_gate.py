"""What stands before gradio, with a stand-in behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest

from mvmsr.web import gate as gate_module
from mvmsr.web.folder import Folder
from mvmsr.web.gate import Gate, Rules

T = TypeVar("T")


@dataclass
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def detail(self) -> str:
        return json.loads(self.body)["detail"]


async def _behind(scope: Any, receive: Any, send: Any) -> None:
    """Answers 200 with what it was sent."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def rules() -> Iterator[Rules]:
    folder = Folder()
    yield Rules(folder, upload_bytes=1000, folder_bytes=5000)
    folder.remove()


async def _ask(gate: Gate, method: str, path: str, chunks: tuple[bytes, ...], headers: dict[str, str]) -> Answer:
    sent: list[Any] = []
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in chunks]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(key.encode(), value.encode()) for key, value in ({"host": "127.0.0.1:7860"} | headers).items()]
    await gate({"type": "http", "method": method, "path": path, "headers": pairs}, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(sent[0]["status"], dict(sent[0]["headers"]), body)


def ask(rules: Rules, method: str, path: str, *chunks: bytes, **headers: str) -> Answer:
    return _run(_ask(Gate(_behind, rules), method, path, chunks, headers))


def _run(asked: Coroutine[Any, Any, T]) -> T:
    """In a thread of its own: this one may still have the loop of the tests with a browser."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, asked).result()


@pytest.mark.parametrize("path", ["/", "/config", "/assets/a.js", "/gradio_api/queue/data", "/theme.css"])
def test_the_page_is_there(rules: Rules, path: str) -> None:
    answer = ask(rules, "GET", path)
    assert answer.status == 200
    assert b"connect-src 'self'" in answer.headers[b"content-security-policy"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/monitoring"),
        ("GET", "/docs"),
        ("GET", "/file=/etc/passwd"),
        ("GET", "/gradio_api/proxy=http://example.org"),
        ("GET", "/gradio_api/run-history/buckets"),
        ("GET", "/gradio_api/upload"),
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/gradio_api/run/enlarge"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/"),
        ("PUT", "/gradio_api/upload"),
        ("GET", "/assets/../config"),
        ("GET", "/static/%2e%2e/x"),
    ],
)
def test_nothing_else_is(rules: Rules, method: str, path: str) -> None:
    assert ask(rules, method, path).status == 404


def test_only_files_of_the_folder_are_served(rules: Rules, tmp_path: Any) -> None:
    ours = rules.folder.new() / "a.png"
    ours.write_bytes(b"a")
    secret = tmp_path / "secret"
    secret.write_bytes(b"b")
    link = ours.parent / "link"
    link.symlink_to(secret)
    assert ask(rules, "GET", f"/gradio_api/file={ours}").status == 200
    relative = f"{ours.parent}/../../../../..{secret}"
    for name in (secret, link, relative, "/etc/passwd", "etc/passwd", "", "http://example.org/", rules.folder.parts):
        assert ask(rules, "GET", f"/gradio_api/file={name}").status == 403, name
    assert ask(rules, "GET", f"/gradio_api/file={ours}\0").status == 403


def test_requests_name_files_of_the_folder_alone(rules: Rules) -> None:
    ours = rules.folder.new() / "a.png"
    for path, status in ((str(ours), 200), ("/etc/passwd", 403), ("http://example.org/a.png", 403), (7, 403)):
        body = json.dumps({"data": [[{"deep": {"path": path, "url": "x"}}]]}).encode()
        answer = ask(rules, "POST", "/gradio_api/queue/join", body[:9], body[9:])
        assert answer.status == status, path
        if status == 200:
            assert answer.body == body
    assert ask(rules, "POST", "/gradio_api/queue/join", b"{").status == 400
    assert ask(rules, "POST", "/gradio_api/queue/join", b"[" * 60_000).status == 400
    assert ask(rules, "POST", "/gradio_api/queue/join", b" " * 70_000).status == 413


def test_other_names_of_this_machine_are_refused_where_it_serves_itself_alone(rules: Rules) -> None:
    for host, status in (("localhost", 200), ("[::1]:7860", 200), ("evil.example", 403), ("", 403)):
        assert ask(rules, "GET", "/", host=host).status == status, host
    assert ask(replace(rules, local=False), "GET", "/", host="evil.example").status == 200


def test_large_uploads_are_refused_before_and_while_they_come(rules: Rules) -> None:
    upload = "/gradio_api/upload"
    assert ask(rules, "POST", upload, b"x" * 1000).status == 200
    told = ask(rules, "POST", upload, **{"content-length": "1000000"})
    assert told.status == 413
    assert "at most 0.0009537 MiB" in told.detail
    assert ask(rules, "POST", upload, b"x" * 50_000, b"x" * 50_000).status == 413


def test_a_full_folder_takes_no_more(rules: Rules) -> None:
    (rules.folder.new() / "large").write_bytes(b"x" * 6000)
    answer = ask(rules, "POST", "/gradio_api/upload", b"x")
    assert answer.status == 503
    assert "room for images is full" in answer.detail


def test_many_uploads_at_once_wait_outside_and_silent_ones_end(rules: Rules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "_SILENCE_SECONDS", 0.2)
    heard: list[str] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        heard.append((await receive())["type"])
        await _behind(scope, receive, send)

    async def never() -> Any:
        await asyncio.sleep(60)

    async def all_of_them() -> list[int]:
        gate = Gate(behind, rules)
        statuses: list[int] = []

        async def send(message: Any) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "headers": [(b"host", b"localhost")]}
        await asyncio.gather(*(gate(scope, never, send) for _ in range(6)))
        statuses.append((await _ask(gate, "POST", "/gradio_api/upload", (b"x",), {})).status)
        return statuses

    assert sorted(_run(all_of_them())) == [200] * 5 + [503] * 2
    assert heard[:4] == ["http.disconnect"] * 4
