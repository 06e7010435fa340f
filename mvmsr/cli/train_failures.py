"""The errors of a training that are shown as messages; import it late, as it needs torch."""

from __future__ import annotations

from mvmsr.config import OptionsError
from mvmsr.engine.checkpoint import CheckpointError
from mvmsr.engine.distributed import OtherProcessError
from mvmsr.engine.guard import NonFiniteLossError
from mvmsr.engine.memory import NotEnoughMemoryError
from mvmsr.engine.rehearsal import SetupError
from mvmsr.engine.run_dir import RunExistsError
from mvmsr.engine.run_lock import RunBusyError
from mvmsr.inference.weights import WeightsError
from mvmsr.pretrained import MissingWeights

NMD_FAILURES = (
    OptionsError,
    SetupError,
    RunExistsError,
    RunBusyError,
    NonFiniteLossError,
    CheckpointError,
)
"""Of `mvmsr train-nmd`."""
FAILURES = (*NMD_FAILURES, MissingWeights, WeightsError, NotEnoughMemoryError, OtherProcessError)
"""Of `mvmsr train`."""
