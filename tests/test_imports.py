"""What may import what, how quickly it is imported, and the habits that every file keeps."""

from __future__ import annotations

import ast
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import mvmsr

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "mvmsr").rglob("*.py"))

ORDER = (
    {
        "atomic",
        "basicsr_shim",
        "checksum",
        "color",
        "container_memory",
        "counting",
        "decimals",
        "durations",
        "hardware",
        "heap",
        "revision",
        "signals",
        "stats_record",
    },
    {"registry"},
    {"config", "pretrained"},
    {"archs", "losses", "data", "metrics"},
    {"inference"},
    {"benchmark"},
    {"report", "web"},
    {"engine"},
    {"reproduction"},
    {"cli"},
)
"""A room imports from the lines above its own, and from nothing on its own line or below."""
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
BESIDE = {("metrics", "mvmsr.data.imresize")}
"""The imports along a line that are meant: scores that resize pictures do so as the data does."""
FORBIDDEN = {("engine", "report")}
"""Downward, but not meant: pages are made from a run's files, and training knows none of them."""

NAMES_FOR_MESSAGES = {"check_logits", "check_embeddings"}
"""Functions whose `**named` tensors are checked alike, the keys being what errors call them."""
FRAMEWORK_METHODS = {"forward", "train"}
"""Methods of `nn.Module` that a class's own docstring describes."""


@dataclass(frozen=True)
class Import:
    """One imported module, and where that is written."""

    room: str
    module: str
    where: str


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _room(module: str) -> str:
    """`data` for mvmsr.data.imresize; empty for mvmsr itself and what is no module in it."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "mvmsr" and parts[1] in LEVEL else ""


def imports_of(path: Path, tree: ast.Module) -> Iterator[Import]:
    """Every import in a file: at its top, in functions, for type checkers, and by `import_module("...")`."""
    relative = path.relative_to(ROOT / "mvmsr")
    room = relative.parts[0].removesuffix(".py")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{_name(path)}:{node.lineno}: write the whole name, not a relative one"
            assert node.module is not None
            from_package = node.module == "mvmsr" or node.module in {f"mvmsr.{room}" for room in LEVEL}
            modules = [f"{node.module}.{alias.name}" if from_package else node.module for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            modules = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        else:
            continue
        yield from (Import(room, module, f"{_name(path)}:{node.lineno}") for module in modules)


def wrong_imports(imports: Iterator[Import]) -> list[str]:
    """The imports that break the order, each with file and line."""
    wrong = []
    for item in imports:
        target = _room(item.module)
        if not target or target == item.room or (item.room, item.module) in BESIDE:
            continue
        if item.room in ("__init__", "__main__"):  # the package's fronts hand on what users ask for
            continue
        if LEVEL[target] >= LEVEL.get(item.room, -1) or (item.room, target) in FORBIDDEN:
            wrong.append(f"{item.where}: {item.room} imports {item.module}")
    return wrong


def test_every_room_has_its_place() -> None:
    rooms = {p.relative_to(ROOT / "mvmsr").parts[0].removesuffix(".py") for p in FILES} - {"__init__", "__main__"}
    assert rooms == set(LEVEL)


def test_imports_go_one_way() -> None:
    assert wrong_imports(item for path in FILES for item in imports_of(path, _tree(path))) == []


@pytest.mark.parametrize(
    ("room", "code", "wrong"),
    [
        ("losses", "from mvmsr.registry import LOSSES", False),
        ("losses", "from mvmsr import registry, __version__", False),
        ("losses", "from mvmsr.losses.term import Term", False),
        ("losses", "from mvmsr.archs import MetricNet", True),
        ("losses", "from mvmsr import registry, engine", True),
        ("metrics", "from mvmsr.data.imresize import imresize", False),
        ("metrics", "from mvmsr.data import imresize", False),
        ("metrics", "from mvmsr.data.layouts import find_pairs", True),
        ("data", "from mvmsr.metrics.psnr import psnr", True),
        ("registry", "import mvmsr.config", True),
        ("benchmark", "def f():\n    import mvmsr.engine.loop", True),
        ("benchmark", "if TYPE_CHECKING:\n    from mvmsr.cli import app", True),
        ("inference", "import importlib\nimportlib.import_module('mvmsr.engine')", True),
        ("report", "from mvmsr.engine.logs import read_stats", True),
        ("engine", "from mvmsr.report import write_report", True),
        ("cli", "from mvmsr.report import write_report", False),
    ],
)
def test_the_walk_sees_what_it_should(room: str, code: str, wrong: bool) -> None:
    path = ROOT / "mvmsr" / room / "made.py"
    assert bool(wrong_imports(imports_of(path, ast.parse(code)))) is wrong


def test_basicsr_is_imported_behind_one_door() -> None:
    doors = {
        item.where.split(":")[0]
        for path in FILES
        for item in imports_of(path, _tree(path))
        if item.module.split(".")[0] == "basicsr" or item.module.endswith("import_basicsr")
    }
    assert doors <= {"mvmsr/basicsr_shim.py"}


def test_the_engine_holds_no_formula_of_a_loss() -> None:
    names = re.compile(r"\w*(_loss|cross_entropy\w*|softplus|logsigmoid|relu)")
    written = [
        f"{_name(path)}:{node.lineno}: {ast.unparse(node)}"
        for path in FILES
        if path.is_relative_to(ROOT / "mvmsr" / "engine")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Attribute) and names.fullmatch(node.attr)
    ]
    assert written == []


def test_a_file_is_one_idea() -> None:
    lengths = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_no_signature_swallows_keywords() -> None:
    swallowing = [
        f"{_name(path)}:{node.lineno}: {node.name}"
        for path in FILES
        for node in ast.walk(_tree(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.args.kwarg is not None
        if node.name not in NAMES_FOR_MESSAGES
    ]
    assert swallowing == []


def _undocumented(path: Path) -> Iterator[str]:
    tree = _tree(path)
    if not ast.get_docstring(tree):
        yield _name(path)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield f"{_name(path)}: {node.name}"
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if not isinstance(method, ast.FunctionDef) or method.name.startswith("_"):
                    continue
                stub = ast.unparse(method.body[-1]) == "..."  # of a Protocol
                if not stub and method.name not in FRAMEWORK_METHODS and not ast.get_docstring(method):
                    yield f"{_name(path)}: {node.name}.{method.name}"


def test_what_is_public_is_described() -> None:
    assert not {gap for path in FILES for gap in _undocumented(path)}


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAVY = ("torch", "pydantic", "lightning_fabric", "numpy", "cv2", "PIL", "yaml", "basicsr", "matplotlib", "lpips")


def _loaded_after(code: str) -> str:
    """Which of the heavy modules a fresh interpreter holds after `code`."""
    code += f"\nimport sys\nprint('loaded:', *[name for name in {HEAVY!r} if name in sys.modules])"
    return _python(code).splitlines()[-1]


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert _loaded_after("import mvmsr") == "loaded:"
    assert _loaded_after("import torch") != "loaded:"


def test_the_package_hands_on_its_upscaler() -> None:
    from mvmsr.inference.upscaler import Upscaler

    assert mvmsr.Upscaler is Upscaler
    assert set(mvmsr.__all__) == {"Upscaler", "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'upscaler'"):
        mvmsr.upscaler  # noqa: B018  # looking it up is the test


def test_the_package_runs_as_the_command_does() -> None:
    done = subprocess.run([sys.executable, "-m", "mvmsr", "--help"], capture_output=True, text=True, check=True)
    assert "mvmsr [OPTIONS] COMMAND" in " ".join(done.stdout.split())


def test_help_imports_nothing_heavy() -> None:
    code = "from mvmsr.cli import app\ntry:\n    app(['--help'])\nexcept SystemExit as left:\n    assert left.code == 0"
    assert _loaded_after(code) == "loaded:"


def _best_seconds(arguments: list[str], repeats: int, cpu: bool) -> float:
    """The least that a process takes, by the clock or on the processor."""
    taken = []
    for _ in range(repeats):
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(arguments, check=True, capture_output=True, cwd=ROOT)
        wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime if cpu else wall)
    return min(taken)


def test_importing_the_package_is_quick() -> None:
    bare = _best_seconds([sys.executable, "-c", "pass"], 5, cpu=False)
    assert _best_seconds([sys.executable, "-c", "import mvmsr"], 5, cpu=False) - bare < 0.3


def test_help_is_quick() -> None:
    code = "from mvmsr.cli import main; import sys; sys.argv = ['mvmsr', '--help']; main()"
    bare = _best_seconds([sys.executable, "-c", "pass"], 3, cpu=True)
    assert _best_seconds([sys.executable, "-c", code], 3, cpu=True) - bare < 0.5
