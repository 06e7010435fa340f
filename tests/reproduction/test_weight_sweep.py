"""The program that sweeps the weights of MvM and GAN."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from mvmsr.config import load
from mvmsr.engine.check import check
from mvmsr.engine.run_dir import as_plain


@pytest.fixture(scope="module")
def sweep(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("benchmarks/weight_sweep.py")


def test_runs_differ_in_terms_weights_and_seed_alone(sweep: ModuleType, tmp_path: Path) -> None:
    terms, common = {}, []
    runs = sweep.runs([0, 7])
    for run in runs:
        file = tmp_path / f"{run.name}.yml"
        file.write_text(yaml.safe_dump(sweep.options(run, 1000)))
        options = load(file)
        check(options)
        assert options.manual_seed == run.seed
        assert not run.matching or options.train.optim_m.args["betas"][0] == run.beta1
        terms[run.name] = {key: spec.args.get("loss_weight", 1.0) for key, spec in options.train.terms.items()}
        plain = as_plain(options)
        own = [key for key in plain["train"] if key.endswith("_opt")]
        differing = ("name", "manual_seed", "network_d", "network_m")
        for part, keys in ((plain, differing), (plain["train"], (*own, "match_after_iter"))):
            for key in (*keys, "optim_d", "optim_m"):
                part.pop(key, None)
        common.append(plain)
    assert common == [common[0]] * len(runs)
    mvm = {"pixel": 1.0, "pair": 0.003, "manifold": 0.003, "triplet": 1.0}
    for seed in (0, 7):
        assert terms[f"l1_seed{seed}"] == {"pixel": 1.0}
        assert terms[f"mvm_0.003_beta_0.9_seed{seed}"] == terms[f"mvm_0.003_beta_0.5_seed{seed}"] == mvm
        assert terms[f"ragan_0.001_seed{seed}"] == {"pixel": 1.0, "gan": 0.001}
        assert terms[f"mvm_0.003_ragan_0.0003_beta_0.5_seed{seed}"] == {**mvm, "gan": 0.0003}


def test_the_plane_is_drawn_through_the_means_of_the_seeds(sweep: ModuleType, tmp_path: Path) -> None:
    names = ["start", *(run.name for run in sweep.runs([0, 1]))]
    rows = [
        {"method": name, "set": s, "psnr": 28.0 + k / 10, "ssim": 0.8, "niqe": 6.0 - k / 10, "st_lpips": 0.2}
        for k, name in enumerate(names)
        for s in ("A", "B")
    ]
    found = sweep.points({"means": rows}, [0, 1])

    def psnr(points: list[dict[str, Any]]) -> list[float]:
        return [p["psnr"] for p in points if p["method"] == "L1 + MvM" and p["set"] == "A"]

    assert psnr(found) == [28.2, 28.3, 28.4, 29.5, 29.6, 29.7]
    assert psnr(sweep.over_seeds(found)) == pytest.approx([28.85, 28.95, 29.05])
    sweep.plot(found, tmp_path / "plane.png")
    assert (tmp_path / "plane.png").stat().st_size > 10_000
