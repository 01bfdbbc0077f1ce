"""`tgrad.cond`: one of two computations, chosen by a value that is not known yet.

In: a predicate, two functions, their operands. Out: the results of the one that it names, as graph.
Invariant: both are traced and both are computed; `where` chooses, element by element, so they may
not do anything but compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from tgrad.compiling.guards import freeze
from tgrad.compiling.replay import Out
from tgrad.compiling.structure import replaced
from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.errors import DTypeError, ShapeError, TraceError
from tgrad.functional import where
from tgrad.graph.node import Node
from tgrad.nn.parameter import realize_parameters
from tgrad.random import Generator
from tgrad.tensor import Tensor, drop_pending, labelled, mark_pending
from tgrad.tracing import Refuse, Tracer, check_values, tracer, tracing

Branch = Callable[..., Any]


@labelled("cond")
def cond(
    pred: bool | Tensor,
    true_fn: Branch,
    false_fn: Branch,
    operands: tuple[Any, ...] | list[Any] = (),
) -> Any:
    """`true_fn(*operands)` where `pred` holds, else `false_fn(*operands)`, without reading `pred`.

    Both functions are called and both results are computed: it costs what both cost, and serves
    where Python's `if` would have to wait for a value, as in compiled steps. Gradients flow into
    both, zeros into the one that was not chosen; as with `where`, zero times an infinite derivative
    is NaN there too. A `bool` chooses at once and calls one function.

    Args:
        pred: one element, of any dtype: true where it is not zero.
        true_fn, false_fn: functions of the operands that return tensors, or the same nest of lists,
            tuples, dicts and dataclasses of them, of equal shapes and dtypes. They only compute:
            what they change in place, in gradients or in random seeds is an error.
        operands: what both are called with.

    Raises:
        ShapeError: `pred` has more than one element, or the results differ in shape or structure.
        DTypeError: the results differ in dtype.
        TraceError: a function changes a tensor or reads a value.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.cond.html

    >>> import tgrad
    >>> x = tgrad.tensor([1.0, -2.0])
    >>> tgrad.cond(x.sum() > 0, lambda x: x * 2, lambda x: -x, (x,)).tolist()
    [-1.0, 2.0]
    """
    if not isinstance(operands, (tuple, list)):
        raise DTypeError(
            f"cond with operands of type {type(operands).__name__}.", "Give a tuple of them."
        )
    if isinstance(pred, bool):
        return (true_fn if pred else false_fn)(*operands)
    if not isinstance(pred, Tensor):
        raise DTypeError(
            f"cond of a {type(pred).__name__}.", "Give a bool or a tensor of one element."
        )
    if pred.numel() != 1:
        raise ShapeError(
            f"cond of a predicate of shape {pred.shape}.",
            "Give one element; tgrad.where chooses element by element.",
        )
    if tracer() is None:
        realize_parameters()
    kept, chosen = _called(true_fn, "true_fn", operands)
    other, alternatives = _called(false_fn, "false_fn", operands)
    if freeze(kept) != freeze(other):
        raise ShapeError(
            "the functions of cond return different things beside tensors, or other nests of them.",
            "Return as many tensors from both, in the same lists, tuples and dicts.",
        )
    holds = pred.reshape(()) != 0
    made = [_choose(holds, *pair) for pair in zip(chosen, alternatives)]
    return replaced(kept, lambda place: made[place.number], Out)


def _called(branch: Branch, name: str, operands: Any) -> tuple[Any, list[Tensor]]:
    """A function's result with numbers in place of its tensors, and these."""
    with tracing(_Computing(name, tracer())):
        result = branch(*operands)
    found: list[Tensor] = []

    def note(t: Tensor) -> Out:
        found.append(t)
        return Out(len(found) - 1)

    return replaced(result, note), found


def _choose(holds: Tensor, a: Tensor, b: Tensor) -> Tensor:
    if a.shape != b.shape:
        raise ShapeError(
            f"the functions of cond return shapes {a.shape} and {b.shape}.",
            "Give both results one shape, for example by expand.",
        )
    if a.dtype is not b.dtype:
        raise DTypeError(
            f"the functions of cond return {a.dtype.name} and {b.dtype.name}.",
            "Convert one of them with .to(dtype).",
        )
    return where(holds, a, b)


class _Computing:
    """The tracer of a branch: it may compute, and draw random numbers, and nothing else.

    Args:
        name: of the branch, for messages.
        outer: the trace around it, if there is one.
    """

    def __init__(self, name: str, outer: Tracer | None):
        self.name, self.outer = name, outer
        self.gradients: list[Tensor] = []
        self.constants = {} if outer is None else outer.constants

    @property
    def differentiated(self) -> bool:
        return self.outer is not None and self.outer.differentiated

    @differentiated.setter
    def differentiated(self, value: bool) -> None:
        if self.outer is not None:
            self.outer.differentiated = value

    def refuse(self, what: str, hint: str = "") -> NoReturn:
        raise TraceError(
            f"{what} in {self.name} of tgrad.cond.",
            "Both functions are computed, whichever is chosen, so they only compute: return new "
            "values, and change tensors outside with what cond returns.",
        )

    def note(self, t: Tensor) -> None:
        if any(t is g for g in self.gradients):
            self.set_gradient(t, t)
        self.refuse(f"a tensor of shape {t.shape} is changed")

    note_view = note

    def gradient(self, leaf: Tensor) -> Tensor | None:
        with tracing(self.outer):
            found = leaf.grad
        if found is not None:
            self.gradients.append(found)
        return found

    def set_gradient(self, leaf: Tensor, value: Tensor | None) -> None:
        self.refuse(f"the gradient of a tensor of shape {leaf.shape} is set")

    def mark(self, t: Tensor) -> None:
        with tracing(self.outer):
            mark_pending(t)

    def drop(self, t: Tensor) -> None:
        with tracing(self.outer):
            drop_pending(t)

    def number(
        self, key: Any, read: Callable[[], int | float], device: Device, dtype: DType
    ) -> Tensor:
        self.refuse("an optimizer makes a step")

    def draw(self, generator: Generator, device: Device) -> tuple[Node, Node]:
        with tracing(self.outer):
            return generator.draw(device)

    def check(self, t: Tensor, refuse: Refuse, *args: Any) -> None:
        with tracing(self.outer):
            check_values(t, refuse, *args)

    def exchanged(self, device: Device) -> list[Tensor]:
        self.refuse("processes exchange a tensor")

    def exchange(self, t: Tensor) -> None:
        self.refuse("processes exchange a tensor")

    def keep_once(self) -> None:
        self.refuse("an optimizer makes a step")
