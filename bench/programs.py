"""Programs of the GPU's table, in PyTorch's names.

In: `library` (tgrad or torch), `functional`, the inputs. Out: a tensor. Invariant: nothing but
names that both have; what a row measures is what stands here.
"""

from __future__ import annotations

from typing import Any

GROUP = 128
"""Elements of a row of int4 weights that share a scale."""


def chain(library: Any, functional: Any, a: Any, b: Any) -> Any:
    return (a * b + a).tanh() * b.sigmoid() - a


def sum_of(library: Any, functional: Any, x: Any, axis: int) -> Any:
    return x.sum(axis)


def softmax(library: Any, functional: Any, x: Any) -> Any:
    return functional.softmax(x, dim=1)


def layer_norm(library: Any, functional: Any, x: Any, weight: Any, bias: Any) -> Any:
    return functional.layer_norm(x, (x.shape[1],), weight, bias)


def rms_norm(library: Any, functional: Any, x: Any, weight: Any) -> Any:
    return functional.rms_norm(x, (x.shape[1],), weight)


def cross_entropy(library: Any, functional: Any, x: Any) -> Any:
    """Of row i against class i; unreduced, so that its gradient is an input."""
    labels = library.arange(x.shape[0], device=x.device) % x.shape[1]
    return functional.cross_entropy(x, labels, reduction="none")


def linear_cross_entropy(library: Any, functional: Any, x: Any, weight: Any) -> Any:
    """The head of a language model and its loss."""
    return cross_entropy(library, functional, functional.linear(x, weight))


def matmul(library: Any, functional: Any, a: Any, b: Any) -> Any:
    return a @ b


def linear_gelu_residual(
    library: Any, functional: Any, x: Any, weight: Any, bias: Any, residual: Any
) -> Any:
    return functional.gelu(functional.linear(x, weight, bias)) + residual


def linear_int8(library: Any, functional: Any, x: Any, weight: Any, scale: Any) -> Any:
    """Weights [n, k] of int8, a scale a row."""
    return functional.linear(x, weight.to(x.dtype) * scale[:, None])


def linear_float8(library: Any, functional: Any, x: Any, weight: Any, scale: Any) -> Any:
    """Weights [n, k] of float8_e4m3fn as bytes, a scale a row."""
    return functional.linear(x, weight.view(library.float8_e4m3fn).to(x.dtype) * scale[:, None])


def scaled_float8(library: Any, functional: Any, a: Any, b: Any, rows: Any, columns: Any) -> Any:
    """a [m, k] and b [n, k] of float8_e4m3fn as bytes, a scale a row of each."""
    left, right = (x.view(library.float8_e4m3fn) for x in (a, b))
    by_row, wide = functional.ScalingType.RowWise, library.float32
    scales = rows.to(wide)[:, None], columns.to(wide)[None, :]
    return functional.scaled_mm(
        left, right.t(), scales[0], by_row, scales[1], by_row, output_dtype=rows.dtype
    )


def exact_float8(library: Any, functional: Any, a: Any, b: Any, rows: Any, columns: Any) -> Any:
    """The same as a product of numbers, in the scales' dtype."""
    left, right = (x.view(library.float8_e4m3fn).to(rows.dtype) for x in (a, b))
    return (left @ right.t()) * rows[:, None] * columns


def linear_int4(library: Any, functional: Any, x: Any, packed: Any, scale: Any) -> Any:
    """Weights of four bits less 8, two in a byte [n, k/2]; a scale for each `GROUP` of a row."""
    halves = library.stack((packed & 15, packed >> 4), -1)
    groups = halves.reshape(packed.shape[0], scale.shape[1], -1).to(x.dtype) - 8
    return functional.linear(x, (groups * scale[:, :, None]).reshape(packed.shape[0], -1))


def grouped(library: Any, functional: Any, x: Any, weight: Any, ends: Any) -> Any:
    """Rows [t, k] sorted by group, of which each has a matrix [k, n] and ends at a row."""
    return functional.grouped_mm(x, weight, offs=ends)


def exact_grouped(library: Any, functional: Any, x: Any, weight: Any, ends: Any) -> Any:
    """The same, group by group."""
    places = [0, *ends.tolist()]
    parts = [x[a:b] @ w for a, b, w in zip(places[:-1], places[1:], weight)]
    return library.cat(parts)


def attention(library: Any, functional: Any, q: Any, k: Any, v: Any, causal: bool) -> Any:
    return functional.scaled_dot_product_attention(q, k, v, is_causal=causal)


def window_attention(library: Any, functional: Any, q: Any, k: Any, v: Any, window: int) -> Any:
    """Each position sees itself and the `window` - 1 before it. The mask is all that says so:
    PyTorch has a kernel of its own for it in flex_attention alone, which is another function."""
    place = library.arange(q.shape[2], device=q.device)
    distance = place[:, None] - place
    seen = (distance >= 0) & (distance < window)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)


def grouped_attention(
    library: Any, functional: Any, q: Any, k: Any, v: Any, causal: bool = True
) -> Any:
    return functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)


def convolution(library: Any, functional: Any, x: Any, weight: Any, stride: int) -> Any:
    return functional.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)
