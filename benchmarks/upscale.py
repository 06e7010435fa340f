"""Seconds per megapixel and peak memory of enlarging a picture: ours, spandrel's plain call, Real-ESRGAN's tiler.

    pip install --no-deps --target peers realesrgan==0.3.0
    python benchmarks/upscale.py --realesrgan peers [--megapixels 0.25 1] [--rounds 2] [--json FILE]

All three run the same network with the same weights on the same picture (uint8 in, uint8 out), each as its users get
it: ours with everything on `auto`; spandrel's descriptor on the whole picture; `RealESRGANer` with tiles of 256 and
otherwise its script's defaults (10 pixels read around a tile), in float32, the only precision it has on a CPU. The
networks are Real-ESRGAN's general one (SRVGGNetCompact, 64 features, 32 convolutions) and BasicSR's MSRResNet (64
features, 16 blocks), which spandrel does not know: there the network itself is called as spandrel would. The weights
are random, with corrections as large as trained ones make.

Every run is a process of its own; the contenders take turns, so that a machine whose speed drifts slows all alike.
Seconds are those of the clock, after one small picture to warm up; processor seconds stand beside them, and tell more
where other work disturbs. Memory is the peak of the process, and what of it was there before the picture.

`ours_to_file` is ours into a PNG, as `mvmsr upscale` does it: a large result is written while it is computed, and never
held. A contender that runs out of memory is recorded as such; `--memory` limits the address space of each, so that it
does so before it takes what other work on the machine needs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SCALE = 4
NETWORKS: dict[str, dict[str, int]] = {
    "Compact": {"num_feat": 64, "num_conv": 32, "upscale": SCALE},
    "MSRResNet": {"num_feat": 64, "num_block": 16, "upscale": SCALE},
}
CONTENDERS = ("ours", "ours_to_file", "spandrel", "realesrgan")
OUT_OF_MEMORY = ("not enough memory", "alloc_cpu", "MemoryError", "insufficient memory")
CORRECTION = 0.04
Enlarge = Callable[[np.ndarray], np.ndarray]


def make_weights(network: str, folder: Path, picture: np.ndarray) -> None:
    """One state in our format and in BasicSR's, whose corrections of the enlarged input deviate by `CORRECTION`."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from mvmsr.inference import save_weights
    from mvmsr.registry import ARCHS

    torch.manual_seed(0)
    module = ARCHS.get(network)(**NETWORKS[network]).eval()
    lq = torch.from_numpy(picture[:64, :64]).permute(2, 0, 1)[None] / 255
    last = [part for part in module.modules() if isinstance(part, nn.Conv2d)][-1]
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d) and network == "MSRResNet":
                nn.init.kaiming_normal_(part.weight, a=1)
        mode = "nearest" if network == "Compact" else "bilinear"
        correction = module(lq) - F.interpolate(lq, scale_factor=SCALE, mode=mode)
        last.weight.mul_(CORRECTION / correction.std())
    save_weights(folder / "ours.safetensors", module.state_dict(), network, NETWORKS[network], SCALE)
    torch.save({"params_ema": module.state_dict()}, folder / "theirs.pth")


def ours(network: str, folder: Path) -> Enlarge:
    """Our upscaler, everything on `auto`, with the large pages that the command asks for."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from mvmsr.inference import Upscaler

    return Upscaler(folder / "ours.safetensors", device="cpu").upscale_array


def ours_to_file(network: str, folder: Path) -> Enlarge:
    """Our upscaler into a PNG file."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from mvmsr.data import Picture
    from mvmsr.inference import Upscaler

    upscaler = Upscaler(folder / "ours.safetensors", device="cpu")

    def enlarge(picture: np.ndarray) -> np.ndarray:
        upscaler.upscale_to(Picture(picture), folder / "out.png")
        return picture[:0]  # the result is in the file

    return enlarge


def spandrel(network: str, folder: Path) -> Enlarge:
    """The descriptor's call on the whole picture, or the network's where spandrel does not know it."""
    import torch
    from spandrel import ModelLoader

    if network == "Compact":
        model = ModelLoader("cpu").load_from_file(folder / "theirs.pth").eval()
    else:
        model = _basicsr(network)
        model.load_state_dict(torch.load(folder / "theirs.pth", weights_only=True)["params_ema"])
        model.eval()

    def enlarge(picture: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            sr = model(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
        return (sr[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()

    return enlarge


def realesrgan(network: str, folder: Path) -> Enlarge:
    """Real-ESRGAN's `RealESRGANer` in tiles of 256 pixels."""
    import torch

    model = _basicsr(network)  # also makes BasicSR importable beside new releases of torchvision
    from realesrgan import RealESRGANer

    helper = RealESRGANer(
        SCALE, str(folder / "theirs.pth"), model=model, tile=256, pre_pad=0, device=torch.device("cpu")
    )
    return lambda picture: helper.enhance(picture[..., ::-1])[0][..., ::-1]


def _basicsr(network: str) -> Any:
    from mvmsr.basicsr_shim import import_basicsr

    if import_basicsr("basicsr.archs") is None:
        raise SystemExit("BasicSR is not installed; pip install basicsr")
    if network == "Compact":
        return import_basicsr("basicsr.archs.srvgg_arch").SRVGGNetCompact(**NETWORKS[network])
    return import_basicsr("basicsr.archs.srresnet_arch").MSRResNet(**NETWORKS[network])


def child(contender: str, network: str, folder: Path) -> None:
    """Enlarges once, and prints what it took."""
    import contextlib
    import io

    picture = np.load(folder / "picture.npy")
    makers = {"ours": ours, "ours_to_file": ours_to_file, "spandrel": spandrel, "realesrgan": realesrgan}
    with contextlib.redirect_stdout(io.StringIO()):  # RealESRGANer prints each tile
        enlarge = makers[contender](network, folder)
        enlarge(np.ascontiguousarray(picture[:40, :40]))
        before, begun, used = _memory("VmRSS"), time.perf_counter(), time.process_time()
        result = enlarge(picture)
    seconds = {"seconds": time.perf_counter() - begun, "processor_seconds": time.process_time() - used}
    np.save(folder / f"{contender}.npy", result)
    print(json.dumps({**seconds, "peak_mib": _memory("VmHWM"), "before_mib": before}))


def _memory(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def picture_of(megapixels: float) -> np.ndarray:
    """A photograph of about that size: scikit-image's astronaut, mirrored to fill it."""
    from skimage import data

    side = round((megapixels * 1e6) ** 0.5)
    photo = data.astronaut()
    block = np.block([[[photo], [photo[:, ::-1]]], [[photo[::-1]], [photo[::-1, ::-1]]]])
    times = -(-side // len(block))
    return np.ascontiguousarray(np.tile(block, (times, times, 1))[:side, :side])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of two pictures of uint8, all pixels."""
    error = 0.0
    for top in range(0, len(a), 512):
        error += float(np.square(a[top : top + 512].astype(np.float64) - b[top : top + 512]).sum())
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / (error / a.size)))


def measure(
    network: str, megapixels: float, rounds: int, contenders: Sequence[str], peers: Path | None, memory: int | None
) -> dict[str, Any]:
    """The contenders at one size; `memory` is the address space of each in bytes."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(peers or ""), environment.get("PYTHONPATH", "")]))
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        picture = picture_of(megapixels)
        np.save(folder / "picture.npy", picture)
        # In a process of its own, as this one must stay small.
        call = [sys.executable, __file__, "--folder", text, "--network", network, "--child"]
        subprocess.run([*call, "weights"], check=True)
        for _ in range(rounds):
            for name in list(runs):
                told = run_limited([*call, name], environment, memory)
                print(f"  {network} {megapixels:g} MP {name:12s} {told or 'out of memory'}", flush=True)
                if told is None:
                    del runs[name]
                else:
                    runs[name].append(told)
        outputs = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in runs}
        size = picture.shape[0] * picture.shape[1] / 1e6
        found: dict[str, Any] = {"network": network, "input_megapixels": round(size, 4), "rounds": rounds}
        for name in contenders:
            found[name] = summary(name, runs, outputs, size) if name in runs else {"failed": "out of memory"}
    return found


def run_limited(call: list[str], environment: dict[str, str], memory: int | None) -> dict[str, float] | None:
    """What a child printed; None where it ran out of memory.

    Raises:
        SystemExit: it failed otherwise.
    """

    def limit() -> None:
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    done = subprocess.run(call, capture_output=True, text=True, env=environment, preexec_fn=limit)
    if done.returncode == 0:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    if done.returncode == -signal.SIGKILL or any(text in done.stderr for text in OUT_OF_MEMORY):
        return None
    raise SystemExit(f"{' '.join(call)} failed:\n{done.stderr}")


def summary(
    name: str, runs: dict[str, list[dict[str, float]]], outputs: dict[str, np.ndarray], size: float
) -> dict[str, Any]:
    """Of one contender: its medians, and ratios of them to ours round by round."""

    def median(values: Iterable[float]) -> float:
        return round(statistics.median(values), 2)

    told: dict[str, Any] = {
        "seconds_per_megapixel": median(run["seconds"] / size for run in runs[name]),
        "processor_seconds_per_megapixel": median(run["processor_seconds"] / size for run in runs[name]),
        "peak_mib": round(max(run["peak_mib"] for run in runs[name])),
        "of_it_before_the_picture_mib": round(max(run["before_mib"] for run in runs[name])),
    }
    if name in ("ours", "realesrgan") and "spandrel" in outputs:
        told["psnr_to_the_whole_in_float32"] = round(psnr(outputs[name], outputs["spandrel"]), 2)
    if name == "ours" and "spandrel" not in outputs and "realesrgan" in outputs:
        told["psnr_to_realesrgan"] = round(psnr(outputs[name], outputs["realesrgan"]), 2)
    if name in ("spandrel", "realesrgan") and "ours" in runs:
        for key in ("seconds", "processor_seconds"):
            pairs = zip(runs[name], runs["ours"], strict=True)
            told[f"{key}_over_ours"] = median(theirs[key] / mine[key] for theirs, mine in pairs)
    return told


def write(path: Path, results: list[dict[str, Any]], realesrgan_took_part: bool) -> None:
    """The results so far, with the machine, the versions, and how busy it was."""
    # In a process of its own: what this one holds would count in its children's beginnings.
    program = (
        "import json; from mvmsr.benchmark.results import machine, versions; "
        "print(json.dumps({'versions': versions(), 'machine': machine('cpu')}))"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    document = {
        "date": time.strftime("%Y-%m-%d"),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "results": results,
        **json.loads(told.splitlines()[-1]),
    }
    if realesrgan_took_part:
        document["versions"]["realesrgan"] = "0.3.0"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.25, 1], help="of input; 4 and 16 take long")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--realesrgan", type=Path, help="folder that realesrgan is installed in; without it, left out")
    parser.add_argument("--memory", type=float, help="GiB of address space for each contender; no limit without it")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--network", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child == "weights":
        make_weights(arguments.network, arguments.folder, np.load(arguments.folder / "picture.npy"))
        return
    if arguments.child:
        child(arguments.child, arguments.network, arguments.folder)
        return
    peers = arguments.realesrgan.resolve() if arguments.realesrgan else None
    contenders = [name for name in arguments.contenders if name != "realesrgan" or peers is not None]
    memory = round(arguments.memory * 2**30) if arguments.memory else None
    results = []
    for megapixels in arguments.megapixels:
        for network in arguments.networks:
            results.append(measure(network, megapixels, arguments.rounds, contenders, peers, memory))
            print(json.dumps(results[-1], indent=1), flush=True)
            if arguments.json:  # after every size: large ones take long
                write(arguments.json, results, peers is not None)


if __name__ == "__main__":
    main()
