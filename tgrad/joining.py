"""Tensors joined into one.

In: tensors. Out: one lazy tensor. Invariant: elements arrive bit by bit as they were, NaN and -0.0
included: each comes through a chosen branch, never through a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import combinations as choose_combinations
from itertools import combinations_with_replacement
from typing import Any

from tgrad import dtype as dt
from tgrad.arguments import with_numpy_names
from tgrad.batching import is_inside_vmap
from tgrad.creation import places
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.from_template import from_template
from tgrad.graph.node import below, make
from tgrad.graph.op import Op
from tgrad.graph.size import is_same, running_scope
from tgrad.graph.sized import are_same
from tgrad.methods.elementwise import broadcast_shapes, is_complex
from tgrad.methods.reduction import normal_axis
from tgrad.methods.sizes import is_sized, placed
from tgrad.runtime.storage import join_storages
from tgrad.tensor import Tensor, define_vjp, labelled, realize_tensors, tensor, with_vjp
from tgrad.tracing import tracer

MANY = 8
"""From so many parts on, those that are in memory may be joined there."""
SMALL = 2**20
"""Elements of the result up to which they are."""


def of_parts(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: of complex tensors, among a sequence of tensors or the arguments themselves, the
    function of each part."""

    @wraps(function)
    def join(*args: Any, **kwargs: Any) -> Any:
        first = args[0] if args and isinstance(args[0], (list, tuple)) else args
        if not any(is_complex(t) for t in first):
            return function(*args, **kwargs)
        from tgrad.complex_numbers.parts import joined_parts

        return joined_parts(function, args, kwargs)

    return join


@with_numpy_names
@of_parts
@labelled("cat")
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors one after the other along an axis.

    Many small ones that are in memory are joined there at once; see `pad_sequence`.

    Args:
        tensors: of equal sizes but for `dim`; dtypes are promoted. A tensor of shape (0,) is
            skipped, as in PyTorch.
        dim: the axis.

    Raises:
        ShapeError: there is none, or other sizes differ.

    >>> import tgrad
    >>> tgrad.cat([tgrad.ones(1), tgrad.zeros(2)]).tolist()
    [1.0, 0.0, 0.0]
    """
    given = list(tensors)
    if not given:
        raise ShapeError("cat of no tensors.", "Give at least one.")
    dtype = given[0].dtype
    for t in given[1:]:
        dtype = dt.promote(dtype, t.dtype)
    parts = [t.to(dtype) for t in given if not are_same(t.shape, (0,))] or [given[0].to(dtype)]
    if not parts[0].shape:
        raise ShapeError("cat of tensors with no axes.", "Use tgrad.stack.")
    axis = normal_axis(dim, parts[0].ndim)
    for t in parts[1:]:
        same = t.ndim == parts[0].ndim and all(
            is_same(m, n) for a, (m, n) in enumerate(zip(t.shape, parts[0].shape)) if a != axis
        )
        if not same:
            raise ShapeError(
                f"cat of shapes {parts[0].shape} and {t.shape} along axis {axis}.",
                "All sizes but those of that axis must be equal.",
            )
    _compute_rest(parts)
    together = _joined_in_memory(parts, axis)
    if together is not None:
        return together
    total = sum(t.shape[axis] for t in parts)
    if is_sized(*(t.shape[axis] for t in parts)):
        return _joined_sizes(parts, axis, total)
    return _side_by_side(axis, *parts)


@from_template()
def _side_by_side(axis: int, *parts: Tensor) -> Tensor:
    """`cat` of equal dtypes, from one place of the result to the next."""
    total = sum(t.shape[axis] for t in parts)
    shape = (*parts[0].shape[:axis], total, *parts[0].shape[axis + 1 :])
    place = places(shape, axis, device=parts[0].device)
    joined, start = None, 0
    for t in parts:
        low = [start if a == axis else 0 for a in range(t.ndim)]
        start += t.shape[axis]
        high = [total - start if a == axis else 0 for a in range(t.ndim)]
        wide = t._pad_zero(low, high)
        first = start - t.shape[axis]
        joined = wide if joined is None else joined.where(place < first, wide)
    assert joined is not None
    return with_vjp("cat", joined, *parts, params=(axis,))


def _compute_rest(parts: list[Tensor]) -> None:
    """Where most of many parts are in memory, compute the others first: what a loop collected, of
    which the last steps have not run, would be one graph with as many inputs as steps."""
    if len(parts) < MANY or tracer() is not None or running_scope() is not None:
        return
    waiting = [t for t in parts if below(t._node, (Op.RESHAPE,)).op is not Op.BUFFER]
    is_mostly_there = 0 < len(waiting) < len(parts) // 2
    if is_mostly_there and not is_inside_vmap() and not any(t._requires_grad for t in waiting):
        realize_tensors(waiting)


def _joined_in_memory(parts: list[Tensor], axis: int) -> Tensor | None:
    """Many small tensors whose values are in memory, joined there: a batch that is drawn from a
    replay memory compiles nothing, in whatever way its parts repeat. None for all others."""
    if len(parts) < MANY or tracer() is not None or running_scope() is not None:
        return None
    found = []
    for t in parts:
        node = below(t._node, (Op.RESHAPE,))
        is_there = node.op is Op.BUFFER and not t.requires_grad
        if not is_there or t.device != parts[0].device or t.numel() * len(parts) > SMALL:
            return None
        found.append((node.attr("storage"), t.shape))
    storage = join_storages(found, axis)
    if storage is None:
        return None
    return Tensor._of(make(Op.BUFFER, storage=storage), parts[0].device, storage)


@define_vjp("cat")
def _cat_backward(g: Tensor, y: Tensor, *given: Any) -> list[Tensor]:
    """The part of g that each tensor became."""
    *parts, axis = given
    return list(g.split([t.shape[axis] for t in parts], axis))


def _joined_sizes(parts: list[Tensor], axis: int, total: Any) -> Tensor:
    """`cat` where parts begin at symbolic places."""
    joined, start = None, 0
    for t in parts:
        wide, inside = placed(t, axis, start, total)
        start += t.shape[axis]
        joined = wide if joined is None else wide.where(inside, joined)
    assert joined is not None
    return joined


concat = concatenate = cat


@with_numpy_names
@of_parts
@labelled("stack")
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new axis.

    Raises:
        ShapeError: there is none, or shapes differ.

    >>> import tgrad
    >>> tgrad.stack([tgrad.ones(2), tgrad.zeros(2)]).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    given = list(tensors)
    if not given:
        raise ShapeError("stack of no tensors.", "Give at least one.")
    for t in given[1:]:
        if not are_same(t.shape, given[0].shape):
            raise ShapeError(
                f"stack of shapes {given[0].shape} and {t.shape}.", "All shapes must be equal."
            )
    axis = normal_axis(dim, given[0].ndim + 1)
    return cat([t.unsqueeze(axis) for t in given], axis)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """`cat` along axis 1, or 0 for vectors.

    >>> import tgrad
    >>> tgrad.hstack([tgrad.ones(1), tgrad.zeros(1)]).tolist()
    [1.0, 0.0]
    """
    rows = [t.reshape(1) if not t.shape else t for t in tensors]
    return cat(rows, 0 if rows and rows[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """`cat` along axis 0; vectors become rows.

    >>> import tgrad
    >>> tgrad.vstack([tgrad.ones(1), tgrad.zeros(1)]).tolist()
    [[1.0], [0.0]]
    """
    return cat([t.reshape(1, -1) if t.ndim < 2 else t for t in tensors], 0)


row_stack = vstack


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """`cat` along axis 2 of tensors with at least three axes; see `atleast_3d`.

    >>> import tgrad
    >>> tgrad.dstack([tgrad.ones(2), tgrad.zeros(2)]).shape
    (1, 2, 2)
    """
    return cat([atleast_3d(t) for t in tensors], 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """`hstack`, with vectors as columns.

    >>> import tgrad
    >>> tgrad.column_stack([tgrad.ones(2), tgrad.zeros(2)]).tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    return hstack([t.reshape(-1, 1) if t.ndim < 2 else t for t in tensors])


@labelled("block_diag")
def block_diag(*tensors: Tensor) -> Tensor:
    """Matrices along a diagonal, zeros elsewhere; vectors are rows.

    >>> import tgrad
    >>> tgrad.block_diag(tgrad.ones(1, 1), tgrad.ones(1, 2)).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
    """
    blocks = [atleast_2d(t) for t in tensors]
    width, start, rows = sum(t.shape[1] for t in blocks), 0, []
    for t in blocks:
        rows.append(t._pad_zero((0, start), (0, width - start - t.shape[1])))
        start += t.shape[1]
    return cat(rows, 0)


# -- shapes that fit each other ------------------------------------------------------------------


@of_parts
def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Each tensor expanded to their common shape.

    >>> import tgrad
    >>> [t.shape for t in tgrad.broadcast_tensors(tgrad.ones(2, 1), tgrad.ones(3))]
    [(2, 3), (2, 3)]
    """
    shape = broadcast_shapes(*(t.shape for t in tensors))
    return tuple(t.expand(shape) for t in tensors)


def _each(function: Callable[[Tensor], Tensor], tensors: tuple[Any, ...]) -> Any:
    """Of one tensor its result, of several a tuple."""
    if len(tensors) == 1 and not isinstance(tensors[0], (list, tuple)):
        return function(tensors[0])
    given = tensors[0] if len(tensors) == 1 else tensors
    return tuple(function(t) for t in given)


def atleast_1d(*tensors: Any) -> Any:
    """With at least one axis: one tensor, or a tuple of several.

    >>> import tgrad
    >>> tgrad.atleast_1d(tgrad.tensor(2.0)).shape
    (1,)
    """
    return _each(lambda t: t if t.ndim else t.reshape(1), tensors)


def atleast_2d(*tensors: Any) -> Any:
    """With at least two axes; a vector is a row.

    >>> import tgrad
    >>> tgrad.atleast_2d(tgrad.ones(3)).shape
    (1, 3)
    """
    return _each(lambda t: t if t.ndim > 1 else t.reshape(1, -1), tensors)


def atleast_3d(*tensors: Any) -> Any:
    """With at least three axes: (n,) as (1, n, 1) and (m, n) as (m, n, 1).

    >>> import tgrad
    >>> tgrad.atleast_3d(tgrad.ones(3)).shape
    (1, 3, 1)
    """
    return _each(
        lambda t: t if t.ndim > 2 else t.unsqueeze(-1) if t.ndim == 2 else t.reshape(1, -1, 1),
        tensors,
    )


# -- all combinations ----------------------------------------------------------------------------


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of a grid, from those of each axis.

    Args:
        tensors: vectors or numbers, as arguments or as one sequence.
        indexing: "ij", or "xy" for the first two axes exchanged.

    >>> import tgrad
    >>> tgrad.meshgrid(tgrad.arange(2), tgrad.arange(3))[0].tolist()
    [[0, 0, 0], [1, 1, 1]]
    """
    is_listed = len(tensors) == 1 and isinstance(tensors[0], (list, tuple))
    given = tensors[0] if is_listed else tensors
    if indexing not in ("ij", "xy"):
        raise UnsupportedError(f"meshgrid: indexing={indexing!r}.", 'Use "ij" or "xy".')
    vectors = [atleast_1d(t) for t in given]
    shape = tuple(t.shape[0] for t in vectors)
    order = list(range(len(vectors)))
    if indexing == "xy" and len(order) > 1:
        order[:2] = 1, 0
    grids = []
    for axis, t in enumerate(vectors):
        column = t.reshape([t.shape[0] if a == axis else 1 for a in range(len(vectors))])
        grids.append(column.expand(shape).permute(order))
    return tuple(grids)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All tuples of one element of each vector, a row each.

    >>> import tgrad
    >>> tgrad.cartesian_prod(tgrad.arange(2), tgrad.arange(2)).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    if len(tensors) == 1:
        return tensors[0]
    return stack([g.reshape(-1) for g in meshgrid(*tensors)], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All ways to take r elements of a vector, a row each.

    >>> import tgrad
    >>> tgrad.combinations(tgrad.tensor([5, 6, 7])).tolist()
    [[5, 6], [5, 7], [6, 7]]
    """
    if input.ndim != 1 or r < 0:
        raise ShapeError(f"combinations of {r} of shape {input.shape}.", "Give a vector.")
    choose = combinations_with_replacement if with_replacement else choose_combinations
    rows = list(choose(range(input.shape[0]), r))
    if not rows or not r:
        return input[:0] if not r else input[:0].reshape(0, r)
    return input[tensor(rows, device=input.device)]


def padded(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """One axis padded with its own elements: "reflect", "replicate" or "circular"; negative cuts.

    Raises:
        ShapeError: more than there is to repeat.

    >>> import tgrad
    >>> padded(tgrad.tensor([1, 2, 3]), 0, 2, 1, "reflect").tolist()
    [3, 2, 1, 2, 3, 2]
    """
    if mode == "circular":
        x = x.narrow(axis, max(-before, 0), x.shape[axis] + min(before, 0) + min(after, 0))
        before, after = max(before, 0), max(after, 0)
    n = x.shape[axis]
    limit = {"reflect": n - 1, "circular": n}.get(mode, max(before, after))
    if max(before, after) > limit or not n:
        raise ShapeError(
            f"pad by {before} and {after} of an axis of size {n}: mode={mode!r}.",
            f"Pad by at most {limit}.",
        )
    if mode == "replicate":
        ends = (0, n - 1)
        sides = [x.narrow(axis, end, 1).expand(_with(x, axis, max(count, 0)))
                 for end, count in zip(ends, (before, after))]  # fmt: skip
        parts = [sides[0], x, sides[1]]
    elif mode == "circular":
        parts = [x.narrow(axis, n - before, before), x, x.narrow(axis, 0, after)]
    else:
        left = x.narrow(axis, 1, max(before, 0)).flip(axis)
        right = x.narrow(axis, n - 1 - max(after, 0), max(after, 0)).flip(axis)
        parts = [left, x, right]
    wide = cat([t for t in parts if t.shape[axis]], axis)
    start = max(-before, 0)
    return wide.narrow(axis, start, wide.shape[axis] - start - max(-after, 0))


def _with(x: Tensor, axis: int, size: int) -> tuple[int, ...]:
    return (*x.shape[:axis], size, *x.shape[axis + 1 :])
