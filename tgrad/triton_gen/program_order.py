"""Programs with the longest loops first.

In: a Kernel. Out: names of the GRID axes that programs walk from their ends. Invariant: what a
program computes stays the same.

Queries of causal attention have more keys the later they are: k_stop grows with m. Programs start
in the order of their numbers, so the last ones of an ascending m, all long, would share the GPU
with nobody. What begins later for later rows, as gradients of keys do, is in that order already.
"""

from __future__ import annotations

from collections.abc import Sequence

from tgrad.graph.index import Index, Var
from tgrad.kernel import ir
from tgrad.kernel.ir import Kernel


def axes_from_the_end(kernel: Kernel) -> frozenset[str]:
    """Axes along which loops with products end later and begin no later."""
    loops = [
        s
        for s in kernel.body
        if isinstance(s, ir.Loop) and any(isinstance(x, ir.DotTile) for x in s.body)
    ]
    later = {name for s in loops for name in _growing(s.stop)}
    moving = {name for s in loops for e in s.start for name in e.variables()}
    loaded = any(e.loaded() for s in loops for e in s.start)
    return frozenset() if loaded else frozenset(later - moving)


def _growing(bounds: Sequence[Index]) -> set[str]:
    """Variables with which one of the bounds grows."""
    return {atom.name for e in bounds for atom, c in e.terms if isinstance(atom, Var) and c > 0}
