"""Loads before the reductions that they do not wait for.

In: a Kernel, its Config. Out: a Kernel that computes the same, with loads moved up in their body.
Invariant: nothing else changes its place; what moves up takes few registers.

A reduction over a program's warps has barriers, and neither Triton nor ptxas moves a load across
one. A norm and its gradient in one kernel so waited for memory twice a row:

    t8 = load x[i, r]               t8 = load x[i, r]
    t10 = sum t8                    t22 = load g[i, r]
    ...                      =>     t10 = sum t8
    t22 = load g[i, r]              ...
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from tgrad.kernel import ir
from tgrad.kernel.ir import Config, Kernel

EARLY_BYTES = 128
"""Of a thread, that are loaded earlier than needed: 32 registers."""
_WARP = 32


def with_early_loads(kernel: Kernel, config: Config) -> Kernel:
    """The kernel with its loads moved up; itself where there are none to move."""
    body = _body(kernel, kernel.body, config)
    return kernel if body == kernel.body else replace(kernel, body=body)


def _body(kernel: Kernel, body: tuple[ir.Stmt, ...], config: Config) -> tuple[ir.Stmt, ...]:
    inner = tuple(
        replace(s, body=_body(kernel, s.body, config)) if isinstance(s, ir.Loop) else s
        for s in body
    )
    first = next((n for n, s in enumerate(inner) if isinstance(s, ir.ReduceTile)), None)
    if first is None or any(isinstance(s, ir.Loop | ir.DotTile) for s in inner):
        return inner  # what feeds a dot is copied ahead by itself
    made = {s.out.id for s in inner if hasattr(s, "out")}
    room, early, late = EARLY_BYTES, [], []
    for stmt in inner[first:]:
        size = _bytes(kernel, stmt, config) if isinstance(stmt, ir.LoadTile) else 0
        if isinstance(stmt, ir.LoadTile) and size <= room and made.isdisjoint(_waits_for(stmt)):
            early.append(stmt)
            room -= size
        else:
            late.append(stmt)
    return (*inner[:first], *early, *late)


def _bytes(kernel: Kernel, load: ir.LoadTile, config: Config) -> int:
    """Of a thread, of what it loads."""
    elements = prod(kernel.axis(d).block for d in load.out.dims)
    return -(-elements * load.out.dtype.itemsize // (_WARP * config.num_warps))


def _waits_for(load: ir.LoadTile) -> set[int]:
    """Numbers of the tiles that its address or mask is computed from."""
    indices = (load.index, *(b.index for b in load.mask))
    return {tile for e in indices for tile in e.loaded()}
