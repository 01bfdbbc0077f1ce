"""A tile program as Triton source.

In: a Kernel, its Config. Out: the text of a Python module with one @triton.jit function. Invariant:
equal kernels give equal bytes; every size, stride and block is a literal; no lane outside an axis
or a mask touches memory or reaches a reduction; no thread overwrites what another has yet to read.

The loop nest of a softmax over r, rows i, in blocks:

    pid = tl.program_id(0)
    i = pid * BLOCK_I + tl.arange(0, BLOCK_I)
    t0 = tl.full([BLOCK_I, BLOCK_R], -inf)
    for r0 in tl.range(0, 5000, BLOCK_R):
        r = r0 + tl.arange(0, BLOCK_R)
        ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.errors import UnsupportedError, VerifyError
from tgrad.graph.index import Index, Var, var
from tgrad.graph.op import REDUCE_COMBINE, Op, identity_of
from tgrad.kernel import ir
from tgrad.kernel.ir import Config, Kernel, Role, Tile, TileAxis, count_launched
from tgrad.triton_gen import (
    emit_dot,
    emit_online,
    emit_parts,
    emit_rest,
    emit_row_values,
    emit_rows,
    emit_whole,
)
from tgrad.triton_gen.descriptors import matrices_of
from tgrad.triton_gen.early_loads import with_early_loads
from tgrad.triton_gen.emit_batch import arguments_of, extent_text, is_ragged, member_lines
from tgrad.triton_gen.emit_index import IndexPrinter, Named, expand, grouped, is_wide
from tgrad.triton_gen.emit_load import emit_load
from tgrad.triton_gen.exponents import LOG2_E, Exponent, find_exponents
from tgrad.triton_gen.float8_loads import float8_loads
from tgrad.triton_gen.late_products import with_late_products
from tgrad.triton_gen.needed_steps import with_needed_steps
from tgrad.triton_gen.online import with_online_sums
from tgrad.triton_gen.op_table import (
    TRITON_TYPES,
    Operand,
    constant,
    literal,
    narrow,
    spell,
    spell_cast,
    typed,
    widen,
)
from tgrad.triton_gen.overwritten import stores_that_wait
from tgrad.triton_gen.picked import with_picked_loads
from tgrad.triton_gen.prelude import GPU, GPU_FLOAT8, INTERPRET, imports, print_prelude
from tgrad.triton_gen.program_order import axes_from_the_end
from tgrad.triton_gen.rounded import exponentials_of_halves, loaded_halves, rounded_tiles
from tgrad.triton_gen.walks import walked_axes

WIDTH = 96


def emit(kernel: Kernel, config: Config, dialect: str = GPU) -> str:
    """Source of a Python module whose function `kernel.name` runs one program of the kernel.

    Args:
        dialect: of prelude.py; they differ in the small functions above the kernel and in how
            narrow floats reach a dot.

    Raises:
        UnsupportedError: an atomic combination that Triton has not.
    """
    kernel = with_online_sums(with_picked_loads(kernel))
    kernel = with_early_loads(kernel, config)
    kernel = with_late_products(kernel) if config.late_products else kernel
    kernel = kernel if config.programs else with_needed_steps(kernel)
    printer = Emitter(kernel, config, dialect)
    printer.run()
    body = "\n".join(printer.lines)
    arguments = ", ".join(f"{s.name}_ptr" for s in arguments_of(kernel))
    prelude = print_prelude(body, dialect)
    jit = f"@triton.jit\ndef {kernel.name}({arguments}):\n{body}\n"
    return (
        _header(kernel, config)
        + imports(prelude)
        + "\n\n"
        + (prelude + "\n\n" if prelude else "")
        + jit
    )


def _header(kernel: Kernel, config: Config) -> str:
    axes = ", ".join(f"{a.name} = {a.extent} by {a.block} ({a.role.value})" for a in kernel.axes)
    lines = [
        f"{kernel.name}, from {kernel.source}",
        "",
        *kernel.equation.splitlines(),
        "",
        f"axes: {axes}",
        f"launch: {count_launched(config, kernel.table)} programs, num_warps={config.num_warps}, "
        f"num_stages={config.num_stages}",
    ]
    return "\n".join(f"# {line}".rstrip() for line in lines) + "\n"


class Emitter:
    """Prints statements; keeps the names in scope and which loops are open."""

    def __init__(self, kernel: Kernel, config: Config, dialect: str):
        self.kernel, self.config, self.dialect = kernel, config, dialect
        self.lines: list[str] = []
        self.depth = 1
        self.tiles: dict[int, Named] = {}
        self.zero_lanes: dict[int, frozenset[str]] = {}
        self.open: set[str] = set()
        self.known: list[dict[str, str]] = [{}]
        far = (a.name for a in kernel.axes if a.steps * a.block >= 2**31)
        self.far_axes = frozenset(far)
        self.index = IndexPrinter(kernel, self.tiles, self.far_axes)
        self.loops = [s for s in ir.statements(kernel.body) if isinstance(s, ir.Loop)]
        bounds = (e for loop in self.loops for e in (*loop.start, *loop.stop))
        starts = {n for e in bounds for n in e.variables()}
        self.matrices = matrices_of(kernel) if config.descriptors else {}
        read = {n for x in self.matrices.values() for n in (x.rows, x.columns)}
        starts |= {n for n in read if kernel.axis(n).role is not Role.LOOP}
        starts |= {x.axis for x in kernel.limits if kernel.axis(x.axis).steps > 1}
        wholes = {x.axis: emit_whole.whole_tiles(kernel, x) for x in self.loops if dialect != GPU}
        self.wholes = {name: whole for name, whole in wholes.items() if whole is not None}
        ends = (e for w in self.wholes.values() for e in (*w.first, *w.last))
        starts |= {n.removesuffix("0") for e in ends for n in e.variables()}
        starts |= self.index.begun(e for s in ir.statements(kernel.body) for e in ir.indices_of(s))
        self.sizes: dict[str, str] = {}
        """Names of the sizes of tiles along axes that are cut; BLOCK_... else."""
        self.float8 = float8_loads(kernel) if dialect == GPU_FLOAT8 else {}
        self.groups = emit_online.groups_of(kernel)
        self.rests = emit_rest.rests_of(kernel, config)
        self.whole = ""
        """The axis of the loop of which no lane is beyond the end."""
        is_gpu = dialect != INTERPRET
        self.rounded = rounded_tiles(kernel) if is_gpu else frozenset[int]()
        self.halves = loaded_halves(kernel) if is_gpu else frozenset[int]()
        short = self.rounded | exponentials_of_halves(kernel, self.halves)
        self.exponents = find_exponents(kernel, short)
        self.exp_sums = emit_row_values.exp_sums(kernel.body)
        self.places: dict[int, Index] = {}
        """Tiles of indices."""
        self.held: frozenset[int] = frozenset()
        self.waiting = stores_that_wait(kernel, config)
        self.walked = walked_axes(kernel, config)
        self.in_parts = config.epilogue_parts > 1
        self.starts = starts | ({emit_parts.columns_of(kernel)} if self.in_parts else set())

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def shape(self, dims: Iterable[str]) -> str:
        """Shape of a tile as text."""
        return "[" + ", ".join(map(self.size, dims)) + "]"

    def size(self, name: str) -> str:
        """Elements of a tile along an axis as text."""
        return self.sizes.get(name, f"BLOCK_{name.upper()}")

    # -- the frame of the function --------------------------------------------------------------

    def run(self) -> None:
        for axis in self.kernel.axes:
            if axis.block > 1:
                self.line(f"BLOCK_{axis.name.upper()}: tl.constexpr = {axis.block}")
        for name, size in self.rests.items():
            self.line(f"REST_{name.upper()}: tl.constexpr = {size}")
        if self.in_parts:
            axis = self.kernel.axis(emit_parts.columns_of(self.kernel))
            size = axis.block // self.config.epilogue_parts
            self.line(f"PART_{axis.name.upper()}: tl.constexpr = {size}")
        if self.kernel.table is not None:
            for line in member_lines(self.kernel, self.kernel.table):
                self.line(line)
        self._matrices()
        self._programs()
        self._skip_unneeded()
        for axis in self.kernel.axes:
            if axis.role is Role.FULL and axis.block > 1:
                self._axis(axis, "")
        if self.in_parts:
            emit_parts.emit_in_parts(self)
        else:
            self.body(self.kernel.body)
        if not self.kernel.body:
            self.line("pass")

    def _programs(self) -> None:
        """The program's step along each GRID axis, from a 1-D grid in row-major order."""
        grid = [a for a in self.kernel.grid if a.steps > 1]
        if grid and self.config.programs:
            self._walk()  # first: what it repeats may be named again, in another shape
        for axis in self.kernel.grid:
            if axis.steps <= 1:
                self._axis(axis, "0")
        if not grid:
            return
        if not self.config.programs and self.kernel.table is None:
            self.line("pid = tl.program_id(0)")
        rest = "pid"
        last = len(grid) - 1
        grouped = self.config.group_m > 1 and last >= 1
        if grouped:
            self._grouped(grid[-2], grid[-1], len(grid) > 2)
            rest, grid = f"pid // {grid[-1].steps * grid[-2].steps}", grid[:-2]
        inner, from_the_end = 1, axes_from_the_end(self.kernel)
        for at in range(len(grid) - 1, -1, -1):
            axis = grid[at]
            step = rest if inner == 1 else f"{rest} // {inner}"
            if at:
                step = f"{step} % {axis.steps}"
            if axis.name in from_the_end:
                step = f"{axis.steps - 1} - {step}"
            inner *= axis.steps
            self._axis(axis, step)

    def _skip_unneeded(self) -> None:
        """End the program if no element of its tile is needed: all of its places are in one
        stretch, at or beyond the size. The grid is that of the largest size, as the size is known
        on the device alone and a captured graph repeats its grids; a walk goes on to the end."""
        for limit in () if self.config.programs else self.kernel.limits:
            axis = self.kernel.axis(limit.axis)
            stretch = limit.inner * limit.capacity
            if axis.role is not Role.GRID or axis.steps == 1:
                continue
            first = axis.name if axis.block == 1 else f"{axis.name}0"
            size = f"tl.load({self.kernel.slots[limit.slot].name}_ptr)"
            test = f"{first} // {limit.inner} % {limit.capacity} >= {size}"
            if axis.block > 1 and stretch < axis.extent:
                last = f"tl.minimum({first} + {axis.block}, {axis.extent}) - 1"
                test = f"({test}) & ({first} // {stretch} == ({last}) // {stretch})"
            self.line(f"if {test}:")
            self.line("    return")

    def _walk(self) -> None:
        """Every program takes tiles in turn: those of one round are computed side by side. With
        one loop inside, loads for the next tile start before this one is stored."""
        flat = ", flatten=True" if len(self.loops) == 1 else ""
        tiles = self.kernel.num_programs
        step = min(self.config.programs, tiles)
        self.line(f"for pid in tl.range(tl.program_id(0), {tiles}, {step}{flat}):")
        self.depth += 1

    def _matrices(self) -> None:
        """Descriptors of the matrices that are loaded through one."""
        loads = (s for s in ir.statements(self.kernel.body) if isinstance(s, ir.LoadTile))
        for stmt in (s for s in loads if s.out.id in self.matrices):
            x = self.matrices[stmt.out.id]
            extents = [self.kernel.axis(n).extent for n in (x.rows, x.columns)]
            pointer = f"{self.kernel.slots[stmt.slot].name}_ptr"
            shape = f"{extents}, [{x.step}, 1], {self.shape((x.rows, x.columns))}"
            self.line(f"{stmt.out}_matrix = tl.make_tensor_descriptor({pointer}, {shape})")

    def _grouped(self, m: TileAxis, n: TileAxis, batched: bool) -> None:
        """Programs in groups of `group_m` rows of tiles, for reuse in the L2 cache."""
        group = min(self.config.group_m, m.steps)
        tile = "pid"
        if batched:
            tile = "tile"
            self.line(f"tile = pid % {m.steps * n.steps}")
        self.line(f"first = {tile} // {group * n.steps} * {group}")
        if m.steps % group:
            self.line(f"rows = tl.minimum({m.steps} - first, {group})")
        else:
            self.line(f"rows = {group}")
        within = f"{tile} % {group * n.steps}"
        self._axis(m, f"first + {within} % rows")
        self._axis(n, f"{within} // rows")

    def _axis(self, axis: TileAxis, step: str) -> None:
        """Define the variable of an axis, and which of its lanes exist."""
        name, block = axis.name, self.size(axis.name)
        if name in self.walked and step != f"{name}_at":
            self.line(f"{name}_at = {step}")
            return
        far = ".to(tl.int64)" if name in self.far_axes else ""
        if axis.block == 1:
            text = step or "0"
            self.line(f"{name} = ({text}){far}" if far else f"{name} = {text}")
            return
        if axis.role is Role.LOOP:
            start = f"{step} + "
        elif step in ("", "0"):
            start = ""
        else:
            simple = step.isidentifier()
            start = f"{step if simple and not far else f'({step})'}{far} * {block} + "
        if name in self.starts:
            self.line(f"{name}0 = {start.removesuffix(' + ') or '0'}")
            start = f"{name}0 + "
        self.line(f"{name} = {start}tl.arange(0, {block})")
        if is_ragged(self.kernel, axis) and name != self.whole:
            self.line(f"{name}_ok = {name} < {extent_text(self.kernel, axis)}")

    # -- statements -----------------------------------------------------------------------------

    def body(self, body: tuple[ir.Stmt, ...]) -> None:
        for stmt in body:
            self.statement(stmt)
            if isinstance(stmt, (ir.LoadTile, ir.ComputeTile, ir.ReduceTile)):
                if stmt.out.id in self.exponents.scaled:
                    shift = self.exponents.scaled[stmt.out.id]
                    self.line(f"{stmt.out}_scaled = {self.text(stmt.out, stmt.out.dims)} * {shift}")

    def statement(self, stmt: ir.Stmt) -> None:
        match stmt:
            case ir.Loop():
                self._loop(stmt)
            case ir.LoadTile():
                emit_load(self, stmt)
            case ir.ConstTile():
                self.tiles[stmt.out.id] = Named(str(stmt.out), stmt.out.dtype, (), stmt.value)
            case ir.IndexTile():
                self._index(stmt)
            case ir.InsideTile() if stmt.out.id in self.held:
                self.tiles[stmt.out.id] = Named(str(stmt.out), stmt.out.dtype, (), True)
            case ir.InsideTile():
                text = self.index.mask(stmt.mask, (), stmt.out.dims)
                self.assign(stmt.out, text or "tl.full([], True, tl.int1)")
            case ir.ComputeTile():
                self._compute(stmt)
            case ir.ReduceTile():
                self._reduce(stmt)
            case ir.ScanTile():
                emit_rows.emit_scan(self, stmt)
            case ir.SortTile():
                emit_rows.emit_sort(self, stmt)
            case ir.Init():
                emit_rest.emit_init(self, stmt)
            case ir.Accumulate():
                self._accumulate(stmt)
            case ir.Keep():
                self.line(f"{stmt.carry} = {self.text(stmt.value, stmt.carry.dims)}")
            case ir.AccumulateExp():
                emit_online.emit_step(self, stmt)
            case ir.JoinExp():
                emit_online.emit_end(self, stmt)
            case ir.DotTile():
                emit_dot.emit_dot(self, stmt)
            case ir.StoreTile():
                self._store(stmt)
            case ir.Stash() | ir.Unstash():
                raise VerifyError(
                    f"{self.kernel.name}: Triton keeps no rows between loops; lower it with "
                    "stash_limit=0.",
                    source=self.kernel.source,
                )

    def assign(self, out: Tile, text: str) -> None:
        self.tiles[out.id] = Named(str(out), out.dtype, out.dims)
        self.line(f"{out} = {text}")

    def full(self, shape: str, value: bool | int | float, dtype: DType) -> str:
        """A tile with one number in every lane."""
        if dtype.is_narrow:
            return constant(shape, value, dtype)
        return f"tl.full({shape}, {literal(value, dtype)}, {TRITON_TYPES[dtype.name]})"

    def operand(self, tile: Tile, to: tuple[str, ...]) -> Operand:
        """A tile where a result over `to` uses it."""
        named = self.tiles[tile.id]
        if named.literal is not None:
            return Operand("", tile.dtype, named.literal)
        return Operand(expand(named.text, tile.dims, to), tile.dtype)

    def text(self, tile: Tile, to: tuple[str, ...]) -> str:
        """As `operand`, with literals typed."""
        return typed(self.operand(tile, to))

    def lanes(self, names: Iterable[str]) -> list[str]:
        """Those of the axes whose last tile has lanes beyond the extent, where known here."""
        found = []
        for name in names:
            axis = self.kernel.axis(name)
            known = axis.role is not Role.LOOP or (name in self.open and name != self.whole)
            if axis.block > 1 and is_ragged(self.kernel, axis) and known:
                found.append(name)
        return found

    def keep(self, text: str, dims: tuple[str, ...], lanes: list[str], other: str) -> str:
        """The tile with lanes that do not exist replaced."""
        condition = self.index.mask((), lanes, dims)
        return f"tl.where({condition}, {text}, {other})" if condition else text

    def _loop(self, stmt: ir.Loop) -> None:
        start, stop = self._bounds(stmt, self.kernel.axis(stmt.axis))
        whole = self.wholes.get(stmt.axis)
        if stmt.axis in self.rests:
            emit_rest.emit_with_rest(self, stmt)
        elif whole is None:
            self.steps(stmt, start, stop)
        else:
            emit_whole.emit_in_parts(self, stmt, whole, start, stop)
        self._begin_tile()
        if stmt.late:
            block = self.size(stmt.axis)
            self.line(f"{stmt.axis}0 = ({stop} + {block} - 1) // {block} * {block}")
            self._axis(self.kernel.axis(stmt.axis), f"{stmt.axis}0")
            self.body(stmt.late)

    def _begin_tile(self) -> None:
        """Lanes of the axes that are known by their tile's number."""
        for name in self.walked:
            self._axis(self.kernel.axis(name), f"{name}_at")

    def steps(self, stmt: ir.Loop, start: str, stop: str) -> None:
        """A loop over tiles of its axis, from the one at `start` to before `stop`."""
        axis = self.kernel.axis(stmt.axis)
        stages = self.config.num_stages
        dots = (s for s in stmt.body if isinstance(s, ir.DotTile))
        has_dot = any(emit_dot.is_matrix(self.kernel, s) for s in dots)  # the launch's stages do
        is_long = stages > 1 and stmt.axis not in self.sizes
        extra = f", num_stages={stages}" if is_long and not has_dot else ""
        name = stmt.axis if axis.block == 1 else f"{stmt.axis}0"
        step = "" if axis.block == 1 else f", {self.size(stmt.axis)}"
        self.line(f"for {name} in tl.range({start}, {stop}{step}{extra}):")
        self.depth += 1
        self.open.add(stmt.axis)
        self.known.append({})
        self._begin_tile()
        if axis.block > 1:
            self._axis(axis, name)
        self.body(stmt.body)
        self.open.discard(stmt.axis)
        self.known.pop()
        self.depth -= 1

    @contextmanager
    def without(self, masks: frozenset[int]) -> Iterator[None]:
        """Inside, these masks hold everywhere."""
        self.held = masks
        yield
        self.held = frozenset()

    @contextmanager
    def only_whole(self, axis: str) -> Iterator[None]:
        """Inside, every lane along the axis exists."""
        self.whole = axis
        yield
        self.whole = ""

    @contextmanager
    def only_rest(self, axis: str) -> Iterator[None]:
        """Inside, tiles along the axis are those of its rest."""
        self.sizes[axis] = f"REST_{axis.upper()}"
        yield
        del self.sizes[axis]

    def rest_of(self, carry: Tile) -> list[str]:
        """The axis of a carry whose rest has a carry of its own."""
        return [d for d in carry.dims if d in self.rests]

    def carry(self, tile: Tile) -> str:
        """The name of a carry in the present loop."""
        return f"{tile}_rest" if any(d in self.sizes for d in self.rest_of(tile)) else str(tile)

    def _bounds(self, stmt: ir.Loop, axis: TileAxis) -> tuple[str, str]:
        """Where a loop starts and stops, as text; the start is a multiple of the block."""

        def text(e: Index) -> str:
            first = e.rebuild(
                lambda a: (
                    var(f"{a.name}0", a.extent)
                    if isinstance(a, Var) and self.kernel.axis(a.name).block > 1
                    else None
                )
            )
            return self.index.at(first, ())

        start, stop = "0", extent_text(self.kernel, axis)
        for e in stmt.start:
            start = f"tl.maximum({start}, {text(e)})"
        for e in stmt.stop:
            stop = f"tl.minimum({stop}, {text(e)})"
        if stmt.start and axis.block > 1:
            start = f"{start} // BLOCK_{stmt.axis.upper()} * BLOCK_{stmt.axis.upper()}"
        if needed := self.index.mask(stmt.needs, (), ()):
            stop = f"tl.where({needed}, {stop}, 0)"
        for name, bound in (("start", start), ("stop", stop)):
            if "(" in bound:
                self.line(f"{stmt.axis}_{name} = {bound}")
        return (
            f"{stmt.axis}_start" if "(" in start else start,
            f"{stmt.axis}_stop" if "(" in stop else stop,
        )

    def address(
        self, slot: int, index: Index, mask: ir.Mask, dims: tuple[str, ...], name: str
    ) -> tuple[str, str]:
        """Pointer and mask expressions of an access over `dims`."""
        offset = self.index.at(index, dims)
        condition = self.index.mask(mask, self.lanes(dims), dims)
        lacking = set(dims) - set(self.index.dims(index))
        if lacking and dims:
            kind = "tl.int64" if is_wide(index) else "tl.int32"
            offset = f"{offset} + tl.full({self.shape(dims)}, 0, {kind})"
        pointer = f"{self.kernel.slots[slot].name}_ptr"
        if offset != "0":
            pointer += f" + {grouped(offset)}"
        if len(pointer) + len(condition) + 4 * self.depth > WIDTH - 44:
            if len(offset) > 40:
                offset = self.named(f"{name}_at", offset)
                pointer = f"{self.kernel.slots[slot].name}_ptr + {offset}"
            if len(condition) > 20:
                plain = "_".join(dims) if not mask else name
                condition = self.named(f"{plain}_ok", condition)
        return pointer, condition

    def named(self, name: str, text: str) -> str:
        """A variable that holds the expression, made once in each loop."""
        for known in self.known:
            if text in known:
                return known[text]
        self.line(f"{name} = {text}")
        self.known[-1][text] = name
        return name

    def _index(self, stmt: ir.IndexTile) -> None:
        out, e = stmt.out, stmt.index
        self.places[out.id] = e
        if e.is_const:
            self.tiles[out.id] = Named(str(out), out.dtype, (), e.const)
            return
        source = dt.int64 if is_wide(e) else dt.int32
        text = self.index.at(e, out.dims)
        only = e.atom
        if only is not None and text.isidentifier() and text in self.far_axes:
            source = dt.int64
        self.assign(out, spell_cast(text, source, out.dtype))

    def _compute(self, stmt: ir.ComputeTile) -> None:
        out = stmt.out
        if stmt.op is Op.CAST and stmt.args[0].dtype is out.dtype:
            self.tiles[out.id] = self.tiles[stmt.args[0].id]
            self.zero_lanes[out.id] = self.zero_lanes.get(stmt.args[0].id, frozenset())
            return
        if stmt.op in (Op.WHERE, Op.AND) and self.tiles[stmt.args[0].id].literal is True:
            self.tiles[out.id] = self.tiles[stmt.args[1].id]
            return
        if stmt.op is Op.BITCAST and stmt.args[0].id in self.float8:
            self.tiles[out.id] = self.tiles[stmt.args[0].id]
            self.zero_lanes[out.id] = self.zero_lanes.get(stmt.args[0].id, frozenset())
            return
        if out.id in self.exponents.unneeded:
            return
        if out.id in self.exponents.of:
            self.assign(out, self._exponential(self.exponents.of[out.id], out))
            return
        args = [self.operand(a, out.dims) for a in stmt.args]
        if self._is_taken_from_tile(stmt):
            flipped = grouped(spell(Op.NOT, args[-1:], out.dtype))
            first = f"{grouped(typed(args[0]))} + " if stmt.op is Op.SUB else ""
            self.assign(out, f"{first}{flipped} + 1")
        else:
            text = emit_row_values.with_row_value(self, stmt)
            is_short = out.id in self.rounded
            self.assign(out, text or spell(stmt.op, args, out.dtype, stmt.word, is_short))
        if stmt.op is Op.CAST:
            self.zero_lanes[out.id] = self.zero_lanes.get(stmt.args[0].id, frozenset())

    def _exponential(self, e: Exponent, out: Tile) -> str:
        """An exponential in its short form."""
        if e.is_guarded and e.y is not None:
            scale = "" if e.shift == LOG2_E else f", {e.shift}"
            return f"_exp_from({self.text(e.x, out.dims)}, {self.text(e.y, out.dims)}{scale})"
        product = f"{self.text(e.x, out.dims)} * {e.factor}"
        if e.y is None:
            return f"tl.exp2({product})"
        if self.exponents.scaled.get(e.y.id) == e.shift:
            return f"tl.exp2({product} - {expand(f'{e.y}_scaled', e.y.dims, out.dims)})"
        scaled = expand(f"({self.text(e.y, e.y.dims)} * {e.shift})", e.y.dims, out.dims)
        return f"tl.exp2({product} - {scaled})"

    def _is_taken_from_tile(self, stmt: ir.ComputeTile) -> bool:
        """Whether integers along one of several axes are subtracted; see emit_index.py."""
        is_minus = stmt.op in (Op.SUB, Op.NEG) and stmt.out.dtype.is_int
        is_tile = self.tiles[stmt.args[-1].id].literal is None and len(stmt.out.dims) == 1
        return is_minus and is_tile and len(self.index.wide_blocks) > 1

    def _reduce(self, stmt: ir.ReduceTile) -> None:
        out, arg = stmt.out, stmt.arg
        text = spell_cast(self.text(arg, arg.dims), arg.dtype, out.dtype)
        lanes = self.lanes(stmt.axes)
        if stmt.op is Op.REDUCE_SUM:
            lanes = [d for d in lanes if d not in self.zero_lanes.get(arg.id, frozenset())]
        text = self.keep(text, arg.dims, lanes, self.identity(stmt.op, out.dtype))
        text = self._reduced(stmt, widen(text, out.dtype))
        if self.rest_of(arg):
            rest = self._reduced(stmt, widen(f"{arg}_rest", out.dtype))
            kind = dt.float32 if out.dtype.is_narrow else out.dtype
            text = spell(REDUCE_COMBINE[stmt.op], [Operand(t, kind) for t in (text, rest)], kind)
        if out.dtype.is_narrow:
            text = narrow(text, out.dtype)
        elif out.dtype.is_int and out.dtype.itemsize < 4:
            text = f"{text}.to({TRITON_TYPES[out.dtype.name]})"
        self.assign(out, text)

    def _reduced(self, stmt: ir.ReduceTile, text: str) -> str:
        left = list(stmt.arg.dims)
        for name in reversed(stmt.arg.dims):
            if name in stmt.axes:
                text = _reduction(stmt.op, text, left.index(name), stmt.out.dtype)
                left.remove(name)
        return text

    def identity(self, op: Op, dtype: DType) -> str:
        """What a reduction starts from, as the other side of a tl.where."""
        start = identity_of(op, dtype)
        if dtype.is_narrow or dtype.is_bool:
            return typed(Operand("", dtype, start))
        return literal(start, dtype)

    def _accumulate(self, stmt: ir.Accumulate) -> None:
        carry, value = stmt.carry, stmt.value
        lanes = [d for d in self.lanes(value.dims) if d in self.open]
        operand = self.operand(value, carry.dims)
        if stmt.op is Op.ADD:
            lanes = [d for d in lanes if d not in self.zero_lanes.get(value.id, frozenset())]
        if lanes:
            kept = self.keep(typed(operand), carry.dims, lanes, self.identity(stmt.op, carry.dtype))
            operand = Operand(kept, value.dtype)
        name = self.carry(carry)
        args = [Operand(name, carry.dtype), operand]
        self.line(f"{name} = {spell(stmt.op, args, carry.dtype)}")

    def _store(self, stmt: ir.StoreTile) -> None:
        slot = self.kernel.slots[stmt.slot]
        names = {*self.index.dims(stmt.index), *self.index.mask_dims(stmt.mask), *stmt.value.dims}
        dims = self.index.sort(names)
        value = spell_cast(self.text(stmt.value, dims), stmt.value.dtype, slot.dtype)
        if slot.dtype.is_bool:
            value = f"({value}).to(tl.uint8)"
        name = f"{slot.name}_{len(self.lines)}"
        pointer, condition = self.address(stmt.slot, stmt.index, stmt.mask, dims, name)
        mask = f", mask={condition}" if condition else ""
        if id(stmt) in self.waiting:
            self.line("tl.debug_barrier()")
        if stmt.combine == "set":
            self.line(f"tl.store({pointer}, {value}{mask})")
            return
        self._check_atomic(stmt.combine, slot.dtype)
        sem = ', sem="relaxed"'
        self.line(f"tl.atomic_{stmt.combine}({pointer}, {value}{mask}{sem})")

    def _check_atomic(self, combine: str, dtype: DType) -> None:
        wide = dtype.itemsize >= 4
        has_add = wide or (dtype.is_narrow and not dtype.is_float8)
        if (combine == "add" and has_add) or (combine in ("max", "min") and wide):
            return
        raise UnsupportedError(
            f"scatter with combine {combine!r} of {dtype} has no atomic instruction.",
            "Cast to float32 or int32 first, or compute it on the cpu device.",
            source=self.kernel.source,
        )


def _reduction(op: Op, text: str, axis: int, dtype: DType) -> str:
    """Reduction of a tile along one axis."""
    if op is Op.REDUCE_SUM:
        return f"tl.sum({text}, {axis})"
    if op is Op.REDUCE_PROD:
        return f"_reduce_prod({text}, {axis})"
    name = "max" if op is Op.REDUCE_MAX else "min"
    if dtype.is_bool:
        return f"(tl.{name}({text}.to(tl.int32), {axis}) != 0)"
    if dtype.is_float:
        return f"_reduce_{name}({text}, {axis})"
    return f"tl.{name}({text}, {axis})"
