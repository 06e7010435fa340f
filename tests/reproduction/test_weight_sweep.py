"""The program that sweeps the weights of MvM and GAN."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from mvmsr.config import load
from mvmsr.engine.check import check
from mvmsr.engine.run_dir import as_plain


@pytest.fixture(scope="module")
def sweep(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("benchmarks/weight_sweep.py")


def test_runs_differ_in_terms_and_weights_alone(sweep: ModuleType, tmp_path: Path) -> None:
    terms, common = {}, []
    for _, name, matching, gan in sweep.runs():
        file = tmp_path / f"{name}.yml"
        file.write_text(yaml.safe_dump(sweep.options(name, matching, gan, 1000, 0)))
        options = load(file)
        check(options)
        terms[name] = {key: spec.args.get("loss_weight", 1.0) for key, spec in options.train.terms.items()}
        plain = as_plain(options)
        own = [key for key in plain["train"] if key.endswith("_opt")]
        for part, keys in ((plain, ("name", "network_d", "network_m")), (plain["train"], (*own, "match_after_iter"))):
            for key in (*keys, "optim_d", "optim_m"):
                part.pop(key, None)
        common.append(plain)
    assert common == [common[0]] * len(sweep.runs())
    mvm = {"pixel": 1.0, "pair": 0.003, "manifold": 0.003, "triplet": 1.0}
    assert terms["l1"] == {"pixel": 1.0}
    assert terms["mvm_0.003"] == mvm
    assert terms["ragan_0.001"] == {"pixel": 1.0, "gan": 0.001}
    assert terms["mvm_0.003_ragan_0.0003"] == {**mvm, "gan": 0.0003}


def test_the_plane_is_drawn(sweep: ModuleType, tmp_path: Path) -> None:
    rows = [
        {"method": name, "set": s, "psnr": 28.0 + k / 10, "ssim": 0.8, "niqe": 6.0 - k / 10, "st_lpips": 0.2}
        for k, (_, name, *_) in enumerate([("start", "start", 0.0, 0.0), *sweep.runs()])
        for s in ("A", "B")
    ]
    found = sweep.points({"means": rows})
    assert [p["psnr"] for p in found if p["method"] == "L1 + MvM" and p["set"] == "A"] == [28.2, 28.3, 28.4]
    sweep.plot(found, tmp_path / "plane.png")
    assert (tmp_path / "plane.png").stat().st_size > 10_000
