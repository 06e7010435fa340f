"""Seconds per training iteration, ours beside BasicSR 1.4.2's own models, in one process and turn by turn.

    python benchmarks/train_step.py [--batch 8] [--patch 24] [--rounds 6] [--json FILE]

Both sides get the same batches of random pictures from memory and train the same networks from the same weights:
SRResNet 16x64 without BN and SRGAN's discriminator, of plain PyTorch modules for BasicSR (SRModel with L1; SRGANModel
with L1 and a vanilla GAN) and as ours here (L1; L1 + MvM; L1 + relativistic GAN; precision, layout and compilation as
`auto` picks them for a long run). Every figure is the median over rounds of the mean of a few iterations, the
contenders taking turns in every round, so that a machine whose speed drifts slows all of them alike.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from figures import write_figures
from torch import Tensor, nn

from mvmsr.archs import SRGANDiscriminator, SRResNet
from mvmsr.archs.strided_conv import StridedConv2d
from mvmsr.basicsr_shim import import_basicsr
from mvmsr.config.load import validate
from mvmsr.config.yaml_source import Source
from mvmsr.data.batches import Batch
from mvmsr.engine.build import build
from mvmsr.engine.check import check
from mvmsr.engine.iteration import run_iteration, to_device
from mvmsr.heap import keep_for_reuse

SCALE = 4
Iterate = Callable[[], None]


class PlainSRResNet(nn.Module):
    """SRResNet without BN as anybody would write it; the same parameters, names and function as ours."""

    def __init__(self, num_feat: int = 64, num_block: int = 16) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, num_feat, 9, padding=4)
        self.act_first = nn.PReLU()
        blocks = [_Block(num_feat) for _ in range(num_block)]
        self.body = nn.Sequential(*blocks, nn.Conv2d(num_feat, num_feat, 3, padding=1))
        up: list[nn.Module] = []
        for _ in range(2):
            up += [nn.Conv2d(num_feat, 4 * num_feat, 3, padding=1), nn.PReLU(), nn.PixelShuffle(2)]
        self.upsampler = nn.Sequential(*up)
        self.conv_last = nn.Conv2d(num_feat, 3, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        features = self.act_first(self.conv_first(x))
        return self.conv_last(self.upsampler(self.body(features) + features))


class PlainSRGANDiscriminator(SRGANDiscriminator):
    """The same discriminator of PyTorch's own convolutions alone."""

    def __init__(self) -> None:
        super().__init__()
        for position, layer in enumerate(self.features):
            if isinstance(layer, StridedConv2d):
                plain = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, 2, padding=1)
                plain.load_state_dict(layer.state_dict())
                self.features[position] = plain


class _Block(nn.Module):
    def __init__(self, num_feat: int) -> None:
        super().__init__()
        conv = [nn.Conv2d(num_feat, num_feat, 3, padding=1) for _ in range(2)]
        self.body = nn.Sequential(conv[0], nn.PReLU(), conv[1])

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + x


def basicsr_model(gan: bool, batch: dict[str, Tensor]) -> Iterate:
    """BasicSR's SRModel or SRGANModel on the CPU: what its training loop calls in every iteration."""
    if import_basicsr() is None:
        raise SystemExit("BasicSR is not installed; pip install basicsr (Python 3.12 at most)")
    registry = import_basicsr("basicsr.utils.registry").ARCH_REGISTRY
    models = import_basicsr("basicsr.models")
    for network in (PlainSRResNet, PlainSRGANDiscriminator):
        if network.__name__ not in registry:
            registry.register(network)
    optimizer = {"type": "Adam", "lr": 2e-4, "betas": [0.9, 0.999]}
    train: dict[str, Any] = {
        "ema_decay": 0.999,
        "optim_g": dict(optimizer),
        "scheduler": {"type": "MultiStepLR", "milestones": [10**6], "gamma": 0.5},
        "total_iter": 10**6,
        "warmup_iter": -1,
        "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
    }
    options: dict[str, Any] = {
        "model_type": "SRGANModel" if gan else "SRModel",
        "num_gpu": 0,
        "dist": False,
        "is_train": True,
        "scale": SCALE,
        "network_g": {"type": "PlainSRResNet"},
        "path": {"pretrain_network_g": None, "pretrain_network_d": None, "strict_load_g": True},
        "train": train,
    }
    if gan:
        options["network_d"] = {"type": "PlainSRGANDiscriminator"}
        train["optim_d"] = dict(optimizer)
        train["gan_opt"] = {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 2e-3}
    torch.manual_seed(0)
    model = models.build_model(options)
    iteration = 0

    def iterate() -> None:
        nonlocal iteration
        iteration += 1
        model.update_learning_rate(iteration, warmup_iter=-1)
        model.feed_data(batch)
        model.optimize_parameters(iteration)

    return iterate


def our_model(kind: str, batch: Batch, precision: str) -> Iterate:
    """One of our experiments: `l1`, `mvm` or `ragan`."""
    train: dict[str, Any] = {
        "total_iter": 10**6,
        "ema_decay": 0.999,
        "update": "simultaneous",
        "optim_g": {"type": "Adam", "lr": 2e-4},
        "pixel_opt": {"type": "L1Loss"},
    }
    options: dict[str, Any] = {
        "name": "speed",
        "scale": SCALE,
        "precision": precision,
        "datasets": {"train": {"dataroot_gt": "none", "batch_size_per_gpu": len(batch.gt)}},
        "network_g": {"type": "SRResNet", "bn": False},
        "train": train,
    }
    if kind == "mvm":
        options["network_m"] = {"type": "MetricNet"}
        train["optim_m"] = {"type": "Adam", "lr": 3e-4}
        train["pair_opt"] = {"type": "PairLoss", "loss_weight": 1e-3}
        train["manifold_opt"] = {"type": "ManifoldMatchingLoss", "loss_weight": 1e-3}
        train["triplet_opt"] = {"type": "DirectedTripletLoss"}
    if kind == "ragan":
        options["network_d"] = {"type": "SRGANDiscriminator"}
        train["optim_d"] = {"type": "Adam", "lr": 2e-4}
        train["gan_opt"] = {"type": "GANLoss", "gan_type": "relativistic", "loss_weight": 2e-3}
    checked = validate(options, Source("train_step"))
    check(checked)
    experiment = build(checked)

    def iterate() -> None:
        run_iteration(experiment, [to_device(batch, experiment.device, experiment.channels_last)])

    return iterate


def measure(contenders: dict[str, Iterate], rounds: int, repeats: int) -> dict[str, list[float]]:
    """Seconds per iteration of each contender in each round, after a warm-up."""
    for name, iterate in contenders.items():
        start = time.perf_counter()
        for _ in range(3):
            iterate()
        print(f"  {name}: ready after {time.perf_counter() - start:.0f} s", flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, iterate in contenders.items():
            start = time.perf_counter()
            for _ in range(repeats):
                iterate()
            seconds[name].append((time.perf_counter() - start) / repeats)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """Median over rounds of slow / fast within the round."""
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


def main() -> None:
    """Measure, print a table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=24, help="side of the low-quality patch")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=4, help="iterations of each contender in a round")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    keep_for_reuse()  # as `mvmsr train` does; all contenders share the process

    torch.manual_seed(0)
    shape = (arguments.batch, 3, arguments.patch, arguments.patch)
    lq = torch.randint(0, 256, shape, dtype=torch.uint8)
    gt = torch.randint(0, 256, (*shape[:2], shape[2] * SCALE, shape[3] * SCALE), dtype=torch.uint8)
    ours = Batch(lq, gt, ["random"] * len(lq), 0)
    theirs = {"lq": lq.float() / 255, "gt": gt.float() / 255}
    _same_function(theirs["lq"][:1])

    contenders = {
        "BasicSR SRModel, L1": basicsr_model(False, theirs),
        "ours, L1, float32": our_model("l1", ours, "32"),
        "ours, L1": our_model("l1", ours, "auto"),
        "ours, L1 + MvM": our_model("mvm", ours, "auto"),
        "BasicSR SRGANModel, L1 + GAN": basicsr_model(True, theirs),
        "ours, L1 + RaGAN": our_model("ragan", ours, "auto"),
    }
    seconds = measure(contenders, arguments.rounds, arguments.repeats)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {
        "L1: BasicSR / ours": ratio(seconds, "BasicSR SRModel, L1", "ours, L1"),
        "L1 in float32: BasicSR / ours": ratio(seconds, "BasicSR SRModel, L1", "ours, L1, float32"),
        "MvM / L1, both ours": ratio(seconds, "ours, L1 + MvM", "ours, L1"),
        "GAN: BasicSR's SRGANModel / our RaGAN": ratio(seconds, "BasicSR SRGANModel, L1 + GAN", "ours, L1 + RaGAN"),
    }
    for name, value in medians.items():
        print(f"{name:32s} {value:.3f} s an iteration")
    for name, value in ratios.items():
        print(f"{name:38s} {value:.2f}")
    if arguments.json:
        document = {
            "network": "SRResNet 16x64 without BN",
            "batch": arguments.batch,
            "lq_patch": arguments.patch,
            "threads": torch.get_num_threads(),
            "seconds_per_iteration": {name: round(value, 4) for name, value in medians.items()},
            "all_rounds": {name: [round(v, 4) for v in values] for name, values in seconds.items()},
            "ratios": {name: round(value, 2) for name, value in ratios.items()},
        }
        write_figures(arguments.json, document)


def _same_function(lq: Tensor) -> None:
    """The plain networks and ours must compute the same thing, or the comparison says nothing."""
    plain, ours = PlainSRResNet(), SRResNet(bn=False)
    ours.load_state_dict(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(plain(lq), ours(lq), rtol=1e-3, atol=1e-4)
        torch.manual_seed(0)
        plain_d = PlainSRGANDiscriminator()
        ours_d = SRGANDiscriminator()
        ours_d.load_state_dict(plain_d.state_dict())
        gt = torch.rand(2, 3, 96, 96)
        torch.testing.assert_close(plain_d(gt), ours_d(gt), rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    main()
