"""What tests of several rooms use: one browser for all, as a process can drive only one at a time; programs."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install mvmsr[browser]")
    with api.sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        found = str(own) if own.exists() else shutil.which("chromium") or shutil.which("chromium-browser")
        if found is None:
            pytest.skip("no Chromium: run `playwright install chromium`, or install the system's")
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def load_program() -> Callable[[str], ModuleType]:
    """Imports a program that is no part of the package, such as `benchmarks/fuzz.py`."""

    def load(path: str) -> ModuleType:
        file = Path(__file__).resolve().parents[1] / path
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(file.parent))  # programs import their neighbours
            patch.setitem(sys.modules, file.stem, module)  # where dataclasses look up their fields' types
            spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def terminal() -> Iterator[None]:
    """Signals do what they do in a terminal, also where the suite runs in the background or under `nohup`.

    A shell has SIGINT ignored there, `nohup` SIGHUP.
    """
    as_there = {signal.SIGINT: signal.default_int_handler}
    if hasattr(signal, "SIGHUP"):
        as_there[signal.SIGHUP] = signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number, handler in as_there.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
