"""Results as tables: for the terminal and as Markdown.

In: `Results`. Out: text. Invariant: one list of columns makes both; a peer without a time is a
dash, and its reason stands below the table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from bench.machine import available_cores, current_commit, describe_machine
from bench.results import (
    OURS,
    Cell,
    FirstStep,
    Results,
    Row,
    fastest_peer,
    geometric_mean,
    ratio_of,
)

DASH = "–"
GPU_HEADER = ("tgrad's rate", "host, µs")
NAMED = 8
"""Rows that are named where a peer has no time for one reason; of more, how many they are."""

GPU_NOTE = (
    "times are of the device: of functions its work alone, launched behind a kernel that spins "
    "until the host is done; of training steps what one takes in a loop; host: until a call "
    "returns, peers in the order of the columns; products of 8-bit floats may pass the limit of "
    "bfloat16"
)


@dataclass(frozen=True)
class Table:
    """Text in rows.

    Attributes:
        title: above it.
        header: of the columns; the first is aligned to the left, the others to the right.
        rows: cells.
        notes: lines below it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def markdown(table: Table) -> str:
    """The table in Markdown, its notes as a list."""
    lines = [
        "| " + " | ".join(table.header) + " |",
        "|---|" + "---:|" * (len(table.header) - 1),
        *("| " + " | ".join(_escaped(c) for c in row) + " |" for row in table.rows),
    ]
    if table.notes:
        lines += ["", *(f"- {_escaped(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("*", "\\*")


def show(table: Table) -> None:
    """Print it with rich."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    rich = RichTable(title=table.title, title_justify="left")
    for number, name in enumerate(table.header):
        rich.add_column(escape(name), justify="right" if number else "left", no_wrap=bool(number))
    for row in table.rows:
        rich.add_row(*(escape(c) for c in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(rich)
    for note in table.notes:
        console.print(f"  {note}", markup=False, highlight=False)


def milliseconds(seconds: float | None) -> str:
    """Three digits.

    >>> milliseconds(0.0012345), milliseconds(None)
    ('1.23', '–')
    """
    if seconds is None:
        return DASH
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ratio_text(ratio: float | None) -> str:
    """Two decimals and a sign for "times"."""
    return DASH if ratio is None else f"{ratio:.2f}×"


def _spread(cell: Cell) -> str:
    if cell.median is None or cell.low is None or cell.high is None:
        return DASH
    return f"{milliseconds(cell.median)} ±{100 * (cell.high - cell.low) / 2 / cell.median:.0f}%"


def main_table(results: Results) -> Table:
    """Milliseconds a peer, the limit, tgrad's part of it, and the ratio to the fastest peer."""
    rows = [_main_row(results, row) for row in results.rows]
    ratios = [r for r in map(ratio_of, results.rows) if r is not None]
    mean = geometric_mean(ratios)
    has_device = results.kind == "gpu"
    header = ("ms, median ± half of the quartiles' range", *results.peers, "limit", "of the limit",
              *(GPU_HEADER if has_device else ()), "fastest peer ÷ tgrad", "fastest")  # fmt: skip
    blank = [""] * (len(header) - 3)
    rows.append(("geometric mean", *blank, ratio_text(mean), ""))
    title = f"{results.kind}: {results.machine.processor}, {results.machine.cores} cores"
    notes = (*_step_notes(results), *_reasons(results), *notes_of(results))
    return Table(title, header, tuple(rows), notes)


def _main_row(results: Results, row: Row) -> tuple[str, ...]:
    limit = results.limits.seconds(row.flops, row.bytes) if row.bytes else None
    ours = row.cells.get(OURS, Cell()).median
    share = DASH if limit is None or ours is None else f"{100 * limit / ours:.0f}%"
    best = fastest_peer(row)
    return (
        row.title,
        *(_spread(row.cells[name]) for name in results.peers),
        milliseconds(limit),
        share,
        *(_gpu_cells(results, row) if results.kind == "gpu" else ()),
        ratio_text(ratio_of(row)),
        best[0] if best else DASH,
    )


def _gpu_cells(results: Results, row: Row) -> tuple[str, str]:
    """What tgrad does in a second of what limits the row, and the host's time of each peer."""
    limits, ours = results.limits, row.cells.get(OURS, Cell()).median
    rate = DASH
    if ours is not None and row.bytes:
        is_memory_bound = row.bytes / limits.copy >= row.flops / limits.matmul
        rate = (
            f"{row.bytes / ours / 1e12:.2f} TB/s"
            if is_memory_bound
            else f"{row.flops / ours / 1e12:.0f} TFLOP/s"
        )
    hosts = (row.cells[name].host for name in results.peers)
    return rate, " / ".join(DASH if host is None else f"{1e6 * host:.0f}" for host in hosts)


def _step_notes(results: Results) -> list[str]:
    """Of training steps on a GPU: the memory that they take."""
    notes = []
    for row in results.rows:
        peaks = [(name, c.peak) for name, c in row.cells.items() if c.peak is not None]
        if peaks:
            sizes = ", ".join(f"{name} {peak / 1e9:.2f} GB" for name, peak in peaks)
            notes.append(f"memory of {row.title}: {sizes}")
    return notes


def _reasons(results: Results) -> list[str]:
    """Why there are dashes; one line where a peer failed everywhere for one reason."""
    notes = []
    for name in results.peers:
        reasons: dict[str, list[str]] = {}
        for row in results.rows:
            if row.cells[name].reason:
                reasons.setdefault(row.cells[name].reason, []).append(row.key)
        for reason, keys in reasons.items():
            named = ", ".join(keys) if len(keys) <= NAMED else f"{len(keys)} rows"
            where = "" if len(keys) == len(results.rows) else f" ({named})"
            notes.append(f"{name}{where}: {reason}")
    return notes


def notes_of(results: Results) -> list[str]:
    """Where, when and with what it was measured."""
    machine, limits = results.machine, results.limits
    notes = [
        f"limit: the larger of bytes at {limits.copy / 1e9:.1f} GB/s (copy) and FLOPs at "
        f"{limits.matmul / 1e9:.0f} GFLOP/s (best matmul), both measured in this run; bytes and "
        "FLOPs are of tgrad's plan; what fits the last level cache may pass 100%",
        f"{machine.processor}, {machine.cores} cores, {machine.memory / 2**30:.0f} GiB, "
        f"{machine.system}" + (f", {machine.accelerator}" if machine.accelerator else ""),
        ", ".join(f"{k} {v}" for k, v in results.versions.items())
        + f"; commit {results.commit}, {results.date}{others_text(results.others)}",
    ]
    if results.kind == "gpu":
        notes.insert(0, GPU_NOTE)
    if results.not_reached:
        rows = f"{len(results.not_reached)} rows: {', '.join(results.not_reached)}"
        notes.insert(0, f"not reached in the time of this run, {rows}")
    if results.preliminary:
        notes.insert(0, "PRELIMINARY: the machine was shared or the run shortened")
    return notes


def others_text(cores: float | None) -> str:
    """What else the machine did.

    >>> others_text(0.5), others_text(None)
    ('; other processes took 0.5 cores meanwhile', '')
    """
    return "" if cores is None else f"; other processes took {cores:.1f} cores meanwhile"


def seconds_text(seconds: float | None) -> str:
    """Seconds with two decimals."""
    return DASH if seconds is None else f"{seconds:.2f}"


def first_step_table(steps: Sequence[FirstStep]) -> Table:
    """Seconds from the start of a process to the end of its first step."""
    rows = [
        (
            f"{s.title}: {s.peer}",
            seconds_text(s.cold),
            seconds_text(s.warm),
            seconds_text(s.cold_call),
            seconds_text(s.warm_call),
        )
        for s in steps
    ]
    header = ("s, from the start of the process to the end of the first step", "empty cache",
              "warm cache", "of it the step, empty", "of it the step, warm")  # fmt: skip
    notes = [f"{s.peer} ({s.key}): {s.reason}" for s in steps if s.reason]
    return Table("first step", header, tuple(rows), tuple(notes))


def write_table(table: Table, path: Path, preliminary: bool, others: float | None) -> None:
    """As JSON, with the machine, what others took of it, the date and the commit."""
    machine = describe_machine(available_cores())
    data = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": current_commit(),
        "preliminary": preliminary,
        "others": others,
        "machine": asdict(machine),
        **asdict(table),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
