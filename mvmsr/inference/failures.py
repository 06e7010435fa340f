"""A network's own failures, told in words: which picture it failed on, and what it had asserted."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from mvmsr.inference.weights_file import first_line

_TOLD = (ValueError, OSError, RuntimeError, ArithmeticError, MemoryError)
"""Errors that callers know as failures of one picture, and that say what is wrong."""


class NetworkError(RuntimeError):
    """A network failed by an error of its code, such as an assertion; the message says where and how."""


@contextmanager
def network_failures(doing: str) -> Iterator[None]:
    """Inside, errors of a network's code (an assertion, a wrong type, ...) become failures of one picture.

    Args:
        doing: what fails then, in words: "the network fails on 17 x 21 pixels".

    Raises:
        NetworkError: the network failed by another of Python's errors than those of values, memory, files and PyTorch.
    """
    try:
        yield
    except _TOLD:
        raise
    except Exception as error:
        if type(error).__module__ != "builtins":  # a caller's own, such as one that ends the work
            raise
        raise NetworkError(f"{doing}: {why(error)}") from error


def why(error: Exception) -> str:
    """The first line of an error; of an assertion without words, what was asserted."""
    if str(error).strip():
        return f"{type(error).__name__}: {first_line(error)}"
    frames = traceback.extract_tb(error.__traceback__)
    line = frames[-1].line if frames else None
    return f"{type(error).__name__} at `{line}`" if line else type(error).__name__
