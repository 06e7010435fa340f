"""What the documents tell people to type: the commands have these options, and the Python runs as it is written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from mvmsr.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("*/*.md"))]


def _commands(text: str) -> Iterator[str]:
    """The lines of code blocks and the code within sentences that begin with `mvmsr`."""
    for block in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from re.findall(r"^mvmsr .*", block.replace("\\\n", " "), re.MULTILINE)
    yield from re.findall(r"(?<!`)`(mvmsr [^`]+)`", text)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_commands_and_their_options_exist(path: Path) -> None:
    for line in _commands(path.read_text(encoding="utf-8")):
        words = shlex.split(line.replace("\n", " "), comments=True)[1:]
        command = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert words == [] or not hasattr(command, "commands") or words[0].startswith("-"), f"no such command: {line}"
        known = {"--help"} | {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known]
        assert not unknown, f"{line} has no option {unknown[0]}"


@pytest.mark.parametrize("name", ["README.md", "docs/upscale.md"])
def test_the_python_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8))
    image.save("photo.jpg")
    here = {"image": image, "array": np.asarray(image), "lq": torch.rand(1, 3, 8, 12)}
    exec(compile(code, name, "exec"), here)
    with Image.open("photo_x4.png") as result:
        assert result.size == (48, 32)
