"""Arithmetic that a chain can do once a row or once a result in place of once an element.

In: a settled chain. Out: one that computes the same, as exactly or more so. Invariant: pure; what
is stored stays what it is; the sums over k still rescale.

    x = cast (cast s to half) to float   =>  x = s              for a first dot s, in float32
    p a - p d                            =>  p (a - d)          for p an exponential
    Σ_k half(c x) v                      =>  c Σ_k half(x) v
    max_k (c s)                          =>  c max_k s          for a number c > 0
    exp (c s - max_k (c s))              =>  exp (c (s - max_k s))

Products with a number c > 0 are monotone, in floating point too, so the maximum is the same number
in the fourth. It moves out of the choice of a mask, where (mask, c s, -inf) = c where (mask, s,
-inf), and so next to the exponential, which takes it into its own product of log2 e.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.fusion import region as rg
from tgrad.fusion.axes import drop_dead, with_numbers
from tgrad.fusion.region import Region, Space
from tgrad.graph.op import Op

_COMPUTED = (dt.float32, dt.float64)
"""What is computed in these may be computed in another order: a result in half precision is rounded
to it, and users see that."""

_MOST = 2.0**64
"""Numbers beyond this or its inverse stay where they are: they keep others from over- or
underflow."""


def simplify_chain(region: Region, space: Space) -> Region:
    """The chain, settled and of the given space, by the equations of the module."""
    for equation in (
        _without_round_trips,
        _with_weights_apart,
        _with_numbers_after_sums,
        _with_numbers_after_maxima,
    ):
        region = drop_dead(equation(region, space))
    return region


class _Values(rg.Values):
    """The values of a new region, each once, and the number there of each old one."""

    def __init__(self) -> None:
        super().__init__()
        self.new: dict[int, int] = {}

    def times(self, number: int, factor: float) -> int:
        dtype = self.values[number].dtype
        if factor == 1:
            return number
        return self.emit(rg.Compute(Op.MUL, (number, self.emit(rg.Const(factor, dtype))), dtype))


Rule = Callable[[_Values, int, rg.Value], int | None]
"""(new values, old number, the value on new numbers) -> its new number; None to keep it."""


def _rebuilt(region: Region, rule: Rule) -> Region:
    made = _Values()
    for number, v in enumerate(region.values):
        value = with_numbers(v, made.new)
        found = rule(made, number, value)
        made.new[number] = made.emit(value) if found is None else found
    stores = tuple(replace(s, value=made.new[s.value]) for s in region.stores)
    return replace(region, values=tuple(made.values), stores=stores)


def _uses(region: Region) -> Counter[int]:
    return Counter(x for item in (*region.values, *region.stores) for x in rg.operands_of(item))


def _constant(region: Region, number: int) -> float | None:
    """The number that a value is, if it may move."""
    v = region.values[number]
    if not isinstance(v, rg.Const) or v.dtype not in _COMPUTED:
        return None
    return float(v.value) if _is_moderate(v.value) else None


def _is_moderate(factor: float) -> bool:
    return 1 / _MOST <= abs(factor) <= _MOST


def _scaled(region: Region, number: int) -> tuple[int, float] | None:
    """(x, c) of a value x * c."""
    v = region.values[number]
    if isinstance(v, rg.Compute) and v.op is Op.MUL:
        for x, factor in (v.args, v.args[::-1]):
            c = _constant(region, factor)
            if c is not None and _constant(region, x) is None:
                return x, c
    return None


# -- round trips, and weights apart ----------------------------------------------------------------


def _without_round_trips(region: Region, space: Space) -> Region:
    k = {a.name for a in space.k}
    firsts = {n for n, v in enumerate(region.values) if isinstance(v, rg.Dot) and set(v.axes) != k}

    def rule(made: _Values, number: int, value: rg.Value) -> int | None:
        half = _cast_from(region, number)
        if half is None or region.values[half].dtype not in (dt.float16, dt.bfloat16):
            return None
        dot = _cast_from(region, half)
        is_same = dot in firsts and region.values[dot].dtype is value.dtype
        return made.new[dot] if dot is not None and is_same else None

    return _rebuilt(region, rule)


def _cast_from(region: Region, number: int) -> int | None:
    v = region.values[number]
    return v.args[0] if isinstance(v, rg.Compute) and v.op is Op.CAST else None


def _with_weights_apart(region: Region, space: Space) -> Region:
    uses = _uses(region)

    def factors(number: int) -> tuple[int, ...]:
        v = region.values[number]
        if not isinstance(v, rg.Compute) or v.op is not Op.MUL or uses[number] > 1:
            return ()
        return v.args

    def is_power(number: int) -> bool:
        v = region.values[number]
        return isinstance(v, rg.Compute) and v.op is Op.EXP

    def rule(made: _Values, number: int, value: rg.Value) -> int | None:
        v = region.values[number]
        if not isinstance(v, rg.Compute) or v.op is not Op.SUB or v.dtype not in _COMPUTED:
            return None
        left, right = (factors(x) for x in v.args)
        shared = [p for p in left if p in right and is_power(p)]
        if not shared:
            return None
        p = shared[0]
        a, d = (made.new[f[1] if f[0] == p else f[0]] for f in (left, right))
        rest = made.emit(rg.Compute(Op.SUB, (a, d), v.dtype))
        return made.emit(rg.Compute(Op.MUL, (rest, made.new[p]), v.dtype))

    return _rebuilt(region, rule)


# -- numbers behind sums ---------------------------------------------------------------------------


def _with_numbers_after_sums(region: Region, space: Space) -> Region:
    uses, k = _uses(region), {a.name for a in space.k}
    columns = {a.name for a in space.n}
    dropped: dict[int, int] = {}
    after: dict[int, float] = {}
    for number, v in enumerate(region.values):
        if isinstance(v, rg.Dot) and set(v.axes) == k:
            side = v.b if set(region.dims[v.a]) & columns else v.a
            found = dict(_products(region, side, uses))
            factor = math.prod(c for _, c in found.values())
            if found and _is_in_range(region.values[side].dtype, factor):
                dropped |= {product: x for product, (x, _) in found.items()}
                after[number] = factor

    def rule(made: _Values, number: int, value: rg.Value) -> int | None:
        if number in dropped:
            return made.new[dropped[number]]
        return made.times(made.emit(value), after[number]) if number in after else None

    return _rebuilt(region, rule)


def _products(
    region: Region, operand: int, uses: Counter[int]
) -> Iterator[tuple[int, tuple[int, float]]]:
    """The products with numbers that an operand is linear in, and nothing else needs: (the product,
    (what is multiplied, the number))."""
    stack = [operand]
    while stack:
        number = stack.pop()
        v = region.values[number]
        if uses[number] > 1 or not isinstance(v, rg.Compute):
            continue
        scaled = _scaled(region, number)
        if scaled is not None:
            yield number, scaled
            stack.append(scaled[0])
        elif v.op in (Op.NEG, Op.MUL) or (v.op is Op.CAST and number == operand):
            stack.extend(v.args)
        elif v.op is Op.WHERE and _is_number(region, v.args[2], 0):
            stack.append(v.args[1])


def _is_in_range(dtype: DType, factor: float) -> bool:
    """Whether an operand may do without a factor. Without a large one the least numbers of float16
    are lost; what is too large for it without a small one was so before it was multiplied. 8-bit
    floats are scaled on purpose."""
    if dtype is dt.float16 and abs(factor) > 1:
        return False
    return _is_moderate(factor) and not dtype.is_float8


def _is_number(region: Region, number: int, wanted: float) -> bool:
    v = region.values[number]
    return isinstance(v, rg.Const) and v.value == wanted


# -- numbers behind maxima -------------------------------------------------------------------------


def _with_numbers_after_maxima(region: Region, space: Space) -> Region:
    k = {a.name for a in space.k}
    values, dims = region.values, region.dims
    maxima = {
        n for n, v in enumerate(values)
        if isinstance(v, rg.Reduce) and v.op is Op.REDUCE_MAX and _shifts_its_own(region, n, k)
    }  # fmt: skip
    factors: dict[int, tuple[int, float]] = {}
    """By old number, of values that are products with a number: (new number of the rest, c)."""

    def keep(made: _Values, number: int, rest: rg.Value, c: float) -> int:
        factors[number] = made.emit(rest), c
        return made.times(factors[number][0], c)

    def rule(made: _Values, number: int, value: rg.Value) -> int | None:
        v = values[number]
        if isinstance(v, rg.Reduce) and number in maxima and v.arg in factors:
            rest, c = factors[v.arg]
            return keep(made, number, replace(v, arg=rest), c)
        if not isinstance(v, rg.Compute):
            return None
        scaled = _scaled(region, number)
        if scaled is not None and scaled[1] > 0 and set(dims[number]) & k:
            rest, c = made.new[scaled[0]], scaled[1]
            if scaled[0] in factors and _is_moderate(c * factors[scaled[0]][1]):
                rest, c = factors[scaled[0]][0], c * factors[scaled[0]][1]
            factors[number] = rest, c
            return made.times(rest, c)
        if v.op is Op.EQ and v.args[0] in factors and _is_number(region, v.args[1], -math.inf):
            return made.emit(replace(v, args=(factors[v.args[0]][0], made.new[v.args[1]])))
        if v.op is Op.WHERE:
            masked = [x for x in v.args[1:] if not _is_number(region, x, -math.inf)]
            if rg.finite_maximum(values, number) is not None:
                masked = [v.args[2]]
            if len(masked) == 1 and masked[0] in factors:
                rest, c = factors[masked[0]]
                args = (rest if x == masked[0] else made.new[x] for x in v.args)
                return keep(made, number, replace(v, args=tuple(args)), c)
        if v.op is Op.SUB and all(x in factors for x in v.args):
            (x, c), (r, same) = (factors[a] for a in v.args)
            if c == same:
                return keep(made, number, replace(v, args=(x, r)), c)
        return None

    return _rebuilt(region, rule)


def _shifts_its_own(region: Region, maximum: int, k: set[str]) -> bool:
    """Whether all that a maximum over k does for elements is to be taken from what it is of."""
    values, dims, v = region.values, region.dims, region.values[maximum]
    assert isinstance(v, rg.Reduce)
    forms = {maximum, *(n for n in range(len(values)) if rg.finite_maximum(values, n) == maximum)}
    for number, user in enumerate(values):
        if set(dims[number]) & k and forms.intersection(rg.operands_of(user)):
            if not isinstance(user, rg.Compute) or user.op is not Op.SUB or user.args[0] != v.arg:
                return False
    return True
