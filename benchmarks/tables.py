"""Tables, for the terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The answer to a question.

    Args:
        title: the question, in a few words.
        head: the names of the columns.
        rows: the cells.
        text: what the rows are.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: str = ""

    def plain(self) -> str:
        """Return the table as text for a terminal."""
        lines = [f"# {self.title}", *([self.text] if self.text else []), *self._lines()]
        return "\n".join(line.rstrip() for line in lines)

    def rst(self) -> str:
        """Return the table as a section of reStructuredText."""
        rule = "  ".join("=" * width for width in self._widths())
        head, *body = self._lines()
        parts = [self.title, "-" * len(self.title), "", *([self.text, ""] if self.text else [])]
        lines = [*parts, rule, head, rule, *body, rule, ""]
        return "\n".join(line.rstrip() for line in lines)

    def _lines(self) -> list[str]:
        return ["  ".join(self._padded(cells)) for cells in (self.head, *self.rows)]

    def _padded(self, cells: Iterable[str]) -> list[str]:
        # A simple table takes a line that begins with an empty cell for a part of the row above.
        return [
            (cell or "-").ljust(width) for cell, width in zip(cells, self._widths(), strict=True)
        ]

    def _widths(self) -> list[int]:
        columns = zip(self.head, *self.rows, strict=True)
        return [max(len(cell or "-") for cell in column) for column in columns]


def titled(name: str, awaited: bool) -> str:
    """Return the name of a row, with how it is used."""
    return f"{name} (async)" if awaited else name


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{_figures(seconds / size)} {unit}"
    return f"{_figures(seconds * 1e6)} us"


def nanoseconds(seconds: float) -> str:
    """Return a short duration."""
    return f"{max(seconds, 0.0) * 1e9:,.0f} ns"


def share(part: float) -> str:
    """Return a part of a whole."""
    return f"{part:.0%}"


def ratio(value: float) -> str:
    """Return a ratio."""
    return f"{_figures(value)} x"


def budget(value: float, most: float) -> str:
    """Return how a ratio compares to the most that it should be."""
    return f"{'within' if value <= most else 'OVER'} {most:g} x"


def amount(count: float) -> str:
    """Return a number of bytes or of things."""
    return f"{count:,.0f}"


def _figures(value: float) -> str:
    """Return *value* with three figures."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"
