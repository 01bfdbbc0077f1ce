"""C of a batch whose members differ in length: one loop over all elements of all members.

In: a Kernel with a table of lengths. Out: C lines. Invariant: threads share elements, not members,
so a large member does not wait for one thread; results do not depend on the number of threads.

Maps: a chunk of all elements visits the members that lie in it.

    static const ptrdiff_t first[3] = {0, 1000, 1010};
    #pragma omp parallel for schedule(static)
    for (ptrdiff_t chunk = 0; chunk < 1010; chunk += 512) {
      const ptrdiff_t chunk_end = tg_min(chunk + 512, 1010);
      for (ptrdiff_t member = tg_member(first, 2, chunk); first[member] < chunk_end; member++) {
        float *restrict out0 = (float *)slots[1 + member];
        const int i_lo = tg_max(chunk - first[member], 0);
        const int i_hi = tg_min(chunk_end, first[member + 1]) - first[member];
        ...
      }
    }

Reductions: pieces of the members have carries of their own, joined in order for each member.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from tgrad.cpu_fallback import op_table as ops
from tgrad.cpu_fallback.code import Code, work_of
from tgrad.cpu_fallback.emit_body import Body
from tgrad.kernel import ir
from tgrad.kernel.ir import Role

PIECE = 16384
"""Elements of a member that are reduced together."""

MAX_PIECES = 1 << 14
"""Pieces of all members (their carries lie on the stack)."""


def emit_lengths(code: Code, kernel: ir.Kernel, body: Body, parallel_work: int) -> None:
    """The loops around the program of each member.

    Args:
        parallel_work: elementary operations that are worth threads.
    """
    assert kernel.table is not None
    lengths = kernel.table.lengths
    share = sum(lengths) / (max(lengths) * len(lengths))
    if kernel.axes[0].role is Role.GRID:
        _map(code, kernel, body, lengths, work_of(kernel) >= parallel_work)
        return
    shared = work_of(kernel) * share >= parallel_work
    loops = [s for s in kernel.body if isinstance(s, ir.Loop)]
    if len(loops) == 1:
        _reduce(code, kernel, body, lengths, loops[0], shared)
        return
    _numbers(code, "length", lengths)
    if shared:
        code.shared(1)
    with code.block(f"for (ptrdiff_t member = 0; member < {len(lengths)}; member++)"):
        body.open_member()
        body.scope(kernel.body)


def _numbers(code: Code, name: str, numbers: Sequence[int]) -> None:
    """A table of the kernel, in lines of 100 columns."""
    code.line(f"static const ptrdiff_t {name}[{len(numbers)}] = {{")
    line = " "
    for n in numbers:
        if len(line) + len(f" {n},") > 96:
            code.line(line)
            line = " "
        line += f" {n},"
    code.line(line)
    code.line("};")


def _map(
    code: Code, kernel: ir.Kernel, body: Body, lengths: tuple[int, ...], parallel: bool
) -> None:
    (axis,) = kernel.axes
    count, total = len(lengths), sum(lengths)
    name = body.axis_name[axis.name]
    _numbers(code, "first", [0, *accumulate(lengths)])
    if parallel:
        code.shared(1)
    with code.block(f"for (ptrdiff_t chunk = 0; chunk < {total}; chunk += {axis.block})"):
        code.line(f"const ptrdiff_t chunk_end = tg_min(chunk + {axis.block}, {total});")
        with code.block(
            f"for (ptrdiff_t member = tg_member(first, {count}, chunk); "
            "first[member] < chunk_end; member++)"
        ):
            body.open_member()
            code.line(f"const {body.ctype} {name}_lo = tg_max(chunk - first[member], 0);")
            end = "tg_min(chunk_end, first[member + 1]) - first[member]"
            code.line(f"const {body.ctype} {name}_hi = {end};")
            body.scope(kernel.body)


def _reduce(
    code: Code,
    kernel: ir.Kernel,
    body: Body,
    lengths: tuple[int, ...],
    loop: ir.Loop,
    parallel: bool,
) -> None:
    count, piece = len(lengths), PIECE
    while sum(-(-n // piece) for n in lengths) > max(MAX_PIECES, count):
        piece *= 2
    first = [0, *accumulate(-(-n // piece) for n in lengths)]
    at = kernel.body.index(loop)
    before, after = kernel.body[:at], kernel.body[at + 1 :]
    sums = [s for s in loop.body if isinstance(s, ir.Accumulate)]
    _numbers(code, "first", first)
    _numbers(code, "length", lengths)
    for s in sums:
        code.line(f"{ops.array_type(s.carry.dtype)} {s.carry}_piece[{first[-1]}];")
    if parallel:
        code.shared(1)
    with code.block(f"for (ptrdiff_t piece = 0; piece < {first[-1]}; piece++)"):
        code.line(f"const ptrdiff_t member = tg_member(first, {count}, piece);")
        body.open_member()
        code.line(f"const {body.ctype} piece_lo = (piece - first[member]) * {piece};")
        code.line(f"const {body.ctype} piece_hi = tg_min(piece_lo + {piece}, length[member]);")
        body.scope(before)
        body.loop(loop, "piece_lo", "piece_hi")
        for s in sums:
            code.line(f"{s.carry}_piece[piece] = {s.carry};")
    with code.block(f"for (ptrdiff_t member = 0; member < {count}; member++)"):
        body.open_member()
        body.scope(before)
        with code.block(
            "for (ptrdiff_t piece = first[member]; piece < first[member + 1]; piece++)"
        ):
            for s in sums:
                text = ops.combine(s.op, str(s.carry), f"{s.carry}_piece[piece]", s.carry.dtype)
                code.line(f"{s.carry} = {text};")
        body.scope(after)
