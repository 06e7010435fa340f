from __future__ import annotations

import re

import pytest

from mvmsr.benchmark.evaluate import ImageScore
from mvmsr.benchmark.latex import escape, to_latex
from mvmsr.benchmark.results import Results, make_results
from mvmsr.metrics import MissingMetric, Niqe, Psnr, Ssim, make_protocol

METRICS = {"psnr": Psnr(), "ssim": Ssim(), "niqe": Niqe()}


def document(sets: tuple[str, ...] = ("Set5", "Set14"), methods: tuple[str, ...] = ("bicubic", "L1", "MvM")) -> Results:
    rows = {"bicubic": (28.421, 0.81, 7.4), "L1": (30.5, 0.86, 6.5), "MvM": (30.0, 0.85, 6.0), "a_b & 50%": (1, 0, 9)}
    scores = [
        ImageScore(method, name, "x", dict(zip(METRICS, rows[method], strict=True)))
        for method in methods
        for name in sets
    ]
    return make_results(scores, make_protocol("y", 4), METRICS, device="cpu")


def rows_of(text: str) -> list[list[str]]:
    """The rows of every tabular, split into cells; a cell across columns counts as many."""
    cells = []
    for line in re.findall(r"^(.*) \\\\$", text, re.MULTILINE):
        row = []
        for cell in re.split(r"(?<!\\) & ", line):
            width = re.match(r"\\multicolumn\{(\d+)\}", cell)
            row += [cell] * (int(width[1]) if width else 1)
        cells.append(row)
    return cells


def test_the_layout_is_that_of_the_literature() -> None:
    text = to_latex(document())
    assert rows_of(text) == [
        ["", *[r"\multicolumn{3}{c}{Set5}"] * 3, *[r"\multicolumn{3}{c}{Set14}"] * 3],
        ["Method", *[r"PSNR$\uparrow$", r"SSIM$\uparrow$", r"NIQE$\downarrow$"] * 2],
        ["bicubic", *["28.42", "0.8100", "7.4000"] * 2],
        ["L1", *[r"\textbf{30.50}", r"\textbf{0.8600}", r"\underline{6.5000}"] * 2],
        ["MvM", *[r"\underline{30.00}", r"\underline{0.8500}", r"\textbf{6.0000}"] * 2],
    ]
    assert r"\begin{tabular}{lrrrrrr}" in text
    assert r"\cmidrule(lr){2-4} \cmidrule(lr){5-7}" in text
    order = [
        r"\begin{table*}",
        r"\caption",
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table*}",
    ]
    places = [text.index(word) for word in order]
    assert places == sorted(places)


def test_the_caption_tells_protocol_scale_and_pictures() -> None:
    caption = re.search(r"\\caption\{(.*)\}$", to_latex(document()), re.MULTILINE)
    assert caption is not None
    assert caption[1] == (
        r"Mean scores for $\times$4 super-resolution on Set5 (1 image), Set14 (1 image). Protocol y (luma, rounded, "
        r"4 px border cropped, x4); low quality: made. The best of each column is bold, the second underlined."
    )


def test_a_narrow_table_takes_one_column_and_one_method_is_not_marked() -> None:
    text = to_latex(document(("Set5",), ("bicubic",)))
    assert r"\begin{table}[t]" in text
    assert r"\textbf" not in text
    assert "bold, the second" not in text.split(r"\caption")[1]


def test_what_does_not_fit_beside_each_other_becomes_several_tables() -> None:
    text = to_latex(document(("A", "B", "C", "D", "E", "F")))
    assert text.count(r"\begin{table}") == 6
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert labels == ["tab:benchmark", *(f"tab:benchmark{number}" for number in range(2, 7))]


def test_names_are_escaped() -> None:
    text = to_latex(document(("my_set",), ("bicubic", "a_b & 50%")))
    assert r"a\_b \& 50\% & \underline{1.00} & \underline{0.0000} & \underline{9.0000} \\" in text
    assert r"{my\_set}" in text
    assert {len(row) for row in rows_of(text)} == {4}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"C:\x", r"C:\textbackslash{}x"),
        ("{~^}", r"\{\textasciitilde{}\textasciicircum{}\}"),
        ("#$", r"\#\$"),
        ("Ünal ×4", r"Ünal $\times$4"),
    ],
)
def test_signs_that_mean_something_to_latex(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_a_name_is_no_argument_of_the_line_before() -> None:
    # LaTeX looks for `*` and for `[` behind \\\\ and \\midrule, also on the next line.
    assert escape("[1] b") == "{[}1{]} b"
    assert escape("*ours") == "{*}ours"


def test_what_is_missing_is_a_dash_and_its_reason_a_comment_on_every_line() -> None:
    missing = [MissingMetric("lpips", "AlexNet not found\nget it from a & b")]
    scores = [
        ImageScore("bicubic", "S", "x", {"psnr": float("inf")}, notes={"niqe": "too small"}),
        ImageScore("mine", "S", "x", {}, error="broken\nfile"),
    ]
    text = to_latex(make_results(scores, make_protocol("y", 4), {"psnr": Psnr()}, missing=missing, device="cpu"))
    assert r"bicubic & $\infty$ & -- \\" in text
    assert r"mine & -- & -- \\" in text
    comments = [line for line in text.splitlines() if line.startswith("%")]
    assert comments[1:] == [
        "% lpips was not computed: AlexNet not found",
        "% get it from a & b",
        "% niqe leaves out 1 of S (x): too small",
        "% failed: mine, S, x: broken",
        "% file",
    ]
    assert "not found" not in text.replace("\n".join(comments), "")


def test_signs_of_figures_are_mathematics() -> None:
    scores = [ImageScore(name, "S", "x", {"psnr": value}) for name, value in (("one", -3.2), ("two", float("-inf")))]
    text = to_latex(make_results(scores, make_protocol("y", 4), {"psnr": Psnr()}, device="cpu"))
    assert r"one & \textbf{$-$3.20} \\" in text
    assert r"two & \underline{$-\infty$} \\" in text
