"""Which files on disk form the pairs of a data set: the folder layouts that people have.

A layout is recognised from its root folder: DIV2K's and Flickr2K's (`DIV2K_train_HR`, `DIV2K_train_LR_bicubic/X4`),
BasicSR's benchmarks (`GTmod12`, `LRbicx4`), EDSR's (`HR`, `LR_bicubic/X4`), SelfExSR's (`image_SRF_4/*_HR.png`), or
simply a folder of pictures.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mvmsr.counting import counted
from mvmsr.data.picture import IMAGE_SUFFIXES

NESTED = "benchmark"
"""The folder inside a data root where EDSR's archive has its sets."""
_SHOWN = 5


@dataclass(frozen=True)
class ImagePair:
    """A ground-truth picture and its low-quality version; `lq` is None where it is to be made from `gt`."""

    name: str
    gt: Path
    lq: Path | None


@dataclass(frozen=True)
class Layout:
    """Where a data set keeps its pictures.

    Attributes:
        title: in words, for messages.
        gt: folder of the ground truth.
        lq: folder of the low-quality pictures; None where there are none.
        suffixes: whether the names end in `_HR` and `_LR` and share one folder.
    """

    title: str
    gt: Path
    lq: Path | None = None
    suffixes: bool = False


class LayoutError(ValueError):
    """Folders that are missing or do not pair up; the message names what was found and what to do."""


class MissingDataError(LayoutError):
    """Data that is not on this machine, as opposed to data that cannot be used."""


def resolve_dataroot(path: str | Path, data_root: str | Path | None = None) -> Path:
    """The existing folder (or file) that a path in an options file means.

    A relative path is tried from the working directory, then under `data_root` (else `$MVMSR_DATA_ROOT`, else
    `./datasets`), where a leading `datasets/` is dropped, and in its folder `NESTED`.

    Raises:
        MissingDataError: none of the candidates exists; the message lists them.
    """
    path = Path(path).expanduser()
    root = data_root_or_default(data_root)
    candidates = [path]
    if not path.is_absolute():
        under = Path(*path.parts[1:]) if path.parts[:1] == ("datasets",) else path
        candidates += [root / under, root / NESTED / under]
    for candidate in candidates:
        if candidate.exists():
            return candidate.resolve()
    tried = "\n".join(f"  {candidate.absolute()}" for candidate in dict.fromkeys(candidates))
    raise MissingDataError(
        f"no data at {str(path)!r}; tried\n{tried}\n"
        "correct the path, set MVMSR_DATA_ROOT or --data-root to the folder with your data sets, "
        "or fetch them with `mvmsr datasets prepare NAME` (`mvmsr datasets list` names them, and where they come from)"
    )


def data_root_or_default(data_root: str | Path | None = None) -> Path:
    """The folder that holds the data sets: the argument, else `$MVMSR_DATA_ROOT`, else `./datasets`."""
    return Path(data_root or os.environ.get("MVMSR_DATA_ROOT") or "datasets").expanduser()


def list_images(folder: str | Path) -> list[Path]:
    """The picture files directly in a folder, in natural order (`img2` before `img10`); hidden ones left out."""
    files = (entry for entry in Path(folder).iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES)
    return sorted((f for f in files if f.is_file() and not f.name.startswith(".")), key=lambda f: natural_key(f.name))


def passed_over(folder: Path) -> str:
    """How many files of which kinds, and how many folders, `list_images` leaves out of a folder; empty if none."""
    others = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    kinds = Counter(e.suffix.lower() or "without a suffix" for e in others if e.is_file())
    found = [f"{count} {kind}" for kind, count in sorted(kinds.items()) if kind not in IMAGE_SUFFIXES]
    if folders := sum(entry.is_dir() for entry in others):
        found.append(f"{counted(folders, 'folder')}")
    return ", ".join(found)


def template_problem(template: str, scale: int = 4) -> str:
    """What is wrong with a `filename_tmpl`; empty where nothing is."""
    try:
        template.format("name")
    except (ValueError, LookupError, AttributeError):  # a second {}, {x}, a brace that is left open
        fits = False
    else:
        fits = "{}" in template
    if fits:
        return ""
    return (
        f"filename_tmpl must contain {{}} once, in place of the ground truth's name, and no other braces, got "
        f"{template!r}; for example '{{}}x{scale}'"
    )


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorting key that compares runs of digits as numbers, before other text."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def recognise(root: str | Path, scale: int = 4) -> Layout:
    """The layout of a data set from its root folder (or from the folder of its ground truth).

    Raises:
        LayoutError: not a folder, or no layout fits; the message lists what is there.
    """
    root = Path(root)
    if not root.is_dir():
        raise LayoutError(f"{root} is not a folder; give the folder of a data set")
    if (selfexsr := root / f"image_SRF_{scale}").is_dir():
        return _selfexsr(selfexsr, list_images(selfexsr), scale)
    for high in sorted(root.glob("*_HR")):
        base = high.name.removesuffix("_HR")  # DIV2K_train, DIV2K_valid, Flickr2K; "train" sorts before "valid"
        if high.is_dir():
            low = root / f"{base}_LR_bicubic" / f"X{scale}"
            return Layout(f"DIV2K ({high.name})", high, low if low.is_dir() else None)
    for high in sorted(root.glob("GTmod*")):
        if high.is_dir() and int(re.sub(r"\D", "", high.name) or scale) % scale == 0:
            low = root / f"LRbicx{scale}"
            return Layout(f"BasicSR ({high.name})", high, low if low.is_dir() else None)
    if (high := root / "HR").is_dir():
        low = root / "LR_bicubic" / f"X{scale}"
        return Layout("EDSR (HR, LR_bicubic)", high, low if low.is_dir() else None)
    images = list_images(root)
    if images:
        stems = [image.stem for image in images]
        only_two = all(stem.endswith(("_HR", "_LR")) for stem in stems) and any(stem.endswith("_HR") for stem in stems)
        if only_two or any(re.search(r"_SRF_\d+_HR$", stem) for stem in stems):  # it has other methods' results too
            return _selfexsr(root, images, scale)
        return Layout("folder of images", root)
    others = sorted(filter(Path.is_dir, root.glob("image_SRF_*")), key=lambda folder: natural_key(folder.name))
    if others:  # originals are cut to multiples of their folder's scale: the first one's are cut least
        return _selfexsr(others[0], list_images(others[0]), scale)
    there = ", ".join(sorted(entry.name for entry in root.iterdir())[:10]) or "nothing"
    raise LayoutError(
        f"{root} holds no images and no layout known for x{scale} "
        f"(image_SRF_{scale}, *_HR with *_LR_bicubic/X{scale}, GTmod12 with LRbicx{scale}, "
        f"HR with LR_bicubic/X{scale}); it holds: {there}"
    )


def _selfexsr(folder: Path, images: list[Path], scale: int) -> Layout:
    has_low = any(_is_low(image.stem, scale) for image in images)
    title = folder.name if folder.name.startswith("image_SRF_") else "*_HR, *_LR"
    return Layout(f"SelfExSR ({title})", folder, folder if has_low else None, suffixes=True)


def _is_low(stem: str, scale: int) -> bool:
    """Whether a name of SelfExSR's is that of a low-quality picture, and of no other scale."""
    return stem.endswith("_LR") and _srf(stem) in (None, scale)


def _srf(stem: str) -> int | None:
    """The scale in a name of SelfExSR's: 4 in `img_001_SRF_4_HR`."""
    found = re.search(r"_SRF_(\d+)_(HR|LR)$", stem)
    return int(found[1]) if found else None


def _originals(files: list[Path], scale: int) -> list[Path]:
    """SelfExSR's originals: those of the scale, else those of the smallest, which are cut least."""
    high = [path for path in files if path.stem.endswith("_HR")]
    scales = {number for path in high if (number := _srf(path.stem)) is not None}
    chosen = scale if scale in scales else min(scales, default=scale)
    return [path for path in high if _srf(path.stem) in (None, chosen)]


def find_pairs(
    dataroot_gt: str | Path,
    dataroot_lq: str | Path | None = None,
    scale: int = 4,
    filename_tmpl: str = "{}",
    meta_info_file: str | Path | None = None,
    gt_only: bool = False,
) -> list[ImagePair]:
    """The pairs of a data set, in natural order of their names (or in the order of `meta_info_file`).

    Args:
        dataroot_gt: root folder of a known layout, or a folder of ground-truth pictures.
        dataroot_lq: folder of low-quality pictures; None takes those of the layout, or makes none.
        filename_tmpl: low-quality name for a ground-truth name, both without suffix (`{}x4`). With the default `{}`,
            `{}xSCALE` and `_LR` for `_HR` are tried too.
        meta_info_file: text file whose lines begin with a file name below `dataroot_gt`; the root itself, where they
            name folders too.
        gt_only: leave low-quality pictures out, whether there are any or not.

    Raises:
        LayoutError: a folder or file is missing or names do not pair; up to 5 of them are listed.
    """
    if message := template_problem(filename_tmpl, scale):
        raise LayoutError(message)
    listed = _names_in(Path(meta_info_file)) if meta_info_file else []
    in_folders = any("/" in name for name in listed)
    layout = Layout("list of files", Path(dataroot_gt)) if in_folders else recognise(dataroot_gt, scale)
    if dataroot_lq is not None:
        lq_root: Path | None = _low_folder(Path(dataroot_lq), scale)
    else:
        lq_root = None if gt_only else layout.lq
    high = _below(layout.gt, listed, meta_info_file) if meta_info_file else list_images(layout.gt)
    if layout.suffixes:
        high = _originals(high, scale)
    _refuse_twins(high, layout.gt)
    names = _names(high, layout)
    if lq_root is None:
        return [ImagePair(name, path, None) for name, path in zip(names, high, strict=True)]

    low = {path.stem: path for path in list_images(lq_root)}
    if layout.suffixes and lq_root == layout.gt:
        low = {stem: path for stem, path in low.items() if _is_low(stem, scale)}
    pairs, missing, shared, used = [], [], [], set()
    for name, path in zip(names, high, strict=True):
        wanted = _low_stems(path.stem, filename_tmpl, scale)
        stem = next((stem for stem in wanted if stem in low), None)
        if stem is None:
            missing.append(f"{path.name} (looked for {' or '.join(wanted)})")
        else:
            if stem in used:
                shared.append(f"{low[stem].name} (for {name})")
            used.add(stem)
            pairs.append(ImagePair(name, path, low[stem]))
    extra = [] if meta_info_file else [path.name for stem, path in low.items() if stem not in used]
    if missing or extra or shared:
        raise LayoutError(_unpaired(layout.gt, lq_root, missing, extra, shared))
    return pairs


def _low_folder(folder: Path, scale: int) -> Path:
    if not folder.is_dir():
        raise LayoutError(f"dataroot_lq {folder} is not a folder")
    return folder if list_images(folder) or not (folder / f"X{scale}").is_dir() else folder / f"X{scale}"


def _low_stems(stem: str, template: str, scale: int) -> list[str]:
    stems = [template.format(stem)]
    if template == "{}":
        stems.append(f"{stem}x{scale}")
        if stem.endswith("_HR"):
            stems.insert(0, stem.removesuffix("_HR") + "_LR")
    return stems


def _names(high: list[Path], layout: Layout) -> list[str]:
    """What the pictures are called: their stems; their folders besides, where a list names equal stems of several."""
    stems = [re.sub(r"(_SRF_\d+)?_HR$", "", path.stem) if layout.suffixes else path.stem for path in high]
    if len(set(stems)) == len(stems):
        return stems
    whole = [Path(os.path.abspath(path)) for path in high]  # without `..`, as names become files
    above = os.path.commonpath([path.parent for path in whole])
    return [path.relative_to(above).with_suffix("").as_posix() for path in whole]


def _names_in(meta: Path) -> list[str]:
    if not meta.is_file():
        raise LayoutError(f"meta_info_file {meta} is not a file")
    return [line.split(" ")[0].strip() for line in meta.read_text(encoding="utf-8").splitlines() if line.strip()]


def _below(folder: Path, names: list[str], meta: str | Path) -> list[Path]:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise LayoutError(
            f"{meta} names {counted(len(missing), 'image')} that {folder} does not hold: {first_few(missing)}"
        )
    return [folder / name for name in names]


def _refuse_twins(high: list[Path], folder: Path) -> None:
    if not high:
        raise LayoutError(f"{folder} holds no images")
    seen: dict[Path, Path] = {}
    twins = []
    for path in high:
        other = seen.setdefault(path.with_suffix(""), path)
        if other is not path:
            twins.append(f"{other.name} and {path.name}")
    if twins:
        raise LayoutError(f"{folder} holds images that differ by suffix only: {first_few(twins)}; keep one of each")


def _unpaired(gt: Path, lq: Path, missing: list[str], extra: list[str], shared: list[str]) -> str:
    lines = [f"images of {gt} and {lq} do not pair up:"]
    if missing:
        lines.append(f"  {len(missing)} without a low-quality version: {first_few(missing)}")
    if extra:
        lines.append(f"  {len(extra)} without a ground truth: {first_few(extra)}")
    if shared:
        lines.append(f"  {len(shared)} that another ground truth has already: {first_few(shared)}")
    lines.append(
        "  add the files, set filename_tmpl, or leave out dataroot_lq to have them made by bicubic downscaling"
    )
    return "\n".join(lines)


def first_few(names: Sequence[str], between: str = ", ") -> str:
    """The first names, and how many more there are, for a message."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{between.join(names[:_SHOWN])}{more}"
