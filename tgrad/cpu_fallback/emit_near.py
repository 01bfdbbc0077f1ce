"""Loops that first look whether arguments are near, and then compute by quicker functions.

In: the statements of a loop over lanes. Out: C lines. Invariant: results do not depend on which of
the two loops runs but for rounding; the look computes nothing dear.

    int is_far = 0;
    #pragma omp simd reduction(| : is_far)
    for (int i = i_lo; i < i_hi; i++) {
      const float t0 = x[i];
      is_far |= !(__builtin_fabsf(t0) < 0x1p20f);
    }
    if (is_far) {
      for (...) { ... tg_sin(t0) ... }           any argument: digits of 2/pi, long division
    } else {
      for (...) { ... tg_near_sin_f32(t0) ... }
    }

NaN and infinities are far. A tile of arguments is in the caches when it is read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tgrad.cpu_fallback.near_functions import has_near, is_near
from tgrad.graph.op import OPS
from tgrad.kernel import ir
from tgrad.kernel.statements import reads_of

if TYPE_CHECKING:
    from tgrad.cpu_fallback.emit_body import Body

CHEAP = 4
"""Elementary operations that arguments may take, to be computed twice."""


@dataclass(frozen=True, slots=True)
class Looked:
    """Functions of a loop that have a quick way, and the statements that make their arguments."""

    calls: tuple[ir.ComputeTile, ...]
    arguments: tuple[ir.Stmt, ...]


def looked_at(stmts: Sequence[ir.Stmt]) -> Looked | None:
    """What a loop has to look at; None if it has no such function or dear arguments."""
    calls = tuple(
        s for s in stmts if isinstance(s, ir.ComputeTile) and has_near(s.op, s.args[0].dtype)
    )
    needed = {a.id for s in calls for a in s.args}
    arguments: list[ir.Stmt] = []
    for s in reversed(stmts if calls else ()):
        if isinstance(s, ir.Pure) and s.out.id in needed:
            arguments.insert(0, s)
            needed |= reads_of(s)
    made = {s.out.id for s in stmts if not isinstance(s, ir.Pure) and hasattr(s, "out")}
    cost = sum(OPS[s.op].cost for s in arguments if isinstance(s, ir.ComputeTile))
    plain = all(isinstance(s, (ir.LoadTile, ir.ConstTile, ir.IndexTile, ir.ComputeTile))
                for s in arguments)  # fmt: skip
    if not calls or not plain or cost > CHEAP or needed & made:
        return None
    return Looked(calls, tuple(arguments))


def emit_near(
    body: Body, looked: Looked, stmts: list[ir.Stmt], head: str, outside: set[int]
) -> None:
    """The look and both loops."""
    code, saved = body.code, dict(body.scalars)
    with code.block(""):
        code.line("int is_far = 0;")
        code.pragma("omp simd reduction(| : is_far)")
        with code.block(head):
            for s in looked.arguments:
                body.statement(s, escapes=False)
            tests = [
                is_near(c.op, [body.element(a) for a in c.args], c.args[0].dtype)
                for c in looked.calls
            ]
            code.line(f"is_far |= !({' & '.join(dict.fromkeys(tests))});")
        body.scalars = dict(saved)
        with code.block("if (is_far)"):
            body.all_lanes(stmts, head, True, outside)
        body.scalars = dict(saved)
        body.near = frozenset(c.out.id for c in looked.calls)
        with code.block("else"):
            body.all_lanes(stmts, head, True, outside)
        body.near = frozenset()
