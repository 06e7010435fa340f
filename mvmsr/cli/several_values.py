"""Options that take several values after one flag: `--set a=1 b=2` beside `--set a=1 --set b=2`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand


def spread(args: Sequence[str], several: Sequence[str]) -> list[str]:
    """Repeat a list option's flag before each of its values: `--metrics a b` becomes `--metrics a --metrics b`.

    Unambiguous where the command has no positional arguments.

    >>> spread(["--metrics", "psnr", "ssim", "--out", "d"], ["--metrics"])
    ['--metrics', 'psnr', '--metrics', 'ssim', '--out', 'd']
    """
    result: list[str] = []
    flag, has_value = "", False
    for argument in args:
        if argument.startswith("-"):
            flag, separator, _ = argument.partition("=")
            flag, has_value = (flag, bool(separator)) if flag in several else ("", False)
        elif flag:
            if has_value:
                result.append(flag)
            has_value = True
        result.append(argument)
    return result


class SeveralValues(TyperCommand):
    """A command whose list options take several values after one flag."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse after spreading the lists."""
        lists = [flag for option in self.params if getattr(option, "multiple", False) for flag in option.opts]
        return super().parse_args(ctx, spread(args, lists))
