"""The examples of CONTRIBUTING.md work as they are written, one by one and all together in a run."""

from __future__ import annotations

import importlib
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from rich.console import Console

from mvmsr import config
from mvmsr.data import write_rgb
from mvmsr.engine.logs import read_stats
from mvmsr.engine.loop import train
from mvmsr.registry import ARCHS, DATASETS, LOSSES, METRICS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w/]+\.py)`\n\n```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
CODE = {name: code for name, code in FILES.items() if name.startswith("mvmsr/")}
TESTS = {name: code for name, code in FILES.items() if name.startswith("tests/")}
REGISTRIES = (ARCHS, DATASETS, LOSSES, METRICS)


def _execute(name: str, code: str) -> ModuleType:
    module = ModuleType(name.removesuffix(".py").replace("/", "."))
    sys.modules[module.__name__] = module
    exec(compile(code, name, "exec"), module.__dict__)
    return module


@pytest.fixture(scope="module")
def examples() -> Iterator[dict[str, ModuleType]]:
    """The examples as if their files were there; afterwards nothing of them is left."""
    for registry in REGISTRIES:
        registry.names()
    before = [dict(registry._entries) for registry in REGISTRIES]
    modules = {name: _execute(name, code) for name, code in CODE.items()}
    yield modules
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry._entries.clear()
        registry._entries.update(entries)
    for module in modules.values():
        del sys.modules[module.__name__]


def test_every_kind_has_an_example_and_every_example_a_test() -> None:
    assert [name.split("/")[1] for name in CODE] == ["losses", "archs", "metrics", "data"]
    assert [name.split("/")[1] for name in TESTS] == ["losses", "archs", "metrics", "data"]
    assert len(FILES) == TEXT.count("```python")


@pytest.mark.parametrize("name", CODE)
def test_the_line_for_the_package_imports_what_the_file_holds(name: str, examples: dict[str, ModuleType]) -> None:
    package = name.rsplit("/", 1)[0]
    module = examples[name].__name__
    line = re.search(rf"^The line in `{package}/__init__\.py`:\s`from {module} import (\w+)`", TEXT, re.MULTILINE)
    assert line, f"no line for {package}/__init__.py"
    assert inspect.isclass(getattr(examples[name], line[1]))
    assert not (ROOT / name).exists(), "the example is a part of the project now; choose another"
    importlib.import_module(package.replace("/", "."))


@pytest.mark.parametrize("name", TESTS)
def test_the_example_passes_its_own_test(name: str, examples: dict[str, ModuleType], tmp_path: Path) -> None:
    module = _execute(name, TESTS[name])
    del sys.modules[module.__name__]
    tests: list[Callable[..., None]] = [value for key, value in vars(module).items() if key.startswith("test_")]
    assert tests
    for number, test in enumerate(tests):
        if "tmp_path" in inspect.signature(test).parameters:
            test(tmp_path / str(number))
        else:
            test()


@pytest.mark.slow
def test_the_tests_of_everything_registered_take_them(tmp_path: Path) -> None:
    """With files and lines where the text puts them, in a copy."""
    for part in ("mvmsr", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, code in FILES.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    for file, line in re.findall(r"^The line in `(.+?)`:\s`(.+?)`", TEXT, re.MULTILINE):
        with (tmp_path / file).open("a", encoding="utf-8") as package:
            package.write(f"{line}\n")
    (tiny,) = re.findall(r"`(\"ESPCN\": .+?,)`", TEXT)
    tiny_archs = tmp_path / "tests" / "tiny_archs.py"
    start = "GENERATORS: Arguments = {\n"
    tiny_archs.write_text(tiny_archs.read_text("utf-8").replace(start, f"{start}    {tiny}\n"), encoding="utf-8")
    tests = ("archs/test_all_archs.py", "inference/test_tiled_archs.py", "losses/test_losses_registry.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-k", "ESPCN or GradientLoss or registered", *(f"tests/{t}" for t in tests)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_run_uses_them_all(examples: dict[str, ModuleType], tmp_path: Path) -> None:
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        write_rgb(tmp_path / "pictures" / f"{number}.png", picture)
    snippets = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
    merged = {key: value for snippet in snippets for key, value in snippet.items()}
    here = {"dataroot_gt": str(tmp_path / "pictures"), "cache_dir": str(tmp_path / "cache"), "gt_size": 32}
    options = {
        "name": "examples",
        "device": "cpu",
        "compile": False,
        "datasets": {
            "train": {**merged["datasets"]["train"], **here, "batch_size_per_gpu": 2},
            "val": {"name": "made", "dataroot_gt": here["dataroot_gt"]},
        },
        "network_g": merged["network_g"],
        "path": {"experiments_root": str(tmp_path)},
        "train": {**merged["train"], "total_iter": 2},
        "val": {"val_freq": 2, "metrics": ["mae"], "samples": 0},
        "logger": {"print_freq": 1, "use_tb_logger": False},
    }
    (tmp_path / "options.yml").write_text(yaml.safe_dump(options), encoding="utf-8")
    run = train(config.load(tmp_path / "options.yml"), console=Console(file=io.StringIO()))
    records = read_stats(run.stats)
    assert any(record.get("loss_g/gradient", 0) > 0 for record in records)
    assert any(record.get("val/made/mae", 0) > 0 for record in records)
