"""Published figures, and claims: on the paper's own figures, by hand, with rows that are missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mvmsr.reproduction.claims import CLAIMS, Condition, Outcome, claims_of, judge
from mvmsr.reproduction.published import METRICS, PUBLISHED, SETS
from mvmsr.reproduction.rows import ROWS, ReproductionError, rows_of
from mvmsr.reproduction.scoring import Score, Scores
from mvmsr.reproduction.verdicts import judge_claim


def test_every_row_has_all_its_figures() -> None:
    for table, rows in ROWS.items():
        assert list(PUBLISHED[table]) == [row.key for row in rows]
        for figures in PUBLISHED[table].values():
            assert tuple(figures) == SETS
            assert all(tuple(one) == METRICS for one in figures.values())
    assert PUBLISHED["table3"]["rdn_mvm"]["Urban100"]["psnr"] == 24.44
    assert PUBLISHED["table5"]["e"]["Set5"]["lpips"] == 0.1227


@pytest.mark.parametrize(
    ("key", "met", "of"),
    [
        ("fidelity", 24, 24),
        ("perception", 14, 24),
        ("psnr", 4, 4),
        ("ssim", 3, 4),
        ("niqe", 3, 4),
        ("lpips", 4, 4),
        ("most_fidelity", 37, 40),
        ("most_perception", 37, 40),
    ],
)
def test_the_papers_own_figures_bear_its_claims_out(key: str, met: int, of: int) -> None:
    (claim,) = (claim for claim in CLAIMS if claim.key == key)
    outcome = judge(claim, PUBLISHED[claim.table])
    assert (len(outcome.met), len(claim.conditions), outcome.verdict) == (met, of, "holds")


MEANS = {
    "g": {"Set5": {"psnr": 30.0, "niqe": 5.0}},
    "b": {"Set5": {"psnr": 29.0, "niqe": 5.0}},
    "c": {"Set5": {"psnr": 31.0, "niqe": 6.0}},
}


@pytest.mark.parametrize(
    ("condition", "holds", "rival"),
    [
        (Condition("g", ("b",), "Set5", "psnr"), True, "b"),
        (Condition("g", ("b", "c"), "Set5", "psnr"), False, "c"),
        (Condition("g", ("b", "c"), "Set5", "psnr", place=2), True, "b"),
        (Condition("g", ("c",), "Set5", "niqe"), True, "c"),
        (Condition("g", ("b",), "Set5", "niqe"), False, "b"),  # equal is not better
        (Condition("g", ("b", "d"), "Set5", "psnr"), None, None),
        (Condition("g", ("b",), "Set5", "lpips"), None, None),
    ],
)
def test_conditions_by_hand(condition: Condition, holds: bool | None, rival: str | None) -> None:
    assert condition.holds(MEANS) is holds
    assert condition.rival(MEANS) == rival


@pytest.mark.parametrize(
    ("met", "unmet", "unknown", "needed", "verdict"),
    [
        (3, 1, 0, 3, "holds"),
        (3, 0, 1, 3, "holds"),  # whatever the last one turns out to be
        (2, 2, 0, 3, "does not hold"),
        (1, 2, 1, 3, "does not hold"),
        (2, 1, 1, 3, "not decided yet"),
        (0, 0, 4, 3, "not decided yet"),
    ],
)
def test_verdicts(met: int, unmet: int, unknown: int, needed: int, verdict: str) -> None:
    one = Condition("g", ("b",), "Set5", "psnr")
    assert Outcome((one,) * met, (one,) * unmet, (one,) * unknown, needed).verdict == verdict


def _scores(table: str, metrics: tuple[str, ...], spread: float) -> Scores:
    """The paper's means, made of ten pictures that differ between the rows by `spread` at random."""
    scores: Scores = {}
    for number, (row, sets) in enumerate(PUBLISHED[table].items()):
        for name, figures in sets.items():
            for metric in metrics:
                mean = figures["lpips" if metric == "st_lpips" else metric]
                off = [spread * (1 if (k + number) % 2 else -1) for k in range(10)]
                images = {str(k): mean + 3 * k - 13.5 + off[k] for k in range(10)}
                scores.setdefault(row, {}).setdefault(name, {})[metric] = Score(mean, None, 1, images)
    return scores


def test_a_verdict_counts_what_is_beyond_chance() -> None:
    claim = claims_of("table3")[0]
    steady = judge_claim(claim, _scores("table3", ("psnr", "ssim"), spread=0.0))
    assert (steady.sure, steady.against) == (24, 0)
    assert "holds: 24 of 24 comparisons (24 are needed); 24 of them beyond chance" in steady.text
    shaky = judge_claim(claim, _scores("table3", ("psnr", "ssim"), spread=50.0))
    assert (shaky.outcome.verdict, shaky.sure) == ("holds", 0)
    few = _scores("table3", ("psnr", "ssim"), spread=0.0)
    for sets in few.values():
        score = sets["Set5"]["psnr"]
        sets["Set5"]["psnr"] = replace(score, images={key: score.images[key] for key in "0123"})
    assert judge_claim(claim, few).sure == 24 - 3, "four images decide nothing"


def test_a_difference_within_the_spread_of_seeds_is_not_beyond_chance() -> None:
    claim = claims_of("table3")[0]

    def with_deviation(deviation: float) -> Scores:
        scores = _scores("table3", ("psnr", "ssim"), spread=0.0)
        for sets in scores.values():
            for metrics in sets.values():
                for metric, score in metrics.items():
                    metrics[metric] = replace(score, deviation=deviation, seeds=2)
        return scores

    loud, quiet = judge_claim(claim, with_deviation(5.0)), judge_claim(claim, with_deviation(1e-5))
    assert (loud.outcome.verdict, loud.sure, quiet.sure) == ("holds", 0, 24)
    assert "(95 %, paired bootstrap) and over the seeds (two standard errors)" in quiet.text
    assert len(quiet.as_dict()["comparisons"]) == 24
    (one,) = (c for c in loud.comparisons if (c.row, c.set, c.metric) == ("rdn_mvm", "Set5", "psnr"))
    assert (one.rival, one.met, one.images, one.beyond_chance) == ("rdn_gan", True, 10, False)
    assert one.seeds_error == pytest.approx(5.0)  # sqrt(25 / 2 + 25 / 2)
    assert one.low == pytest.approx(0.99)
    assert one.high == pytest.approx(0.99)


def test_a_verdict_says_how_many_differences_seeds_bear_out_where_rows_have_one() -> None:
    scores = _scores("table3", ("psnr", "ssim"), spread=0.0)
    for row in ("srresnet_gan", "srresnet_mvm"):
        for metrics in scores[row].values():
            for metric, score in metrics.items():
                metrics[metric] = replace(score, deviation=1e-5, seeds=2)
    text = judge_claim(claims_of("table3")[0], scores).text
    assert "24 of them beyond chance over the images (95 %, paired bootstrap), 8 of these also over the seeds" in text
    assert text.endswith("(two standard errors; the others have one seed)")


def test_a_verdict_names_its_exceptions_and_what_it_waits_for() -> None:
    scores = _scores("table5", ("psnr", "ssim", "niqe"), spread=0.0)
    (ssim,) = (claim for claim in claims_of("table5") if claim.key == "ssim")
    assert "against it (1 beyond chance): BSD100 ssim 0.7134 (f 0.7146)" in judge_claim(ssim, scores).text
    del scores["d"], scores["f"]["Set5"]
    waiting = judge_claim(ssim, scores)
    assert waiting.outcome.verdict == "not decided yet"
    assert "4 await d, f" in waiting.text
    assert waiting.as_dict()["open"] == 4


def test_another_metric_stands_in_only_where_no_row_has_the_papers() -> None:
    (lpips,) = (claim for claim in claims_of("table5") if claim.key == "lpips")
    without = judge_claim(lpips, _scores("table5", ("psnr", "st_lpips"), spread=0.0))
    assert without.outcome.verdict == "holds"
    assert "lpips could not be computed, st_lpips stands in for it" in without.text
    scores = _scores("table5", ("lpips", "st_lpips"), spread=0.0)
    del scores["g"]["Set5"]["lpips"]
    assert judge_claim(lpips, scores).outcome.open
    assert judge_claim(lpips, scores).replaced == ()


def test_unknown_tables_and_rows_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ReproductionError, match=r"unknown table 'table4'.*There are table3, table5"):
        rows_of("table4")
    with pytest.raises(ReproductionError, match=r"table3 has no row 'rdn_mvn'\. Did you mean 'rdn_mvm'"):
        rows_of("table3", ("rdn_mvn",))
