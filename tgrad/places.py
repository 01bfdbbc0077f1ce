"""Tensors of places and powers: triangles of a matrix, places of flat indices, Vandermonde.

In: sizes, indices, vectors. Out: lazy tensors. Invariant: PyTorch's order of elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tgrad import dtype as dt
from tgrad.arguments import refuse
from tgrad.creation import DeviceLike, as_tensor, empty
from tgrad.dtype import DType
from tgrad.errors import ShapeError
from tgrad.joining import stack
from tgrad.tensor import Tensor, labelled, tensor


def _triangle(
    rows: np.ndarray, columns: np.ndarray, dtype: DType | None, device: DeviceLike, name: str,
    others: dict[str, Any],
) -> Tensor:  # fmt: skip
    refuse(name, **others)
    return tensor(np.stack([rows, columns]), dtype=dtype or dt.int64, device=device)


def tril_indices(
    row: int, col: int, offset: int = 0, *, dtype: DType | None = None, device: DeviceLike = None,
    **others: Any,
) -> Tensor:  # fmt: skip
    """Rows and columns of the lower triangle, [2, count], row by row.

    >>> import tgrad
    >>> tgrad.tril_indices(2, 2).tolist()
    [[0, 1, 1], [0, 0, 1]]
    """
    return _triangle(*np.tril_indices(row, offset, col), dtype, device, "tril_indices", others)


def triu_indices(
    row: int, col: int, offset: int = 0, *, dtype: DType | None = None, device: DeviceLike = None,
    **others: Any,
) -> Tensor:  # fmt: skip
    """Rows and columns of the upper triangle, [2, count], row by row.

    >>> import tgrad
    >>> tgrad.triu_indices(2, 2).tolist()
    [[0, 0, 1], [0, 1, 1]]
    """
    return _triangle(*np.triu_indices(row, offset, col), dtype, device, "triu_indices", others)


def constructor(name: str, dtype: DType, usual: DeviceLike = None) -> Callable[..., Tensor]:
    """PyTorch's older way to make a tensor of one dtype, on a device that is the usual one."""

    def make(*data: Any, device: DeviceLike = usual) -> Tensor:
        if len(data) == 1 and not isinstance(data[0], int):
            return tensor(data[0], dtype=dtype, device=device)
        return empty(*(data or (0,)), dtype=dtype, device=device)

    make.__name__ = make.__qualname__ = name
    make.dtype, make.place = dtype, usual  # type: ignore[attr-defined]
    make.__doc__ = (
        f"A tensor of {dtype.name}: of nested numbers, or of these sizes, with any values."
    )
    return make


BoolTensor = constructor("BoolTensor", dt.bool_)
ByteTensor = constructor("ByteTensor", dt.uint8)
CharTensor = constructor("CharTensor", dt.int8)
ShortTensor = constructor("ShortTensor", dt.int16)
IntTensor = constructor("IntTensor", dt.int32)
LongTensor = constructor("LongTensor", dt.int64)
HalfTensor = constructor("HalfTensor", dt.float16)
BFloat16Tensor = constructor("BFloat16Tensor", dt.bfloat16)
FloatTensor = constructor("FloatTensor", dt.float32)
DoubleTensor = constructor("DoubleTensor", dt.float64)


@labelled("unravel_index")
def unravel_index(indices: Tensor, shape: int | Sequence[int]) -> tuple[Tensor, ...]:
    """The place along each axis of flat indices into a shape.

    >>> import tgrad
    >>> [t.item() for t in tgrad.unravel_index(tgrad.tensor(5), (2, 3))]
    [1, 2]
    """
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    steps = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    return tuple(indices // step % n for step, n in zip(steps, sizes))


@labelled("vander")
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """Powers of each element, [n, N], by default the highest first and N = n.

    >>> import tgrad
    >>> tgrad.vander(tgrad.tensor([2, 3]), 3).tolist()
    [[4, 2, 1], [9, 3, 1]]
    """
    if x.ndim != 1:
        raise ShapeError(f"vander of shape {x.shape}.", "Give a vector.")
    count = x.shape[0] if N is None else N
    powers = [x._constant(1, x.dtype).expand(x.shape)]
    for _ in range(count - 1):
        powers.append(powers[-1] * x)
    rows = powers[:count] if increasing else powers[:count][::-1]
    return stack(rows, 1) if rows else x.new_zeros(x.shape[0], 0)


def asarray(
    obj: Any, *, dtype: DType | None = None, device: DeviceLike = None, copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`as_tensor`; a copy where `copy` is true.

    >>> import tgrad
    >>> tgrad.asarray([1.0, 2.0]).dtype
    tgrad.float32
    """
    refuse("asarray", "tgrad's tensors share memory only through from_dlpack.",
           copy=copy is False or None)  # fmt: skip
    made = as_tensor(obj, dtype=dtype, device=device)
    made = made.detach().clone() if copy and made is obj else made
    return made.requires_grad_() if requires_grad else made


def frombuffer(
    buffer: Any, *, dtype: DType, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A vector with a copy of the bytes of a buffer.

    >>> import tgrad
    >>> tgrad.frombuffer(bytes([1, 2, 3]), dtype=tgrad.uint8, offset=1).tolist()
    [2, 3]
    """
    made = tensor(np.frombuffer(buffer, dtype.numpy, count, offset).copy(), dtype=dtype)
    return made.requires_grad_() if requires_grad else made
