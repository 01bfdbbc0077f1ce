"""The table of operators that tgrad calls otherwise, and what its rows share.

In: rules, by the names of operators, with or without their overloads. Out: RULES. Invariant: a rule
takes what the operator takes, in its order, less what says how memory is laid out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tgrad
from tgrad import Tensor

Function = Callable[..., Any]
Tensors = tuple[Tensor | None, ...]

RULES: dict[str, Function] = {}


@dataclass(frozen=True)
class Lies:
    """How PyTorch's tensor lies in its memory.

    Attributes:
        order: its axes, the nearest neighbours last; None where it leaves gaps there.
        start: the place of its first element.
    """

    order: tuple[int, ...] | None
    start: int


def rules_of(table: dict[str, Function]) -> Callable[..., Callable[[Function], Function]]:
    """A decorator that writes functions into a table under the names that it is given."""

    def rule(*names: str) -> Callable[[Function], Function]:
        def record(function: Function) -> Function:
            table.update(dict.fromkeys(names, function))
            return function

        return record

    return rule


rule = rules_of(RULES)


def gradients(
    function: Function, g: Tensor, inputs: Sequence[Tensor], wanted: Sequence[bool]
) -> Tensors:
    """Gradients of a function's result with respect to those inputs that are wanted."""
    chosen = [i for i, is_wanted in enumerate(wanted) if is_wanted]

    def of_chosen(*values: Tensor) -> Tensor:
        full = list(inputs)
        for i, value in zip(chosen, values):
            full[i] = value
        return function(*full)

    if not chosen:
        return len(inputs) * (None,)
    with tgrad.enable_grad():
        _, pull = tgrad.func.vjp(of_chosen, *(inputs[i] for i in chosen))
        found = dict(zip(chosen, pull(g)))
    return tuple(found.get(i) for i in range(len(inputs)))
