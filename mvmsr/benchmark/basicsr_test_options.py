"""BasicSR's test options are another program's; what they ask for is said as a command of ours."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def equivalent_command(values: Mapping[str, Any]) -> str | None:
    """The `mvmsr test` that does what BasicSR's test options ask for, or None where they are no such options.

    It makes the low-quality pictures anew, and crops borders as its protocol does.
    """
    sets = values.get("datasets")
    if "model_type" not in values or not isinstance(sets, Mapping):
        return None
    tests = [spec for key, spec in sets.items() if str(key).startswith("test") and isinstance(spec, Mapping)]
    folders = [str(spec["dataroot_gt"]) for spec in tests if spec.get("dataroot_gt")]
    path, val = _section(values, "path"), _section(values, "val")
    metrics = [spec for spec in _section(val, "metrics").values() if isinstance(spec, Mapping) and "type" in spec]
    names = [str(spec["type"]).removeprefix("calculate_") for spec in metrics]
    compared = [spec for spec in metrics if spec["type"] in ("calculate_psnr", "calculate_ssim")]
    words = ["mvmsr", "test", "--method", str(path.get("pretrain_network_g") or "WEIGHTS"), "--set-names"]
    words += folders or ["FOLDER"]
    words += ["--scale", str(values.get("scale", 4))]
    if names:
        words += ["--metrics", *dict.fromkeys(names)]
    if compared:
        words += ["--protocol", "y_float" if compared[0].get("test_y_channel") else "rgb"]
    return shlex.join(words)


def _section(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}
