"""A writer of indented C, and the questions about a kernel's statements that emitters share.

In: lines and blocks; statements of a tile program. Out: text; reads, writes, indices, costs.
Invariant: the text depends on nothing but what was written, so sources are byte-stable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod

from tgrad.graph.index import Index, Var
from tgrad.graph.op import OPS, Op
from tgrad.kernel import ir
from tgrad.kernel.ir import statements

FEW_PROGRAMS = 8
"""With fewer programs than this, threads share loops instead of the grid."""

_KEYWORDS = """
auto break case char const continue default do double else enum extern float for goto if inline int
long register restrict return short signed sizeof static struct switch typedef union unsigned void
volatile while slots acc rows to vp rp packed main p v w
wp ip turned part from row panel pixel image weights sums heap is_far
member first length
"""
_RESERVED = frozenset(_KEYWORDS.split())

_OWN = (
    r"t\d+(_\w+)?|tg_\w+|at\d+|\w+_(lo|hi|start|stop|run|end|next|from|until|s|t|w|q)|chunk|piece"
)
"""Names that emitters make up."""


def round_up(n: int, to: int) -> int:
    """The smallest multiple of `to` that is at least n."""
    return -(-n // to) * to


class Code:
    """Lines of C with the present indentation."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def line(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    def pragma(self, text: str) -> None:
        """A directive; a parallel one asks for the threads that were set (see tgrad/threads.py)."""
        clause = " num_threads(tg_threads)" if text.startswith("omp parallel") else ""
        self.lines.append(f"#pragma {text}{clause}")

    def shared(self, loops: int, head: str = "omp parallel for", schedule: str = "static") -> None:
        """The directive by which threads share the next so many loops, a perfect nest."""
        collapse = f" collapse({loops})" if loops > 1 else ""
        self.pragma(f"{head}{collapse} schedule({schedule})")

    @contextmanager
    def block(self, *heads: str) -> Iterator[None]:
        """`heads {` ... `}`; several heads are a perfect nest."""
        start = self.depth
        for head in heads[:-1]:
            self.line(head)
            self.depth += 1
        self.line(f"{heads[-1]} {{" if heads[-1] else "{")
        self.depth += 1
        yield
        self.depth -= 1
        self.line("}")
        self.depth = start

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def header(code: Code, kernel: ir.Kernel) -> None:
    """The comment that begins a kernel's source: its name, the user's line, what it computes."""
    place = f"    {kernel.source}" if kernel.source.line else ""
    code.line(f"/* {kernel.name}{place}")
    if kernel.source.line and kernel.source.text:
        code.line(f" * {_comment(kernel.source.text)}")
    for line in kernel.equation.splitlines():
        code.line(f" * {_comment(line)}".rstrip())
    for a in kernel.axes:
        covers = " ".join(f"{c.name}={c.extent}" for c in a.covers)
        code.line(f" * {a.role.value} {a.name} = {a.extent} by {a.block} ({covers})")
    if kernel.table is not None:
        code.line(f" * {kernel.table.members} members")
    code.line(" */")


def _comment(text: str) -> str:
    return text.replace("*/", "* /").replace("/*", "/ *")


def unique_names(wanted: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """C identifiers for names: themselves where that is possible."""
    used, result = set(taken) | _RESERVED, {}
    for name in wanted:
        base = re.sub(r"\W", "_", name)
        base = base if re.match(r"[A-Za-z_]", base) else f"_{base}"
        while base in used or re.fullmatch(_OWN, base):
            base += "_"
        used.add(base)
        result[name] = base
    return result


def compares_extrema(kernel: ir.Kernel) -> bool:
    """Whether floats are compared with an extremum of them, or it is subtracted from them for an
    exponential, or they are stored beside it for that: each pass over a row then computes the same
    elements to the last bit, so no product may lose its rounding in one pass and keep it in
    another, as the compiler's FMAs would have it."""
    stmts = list(statements(kernel.body))
    constants = {s.out.id for s in stmts if isinstance(s, ir.ConstTile)}
    equal = (s.args for s in stmts if isinstance(s, ir.ComputeTile) and s.op is Op.EQ)
    for a, b in equal:
        if a.dtype.is_float and a.id != b.id and constants.isdisjoint((a.id, b.id)):
            return True
    if any(isinstance(s, ir.DotTile) for s in stmts):
        return False
    steps = (ir.ReduceTile, ir.Accumulate, ir.ScanTile)
    joined = [s for s in stmts if isinstance(s, steps) and s.op in _EXTREMA]
    stored = [s for s in stmts if isinstance(s, ir.StoreTile) and s.value.dtype.is_float]
    return bool(joined) and (len(stored) > 1 or _shifts_products(stmts, joined))


_EXTREMA = {Op.REDUCE_MAX, Op.REDUCE_MIN, Op.MAXIMUM, Op.MINIMUM, Op.SCAN_MAX, Op.SCAN_MIN}


def _shifts_products(
    stmts: Iterable[ir.Stmt], joined: Iterable[ir.ReduceTile | ir.Accumulate | ir.ScanTile]
) -> bool:
    """Whether an extremum is subtracted from what a product is part of: with the product's rounding
    left out, of values of 1e10 the largest less itself would be not 0 but hundreds."""
    extrema = {s.carry.id if isinstance(s, ir.Accumulate) else s.out.id for s in joined}
    products: set[int] = set()
    for s in stmts:
        if isinstance(s, ir.ComputeTile):
            if s.op is Op.SUB and s.args[1].id in extrema and s.args[0].id in products:
                return True
            if s.op is Op.MUL or any(a.id in products for a in s.args):
                products.add(s.out.id)
    return False


def slots_of(stmt: ir.Stmt) -> tuple[set[int], set[int]]:
    """Slots that the statement loads from and stores to."""
    if isinstance(stmt, ir.Loop):
        loads: set[int] = set()
        stores: set[int] = set()
        for inner in stmt.body:
            more = slots_of(inner)
            loads |= more[0]
            stores |= more[1]
        return loads, stores
    if isinstance(stmt, ir.LoadTile):
        return {stmt.slot}, set()
    return set(), {stmt.slot} if isinstance(stmt, ir.StoreTile) else set()


def dims_of(stmt: ir.Stmt) -> tuple[str, ...]:
    """Axes of the values of a statement."""
    match stmt:
        case ir.Accumulate():
            return stmt.carry.dims
        case ir.ReduceTile():
            return stmt.arg.dims
        case ir.Stash() | ir.StoreTile():
            return stmt.value.dims
        case ir.Loop() | ir.DotTile():
            return ()
        case _:
            assert not isinstance(stmt, ir.OfTriton)
            return stmt.out.dims


def loops_of(kernel: ir.Kernel, stmt: ir.Stmt) -> tuple[str, ...]:
    """Axes of the loops that a statement of the kernel needs within a tile: for a store also those
    of its index, and of what that is read from."""
    if not isinstance(stmt, ir.StoreTile):
        return dims_of(stmt)
    names, loaded = set(stmt.value.dims), set[int]()
    for e in ir.indices_of(stmt):
        names |= e.variables()
        loaded |= e.loaded()
    if loaded:
        made = (getattr(s, "out", None) for s in statements(kernel.body))
        names.update(d for tile in made if tile and tile.id in loaded for d in tile.dims)
    return tuple(a.name for a in kernel.axes if a.block > 1 and a.name in names)


def work_of(kernel: ir.Kernel) -> int:
    """Arithmetic of the whole kernel, in elementary operations."""
    return kernel.num_programs * _work(kernel, kernel.body)


def _work(kernel: ir.Kernel, body: Iterable[ir.Stmt]) -> int:
    total = 0
    for stmt in body:
        if isinstance(stmt, ir.Loop):
            total += kernel.axis(stmt.axis).steps * _work(kernel, stmt.body)
            continue
        points = _elements(kernel, loops_of(kernel, stmt))
        cost = OPS[stmt.op].cost if isinstance(stmt, ir.ComputeTile) else 1
        cost = OPS[Op.ARGSORT].cost if isinstance(stmt, ir.SortTile) else cost
        if isinstance(stmt, ir.DotTile):
            points *= _elements(kernel, (stmt.m, stmt.n, stmt.k))
        total += points * max(cost, 1)
    return total


def _elements(kernel: ir.Kernel, axes: Iterable[str]) -> int:
    """Elements of a tile over these axes."""
    return prod(min(a.block, max(a.extent, 1)) for a in map(kernel.axis, axes))


def loop_work(kernel: ir.Kernel, loop: ir.Loop) -> int:
    """Arithmetic of one loop statement of one program."""
    return _work(kernel, (loop,))


def traffic_of(kernel: ir.Kernel) -> int:
    """Bytes that the kernel's loads and stores move, of a slot no more than it has for each."""

    def visits(body: Iterable[ir.Stmt], times: int) -> Iterator[tuple[ir.Stmt, int]]:
        for stmt in body:
            if isinstance(stmt, ir.Loop):
                yield from visits(stmt.body, times * kernel.axis(stmt.axis).steps)
            else:
                yield stmt, times

    total = 0
    for stmt, times in visits(kernel.body, kernel.num_programs):
        if isinstance(stmt, (ir.LoadTile, ir.StoreTile)):
            times *= _elements(kernel, loops_of(kernel, stmt))
            slot = kernel.slots[stmt.slot]
            total += min(times, slot.size) * slot.dtype.itemsize
    return total


def is_scatter(stmt: ir.Stmt) -> bool:
    """Whether two elements of the statement's tile may meet at one address."""
    return isinstance(stmt, ir.StoreTile) and (stmt.combine != "set" or bool(stmt.index.loaded()))


def distinct_axes(index: Index) -> frozenset[str]:
    """Axes of which different values give different addresses, whatever the other terms are.

    A mixed radix argument: with terms ordered by coefficient, a variable's multiples stay apart
    if all smaller terms together span less than its coefficient and larger coefficients are
    beyond its own span.
    """
    terms = sorted(index.terms, key=lambda t: abs(t[1]))
    found: set[str] = set()
    below, sound = 0, True
    for atom, c in terms:
        if abs(c) <= below:
            sound = False
        if not sound:
            break
        if isinstance(atom, Var):
            found.add(atom.name)
        below += abs(c) * (atom.hi - atom.lo)
    return frozenset(found) if sound else frozenset()
