"""Options files that would take long, or whose refusal would fill the screen."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from mvmsr.config import OptionsError, load
from mvmsr.config.errors import MOST
from mvmsr.registry import did_you_mean


def refusal(folder: Path, data: bytes) -> str:
    """What is said of a file, within a second."""
    path = folder / "options.yml"
    path.write_bytes(data)
    start = time.process_time()
    with pytest.raises(OptionsError) as caught:
        load(path)
    assert time.process_time() - start < 1.5
    assert "options.yml" in str(caught.value)
    assert len(str(caught.value)) < 16_000
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: !!float ''", "'' cannot be read as !!float"),
        (b'a: "\\UFFFFFFFF"', "not valid YAML"),
        (b"a: !!int ''", "cannot be read as !!int"),
        (b"#" * 2**18 + b"\n", "more than 256 KiB"),
        (b"\xff" * 2**20, "more than 256 KiB"),
        ("\n".join(f"k{i}: {i}" for i in range(20_000)).encode(), "more than 5000 values"),
        (b"[" + b"1," * 20_000 + b"]", "more than 5000 values"),
        (b"name: \xff\xfe", "cannot read the options file"),
    ],
    ids=["empty float", "no character", "empty int", "long comment", "bytes", "many keys", "long list", "no text"],
)
def test_refused_at_once(tmp_path: Path, data: bytes, message: str):
    assert message in refusal(tmp_path, data)


def test_a_file_of_the_largest_size_is_read(tmp_path: Path):
    text = b"name: x\n#"
    assert "network_g: is required" in refusal(tmp_path, text + b"#" * (2**18 - len(text)))


def test_one_problem_more_than_is_listed_is_counted(tmp_path: Path):
    options = "name: x\nnetwork_g: {type: SRResNet}\ndatasets: {train: {}}\ntrain: {total_iter: 1}\n"
    for count, more in ((MOST, None), (MOST + 1, "and 1 more problem")):
        text = refusal(tmp_path, (options + "".join(f"nonsense{i}: {i}\n" for i in range(count))).encode())
        assert text.count("is unknown") == MOST
        assert more in text if more else "more problem" not in text


def test_an_endless_file_is_not_read_to_its_end():
    with pytest.raises(OptionsError, match="more than 256 KiB"):
        load("/dev/zero")


@pytest.mark.parametrize("section", ["", "train:\n", "datasets:\n", "val:\n"])
def test_only_the_first_of_many_problems_are_listed(tmp_path: Path, section: str):
    keys = "\n".join(f"{'  ' if section else ''}nonsense{i}: {i}" for i in range(3000))
    text = refusal(tmp_path, (section + keys).encode())
    assert MOST < text.count("\n") + 1 <= MOST + 8
    assert re.search(r"and \d+ more problem", text)
    assert "nonsense0: is unknown." in text


def test_long_names_and_values_are_cut_in_messages(tmp_path: Path):
    text = refusal(tmp_path, b"name: " + b"../" * 30_000 + b"\n" + b"x" * 900 + b": 1\n")
    assert "../../" in text
    assert "letters, digits" in text  # what is accepted is still said
    assert "xxx ... xxx" in text


def test_the_closest_name_is_sought_for_what_may_be_a_name():
    start = time.process_time()
    assert did_you_mean("pixel" * 100_000, ["pixel_opt", "pixel" * 10]) == ""
    assert did_you_mean("pixel_otp", ["pixel_opt"]) == " Did you mean 'pixel_opt'?"
    assert time.process_time() - start < 0.5
