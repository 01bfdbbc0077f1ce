"""Products of a chain's exponentials one step late, beside the exponentials of the next step.

In: a Kernel. Out: a Kernel that adds the same products in the same order. Invariant: each is added
once; the step before the first adds 0 times 0.

Triton waits for a product where it is issued if the same step reads it, and lets it run until the
next step's first product has come if only the next step does. So the products that end a step go
behind the first ones of the next, and what they multiply is carried there:

    loop k:                             loop k:
        s = dot q, k[k]                     s = dot q, k[k]
        p = exp(s - m)                      sum *= before; sum += dot carried, v[k - 64]
        sum *= scale             =>         p = exp(s - m)
        sum += dot p, v[k]                  carried, before = p, scale
                                        sum *= before; sum += dot carried, v[k - 64]

In the emitted loop the second product has no wait, and the exponentials stand behind it. It is what
FlashAttention-3 does within a warpgroup (Shah et al. 2024, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tgrad.dtype import float32
from tgrad.graph.index import Atom, Bound, Div, Index, Mod, Var, var
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Kernel, Tile, TileAxis
from tgrad.kernel.statements import NewTiles, without_unread


def with_late_products(kernel: Kernel) -> Kernel:
    """The kernel with its loops changed so; itself where none can be."""
    tiles, body = NewTiles(kernel), list[ir.Stmt]()
    for stmt in kernel.body:
        late = _late(kernel, stmt, tiles) if isinstance(stmt, ir.Loop) else None
        body += late if late is not None else [stmt]
    changed = tuple(body)
    return kernel if changed == kernel.body else replace(kernel, body=changed)


@dataclass(frozen=True)
class _Product:
    """A product that ends a step.

    Attributes:
        dot: the statement.
        scaled: what its sum is multiplied by before.
        cast, wide: of its first operand, and what that is made of.
        load: of its second operand.
    """

    dot: ir.DotTile
    scaled: tuple[ir.Accumulate, ...]
    cast: ir.ComputeTile
    wide: Tile
    load: ir.LoadTile


def _late(kernel: Kernel, loop: ir.Loop, tiles: NewTiles) -> list[ir.Stmt] | None:
    """Statements in place of a loop."""
    axis = kernel.axis(loop.axis)
    if loop.start or axis.is_ragged or kernel.limits or kernel.table is not None:
        return None  # the step before the first would read what is no part of the sum
    begun = {s.out.id for s in loop.body if isinstance(s, ir.Init)}
    dots = [(n, s) for n, s in enumerate(loop.body) if isinstance(s, ir.DotTile)]
    first = [n for n, s in dots if s.carry.id in begun]
    found = [_product(loop, s) for _, s in dots if s.carry.id not in begun]
    products = [p for p in found if p is not None]
    if not first or not products or len(products) < len(found):
        return None
    inits: list[ir.Stmt] = []
    moved: list[ir.Stmt] = []
    kept: list[ir.Stmt] = []
    for p in products:
        carried = tiles.like(p.wide)
        inits.append(ir.Init(carried, 0.0))
        kept.append(ir.Keep(carried, p.wide))
        for stmt in p.scaled:
            before = tiles.like(stmt.value)
            inits.append(ir.Init(before, 1.0))
            kept.append(ir.Keep(before, stmt.value))
            moved.append(replace(stmt, value=before))
        load = _before(p.load, axis, tiles.like(p.load.out))
        cast = replace(p.cast, out=tiles.like(p.cast.out), args=(carried,))
        moved += [load, cast, replace(p.dot, a=cast.out, b=load.out)]
    gone = {id(s) for p in products for s in (p.dot, *p.scaled)}
    left = [*loop.body[: first[-1] + 1], *moved, *loop.body[first[-1] + 1 :], *kept]
    body = without_unread([s for s in left if id(s) not in gone])
    return [*inits, replace(loop, body=body, late=tuple(moved))]


def _product(loop: ir.Loop, dot: ir.DotTile) -> _Product | None:
    made = {s.out.id: s for s in loop.body if isinstance(s, (ir.LoadTile, ir.ComputeTile))}
    cast, load = made.get(dot.a.id), made.get(dot.b.id)
    if not isinstance(cast, ir.ComputeTile) or cast.op is not Op.CAST:
        return None
    if not isinstance(load, ir.LoadTile) or load.mask or load.index.loaded():
        return None
    divided = (atom.base for atom in load.index.atoms() if isinstance(atom, (Div, Mod)))
    if any(loop.axis in e.variables() for e in divided):
        return None
    (wide,) = cast.args
    *steps, last = [s for s in loop.body if dot.carry.id in ir.read_numbers(s)]
    scaled = [s for s in steps if isinstance(s, ir.Accumulate) and s.op is Op.MUL]
    if wide.dtype is not float32 or last is not dot or len(scaled) < len(steps):
        return None
    return _Product(dot, tuple(scaled), cast, wide, load)


def _before(load: ir.LoadTile, axis: TileAxis, out: Tile) -> ir.LoadTile:
    """What the step before loaded; 0 before the first."""
    at = var(axis.name, axis.extent + axis.block) - axis.block

    def shifted(atom: Atom) -> Index | None:
        return at if isinstance(atom, Var) and atom.name == axis.name else None

    return ir.LoadTile(out, load.slot, load.index.rebuild(shifted), (Bound(at, 0, axis.extent),))
