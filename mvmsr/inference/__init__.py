"""Weights files, tiling, and everything between a picture file and a larger one."""

from mvmsr.inference.ensemble import self_ensemble
from mvmsr.inference.receptive_field import Margins, effective_halo, measure_margins, receptive_halo
from mvmsr.inference.restorer import Restorer, load_restorer
from mvmsr.inference.tiling import run_bands, run_tiled
from mvmsr.inference.upscaler import Upscaler
from mvmsr.inference.weights import WeightsError, WeightsInfo, find_weights, load_generator, read_info, save_weights

__all__ = [
    "Margins",
    "Restorer",
    "Upscaler",
    "WeightsError",
    "WeightsInfo",
    "effective_halo",
    "find_weights",
    "load_generator",
    "load_restorer",
    "measure_margins",
    "read_info",
    "receptive_halo",
    "run_bands",
    "run_tiled",
    "save_weights",
    "self_ensemble",
]
