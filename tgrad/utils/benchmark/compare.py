"""Tables of measurements.

In: measurements. Out: text. Invariant: a table for each label; a row for each number of threads,
environment and sub-label, in the order of the first; a column for each description.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum

from tgrad.errors import DTypeError
from tgrad.utils.benchmark.measurement import Measurement, select_unit, trim_sigfig

_WORDS = {"ns": "nanoseconds", "us": "microseconds", "ms": "milliseconds", "s": "seconds"}
_BEST, _GOOD, _SLOW, _VERY_SLOW = (
    "\033[92m\033[1m",
    "\033[34m\033[1m",
    "\033[2m\033[91m",
    "\033[31m",
)
_PLAIN = "\033[0m"

Row = tuple[int, str, str]
"""Threads, environment and name."""


class Colorize(Enum):
    """Which times are compared by colours."""

    NONE = "none"
    COLUMNWISE = "columnwise"
    ROWWISE = "rowwise"


class Compare:
    """Tables of measurements; those of one task are merged.

    Args:
        results: the measurements.

    >>> from tgrad.utils.benchmark import Compare, Measurement, TaskSpec
    >>> tasks = [TaskSpec("f(x)", "", "", "product", n, d) for n in ("8", "16") for d in "ab"]
    >>> print(Compare([Measurement(1, [1e-6 * (i + 1)], t) for i, t in enumerate(tasks)]))
    [---- product -----]
             |  a  |  b
    1 threads: ---------
      8      | 1.0 | 2.0
      16     | 3.0 | 4.0
    <BLANKLINE>
    Times are in microseconds (us).
    <BLANKLINE>
    """

    def __init__(self, results: Iterable[Measurement]):
        self._results: list[Measurement] = []
        self._trims = self._warns = False
        self._colors = Colorize.NONE
        self.extend_results(results)

    def extend_results(self, results: Iterable[Measurement]) -> None:
        """Add measurements.

        Raises:
            DTypeError: one is none.
        """
        for r in results:
            if not isinstance(r, Measurement):
                raise DTypeError(f"Compare of a {type(r).__name__}.", "Give Measurements.")
            self._results.append(r)

    def trim_significant_figures(self) -> None:
        """Show only digits that mean something."""
        self._trims = True

    def colorize(self, rowwise: bool = False) -> None:
        """Colour the best and the slow times of each column, or of each row."""
        self._colors = Colorize.ROWWISE if rowwise else Colorize.COLUMNWISE

    def highlight_warnings(self) -> None:
        """Mark times that spread too much."""
        self._warns = True

    def print(self) -> None:
        """Print the tables."""
        print(str(self))

    def __str__(self) -> str:
        tables: dict[str | None, list[Measurement]] = {}
        for m in Measurement.merge(self._results):
            tables.setdefault(m.label, []).append(m)
        return "\n".join(self._table(label or "", found) for label, found in tables.items())

    def _table(self, label: str, results: list[Measurement]) -> str:
        unit, scale = select_unit(min(r.median for r in results))
        cells = {(_row_of(r), r.description): r for r in results}
        rows = sorted(dict.fromkeys(row for row, _ in cells), key=lambda row: row[:2])
        columns = list(dict.fromkeys(column for _, column in cells))
        has_environments = len({row[1] for row in rows}) > 1
        names = [f"  ({e}) {name}" if has_environments else f"  {name}" for _, e, name in rows]
        texts = [[self._cell(cells.get((row, c)), scale) for c in columns] for row in rows]
        widths = [max(len(n) for n in names) + 4]
        for i, column in enumerate(columns):
            digits = max(len(t[i]) for t in texts)
            widths.append(max(len(column or ""), digits))
        head = ["".ljust(widths[0]), *((c or "").center(w) for c, w in zip(columns, widths[1:]))]
        width = len(" | ".join(head))
        lines = [f"[{f' {label} '.center(width - 2, '-')}]", " | ".join(head).rstrip()]
        before = None
        for row, name, text in zip(rows, names, texts):
            if row[0] != before:
                lines.append(f"{row[0]} threads: ".ljust(width, "-"))
                before = row[0]
            line = [name.ljust(widths[0])]
            for c, each, w in zip(columns, text, widths[1:]):
                line.append(self._colored(each.rjust(w), cells, row, c))
            lines.append(" | ".join(line).rstrip())
        lines += ["", f"Times are in {_WORDS[unit]} ({unit})."]
        if self._warns and any(r.has_warnings for r in results):
            lines.append("(! n%): the interquartile range is n% of the median.")
        return "\n".join([*lines, ""])

    def _cell(self, m: Measurement | None, scale: float) -> str:
        if m is None:
            return ""
        value, digits = m.median / scale, 1
        if self._trims:
            value = trim_sigfig(value, m.significant_figures)
            digits = max(m.significant_figures - math.floor(math.log10(value)) - 1, 0)
        text = f"{value:.{digits}f}"
        if self._warns and m.has_warnings:
            text += f" (! {100 * m.iqr / m.median:.0f}%)"
        return text

    def _colored(
        self,
        text: str,
        cells: dict[tuple[Row, str | None], Measurement],
        row: Row,
        column: str | None,
    ) -> str:
        """The cell in the colour of how it compares with the best of its row, or of its column
        among those of as many threads."""
        if self._colors is Colorize.NONE or (row, column) not in cells:
            return text
        is_rowwise = self._colors is Colorize.ROWWISE
        peers = [
            m.median
            for (r, c), m in cells.items()
            if (r == row if is_rowwise else c == column and r[0] == row[0])
        ]
        ratio = cells[row, column].median / min(peers)
        color = (
            _BEST if ratio <= 1.01
            else _GOOD if ratio <= 1.1
            else _VERY_SLOW if ratio >= 5
            else _SLOW if ratio >= 2
            else ""
        )  # fmt: skip
        return f"{color}{text}{_PLAIN}" if color else text


def _row_of(m: Measurement) -> Row:
    return m.num_threads, m.env or "Unspecified env", m.as_row_name
