"""The epilogue of a dot in parts of its columns, so that a large tile leaves registers for it.

In: the Emitter of a kernel whose Config has `epilogue_parts`. Out: its lines. Invariant: each
element is computed and stored once; what an epilogue reads is loaded part by part, after the dot.

    t3 = tl.full([BLOCK_M, BLOCK_N], 0.0, tl.float32)
    for k0 in tl.range(0, 768, BLOCK_K):
        ...
    t3_0, t3_1 = _halves(t3)
    t3_parts = (t3_0, t3_1)
    for part in tl.static_range(2):
        n = n0 + part * PART_N + tl.arange(0, PART_N)
        t3_part = t3_parts[part]
        t4 = tl.load(in2_ptr + ((m * 768)[:, None] + n[None, :]))
        ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tgrad.kernel import ir
from tgrad.triton_gen.emit_batch import extent_text, is_ragged
from tgrad.triton_gen.emit_index import Named

if TYPE_CHECKING:
    from tgrad.triton_gen.emit import Emitter


def columns_of(kernel: ir.Kernel) -> str:
    """The axis along which the result of a kernel's dot is cut."""
    return _dots_in(kernel.body)[0].carry.dims[-1]


def emit_in_parts(out: Emitter) -> None:
    """Print the body of a kernel with dots over one result's axes."""
    body = out.kernel.body
    last = max(i for i, s in enumerate(body) if _dots_in((s,)))
    carries = list(dict.fromkeys(s.carry for s in _dots_in(body)))
    axis = out.kernel.axis(columns_of(out.kernel))
    out.body(body[: last + 1])
    again = _along(axis.name, body[:last], body[last + 1 :], {c.id for c in carries})
    parts = out.config.epilogue_parts
    for carry in carries:
        names = _cut(out, str(carry), parts)
        out.line(f"{carry}_parts = ({', '.join(names)})")
    out.line(f"for part in tl.static_range({parts}):")
    out.depth += 1
    size = f"PART_{axis.name.upper()}"
    out.line(f"{axis.name} = {axis.name}0 + part * {size} + tl.arange(0, {size})")
    if is_ragged(out.kernel, axis):
        out.line(f"{axis.name}_ok = {axis.name} < {extent_text(out.kernel, axis)}")
    for carry in carries:
        out.line(f"{carry}_part = {carry}_parts[part]")
        out.tiles[carry.id] = Named(f"{carry}_part", carry.dtype, carry.dims)
    out.sizes[axis.name] = size
    out.index.steps.pop(axis.name, None)
    out.known = [{}]
    out.body((*again, *body[last + 1 :]))
    out.depth -= 1


def _cut(out: Emitter, name: str, parts: int) -> list[str]:
    """Names of the parts of a tile, in order."""
    names = [name]
    while len(names) < parts:
        halves = [(f"{n}_0", f"{n}_1") for n in names]
        for whole, (low, high) in zip(names, halves):
            out.line(f"{low}, {high} = _halves({whole})")
        names = [n for pair in halves for n in pair]
    return names


def _dots_in(body: tuple[ir.Stmt, ...]) -> list[ir.DotTile]:
    return [s for s in ir.statements(body) if isinstance(s, ir.DotTile)]


def _along(
    axis: str, before: tuple[ir.Stmt, ...], after: tuple[ir.Stmt, ...], cut: set[int]
) -> list[ir.Stmt]:
    """Statements before the dot whose tiles lie along the axis and are needed after it, those cut
    by then not counted."""
    needed = {t for s in after for t in ir.read_numbers(s)} - cut
    found: list[ir.Stmt] = []
    for stmt in reversed(before):
        made = getattr(stmt, "out", None)
        if made is not None and made.id in needed and axis in made.dims:
            found.append(stmt)
            needed |= ir.read_numbers(stmt)
    return found[::-1]
