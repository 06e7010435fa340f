"""The metric network on patches that training never sees: its loss there, distances, and what its terms weigh."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mvmsr.atomic import write_whole
from mvmsr.benchmark.image_sets import ImageSet
from mvmsr.data.batches import Batch
from mvmsr.engine.build import Experiment
from mvmsr.engine.iteration import as_floats, to_device
from mvmsr.engine.objective import WeightedTerm, evaluate_terms
from mvmsr.engine.precise_statistics import precise_statistics
from mvmsr.hardware import autocast
from mvmsr.losses.geometry import health

_CHUNK = 32


@dataclass(frozen=True)
class HeldOutPatches:
    """Patches of validation pictures: lq (N, 3, h, w) and gt (N, 3, h * scale, w * scale), uint8, on the CPU."""

    lq: Tensor
    gt: Tensor


def cut_patches(sets: Sequence[ImageSet], count: int, gt_size: int) -> HeldOutPatches | None:
    """`count` patches at random places, the same ones each time; each picture as often as its area demands.

    Args:
        sets: of one scale; pictures smaller than a patch are passed over.
        gt_size: side of the patches at the high resolution.

    Returns:
        None where no picture is large enough.
    """
    scale = sets[0].scale
    side = gt_size // scale
    pictures = [image_set.load(pair) for image_set in sets for pair in image_set.pairs]
    pictures = [(lq, gt) for lq, gt in pictures if min(lq.shape[:2]) >= side]
    if not pictures:
        return None
    rng = np.random.default_rng(0)
    areas = np.array([lq.shape[0] * lq.shape[1] for lq, _ in pictures], dtype=np.float64)
    lqs, gts = [], []
    for index in rng.choice(len(pictures), size=count, p=areas / areas.sum()):
        lq, gt = pictures[index]
        top, left = (int(rng.integers(length - side + 1)) for length in lq.shape[:2])
        lqs.append(lq[top : top + side, left : left + side])
        gts.append(gt[top * scale : (top + side) * scale, left * scale : (left + side) * scale])
    return HeldOutPatches(*(torch.from_numpy(np.stack(p).transpose(0, 3, 1, 2).copy()) for p in (lqs, gts)))


def look_at_held_out(
    experiment: Experiment, patches: HeldOutPatches, familiar: Sequence[Batch] = ()
) -> tuple[dict[str, float], Tensor, Tensor]:
    """What the metric network, in evaluation mode, makes of the patches and of the current generator's versions.

    Args:
        patches: what it is judged on.
        familiar: training batches, on which its batch normalisation's statistics are measured first (see
            `precise_statistics`); none to take the running ones.

    Returns:
        values: its unweighted loss terms by name, the distances of `health`, and `matching_share`: the norm of the
            matching terms' gradient at the generated picture over that of the pixel terms' (absent where the
            objective lacks either); then the embeddings of gt and of sr, (N, D) float32 on the CPU.
    """
    metric_net = experiment.modules["metric_net"]
    with ExitStack() as held:
        held.enter_context(_evaluating(metric_net, experiment.eval_generator))
        if familiar:
            with autocast(experiment.device, experiment.precision):  # of the measuring only
                held.enter_context(precise_statistics(metric_net, _familiar_images(experiment, familiar)))
        pairs = [_embed(experiment, lq, gt) for lq, gt in _chunks(experiment, patches)]
        gt_embeddings, sr_embeddings = (torch.cat(part) for part in zip(*pairs, strict=True))
        share = _matching_share(experiment, *next(_chunks(experiment, patches)))
    values = _loss_terms(experiment.players["metric_net"].terms, gt_embeddings, sr_embeddings)
    values |= health(gt_embeddings, sr_embeddings)
    found = {name: float(value) for name, value in values.items()}
    return (found if share is None else {**found, "matching_share": share}), gt_embeddings, sr_embeddings


def save_embeddings(folder: Path, iteration: int, gt_embeddings: Tensor, sr_embeddings: Tensor) -> Path:
    """Write `folder/ITERATION.npz` with `gt` and `sr`, (N, D) float32, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path, file = folder / f"{iteration:08d}.npz", io.BytesIO()
    np.savez_compressed(file, gt=gt_embeddings.numpy(), sr=sr_embeddings.numpy())
    write_whole(path, file.getvalue())
    return path


def _loss_terms(terms: list[WeightedTerm], gt_embeddings: Tensor, sr_embeddings: Tensor) -> dict[str, Tensor]:
    """Means of the unweighted terms over groups of the size of a batch, since some grow with its cube."""
    shuffle = torch.Generator().manual_seed(0)
    found: dict[str, list[Tensor]] = {}
    for gt, sr in zip(gt_embeddings.split(_CHUNK), sr_embeddings.split(_CHUNK), strict=True):
        if len(gt) < 2:
            continue  # a single patch has no positive
        tensors = {"gt_embeddings": gt, "sr_embeddings": sr}
        for name in ("positive_index", "negative_index"):
            tensors[name] = torch.randperm(len(gt), generator=shuffle)
        known = [term for term in terms if tensors.keys() >= set(term.inputs)]
        for name, value in (evaluate_terms(known, tensors)[1] if known else {}).items():
            found.setdefault(name, []).append(value)
    return {name: torch.stack(values).mean() for name, values in found.items()}


@torch.no_grad()
def _familiar_images(experiment: Experiment, batches: Sequence[Batch]) -> Iterator[Tensor]:
    """Real and generated images as one batch, as the metric network sees them in training."""
    for batch in batches:
        images = to_device(batch, experiment.device, experiment.channels_last)
        yield torch.cat([images.gt, experiment.eval_generator(images.lq).float()])


def _chunks(experiment: Experiment, patches: HeldOutPatches) -> Iterator[tuple[Tensor, Tensor]]:
    device, layout = experiment.device, experiment.channels_last
    for lq, gt in zip(patches.lq.split(_CHUNK), patches.gt.split(_CHUNK), strict=True):
        yield as_floats(lq, device, layout), as_floats(gt, device, layout)


@torch.no_grad()
def _embed(experiment: Experiment, lq: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
    with autocast(experiment.device, experiment.precision):
        sr = experiment.eval_generator(lq)
        both = experiment.modules["metric_net"](torch.cat([gt, sr.float()]))
    gt_embeddings, sr_embeddings = both.float().cpu().chunk(2)
    return gt_embeddings, sr_embeddings


def _matching_share(experiment: Experiment, lq: Tensor, gt: Tensor) -> float | None:
    terms = experiment.players["generator"].terms
    pixel = [t for t in terms if t.term.compares_pixels]
    matching = [t for t in terms if {"gt_embeddings", "sr_embeddings"} >= set(t.inputs)]
    if not pixel or not matching:
        return None
    with autocast(experiment.device, experiment.precision):
        with torch.no_grad():
            sr = experiment.eval_generator(lq).float()
        sr.requires_grad_()
        embeddings = experiment.modules["metric_net"](torch.cat([gt, sr])).float()
    gt_embeddings, sr_embeddings = embeddings.chunk(2)
    tensors = {"lq": lq, "gt": gt, "sr": sr, "gt_embeddings": gt_embeddings, "sr_embeddings": sr_embeddings}

    def pull(chosen: list[WeightedTerm]) -> float:
        total, _ = evaluate_terms(chosen, tensors)
        (gradient,) = torch.autograd.grad(total, [sr], retain_graph=True)
        return float(gradient.norm())

    by_pixels = pull(pixel)
    return pull(matching) / by_pixels if by_pixels > 0 else None


@contextmanager
def _evaluating(*networks: nn.Module) -> Iterator[None]:
    were_training = [network.training for network in networks]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network, was_training in zip(networks, were_training, strict=True):
            network.train(was_training)
