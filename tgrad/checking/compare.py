"""Whether two results are the same within the rounding of what was computed.

In: the results of two machines, and the region that both computed. Out: a Difference, or None.
Invariant: equal bits, equal infinities and NaN in the same places are no difference.

Two orders of a sum differ by some roundings of float32; a kernel that also rounds to 16 bits on the
way differs by some of those, where a rounding falls the other way. So differences are counted in
the widest rounding on the way to a result, in parts of the element itself or of the root mean
square of all, whichever is more. A kernel that computes something else is wrong by the values
themselves: some hundred of these units in bfloat16, thousands in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.fusion import region as rg
from tgrad.fusion.region import Region

ROUNDING = {dt.float8_e5m2: 2.0**-3, dt.float8_e4m3fn: 2.0**-4, dt.bfloat16: 2.0**-8,
            dt.float16: 2.0**-11}  # fmt: skip
SUMS, SUMS_OF_DOUBLES = 2.0**-12, 2.0**-36
"""Units where nothing is rounded to fewer bits: of what sums in two orders and short forms of
functions differ by, where most terms cancel too."""
MOST, MOST_OF_ALL = 16.0, 2.0
"""Units by which an element may differ, and the root mean square of all differences."""
FLIPPED = 1 / 1024
"""Share of integers and booleans that may differ, as comparisons of rounded numbers do."""
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Difference:
    """How a buffer differs from what it should be.

    Attributes:
        slot: name of the kernel's argument.
        dtype, size: of the buffer.
        wrong: elements beyond what rounding explains; 0 where only all together are.
        at: where the difference is largest; `have` and `want` are there.
        ratio: root mean square of the differences, in parts of that of the values.
    """

    slot: str
    dtype: DType
    size: int
    wrong: int
    at: int
    have: float
    want: float
    ratio: float


def units_of(region: Region) -> dict[int, float]:
    """For each slot that a region writes, what differences are counted in."""
    found: list[float] = []
    for value in region.values:
        widest = max((found[v] for v in rg.operands_of(value)), default=0.0)
        is_rounded = isinstance(value, rg.Compute | rg.Reduce | rg.Scan)
        found.append(max(widest, ROUNDING.get(value.dtype, 0.0) if is_rounded else 0.0))
    units: dict[int, float] = {}
    for store in region.stores:
        dtype = region.slots[store.slot].dtype
        least = SUMS_OF_DOUBLES if dtype is dt.float64 and _is_double(region) else SUMS
        unit = max(found[store.value], ROUNDING.get(dtype, 0.0), least)
        units[store.slot] = max(unit, units.get(store.slot, 0.0))
    return units


def _is_double(region: Region) -> bool:
    return all(v.dtype is dt.float64 for v in region.values if v.dtype.is_float)


def difference(slot: rg.Slot, have: np.ndarray, want: np.ndarray, unit: float) -> Difference | None:
    """How flat results of one dtype differ; None where rounding explains it."""
    if np.array_equal(have.view(np.uint8), want.view(np.uint8)):
        return None
    if not slot.dtype.is_float:
        return _of_integers(slot, have, want)
    size = np.sqrt(sum(float(np.square(b[np.isfinite(b)]).sum()) for b in _chunks(want)))
    scale = max(float(size) / max(want.size, 1) ** 0.5, np.finfo(np.float64).tiny)
    wrong, at, largest, square, start = 0, 0, 0.0, 0.0, 0
    for a, b in zip(_chunks(have), _chunks(want)):
        with np.errstate(all="ignore"):
            apart = np.abs(a - b)
            apart[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
            apart[np.isnan(apart)] = np.inf
            units = apart / (unit * np.maximum(np.abs(b), scale))
            units[np.isnan(units)] = np.inf
            units[apart == 0] = 0.0
        wrong += int((units > MOST).sum())
        if units.max(initial=0.0) > largest:
            at, largest = start + int(units.argmax()), float(units.max())
        square += float(np.square(apart[np.isfinite(apart)]).sum())
        start += a.size
    ratio = square**0.5 / max(float(size), np.finfo(np.float64).tiny)
    if not wrong and ratio <= MOST_OF_ALL * unit:
        return None
    return _made(slot, have, want, wrong, at, ratio)


def _of_integers(slot: rg.Slot, have: np.ndarray, want: np.ndarray) -> Difference | None:
    where = np.flatnonzero(have != want)
    if where.size <= FLIPPED * have.size:
        return None
    return _made(slot, have, want, where.size, int(where[0]), where.size / have.size)


def _made(
    slot: rg.Slot, have: np.ndarray, want: np.ndarray, wrong: int, at: int, ratio: float
) -> Difference:
    values = float(have[at]), float(want[at])
    return Difference(slot.name, slot.dtype, have.size, wrong, at, *values, ratio)


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Parts of an array as float64, so that no copy of the whole is made."""
    for start in range(0, array.size, _CHUNK):
        yield array[start : start + _CHUNK].astype(np.float64)
