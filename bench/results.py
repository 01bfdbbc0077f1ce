"""Results as data: what a run measured, where, and with what.

In: measurements. Out: JSON and back. Invariant: `read(write(results)) == results`; a file says by
itself on which machine, with which versions and at which commit it was made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Cell:
    """A peer's time for a case.

    Attributes:
        median, low, high: seconds: the median and the quartiles; None where there is no time. On a
            GPU the device's, of steps in a loop.
        calls: how many were measured.
        error: against the reference, relative, see `bench.case.error_of`.
        first: seconds of the first call, which compiles; with whatever caches there were, and on a
            GPU beside the other peers'.
        host: median of the seconds until a call returned, the GPU still at work; None on a CPU.
        peak: bytes of the GPU that a training step holds at most; None where that is not known.
        reason: why there is no time.
    """

    median: float | None = None
    low: float | None = None
    high: float | None = None
    calls: int = 0
    error: float | None = None
    first: float | None = None
    host: float | None = None
    peak: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """A case with all peers.

    Attributes:
        key, title: of the case.
        flops, bytes, launches, peak_bytes: of tgrad's plan; 0 where it has none.
        cells: by peer.
    """

    key: str
    title: str
    flops: int
    bytes: int
    launches: int
    peak_bytes: int
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class FirstStep:
    """The first step of a training script, in seconds from the start of a fresh process.

    Attributes:
        key, title: of the case.
        peer: who.
        cold, warm: with an empty cache and with the one that the cold run left, imports included.
        cold_call, warm_call: of it the first call alone.
        reason: why there is no time.
    """

    key: str
    title: str
    peer: str
    cold: float | None = None
    warm: float | None = None
    cold_call: float | None = None
    warm_call: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Limits:
    """What the machine did in this run: bytes/s of a copy, FLOP/s of the best matmul."""

    copy: float
    matmul: float

    def seconds(self, flops: int, nbytes: int) -> float:
        """The least time of so much work."""
        return max(flops / self.matmul, nbytes / self.copy)


@dataclass(frozen=True)
class Machine:
    """Where it ran.

    Attributes:
        processor: its name.
        cores: that the run used.
        memory: bytes.
        system: kernel and architecture.
        accelerator: name of the GPU, "" without.
        features: of the processor that change kernels, such as "avx512f".
    """

    processor: str
    cores: int
    memory: int
    system: str
    accelerator: str = ""
    features: Sequence[str] = ()


@dataclass(frozen=True)
class Results:
    """A run of `python -m bench cpu` or `gpu`.

    Attributes:
        kind: "cpu" or "gpu".
        date: of the run, ISO.
        commit: of tgrad, with "+" after it where files were changed.
        preliminary: the machine was shared or the run shortened: figures of no weight.
        machine, versions, limits: see there.
        peers: in the order of the columns.
        rows, first_steps: what was measured.
        others: cores that other processes kept busy meanwhile; None where that is not known.
        not_reached: keys of the cases that the time of the run did not suffice for.
    """

    kind: str
    date: str
    commit: str
    preliminary: bool
    machine: Machine
    versions: Mapping[str, str]
    limits: Limits
    peers: Sequence[str]
    rows: Sequence[Row]
    first_steps: Sequence[FirstStep] = ()
    others: float | None = None
    not_reached: Sequence[str] = ()


OURS = "tgrad"
WAYS = (OURS, "backend")
"""Columns that are tgrad: its own programs; PyTorch's with it as the backend of torch.compile."""


def cell_of(
    seconds: Sequence[float], error: float, first: float, host: Sequence[float] = ()
) -> Cell:
    """Median and quartiles of the times of single calls."""
    low, median, high = (float(q) for q in np.quantile(seconds, (0.25, 0.5, 0.75)))
    until = float(np.median(host)) if len(host) else None
    return Cell(median, low, high, len(seconds), error, first, until)


def fastest_peer(row: Row) -> tuple[str, float] | None:
    """The fastest peer that is not tgrad, and its median; None where there is none."""
    others = [(name, c) for name, c in row.cells.items() if name not in WAYS]
    found = [(c.median, name) for name, c in others if c.median is not None]
    return min(found)[::-1] if found else None


def ratio_of(row: Row) -> float | None:
    """Fastest peer ÷ tgrad: above 1 where tgrad is faster."""
    ours, best = row.cells.get(OURS, Cell()).median, fastest_peer(row)
    return None if ours is None or best is None else best[1] / ours


def geometric_mean(ratios: Sequence[float]) -> float | None:
    """The mean of ratios; None of none.

    >>> geometric_mean([1.0, 4.0])
    2.0
    """
    return float(np.exp(np.log(ratios).mean())) if len(ratios) else None


def write(results: Results, path: Path) -> None:
    """As JSON, stable: one key a line, floats to five digits. A reader, or a run that is killed,
    finds the file of before or this one, and nothing in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(_rounded(asdict(results)), indent=1) + "\n")
    unfinished.replace(path)


def read(path: Path) -> Results:
    """From JSON."""
    data = json.loads(path.read_text())
    rows = tuple(
        Row(**{**row, "cells": {name: Cell(**c) for name, c in row["cells"].items()}})
        for row in data["rows"]
    )
    machine = {**data["machine"], "features": tuple(data["machine"]["features"])}
    return Results(
        **{
            **data,
            "machine": Machine(**machine),
            "limits": Limits(**data["limits"]),
            "peers": tuple(data["peers"]),
            "rows": rows,
            "first_steps": tuple(FirstStep(**f) for f in data["first_steps"]),
            "not_reached": tuple(data.get("not_reached", ())),
        }
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return value
