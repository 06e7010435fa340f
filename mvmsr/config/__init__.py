"""Options files: read, checked and frozen before any work."""

from mvmsr.config.errors import OptionsError, Problem
from mvmsr.config.load import load
from mvmsr.config.schema import Component, TrainOptions

__all__ = ["Component", "OptionsError", "Problem", "TrainOptions", "load"]
