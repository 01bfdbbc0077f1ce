"""Sums over windows of planes, such as depthwise convolutions: which axes walk and which reach.

In: a kernel, its loops not yet unrolled. Out: `PlaneProgram`, or None if it has another form.
Invariant: it depends on sizes and strides only.

A product whose one factor, the *window*, depends on an axis that walks and one that reaches only by
their sum, in one direction or two:

    pixels   out[y, x] += window[y * s + i * d, x * s + j * d] * other[i, j]         loops i, j
    taps     out[i, j] += window[n, y * s + i * d, x * s + j * d] * other[n, y, x]   loops n, y, x

Both sides are made once, whatever is computed for them: the window as a plane without bounds, zeros
around it, of which every element serves all taps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd

from tgrad import dtype as dt
from tgrad.cpu_fallback.code import FEW_PROGRAMS, compares_extrema
from tgrad.cpu_fallback.dot_plan import split_before
from tgrad.graph.index import ZERO, Div, Index, Mod, Var, var
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Role, Tile
from tgrad.kernel.statements import changed, made_by, writes_of

U, V = "place_u", "place_v"
"""Variables of a place."""
LEAST_STEPS = 6
"""Elements of a row below which registers are mostly empty."""
LEAST_TAPS = 3
MOST_TAPS = 16
"""Taps of a row, which are written out."""


FEW_TAPS = 9
"""Taps of pixels whose columns are not neighbours that are quicker without a plane (3x3 by 2, 64
channels of 56x56, two cores of Zen 4: 0.17 ms, with a plane 0.24; gradient of the image 0.67 and
1.14, of 5x5 at 128 channels of 28x28 3.0 and 0.76; 2026-11)."""


@dataclass(frozen=True)
class Way:
    """One direction: place = step * stride + tap * dilation, less the least.

    Attributes:
        step, tap: names of the axes; empty where the window has one direction only.
        steps, taps: their extents.
        is_affine: whether no quotient or remainder of places is looked for, as in the gradient of
            an image under a stride.
    """

    step: str
    tap: str
    stride: int
    dilation: int
    steps: int
    taps: int
    is_affine: bool = True

    @property
    def reach(self) -> int:
        """Places from the first tap to the last."""
        return (self.taps - 1) * abs(self.dilation)

    @property
    def span(self) -> int:
        """Places in all."""
        return (self.steps - 1) * self.stride + self.reach + 1

    def place(self, tap: int) -> int:
        """The place of a tap of the first step."""
        return (tap if self.dilation > 0 else self.taps - 1 - tap) * abs(self.dilation)

    def placed(self, e: Index, name: str) -> Index:
        """An index by the variable `name`, which is a place, instead of by step and tap."""
        if not self.step or not {self.step, self.tap} & e.variables():
            return e
        place = var(name, self.span) + min(0, (self.taps - 1) * self.dilation)
        if self.stride == 1:
            return e.substitute({self.step: place, self.tap: ZERO})
        scale = (e.stride(self.step) or 0) // self.stride
        return e.substitute({self.step: ZERO, self.tap: ZERO}) + place * scale


NO_WAY = Way("", "", 1, 1, 1, 1)


@dataclass(frozen=True)
class Factor:
    """A factor of the products, and the statements of the loops that make it: none where it is the
    same in all of them."""

    tile: Tile
    stmts: tuple[ir.Stmt, ...]


@dataclass(frozen=True)
class PlaneProgram:
    """See the module's docstring.

    Attributes:
        kind: "pixels" or "taps".
        early, after: statements that the loops need, and those that need their result.
        carry: the sum.
        window, other: the factors.
        y, x: the outer and the inner direction.
        units: grid axes that neither walk nor reach.
        loops: loops around those of the directions.
    """

    kernel: ir.Kernel
    kind: str
    early: tuple[ir.Stmt, ...]
    after: tuple[ir.Stmt, ...]
    carry: Tile
    window: Factor
    other: Factor
    y: Way
    x: Way
    units: tuple[str, ...]
    loops: tuple[str, ...]


def placed(stmt: ir.Stmt, y: Way, x: Way) -> ir.Stmt:
    """A statement of a window, by places."""
    return changed(stmt, lambda tile: tile, lambda e: x.placed(y.placed(e, U), V))


def match_plane(kernel: ir.Kernel) -> PlaneProgram | None:
    """The kernel as a sum over windows; None if it has another form."""
    at = [n for n, s in enumerate(kernel.body) if isinstance(s, ir.Loop)]
    has_lengths = kernel.table is not None and bool(kernel.table.lengths)
    if has_lengths or kernel.limits or len(at) != 1 or compares_extrema(kernel):
        return None
    loop = kernel.body[at[0]]
    assert isinstance(loop, ir.Loop)
    names, inside = nest_of(kernel, loop)
    sums = [s for s in inside if isinstance(s, ir.Accumulate)]
    if not names or len(sums) != 1 or sums[0].op is not Op.ADD:
        return None
    total = sums[0]
    product = next((s for s in inside if writes_of(s) == {total.value.id}), None)
    if not isinstance(product, ir.ComputeTile) or product.op is not Op.MUL:
        return None
    pure = [s for s in inside if s is not total and s is not product]
    before = [s for s in kernel.body[: at[0]] if writes_of(s) != {total.carry.id}]
    init = [s for s in kernel.body[: at[0]] if isinstance(s, ir.Init)]
    if len(init) != 1 or init[0].out.id != total.carry.id or init[0].value != 0:
        return None
    if total.carry.dtype is not dt.float32 or product.out.dtype is not dt.float32:
        return None
    if any(not isinstance(s, ir.Pure) for s in (*pure, *before)):
        return None
    early, late = split_before(before, loop)
    after = (*late, *kernel.body[at[0] + 1 :])
    for window, other in (product.args, product.args[::-1]):
        if window.dtype is not dt.float32 or other.dtype is not dt.float32:
            return None
        sides = made_by([window.id], pure), made_by([other.id], pure)
        if {id(s) for side in sides for s in side} != {id(s) for s in pure}:
            continue
        directions = _directions(kernel, total.carry, names, *sides)
        if directions is not None and not _uses(early, directions[1:3]):
            kind, y, x, units, loops = directions
            ends = (tuple(early), after, total.carry)
            factors = Factor(window, sides[0]), Factor(other, sides[1])
            return PlaneProgram(kernel, kind, *ends, *factors, y, x, units, loops)
    return None


def nest_of(kernel: ir.Kernel, loop: ir.Loop) -> tuple[list[str], list[ir.Stmt]]:
    """Axes of loops that stand in each other, and the statements in them; none if these are cut
    short or stand side by side."""
    names: list[str] = []
    inside: list[ir.Stmt] = []
    inner: list[ir.Loop] = [loop]
    while inner:
        if len(inner) > 1 or inner[0].start or inner[0].stop:
            return [], []
        if kernel.axis(inner[0].axis).block != 1:
            return [], []
        names.append(inner[0].axis)
        inside += [s for s in inner[0].body if not isinstance(s, ir.Loop)]
        inner = [s for s in inner[0].body if isinstance(s, ir.Loop)]
    return names, inside


Directions = tuple[str, Way, Way, tuple[str, ...], tuple[str, ...]]


def _directions(
    kernel: ir.Kernel,
    carry: Tile,
    loops: Sequence[str],
    window: Sequence[ir.Stmt],
    other: Sequence[ir.Stmt],
) -> Directions | None:
    """Kind, outer and inner direction, units and outer loops."""
    grid = [a for a in kernel.grid if a.extent > 1]
    wide = [a for a in grid if a.block > 1]
    single = [a.name for a in grid if a.block == 1]
    if any(a.role is Role.FULL for a in kernel.axes):
        return None
    loops = [n for n in loops if kernel.axis(n).extent > 1]
    if len(wide) == 1 and carry.dims == (wide[0].name,) and wide[0].steps == 1:
        pairs: tuple[tuple[str, str], ...]
        if len(loops) == 2:
            rows = (n for n in reversed(single) if way_of(kernel, window, n, loops[0]) is not None)
            pairs = ((next(rows, ""), loops[0]), (wide[0].name, loops[1]))
        else:
            pairs = ((wide[0].name, loops[0]),)
        if len(loops) > 2 or not all(step for step, _ in pairs):
            return None
        return _joined("pixels", kernel, pairs, single, [], window, other)
    if wide or carry.dims or len(loops) < 2 or not single:
        return None
    if len(single) > 1:
        pairs = ((loops[-2], single[-2]), (loops[-1], single[-1]))
        found = _joined("taps", kernel, pairs, single, loops, window, other)
        if found is not None:
            return found
    return _joined("taps", kernel, ((loops[-1], single[-1]),), single, loops, window, other)


def _joined(
    kind: str,
    kernel: ir.Kernel,
    pairs: Sequence[tuple[str, str]],
    grid: Sequence[str],
    loops: Sequence[str],
    window: Sequence[ir.Stmt],
    other: Sequence[ir.Stmt],
) -> Directions | None:
    ways = [way_of(kernel, window, *pair) for pair in pairs]
    inner = ways[-1]
    if inner is None or inner.steps < LEAST_STEPS or inner.taps > MOST_TAPS:
        return None
    y = NO_WAY if len(ways) == 1 else ways[0]
    if y is None or y.taps * inner.taps < LEAST_TAPS:
        return None
    used = {n for pair in pairs for n in pair}
    fixed = {pair[0] if kind == "pixels" else pair[1] for pair in pairs}
    if any(fixed & e.variables() for e in _indices(other)):
        return None
    units, around = ([n for n in names if n not in used] for names in (grid, loops))
    return kind, y, inner, tuple(units), tuple(around)


def way_of(kernel: ir.Kernel, stmts: Sequence[ir.Stmt], step: str, tap: str) -> Way | None:
    """The direction in which two axes count only by a sum; None if they count otherwise, or no two
    steps have a place in common."""
    found: set[tuple[int, int]] = set()
    is_affine = True
    for e in _indices(stmts):
        is_affine &= e.stride(step) is not None and e.stride(tap) is not None
        for a, b in coefficients(e, step, tap):
            if a == 0 or b == 0:
                return None
            whole = gcd(a, b) if a > 0 else -gcd(a, b)
            found.add((a // whole, b // whole))
    if len(found) != 1:
        return None
    [(stride, dilation)] = found
    if stride > 1 and not is_affine:
        return None
    way = Way(
        step, tap, stride, dilation, kernel.axis(step).extent, kernel.axis(tap).extent, is_affine
    )
    return way if way.stride <= way.reach else None


def coefficients(e: Index, step: str, tap: str) -> Iterator[tuple[int, int]]:
    """Those of two variables in each sum of an index, inside of quotients too, that has one."""
    own = {atom.name: c for atom, c in e.terms if isinstance(atom, Var)}
    if step in own or tap in own:
        yield own.get(step, 0), own.get(tap, 0)
    for atom, _ in e.terms:
        if isinstance(atom, (Div, Mod)):
            yield from coefficients(atom.base, step, tap)


def _indices(stmts: Sequence[ir.Stmt]) -> Iterator[Index]:
    for s in stmts:
        yield from ir.indices_of(s)


def _uses(stmts: Sequence[ir.Stmt], ways: Sequence[Way]) -> bool:
    """Whether statements before the loops depend on where in a plane they are."""
    names = {n for way in ways for n in (way.step, way.tap)}
    return any(names & e.variables() for e in _indices(stmts))


def units_of(program: PlaneProgram) -> int:
    """How many units there are."""
    table = program.kernel.table
    units = 1 if table is None else table.members
    for name in program.units:
        units *= program.kernel.axis(name).extent
    return units


def is_worth_planes(program: PlaneProgram) -> bool:
    """Whether there are units enough for threads to share, and taps enough for the plane."""
    y, x = program.y, program.x
    if program.kind == "taps":
        return units_of(program) >= FEW_PROGRAMS
    is_dense = x.stride == 1 and x.is_affine and y.is_affine
    return is_dense or y.taps * x.taps > FEW_TAPS
