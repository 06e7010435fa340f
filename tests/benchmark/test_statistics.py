from __future__ import annotations

import itertools
import math
import time
from typing import Any

import numpy as np
import pytest
import scipy.stats

from mvmsr.benchmark.results import merge_results
from mvmsr.benchmark.statistics import Interval, add_statistics, paired_bootstrap, pairwise_statistics

METRICS = {"psnr": {"higher_is_better": True, "decimals": 2}, "niqe": {"higher_is_better": False, "decimals": 4}}


def normal(images: int, seed: int = 0, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, images)


def rows(method: str, set_name: str, psnr: list[float | None], niqe: list[float | None] | None = None) -> list[dict]:
    niqe = niqe or [5.0] * len(psnr)
    return [
        {"method": method, "set": set_name, "image": f"img_{number}", "psnr": first, "niqe": second, "seconds": 0.1}
        for number, (first, second) in enumerate(zip(psnr, niqe, strict=True))
    ]


def statistic(images: list[dict[str, Any]], metric: str = "psnr", set_name: str | None = "Set5") -> dict[str, Any]:
    found = [r for r in pairwise_statistics(images, METRICS) if (r["metric"], r["set"]) == (metric, set_name)]
    assert len(found) == 1
    return found[0]


def test_two_pictures_reach_from_one_to_the_other() -> None:
    assert paired_bootstrap([np.array([1.0, 3.0])]) == Interval(2.0, 1.0, 3.0)


@pytest.mark.parametrize("differences", [[0.0, 0.1, 0.2, 0.7, 1.5], [-1.0, -1.0, 0.0, 0.5, 4.0]])
@pytest.mark.parametrize("confidence", [0.5, 0.8])
def test_quantiles_of_all_3125_resamples(differences: list[float], confidence: float) -> None:
    means = sorted(sum(drawn) / 5 for drawn in itertools.product(differences, repeat=5))
    tail = scipy.stats.norm.cdf(-math.sqrt(5 / 4) * scipy.stats.t.ppf((1 + confidence) / 2, df=4))
    interval = paired_bootstrap([np.array(differences)], confidence=confidence, resamples=40_000)
    assert interval.difference == pytest.approx(sum(differences) / 5)
    assert interval.low is not None
    assert interval.high is not None
    for bound, share in ((interval.low, tail), (interval.high, 1 - tail)):  # drawn resamples miss the share by 0.005
        assert means[int((share - 0.006) * 3125)] - 1e-9 <= bound <= means[int((share + 0.006) * 3125)] + 1e-9


def test_many_pictures_have_the_interval_of_students_t() -> None:
    differences = normal(200, mean=0.2)
    interval = paired_bootstrap([differences])
    margin = scipy.stats.t.ppf(0.975, df=199) * differences.std(ddof=1) / math.sqrt(200)
    assert interval.low == pytest.approx(differences.mean() - margin, abs=0.01)
    assert interval.high == pytest.approx(differences.mean() + margin, abs=0.01)


@pytest.mark.parametrize(
    ("images", "least", "most"),
    [(5, 0.905, 0.96), (8, 0.925, 0.97), pytest.param(100, 0.93, 0.97, marks=pytest.mark.slow)],
)
def test_coverage(images: int, least: float, most: float) -> None:
    """95 of 100 intervals hold the true mean; plain percentiles would give 84 of 100 for five pictures."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(1000):
        interval = paired_bootstrap([rng.normal(0.3, 2.0, images)], resamples=1000)
        held += interval.low <= 0.3 <= interval.high  # type: ignore[operator]
    assert least <= held / 1000 <= most


def test_coverage_of_pooled_sets_whose_means_differ() -> None:
    rng = np.random.default_rng(4)
    held, widths = 0, []
    for _ in range(500):
        strata = [rng.normal(0.0, 1.0, 10), rng.normal(5.0, 1.0, 10)]
        interval = paired_bootstrap(strata, resamples=1000)
        held += interval.low <= 2.5 <= interval.high  # type: ignore[operator]
        widths.append(interval.high - interval.low)  # type: ignore[operator]
    assert 0.92 <= held / 500 <= 0.98
    # 2 t(18) / sqrt(20); one pot of all pictures would be 2.7 times as wide, shared draws 1.4 times
    assert np.mean(widths) == pytest.approx(2 * 2.1 / math.sqrt(20), rel=0.1)


def test_swapping_negates_exactly() -> None:
    for seed in range(20):
        strata = [normal(5, seed, 0.5), normal(14, seed + 100, -0.1)]
        there, back = paired_bootstrap(strata), paired_bootstrap([-stratum for stratum in strata])
        assert there.low is not None
        assert there.high is not None
        assert (back.difference, back.low, back.high) == (-there.difference, -there.high, -there.low)


def test_a_shift_moves_and_a_factor_stretches() -> None:
    base, moved = paired_bootstrap([normal(14)]), paired_bootstrap([3 * normal(14) + 10])
    assert base.low is not None
    assert base.high is not None
    assert (moved.difference, moved.low, moved.high) == pytest.approx(
        (3 * base.difference + 10, 3 * base.low + 10, 3 * base.high + 10)
    )


def test_equal_differences_leave_no_doubt() -> None:
    assert paired_bootstrap([np.full(7, 0.25)]) == Interval(0.25, 0.25, 0.25)


def test_the_seed_decides() -> None:
    first = paired_bootstrap([normal(14)], seed=1)
    assert first == paired_bootstrap([normal(14)], seed=1)
    assert first != paired_bootstrap([normal(14)], seed=2)


def test_higher_confidence_is_wider() -> None:
    widths = []
    for confidence in (0.5, 0.9, 0.99):
        interval = paired_bootstrap([normal(14)], confidence=confidence)
        widths.append(interval.high - interval.low)  # type: ignore[operator]
    assert widths == sorted(widths)
    assert widths[0] < widths[2]


def test_one_picture_has_no_interval() -> None:
    assert paired_bootstrap([np.array([0.5])]) == Interval(0.5, None, None)
    assert paired_bootstrap([np.array([0.5]), np.array([1.5])]) == Interval(1.0, None, None)


@pytest.mark.parametrize(
    ("strata", "confidence"), [([], 0.95), ([np.array([])], 0.95), ([np.array([math.inf])], 0.95), ([normal(5)], 1.0)]
)
def test_refused(strata: list[np.ndarray], confidence: float) -> None:
    with pytest.raises(ValueError, match="paired_bootstrap"):
        paired_bootstrap(strata, confidence=confidence)


def test_a_hundred_pictures_take_well_under_a_second() -> None:
    paired_bootstrap([normal(3)])  # imports
    start = time.process_time()
    paired_bootstrap([normal(100)], seed=time.time_ns())
    assert time.process_time() - start < 0.5


def test_a_row_says_who_is_better() -> None:
    better = [20.0, 25.0, 30.0, 35.0, 40.0, 22.0]
    images = rows("mine", "Set5", better, [4.0] * 6) + rows(
        "bicubic", "Set5", [19.0, 24.5, 29.0, 34.5, 39.0, 22.0], [6.0] * 6
    )
    row = statistic(images)
    assert (row["a"], row["b"], row["images"], row["left_out"]) == ("mine", "bicubic", 6, 0)
    assert row["difference"] == pytest.approx(4 / 6)
    assert (row["a_better"], row["b_better"], row["too_few"], row["better"]) == (5, 0, False, "mine")
    niqe = statistic(images, "niqe")
    assert (niqe["difference"], niqe["low"], niqe["high"]) == (-2.0, -2.0, -2.0)
    assert (niqe["a_better"], niqe["b_better"], niqe["better"]) == (6, 0, "mine")
    swapped = statistic(images[6:] + images[:6])
    assert (swapped["low"], swapped["high"], swapped["better"]) == (-row["high"], -row["low"], "mine")


def test_an_interval_with_zero_decides_nothing() -> None:
    images = rows("a", "Set5", [1.0, 2.0, 3.0, 4.0, 5.0]) + rows("b", "Set5", [2.0, 1.0, 4.0, 3.0, 5.0])
    row = statistic(images)
    assert row["low"] < 0 < row["high"]
    assert (row["a_better"], row["b_better"], row["better"]) == (2, 2, None)


def test_equal_scores_make_nobody_better() -> None:
    row = statistic(rows("a", "Set5", [30.0] * 6) + rows("b", "Set5", [30.0] * 6))
    assert (row["difference"], row["low"], row["high"]) == (0.0, 0.0, 0.0)
    assert (row["a_better"], row["b_better"], row["better"]) == (0, 0, None)


def test_five_pictures_are_enough_to_decide_and_four_are_not() -> None:
    for count, too_few, better in ((5, False, "b"), (4, True, None)):
        row = statistic(rows("a", "Set5", [1.0] * count) + rows("b", "Set5", [2.0] * count))
        assert (row["too_few"], row["better"]) == (too_few, better)


def test_pictures_without_a_score_are_left_out_and_counted() -> None:
    first: list[float | None] = [21.0, None, 23.0, 24.0, 25.0, math.inf, 27.0]
    second: list[float | None] = [20.0, 20.0, 22.0, None, 24.0, math.inf, 26.0]
    images = rows("a", "Set5", first) + rows("b", "Set5", second)[:-1]  # b failed on the last picture altogether
    row = statistic(images)
    assert (row["images"], row["left_out"]) == (3, 4)
    assert (row["difference"], row["low"], row["high"]) == (1.0, 1.0, 1.0)
    assert row["too_few"]
    assert row["better"] is None


def test_nothing_to_compare() -> None:
    row = statistic(rows("a", "Set5", [None, None]) + rows("b", "Set5", [1.0, 2.0]))
    assert (row["difference"], row["low"], row["high"], row["images"], row["left_out"]) == (None, None, None, 0, 2)
    assert pairwise_statistics(rows("a", "Set5", [1.0]) + rows("b", "Set14", [1.0]), METRICS) == []


def test_sets_are_pooled_picture_by_picture() -> None:
    images = rows("a", "Set5", [2.0] * 5) + rows("b", "Set5", [1.0] * 5)
    images += rows("a", "Set14", [5.0] * 15) + rows("b", "Set14", [1.0] * 15)
    pooled = statistic(images, set_name=None)
    assert pooled["images"] == 20
    assert (pooled["difference"], pooled["low"], pooled["high"]) == pytest.approx((3.25, 3.25, 3.25))
    assert [row["set"] for row in pairwise_statistics(images, {"psnr": METRICS["psnr"]})] == ["Set5", "Set14", None]


def test_every_pair_and_metric() -> None:
    images = [row for method in "abcd" for row in rows(method, "Set5", [1.0, 2.0])]
    found = pairwise_statistics(images, METRICS)
    assert len(found) == 6 * 2
    assert [(row["a"], row["b"]) for row in found[:6]] == list(itertools.combinations("abcd", 2))


def test_a_document_gets_its_statistics_and_keeps_the_rest() -> None:
    document = {"images": rows("a", "Set5", [1.0, 2.0]) + rows("b", "Set5", [0.0, 2.0]), "metrics": METRICS, "means": 1}
    result = add_statistics(document)
    assert "statistics" not in document
    assert {key: result[key] for key in document} == document
    assert result["statistics"] == pairwise_statistics(document["images"], METRICS)
    assert result["statistics_settings"]["resamples"] == 10_000
    assert add_statistics(result) == result


def test_merged_results_have_statistics_of_their_own() -> None:
    def document(method: str, psnr: list[float]) -> dict[str, Any]:
        means = [{"method": method, "set": "Set5"}]
        parts = {"protocol": {}, "metrics": METRICS, "means": means, "missing": [], "failures": []}
        return add_statistics({**parts, "images": rows(method, "Set5", psnr)})

    parts = document("a", [1.0, 2.0]), document("b", [0.0, 1.0])
    assert [part["statistics"] for part in parts] == [[], []]
    merged = merge_results(parts)
    assert [(row["a"], row["b"], row["difference"]) for row in merged["statistics"]] == [
        ("a", "b", 1.0),
        ("a", "b", 0.0),
    ]
    without = [{key: value for key, value in part.items() if key != "statistics"} for part in parts]
    assert "statistics" not in merge_results(without)


def test_nothing_is_better_where_no_direction_is_known() -> None:
    images = rows("a", "Set5", [2.0] * 6) + rows("b", "Set5", [1.0] * 6)
    (row,) = pairwise_statistics(images, {"psnr": {"decimals": 2}})
    assert (row["low"], row["too_few"], row["better"]) == (1.0, False, None)


def test_a_score_of_zero_is_a_score() -> None:
    row = statistic(rows("a", "Set5", [0.0, 2.0, 0.0]) + rows("b", "Set5", [1.0, 0.0, 0.0]))
    assert (row["difference"], row["images"], row["left_out"]) == (pytest.approx(1 / 3), 3, 0)
