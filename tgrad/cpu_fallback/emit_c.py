"""C source of a tile program: one function a kernel.

In: a Kernel, its Config, the Machine. Out: C text without the preamble (preamble.py adds what it
uses). Invariant: the text depends on these three alone, and results do not depend on the number of
threads.

    void NAME(char *const *slots) {
      const float *restrict x = (const float *)slots[0];
    #pragma omp parallel for collapse(2) schedule(static)
      for (int i = 0; i < 4096; i++)              grid axes: shared by threads
        for (int j_lo = 0; j_lo < 1024; j_lo += 512) {
          const int j_hi = ...;
          ...                                     statements (emit_body.py)
        }
    }

A batch has a loop over its members around the grid's, and declares their slots inside it; where
members differ in length, see emit_batch.py.

With few programs and a long outer loop, that loop is cut in a number of chunks that depends on the
sizes alone; each has its own carries, joined in the order of the chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

from tgrad.cpu_fallback import op_table as ops
from tgrad.cpu_fallback.code import (
    FEW_PROGRAMS,
    Code,
    distinct_axes,
    header,
    is_scatter,
    loop_work,
    work_of,
)
from tgrad.cpu_fallback.emit_batch import emit_lengths
from tgrad.cpu_fallback.emit_body import Body
from tgrad.cpu_fallback.emit_chain import ChainBody, emit_chain, is_chain
from tgrad.cpu_fallback.emit_dot import DotProgram, emit_dot, match_dot
from tgrad.cpu_fallback.emit_neighbourhood import emit_neighbourhood
from tgrad.cpu_fallback.emit_plane import emit_plane
from tgrad.cpu_fallback.emit_window import emit_pixels
from tgrad.cpu_fallback.emit_window_weights import emit_weights
from tgrad.cpu_fallback.emit_winograd import emit_winograd
from tgrad.cpu_fallback.emit_winograd_weights import emit_winograd_weights
from tgrad.cpu_fallback.moved_bits import move_bits
from tgrad.cpu_fallback.neighbourhood_plan import match_neighbourhood
from tgrad.cpu_fallback.one_hot import pick_terms
from tgrad.cpu_fallback.pieces import in_pieces
from tgrad.cpu_fallback.plane_plan import is_worth_planes, match_plane
from tgrad.cpu_fallback.segments import in_segments
from tgrad.cpu_fallback.target import Machine
from tgrad.cpu_fallback.unroll import unroll_short_loops
from tgrad.cpu_fallback.window_plan import match_window
from tgrad.kernel import ir
from tgrad.kernel.ir import Role, statements

STACK = 32 << 10
"""Bytes of rows of a program that lie on the stack."""

PARALLEL_WORK = 400_000
"""Elementary operations below which threads cost more than they save: one core does them in 7 to 10
us (sums and tanh of 100,000 and 20,000 elements, Zen 5), a fork and join takes 5 us, and more where
the threads have gone to sleep."""

CHUNK_WORK = 60_000
"""Elementary operations of one chunk of a loop that threads share."""

MAX_CHUNKS = 64

CONVOLUTIONS = {
    ("pixels", False): emit_pixels,
    ("pixels", True): emit_winograd,
    ("weights", False): emit_weights,
    ("weights", True): emit_winograd_weights,
}
"""What emits a window program, by its kind and whether it is by minimal filtering."""

CHUNK_ELEMENTS = 1 << 16
"""Elements of the carries of all chunks together (they lie on the stack)."""


def emit(kernel: ir.Kernel, config: ir.Config, machine: Machine) -> str:
    """C source of the kernel's function `void NAME(char *const *slots)`."""
    kernel = pick_terms(move_bits(kernel))
    plane = match_plane(kernel)
    around = match_neighbourhood(kernel, machine.lanes(4)) if plane is None else None
    if plane is not None and not is_worth_planes(plane):
        plane = None  # nor would planes of neighbourhoods be: few taps, under strides
    if plane is None and around is None:
        kernel = unroll_short_loops(kernel)
    code = Code()
    body = (ChainBody if is_chain(kernel) else Body)(kernel, code, machine)
    header(code, kernel)
    with code.block(f"void {kernel.name}(char *const *slots)"):
        body.open_slots()
        window = match_window(kernel, machine) if kernel.table is None else None
        dot = match_dot(kernel)
        if isinstance(body, ChainBody):
            emit_chain(kernel, body, work_of(kernel) >= PARALLEL_WORK)
        elif plane is not None:
            emit_plane(plane, body, machine, PARALLEL_WORK)
        elif around is not None:
            emit_neighbourhood(around, body, PARALLEL_WORK)
        elif window is not None:
            emit_convolution = CONVOLUTIONS[window.kind, config.winograd > 0]
            emit_convolution(window, config, body, machine)
        elif kernel.table is not None and kernel.table.lengths:
            emit_lengths(code, kernel, body, PARALLEL_WORK)
        elif isinstance(dot, DotProgram):
            emit_dot(dot, config, body, machine)
        else:
            _pieces(code, kernel, body)
    return code.text()


def _pieces(code: Code, kernel: ir.Kernel, body: Body) -> None:
    """The kernel, in pieces that threads take one after the other where that saves work."""
    whole = in_pieces(kernel)
    pieces = [part for piece in whole for part in in_pieces(in_segments(piece))]
    if len(pieces) == 1:
        _grid(code, pieces[0], body if pieces[0] is kernel else Body(pieces[0], code, body.machine))
        return
    is_parallel = sum(map(work_of, pieces)) >= PARALLEL_WORK
    if is_parallel:
        code.pragma("omp parallel")
    with code.block(""):
        for piece in pieces:
            part = Body(piece, code, body.machine)
            heads = [part.loop_head(a) for a in piece.grid if a.steps != 1 or a.block > 1]
            if is_parallel:
                collapse = f" collapse({len(heads)})" if len(heads) > 1 else ""
                schedule = "dynamic" if piece.num_programs < FEW_PROGRAMS else "static"
                loop = f"omp for{collapse} schedule({schedule})" if heads else "omp single"
                code.pragma(f"{loop} nowait")
            with code.block(*heads or [""]):
                _program(code, piece, part, [])


def _unsafe_axes(kernel: ir.Kernel) -> frozenset[str]:
    """Axes along which two programs may write one address (scatter)."""
    scatters = [s for s in statements(kernel.body) if isinstance(s, ir.StoreTile) and is_scatter(s)]
    unsafe: set[str] = set()
    for store in scatters:
        safe = distinct_axes(store.index)
        unsafe |= {a.name for a in kernel.axes if a.name not in safe}
    return frozenset(unsafe)


def _grid(code: Code, kernel: ir.Kernel, body: Body) -> None:
    """The grid's loops around the body of one program."""
    unsafe = _unsafe_axes(kernel)
    grid = [a for a in kernel.grid if a.steps != 1 or a.block > 1]
    safe = [a for a in grid if a.name not in unsafe]
    order = safe + [a for a in grid if a.name in unsafe]
    members = 1 if kernel.table is None else kernel.table.members
    programs = members * prod(a.steps for a in safe)
    work = work_of(kernel)
    loops = [s for s in kernel.body if isinstance(s, ir.Loop)]
    chunked = [
        s
        for s in loops
        if programs < FEW_PROGRAMS
        and loop_work(kernel, s) >= PARALLEL_WORK
        and not unsafe
        and kernel.axis(s.axis).steps > 1
        and not any(isinstance(inner, (ir.ScanTile, ir.DotTile)) for inner in statements(s.body))
    ]
    heads = [body.loop_head(a) for a in order]
    shared = len(safe)
    if members > 1:
        heads.insert(0, f"for ({body.ctype} member = 0; member < {members}; member++)")
        shared += 1
    if not chunked and programs > 1 and work >= PARALLEL_WORK:
        code.shared(shared)
    if not heads:
        _program(code, kernel, body, chunked)
        return
    with code.block(*heads):
        _program(code, kernel, body, chunked)


def _program(code: Code, kernel: ir.Kernel, body: Body, chunked: list[ir.Loop]) -> None:
    body.open_member()
    grid = [a for a in kernel.grid if a.steps != 1 or a.block > 1]
    for a in grid:
        body.open_axis(a)
    body.skip_unneeded(grid)
    start = len(code.lines)
    for a in kernel.axes:
        if a.role is Role.FULL:
            body.open_full(a)
    before: list[ir.Stmt] = []
    for stmt in kernel.body:
        if stmt not in chunked:
            before.append(stmt)
            continue
        assert isinstance(stmt, ir.Loop)
        body.scope(before)
        before = []
        _chunks(code, kernel, body, stmt)
    body.scope(before)
    if body.heap_bytes:
        indent = "  " * code.depth
        if body.heap_bytes <= STACK:
            line = f"char heap[{body.heap_bytes}] __attribute__((aligned(64)));"
        else:
            line = f"char *const heap = tg_heap({body.heap_bytes});"
            code.line("free(heap);")
        code.lines.insert(start, indent + line)


def _chunks(code: Code, kernel: ir.Kernel, body: Body, loop: ir.Loop) -> None:
    """A loop in chunks that threads share:

    {
      float t0_chunk[64][1];
      #pragma omp parallel for schedule(static)
      for (int chunk = 0; chunk < 64; chunk++) {
        float t0 = 0;
        for (int i = chunk_lo; i < chunk_hi; i++) ...;
        t0_chunk[chunk][0] = t0;
      }
      for (int chunk = 0; chunk < 64; chunk++) t0 += t0_chunk[chunk][0];
    }
    """
    axis = kernel.axis(loop.axis)
    inner = {s.out.id for s in statements(loop.body) if isinstance(s, ir.Init)}
    carries: dict[int, ir.Accumulate] = {}
    for s in statements(loop.body):
        if isinstance(s, ir.Accumulate) and s.carry.id not in inner:
            carries[s.carry.id] = s
    chunks = min(MAX_CHUNKS, axis.steps, max(2, loop_work(kernel, loop) // CHUNK_WORK))
    sizes = {tile: prod(map(body.block, s.carry.dims)) for tile, s in carries.items()}
    chunks = max(1, min(chunks, CHUNK_ELEMENTS // max(sizes.values(), default=1)))
    body.declare_stashes(loop)
    with code.block(""):  # two loops may add to one carry, each with parts of its own
        for tile, s in carries.items():
            code.line(f"{ops.array_type(s.carry.dtype)} {s.carry}_chunk[{chunks}][{sizes[tile]}];")
        code.shared(1)
        with code.block(f"for (int chunk = 0; chunk < {chunks}; chunk++)"):
            scale = f" * {axis.block}" if axis.block > 1 else ""
            steps = axis.steps
            code.line(
                f"const {body.ctype} chunk_lo = (ptrdiff_t){steps} * chunk / {chunks}{scale};"
            )
            end = f"(ptrdiff_t){steps} * (chunk + 1) / {chunks}{scale}"
            code.line(
                f"const {body.ctype} chunk_hi = {end};"
                if axis.block == 1
                else f"const {body.ctype} chunk_hi = tg_min({end}, {axis.extent});"
            )
            _chunk(code, body, loop, carries.values(), sizes)
        for s in carries.values():
            size = sizes[s.carry.id]
            place = f"{s.carry}[e]" if s.carry.dims else str(s.carry)
            text = ops.combine(s.op, place, f"{s.carry}_chunk[chunk][e]", s.carry.dtype)
            code.line(f"for (int chunk = 0; chunk < {chunks}; chunk++)")
            code.line(f"  for (int e = 0; e < {size}; e++) {place} = {text};")


def _chunk(
    code: Code,
    body: Body,
    loop: ir.Loop,
    carries: Iterable[ir.Accumulate],
    sizes: Mapping[int, int],
) -> None:
    """What one thread does for one chunk: its own carries, filled and put among the parts."""
    saved_arrays = dict(body.arrays)
    for s in carries:
        start = ops.identity(s.op, s.carry.dtype)
        if s.carry.dims:
            size = sizes[s.carry.id]
            code.line(f"{ops.array_type(s.carry.dtype)} {s.carry}[{size}];")
            code.line(f"for (int e = 0; e < {size}; e++) {s.carry}[e] = {start};")
        else:
            code.line(f"{ops.register_type(s.carry.dtype)} {s.carry} = {start};")
    body.loop(loop, "chunk_lo", "chunk_hi")
    for s in carries:
        if s.carry.dims:
            size = sizes[s.carry.id]
            code.line(f"for (int e = 0; e < {size}; e++) {s.carry}_chunk[chunk][e] = {s.carry}[e];")
        else:
            code.line(f"{s.carry}_chunk[chunk][0] = {s.carry};")
    body.arrays = saved_arrays
