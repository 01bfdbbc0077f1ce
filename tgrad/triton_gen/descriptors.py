"""Loads of matrices through tensor descriptors: one instruction copies a tile (TMA, from sm_90 on).

In: a Kernel. Out: which of its loads may go through one, and how. Invariant: a descriptor's load
gives zero outside the matrix and what a plain load gives inside; on targets without TMA Triton
turns it into plain loads.

    t3_matrix = tl.make_tensor_descriptor(in0_ptr, [4096, 2048], [2048, 1], [BLOCK_M, BLOCK_K])
    for k0 in tl.range(0, 2048, BLOCK_K):
        t3 = t3_matrix.load([m0, k0])
"""

from __future__ import annotations

from dataclasses import dataclass

from tgrad.graph.index import Var
from tgrad.kernel import ir

ALIGNMENT = 16
"""Bytes of which addresses and steps are multiples, and that a row of a tile has at least."""
MOST = 256
"""Elements of a tile along one axis."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """The matrix behind a load: its axes, and elements from one row to the next."""

    rows: str
    columns: str
    step: int


def matrices_of(kernel: ir.Kernel) -> dict[int, Matrix]:
    """By tile, those operands of dots that are loaded as tiles of matrices."""
    if kernel.table is not None:
        return {}
    body = list(ir.statements(kernel.body))
    operands = {t.id for s in body if isinstance(s, ir.DotTile) for t in (s.a, s.b)}
    loads = (s for s in body if isinstance(s, ir.LoadTile) and s.out.id in operands)
    found = ((s.out.id, _matrix(kernel, s)) for s in loads)
    return {tile: matrix for tile, matrix in found if matrix is not None}


def _matrix(kernel: ir.Kernel, load: ir.LoadTile) -> Matrix | None:
    """What a load reads tiles of; None if a descriptor cannot."""
    index, itemsize = load.index, kernel.slots[load.slot].dtype.itemsize
    steps = {atom.name: c for atom, c in index.terms if isinstance(atom, Var)}
    if load.mask or index.const or len(load.out.dims) != 2 or kernel.slots[load.slot].dtype.is_bool:
        return None
    if len(index.terms) != 2 or set(steps) != set(load.out.dims):
        return None
    columns, rows = sorted(steps, key=steps.__getitem__)
    blocks = [kernel.axis(a).block for a in (rows, columns)]
    is_aligned = steps[rows] * itemsize % ALIGNMENT == 0 and blocks[1] * itemsize >= ALIGNMENT
    if steps[columns] != 1 or not is_aligned or max(blocks) > MOST or itemsize > 4:
        return None
    return Matrix(rows, columns, steps[rows])
