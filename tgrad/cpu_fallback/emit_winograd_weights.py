"""Weight gradients of convolutions by minimal filtering.

In: a WindowProgram of kind "weights" without strides whose rows are channels, the Machine. Out: C
lines. Invariant: as in emit_window_weights.py, results do not depend on the number of threads.

A tile of the other operand takes the place of the window, and the window that of the results:

    parallel for chunk of images, block of rows whose sums fit the cache:
      for image n:
        pack the vector operand:  dp[panel of o][y][x][o]
        for a band of tiles t:
          vp[p][t][r] = B^T (its part of the image) B        p: two points
          wp[panel of o][p][t][o] = G (its part of dp) G^T
          for each panel, p, rows r:   part[chunk][p][r][o] += vp[p][t][r] * wp[p][t][o]
    join the chunks;  part[0][i, j][r][o] = A^T part[0] A;  for each tap: epilogue, stores
"""

from __future__ import annotations

from dataclasses import dataclass

from tgrad.cpu_fallback.code import round_up, work_of
from tgrad.cpu_fallback.dot_plan import vectors_of
from tgrad.cpu_fallback.emit_body import Body
from tgrad.cpu_fallback.emit_window import PARALLEL_WORK, rows_of_tile
from tgrad.cpu_fallback.emit_window_weights import (
    WeightsPlan,
    count_chunks,
    emit_chunks,
    in_rows,
    pack_vectors,
    rows_of_task,
    tap_results,
)
from tgrad.cpu_fallback.emit_winograd import LINE, Cut, transform_image
from tgrad.cpu_fallback.register_tiles import runs_name
from tgrad.cpu_fallback.target import Machine
from tgrad.cpu_fallback.window_plan import WindowProgram
from tgrad.cpu_fallback.winograd import transform_name
from tgrad.kernel.ir import Config


@dataclass(frozen=True)
class WinogradWeightsPlan(WeightsPlan):
    """Sizes of tiles and sums, and the tiles of a band.

    Attributes:
        tile_rows: of an image.
    """

    cut: Cut
    tile_rows: int

    @property
    def vector_step(self) -> int:
        """Elements from one point of the transformed vector operand to the next."""
        return self.cut.count * self.nr + LINE

    @property
    def buffers(self) -> dict[str, int]:
        """Elements of what a thread keeps."""
        points = self.cut.points
        return {
            "dp": self.out * self.pixels,
            "rows": self.lanes * self.row_stride,
            **self.cut.buffers,
            "half": points * self.width * self.nr,
            "wp": self.out // self.nr * points**2 * self.vector_step,
        }


def plan_winograd_weights(
    program: WindowProgram, machine: Machine, config: Config
) -> WinogradWeightsPlan:
    """Bands whose transformed parts fit half of the second-level cache."""
    kernel = program.dot.kernel
    lanes = machine.lanes(4)
    extent = {a.name: a.extent for a in kernel.axes}
    points, rows = config.winograd, extent[program.r]
    taps = extent[program.y.tap], extent[program.x.tap]
    my, mx = (points + 1 - t for t in taps)
    registers = config.registers
    nv = vectors_of(extent[program.v], lanes, machine) if registers is None else registers.vectors
    out = round_up(extent[program.v], nv * lanes)
    block = rows_of_task(rows, points**2 * out, machine)
    mr = rows_of_tile(block, nv, machine) if registers is None else min(registers.rows, block)
    tile_rows, tiles_x = -(-extent[program.y.step] // my), -(-extent[program.x.step] // mx)
    chunks = count_chunks(program, out, rows // block, machine)

    def plan(band: int) -> WinogradWeightsPlan:
        cut = Cut(lanes, block, points, taps, (band, tiles_x))
        return WinogradWeightsPlan(
            lanes, nv, mr, rows, block, points**2, out,
            tile_rows * my * tiles_x * mx, tiles_x * mx, chunks, cut, tile_rows,
        )  # fmt: skip

    if config.band:
        return plan(min(tile_rows, -(-config.band // my)))
    bands = (plan(-(-tile_rows // parts)) for parts in range(1, tile_rows + 1))
    half = machine.l2 // 2
    fits = (p for p in bands if 4 * (p.buffers["vp"] + p.buffers["wp"]) <= half)
    return next(fits, plan(1))


def emit_winograd_weights(
    program: WindowProgram, config: Config, body: Body, machine: Machine
) -> None:
    """The whole function body."""
    plan = plan_winograd_weights(program, machine, config)
    yy, my = body.axis_name[program.y.step], plan.cut.results[0]

    def compute(is_first: str) -> None:
        code, step = body.code, plan.cut.tiles[0]
        pack_vectors(program, plan, body, "dp")
        with code.block(f"for (ptrdiff_t tile = 0; tile < {plan.tile_rows}; tile += {step})"):
            code.line(f"const ptrdiff_t tile_rows = tg_min({step}, {plan.tile_rows} - tile);")
            code.line(f"const {body.ctype} {yy}_lo = tile * {my};")
            first = plan.from_block(program.stride(program.r))
            transform_image(program, plan.cut, program.r, body, first)
            _transform_vectors(plan, body)
            _products(plan, body, f"{is_first} && tile == 0")

    emit_chunks(program, plan, plan.buffers, body, compute)
    _transform_sums(program, plan, body)
    tap_results(program, plan, body)


def _transform_vectors(plan: WinogradWeightsPlan, body: Body) -> None:
    """wp[panel][p][t][o], first along y for a row of tiles, then along x."""
    code, cut, nr = body.code, plan.cut, plan.nr
    my, mx = cut.results
    run = plan.width * nr
    along_y, along_x = (transform_name("filter", cut.points, n, plan.lanes) for n in (my, mx))
    with code.block(
        f"for (ptrdiff_t panel = 0; panel < {plan.out // nr}; panel++)",
        "for (ptrdiff_t ty = 0; ty < tile_rows; ty++)",
    ):
        code.line(
            f"const float *from = dp + panel * {plan.pixels * nr} + (tile + ty) * {my * run};"
        )
        code.line(f"for (ptrdiff_t e = 0; e < {run}; e += {plan.lanes})")
        code.line(f"  {along_y}(from + e, {run}, half + e, {run});")
        with code.block(
            f"for (ptrdiff_t a = 0; a < {cut.points}; a++)",
            f"for (ptrdiff_t tx = 0; tx < {cut.tiles[1]}; tx++)",
            f"for (ptrdiff_t e = 0; e < {nr}; e += {plan.lanes})",
        ):
            code.line(
                f"{along_x}(half + a * {run} + tx * {mx * nr} + e, {nr}, wp + "
                f"(panel * {cut.points} + a) * {cut.points * plan.vector_step} + "
                f"(ty * {cut.tiles[1]} + tx) * {nr} + e, {plan.vector_step});"
            )


def _products(plan: WinogradWeightsPlan, body: Body, first: str) -> None:
    """acc[p][r][o] of a band of tiles."""
    code, cut = body.code, plan.cut
    with code.block(
        f"for (ptrdiff_t panel = 0; panel < {plan.out // plan.nr}; panel++)",
        f"for (ptrdiff_t p = 0; p < {cut.points**2}; p++)",
    ):
        code.line(f"const float *restrict data = vp + p * {cut.data_step};")
        code.line(
            f"const float *restrict vectors = wp + "
            f"(panel * {cut.points**2} + p) * {plan.vector_step};"
        )
        code.line(
            f"float *restrict sums = acc + p * {plan.rows * plan.out} + panel * {plan.nr}"
            f"{plan.from_block(plan.out)};"
        )

        def call(mr: int, r: str) -> None:
            name = runs_name("float", mr, plan.nv, plan.lanes, 1, cut.channels)
            code.line(
                f"  {name}(1, 0, 0, tile_rows * {cut.tiles[1]}, data + {r}, vectors, "
                f"sums + {r} * {plan.out}, {plan.out}, {first});"
            )

        in_rows(plan, body, call)


def _transform_sums(program: WindowProgram, plan: WinogradWeightsPlan, body: Body) -> None:
    """part[0][i, j][r][o] = A^T part[0] A, where it lies."""
    code, points = body.code, plan.cut.points
    ty, tx = plan.cut.taps
    step = plan.rows * plan.out
    along_y, along_x = (transform_name("result", points, n, plan.lanes) for n in (ty, tx))
    if work_of(program.dot.kernel) >= PARALLEL_WORK:
        code.shared(1)
    with code.block(f"for (ptrdiff_t e = 0; e < {step}; e += {plan.lanes})"):
        code.line(f"float sums[{points * tx * plan.lanes}];")
        code.line(f"for (int a = 0; a < {points}; a++)")
        code.line(
            f"  {along_x}(part + a * {points * step} + e, {step}, "
            f"sums + a * {tx * plan.lanes}, {plan.lanes});"
        )
        code.line(f"for (int j = 0; j < {tx}; j++)")
        code.line(
            f"  {along_y}(sums + j * {plan.lanes}, {tx * plan.lanes}, "
            f"part + j * {step} + e, {tx * step});"
        )
