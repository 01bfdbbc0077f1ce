"""Convolutions whose vector lanes are channels, around a copy of the image with channels last.

In: a WindowProgram of kind "pixels", the Machine. Out: C lines. Invariant: rows and columns of the
window that lie outside the image cost nothing; each output element is summed in one order, whatever
the number of threads.

    pack the weights:  wp[panel of c][i][j][k][c]
    parallel for image n, band of rows y:
      pack the image:  ip[u][x + j][k], transposed in registers, zeros left and right of it
      for each panel of channels, row y, tile of x:
        acc[y][x][c] = sum over i inside the image of  ip[y + i][x .. x + J][k] @ wp[i][j][k][c]
      transpose acc to [c][y][x]
      for each channel c, row y:  epilogue, stores

A pixel's neighbours along x, with their channels, lie in one run of J * K elements, so that patches
are never copied. The input gradient of a 5x5 convolution of 64x32x24x24 to 32 channels took 14.6 ms
of one thread with patches packed into panels and takes 6.7 ms (Zen 5, gcc 12, 2026-11).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tgrad.cpu_fallback import op_table as ops
from tgrad.cpu_fallback.code import round_up, work_of
from tgrad.cpu_fallback.dot_plan import tile_cycles, vectors_of
from tgrad.cpu_fallback.emit_body import Array, Body
from tgrad.cpu_fallback.emit_index import index_text
from tgrad.cpu_fallback.register_tiles import elements_of, runs_name
from tgrad.cpu_fallback.target import Machine
from tgrad.cpu_fallback.window_plan import Dim, WindowProgram
from tgrad.kernel import ir
from tgrad.kernel.ir import Config

PARALLEL_WORK = 1_000_000
"""Multiply-adds below which one thread does it."""


class ImageRows(Protocol):
    """Rows of the image with channels last.

    Attributes:
        lanes: elements of a vector register.
        channels: of the image (K).
        width: pixels of a row.
    """

    @property
    def lanes(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def width(self) -> int: ...


@dataclass(frozen=True)
class Rows:
    """Sizes of tiles and packed rows, in elements.

    Attributes:
        lanes, nv, mr: elements of a vector register; vectors and rows of a register tile.
        channels: of the image (K); out: lanes of the result, whole panels.
        width: pixels of a packed row of the image; rows of it that a band needs at most.
        across: pixels of a row of the result, whole tiles.
        band: rows of the result that one program computes.
    """

    lanes: int
    nv: int
    mr: int
    channels: int
    out: int
    width: int
    rows: int
    across: int
    band: int

    @property
    def nr(self) -> int:
        return self.nv * self.lanes

    @property
    def turned_step(self) -> int:
        """Elements from one channel of the turned result to the next; not a power of two."""
        return round_up(self.band * self.across, self.lanes) + self.lanes

    @property
    def turned(self) -> int:
        return self.out * self.turned_step


@dataclass(frozen=True)
class PixelPlan(Rows):
    """With the taps of the window, which are summed one after the other."""

    taps: int

    @property
    def run(self) -> int:
        """Elements from one row of the window to the next."""
        return self.width * self.channels

    @property
    def weights(self) -> int:
        return self.out * self.taps * self.channels

    @property
    def image(self) -> int:
        slack = self.mr * self.channels * 8  # register tiles read past the last pixel
        return self.rows * self.run + slack

    @property
    def sums(self) -> int:
        return (self.band * self.across + self.lanes) * self.out


def most_rows(nv: int, machine: Machine) -> int:
    """Rows of a register tile of nv vectors that leave registers for the operands."""
    if machine.vector_registers >= 32:
        return {3: 8, 2: 14, 1: 16}[nv]
    return {2: 6, 1: 10}[nv]


def rows_of_tile(extent: int, nv: int, machine: Machine) -> int:
    """Rows of a register tile; the last tile of a row of the result is as high as is left."""
    most = most_rows(nv, machine)
    if extent <= most:
        return extent
    rows = range(max(1, most // 2), most + 1)

    def cycles(mr: int) -> float:
        tail = extent % mr
        return extent // mr * tile_cycles(mr, nv) + (tile_cycles(tail, nv) if tail else 0)

    return min(rows, key=lambda mr: (cycles(mr), extent % mr > 0, -mr))


def plan_pixels(
    program: WindowProgram, machine: Machine, config: Config | None = None
) -> PixelPlan:
    """Tiles for the machine's registers and second-level cache, as far as a configuration does not
    say."""
    kernel = program.dot.kernel
    lanes = machine.lanes(4)
    extent = {a.name: a.extent for a in kernel.axes}
    c, x, k = extent[program.v], extent[program.r], extent[program.k]
    y, taps_y, taps_x = extent[program.y.step], extent[program.y.tap], extent[program.x.tap]
    registers = None if config is None else config.registers
    if registers is None:
        nv = vectors_of(c, lanes, machine)
        mr = rows_of_tile(x, nv, machine)
    else:
        nv, mr = registers.vectors, registers.rows
    width = (x - 1) * program.x.stride + taps_x
    out = round_up(c, nv * lanes)

    def rows(band: int) -> int:
        return (band - 1) * program.y.stride + (taps_y - 1) * program.y.dilation + 1

    others = kernel.num_programs // y
    given = 0 if config is None else config.band
    band = given or y
    while (
        not given
        and band > 1
        and (
            4 * (rows(band) * width * k // program.together + band * x * out) > machine.l2 // 2
            or others * -(-y // band) < 4 * machine.cores
        )
    ):
        band = -(-band // 2)
    return PixelPlan(lanes, nv, mr, k, out, width, rows(band), x, band, taps_y * taps_x)


def emit_pixels(program: WindowProgram, config: Config, body: Body, machine: Machine) -> None:
    """The whole function body."""
    plan = plan_pixels(program, machine, config)
    buffers = {"wp": plan.weights, "ip": plan.image, "acc": plan.sums, "turned": plan.turned}

    def compute() -> None:
        _pack_image(program, plan, body)
        _products(program, plan, body)

    emit_bands(
        program, plan, buffers, body, lambda: pack_weights(program, plan, body, "wp"), compute
    )


def emit_bands(
    program: WindowProgram,
    plan: Rows,
    buffers: Mapping[str, int],
    body: Body,
    pack_weights: Callable[[], None],
    compute: Callable[[], None],
) -> None:
    """The loops over bands of rows of the result, in parallel, with the statements after the dot.

    Args:
        buffers: names and elements of what a thread keeps; `acc` and `turned` are among them.
        pack_weights: emits what comes before all bands.
        compute: emits acc[y - y_lo][x][c] of the band from y_lo to y_hi.
    """
    kernel, code = program.dot.kernel, body.code
    y = program.y.step
    units = [kernel.axis(n) for n in program.units if n != y]
    yy = body.axis_name[y]
    heads = [body.loop_head(a) for a in units]
    heads.append(
        f"for ({body.ctype} {yy}_lo = 0; {yy}_lo < {kernel.axis(y).extent}; {yy}_lo += {plan.band})"
    )
    parallel = work_of(kernel) >= PARALLEL_WORK
    if parallel:
        code.pragma("omp parallel")
    with code.block(""):
        declare_buffers(buffers, body, program.product)
        for stmt in program.dot.before:
            body.statement(stmt, escapes=True)
        pack_weights()
        if parallel:
            code.shared(len(heads), "omp for")
        with code.block(*heads):
            code.line(
                f"const {body.ctype} {yy}_hi = "
                f"tg_min({yy}_lo + {plan.band}, {kernel.axis(y).extent});"
            )
            compute()
            _results(program, plan, body)


def declare_buffers(buffers: Mapping[str, int], body: Body, product: str = "float") -> None:
    """Names and elements of a thread's memory, one after the other.

    Args:
        product: the kind of the register tiles' products, as in register_tiles.py: what `wp` and
            `ip` are packed for. They come first; the others are of float.
    """
    elements = elements_of(product)
    sizes = [round_up(n, 64 * elements.together) for n in buffers.values()]
    types = [elements.packed if name in ("wp", "ip") else "float" for name in buffers]
    floats = [n if t == "float" else n // elements.together for n, t in zip(sizes, types)]
    place, before = f"tg_scratch({sum(floats)} * sizeof(float))", types[0]
    for name, size, ctype in zip(buffers, sizes, types):
        place = place if ctype == before else f"({ctype} *)({place})"
        body.code.line(f"{ctype} *const restrict {name} = {place};")
        place, before = f"{name} + {size}", ctype


def affine(name: str, factor: int, offset: int = 0) -> str:
    """C text of name * factor + offset."""
    text = name if factor == 1 else f"{name} * {factor}"
    return text if not offset else f"{text} {'+' if offset > 0 else '-'} {abs(offset)}"


def pack_weights(program: WindowProgram, plan: Rows, body: Body, packed: str) -> None:
    """packed[c / nr][i][j][k][c % nr] = w[i, j, k, c], of words those of neighbouring k together"""
    code, kernel = body.code, program.dot.kernel
    c, k = body.axis_name[program.v], body.axis_name[program.k]
    i, j = (body.axis_name[n] for n in program.loops)
    taps_y, taps_x = (kernel.axis(n).extent for n in program.loops)
    extent = kernel.axis(program.v).extent
    with code.block(
        f"for ({body.ctype} {c}_t = 0; {c}_t < {extent}; {c}_t += {plan.nr})",
        *(body.loop_head(kernel.axis(n)) for n in program.loops),
        f"for ({body.ctype} {k} = 0; {k} < {plan.channels}; {k}++)",
    ):
        together, row = program.together, k
        if together > 1:
            row = f"{k} / {together} * {together}"
        place = (
            f"{packed} + {c}_t * {taps_y * taps_x * plan.channels} + "
            f"(({i} * {taps_x} + {j}) * {plan.channels} + {row}) * {plan.nr}"
        )
        place = place if together == 1 else f"{place} + {k} % {together}"
        code.line(f"{program.ctype} *restrict to = {place};")
        collect_weights(program, plan, body, "to")


def collect_weights(program: WindowProgram, plan: Rows, body: Body, to: str) -> None:
    """to[c] = w[i, j, k, c_t + c] of a panel, at the present i, j and k."""
    code, c = body.code, body.axis_name[program.v]
    saved = dict(body.scalars)
    end = f"tg_min({c}_t + {plan.nr}, {program.dot.kernel.axis(program.v).extent})"
    with code.block(f"for ({body.ctype} {c} = {c}_t; {c} < {end}; {c}++)"):
        for stmt in program.vector.stmts:
            body.statement(stmt, escapes=False)
        tile, value = program.vector.tile, body.element(program.vector.tile)
        if program.words is None:
            value = ops.cast(value, tile.dtype, program.dot.dot.carry.dtype)
            code.line(f"{to}[{c} - {c}_t] = {value};")
        else:
            value = program.words.packed(value, is_row=False)
            code.line(f"{to}[({c} - {c}_t) * {program.together}] = {value};")
    body.scalars = saved


def _pack_image(program: WindowProgram, plan: PixelPlan, body: Body) -> None:
    """ip[u - u_lo][x][k] = image[k, u, x] for the rows of the band, zeros beside the image."""
    code, y = body.code, program.y
    yy = body.axis_name[y.step]
    taps = program.dot.kernel.axis(y.tap).extent
    end = (taps - 1) * y.dilation + y.origin + 1
    code.line(
        f"const {body.ctype} row_lo = tg_max({y.lo}, {affine(f'{yy}_lo', y.stride, y.origin)}), "
        f"row_hi = tg_min({y.hi}, {affine(f'{yy}_hi', y.stride, end - y.stride)});"
    )
    with code.block(f"for ({body.ctype} row = row_lo; row < row_hi; row++)"):
        pack_row(program, plan, body, program.k, f"ip + (row - row_lo) * {plan.run}")


def pack_row(
    program: WindowProgram, plan: ImageRows, body: Body, channel: str, to: str, start: str = ""
) -> None:
    """to[x][channel] = image[channel, row, x], zeros left and right of the image.

    Args:
        start: C text that moves a pointer into the image to the first channel.
    """
    code, y, x = body.code, program.y, program.x
    first, last = image_columns(program, plan)
    without = {y.step, y.tap, x.step, x.tap, channel}
    origin = y.origin * y.pitch + x.origin * x.pitch
    base = index_text(program.rest(without) - origin, body.rename)
    source = body.slot_name[program.image.slot]
    rs = program.stride(channel)
    code.line(
        f"const {program.ctype} *restrict from = {source} + {base} + "
        f"{affine('row', y.pitch, (first + x.origin) * x.pitch)}{start};"
    )
    code.line(f"{program.ctype} *restrict to = {to};")
    for left, right in ((0, first), (last, plan.width)):
        if left < right:
            zeros = (left * plan.channels, right * plan.channels)
            code.line(f"for (int e = {zeros[0]}; e < {zeros[1]}; e++) to[e] = 0;")
    code.line(f"to += {first * plan.channels};")
    whole = plan.channels // plan.lanes * plan.lanes if x.pitch == 1 else 0
    if whole:
        code.line(f"for (int k = 0; k < {whole}; k += {plan.lanes})")
        code.line(
            f"  tg_transpose_{program.ctype}_{plan.lanes}(from + k * (ptrdiff_t){rs}, {rs}, "
            f"{last - first}, to + k, {plan.channels});"
        )
    if whole < plan.channels:
        with code.block(
            f"for (int e = 0; e < {last - first}; e++)",
            f"for (int k = {whole}; k < {plan.channels}; k++)",
        ):
            code.line(f"to[e * {plan.channels} + k] = from[{affine('e', x.pitch)} + k * {rs}];")


def inside(name: str, factor: int, divisor: int, dim: Dim, extent: int) -> tuple[str, str]:
    """C text of the range of one axis in which u is within its bounds.

    Args:
        name, factor: the direction's other axis, as a C variable, and what it adds to u a step.
        divisor: what a step of the axis itself adds.
        extent: of the axis itself.
    """
    if not dim.is_bounded:
        return "0", str(extent)
    ends = []
    for bound in (dim.lo, dim.hi):
        text = affine(f"{bound + divisor - 1 - dim.origin} - {name}", factor)
        ends.append(f"tg_max({text}, 0)" + (f" / {divisor}" if divisor > 1 else ""))
    return ends[0], f"tg_min({ends[1]}, {extent})"


def _products(program: WindowProgram, plan: PixelPlan, body: Body) -> None:
    """acc[y - y_lo][x][c] for all rows of the band."""
    code, kernel, y, x = body.code, program.dot.kernel, program.y, program.x
    yy, i = body.axis_name[y.step], body.axis_name[y.tap]
    taps_x = kernel.axis(x.tap).extent
    row = taps_x * plan.channels
    rs = x.stride * plan.channels
    with code.block(
        f"for (ptrdiff_t panel = 0; panel < {plan.out}; panel += {plan.nr})",
        f"for ({body.ctype} {yy} = {yy}_lo; {yy} < {yy}_hi; {yy}++)",
    ):
        taps = kernel.axis(y.tap).extent
        low, high = inside(yy, y.stride, y.dilation, y, taps)
        code.line(f"const {body.ctype} {i}_lo = {low}, {i}_hi = {high};")
        at = f"{affine(yy, y.stride, y.origin)} + {affine(f'{i}_lo', y.dilation)}"
        code.line(f"const {program.ctype} *restrict image = ip + ({at} - row_lo) * {plan.run};")
        code.line(
            f"const {program.ctype} *restrict weights = wp + panel * {plan.taps * plan.channels} + "
            f"{i}_lo * {row * plan.nr};"
        )
        code.line(
            f"float *restrict sums = acc + ({yy} - {yy}_lo) * {plan.across * plan.out} + panel;"
        )
        for start, stop, height, parts in tiles_of_row(program, plan):
            kind, together = program.product, program.together
            name = runs_name(kind, height, plan.nv, plan.lanes, rs, together, parts)
            kc = plan.channels if parts else row
            code.line(f"for (ptrdiff_t pixel = {start}; pixel < {stop}; pixel += {height})")
            code.line(
                f"  {name}({i}_hi - {i}_lo, {y.dilation * plan.run}, {row * plan.nr}, {kc}, "
                f"image + pixel * {rs}, weights, sums + pixel * {plan.out}, {plan.out}, 1);"
            )


def tiles_of_row(
    program: WindowProgram, plan: PixelPlan
) -> list[tuple[int, int, int, tuple[range, ...]]]:
    """Register tiles of a row of the result: the first pixel, the end of the last, the pixels of a
    tile, and for each column of the window the rows of the tile whose pixel lies inside the image.

    Neighbours all of whose rows lie inside with every column are one entry, with no ranges.
    """
    x = program.x
    first, end = image_columns(program, plan)

    def rows_inside(start: int, height: int, tap: int) -> range:
        rows = range(height)
        inside = [r for r in rows if first <= (start + r) * x.stride + tap < end]
        return range(inside[0], inside[-1] + 1) if inside else range(0)

    found: list[tuple[int, int, int, tuple[range, ...]]] = []
    taps = range(program.dot.kernel.axis(x.tap).extent)
    for start in range(0, plan.across, plan.mr):
        height = min(plan.mr, plan.across - start)
        parts = tuple(rows_inside(start, height, tap) for tap in taps)
        is_whole = all(len(rows) == height for rows in parts)
        if is_whole and found and found[-1][2:] == (height, ()):
            found[-1] = (found[-1][0], start + height, height, ())
        else:
            found.append((start, start + height, height, () if is_whole else parts))
    return found


def image_columns(program: WindowProgram, plan: ImageRows) -> tuple[int, int]:
    """First column of a packed row that holds the image, and the end; zeros lie beside them."""
    x = program.x
    return max(0, x.lo - x.origin), min(plan.width, x.hi - x.origin)


def _results(program: WindowProgram, plan: Rows, body: Body) -> None:
    """acc turned to [c][y][x], then the statements after the dot.

    Channels are outermost where pixels lie side by side in memory: a row of one channel is few
    lines, and those of the next channel are far away, so that nothing is fetched ahead (gradient
    of the image of a 5x5 convolution to 32x24x24, two cores of Zen 4: 0.8 of the time; 2026-11).
    """
    code, kernel = body.code, program.dot.kernel
    yy, x, c = (body.axis_name[n] for n in (program.y.step, program.r, program.v))
    extent, channels = kernel.axis(program.r).extent, kernel.axis(program.v).extent
    pixels = f"({yy}_hi - {yy}_lo) * {plan.across}"
    code.line(f"for (ptrdiff_t pixel = 0; pixel < {pixels}; pixel += {plan.lanes})")
    code.line(
        f"  tg_transpose_float_{plan.lanes}(acc + pixel * {plan.out}, {plan.out}, {plan.out}, "
        f"turned + pixel, {plan.turned_step});"
    )
    stores = [s for s in program.dot.after if isinstance(s, ir.StoreTile)]
    by_channel = all(s.index.stride(program.r) == 1 for s in stores)
    heads = [f"for ({body.ctype} {yy} = {yy}_lo; {yy} < {yy}_hi; {yy}++)"]
    if by_channel:
        heads.insert(0, f"for ({body.ctype} {c}_lo = 0; {c}_lo < {channels}; {c}_lo++)")
    with code.block(*heads):
        if by_channel:
            code.line(f"const {body.ctype} {c}_hi = {c}_lo + 1;")
        else:
            code.line(f"const {body.ctype} {c}_lo = 0, {c}_hi = {channels};")
        code.line(f"const {body.ctype} {x}_lo = 0, {x}_hi = {extent};")
        code.line(
            f"const float *restrict sums = turned + {c}_lo * {plan.turned_step} + "
            f"({yy} - {yy}_lo) * {plan.across};"
        )
        carry = program.dot.dot.carry
        strides = {program.r: 1, program.v: plan.turned_step}
        body.arrays[carry.id] = Array("sums", tuple((d, strides[d]) for d in carry.dims))
        body.scope(program.dot.after)
