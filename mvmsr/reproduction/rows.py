"""The rows of the paper's tables, and the options file that trains each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mvmsr.registry import comma_hint, did_you_mean

Budget = Literal["cpu", "paper"]


class ReproductionError(ValueError):
    """A table, row or folder that does not exist, or runs that cannot be used; the message says what can be."""


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        key: what `--only` and the figures call it.
        label: as in the paper.
        stem: of its options file at the paper's scale; empty for bicubic, which nobody trains.
        needs_nmd: whether the natural manifold discriminator has to be trained first.
    """

    key: str
    label: str
    stem: str
    needs_nmd: bool = False

    def options_file(self, folder: Path, budget: Budget) -> Path:
        """The row's options file below `options/reproduce`."""
        return folder / "cpu" / f"{self.stem}_cpu.yml" if budget == "cpu" else folder / f"{self.stem}.yml"


ROWS: dict[str, tuple[Row, ...]] = {
    "table3": tuple(
        Row(f"{backbone}_{kind}", f"{name}-{label}", f"table3_{backbone}_{kind}_x4")
        for backbone, name in (("srresnet", "ResNet"), ("rdn", "RDN"), ("nsrnet", "NSRNet"))
        for kind, label in (("gan", "GAN"), ("mvm", "MvM"))
    ),
    "table5": (
        Row("a", "A Bicubic", ""),
        Row("b", "B GAN-ResNet", "table5_b_gan_x4"),
        Row("c", "C SRGAN", "table5_c_srgan_x4"),
        Row("d", "D EnhanceNet", "table5_d_enhancenet_x4"),
        Row("e", "E ESRGAN", "table5_e_esrgan_x4"),
        Row("f", "F NatSR", "table5_f_natsr_x4", needs_nmd=True),
        Row("g", "G MvM", "table5_g_mvm_x4"),
    ),
}


def nmd_options_file(folder: Path, budget: Budget) -> Path:
    """The options file of the natural manifold discriminator that a budget uses."""
    return folder / "cpu" / "nmd_cpu.yml" if budget == "cpu" else folder.parent / "train" / "nmd.yml"


def rows_of(table: str, only: tuple[str, ...] = ()) -> tuple[Row, ...]:
    """The rows of a table, or those of them that are named.

    >>> [row.key for row in rows_of("table5", ("g", "b"))]
    ['b', 'g']

    Raises:
        ReproductionError: no such table or row.
    """
    if table not in ROWS:
        raise ReproductionError(f"unknown table {table!r}.{did_you_mean(table, ROWS)} There are {', '.join(ROWS)}.")
    keys = [row.key for row in ROWS[table]]
    for key in only:
        if key not in keys:
            hint = did_you_mean(key, keys)
            raise ReproductionError(f"{table} has no row {key!r}.{hint} It has {', '.join(keys)}.{comma_hint(key)}")
    return tuple(row for row in ROWS[table] if not only or row.key in only)
