"""Arguments of many sizes for one plan: what `dynamic=` says, and what a call makes of it.

In: the ranges of axes and of integer arguments. Out: for each call the values of its symbols, and
its arguments in memory that is laid out for the largest sizes. Invariant: a size out of its range,
and two sizes of one name that differ, are errors before anything runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tgrad.errors import ShapeError, Source, UnsupportedError
from tgrad.graph.size import Symbol
from tgrad.many_sizes import PaddedPlan
from tgrad.nn.module import Module
from tgrad.pipeline import upload
from tgrad.runtime.device import open_device
from tgrad.runtime.planning import current_planning
from tgrad.tensor import Tensor

_FORMS = (
    "Give {'x': {axis: (smallest, largest)}} for axes of a tensor, {'n': (smallest, largest)} for "
    "an int; sizes that are always equal get one name: ('T', smallest, largest)."
)


@dataclass(frozen=True)
class Dim:
    """A size that differs from call to call of a compiled function.

    Args:
        name: sizes of one name are equal in every call.
        smallest, largest: the range, both included.

    >>> import tgrad
    >>> rows = tgrad.Dim("rows", 1, 64)
    >>> @tgrad.compile(dynamic={"x": {0: rows}, "y": {0: rows}})
    ... def error(x, y):
    ...     return (x - y).abs().mean()
    >>> [error(tgrad.ones(n), tgrad.zeros(n)).item() for n in (1, 3, 64)], error.traces
    ([1.0, 1.0, 1.0], 1)
    """

    name: str
    smallest: int
    largest: int


@dataclass(frozen=True)
class Bound:
    """The arguments of one call.

    Attributes:
        args, kwargs: with a Dim in place of each dynamic integer.
        values: of the symbols, by number.
        axes: by the id of a tensor, {axis: number of its symbol}.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    values: tuple[int, ...]
    axes: Mapping[int, Mapping[int, int]]


class Dynamic:
    """What `dynamic=` says about a function.

    Args:
        spec: see `tgrad.compile`.
        function: whose parameters it names.
        name, source: of the function, for messages.

    Attributes:
        dims: the symbols, by number.
    """

    def __init__(self, spec: Any, function: Callable[..., Any], name: str, source: Source):
        if not isinstance(spec, Mapping):
            raise UnsupportedError(f"compile: dynamic={spec!r}.", _FORMS)
        self.spec, self.name, self.source = spec, name, source
        self.dims: list[Dim] = []
        of = function.forward if isinstance(function, Module) else function
        parameters = inspect.signature(of).parameters
        self.places = {p: i for i, p in enumerate(parameters)}
        self.axes: dict[str, dict[int, int]] = {}
        self.integers: dict[str, int] = {}
        for parameter, said in spec.items():
            kind = parameters[parameter].kind if parameter in parameters else None
            if kind is None or kind in (inspect.Parameter.VAR_POSITIONAL,
                                        inspect.Parameter.VAR_KEYWORD):  # fmt: skip
                raise UnsupportedError(
                    f"compile: dynamic= names {parameter!r}, which is no parameter of {name!r}.",
                    f"Its parameters are {', '.join(parameters)}.",
                )
            if isinstance(said, Mapping):
                label = f"{parameter}.shape[{{}}]"
                self.axes[parameter] = {a: self._number(d, label.format(a))
                                        for a, d in said.items()}  # fmt: skip
            else:
                self.integers[parameter] = self._number(said, parameter)

    def _number(self, said: Any, label: str) -> int:
        """The number of the symbol that a range stands for."""
        if not isinstance(said, Dim):
            if not (isinstance(said, (tuple, list)) and len(said) in (2, 3)):
                raise UnsupportedError(f"compile: dynamic= says {said!r} of {label}.", _FORMS)
            said = Dim(*said) if len(said) == 3 else Dim(label, *said)
        if not 0 <= said.smallest < said.largest:
            raise ShapeError(
                f"compile: dynamic= says that {label} is {said.smallest} to {said.largest}.",
                "Give a smallest of 0 or more and a largest above it.",
            )
        for number, known in enumerate(self.dims):
            if known.name == said.name:
                if known != said:
                    raise ShapeError(
                        f"compile: dynamic= gives {said.name!r} two ranges, {known.smallest} to "
                        f"{known.largest} and {said.smallest} to {said.largest}.",
                        "Sizes of one name are equal: give them one range.",
                    )
                return number
        self.dims.append(said)
        return len(self.dims) - 1

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound:
        """The symbols of a call.

        Raises:
            ShapeError: a size is out of its range, or two of one name differ.
            UnsupportedError: an argument is not of the kind that dynamic= says.
        """
        found: dict[int, tuple[int, str]] = {}
        axes: dict[int, dict[int, int]] = {}
        given, named = list(args), dict(kwargs)
        for parameter, wanted in self.axes.items():
            t = self._argument(parameter, args, kwargs)
            if t is None:
                continue
            if type(t) is not Tensor:
                raise self._wrong_kind(parameter, t, "a tensor", "sizes of axes of")
            if t._requires_grad:
                raise UnsupportedError(
                    f"the argument {parameter!r} of {self.name!r}, compiled, requires a gradient "
                    "and has sizes in dynamic=.",
                    "Pass .detach() of it; parameters have fixed sizes.",
                )
            for axis, number in wanted.items():
                place = self._axis(axis, t, parameter)
                self._note(found, number, t._node.shape[place], f"{parameter}.shape[{axis}]")
                axes.setdefault(id(t), {})[place] = number
        for parameter, number in self.integers.items():
            n = self._argument(parameter, args, kwargs)
            if n is None:
                continue
            if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
                raise self._wrong_kind(parameter, n, "an int", "the range of")
            self._note(found, number, int(n), parameter)
            place = self.places[parameter]
            if place < len(args):
                given[place] = self.dims[number]
            else:
                named[parameter] = self.dims[number]
        values = tuple(found[i][0] if i in found else d.smallest for i, d in enumerate(self.dims))
        return Bound(tuple(given), named, values, axes)

    def _argument(self, parameter: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        place = self.places[parameter]
        return args[place] if place < len(args) else kwargs.get(parameter)

    def _axis(self, axis: int, t: Tensor, parameter: str) -> int:
        rank = t.ndim
        if not -rank <= axis < rank:
            raise ShapeError(
                f"dynamic= names axis {axis} of {parameter!r}, which has the shape {t.shape} in "
                f"this call of {self.name!r}.",
                "Name axes that it has.",
            )
        return axis % rank

    def _wrong_kind(self, parameter: str, value: Any, wanted: str, said: str) -> UnsupportedError:
        return UnsupportedError(
            f"the argument {parameter!r} of {self.name!r}, compiled, is a {type(value).__name__}, "
            f"and dynamic= gives {said} {wanted}.",
            f"Pass {wanted}; tensors in lists, tuples and dicts have fixed sizes.",
        )

    def _note(self, found: dict[int, tuple[int, str]], number: int, n: int, label: str) -> None:
        dim = self.dims[number]
        if not dim.smallest <= n <= dim.largest:
            raise ShapeError(
                f"{label} is {n} in a call of {self.name!r}, compiled for {dim.smallest} to "
                f"{dim.largest}.",
                "Give dynamic= a larger range; memory is laid out for its largest size.",
            )
        if number in found and found[number][0] != n:
            other = found[number]
            raise ShapeError(
                f"{other[1]} is {other[0]} and {label} is {n} in a call of {self.name!r}; "
                f"dynamic= says that both are {dim.name!r}.",
                "Pass equal sizes, or give them different names.",
            )
        found[number] = n, label

    def symbols(self, values: Sequence[int]) -> list[Symbol]:
        """The symbols for a trace of a call with these values."""
        return [Symbol(d.name, d.smallest, d.largest, n) for d, n in zip(self.dims, values)]


# -- memory --------------------------------------------------------------------------------------


class PaddedArgument:
    """The memory that an argument is copied to at each call, laid out for the largest sizes.

    What lies beyond the sizes of a call is what earlier calls left there, or zeros.
    """

    def __init__(self, capacities: tuple[int, ...]):
        self.capacities = capacities
        self.tensor: Tensor | None = None

    def take(self, t: Tensor) -> Tensor:
        """A tensor that begins with the elements of the argument."""
        source = t._storage
        assert source is not None
        held = self.tensor
        if held is None:
            zeros = np.zeros(self.capacities, source.dtype.numpy)
            held = Tensor._of(None, source.device, upload(zeros, source.dtype, source.device))
            if current_planning() is None:
                self.tensor = held
        assert held._storage is not None
        open_device(source.device).copy_box(
            held._storage.memory, self.capacities, source.memory, source.shape,
            source.dtype.itemsize,
        )  # fmt: skip
        return held

    def holds(self, memory: Any) -> bool:
        """Whether it is this memory."""
        storage = None if self.tensor is None else self.tensor._storage
        return storage is not None and storage.memory is memory


_padded: WeakKeyDictionary[PaddedPlan, dict[int, PaddedArgument]] = WeakKeyDictionary()


def padded_argument(plan: PaddedPlan, number: int, capacities: tuple[int, ...]) -> PaddedArgument:
    """What a leaf of a plan is copied to, in every trace that the plan serves."""
    own = _padded.setdefault(plan, {})
    if number not in own:
        own[number] = PaddedArgument(capacities)
    return own[number]
