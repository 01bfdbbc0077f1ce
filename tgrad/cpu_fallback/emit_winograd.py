"""Convolutions by minimal filtering, around the same copy of the image as emit_window.py.

In: a WindowProgram of kind "pixels" without strides, the Machine. Out: C lines. Invariant: each
output element is summed in one order, whatever the number of threads.

    transform the weights:  wp[panel of c][p][k][c] = G w[.., .., k, c] G^T      p: two points
    parallel for image n, band of rows y:
      pack the image:  ip[u][x][k], zeros outside it
      for each tile t:   vp[p][t][k] = B^T (its part of ip) B
      for each panel of channels c:
        for each p:      mp[t][c] = vp[p][t][k] @ wp[p][k][c]
        for each tile:   acc[y][x][c] = A^T mp A
      transpose acc to [c][y][x]
      for each channel c, row y:  epilogue, stores

A band whose results are not all finite is computed again by the plain sum. See
docs/decisions/0061.
"""

from __future__ import annotations

from dataclasses import dataclass

from tgrad.cpu_fallback.code import round_up
from tgrad.cpu_fallback.dot_plan import vectors_of
from tgrad.cpu_fallback.emit_body import Body
from tgrad.cpu_fallback.emit_window import (
    Rows,
    affine,
    collect_weights,
    emit_bands,
    pack_row,
    pack_weights,
    rows_of_tile,
)
from tgrad.cpu_fallback.register_tiles import runs_name, vector_type
from tgrad.cpu_fallback.target import Machine
from tgrad.cpu_fallback.window_plan import WindowProgram
from tgrad.cpu_fallback.winograd import transform_name
from tgrad.kernel.ir import Config

LINE = 16
"""Elements of a cache line: matrices lie as many further apart, so that they share no set."""


@dataclass(frozen=True)
class Cut:
    """A band of the image, cut into tiles that overlap.

    Attributes:
        lanes: elements of a vector register.
        channels: of the image.
        points: along each direction.
        taps: of the window along y and x.
        tiles: of a band at most, along y and x.
    """

    lanes: int
    channels: int
    points: int
    taps: tuple[int, int]
    tiles: tuple[int, int]

    @property
    def results(self) -> tuple[int, int]:
        """Of a tile along y and x."""
        return self.points + 1 - self.taps[0], self.points + 1 - self.taps[1]

    @property
    def count(self) -> int:
        """Tiles of a band at most."""
        return self.tiles[0] * self.tiles[1]

    @property
    def rows(self) -> int:
        """Of the image that a band touches at most."""
        return self.tiles[0] * self.results[0] + self.taps[0] - 1

    @property
    def width(self) -> int:
        """Pixels of such a row."""
        return self.tiles[1] * self.results[1] + self.taps[1] - 1

    @property
    def data_step(self) -> int:
        """Elements from one point of the transformed image to the next."""
        return self.count * self.channels + LINE

    @property
    def buffers(self) -> dict[str, int]:
        """Elements of what a thread keeps of the image."""
        return {
            "ip": self.rows * self.width * self.channels,
            "mid": self.points * self.width * self.channels,
            "vp": self.points**2 * self.data_step,
        }


@dataclass(frozen=True)
class WinogradPlan(Rows):
    """Sizes of tiles and packed rows, and the tiles of a band."""

    cut: Cut

    @property
    def product_step(self) -> int:
        """Elements from one point of the products to the next."""
        return self.cut.count * self.nr + LINE

    @property
    def buffers(self) -> dict[str, int]:
        """Elements of what a thread keeps."""
        return {
            "wp": self.cut.points**2 * self.channels * self.out,
            **self.cut.buffers,
            "mp": self.cut.points**2 * self.product_step,
            "plain": self.cut.taps[0] * self.cut.taps[1] * self.channels * self.out,
            "acc": (self.band * self.across + self.lanes) * self.out,
            "turned": self.turned,
        }


def plan_winograd(program: WindowProgram, machine: Machine, config: Config) -> WinogradPlan:
    """Bands whose transformed parts fit half of the second-level cache, unless the configuration
    says."""
    kernel = program.dot.kernel
    lanes = machine.lanes(4)
    extent = {a.name: a.extent for a in kernel.axes}
    c, x, k, y = (extent[n] for n in (program.v, program.r, program.k, program.y.step))
    taps = extent[program.y.tap], extent[program.x.tap]
    my, mx = (config.winograd + 1 - t for t in taps)
    registers = config.registers
    nv = vectors_of(c, lanes, machine) if registers is None else registers.vectors
    tiles_x = -(-x // mx)
    across = tiles_x * mx
    others = kernel.num_programs // y

    def plan(tile_rows: int) -> WinogradPlan:
        cut = Cut(lanes, k, config.winograd, taps, (tile_rows, tiles_x))
        mr = rows_of_tile(cut.count, nv, machine) if registers is None else registers.rows
        return WinogradPlan(
            lanes, nv, min(mr, cut.count), k, round_up(c, nv * lanes),
            cut.width, cut.rows, across, tile_rows * my, cut,
        )  # fmt: skip

    most = -(-y // my)
    if config.band:
        return plan(min(most, -(-config.band // my)))
    for parts in range(max(1, -(-4 * machine.cores // others)), most + 1):
        found = plan(-(-most // parts))
        if 4 * (found.buffers["vp"] + found.buffers["mp"]) <= machine.l2 // 2:
            return found
    return plan(1)


def emit_winograd(program: WindowProgram, config: Config, body: Body, machine: Machine) -> None:
    """The whole function body."""
    plan, code = plan_winograd(program, machine, config), body.code

    def transform_weights() -> None:
        code.line("int has_plain = 0;")
        _transform_weights(program, plan, body)

    def compute() -> None:
        yy, my = body.axis_name[program.y.step], plan.cut.results[0]
        code.line(f"const {body.ctype} tile_rows = ({yy}_hi - {yy}_lo + {my - 1}) / {my};")
        transform_image(program, plan.cut, program.k, body)
        code.line(f"{vector_type('float', plan.lanes)} odd = {{0}};")
        with code.block(f"for (ptrdiff_t panel = 0; panel < {plan.out}; panel += {plan.nr})"):
            _products(program, plan, body)
            _results(plan, body)
        _plain_where_odd(program, plan, body)

    emit_bands(program, plan, plan.buffers, body, transform_weights, compute)


def _transform_weights(program: WindowProgram, plan: WinogradPlan, body: Body) -> None:
    """wp[c / nr][p][k][c % nr]"""
    code, kernel, cut, nr = body.code, program.dot.kernel, plan.cut, plan.nr
    c, k = body.axis_name[program.v], body.axis_name[program.k]
    i, j = (body.axis_name[n] for n in program.loops)
    row, step = cut.taps[1] * nr, plan.channels * nr
    along_y, along_x = (transform_name("filter", cut.points, n, plan.lanes) for n in cut.taps)
    with code.block(
        f"for ({body.ctype} {c}_t = 0; {c}_t < {kernel.axis(program.v).extent}; {c}_t += {nr})",
        f"for ({body.ctype} {k} = 0; {k} < {plan.channels}; {k}++)",
    ):
        code.line(f"float taps[{cut.taps[0] * row}] = {{0}}, half[{cut.points * row}];")
        with code.block(*(body.loop_head(kernel.axis(n)) for n in program.loops)):
            code.line(f"float *restrict to = taps + {i} * {row} + {j} * {nr};")
            collect_weights(program, plan, body, "to")
        code.line(
            f"float *restrict to = wp + {c}_t * {cut.points**2 * plan.channels} + {k} * {nr};"
        )
        code.line(f"for (int e = 0; e < {row}; e += {plan.lanes})")
        code.line(f"  {along_y}(taps + e, {row}, half + e, {row});")
        with code.block(
            f"for (int a = 0; a < {cut.points}; a++)",
            f"for (int e = 0; e < {nr}; e += {plan.lanes})",
        ):
            code.line(
                f"{along_x}(half + a * {row} + e, {nr}, to + a * {cut.points * step} + e, {step});"
            )


def transform_image(
    program: WindowProgram, cut: Cut, channel: str, body: Body, first: str = ""
) -> None:
    """vp[p][t][channel] of `tile_rows` rows of tiles from y_lo, first along y, then along x.

    The rows of the image that they touch lie in ip, with zeros outside it.

    Args:
        first: C text that moves a pointer into the image to the first channel.
    """
    code, y = body.code, program.y
    yy, k, run = body.axis_name[y.step], cut.channels, cut.width * cut.channels
    my, mx = cut.results
    code.line(f"const {body.ctype} row_lo = {affine(f'{yy}_lo', 1, y.origin)};")
    end = f"row_lo + tile_rows * {my} + {cut.taps[0] - 1}"
    with code.block(f"for ({body.ctype} row = row_lo; row < {end}; row++)"):
        with code.block(f"if (row < {y.lo} || row >= {y.hi})"):
            code.line(f"for (int e = 0; e < {run}; e++) ip[(row - row_lo) * {run} + e] = 0;")
            code.line("continue;")
        pack_row(program, cut, body, channel, f"ip + (row - row_lo) * {run}", first)
    name = transform_name("data", cut.points, cut.points, cut.lanes)
    with code.block("for (ptrdiff_t ty = 0; ty < tile_rows; ty++)"):
        code.line(f"for (ptrdiff_t e = 0; e < {run}; e += {cut.lanes})")
        code.line(f"  {name}(ip + ty * {my * run} + e, {run}, mid + e, {run});")
        with code.block(
            f"for (ptrdiff_t a = 0; a < {cut.points}; a++)",
            f"for (ptrdiff_t tx = 0; tx < {cut.tiles[1]}; tx++)",
            f"for (ptrdiff_t e = 0; e < {k}; e += {cut.lanes})",
        ):
            code.line(
                f"{name}(mid + a * {run} + tx * {mx * k} + e, {k}, vp + a * "
                f"{cut.points * cut.data_step} + (ty * {cut.tiles[1]} + tx) * {k} + e, "
                f"{cut.data_step});"
            )


def _products(program: WindowProgram, plan: WinogradPlan, body: Body) -> None:
    """mp[p][t][c] of a panel of channels and all tiles of the band."""
    code, cut, k = body.code, plan.cut, plan.channels
    code.line(f"const ptrdiff_t tiles = tile_rows * {cut.tiles[1]};")
    with code.block(f"for (ptrdiff_t p = 0; p < {cut.points**2}; p++)"):
        code.line(f"const float *restrict data = vp + p * {cut.data_step};")
        weights = f"wp + panel * {cut.points**2 * k} + p * {k * plan.nr}"
        code.line(f"const float *restrict weights = {weights};")
        code.line(f"float *restrict to = mp + p * {plan.product_step};")
        code.line("ptrdiff_t t = 0;")

        def call(height: int) -> str:
            name = runs_name("float", height, plan.nv, plan.lanes, k, 1)
            operands = f"data + t * {k}, weights, to + t * {plan.nr}"
            return f"{name}(1, 0, 0, {k}, {operands}, {plan.nr}, 1);"

        code.line(f"for (; t + {plan.mr} <= tiles; t += {plan.mr}) {call(plan.mr)}")
        extent = program.dot.kernel.axis(program.y.step).extent
        ends = {min(plan.band, extent), extent % plan.band}
        tiles = {-(-rows // cut.results[0]) * cut.tiles[1] for rows in ends}
        for height in sorted({n % plan.mr for n in tiles} - {0}):
            code.line(f"if (tiles - t == {height}) {call(height)}")


def _results(plan: WinogradPlan, body: Body) -> None:
    """acc[y - y_lo][x][panel + c] = A^T mp A; a part of odd that is not 0 tells of a NaN or an
    infinity."""
    code, cut, points = body.code, plan.cut, plan.cut.points
    my, mx = cut.results
    row, vector = plan.across * plan.out, vector_type("float", plan.lanes)
    along_y, along_x = (transform_name("result", points, n, plan.lanes) for n in (my, mx))
    with code.block(
        "for (ptrdiff_t ty = 0; ty < tile_rows; ty++)",
        f"for (ptrdiff_t tx = 0; tx < {cut.tiles[1]}; tx++)",
        f"for (int e = 0; e < {plan.nr}; e += {plan.lanes})",
    ):
        code.line(f"float half[{points * mx * plan.lanes}];")
        code.line(f"const float *from = mp + (ty * {cut.tiles[1]} + tx) * {plan.nr} + e;")
        code.line(f"float *to = acc + ty * {my * row} + tx * {mx * plan.out} + panel + e;")
        code.line(f"for (int a = 0; a < {points}; a++)")
        code.line(
            f"  {along_x}(from + a * {points * plan.product_step}, {plan.product_step}, "
            f"half + a * {mx * plan.lanes}, {plan.lanes});"
        )
        with code.block(f"for (int x = 0; x < {mx}; x++, to += {plan.out})"):
            step = mx * plan.lanes
            code.line(f"{along_y}(half + x * {plan.lanes}, {step}, to, {row});")
            code.line(
                f"for (int y = 0; y < {my}; y++) odd += 0.0f * *(const {vector} *)(to + y * {row});"
            )


def _plain_where_odd(program: WindowProgram, plan: WinogradPlan, body: Body) -> None:
    """acc once more by the plain sum, a pixel at a time, where the band has a NaN or an infinity:
    minimal filtering spreads them over all results of a tile."""
    code, (ty, tx) = body.code, plan.cut.taps
    yy, k = body.axis_name[program.y.step], plan.channels
    name = runs_name("float", 1, plan.nv, plan.lanes, k, 1)
    code.line("float oddity = 0;")
    code.line(f"for (int e = 0; e < {plan.lanes}; e++) oddity += odd[e];")
    with code.block("if (oddity != 0)"):
        with code.block("if (!has_plain)"):
            pack_weights(program, plan, body, "plain")
            code.line("has_plain = 1;")
        with code.block(
            f"for (ptrdiff_t panel = 0; panel < {plan.out}; panel += {plan.nr})",
            f"for (ptrdiff_t y = 0; y < {yy}_hi - {yy}_lo; y++)",
            f"for (ptrdiff_t x = 0; x < {plan.across}; x++)",
        ):
            run = plan.width * k
            code.line(
                f"{name}({ty}, {run}, {tx * k * plan.nr}, {tx * k}, ip + y * {run} + x * {k}, "
                f"plain + panel * {ty * tx * k}, acc + (y * {plan.across} + x) * {plan.out} + "
                f"panel, {plan.out}, 1);"
            )
