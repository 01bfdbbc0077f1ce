"""Two runs of one table: what got slower, or faster, beyond the noise.

In: two `Results`. Out: a `Change` a row. Invariant: a row is slower only if the lower quartile of
the new times lies above the upper quartile of the old ones by more than `MARGIN`, and would if the
machine had not slowed the other peers; a row that had a time and has none is worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.results import OURS, Cell, Results, Row
from bench.tables import DASH, Table, milliseconds

MARGIN = 0.03
"""Of the old median: below this nobody would look."""


@dataclass(frozen=True)
class Change:
    """A case before and after.

    Attributes:
        key, title: of the case.
        before, after: tgrad's cells.
        verdict: "slower", "faster", "same", "lost" (no time any more) or "new".
        peers: median of the peers' ratios, after ÷ before: what the machine did; None without.
    """

    key: str
    title: str
    before: Cell
    after: Cell
    verdict: str
    peers: float | None

    @property
    def is_worse(self) -> bool:
        return self.verdict in ("slower", "lost")


def compare(old: Results, new: Results, peer: str = OURS) -> list[Change]:
    """Every row that either run has.

    Raises:
        ValueError: the runs are of different tables or machines.
    """
    if old.kind != new.kind:
        raise ValueError(f"a table of the {old.kind} and one of the {new.kind}")
    if old.machine != new.machine:
        raise ValueError(f"different machines: {old.machine} and {new.machine}")
    after = {row.key: row for row in new.rows}
    before = {row.key: row for row in old.rows}
    found = []
    for key in {**before, **after}:
        a, b = before.get(key), after.get(key)
        row = b or a
        assert row is not None
        old_cell = a.cells.get(peer, Cell()) if a else Cell()
        new_cell = b.cells.get(peer, Cell()) if b else Cell()
        peers = _peers(a, b, peer)
        verdict = _verdict(old_cell, new_cell, 1.0 if peers is None else peers)
        found.append(Change(key, row.title, old_cell, new_cell, verdict, peers))
    return found


def _verdict(old: Cell, new: Cell, peers: float) -> str:
    """The peers' ratio explains a change in its own direction, and makes none."""
    if old.median is None or old.low is None or old.high is None:
        return "new"
    if new.median is None or new.low is None or new.high is None:
        return "lost"
    margin = MARGIN * old.median
    if new.low / max(peers, 1.0) > old.high + margin:
        return "slower"
    return "faster" if new.high / min(peers, 1.0) < old.low - margin else "same"


def _peers(old: Row | None, new: Row | None, peer: str) -> float | None:
    """How the other peers' times moved."""
    if old is None or new is None:
        return None
    ratios = [
        new.cells[name].median / cell.median  # type: ignore[operator]
        for name, cell in old.cells.items()
        if name != peer and cell.median and name in new.cells and new.cells[name].median
    ]
    return median(ratios) if ratios else None


def table_of(changes: Sequence[Change]) -> Table:
    """A row a case; a peer that moved as much says that the machine did."""
    rows = [
        (
            c.title,
            _times(c.before),
            _times(c.after),
            f"{c.after.median / c.before.median:.2f}" if c.after.median and c.before.median
            else DASH,
            DASH if c.peers is None else f"{c.peers:.2f}",
            c.verdict,
        )
        for c in changes
    ]  # fmt: skip
    worse = [c.key for c in changes if c.is_worse]
    note = f"slower beyond the noise: {', '.join(worse)}" if worse else "nothing is slower"
    header = ("ms, median [quartiles]", "before", "after", "after ÷ before", "peers", "verdict")
    return Table("compare", header, tuple(rows), (note,))


def _times(cell: Cell) -> str:
    if cell.median is None:
        return DASH
    low, high = milliseconds(cell.low), milliseconds(cell.high)
    return f"{milliseconds(cell.median)} [{low}, {high}]"
