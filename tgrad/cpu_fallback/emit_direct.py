"""Products of few steps whose vector operand is read where memory has it: no copies of windows.

In: a DotProgram whose vector operand is windows of an image, its plan. Out: C lines that compute a
tile of the result. Invariant: an element is summed over k in order, as in emit_dot.py.

    for each block of mr rows (channels), each register tile of nr places:
      for (int k = 0; k < 25; k++) {
        y0 = places of the window at k, from the one or two runs of the image that they lie in
        s0_0 += row[0][k] * y0; ...
      }
      tile = s;  epilogue on tile, stores

Where a convolution has few channels, packing its windows, keeping sums in a buffer and reading them
again takes as long as its products. Rows come first, so that few results are written side by side,
each in order (a 5x5 convolution of 128x1x28x28 to 32 by hand, two cores of Zen 4, AVX-512: with the
places first 0.90 of the packed one's time, so 0.58; as it is generated 0.76; 2026-11).
"""

from __future__ import annotations

from collections.abc import Iterable

from tgrad import dtype as dt
from tgrad.cpu_fallback.dot_plan import DotPlan, DotProgram, carry_dtype
from tgrad.cpu_fallback.emit_body import Array, Body
from tgrad.cpu_fallback.emit_index import Run, common_run
from tgrad.cpu_fallback.emit_pack import Packer
from tgrad.cpu_fallback.emit_vectors import LANES, VectorTable, declare_offsets, parts_of
from tgrad.cpu_fallback.schedule import schedule
from tgrad.kernel import ir

MOST_K = 128
"""Steps of k beyond which packing and keeping sums cost little beside the products."""

MOST_MASKED_ROWS = 128
"""Rows of a padded image's product: lanes inside the image are found anew for each register tile,
and with 256 rows that takes as long as packing (3 channels of 32x32, Zen 4: 1.0 of the time, with
64 rows 0.85, with 16 0.6; 2026-11)."""

MOST_UNROLLED = 49
"""Steps of k that are written out, so that addresses of the window are constants."""

MOST_RUNS = 2
"""Runs of memory that a register may overlap: each takes a load and a mask register."""


def is_direct(program: DotProgram, plan: DotPlan, body: Body) -> bool:
    """Whether the vector operand can be read in place, and the epilogue done a register tile at a
    time."""
    kernel, k = program.kernel, program.kernel.axis(program.dot.k)
    if plan.v_mode != "lanes" or plan.r_mode != "rows" or kernel.limits or k.extent > MOST_K:
        return False
    if plan.lanes != LANES or k.steps > 1 or carry_dtype(program) is not dt.float32:
        return False
    if plan.words is not None:
        return False
    found = _windows(program, plan, body).window(plan.v)
    if found is None or parts_of(found[1]) > MOST_RUNS:
        return False
    if found[0].mask and kernel.axis(plan.r).extent > MOST_MASKED_ROWS:
        return False
    is_plain = all(
        isinstance(s, ir.Pure) or (isinstance(s, ir.StoreTile) and s.combine == "set")
        for s in program.after
    )
    return is_plain and sum(len(g.dims) > 1 for g in schedule(kernel, program.after)) == 1


def _windows(program: DotProgram, plan: DotPlan, body: Body) -> Packer:
    return Packer(body, plan.vector, plan, program.dot.k, dt.float32, "v")


def emit_direct(program: DotProgram, plan: DotPlan, rows: str, along_r: int, body: Body) -> None:
    """All register tiles of the present tile, with what follows them.

    Args:
        rows: C text of the address of the packed row operand.
        along_r: elements between its rows.
    """
    code, mr, nv, nr = body.code, plan.mr, plan.nv, plan.nr
    v, r, kk = (body.axis_name[x] for x in (plan.v, plan.r, program.dot.k))
    extent = body.kernel.axis(program.dot.k).extent
    table = _windows(program, plan, body).registers(plan.v, nv)
    sums = [[f"s{i}_{j}" for j in range(nv)] for i in range(mr)]
    with code.block(
        f"for ({body.ctype} {r}_at = {r}_lo; {r}_at < {r}_hi; {r}_at += {mr})",
        f"for ({body.ctype} {v}_at = {v}_lo; {v}_at < {v}_hi; {v}_at += {nr})",
    ):
        code.line(f"float tile[{mr * nr}] __attribute__((aligned(64)));")
        code.line("tg_float_16 " + ", ".join(f"{s} = {{0}}" for row in sums for s in row) + ";")
        code.line(f"const {body.ctype} w = ({v}_at - {v}_lo) / {LANES};")
        code.line(f"const float *const a = {rows} + ({r}_at - {r}_lo) * {along_r};")
        if extent <= MOST_UNROLLED:
            code.pragma(f"GCC unroll {extent}")
        with code.block(f"for ({body.ctype} {kk} = 0; {kk} < {extent}; {kk}++)"):
            declare_offsets(body, table)
            for j in range(nv):
                _read(table, j, plan, body)
                code.line(f"tg_keep(y{j});")
            for i, row in enumerate(sums):
                adds = " ".join(f"{s} += x * y{j};" for j, s in enumerate(row))
                code.line(f"{{ const float x = a[{i * along_r} + {kk}]; {adds} }}")
        for i, row in enumerate(sums):
            for j, s in enumerate(row):
                code.line(f"*(tg_float_16 *)(tile + {i * nr + j * LANES}) = {s};")
        _epilogues(program, plan, body)


def _read(table: VectorTable, j: int, plan: DotPlan, body: Body) -> None:
    """y_j: the places of vector j of a register tile, each from the run that it lies in. Where all
    tiles begin with a run, that is known for vectors that lie in one."""
    code, w, axis, period = body.code, f"w + {j}", body.kernel.axis(plan.v), table.period
    is_even = plan.nr % period == 0 and axis.block % period == 0 and axis.extent % plan.nr == 0
    first = period - j * LANES % period
    if is_even and first >= LANES and not table.bounds:
        at = table.address_of(body, w, 0)
        code.line(f"tg_float_16 y{j} = *(const tg_float_16 *)({at});")
        return
    code.line(f"tg_float_16 y{j} = {{0}};")
    for p in range(table.parts):
        code.line(f"y{j} = {table.part(body, w, p, f'y{j}')};")


def _epilogues(program: DotProgram, plan: DotPlan, body: Body) -> None:
    """What follows the sums of the register tile at v_at and r_at: loops of known lengths where it
    is whole and lies in one run of the stores, else the usual ones."""
    code, carry = body.code, program.dot.carry
    strides = {plan.r: plan.nr, plan.v: 1}
    body.arrays[carry.id] = Array("tile", tuple((d, strides[d]) for d in carry.dims))
    sizes, tests = {plan.r: plan.mr, plan.v: plan.nr}, []
    for axis, size in sizes.items():
        name = body.axis_name[axis]
        code.line(f"const {body.ctype} {name}_end = tg_min({name}_at + {size}, {name}_hi);")
        tests.append(f"{name}_end - {name}_at == {size}")
    run = _run_of(program, plan.v)
    v = body.axis_name[plan.v]
    if run is not None and run.period:
        tests.append(f"{v}_at % {run.period} <= {run.period - plan.nr}")
    if run is None or (run.period and (run.phase or run.period < plan.nr)):
        _epilogue(program, sizes, body)
        return
    body.whole = sizes
    code.line(f"if ({' && '.join(tests)})")
    _epilogue(program, sizes, body)
    body.whole = {}
    code.line("else")
    _epilogue(program, sizes, body)


def _run_of(program: DotProgram, axis: str) -> Run | None:
    """How the indices of what follows the sums step along an axis."""
    indices = [e for s in program.after for e in ir.indices_of(s) if axis in e.variables()]
    return None if any(e.loaded() for e in indices) else common_run(indices, axis)


def _epilogue(program: DotProgram, axes: Iterable[str], body: Body) -> None:
    code, scalars, arrays = body.code, dict(body.scalars), dict(body.arrays)
    with code.block(""):
        for axis in axes:
            name = body.axis_name[axis]
            code.line(f"const {body.ctype} {name}_lo = {name}_at, {name}_hi = {name}_end;")
        body.scope(program.after)
    body.scalars, body.arrays = scalars, arrays
