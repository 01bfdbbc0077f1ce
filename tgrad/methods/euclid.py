"""Greatest common divisors and least common multiples.

In: two tensors of one integer dtype and shape. Out: PyTorch's results, those of the smallest
integer, which has no absolute value, included. Invariant: as many of Euclid's steps as the dtype's
worst pair needs, two Fibonacci numbers, so the graph is one for all values.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.errors import DTypeError
from tgrad.graph.op import Op

_UNSIGNED = {1: dt.uint8, 2: dt.uint16, 4: dt.uint32, 8: dt.uint64}


@cache
def steps_for(largest: int) -> int:
    """Steps `b %= a`, `a %= b`, in turn, until one is 0, for any pair of numbers up to `largest`.

    >>> steps_for(2), steps_for(255)
    (2, 12)
    """
    smaller, larger = 1, 2
    while smaller + larger <= largest:
        smaller, larger = larger, smaller + larger
    steps, a, b = 1, larger, smaller  # the first step changes nothing where b < a
    while b:
        a, b, steps = b, a % b, steps + 1
    return steps


def gcd(a: Any, b: Any) -> Any:
    """The greatest common divisor."""
    kind = _check("gcd", a.dtype)
    size_a, size_b = a.abs(), b.abs()
    x, y = (t._apply(Op.BITCAST, dtype=kind) if t.dtype is not kind else t
            for t in (size_a, size_b))  # fmt: skip
    largest = 2 ** (8 * kind.itemsize - (a.dtype is not kind)) - (a.dtype is kind)
    for number in range(steps_for(largest)):
        if number % 2:
            x = x - _quotient(x, y) * y  # x % y, and x where y is 0
        else:
            y = y - _quotient(y, x) * x
    found = x | y
    if a.dtype is kind:
        return found
    found = found._apply(Op.BITCAST, dtype=a.dtype)
    is_negative = ((x != 0) & (size_a < 0)) | ((y != 0) & (size_b < 0))
    return (-found).where(is_negative, found)


def lcm(a: Any, b: Any) -> Any:
    """The least common multiple; 0 where one of both is."""
    _check("lcm", a.dtype)
    wide = dt.int32 if a.dtype.itemsize < 4 else a.dtype
    x, y, divisor = (t.to(wide) for t in (a, b, gcd(a, b)))
    return (_quotient(x, divisor) * y).abs().to(a.dtype)


def _quotient(a: Any, b: Any) -> Any:
    """a // b, and 0 where b is 0."""
    return a._apply(Op.FLOORDIV, b)


def _check(function: str, dtype: DType) -> DType:
    """The unsigned dtype of that size."""
    if dtype.kind not in "iu":
        raise DTypeError(f"{function} of {dtype.name}.", "Give integers.")
    return _UNSIGNED[dtype.itemsize]
