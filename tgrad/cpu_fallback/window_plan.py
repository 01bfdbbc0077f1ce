"""Convolutions among dot kernels: which axes are pixels, taps and channels, and how they are tiled.

In: a dot kernel, each of its region's axes a tile axis of its own. Out: `WindowProgram`, or None if
the kernel has another form. Invariant: like a DotPlan it depends on sizes and strides only.

One operand, the *image*, is a bare load in which pixels and taps add up to one address:

    image[.., (y * stride + i * dilation + origin) * pitch + (x * .. + j * ..) * .. ]

with zeros where a bound on that sum does not hold. Two loops over it are known:

    pixels   out[x, c] += image[y + i, x + j, k] * w[i, j, k, c]        loops i, j, k
    weights  out[i, j][r, o] += image[r, y + i, x + j] * dy[y, x, o]    loops n, y, x
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from tgrad import dtype as dt
from tgrad.cpu_fallback.dot_plan import (
    DotProgram,
    Operand,
    carry_dtype,
    make_operand,
    split_before,
)
from tgrad.cpu_fallback.dot_words import Words, words_of
from tgrad.cpu_fallback.register_tiles import elements_of
from tgrad.cpu_fallback.target import Machine
from tgrad.graph.index import Index, Var
from tgrad.kernel import ir
from tgrad.kernel.ir import statements
from tgrad.kernel.statements import reads_of, writes_of


@dataclass(frozen=True)
class Dim:
    """One direction of the window: u = step * stride + tap * dilation + origin, in [lo, hi).

    Attributes:
        step, tap: names of the axes.
        pitch: elements of memory from u to u + 1.
    """

    step: str
    tap: str
    stride: int
    dilation: int
    origin: int
    lo: int
    hi: int
    pitch: int
    is_bounded: bool


@dataclass(frozen=True)
class WindowProgram:
    """A convolution: see the module's docstring.

    Attributes:
        dot: statements before, in and after the loops.
        kind: "pixels" or "weights".
        image: the load of the operand that is broadcast.
        vector: the operand that fills vector registers.
        y, x: the outer and the inner direction.
        r, v, k: the rows of a register tile, its vector axis, the contracted tile axis.
        loops: the two loops of block 1 around the loop over k.
        units: grid axes of block 1, outermost first.
        words: how operands are packed where an instruction takes several elements at once.
    """

    dot: DotProgram
    kind: str
    image: ir.LoadTile
    vector: Operand
    y: Dim
    x: Dim
    r: str
    v: str
    k: str
    loops: tuple[str, str]
    units: tuple[str, ...]
    words: Words | None

    @property
    def ctype(self) -> str:
        """C type of a packed element."""
        return elements_of(self.product).packed

    @property
    def product(self) -> str:
        """As in the names of the functions of register tiles."""
        return "float" if self.words is None else self.words.kind

    @property
    def together(self) -> int:
        """Steps of k that one multiply-add takes."""
        return elements_of(self.product).together

    def stride(self, axis: str) -> int:
        """Elements of memory from one element of the image along an axis to the next."""
        return self.image.index.stride(axis) or 0

    def rest(self, without: set[str]) -> Index:
        """The image's index less the terms of some axes."""
        e = self.image.index
        terms = tuple(t for t in e.terms if isinstance(t[0], Var) and t[0].name not in without)
        return Index(terms, e.const)


def match_window(kernel: ir.Kernel, machine: Machine) -> WindowProgram | None:
    """The kernel as a convolution; None if it has another form."""
    found = _nest(kernel)
    if found is None:
        return None
    program, loops = found
    dot = program.dot
    if carry_dtype(program) is not dt.float32:
        return None
    for image, vector, r in ((program.a, program.b, dot.m), (program.b, program.a, dot.n)):
        load = image.stmts[0] if len(image.stmts) == 1 else None
        if not isinstance(load, ir.LoadTile) or load.out.id != image.tile.id:
            continue
        if load.out.dtype is not kernel.slots[load.slot].dtype:
            continue
        words = words_of(load.out.dtype, vector.tile.dtype, dt.float32, machine)
        if load.out.dtype is not dt.float32 and words is None:
            continue
        result = _window(program, loops, load, vector, r, words)
        if result is not None:
            return result
    return None


def _nest(kernel: ir.Kernel) -> tuple[DotProgram, tuple[str, str]] | None:
    """The three loops around the only dot, the statements in them, and those before and after."""
    dots = [s for s in statements(kernel.body) if isinstance(s, ir.DotTile)]
    at = [n for n, s in enumerate(kernel.body) if isinstance(s, ir.Loop)]
    if len(dots) != 1 or len(at) != 1:
        return None
    dot, names = dots[0], []
    inside: list[ir.Stmt] = []
    stmts: tuple[ir.Stmt, ...] = (kernel.body[at[0]],)
    while loops := [s for s in stmts if isinstance(s, ir.Loop)]:
        inside += [s for s in stmts if not isinstance(s, ir.Loop)]
        if len(loops) != 1:
            return None
        names.append(loops[0].axis)
        stmts = loops[0].body
    inside += [s for s in stmts if s is not dot]
    if len(names) != 3 or names[2] != dot.k or any(not isinstance(s, ir.Pure) for s in inside):
        return None
    if [kernel.axis(n).steps == kernel.axis(n).extent for n in names[:2]] != [True, True]:
        return None
    before = [s for s in kernel.body[: at[0]] if writes_of(s) != {dot.carry.id}]
    init = [s for s in kernel.body[: at[0]] if isinstance(s, ir.Init)]
    if len(init) != 1 or init[0].out.id != dot.carry.id or init[0].value != 0:
        return None
    loop = kernel.body[at[0]]
    assert isinstance(loop, ir.Loop)
    early, late = split_before(before, loop)
    if any(not isinstance(s, ir.ConstTile) for s in early):
        return None
    a = make_operand(dot.a, dot.m, dot.k, inside)
    b = make_operand(dot.b, dot.n, dot.k, inside)
    after = (*late, *kernel.body[at[0] + 1 :])
    return DotProgram(kernel, dot, tuple(early), after, a, b), (names[0], names[1])


def _window(
    program: DotProgram,
    loops: tuple[str, str],
    load: ir.LoadTile,
    vector: Operand,
    r: str,
    words: Words | None,
) -> WindowProgram | None:
    kernel, dot = program.kernel, program.dot
    v = dot.n if r == dot.m else dot.m
    index = load.index
    if any(not isinstance(atom, Var) for atom, _ in index.terms):
        return None
    in_image = index.variables()
    in_vector = {n for s in vector.stmts for n in _axes_of(s)}
    grid = [a.name for a in kernel.grid]
    sides = [n for n in grid if n in in_image]
    full = all(kernel.axis(n).block == kernel.axis(n).extent for n in (r, dot.k))
    if not full or v in in_image or len(sides) < 2 or set(sides) & in_vector:
        return None
    known = {t for s in (*program.before, *vector.stmts) for t in writes_of(s)}
    if any(reads_of(s) - known for s in vector.stmts):
        return None
    along_k, along_r = index.stride(dot.k) or 0, index.stride(r) or 0
    if along_k <= 0 or along_r <= 0:
        return None
    kind = "weights" if along_k <= along_r else "pixels"
    if words is not None and (kind == "weights" or kernel.axis(dot.k).extent % words.size):
        return None
    if kind == "pixels":
        pairs = ((sides[-2], loops[0]), (sides[-1], loops[1]))
        fits = sides[-1] == r
    else:
        pairs = ((loops[1], sides[-2]), (dot.k, sides[-1]))
        fits = r in sides and (r != sides[-1] or len(load.mask) == 0)
    y, x = (_dim(kernel, load, *pair) for pair in pairs)
    if not fits or y is None or x is None:
        return None
    if kind == "weights" and y.is_bounded and r in (y.step, y.tap):
        return None  # which rows of the window lie inside would differ from row to row of a tile
    if len(load.mask) != y.is_bounded + x.is_bounded:
        return None
    if kind == "pixels" and x.dilation != 1:
        return None
    units = tuple(n for n in grid if n not in (r, v))
    if any(kernel.axis(n).block != 1 for n in units):
        return None
    return WindowProgram(program, kind, load, vector, y, x, r, v, dot.k, loops, units, words)


def _axes_of(stmt: ir.Stmt) -> frozenset[str]:
    names: set[str] = set()
    if isinstance(stmt, (ir.LoadTile, ir.IndexTile)):
        names |= stmt.index.variables()
    if isinstance(stmt, (ir.LoadTile, ir.InsideTile)):
        names |= {n for b in stmt.mask for n in b.index.variables()}
    return frozenset(names)


def _dim(kernel: ir.Kernel, load: ir.LoadTile, step: str, tap: str) -> Dim | None:
    """The direction in which two axes add up, if they do."""
    a, b = load.index.stride(step) or 0, load.index.stride(tap) or 0
    if a <= 0 or b <= 0:
        return None
    bounds = [c for c in load.mask if {step, tap} & c.index.variables()]
    if not bounds:
        pitch = gcd(a, b)
        hi = (kernel.axis(step).extent - 1) * a + (kernel.axis(tap).extent - 1) * b
        return Dim(step, tap, a // pitch, b // pitch, 0, 0, hi // pitch + 1, pitch, False)
    [bound, *others] = bounds
    if others or bound.index.variables() != {step, tap}:
        return None
    stride, dilation = bound.index.stride(step) or 0, bound.index.stride(tap) or 0
    if stride <= 0 or dilation <= 0 or a % stride or b != a // stride * dilation:
        return None
    pitch = a // stride
    return Dim(step, tap, stride, dilation, bound.index.const, bound.lo, bound.hi, pitch, True)
