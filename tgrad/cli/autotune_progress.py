"""How a tuning session is shown: a live table, lines in a pipe, a journal in JSON.

In: events of a session. Out: text. Invariant: a pipe gets a line a kernel and nothing else; each
line of the journal is an object of its own, written when it happened.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import exp, log
from pathlib import Path
from typing import Any, TextIO

from tgrad.autotuning.session import Listener, PlanTrial, Subject
from tgrad.runtime.report.text import duration
from tgrad.tune.record import Record
from tgrad.tune.search import Outcome, Trial

SHOWN_CHOICES = 6
"""The last choices for whole plans, above the table of kernels."""


@dataclass
class Listeners:
    """Several listeners, and the records that came."""

    all: list[Listener]
    records: list[Record] = field(default_factory=list)
    choices: list[PlanTrial] = field(default_factory=list)
    planned_subjects: Sequence[Subject] = ()

    def planned(self, subjects: Sequence[Subject]) -> None:
        self.planned_subjects = subjects
        for each in self.all:
            each.planned(subjects)

    def started(self, subject: Subject, candidates: int) -> None:
        for each in self.all:
            each.started(subject, candidates)

    def tried(self, subject: Subject, trial: Trial) -> None:
        for each in self.all:
            each.tried(subject, trial)

    def finished(self, subject: Subject, record: Record, outcome: Outcome) -> None:
        self.records.append(record)
        for each in self.all:
            each.finished(subject, record, outcome)

    def gave_up(self, subject: Subject, reason: str) -> None:
        for each in self.all:
            each.gave_up(subject, reason)

    def weighed(self, trial: PlanTrial) -> None:
        self.choices.append(trial)
        for each in self.all:
            each.weighed(trial)


class Lines:
    """A line a kernel."""

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def planned(self, subjects: Sequence[Subject]) -> None:
        trials = sum(s.trials for s in subjects)
        what = f", {trials} configurations to try" if trials else ""
        print(f"{len(subjects)} kernels{what}", flush=True)

    def started(self, subject: Subject, candidates: int) -> None:
        pass

    def tried(self, subject: Subject, trial: Trial) -> None:
        pass

    def finished(self, subject: Subject, record: Record, outcome: Outcome) -> None:
        failed = sum(t.ratio is None for t in outcome.trials)
        found = " ".join(f"{name}={value}" for name, value in record.choice.items())
        if record.is_measured:
            times = f"{duration(record.heuristic)} -> {duration(record.tuned)}"
            found = f"{times}  {record.gain:.2f}x"
        print(
            f"{record.kernel}  {record.line}  {found}  "
            f"{len(outcome.trials)} of {outcome.candidates} tried, {failed} failed",
            flush=True,
        )

    def gave_up(self, subject: Subject, reason: str) -> None:
        print(f"{subject.region.name}  not tuned: {reason}", flush=True)

    def weighed(self, trial: PlanTrial) -> None:
        print(f"{trial.plan}: {described(trial)}", flush=True)


def described(trial: PlanTrial) -> str:
    """A choice for a whole plan, in a line."""
    what = f"{trial.site} {trial.value}"
    if trial.ratio is None:
        return f"{what}: {trial.failure}"
    verdict = "taken" if trial.is_kept else "not taken"
    return f"{what}: {duration(trial.seconds)}, {1 / trial.ratio:.2f}x as quick, {verdict}"


@dataclass
class _Row:
    """A kernel in the table."""

    share: float
    trials: int
    tried: int = 0
    failed: int = 0
    best: float = 1.0
    state: str = "waits"


class Table:
    """One live table: share, the best so far against the heuristic, tried, failed, time left."""

    def __init__(self, budget: float) -> None:
        from rich.live import Live

        self.rows: dict[str, _Row] = {}
        self.choices: list[str] = []
        self.budget = budget
        self.begin = time.monotonic()
        self.live = Live(get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> Table:
        self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.live.__exit__(*error)

    def _render(self) -> Any:
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        left = max(self.budget - (time.monotonic() - self.begin), 0.0)
        table = RichTable(title=f"{left:.0f} of {self.budget:.0f} s left")
        for name in ("kernel", "share", "best / heuristic", "tried", "failed", ""):
            table.add_column(name, justify="left" if name in ("kernel", "") else "right")
        for name, row in self.rows.items():
            best = f"{1 / row.best:.2f}x" if row.tried else ""
            tried = f"{row.tried} of {row.trials}"
            table.add_row(name, f"{row.share:.0%}", best, tried, str(row.failed or ""), row.state)
        if not self.choices:
            return table
        return Group(*(Text(line) for line in self.choices[-SHOWN_CHOICES:]), table)

    def planned(self, subjects: Sequence[Subject]) -> None:
        self.rows = {s.region.name: _Row(s.share, s.trials) for s in subjects}

    def started(self, subject: Subject, candidates: int) -> None:
        self.rows[subject.region.name].state = "searching"

    def tried(self, subject: Subject, trial: Trial) -> None:
        row = self.rows[subject.region.name]
        row.tried += 1
        row.failed += trial.ratio is None
        row.best = min(row.best, trial.ratio or 1.0)

    def finished(self, subject: Subject, record: Record, outcome: Outcome) -> None:
        row = self.rows[subject.region.name]
        row.state, row.best, row.tried = "stored", outcome.ratio, len(outcome.trials)

    def gave_up(self, subject: Subject, reason: str) -> None:
        self.rows[subject.region.name].state = reason

    def weighed(self, trial: PlanTrial) -> None:
        self.choices.append(described(trial))


class Journal:
    """The session as JSON lines."""

    def __init__(self, path: Path):
        self.file: TextIO = path.open("w", encoding="utf-8")
        self.begin = time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _write(self, event: str, subject: Subject | None, **data: Any) -> None:
        head = {"event": event, "seconds": round(time.monotonic() - self.begin, 3)}
        name = {} if subject is None else {"kernel": subject.region.name}
        self.file.write(json.dumps({**head, **name, **data}) + "\n")
        self.file.flush()

    def planned(self, subjects: Sequence[Subject]) -> None:
        rows = [
            {"kernel": s.region.name, "share": s.share, "launches": s.launches, "trials": s.trials}
            for s in subjects
        ]
        self._write("planned", None, kernels=rows)

    def started(self, subject: Subject, candidates: int) -> None:
        self._write("started", subject, candidates=candidates, trials=subject.trials)

    def tried(self, subject: Subject, trial: Trial) -> None:
        self._write("tried", subject, **_plain(trial))

    def finished(self, subject: Subject, record: Record, outcome: Outcome) -> None:
        self._write(
            "finished",
            subject,
            choice=dict(record.choice),
            heuristic=record.heuristic,
            tuned=record.tuned,
            finalists=[_plain(t) for t in outcome.finalists],
        )

    def gave_up(self, subject: Subject, reason: str) -> None:
        self._write("gave up", subject, reason=reason)

    def weighed(self, trial: PlanTrial) -> None:
        data = asdict(trial)
        time_of_replaced = data.pop("seconds")
        self._write("weighed", None, **data, time=time_of_replaced)


def _plain(trial: Trial) -> dict[str, Any]:
    if trial.ratio is None:
        return {"choice": list(trial.choice), "failure": trial.failure}
    return {
        "choice": list(trial.choice),
        "ratio": round(trial.ratio, 4),
        "error": round(trial.error, 4),
        "time": trial.seconds,
    }


def summary_of(found: Listeners, store: Path, interrupted: bool) -> str:
    """The last lines of a session."""
    records, lines = found.records, list[str]()
    if found.choices:
        taken = [t for t in found.choices if t.is_kept]
        named = "".join(f"; {t.site} {t.value}" for t in taken)
        lines.append(f"{len(found.choices)} choices for whole plans, {len(taken)} taken{named}")
    if records:
        gain = exp(sum(log(r.gain) for r in records) / len(records))
        quicker = sum(r.gain > 1 for r in records)
        ended = "stopped; " if interrupted else ""
        lines.append(
            f"{ended}{len(records)} kernels stored in {store}, {quicker} quicker than the "
            f"heuristic's, geometric mean {gain:.2f}x"
        )
    elif interrupted:
        lines.append("stopped before the first kernel was decided")
    return "\n".join(lines)
