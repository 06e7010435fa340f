"""Names in options files become classes here, and nowhere else.

A class joins by a decorator in its own file and one import line in its package's `__init__.py`:

    @ARCHS.register()
    class SRResNet(nn.Module): ...

Names that we do not have are looked up in BasicSR's registry of the same kind, where BasicSR is installed.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from mvmsr import basicsr_shim

T = TypeVar("T", bound=Callable[..., Any])


class RegistryError(LookupError):
    """A name that cannot be registered or found; the message lists what exists."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like another, in whatever case; None where none is."""
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower()[:200], by_lower, n=1, cutoff=0.6)  # slow for long names
    return by_lower[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest known name, or an empty string."""
    found = closest(name, known)
    return "" if found is None else f" Did you mean {found!r}?"


def comma_hint(name: str) -> str:
    """A line for an unknown name that may be several with commas between them; else an empty string."""
    several = " ".join(part.strip() for part in name.split(",") if part.strip())
    return f"\nSeveral are separated by spaces, without commas: {several}" if "," in name else ""


class Registry:
    """A mapping from type names to classes (or functions) of one kind.

    Args:
        kind: what the entries are, in words, for messages ("network").
        package: the package whose import registers our own entries; imported at the first look-up, so that
            importing this module costs nothing.
        basicsr: name of BasicSR's registry that unknown names fall back to, or None.
    """

    def __init__(self, kind: str, package: str, basicsr: str | None = None) -> None:
        self.kind = kind
        self._package = package
        self._basicsr = basicsr
        self._entries: dict[str, Callable[..., Any]] = {}

    def register(self, name: str | None = None) -> Callable[[T], T]:
        """Decorator that adds a class under `name` (its own name by default).

        Raises:
            RegistryError: the name is taken, or the constructor takes `**kwargs` (it would swallow typing errors in
                options files). The registry is then unchanged.
        """

        def add(entry: T) -> T:
            key = name or entry.__name__
            if key in self._entries:
                raise RegistryError(f"{self.kind} {key!r} is registered already, by {self._entries[key].__module__}")
            for parameter in inspect.signature(entry).parameters.values():
                if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                    raise RegistryError(
                        f"{self.kind} {key!r}: its constructor takes `{parameter}`, which would accept misspelt "
                        "options; name every argument"
                    )
            self._entries[key] = entry
            return entry

        return add

    def names(self) -> list[str]:
        """Our own names, sorted (BasicSR's are found by `get` but not listed)."""
        importlib.import_module(self._package)
        return sorted(self._entries)

    def get(self, name: str) -> Callable[..., Any]:
        """The class registered as `name`, else BasicSR's of that name.

        Raises:
            RegistryError: nobody knows the name; the message lists the known ones and the closest.
        """
        known = self.names()
        if name in self._entries:
            return self._entries[name]
        if self._basicsr and (entry := basicsr_shim.find(self._basicsr, name)) is not None:
            return entry
        theirs = basicsr_shim.names(self._basicsr) if self._basicsr else []
        tail = f" BasicSR's, by the same key: {', '.join(theirs)}." if theirs else ""
        raise RegistryError(
            f"unknown {self.kind} {name!r}.{did_you_mean(name, [*known, *theirs])} Known: {', '.join(known)}.{tail}"
        )

    def __contains__(self, name: object) -> bool:
        return name in self.names()


ARCHS = Registry("network", "mvmsr.archs", basicsr="ARCH_REGISTRY")
LOSSES = Registry("loss", "mvmsr.losses", basicsr="LOSS_REGISTRY")
DATASETS = Registry("dataset", "mvmsr.data")
METRICS = Registry("metric", "mvmsr.metrics")
