"""Rows in segments between which masks change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.cpu_fallback.cases import F32, Draft, check
from tgrad.cpu_fallback import detect_machine
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.cpu_fallback.pieces import in_pieces
from tgrad.cpu_fallback.segments import MOST_SEGMENTS, in_segments
from tgrad.fusion.region import Const, IndexValue, Region
from tgrad.graph.index import Bound
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Role
from tgrad.kernel.lower import lower
from tgrad.settings import Settings


def segmented(region: Region) -> ir.Kernel:
    return in_segments(lower(region, choose_config(region, detect_machine())))


def lengths(kernel: ir.Kernel) -> list[int]:
    return [a.extent for a in kernel.axes if a.role is Role.FULL]


def padded(rows: int, columns: int, before: int, after: int) -> Region:
    d = Draft(i=rows, j=columns + before + after)
    place = d.var("j") - before
    mask = (Bound(place, 0, columns),)
    x = d.load(d.slot("x", F32, rows * columns), d.var("i") * columns + place, mask)
    d.store(x, "i j")
    return d.region("padded", "map", parallel="i j")


@pytest.mark.parametrize(
    ("columns", "before", "after", "segments"),
    [(56, 2, 2, [2, 56, 2]), (31, 1, 3, [31, 3]), (40, 0, 5, [40, 5]), (1000, 7, 1, [7, 1000])],
)
def test_no_segment_has_a_mask(
    settings: Settings, columns: int, before: int, after: int, segments: list[int]
) -> None:
    """A segment of one element needs no axis."""
    region = padded(5, columns, before, after)
    kernel = segmented(region)
    assert lengths(kernel) == segments
    assert not any(s.mask for s in kernel.body if isinstance(s, ir.LoadTile))
    assert sum(isinstance(s, ir.StoreTile) for s in kernel.body) == (before > 0) + 1 + (after > 0)
    check(region, settings)


@pytest.mark.parametrize("op", [Op.LT, Op.LE, Op.EQ, Op.NE])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("step", [1, -1, 2])
def test_comparisons_of_the_index_are_decided(
    settings: Settings, op: Op, swapped: bool, step: int
) -> None:
    d = Draft(i=3, j=50)
    start = 60 if step < 0 else 1
    index = d.add(IndexValue(d.var("j") * step + start, tgrad.int64))
    number = d.add(Const(start + 20 * step, tgrad.int64))
    pair = (number, index) if swapped else (index, number)
    chosen = d.op(op, *pair, dtype=tgrad.bool)
    d.store(d.op(Op.WHERE, chosen, d.input("x", "i j"), d.input("y", "i j")), "i j")
    region = d.region("chosen", "map", parallel="i j")
    kernel = segmented(region)
    assert lengths(kernel)
    assert not any(isinstance(s, ir.ComputeTile) for s in kernel.body), "all is decided"
    check(region, settings)


def test_short_rows_and_rows_of_many_segments_stay_whole() -> None:
    assert not lengths(segmented(padded(64, 9, 2, 2)))
    d = Draft(i=64, j=400)
    total = -1
    for n in range(MOST_SEGMENTS):
        mask = (Bound(d.var("j"), 20 + 40 * n, 30 + 40 * n),)
        x = d.load(d.slot(f"x{n}", F32, 64 * 400), "i j", mask)
        total = x if n == 0 else d.op(Op.ADD, total, x)
    d.store(total, "i j")
    assert not lengths(segmented(d.region("many", "map", parallel="i j")))


def test_planes_are_cut_in_rows_and_columns(settings: Settings) -> None:
    """Constant padding of images: pieces by rows, segments in them, and no mask anywhere."""
    d = Draft(b=4, i=20, j=60)
    row, column = d.var("i") - 2, d.var("j") - 2
    mask = (Bound(row, 0, 16), Bound(column, 0, 56))
    x = d.slot("x", F32, 4 * 16 * 56)
    d.store(d.load(x, d.var("b") * 16 * 56 + row * 56 + column, mask), "b i j")
    region = d.region("plane", "map", parallel="b i j")
    pieces = in_pieces(segmented(region))
    assert len(pieces) == 3
    assert not any(s.mask for p in pieces for s in p.body if isinstance(s, ir.LoadTile))
    check(region, settings)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("shape", [(2, 3, 17, 40), (1, 1, 5, 5), (2, 1, 33, 16), (0, 2, 5, 20)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_pads_and_their_gradients(mode: str, shape: tuple[int, ...], dtype: str) -> None:
    if 0 in shape and mode != "constant":  # PyTorch refuses empty batches in the other modes
        shape = (1, *shape[1:])
    values = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    if values.size:
        values.flat[:3] = np.nan, np.inf, -np.inf
    wide = (3, 4, 1, 2)
    x = tgrad.tensor(values, dtype=getattr(tgrad, dtype), device="cpu", requires_grad=True)
    y = tgrad.nn.functional.pad(x, wide, mode=mode)
    (y * 2).sum().backward()
    t = torch.tensor(values, dtype=getattr(torch, dtype), requires_grad=True)
    u = torch.nn.functional.pad(t, wide, mode=mode)
    (u * 2).sum().backward()
    np.testing.assert_array_equal(y.detach().float().numpy(), u.detach().float().numpy())
    np.testing.assert_allclose(x.grad.float().numpy(), t.grad.float().numpy())
