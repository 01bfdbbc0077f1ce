"""Minimal filtering (Winograd, after Toom and Cook): correlations with fewer multiplications.

    y[i] = sum over j of d[i + j] * g[j],  i < m, j < r:    y = A^T ((G g) * (B^T d))

In: the number m + r - 1 of points, and r or m. Out: the matrices as exact fractions, and C text
that multiplies vectors by them. Invariant: the identity above is exact.

The products are values of two polynomials at points, and at infinity. m results take m + r - 1
multiplications, not m * r: in two directions 36 for 100 (5x5, 6 points) and 36 for 144 or 16 for 36
(3x3, 6 or 4 points). The points decide how much is rounded. With 0 and +-1 the root mean square of
a convolution's error is 0.4 to 0.7 of the plain sum's; with 0, +-5/8 and +-3/2 it is 0.8 to 1.9
times that; 0, +-1 and +-2, the usual ones, round twice as much (32 channels of normal numbers in
float32; tests/cpu_fallback/test_winograd.py).

Winograd, Arithmetic Complexity of Computations (1980); Lavin and Gray, Fast Algorithms for
Convolutional Neural Networks (2016); Barabasz et al., Error Analysis and Improving the Accuracy of
Winograd Convolution (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache

PAIRS = {4: (Fraction(1),), 6: (Fraction(5, 8), Fraction(3, 2))}
"""For each number of points those that are taken with both signs; 0 and infinity are the others."""

Row = tuple[Fraction, ...]
Matrix = tuple[Row, ...]


def finite_points(count: int) -> Row:
    """0, then pairs of a point and its negative."""
    return (Fraction(0), *(p for a in PAIRS[count] for p in (a, -a)))


def _from_squares(squares: Sequence[Fraction]) -> Row:
    """Coefficients of the product of z - s over these, lowest power first."""
    out: Row = (Fraction(1),)
    for s in squares:
        out = tuple(x - s * y for x, y in zip((Fraction(0), *out), (*out, Fraction(0))))
    return out


@cache
def data_matrix(count: int) -> Matrix:
    """B^T: row p is the product of x - q over the finite points q other than p."""
    squares = [a * a for a in PAIRS[count]]

    def row(even: Row, first: int) -> list[Fraction]:
        """Of a polynomial in x^2, times x^first."""
        out = [Fraction(0)] * count
        out[first : first + 2 * len(even) : 2] = even
        return out

    rows = [row(_from_squares(squares), 0)]
    for n, a in enumerate(PAIRS[count]):
        even = _from_squares(squares[:n] + squares[n + 1 :])
        low, high = row(even, 1), row(even, 2)
        rows += [[y + p * x for x, y in zip(low, high)] for p in (a, -a)]
    rows.append(row(_from_squares(squares), 1))
    return tuple(map(tuple, rows))


@cache
def filter_matrix(count: int, taps: int) -> Matrix:
    """G: row p is (1, p, p^2, ..) over the value at p of B's row; the last power at infinity."""
    rows = []
    for p, row in zip(finite_points(count), data_matrix(count)):
        at = sum(x * p**n for n, x in enumerate(row))
        rows.append(tuple(p**j / at for j in range(taps)))
    return (*rows, (*[Fraction(0)] * (taps - 1), Fraction(1)))


@cache
def result_matrix(count: int, results: int) -> Matrix:
    """A^T: row i is p^i for each point, and 1 at infinity in the last row."""
    return tuple(
        (*(p**i for p in finite_points(count)), Fraction(int(i == results - 1)))
        for i in range(results)
    )


# -- C text --------------------------------------------------------------------------------------


def _sum(row: Sequence[Fraction], names: Sequence[str]) -> str:
    """C text of the sum of row[n] * names[n]; what needs no multiplication comes first."""
    terms = [(x, name) for x, name in zip(row, names, strict=True) if x]
    terms.sort(key=lambda term: (abs(term[0]) != 1, term[0] < 0))
    text = ""
    for x, name in terms:
        sign = "-" if x < 0 else "+" if text else ""
        text += f" {sign} " if text else sign
        text += name if abs(x) == 1 else f"{float(abs(x))!r}f * {name}"
    return text


def _lines(count: int, kind: str, size: int, ctype: str) -> tuple[int, list[str]]:
    """The number of operands x0, x1, .., and lines that make y0, y1, .. of them."""
    lines: list[str] = []

    def define(name: str, row: Sequence[Fraction], names: Sequence[str]) -> None:
        lines.append(f"const {ctype} {name} = {_sum(row, names)};")

    pairs, one = PAIRS[count], Fraction(1)
    if kind == "data":  # rows of a pair are x * even * (x + a) and x * even * (x - a)
        squares = [a * a for a in pairs]
        for n, a in enumerate(pairs):
            even = _from_squares(squares[:n] + squares[n + 1 :])
            for at in (0, 1):
                define(f"u{n}_{at}", even, [f"x{1 + at + 2 * i}" for i in range(len(even))])
            for y, p in ((1 + 2 * n, a), (2 + 2 * n, -a)):
                define(f"y{y}", (one, p), (f"u{n}_1", f"u{n}_0"))
        whole = _from_squares(squares)
        for at, y in ((0, 0), (1, count - 1)):
            define(f"y{y}", whole, [f"x{at + 2 * i}" for i in range(len(whole))])
        return count, lines
    if kind == "filter":
        for n, row in enumerate(filter_matrix(count, size)):
            define(f"y{n}", row, [f"x{j}" for j in range(size)])
        return size, lines
    for n in range(len(pairs)):  # even powers of a pair are equal, odd ones opposite
        pair = f"x{1 + 2 * n}", f"x{2 + 2 * n}"
        define(f"e{n}", (one, one), pair)
        define(f"o{n}", (one, -one), pair)
    for i in range(size):
        names = [f"{'eo'[i % 2]}{n}" for n in range(len(pairs))]
        row = result_matrix(count, size)[i]
        define(f"y{i}", (row[0], *row[1:-1:2], row[-1]), ("x0", *names, f"x{count - 1}"))
    return count, lines


def transform_name(kind: str, count: int, size: int, lanes: int) -> str:
    """The C function of `transform_piece`."""
    return f"tg_winograd_{kind}_{count}_{size}_{lanes}"


@cache
def transform_piece(kind: str, count: int, size: int, lanes: int) -> str:
    """The product of a matrix and vectors of `lanes` elements, `fs` apart; results `ts` apart.

    Args:
        kind: "data" for B^T, "filter" for G, "result" for A^T.
        count: points.
        size: of data the points again, of a filter its taps, of results how many.
    """
    ctype = f"tg_float_{lanes}"
    inputs, lines = _lines(count, kind, size, ctype)
    outputs = size if kind == "result" else count
    lines = [
        *(f"const {ctype} x{n} = *(const {ctype} *)(from + {n} * fs);" for n in range(inputs)),
        *lines,
        *(f"*({ctype} *)(to + {n} * ts) = y{n};" for n in range(outputs)),
    ]
    return "\n".join(
        [
            f"static inline void {transform_name(kind, count, size, lanes)}(",
            "    const float *restrict from, ptrdiff_t fs, float *restrict to, ptrdiff_t ts) {",
            *(f"  {line}" for line in lines),
            "}\n",
        ]
    )
