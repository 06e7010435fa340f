"""Tables and names in Markdown documents."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence

_MARKS = re.compile(r"[\\`*~<\[\]]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
"""What Markdown takes for formatting; an underscore between letters or digits stands for itself."""


def plain(text: str) -> str:
    r"""Text that Markdown shows as it is, but for `|`, which `markdown_table` takes care of.

    >>> plain("my_model <b>*new*</b>")
    'my_model \\<b>\\*new\\*\\</b>'
    """
    return _MARKS.sub(r"\\\g<0>", text)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Container[int]) -> str:
    r"""A table for documents, without a line's end after its last row.

    >>> print(markdown_table(["method", "PSNR"], [["a|b", "28.42"]], right=[1]))
    | method | PSNR |
    | --- | ---: |
    | a\|b | 28.42 |

    Args:
        right: numbers of the columns that are justified to the right.
    """
    ruler = ["---:" if number in right else "---" for number in range(len(header))]
    cells = [[" ".join(cell.splitlines()).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (cells[0], ruler, *cells[1:]))
