"""Whether the training pictures are still those that a checkpoint was made with."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from mvmsr.counting import counted
from mvmsr.data.batches import TrainBatches


def data_identity(batches: TrainBatches) -> dict[str, Any]:
    """Number of pictures and a digest of their names, sizes and middle rows (of low quality and ground truth).

    One row of each picture, so that a large set takes a second and not minutes; times of files are left out, since
    copies of a data set are as good as the set itself. Data sets without a packed store give their names alone.
    """
    dataset: Any = batches.dataset
    digest = hashlib.sha256("\n".join(dataset.names).encode())
    store: Any = getattr(dataset, "store", ())
    for index in range(len(store)):
        for picture in (store.gt(index), store.lq(index)):
            digest.update(str(picture.shape).encode())
            digest.update(np.ascontiguousarray(picture[picture.shape[0] // 2]).data)
    return {"pictures": len(dataset), "sha256": digest.hexdigest()[:16]}


def data_change(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """What to tell the user where the pictures are others than before."""
    if not before or not now or before == now:
        return None
    if before["pictures"] != now["pictures"]:
        what = (
            f"the run began with {counted(before['pictures'], 'training image')}, and there are {now['pictures']:,} now"
        )
    else:
        what = f"some of the {now['pictures']:,} training images (or their names) have changed"
    return f"{what}: the run goes on, but it is no longer the one that was interrupted"
