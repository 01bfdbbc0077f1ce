"""Operators that move elements, make them, or compute them one by one.

In: arguments of an operator. Out: what it gives. Invariant: as PyTorch says, with no memory shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from string import ascii_lowercase
from typing import Any

import tgrad
import tgrad.nn.functional as F
from tgrad import Tensor
from tgrad.errors import UnsupportedError
from tgrad.interop.operators.table import Lies, rule

# -- movement ------------------------------------------------------------------------------------


@rule("alias", "clone", "detach", "lift_fresh_copy", "lift_fresh", "contiguous")
def _same(x: Tensor) -> Tensor:
    return x


@rule("view.dtype")
def _bits(x: Tensor, dtype: Any) -> Tensor:
    return x.view(dtype)


@rule("view", "_unsafe_view", "reshape")
def _reshape(x: Tensor, size: Sequence[int]) -> Tensor:
    return x.reshape(tuple(size))


@rule("as_strided", "as_strided_copy")
def _as_strided(
    x: Tensor, size: Any, stride: Any, storage_offset: int | None = None, *, lies: Lies
) -> Tensor:
    lying = x.permute(_order(lies, "as_strided"))
    return lying._strided(size, stride, _from(lies, storage_offset))


@rule("as_strided_scatter")
def _as_strided_scatter(
    x: Tensor, src: Tensor, size: Any, stride: Any, storage_offset: int | None = None, *, lies: Lies
) -> Tensor:
    order = _order(lies, "as_strided_scatter")
    changed = x.permute(order)._with_strided(src, size, stride, _from(lies, storage_offset))
    return changed.permute(tuple(order.index(d) for d in range(x.ndim)))


def _order(lies: Lies, name: str) -> tuple[int, ...]:
    if lies.order is None:
        raise UnsupportedError(f"{name} of a view that leaves gaps in its memory.")
    return lies.order


def _from(lies: Lies, offset: int | None) -> int:
    """The first element, counted from that of the argument."""
    first = 0 if offset is None else offset - lies.start
    if first < 0:
        raise UnsupportedError("as_strided of what lies before its argument in memory.")
    return first


@rule("expand")
def _expand(x: Tensor, size: Sequence[int], *, implicit: bool = False) -> Tensor:
    return x.expand(tuple(size))


@rule("squeeze.dims")
def _squeeze(x: Tensor, dims: Sequence[int]) -> Tensor:
    return x.squeeze(tuple(dims))


@rule("copy")
def _copy(x: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    return src.to(x.dtype).expand(x.shape)


@rule("slice")
def _slice(
    x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    return x[_along(x, dim, start, end, step)]


@rule("slice_scatter")
def _slice_scatter(
    x: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    dim = dim % x.ndim
    places = range(x.shape[dim])[slice(start, end, step)]
    src = src.expand((*x.shape[:dim], len(places), *x.shape[dim + 1 :]))
    if step != 1:
        index = tgrad.arange(places.start, places.stop, places.step, device=x.device)
        return x.index_copy(dim, index, src)
    after = (0, 0) * (x.ndim - 1 - dim)
    wide = F.pad(src, (*after, places.start, x.shape[dim] - places.stop))
    at = tgrad.arange(x.shape[dim], device=x.device).reshape(-1, *(1 for _ in after[::2]))
    return wide.where((at >= places.start) & (at < places.stop), x)


@rule("select_scatter")
def _select_scatter(x: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    dim = dim % x.ndim
    at = tgrad.tensor([index % x.shape[dim]], dtype=tgrad.int64, device=x.device)
    return x.index_copy(dim, at, src.unsqueeze(dim))


@rule("index")
def _index(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    return x[tuple(slice(None) if i is None else i for i in indices)]


@rule("index_put", "_unsafe_index_put")
def _index_put(
    x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor:
    at = [a for a, i in enumerate(indices) if i is not None]
    picked = [i for i in indices if i is not None]
    if any(i.dtype is tgrad.bool for i in picked):
        return _put_where(x, at, picked, values, accumulate)
    if len(at) == len(indices):
        return x.index_put(tuple(picked), values, accumulate)
    order = (*at, *(a for a in range(x.ndim) if a not in at))
    values = values.expand(_index(x, indices).shape)
    width = max(i.ndim for i in picked)
    is_together = at == list(range(at[0], at[0] + len(at)))
    first = at[0] if is_together else 0  # the indices' axes stand where the indexed ones did
    moved = tuple(range(first, first + width))
    values = values.permute((*moved, *(a for a in range(values.ndim) if a not in moved)))
    made = x.permute(order).index_put(tuple(picked), values, accumulate)
    return made.permute(tuple(order.index(a) for a in range(x.ndim)))


def _put_where(
    x: Tensor, at: Sequence[int], picked: Sequence[Tensor], values: Tensor, accumulate: bool
) -> Tensor:
    """index_put of a mask.

    Raises:
        UnsupportedError: there are indices beside it, or axes before it and a value for each place
            where it holds.
    """
    mask = picked[0]
    after = x.ndim - at[0] - mask.ndim
    is_one = values.ndim <= after or values.numel() == 1
    if len(picked) > 1 or not (is_one or at[0] == 0):
        raise UnsupportedError(
            "a mask among other indices, or after other axes with a value for each element.",
            "Use torch.where or masked_scatter.",
        )
    if not is_one and 0 in values.shape:
        return x
    if not is_one:
        count = values.shape[0]
        values = values.expand((count, *x.shape[mask.ndim :]))[_places_of(mask).clamp(0, count - 1)]
    elif values.ndim > after:
        values = values.reshape(())
    mask = mask.reshape((*mask.shape, *(1 for _ in range(after))))
    return (x + values if accumulate else values).to(x.dtype).where(mask, x)


@rule("masked_scatter")
def _masked_scatter(x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    x, mask = tgrad.broadcast_tensors(x, mask)
    places = _places_of(mask).clamp(0, max(source.numel() - 1, 0))
    return source.flatten()[places].where(mask, x)


@rule("masked_scatter_backward")
def _masked_scatter_backward(g: Tensor, mask: Tensor, size: Sequence[int]) -> Tensor:
    mask = mask.expand(g.shape)
    count = prod(size)
    made = tgrad.zeros(count, dtype=g.dtype, device=g.device)
    places = _places_of(mask).clamp(0, max(count - 1, 0)).flatten()
    return made.scatter_add(0, places, g.where(mask, 0.0).flatten()).reshape(tuple(size))


def _places_of(mask: Tensor) -> Tensor:
    """How many elements before each the mask names."""
    return (mask.flatten().to(tgrad.int64).cumsum(0) - 1).reshape(mask.shape)


def _along(x: Tensor, dim: int, start: int | None, end: int | None, step: int) -> tuple[slice, ...]:
    dim = dim % x.ndim
    return (*(slice(None) for _ in range(dim)), slice(start, end, step))


@rule("constant_pad_nd")
def _pad(x: Tensor, pad: Sequence[int], value: float = 0.0) -> Tensor:
    return F.pad(x, tuple(pad), value=value)


@rule("unfold")
def _unfold(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    return x.unfold(dimension, size, step)


@rule("sym_size")
def _size(x: Tensor, dim: int) -> int:
    return x.shape[dim]


@rule("sym_numel")
def _numel(x: Tensor) -> int:
    return x.numel()


@rule("sym_stride")
def _stride(x: Tensor, dim: int, *, lies: Lies) -> int:
    """In the memory that PyTorch would have given it."""
    order = _order(lies, "stride")
    return prod(x.shape[axis] for axis in order[order.index(dim % x.ndim) + 1 :])


@rule("sym_storage_offset")
def _offset(x: Tensor, *, lies: Lies) -> int:
    return lies.start


# -- elementwise, creation, reductions -----------------------------------------------------------


@rule("add")
def _add(x: Any, y: Any, *, alpha: Any = 1) -> Any:
    return x + (y if alpha == 1 else y * alpha)


@rule("sub")
def _sub(x: Any, y: Any, *, alpha: Any = 1) -> Any:
    return x - (y if alpha == 1 else y * alpha)


@rule("mul")
def _mul(x: Any, y: Any) -> Any:
    return x * y


@rule("pow")
def _pow(x: Any, y: Any) -> Any:
    return x**y


@rule("_to_copy")
def _to_copy(x: Tensor, *, dtype: Any = None, device: Any = None) -> Tensor:
    x = x if dtype is None else x.to(dtype)
    return x if device is None else x.to(device)


@rule("convert_element_type")
def _convert(x: Tensor, dtype: Any) -> Tensor:
    return x.to(dtype)


@rule("scalar_tensor")
def _scalar(value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    return tgrad.full((), value, dtype=dtype, device=device)


@rule(
    "empty_permuted", "empty", "new_empty", "new_empty_strided", "empty_strided",
    "_efficientzerotensor",
)  # fmt: skip
def _empty(*args: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Like the first argument where that is a tensor; zeros, and not what was there."""
    if isinstance(args[0], Tensor):
        first, size = args[0], args[1]
        return tgrad.zeros(tuple(size), dtype=dtype or first.dtype, device=device or first.device)
    return tgrad.zeros(tuple(args[0]), dtype=dtype, device=device)


@rule("fma")
def _fma(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return x * y + z


@rule("polygamma")
def _polygamma(n: int, x: Tensor) -> Tensor:
    return x.polygamma(n)


@rule("repeat_interleave.Tensor")
def _repeats(repeats: Tensor, *, output_size: int | None = None) -> Tensor:
    """
    Raises:
        UnsupportedError: the number of results would have to be read.
    """
    if output_size is None:
        raise UnsupportedError("repeat_interleave without output_size.", "Give output_size.")
    place = tgrad.arange(output_size, device=repeats.device)
    return tgrad.searchsorted(repeats.cumsum(0), place, right=True)


@rule("_trilinear")
def _trilinear(
    x: Tensor,
    y: Tensor,
    z: Tensor,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    summed: Sequence[int],
    unroll_dim: int = 1,
) -> Tensor:
    """The sum over some axes of a product, of whose axes each factor has not all."""
    axes = ascii_lowercase[: x.ndim + len(expand1)]
    lacking = (expand1, expand2, expand3, summed)
    *given, made = ("".join(a for i, a in enumerate(axes) if i not in no) for no in lacking)
    return tgrad.einsum(f"{','.join(given)}->{made}", x, y, z)


@rule("elu")
def _elu(x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    return x.where(x > 0, ((x * input_scale).minimum(0.0).expm1()) * alpha) * scale


@rule("_assert_async", "_assert_scalar", "_assert_tensor_metadata")
def _assert(*args: Any, **kwargs: Any) -> None:
    """What PyTorch asserts of values, such as of classes, is not looked at: see `backend`."""


@rule("sum.dim_IntList")
def _sum(x: Tensor, dim: Any, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    return x.sum(_axes(x, dim), keepdim, dtype=dtype)


@rule("mean.dim")
def _mean(x: Tensor, dim: Any, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    return x.mean(_axes(x, dim), keepdim, dtype=dtype)


@rule("amax")
def _amax(x: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    return x.amax(_axes(x, dim), keepdim)


@rule("amin")
def _amin(x: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    return x.amin(_axes(x, dim), keepdim)


def _axes(x: Tensor, dim: Any) -> tuple[int, ...]:
    """None and no axes are all of them."""
    return tuple(range(x.ndim)) if dim is None or len(dim) == 0 else tuple(dim)


@rule("linalg_vector_norm")
def _vector_norm(
    x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    return tgrad.linalg.vector_norm(x, ord, dim, keepdim, dtype=dtype)


@rule("_softmax")
def _softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    return F.softmax(x.to(tgrad.float32) if half_to_float else x, dim)


@rule("_log_softmax")
def _log_softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    return F.log_softmax(x.to(tgrad.float32) if half_to_float else x, dim)
