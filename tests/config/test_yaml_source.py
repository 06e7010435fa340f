"""What YAML texts mean, and which are refused."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmsr.config import OptionsError
from mvmsr.config.yaml_source import LARGEST, Source, apply_override, parse_yaml, read_yaml, shown, write_yaml


def parse(text):
    return parse_yaml(text, Source("o.yml"))


def refusal(text):
    with pytest.raises(OptionsError) as caught:
        parse(text)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e-4", 1e-4), ("5E3", 5000.0), ("+2e+1", 20.0), (".5", 0.5), ("-.5e1", -5.0), ("2.", 2.0), ("-1", -1)),
        *(("0", 0), ("-0", 0), ("1_000", 1000), ("0x1F", 31), ("0b101", 5), ("!!float 4e5", 4e5), ("!!float 3", 3.0)),
        *(("!!int 7", 7), ("!!str 7", "7"), ("'7'", "7"), ("!!float 1e-7", 1e-7)),
        # Text to us, though YAML 1.1 reads an octal number, sexagesimal ones and a date.
        *(("010", "010"), ("007", "007"), ("1:30", "1:30"), ("2024-05-01", "2024-05-01"), ("12:30:45", "12:30:45")),
        *(("1_000.5", "1_000.5"), ("1e", "1e"), ("e5", "e5"), (".", "."), ("-", (None,)), ("1.2.3", "1.2.3")),
        *(("=", "="), ("a=b", "a=b"), ("{}x4", None)),
        *(("true", True), ("False", False), ("yes", True), ("off", False), ("~", None), ("null", None), ("", None)),
        *(("'~'", "~"), ("y", "y"), ("[1, 2e1, a]", (1, 20.0, "a")), ("[]", ()), ("{}", {}), ("{a: [{b: 1}]}", None)),
    ],
)
def test_scalars(text, value):
    if text == "{}x4":  # a flow mapping with something behind it
        assert "not valid YAML" in str(refusal(text))
        return
    expected = {"a": ({"b": 1},)} if text.startswith("{a") else value
    found = parse(text)
    assert found == expected
    assert type(found) is type(expected)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_as_python_writes_it_is_that_number(number):
    assert parse(repr(number)) == number


@given(st.integers(-LARGEST, LARGEST))
def test_every_whole_number_is_that_number(number):
    found = parse(str(number))
    assert found == number
    assert isinstance(found, int)


def test_keys_are_names_as_they_are_written():
    assert parse("{on: 1, 1: 2, null: 3, 1e4: 4, 'a b': 5}") == {"on": 1, "1": 2, "null": 3, "1e4": 4, "a b": 5}


def test_lines_of_keys_are_remembered():
    source = Source("o.yml")
    parse_yaml("a: 1\nb:\n  c: {d: 2,\n     e: 3}\n", source)
    assert source.lines == {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", "d"): 3, ("b", "c", "e"): 4}
    assert source.where(("b", "c", "e")) == "o.yml:4"
    assert source.where(("b", "c", "unwritten", "deep")) == "o.yml:3"
    assert source.where(("nowhere",)) == "o.yml"


def test_anchors_make_copies_that_do_not_share_state():
    values = parse("a: &x {lr: 1}\nb: *x\n")
    apply_override(values, "b.lr=2", Source("o.yml"))
    assert values == {"a": {"lr": 1}, "b": {"lr": 2}}


def test_merged_sections_yield_to_keys_of_their_own_and_to_earlier_ones():
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {z: 9, <<: [*a, *b]}\nd: {<<: *a, y: 5}\ne: {<<: *a}\n"
    values = parse(text)
    assert values["c"] == {"x": 1, "y": 1, "z": 9}
    assert values["d"] == {"x": 1, "y": 5}
    assert values["e"] == values["a"] == {"x": 1, "y": 1}


@pytest.mark.parametrize(
    ("text", "where", "key", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "o.yml:3", "a", "twice"),
        ("t:\n  x: {lr: 1,\n      lr: 1}\n", "o.yml:3", "t.x.lr", "twice"),
        ("1: a\n'1': b\n", "o.yml:2", "1", "twice"),
        ("a:\n  b: !!python/object/apply:os.system [ls]\n", "o.yml:2", "a.b", "tag !!python/object/apply:os.system"),
        ("a: !!python/object:os.path {}\n", "o.yml:1", "a", "tag !!python/object:os.path"),
        ("a: !!python/tuple [1]\n", "o.yml:1", "a", "tag !!python/tuple"),
        ("a: !!python/name:os.system\n", "o.yml:1", "a", "tag"),
        ("a: !!binary aGk=\n", "o.yml:1", "a", "tag !!binary"),
        ("a: !!set {b}\n", "o.yml:1", "a", "tag !!set"),
        ("a: !!omap [b: 1]\n", "o.yml:1", "a", "tag !!omap"),
        ("a: !!timestamp 2024-05-01\n", "o.yml:1", "a", "tag !!timestamp"),
        ("a: !mine 5\n", "o.yml:1", "a", "tag !mine"),
        ("!!python/name:os.system : 5\n", "o.yml:1", "", "name as key"),
        ("? [a, b]\n: 5\n", "o.yml:1", "", "name as key"),
        ("a: {<<: 5}\n", "o.yml:1", "a", "merges a section in, got 5"),
        ("a: 0\nb: !!int five\n", "o.yml:2", "b", "'five' cannot be read as !!int"),
        ("a: !!bool maybe\n", "o.yml:1", "a", "'maybe' cannot be read as !!bool"),
        ("a: !!float x\n", "o.yml:1", "a", "cannot be read as !!float"),
        ("a: .inf\n", "o.yml:1", "a", "finite"),
        ("a: [1, -.INF]\n", "o.yml:1", "a", "finite"),
        ("a: .nan\n", "o.yml:1", "a", "finite"),
        ("a: 1e999\n", "o.yml:1", "a", "finite"),
        ("a: 9223372036854775808\n", "o.yml:1", "a", "at most 9223372036854775807"),
        ("a: -9223372036854775808\n", "o.yml:1", "a", "at most 9223372036854775807"),
        ("a: 0x" + "f" * 5000, "o.yml:1", "a", "at most"),
        ("a: " + "9" * 5000, "o.yml:1", "a", "cannot be read as !!int"),
        ("a: 1\nb: [1, 2\n", "o.yml:3", "", "not valid YAML"),
        ("a:\n\t- b\n", "o.yml:2", "", "indent with spaces, not with tabs"),
        ("a: 1\n  b: 2\n", "o.yml:2", "", "check the indentation of this line and the one above"),
        ("a: *nobody\n", "o.yml:1", "", "undefined alias"),
        ("a: 1\n---\nb: 2\n", "o.yml:2", "", "not valid YAML"),
        ("a: \x00\n", "o.yml", "", "not valid YAML"),
        ("a: \udc80\n", "o.yml", "", "not valid YAML"),
        ("a: &x {b: *x}\n", "o.yml:1", None, "nested deeper"),
        ("a: " + "[" * 60 + "]" * 60, "o.yml:1", "", "nested deeper"),
        ("a:\n" + "".join(" " * n + "- \n" for n in range(60)), "o.yml:51", "", "nested deeper"),
        ("{a: " * 5000, "o.yml:1", "", "nested deeper"),
    ],
)
def test_refused(text, where, key, message):
    problem = refusal(text)
    assert problem.where == where
    assert key is None or problem.key == key
    assert message in problem.message


def test_an_alias_bomb_is_refused_at_once():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    start = time.process_time()
    problem = refusal("\n".join(lines))
    assert time.process_time() - start < 3  # all of it would be 10^12 values
    assert "more than 5000 values" in problem.message
    merges = ["a0: &a0 {x: 1}"]
    merges += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
    assert "more than 5000 values" in refusal("\n".join(merges)).message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a mapping of options, such as `name: my_run`; got an empty file"),
        (b"# nothing but a remark\n", "an empty file"),
        (b"- a\n- b\n", "expected a mapping of options, such as `name: my_run`; got ('a', 'b')"),
        (b"just text", "got 'just text'"),
        (b"\xff\xfe\x00n", "cannot read the options file: 'utf-8' codec"),
        (b"name: \x89PNG\r\n", "cannot read the options file: 'utf-8' codec"),
        (b"PK\x03\x04\x00\x00", "not valid YAML"),
    ],
)
def test_files_that_are_not_options(tmp_path, content, message):
    path = tmp_path / "o.yml"
    path.write_bytes(content)
    with pytest.raises(OptionsError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_toml_is_told_from_damaged_yaml(tmp_path):
    path = tmp_path / "train.toml"
    path.write_text('name = "x"\n[train]\ntotal_iter = 5\n')
    with pytest.raises(OptionsError, match=r"train\.toml: this is a TOML file, such as neosr's; options are YAML"):
        read_yaml(path)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    path = tmp_path / "o.yml"
    path.write_bytes("\ufeffname: größe\r\nscale: 4\r\n".encode())
    values, source = read_yaml(path)
    assert values == {"name": "größe", "scale": 4}
    assert source.lines[("scale",)] == 2


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("a.lr=2e-4", {"a": {"lr": 2e-4, "k": 1}, "t": 3}),
        (" a.lr =2", {"a": {"lr": 2, "k": 1}, "t": 3}),
        ("a={lr: 5}", {"a": {"lr": 5}, "t": 3}),
        ("a.betas=[0.9, 1]", {"a": {"lr": 1, "k": 1, "betas": (0.9, 1)}, "t": 3}),
        ("new.deep.key=yes", {"a": {"lr": 1, "k": 1}, "t": 3, "new": {"deep": {"key": True}}}),
        ("a=null", {"a": None, "t": 3}),
        ("t=", {"a": {"lr": 1, "k": 1}, "t": None}),
        ("t=a=b", {"a": {"lr": 1, "k": 1}, "t": "a=b"}),
        ("t='7'", {"a": {"lr": 1, "k": 1}, "t": "7"}),
    ],
)
def test_overrides_are_typed_create_sections_and_replace(assignment, expected):
    values = {"a": {"lr": 1, "k": 1}, "t": 3}
    apply_override(values, assignment, Source("o.yml"))
    assert values == expected


def test_a_section_that_was_removed_can_be_made_again():
    values, source = {"a": {"lr": 1}}, Source("o.yml")
    for assignment in ("a=null", "a.lr=2"):
        apply_override(values, assignment, source)
    assert values == {"a": {"lr": 2}}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("a.lr", "--set a.lr: expected key=value, such as train.optim_g.lr=2e-4"),
        ("", "expected key=value"),
        ("=5", "expected key=value"),
        ("a..lr=5", "expected key=value"),
        ("a.=5", "expected key=value"),
        ("t.x.y=5", "--set t.x.y=5: t: is the value 3, not a section that could hold x"),
        ("a.lr.x=5", "--set a.lr.x=5: a.lr: is the value 1, not a section that could hold x"),
        ("a.k=[1, 2", "--set a.k=[1, 2: a.k: not valid YAML"),
        ("a.k={b: 1, b: 2}", "--set a.k={b: 1, b: 2}: a.k.b: this key stands here twice"),
        ("a.k=!!python/name:os.system", "a.k: the tag !!python/name:os.system is not for options"),
    ],
)
def test_overrides_that_make_no_sense(assignment, message):
    values = {"a": {"lr": 1}, "t": 3}
    with pytest.raises(OptionsError) as caught:
        apply_override(values, assignment, Source("o.yml"))
    assert message in str(caught.value)
    assert values == {"a": {"lr": 1}, "t": 3}


def test_problems_of_overridden_values_name_the_override_not_a_line():
    source = Source("o.yml")
    values = parse_yaml("a:\n  b:\n    c: 1\n  d: 2\n", source)
    apply_override(values, "a.b={c: 5, e: 6}", source)
    assert source.where(("a", "b", "c")) == "--set a.b"
    assert source.where(("a", "d")) == "o.yml:4"
    apply_override(values, "a.b.c=7", source)
    assert source.where(("a", "b", "c")) == "--set a.b.c"
    assert source.where(("a", "b", "e")) == "--set a.b"
    apply_override(values, "a={}", source)
    assert source.where(("a", "b", "c")) == "--set a"


def test_long_values_are_cut_for_messages():
    assert shown("short") == "'short'"
    assert len(shown("x" * 1000)) == 100
    assert shown("x" * 1000).endswith("...")


@given(st.text() | st.text(alphabet="{}[]:,-&*!#'\"|>? \n\tab1.e~<=%@`"))
def test_any_text_is_a_value_or_a_refusal(text):
    try:
        value = parse(text)
    except OptionsError as error:
        value = None
        problems = error.problems
    else:
        problems = ()
    assert isinstance(value, (dict, tuple, str, int, float, bool, type(None)))
    assert all(problem.message for problem in problems)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.one_of(
            st.sampled_from(
                ["1e4", "1e-4", "1:30", "010", "0x1f", "null", "yes", "2024-05-01", ".5", "1_000", "=", "~"]
            ),
            st.floats(allow_nan=False, allow_infinity=False),
            st.integers(-(2**62), 2**62),
            st.booleans(),
            st.text(alphabet="0123456789eE+-._xab:", min_size=1, max_size=6),
        ),
        min_size=1,
    )
)
def test_what_is_written_is_read_as_it_was(values):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.yml"
        path.write_text(write_yaml(values), encoding="utf-8")
        again = read_yaml(path)[0]
    assert again == values
    assert {key: type(value) for key, value in again.items()} == {key: type(value) for key, value in values.items()}
