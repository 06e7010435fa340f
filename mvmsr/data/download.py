"""Fetching archives: resumed where they broke off, checked before use, unpacked without trusting their names."""

from __future__ import annotations

import fnmatch
import http.client
import logging
import os
import shutil
import stat
import time
import urllib.error
import urllib.request
import uuid
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from mvmsr.checksum import file_sha256

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_TIMEOUT_SEC = 30
# What zipfile raises for archives that are broken, encrypted, packed in ways it lacks, or name a file twice.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, FileExistsError)
Progress = Callable[[int, int | None], None]
"""Called with the bytes had so far and those expected in all (None where unknown)."""


class DownloadError(RuntimeError):
    """An archive that cannot be had or trusted; the message gives its address and the remedy."""


def download(
    url: str,
    target: Path,
    expected_bytes: int | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
    attempts: int = 4,
    pause_sec: float = 2.0,
) -> str:
    """Fetch `url` into `target`, unless it is there already, and check it.

    What has arrived waits in `target` with `.part` behind its name, and the next attempt or call goes on from there.

    Returns:
        The file's SHA-256. Where none was expected it is also recorded in a `.sha256` file beside, and a later
        download is held to that record.

    Raises:
        DownloadError: the host cannot be reached, or the file differs in size or checksum (it is then
            renamed to `.bad`).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        part = target.with_name(target.name + ".part")
        for attempt in range(1, attempts + 1):
            try:
                _fetch(url, part, progress)
                break
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", None) or error
                lasting = isinstance(error, urllib.error.HTTPError) and error.code < 500
                if attempt == attempts or lasting:
                    raise DownloadError(f"{url} cannot be fetched ({reason})") from error
                log.info("%s broke off (%s); going on", url, reason)
                time.sleep(pause_sec)
        os.replace(part, target)
    return _verify(target, url, expected_bytes, sha256)


def _fetch(url: str, part: Path, progress: Progress | None) -> None:
    """Bring `part` up to the whole file; raises OSError when the connection ends early."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "mvmsr"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SEC)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range", "").endswith(f"*/{have}"):
            return  # nothing is left to fetch
        if error.code == 416:
            part.unlink()
            raise OSError("the file there is another one now; starting over") from error
        raise
    with response:
        if response.status != 206:
            have = 0  # the server sends the whole file again
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        with open(part, "ab" if have else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if progress:
                    progress(have, total)
    if total is not None and have < total:
        raise OSError(f"the connection ended after {have} of {total} bytes")


def _verify(target: Path, url: str, expected_bytes: int | None, sha256: str | None) -> str:
    record = target.with_name(target.name + ".sha256")
    found = file_sha256(target)
    expected = sha256 or (record.read_text(encoding="utf-8").split()[0] if record.is_file() else None)
    length = target.stat().st_size
    cause = None
    if expected_bytes is not None and length != expected_bytes:
        cause = f"has {length} bytes instead of {expected_bytes}"
    elif expected is not None and found != expected:
        cause = f"has the SHA-256 {found} instead of {expected}"
    elif not zipfile.is_zipfile(target):
        cause = "is no zip archive"
    if cause:
        bad = target.with_name(target.name + ".bad")
        os.replace(target, bad)  # not deleted: it may have been put there by hand
        raise DownloadError(f"{target.name} from {url} {cause}; it was renamed to {bad.name}; fetch it again")
    if sha256 is None and expected is None:
        record.write_text(f"{found}  {target.name}\n", encoding="utf-8")
    return found


def extract_folder(archive: Path, provides: str, keep: Sequence[str], target: Path) -> int:
    """Unpack the folder `provides` of a zip archive, wherever in it that lies, as the folder `target`.

    Only files whose names fit one of the patterns `keep` are taken. `target` appears complete or not at all.

    Returns:
        How many files it has.

    Raises:
        DownloadError: the archive is damaged, lacks the folder, or has entries that point outside (absolute names,
            `..`, links); nothing is written then.
        OSError: the folder of `target` cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            chosen = _choose(opened, archive, PurePosixPath(provides), keep)
            _check_space(target, sum(member.file_size for member in chosen))
            aside = target.parent / f".{uuid.uuid4().hex}.part"
            try:
                aside.mkdir()
                for member in chosen:
                    # Names of files within one folder: no path of the archive is ever used.
                    with opened.open(member) as source, open(aside / PurePosixPath(member.filename).name, "xb") as file:
                        shutil.copyfileobj(source, file, _CHUNK)
                os.replace(aside, target)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    except DownloadError:
        raise
    except _DAMAGED as error:
        raise DownloadError(f"{archive} is damaged ({error}); delete it and fetch it again") from error
    return len(chosen)


def _choose(
    opened: zipfile.ZipFile, archive: Path, provides: PurePosixPath, keep: Sequence[str]
) -> list[zipfile.ZipInfo]:
    chosen = []
    for member in opened.infolist():
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
            raise DownloadError(f"{archive} has the entry {member.filename!r}, which points outside; do not use it")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise DownloadError(f"{archive} has the link {member.filename!r}; do not use it")
        inside = path.parent.parts[-len(provides.parts) :] == provides.parts
        if inside and not member.is_dir() and any(fnmatch.fnmatchcase(path.name, pattern) for pattern in keep):
            chosen.append(member)
    if not chosen:
        raise DownloadError(f"{archive} has no folder {provides} with {' or '.join(keep)}; is it the right archive?")
    folders = {PurePosixPath(member.filename.replace("\\", "/")).parent for member in chosen}
    if len(folders) > 1:
        raise DownloadError(f"{archive} has several folders {provides}: {', '.join(map(str, sorted(folders)))}")
    return chosen


def _check_space(target: Path, needed: int) -> None:
    existing = next(parent for parent in target.absolute().parents if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DownloadError(f"{target} needs {needed / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free")
