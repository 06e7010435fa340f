"""The pictures that a run is trained on: pairs, sizes, duplicates, and benchmark pictures among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mvmsr.cli.doctor_findings import Finding, State
from mvmsr.counting import counted

if TYPE_CHECKING:
    from mvmsr.config import TrainOptions
    from mvmsr.data.layouts import ImagePair
    from mvmsr.data.near_duplicates import Fingerprints

_BENCHMARKS = ("Set5", "Set14", "BSD100", "Urban100")
_SHOWN = 5


def check_run_data(root: Path, data_root: Path | None = None) -> Iterator[Finding]:
    """All about the training pictures of the run in `root`; nothing where its options cannot be read."""
    from mvmsr.config import OptionsError, load

    try:
        options = load(root / "options.yml")
    except OptionsError:
        return  # said elsewhere
    yield from check_data(options, data_root)


def check_data(options: TrainOptions, data_root: Path | None = None) -> Iterator[Finding]:
    """Pairs and sizes by the files' headers; then every picture is read and compared with the others."""
    from mvmsr.data.packing import audit
    from mvmsr.engine.train_set import paired_kind
    from mvmsr.registry import RegistryError

    spec, kind = options.datasets.train, None
    with suppress(RegistryError):  # of somebody's own data set, which is registered where it is trained on
        kind = paired_kind(options)
    if kind is None:
        yield Finding("Data", "training images", State.note, f"not looked at: {spec.type} is not one of ours")
        return
    try:
        pairs = _training_pairs(options, kind.gt_only, data_root)
    except ValueError as error:  # of folders that are missing, do not pair up, or differ in number
        remedy = "set MVMSR_DATA_ROOT or --data-root to the folder that holds your data sets"
        yield Finding("Data", "training images", State.missing, str(error), remedy)
        return
    gt_size = spec.gt_size
    entries, problems = audit(pairs, options.scale, gt_size)
    for problem in problems[:_SHOWN]:
        remedy = "repair these images or remove them; training does not start with them"
        yield Finding("Data", "training images", State.broken, problem.why, remedy)
    if len(problems) > _SHOWN:
        yield Finding("Data", "training images", State.broken, f"and {counted(len(problems) - _SHOWN, 'more problem')}")
    if problems:
        return
    sides = [side for entry in entries for side in entry.gt_size]
    given = sum(pair.lq is not None for pair in pairs)
    low = f"{given} of them with a low-quality version" if given else "their low-quality versions are made"
    text = (
        f"{counted(len(pairs), 'image')} with sides of {min(sides)} to {max(sides)} pixels, patches of {gt_size}; {low}"
    )
    yield Finding("Data", "training images", State.ok, text, values={"pictures": len(pairs), "pairs": given})
    yield from _likenesses(pairs, options, data_root)


def _training_pairs(options: TrainOptions, gt_only: bool, data_root: Path | None) -> list[ImagePair]:
    from mvmsr.data.layouts import resolve_dataroot
    from mvmsr.data.paired_dataset import as_list, find_training_pairs

    args = options.datasets.train.args
    roots = [resolve_dataroot(root, data_root) for root in as_list(args.get("dataroot_gt") or [])]
    template, meta = args.get("filename_tmpl", "{}"), args.get("meta_info_file")
    return find_training_pairs(roots, args.get("dataroot_lq"), options.scale, template, meta, data_root, gt_only)


def _likenesses(pairs: Sequence[ImagePair], options: TrainOptions, data_root: Path | None) -> Iterator[Finding]:
    from mvmsr.data.layouts import first_few
    from mvmsr.data.near_duplicates import exact_duplicates, near_duplicates

    mine, unreadable = _fingerprints([pair.gt for pair in pairs])
    for problem in unreadable[:_SHOWN]:
        yield Finding("Data", "training images", State.broken, problem, "replace the file")
    if unreadable:
        return
    if twice := exact_duplicates(mine):
        groups = ["=".join(pairs[k].name for k in group) for group in twice]
        text = f"{counted(len(twice), 'image')} there more than once: {first_few(groups, '; ')}"
        yield Finding("Data", "duplicates", State.note, text, "take the copies out: they are drawn more often")
    else:
        yield Finding("Data", "duplicates", State.ok, "no two training images have the same pixels")
    held_out = _held_out(options, data_root)
    theirs, _ = _fingerprints([path for _, path in held_out])
    if not held_out or len(theirs) < len(held_out):
        text = "no validation or benchmark set is here" if not held_out else "some of their images cannot be read"
        yield Finding("Data", "benchmark images", State.note, f"not compared: {text}")
        return
    matches = near_duplicates(theirs, mine)
    sets = ", ".join(dict.fromkeys(name for name, _ in held_out))
    if not matches:
        text = f"none of the {len(held_out)} images of {sets} is among the training images, nor one like it"
        yield Finding("Data", "benchmark images", State.ok, text, values={"compared": len(held_out)})
        return
    named = [
        f"{held_out[m.first][0]}/{held_out[m.first][1].stem} is {pairs[m.second].name} ({m.likeness:.2f})"
        for m in matches
    ]
    text = f"{counted(len(matches), 'training image')} like a held-out one: {first_few(named, '; ')}"
    remedy = "look at them and take them out of the training set; scores on these images are worth nothing"
    values = {"matches": [[held_out[m.first][0], str(held_out[m.first][1]), str(pairs[m.second].gt)] for m in matches]}
    yield Finding("Data", "benchmark images", State.note, text, remedy, values)


def _fingerprints(paths: Sequence[Path]) -> tuple[list[Fingerprints], list[str]]:
    """Of every picture that can be read; a few at a time, as decoding waits for the disk."""
    from concurrent.futures import ThreadPoolExecutor

    from mvmsr.data.image_io import ImageError, read_rgb
    from mvmsr.data.near_duplicates import fingerprints

    def one(path: Path) -> Fingerprints | str:
        try:
            return fingerprints(read_rgb(path))
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(one, paths))
    return [f for f in found if not isinstance(f, str)], [f for f in found if isinstance(f, str)]


def _held_out(options: TrainOptions, data_root: Path | None) -> list[tuple[str, Path]]:
    """Set and file of every picture of the run's validation sets and of the benchmark sets that are here."""
    from mvmsr.data.layouts import LayoutError, data_root_or_default, find_pairs, resolve_dataroot

    base = data_root_or_default(data_root)
    places = {name: base / name for name in _BENCHMARKS if (base / name).is_dir()}
    for val in options.datasets.val:
        if val.dataroot_gt is not None:
            try:
                places[val.name] = resolve_dataroot(val.dataroot_gt, data_root)
            except LayoutError:
                continue
    files: dict[Path, str] = {}
    for name, folder in places.items():
        try:
            for pair in find_pairs(folder, None, options.scale):
                files.setdefault(pair.gt.resolve(), name)
        except LayoutError:
            continue
    return [(name, path) for path, name in files.items()]
