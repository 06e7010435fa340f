"""Scores of pictures: each a pure function and a class registered under the name that commands use."""

from mvmsr.metrics.build import MissingMetric, build_metric, build_metrics, metric_names
from mvmsr.metrics.consistency import Consistency
from mvmsr.metrics.lpips_metric import Lpips
from mvmsr.metrics.metric import FidelityMetric, Metric
from mvmsr.metrics.niqe import Niqe
from mvmsr.metrics.protocol import PROTOCOLS, Protocol, ProtocolError, make_protocol
from mvmsr.metrics.psnr import Psnr
from mvmsr.metrics.ssim import Ssim
from mvmsr.metrics.st_lpips import StLpips

__all__ = [
    "PROTOCOLS",
    "Consistency",
    "FidelityMetric",
    "Lpips",
    "Metric",
    "MissingMetric",
    "Niqe",
    "Protocol",
    "ProtocolError",
    "Psnr",
    "Ssim",
    "StLpips",
    "build_metric",
    "build_metrics",
    "make_protocol",
    "metric_names",
]
