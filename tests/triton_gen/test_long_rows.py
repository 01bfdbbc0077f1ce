"""Rows that are walked: their largest and sum of exp in one pass, whole blocks without masks, and
elements that are picked by an index."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tgrad.triton_gen as triton_gen
from tests.triton_gen.builder import Builder, run, runtime
from tests.triton_gen.patterns import softmax
from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.fusion.region import IndexValue, Region
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Config, Draft, Role, TileAxis
from tgrad.kernel.lower import lower
from tgrad.kernel.verify import verify_kernel
from tgrad.settings import settings
from tgrad.triton_gen import choose_config, emit, target_by_name
from tgrad.triton_gen.emit_rest import rests_of
from tgrad.triton_gen.online import with_online_sums
from tgrad.triton_gen.picked import with_picked_loads
from tgrad.triton_gen.prelude import GPU

pytest.importorskip("triton")
INF, NAN = np.inf, np.nan


def walked(region: Region, block: int, warps: int = 1) -> Config:
    """One row a program, in steps."""
    row = TileAxis("r", region.space.row, block, Role.LOOP)
    rows = TileAxis("i", region.space.parallel, 1, Role.GRID)
    return Config((rows, row), num_warps=warps, num_stages=1)


def rows(length: int) -> np.ndarray:
    """Rows with every kind of number, by the kind of what comes of them."""
    x = np.random.default_rng(3).standard_normal((7, length)) * 4
    x[1, length // 2] = NAN
    x[2, -1] = INF
    x[3] = -INF
    x[4, 1:-1] = -INF
    x[5] = -3.3e38
    x[6, 3] = 3.2e38
    return x.astype(np.float32)


def softmax_of(x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True).astype(np.float64))
        return e / e.sum(1, keepdims=True)


def rounded_softmax(rows: int, length: int) -> Region:
    """Of float32, stored in float16."""
    b = Builder(i=rows, j=length)
    x = b.load("i j")
    e = b.op(Op.EXP, b.op(Op.SUB, x, b.reduce(Op.REDUCE_MAX, x, "j")))
    out = b.op(Op.DIV, e, b.reduce(Op.REDUCE_SUM, e, "j"))
    b.store(b.op(Op.CAST, out, dtype=dt.float16), "i j")
    return b.region(f"rounded_softmax_{rows}x{length}", "reduce", row="j")


def picks(rows: int, length: int, dtype: DType = dt.float32) -> Region:
    """Twice the element of each row that an index names, and the row's sum."""
    b = Builder(i=rows, r=length)
    target = b.load("i", dt.int64)
    place = b.add(IndexValue(b.var("r"), dt.int64))
    x = b.op(Op.CAST, b.load("i r", dtype), dtype=dt.float32)
    twice = b.op(Op.ADD, x, x)
    chosen = b.op(Op.WHERE, b.op(Op.EQ, place, target), twice, b.const(0.0))
    b.store(b.reduce(Op.REDUCE_SUM, chosen, "r"), "i")
    b.store(b.reduce(Op.REDUCE_MAX, x, "r"), "i")
    return b.region("picks", "reduce", parallel="i", row="r")


def loops(kernel: ir.Kernel) -> list[ir.Loop]:
    return [s for s in kernel.body if isinstance(s, ir.Loop)]


@pytest.mark.parametrize("dtype", [dt.float32, dt.float16, dt.bfloat16])
def test_a_softmax_walks_its_row_twice(dtype: DType) -> None:
    region = softmax(64, 50257, dtype)
    kernel = lower(region, choose_config(region, target_by_name("sm_90")))
    assert len(loops(kernel)) == 3
    online = with_online_sums(kernel)
    verify_kernel(online)
    assert len(loops(online)) == 2
    assert sum(isinstance(s, ir.JoinExp) for s in online.body) == 1


def test_a_sum_of_other_numbers_waits_for_the_largest() -> None:
    b = Builder(i=64, r=50257)
    x, y = b.load("i r"), b.load("i r")
    e = b.op(Op.EXP, b.op(Op.SUB, y, b.reduce(Op.REDUCE_MAX, x, "r")))
    b.store(b.reduce(Op.REDUCE_SUM, e, "r"), "i")
    region = b.region("others", "reduce", parallel="i", row="r")
    kernel = lower(region, choose_config(region, target_by_name("sm_90")))
    assert with_online_sums(kernel) is kernel


@pytest.mark.parametrize("length", [1000, 1024, 515, 769])
def test_rows_of_any_numbers_have_their_softmax(length: int) -> None:
    region = softmax(7, length, dt.float32)
    x = rows(length)
    (y,) = run(region, [x.ravel()], walked(region, 128))
    np.testing.assert_allclose(y.reshape(x.shape), softmax_of(x), rtol=3e-6, atol=1e-30)


@pytest.mark.parametrize("length", [1000, 769])
def test_the_short_form_holds_to_the_ends_of_float32(length: int) -> None:
    region = rounded_softmax(4, length)
    numbers = rows(length)[[0, 4, 5, 6]]
    y = run_as_on_gpus(region, numbers, walked(region, 128))
    assert "_exp_sum_short" in emit(lower(region, walked(region, 128)), walked(region, 128))
    np.testing.assert_allclose(y.reshape(numbers.shape), softmax_of(numbers), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("length", [64, 769])
def test_the_short_form_holds_for_large_numbers(length: int) -> None:
    """Masked rows, whose numbers are all large, and neighbours among such."""
    region = rounded_softmax(9, length)
    least = np.finfo(np.float32).min
    numbers = np.empty((9, length), np.float32)
    for row, largest in enumerate((-1e9, -3e9, -1e30, least, 1e9, 2.0**31, 1e20, -least, 2.0**29)):
        numbers[row] = largest
    numbers[2:, 1] = -INF
    numbers[4:, 2] = np.nextafter(numbers[4:, 3], -INF)
    for config in (walked(region, 64), choose_config(region, target_by_name("sm_90"))):
        y = run_as_on_gpus(region, numbers, config)
        np.testing.assert_allclose(y.reshape(9, length), softmax_of(numbers), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("exponent", [*range(-20, 29, 7), *range(29, 128, 3), 127])
def test_what_is_multiplied_loses_little(exponent: int) -> None:
    """Of y C, in the exponent, where an FMA takes the other product: at most 2^32 as a factor of a
    row, which its quotients do not have, and nothing where y is large."""
    for part in (1.0, 1.3, 1.9999999):
        y = np.float32(part * 2.0**exponent)
        scale = np.float32(1.4426950408889634 if exponent < 29 else 2.0 ** (32 - exponent))
        product = np.float32(float(y) * float(scale))
        lost = abs(Fraction(float(product)) - Fraction(float(y)) * Fraction(float(scale)))
        assert lost <= (32 if exponent < 29 else 0)
        if exponent >= 29:  # the next number below is nothing beside it
            assert (float(y) - float(np.nextafter(y, np.float32(0)))) * float(scale) >= 256


def run_as_on_gpus(region: Region, x: np.ndarray, config: Config) -> Any:
    """What Triton's interpreter makes of the source for GPUs."""
    kernel = lower(region, config)
    artifact = triton_gen._interpreted(Draft(kernel, config, emit(kernel, config, GPU)), settings)
    machine = runtime("interpret")
    memories = [machine.allocate(s.nbytes) for s in region.slots]
    machine.write(memories[0], x)
    machine.launch(artifact, memories)
    out = region.slots[-1]
    return machine.read(memories[-1], out.dtype, (out.size,))


def test_whole_blocks_have_no_mask() -> None:
    region = softmax(8192, 50304, dt.bfloat16)
    config = choose_config(region, target_by_name("sm_90"))
    kernel = lower(region, config)
    assert rests_of(kernel, config) == {"r": 2048}
    source = emit(kernel, config).split("@triton.jit")[-1]
    whole, *_ = source.split("in tl.range(0, 49152, BLOCK_R):")[1].split("for r0")
    rest = source.split("in tl.range(49152, 50304, REST_R):")[1].split("for r0")[0]
    assert "mask" not in whole and "r_ok" not in whole
    assert "mask=r_ok" in rest


def test_no_thread_of_the_rest_shares_an_element() -> None:
    region = softmax(64, 50305, dt.bfloat16)
    config = walked(region, 8192, warps=16)
    assert rests_of(lower(region, config), config) == {"r": 2048}
    region = softmax(64, 49153, dt.bfloat16)
    config = walked(region, 8192, warps=16)
    assert rests_of(lower(region, config), config) == {"r": 1024}


@pytest.mark.parametrize("length", [1000, 1024, 700])
def test_an_index_picks_an_element(length: int) -> None:
    region = picks(7, length)
    target = np.array([0, length - 1, -1, length, 2**32 + 3, -100, 600], np.int64)
    x = np.random.default_rng(5).standard_normal((7, length)).astype(np.float32)
    x[1, 0] = INF
    kernel = lower(region, walked(region, 128))
    picked = with_picked_loads(kernel)
    verify_kernel(picked)
    ops = {s.op for s in loops(picked)[0].body if isinstance(s, ir.ComputeTile)}
    assert ops <= {Op.CAST}
    total, largest = run(region, [target, x.ravel()], walked(region, 128))
    inside = (target >= 0) & (target < length)
    expected = np.where(inside, 2 * x[np.arange(7), np.where(inside, target, 0)], 0)
    np.testing.assert_array_equal(total, expected)
    np.testing.assert_array_equal(largest, x.max(1))


def test_places_are_compared_in_32_bits() -> None:
    b = Builder(i=5, r=1000)
    target = b.load("i", dt.int64)
    place = b.add(IndexValue(b.var("r"), dt.int64))
    hot = b.op(Op.CAST, b.op(Op.EQ, place, target), dtype=dt.float32)
    b.store(b.op(Op.SUB, b.load("i r"), hot), "i r")
    b.store(b.reduce(Op.REDUCE_MAX, hot, "r"), "i")
    region = b.region("hot", "reduce", parallel="i", row="r")
    target_values = np.array([0, 999, -1, 2**32 + 5, -(2**31)], np.int64)
    expected = (np.arange(1000) == target_values[:, None]).astype(np.float32)
    for config in (walked(region, 128), choose_config(region, target_by_name("sm_90"))):
        assert "_place(t" in emit(lower(region, config), config)
        out, most = run(region, [target_values, np.zeros(5000, np.float32)], config)
        np.testing.assert_array_equal(out.reshape(5, 1000), -expected)
        np.testing.assert_array_equal(most, expected.max(1))
