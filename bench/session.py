"""A run: every case, every peer side by side.

In: cases and peers. Out: `Results`. Invariant: a peer's time counts only if its result agrees with
the reference; peers take turns round by round, so that a drift of the machine hits all of them; one
process works at a time while any is measured; a row that the time did not suffice for is named.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from time import monotonic, sleep

import numpy as np

from bench.case import (
    Case,
    FunctionCase,
    Inputs,
    StepCase,
    error_of,
    expanded,
    sampled,
    stored_bytes,
)
from bench.clock import Times
from bench.machine import (
    Others,
    available_cores,
    current_commit,
    describe_machine,
    is_shared,
    measure_limits,
)
from bench.process import PeerFailure, PeerSpec, PeerTimeout, Process
from bench.results import OURS, Cell, Limits, Results, Row, cell_of
from bench.worker import read_parts, save_inputs

Report = Callable[[str], None]
Keep = Callable[[Results], None]

PAUSE = 0.005
"""Seconds before a turn: the threads of the peer before have gone to sleep."""

MOST_COPIES = 16
"""Sets of inputs at most."""

NOT_SEARCHED = "searches for kernels of products, convolutions and training steps only"

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
        reference: the peer that computes right results, for cases without a reference in NumPy;
            None without it.
        rounds: turns that each peer gets.
        seconds: of measuring in one turn, about.
        least: calls in one turn, at least.
        rotate: bytes of inputs that calls of functions take turns with, to get past a cache; 0 for
            one set of inputs.
        cores: threads of each worker.
        preliminary: mark the results so.
        is_side_by_side: whether all peers load a case at once; then `Cell.first` is of no weight.
        searching: names of peers that take part in cases that are worth a search only.
        patience: seconds that loading a case may take a peer, compilation included.
        budget: seconds of the run; cases that were not reached by then are left out.
        logs: folder for what the peers print; None for nowhere.
    """

    kind: str
    table: str
    sizes: str
    device: str
    peers: Sequence[PeerSpec]
    reference: PeerSpec | None
    rounds: int = 9
    seconds: float = 0.15
    least: int = 1
    rotate: int = 0
    cores: int = 0
    preliminary: bool = False
    is_side_by_side: bool = False
    searching: Sequence[str] = ()
    patience: float = 600.0
    budget: float = float("inf")
    logs: Path | None = None


class OutOfTime(Exception):
    """The budget of the run was used up in the middle of a case."""


@dataclass(frozen=True)
class Ready:
    """A peer that holds a case and computes it right.

    Attributes:
        process: its own.
        error: of its result.
        first: seconds of its first call.
    """

    process: Process
    error: float
    first: float


class Session:
    """The workers of a run, and the folder through which arrays travel."""

    def __init__(self, plan: Plan, report: Report):
        self.plan, self.report = plan, report
        self.cores = plan.cores or available_cores()
        self.folder = tempfile.TemporaryDirectory(prefix="tgrad-bench-")
        self.processes: dict[str, Process] = {}
        self.absent: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.reference: Process | None = None
        self.deadline = monotonic() + plan.budget

    def __enter__(self) -> Session:
        self._start(self.plan.peers)
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._running():
            process.stop()
        self.folder.cleanup()

    def _start(self, specs: Sequence[PeerSpec]) -> None:
        """Start peers side by side: each imports its framework. One that fails is absent."""
        started: dict[str, Process] = {}
        for spec in specs:
            with self._absent_where_it_fails(spec.name):
                process = self._process_of(spec)
                started[spec.name] = process
                process.send("open")
        for name, process in started.items():
            with self._absent_where_it_fails(name):
                try:
                    self.versions |= process.receive()["versions"]
                except PeerFailure:
                    process.stop()
                    raise
                self.processes[name] = process

    def _process_of(self, spec: PeerSpec) -> Process:
        logs = self.plan.logs
        if logs is not None:
            logs.mkdir(parents=True, exist_ok=True)
        log = None if logs is None else logs / f"{spec.name}.log"
        return Process(spec, self.plan.device, self.cores, log=log)

    def abandon(self) -> None:
        """End all workers, whatever they are doing."""
        for process in self._running():
            process.stop(patience=0)
        self.processes, self.reference = {}, None

    def _running(self) -> list[Process]:
        return [*self.processes.values(), *([self.reference] if self.reference else [])]

    @contextmanager
    def _absent_where_it_fails(self, name: str) -> Iterator[None]:
        try:
            yield
        except PeerFailure as failure:
            self.absent[name] = str(failure)
            self.report(f"{name}: {failure}")

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
        """All peers on one case.

        Raises:
            OutOfTime: before all were measured.
        """
        inputs = case.arrays()
        save_inputs(self.path("inputs.npz"), inputs)
        cells = {name: Cell(reason=reason) for name, reason in self.absent.items()}
        figures: dict[str, int] = {}
        try:
            want = self._reference(case, inputs)
        except PeerFailure as failure:
            cells |= {name: Cell(reason=f"no reference: {failure}") for name in self.processes}
            return self._row(case, {}, cells)
        taking = [name for name in self.processes if self._takes_part(name, case)]
        cells |= {n: Cell(reason=NOT_SEARCHED) for n in self.processes if n not in taking}
        copies = self._copies(case, inputs)
        for names in [[n] for n in taking] if _is_apart(case) else [taking]:
            ready = self._load_all(names, case, copies, want, cells)
            if OURS in ready:
                with suppress(PeerFailure):
                    figures = ready[OURS].process.ask("figures")["figures"] or {}
            for name, times in self._take_turns(ready, copies, cells).items():
                host = [] if self.plan.device == "cpu" else times.host
                cell = cell_of(times.seconds, ready[name].error, ready[name].first, host)
                cells[name] = replace(cell, peak=self._peak(case, name))
            self._drop(ready)
        return self._row(case, figures, cells)

    def _takes_part(self, name: str, case: Case) -> bool:
        return case.is_searched or name not in self.plan.searching

    def _load_all(
        self,
        names: Sequence[str],
        case: Case,
        copies: int,
        want: Sequence[np.ndarray],
        cells: dict[str, Cell],
    ) -> dict[str, Ready]:
        """Those of the peers that hold the case and computed it right; cells of the others."""
        ready: dict[str, Ready] = {}
        for batch in [names] if self.plan.is_side_by_side else [[n] for n in names]:
            start = monotonic()
            failures = {name: self._send_load(self.processes[name], case, copies) for name in batch}
            for name in batch:
                process = self.processes[name]
                try:
                    if failure := failures[name]:
                        raise failure
                    first = self._loaded(process, start)
                    error = error_of(read_parts(self._result_of(process)), want)
                    if error > case.tolerance:
                        raise PeerFailure(f"wrong result: relative error {error:.1e}")
                    ready[name] = Ready(process, error, first)
                except PeerFailure as failure:
                    cells[name] = Cell(reason=str(failure))
        self._drop([name for name in names if name not in ready])
        return ready

    def _send_load(self, process: Process, case: Case, copies: int = 1) -> PeerFailure | None:
        """Tell a peer to load the case; why it cannot be told."""
        try:
            process.send(
                "load",
                table=self.plan.table,
                sizes=self.plan.sizes,
                key=case.key,
                arrays=str(self.path("inputs.npz")),
                result=str(self._result_of(process)),
                copies=copies,
            )
        except PeerFailure as failure:
            return failure
        return None

    def _loaded(self, process: Process, start: float) -> float:
        """Wait for a peer that has been told to load at `start`; seconds of its first call."""
        end = start + self.plan.patience
        try:
            return float(process.receive(min(end, self.deadline) - monotonic())["first"])
        except PeerTimeout:
            if self.deadline < end:
                raise OutOfTime from None
            reason = f"took longer than {self.plan.patience:.0f} s to compile"
            raise PeerFailure(reason) from None

    def _result_of(self, process: Process) -> Path:
        return self.path(f"result-{process.spec.name}.npz")

    def _copies(self, case: Case, inputs: Inputs) -> int:
        """Sets of inputs that make up the bytes to rotate."""
        if not self.plan.rotate or not isinstance(case, FunctionCase):
            return 1
        return int(np.clip(-(-self.plan.rotate // stored_bytes(case, inputs)), 1, MOST_COPIES))

    def _drop(self, names: Iterable[str]) -> None:
        """Let peers forget their case; start dead ones again for the next."""
        dead = []
        for name in names:
            try:
                self.processes[name].ask("drop", timeout=60)
            except PeerFailure:
                self.processes.pop(name).stop(patience=0)
                dead.append(name)
        self._start([s for s in self.plan.peers if s.name in dead])

    def _take_turns(
        self, ready: dict[str, Ready], copies: int, cells: dict[str, Cell]
    ) -> dict[str, Times]:
        """Times of single calls: every peer once a round, and not always in the same order."""
        calls: dict[str, int] = {}
        patience = self.plan.patience
        times: dict[str, Times] = {}
        for name, peer in ready.items():
            try:
                once = min(peer.process.ask("round", patience, calls=2)["seconds"])
                count = np.clip(self.plan.seconds / max(once, 1e-7), self.plan.least, 1000)
                calls[name] = int(count)
                warm_up = max(calls[name], copies)  # all sets of inputs
                peer.process.ask("round", patience, calls=warm_up)
                times[name] = Times([], [])
            except PeerFailure as failure:
                cells[name] = Cell(reason=str(failure))
        names = list(times)
        for turn in range(self.plan.rounds):
            shift = turn % max(len(names), 1)
            for name in names[shift:] + names[:shift]:
                if name not in times:
                    continue
                sleep(PAUSE)
                try:
                    answer = ready[name].process.ask("round", patience, calls=calls[name])
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

    def _reference(self, case: Case, inputs: Inputs) -> list[np.ndarray]:
        """The right result, by NumPy in float64 or by the reference's process, which lives as long
        as the run and holds a case only here, while no peer holds one."""
        if isinstance(case, FunctionCase) and case.reference is not None:
            wide = [a.astype(np.float64) if a.dtype.kind == "f" else a
                    for a in expanded(inputs).values()]  # fmt: skip
            return [sampled(np.asarray(case.reference(*wide)))]
        if self.plan.reference is None:
            raise PeerFailure("a step needs PyTorch's float64")
        if self.reference is None:
            self.reference = self._process_of(self.plan.reference)
        process, start = self.reference, monotonic()
        try:
            if failure := self._send_load(process, case):
                raise failure
            self._loaded(process, start)
            process.ask("drop", timeout=60)
        except (PeerFailure, OutOfTime):
            process.stop(patience=0)  # with the memory that it holds
            self.reference = None
            raise
        return read_parts(self._result_of(process))

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


def _is_apart(case: Case) -> bool:
    return isinstance(case, StepCase) and case.is_apart


def chosen_cases(cases: Sequence[Case], only: Sequence[str]) -> list[Case]:
    """The cases of these keys or shell patterns of keys, such as "softmax_*"; all where there are
    none.

    Raises:
        ValueError: no case has the key or fits the pattern.
    """
    known = [c.key for c in cases]
    for pattern in only:
        if not any(fnmatchcase(key, pattern) for key in known):
            raise ValueError(f"no case {pattern!r}; the cases are {', '.join(known)}")
    return [c for c in cases if not only or any(fnmatchcase(c.key, p) for p in only)]


def in_turn(cases: Sequence[Case]) -> list[Case]:
    """The order to measure in: by rank, and of a rank one case of each kind, which keys begin with,
    before the next of any."""
    seen: Counter[tuple[int, str]] = Counter()
    places = []
    for number, case in enumerate(cases):
        kind = case.rank, case.key.partition("_")[0]
        places.append((case.rank, seen[kind], number))
        seen[kind] += 1
    return [cases[number] for *_, number in sorted(places)]


def run(plan: Plan, cases: Sequence[Case], report: Report, keep: Keep | None = None) -> Results:
    """Measure cases `in_turn`; rows are in the order of the cases.

    Args:
        plan: how.
        cases: what.
        report: gets a line about each case.
        keep: gets what there is so far after each case, so that a run that is killed loses nothing.

    Raises:
        PeerFailure: on a GPU, PyTorch does not start, so that there are no limits.
    """
    others = Others()
    rows: dict[str, Row] = {}
    start = monotonic()
    with Session(plan, report) as session:
        limits, accelerator = session.measure_limits()
        again = limits
        for case in in_turn(cases):
            if monotonic() > session.deadline:
                break
            report(f"{monotonic() - start:.0f} s: {case.title}")
            try:
                rows[case.key] = session.measure(case)
            except OutOfTime:
                session.abandon()
                break
            if keep is not None:
                keep(_results(session, accelerator, limits, cases, rows))
        with suppress(PeerFailure):  # the first measurement stands
            again, _ = session.measure_limits()
    taken = others.cores()
    best = Limits(max(limits.copy, again.copy), max(limits.matmul, again.matmul))
    found = replace(
        _results(session, accelerator, best, cases, rows),
        preliminary=plan.preliminary or (plan.device == "cpu" and is_shared(taken)),
        others=taken,
    )
    if keep is not None:
        keep(found)
    return found


def _results(
    session: Session,
    accelerator: str,
    limits: Limits,
    cases: Sequence[Case],
    rows: Mapping[str, Row],
) -> Results:
    """What is known after these rows."""
    plan = session.plan
    ordered = [rows[c.key] for c in cases if c.key in rows]
    return Results(
        kind=plan.kind,
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        commit=current_commit(),
        preliminary=plan.preliminary,
        machine=describe_machine(session.cores, accelerator),
        versions=session.versions,
        limits=replace(limits, matmul=max((limits.matmul, *_matmul_rates(ordered)))),
        peers=[s.name for s in plan.peers],
        rows=ordered,
        not_reached=[c.key for c in cases if c.key not in rows],
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
