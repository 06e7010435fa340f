"""The metrics of the pyiqa package (IQA-PyTorch) under `pyiqa:NAME`, with its own conventions.

Nothing is downloaded: pyiqa would fetch weights when a metric is made, so its ways out are closed meanwhile, and what
it would have fetched is sought where all pretrained files are sought.

Source: https://github.com/chaofengc/IQA-PyTorch
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import shutil
import socket
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from mvmsr.hardware import full_float32, pick_device
from mvmsr.metrics.build import PYIQA_PREFIX as PREFIX
from mvmsr.metrics.metric import Metric, same_size
from mvmsr.metrics.protocol import Protocol
from mvmsr.pretrained import MissingWeights, weights_folders
from mvmsr.registry import RegistryError, did_you_mean

logger = logging.getLogger(__name__)

OF_WHOLE_SETS = ("fid", "fid_dinov2", "inception_score", "sfid")
"""Scores of folders of pictures, not of one."""


class Pyiqa(Metric):
    """A metric of pyiqa on whole RGB pictures in [0, 1]; the protocol's colour and border do not apply.

    Args:
        metric: its name in pyiqa, as `pyiqa.list_models()` has it, without the prefix.
        device: where to compute.
        weights_dir: where to look for its weights first.

    Raises:
        RegistryError: pyiqa has no such metric, or none that scores single pictures.
        MissingWeights: pyiqa, a package that the metric uses, or its weights are not on this machine.
    """

    why_nan = "pyiqa cannot score it, as the log says"

    def __init__(self, metric: str, device: str = "auto", weights_dir: str | Path | None = None) -> None:
        check_name(metric)
        self.name = PREFIX + metric
        self.device = pick_device(device)
        self.network = create(metric, self.device, weights_dir)
        self.higher_is_better = not self.network.lower_better
        self.needs_gt = self.network.metric_mode == "FR"

    def __call__(self, sr: np.ndarray, gt: np.ndarray | None, protocol: Protocol) -> float:
        """The score of `sr` (H, W, 3) uint8; nan, with pyiqa's reason in the log, where it cannot score the picture.

        Raises:
            ValueError: the metric compares, and `gt` is missing or of another size.
        """
        pictures = same_size(self.name, sr, gt) if self.needs_gt else (sr,)
        tensors = [_to_tensor(picture).to(self.device) for picture in pictures]
        try:
            with torch.no_grad(), full_float32():
                score = self.network(*tensors)
        except (AssertionError, IndexError, RuntimeError, ValueError) as error:
            logger.warning("%s cannot score an image of %dx%d: %s", self.name, sr.shape[1], sr.shape[0], error)
            return float("nan")
        return float(score)


def names() -> list[str]:
    """Every metric of the installed pyiqa that scores single pictures, without the prefix.

    Raises:
        MissingWeights: pyiqa is not installed.
    """
    if importlib.util.find_spec("pyiqa") is None:
        raise MissingWeights("pyiqa is not installed; `pip install pyiqa` mends it")
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    return sorted(name for name in DEFAULT_CONFIGS if name not in OF_WHOLE_SETS)


def check_name(metric: str) -> None:
    """Refuse a name that pyiqa has no metric of single pictures for.

    Raises:
        RegistryError: it has not; the message has the closest name and all of them.
        MissingWeights: pyiqa is not installed.
    """
    known = names()
    if metric in OF_WHOLE_SETS:
        raise RegistryError(f"{PREFIX}{metric} compares sets of images; it has no score of a single one")
    if metric not in known:
        listed = ", ".join(known)
        raise RegistryError(f"pyiqa has no metric {metric!r}.{did_you_mean(metric, known)} Known: {listed}.")


def compares(metric: str) -> bool:
    """Whether a metric of pyiqa judges an image by another one."""
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    return DEFAULT_CONFIGS[metric].get("metric_mode") == "FR"


def create(metric: str, device: torch.device, weights_dir: str | Path | None) -> nn.Module:
    """pyiqa's model of that name, ready to score.

    Raises:
        MissingWeights: weights or a package that it needs are not on this machine.
    """
    from pyiqa.models.inference_model import InferenceModel

    remedy = f"`python -c \"import pyiqa; pyiqa.create_metric('{metric}')\"` fetches it on a machine that is online"
    sought: list[str] = []
    try:
        # Its logger announces every network, in a format of its own.
        with _offline(weights_dir, sought), mock.patch.object(logging.getLogger("pyiqa"), "disabled", True):
            return InferenceModel(metric, device=device)
    except ImportError as error:
        package = (error.name or "").split(".")[0]
        package = "'setuptools<81'" if package == "pkg_resources" else package
        install = f"`pip install {package}` mends it" if package else f"{error}"
        raise MissingWeights(f"{PREFIX}{metric} needs a package that is not installed: {install}") from error
    except (OSError, RuntimeError, ValueError, AttributeError) as error:
        if not sought and not _is_about_downloads(error):
            raise
        what = sought[-1] if sought else "a file of its network"
        raise MissingWeights(
            f"{PREFIX}{metric}: {what} is not on this machine; {remedy}, or name its folder by --weights-dir or "
            "$MVMSR_WEIGHTS_DIR"
        ) from error


def _is_about_downloads(error: BaseException) -> bool:
    """Whether some library gave up because it could not reach the network."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, (urllib.error.URLError, ConnectionError, TimeoutError, socket.gaierror)):
            return True
        if type(chain).__module__.split(".")[0] in ("huggingface_hub", "requests", "httpx", "urllib3"):
            return True
        chain = chain.__cause__ or chain.__context__
    return "offline" in str(error).lower() or "huggingface.co" in str(error)


@contextlib.contextmanager
def _offline(weights_dir: str | Path | None, sought: list[str]) -> Iterator[None]:
    """No library gets anything from the network; pyiqa's files are taken from where pretrained files may lie.

    Args:
        sought: gets a line for every file that was wanted and not found.
    """
    import huggingface_hub.constants
    import pyiqa.utils.download_util as theirs

    places = [*weights_folders(weights_dir), Path(theirs.DEFAULT_CACHE_DIR)]

    def from_disk(url: str, target: str, *_: Any, hash_prefix: str | None = None, progress: bool = True) -> None:
        name = Path(target).name
        found = next((place / name for place in places if (place / name).is_file()), None)
        if found is None:
            sought.append(f"{name} ({url})")
            raise urllib.error.URLError(f"{name} was not downloaded")
        try:
            Path(target).symlink_to(found.resolve())
        except OSError:  # file systems without links
            shutil.copyfile(found, target)

    def refuse(url: Any, *_: Any, timeout: float | None = None, data: bytes | None = None) -> None:
        address = url.full_url if isinstance(url, urllib.request.Request) else str(url)
        sought.append(address)
        raise urllib.error.URLError(f"{address} was not downloaded")

    with (
        tempfile.TemporaryDirectory(prefix="mvmsr-pyiqa-") as folder,
        mock.patch.object(theirs, "DEFAULT_CACHE_DIR", folder),
        mock.patch.object(theirs, "download_url_to_file", from_disk),
        mock.patch.object(torch.hub, "download_url_to_file", from_disk),
        mock.patch.object(urllib.request, "urlopen", refuse),
        mock.patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", True),
        _timeout(5.0),
        contextlib.redirect_stdout(io.StringIO()),  # where it loads weights from, and what it downloads
    ):
        yield


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Connections that no door above closes give up soon."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _to_tensor(rgb: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None].float() / 255
