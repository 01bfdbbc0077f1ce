"""Loads of 8-bit floats that matrix units take as they are.

In: a Kernel. Out: which of its loads have a float's type at once. Invariant: nothing but dots reads
such a load.

8-bit floats are stored as bytes. Bytes that become floats between a load and a dot pass through
registers on their way to shared memory; floats are copied there without (8192³ on an H200: 943
instead of 663 TFLOP/s).
"""

from __future__ import annotations

from collections import Counter

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.graph.op import Op
from tgrad.kernel import ir

KINDS: dict[DType, str] = {
    dt.float8_e4m3fn: "tl.float8e4nv",
    dt.float8_e5m2: "tl.float8e5",
}
"""Triton's names of the types that matrix units take."""


def float8_loads(kernel: ir.Kernel) -> dict[int, DType]:
    """By tile the type of the float, of loads and of what only gives their bytes that type."""
    body = list(ir.statements(kernel.body))
    readers = Counter(t.id for stmt in body for t in ir.reads(stmt))
    made = {s.out.id: s for s in body if isinstance(s, (ir.LoadTile, ir.ComputeTile))}
    dots = [s for s in body if isinstance(s, ir.DotTile)]
    taken = Counter(t.id for s in dots for t in (s.a, s.b))
    found: dict[int, DType] = {}
    for tile in {t.id: t for s in dots for t in (s.a, s.b) if t.dtype.is_float8}.values():
        stmt, chain = made.get(tile.id), [tile.id]
        if isinstance(stmt, ir.ComputeTile) and stmt.op is Op.BITCAST:
            (source,) = stmt.args
            stmt, chain = made.get(source.id), [*chain, source.id]
        is_read_once = readers[chain[-1]] == (1 if len(chain) > 1 else taken[tile.id])
        if isinstance(stmt, ir.LoadTile) and is_read_once and readers[tile.id] == taken[tile.id]:
            found |= dict.fromkeys(chain, tile.dtype)
    return found
