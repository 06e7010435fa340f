"""Arguments from an options file, checked against a constructor before anything is built."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mvmsr.registry import did_you_mean


def argument_problems(
    constructor: Callable[..., Any], args: dict[str, Any], supplied: Collection[str] = (), called: str | None = None
) -> list[tuple[str, str]]:
    """What is wrong with calling `constructor(**args)`, as (argument name, message); empty when it may be called.

    Args:
        constructor: a class or function.
        args: the arguments as written in the options.
        supplied: names of arguments that the caller adds by itself.
        called: what the options call the constructor, where that is not its name.
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(constructor).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    open_ended = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(constructor).parameters.values())
    accepted = [name for name in parameters if name not in supplied]
    name_of_type = called or getattr(constructor, "__name__", str(constructor))
    problems = []
    for name in args:
        if name not in accepted and not open_ended:
            hint = did_you_mean(name, accepted)
            problems.append(
                (name, f"is unknown to {name_of_type}.{hint} It accepts: {', '.join(accepted) or 'nothing'}.")
            )
    for name in accepted:
        if parameters[name].default is inspect.Parameter.empty and name not in args:
            problems.append((name, f"is required by {name_of_type} and missing"))
    hints = _type_hints(constructor)
    for name, value in args.items():
        if name in accepted and name in hints and (message := _type_problem(value, hints[name])):
            problems.append((name, message))
    return problems


def _type_hints(constructor: Callable[..., Any]) -> dict[str, Any]:
    function = constructor.__init__ if inspect.isclass(constructor) else constructor
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):  # annotations that exist for type checkers only
        return {}


def _type_problem(value: Any, hint: Any) -> str:
    try:
        TypeAdapter(hint, config=ConfigDict(strict=True, arbitrary_types_allowed=True)).validate_python(
            _lists(value, hint)
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"expected {first['msg'].removeprefix('Input should be ')}, got {value!r}"
    return ""


def _lists(value: Any, hint: Any) -> Any:
    """Sequences come from YAML as tuples; a `list[...]` hint means them too."""
    if isinstance(value, tuple) and "list" in str(hint).lower():
        return list(value)
    return value


def accepted_arguments(function: Callable[..., Any], args: dict[str, Any]) -> dict[str, Any]:
    """Those of `args` that `function` has parameters for."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in args.items() if name in parameters}
