"""A tuning session: a budget of seconds, spent where plans spend theirs.

In: plans, a Request. Out: Records, each stored as soon as its kernel is decided. Invariant: the
numbers of trials follow from the plans, the budget and the seed alone, so that the same session
looks at the same choices; the clock only ends it early.

    kernels by their share of the predicted time
      for each:  candidates -> compiled side by side -> equal sources dropped -> measured in turns
                 beside the heuristic's and checked against its result -> the winner stored
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import sqrt
from pathlib import Path
from typing import Protocol

import numpy as np

from tgrad.backend import Backend
from tgrad.fusion.cost import cost_of, predict
from tgrad.fusion.region import Region
from tgrad.fusion.region_json import region_to_json
from tgrad.kernel.ir import count_programs
from tgrad.kernel.space import Choice, Place, SearchSpace, Value
from tgrad.runtime.plan import Plan
from tgrad.runtime.report.equation import equations_of
from tgrad.settings import Settings
from tgrad.threads import get_num_threads
from tgrad.tune.key import region_key
from tgrad.tune.lookup import Choices
from tgrad.tune.record import Record, make_record
from tgrad.tune.search import FINAL_ROUNDS, FINALISTS, ROUNDS, Outcome, Search, Trial, candidates_of
from tgrad.tune.store import Store
from tgrad.tune.workers import Message, Worker, WorkerLost, WorkerPool

COMPILE_SECONDS = {"cpu": 0.35, "cuda": 1.2}
"""A core's time to compile a candidate, assumed (gcc 12: 0.2 to 0.8 s; Triton 3.7: 0.3 to 2 s)."""
COMPILE_LIMIT = 60.0
OPEN_SECONDS = 1.0
"""What a kernel costs beside its trials: inputs, the heuristic's result, the finalists."""
CONFIRMATIONS = {"cpu": 2}
"""New processes in which finalists are measured; 0 where not given (one for a GPU takes seconds to
start, and its kernels hardly depend on where memory lies)."""
CONFIRM_SECONDS = 0.25
"""To start one, for its inputs and the heuristic's result: half a second, for the half of the
kernels that have finalists."""
SLOWER = 2.0
"""Measured over predicted times, assumed."""
LEAST_TRIALS = 3
MOST_TRIALS = 96


@dataclass(frozen=True)
class Request:
    """What to tune.

    Attributes:
        budget: seconds.
        kernels: pattern of the names of kernels.
        jobs: processes that compile; 0 for one a core.
        seed: of the search and the inputs.
        device: where kernels are measured, "cpu" or "cuda".
        target: what they are generated for where that is not here, such as "sm_90"; "" for the
            device's own.
    """

    budget: float = 120.0
    kernels: str = "*"
    jobs: int = 0
    seed: int = 0
    device: str = "cpu"
    target: str = ""


@dataclass(frozen=True)
class Subject:
    """A kernel to tune.

    Attributes:
        region: its work.
        launches: of all plans together.
        seconds: predicted, of one launch.
        share: of the predicted time of all subjects.
        trials: that the budget gives it.
    """

    region: Region
    launches: int
    seconds: float
    share: float
    trials: int = 0


@dataclass(frozen=True)
class PlanTrial:
    """A place that was tried.

    Attributes:
        plan: the name of its graph.
        ratio: time of the kernels that differ over that of those they replace; None if it failed.
        error: of the ratio, one deviation.
        seconds: of those replaced.
        failure: why there is no ratio.
        is_kept: whether the graph goes this way now.
    """

    plan: str
    site: str
    value: str
    ratio: float | None = None
    error: float = 0.0
    seconds: float = 0.0
    failure: str = ""
    is_kept: bool = False


class Listener(Protocol):
    """Who follows a session."""

    def planned(self, subjects: Sequence[Subject]) -> None:
        """What will be tuned, in order."""

    def started(self, subject: Subject, candidates: int) -> None:
        """The search of a kernel begins."""

    def tried(self, subject: Subject, trial: Trial) -> None:
        """A choice was measured, or failed."""

    def finished(self, subject: Subject, record: Record, outcome: Outcome) -> None:
        """A kernel is decided and stored."""

    def gave_up(self, subject: Subject, reason: str) -> None:
        """A kernel cannot be tuned."""

    def weighed(self, trial: PlanTrial) -> None:
        """A choice for a whole graph was tried."""


class Silent:
    """A listener that does nothing."""

    def planned(self, subjects: Sequence[Subject]) -> None:
        pass

    def started(self, subject: Subject, candidates: int) -> None:
        pass

    def tried(self, subject: Subject, trial: Trial) -> None:
        pass

    def finished(self, subject: Subject, record: Record, outcome: Outcome) -> None:
        pass

    def gave_up(self, subject: Subject, reason: str) -> None:
        pass

    def weighed(self, trial: PlanTrial) -> None:
        pass


def subjects_of(plans: Iterable[Plan], backend: Backend, pattern: str = "*") -> list[Subject]:
    """The distinct kernels of plans whose names fit, the largest share of the time first."""
    regions: dict[str, Region] = {}
    launches: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for plan in plans:
        for info in plan.kernels:
            if not fnmatchcase(info.name, pattern) or info.region.call is not None:
                continue
            key = region_key(info.region)
            if key not in regions:
                regions[key], launches[key] = info.region, 0
                seconds[key] = predicted_seconds(info.region, backend)
            launches[key] += 1
    total = sum(seconds[k] * launches[k] for k in regions) or 1.0
    found = [
        Subject(r, launches[k], seconds[k], seconds[k] * launches[k] / total)
        for k, r in regions.items()
    ]
    return sorted(found, key=lambda s: (-s.share, s.region.name))


def predicted_seconds(region: Region, backend: Backend) -> float:
    """Of one launch with the heuristic's configuration."""
    if region.call is not None:
        return predict(cost_of(region), backend.figures.units, backend.figures).seconds
    space = backend.space(region)
    config = space.config(space.start)
    programs = 1 if config is None else count_programs(config.axes, region.table)
    return predict(cost_of(region), programs, backend.figures).seconds


def share_budget(
    subjects: Sequence[Subject],
    backend: Backend,
    budget: float,
    jobs: int,
    is_measured: bool = True,
) -> list[Subject]:
    """Subjects with their trials; those that get too few, or have nothing to choose, are left out.

    Seconds are shared in proportion to the square roots of the subjects' shares, since the first
    trials of a kernel gain the most; what one leaves goes to those after it.
    """
    compile_seconds = COMPILE_SECONDS.get("cpu" if backend.name == "cpu" else "cuda", 1.0) / jobs
    left, weight = budget, sum(sqrt(s.share) for s in subjects)
    result: list[Subject] = []
    for s in subjects:
        seconds = left * min(1.0, sqrt(s.share) / weight) if weight > 0 else 0.0
        weight -= sqrt(s.share)
        measured = SLOWER * s.seconds if is_measured else 0.0
        each = compile_seconds + measured * 2 * ROUNDS
        fixed = OPEN_SECONDS * is_measured + measured * FINALISTS * FINAL_ROUNDS
        fixed += CONFIRMATIONS.get(backend.name, 0) * CONFIRM_SECONDS * is_measured
        most = min(len(candidates_of(backend.space(s.region))) - 1, MOST_TRIALS)
        trials = min(most, int((seconds - fixed) / each))
        if trials < min(LEAST_TRIALS, most) or not most:
            continue
        left -= fixed + trials * each
        result.append(Subject(s.region, s.launches, s.seconds, s.share, trials))
    return result


class Session:
    """One run of the tuner. A context manager: leaving it ends all child processes."""

    def __init__(self, backend: Backend, request: Request, settings: Settings, listener: Listener):
        self.backend, self.request, self.settings = backend, request, settings
        self.listener = listener
        self._began: float | None = None
        self.jobs = request.jobs or os.cpu_count() or 1
        self.place = backend.place(settings)
        self.store = Store(settings.cache_dir)
        self.compilers = WorkerPool(self.jobs, self._worker)
        self.measurer = self._worker()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.compilers.stop()
        self.measurer.stop()

    def start(self) -> float:
        """When the session began, by `time.monotonic`; it begins when this is asked first."""
        if self._began is None:
            self._began = time.monotonic()
        return self._began

    def _worker(self) -> Worker:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(get_num_threads()),
            "GOMP_SPINCOUNT": "0",  # see clock.py
            "TGRAD_CACHE_DIR": str(self.settings.cache_dir),
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
            ).rstrip(os.pathsep),
        }
        command = [sys.executable, "-m", "tgrad.autotuning.worker"]
        return Worker([*command, self.request.target, self.request.device], environment)

    def run(
        self, plans: Iterable[Plan], only_new: bool = False, spent: float = 0.0
    ) -> list[Record]:
        """Tune the kernels of plans until the budget is spent; those that the store knows last.

        Args:
            only_new: leave out kernels that the store knows.
            spent: seconds of the budget that are gone by assumption.

        Raises:
            StoreError: the store cannot be written.
            KeyboardInterrupt: Ctrl-C; what was decided before is stored.
        """
        deadline, budget = self.start() + self.request.budget, self.request.budget - spent
        known = Choices(self.place, [self.store.records()])
        found = subjects_of(plans, self.backend, self.request.kernels)
        new = [s for s in found if not known.has(s.region)]
        found = new if only_new else [*new, *(s for s in found if s not in new)]
        subjects = share_budget(found, self.backend, budget, self.jobs)
        self.listener.planned(subjects)
        records: list[Record] = []
        for subject in subjects:
            if time.monotonic() > deadline:
                self.listener.gave_up(subject, "the time is over")
                continue
            record = self._tune(subject, known, deadline)
            if record is not None:
                records.append(record)
        return records

    def _tune(self, subject: Subject, known: Choices, deadline: float) -> Record | None:
        space = self.backend.space(subject.region)
        measurement = Measurement(self, subject, space)
        try:
            heuristic = measurement.open()
        except WorkerLost as lost:
            self.listener.gave_up(subject, f"the heuristic's kernel: {lost}")
            return None
        search = Search(
            space,
            measurement.measure,
            subject.trials,
            self.request.seed,
            _first(subject.region, space, known),
            lambda: time.monotonic() > deadline,
            measurement.confirm,
        )
        self.listener.started(subject, len(search.candidates))
        outcome = search.run()
        seconds = measurement.heuristic or heuristic
        tuned = seconds * outcome.ratio
        named, trials = space.named(outcome.choice), len(outcome.trials)
        record = record_of(subject, self.place, named, seconds, tuned, trials)
        self.store.put([record])
        self.listener.finished(subject, record, outcome)
        return record


def record_of(
    subject: Subject,
    place: Place,
    choice: Mapping[str, Value],
    heuristic: float = 0.0,
    tuned: float = 0.0,
    trials: int = 0,
) -> Record:
    """The record of a subject's choice."""
    equation = "; ".join(equations_of(subject.region))
    return make_record(subject.region, place, equation, choice, heuristic, tuned, trials)


def _first(region: Region, space: SearchSpace, known: Choices) -> list[Choice]:
    """What was measured for the region or the nearest one, and what was ranked for it."""
    found = known.match(region)
    records = [*known.ranked(region), *([] if found is None else [found.record])]
    choices = (space.nearest(r.choice) for r in records)
    return [c for c in choices if c is not None]


class Measurement:
    """Measures choices of one kernel.

    Attributes:
        heuristic: seconds of the heuristic's kernel, when it was last measured.
    """

    def __init__(self, session: Session, subject: Subject, space: SearchSpace):
        self.session, self.subject, self.space = session, subject, space
        self.region = region_to_json(subject.region)
        self.sources: dict[str, Choice] = {}
        self.seen: set[Choice] = set()
        self.seconds = 0.0
        self.heuristic = 0.0
        self.is_open = False

    def open(self) -> float:
        """Seconds of the heuristic's kernel.

        Raises:
            WorkerLost: it does not run.
        """
        message = {"do": "open", "region": self.region, "seed": self.session.request.seed}
        reply = self.session.measurer.ask(message, COMPILE_LIMIT)
        if "failure" in reply:
            raise WorkerLost(str(reply["failure"]))
        self.seconds, self.is_open = float(reply["seconds"]), True
        return self.seconds

    def measure(self, choices: Sequence[Choice], rounds: int) -> list[Trial]:
        """A trial for each choice; none for one whose source is that of another."""
        failures = self._compile([c for c in choices if c not in self.seen])
        ready = [c for c in choices if c in self.sources.values()]
        return self._tell([*failures, *self._run(ready, rounds)])

    def confirm(self, choices: Sequence[Choice], rounds: int) -> list[Trial]:
        """Measure choices again, their rounds split over several processes: where a process's
        memory happens to lie makes a kernel up to 5% quicker or slower for as long as it lives."""
        parts, count = [], CONFIRMATIONS.get(self.session.backend.name, 0)
        if not count:
            return self.measure(choices, rounds)
        for _ in range(count):
            self.session.measurer.stop()
            self.is_open = False
            parts.append(self._run(choices, rounds // count))
        return self._tell([joined(trials) for trials in zip(*parts)])

    def _tell(self, trials: list[Trial]) -> list[Trial]:
        for trial in trials:
            self.session.listener.tried(self.subject, trial)
        return trials

    def _compile(self, choices: Sequence[Choice]) -> list[Trial]:
        """Compile side by side; the choices that failed."""
        self.seen.update(choices)
        messages: list[Message] = [
            {"do": "compile", "region": self.region, "choice": list(c)} for c in choices
        ]
        failures: list[Trial] = []
        for choice, reply in zip(choices, self.session.compilers.ask_all(messages, COMPILE_LIMIT)):
            if isinstance(reply, WorkerLost):
                failures.append(Trial(choice, None, failure=f"compiling: {reply}"))
            elif "failure" in reply:
                failures.append(Trial(choice, None, failure=str(reply["failure"])))
            elif reply["figures"].get("spills"):
                failures.append(Trial(choice, None, failure="registers are spilled"))
            else:
                self.sources.setdefault(reply["source"], choice)
        return failures

    def _run(self, choices: Sequence[Choice], rounds: int) -> list[Trial]:
        """Measure together; if the worker is lost, each by itself."""
        if not choices:
            return []
        try:
            return self._ask(choices, rounds)
        except WorkerLost as lost:
            self.is_open = False
            if len(choices) == 1:
                return [Trial(choices[0], None, failure=f"running: {lost}")]
        return [trial for c in choices for trial in self._run([c], rounds)]

    def _ask(self, choices: Sequence[Choice], rounds: int) -> list[Trial]:
        if not self.is_open:
            self.open()
        message: Message = {"do": "measure", "choices": [list(c) for c in choices]}
        expected = (rounds + 2) * (len(choices) + 1) * max(self.seconds, 1e-3)
        reply = self.session.measurer.ask({**message, "rounds": rounds}, 20 + 20 * expected)
        if "failure" in reply:
            return [Trial(c, None, failure=str(reply["failure"])) for c in choices]
        base = reply["heuristic"]
        if base:
            self.heuristic = typical(base)
        return [_trial(c, t, base) for c, t in zip(choices, reply["trials"])]


def _trial(choice: Choice, reply: Message, base: list[float]) -> Trial:
    if "failure" in reply:
        return Trial(choice, None, failure=str(reply["failure"]))
    times = reply["seconds"]
    ratio = typical(times) / typical(base[: len(times)])
    return Trial(choice, ratio, deviation(times, base[: len(times)]), typical(times))


def joined(trials: Sequence[Trial]) -> Trial:
    """One of the trials of a choice in several processes, the error that of their mean."""
    ratios = [t.ratio for t in trials if t.ratio is not None]
    if len(ratios) < len(trials):
        return next(t for t in trials if t.ratio is None)
    error = max(np.std(ratios, ddof=1), *(t.error for t in trials)) / np.sqrt(len(trials))
    return Trial(
        trials[0].choice,
        float(np.mean(ratios)),
        float(error),
        float(np.mean([t.seconds for t in trials])),
    )


def typical(times: Sequence[float]) -> float:
    """The lowest tenth: what else the machine does makes kernels slower, never quicker."""
    return float(np.quantile(np.asarray(times), 0.1))


def deviation(times: Sequence[float], base: Sequence[float]) -> float:
    """Of the typical ratio: from those of three interleaved parts of the rounds."""
    parts = [typical(times[n::3]) / typical(base[n::3]) for n in range(3) if len(times) > 3]
    return float(np.std(parts) / np.sqrt(2)) if parts else abs(times[-1] / base[-1] - 1)
