"""Products of tensors by named axes: einsum, tensordot, distances.

In: tensors. Out: lazy tensors. Invariant: each pair of operands meets in one dot node.
Source: https://docs.pytorch.org/docs/stable/generated/torch.einsum.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from string import ascii_letters
from typing import Any

from tgrad.autocasting import follow_autocast
from tgrad.errors import ShapeError
from tgrad.graph.node import source_scope
from tgrad.methods.contraction import of_tensordot
from tgrad.methods.elementwise import broadcast_shapes, is_complex
from tgrad.methods.reduction import normal_axis
from tgrad.tensor import Tensor, define_vjp, labelled, with_vjp

__all__ = ["cdist", "chain_matmul", "cross", "einsum", "tensordot"]

DOTS = "..."


def of_products(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: complex tensors among the operands are multiplied out into their parts."""

    @wraps(function)
    def multiply(*args: Any, **kwargs: Any) -> Any:
        given = args[1] if len(args) == 2 and isinstance(args[1], (list, tuple)) else args
        if not any(is_complex(a) for a in given):
            return function(*args, **kwargs)
        from tgrad.complex_numbers.parts import multiplied

        places = [n for n, a in enumerate(given) if isinstance(a, Tensor) or is_complex(a)]

        def of_parts(*parts: Any) -> Any:
            whole = list(given)
            for n, part in zip(places, parts):
                whole[n] = part
            return function(*(whole if given is args else (args[0], whole)), **kwargs)

        return multiplied(of_parts, [given[n] for n in places])

    return multiply


@of_products
@labelled("einsum")
def einsum(equation: Any, *operands: Any) -> Tensor:
    """Sums of products over axes named by letters.

    Args:
        equation: such as "bij,bjk->bik"; without "->", the letters that stand once, in order. "..."
            stands for axes that are broadcast.
        operands: tensors, as arguments or as one sequence. Without an equation, each is followed by
            a list of its axes, numbers from 0 to 51 or one Ellipsis; a last list is the result's.

    Raises:
        ShapeError: the equation does not fit the operands.

    >>> import tgrad
    >>> tgrad.einsum("ij,j->i", tgrad.ones(2, 3), tgrad.ones(3)).tolist()
    [3.0, 3.0]
    """
    if not isinstance(equation, str):
        equation, operands = _with_letters((equation, *operands))
    given = operands[0] if len(operands) == 1 and not isinstance(operands[0], Tensor) else operands
    terms, result = _parse(equation.replace(" ", ""), [t.ndim for t in given])
    tensors = [_without_repeats(t, term) for t, term in zip(given, terms, strict=True)]
    left, names = tensors[0]
    for i, (right, others) in enumerate(tensors[1:], 1):
        wanted = set(result).union(*(t for _, t in tensors[i + 1 :]))
        left, names = _pair(left, names, right, others, wanted)
    left, names = _summed(left, names, set(result), len(tensors) == 1)
    missing = [n for n in result if n not in names]
    if missing:
        raise ShapeError(f"einsum {equation!r}: the result names {missing[0]!r}, no operand does.")
    return left.permute([names.index(n) for n in result]) if result else left.reshape(())


def _with_letters(given: Sequence[Any]) -> tuple[str, tuple[Tensor, ...]]:
    """x, [0, 1], y, [1, 2], [0, 2] as "ab,bc->ac" and x, y."""
    lists = [*given[1::2], *(given[-1:] if len(given) % 2 else ())]
    terms = ["".join("..." if n is Ellipsis else ascii_letters[n] for n in axes) for axes in lists]
    count = len(given) // 2
    equation = ",".join(terms[:count]) + "".join(f"->{t}" for t in terms[count:])
    return equation, tuple(given[: 2 * count : 2])


def _parse(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """Names of the axes of each operand and of the result; "..." as names "0", "1", .. from the
    last axis on."""
    inputs, arrow, output = equation.partition("->")
    parts = inputs.split(",")
    if len(parts) != len(ranks):
        raise ShapeError(f"einsum {equation!r} of {len(ranks)} operands.", "Name each operand.")
    terms = [_names(part, rank, equation) for part, rank in zip(parts, ranks)]
    numbers = {n for term in terms for n in term if n.isdecimal()}
    dots = sorted(numbers, key=int, reverse=True)
    if arrow:
        before, found, after = output.partition(DOTS)
        return terms, [*before, *(dots if found else []), *after]
    letters = [n for term in terms for n in term if not n.isdecimal()]
    return terms, [*dots, *sorted(n for n in set(letters) if letters.count(n) == 1)]


def _names(part: str, rank: int, equation: str) -> list[str]:
    before, found, after = part.partition(DOTS)
    count = rank - len(before) - len(after)
    if count < 0 or (count and not found):
        raise ShapeError(
            f"einsum {equation!r}: {part!r} for an operand with {rank} axes.", "Name each axis."
        )
    return [*before, *map(str, reversed(range(count))), *after]


def _without_repeats(t: Tensor, names: list[str]) -> tuple[Tensor, list[str]]:
    """A letter that stands twice in an operand takes the diagonal."""
    names = list(names)
    for name in dict.fromkeys(names):
        while names.count(name) > 1:
            first = names.index(name)
            second = names.index(name, first + 1)
            t = t.diagonal(0, first, second)
            names = [n for a, n in enumerate(names) if a not in (first, second)] + [name]
    return t, names


def _summed(
    t: Tensor, names: list[str], wanted: set[str], is_only: bool = False
) -> tuple[Tensor, list[str]]:
    """Without the axes that nobody wants; what meets another operand keeps its dtype."""
    axes = [a for a, n in enumerate(names) if n not in wanted]
    dtype = None if is_only else t.dtype
    return (t.sum(axes, dtype=dtype) if axes else t), [n for n in names if n in wanted]


def _pair(
    a: Tensor, of_a: list[str], b: Tensor, of_b: list[str], wanted: set[str]
) -> tuple[Tensor, list[str]]:
    """The product of two operands, summed over what nobody else wants."""
    a, of_a = _summed(a, of_a, wanted | set(of_b))
    b, of_b = _summed(b, of_b, wanted | set(of_a))
    a, b = _fitted(a, of_a, b, of_b), _fitted(b, of_b, a, of_a)
    both = [n for n in of_a if n in of_b]
    inner, batch = [n for n in both if n not in wanted], [n for n in both if n in wanted]
    contract = tuple(of_a.index(n) for n in inner), tuple(of_b.index(n) for n in inner)
    together = tuple(of_a.index(n) for n in batch), tuple(of_b.index(n) for n in batch)
    names = [*batch, *(n for n in of_a if n not in both), *(n for n in of_b if n not in both)]
    multiply = _contracted if inner else _multiplied
    return multiply(a, b, contract, together), names


def _multiplied(a: Tensor, b: Tensor, contract: Any, batch: Any) -> Tensor:
    return a._dot(b, contract, batch)


_contracted = follow_autocast("bmm", _multiplied)


def _fitted(a: Tensor, of_a: list[str], b: Tensor, of_b: list[str]) -> Tensor:
    """`a` with axes of size 1 expanded to those of the same name in `b`."""
    shape = list(a.shape)
    for axis, name in enumerate(of_a):
        if name in of_b:
            (shape[axis],) = broadcast_shapes((a.shape[axis],), (b.shape[of_b.index(name)],))
    return a.expand(shape)


@of_products
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Products summed over pairs of axes.

    Args:
        dims: how many of the last axes of a meet the first of b, or the axes of a and of b.

    >>> import tgrad
    >>> tgrad.tensordot(tgrad.ones(2, 3), tgrad.ones(3, 4), 1).shape
    (2, 4)
    """
    with source_scope(label="tensordot"):
        return _tensordot(a, b, dims)


def _tensordot(a: Tensor, b: Tensor, dims: Any) -> Tensor:
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise ShapeError(f"tensordot over {dims} axes of shapes {a.shape} and {b.shape}.")
        pairs = (range(a.ndim - dims, a.ndim), range(dims))
    else:
        pairs = dims
    first = tuple(normal_axis(d, a.ndim) for d in pairs[0])
    second = tuple(normal_axis(d, b.ndim) for d in pairs[1])
    a, b = of_tensordot(a, b, first, second)
    for i, j in zip(first, second, strict=True):
        a, b = (
            (a.sum(i, keepdim=True, dtype=a.dtype) if b.shape[j] == 1 else a),
            (b.sum(j, keepdim=True, dtype=b.dtype) if a.shape[i] == 1 else b),
        )
    return a._dot(b, (first, second))


def chain_matmul(*matrices: Tensor) -> Tensor:
    """`tgrad.linalg.multi_dot` of its arguments.

    >>> import tgrad
    >>> tgrad.chain_matmul(tgrad.ones(1, 2), tgrad.ones(2, 3)).tolist()
    [[2.0, 2.0, 2.0]]
    """
    from tgrad import linalg

    return linalg.multi_dot(matrices) if len(matrices) > 1 else matrices[0]


def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The vector product along an axis of size 3; the first such axis where dim is left out.

    >>> import tgrad
    >>> tgrad.cross(tgrad.tensor([1.0, 0, 0]), tgrad.tensor([0.0, 1, 0])).tolist()
    [0.0, 0.0, 1.0]
    """
    if dim is None:
        shape = broadcast_shapes(input.shape, other.shape)
        found = [a for a, n in enumerate(shape) if n == 3]
        if not found:
            raise ShapeError(f"cross of shapes {input.shape} and {other.shape}.", "One axis is 3.")
        dim = found[0]
    from tgrad import linalg

    return linalg.cross(input, other, dim=dim)


@labelled("cdist")
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """The p-norm of the difference of each row of x1 and each of x2.

    Args:
        x1, x2: (.., P, M) and (.., R, M), with batch axes broadcast.
        p: 0 or more, inf included.
        compute_mode: accepted; differences are always computed one by one, which is exact.

    Returns:
        (.., P, R).

    >>> import tgrad
    >>> tgrad.cdist(tgrad.zeros(1, 2), tgrad.tensor([[3.0, 4.0]])).tolist()
    [[5.0]]
    """
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1] or p < 0:
        raise ShapeError(f"cdist of shapes {x1.shape} and {x2.shape}, p={p}.", "Rows are as long.")
    difference = x1.unsqueeze(-2) - x2.unsqueeze(-3)
    if not difference.shape[-1] or (math.isinf(p) and not difference.numel()):
        return difference.sum(-1)
    return distances(difference, p)


def distances(difference: Tensor, p: float) -> Tensor:
    """The p-norms of differences over the last axis, with PyTorch's gradients: where p is inf the
    largest elements get the whole one each, where p is 0 it is 0."""
    from tgrad.linalg import vector_norm

    norm = vector_norm(difference, p, -1)
    rules = {0: "flat", math.inf: "largest_difference"}
    return with_vjp(rules[p], norm, difference) if p in rules else norm


@define_vjp("largest_difference")
def _largest_backward(g: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor]:
    """g * sign(x) where |x| = y"""
    return (g.unsqueeze(-1) * x.sign().where(x.abs() == y.unsqueeze(-1), 0.0),)
