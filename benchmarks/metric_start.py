"""How soon does the metric network learn beside a generator that is good already?

    python benchmarks/metric_start.py [--json FILE] [--image FILE]

The generator is a built-in model and stays as it is, so that the metric network alone is judged: its initial weights
and its normalisation, from several seeds. On patches of BSDS400; every 50 iterations its triplet loss on 256 patches of
BSD100 that it never learns from, in evaluation mode. A network that tells nothing apart has the margin, 1. About ten
minutes on one CPU core.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from figures import write_figures
from torch import Tensor

from mvmsr.archs import MetricNet
from mvmsr.benchmark.image_sets import load_image_set
from mvmsr.data.batches import TrainBatches
from mvmsr.data.paired_dataset import PairedImageDataset
from mvmsr.engine.held_out import cut_patches
from mvmsr.inference.weights import find_weights, load_generator
from mvmsr.losses.triplet import all_triplet_margins

VARIANTS: dict[str, dict[str, Any]] = {
    "batch norm, kaiming": {"norm": "batch", "init": "kaiming"},
    "batch norm, detail": {"norm": "batch", "init": "detail"},
    "group norm, kaiming": {"norm": "group", "init": "kaiming"},
    "group norm, detail": {"norm": "group", "init": "detail"},
    "no norm, detail": {"norm": "none", "init": "detail"},
}
MARGIN, EVERY, GROUP = 1.0, 50, 32
LAST = torch.channels_last


def pool(model: str, iterations: int, batch_size: int) -> tuple[Tensor, Tensor]:
    """(count, 3, 96, 96) real patches and what the model makes of them: uint8 and float16."""
    generator, _ = load_generator(find_weights(model))
    generator = generator.to(memory_format=LAST)
    batches = TrainBatches(PairedImageDataset("BSDS400", gt_size=96), batch_size, seed=0)
    gt, sr = [], []
    for index in range(iterations):
        batch = batches.batch(index)
        gt.append(batch.gt)
        sr.append(enlarged(generator, batch.lq))
    return torch.cat(gt), torch.cat(sr)


@torch.no_grad()
def enlarged(generator: torch.nn.Module, lq: Tensor) -> Tensor:
    """The generator's pictures of uint8 patches, float16."""
    with torch.autocast("cpu", torch.bfloat16):
        parts = [generator((part / 255).to(memory_format=LAST)) for part in lq.split(GROUP)]
    return torch.cat(parts).half()


def learn(arguments: dict[str, Any], seed: int, gt: Tensor, sr: Tensor, held_out: tuple[Tensor, Tensor],
          batch_size: int, rate: float) -> list[float]:  # fmt: skip
    """The held-out triplet loss after every `EVERY` iterations."""
    torch.manual_seed(seed)
    net = MetricNet(**arguments).to(memory_format=LAST)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate, fused=True)
    order = torch.randperm(len(gt) // batch_size, generator=torch.Generator().manual_seed(seed))
    found = []
    for iteration, index in enumerate(order.tolist(), start=1):
        rows = slice(index * batch_size, (index + 1) * batch_size)
        loss = triplet_loss(*embed(net, gt[rows], sr[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if iteration % EVERY == 0:
            found.append(round(judged(net, *held_out), 4))
    return found


def embed(net: MetricNet, gt: Tensor, sr: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings of both, in one batch."""
    both = torch.cat([gt / 255, sr.float()]).contiguous(memory_format=LAST)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = net(both)
    ours, theirs = embeddings.float().chunk(2)
    return ours, theirs


def triplet_loss(gt: Tensor, sr: Tensor) -> Tensor:
    """The directed triplet loss over all triplets of a batch."""
    return all_triplet_margins(gt, sr, MARGIN)[0].relu().mean()


@torch.no_grad()
def judged(net: MetricNet, gt: Tensor, sr: Tensor) -> float:
    """The triplet loss in evaluation mode, by groups of patches."""
    net.eval()
    losses = [triplet_loss(*embed(net, *part)) for part in zip(gt.split(GROUP), sr.split(GROUP), strict=True)]
    net.train()
    return float(torch.stack(losses).mean())


def below_half(curve: list[float]) -> int | None:
    """The iteration from which the loss stays below half the margin."""
    above = [k for k, value in enumerate(curve) if value >= MARGIN / 2]
    first = above[-1] + 1 if above else 0
    return EVERY * (first + 1) if first < len(curve) else None


def plot(curves: dict[str, list[list[float]]], path: Path) -> None:
    """The median of the seeds of every variant, and their range."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for name, seeds in curves.items():
        at = [EVERY * (k + 1) for k in range(len(seeds[0]))]
        values = list(zip(*seeds, strict=True))
        axes.plot(at, [statistics.median(v) for v in values], marker=".", label=name)
        axes.fill_between(at, [min(v) for v in values], [max(v) for v in values], alpha=0.12)
    axes.axhline(MARGIN / 2, color="grey", linestyle="--", linewidth=1)
    axes.set(xlabel="iteration", ylabel="triplet loss, held-out patches", ylim=(0, 1.5))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Try every variant, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="psnr", help="the generator: a built-in name or a weights file")
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--image", type=Path)
    arguments = parser.parse_args()
    gt, sr = pool(arguments.model, arguments.iterations, arguments.batch)
    patches = cut_patches([load_image_set("BSD100", scale=4)], 256, 96)
    assert patches is not None  # its pictures are large enough
    generator, _ = load_generator(find_weights(arguments.model))
    held_out = patches.gt, enlarged(generator.to(memory_format=LAST), patches.lq)
    curves: dict[str, list[list[float]]] = {}
    for name, variant in VARIANTS.items():
        seeds = range(arguments.seeds)
        curves[name] = [learn(variant, seed, gt, sr, held_out, arguments.batch, arguments.rate) for seed in seeds]
        since = [below_half(curve) for curve in curves[name]]
        print(
            f"{name:22} below half the margin since {since}; last {[curve[-1] for curve in curves[name]]}", flush=True
        )
    if arguments.image:
        plot(curves, arguments.image)
    if arguments.json:
        about = {"model": arguments.model, "batch": arguments.batch, "rate": arguments.rate}
        about |= {"every": EVERY, "margin": MARGIN}
        write_figures(arguments.json, {**about, "triplet": curves})


if __name__ == "__main__":
    main()
