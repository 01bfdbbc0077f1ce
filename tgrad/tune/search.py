"""The search: a choice that is quicker than the heuristic's, or the heuristic's.

In: a SearchSpace, a function that measures choices against the heuristic's, a number of trials, a
seed. Out: an Outcome. Invariant: with equal measurements, equal arguments give equal outcomes; the
heuristic's choice is left only for one that was quicker by more than the noise when it was measured
again beside it.

    candidates   the legal choices, one for each configuration, those of least estimated time
    first        what others found, the least estimates, and choices far from all these
    then         in batches: half of them neighbours of the best few (pattern search) that the
                 surrogate thinks quickest, half where it sees the best chance in the whole space
    last         the best few are confirmed: measured again, in turns, in other processes; of those
                 that are as good as the best, the one nearest to the heuristic's choice wins, so
                 that noise decides little
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from tgrad.kernel.ir import Config
from tgrad.kernel.space import Choice, SearchSpace
from tgrad.tune.surrogate import coordinates, fit

CANDIDATES = 600
"""Choices of least estimated time that are looked at."""
HOPELESS = 3.0
"""Choices of this many times the estimate of the heuristic's are not."""
BATCH = 4
FINALISTS = 5
CLOSE = 1.15
"""Times within this factor of the best are worth a second measurement."""
TIE = 0.02
"""Finalists that are within this part of the best count as equal to it."""
MARGIN = 0.02
"""Part of the heuristic's time that a winner must save, beside twice its error."""
ROUNDS = 6
FINAL_ROUNDS = 30
CURIOSITY = 1.5
"""Deviations below the mean at which the surrogate's chances are compared."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A measured choice.

    Attributes:
        ratio: its time over the heuristic's; None where it failed.
        error: of the ratio, one deviation.
        seconds: of a launch.
        failure: why it failed: refused by the compiler, crashed, too slow, or wrong.
    """

    choice: Choice
    ratio: float | None
    error: float = 0.0
    seconds: float = 0.0
    failure: str = ""


@dataclass(frozen=True)
class Outcome:
    """The end of a search.

    Attributes:
        choice: the winner.
        ratio: its time over the heuristic's; 1.0 for the heuristic's own.
        seconds: of a launch; 0.0 where nothing was measured again.
        trials: all, in order, those of finalists not included.
        finalists: their second measurements.
        candidates: how many choices there were.
    """

    choice: Choice
    ratio: float
    seconds: float
    trials: tuple[Trial, ...]
    finalists: tuple[Trial, ...]
    candidates: int


Measure = Callable[[Sequence[Choice], int], list[Trial]]
"""Of choices and a number of rounds: a trial for each. A choice that makes the same source as one
before may be left out."""


def candidates_of(space: SearchSpace, most: int = CANDIDATES) -> list[Choice]:
    """Legal choices with different configurations, the heuristic's first, then by estimate; of
    equal ones the nearest to the heuristic's."""
    seen: set[Config] = set()
    found: list[Choice] = []
    worst = space.estimate(space.start) * HOPELESS
    rated = [
        (e, space.distance(c), c) for c in space.choices() if (e := space.estimate(c)) <= worst
    ]
    rated.sort(key=lambda r: r[:2])
    for choice in (space.start, *(r[2] for r in rated)):
        config = space.config(choice)
        if config is not None and config not in seen:
            seen.add(config)
            found.append(choice)
            if len(found) == most:
                break
    return found


class Search:
    """The state of one search."""

    def __init__(
        self,
        space: SearchSpace,
        measure: Measure,
        trials: int,
        seed: int = 0,
        first: Iterable[Choice] = (),
        is_over: Callable[[], bool] = lambda: False,
        confirm: Measure | None = None,
    ):
        """
        Args:
            measure: beside the heuristic's choice.
            trials: the most choices to measure.
            first: choices to begin with.
            is_over: whether the time is used up.
            confirm: as `measure`, of the finalists; `measure` if it is not given.
        """
        self.space, self.measure, self.most = space, measure, trials
        self.confirm = confirm or measure
        self.is_over = is_over
        self.candidates = candidates_of(space)
        self.points = coordinates(space, self.candidates)
        self.number = {c: n for n, c in enumerate(self.candidates)}
        self.random = np.random.default_rng(seed)
        self.first = [c for c in first if c in self.number]
        self.trials: list[Trial] = []
        self.left = [n for n, c in enumerate(self.candidates) if c != space.start]
        self.spent = 0

    def run(self) -> Outcome:
        """Measure until the trials or the time are used up, then decide."""
        self._try(self._start())
        while self.left and self.spent < self.most and not self.is_over():
            self._try(self._next())
        return self._decide()

    def _try(self, chosen: Sequence[int]) -> None:
        taken = list(dict.fromkeys(n for n in chosen if n in set(self.left)))
        taken = taken[: max(self.most - self.spent, 0)]
        gone = set(taken)
        self.left = [n for n in self.left if n not in gone]
        if taken:
            self.spent += len(taken)
            self.trials += self.measure([self.candidates[n] for n in taken], ROUNDS)

    def _start(self) -> list[int]:
        """What others found, the two least estimates, then points far from all taken."""
        count = min(max(self.most // 2, 2), 2 * BATCH)
        chosen = list(dict.fromkeys([0, *(self.number[c] for c in self.first), *self.left[:2]]))
        while len(chosen) <= min(count, len(self.left)):
            apart = self.points[:, None, :] - self.points[chosen][None, :, :]
            nearest = (apart**2).sum(2).min(1)
            nearest += 1e-3 * self.random.random(len(nearest))
            nearest[chosen] = -1
            chosen.append(int(nearest.argmax()))
        return chosen[1 : count + 1]

    def _next(self) -> list[int]:
        """A batch, by the surrogate."""
        known = [t for t in self.trials if t.ratio is not None]
        numbers = [0, *(self.number[t.choice] for t in known)]
        logs = np.array([0.0, *(log(t.ratio) for t in known if t.ratio is not None)])
        mean, deviation = fit(self.points[numbers], logs).predict(self.points[self.left])
        by_mean = [self.left[i] for i in np.argsort(mean, kind="stable")]
        by_chance = [self.left[i] for i in np.argsort(mean - CURIOSITY * deviation, kind="stable")]
        best = [numbers[i] for i in np.argsort(logs, kind="stable")[:3]]
        near = [n for n in by_mean if any(self._are_neighbours(n, b) for b in best)]
        chosen: list[int] = []
        for pair in zip(near or by_mean, by_chance):
            chosen += [n for n in pair if n not in chosen]
        return chosen[:BATCH]

    def _are_neighbours(self, a: int, b: int) -> bool:
        """Whether two choices differ in one parameter."""
        pairs = zip(self.candidates[a], self.candidates[b])
        return sum(x != y for x, y in pairs) == 1

    def _decide(self) -> Outcome:
        known = sorted(
            (t for t in self.trials if t.ratio is not None), key=lambda t: t.ratio or 0.0
        )
        hopeful = [t for t in known if t.ratio is not None and t.ratio < 1 - MARGIN / 2]
        best = hopeful[0].ratio if hopeful else None
        close = [t for t in hopeful if best and t.ratio and t.ratio <= best * CLOSE][:FINALISTS]
        close.sort(key=lambda t: self._simplicity(t.choice))
        again = self.confirm([t.choice for t in close], FINAL_ROUNDS) if close else []
        choice, ratio, seconds = self.space.start, 1.0, 0.0
        winner = pick_winner(again, self._simplicity)
        if winner is not None and winner.ratio is not None:
            choice, ratio, seconds = winner.choice, winner.ratio, winner.seconds
        return Outcome(
            choice, ratio, seconds, tuple(self.trials), tuple(again), len(self.candidates)
        )

    def _simplicity(self, choice: Choice) -> tuple[int, int]:
        return self.space.distance(choice), self.number[choice]


def pick_winner(
    finalists: Sequence[Trial], simplicity: Callable[[Choice], tuple[int, int]]
) -> Trial | None:
    """Of the finalists that are as good as the best, the simplest; None if the heuristic stays."""
    measured = [(t.ratio, t) for t in finalists if t.ratio is not None]
    if not measured:
        return None
    best = min(ratio for ratio, _ in measured)
    good = [
        t
        for ratio, t in measured
        if ratio <= best * (1 + TIE) and ratio + 2 * t.error <= 1 - MARGIN
    ]
    return min(good, key=lambda t: simplicity(t.choice), default=None)
