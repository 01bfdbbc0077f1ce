"""Tensors made from nothing: constants and ranges.

In: sizes and numbers. Out: lazy tensors. Invariant: nothing is stored until it must be; a constant
or a range that a kernel reads is computed in that kernel. `tensor` itself is in tgrad/tensor.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from tgrad import dtype as dt
from tgrad.aliases import in_rows, keep_order, laid_out
from tgrad.arguments import CHANNELS_LAST, check_memory_format, refuse
from tgrad.device import Device, as_device, get_default_device
from tgrad.dtype import DType, as_dtype
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.graph.node import Node, make, source_scope, toposort
from tgrad.graph.op import Op
from tgrad.graph.size import Size
from tgrad.graph.sized import sized
from tgrad.methods.elementwise import is_complex
from tgrad.methods.movement import as_sizes
from tgrad.methods.sizes import as_size
from tgrad.strides import memory_order
from tgrad.tensor import Tensor, labelled, tensor

Number = bool | int | float
DeviceLike = str | Device | None


def complex_too(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the function makes complex tensors too, for a complex dtype or like another."""

    @wraps(function)
    def make(*args: Any, **options: Any) -> Any:
        dtype = options.get("dtype")
        wants = dtype is not None and type(dtype) is not DType and dt.as_complex_dtype(dtype)
        if wants or (args and is_complex(args[-1])) or (args and is_complex(args[0])):
            from tgrad.complex_numbers.creation import filled

            return filled(function, args, options)
        return function(*args, **options)

    return make


def given_sizes(size: tuple[Any, ...], options: dict[str, Any]) -> tuple[int, ...]:
    """Sizes given as one sequence or as arguments, or by the name `size`, which is taken out of the
    options.

    >>> given_sizes((2, 3), {}), given_sizes((), {"size": (2, 3)})
    ((2, 3), (2, 3))
    """
    return checked_sizes((options.pop("size"),) if not size and "size" in options else size)


def checked_sizes(size: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes given as one sequence or as arguments.

    Raises:
        ShapeError: one is negative.
    """
    sizes = as_sizes(size)
    if any(n < 0 for n in sizes):
        raise ShapeError(f"a tensor of shape {sizes}.", "Give sizes of 0 or more.")
    return sizes


def default_device(device: DeviceLike) -> Device:
    """The device, or for None the one of `get_default_device`."""
    return get_default_device() if device is None else as_device(device)


def _leaf(value: Tensor, requires_grad: bool) -> Tensor:
    return value.requires_grad_() if requires_grad else value


def _number(value: Any) -> Any:
    """The number that a tensor with one element holds, which is read."""
    return value.item() if isinstance(value, Tensor) else value


@complex_too
def full(
    size: Any,
    fill_value: Number,
    *,
    dtype: DType | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    **others: Any,
) -> Tensor:
    """A tensor of one number.

    Args:
        size: a size or a sequence of sizes.
        fill_value: the number.
        dtype: by default that of the number: bool, int64 or float32.
        device: by default TGRAD_DEVICE, else "cpu".
        requires_grad: whether it is a leaf that gradients are collected for.

    >>> import tgrad
    >>> tgrad.full((2, 2), 7).tolist()
    [[7, 7], [7, 7]]
    """
    return _filled("full", size, fill_value, dtype, device, requires_grad, others)


def _filled(
    name: str,
    size: Any,
    fill_value: Number | Tensor,
    dtype: DType | None,
    device: DeviceLike,
    requires_grad: bool,
    others: dict[str, Any],
) -> Tensor:
    refuse(name, **others)
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    found = dt.dtype_of_number(fill_value) if dtype is None else as_dtype(dtype)
    with source_scope(label=name):
        number = (bool if found.is_bool else float if found.is_float else int)(fill_value)
        node = make(Op.CONST, value=number, dtype=found)
        sizes = checked_sizes((size,))
        if sizes:
            node = sized(Op.EXPAND, node, shape=sizes)
        return _leaf(in_rows(Tensor._of(node, default_device(device))), requires_grad)


@complex_too
def zeros(
    *size: Any,
    dtype: DType | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    **others: Any,
) -> Tensor:
    """A tensor of zeros, float32 by default; see `full`.

    >>> import tgrad
    >>> tgrad.zeros(2, 3).shape
    (2, 3)
    """
    return _filled(
        "zeros", given_sizes(size, others), 0, dt.float_dtype(dtype), device, requires_grad, others
    )


@complex_too
def ones(
    *size: Any,
    dtype: DType | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    **others: Any,
) -> Tensor:
    """A tensor of ones, float32 by default; see `full`.

    >>> import tgrad
    >>> tgrad.ones(3).sum().item()
    3.0
    """
    return _filled(
        "ones", given_sizes(size, others), 1, dt.float_dtype(dtype), device, requires_grad, others
    )


@complex_too
def empty(*size: Any, dtype: DType | None = None, **options: Any) -> Tensor:
    """A tensor whose values do not matter; here they are zeros.

    >>> import tgrad
    >>> tgrad.empty(2, 0).numel()
    0
    """
    return zeros(*size, dtype=dtype, **options)


@complex_too
def full_like(
    input: Tensor,
    fill_value: Number,
    *,
    dtype: DType | None = None,
    device: DeviceLike = None,
    **options: Any,
) -> Tensor:
    """A tensor of one number, with the shape and, by default, dtype and device of `input`.

    >>> import tgrad
    >>> tgrad.full_like(tgrad.zeros(2), 5).tolist()
    [5.0, 5.0]
    """
    memory_format = options.pop("memory_format", None)
    name = check_memory_format("full_like", memory_format)
    made = full(
        input.shape,
        fill_value,
        dtype=input.dtype if dtype is None else dtype,
        device=input.device if device is None else device,
        **options,
    )
    if name in CHANNELS_LAST:
        return laid_out(made, name)
    return made if name == "contiguous_format" else keep_order(made, input)


@complex_too
def zeros_like(input: Tensor, **options: Any) -> Tensor:
    """Zeros with the shape, dtype and device of `input`; options as those of `full_like`.

    >>> import tgrad
    >>> tgrad.zeros_like(tgrad.ones(2)).tolist()
    [0.0, 0.0]
    """
    return full_like(input, 0, **options)


@complex_too
def ones_like(input: Tensor, **options: Any) -> Tensor:
    """Ones with the shape, dtype and device of `input`; options as those of `full_like`.

    >>> import tgrad
    >>> tgrad.ones_like(tgrad.zeros(2)).tolist()
    [1.0, 1.0]
    """
    return full_like(input, 1, **options)


@complex_too
def empty_like(input: Tensor, **options: Any) -> Tensor:
    """`zeros_like`: a tensor whose values do not matter.

    >>> import tgrad
    >>> tgrad.empty_like(tgrad.zeros(2)).shape
    (2,)
    """
    return full_like(input, 0, **options)


def empty_permuted(
    size: Any, physical_layout: Sequence[int], *, requires_grad: bool = False, **options: Any
) -> Tensor:
    """`empty`, with the strides of a tensor whose axes lie in another order in memory.

    Args:
        size: a sequence of sizes.
        physical_layout: the axes, that of the nearest neighbours last.
        requires_grad: whether it is a leaf that gradients are collected for.
        options: dtype and device, as of `empty`.

    Raises:
        ShapeError: it is no order of the axes.

    >>> import tgrad
    >>> tgrad.empty_permuted((2, 3, 4), (0, 2, 1)).stride()
    (12, 1, 3)
    """
    sizes, order = checked_sizes((size,)), list(physical_layout)
    if sorted(order) != [*range(len(sizes))]:
        raise ShapeError(f"empty_permuted of {sizes} with axes {order}.", "Give each axis once.")
    laid = empty([sizes[axis] for axis in order], **options)
    return _leaf(laid.permute([order.index(axis) for axis in range(len(sizes))]), requires_grad)


def empty_strided(
    size: Any, stride: Sequence[int], *, requires_grad: bool = False, **options: Any
) -> Tensor:
    """`empty` with these strides, which leave no gaps.

    Args:
        size: a sequence of sizes.
        stride: elements between neighbours, for each axis.
        requires_grad: whether it is a leaf that gradients are collected for.
        options: dtype and device, as of `empty`.

    Raises:
        ShapeError: there are more or fewer strides than sizes.
        UnsupportedError: elements would lie with gaps between, or several at one place.

    >>> import tgrad
    >>> tgrad.empty_strided((2, 3), (1, 2)).stride()
    (1, 2)
    """
    sizes = checked_sizes((size,))
    if len(stride) != len(sizes):
        raise ShapeError(f"empty_strided of {sizes} with strides {tuple(stride)}.", "Give as many.")
    order = memory_order(sizes, stride)
    if order is None:
        raise UnsupportedError(
            f"empty_strided of {sizes} with strides {tuple(stride)}, with gaps or overlaps.",
            "Use as_strided of a tensor that is large enough.",
        )
    return empty_permuted(sizes, order, requires_grad=requires_grad, **options)


def places(shape: tuple[int, ...], axis: int, *, device: Device, dtype: DType = dt.int64) -> Tensor:
    """The place of each element along an axis: what masks are made of."""
    return Tensor._of(sized(Op.IOTA, shape=shape, axis=axis, dtype=dtype), device)


@labelled("arange")
def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: DType | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    **others: Any,
) -> Tensor:
    """start, start + step, ... below `end` (above it for a negative step).

    Args:
        start: the first value; 0 where `end` is left out, and then this is the end.
        end: the limit, not included.
        step: difference of neighbours, not 0.
        dtype: by default int64 if all are integers, else float32.
        device, requires_grad: see `full`.

    Raises:
        ShapeError: the step is 0 or leads away from the end.

    >>> import tgrad
    >>> tgrad.arange(1, 8, 3).tolist()
    [1, 4, 7]
    """
    refuse("arange", **others)
    if end is None:
        start, end = 0, start
    if step == 0 or (end - start) * step < 0:
        raise ShapeError(
            f"arange from {start} to {end} by {step}.",
            "Give a step that leads from the start to the end.",
        )
    whole = all(isinstance(x, (int, np.integer, Size)) for x in (start, end, step))
    found = dt.float_dtype(dt.int64 if whole and dtype is None else dtype)
    count = -(-(end - start) // step) if whole else math.ceil((end - start) / step)
    wide = dt.int64 if whole else found.accumulator if found.is_float else dt.float64
    values = places((as_size(count),), 0, device=default_device(device)).to(wide) * step + start
    return _leaf(values.to(found), requires_grad)


@complex_too
@labelled("linspace")
def linspace(
    start: float,
    end: float,
    steps: int,
    *,
    dtype: DType | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    **others: Any,
) -> Tensor:
    """`steps` evenly spaced values from `start` to `end`, both included.

    Args:
        start, end: the first and last value.
        steps: how many, 0 or more.
        dtype: by default float32.
        device, requires_grad: see `full`.

    >>> import tgrad
    >>> tgrad.linspace(0, 1, 5).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    refuse("linspace", **others)
    start, end = _number(start), _number(end)
    found = dt.float_dtype(dtype)
    wide = found.accumulator if found.is_float else dt.float64
    target = default_device(device)
    if checked_sizes((steps,))[0] <= 1:
        return _leaf(full((steps,), start, dtype=found, device=target), requires_grad)
    place = places((steps,), 0, device=target)
    step = (end - start) / (steps - 1)
    rising = place.to(wide) * step + float(start)
    falling = float(end) - (steps - 1 - place).to(wide) * step
    return _leaf(rising.where(place < steps // 2, falling).to(found), requires_grad)


@complex_too
@labelled("logspace")
def logspace(
    start: float,
    end: float,
    steps: int,
    base: float = 10.0,
    *,
    dtype: DType | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    **others: Any,
) -> Tensor:
    """Powers of `base` with evenly spaced exponents, `linspace(start, end, steps)`.

    >>> import tgrad
    >>> tgrad.logspace(0, 2, 3).tolist()
    [1.0, 10.0, 100.0]
    """
    refuse("logspace", **others)
    start, end = _number(start), _number(end)
    found = dt.float_dtype(dtype)
    exponents = linspace(start, end, steps, dtype=dt.float64, device=device)
    return _leaf((float(base) ** exponents).to(found), requires_grad)


def scalar_tensor(s: Number, *, dtype: DType | None = None, **options: Any) -> Tensor:
    """A number as a tensor with no axes, float32 by default.

    >>> import tgrad
    >>> tgrad.scalar_tensor(2).item()
    2.0
    """
    return full((), s, dtype=dt.get_default_dtype() if dtype is None else dtype, **options)


@labelled("eye")
@complex_too
def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: DType | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    **others: Any,
) -> Tensor:
    """The n x m (by default n x n) matrix with ones on the diagonal, float32 by default.

    >>> import tgrad
    >>> tgrad.eye(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    refuse("eye", **others)
    shape, target = checked_sizes((n, n if m is None else m)), default_device(device)
    rows, columns = (places(shape, axis, device=target) for axis in (0, 1))
    return _leaf((rows == columns).to(dt.float_dtype(dtype)), requires_grad)


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor with a copy of an array, of its dtype.

    PyTorch's shares memory with the array; tgrad's does not, since its storages never change.

    Raises:
        DTypeError: it is not an array, or its dtype has no counterpart.

    >>> import numpy, tgrad
    >>> tgrad.from_numpy(numpy.arange(3)).dtype
    tgrad.int64
    """
    if not isinstance(ndarray, np.ndarray):
        raise DTypeError(
            f"from_numpy of a {type(ndarray).__name__}.", "Use tgrad.tensor for other data."
        )
    return tensor(ndarray)


def as_tensor(data: Any, dtype: DType | None = None, device: DeviceLike = None) -> Tensor:
    """`data` itself where it is a tensor of that dtype and device, else a new tensor.

    >>> import tgrad
    >>> x = tgrad.ones(2)
    >>> tgrad.as_tensor(x) is x
    True
    """
    if isinstance(data, Tensor):
        moved = data if device is None else data.to(as_device(device))
        return moved if dtype is None else moved.to(dtype)
    return tensor(data, dtype=dtype, device=device)


def remade(value: Tensor, device: Device) -> Tensor:
    """The same lazy values on another device: computed there, from copies of the few numbers that
    its graph reads. For values that are cheaper to make again than to move, such as random ones."""
    made: dict[Node, Node] = {}
    for node in toposort([value._node]):
        if node.op is Op.BUFFER:
            held = node.attr("storage")
            made[node] = tensor(held.numpy(), dtype=held.dtype, device=device)._node
        elif node.inputs:
            made[node] = make(node.op, *(made[x] for x in node.inputs), **dict(node.attrs))
        else:
            made[node] = node
    return Tensor._of(made[value._node], device)
