from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from report_records import mvm_records

from mvmsr.report.run_files import RunFiles, read_run
from mvmsr.report.scores import facts, score_table


def _val(iteration: int, **scores: float) -> dict[str, float]:
    return {"iter": iteration, **{f"val/Set5/{name}": value for name, value in scores.items()}}


def _texts(runs: list[RunFiles]) -> list[tuple[str, str, list[str]]]:
    table = score_table(runs)
    assert table is not None
    return [
        (label, which, [("*" if cell.best else "") + cell.text for cell in cells])
        for _, label, which, cells in table.rows
    ]


def test_last_and_best_scores_with_their_iterations(make_run: Callable[..., Path]) -> None:
    records = [_val(10, psnr=30.126, lpips=0.5), _val(20, psnr=31.5, lpips=0.2), _val(30, psnr=31.0, lpips=0.3)]
    table = score_table([read_run(make_run("a", records))])
    assert table is not None
    assert table.columns == (("Set5", "psnr ↑"), ("Set5", "lpips ↓"))
    assert _texts([read_run(make_run("b", records))]) == [
        ("b", "last", ["31.00", "0.3000"]),
        ("b", "best", ["*31.50", "*0.2000"]),
    ]
    assert [cell.iteration for cell in table.rows[0][3]] == [30, 30]
    assert [cell.iteration for cell in table.rows[1][3]] == [20, 20]


def test_the_best_of_all_runs_is_marked_by_the_shown_digits(make_run: Callable[..., Path]) -> None:
    one = read_run(make_run("one", [_val(10, psnr=30.001)]))
    two = read_run(make_run("two", [_val(20, psnr=30.004, ssim=0.9)]))
    three = read_run(make_run("three", [_val(20, psnr=29.0, ssim=0.8)]))
    assert _texts([one, two, three]) == [
        ("one", "last", ["*30.00", "–"]),
        ("two", "last", ["*30.00", "*0.9000"]),
        ("three", "last", ["29.00", "0.8000"]),
    ]
    assert _texts([one]) == [("one", "last", ["30.00"])]


def test_scores_that_are_not_finite_are_never_the_best(make_run: Callable[..., Path]) -> None:
    run = read_run(make_run("a", [_val(10, psnr=20.0), _val(20, psnr=math.inf), _val(30, psnr=math.nan)]))
    assert _texts([run]) == [("a", "last", ["nan"]), ("a", "best", ["20.00"])]


def test_an_unknown_metric_is_shown_and_not_judged(make_run: Callable[..., Path]) -> None:
    run = read_run(make_run("a", [_val(10, beauty=1.0), _val(20, beauty=2.0)]))
    table = score_table([run])
    assert table is not None
    assert table.columns == (("Set5", "beauty"),)
    assert _texts([run]) == [("a", "last", ["2.0000"])]


def test_without_validation_there_is_no_table(make_run: Callable[..., Path]) -> None:
    assert score_table([read_run(make_run("a", [{"iter": 1, "loss_g/pixel": 1.0}]))]) is None


def test_a_run_is_described_by_its_options_and_its_log(make_run: Callable[..., Path]) -> None:
    described = {fact.name: fact.values[0] for fact in facts([read_run(make_run("mvm", mvm_records()))])}
    assert described == {
        "progress": ("finished: 40 iterations",),
        "network": ("SRResNet (num_feat 8, bn false)",),
        "metric network": ("MetricNet",),
        "losses": (
            "1 × L1Loss as pixel",
            "0.001 × PairLoss as pair",
            "1 × DirectedTripletLoss (preset paper) as triplet",
        ),
        "data": (
            "trained on datasets/DIV2K",
            "16 crops of 96 × 96 px a batch, x4",
            "validated on Set5 (protocol y)",
        ),
        "optimizers": ("generator: Adam (lr 0.0002)", "metric network: Adam (lr 0.0003)"),
        "schedule": ("constant learning rate", "simultaneous updates", "weights averaged with decay 0.999"),
        "precision": ("bf16-mixed, on device auto",),
        "seed": ("7",),
        "speed": ("0.5 s per iteration (median)", "20.0% of it waiting for data", "140 MiB at most"),
        "written by": ("mvmsr 0.1.0; mvmsr train -opt some.yml",),
    }


def test_a_run_under_way_tells_how_long_it_will_take(make_run: Callable[..., Path]) -> None:
    options = "name: a\ntrain: {total_iter: 10000}\n"
    run = read_run(make_run("a", [{"iter": 1000, "step_seconds": 2.0}], options=options))
    assert facts([run])[0].values == (("1,000 of 10,000 iterations", "about 5.0 hours left"),)


def test_facts_keep_their_order_and_say_where_runs_differ(make_run: Callable[..., Path]) -> None:
    plain = "name: l1\nnetwork_g: {type: SRResNet, num_feat: 8, bn: false}\ntrain: {pixel_opt: {type: L1Loss}}\n"
    found = facts([read_run(make_run("l1", options=plain)), read_run(make_run("mvm"))])
    differs = {fact.name: fact.differs for fact in found}
    assert list(differs)[:4] == ["progress", "network", "metric network", "losses"]
    assert not differs["network"]
    assert differs["metric network"]
    assert next(fact for fact in found if fact.name == "metric network").values == (("–",), ("MetricNet",))


def test_odd_options_do_not_stop_the_description(make_run: Callable[..., Path]) -> None:
    odd = (
        "name: 5\ntrain: {total_iter: many, pixel_opt: ~, scheduler: fast}\ndatasets: {train: {dataroot_gt: [a, b]}}\n"
    )
    described = {fact.name: fact.values[0] for fact in facts([read_run(make_run("odd", options=odd))])}
    assert described["progress"] == ("0 iterations",)
    assert described["losses"] == ("none",)
    assert described["data"] == ("trained on a, b",)
    for broken in ("train: 5\ndatasets: [1]\n", "datasets: {train: x}\n", "network_g: [1]\ntrain: {optim_g: 3}\n"):
        facts([read_run(make_run(f"broken{len(broken)}", options=broken))])
