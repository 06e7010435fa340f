"""YAML to plain values, remembering the line of every key so that errors can name it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError

from mvmsr.config.errors import OptionsError, Problem
from mvmsr.config.unreadable import why_unreadable

Keys = tuple[str, ...]

# Real options files have some hundred values in some kilobytes. Beyond these limits, reading would take seconds; and
# aliases make a document's tree larger than its text, in a hostile file exponentially so.
_MAX_BYTES = 2**18
_MAX_NODES = 5_000
_MAX_DEPTH = 50

LARGEST = 2**63 - 1
"""The largest whole number in options; what they end up in (tensors, seeds, JSON readers) takes no more."""

_TAG = "tag:yaml.org,2002:"
_SCALARS = tuple(_TAG + name for name in ("null", "bool", "int", "float", "str"))


class _Loader(yaml.SafeLoader):
    """PyYAML follows YAML 1.1, in which `1e-4` is text, `1:30` is 90, `010` is 8 and `2024-05-01` is a date.

    Here the first is the number that everybody means, and the others are text, as run names are.
    """

    _depth = 0
    _count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """As PyYAML's, but refuses deep nesting and many values, on which it would spend seconds."""
        self._depth += 1
        self._count += 1
        mark = self.peek_event().start_mark
        if self._depth > _MAX_DEPTH:
            raise ComposerError(None, None, f"nested deeper than {_MAX_DEPTH} levels; is it options?", mark)
        if self._count > 2 * _MAX_NODES:  # a value has a key
            raise ComposerError(None, None, f"more than {_MAX_NODES} values; is it options?", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in (_TAG + "null", _TAG + "bool", _TAG + "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Quotes text that either YAML 1.1 or `_Loader` would take for a number."""


_NUMBERS = (
    (_TAG + "int", re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+|0b[01]+)\Z"), "-+0123456789"),
    (
        _TAG + "float",
        re.compile(
            r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?\Z|[-+]?[0-9]+[eE][-+]?[0-9]+\Z"
            r"|[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z"
        ),
        "-+0123456789.",
    ),
)
for _tag, _pattern, _first in _NUMBERS:
    _Loader.add_implicit_resolver(_tag, _pattern, list(_first))
    _Dumper.add_implicit_resolver(_tag, _pattern, list(_first))


@dataclass
class Source:
    """Where each key of a set of options was written: a line of the file, or a `--set` on the command line.

    Options are equal when their values are, wherever they were written; so all sources compare equal.
    """

    path: str = field(compare=False)
    lines: dict[Keys, int] = field(default_factory=dict, compare=False)
    overridden: set[Keys] = field(default_factory=set, compare=False)

    def where(self, keys: Keys) -> str:
        """`file:line` or `--set KEY` of the key, or of its nearest ancestor that was written down.

        A section that only a `--set` of a key within it has made was written there.
        """
        for length in range(len(keys), 0, -1):
            above = keys[:length]
            if above in self.lines:
                return f"{self.path}:{self.lines[above]}"
            if within := [k for k in self.overridden if k[:length] == above]:
                return f"--set {'.'.join(min(within))}"
        return self.path

    def problem(self, keys: Keys, message: str) -> Problem:
        """A problem with the value at `keys`."""
        return Problem(self.where(keys), ".".join(keys), message)

    def override(self, keys: Keys) -> None:
        """From now on the value at `keys`, with all that is below it, comes from the command line."""
        self.lines = {k: line for k, line in self.lines.items() if k[: len(keys)] != keys}
        self.overridden = {k for k in self.overridden if k[: len(keys)] != keys} | {keys}


def write_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML that `read_yaml` reads as the same values."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def read_yaml(path: Path) -> tuple[dict[str, Any], Source]:
    """A YAML file's mapping and the lines of its keys; sequences become tuples.

    Raises:
        OptionsError: the file cannot be read, is not YAML, is not a mapping, or names a key twice.
    """
    source = Source(str(path))
    if path.suffix.lower() == ".toml":
        message = "this is a TOML file, such as neosr's; options are YAML with BasicSR's keys (docs/options.md)"
        raise OptionsError([Problem(str(path), "", message)])
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        text = data.decode("utf-8") if len(data) <= _MAX_BYTES else None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the path
        raise OptionsError([Problem(str(path), "", why_unreadable(path, error))]) from error
    if text is None:
        message = f"the file has more than {_MAX_BYTES // 1024} KiB; is it options?"
        raise OptionsError([Problem(str(path), "", message)])
    value = parse_yaml(text, source)
    if not isinstance(value, dict):
        found = "an empty file" if value is None else shown(value)
        message = f"expected a mapping of options, such as `name: my_run`; got {found}"
        raise OptionsError([Problem(str(path), "", message)])
    return value, source


def parse_yaml(text: str, source: Source) -> Any:
    """The value of a YAML text; the lines of its keys are added to `source`.

    Raises:
        OptionsError: the text is not YAML, uses tags or numbers that are not finite, or names a key twice.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return _Reader(loader, source).value(node, (), 0) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        where = f"{source.path}:{error.problem_mark.line + 1}" if error.problem_mark else source.path
        message = f"not valid YAML: {error.problem}{_remedy(str(error.problem))}"
        raise OptionsError([Problem(where, "", message)]) from error
    except yaml.YAMLError as error:
        raise OptionsError([Problem(source.path, "", f"not valid YAML: {' '.join(str(error).split())}")]) from error
    except OptionsError:
        raise
    except (ValueError, OverflowError) as error:  # PyYAML lets `"\UFFFFFFFF"` pass, and Python has no such character
        raise OptionsError([Problem(source.path, "", f"not valid YAML: {error}")]) from error


def _remedy(problem: str) -> str:
    """What to do about the mistakes that people make; empty for others."""
    if "'\\t'" in problem:
        return "; indent with spaces, not with tabs"
    if "mapping values are not allowed" in problem:
        return "; check the indentation of this line and the one above, and put text that holds `: ` in quotes"
    return ""


@dataclass
class _Reader:
    """Turns the nodes of one document into plain values."""

    loader: _Loader
    source: Source
    count: int = 0

    def value(self, node: yaml.Node, keys: Keys, depth: int) -> Any:
        self.count += 1
        if self.count > _MAX_NODES:
            raise self._error(node, keys, f"the document has more than {_MAX_NODES} values; is it options?")
        if depth > _MAX_DEPTH:
            raise self._error(node, keys, f"nested deeper than {_MAX_DEPTH} levels; is it options?")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, keys, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return tuple(self.value(child, keys, depth + 1) for child in node.value)
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node, keys)
        tag = node.tag.replace(_TAG, "!!")
        raise self._error(node, keys, f"the tag {tag} is not for options; write plain numbers, texts and lists")

    def _scalar(self, node: yaml.ScalarNode, keys: Keys) -> Any:
        try:
            value = self.loader.construct_object(node)
        except (ValueError, KeyError, IndexError, OverflowError) as error:  # `!!int five`, `!!float ''`
            tag = node.tag.replace(_TAG, "")
            raise self._error(node, keys, f"{shown(node.value)} cannot be read as !!{tag}") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise self._error(node, keys, f"expected a finite number, got {node.value}")
        if isinstance(value, int) and abs(value) > LARGEST:
            raise self._error(node, keys, f"expected a number of at most {LARGEST}, got {shown(node.value)}")
        return value

    def _mapping(self, node: yaml.MappingNode, keys: Keys, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                merged = {**self._merged(value_node, keys, depth), **merged}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _SCALARS:
                raise self._error(key_node, keys, "expected a name as key, such as `lr`")
            key = key_node.value  # as written: `on` and `1` are names here, not true and a number
            if key in own:
                raise self._error(key_node, (*keys, key), "this key stands here twice")
            self.source.lines[(*keys, key)] = key_node.start_mark.line + 1
            own[key] = self.value(value_node, (*keys, key), depth + 1)
        return {**merged, **own}

    def _merged(self, node: yaml.Node, keys: Keys, depth: int) -> dict[str, Any]:
        """What `<<: *anchor` or `<<: [*one, *other]` brings in; of two, the first one's values stand."""
        value = self.value(node, keys, depth + 1)
        result: dict[str, Any] = {}
        for part in value if isinstance(value, tuple) else (value,):
            if not isinstance(part, dict):
                raise self._error(node, keys, f"`<<` merges a section in, got {shown(part)}")
            result = {**part, **result}
        return result

    def _error(self, node: yaml.Node, keys: Keys, message: str) -> OptionsError:
        where = f"{self.source.path}:{node.start_mark.line + 1}"
        return OptionsError([Problem(where, ".".join(keys), message)])


def apply_override(values: dict[str, Any], assignment: str, source: Source) -> None:
    """Set one value in place from `a.b.c=value`, where the value is read as YAML (`1e-4` is a number).

    Raises:
        OptionsError: there is no `=`, the value is not YAML, or the key runs through something that is not a mapping.
    """
    dotted, equals, text = assignment.partition("=")
    keys = tuple(part.strip() for part in dotted.split("."))
    if not equals or not all(keys):
        raise OptionsError([Problem(f"--set {assignment}", "", "expected key=value, such as train.optim_g.lr=2e-4")])
    try:
        value = parse_yaml(text, Source(""))
    except OptionsError as error:
        problem = error.problems[0]
        dotted = ".".join((*keys, problem.key) if problem.key else keys)
        raise OptionsError([Problem(f"--set {assignment}", dotted, problem.message)]) from error
    target = values
    for depth, key in enumerate(keys[:-1], start=1):
        if target.get(key) is None:
            target[key] = {}
        if not isinstance(target[key], dict):
            message = f"is the value {shown(target[key])}, not a section that could hold {keys[depth]}"
            raise OptionsError([Problem(f"--set {assignment}", ".".join(keys[:depth]), message)])
        target = target[key]
    target[keys[-1]] = value
    source.override(keys)


def shown(value: Any, length: int = 100) -> str:
    """The value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."
