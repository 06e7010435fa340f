"""Putting public data sets where options files look for them, and checking the folders that people have."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from mvmsr.data.download import DownloadError, Progress, download, extract_folder
from mvmsr.data.image_io import ImageError, read_rgb
from mvmsr.data.known_pictures import compare, fingerprints, known_name
from mvmsr.data.layouts import LayoutError, data_root_or_default, find_pairs, list_images, recognise
from mvmsr.data.packing import audit
from mvmsr.registry import did_you_mean

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """A zip file that fills one folder of a data set."""

    url: str
    file: str
    bytes: int | None
    sha256: str | None
    provides: str
    keep: tuple[str, ...]
    pictures: int


@dataclass(frozen=True)
class KnownSet:
    """A data set that goes into the folder `name` of the data root.

    Attributes:
        archives: what `prepare` fetches; none where the set is made by hand.
        by_hand: how to make it then: a sentence without a capital and a full stop.
        pictures: how many pictures then lie in its folder.
    """

    name: str
    title: str
    home: str
    terms: str
    archives: tuple[Archive, ...]
    by_hand: str = ""
    pictures: int = 0

    def is_complete(self, data_root: Path) -> bool:
        """Whether every folder is there with all its pictures."""
        if self.by_hand:
            return _count(data_root / self.name) >= self.pictures
        return all(_count(data_root / self.name / a.provides) >= a.pictures for a in self.archives)


@dataclass(frozen=True)
class CheckReport:
    """What is known of a folder after `check`; `notes` are no problems, but worth knowing."""

    layout: str
    pairs: int
    with_lq: int
    problems: list[str]
    notes: tuple[str, ...] = ()


class PrepareError(ValueError):
    """A data set that cannot be prepared; the message says what to do."""


def known_sets(manifest: Path | None = None) -> dict[str, KnownSet]:
    """The data sets of the manifest (ours by default), by name."""
    source = manifest if manifest is not None else resources.files("mvmsr.data") / "manifest.json"
    document = json.loads(source.read_text(encoding="utf-8"))
    return {
        name: KnownSet(
            name,
            entry["title"],
            entry["home"],
            entry["terms"],
            tuple(Archive(**{**archive, "keep": tuple(archive["keep"])}) for archive in entry["archives"]),
            entry.get("by_hand", ""),
            entry.get("pictures", 0),
        )
        for name, entry in document.items()
    }


def find_known(name: str, known: dict[str, KnownSet]) -> KnownSet:
    """The set of that name, in any case.

    Raises:
        PrepareError: nobody knows it; the message lists the known ones.
    """
    by_lower = {key.lower(): value for key, value in known.items()}
    if name.lower() not in by_lower:
        raise PrepareError(f"unknown data set {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}")
    return by_lower[name.lower()]


def fetch(known: KnownSet, data_root: Path | None = None, progress: Progress | None = None) -> Path:
    """Download and unpack a data set; folders that are complete are left alone.

    Returns:
        The folder of the data set.

    Raises:
        PrepareError: something cannot be fetched or is not what it should be; the message says where to put it by hand.
    """
    root = data_root_or_default(data_root)
    folder = root / known.name
    if known.by_hand and not known.is_complete(root):
        raise PrepareError(
            f"{known.name} is not downloaded by this command: {known.by_hand} "
            f"({folder}, or any other: mvmsr datasets prepare {known.name} --from FOLDER)"
        )
    for archive in known.archives:
        target = folder / archive.provides
        if (found := _count(target)) >= archive.pictures:
            log.info("%s is complete (%d images)", target, found)
            continue
        _refuse_dangling(folder)
        if target.exists():
            raise PrepareError(
                f"{target} is there with {found} of {archive.pictures} images; move it away or complete it"
            )
        file = root / "downloads" / archive.file
        try:
            digest = download(archive.url, file, archive.bytes, archive.sha256, progress)
            log.info("%s has the SHA-256 %s", file, digest)
            count = extract_folder(file, archive.provides, archive.keep, target)
        except DownloadError as error:
            raise PrepareError(
                f"{error}\nYou can download {archive.url} yourself, put it at {file} and run this again; or, "
                f"where you have the images: mvmsr datasets prepare {known.name} --from FOLDER"
            ) from error
        if count < archive.pictures:
            log.warning("%s has %d images, expected %d", target, count, archive.pictures)
    return folder


def adopt(known: KnownSet, source: Path, data_root: Path | None = None) -> Path:
    """Make a folder that the user has known under the data set's name: check it, then link it (copy where links fail).

    A folder that is itself one of the set's (`DIV2K_train_HR`) is linked below the set's name, where options files
    look for it.

    Raises:
        PrepareError: the folder has problems, holds another set's pictures, or the name is taken by another folder.
    """
    if not source.is_dir():
        raise PrepareError(f"{source} is not a folder")
    report = check(source, name=known.name)
    if report.problems:
        raise PrepareError("\n".join([f"{source} has problems:", *report.problems]))
    target = data_root_or_default(data_root) / _place(known, source)
    _refuse_dangling(target)
    if target.exists():
        if target.resolve() == source.resolve():
            return target
        raise PrepareError(f"{target} exists already; move it away first")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.symlink(source.resolve(), target, target_is_directory=True)
    except OSError as error:
        log.info("cannot link (%s); copying", error)
        shutil.copytree(source, target)
    return target


def _place(known: KnownSet, source: Path) -> Path:
    """Where below the data root a folder belongs: the set's own, or one of its parts.

    Raises:
        PrepareError: the set is known by its parts only, and the folder neither has nor is the first of them; or it
            is made by hand, and the folder has another number of pictures.
    """
    if known.by_hand:
        if (found := _count(source)) != known.pictures:
            raise PrepareError(
                f"{source} is not {known.name}, which has {known.pictures} images in one folder, not {found}: "
                f"{known.by_hand}"
            )
        return Path(known.name)
    first = known.archives[0]
    if known.name in fingerprints() or (source / first.provides).is_dir():
        whole, place = source / first.provides, Path(known.name)
    else:
        whole, place = source, Path(known.name) / first.provides
    if known.name not in fingerprints() and (found := _count(whole)) < first.pictures:
        raise PrepareError(
            f"{source} is not {known.name}: expected a folder with {first.provides}, or that folder itself, of "
            f"{first.pictures} images; found {found} in {whole}"
        )
    return place


def _refuse_dangling(folder: Path) -> None:
    if folder.is_symlink() and not folder.exists():
        raise PrepareError(f"{folder} is a link to {os.readlink(folder)}, which is gone; remove the link")


def check(folder: Path, scale: int = 4, decode: bool = False, name: str | None = None) -> CheckReport:
    """Recognise a folder's layout and look for unpaired, unreadable and wrong-sized pictures.

    Args:
        decode: read every picture whole, instead of the headers only.
        name: the set that it is to be; else that of the folder's name, if it is known. Its pictures are compared.
    """
    try:
        title = recognise(folder, scale).title
    except LayoutError as error:
        return CheckReport("none", 0, 0, [str(error)])
    try:
        pairs = find_pairs(folder, scale=scale)
    except LayoutError as error:
        return CheckReport(title, 0, 0, [str(error)])
    problems = [problem.why for problem in audit(pairs, scale)[1]]
    for path in [path for pair in pairs for path in (pair.gt, pair.lq) if path] if decode else []:
        try:
            read_rgb(path)
        except ImageError as error:
            if str(error) not in problems:
                problems.append(str(error))
    report = CheckReport(title, len(pairs), sum(pair.lq is not None for pair in pairs), problems)
    name = name or known_name(folder)
    if name not in fingerprints():
        return report
    verdict = compare(name, [pair.gt for pair in pairs])
    return replace(
        report,
        problems=[*problems, *([verdict.problem] if verdict.problem else [])],
        notes=(verdict.note,) if verdict.note else (),
    )


def _count(folder: Path) -> int:
    return len(list_images(folder)) if folder.is_dir() else 0
