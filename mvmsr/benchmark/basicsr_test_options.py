"""BasicSR's test options are another program's; what they ask for is said as commands of ours."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def equivalent_commands(values: Mapping[str, Any]) -> list[str]:
    """The `mvmsr test`s that do what BasicSR's test options ask for; none where they are no such options.

    Sets with low-quality files have a command each, the others share one that makes theirs anew. Borders are cropped
    as the protocol does.
    """
    sets = values.get("datasets")
    if "model_type" not in values or not isinstance(sets, Mapping):
        return []
    tests = [spec for key, spec in sets.items() if str(key).startswith("test") and isinstance(spec, Mapping)]
    tests = [spec for spec in tests if spec.get("dataroot_gt")]
    paired = [spec for spec in tests if spec.get("dataroot_lq")]
    others = [str(spec["dataroot_gt"]) for spec in tests if spec not in paired]
    sources = [[str(spec["dataroot_gt"]), "--lq", str(spec["dataroot_lq"])] for spec in paired]
    if others or not paired:
        sources.append(others or ["FOLDER"])
    path, val = _section(values, "path"), _section(values, "val")
    metrics = [spec for spec in _section(val, "metrics").values() if isinstance(spec, Mapping) and "type" in spec]
    names = [str(spec["type"]).removeprefix("calculate_") for spec in metrics]
    compared = [spec for spec in metrics if spec["type"] in ("calculate_psnr", "calculate_ssim")]
    begin = ["mvmsr", "test", "--method", str(path.get("pretrain_network_g") or "WEIGHTS"), "--set-names"]
    end = ["--scale", str(values.get("scale", 4))]
    if names:
        end += ["--metrics", *dict.fromkeys(names)]
    if compared:
        end += ["--protocol", "y_float" if compared[0].get("test_y_channel") else "rgb"]
    return [shlex.join([*begin, *source, *end]) for source in sources]


def _section(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}
