"""What the training of a natural manifold discriminator would be, found out without starting it."""

from __future__ import annotations

from rich.console import Console

from mvmsr.archs.param_count import count_parameters
from mvmsr.config.nmd_options import NMDOptions
from mvmsr.data.layouts import MissingDataError
from mvmsr.data.paired_dataset import as_list, check_pictures
from mvmsr.engine.nmd_run import build_discriminator, require_enough
from mvmsr.engine.train_set import data_errors_named


def nmd_dry_run(options: NMDOptions, console: Console) -> None:
    """Build the network and look at the pictures' headers; nothing is packed or written.

    Data that is missing is said, and is no error: the run may be planned for another machine.

    Raises:
        OptionsError, SetupError: as training would, but for data that is missing.
    """
    device, precision, channels_last, module, _ = build_discriminator(options)
    missing = _missing_pictures(options)
    console.print(
        f"{options.name}: {options.network.type}, {count_parameters(module):,} parameters, on {device}, "
        f"precision {precision}, channels_last {channels_last}",
        soft_wrap=True,
    )
    if missing is not None:
        console.print(missing, style="yellow", soft_wrap=True, markup=False)
    console.print("Options are valid.")


def _missing_pictures(options: NMDOptions) -> str | None:
    spec = options.datasets.train
    with data_errors_named(options):
        try:
            count = check_pictures(as_list(spec.dataroot_gt), scale=options.scale, gt_size=spec.gt_size)
        except MissingDataError as error:
            return f"datasets.train: {error}"
    require_enough(options, count)
    return None
