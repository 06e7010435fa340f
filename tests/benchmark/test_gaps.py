"""What has no score, in sentences."""

from __future__ import annotations

from mvmsr.benchmark.gaps import gaps_markdown, left_out, not_computed


def test_images_that_are_too_small_share_a_sentence_whatever_their_size() -> None:
    missing = [
        {"metric": "niqe", "set": "A", "image": f"a{k % 6}", "why": f"too small; the image is {k}x{k}"}
        for k in range(12)
    ]
    results = {"missing": [*missing, {"metric": "lpips", "why": "no weights; get them"}]}
    assert left_out(results) == ["niqe leaves out 6 of A (a0, a1, a2, a3, a4, ...): too small"]
    assert left_out(results, str.upper)[0].startswith("NIQE leaves out")
    assert not_computed(results) == ["lpips was not computed: no weights; get them"]


def test_a_list_for_documents() -> None:
    failures = [{"method": "*m*", "set": "A", "image": None, "why": "broken\nfile"}]
    missing = [
        {"metric": "lpips", "why": "no weights"},
        {"metric": "niqe", "set": "A", "image": "a_", "why": "too small"},
    ]
    assert gaps_markdown({"missing": missing, "failures": failures, "means": []}).splitlines() == [
        "- lpips was not computed: no weights",
        r"- niqe leaves out 1 of A (a\_): too small",
        r"- failed: \*m\*, A: broken file",
    ]
    assert gaps_markdown({"missing": [], "failures": [], "means": []}) == ""
