"""Errors that say what they are by their type alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mvmsr.engine.rehearsal import SetupError


@contextmanager
def plain_errors_typed() -> Iterator[None]:
    """Inside, Python's own ValueError and OSError (of a constructor, of the disk) become errors of the setup.

    Raises:
        SetupError: with the message of such an error; errors of our own pass as they are.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if type(error).__module__ == "builtins":
            raise SetupError(str(error)) from error
        raise
