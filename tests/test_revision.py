"""The commit that results name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mvmsr.revision import revision


def _git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_and_whether_the_package_differs_from_it(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("1")
    _git(tmp_path, "init", "-q")
    assert revision.__wrapped__(package) is None  # nothing is committed
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-q", "-m", "one")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    assert revision.__wrapped__(package) == commit[:12]
    (tmp_path / "notes.txt").write_text("beside the package")
    assert revision.__wrapped__(package) == commit[:12]
    (package / "a.py").write_text("2")
    assert revision.__wrapped__(package) == f"{commit[:12]}+changes"
    (package / "a.py").write_text("1")
    (package / "new.py").write_text("2")
    assert revision.__wrapped__(package) == f"{commit[:12]}+changes"


def test_no_commit_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site-packages" / "package").mkdir(parents=True)
    (tmp_path / ".git").mkdir()  # of somebody else's project, with an environment inside
    assert revision.__wrapped__(tmp_path / "site-packages" / "package") is None
    (tmp_path / "package").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert revision.__wrapped__(tmp_path / "package") is None
