"""The machine: versions, device, precision, threads, measured speed, free memory and disk."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from mvmsr.cli.doctor_findings import Finding, State
from mvmsr.container_memory import free_memory

if TYPE_CHECKING:
    import torch

_NEEDED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "lightning-fabric": "lightning_fabric",
    "numpy": "numpy",
    "opencv-python": "cv2",
    "pillow": "PIL",
    "pydantic": "pydantic",
    "pyyaml": "yaml",
    "safetensors": "safetensors",
}
"""Distributions without which nothing works, with the module that each brings."""
_OPTIONAL = {
    "basicsr": ("basicsr", "its networks and losses in options files, and the NIQE metric's model"),
    "spandrel": ("spandrel", "weights of other tools (ESRGAN, SwinIR, ...)"),
    "lpips": ("lpips", "the LPIPS metric"),
    "pyiqa": ("pyiqa", "further metrics to compare with"),
    "tensorboard": ("tensorboard", "the TensorBoard view of runs (logger.use_tb_logger)"),
    "matplotlib": ("matplotlib", "the curves of mvmsr report"),
    "jinja2": ("jinja2", "mvmsr report"),
}
_GIB = 2**30
_LITTLE_DISK, _LITTLE_MEMORY = 5 * _GIB, 2 * _GIB
_BATCH, _PATCH, _BEST_OF, _PATIENCE_SECONDS = 2, 24, 3, 1.5
_MUCH_SLOWER = 1.25


def versions() -> Iterator[Finding]:
    """Python and the packages, by their metadata: none of them is imported."""
    python = platform.python_version()
    supported = (3, 10) <= sys.version_info[:2] <= (3, 13)
    state = State.ok if supported else State.broken
    yield Finding("Versions", "python", state, python, "" if supported else "use Python 3.10 to 3.13")
    yield Finding("Versions", "mvmsr", State.ok, _own_version())
    for name, module in _NEEDED.items():
        version = _version(name, module)
        if version is None:
            yield Finding("Versions", name, State.broken, "not installed", f"pip install {name}")
        else:
            yield Finding("Versions", name, State.ok, version, values={"version": version})
    yield from _torchvision_fits()
    for name, (module, used_for) in _OPTIONAL.items():
        version = _version(name, module)
        if version is not None:
            yield Finding("Versions", name, State.ok, version + _how_basicsr_works(name), values={"version": version})
        else:
            yield Finding("Versions", name, State.missing, f"not installed; it is for {used_for}", _remedy(name))


def computing() -> Iterator[Finding]:
    """The device, precision, memory layout and threads that `auto` means here, and why."""
    try:
        import torch
    except (ImportError, OSError) as error:
        remedy = "install torch again; its page tells the command for your system"
        yield Finding("Computing", "torch", State.broken, f"cannot be imported: {error}", remedy)
        return
    from mvmsr.hardware import has_fast_bf16, pick_channels_last, pick_device, pick_precision

    device = pick_device()
    text = f"{device}: {_device_name(device)}"
    if device.type == "cpu":
        text += " (torch sees no CUDA or MPS device)"
    yield Finding("Computing", "device", State.ok, text, values={"device": str(device)})
    precision = pick_precision("auto", device)
    unit = "GPU" if device.type != "cpu" else "CPU"
    why = (
        f"this {unit} multiplies bfloat16 in hardware"
        if has_fast_bf16(device)
        else f"this {unit} has no hardware for bfloat16, which would be emulated"
    )
    yield Finding("Computing", "precision", State.ok, f"{precision}, as {why}", values={"precision": precision})
    channels_last = pick_channels_last("auto", device, precision)
    text = (
        "on, as it suits convolutions in bfloat16" if channels_last else f"off, as it gains nothing in {precision} here"
    )
    yield Finding("Computing", "channels_last", State.ok, text, values={"channels_last": channels_last})
    yield _threads(torch.get_num_threads())


def measured_speed() -> Iterator[Finding]:
    """Seconds for one forward and backward pass of the usual network in each precision, best of three."""
    from mvmsr.hardware import pick_device, pick_precision

    device = pick_device()
    chosen, seconds = pick_precision("auto", device), {}
    what = f"forward and backward of SRResNet, {_BATCH} patches of {_PATCH} px"
    for precision in ("32", "bf16-mixed"):
        try:
            seconds[precision] = seconds_per_pass(device, precision)
        except (RuntimeError, NotImplementedError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            state = State.broken if precision == chosen else State.note
            yield Finding("Speed", precision, state, f"does not run on {device}: {reason}")
            continue
        values = {"seconds": seconds[precision], "network": "SRResNet 16x64", "batch": _BATCH, "patch": _PATCH}
        yield Finding("Speed", precision, State.ok, f"{seconds[precision] * 1000:.0f} ms {what}", values=values)
    fastest = min(seconds, key=seconds.__getitem__, default=chosen)
    if chosen in seconds and seconds[chosen] > _MUCH_SLOWER * seconds[fastest]:
        ratio = seconds[chosen] / seconds[fastest]
        text = f"{fastest} was {ratio:.1f} times as fast as {chosen}, which `auto` takes"
        yield Finding("Speed", "precision", State.note, text, f"try precision: {fastest} in the options file")


def seconds_per_pass(device: torch.device, precision: str) -> float:
    """The fastest of four passes, the first of which warms up; of fewer where the machine is slow."""
    import torch

    from mvmsr.archs.srresnet import SRResNet
    from mvmsr.hardware import autocast, pick_channels_last

    channels_last = pick_channels_last("auto", device, precision)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = SRResNet(num_feat=64, num_block=16, bn=False).to(device, memory_format=layout)  # type: ignore[call-overload]
    lq = torch.rand(_BATCH, 3, _PATCH, _PATCH).to(device, memory_format=layout)
    seconds: list[float] = []
    while len(seconds) <= _BEST_OF and sum(seconds) < _PATIENCE_SECONDS:
        start = time.perf_counter()
        with autocast(device, precision):
            loss = network(lq).float().abs().mean()
        loss.backward()
        gradient = network.conv_first.weight.grad
        assert gradient is not None
        gradient.sum().item()  # waits for the device: this gradient is the last to be computed
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def room(data_root: Path | None = None) -> Iterator[Finding]:
    """Free memory, and free disk where runs and data sets go."""
    memory = free_memory()
    if memory is not None:
        state = State.ok if memory >= _LITTLE_MEMORY else State.note
        remedy = "" if state is State.ok else "close other programs, or lower batch_size_per_gpu and --tile"
        values = {"bytes": memory}
        yield Finding("Room", "memory", state, f"{memory / _GIB:.1f} GiB free", remedy, values)
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info()
            text = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free"
            yield Finding("Room", "GPU memory", State.ok, text, values={"bytes": free, "total_bytes": total})
    from mvmsr.data.layouts import data_root_or_default

    for name, folder in (("disk for runs", Path("experiments")), ("disk for data", data_root_or_default(data_root))):
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(existing).free
        state = State.ok if free >= _LITTLE_DISK else State.note
        remedy = "" if state is State.ok else "free some space: a run keeps several checkpoints (logger.keep_last)"
        text = f"{free / _GIB:.1f} GiB free at {existing}"
        yield Finding("Room", name, state, text, remedy, {"bytes": free, "path": str(existing)})


def _threads(threads: int) -> Finding:
    from mvmsr.hardware import processors_busy_elsewhere, thread_advice, usable_processors

    cores = usable_processors()
    variable = os.environ.get("OMP_NUM_THREADS")
    text = f"{threads} of torch on {cores} usable cores" + (f" (OMP_NUM_THREADS={variable})" if variable else "")
    values = {"threads": threads, "cores": cores}
    if threads > cores:
        return Finding("Computing", "threads", State.note, text, f"set OMP_NUM_THREADS={cores}", values)
    if advice := thread_advice(threads, cores, processors_busy_elsewhere(0)):
        return Finding("Computing", "threads", State.note, text, advice, values)
    return Finding("Computing", "threads", State.ok, text, values=values)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        import torch

        major, minor = torch.cuda.get_device_capability(device)
        return f"{torch.cuda.get_device_name(device)}, compute capability {major}.{minor}"
    from mvmsr.hardware import processor_name

    return processor_name()


def _torchvision_fits() -> Iterator[Finding]:
    """torchvision 0.(n + 15) is made for torch 2.n; others fail to import, or worse."""
    torch_version, vision_version = _version("torch", "torch"), _version("torchvision", "torchvision")
    try:
        major, minor = (int(part) for part in (torch_version or "").split(".")[:2])
        vision_minor = int((vision_version or "").split(".")[1])
    except (ValueError, IndexError):
        return
    if major == 2 and vision_minor != minor + 15:
        text = f"torchvision {vision_version} was not made for torch {torch_version}"
        yield Finding("Versions", "torchvision", State.note, text, f"pip install 'torchvision==0.{minor + 15}.*'")


def _version(name: str, module: str) -> str | None:
    """The distribution's version; `unknown` where only the module is there (another distribution brings it)."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "version unknown" if importlib.util.find_spec(module) is not None else None


def _own_version() -> str:
    from mvmsr import __version__

    return __version__


def _how_basicsr_works(name: str) -> str:
    gone = "torchvision.transforms.functional_tensor"
    if name != "basicsr" or importlib.util.find_spec("torchvision") is None:
        return ""
    folder = Path(str(importlib.util.find_spec("torchvision").origin)).parent  # type: ignore[union-attr]
    if (folder / "transforms" / "functional_tensor.py").exists():
        return ""
    return f"; it asks for {gone}, which this torchvision no longer has: mvmsr stands in for it"


def _remedy(name: str) -> str:
    if name == "basicsr" and sys.version_info >= (3, 13):
        return "BasicSR cannot be installed on Python 3.13; use Python 3.10 to 3.12 to have it"
    return f"pip install {name}"
