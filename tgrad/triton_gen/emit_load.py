"""Loads of tiles: through pointers or tensor descriptors, as wide as they differ.

In: a LoadTile. Out: one statement that loads it. Invariant: lanes that do not exist hold zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tgrad.kernel import ir
from tgrad.triton_gen.emit_index import expand
from tgrad.triton_gen.float8_loads import KINDS

if TYPE_CHECKING:
    from tgrad.triton_gen.emit import Emitter


def emit_load(out: Emitter, stmt: ir.LoadTile) -> None:
    """Print the statement."""
    if stmt.out.id in out.matrices:
        x = out.matrices[stmt.out.id]
        text = f"{stmt.out}_matrix.load([{x.rows}0, {x.columns}0])"
        is_turned = stmt.out.dims != (x.rows, x.columns)
        out.assign(stmt.out, f"tl.trans({text})" if is_turned else text)
        out.zero_lanes[stmt.out.id] = frozenset(stmt.out.dims)
        return
    whole, dtype = stmt.out.dims, out.kernel.slots[stmt.slot].dtype
    dims = _differing(out, stmt)
    pointer, condition = out.address(stmt.slot, stmt.index, stmt.mask, dims, str(stmt.out))
    is_float = dtype.is_float and not dtype.is_float8
    if stmt.out.id in out.float8:
        is_float = True
        name = f"{out.kernel.slots[stmt.slot].name}_ptr"
        kind = f"tl.pointer_type({KINDS[out.float8[stmt.out.id]]})"
        pointer = pointer.replace(name, f"{name}.to({kind})", 1)
    text = f"tl.load({pointer})"
    if condition:
        text = f"tl.load({pointer}, mask={condition}, other={'0.0' if is_float else '0'})"
    if dtype.is_bool:
        text = f"{text} != 0"
    if dims != whole:
        text = f"tl.broadcast_to({expand(text, dims, whole)}, {out.shape(whole)})"
    out.assign(stmt.out, text)
    out.zero_lanes[stmt.out.id] = frozenset(out.lanes(whole))


def _differing(out: Emitter, load: ir.LoadTile) -> tuple[str, ...]:
    """The dims along which a load's elements are not all the same, as those of scales are where
    a step of the loop lies in one group."""
    dims, parts = load.out.dims, (load.index, *(b.index for b in load.mask))
    varied = {d for e in parts for d in out.index.dims(e)} | set(out.lanes(dims))
    return tuple(d for d in dims if d in varied)
