"""Loops under a mask that does not change along them: one loop where it holds, one where not.

In: the statements of a loop along an axis and the Body that emits them. Out: C lines around the
loop, which is emitted for each case. Invariant: results are those of the plain loop.

    if ((t0 >= 0) & (t0 < 1000)) {
      for (int j = j_lo; j < j_hi; j++) out[i * 64 + j] = table[(int)t0 * 64 + j];
    } else {
      for (int j = j_lo; j < j_hi; j++) out[i * 64 + j] = 0;
    }

gcc 12 does not do that itself at -O2, and makes no vectors of some masked loads. (Rows of 64 floats
picked by 16384 numbers, a core of Zen 4: 0.29 to 0.17 ms; 2026-11.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tgrad.fusion.region import Mask
from tgrad.kernel import ir

if TYPE_CHECKING:
    from tgrad.cpu_fallback.emit_body import Body

MOST_STATEMENTS = 16
"""Of a loop that is written twice."""


def each_case(body: Body, stmts: Sequence[ir.Stmt], axis: str) -> Iterator[None]:
    """For each case in turn, between the lines that choose it; once if there is no such mask."""
    mask = _fixed_mask(body, stmts, axis)
    if mask is None:
        yield
        return
    saved = dict(body.scalars)
    for head, holds in ((f"if ({body.mask(mask)})", True), ("else", False)):
        with body.code.block(head):
            body.settled = {mask: holds}
            yield
        body.scalars = dict(saved)
    body.settled = {}


def _fixed_mask(body: Body, stmts: Sequence[ir.Stmt], axis: str) -> Mask | None:
    """The mask of loads that is the same for all steps along the axis, if there is one such."""
    loads = [s for s in stmts if isinstance(s, ir.LoadTile)]
    dims = {**body.dims, **{s.out.id: (axis,) for s in stmts if isinstance(s, ir.Pure)}}

    def is_fixed(mask: Mask) -> bool:
        names = {name for b in mask for name in b.index.variables()}
        numbers = {n for b in mask for n in b.index.loaded()}
        return axis not in names and all(axis not in dims.get(n, (axis,)) for n in numbers)

    found = {s.mask for s in loads if is_fixed(s.mask) and body.mask(s.mask) != "1"}
    is_wide = any(axis in s.index.variables() for s in loads if s.mask in found)
    return found.pop() if len(found) == 1 and is_wide and len(stmts) <= MOST_STATEMENTS else None
