"""What is held while kernels run in an order.

In: kernels in order, the nodes that hold no memory of theirs, and what results may overwrite. Out:
the life of each value, and the bytes held at each step. Invariant: pure; sizes are those of the
arena, which aligns each value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from tgrad.fusion.partition import Fused
from tgrad.graph.node import Node

_GRAIN = 256


@dataclass(frozen=True)
class Life:
    """A value: the step that writes it first and the steps that touch it after."""

    first: int
    last: int
    writers: tuple[int, ...]
    readers: tuple[int, ...]


class Schedule:
    """Steps in order, and what is held at each.

    Attributes:
        steps: kernels in order.
        fixed: nodes that hold no memory of the arena: buffers of the caller, results.
        donated: for results, the buffer of the caller that they may overwrite.
        lives: of all values in the arena.
        overwritten: for buffers of the caller, the step that may overwrite them.
    """

    def __init__(
        self, steps: Sequence[Fused], fixed: frozenset[Node], donated: Mapping[Node, Node]
    ):
        self.steps, self.fixed, self.donated = list(steps), fixed, donated
        written: dict[Node, list[int]] = {}
        read: dict[Node, list[int]] = {}
        for i, f in enumerate(steps):
            for n in f.outputs:
                written.setdefault(n, []).append(i)
            for n in f.inputs:
                read.setdefault(n, []).append(i)
        self.lives = {
            n: Life(w[0], max([*w, *read.get(n, ())]), tuple(w), tuple(read.get(n, ())))
            for n, w in written.items()
            if n not in fixed
        }
        self.overwritten = {
            buffer: written[result][0] for result, buffer in donated.items() if result in written
        }

    @cached_property
    def held(self) -> list[int]:
        """Bytes at each step."""
        change = [0] * (len(self.steps) + 1)
        for n, life in self.lives.items():
            change[life.first] += aligned(n)
            change[life.last + 1] -= aligned(n)
        return list(accumulate(change[: len(self.steps)]))

    @cached_property
    def peak(self) -> int:
        """The most bytes that are held at once."""
        return max(self.held, default=0)

    def idle(self) -> list[tuple[Node, Life, list[int]]]:
        """Values that are held at the peak, which neither makes nor reads them, and the steps
        after it that read them."""
        top = self.held.index(self.peak)
        found = []
        for n, life in self.lives.items():
            uses = [i for i in life.readers if i > top]
            if life.first < top < life.last and top not in life.readers and uses:
                found.append((n, life, uses))
        return found


def aligned(value: Node) -> int:
    """Bytes that the arena gives it."""
    return -(-value.nbytes // _GRAIN) * _GRAIN
