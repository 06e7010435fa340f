"""An options file and its overrides become one validated, frozen object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mvmsr.config.basicsr_keys import translate
from mvmsr.config.errors import OptionsError, Problem
from mvmsr.config.schema import TrainOptions
from mvmsr.config.yaml_source import Source, apply_override, read_yaml
from mvmsr.registry import did_you_mean


def load(path: str | Path, overrides: Sequence[str] = ()) -> TrainOptions:
    """Read, override and validate the options of a training run.

    Args:
        path: a YAML file with our keys or BasicSR 1.4's.
        overrides: assignments such as `train.optim_g.lr=2e-4`; values are read as YAML.

    Raises:
        OptionsError: every problem at once, each with file, line, dotted key, value and what is accepted.
    """
    values, source = read_yaml(Path(path))
    for assignment in overrides:
        apply_override(values, assignment, source)
    return validate(translate(values, source), source)


def validate(values: dict[str, Any], source: Source) -> TrainOptions:
    """Options from plain values (see `load`)."""
    problems = [
        source.problem(
            ("train", key), f"is unknown.{_suggest(key, TrainOptions, ('train',))} Loss terms end in `_opt`."
        )
        for key in _train_section(values)
        if key not in _fields(TrainOptions, ("train",)) and not key.endswith("_opt")
    ]
    if problems:
        raise OptionsError(problems)
    try:
        options = TrainOptions.model_validate(values)
    except ValidationError as error:
        raise OptionsError([_problem(details, source) for details in error.errors(include_url=False)]) from error
    options._source = source
    return options


def _train_section(values: dict[str, Any]) -> dict[str, Any]:
    section = values.get("train")
    return section if isinstance(section, dict) else {}


def _problem(details: ErrorDetails, source: Source) -> Problem:
    # Locations may end in the name of a union's branch; keep what the user wrote.
    location = [str(part) for part in details["loc"]]
    written = {*source.lines, *source.overridden}
    if details["type"] not in ("missing", "extra_forbidden"):
        while len(location) > 1 and tuple(location) not in written and tuple(location[:-1]) in written:
            location.pop()
    keys = tuple(location)
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if details["type"] == "extra_forbidden":
        parent, key = keys[:-1], keys[-1]
        accepted = ", ".join(_fields(TrainOptions, parent))
        return source.problem(keys, f"is unknown.{_suggest(key, TrainOptions, parent)} Accepted here: {accepted}.")
    if details["type"] == "missing":
        return source.problem(keys, "is required and missing")
    if details["type"] == "value_error":
        return source.problem(keys, message)
    return source.problem(keys, f"expected {message}, got {details['input']!r}")


def _fields(model: type[BaseModel], keys: tuple[str, ...]) -> list[str]:
    """The keys that the section at `keys` accepts."""
    for key in keys:
        field = model.model_fields.get(key)
        if field is None:
            from mvmsr.config.schema import ValSet

            return list(ValSet.model_fields) if key.startswith("val") else []
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return list(model.model_fields)


def _suggest(key: str, model: type[BaseModel], parent: tuple[str, ...]) -> str:
    return did_you_mean(key, _fields(model, parent))
