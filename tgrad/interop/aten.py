"""PyTorch's operators in terms of tgrad: what a graph of torch.compile is made of.

In: an operator, such as aten.native_layer_norm. Out: a function of tensors of tgrad that gives what
the operator gives. Invariant: what has the name and arguments of a function of tgrad is that
function; only what is called or ordered otherwise has a row here. An operator without either
raises where the graph is compiled, before anything runs.
Source: https://docs.pytorch.org/docs/stable/torch.compiler_ir.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tgrad
import tgrad.nn.functional as F
from tgrad import Tensor
from tgrad.errors import UnsupportedError

Function = Callable[..., Any]
Tensors = tuple[Tensor | None, ...]

_RULES: dict[str, Function] = {}
_SPACES = (tgrad, F, tgrad.linalg, tgrad.special, Tensor)
"""Where a function of an operator's name is looked for, in order."""
_LAYOUT = ("layout", "pin_memory", "memory_format", "non_blocking")
"""Arguments that say how memory is laid out, which is not seen in values."""


def operator(op: Any) -> Function:
    """The function of tgrad that an operator of PyTorch is.

    Raises:
        UnsupportedError: there is none.

    >>> import torch, tgrad
    >>> operator(torch.ops.aten.mm.default)(tgrad.ones(1, 2), tgrad.ones(2, 1)).tolist()
    [[2.0]]
    """
    packet = op.overloadpacket.__name__
    for name in (f"{packet}.{op._overloadname}", packet):
        if name in _RULES:
            return _RULES[name]
    for space in _SPACES:
        found = getattr(space, packet, None)
        if callable(found):
            return found
    raise UnsupportedError(
        f"torch.compile with the backend tgrad: {op} has no counterpart.",
        "Leave the function that calls it to PyTorch with torch.compiler.disable.",
    )


def has_meaning(name: str) -> bool:
    """Whether an argument of that name has a meaning for tgrad."""
    return name not in _LAYOUT


def _rule(*names: str) -> Callable[[Function], Function]:
    def record(function: Function) -> Function:
        _RULES.update(dict.fromkeys(names, function))
        return function

    return record


# -- movement ------------------------------------------------------------------------------------


@_rule("alias", "clone", "detach", "lift_fresh_copy", "lift_fresh", "contiguous")
def _same(x: Tensor) -> Tensor:
    return x


@_rule("view", "_unsafe_view", "reshape")
def _reshape(x: Tensor, size: Sequence[int]) -> Tensor:
    return x.reshape(tuple(size))


@_rule("expand")
def _expand(x: Tensor, size: Sequence[int], *, implicit: bool = False) -> Tensor:
    return x.expand(tuple(size))


@_rule("squeeze.dims")
def _squeeze(x: Tensor, dims: Sequence[int]) -> Tensor:
    return x.squeeze(tuple(dims))


@_rule("copy")
def _copy(x: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    return src.to(x.dtype).expand(x.shape)


@_rule("slice")
def _slice(
    x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    return x[_along(x, dim, start, end, step)]


@_rule("slice_scatter")
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
    index = tgrad.tensor(list(places), dtype=tgrad.int64, device=x.device)
    return x.index_copy(dim, index, src.expand(_replaced(x.shape, dim, len(places))))


@_rule("select_scatter")
def _select_scatter(x: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    dim = dim % x.ndim
    at = tgrad.tensor([index % x.shape[dim]], dtype=tgrad.int64, device=x.device)
    return x.index_copy(dim, at, src.unsqueeze(dim))


@_rule("index")
def _index(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    return x[tuple(slice(None) if i is None else i for i in indices)]


@_rule("index_put", "_unsafe_index_put")
def _index_put(
    x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor:
    if any(i is None for i in indices):
        at = [a for a, i in enumerate(indices) if i is not None]
        if at != list(range(at[0], at[0] + len(at))):
            raise UnsupportedError("index_put with axes between its indices.", "Permute first.")
        order = (*at, *(a for a in range(x.ndim) if a not in at))
        back = tuple(order.index(a) for a in range(x.ndim))
        picked = [i for i in indices if i is not None]
        width = len(tgrad.broadcast_tensors(*picked)[0].shape)
        moved = tuple(range(at[0], at[0] + width))
        rest = tuple(a for a in range(values.ndim) if a not in moved)
        full = x[tuple(slice(None) if i is None else i for i in indices)].shape
        values = values.expand(full)
        rest = tuple(a for a in range(len(full)) if a not in moved)
        inner = _index_put(x.permute(order), picked, values.permute((*moved, *rest)), accumulate)
        return inner.permute(back)
    return x.index_put(tuple(i for i in indices if i is not None), values, accumulate)


def _along(x: Tensor, dim: int, start: int | None, end: int | None, step: int) -> tuple[slice, ...]:
    dim = dim % x.ndim
    return (*(slice(None) for _ in range(dim)), slice(start, end, step))


def _replaced(shape: Sequence[int], dim: int, size: int) -> tuple[int, ...]:
    return (*shape[:dim], size, *shape[dim + 1 :])


@_rule("constant_pad_nd")
def _pad(x: Tensor, pad: Sequence[int], value: float = 0.0) -> Tensor:
    return F.pad(x, tuple(pad), value=value)


@_rule("unfold")
def _unfold(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    return x.unfold(dimension, size, step)


@_rule("sym_size")
def _size(x: Tensor, dim: int) -> int:
    return x.shape[dim]


# -- elementwise, creation, reductions -----------------------------------------------------------


@_rule("add")
def _add(x: Any, y: Any, *, alpha: Any = 1) -> Any:
    return x + (y if alpha == 1 else y * alpha)


@_rule("sub")
def _sub(x: Any, y: Any, *, alpha: Any = 1) -> Any:
    return x - (y if alpha == 1 else y * alpha)


@_rule("mul")
def _mul(x: Any, y: Any) -> Any:
    return x * y


@_rule("pow")
def _pow(x: Any, y: Any) -> Any:
    return x**y


@_rule("_to_copy")
def _to_copy(x: Tensor, *, dtype: Any = None, device: Any = None) -> Tensor:
    x = x if dtype is None else x.to(dtype)
    return x if device is None else x.to(device)


@_rule("convert_element_type")
def _convert(x: Tensor, dtype: Any) -> Tensor:
    return x.to(dtype)


@_rule("scalar_tensor")
def _scalar(value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    return tgrad.full((), value, dtype=dtype, device=device)


@_rule("sum.dim_IntList")
def _sum(x: Tensor, dim: Any, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    return x.sum(_axes(x, dim), keepdim, dtype=dtype)


@_rule("mean.dim")
def _mean(x: Tensor, dim: Any, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    return x.mean(_axes(x, dim), keepdim, dtype=dtype)


@_rule("amax")
def _amax(x: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    return x.amax(_axes(x, dim), keepdim)


@_rule("amin")
def _amin(x: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    return x.amin(_axes(x, dim), keepdim)


def _axes(x: Tensor, dim: Any) -> tuple[int, ...]:
    """None and no axes are all of them."""
    return tuple(range(x.ndim)) if dim is None or len(dim) == 0 else tuple(dim)


@_rule("linalg_vector_norm")
def _vector_norm(
    x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    return tgrad.linalg.vector_norm(x, ord, dim, keepdim, dtype=dtype)


@_rule("_softmax")
def _softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    return F.softmax(x.to(tgrad.float32) if half_to_float else x, dim)


@_rule("_log_softmax")
def _log_softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    return F.log_softmax(x.to(tgrad.float32) if half_to_float else x, dim)


@_rule("native_dropout")
def _dropout(x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    if not train:
        return x, tgrad.ones_like(x, dtype=tgrad.bool)
    kept = tgrad.rand(x.shape, device=x.device) >= p
    scale = 1.0 / (1.0 - p) if p < 1.0 else 0.0
    return x * kept * scale, kept


@_rule("embedding")
def _embedding(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    return F.embedding(indices, weight)


# -- norms ---------------------------------------------------------------------------------------


@_rule("native_layer_norm")
def _layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    y, mean, rstd = _normalised(x, axes, eps)
    y = y if weight is None else y * weight
    y = y if bias is None else y + bias
    return y.to(x.dtype), mean, rstd


@_rule("native_group_norm")
def _group_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    n: int,
    c: int,
    points: int,
    groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    y, mean, rstd = _normalised(x.reshape(n, groups, -1), (2,), eps)
    y = y.reshape(x.shape)
    y = y if weight is None else y * _per_channel(weight, x)
    y = y if bias is None else y + _per_channel(bias, x)
    return y.to(x.dtype), mean.reshape(n, groups), rstd.reshape(n, groups)


@_rule("_native_batch_norm_legit_functional")
def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, ...]:
    """With the new running statistics."""
    if not training:
        y, mean, rstd = _batch_norm_fixed(x, weight, bias, running_mean, running_var, momentum, eps)
        return y, mean, rstd, running_mean, running_var
    axes = (0, *range(2, x.ndim))
    y, mean, rstd = _normalised(x, axes, eps)
    count = x.size // x.shape[1] if isinstance(x.size, int) else x.numel() // x.shape[1]
    wide = x.to(tgrad.float32) if x.dtype.itemsize < 4 else x
    var = wide.var(axes, correction=0) * (count / max(count - 1, 1))
    mean, rstd = mean.reshape(-1), rstd.reshape(-1)
    y = y if weight is None else y * _per_channel(weight, x)
    y = y if bias is None else y + _per_channel(bias, x)
    new_mean = (running_mean * (1 - momentum) + mean * momentum).to(running_mean.dtype)
    new_var = (running_var * (1 - momentum) + var * momentum).to(running_var.dtype)
    return y.to(x.dtype), mean, rstd, new_mean, new_var


@_rule("_native_batch_norm_legit_no_training")
def _batch_norm_fixed(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    y = F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    return y, tgrad.zeros(0, device=x.device), tgrad.zeros(0, device=x.device)


def _normalised(x: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(var + eps), the mean and one over the root, in float32 at least."""
    wide = x.to(tgrad.float32) if x.dtype.itemsize < 4 else x
    mean = wide.mean(axes, keepdim=True)
    rstd = (wide.var(axes, correction=0, keepdim=True) + eps).rsqrt()
    return (wide - mean) * rstd, mean, rstd


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(1, -1, *(1 for _ in range(x.ndim - 2)))


# -- windows -------------------------------------------------------------------------------------


@_rule("convolution")
def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    rank = weight.ndim - 2
    stride, padding, dilation = (_each(v, rank) for v in (stride, padding, dilation))
    if not transposed:
        conv = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
        return conv(x, weight, bias, stride, padding, dilation, groups)
    back = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    return back(x, weight, bias, stride, padding, _each(output_padding, rank), groups, dilation)


@_rule("convolution_backward")
def _convolution_backward(
    g: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> Tensors:
    how = (stride, padding, dilation, transposed, output_padding, groups)
    dx, dw = _gradients(lambda x, w: _convolution(x, w, None, *how), g, (x, weight), wanted[:2])
    return dx, dw, g.sum((0, *range(2, g.ndim))) if wanted[2] else None


def _each(values: Sequence[int], rank: int) -> tuple[int, ...]:
    """One number stands for all axes."""
    return tuple(values) if len(values) == rank else rank * tuple(values)


@_rule("max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool(
    x: Tensor,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil: bool = False,
) -> tuple[Tensor, Tensor]:
    pool = F.max_pool3d if len(kernel) == 3 else F.max_pool2d
    how = (tuple(kernel), tuple(stride) or None, padding, dilation, ceil)
    return pool(x, *how, return_indices=True)


@_rule("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward")
def _max_pool_backward(
    g: Tensor,
    x: Tensor,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil: bool,
    indices: Tensor,
) -> Tensor:
    pool = F.max_pool3d if len(kernel) == 3 else F.max_pool2d
    how = (tuple(kernel), tuple(stride) or None, padding, dilation, ceil)
    (found,) = _gradients(lambda x: pool(x, *how), g, (x,), (True,))
    assert found is not None
    return found


@_rule("avg_pool2d_backward", "avg_pool3d_backward")
def _avg_pool_backward(g: Tensor, x: Tensor, kernel: Any, stride: Any, *how: Any) -> Tensor:
    pool = F.avg_pool3d if len(kernel) == 3 else F.avg_pool2d
    stride = tuple(stride) or None
    (found,) = _gradients(lambda x: pool(x, tuple(kernel), stride, *how), g, (x,), (True,))
    assert found is not None
    return found


@_rule("_adaptive_avg_pool2d", "_adaptive_avg_pool3d")
def _adaptive(x: Tensor, size: Sequence[int]) -> Tensor:
    pool = F.adaptive_avg_pool3d if len(size) == 3 else F.adaptive_avg_pool2d
    return pool(x, tuple(size))


@_rule("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward")
def _adaptive_backward(g: Tensor, x: Tensor) -> Tensor:
    size = g.shape[2:]
    (found,) = _gradients(lambda x: _adaptive(x, size), g, (x,), (True,))
    assert found is not None
    return found


# -- attention -----------------------------------------------------------------------------------


def _attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None
) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale)


def _scores_sum(
    q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, scale: float | None
) -> Tensor:
    """log of the sum of exp of each row of scores, which kernels of PyTorch keep for the backward;
    tgrad's computes it again, so nothing reads it there."""
    scores = q.to(tgrad.float32) @ k.to(tgrad.float32).mT
    scores = scores * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        rows, columns = scores.shape[-2:]
        seen = tgrad.ones(rows, columns, dtype=tgrad.bool, device=q.device).tril()
        scores = scores.masked_fill(~seen, -float("inf"))
    return (scores if mask is None else scores + mask).logsumexp(-1)


@_rule("_scaled_dot_product_flash_attention_for_cpu")
def _flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    _no_dropout(dropout_p)
    out = _attention(q, k, v, attn_mask, is_causal, scale)
    return out, _scores_sum(q, k, attn_mask, is_causal, scale)


@_rule("_scaled_dot_product_flash_attention_for_cpu_backward")
def _flash_backward(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    dropout_p: float,
    is_causal: bool,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensors:
    def again(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _attention(q, k, v, attn_mask, is_causal, scale)

    return _gradients(again, g, (q, k, v), (True, True, True))


def _no_dropout(p: float) -> None:
    if p:
        raise UnsupportedError(
            "torch.compile with the backend tgrad: dropout inside an attention kernel of PyTorch.",
            "Use torch.nn.attention.sdpa_kernel(SDPBackend.MATH), or dropout_p=0.",
        )


def _gradients(
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
