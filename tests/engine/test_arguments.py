"""Arguments against signatures, before anything is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from mvmsr.engine.arguments import accepted_arguments, argument_problems


class Example:
    """A constructor with one parameter of each kind."""

    def __init__(
        self,
        num_feat: int,
        rate: float = 1.0,
        kind: Literal["a", "b"] = "a",
        sizes: list[int] | None = None,
        pair: tuple[int, int] = (1, 2),
        roots: str | list[str] = "x",
        where: str | Path | None = None,
        flag: bool = False,
        anything: Any = None,
        untyped=None,
    ) -> None:
        raise AssertionError("checking calls nothing")


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"rate": 2},
        {"kind": "b"},
        {"sizes": (1, 2)},  # as a YAML sequence comes
        {"sizes": [1, 2]},
        {"sizes": None},
        {"pair": (3, 4)},
        {"roots": "one"},
        {"roots": ("one", "two")},
        {"where": "folder"},
        {"where": Path("folder")},
        {"flag": True},
        {"anything": Exception},
        {"untyped": {1: 2}},
    ],
    ids=str,
)
def test_what_is_accepted(args: dict[str, Any]) -> None:
    assert argument_problems(Example, {"num_feat": 8, **args}) == []


@pytest.mark.parametrize(
    ("args", "name", "message"),
    [
        (
            {"num_fet": 8, "num_feat": 8},
            "num_fet",
            "is unknown to Example. Did you mean 'num_feat'? It accepts: ",
        ),
        ({"zzz": 8, "num_feat": 8}, "zzz", "is unknown to Example. It accepts: num_feat, rate, kind, "),
        ({}, "num_feat", "is required by Example and missing"),
        ({"num_feat": "8"}, "num_feat", "expected a valid integer, got '8'"),
        ({"num_feat": 8.0}, "num_feat", "expected a valid integer, got 8.0"),
        ({"num_feat": True}, "num_feat", "expected a valid integer, got True"),
        ({"num_feat": 8, "rate": "fast"}, "rate", "expected a valid number, got 'fast'"),
        ({"num_feat": 8, "kind": "c"}, "kind", "expected 'a' or 'b', got 'c'"),
        ({"num_feat": 8, "sizes": ("x",)}, "sizes", "expected a valid integer, got ('x',)"),
        ({"num_feat": 8, "sizes": 3}, "sizes", "expected a valid list, got 3"),
        ({"num_feat": 8, "flag": 1}, "flag", "expected a valid boolean, got 1"),
        ({"num_feat": None}, "num_feat", "expected a valid integer, got None"),
    ],
)
def test_what_is_refused(args: dict[str, Any], name: str, message: str) -> None:
    ((where, text),) = argument_problems(Example, args)
    assert where == name
    assert text.startswith(message)


def test_all_problems_at_once() -> None:
    assert [name for name, _ in argument_problems(Example, {"kind": 3, "rats": 1})] == ["rats", "num_feat", "kind"]


def test_arguments_that_the_caller_adds() -> None:
    assert argument_problems(Example, {}, supplied=("num_feat",)) == []
    ((name, message),) = argument_problems(Example, {"num_feat": 8}, supplied=("num_feat",))
    assert name == "num_feat"
    assert "is unknown" in message


def test_functions_and_open_ends() -> None:
    def closed(a: int, *, b: str = "x") -> None: ...

    def open_ended(a: int, **others: int) -> None: ...

    assert argument_problems(closed, {"a": 1, "b": "y"}) == []
    assert argument_problems(open_ended, {"a": 1, "c": 2}) == []
    assert [n for n, _ in argument_problems(open_ended, {"c": 2})] == ["a"]


def test_annotations_for_type_checkers_only_are_no_obstacle() -> None:
    def odd(a: NoSuchName, b: int = 1) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert argument_problems(odd, {"a": 1, "b": "text"}) == []
    assert [n for n, _ in argument_problems(odd, {"c": 1})] == ["c", "a"]


def test_accepted_arguments() -> None:
    function: Callable[..., None] = lambda a, b=1: None  # noqa: E731
    assert accepted_arguments(function, {"a": 1, "c": 2}) == {"a": 1}
