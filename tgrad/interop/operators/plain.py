"""Operators that move elements, make them, or compute them one by one.

In: arguments of an operator. Out: what it gives. Invariant: as PyTorch says, with no memory shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tgrad
import tgrad.nn.functional as F
from tgrad import Tensor
from tgrad.errors import UnsupportedError
from tgrad.interop.operators.table import rule

# -- movement ------------------------------------------------------------------------------------


@rule("alias", "clone", "detach", "lift_fresh_copy", "lift_fresh", "contiguous")
def _same(x: Tensor) -> Tensor:
    return x


@rule("view", "_unsafe_view", "reshape")
def _reshape(x: Tensor, size: Sequence[int]) -> Tensor:
    return x.reshape(tuple(size))


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
    if len(at) == len(indices):
        return x.index_put(tuple(picked), values, accumulate)
    if at != list(range(at[0], at[0] + len(at))):
        raise UnsupportedError("index_put with axes between its indices.", "Permute first.")
    order = (*at, *(a for a in range(x.ndim) if a not in at))
    values = values.expand(_index(x, indices).shape)
    width = max(i.ndim for i in picked)  # their axes stand where the indexed ones did
    moved = tuple(range(at[0], at[0] + width))
    values = values.permute((*moved, *(a for a in range(values.ndim) if a not in moved)))
    made = x.permute(order).index_put(tuple(picked), values, accumulate)
    return made.permute(tuple(order.index(a) for a in range(x.ndim)))


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


@rule("empty_permuted", "empty", "new_empty", "new_empty_strided", "empty_strided")
def _empty(*args: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Like the first argument where that is a tensor; zeros, and not what was there."""
    if isinstance(args[0], Tensor):
        first, size = args[0], args[1]
        return tgrad.zeros(tuple(size), dtype=dtype or first.dtype, device=device or first.device)
    return tgrad.zeros(tuple(args[0]), dtype=dtype, device=device)


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


@rule("native_dropout")
def _dropout(x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    if not train:
        return x, tgrad.ones_like(x, dtype=tgrad.bool)
    kept = tgrad.rand(x.shape, device=x.device) >= p
    scale = 1.0 / (1.0 - p) if p < 1.0 else 0.0
    return x * kept * scale, kept


@rule("embedding")
def _embedding(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    return F.embedding(indices, weight)
