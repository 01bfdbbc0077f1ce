"""Sums over windows of planes in C: depthwise convolutions and their gradients.

In: a `PlaneProgram`. Out: C lines. Invariant: an element is added up in one order, whatever the
number of threads; nothing outside of the window's bounds is read.

A thread makes the plane of a band of rows, every s-th column together where columns are s apart,
zeros after them, and then walks over it with no bounds:

    for each unit, for each band of rows:
      plane[u, v] = window at the place (u, v);    taps[i, j] = other[i, j]
      for y in steps of 4:
        for i:                                     sums of 4 rows x 2 registers
          for j: a[y, x] += plane[y + i, x + j] * taps[i, j]
        what becomes of the sums, row by row

    for each unit:                                 the taps' gradient
      for n, for each band of rows:
        plane[u, v] = window;    side[y, x] = other, zeros after each row
        for i:                                     sums of a row of taps, a register each
          for y, x: a[j] += plane[y + i, x + j] * side[y, x]
          sums[i, j] += a[j]
      what becomes of the sums of each register's lanes
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import product

from tgrad.cpu_fallback.code import work_of
from tgrad.cpu_fallback.emit_body import Array, Body
from tgrad.cpu_fallback.emit_window import affine, declare_buffers
from tgrad.cpu_fallback.plane_plan import Factor, PlaneProgram, U, V, Way, placed, units_of
from tgrad.cpu_fallback.register_tiles import vector_type
from tgrad.cpu_fallback.target import Machine
from tgrad.graph.index import Bound
from tgrad.kernel import ir

MOST_ADDS = 640
"""Multiply-adds that are written out."""
LEAST_BAND = 8
BANDS_PER_CORE = 2
"""Of an image of few channels, so that threads share it."""
BAND_BYTES = 96 << 10
"""Of the plane of a band: it stays in the second-level cache, and small images are one band."""


@dataclass(frozen=True)
class PlaneSizes:
    """Sizes of a program.

    Attributes:
        lanes: floats of a register.
        width: columns that registers walk over.
        part: columns of one of the plane's parts, of which there are as many as columns are apart.
        band: rows of a band.
        count: sums in flight.
    """

    lanes: int
    width: int
    part: int
    band: int
    count: int
    x: Way
    y: Way

    @property
    def pitch(self) -> int:
        """Floats of a row of the plane."""
        return self.part * self.x.stride

    @property
    def rows(self) -> int:
        """Rows of the plane of a band."""
        return (self.band - 1) * self.y.stride + self.y.reach + 1

    def column(self, tap: int) -> int:
        """Where the first step's place of a tap lies in a row of the plane."""
        place = self.x.place(tap)
        return place % self.x.stride * self.part + place // self.x.stride

    @property
    def block(self) -> tuple[int, int]:
        """Rows, and registers of each, whose sums are in flight together."""
        most = max(1, min(self.count, MOST_ADDS // (self.y.taps * self.x.taps)))
        if self.y.steps == 1:
            registers = self.width // self.lanes
            return 1, max(n for n in range(1, most + 1) if registers % n == 0)
        blocks = -(-self.band // most)
        return -(-self.band // blocks), 1


def _plan(program: PlaneProgram, machine: Machine) -> PlaneSizes:
    y, x = program.y, program.x
    lanes = machine.lanes(4)
    while lanes > 4 and lanes // 2 >= x.steps:
        lanes //= 2
    width = -(-x.steps // lanes) * lanes
    part = width + x.reach // x.stride
    rows = max(1, BAND_BYTES // (4 * part * x.stride))
    band = max(1, min(y.steps, (rows - y.reach - 1) // y.stride + 1))
    if program.kind == "pixels":
        wanted = -(-BANDS_PER_CORE * machine.cores // units_of(program))
        band = min(band, max(-(-y.steps // wanted), LEAST_BAND, y.reach))
    return PlaneSizes(lanes, width, part, band, 12 if machine.vector_bytes >= 64 else 8, x, y)


def emit_plane(program: PlaneProgram, body: Body, machine: Machine, least: int) -> None:
    """The function's body; from `least` operations on threads share it."""
    plan, code, kernel = _plan(program, machine), body.code, program.kernel
    body.axis_name |= {U: U, V: V}
    heads = [body.loop_head(kernel.axis(n)) for n in program.units]
    if program.kind == "pixels":
        heads.append(_bands(plan, body))
    if kernel.table is not None:
        members = kernel.table.members
        heads.insert(0, f"for ({body.ctype} member = 0; member < {members}; member++)")
    if work_of(kernel) >= least and heads:
        code.shared(len(heads))
    with code.block(*heads or [""]):
        body.open_member()
        (_emit_pixels if program.kind == "pixels" else _emit_taps)(program, plan, body)


def _bands(plan: PlaneSizes, body: Body) -> str:
    return f"for ({body.ctype} band = 0; band < {plan.y.steps}; band += {plan.band})"


def _open_band(plan: PlaneSizes, body: Body) -> None:
    body.code.line(f"const {body.ctype} band_end = tg_min(band + {plan.band}, {plan.y.steps});")


def _made(factor: Factor, body: Body) -> str:
    """Compute a factor; its C text."""
    for s in factor.stmts:
        body.statement(s, escapes=False)
    return body.element(factor.tile)


def fill_plane(
    window: Factor, plan: PlaneSizes, body: Body, name: str = "plane", kind: str = "float"
) -> None:
    """A plane = the window at each place of the band, and zeros after each part of a row."""
    code, x, y = body.code, plan.x, plan.y
    ctype, first = body.ctype, "" if y.stride == 1 else f" * {y.stride}"
    end = f"(band_end - 1){first} + {y.reach + 1}"
    window = _changed(window, lambda s: placed(s, y, x))
    down, across = (_bounds(window.stmts, name) for name in (U, V))
    with code.block(f"for ({ctype} {U} = band{first}; {U} < {end}; {U}++)"):
        code.line(f"{kind} *const restrict row = {name} + ({U} - band{first}) * {plan.pitch};")
        if down:
            with code.block(f"if ({body.mask(down)})"):
                _fill_row(_changed(window, lambda s: _without(s, down)), across, plan, body)
            with code.block("else"):
                _fill_columns(window, 0, x.span, plan, body)
        else:
            _fill_row(window, across, plan, body)
        for part in range(x.stride):
            filled = (x.span - part + x.stride - 1) // x.stride
            if filled < plan.part:
                begin, stop = (part * plan.part + n for n in (filled, plan.part))
                code.line(f"for ({ctype} e = {begin}; e < {stop}; e++) row[e] = 0;")


def _fill_row(window: Factor, across: Collection[Bound], plan: PlaneSizes, body: Body) -> None:
    """A row of the plane: with bounds at its ends, without them between."""
    begin, stop = 0, plan.x.span
    for b in across:
        low, high = _inside(b)
        begin, stop = max(begin, low), min(stop, high)
    if begin >= stop:
        _fill_columns(window, 0, plan.x.span, plan, body)
        return
    _fill_columns(window, 0, begin, plan, body)
    _fill_columns(_changed(window, lambda s: _without(s, across)), begin, stop, plan, body)
    _fill_columns(window, stop, plan.x.span, plan, body)


def _fill_columns(window: Factor, begin: int, stop: int, plan: PlaneSizes, body: Body) -> None:
    """Some columns of a row, those of each part together."""
    code, stride, saved = body.code, plan.x.stride, dict(body.scalars)
    for part in range(stride):
        first, last = ((n - part + stride - 1) // stride for n in (begin, stop))
        if first >= last:
            continue
        if last - first > plan.lanes // 2:
            code.pragma("omp simd")
        with code.block(f"for ({body.ctype} e = {first}; e < {last}; e++)"):
            code.line(f"const {body.ctype} {V} = {affine('e', stride, part)};")
            at = affine("e", 1, part * plan.part)
            code.line(f"row[{at}] = {_made(window, body)};")
        body.scalars = saved


def _bounds(stmts: Sequence[ir.Stmt], name: str) -> tuple[Bound, ...]:
    """Bounds of one place alone."""
    masks = [s.mask for s in stmts if isinstance(s, (ir.LoadTile, ir.InsideTile))]
    found = dict.fromkeys(b for mask in masks for b in mask if b.index.variables() == {name})
    return tuple(
        b for b in found if not b.is_always and not b.index.loaded() and b.index.stride(name)
    )


def _inside(b: Bound) -> tuple[int, int]:
    """Where a bound of one variable holds: from, to."""
    step = b.index.stride(V) or 1
    low, high = b.lo - b.index.const, b.hi - 1 - b.index.const
    if step < 0:
        step, low, high = -step, -high, -low
    return -(-low // step), high // step + 1


def _changed(factor: Factor, change: Callable[[ir.Stmt], ir.Stmt]) -> Factor:
    return replace(factor, stmts=tuple(change(s) for s in factor.stmts))


def _without(stmt: ir.Stmt, bounds: Collection[Bound]) -> ir.Stmt:
    """A statement where these bounds hold."""
    if not isinstance(stmt, (ir.LoadTile, ir.InsideTile)):
        return stmt
    return replace(stmt, mask=tuple(b for b in stmt.mask if b not in bounds))


def _tap_heads(program: PlaneProgram, body: Body) -> list[str]:
    """Loops over the taps."""
    names = [way.tap for way in (program.y, program.x) if way.tap]
    return [body.loop_head(program.kernel.axis(n)) for n in names]


def _number(program: PlaneProgram, body: Body) -> str:
    """C text of the present tap's number."""
    inner = body.axis_name[program.x.tap]
    if not program.y.tap:
        return inner
    return f"{body.axis_name[program.y.tap]} * {program.x.taps} + {inner}"


# -- pixels --------------------------------------------------------------------------------------


def _emit_pixels(program: PlaneProgram, plan: PlaneSizes, body: Body) -> None:
    """One band of one unit."""
    code, x, y = body.code, plan.x, plan.y
    rows, wide = plan.block
    sizes = {"plane": plan.rows * plan.pitch, "sums": rows * plan.width, "taps": y.taps * x.taps}
    _open_band(plan, body)
    body.open_full(program.kernel.axis(x.step))
    for s in program.early:
        body.statement(s, escapes=False)
    declare_buffers(sizes, body)
    saved = dict(body.scalars)
    with code.block(*_tap_heads(program, body)):
        code.line(f"taps[{_number(program, body)}] = {_made(program.other, body)};")
    body.scalars = saved
    fill_plane(program.window, plan, body)
    code.line(f"{body.ctype} step = band;")
    with code.block(f"for (; step + {rows} <= band_end; step += {rows})"):
        _emit_rows(program, plan, body, rows, wide)
    if plan.band % rows or y.steps % plan.band % rows:
        with code.block("for (; step < band_end; step++)"):
            _emit_rows(program, plan, body, 1, wide)


def _emit_rows(program: PlaneProgram, plan: PlaneSizes, body: Body, rows: int, wide: int) -> None:
    """The sums of some rows from `step` on, and what becomes of them. A register of the plane is
    read once for all rows and taps that it counts for."""
    code, x, y, lanes = body.code, plan.x, plan.y, plan.lanes
    vector = vector_type("float", lanes)
    with code.block(f"for (int q = 0; q < {plan.width}; q += {wide * lanes})"):
        sums = [f"a{r}_{c} = {{0}}" for r in range(rows) for c in range(wide)]
        code.line(f"{vector} {', '.join(sums)};")
        code.line(f"const float *const from = plane + (step - band) * {y.stride * plan.pitch} + q;")
        for u in range((rows - 1) * y.stride + y.reach + 1):
            taps = [
                (r, i) for r in range(rows) for i in range(y.taps) if r * y.stride + y.place(i) == u
            ]
            for j, c in product(range(x.taps if taps else 0), range(wide)):
                at = u * plan.pitch + plan.column(j) + c * lanes
                adds = (f"a{r}_{c} += v * taps[{i * x.taps + j}];" for r, i in taps)
                code.line(f"{{ const {vector} v = *(const {vector} *)(from + {at});")
                code.line(f"  {' '.join(adds)} }}")
        for r, c in product(range(rows), range(wide)):
            code.line(f"*({vector} *)(sums + {r * plan.width + c * lanes} + q) = a{r}_{c};")
    arrays, scalars = dict(body.arrays), dict(body.scalars)
    name = body.axis_name[y.step] if y.step else "line"
    with code.block(f"for ({body.ctype} {name} = step; {name} < step + {rows}; {name}++)"):
        code.line(f"const float *const line_sums = sums + ({name} - step) * {plan.width};")
        body.arrays[program.carry.id] = Array("line_sums", ((x.step, 1),))
        body.scope(program.after)
    body.arrays, body.scalars = arrays, scalars


# -- taps ----------------------------------------------------------------------------------------


def _emit_taps(program: PlaneProgram, plan: PlaneSizes, body: Body) -> None:
    """All taps of one unit."""
    code, x, y, lanes = body.code, plan.x, plan.y, plan.lanes
    taps = y.taps * x.taps
    for s in program.early:
        body.statement(s, escapes=False)
    declare_buffers(
        {"plane": plan.rows * plan.pitch, "side": plan.band * plan.width, "sums": taps * lanes},
        body,
    )
    code.line(f"for (int e = 0; e < {taps * lanes}; e++) sums[e] = 0;")
    around = [body.loop_head(program.kernel.axis(n)) for n in program.loops]
    with code.block(*around, _bands(plan, body)):
        _open_band(plan, body)
        fill_plane(program.window, plan, body)
        _fill_side(program, plan, body)
        rows = max(1, min(y.taps, plan.count // x.taps))
        for first in range(0, y.taps, rows):
            _emit_sums(plan, body, first, min(first + rows, y.taps))
    carry, saved = str(program.carry), dict(body.scalars)
    with code.block(*_tap_heads(program, body)):
        code.line(f"float {carry} = 0;")
        at = f"({_number(program, body)}) * {lanes} + e"
        code.line(f"for (int e = 0; e < {lanes}; e++) {carry} += sums[{at}];")
        body.scalars[program.carry.id] = carry
        body.scope(program.after)
    body.scalars = saved


def _fill_side(program: PlaneProgram, plan: PlaneSizes, body: Body) -> None:
    """side = the other factor of the band's rows, and zeros after each."""
    code, x, y, saved = body.code, plan.x, plan.y, dict(body.scalars)
    name, ctype = body.axis_name[y.step] if y.step else "line", body.ctype
    column = body.axis_name[x.step]
    with code.block(f"for ({ctype} {name} = band; {name} < band_end; {name}++)"):
        code.line(f"float *const restrict row = side + ({name} - band) * {plan.width};")
        code.pragma("omp simd")
        with code.block(f"for ({ctype} {column} = 0; {column} < {x.steps}; {column}++)"):
            code.line(f"row[{column}] = {_made(program.other, body)};")
        if x.steps < plan.width:
            code.line(f"for ({ctype} e = {x.steps}; e < {plan.width}; e++) row[e] = 0;")
    body.scalars = saved


def _emit_sums(plan: PlaneSizes, body: Body, first: int, stop: int) -> None:
    """Add the band to the sums of some rows of taps. In a row's last register, lanes beyond the
    row are zeros on both sides: an infinity times a zero would be none."""
    code, x, y, lanes = body.code, plan.x, plan.y, plan.lanes
    vector = vector_type("float", lanes)
    taps = [(i, j) for i in range(first, stop) for j in range(x.taps)]
    whole = x.steps // lanes * lanes

    def add(q: str, value: str) -> None:
        code.line(f"const {vector} g = *(const {vector} *)(side + line * {plan.width} + {q});")
        code.line(f"const float *const from = plane + line * {y.stride * plan.pitch} + {q};")
        for i, j in taps:
            at = y.place(i) * plan.pitch + plan.column(j)
            code.line(f"a{i}_{j} += {value.format(f'*(const {vector} *)(from + {at})')} * g;")

    with code.block(""):
        code.line(f"{vector} {', '.join(f'a{i}_{j} = {{0}}' for i, j in taps)};")
        bits = vector_type("int32_t", lanes)
        if whole < x.steps:
            ends = ", ".join("-1" if whole + e < x.steps else "0" for e in range(lanes))
            code.line(f"const {bits} ends = {{{ends}}};")
        with code.block("for (int line = 0; line < band_end - band; line++)"):
            if whole:
                with code.block(f"for (int q = 0; q < {whole}; q += {lanes})"):
                    add("q", "{}")
            if whole < x.steps:
                add(str(whole), f"({vector})(ends & ({bits}){{}})")
        for i, j in taps:
            at = (i * x.taps + j) * lanes
            code.line(f"*({vector} *)(sums + {at}) += a{i}_{j};")
