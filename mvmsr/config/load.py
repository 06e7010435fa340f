"""An options file and its overrides become one validated, frozen object."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mvmsr.config.basicsr_keys import translate
from mvmsr.config.errors import MOST, OptionsError, Problem
from mvmsr.config.kinds import other_command
from mvmsr.config.schema import TrainOptions, ValSet
from mvmsr.config.yaml_source import Keys, Source, apply_override, read_yaml, shown
from mvmsr.counting import counted
from mvmsr.registry import did_you_mean

_VAL_KEY = re.compile(r"val(_\w+)?")

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "tuple_type": "a list, such as [a, b]",
    "model_type": "a section of keys and values",
    "dict_type": "a section of keys and values",
}
"""What pydantic's errors ask for, in words of YAML."""


def load(path: str | Path, overrides: Sequence[str] = ()) -> TrainOptions:
    """Read, override and validate the options of a training run.

    Args:
        path: a YAML file with our keys or BasicSR 1.4's.
        overrides: assignments such as `train.optim_g.lr=2e-4`; values are read as YAML, and `null` takes a key away.

    Raises:
        OptionsError: every problem at once, each with file, line, dotted key, value and what is accepted.
    """
    return validate(*read_options(path, "train", overrides))


def read_options(path: str | Path, command: str, overrides: Sequence[str]) -> tuple[dict[str, Any], Source]:
    """The plain values of an options file of `mvmsr COMMAND`, with overrides, and where they stand.

    Raises:
        OptionsError: the file cannot be read or is another command's, or an override cannot be made.
    """
    values, source = read_yaml(Path(path))
    if wrong := other_command(values, command, Path(path)):
        raise OptionsError([Problem(str(path), "", wrong)])
    for assignment in overrides:
        apply_override(values, assignment, source)
    return values, source


def validate(values: dict[str, Any], source: Source) -> TrainOptions:
    """Options from plain values (see `load`)."""
    values, problems = translate(values, source)
    problems += _unknown_names(values, source)
    try:
        options = TrainOptions.model_validate(values)
    except ValidationError as error:
        raise OptionsError([*problems, *_problems(error, values, source)]) from error
    if problems:
        raise OptionsError(problems)
    options._source = source
    return options


def _unknown_names(values: dict[str, Any], source: Source) -> list[Problem]:
    """Keys of the two sections that take names of one's own, but not any name."""
    problems = []
    for section, fits, hint in (
        ("train", lambda key: key.endswith("_opt"), "Loss terms end in `_opt`."),
        ("datasets", _VAL_KEY.fullmatch, "Sets to validate on are called val, val_2, ..."),
    ):
        known = _fields((section,))
        inner = values.get(section)
        unknown = (key for key in inner if key not in known and not fits(key)) if isinstance(inner, dict) else ()
        for key in islice(unknown, MOST):
            accepted = f"Accepted here: {', '.join(known)}. {hint}"
            problems.append(source.problem((section, key), f"is unknown.{did_you_mean(key, known)} {accepted}"))
    return problems


def _problems(error: ValidationError, values: dict[str, Any], source: Source) -> list[Problem]:
    unknown = {problem.key for problem in _unknown_names(values, source)}
    found = problems_of(error, values, source, TrainOptions)
    return [problem for problem in found if ".".join(problem.key.split(".")[:2]) not in unknown]


def problems_of(
    error: ValidationError, values: dict[str, Any], source: Source, model: type[BaseModel]
) -> list[Problem]:
    """One problem for every key, also where several branches of a union refused its value."""
    by_keys: dict[Keys, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        keys = tuple(str(part) for part in details["loc"])
        if details["type"] != "missing":
            keys = _written(values, keys)
        by_keys.setdefault(keys, []).append(details)
    found_first = islice(by_keys.items(), MOST)
    problems = [source.problem(keys, _message(keys, found, model)) for keys, found in found_first]
    if (more := len(by_keys) - MOST) > 0:
        problems.append(Problem(source.path, "", f"and {counted(more, 'more problem')}"))
    return problems


def _written(values: Any, location: Keys) -> Keys:
    """The part of a location that stands in the file; pydantic's may end in the name of a union's branch."""
    keys: list[str] = []
    for part in location:
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, tuple) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        else:
            break
        keys.append(part)
    return tuple(keys)


def _message(keys: Keys, found: list[ErrorDetails], model: type[BaseModel]) -> str:
    first = found[0]
    if first["type"] == "missing":
        return "is required and missing"
    if first["type"] == "extra_forbidden":
        accepted = _fields(keys[:-1], model)
        hint = _deeper(keys[0], model) if len(keys) == 1 else ""
        hint = hint or did_you_mean(keys[-1], accepted)
        return f"is unknown.{hint} Accepted here: {', '.join(accepted)}."
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    value = first["input"]
    expected = " or ".join(dict.fromkeys(_expected(details) for details in found))
    hint = ""
    if isinstance(value, str):
        choices = [c for d in found for c in re.findall(r"'([^']*)'", str(d.get("ctx", {}).get("expected", "")))]
        hint = did_you_mean(value, choices)
    elif first["type"] == "string_type" and isinstance(value, (bool, int, float)):
        hint = "; put it in quotes"
    return f"expected {expected}, got {shown(value)}{hint}"


def _deeper(key: str, model: type[BaseModel]) -> str:
    """` Did you mean 'train.update'?` for a key at the top level that belongs into one section; else empty."""
    places = [f"train.{key}"] if key.endswith("_opt") and "train" in model.model_fields else _places(key, model)
    return f" Did you mean {places[0]!r}?" if len(places) == 1 else ""


def _places(key: str, model: type[BaseModel]) -> list[str]:
    """The dotted keys of all sections that have a key of that name."""
    found = []
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            found += [f"{name}.{key}"] if key in section.model_fields else []
            found += [f"{name}.{place}" for place in _places(key, section)]
    return found


def _expected(details: ErrorDetails) -> str:
    message = details["msg"].removeprefix("Input should be ")
    message = _EXPECTED.get(details["type"], message)
    return f"a number {message}" if message.startswith(("greater", "less")) else message


def _fields(keys: Keys, model: type[BaseModel] = TrainOptions) -> list[str]:
    """The keys that the section at `keys` accepts."""
    for key in keys:
        field = model.model_fields.get(key)
        if field is None:
            return list(ValSet.model_fields)
        assert isinstance(field.annotation, type)
        model = field.annotation
    return list(model.model_fields)
