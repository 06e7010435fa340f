"""Pictures in and out of files, the data sets made of them, and training batches."""

from __future__ import annotations

from mvmsr.data.batches import Batch, TrainBatches
from mvmsr.data.degraded_dataset import DegradedImageDataset
from mvmsr.data.image_io import (
    IMAGE_SUFFIXES,
    ImageError,
    Picture,
    image_size,
    read_picture,
    read_rgb,
    write_picture,
    write_rgb,
)
from mvmsr.data.imresize import imresize
from mvmsr.data.layouts import ImagePair, LayoutError, find_pairs, resolve_dataroot
from mvmsr.data.packed_store import PackedStore
from mvmsr.data.packing import PairError
from mvmsr.data.paired_dataset import PairedImageDataset
from mvmsr.data.realesrgan_dataset import RealESRGANDataset

__all__ = [
    "IMAGE_SUFFIXES",
    "Batch",
    "DegradedImageDataset",
    "ImageError",
    "ImagePair",
    "LayoutError",
    "PackedStore",
    "PairError",
    "PairedImageDataset",
    "Picture",
    "RealESRGANDataset",
    "TrainBatches",
    "find_pairs",
    "image_size",
    "imresize",
    "read_picture",
    "read_rgb",
    "resolve_dataroot",
    "write_picture",
    "write_rgb",
]
