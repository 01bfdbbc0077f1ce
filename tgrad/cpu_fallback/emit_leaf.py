"""Loops over scalars in C: vector loops with reductions.

In: a Loop whose body is scalar, the Body that emits its kernel. Out: C lines. Invariant: an element
is added in one order, whatever the number of threads.

    #pragma omp simd reduction(+:t3)
    for (int j = 0; j < 1024; j++) { ... t3 = t3 + t2; }

A reduction of little arithmetic runs over several parts of the row at once, each with a carry of
its own, since an addition takes as long as several loads (gcc keeps one vector a carry):

    float t3_1 = 0.0f, t3_2 = 0.0f, t3_3 = 0.0f;
    #pragma omp simd reduction(+:t3) reduction(+:t3_1) reduction(+:t3_2) reduction(+:t3_3)
    for (int j_q = 0; j_q < 256; j_q++) {
      { const int j = j_q; ... t3 = t3 + t2; }
      { const int j = j_q + 256; ... t3_1 = t3_1 + t2; }
      ...
    }
    t3 = (t3 + t3_1) + (t3_2 + t3_3);

Sums of rows that lie in memory, and extrema of all rows, have four registers of 32 bytes, where the
processor has wider ones:

    tg_float_8 t3_0 = {0}, t3_1 = {0}, t3_2 = {0}, t3_3 = {0};
    int j_v = 0;
    for (; j_v + 32 <= 1024; j_v += 32) {
      { const int j = j_v; const tg_float_8 t2 = *(const tg_float_8 *)(x + j); t3_0 += t2; }
      ...

A long sum is cut in strips, which is also more accurate. The last of several passes over a row of
memory is emit_pass.py's, a scan of costly values emit_scan.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tgrad import dtype as dt
from tgrad.cpu_fallback import op_table as ops
from tgrad.cpu_fallback.code import Code, loops_of
from tgrad.cpu_fallback.emit_cases import each_case
from tgrad.cpu_fallback.emit_halves import in_halves
from tgrad.cpu_fallback.emit_index import Run, run_along
from tgrad.cpu_fallback.emit_pass import emit_last_pass
from tgrad.cpu_fallback.emit_scan import emit_scan
from tgrad.graph.op import OPS, Op
from tgrad.kernel import ir
from tgrad.kernel.ir import statements

if TYPE_CHECKING:
    from tgrad.cpu_fallback.emit_body import Body

STRIP = 4096
"""Elements of a long sum that are added in vector lanes before they join the total."""

PARTS = 4
"""Parts of a row (sums of rows of 4096 floats, a core of Zen 3 with gcc 12, in the second-level
cache: 9 us, 6 us with two and 5 us with four; from memory 4.6, 4.1 and 4.0 ms; 2026-11)."""

WIDE = 64
"""Bytes of a vector from which on a row that lies in memory is one part: an addition of that many
takes no longer than reading them, and one stream is fetched better than four (the same sum, a core
of Zen 4, AVX-512: 3.2 against 4.3 ms, two cores 1.9 against 2.3; in the second-level cache 8.2
against 7.3 us for 32 rows; 2026-11)."""

HALF = 8
"""Floats of a register of 32 bytes (sums of rows of 4096 floats on Zen 4, to registers of 64 bytes:
0.93 of the time from memory, 0.97 on two cores, from the last cache 0.93 and 0.89; 2026-11)."""

MAX_PART_COST = 8
"""Arithmetic of an element, in elementary operations, beyond which the carries do not matter."""

MAX_PART_STMTS = 8
"""Statements of an element that are worth writing PARTS times."""

LEAST_PART = 4096
"""Bytes of a part: a page. Prefetchers follow one stream a page (rows of 1024 floats from memory:
4.9 ms, with four parts 7.3 ms)."""


def is_leaf(kernel: ir.Kernel, loop: ir.Loop) -> bool:
    """Whether the body is scalar and has no loops: one vector loop."""
    return kernel.axis(loop.axis).block == 1 and all(
        not isinstance(s, (ir.Loop, ir.DotTile, ir.ReduceTile, ir.Init)) and not loops_of(kernel, s)
        for s in loop.body
    )


def emit_leaf(body: Body, loop: ir.Loop, start: str, stop: str) -> None:
    """The loop from start to stop, C texts."""
    axis = body.kernel.axis(loop.axis)
    carries = [s for s in loop.body if isinstance(s, ir.Accumulate)]
    sums = [s for s in carries if s.op is Op.ADD and s.carry.dtype.is_float]
    name, ctype = body.axis_name[loop.axis], body.ctype
    once = len({c.carry.id for c in carries}) == len(carries)
    has_scan = any(isinstance(s, ir.ScanTile) for s in loop.body)
    simd = once and not has_scan and body.may_vectorise(list(loop.body), loop.axis)
    is_whole = start == "0" and stop == str(axis.extent)
    if simd and is_whole and emit_last_pass(body, loop):
        return
    if has_scan and emit_scan(body, loop, start, stop):
        return
    is_long = simd and bool(sums) and axis.extent > 2 * STRIP
    length = STRIP if is_long else axis.extent
    emit = _emit_loop
    if simd and _is_worth_parts(body, loop.body, length):
        emit = _emit_parts
    elif simd and _is_plain(body, loop):
        emit = _emit_registers
    if not is_long:
        emit(body, loop, start, stop, simd)
        return
    with body.code.block(
        f"for ({ctype} {name}_s = {start}; {name}_s < {stop}; {name}_s += {STRIP})"
    ):
        body.code.line(f"const {ctype} {name}_end = tg_min({name}_s + {STRIP}, {stop});")
        totals = {}
        for s in sums:
            totals[s.carry.id] = body.element(s.carry)
            part = f"{s.carry}_part"
            body.code.line(f"{ops.register_type(s.carry.dtype)} {part} = 0;")
            body.scalars[s.carry.id] = part
        emit(body, loop, f"{name}_s", f"{name}_end", simd)
        for s in sums:
            body.code.line(f"{totals[s.carry.id]} += {s.carry}_part;")
            body.scalars[s.carry.id] = totals[s.carry.id]


def _is_worth_parts(body: Body, stmts: Sequence[ir.Stmt], length: int) -> bool:
    """Whether a step waits for the carries of the last one and for nothing else, and parts of
    `length` elements have pages of their own."""
    carries = [s for s in stmts if isinstance(s, ir.Accumulate)]
    cost = sum(OPS[s.op].cost for s in stmts if isinstance(s, (ir.ComputeTile, ir.Accumulate)))
    loads = [s for s in stmts if isinstance(s, ir.LoadTile)]
    slots = [body.kernel.slots[s.slot] for s in loads]
    itemsize = min((s.dtype.itemsize for s in slots), default=0)
    largest = max((s.size * s.dtype.itemsize for s in slots), default=0)
    return (
        bool(carries)
        and (body.machine.vector_bytes < WIDE or largest <= body.machine.l2)
        and length * itemsize >= PARTS * LEAST_PART
        and cost <= MAX_PART_COST
        and len(stmts) <= MAX_PART_STMTS
        and all(isinstance(s, (ir.Accumulate, ir.ComputeTile, *_LEAVES)) for s in stmts)
        and not any(s.mask or s.index.loaded() for s in loads)
    )


_LEAVES = (ir.LoadTile, ir.ConstTile, ir.IndexTile)


def _is_plain(body: Body, loop: ir.Loop) -> bool:
    """Whether the loop adds up sums, differences and products of rows of float32, and is the first
    that reads one of a slot larger than the second-level cache; or finds their extrema, of a slot
    of any size. (A second pass over a row that the first has fetched is quicker in registers of 64
    bytes: layer norm of rows of 1024, a core of Zen 4, 0.90 of the time with the first pass so, 1.3
    with the second too. Extrema wait for two comparisons: softmax of 4096x1024 on two cores 0.8 of
    the time, 200x512 on one 0.87; 2026-11.)"""
    if body.machine.vector_bytes < WIDE or body.kernel.axis(loop.axis).extent < PARTS * HALF:
        return False
    largest = 0
    wide: set[int] = set()
    for s in loop.body:
        match s:
            case ir.LoadTile():
                slot, run = body.kernel.slots[s.slot], run_along(s.index, loop.axis)
                if not (slot.dtype is s.out.dtype is dt.float32) or s.mask or s.index.loaded():
                    return False
                if run == Run(0, 1):
                    wide.add(s.out.id)
                    if _first_reader(body, s.slot) is loop:
                        largest = max(largest, slot.size * slot.dtype.itemsize)
                elif loop.axis in s.index.variables():
                    return False
            case ir.ComputeTile():
                if s.op not in _SIGNS or s.out.dtype is not dt.float32:
                    return False
                if s.op is Op.MUL and body.is_exact:
                    return False  # a register's product could be rounded with what it is added to
                if any(a.id in wide for a in s.args):
                    wide.add(s.out.id)
            case ir.Accumulate():
                if s.op not in _JOINS or s.carry.dtype is not dt.float32 or s.value.id not in wide:
                    return False
            case ir.ConstTile():
                pass
            case _:
                return False
    cost = sum(OPS[s.op].cost for s in loop.body if isinstance(s, (ir.ComputeTile, ir.Accumulate)))
    adds = any(s.op is Op.ADD for s in loop.body if isinstance(s, ir.Accumulate))
    return largest > (body.machine.l2 if adds else 0) and cost <= MAX_PART_COST


def _first_reader(body: Body, slot: int) -> ir.Loop | None:
    """The first loop without loops inside that reads a slot."""
    for stmt in statements(body.kernel.body):
        if isinstance(stmt, ir.Loop) and any(
            isinstance(s, ir.LoadTile) and s.slot == slot for s in stmt.body
        ):
            return stmt
    return None


_SIGNS = {Op.ADD: "+", Op.SUB: "-", Op.MUL: "*"}
_JOINS = {Op.ADD: "sum", Op.MUL: "prod", Op.MAXIMUM: "max", Op.MINIMUM: "min"}
"""Reductions in registers, with the names of their functions: `tg_max_8` of two registers' lanes,
`tg_all_max_8` and `tg_sum_8` of one's."""


def _emit_loop(body: Body, loop: ir.Loop, start: str, stop: str, simd: bool) -> None:
    """All steps in order."""
    saved = dict(body.scalars)
    with in_halves(body, loop.body, loop.axis, start, stop) as (first, end):
        for _ in each_case(body, loop.body, loop.axis):
            if simd:
                body.code.pragma("omp simd" + _clauses(body, loop, ("",)))
            with body.code.block(body.loop_between(loop.axis, first, end)):
                for stmt in loop.body:
                    body.statement(stmt, escapes=False)
    body.scalars = saved


def _emit_parts(body: Body, loop: ir.Loop, start: str, stop: str, simd: bool) -> None:
    """PARTS parts side by side, then what is left, then the carries added up."""
    code, name, ctype = body.code, body.axis_name[loop.axis], body.ctype
    carries = [s for s in loop.body if isinstance(s, ir.Accumulate)]
    own = {s.carry.id: body.element(s.carry) for s in carries}
    suffixes = ("", *(f"_{part}" for part in range(1, PARTS)))
    is_known = start == "0" and stop.isdecimal()
    if is_known:
        length, end = str(int(stop) // PARTS), str(int(stop) // PARTS * PARTS)
    else:
        length, end = f"{name}_w", f"{start} + {name}_w * {PARTS}"
        code.line(f"const {ctype} {length} = ({stop} - {start}) / {PARTS};")
    for s in carries:
        names = ", ".join(
            f"{own[s.carry.id]}{x} = {ops.identity(s.op, s.carry.dtype)}" for x in suffixes[1:]
        )
        code.line(f"{ops.register_type(s.carry.dtype)} {names};")
    code.pragma("omp simd" + _clauses(body, loop, suffixes))
    first = f"{start} + {length}" if start != "0" else length
    with code.block(f"for ({ctype} {name}_q = {start}; {name}_q < {first}; {name}_q++)"):
        for part, suffix in enumerate(suffixes):
            saved = dict(body.scalars)
            body.scalars |= {tile: f"{text}{suffix}" for tile, text in own.items()}
            with code.block(""):
                step = "" if not part else f" + {length}" + (f" * {part}" if part > 1 else "")
                code.line(f"const {ctype} {name} = {name}_q{step};")
                for stmt in loop.body:
                    body.statement(stmt, escapes=False)
            body.scalars = saved
    if not is_known or end != stop:
        _emit_loop(body, loop, end, stop, simd)
    for s in carries:
        a, b, c, d = (f"{own[s.carry.id]}{x}" for x in suffixes)
        low, high = (ops.combine(s.op, x, y, s.carry.dtype) for x, y in ((a, b), (c, d)))
        code.line(f"{a} = {ops.combine(s.op, low, high, s.carry.dtype)};")


def _emit_registers(body: Body, loop: ir.Loop, start: str, stop: str, simd: bool) -> None:
    """Some registers side by side, then one, then what is left (by no `omp simd`: the end of an
    extremum in lanes takes longer), then the registers joined."""
    code, name, ctype = body.code, body.axis_name[loop.axis], body.ctype
    carries = [s for s in loop.body if isinstance(s, ir.Accumulate)]
    own = {s.carry.id: body.element(s.carry) for s in carries}
    parts = _registers_beside(body, loop)
    step = parts * HALF
    with code.block(""):
        for s in carries:
            identity = "{0}"
            if s.op is not Op.ADD:
                identity += f" + {ops.identity(s.op, s.carry.dtype)}"
                identity = f"(tg_float_{HALF}){identity}"
            names = ", ".join(f"{own[s.carry.id]}_{q} = {identity}" for q in range(parts))
            code.line(f"tg_float_{HALF} {names};")
        code.line(f"{ctype} {name}_v = {start};")
        rest = int(stop) % step if start == "0" and stop.isdecimal() else step - 1
        _register_steps(body, loop, stop, own, parts)
        if rest >= HALF:
            _register_steps(body, loop, stop, own, 1)
        if rest % HALF:
            _emit_loop(body, loop, f"{name}_v", stop, simd=False)
        for s in carries:
            _join_registers(code, s, own[s.carry.id], parts)


def _registers_beside(body: Body, loop: ir.Loop) -> int:
    """Registers of a carry: an extremum waits for two comparisons, a product for a multiplication,
    a sum for an addition (rows of 1024 floats, a core of Zen 4: maxima of a million 0.114 ms with
    4, with 8 0.098; 2026-11)."""
    carries = [s for s in loop.body if isinstance(s, ir.Accumulate)]
    is_alone = len(carries) == 1 and carries[0].op is not Op.ADD
    return 2 * PARTS if is_alone and body.length(loop.axis) >= 4 * PARTS * HALF else PARTS


def _join_registers(code: Code, s: ir.Accumulate, text: str, parts: int) -> None:
    """text += (text_0 + text_1) + (text_2 + text_3), all lanes of it, or what joins there."""
    joins, registers = _JOINS[s.op], [f"{text}_{q}" for q in range(parts)]
    while len(registers) > 1:
        pairs = zip(registers[::2], registers[1::2])
        if s.op is Op.ADD:
            registers = [f"({a} + {b})" for a, b in pairs]
        else:
            registers = [f"tg_{joins}_{HALF}({a}, {b})" for a, b in pairs]
    (joined,) = registers
    if s.op is Op.ADD:
        code.line(f"{text} += tg_sum_{HALF}{joined};")
        return
    code.line(f"{text}_0 = {joined};")
    lanes = f"tg_all_{joins}_{HALF}({text}_0)"
    code.line(f"{text} = {ops.combine(s.op, text, lanes, s.carry.dtype)};")


def _register_steps(
    body: Body, loop: ir.Loop, stop: str, own: Mapping[int, str], parts: int
) -> None:
    """Steps of some registers side by side, as long as there are elements for all of them."""
    code, name, step = body.code, body.axis_name[loop.axis], parts * HALF
    with code.block(f"for (; {name}_v + {step} <= {stop}; {name}_v += {step})"):
        for part in range(parts):
            saved = dict(body.scalars)
            body.scalars |= {tile: f"{text}_{part}" for tile, text in own.items()}
            with code.block(""):
                code.line(f"const {body.ctype} {name} = {name}_v + {part * HALF};")
                _registers(body, loop)
            body.scalars = saved


def _registers(body: Body, loop: ir.Loop) -> None:
    """The statements of a step for the HALF elements from the present one on."""
    wide: set[int] = set()
    for s in loop.body:
        if isinstance(s, ir.LoadTile) and loop.axis in s.index.variables():
            at = f"{body.slot_name[s.slot]} + {body.index(s.index)}"
            text = f"*(const tg_float_{HALF} *)({at})"
        elif isinstance(s, ir.Accumulate) and s.op is not Op.ADD:
            carry = body.element(s.carry)
            value = f"tg_{_JOINS[s.op]}_{HALF}({carry}, {body.element(s.value)})"
            body.code.line(f"{carry} = {value};")
            continue
        elif isinstance(s, ir.ComputeTile) and any(a.id in wide for a in s.args):
            a, b = (body.element(x) for x in s.args)
            text = f"{a} {_SIGNS[s.op]} {b}"
        else:
            body.statement(s, escapes=False)
            continue
        wide.add(s.out.id)
        body.scalars[s.out.id] = str(s.out)
        body.code.line(f"const tg_float_{HALF} {s.out} = {text};")


def _clauses(body: Body, loop: ir.Loop, suffixes: Sequence[str]) -> str:
    """The reduction clauses of the loop's carries, one a part."""
    return "".join(
        f" reduction({ops.reduction_clause(s.op, s.carry.dtype)}:{body.element(s.carry)}{x})"
        for s in loop.body
        if isinstance(s, ir.Accumulate)
        for x in suffixes
    )
