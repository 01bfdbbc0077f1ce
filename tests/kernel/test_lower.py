"""Lowering, before and after: a region and the tile program it becomes."""

from __future__ import annotations

import pytest

from tgrad import dtype as dt
from tgrad.errors import UNKNOWN, VerifyError
from tgrad.fusion.region import (
    Axis,
    Compute,
    Dot,
    Load,
    Reduce,
    Region,
    Slot,
    Space,
    Store,
    Value,
)
from tgrad.graph.index import var
from tgrad.graph.op import Op
from tgrad.kernel.ir import Config, Role, TileAxis
from tgrad.kernel.lower import lower
from tgrad.kernel.printer import print_kernel
from tgrad.kernel.verify import verify_kernel

F32 = dt.float32
ROWS, COLUMNS = Axis("i0", 64), Axis("i1", 100)
IJ = var("i0", 64) * 100 + var("i1", 100)

M, N, K = Axis("i0", 96), Axis("i1", 80), Axis("r0", 70)
OPERANDS = (
    Load(0, var("i0", 96) * 70 + var("r0", 70), (), F32),
    Load(1, var("r0", 70) * 80 + var("i1", 80), (), F32),
)
MN = var("i0", 96) * 80 + var("i1", 80)
TILES = (
    TileAxis("m", (M,), 32, Role.GRID),
    TileAxis("k", (K,), 16, Role.LOOP),
    TileAxis("n", (N,), 32, Role.GRID),
)
"""Of a product of 96x70 and 70x80."""

SOFTMAX = Region(
    "softmax_64x100_f32",
    (ROWS, COLUMNS),
    (Slot("in0", F32, 6400, "in"), Slot("out0", F32, 6400, "out")),
    (
        Load(0, IJ, (), F32),
        Reduce(Op.REDUCE_MAX, 0, ("i1",), F32),
        Compute(Op.SUB, (0, 1), F32),
        Compute(Op.EXP, (2,), F32),
        Reduce(Op.REDUCE_SUM, 3, ("i1",), F32),
        Compute(Op.DIV, (3, 4), F32),
    ),
    (Store(1, IJ, 5),),
    UNKNOWN,
    Space("reduce", (ROWS,), row=(COLUMNS,)),
)

THREE_PASSES = """\
kernel softmax_64x100_f32
  in in0: f32[6400]
  out out0: f32[6400]
  grid i0 = 64 by 1 (i0=64)
  loop i1 = 100 by 1 (i1=100)
  init t0 : f32[] = -inf
  loop i1:
    t1 : f32[] = load in0[(i0*100 + i1)]
    t0 = maximum t0, t1
  init t2 : f32[] = 0.0
  loop i1:
    t3 : f32[] = load in0[(i0*100 + i1)]
    t4 : f32[] = sub t3, t0
    t5 : f32[] = exp t4
    t2 = add t2, t5
    stash t6 : f32[] = t5 over i1
  loop i1:
    t7 : f32[] = unstash t6
    t8 : f32[] = div t7, t2
    out0[(i0*100 + i1)] = t8
"""

ONE_TILE = """\
kernel softmax_64x100_f32
  in in0: f32[6400]
  out out0: f32[6400]
  grid i0 = 64 by 4 (i0=64)
  full i1 = 100 by 128 (i1=100)
  t0 : f32[i0 i1] = load in0[(i0*100 + i1)]
  t1 : f32[i0] = reduce_max t0 over i1
  t2 : f32[i0 i1] = sub t0, t1
  t3 : f32[i0 i1] = exp t2
  t4 : f32[i0] = reduce_sum t3 over i1
  t5 : f32[i0 i1] = div t3, t4
  out0[(i0*100 + i1)] = t5
"""


def test_softmax_as_three_passes_with_a_stash() -> None:
    axes = (TileAxis("i0", (ROWS,), 1, Role.GRID), TileAxis("i1", (COLUMNS,), 1, Role.LOOP))
    kernel = lower(SOFTMAX, Config(axes, stash_limit=1000))
    verify_kernel(kernel)
    assert print_kernel(kernel) == THREE_PASSES


def test_softmax_with_the_row_in_one_tile() -> None:
    axes = (TileAxis("i0", (ROWS,), 4, Role.GRID), TileAxis("i1", (COLUMNS,), 128, Role.FULL))
    kernel = lower(SOFTMAX, Config(axes))
    verify_kernel(kernel)
    assert print_kernel(kernel) == ONE_TILE


def test_what_a_store_writes_over_is_loaded_before() -> None:
    """A row's maximum takes the place of its scale, which only the third pass needs."""
    i, j = var("i0", 64), var("i1", 100)
    region = Region(
        "scaled_64x100_f32",
        (ROWS, COLUMNS),
        (Slot("in0", F32, 6400, "in"), Slot("io0", F32, 64, "inout"), Slot("o", F32, 6400, "out")),
        (
            Load(0, i * 100 + j, (), F32),
            Reduce(Op.REDUCE_MAX, 0, ("i1",), F32),
            Compute(Op.SUB, (0, 1), F32),
            Reduce(Op.REDUCE_SUM, 2, ("i1",), F32),
            Compute(Op.DIV, (2, 3), F32),
            Load(1, i, (), F32),
            Compute(Op.MUL, (4, 5), F32),
        ),
        (Store(1, i, 1), Store(2, i * 100 + j, 6)),
        UNKNOWN,
        Space("reduce", (ROWS,), row=(COLUMNS,)),
    )
    axes = (TileAxis("i0", (ROWS,), 1, Role.GRID), TileAxis("i1", (COLUMNS,), 1, Role.LOOP))
    kernel = lower(region, Config(axes))
    verify_kernel(kernel)
    body = [type(stmt).__name__ for stmt in kernel.body]
    assert body.index("LoadTile") < body.index("StoreTile")


def matmul(*values: Value) -> Region:
    """A region that stores the last of the values, a dot."""
    slots = (
        Slot("in0", F32, 96 * 70, "in"),
        Slot("in1", F32, 5600, "in"),
        Slot("out0", F32, 96 * 80, "out"),
    )
    space = Space("dot", (M, N), m=(M,), n=(N,), k=(K,))
    stores = (Store(2, MN, len(values) - 1),)
    return Region("matmul", (M, N, K), slots, values, stores, UNKNOWN, space)


def test_a_looped_dot_carries_its_accumulator() -> None:
    region = matmul(*OPERANDS, Dot(0, 1, ("r0",), F32))
    kernel = lower(region, Config(TILES))
    verify_kernel(kernel)
    text = print_kernel(kernel)
    assert "init t0 : f32[m n] = 0.0" in text
    assert "loop k:\n    t1 : f32[m k] = load in0[(k + m*70)]" in text
    assert "    t0 += dot t1, t2 over k\n  out0[(m*80 + n)] = t0" in text


def test_what_a_loop_does_not_need_comes_after_it() -> None:
    """Of GELU's backward, x * erf(x) is stored beside the product with erf(x): both at the end."""
    region = Region(
        "gelu_backward",
        (M, N, K),
        (
            Slot("in0", F32, 96 * 70, "in"),
            Slot("in1", F32, 5600, "in"),
            Slot("io0", F32, 96 * 80, "inout"),
            Slot("out0", F32, 96 * 80, "out"),
        ),
        (
            *OPERANDS,
            Load(2, MN, (), F32),
            Compute(Op.ERF, (2,), F32),
            Compute(Op.MUL, (2, 3), F32),
            Dot(0, 1, ("r0",), F32),
            Compute(Op.MUL, (5, 3), F32),
        ),
        (Store(2, MN, 4), Store(3, MN, 6)),
        UNKNOWN,
        Space("dot", (M, N), m=(M,), n=(N,), k=(K,)),
    )
    kernel = lower(region, Config(TILES))
    verify_kernel(kernel)
    body = [type(stmt).__name__ for stmt in kernel.body]
    after = ["LoadTile", "ComputeTile", "ComputeTile", "StoreTile", "ComputeTile", "StoreTile"]
    assert body[:2] == ["Init", "Loop"]
    assert sorted(body[2:]) == sorted(after)


def test_a_config_that_forgets_an_axis_is_refused() -> None:
    axes = (TileAxis("i0", (ROWS,), 1, Role.GRID),)
    with pytest.raises(VerifyError, match="an axis without a tile axis"):
        lower(SOFTMAX, Config(axes))


def test_only_what_a_later_loop_needs_is_stashed() -> None:
    """An exponential that a dot has consumed is not: the store after the loop needs the sum."""
    region = matmul(*OPERANDS, Compute(Op.SIGMOID, (0,), F32), Dot(2, 1, ("r0",), F32))
    kernel = lower(region, Config(TILES, stash_limit=1 << 14))
    verify_kernel(kernel)
    assert "stash" not in print_kernel(kernel)
