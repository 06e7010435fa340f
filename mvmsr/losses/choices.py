"""Checks of the losses' options, with one wording for their errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mvmsr.registry import did_you_mean


def one_of(name: str, value: object, accepted: Iterable[str]) -> str:
    """`value`, which must be among `accepted`.

    >>> one_of("reduction", "mean", ("mean", "sum"))
    'mean'

    Raises:
        ValueError: it is not; the message names the option, the value, what is accepted and the closest.
    """
    known = list(accepted)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}; got {value!r}.{did_you_mean(str(value), known)}")
    return value


def from_preset(
    preset: str | None,
    presets: Mapping[str, Mapping[str, str]],
    explicit: Mapping[str, str | None],
    defaults: Mapping[str, str],
) -> dict[str, str]:
    """Values of the options that a preset fixes, or of those given one by one.

    >>> from_preset("paper", {"paper": {"hinge": "relu"}}, {"hinge": None}, {"hinge": "softplus"})
    {'hinge': 'relu'}

    Args:
        preset: name of a preset, or None.
        presets: what each preset fixes.
        explicit: the options as given by the caller; None means not given.
        defaults: values of the options that neither says.

    Raises:
        ValueError: the preset is unknown, or an option was given that contradicts it.
    """
    if preset is None:
        return {name: defaults[name] if value is None else value for name, value in explicit.items()}
    fixed = presets[one_of("preset", preset, presets)]
    for name, value in explicit.items():
        if value is not None and value != fixed[name]:
            raise ValueError(
                f"preset {preset!r} means {name} = {fixed[name]!r}, but {name} = {value!r} was given; "
                "leave one of the two out"
            )
    return dict(fixed)
