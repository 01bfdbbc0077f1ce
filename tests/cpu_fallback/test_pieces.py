"""Kernels in pieces between which masks change."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
from tests.cpu_fallback.cases import F32, Draft, check, random_slots
from tgrad.cpu_fallback import detect_machine
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.cpu_fallback.pieces import in_pieces
from tgrad.cpu_fallback.unroll import unroll_short_loops
from tgrad.fusion.region import Region
from tgrad.graph.index import Bound
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.lower import lower
from tgrad.settings import Settings


def parts(count: int, rows: int, columns: int, along: str = "i", reduce: str = "") -> Region:
    """A sum of padded parts, each the tanh of a tensor of its own, stored or summed."""
    d = Draft(i=rows, j=columns)
    length = d.extent(along) // count
    total = -1
    for n in range(count):
        place = d.var(along) - n * length
        mask = (Bound(place, 0, length),)
        index = place * columns + d.var("j") if along == "i" else d.var("i") * length + place
        x = d.load(d.slot(f"x{n}", F32, rows * columns // count), index, mask)
        y = d.op(Op.TANH, x)
        total = y if n == 0 else d.op(Op.ADD, total, y)
    if reduce:
        total = d.reduce(Op.REDUCE_SUM, total, reduce)
        kept = "i" if reduce == "j" else "j"
        d.store(total, kept)
        return d.region("parts", "reduce", parallel=kept, row=reduce)
    d.store(total, "i j")
    return d.region("parts", "map", parallel="i j")


def pieces_of(region: Region) -> list[ir.Kernel]:
    return in_pieces(lower(region, choose_config(region, detect_machine())))


@pytest.mark.parametrize(
    "count, rows, columns, along",
    [(4, 33, 512, "j"), (3, 9, 500, "i"), (32, 32, 700, "i"), (5, 2, 800, "j")],
)
def test_parts_are_computed_where_they_are(
    settings: Settings, count: int, rows: int, columns: int, along: str
) -> None:
    region = parts(count, rows, columns, along)
    pieces = pieces_of(region)
    assert len(pieces) == count
    for piece in pieces:
        loads = [s for s in piece.body if isinstance(s, ir.LoadTile)]
        assert len(loads) == 1 and not loads[0].mask
    check(region, settings)


@pytest.mark.parametrize("reduce", ["i", "j"])
def test_loops_are_cut(settings: Settings, reduce: str) -> None:
    region = parts(6, 24, 96, reduce, reduce)
    [kernel] = pieces_of(region)
    loops = [s for s in kernel.body if isinstance(s, ir.Loop)]
    assert [kernel.axis(s.axis).extent for s in loops] == 6 * [
        region.axes["ij".index(reduce)].extent // 6
    ]
    check(region, settings, tolerance=1e-4)


def two_loops(rows: int, columns: int) -> Region:
    """Rows less their sums, where the sums and what is stored have parts of other lengths."""
    d = Draft(i=rows, j=columns)
    row, place = d.var("i") * columns, d.var("j")
    x = d.load(d.slot("x", F32, rows * columns), row + place)

    def part(name: str, start: int, stop: int) -> int:
        values = d.slot(name, F32, rows * (stop - start))
        index = d.var("i") * (stop - start) + place - start
        mask = (Bound(place, start, stop),)
        return d.op(Op.TANH, d.op(Op.EXP, d.op(Op.TANH, d.load(values, index, mask))))

    total = d.reduce(Op.REDUCE_SUM, d.op(Op.ADD, x, part("first", 0, 1)), "j")
    d.store(d.op(Op.ADD, d.op(Op.SUB, x, total), part("second", 1, 2)), "i j")
    return d.region("two_loops", "reduce", parallel="i", row="j")


@pytest.mark.parametrize("columns", [3, 5])
def test_loops_of_one_axis_are_cut_where_each_masks(settings: Settings, columns: int) -> None:
    region = two_loops(4, columns)
    [kernel] = pieces_of(region)
    loops = [kernel.axis(s.axis).extent for s in kernel.body if isinstance(s, ir.Loop)]
    assert loops == [1, columns - 1, 1, 1, columns - 2]
    check(region, settings, tolerance=1e-4)


def spread(rows: int, columns: int, step: int) -> Region:
    """tanh of what `step` windows around an element hold, each of which holds every step-th."""
    d = Draft(i=rows, j=columns)
    x = d.slot("x", F32, rows * -(-columns // step))
    total = -1
    for tap in range(step):
        place = d.var("j") + tap
        mask = (Bound(place % step, 0, 1), Bound(place // step, 0, -(-columns // step)))
        found = d.load(x, d.var("i") * -(-columns // step) + place // step, mask)
        y = d.op(Op.TANH, found)
        total = y if not tap else d.op(Op.ADD, total, y)
    d.store(total, "i j")
    return d.region("spread", "map", parallel="i j")


@pytest.mark.parametrize("rows, columns, step", [(5, 64, 2), (3, 131, 3), (2, 1000, 4)])
def test_every_other_element_is_a_piece(
    settings: Settings, rows: int, columns: int, step: int
) -> None:
    region = spread(rows, columns, step)
    pieces = pieces_of(region)
    assert len(pieces) >= step
    assert all(sum(isinstance(s, ir.LoadTile) for s in p.body) <= 1 for p in pieces)
    check(region, settings)


def test_periods_that_are_long_or_whose_parts_are_short_stay_together() -> None:
    assert len(pieces_of(spread(4, 1000, 5))) == 1
    assert len(pieces_of(spread(4, 40, 3))) == 1


@pytest.mark.parametrize("rows, columns", [(6, 40), (1, 33), (12, 128)])
def test_windows_of_every_other_element_have_no_masks_inside(
    settings: Settings, rows: int, columns: int
) -> None:
    """Loads of elements that are not neighbours are vectors only without masks."""
    d = Draft(i=rows, j=columns, r=3, s=3)
    row, column = d.var("i") * 2 + d.var("r") - 1, d.var("j") * 2 + d.var("s") - 1
    height, width = 2 * rows, 2 * columns
    mask = (Bound(row, 0, height), Bound(column, 0, width))
    x = d.load(d.slot("x", F32, height * width), row * width + column, mask)
    d.store(d.reduce(Op.REDUCE_MAX, x, "r s"), "i j")
    region = d.region("pool", "reduce", parallel="i j", row="r s")
    config = choose_config(region, detect_machine())
    pieces = in_pieces(unroll_short_loops(lower(region, config)))
    check(region, settings)
    masks = [s.mask for p in pieces if max(a.block for a in p.grid) > 2
             for s in p.body if isinstance(s, ir.LoadTile)]  # fmt: skip
    assert masks and not any(masks)


@pytest.mark.parametrize("lo, hi", [(5, 6), (1, 3), (0, 1), (99, 100), (97, 99), (1, 99), (2, 98)])
def test_cuts_leave_no_single_lane(settings: Settings, lo: int, hi: int) -> None:
    """Of a masked load of every other element; a piece is a loop of two lanes at least."""
    d = Draft(i=3, j=100)
    x, total = d.slot("x", F32, 3 * 200), -1
    for tap in range(4):
        place = d.var("i") * 200 + d.var("j") * 2 + tap // 2
        y = d.load(x, place, (Bound(d.var("j"), lo, hi),))
        total = y if not tap else d.op(Op.ADD, total, y)
    d.store(total, "i j")
    region = d.region("part", "map", parallel="i j")
    assert all(a.extent > 1 for p in pieces_of(region) for a in p.grid if a.name == "j")
    check(region, settings)


def test_many_parts_and_short_ones_stay_together() -> None:
    assert len(pieces_of(parts(64, 64, 512))) == 1
    assert len(pieces_of(parts(64, 4, 512, "j"))) == 1


def test_signs_of_zero_are_what_sums_give(settings: Settings) -> None:
    region = parts(4, 8, 256)
    arrays = [np.full_like(a, -0.0) for a in random_slots(region)]
    have = check(region, settings, arrays)[-1]
    assert not np.signbit(have).any(), "-0 + 0 is 0"


@pytest.mark.parametrize("name", ["choose", "bools", "rows"])
def test_what_is_known_in_a_piece(name: str) -> None:
    """Selections, conditions and gathers under masks, against the same on `numpy`."""

    def compute(device: str) -> np.ndarray:
        rng = np.random.default_rng(4)
        x, y = (
            tgrad.tensor(rng.standard_normal((6, 128), dtype=np.float32), device=device)
            for _ in range(2)
        )
        if name == "choose":
            return tgrad.cat([x.exp(), y.sigmoid(), x * y, x - 1], 1).relu().numpy()
        if name == "bools":
            return tgrad.cat([x > 0, (y > 0) & (x < y), x == y], 1).numpy()
        index = tgrad.tensor(rng.integers(0, 6, 6), device=device)
        return (tgrad.cat([x[index].tanh(), y.tanh(), x.tanh()]) * 2).numpy()

    np.testing.assert_allclose(compute("cpu"), compute("numpy"), rtol=1e-6, atol=1e-6)
