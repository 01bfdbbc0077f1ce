"""Loops of attention in parts: in most tiles of scores a mask leaves out nothing.

In: a loop over tiles whose mask is of indices, such as 0 <= m - k < window. Out: up to three loops
in turn, of which one asks for no mask. Invariant: together they take the loop's steps, in order.
Other GPUs than those with 8-bit floats keep one loop: on gfx942 several take more registers than
there are.

    for k0 in range(0, stop): masked         for k0 in range(0, k_last): whole        k0 + 63 <= m0
                                       ->    for k0 in range(k_rest, stop): masked
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tgrad.graph.index import Index, Var, constant, var
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Kernel, Role

if TYPE_CHECKING:
    from tgrad.triton_gen.emit import Emitter

LEAST_STEPS = 4
"""Steps of a loop that is worth parts."""


@dataclass(frozen=True)
class Whole:
    """Where a mask holds in whole tiles: for steps that begin at or beyond all of `first`, and
    before all of `last`.

    Attributes:
        masks: numbers of the tiles that hold the mask.
    """

    masks: frozenset[int]
    first: tuple[Index, ...]
    last: tuple[Index, ...]


def whole_tiles(kernel: Kernel, loop: ir.Loop) -> Whole | None:
    """What of a loop needs no mask; None where that is not known, or there is no mask."""
    axis = kernel.axis(loop.axis)
    masks = [s for s in loop.body if isinstance(s, ir.InsideTile) and loop.axis in s.out.dims]
    if axis.steps < LEAST_STEPS or not masks or not _has_dot(loop) or not _are_joined(loop, masks):
        return None
    first: list[Index] = []
    last: list[Index] = []
    for bound in (b for s in masks for b in s.mask if not b.is_always):
        ends = _ends(kernel, bound.index, loop.axis)
        if ends is None:
            return None
        sign, least, most = ends
        step = axis.block - 1
        if bound.index.lo < bound.lo:
            at = least - bound.lo
            _add(first, last, at * -1 if sign > 0 else at - step, sign > 0)
        if bound.index.hi >= bound.hi:
            at = most - bound.hi + 1
            _add(first, last, at * -1 - step if sign > 0 else at, sign < 0)
    if not first and not last:
        return None
    return Whole(frozenset(s.out.id for s in masks), tuple(first), tuple(last))


def _add(first: list[Index], last: list[Index], at: Index, is_first: bool) -> None:
    """A step may begin at `at`: it is the first that may, or the last."""
    first.append(at) if is_first else last.append(at + 1)


def _are_joined(loop: ir.Loop, masks: Sequence[ir.InsideTile]) -> bool:
    """Whether all that is asked of masks is whether all hold."""
    joined = {s.out.id for s in masks}
    for stmt in loop.body:
        if isinstance(stmt, ir.ComputeTile) and joined.intersection(a.id for a in stmt.args):
            if stmt.op is Op.AND:
                joined.add(stmt.out.id)
            elif stmt.op is not Op.WHERE or joined.intersection(a.id for a in stmt.args[1:]):
                return False
    return True


def _has_dot(loop: ir.Loop) -> bool:
    return any(isinstance(s, ir.DotTile) for s in loop.body)


def _ends(kernel: Kernel, e: Index, loop: str) -> tuple[int, Index, Index] | None:
    """The sign of the loop's variable in an expression, and the least and largest value of the rest
    in a tile; None where they are not known."""
    sign, least, most = 0, constant(e.const), constant(e.const)
    for atom, c in e.terms:
        if not isinstance(atom, Var):
            return None
        axis = kernel.axis(atom.name)
        if atom.name == loop:
            sign = c
            continue
        if axis.role is not Role.GRID:
            return None
        name = atom.name if axis.block == 1 else f"{atom.name}0"
        start, reach = var(name, atom.extent) * c, c * (axis.block - 1)
        least, most = least + start + min(reach, 0), most + start + max(reach, 0)
    return (sign, least, most) if abs(sign) == 1 else None


def emit_in_parts(out: Emitter, loop: ir.Loop, whole: Whole, start: str, stop: str) -> None:
    """Print the loops."""
    name, block = loop.axis, f"BLOCK_{loop.axis.upper()}"
    first = start
    if whole.first:
        first = f"{name}_first"
        at = "0"
        for e in whole.first:
            at = f"tl.maximum({at}, {out.index.at(e, ())})"
        out.line(f"{first} = tl.maximum({start}, ({at} + {block} - 1) // {block} * {block})")
        out.steps(loop, start, f"tl.minimum({first}, {stop})")
    last = stop
    if whole.last:
        last = f"{name}_last"
        at = stop
        for e in whole.last:
            at = f"tl.minimum({at}, {out.index.at(e, ())})"
        out.line(f"{last} = tl.maximum({first}, {at})")
    with out.without(whole.masks):
        out.steps(loop, first, last)
    if whole.last:
        rest = f"{first} + ({last} - {first} + {block} - 1) // {block} * {block}"
        out.line(f"{name}_rest = {rest.removeprefix('0 + ').replace(' - 0 ', ' ')}")
        out.steps(loop, f"{name}_rest", stop)
