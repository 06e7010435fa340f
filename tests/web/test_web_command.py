from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mvmsr.cli import app, web
from mvmsr.web.server import Address


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["web", *arguments], env={"COLUMNS": "400"})


def test_without_gradio_the_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    told = _run()
    assert told.exit_code == 2
    assert "pip install -e '.[web]'" in told.output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--max-upload", "much"], "such as 2G, 1500M"),
        (["--max-pixels", "many"], "such as 4M or 800K"),
        (["--max-seconds", "0"], "seconds must be above 0"),
        (["--model", "absent"], "neither a file, nor a run directory"),
        (["--tile", "big"], "`auto` or a number of pixels"),
        (["--device", "toaster"], "toaster"),
    ],
)
def test_what_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, arguments: list[str], why: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr("mvmsr.web.server.serve", lambda *_: pytest.fail("served"))
    told = _run(*arguments)
    assert told.exit_code == 2
    assert why in told.output


@pytest.mark.parametrize(
    ("address", "public", "words"),
    [
        (Address(), None, []),
        (Address("0.0.0.0"), None, ["open to others", "without a password"]),
        (Address(share=True), "https://x.example", ["public", "https://x.example", "without a password"]),
    ],
)
def test_who_can_reach_it_is_said(address: Address, public: str | None, words: list[str]) -> None:
    console = Console(record=True, width=400)
    web._tell(console, address, "http://127.0.0.1:7860/", public)
    told = console.export_text()
    assert told.startswith("open http://127.0.0.1:7860/")
    assert all(word in told for word in words)
    assert ("password" in told) == bool(words)
