"""What of the server can be reached at all: the page's own routes, this server's own files, uploads within bounds.

Gradio brings many more routes than one page needs, among them some that fetch addresses of the visitor's choice. This
stands before them all, so that what is reachable is a list to read, and stays it when gradio grows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mvmsr.web.folder import Folder

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

API = "/gradio_api"
_FILE, _UPLOAD = f"{API}/file=", f"{API}/upload"
_READABLE = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"} | {
    f"{API}/{name}"
    for name in (
        "info",
        "startup-events",
        "queue/data",
        "upload_progress",
        "theme.css",
        "app_id",
        "heartbeat/",
        "call/",
    )
}
_READABLE_BELOW = ("/assets/", "/static/", "/svelte/", f"{API}/heartbeat/", f"{API}/call/")
_WRITABLE = {_UPLOAD, f"{API}/queue/join", f"{API}/run/predict", f"{API}/cancel", f"{API}/reset"}
_WRITABLE_BELOW = (f"{API}/call/",)
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_BODY_BYTES = 2**16
_FORM_BYTES = 2**16
"""What a form adds to the file in it."""
_UPLOADS_AT_ONCE = 4
_SILENCE_SECONDS = 30.0
_PASSED_BY = 16
"""Of an upload that is turned away, so many times the allowed bytes are read, and dropped, before the answer."""
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"SAMEORIGIN"),
]


class _TooMuch(Exception):
    """An upload turned out longer than it may be."""


@dataclass(frozen=True)
class Rules:
    """What the gate lets through.

    Attributes:
        folder: the only files that are served or may be named in a request.
        upload_bytes: of one upload.
        folder_bytes: no uploads are taken while the folder holds more.
        local: refuse requests that were not meant for this machine, as those of a foreign page by way of its own name.
        scripts: sources, besides this server, that the page may load scripts from.
    """

    folder: Folder
    upload_bytes: int
    folder_bytes: int
    local: bool = True
    scripts: tuple[str, ...] = ()


class Gate:
    """ASGI middleware that answers what is not for the page by itself, and lets the rest through."""

    def __init__(self, app: Application, rules: Rules) -> None:
        self._app, self._rules = app, rules
        self._uploads = 0
        scripts = " ".join(("'self'", "'unsafe-inline'", *rules.scripts))
        policy = (
            f"default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
            "font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; "
            "frame-ancestors 'self'"
        )
        self._headers = [*_HEADERS, (b"content-security-policy", policy.encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _answer(send, *refusal)
        elif scope["method"] != "POST":
            await self._app(scope, receive, self._with_headers(send))
        elif scope["path"] == _UPLOAD:
            await self._upload(scope, receive, self._with_headers(send))
        else:
            await self._call(scope, receive, self._with_headers(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        method, path = scope["method"], scope["path"]
        if self._rules.local and urlsplit(f"//{_header(scope, b'host')}").hostname not in _LOCAL:
            return 403, "This page is for this machine only; open it by the address that the command printed."
        if path.startswith(_FILE):
            inside = method in ("GET", "HEAD") and self._is_ours(path.removeprefix(_FILE))
            return None if inside else (403, "Not a file of this page.")
        known, below = (_WRITABLE, _WRITABLE_BELOW) if method == "POST" else (_READABLE, _READABLE_BELOW)
        if method not in ("GET", "HEAD", "POST") or ".." in unquote(path):
            return 404, "Not found."
        return None if path in known or path.startswith(below) else (404, "Not found.")

    def _is_ours(self, name: str) -> bool:
        """Whether a name is that of a file in the folder, links and dots resolved."""
        try:
            return Path(name).is_absolute() and Path(name).resolve().is_relative_to(self._rules.folder.files)
        except (OSError, ValueError):
            return False

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        length, limit = _header(scope, b"content-length"), self._rules.upload_bytes
        most = f"files have at most {limit / 2**20:,.4g} MiB here"
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            try:
                message = await asyncio.wait_for(receive(), _SILENCE_SECONDS)
            except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
                return {"type": "http.disconnect"}
            taken += len(message.get("body", b""))
            if taken > limit + _FORM_BYTES:
                raise _TooMuch
            return message

        if length.isdecimal() and int(length) > limit + _FORM_BYTES:
            await self._turn_away(receive, send, 413, f"This file is too large: {most}.")
            return
        if self._uploads >= _UPLOADS_AT_ONCE:
            await self._turn_away(receive, send, 503, "Other uploads are under way; try again in a moment.")
            return
        self._uploads += 1
        try:
            if await asyncio.to_thread(self._rules.folder.bytes) > self._rules.folder_bytes:
                full = "This server's room for images is full; try again in some minutes."
                await self._turn_away(receive, send, 503, full)
            else:
                await self._app(scope, counted, send)
        except _TooMuch:
            await self._turn_away(receive, send, 413, f"This file is too large: {most}.")
        finally:
            self._uploads -= 1

    async def _turn_away(self, receive: Receive, send: Send, status: int, why: str) -> None:
        """Answers behind the upload: whoever is still sending would see a broken connection, and not read why."""
        passed = 0
        while passed < _PASSED_BY * self._rules.upload_bytes:
            try:
                message = await asyncio.wait_for(receive(), _SILENCE_SECONDS)
            except (TimeoutError, asyncio.TimeoutError):
                break
            passed += len(message.get("body", b""))
            if not message.get("more_body", False):
                break
        await _answer(send, status, why)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > _BODY_BYTES:
                await _answer(send, 413, "This request is too long.")
                return
        try:
            content = json.loads(body) if body else None
        except (ValueError, RecursionError):
            await _answer(send, 400, "This request is no JSON.")
            return
        if not self._names_ours_alone(content):
            await _answer(send, 403, "This request names a file that was not uploaded to this page.")
            return
        handed_on = False

        async def again() -> Message:
            nonlocal handed_on
            if handed_on:
                return await receive()
            handed_on = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)

    def _names_ours_alone(self, content: object) -> bool:
        """Whether every `path` in a request is a file of the folder: gradio would fetch addresses."""
        waiting = [content]
        while waiting:
            item = waiting.pop()
            if isinstance(item, dict):
                named = item.get("path")
                if named is not None and not (isinstance(named, str) and self._is_ours(named)):
                    return False
                waiting += item.values()
            elif isinstance(item, list):
                waiting += item
        return True

    def _with_headers(self, send: Send) -> Send:
        async def wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self._headers]}
            await send(message)

        return wrapped


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def _answer(send: Send, status: int, text: str) -> None:
    body = json.dumps({"detail": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
