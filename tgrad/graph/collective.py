"""Calls in which the processes of a group exchange tensors.

In: a name, shapes and parameters. Out: the result's shape, and what the call says of itself.
Invariant: a call reads whole operands and gives one array; every process of the group makes the
same calls in the same order, since each waits for the others.

    all_reduce(x, combine)         of all x, element by element
    reduce(x, combine, root)       the same for the process `root`; x for the others
    broadcast(x, root)             x of the process `root`
    all_gather(x)                  all x, one after the other along the first axis
    reduce_scatter(x, combine)     of all x, the process's own share of the first axis
    all_to_all(x, given, taken)    rows that others have for this process: `given[p]` rows of x go
                                   to process p, `taken[p]` come from it

A second operand is the call before: nothing of it is read, so that calls stay in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tgrad.dtype import DType
from tgrad.errors import Source, UnsupportedError

Shape = tuple[int, ...]
COMBINES = ("sum", "product", "max", "min", "band", "bor", "bxor")
"""How elements are joined; torch.distributed.ReduceOp's names, small."""


@dataclass(frozen=True, slots=True)
class CollectiveCall:
    """A call of a function of `COLLECTIVES`.

    Attributes:
        function: its name.
        shapes: of the operands.
        params: of the function.
        dtype: of operand and result.
        group: number of the group; 0 is that of all processes.
        processes: how many the group has.
    """

    function: str
    shapes: tuple[Shape, ...]
    params: tuple[Any, ...]
    dtype: DType
    group: int
    processes: int

    reads = 1
    """Operands whose values are read."""
    flops = 0
    """The network's library adds; nothing is counted of it."""

    @property
    def is_in_place(self) -> bool:
        """Whether the result may take the operand's memory."""
        return self.function in ("all_reduce", "reduce", "broadcast")

    @property
    def shape(self) -> Shape:
        return COLLECTIVES[self.function](self.shapes[0], self.processes, *self.params)

    def text(self) -> str:
        """The call, as people write it."""
        params = [p if isinstance(p, str) else repr(p) for p in self.params]
        group = f" of group {self.group}" if self.group else ""
        return f"{self.function}({', '.join(['in0', *params])}) over {self.processes}{group}"

    def compute(self, operands: Sequence[np.ndarray], source: Source) -> np.ndarray:
        """The result in a group of one process.

        Raises:
            UnsupportedError: the group has others, whom an interpreter cannot reach.
        """
        if self.processes > 1:
            raise UnsupportedError(
                f"{self.function} over {self.processes} processes on the device numpy.",
                "Use the device cpu or cuda.",
                source,
            )
        return np.array(operands[0]).reshape(self.shape)


def _gathered(x: Shape, processes: int) -> Shape:
    return (processes * prod(x[:1]), *x[1:])


def _scattered(x: Shape, processes: int, combine: str) -> Shape:
    return (x[0] // processes, *x[1:])


def _exchanged(x: Shape, processes: int, given: Shape, taken: Shape) -> Shape:
    return (sum(taken), *x[1:])


COLLECTIVES: dict[str, Callable[..., Shape]] = {
    "all_reduce": lambda x, processes, combine: x,
    "reduce": lambda x, processes, combine, root: x,
    "broadcast": lambda x, processes, root: x,
    "all_gather": _gathered,
    "reduce_scatter": _scattered,
    "all_to_all": _exchanged,
}
"""Shapes of results."""
