"""Text of a tile program.

In: a Kernel. Out: text, stable from run to run. Invariant: two kernels with the same text are the
same program.
"""

from __future__ import annotations

from tgrad.kernel import ir


def print_kernel(kernel: ir.Kernel) -> str:
    """The kernel as indented text, a statement a line."""
    lines = [f"kernel {kernel.name}"]
    for s in kernel.slots:
        lines.append(f"  {s.role} {s.name}: {s.dtype.short}[{s.size}]")
    if kernel.table is not None:
        own = " ".join(kernel.slots[number].name for number in kernel.table.own)
        lengths = "".join(f" {n}" for n in kernel.table.lengths)
        lines.append(f"  members {kernel.table.members} own {own}{lengths and ' lengths'}{lengths}")
    for a in kernel.axes:
        covers = " ".join(f"{c.name}={c.extent}" for c in a.covers)
        lines.append(f"  {a.role.value} {a.name} = {a.extent} by {a.block} ({covers})")
    lines += _body(kernel, kernel.body, 2)
    return "\n".join(lines) + "\n"


def _body(kernel: ir.Kernel, body: tuple[ir.Stmt, ...], indent: int) -> list[str]:
    lines: list[str] = []
    for stmt in body:
        if isinstance(stmt, ir.Loop):
            start = f" from max({', '.join(map(str, (0, *stmt.start)))})" if stmt.start else ""
            end = kernel.axis(stmt.axis).extent
            stop = f" to min({', '.join(map(str, (end, *stmt.stop)))})" if stmt.stop else ""
            lines.append(" " * indent + f"loop {stmt.axis}{start}{stop}{_mask(stmt.needs)}:")
            lines += _body(kernel, stmt.body, indent + 2)
            if stmt.late:
                lines += [" " * indent + "then:", *_body(kernel, stmt.late, indent + 2)]
        else:
            lines.append(" " * indent + _text(kernel, stmt))
    return lines


def _typed(tile: ir.Tile) -> str:
    return f"{tile} : {tile.dtype.short}[{' '.join(tile.dims)}]"


def _mask(mask: ir.Mask) -> str:
    return " if " + " and ".join(map(str, mask)) if mask else ""


def _text(kernel: ir.Kernel, stmt: ir.Stmt) -> str:
    match stmt:
        case ir.LoadTile():
            name = kernel.slots[stmt.slot].name
            return f"{_typed(stmt.out)} = load {name}[{stmt.index}]{_mask(stmt.mask)}"
        case ir.ConstTile():
            return f"{_typed(stmt.out)} = {stmt.value!r}"
        case ir.IndexTile():
            return f"{_typed(stmt.out)} = index {stmt.index}"
        case ir.InsideTile():
            return f"{_typed(stmt.out)} = inside{_mask(stmt.mask)}"
        case ir.ComputeTile():
            return f"{_typed(stmt.out)} = {stmt.op} {', '.join(map(str, stmt.args))}"
        case ir.ReduceTile():
            return f"{_typed(stmt.out)} = {stmt.op} {stmt.arg} over {' '.join(stmt.axes)}"
        case ir.ScanTile():
            after = f", after {stmt.carry}" if stmt.carry is not None else ""
            args = ", ".join(map(str, stmt.args))
            return f"{_typed(stmt.out)} = {stmt.op} {args} along {stmt.axis}{after}"
        case ir.SortTile():
            first = f" first {stmt.first}" if stmt.first else ""
            return f"{_typed(stmt.out)} = argsort {stmt.arg} along {stmt.axis}{first}"
        case ir.Init():
            return f"init {_typed(stmt.out)} = {stmt.value!r}"
        case ir.Accumulate():
            return f"{stmt.carry} = {stmt.op} {stmt.carry}, {stmt.value}"
        case ir.Keep():
            return f"keep {stmt.carry} = {stmt.value}"
        case ir.AccumulateExp():
            return f"{stmt.largest}, {stmt.total} += exp {stmt.value}"
        case ir.JoinExp():
            outs = f"{_typed(stmt.out_largest)}, {_typed(stmt.out_total)}"
            return f"{outs} = join exp {stmt.largest}, {stmt.total} over {' '.join(stmt.axes)}"
        case ir.DotTile():
            return f"{stmt.carry} += dot {stmt.a}, {stmt.b} over {stmt.k}"
        case ir.Stash():
            return f"stash {_typed(stmt.out)} = {stmt.value} over {' '.join(stmt.axes)}"
        case ir.Unstash():
            return f"{_typed(stmt.out)} = unstash {stmt.stash}"
        case ir.StoreTile():
            sign = "=" if stmt.combine == "set" else f"{stmt.combine}="
            name = kernel.slots[stmt.slot].name
            return f"{name}[{stmt.index}] {sign} {stmt.value}{_mask(stmt.mask)}"
        case _:
            raise AssertionError(stmt)
