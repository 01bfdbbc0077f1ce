"""A run: every case, every peer side by side.

In: cases and peers. Out: `Results`. Invariant: a peer's time counts only if its result agrees with
float64; peers take turns round by round, so that a drift of the machine hits all of them; one
process works at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from time import sleep

import numpy as np

from bench.case import Arrays, Case, FunctionCase, StepCase, error_of
from bench.clock import Times
from bench.machine import (
    Others,
    available_cores,
    current_commit,
    describe_machine,
    is_shared,
    measure_limits,
)
from bench.process import PeerFailure, PeerSpec, Process
from bench.results import OURS, Cell, Limits, Results, Row, cell_of
from bench.worker import sampled, save_arrays

Report = Callable[[str], None]

PAUSE = 0.005
"""Seconds before a turn: the threads of the peer before have gone to sleep."""

MATMUL = "matmul"
"""The case whose best rate, by whichever peer, is the matmul limit."""


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        kind: "cpu" or "gpu".
        table: module with the cases.
        sizes: "full" or "small".
        device: of the peers.
        peers: what to start, in the order of the columns.
        reference: the peer in float64 for cases without a reference in NumPy; None without it.
        only: keys of the cases to run; all where empty.
        rounds: turns that each peer gets.
        seconds: of measuring in one turn, about.
        rotate: bytes of inputs that calls of functions take turns with, to get past a cache; 0 for
            one set of inputs.
        cores: threads of each worker.
        preliminary: mark the results so.
    """

    kind: str
    table: str
    sizes: str
    device: str
    peers: Sequence[PeerSpec]
    reference: PeerSpec | None
    only: Sequence[str] = ()
    rounds: int = 9
    seconds: float = 0.15
    rotate: int = 0
    cores: int = 0
    preliminary: bool = False


class Session:
    """The workers of a run, and the folder through which arrays travel."""

    def __init__(self, plan: Plan, report: Report):
        self.plan, self.report = plan, report
        self.cores = plan.cores or available_cores()
        self.folder = tempfile.TemporaryDirectory(prefix="tgrad-bench-")
        self.processes: dict[str, Process] = {}
        self.absent: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.limits = Limits(1.0, 1.0)

    def __enter__(self) -> Session:
        for spec in self.plan.peers:
            try:
                self._start(spec)
            except PeerFailure as failure:
                self.absent[spec.name] = str(failure)
                self.report(f"{spec.name}: {failure}")
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self.processes.values():
            process.stop()
        self.folder.cleanup()

    def _start(self, spec: PeerSpec) -> Process:
        process = Process(spec, self.plan.device, self.cores)
        try:
            self.versions |= process.ask("open")["versions"]
        except PeerFailure:
            process.stop()
            raise
        self.processes[spec.name] = process
        return process

    def path(self, name: str) -> Path:
        """A file in the folder."""
        return Path(self.folder.name) / name

    def measure_limits(self) -> tuple[Limits, str]:
        """What the device does at most, and a GPU's name."""
        if self.plan.device == "cpu":
            return measure_limits(self.cores, self.plan.sizes), ""
        if "torch" not in self.processes:
            reason = self.absent.get("torch", "it is not among the peers")
            raise PeerFailure(f"the limits of a GPU are measured by torch: {reason}")
        found = self.processes["torch"].ask("limits")
        return Limits(found["copy"], found["matmul"]), found["name"]

    # -- one case -------------------------------------------------------------------------------

    def measure(self, case: Case) -> Row:
        """All peers on one case."""
        arrays = case.arrays()
        save_arrays(self.path("arrays.npz"), arrays)
        cells: dict[str, Cell] = {name: Cell(reason=reason) for name, reason in self.absent.items()}
        figures = {}
        try:
            want = self._reference(case, arrays)
        except PeerFailure as failure:
            cells |= {name: Cell(reason=f"no reference: {failure}") for name in self.processes}
            return self._row(case, {}, cells)
        ready: dict[str, tuple[Process, float, float]] = {}
        for name, process in list(self.processes.items()):
            try:
                first = self._load(process, case)
                error = error_of(np.load(self.path("result.npy")), want)
                if error > case.tolerance:
                    raise PeerFailure(f"wrong result: error {error:.1e} of the largest value")
                if name == OURS:
                    figures = process.ask("figures")["figures"]
                ready[name] = process, error, first
            except PeerFailure as failure:
                cells[name] = Cell(reason=str(failure))
                self._drop(name, process)
        for name, times in self._take_turns(ready, cells).items():
            _, error, first = ready[name]
            host = [] if self.plan.device == "cpu" else times.host
            cell = cell_of(times.seconds, error, first, host)
            cells[name] = replace(cell, peak=self._peak(case, name))
        for name, process in list(self.processes.items()):
            if name in ready:
                self._drop(name, process)
        return self._row(case, figures, cells)

    def _load(self, process: Process, case: Case) -> float:
        """Give the case to a peer; seconds of its first call."""
        answer = process.ask(
            "load",
            table=self.plan.table,
            sizes=self.plan.sizes,
            key=case.key,
            arrays=str(self.path("arrays.npz")),
            result=str(self.path("result.npy")),
            copies=self._copies(case),
        )
        return float(answer["first"])

    def _copies(self, case: Case) -> int:
        """Sets of inputs that make up the bytes to rotate, 16 at most."""
        if not self.plan.rotate or not isinstance(case, FunctionCase):
            return 1
        nbytes = self.path("arrays.npz").stat().st_size
        return int(np.clip(-(-self.plan.rotate // nbytes), 1, 16))

    def _drop(self, name: str, process: Process) -> None:
        """Let a peer forget its case; start a dead one again for the next."""
        try:
            process.ask("drop", timeout=60)
        except PeerFailure:
            process.stop()
            del self.processes[name]
            spec = next(s for s in self.plan.peers if s.name == name)
            try:
                self._start(spec)
            except PeerFailure as failure:
                self.absent[name] = str(failure)

    def _take_turns(
        self, ready: dict[str, tuple[Process, float, float]], cells: dict[str, Cell]
    ) -> dict[str, Times]:
        """Times of single calls: every peer once a round, and not always in the same order."""
        calls: dict[str, int] = {}
        times: dict[str, Times] = {}
        for name, (process, _, _) in ready.items():
            with suppress(PeerFailure):
                once = min(process.ask("round", calls=2)["seconds"])
                calls[name] = int(np.clip(self.plan.seconds / max(once, 1e-7), 1, 1000))
                process.ask("round", calls=calls[name])  # warm-up
                times[name] = Times([], [])
        names = list(times)
        for turn in range(self.plan.rounds):
            shift = turn % max(len(names), 1)
            for name in names[shift:] + names[:shift]:
                if name not in times:
                    continue
                sleep(PAUSE)
                try:
                    answer = ready[name][0].ask("round", calls=calls[name])
                    times[name].seconds.extend(answer["seconds"])
                    times[name].host.extend(answer["host"])
                except PeerFailure as failure:
                    cells[name] = Cell(reason=str(failure))
                    del times[name]
        return times

    def _peak(self, case: Case, name: str) -> int | None:
        """Bytes at the peak of a training step, where the peer's device knows."""
        if not isinstance(case, StepCase):
            return None
        with suppress(PeerFailure):
            peak: int | None = self.processes[name].ask("peak")["peak"]
            return peak
        return None

    def _reference(self, case: Case, arrays: Arrays) -> np.ndarray:
        """The right result, in float64."""
        if isinstance(case, FunctionCase) and case.reference is not None:
            wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays.values()]
            return sampled(np.asarray(case.reference(*wide)))
        if self.plan.reference is None:
            raise PeerFailure("a step needs PyTorch's float64")
        process = Process(self.plan.reference, self.plan.device, self.cores)
        try:
            self._load(process, case)
        finally:
            process.stop()
        result: np.ndarray = np.load(self.path("result.npy"))
        return result

    def _row(self, case: Case, figures: dict[str, int], cells: dict[str, Cell]) -> Row:
        ordered = {s.name: cells.get(s.name, Cell(reason="failed")) for s in self.plan.peers}
        return Row(
            case.key,
            case.title,
            figures.get("flops", 0),
            figures.get("bytes", 0),
            figures.get("launches", 0),
            figures.get("peak_bytes", 0),
            ordered,
        )


def chosen_cases(cases: Sequence[Case], only: Sequence[str]) -> list[Case]:
    """The cases of these keys; all where there are none.

    Raises:
        ValueError: a key is not known.
    """
    known = [c.key for c in cases]
    for key in only:
        if key not in known:
            raise ValueError(f"no case {key!r}; the cases are {', '.join(known)}")
    return [c for c in cases if not only or c.key in only]


def run(plan: Plan, cases: Sequence[Case], report: Report) -> Results:
    """Measure cases; `report` gets a line about each.

    Raises:
        PeerFailure: on a GPU, PyTorch does not start, so that there are no limits.
    """
    others = Others()
    with Session(plan, report) as session:
        limits, accelerator = session.measure_limits()
        rows = []
        for case in cases:
            report(case.title)
            rows.append(session.measure(case))
        again, _ = session.measure_limits()
    taken = others.cores()
    best = max((limits.matmul, again.matmul, *_matmul_rates(rows)))
    return Results(
        kind=plan.kind,
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        commit=current_commit(),
        preliminary=plan.preliminary or is_shared(taken),
        machine=describe_machine(session.cores, accelerator),
        versions=session.versions,
        limits=replace(limits, copy=max(limits.copy, again.copy), matmul=best),
        peers=[s.name for s in plan.peers],
        rows=rows,
        others=taken,
    )


def _matmul_rates(rows: Sequence[Row]) -> list[float]:
    """FLOP/s of each peer in the matmul case."""
    return [
        row.flops / cell.median
        for row in rows
        if row.key == MATMUL
        for cell in row.cells.values()
        if cell.median
    ]
