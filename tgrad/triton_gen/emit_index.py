"""Index expressions and masks as Triton text.

In: an Index over tile axes, the dims where it is used. Out: an expression of that shape. Invariant:
each part is computed at its own rank and broadcast where parts meet; arithmetic is 32 bit wherever
the bounds allow and 64 bit elsewhere; `//` and `%` see no negative numbers, so Triton's truncation
equals floor. What is the same in a whole tile is a scalar: with steps of 32, k // 64 is k0 // 64.

A difference is taken where parts meet, m[:, None] - k[None, :], and -k is ~k + 1. Triton 3.6 takes
all elements of 0 - k for multiples of 32 where k begins at one; then it takes the truth of
(-k)[None, :] + m[:, None] >= 0 to be one a column, and computes it once a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tgrad.dtype import DType
from tgrad.fusion.region import Mask
from tgrad.graph.index import Atom, Bound, Div, Index, Loaded, Mod, Var
from tgrad.kernel.ir import Kernel, Role

WORD = 2**31


@dataclass(frozen=True, slots=True)
class Named:
    """A variable of the generated program: its text, dtype and dims, and its value if constant."""

    text: str
    dtype: DType
    dims: tuple[str, ...]
    literal: bool | int | float | None = None


def is_wide(e: Index, shift: int = 0) -> bool:
    """Whether the expression needs 64 bit."""
    return e.hi + shift >= WORD or e.lo < -WORD


def expand(text: str, dims: tuple[str, ...], to: tuple[str, ...]) -> str:
    """Text of a tile over `dims`, with unit axes for the others of `to`.

    >>> expand("i", ("i",), ("i", "r"))
    'i[:, None]'
    """
    if not dims or dims == to:
        return text
    where = ", ".join(":" if d in dims else "None" for d in to)
    return f"{grouped(text)}[{where}]"


def grouped(text: str) -> str:
    """Text that an operator or an index may follow, in parentheses where they are needed.

    >>> grouped("x"), grouped("x + 1"), grouped("(x % 3)"), grouped("(x % 3) * (y)")
    ('x', '(x + 1)', '(x % 3)', '((x % 3) * (y))')
    """
    if text.isidentifier() or text.isdecimal() or (text[0] == "(" and closes_at_end(text)):
        return text
    return f"({text})"


def closes_at_end(text: str) -> bool:
    """Whether the bracket that opens the text closes at its end."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if depth == 0:
            return at == len(text) - 1
    return False


class IndexPrinter:
    """Prints expressions over the axes of one kernel; `tiles` names the loaded integers."""

    def __init__(self, kernel: Kernel, tiles: Mapping[int, Named], wide_axes: frozenset[str]):
        self.order = {a.name: i for i, a in enumerate(kernel.axes)}
        self.wide_blocks = frozenset(a.name for a in kernel.axes if a.block > 1)
        self.tiles = tiles
        self.wide_axes = wide_axes
        self.steps = {
            a.name: a.block for a in kernel.axes if a.role is not Role.FULL and a.block > 1
        }
        """Blocks of axes whose tiles begin at the variable `{name}0`."""

    def sort(self, names: Iterable[str]) -> tuple[str, ...]:
        """Dims in the kernel's order."""
        return tuple(sorted(set(names), key=self.order.__getitem__))

    def atom_dims(self, atom: Atom) -> tuple[str, ...]:
        if isinstance(atom, Var):
            return (atom.name,) if atom.name in self.wide_blocks else ()
        if isinstance(atom, Loaded):
            return self.tiles[atom.value].dims
        assert isinstance(atom, (Div, Mod))
        if isinstance(atom, Div) and self._tiles_within(atom):
            return ()
        return self.dims(atom.base)

    def _tiles_within(self, atom: Div | Mod) -> str:
        """The axis that is divided, where no tile of it reaches over a multiple of the divisor."""
        axis = atom.base.atom
        if not isinstance(axis, Var) or axis.name not in self.steps:
            return ""
        return "" if atom.divisor % self.steps[axis.name] else axis.name

    def begun(self, indices: Iterable[Index]) -> set[str]:
        """Axes of which the expressions need to know where a tile begins."""
        atoms = (atom for e in indices for atom in e.atoms() if isinstance(atom, (Div, Mod)))
        return {self._tiles_within(atom) for atom in atoms} - {""}

    def dims(self, e: Index) -> tuple[str, ...]:
        """Dims of an expression's value."""
        return self.sort(d for atom, _ in e.terms for d in self.atom_dims(atom))

    def at(self, e: Index, to: tuple[str, ...], wide: bool | None = None) -> str:
        """The expression as a sum of parts of shape `to` (a scalar stays one); see above."""
        wide = is_wide(e) if wide is None else wide
        const = e.const
        added: dict[tuple[str, ...], list[str]] = {}
        taken: dict[tuple[str, ...], list[str]] = {}
        for atom, c in e.terms:
            number = self.tiles[atom.value].literal if isinstance(atom, Loaded) else None
            if number is not None:
                const += c * int(number)
                continue
            dims = self.atom_dims(atom)
            text = self._atom(atom, wide)
            if c == -1 and len(dims) == 1 and dims == to and len(self.wide_blocks) > 1:
                added.setdefault(dims, []).append(f"~{text}")
                const += 1
            else:
                text = text if abs(c) == 1 else f"{text} * {abs(c)}"
                (taken if c < 0 else added).setdefault(dims, []).append(text)
        if const or not added:
            added.setdefault((), []).append(str(const))
        parts = [expand(_sum(texts), dims, to) for dims, texts in added.items()]
        text = _sum(parts)
        for dims, texts in taken.items():
            whole = [expand(_sum(texts), dims, to)] if dims and dims != to else texts
            text = " - ".join([text, *whole])
        return text

    def _atom(self, atom: Atom, wide: bool) -> str:
        if isinstance(atom, Var):
            plain = not wide or atom.name in self.wide_axes
            return atom.name if plain else f"{atom.name}.to(tl.int64)"
        if isinstance(atom, Loaded):
            return self._loaded(atom, wide)
        assert isinstance(atom, (Div, Mod))
        base, d = atom.base, atom.divisor
        whole = "" if wide else self._tiles_within(atom)
        if whole and isinstance(atom, Div):
            return f"({whole}0 // {d})"
        if whole:
            block = f"BLOCK_{whole.upper()}"
            return f"(tl.multiple_of({whole}0 % {d}, {block}) + tl.arange(0, {block}))"
        steps = -(base.lo // d) if base.lo < 0 else 0
        inner = self.at(base + steps * d, self.dims(base), wide or is_wide(base, steps * d))
        inner = grouped(inner)
        if isinstance(atom, Mod):
            return f"({inner} % {d})"
        return f"({inner} // {d} - {steps})" if steps else f"({inner} // {d})"

    def _loaded(self, atom: Loaded, wide: bool) -> str:
        tile = self.tiles[atom.value]
        name = "int64" if wide else "int32"
        return tile.text if tile.dtype.name == name else f"{tile.text}.to(tl.{name})"

    # -- masks ----------------------------------------------------------------------------------

    def mask(self, bounds: Mask, ragged: Iterable[str], to: tuple[str, ...]) -> str:
        """Condition that lanes exist along the ragged axes and that the bounds hold; "" if always.

        Shape: a scalar, or one that broadcasts to `to`.
        """
        groups: dict[tuple[str, ...], list[str]] = {}
        for name in self.sort(ragged):
            groups.setdefault((name,), []).append(f"{name}_ok")
        for bound in bounds:
            dims = self.dims(bound.index)
            for text in self._bound(bound, dims):
                groups.setdefault(dims, []).append(text)
        return " & ".join(expand(" & ".join(parts), dims, to) for dims, parts in groups.items())

    def _bound(self, bound: Bound, dims: tuple[str, ...]) -> list[str]:
        if bound.is_never:
            return ["tl.full([], False, tl.int1)"]
        text = self.at(bound.index, dims)
        if text.lstrip("-").isdecimal():  # Python's comparison is no tile
            holds = bound.lo <= int(text) < bound.hi
            return [] if holds else ["tl.full([], False, tl.int1)"]
        found = []
        if bound.index.lo < bound.lo:
            found.append(f"({text} >= {bound.lo})")
        if bound.index.hi >= bound.hi:
            found.append(f"({text} < {bound.hi})")
        return found

    def mask_dims(self, bounds: Mask) -> tuple[str, ...]:
        """Dims that the bounds depend on."""
        return self.sort(d for b in bounds if not b.is_always for d in self.dims(b.index))


def _sum(parts: Iterable[str]) -> str:
    """Terms joined by + and -."""
    return " + ".join(parts).replace(" + -", " - ")
