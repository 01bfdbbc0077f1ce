"""Inputs for measuring a region, and whether two results agree.

In: a Region, a seed. Out: an array for each of its buffers. Invariant: integers that address memory
lie within it, and counts of needed elements say that all are needed.
"""

from __future__ import annotations

import numpy as np

from tgrad.dtype import DType
from tgrad.fusion import region as rg
from tgrad.fusion.region import Region, Slot
from tgrad.graph.index import Loaded
from tgrad.graph.op import Op

_STEEP = frozenset(
    {
        Op.LT, Op.LE, Op.EQ, Op.NE, Op.FLOOR, Op.ROUND, Op.TRUNC, Op.FLOORDIV, Op.MOD,
        Op.DIV, Op.SQRT, Op.RSQRT, Op.LOG, Op.POW,
    }
)  # fmt: skip
_TOLERANCES = {8: 1e-9, 4: 2e-4, 2: 3e-2}
"""By bytes of a float: of a result's largest element."""
_FLIPPED = 1e-3
"""Part of the elements that may differ where a step, or a steep function, of rounded numbers
decides."""


def make_inputs(region: Region, seed: int) -> list[np.ndarray]:
    """A flat array for each of `region.buffers`: normal numbers, integers within bounds."""
    random, bounds = np.random.default_rng(seed), bounds_of(region)
    return [random_array(slot, bounds.get(n), random) for n, slot in enumerate(region.buffers)]


def bounds_of(region: Region) -> dict[int, tuple[int, int]]:
    """For buffers of integers that address memory, the range that is legal."""
    bounds = _bounds(region)
    numbers = {id(slot): n for n, slot in enumerate(region.slots)}
    names = {slot.name: n for n, slot in enumerate(region.slots)}
    found = (
        (n, bounds.get(numbers.get(id(slot), names.get(slot.name, -1))))
        for n, slot in enumerate(region.buffers)
    )
    return {n: bound for n, bound in found if bound is not None}


def random_array(
    slot: Slot, bound: tuple[int, int] | None, random: np.random.Generator
) -> np.ndarray:
    """A flat array for a buffer."""
    dtype = slot.dtype
    if dtype.is_float:
        return random.standard_normal(slot.size, np.float32).astype(dtype.numpy)
    if dtype.is_bool:
        return random.integers(0, 2, slot.size).astype(bool)
    low, high = bound or (0, 100)
    return random.integers(low, high + 1, slot.size).astype(dtype.numpy)


def _bounds(region: Region) -> dict[int, tuple[int, int]]:
    """For integer slots whose values address memory, the range that every use allows."""
    found: dict[int, tuple[int, int]] = {}

    def narrow(slot: int, low: int, high: int) -> None:
        old = found.get(slot, (low, high))
        found[slot] = max(low, old[0]), max(min(high, old[1]), max(low, old[0]))

    for item in (*region.values, *region.stores):
        for index in rg.indices_of(item):
            for atom in index.atoms():
                if isinstance(atom, Loaded):
                    for slot in _sources(region, atom.value):
                        narrow(slot, max(atom.lo, 0), max(atom.hi, 0))
    for limit in region.limits:
        narrow(limit.slot, limit.capacity, limit.capacity)
    return found


def _sources(region: Region, value: int) -> set[int]:
    """Integer slots that a value is computed from."""
    found: set[int] = set()
    stack = [value]
    while stack:
        v = region.values[stack.pop()]
        if isinstance(v, rg.Load) and region.slots[v.slot].dtype.is_int:
            found.add(v.slot)
        stack.extend(rg.operands_of(v))
    return found


def disagreement(region: Region, wanted: list[np.ndarray], got: list[np.ndarray]) -> str:
    """How the results of two kernels differ beyond rounding, in words; "" if they agree."""
    is_steep = any(isinstance(v, rg.Compute) and v.op in _STEEP for v in region.values)
    for slot, a, b in zip(region.buffers, wanted, got):
        if slot.role == "in":
            continue
        wrong = _wrong(slot.dtype, a, b)
        if wrong > (_FLIPPED if is_steep else 0.0):
            return f"{slot.name} is wrong in {wrong:.2%} of its elements"
    return ""


def _wrong(dtype: DType, a: np.ndarray, b: np.ndarray) -> float:
    """The part of the elements that differ beyond rounding."""
    if not a.size:
        return 0.0
    if not dtype.is_float:
        return float((a != b).mean())
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = x[np.isfinite(x)]
    scale = float(np.abs(finite).max(initial=0.0)) or 1.0
    with np.errstate(invalid="ignore"):
        same = (np.abs(x - y) <= _TOLERANCES[dtype.itemsize] * scale) | (x == y)
    same |= np.isnan(x) & np.isnan(y)
    return float(1 - same.mean())
