"""Linear layers, embeddings, dropout.

In: tensors and weights. Out: lazy tensors. Invariant: products accumulate in float32 for float16
and bfloat16. Source: https://docs.pytorch.org/docs/stable/nn.functional.html
"""

from __future__ import annotations

from collections.abc import Sequence

from tgrad.arguments import refuse
from tgrad.creation import zeros
from tgrad.dtype import bool_, promote
from tgrad.errors import ShapeError
from tgrad.from_template import from_template
from tgrad.grad_mode import no_grad
from tgrad.joining import broadcast_tensors
from tgrad.linalg import vector_norm
from tgrad.methods.indexing import check_known_index
from tgrad.random import Generator, default_generator, uniform
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp


@labelled("linear")
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b.

    Args:
        input: (..., in).
        weight: (out, in) or (in,).
        bias: (out,).

    Raises:
        ShapeError: the last axes differ in size.
        DTypeError: dtypes differ.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.linear(tgrad.ones(1, 3), tgrad.ones(2, 3)).tolist()
    [[3.0, 3.0]]
    """
    if not input.shape or weight.ndim not in (1, 2) or input.shape[-1] != weight.shape[-1]:
        raise ShapeError(
            f"linear of shape {input.shape} with a weight of shape {weight.shape}.",
            "Their last sizes must be equal, and the weight has one or two axes.",
        )
    axes = ((input.ndim - 1,), (weight.ndim - 1,))
    if bias is None:
        return input._dot(weight, axes)
    wide = input.dtype.accumulator if input.dtype.is_float else input.dtype
    return (input._dot(weight, axes, dtype=wide) + bias.to(wide)).to(input.dtype)


@labelled("embedding")
def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` that `input` names.

    Args:
        input: integers of any shape.
        weight: (rows, size).
        padding_idx: a row that gets no gradient.
        max_norm: rows that are named and whose norm is larger are scaled to it, in `weight` itself.
        norm_type: of max_norm.
        scale_grad_by_freq, sparse: not supported.

    Returns:
        (*input.shape, size).

    Raises:
        OutOfRangeError: a row, where its number is known, does not exist.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.embedding(tgrad.tensor([1, 0]), tgrad.eye(2)).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    refuse("embedding", scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)
    if weight.ndim != 2:
        raise ShapeError(f"embedding: weight of shape {weight.shape}.", "It has two axes.")
    check_known_index(input, weight.shape[0])
    bound_norms(weight, input, max_norm, norm_type)
    return _rows_of(weight, input, padding_idx)


@from_template()
def _rows_of(weight: Tensor, input: Tensor, padding_idx: int | None) -> Tensor:
    """The rows of a table that indices name."""
    rows = weight.index_select(0, input.reshape(-1))
    if padding_idx is not None:
        padding = padding_idx % weight.shape[0]
        kept = (input.reshape(-1, 1) != padding).expand(rows.shape)
        rows = with_vjp("mask_gradient", rows, rows, kept)
    return rows.reshape(*input.shape, weight.shape[1])


def bound_norms(weight: Tensor, rows: Tensor, most: float | None, kind: float) -> None:
    """Scale those of the rows of a table whose norm of a kind is larger to `most`, in place; none
    without it."""
    if most is None:
        return
    with no_grad():
        weight.copy_(with_bounded_norms(weight, rows, most, kind))


def with_bounded_norms(weight: Tensor, rows: Tensor, most: float, kind: float) -> Tensor:
    """The table that `bound_norms` makes; 1e-7 is PyTorch's, too."""
    norm = vector_norm(weight, kind, 1, keepdim=True)
    is_named = zeros(weight.shape[0], dtype=bool_, device=weight.device)
    is_named = is_named.index_fill(0, rows.reshape(-1), True).unsqueeze(1)
    return (weight * (most / (norm + 1e-7))).where(is_named & (norm > most), weight)


@define_vjp("mask_gradient")
def _mask_backward(g: Tensor, y: Tensor, x: Tensor, kept: Tensor) -> tuple[Tensor, None]:
    """g where it is kept, else 0"""
    return g.where(kept, 0.0), None


@labelled("dropout")
def dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Each element is 0 with probability p, else divided by 1 - p; itself when not training.

    Args:
        generator: by default the one that `tgrad.manual_seed` seeds.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.dropout(tgrad.ones(2), 0.5, training=False).tolist()
    [1.0, 1.0]
    """
    check_probability(p)
    if not training or p == 0.0:
        return input
    result = dropped(input, p, *draw_for(input, p, generator))
    return input._assign(result) if inplace else result


def check_probability(p: float) -> None:
    """
    Raises:
        ShapeError: it is none.
    """
    if not 0.0 <= p <= 1.0:
        raise ShapeError(f"dropout: p={p}.", "A probability is 0 to 1.")


def draw_for(input: Tensor, p: float, generator: Generator | None = None) -> Sequence[Tensor]:
    """Number and seed of a draw, on the input's device; nothing where nobody asks for it."""
    if p in (0.0, 1.0):
        return ()
    nodes = (generator or default_generator).draw(input.device)
    return [Tensor._of(n, input.device) for n in nodes]


@from_template()
def dropped(input: Tensor, p: float, *draw: Tensor) -> Tensor:
    """The input, each element scaled or 0 with probability p.

    Args:
        draw: of `draw_for`, for the same p.
    """
    if p == 1.0:
        return input * 0.0
    number, seed = draw
    scale = input._constant(1.0 / (1.0 - p), input.dtype)
    return input * scale.where(uniform(input.shape, number, seed) >= p, 0.0)


@labelled("cosine_similarity")
@from_template()
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 · x2 / max(‖x1‖ ‖x2‖, eps) along `dim`, each norm at least eps.

    >>> import tgrad, tgrad.nn.functional as F
    >>> F.cosine_similarity(tgrad.ones(1, 4), tgrad.ones(1, 4)).item()
    1.0
    """
    a, b = (x.to(promote(x1.dtype, x2.dtype)) for x in broadcast_tensors(x1, x2))
    norms = [vector_norm(x, 2, dim).maximum(eps) for x in (a, b)]
    return (a * b).sum(dim) / (norms[0] * norms[1])


__all__ = [
    "cosine_similarity", "dropout", "embedding", "linear",
]  # fmt: skip
