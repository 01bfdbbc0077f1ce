"""Movement ops as index arithmetic: they never move data by themselves.

In: a movement node and the index of one element of its result. Out: the index of the element of its
input, and the bounds under which that element exists (a pad's border is zero). Invariant: pure.
"""

from __future__ import annotations

from tgrad.graph.index import ZERO, Bound, Index, Var, flatten, unflatten
from tgrad.graph.node import Node
from tgrad.graph.op import Op

Indices = tuple[Index, ...]


def push_index(node: Node, index: Indices) -> tuple[Indices, tuple[Bound, ...]]:
    """Index into `node.inputs[0]` of the element at `index` of `node`, and its bounds.

    Raises:
        KeyError: the node is not a movement op.
    """
    x = node.inputs[0]
    match node.op:
        case Op.RESHAPE:
            return _reshape(index, node.shape, x.shape), ()
        case Op.PERMUTE:
            source = [ZERO] * len(index)
            for position, axis in enumerate(node.attr("axes")):
                source[axis] = index[position]
            return tuple(source), ()
        case Op.EXPAND:
            tail = index[len(index) - len(x.shape) :]
            return tuple(ZERO if n == 1 else e for e, n in zip(tail, x.shape)), ()
        case Op.PAD:
            shifted = tuple(e - low for e, low in zip(index, node.attr("low")))
            borders = zip(shifted, x.shape, node.shape)
            bounds = tuple(Bound(e, 0, n) for e, n, padded in borders if padded != n)
            return shifted, tuple(b for b in bounds if not b.is_always)
        case Op.SLICE:
            parts = zip(index, node.attr("start"), node.attr("step"))
            return tuple(e * step + start for e, start, step in parts), ()
        case Op.FLIP:
            axes = node.attr("axes")
            return tuple(
                e * -1 + (n - 1) if a in axes else e for a, (e, n) in enumerate(zip(index, x.shape))
            ), ()
        case Op.WINDOW:
            axis = node.attr("axis")
            inner = index[axis] * node.attr("stride") + index[-1] * node.attr("dilation")
            return (*index[:axis], inner, *index[axis + 1 : -1]), ()
        case _:
            raise KeyError(f"{node.op} is not a movement op")


def _reshape(index: Indices, shape: tuple[int, ...], target: tuple[int, ...]) -> Indices:
    """Through the common factorisation: runs of axes with equal products are mapped by themselves,
    so most `//` and `%` never appear."""
    result: list[Index] = []
    i = j = 0
    while i < len(shape) or j < len(target):
        i0, j0, have, want = i, j, 1, 1
        if i < len(shape):
            have, i = shape[i], i + 1
        if j < len(target):
            want, j = target[j], j + 1
        while have != want:
            if (have < want and i < len(shape)) or j >= len(target):
                have, i = have * shape[i], i + 1
            else:
                want, j = want * target[j], j + 1
        flat = flatten(index[i0:i], shape[i0:i])
        result.extend(unflatten(flat, target[j0:j]))
    return tuple(result)


def covers(node: Node, index: Indices, flat: Index) -> bool:
    """Whether `index` runs over each element of the node exactly once."""
    seen: set[str] = set()
    for e, n in zip(index, node.shape):
        if n == 1 and e == ZERO:
            continue
        size, last = 1, 0
        for atom, c in sorted(e.terms, key=lambda t: t[1]):
            if not isinstance(atom, Var) or atom.name in seen or c != size:
                return False
            seen.add(atom.name)
            size, last = size * atom.extent, c
        if size != n or e.const != 0 or last < 1:
            return False
    return flat.lo == 0
