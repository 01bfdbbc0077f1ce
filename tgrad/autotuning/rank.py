"""Choices for a GPU that is not here: ranked by estimates and by what the compiler says.

In: plans, a session for a target. Out: Records without times, to start from on the GPU's machine.
Invariant: nothing runs; a choice whose kernel spills, or that the compiler refuses, is not taken,
and the heuristic's is left only for one that is better by the model.

    score = estimate x 2 if the widest access is narrower than the heuristic's
                     x 4 if there is no matrix instruction where the heuristic's has one, or another
                     x 2 if copies do not run by themselves where the heuristic's do
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tgrad.autotuning.session import (
    COMPILE_LIMIT,
    Session,
    Subject,
    record_of,
    share_budget,
    subjects_of,
)
from tgrad.fusion.region_json import region_to_json
from tgrad.kernel.ir import StaticFigures
from tgrad.kernel.space import Choice, SearchSpace
from tgrad.runtime.plan import Plan
from tgrad.tune.record import Record
from tgrad.tune.search import BATCH, Outcome, Trial, candidates_of
from tgrad.tune.workers import Message, WorkerLost

BETTER = 0.95
"""Of the heuristic's score: a choice must be below that to be taken."""


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A compiled choice."""

    choice: Choice
    score: float


def rank(session: Session, plans: Iterable[Plan]) -> list[Record]:
    """Rank choices for the kernels of plans until the budget is spent, by their share of the time.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    request = session.request
    found = subjects_of(plans, session.backend, request.kernels)
    subjects = share_budget(found, session.backend, request.budget, session.jobs, False)
    session.listener.planned(subjects)
    deadline = time.monotonic() + request.budget
    records: list[Record] = []
    for subject in subjects:
        if time.monotonic() > deadline:
            session.listener.gave_up(subject, "the time is over")
            continue
        record = _rank_one(session, subject, session.backend.space(subject.region), deadline)
        if record is not None:
            records.append(record)
    return records


def _rank_one(
    session: Session, subject: Subject, space: SearchSpace, deadline: float
) -> Record | None:
    candidates = candidates_of(space, subject.trials + 1)
    session.listener.started(subject, len(candidates))
    start, failure = _compile(session, subject, [space.start])[0]
    if start is None:
        session.listener.gave_up(subject, f"the heuristic's kernel: {failure}")
        return None
    base = space.estimate(space.start)
    best = _Ranked(space.start, BETTER * base)
    trials: list[Trial] = []
    step = max(BATCH, session.jobs)
    for at in range(1, len(candidates), step):
        if time.monotonic() > deadline:
            break
        some = candidates[at : at + step]
        for choice, (figures, failure) in zip(some, _compile(session, subject, some)):
            trial = Trial(choice, None, failure=failure)
            if figures is not None:
                score = space.estimate(choice) * penalty(figures, start)
                trial = Trial(choice, score / base if base else 1.0)
                best = min(best, _Ranked(choice, score), key=lambda r: r.score)
            trials.append(trial)
            session.listener.tried(subject, trial)
    record = record_of(subject, session.place, space.named(best.choice), trials=len(trials))
    ratio = best.score / base if best.choice != space.start and base else 1.0
    outcome = Outcome(best.choice, ratio, 0.0, tuple(trials), (), len(candidates))
    session.listener.finished(subject, record, outcome)
    return record


def _compile(
    session: Session, subject: Subject, choices: Sequence[Choice]
) -> list[tuple[StaticFigures | None, str]]:
    """The figures of each choice, or why there are none."""
    region = region_to_json(subject.region)
    messages: list[Message] = [
        {"do": "compile", "region": region, "choice": list(c)} for c in choices
    ]
    found: list[tuple[StaticFigures | None, str]] = []
    for reply in session.compilers.ask_all(messages, COMPILE_LIMIT):
        if isinstance(reply, WorkerLost):
            found.append((None, f"compiling: {reply}"))
        elif "failure" in reply:
            found.append((None, str(reply["failure"])))
        elif reply["figures"]["spills"]:
            found.append((None, "registers are spilled"))
        else:
            found.append((StaticFigures(**reply["figures"]), ""))
    return found


def penalty(figures: StaticFigures, start: StaticFigures) -> float:
    """By what a choice's estimate is multiplied, beside the heuristic's.

    >>> penalty(StaticFigures(widest_load=32), StaticFigures(widest_load=128))
    2.0
    """
    factor = 1.0
    if (figures.widest_load or 0) < (start.widest_load or 0):
        factor *= 2
    if figures.matrix_instruction != start.matrix_instruction:
        factor *= 4 if start.matrix_instruction else 1
    if start.async_copies and not figures.async_copies:
        factor *= 2
    return factor
