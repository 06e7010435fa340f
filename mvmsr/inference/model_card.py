"""Model cards: what a weights file tells its users about itself, in its own metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from mvmsr.inference.weights_file import WeightsError, WeightsInfo
from mvmsr.registry import did_you_mean

CARD = {
    "title": "one line: what it is",
    "good_for": "the images it suits",
    "not_for": "the images it does not suit",
    "trained_on": "data, degradation, iterations, options file",
    "scores": "measured, with protocol and data sets",
    "speed": "measured, with the machine",
    "licence": "of the weights and of what they were trained on",
    "date": "when it was made",
    "default": "yes: used where no model is named",
}
"""What a card may say, in the order in which it is shown."""


def card_of(info: WeightsInfo) -> dict[str, str]:
    """The card's entries in their order; empty where a file has none."""
    return {key: info.extra[key] for key in CARD if info.extra.get(key)}


def is_default(info: WeightsInfo) -> bool:
    """Whether a card claims to be the built-in model to use where none is named."""
    return info.extra.get("default", "").lower() == "yes"


def read_card(path: Path) -> dict[str, str]:
    """A card written as YAML: texts by the keys of `CARD`.

    Raises:
        WeightsError: the file cannot be read, or holds other keys or values.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # texts stay texts: dates, yes and no
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WeightsError(f"{path}: cannot be read as a model card ({str(error).splitlines()[0]})") from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: a model card is lines of `key: text`, with the keys {', '.join(CARD)}")
    for key, value in content.items():
        if key not in CARD:
            raise WeightsError(f"{path}: unknown key {key!r}.{did_you_mean(str(key), CARD)} Known: {', '.join(CARD)}")
        if not isinstance(value, str):
            raise WeightsError(f"{path}: {key} must be a text, got {value!r}")
    return dict(content)
