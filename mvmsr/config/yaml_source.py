"""YAML to plain values, remembering the line of every key so that errors can name it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mvmsr.config.errors import OptionsError, Problem

Keys = tuple[str, ...]

# Aliases make a document's tree larger than its text; a hostile file could make it exponentially so.
_MAX_NODES = 100_000


class _Loader(yaml.SafeLoader):
    """PyYAML follows YAML 1.1, where `1e-4` is a string; here it is the number that everybody means."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


@dataclass
class Source:
    """Where each key of a set of options was written: a line of the file, or a `--set` on the command line."""

    path: str
    lines: dict[Keys, int] = field(default_factory=dict)
    overridden: set[Keys] = field(default_factory=set)

    def where(self, keys: Keys) -> str:
        """`file:line` of the key, or of its nearest ancestor that was written down."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.overridden:
                return f"--set {'.'.join(keys[:length])}"
            if keys[:length] in self.lines:
                return f"{self.path}:{self.lines[keys[:length]]}"
        return self.path

    def problem(self, keys: Keys, message: str) -> Problem:
        """A problem with the value at `keys`."""
        return Problem(self.where(keys), ".".join(keys), message)


def read_yaml(path: Path) -> tuple[dict[str, Any], Source]:
    """A YAML file's mapping and the lines of its keys; sequences become tuples.

    Raises:
        OptionsError: the file cannot be read, is not YAML, is not a mapping, or names a key twice.
    """
    source = Source(str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError([Problem(str(path), "", f"cannot read the options file: {error}")]) from error
    value = parse_yaml(text, source)
    if not isinstance(value, dict):
        raise OptionsError([Problem(str(path), "", "expected a mapping of options, such as `name: my_run`")])
    return value, source


def parse_yaml(text: str, source: Source) -> Any:
    """The value of a YAML text; the lines of its keys are added to `source`.

    Raises:
        OptionsError: the text is not YAML, uses tags, or names a key twice.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return _construct(loader, node, (), source, [0]) if node is not None else None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, OptionsError):
            raise
        mark = getattr(error, "problem_mark", None)
        where = f"{source.path}:{mark.line + 1}" if mark else source.path
        raise OptionsError(
            [Problem(where, "", f"not valid YAML: {getattr(error, 'problem', None) or error}")]
        ) from error
    finally:
        loader.dispose()


def _construct(loader: _Loader, node: yaml.Node, keys: Keys, source: Source, count: list[int]) -> Any:
    count[0] += 1
    if count[0] > _MAX_NODES:
        raise OptionsError([source.problem(keys, f"the document has more than {_MAX_NODES} values; is it options?")])
    if isinstance(node, yaml.SequenceNode):
        return tuple(_construct(loader, child, keys, source, count) for child in node.value)
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    loader.flatten_mapping(node)
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(loader.construct_object(key_node))
        if key in mapping:
            line = key_node.start_mark.line + 1
            raise OptionsError([Problem(f"{source.path}:{line}", ".".join((*keys, key)), "this key stands here twice")])
        source.lines[(*keys, key)] = key_node.start_mark.line + 1
        mapping[key] = _construct(loader, value_node, (*keys, key), source, count)
    return mapping


def apply_override(values: dict[str, Any], assignment: str, source: Source) -> None:
    """Set one value in place from `a.b.c=value`, where the value is read as YAML (`1e-4` is a number).

    Raises:
        OptionsError: there is no `=`, or the key runs through something that is not a mapping.
    """
    dotted, equals, text = assignment.partition("=")
    keys = tuple(dotted.strip().split("."))
    if not equals or not all(keys):
        raise OptionsError([Problem(f"--set {assignment}", "", "expected key=value, such as train.optim_g.lr=2e-4")])
    target = values
    for depth, key in enumerate(keys[:-1], start=1):
        if target.get(key) is None:
            target[key] = {}
        target = target[key]
        if not isinstance(target, dict):
            raise OptionsError([Problem(f"--set {assignment}", ".".join(keys[:depth]), "is a value, not a section")])
    target[keys[-1]] = parse_yaml(text, Source(f"--set {dotted}"))
    source.overridden.add(keys)
