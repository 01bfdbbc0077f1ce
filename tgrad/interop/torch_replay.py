"""Tensors of PyTorch as arguments and results of plans: as tensors of tgrad, or by their memory.

In: tensors of torch. Out: tensors of tgrad over the same memory, and back; `TorchReplay`, a call
that does without them: a tensor that crosses by DLPack, there and back, costs Python as much as a
small kernel takes. Invariant: nothing is copied but what does not lie as kernels read it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

import tgrad
from tgrad.compiling.replay import Out
from tgrad.compiling.short import MISSED, ShortCall, one_at_a_time
from tgrad.device import GPU_ALIGNMENT
from tgrad.dtype import DType
from tgrad.runtime.device import allocate
from tgrad.runtime.storage import Storage
from tgrad.strides import memory_order

Axes = tuple[int, ...]

_ROWS = torch.contiguous_format
FROM_POOL = 1 << 20
"""Bytes from which on results on the host lie in memory of tgrad, which keeps freed pages: fresh
ones cost more than a tensor's way across."""


def to_tgrad(value: Any) -> Any:
    """A tensor of torch as one of tgrad; anything else as it is."""
    return tgrad.from_dlpack(as_real(value.detach())) if isinstance(value, torch.Tensor) else value


def as_real(t: torch.Tensor) -> torch.Tensor:
    """The parts of complex numbers along a last axis of two, in their memory; other tensors as they
    are."""
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t


def to_torch(value: Any) -> Any:
    """A tensor of tgrad as one of torch; anything else as it is."""
    if not isinstance(value, tgrad.Tensor):
        return value
    if value.device.type == "cuda" or value.dtype.in_numpy:
        return torch.from_dlpack(value)
    bits = value.numpy().view(f"i{value.dtype.itemsize}")  # NumPy has no such capsule
    return torch.from_numpy(bits).view(getattr(torch, value.dtype.name)).data


def order_of(t: torch.Tensor) -> Axes | None:
    """The axes in the order in which elements lie in memory, nearest neighbours last, as those of
    images with channels last; None where that is their own order, or gaps are between."""
    if t.is_contiguous():
        return None
    found = memory_order(tuple(map(known, t.shape)), tuple(map(known, t.stride())))
    return None if found == tuple(range(t.ndim)) else found


def permuted(value: Any, order: Axes) -> Any:
    """A tensor of tgrad with its axes in that order; those of complex numbers have one more."""
    return value.permute((*order, *range(len(order), value.ndim)))


def known(n: Any) -> int:
    """A size, or that of the trace."""
    return n if isinstance(n, int) else int(n.node.hint)


def inverse(order: Axes) -> Axes:
    """The permutation that takes axes back."""
    return tuple(order.index(axis) for axis in range(len(order)))


@dataclass(frozen=True)
class View:
    """How a result lies in the memory of another one, `base` by its number; in elements, numbers or
    expressions of SymPy."""

    base: int
    shape: tuple[Any, ...]
    stride: tuple[Any, ...]
    offset: Any

    def of(self, base: torch.Tensor, sizes: Mapping[Any, int]) -> torch.Tensor:
        """The view, for values of the symbols."""
        shape, stride, offset = self.shape, self.stride, self.offset
        if sizes:
            shape, stride = (tuple([_value(n, sizes) for n in each]) for each in (shape, stride))
            offset = _value(offset, sizes)
        return base.as_strided(shape, stride, base.storage_offset() + offset)


def views_among(
    values: Mapping[int, torch.Tensor], own: Collection[int], symbols: Collection[Any]
) -> dict[int, View]:
    """Which of a graph's values it makes as views of another one, by their numbers: of one that
    fills its memory, such as attention's heads and the matrix that the next product takes; or of
    one of the caller's own, which lies as the graph says.

    Args:
        own: the caller's.
        symbols: those whose values each call gives.

    >>> x = torch.zeros(2, 3)
    >>> views_among({4: x, 5: x.T, 6: x.clone()}, (), ())
    {5: View(base=4, shape=(3, 2), stride=(1, 3), offset=0)}
    """
    fixed = {n: v for n, v in values.items() if _is_known(v, symbols)}
    memory = {n: (v.untyped_storage()._cdata, v.dtype) for n, v in fixed.items()}
    whole = [n for n, v in fixed.items() if _fills_its_memory(v)]
    bases = [*whole, *(n for n in fixed if n in own)]
    base_of = {memory[n]: n for n in reversed(bases)}
    return {
        n: View(
            base,
            *map(_expressions, (v.shape, v.stride())),
            *_expressions([v.storage_offset() - first]),
        )
        for n, v in fixed.items()
        if (base := base_of.get(memory[n], n)) != n
        for first in (fixed[base].storage_offset(),)
    }


def symbols_of(values: Sequence[Any]) -> dict[Any, tuple[int, int]]:
    """Where the value of each symbol is found: the argument, and which of its `numbers_of`."""
    found: dict[Any, tuple[int, int]] = {}
    for number, value in enumerate(values):
        for at, n in enumerate(numbers_of(value)):
            if isinstance(n, torch.SymInt) and n.node.expr.is_symbol:
                found.setdefault(n.node.expr, (number, at))
    return found


def numbers_of(value: Any) -> tuple[Any, ...]:
    """A number; or what says how a tensor lies."""
    if not isinstance(value, torch.Tensor):
        return (value,)
    return *value.shape, *value.stride(), value.storage_offset()


def _expressions(numbers: Iterable[Any]) -> tuple[Any, ...]:
    """Of PyTorch's symbols, as they are now: its numbers change with what it assumes later."""
    return tuple(n if isinstance(n, int) else n.node.expr for n in numbers)


def _value(n: Any, sizes: Mapping[Any, int]) -> int:
    return n if isinstance(n, int) else int(n.xreplace(sizes))


def _is_known(t: torch.Tensor, symbols: Collection[Any]) -> bool:
    """Whether a call says how it lies, with its own numbers there."""
    if t.is_conj() or t.is_neg():
        return False  # these wait to be computed
    varying = (n for n in _expressions(numbers_of(t)) if not isinstance(n, int))
    return all(n.free_symbols <= set(symbols) for n in varying)


def _fills_its_memory(t: torch.Tensor) -> bool:
    is_dense = t.is_contiguous() or order_of(t) is not None
    return is_dense and statically_known_true(
        t.untyped_storage().nbytes() == math.prod(t.shape) * t.itemsize
    )


def lies_plainly(t: torch.Tensor) -> bool:
    """Whether kernels read it where it is, row by row."""
    return t.is_contiguous() and (not t.is_cuda or t.data_ptr() % GPU_ALIGNMENT == 0)


class _Host:
    """Memory of the host as programs take it; keeps the tensor."""

    __slots__ = ("address", "tensor")

    def __init__(self, tensor: torch.Tensor):
        self.address, self.tensor = tensor.data_ptr(), tensor


class TorchReplay:
    """A short call on tensors of torch.

    Attributes:
        kinds: shape, dtype and device of each argument.
        made: for each output of the plan its shape, dtype and bytes.
        results: for each result its number among the outputs, which the arguments follow, or None;
            the shape and dtype of a copy, or None; and what it is otherwise.
    """

    def __init__(
        self,
        short: ShortCall,
        arguments: Sequence[torch.Tensor],
        made: Sequence[tuple[tuple[int, ...], DType, int]],
    ):
        self.short, self.device, self.made = short, short.device, made
        self.is_host = short.device.type == "cpu"
        self.torch_device = torch.device("cpu") if self.is_host else arguments[0].device
        self.kinds = [(t.shape, t.dtype, t.device) for t in arguments]
        self.results: list[tuple[int | None, Any, Any]] = []
        taken = set(range(len(made), len(made) + len(arguments)))
        for result in short.entry.result:
            if type(result) is not Out:
                self.results.append((None, None, result))
                continue
            place, dtype, shape = short.made[result.number]
            copy = (shape, getattr(torch, dtype.name)) if place in taken else None
            self.results.append((place, copy, None))
            taken.add(place)

    @staticmethod
    def of(short: ShortCall | None, arguments: Sequence[torch.Tensor]) -> TorchReplay | None:
        """For a call that had these arguments and made a list; None where some of it is neither a
        number nor a whole tensor, or where not all is on one device."""
        if short is None or short.changes or len({t.device for t in arguments}) > 1:
            return None
        kind_of = {place: (shape, dtype) for place, dtype, shape in reversed(short.made)}
        made = [(*kind_of[n], nbytes) for n, nbytes in enumerate(short.nbytes) if n in kind_of]
        is_plain = (
            all(type(r) in (Out, int, float, bool, type(None)) for r in short.entry.result)
            and len(made) == len(short.nbytes)
            and all(math.prod(shape) * dtype.itemsize == nbytes for shape, dtype, nbytes in made)
            and (short.device.type == "cpu" or bool(arguments))
        )
        return TorchReplay(short, arguments, made) if is_plain else None

    def __call__(self, arguments: Sequence[torch.Tensor]) -> Any:
        """The results for these arguments, or MISSED."""
        memories: list[Any] = []
        for t, (shape, dtype, device) in zip(arguments, self.kinds):
            if t.shape != shape or t.dtype is not dtype or t.device != device:
                return MISSED
            whole = t if lies_plainly(t) else t.clone(memory_format=_ROWS)
            memories.append(_Host(whole) if self.is_host else whole)
        short = self.short
        with one_at_a_time:
            if not short.holds():
                return MISSED
            for number, refuse, args in short.entry.checks:
                refuse(arguments[number].numpy(), *args)
            made = [self._allocated(*kind) for kind in self.made]
            short.run(memories, [memory for _, memory in made])
        found = [*(t for t, _ in made), *arguments]
        return [self._result(found, *result) for result in self.results]

    def _allocated(self, shape: tuple[int, ...], dtype: DType, nbytes: int) -> tuple[Any, Any]:
        """A new tensor, and its memory."""
        if self.is_host and nbytes >= FROM_POOL and dtype.in_numpy:
            memory = allocate(self.device, nbytes)
            storage = Storage(self.device, dtype, shape, memory)
            return to_torch(tgrad.Tensor._of(None, self.device, storage)), memory
        t = torch.empty(shape, dtype=getattr(torch, dtype.name), device=self.torch_device)
        return t, _Host(t) if self.is_host else t

    @staticmethod
    def _result(found: Sequence[torch.Tensor], place: int | None, copy: Any, value: Any) -> Any:
        """Torch may write to each result: no two are in one memory, and none is a view, to which it
        would not let a model write."""
        if place is None:
            return value
        if copy is None:
            return found[place]
        shape, dtype = copy
        return found[place].clone(memory_format=_ROWS).view(-1).view(dtype).view(shape).data
