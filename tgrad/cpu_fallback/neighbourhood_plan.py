"""Reductions over neighbourhoods of a pixel, such as pooling: what is made of each place first.

In: a kernel, its loops not yet unrolled. Out: `Neighbourhood`, or None if it has another form.
Invariant: it depends on sizes and strides only; nothing is added up in another order.

Rows of the kernel read a padded image at places that are sums of a pixel and a tap:

    grid y, x:  init t0 = -inf                         for each image:
      loop i, j:                                         plane0[u, v] = in0[u-1, v-1] if inside
        t1 = in0[y+i-1, x+j-1] if inside else -inf                      else -inf
        t0 = maximum t0, t1                        =>    for y, x:
      loop i, j:                                           t0 = maximum of plane0[y+i, x+j]
        t2 = the same == t0 ...                            t2 = plane0[y+i, x+j] == t0 ...

What depends on a place alone is made once a place, however many taps read it, and its bounds are
no part of the rows. These are whole registers then, however short an image's rows are: what else
they load and store passes through lines of that width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tgrad import dtype as dt
from tgrad.cpu_fallback.code import FEW_PROGRAMS
from tgrad.cpu_fallback.plane_plan import Factor, Way, coefficients, nest_of, placed, way_of
from tgrad.cpu_fallback.unroll import Unroller, unroll_short_loops
from tgrad.fusion.region import Slot
from tgrad.graph.index import ZERO, Index, var
from tgrad.kernel import ir
from tgrad.kernel.ir import Role, TileAxis
from tgrad.kernel.statements import made_by, reads_of

BAND_BYTES = 96 << 10
"""Of all planes of a band of rows at most: they stay in the second-level cache."""
LEAST_BAND = 8
"""Rows of a band at least: each band makes those again that its neighbour's taps reach."""
LEAST_TAPS = 4
BAND = "band"
"""The variable of the first row of a band."""
KINDS = (dt.float32, dt.float64, dt.int32, dt.int64)
"""What a plane may hold."""


@dataclass(frozen=True)
class Line:
    """A row of a slot, which is loaded or stored as a whole."""

    slot: int
    start: Index
    is_store: bool


@dataclass(frozen=True)
class Neighbourhood:
    """See the module's docstring.

    Attributes:
        y, x: how pixels and taps make places.
        units: grid axes that do not walk: images.
        band: rows whose planes are made together.
        planes: what is made at each place.
        lines: what rows load and store besides.
        rows: the kernel whose slots are these too, planes and lines, after its own; its rows are
            `width` long.
    """

    kernel: ir.Kernel
    y: Way
    x: Way
    units: tuple[str, ...]
    band: int
    planes: tuple[Factor, ...]
    lines: tuple[Line, ...]
    rows: ir.Kernel

    @property
    def width(self) -> int:
        return self.rows.axis(self.x.step).extent

    @property
    def part(self) -> int:
        """Columns of a plane that lie together, as those that are a stride apart do."""
        return part_of(self.x, self.width)


def part_of(x: Way, width: int) -> int:
    """See `Neighbourhood.part`."""
    return width + x.reach // x.stride


def match_neighbourhood(kernel: ir.Kernel, lanes: int) -> Neighbourhood | None:
    """The kernel as reductions over neighbourhoods; None if it has another form.

    Args:
        lanes: elements of four bytes of a register.
    """
    wide = [a for a in kernel.grid if a.block > 1]
    single = [a for a in kernel.grid if a.block == 1 and a.extent > 1]
    is_plain = kernel.table is None and not kernel.limits
    if not is_plain or len(wide) != 1 or wide[0].steps != 1 or not single:
        return None
    if any(a.role is Role.FULL for a in kernel.axes):
        return None
    loops = [s for s in kernel.body if isinstance(s, ir.Loop)]
    for y in reversed(single):
        nests = [_Nest.of(kernel, loop, y.name, wide[0].name) for loop in loops]
        if nests and all(n is not None for n in nests):
            return _joined(kernel, [n for n in nests if n is not None], y, wide[0], lanes)
    return None


@dataclass(frozen=True)
class _Nest:
    """Two loops over taps.

    Attributes:
        y, x: how places are made.
        inside: statements of the loops, and the constants that they read.
        placed: tiles that depend on a place alone, by their numbers.
        planes: those that others read.
    """

    y: Way
    x: Way
    inside: tuple[ir.Stmt, ...]
    placed: frozenset[int]
    planes: tuple[ir.Tile, ...]

    @staticmethod
    def of(kernel: ir.Kernel, loop: ir.Loop, y: str, x: str) -> _Nest | None:
        names, inside = nest_of(kernel, loop)
        if len(names) != 2 or not all(isinstance(s, (ir.Accumulate, ir.Pure)) for s in inside):
            return None
        pairs = ((y, names[0]), (x, names[1]))
        constants = [s for s in kernel.body if isinstance(s, ir.ConstTile)]
        free, others = {s.out.id for s in constants}, set[int]()
        local, read = _local(inside, pairs, free, others)
        while single := {n for n in read & local.keys() if not _spreads(n, local, pairs)}:
            others |= single
            local, read = _local(inside, pairs, free, others)
        stmts = list(local.values())
        ways = [way_of(kernel, _with(stmts, pair), *pair) for pair in pairs]
        planes = tuple(s.out for s in stmts if s.out.id in read)  # type: ignore[union-attr]
        if None in ways or not planes or any(t.dtype not in KINDS for t in planes):
            return None
        assert ways[0] is not None and ways[1] is not None
        return _Nest(ways[0], ways[1], (*constants, *inside), frozenset(local), planes)


def _local(
    inside: Sequence[ir.Stmt],
    pairs: Sequence[tuple[str, str]],
    free: set[int],
    others: set[int],
) -> tuple[dict[int, ir.Stmt], set[int]]:
    """The statements whose values depend on a place alone, by their tiles, and what the rest reads;
    tiles among `others` belong to the rest."""
    local, read, free = dict[int, ir.Stmt](), set[int](), set(free)
    for s in inside:
        kind = None
        if isinstance(s, ir.Pure) and s.out.id not in others:
            kind = _kind_of(s, pairs, free, local)
        if kind is None:
            read |= reads_of(s)
        elif kind:
            local[s.out.id] = s  # type: ignore[union-attr]
        else:
            free.add(s.out.id)  # type: ignore[union-attr]
    return local, read


def _spreads(tile: int, local: dict[int, ir.Stmt], pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether a tile differs in both directions; the place along one of them is no plane."""
    made = made_by([tile], local.values())
    return all(_with(made, pair) for pair in pairs)


def _with(stmts: Sequence[ir.Stmt], pair: tuple[str, str]) -> list[ir.Stmt]:
    """Statements that depend on one of two axes."""
    return [s for s in stmts if any(set(pair) & e.variables() for e in ir.indices_of(s))]


def _kind_of(
    stmt: ir.Stmt,
    pairs: Sequence[tuple[str, str]],
    free: set[int],
    local: dict[int, ir.Stmt],
) -> bool | None:
    """Whether a statement's value depends on a place alone; False if it is the same for all pixels
    and taps, None if it is something else."""
    walking = {name for pair in pairs for name in pair}
    depends = False
    for e in ir.indices_of(stmt):
        for pair in pairs:
            if any(a == 0 or b == 0 for a, b in coefficients(e, *pair)):
                return None
        if e.loaded():
            return None
        depends |= bool(walking & e.variables())
    reads = reads_of(stmt)
    if not reads <= free | local.keys():
        return None
    depends |= not reads <= free
    compares = isinstance(stmt, ir.ComputeTile) and stmt.out.dtype.is_bool
    if depends and compares and any(not t.dtype.is_bool for t in stmt.args):  # type: ignore[union-attr]
        return None  # a comparison is quicker than a load
    return depends


def _joined(
    kernel: ir.Kernel, nests: Sequence[_Nest], y: TileAxis, x: TileAxis, lanes: int
) -> Neighbourhood | None:
    first = nests[0]
    if any(_shape(n.y) != _shape(first.y) or _shape(n.x) != _shape(first.x) for n in nests):
        return None
    if first.y.taps * first.x.taps < LEAST_TAPS or not (_is_near(first.y) and _is_near(first.x)):
        return None
    planes, numbers = dict[object, Factor](), dict[int, int]()
    for nest in nests:
        for tile in nest.planes:
            factor = Factor(tile, made_by([tile.id], nest.inside))
            key = _key(factor, nest)
            planes.setdefault(key, factor)
            numbers[tile.id] = list(planes).index(key)
    units = [a for a in kernel.grid if a.name not in (y.name, x.name) and a.extent > 1]
    place_bytes = sum(f.tile.dtype.itemsize for f in planes.values())
    rows = _Rows(kernel, nests, numbers, x, _rounded(x.extent, lanes))
    if not rows.takes_lines:
        rows = _Rows(kernel, nests, numbers, x, x.extent)
    high = BAND_BYTES // (place_bytes * rows.pitch)
    band = min(first.y.steps, (high - first.y.reach - 1) // first.y.stride + 1)
    programs = prod(a.extent for a in units) * -(-first.y.steps // max(band, 1))
    if band < min(first.y.steps, LEAST_BAND) or programs < FEW_PROGRAMS:
        return None
    places = ((band - 1) * first.y.stride + first.y.reach + 1) * rows.pitch
    made = [Slot(f"plane{n}", f.tile.dtype, places, "in") for n, f in enumerate(planes.values())]
    return Neighbourhood(
        kernel, first.y, first.x, tuple(a.name for a in units), band, tuple(planes.values()),
        tuple(rows.lines), unroll_short_loops(rows.kernel_with(made)),
    )  # fmt: skip


def _is_near(way: Way) -> bool:
    """Whether taps reach no further than steps: a tap of another direction is a whole row away."""
    return way.reach <= (way.steps - 1) * way.stride


def _shape(way: Way) -> tuple[int, ...]:
    return way.stride, way.dilation, way.steps, way.taps


def _rounded(steps: int, lanes: int) -> int:
    """Elements of a row in whole registers, of the narrowest that hold a short one."""
    while lanes > 4 and lanes // 2 >= steps:
        lanes //= 2
    return -(-steps // lanes) * lanes


def _key(factor: Factor, nest: _Nest) -> object:
    """Equal for what is equal at each place."""
    number: dict[int, int] = {}
    parts = []
    for s in factor.stmts:
        s = placed(s, nest.y, nest.x)
        number[s.out.id] = len(number)  # type: ignore[union-attr]
        fields = {f.name: getattr(s, f.name) for f in dataclasses.fields(s)}
        fields["out"] = fields["out"].dtype
        fields["args"] = tuple(number[t.id] for t in fields.get("args", ()))
        parts.append((type(s), *sorted((k, repr(v)) for k, v in fields.items())))
    return tuple(parts)


class _Rows:
    """The kernel's statements, on planes and rows of some width.

    Attributes:
        lines: rows of slots that are loaded or stored as a whole.
        takes_lines: whether they all can be.
    """

    def __init__(
        self,
        kernel: ir.Kernel,
        nests: Sequence[_Nest],
        numbers: dict[int, int],
        x: TileAxis,
        width: int,
    ):
        self.kernel, self.nests, self.numbers, self.x, self.width = kernel, nests, numbers, x, width
        self.row, self.part = var(x.name, width), part_of(nests[0].x, width)
        self.pitch = self.part * nests[0].x.stride
        self.placed = frozenset[int]().union(*(n.placed for n in nests))
        self.nest_of = {t.id: n for n in nests for t in n.planes}
        self.unroller = Unroller(kernel)
        self.lines: list[Line] = []
        self.takes_lines = True
        self.planes = len(set(numbers.values()))
        self.body = self.rewritten(kernel.body)

    def kernel_with(self, planes: Sequence[Slot]) -> ir.Kernel:
        """The kernel; slots of planes and lines follow its own."""
        slots = (self.kernel.slots[line.slot] for line in self.lines)
        lines = [Slot(f"line{n}", s.dtype, self.width, "inout") for n, s in enumerate(slots)]
        covers = dataclasses.replace(self.x.covers[-1], name=self.x.name, extent=self.width)
        wide = TileAxis(self.x.name, (covers,), self.width, self.x.role)
        return dataclasses.replace(
            self.kernel,
            slots=(*self.kernel.slots, *planes, *lines),
            axes=tuple(wide if a is self.x else a for a in self.kernel.axes),
            body=tuple(self.body),
        )

    def rewritten(self, stmts: Sequence[ir.Stmt]) -> list[ir.Stmt]:
        result: list[ir.Stmt] = []
        for s in stmts:
            if isinstance(s, ir.Loop):
                result.append(dataclasses.replace(s, body=tuple(self.rewritten(s.body))))
            elif not isinstance(s, ir.Pure) or s.out.id not in self.placed:
                result.append(self._wide(s))
            elif s.out.id in self.numbers:
                nest, slot = self.nest_of[s.out.id], self.numbers[s.out.id]
                begin = var(BAND, nest.y.steps) * nest.y.stride
                row = _place(nest.y, var(nest.y.step, nest.y.steps)) - begin
                at, stride = _place(nest.x, self.row), nest.x.stride
                index = row * self.pitch + at % stride * self.part + at // stride
                result.append(ir.LoadTile(s.out, len(self.kernel.slots) + slot, index, ()))
        return result

    def _wide(self, stmt: ir.Stmt) -> ir.Stmt:
        """A statement of a row; beyond the row's end lines are read and written."""
        s = self.unroller.copy(stmt, {self.x.name: self.row}, {}, False)
        if self.width == self.x.extent or not isinstance(s, (ir.LoadTile, ir.StoreTile)):
            return s
        if self.x.name not in s.index.variables():
            return s
        taps = {name for n in self.nests for name in (n.y.tap, n.x.tap)}
        is_store = isinstance(s, ir.StoreTile)
        is_row = s.index.stride(self.x.name) == 1 and not s.mask and not s.index.loaded()
        self.takes_lines &= is_row and not taps & s.index.variables()
        self.takes_lines &= not isinstance(s, ir.StoreTile) or s.combine == "set"
        line = Line(s.slot, s.index.substitute({self.x.name: ZERO}), is_store)
        if is_store or line not in self.lines:
            self.lines.append(line)
        slot = len(self.kernel.slots) + self.planes + self.lines.index(line)
        return dataclasses.replace(s, slot=slot, index=self.row)


def _place(way: Way, step: Index) -> Index:
    """step * stride + tap * dilation, less the least."""
    tap = var(way.tap, way.taps) * abs(way.dilation)
    if way.dilation < 0:
        tap = tap * -1 + way.reach
    return step * way.stride + tap
