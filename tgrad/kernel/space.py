"""The configurations that a kernel may have, for a search.

In: a generator's parameters with their legal values. Out: `SearchSpace`, choices in, Configs out.
Invariant: the heuristic's own choice is in the space; a choice that `config` turns down (None)
breaks a limit of the device, and no other error comes from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from tgrad.kernel.ir import Config

Value = int | str
Choice = tuple[Value, ...]
"""One value for each parameter, in the order of a space's parameters."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a measurement holds.

    Attributes:
        device: processor or GPU, with what of it decides a kernel's time.
        generator: tgrad's generator and the compiler behind it, with their versions.
    """

    device: str
    generator: str

    @property
    def kind(self) -> tuple[str, str]:
        """The processor or GPU by name, and tgrad's generator: what places have in common whose
        measurements are worth a start of a search, and no more.

        >>> Place("sm_90, 132 multiprocessors", "Triton 1, triton 3.7.1").kind
        ('sm_90', 'Triton 1')
        """
        return self.device.partition(",")[0], self.generator.partition(",")[0]


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something to choose.

    Attributes:
        name: such as "k_block".
        values: the legal ones; numbers ascend, so that neighbours are alike.
    """

    name: str
    values: tuple[Value, ...]

    @property
    def is_ordered(self) -> bool:
        """Whether neighbouring values are alike."""
        return all(isinstance(v, int) for v in self.values)

    def nearest(self, value: Value) -> Value | None:
        """The legal value that is most like one of another kernel; None if there is none.

        >>> Parameter("block", (16, 32, 64)).nearest(50), Parameter("axis", ("m",)).nearest("n")
        (64, None)
        """
        if value in self.values:
            return value
        numbers = [v for v in self.values if isinstance(v, int)]
        if not isinstance(value, int) or not numbers:
            return None
        return min(numbers, key=lambda v: (abs(v - value), -v))


def parameter(name: str, values: Sequence[Value], start: Value) -> Parameter:
    """A parameter whose values are those given and the heuristic's.

    >>> parameter("rows", [8, 4], 6)
    Parameter(name='rows', values=(4, 6, 8))
    """
    if isinstance(start, int):
        return Parameter(name, tuple(sorted({start, *(v for v in values if isinstance(v, int))})))
    return Parameter(name, tuple(dict.fromkeys((start, *values))))


@dataclass(frozen=True)
class SearchSpace:
    """All choices for one kernel.

    Attributes:
        parameters: what there is to choose.
        start: the heuristic's choice.
        config: of a choice; None where it breaks a limit of the device.
        estimate: the time expected of a choice, in any unit: it orders choices.
        listed: the choices that `config` may take; None for all combinations of values.
    """

    parameters: tuple[Parameter, ...]
    start: Choice
    config: Callable[[Choice], Config | None]
    estimate: Callable[[Choice], float] = lambda choice: 0.0
    listed: Callable[[], Iterator[Choice]] | None = None

    def choices(self) -> Iterator[Choice]:
        """All of them, in the order of the values."""
        if self.listed is not None:
            return self.listed()
        return product(*(p.values for p in self.parameters))

    def named(self, choice: Choice) -> dict[str, Value]:
        """A choice by parameter."""
        return {p.name: v for p, v in zip(self.parameters, choice)}

    def find(self, named: Mapping[str, Value]) -> Choice | None:
        """The choice with exactly these values; None if it is not in the space."""
        if set(named) != {p.name for p in self.parameters}:
            return None
        choice = tuple(named[p.name] for p in self.parameters)
        legal = all(
            type(v) in (int, str) and v in p.values for p, v in zip(self.parameters, choice)
        )
        return choice if legal else None

    def nearest(self, named: Mapping[str, Value]) -> Choice | None:
        """The choice most like that of another kernel with the same parameters."""
        if set(named) != {p.name for p in self.parameters}:
            return None
        found = [p.nearest(named[p.name]) for p in self.parameters]
        return None if None in found else tuple(v for v in found if v is not None)

    def distance(self, choice: Choice) -> int:
        """Steps from the heuristic's choice: along numbers each value counts, else 1."""
        return sum(
            abs(p.values.index(a) - p.values.index(b)) if p.is_ordered else int(a != b)
            for p, a, b in zip(self.parameters, choice, self.start)
        )
