"""Weight gradients of convolutions, over the image as it lies in memory.

In: a WindowProgram of kind "weights", the Machine. Out: C lines. Invariant: elements of the window
that lie outside the image cost nothing; images are summed in chunks whose number depends on sizes
alone, joined in order, so that results do not depend on the number of threads.

    parallel for chunk of images, block of rows whose sums fit the cache:
      for image n:
        pack the vector operand:  vp[panel of o][y][x][o]
        for each panel, tap i, j, rows r (channels of the image, or taps j) of the block:
          part[chunk][i][j][r][o] += sum over y, x inside the image of
                                     image[n, r, y + i, x + j] * vp[y][x][o]
    join the chunks;  for each tap: epilogue, stores
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from tgrad.cpu_fallback import op_table as ops
from tgrad.cpu_fallback.code import round_up, work_of
from tgrad.cpu_fallback.dot_plan import vectors_of
from tgrad.cpu_fallback.emit_body import Array, Body
from tgrad.cpu_fallback.emit_index import index_text
from tgrad.cpu_fallback.emit_window import (
    PARALLEL_WORK,
    affine,
    declare_buffers,
    inside,
    most_rows,
)
from tgrad.cpu_fallback.register_tiles import runs_name
from tgrad.cpu_fallback.target import Machine
from tgrad.cpu_fallback.window_plan import WindowProgram
from tgrad.kernel.ir import Config

CHUNK_WORK = 4_000_000
"""Multiply-adds of a chunk, about; half of them at least."""

FEW_ROWS = 4
"""Rows whose results are written together."""

MAX_CHUNKS = 16

JOIN_BLOCK = 4096
"""Elements of all chunks that are added up together."""


@dataclass(frozen=True)
class WeightsPlan:
    """Sizes of tiles and buffers, in elements.

    Attributes:
        lanes, nv, mr: elements of a vector register; vectors and rows of a register tile.
        rows: of a tap; block: as many of them as a task takes, a divisor; tail: rows of a block's
            last register tile where they are fewer (or 0).
        taps: sums of [rows, out], such as one for each combination of the unit axes.
        out: lanes of the result, whole panels.
        pixels: of a packed image; width of them lie in a row.
        chunks: parts of the images that have partial results of their own.
    """

    lanes: int
    nv: int
    mr: int
    rows: int
    block: int
    taps: int
    out: int
    pixels: int
    width: int
    chunks: int

    @property
    def nr(self) -> int:
        return self.nv * self.lanes

    @property
    def blocks(self) -> int:
        return self.rows // self.block

    @property
    def tail(self) -> int:
        return self.block % self.mr

    def from_block(self, step: int) -> str:
        """C text that moves a pointer to a task's first row."""
        return f" + block_lo * (ptrdiff_t){step}" if self.blocks > 1 else ""

    @property
    def sums(self) -> int:
        return self.taps * self.rows * self.out

    @property
    def row_stride(self) -> int:
        """Elements between the rows that are transposed: an odd number of cache lines."""
        return round_up(self.pixels, 32) + 16


def plan_weights(
    program: WindowProgram, machine: Machine, config: Config | None = None
) -> WeightsPlan:
    """Register tiles of equal height, as high as registers allow, unless a configuration says."""
    kernel = program.dot.kernel
    lanes = machine.lanes(4)
    extent = {a.name: a.extent for a in kernel.axes}
    rows = extent[program.r]
    registers = None if config is None else config.registers
    nv = vectors_of(extent[program.v], lanes, machine) if registers is None else registers.vectors
    out = round_up(extent[program.v], nv * lanes)
    taps = prod(extent[n] for n in program.units)
    block = rows_of_task(rows, taps * out, machine)
    if registers is None:
        mr = -(-block // -(-block // most_rows(nv, machine)))
    else:
        mr = min(registers.rows, block)
    pixels = extent[program.loops[1]] * extent[program.k]
    chunks = count_chunks(program, out, rows // block, machine)
    return WeightsPlan(lanes, nv, mr, rows, block, taps, out, pixels, extent[program.k], chunks)


def rows_of_task(rows: int, sums: int, machine: Machine) -> int:
    """Rows, of so many sums each, that a task adds up: those that fit half of the second-level
    cache, where they are whole vectors; all of them else."""
    lanes = machine.lanes(4)
    fits = (rows // n for n in range(1, rows // lanes + 1) if rows % (n * lanes) == 0)
    return next((n for n in fits if 4 * n * sums <= machine.l2 // 2), rows)


def count_chunks(program: WindowProgram, out: int, blocks: int, machine: Machine) -> int:
    """Chunks of images for a result of so many lanes: a power of two, which any usual number of
    threads shares, unless there are fewer images. Where blocks are tasks, too, no more than give
    each core four: every chunk has sums to join, which are many then."""
    kernel = program.dot.kernel
    names = (program.r, program.k, *program.loops, *program.units)
    work = out * prod(kernel.axis(n).extent for n in names)
    images = kernel.axis(program.loops[0]).extent
    tasks = min(MAX_CHUNKS, 1 << (work // CHUNK_WORK).bit_length())
    if blocks > 1:
        tasks = min(tasks, 4 * machine.cores) // blocks
    return max(1, min(images, tasks))


def emit_weights(program: WindowProgram, config: Config, body: Body, machine: Machine) -> None:
    """The whole function body."""
    plan = plan_weights(program, machine, config)
    buffers = {"vp": plan.out * plan.pixels, "rows": plan.lanes * plan.row_stride}

    def compute(first: str) -> None:
        pack_vectors(program, plan, body, "vp")
        _products(program, plan, body, first)

    emit_chunks(program, plan, buffers, body, compute)
    tap_results(program, plan, body)


def emit_chunks(
    program: WindowProgram,
    plan: WeightsPlan,
    buffers: Mapping[str, int],
    body: Body,
    compute: Callable[[str], None],
) -> None:
    """The loops over images, in parallel chunks and blocks of rows from `block_lo`, and part[0],
    the sum of their results.

    Args:
        buffers: names and elements of what a thread keeps.
        compute: emits the work of one image, which it adds to acc; given the condition that it is
            the first of its chunk.
    """
    kernel, code = program.dot.kernel, body.code
    images = kernel.axis(program.loops[0])
    n = body.axis_name[images.name]
    for stmt in program.dot.before:
        body.statement(stmt, escapes=True)
    code.line(
        f"float *const restrict part = tg_partials({plan.chunks * plan.sums} * sizeof(float));"
    )
    tasks = plan.chunks * plan.blocks
    if tasks > 1 and work_of(kernel) >= PARALLEL_WORK:
        code.shared(1)
    task = "chunk" if plan.blocks == 1 else "task"
    with code.block(f"for (int {task} = 0; {task} < {tasks}; {task}++)"):
        if plan.blocks > 1:
            code.line(f"const int chunk = task / {plan.blocks};")
            code.line(f"const int block_lo = task % {plan.blocks} * {plan.block};")
        declare_buffers(buffers, body)
        code.line(f"float *const restrict acc = part + chunk * {plan.sums};")
        for end, at in (("lo", "chunk"), ("hi", "(chunk + 1)")):
            code.line(
                f"const {body.ctype} {n}_{end} = (ptrdiff_t){images.extent} * {at} / {plan.chunks};"
            )
        if plan.pixels > kernel.axis(program.loops[1]).extent * kernel.axis(program.k).extent:
            code.line(f"for (int e = 0; e < {buffers['rows']}; e++) rows[e] = 0;")
        with code.block(f"for ({body.ctype} {n} = {n}_lo; {n} < {n}_hi; {n}++)"):
            compute(f"{n} == {n}_lo")
    join_chunks(plan, body)


def pack_vectors(program: WindowProgram, plan: WeightsPlan, body: Body, to: str) -> None:
    """to[o / nr][y][x][o % nr], through a few rows along x that are transposed."""
    code, kernel = body.code, program.dot.kernel
    y, x, o = (body.axis_name[n] for n in (program.loops[1], program.k, program.v))
    extent = kernel.axis(program.v).extent
    saved = dict(body.scalars)
    with code.block(f"for ({body.ctype} {o}_t = 0; {o}_t < {extent}; {o}_t += {plan.lanes})"):
        code.line(f"const {body.ctype} {o}_end = tg_min({o}_t + {plan.lanes}, {extent});")
        with code.block(
            f"for ({body.ctype} {o} = {o}_t; {o} < {o}_end; {o}++)",
            body.loop_head(kernel.axis(program.loops[1])),
        ):
            code.pragma("omp simd")
            across = kernel.axis(program.k).extent
            with code.block(f"for ({body.ctype} {x} = 0; {x} < {across}; {x}++)"):
                for stmt in program.vector.stmts:
                    body.statement(stmt, escapes=False)
                tile = program.vector.tile
                value = ops.cast(body.element(tile), tile.dtype, program.dot.dot.carry.dtype)
                place = f"({o} - {o}_t) * {plan.row_stride} + {y} * {plan.width} + {x}"
                code.line(f"rows[{place}] = {value};")
        code.line(
            f"tg_transpose_float_{plan.lanes}(rows, {plan.row_stride}, {plan.pixels}, "
            f"{to} + {o}_t / {plan.nr} * {plan.nr * plan.pixels} + {o}_t % {plan.nr}, {plan.nr});"
        )
    body.scalars = saved


def _products(program: WindowProgram, plan: WeightsPlan, body: Body, first: str) -> None:
    """acc[tap][r][o] of one image."""
    code, kernel = body.code, program.dot.kernel
    y, x = program.y, program.x
    yy, xx = body.axis_name[y.step], body.axis_name[x.step]
    heads = [f"for (ptrdiff_t panel = 0; panel < {plan.out}; panel += {plan.nr})"]
    heads += [body.loop_head(kernel.axis(n)) for n in program.units]
    with code.block(*heads):
        for dim, name in ((y, yy), (x, xx)):
            tap = body.axis_name[dim.tap]
            low, high = inside(tap, dim.dilation, dim.stride, dim, kernel.axis(dim.step).extent)
            code.line(f"const {body.ctype} {name}_lo = {low}, {name}_hi = {high};")
        rest = index_text(program.rest({y.step, x.step, program.r}), body.rename)
        steps = program.stride(y.step), program.stride(x.step)
        rs = program.stride(program.r)
        code.line(
            f"const float *restrict image = {body.slot_name[program.image.slot]} + {rest} + "
            f"{affine(f'{yy}_lo', steps[0])} + {affine(f'{xx}_lo', steps[1])}"
            f"{plan.from_block(rs)};"
        )
        code.line(
            f"const float *restrict weights = vp + panel * {plan.pixels} + "
            f"({yy}_lo * {plan.width} + {xx}_lo) * {plan.nr};"
        )
        code.line(
            f"float *restrict sums = acc + panel + "
            f"({tap_number(program, body)}) * {plan.rows * plan.out}{plan.from_block(plan.out)};"
        )

        def call(mr: int, r: str) -> None:
            name = runs_name("float", mr, plan.nv, plan.lanes, rs, steps[1])
            code.line(
                f"  {name}({yy}_hi - {yy}_lo, {steps[0]}, {plan.width * plan.nr}, "
                f"{xx}_hi - {xx}_lo, image + {r} * (ptrdiff_t){rs}, weights, "
                f"sums + {r} * {plan.out}, {plan.out}, {first});"
            )

        in_rows(plan, body, call)


def in_rows(plan: WeightsPlan, body: Body, call: Callable[[int, str], None]) -> None:
    """All register tiles of a block's sums: `call` emits one, of so many rows, at a row of it."""
    whole = plan.block - plan.tail
    body.code.line(f"for (int row = 0; row < {whole}; row += {plan.mr})")
    call(plan.mr, "row")
    if plan.tail:
        call(plan.tail, str(whole))


def tap_number(program: WindowProgram, body: Body) -> str:
    """C text of the row-major number of the unit axes' present values."""
    text = ""
    for n in program.units:
        axis = program.dot.kernel.axis(n)
        name = body.axis_name[n]
        text = name if not text else f"({text}) * {axis.extent} + {name}"
    return text or "0"


def join_chunks(plan: WeightsPlan, body: Body) -> None:
    """part[0] += part[1] + part[2] + ..., in order."""
    if plan.chunks == 1:
        return
    code = body.code
    code.shared(1)
    with code.block(f"for (int block = 0; block < {plan.sums}; block += {JOIN_BLOCK})"):
        code.line(f"const int end = tg_min(block + {JOIN_BLOCK}, {plan.sums});")
        code.line(f"for (int chunk = 1; chunk < {plan.chunks}; chunk++)")
        code.line("  for (int e = block; e < end; e++)")
        code.line(f"    part[e] += part[chunk * {plan.sums} + e];")


def tap_results(program: WindowProgram, plan: WeightsPlan, body: Body) -> None:
    """The statements after the dot, for each tap of a few rows: where taps lie together, as in
    weights, lines of the result stay in cache until all of them are written."""
    code, kernel = body.code, program.dot.kernel
    r, v = (body.axis_name[axis] for axis in (program.r, program.v))
    heads = [body.loop_head(kernel.axis(n)) for n in program.units]
    if work_of(kernel) >= PARALLEL_WORK:
        code.shared(1)
    with code.block(f"for ({body.ctype} {r}_lo = 0; {r}_lo < {plan.rows}; {r}_lo += {FEW_ROWS})"):
        code.line(
            f"const {body.ctype} {r}_hi = tg_min({r}_lo + {FEW_ROWS}, {plan.rows}), "
            f"{v}_lo = 0, {v}_hi = {kernel.axis(program.v).extent};"
        )
        with code.block(*heads or [""]):
            code.line(
                f"const float *restrict acc = part + ({tap_number(program, body)}) * "
                f"{plan.rows * plan.out} + {r}_lo * {plan.out};"
            )
            carry = program.dot.dot.carry
            strides = {program.r: plan.out, program.v: 1}
            body.arrays[carry.id] = Array("acc", tuple((d, strides[d]) for d in carry.dims))
            body.scope(program.dot.after)
