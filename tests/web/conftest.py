"""Tiny networks, pictures, and a page that is being served."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from served_page import MAX_PIXELS, WAITING, Served, noise

from mvmsr.archs import SRResNet
from mvmsr.data.image_io import Picture, write_picture
from mvmsr.inference import save_weights

WITHOUT = "gradio is not installed: pip install 'mvmsr[web]'"
START_SECONDS = 400
LISTEN = """
import socket
ask = socket.getaddrinfo
def asked(host, *rest, **named):
    if host not in (None, "localhost", "127.0.0.1"):
        print("OUTSIDE", host, flush=True)
    return ask(host, *rest, **named)
socket.getaddrinfo = asked
"""
"""The server says which other machines it looks up."""


def _weights(path: Path, num_feat: int, num_block: int) -> Path:
    torch.manual_seed(0)
    network = SRResNet(num_feat=num_feat, num_block=num_block)
    with torch.no_grad():  # outputs spread over [0, 1], so that clamping hides no error
        network.conv_last.bias.fill_(0.5)
    args = {"num_feat": num_feat, "num_block": num_block}
    return save_weights(path, network.state_dict(), "SRResNet", args, 4)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _weights(tmp_path_factory.mktemp("tiny") / "tiny.safetensors", 8, 2)


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many layers that a picture takes many seconds, though each of them is quick."""
    return _weights(tmp_path_factory.mktemp("slow") / "slow.safetensors", 32, 480)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_picture(folder / "plain.png", Picture(noise(30, 41, 3)))
    write_picture(folder / "deep.png", Picture(noise(20, 31, 3, dtype=np.uint16), noise(20, 31, dtype=np.uint16)))
    write_picture(folder / "clear.png", Picture(noise(20, 31, 3), noise(20, 31)))
    write_picture(folder / "middling.png", Picture(noise(190, 200, 3)))
    write_picture(folder / "wide.png", Picture(np.zeros((200, 201, 3), np.uint8)))
    (folder / "junk.png").write_bytes(b"no picture" * 100)
    (folder / "empty.png").write_bytes(b"")
    (folder / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    whole = (folder / "plain.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="session")
def served(tiny: Path, slow: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if importlib.util.find_spec("gradio") is None:
        pytest.skip(WITHOUT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    temporary = tmp_path_factory.mktemp("temporary")
    options = {"--port": port, "--max-pixels": MAX_PIXELS, "--max-upload": "1M", "--queue": WAITING, "--device": "cpu"}
    arguments = [str(word) for pair in options.items() for word in pair] + ["--model", str(tiny), "--model", str(slow)]
    code = f"{LISTEN}import sys; from mvmsr.cli import main; sys.argv = ['mvmsr', 'web', *{arguments!r}]; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(temporary),
    )
    lines: list[str] = []
    threading.Thread(target=_collect, args=(process, lines), daemon=True).start()
    limit = time.monotonic() + START_SECONDS
    while not any("open http" in line for line in lines):
        if process.poll() is not None or time.monotonic() > limit:
            process.kill()
            pytest.fail("the page was not served:\n" + "".join(lines))
        time.sleep(0.05)
    (folder,) = temporary.glob("mvmsr-web-*")
    yield Served(f"http://127.0.0.1:{port}", process, lines, folder)
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(START_SECONDS) == 0
    finally:
        process.kill()
    assert list(temporary.glob("mvmsr-web-*")) == [], "uploads and results are left behind"


def _environment(temporary: Path) -> dict[str, str]:
    # What a careless user may have set for another page of gradio's must open nothing here.
    return {**os.environ, "TMPDIR": str(temporary), "GRADIO_ALLOWED_PATHS": "/", "GRADIO_SHARE": "true"}


def _collect(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stdout is not None
    lines.extend(process.stdout)
