"""Reductions over neighbourhoods in C.

In: a `Neighbourhood`. Out: C lines. Invariant: nothing outside of slots is read or written.

    for each image, for each band of rows:
      plane0[u, v] = what depends on a place alone, for each place that a tap reads
      for y:
        line0 = what else the row loads
        for x in whole registers:      all reductions of a pixel, of plane0[y + i, x + j], to line1
        a row of the result = line1
"""

from __future__ import annotations

from collections.abc import Sequence

from tgrad.cpu_fallback import op_table as ops
from tgrad.cpu_fallback.code import work_of
from tgrad.cpu_fallback.emit_body import Body
from tgrad.cpu_fallback.emit_plane import PlaneSizes, fill_plane
from tgrad.cpu_fallback.neighbourhood_plan import BAND, Neighbourhood
from tgrad.cpu_fallback.plane_plan import U, V


def emit_neighbourhood(program: Neighbourhood, body: Body, least: int) -> None:
    """The function's body; from `least` operations on threads share images."""
    code, kernel, x, y = body.code, program.kernel, program.x, program.y
    body.axis_name |= {U: U, V: V}
    rows = Body(program.rows, code, body.machine)
    rows.axis_name[BAND] = BAND
    slots = program.rows.slots[len(kernel.slots) :]
    names = rows.slot_name[len(kernel.slots) :]
    kinds = [ops.memory_type(slot.dtype) for slot in slots]
    heads = [body.loop_head(kernel.axis(n)) for n in program.units]
    heads.append(f"for ({body.ctype} {BAND} = 0; {BAND} < {y.steps}; {BAND} += {program.band})")
    if work_of(kernel) >= least:
        code.shared(len(heads))
    with code.block(*heads):
        place = f"tg_scratch({sum(_bytes(s.nbytes) for s in slots)})"
        for slot, name, kind in zip(slots, names, kinds):
            code.line(f"{kind} *const restrict {name} = ({kind} *)({place});")
            place = f"(char *){name} + {_bytes(slot.nbytes)}"
        lanes = body.machine.lanes(4)
        sizes = PlaneSizes(lanes, program.width, program.part, program.band, 0, x, y)
        code.line(f"const {body.ctype} band_end = tg_min({BAND} + {program.band}, {y.steps});")
        for plane, name, kind in zip(program.planes, names, kinds):
            fill_plane(plane, sizes, body, name, kind)
        own = len(program.planes)
        with code.block(rows.loop_head(program.rows.axis(y.step), BAND, "band_end")):
            _lines(program, rows, names[own:], False)
            rows.open_full(program.rows.axis(x.step))
            rows.scope(program.rows.body)
            _lines(program, rows, names[own:], True)


def _lines(program: Neighbourhood, rows: Body, names: Sequence[str], stores: bool) -> None:
    """Copy lines from or to slots."""
    for line, name in zip(program.lines, names, strict=True):
        if line.is_store == stores:
            place = f"{rows.slot_name[line.slot]} + {rows.index(line.start)}"
            to, source = (place, name) if stores else (name, place)
            rows.code.line(
                f"__builtin_memcpy({to}, {source}, {program.x.steps} * sizeof(*{name}));"
            )


def _bytes(n: int) -> int:
    """Up to whole cache lines."""
    return -(-n // 64) * 64
