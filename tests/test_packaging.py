"""What an installed copy of the package holds, unlike a checkout on the path: packages alone, and the data it names."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mvmsr"


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_every_other_file_is_named_as_the_packages_data() -> None:
    setup = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (named,) = (node.value for node in ast.walk(setup) if isinstance(node, ast.keyword) and node.arg == "package_data")
    patterns = ast.literal_eval(named)["mvmsr"]
    installed = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    others = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others
    assert [str(path) for path in sorted(others - installed)] == []
