"""Texts of users on a terminal: names of files, messages that quote them."""

from __future__ import annotations

from rich.markup import escape


def plain(text: object) -> str:
    r"""The text for a Rich console that prints it as it is: `[x]` is no markup, and control characters are spelt out.

    Lines and tabs stay. The console itself must be one with `emoji=False`, or `:cat:` becomes a cat.

    >>> plain("a[b]\x1b[2J")
    'a\\[b]\\x1b\\[2J'
    """
    return escape("".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in str(text)))
