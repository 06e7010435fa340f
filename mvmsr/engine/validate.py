"""Validation while training: the benchmark's own `evaluate` on the current generator, and pictures to look at."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from mvmsr.benchmark.evaluate import ImageScore, evaluate
from mvmsr.benchmark.image_sets import ImageSet, load_image_set
from mvmsr.config import OptionsError, TrainOptions
from mvmsr.config.schema import ValSet
from mvmsr.counting import counted
from mvmsr.data.image_io import write_rgb
from mvmsr.data.imresize import imresize
from mvmsr.data.layouts import LayoutError, MissingDataError, find_pairs, resolve_dataroot, template_problem
from mvmsr.data.packing import PairError
from mvmsr.engine.build import Experiment
from mvmsr.engine.stop import StopRequest
from mvmsr.engine.validation_headers import require_fitting_headers
from mvmsr.inference.folding import fold_batch_norm
from mvmsr.inference.restorer import Restorer
from mvmsr.metrics.build import build_metrics
from mvmsr.metrics.metric import Metric
from mvmsr.metrics.protocol import Protocol, ProtocolError, make_protocol
from mvmsr.registry import RegistryError

log = logging.getLogger(__name__)

_GRID_SIDE = 256


class _StoppedError(Exception):
    """Leaves `evaluate` in the middle of a set."""


@dataclass
class Validation:
    """What to score the generator on, and how."""

    sets: list[ImageSet]
    metrics: dict[str, Metric]
    protocol: Protocol
    samples: int
    save_all: bool

    @property
    def judge(self) -> tuple[str, Metric] | None:
        """What the best weights are the best by: the first metric on the first set, named as in the scores."""
        found = next(iter(self.metrics.items()), None)
        return None if found is None else (f"{self.sets[0].name}/{found[0]}", found[1])

    def score(self, experiment: Experiment, folder: Path, iteration: int, stop: StopRequest) -> dict[str, float] | None:
        """Mean scores as `Set5/psnr`; None when a stop was asked for meanwhile.

        Several processes share the pictures out among them; all return the same.

        Args:
            folder: where sample pictures go.
        """
        module = experiment.eval_generator
        was_training = module.training
        options = experiment.options
        used = module if options.network_g.type == "spandrel" else _folded(module)  # as `load_restorer` does
        restorer = Restorer(used, options.scale, experiment.device, experiment.precision, experiment.channels_last)
        processes = experiment.processes
        done: list[list[ImageScore]] = []
        mine: list[list[ImageScore]] | None = done
        try:
            for number, image_set in enumerate(self.sets):
                share = slice(processes.rank, None, processes.size)
                samples = {p.name for p in image_set.pairs[: self.samples]} if number == 0 else set()
                part = replace(image_set, pairs=image_set.pairs[share])
                writer = _SampleWriter(self, part, folder, iteration, samples, stop)
                processes.at(f"validation on {image_set.name} after iteration {iteration}", patient=True)
                done.append(evaluate(restorer, part, self.metrics, self.protocol, writer))
        except _StoppedError:
            mine = None
        finally:
            module.train(was_training)
        parts = [part for part in processes.collect(mine) if part is not None]
        if len(parts) < processes.size:
            return None
        means: dict[str, float] = {}
        for number, image_set in enumerate(self.sets):
            scores = _in_order(image_set, [part[number] for part in parts])
            means |= {f"{image_set.name}/{metric}": value for metric, value in _means(scores, self.metrics).items()}
        return means


def _folded(module: nn.Module) -> nn.Module:
    """A copy with batch normalisation folded, so that scores are those of the weights file; itself where it has none.

    Not every network can be copied once it has run (such as one with PyTorch's former weight_norm).
    """
    if not any(type(part) is nn.BatchNorm2d for part in module.modules()):
        return module
    copied = copy.deepcopy(module).eval()
    fold_batch_norm(copied)
    return copied


@dataclass
class _SampleWriter:
    """Receives every restored picture and keeps those that were asked for."""

    validation: Validation
    image_set: ImageSet
    folder: Path
    iteration: int
    samples: set[str]
    stop: StopRequest

    def __call__(self, score: ImageScore, sr: np.ndarray | None) -> None:
        if self.stop or self.stop.asked:
            raise _StoppedError
        if sr is None:
            return
        if self.validation.save_all:
            name = f"{score.image}.png"
            write_rgb(self.folder / f"{self.iteration:08d}" / self.image_set.name / name, sr)
        if score.image in self.samples:
            pair = next(p for p in self.image_set.pairs if p.name == score.image)
            lq, gt = self.image_set.load(pair)
            name = f"{self.iteration:08d}_{self.image_set.name}_{score.image.replace('/', '_')}.png"
            write_rgb(self.folder / name, side_by_side(lq, sr, gt))


def side_by_side(lq: np.ndarray, sr: np.ndarray, gt: np.ndarray, side: int = _GRID_SIDE) -> np.ndarray:
    """The middle of bicubic, restored and original picture, (h, 3 w, 3) uint8, each at most `side` pixels large."""
    bicubic = imresize(lq, output_size=gt.shape[:2])
    height, width = (min(side, n) for n in gt.shape[:2])
    top, left = (gt.shape[0] - height) // 2, (gt.shape[1] - width) // 2
    return np.concatenate([p[top : top + height, left : left + width] for p in (bicubic, sr, gt)], axis=1)


def build_validation(options: TrainOptions) -> Validation | None:
    """The validation that the options ask for, or None without validation sets.

    Raises:
        OptionsError: a set, metric or protocol that does not exist; pictures whose headers cannot be read, or whose
            sizes do not fit. The cause is a MissingDataError where all that is wrong is that sets are not here.
    """
    if not options.datasets.val:
        return None
    try:
        protocol = make_protocol(options.val.protocol, options.scale, options.val.crop_border)
    except ProtocolError as error:
        raise options.error(("val", "protocol"), str(error)) from error
    if protocol.luma_first:
        message = f"{protocol.name} exists for bicubic upscaling alone; use y, which differs by hundredths of a dB"
        raise options.error(("val", "protocol"), message)
    try:
        metrics, missing = build_metrics(options.val.metrics)
    except RegistryError as error:
        raise options.error(("val", "metrics"), str(error)) from error
    for metric in missing:
        log.warning("Validation continues without %s: %s", metric.metric, metric.why)
    if not metrics and options.val.metrics:
        raise options.error(("val", "metrics"), "none of the metrics can be computed on this machine")
    return Validation(_image_sets(options), metrics, protocol, options.val.samples, options.val.save_img)


def _image_sets(options: TrainOptions) -> list[ImageSet]:
    """All sets to validate on; what is wrong with any of them is said together."""
    sets, problems, causes = [], [], []
    for key, spec in (options.datasets.__pydantic_extra__ or {}).items():
        if message := template_problem(spec.filename_tmpl, options.scale):
            raise options.error(("datasets", key, "filename_tmpl"), message)
        try:
            image_set = _image_set(spec, options.scale)
            require_fitting_headers(image_set)
            sets.append(image_set)
        except (LayoutError, PairError) as error:
            about = [error.option] if isinstance(error, PairError) and getattr(spec, error.option) else []
            problems.append(options.problem(("datasets", key, *about), str(error)))
            causes.append(error)
    if problems:
        unusable = (cause for cause in causes if not isinstance(cause, MissingDataError))
        raise OptionsError(problems) from next(unusable, causes[0])
    return sets


def _image_set(spec: ValSet, scale: int) -> ImageSet:
    if spec.dataroot_gt is None:
        return load_image_set(spec.name, scale=scale)
    gt = resolve_dataroot(spec.dataroot_gt)
    lq = resolve_dataroot(spec.dataroot_lq) if spec.dataroot_lq else None
    meta = resolve_dataroot(spec.meta_info_file) if spec.meta_info_file else None
    return ImageSet(spec.name, tuple(find_pairs(gt, lq, scale, spec.filename_tmpl, meta)), scale)


def _in_order(image_set: ImageSet, parts: list[list[ImageScore]]) -> list[ImageScore]:
    """The scores of all pictures in the order of the set, in which a single process would have added them up."""
    by_image = {score.image: score for part in parts for score in part}
    return [by_image[pair.name] for pair in image_set.pairs]


def _means(scores: list[ImageScore], metrics: dict[str, Metric]) -> dict[str, float]:
    """Means over the pictures that have a score; a set with a picture that failed has none, so none can mislead."""
    if failed := [score.image for score in scores if score.error]:
        log.error("No mean of %s: it failed on %s", scores[0].set, ", ".join(failed))
        return {}
    result = {}
    for name in metrics:
        values = [v for score in scores if (v := score.scores.get(name)) is not None]
        if values:
            result[name] = float(np.mean(values))
        if len(values) < len(scores):
            log.warning(_not_scored(name, scores))
    return result


def _not_scored(metric: str, scores: list[ImageScore]) -> str:
    """That a metric has no score for some images, and why for the first of them."""
    without = [score for score in scores if score.scores.get(metric) is None]
    some = "; its mean is over the others" if len(without) < len(scores) else ""
    image, why = without[0].image, without[0].notes.get(metric, "no reason is known")
    found = f"{len(without)} of {counted(len(scores), 'image')} of {scores[0].set}"
    return f"{metric} has no score for {found}{some}. {image}: {why}"
