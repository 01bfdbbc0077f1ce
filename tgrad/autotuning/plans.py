"""The search over choices for whole graphs: what is stored, joined, split, and in which order.

In: graphs that were planned, a session. Out: the plans of what was found to be quickest, and a
record a graph. Invariant: a place is tried only where the model of costs is unsure; it goes another
way only if that was quicker by more than the noise, with results that agree and hardly more memory.

    places of a graph, the most bytes first
      each the other way:  planned again -> kernels that differ -> times predicted within UNSURE
                           -> both plans run and compared -> the kernels that differ, in turns
      quicker:             kept, and the next place is tried beside it

A place that was tried is in the record, whichever way it went, so that a session that was ended
goes on with the next one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tgrad.autotuning.session import (
    COMPILE_LIMIT,
    PlanTrial,
    Session,
    deviation,
    predicted_seconds,
    typical,
)
from tgrad.autotuning.whole import message_of
from tgrad.errors import TgradError
from tgrad.fusion.choices import AS_PLANNED, PlanChoices, Site, choices_of
from tgrad.runtime.plan import Compiled, Plan, PlannedGraph
from tgrad.tune.key import region_key
from tgrad.tune.lookup import Choices
from tgrad.tune.record import Record, plan_record
from tgrad.tune.search import FINAL_ROUNDS, MARGIN, ROUNDS
from tgrad.tune.workers import WorkerLost

UNSURE = 3.0
"""Predicted times within this factor of each other are left to a measurement: elementwise functions
count one FLOP each, and a logarithm takes ten times as long as a sum."""
SHARE = 0.4
"""Of the budget, at most."""
PLACE_SECONDS = {"cpu": 1.5, "cuda": 4.0}
"""What a place costs, assumed: planning again, compiling, measuring."""
LOOKED_AT = 3
"""Places planned again for each one that the budget pays to measure."""
FINAL_SECONDS = 5.0
"""Of the last measurement of a place, as far as that leaves a few rounds."""
PATIENCE = 1200.0
"""How many times the kernels that differ might have run before a worker counts as hanging."""
MORE_MEMORY, MORE_BYTES = 0.02, 32 << 20
"""By which a plan may grow: part of its peak, inputs included, or bytes, whichever is more."""


def tune_graphs(session: Session, graphs: Sequence[PlannedGraph]) -> tuple[list[Plan], float]:
    """Decide places of graphs, those of the longest predicted time first.

    Returns:
        The plans to run, in the order of the graphs, and the seconds of the budget that are spent
        by assumption.

    Raises:
        StoreError: the store cannot be written.
        KeyboardInterrupt: Ctrl-C.
    """
    each = PLACE_SECONDS["cpu" if session.backend.name == "cpu" else "cuda"]
    left = int(session.request.budget * SHARE / each) if session.request.kernels == "*" else 0
    known = Choices(session.place, [session.store.records()])
    searches = {g.key: _Search(session, g, known.plan_record(g.key)) for g in graphs}
    spent = 0
    session.start()
    for search in sorted(searches.values(), key=lambda s: -s.predicted(s.current)):
        spent += search.run(left - spent)
    return [searches[g.key].current.plan for g in graphs], spent * each


@dataclass
class _Search:
    """The places of one graph.

    Attributes:
        decided: what was done at each place that was tried.
        heuristic, tuned: seconds of the kernels that differed, before and after.
        trials: how many were measured.
    """

    session: Session
    graph: PlannedGraph
    known: Record | None
    decided: dict[str, str] = field(default_factory=dict)
    heuristic: float = 0.0
    tuned: float = 0.0
    trials: int = 0

    def __post_init__(self) -> None:
        planned = self.graph.planned
        kernels = planned.plan.kernels
        largest = max(kernels, key=lambda k: k.flops + k.bytes).name if kernels else "nothing"
        self.name = f"plan of {len(kernels)} kernels, {largest}"
        self.decided = dict(planned.plan.choices.decided)
        if self.known is not None:
            self.name = self.known.kernel
            self.decided = {site: str(value) for site, value in self.known.choice.items()}
            self.heuristic, self.tuned = self.known.heuristic, self.known.tuned
            self.trials = self.known.trials
        is_same = self.choices == planned.plan.choices
        self.current = planned if is_same else self.graph.again(self.choices)

    @property
    def choices(self) -> PlanChoices:
        return choices_of(self.decided)

    def predicted(self, compiled: Compiled) -> float:
        """Seconds of a run."""
        kernels = compiled.plan.kernels
        return sum(predicted_seconds(k.region, self.session.backend) for k in kernels)

    def run(self, most: int) -> int:
        """Try places until `most` were measured; how many were."""
        measured, tried = 0, set[str]()
        if not self.current.plan.kernels or most <= 0:
            return 0
        places = list(self.graph.places(self.choices))
        deadline = self.session.start() + SHARE * self.session.request.budget
        while places and measured < most and len(tried) < LOOKED_AT * most:
            if time.monotonic() > deadline:
                break
            site = places.pop(0)
            if site.name in self.decided or site.name in tried:
                continue
            tried.add(site.name)
            trial = self._try(site)
            if trial is None:
                continue
            measured += 1
            self._decide(site, trial)
            if trial.is_kept:  # the graph has other places now
                places = list(self.graph.places(self.choices))
        return measured

    def _try(self, site: Site) -> PlanTrial | None:
        """One place the other way; None where nothing differs or the model is sure."""
        try:
            other = self.graph.again(self.choices.also(site.name, site.other))
        except TgradError as error:
            return PlanTrial(self.name, site.name, site.other, failure=error.what)
        before, after = _changed(self.current.plan, other.plan)
        if not before and not after:
            return None
        seconds = [
            sum(predicted_seconds(c.plan.kernels[n].region, self.session.backend) for n in steps)
            for c, steps in ((self.current, before), (other, after))
        ]
        if seconds[1] >= UNSURE * seconds[0]:
            return None
        peaks = [c.plan.peak_bytes + c.plan.input_bytes for c in (self.current, other)]
        more = peaks[1] - peaks[0]
        if more > max(MORE_MEMORY * peaks[0], MORE_BYTES):
            return PlanTrial(self.name, site.name, site.other, failure=f"takes {more:,} bytes more")
        trial = self._measure(site, other, before, after)
        if trial.is_kept:
            self.current = other
        return trial

    def _measure(
        self, site: Site, other: Compiled, before: Sequence[int], after: Sequence[int]
    ) -> PlanTrial:
        """Few rounds; if they promise something, many."""
        plans = [
            message_of(c, self.graph.leaves, steps)
            for c, steps in ((self.current, before), (other, after))
        ]
        trial = PlanTrial(self.name, site.name, site.other)
        for final in (False, True):
            rounds = ROUNDS if not final else _final_rounds(trial.seconds)
            message = {"do": "compare", "plans": plans, "rounds": rounds}
            seed, patience = self.session.request.seed, COMPILE_LIMIT * 3 + PATIENCE * trial.seconds
            try:
                reply = self.session.measurer.ask({**message, "seed": seed}, patience)
            except WorkerLost as lost:
                return PlanTrial(self.name, site.name, site.other, failure=f"running: {lost}")
            if "failure" in reply:
                failure = str(reply["failure"])
                return PlanTrial(self.name, site.name, site.other, failure=failure)
            base, times = reply["seconds"]
            ratio, error = typical(times) / typical(base), deviation(times, base)
            is_kept = final and ratio + 2 * error <= 1 - MARGIN
            trial = PlanTrial(
                self.name, site.name, site.other, ratio, error, typical(base), "", is_kept
            )
            if ratio > 1 - MARGIN / 2:
                break
        return trial

    def _decide(self, site: Site, trial: PlanTrial) -> None:
        """Note a place and store what is known of the graph."""
        self.decided[site.name] = site.other if trial.is_kept else AS_PLANNED
        self.trials += 1
        self.heuristic += trial.seconds
        self.tuned += trial.seconds * (trial.ratio if trial.is_kept and trial.ratio else 1.0)
        record = plan_record(
            self.graph.key,
            self.name,
            self.session.place,
            self.decided,
            self.heuristic,
            self.tuned,
            self.trials,
        )
        self.session.store.put([record])
        self.session.listener.weighed(trial)


def _final_rounds(seconds: float) -> int:
    """Fewer for kernels that take long: those vary less."""
    return max(ROUNDS, min(FINAL_ROUNDS, round(FINAL_SECONDS / (2 * max(seconds, 1e-6)))))


def _changed(a: Plan, b: Plan) -> tuple[list[int], list[int]]:
    """The steps of each plan whose work the other does not do as often."""
    keys = [[region_key(k.region) for k in plan.kernels] for plan in (a, b)]
    counts = [Counter(k) for k in keys]
    return _beyond(keys[0], counts[0] - counts[1]), _beyond(keys[1], counts[1] - counts[0])


def _beyond(keys: Sequence[str], surplus: Counter[str]) -> list[int]:
    """The first steps of each key, as many as are more than in the other plan."""
    left = Counter(surplus)
    found = []
    for number, key in enumerate(keys):
        if left[key] > 0:
            left[key] -= 1
            found.append(number)
    return found
