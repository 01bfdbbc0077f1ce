"""Members of a batch in Triton: which one a program belongs to, and its pointers.

In: a Kernel with a table. Out: the first lines of the function. Invariant: what is not shared comes
from one array of int64 on the device, the argument `table_ptr`: the addresses of the first own
slot, of the second, ..., and, where members differ in length, their first programs and lengths.

    members = tl.arange(0, 4)
    first = tl.load(table_ptr + 6 + members, mask=members < 3, other=9)
    member = tl.sum((first <= tl.program_id(0)).to(tl.int32), 0) - 1
    length = tl.load(table_ptr + 9 + member).to(tl.int32)
    pid = (tl.program_id(0) - tl.load(table_ptr + 6 + member)).to(tl.int32)
    in0_ptr = tl.multiple_of(tl.load(table_ptr + member).to(tl.pointer_type(tl.float32)), 16)
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from math import gcd

from tgrad import dtype as dt
from tgrad.fusion.region import Slot, Table
from tgrad.kernel.ir import Kernel, PointerTable, TileAxis, count_programs, programs_of_members
from tgrad.triton_gen.op_table import TRITON_TYPES

ALIGNMENT = 16
"""Bytes that every buffer's address is a multiple of, and elements that lengths may be."""


def arguments_of(kernel: Kernel) -> tuple[Slot, ...]:
    """The function's pointer arguments, as slots: the shared ones, then the table."""
    if kernel.table is None:
        return kernel.slots
    pointers = pointers_of(kernel)
    assert pointers is not None
    shared = (s for n, s in enumerate(kernel.slots) if n not in kernel.table.own)
    size = len(pointers.own) + len(pointers.numbers)
    return (*shared, Slot("table", dt.int64, size, "in"))


def pointers_of(kernel: Kernel) -> PointerTable | None:
    """How a launch's buffers become arguments; None if each is one."""
    table = kernel.table
    if table is None:
        return None
    shared: list[int] = []
    own: list[int] = []
    for slot in range(len(kernel.slots)):
        count = len(shared) + len(own)
        if slot in table.own:
            own += range(count, count + table.members)
        else:
            shared.append(count)
    numbers = (*_first_programs(kernel, table), *table.lengths)
    return PointerTable(tuple(shared), tuple(own), numbers)


def _first_programs(kernel: Kernel, table: Table) -> tuple[int, ...]:
    if not table.lengths:
        return ()
    return tuple([0, *accumulate(programs_of_members(kernel.axes, table))][:-1])


def member_lines(kernel: Kernel, table: Table) -> Iterator[str]:
    """`member`, its `pid` and `length`, and the pointers of its slots."""
    end = len(table.own) * table.members
    programs = count_programs(kernel.axes, table)
    if programs == table.members:
        yield "member = tl.program_id(0)"
    elif not table.lengths:
        yield f"member = tl.program_id(0) // {programs // table.members}"
        yield f"pid = tl.program_id(0) % {programs // table.members}"
    else:
        yield f"members = tl.arange(0, {1 << (table.members - 1).bit_length()})"
        within = f"mask=members < {table.members}, other={programs}"
        yield f"first = tl.load(table_ptr + {end} + members, {within})"
        yield "member = tl.sum((first <= tl.program_id(0)).to(tl.int32), 0) - 1"
        start = f"tl.load(table_ptr + {end} + member)"
        yield f"pid = (tl.program_id(0) - {start}).to(tl.int32)"
    if table.lengths:
        narrow = ".to(tl.int32)" if max(table.lengths) < 2**31 else ""
        length = f"tl.load(table_ptr + {end + table.members} + member){narrow}"
        divisor = gcd(ALIGNMENT, *table.lengths)
        yield "length = " + (f"tl.multiple_of({length}, {divisor})" if divisor > 1 else length)
    for number, slot in enumerate(table.own):
        dtype = kernel.slots[slot].dtype
        kind = "tl.uint8" if dtype.is_bool else TRITON_TYPES[dtype.name]
        place = f"{number * table.members} + member" if number else "member"
        address = f"tl.load(table_ptr + {place}).to(tl.pointer_type({kind}))"
        yield f"{kernel.slots[slot].name}_ptr = tl.multiple_of({address}, {ALIGNMENT})"


def is_ragged(kernel: Kernel, axis: TileAxis) -> bool:
    """Whether the last tile of some member has lanes beyond the extent."""
    table = kernel.table
    if table is None or not table.lengths:
        return axis.is_ragged
    return any(n % axis.block for n in table.lengths)


def extent_text(kernel: Kernel, axis: TileAxis) -> str:
    """Elements along an axis, which members may have of their own."""
    has_lengths = kernel.table is not None and kernel.table.lengths
    return "length" if has_lengths else str(axis.extent)
