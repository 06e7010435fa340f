"""Where a report finds the originals of a benchmark's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mvmsr.benchmark.image_sets import ImageSet, load_image_set, name_of
from mvmsr.benchmark.measure import folder_name, picture_name
from mvmsr.data.image_io import ImageError, read_rgb, write_rgb
from mvmsr.data.layouts import LayoutError


class Originals:
    """Originals by set and picture, of the sets themselves or as they were kept beside the results.

    Args:
        folders: of results; each may keep originals below `originals`.
        scale: originals are cut to a multiple of it, as they were when the results were compared with them.
        sets: names below `data_root` or folders; a set that is not among them is sought by its name.
        data_root: see `data.resolve_dataroot`.
        keep: look among the sets first, and copy what is there to the first folder, so that its report can be made
            anew without them; else the copies come first.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        scale: int,
        sets: Sequence[str] = (),
        data_root: str | Path | None = None,
        keep: bool = False,
    ) -> None:
        self.folders, self.scale, self.data_root, self.keep = folders, scale, data_root, keep
        self._known = {name_of(name): name for name in sets}
        self._loaded: dict[str, ImageSet | None] = {}

    def __call__(self, set_name: str, image: str) -> np.ndarray | None:
        """(H, W, 3) uint8, or None where it is not to be had."""
        part = Path("originals", folder_name(set_name), picture_name(image))
        if self.keep:
            gt = self._of_the_set(set_name, image)
            if gt is not None:
                write_rgb(self.folders[0] / part, gt)
                return gt
        kept = next((folder / part for folder in self.folders if (folder / part).is_file()), None)
        original = _read(kept) if kept is not None else None
        return self._of_the_set(set_name, image) if original is None else original

    def _of_the_set(self, set_name: str, image: str) -> np.ndarray | None:
        image_set = self._image_set(set_name)
        pair = next((pair for pair in image_set.pairs if pair.name == image), None) if image_set else None
        if pair is None:
            return None
        gt = _read(pair.gt)
        if gt is None:
            return None
        height, width = (side // self.scale * self.scale for side in gt.shape[:2])
        return np.ascontiguousarray(gt[:height, :width])

    def _image_set(self, name: str) -> ImageSet | None:
        if name not in self._loaded:
            try:
                self._loaded[name] = load_image_set(self._known.get(name, name), self.data_root, self.scale)
            except LayoutError:
                self._loaded[name] = None
        return self._loaded[name]


def _read(path: Path) -> np.ndarray | None:
    """(H, W, 3) uint8, or None where the file cannot be read."""
    try:
        return read_rgb(path)
    except ImageError:
        return None
