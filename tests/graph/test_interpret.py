"""The interpreter against PyTorch: every op, its dtypes and its corner cases."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.arrays import from_torch, to_torch
from tests.graph.oracle import leaf, read, value, values
from tgrad import dtype as dt
from tgrad.dtype import DTYPES, DType
from tgrad.errors import OutOfRangeError
from tgrad.graph.interpret import INTERPRETED, cast, philox
from tgrad.graph.node import Node, make
from tgrad.graph.op import OPS, Kind, Op, takes

HALVES = (dt.float16, dt.bfloat16)
FLOATS = (*HALVES, dt.float32, dt.float64)
INTS = (dt.uint8, dt.int8, dt.int16, dt.int32, dt.int64)
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.7, -3.7, 100.0]
SPECIAL += [np.inf, -np.inf, np.nan]
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-6, "float64": 1e-12}


def same(got: np.ndarray, want: torch.Tensor) -> None:
    expected = from_torch(want)
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    tolerance, is_float = TOLERANCE.get(str(got.dtype), 0), got.dtype.kind in "fV"
    np.testing.assert_allclose(
        got.astype(np.float64) if is_float else got,
        expected.astype(np.float64) if is_float else expected,
        rtol=tolerance,
        atol=tolerance / 10,
    )


def sample(dtype: DType, seed: int = 0, *shape: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    if dtype.is_bool:
        return draw.random(shape) < 0.5
    low = 0 if dtype.kind == "u" else -9
    return cast(
        draw.normal(size=shape) * 3 if dtype.is_float else draw.integers(low, 10, shape), dtype
    )


def pairs(dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of the special values, or of integers at the ends of the range."""
    if dtype.is_float:
        ends = np.array(SPECIAL)
    else:
        ends = np.unique([0, 1, 2, 3, 7, *((-1, -2, -7) if dtype.kind == "i" else ())])
        ends = np.append(ends, [dtype.min, dtype.max]).astype(object)
    left, right = np.meshgrid(ends, ends)
    return cast(left.astype(float if dtype.is_float else np.int64), dtype), cast(
        right.astype(float if dtype.is_float else np.int64), dtype
    )


UNARY: dict[Op, Callable[[torch.Tensor], torch.Tensor]] = {
    Op.NEG: torch.neg, Op.ABS: torch.abs, Op.EXP: torch.exp, Op.LOG: torch.log, Op.SIN: torch.sin,
    Op.COS: torch.cos, Op.TANH: torch.tanh, Op.ERF: torch.erf, Op.SQRT: torch.sqrt,
    Op.SIGMOID: torch.sigmoid, Op.RSQRT: torch.rsqrt, Op.FLOOR: torch.floor,
    Op.ROUND: torch.round, Op.TRUNC: torch.trunc, Op.NOT: torch.bitwise_not,
}  # fmt: skip

BINARY: dict[Op, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    Op.ADD: torch.add, Op.SUB: torch.sub, Op.MUL: torch.mul, Op.DIV: torch.div,
    Op.FLOORDIV: torch.floor_divide, Op.MOD: torch.remainder, Op.POW: torch.pow,
    Op.MAXIMUM: torch.maximum, Op.MINIMUM: torch.minimum, Op.AND: torch.bitwise_and,
    Op.OR: torch.bitwise_or, Op.XOR: torch.bitwise_xor, Op.LT: torch.lt, Op.LE: torch.le,
    Op.EQ: torch.eq, Op.NE: torch.ne, Op.SHL: torch.bitwise_left_shift,
    Op.SHR: torch.bitwise_right_shift,
}  # fmt: skip

REDUCE: dict[Op, Callable[[torch.Tensor, tuple[int, ...]], torch.Tensor]] = {
    Op.REDUCE_SUM: lambda x, axes: torch.sum(x, axes, dtype=x.dtype),
    Op.REDUCE_MAX: torch.amax,
    Op.REDUCE_MIN: torch.amin,
}


def test_every_op_is_interpreted_and_tested() -> None:
    assert set(OPS) == INTERPRETED
    elementwise = {op for op, spec in OPS.items() if spec.kind is Kind.ELEMENTWISE}
    assert elementwise == {*UNARY, *BINARY, Op.CAST, Op.BITCAST, Op.WHERE, Op.PHILOX}


@pytest.mark.parametrize("op", UNARY)
def test_unary(op: Op) -> None:
    for dtype in (dt.bool_, *INTS, *FLOATS):
        if not takes(op, dtype):
            continue
        for array in (
            sample(dtype, 1, 5, 7),
            pairs(dtype)[0] if not dtype.is_bool else sample(dtype),
        ):
            same(value(make(op, leaf(array))), UNARY[op](to_torch(array)))


@pytest.mark.parametrize("op", BINARY)
def test_binary(op: Op) -> None:
    for dtype in (dt.bool_, *INTS, *FLOATS):
        if not takes(op, dtype):
            continue
        cases = [(sample(dtype, 2, 50), sample(dtype, 3, 50))]
        if not dtype.is_bool:
            cases.append(pairs(dtype))
        for a, b in cases:
            if op in (Op.FLOORDIV, Op.MOD) and dtype.is_int:
                b = np.where((b == 0) | (a == dtype.min), np.ones_like(b), b)  # PyTorch refuses
            if op is Op.POW and dtype.is_int and dtype.kind == "i":
                b = np.minimum(b, 100)  # PyTorch's loop takes time in the exponent
            if op in (Op.SHL, Op.SHR):
                b = b & b.dtype.type(dtype.itemsize * 8 - 1)
            if op in (Op.FLOORDIV, Op.MOD) and dtype in HALVES:
                continue  # PyTorch rounds in the middle of its formula; see below
            same(value(make(op, leaf(a), leaf(b))), BINARY[op](to_torch(a), to_torch(b)))


@pytest.mark.parametrize("dtype", [*INTS, dt.uint16, dt.uint32, dt.uint64])
def test_integer_division_by_zero_gives_zero(dtype: DType) -> None:
    a, zero = leaf([5, 0, 7], dtype), leaf([0, 0, 0], dtype)
    assert value(make(Op.FLOORDIV, a, zero)).tolist() == [0, 0, 0]
    assert value(make(Op.MOD, a, zero)).tolist() == [0, 0, 0]


def test_floor_division_rounds_down() -> None:
    a, b = leaf([7, -7, 7, -7]), leaf([2, 2, -2, -2])
    assert value(make(Op.FLOORDIV, a, b)).tolist() == [3, -4, -4, 3]
    assert value(make(Op.MOD, a, b)).tolist() == [1, 1, -1, -1]
    h, k = leaf([7.5, -7.5], dt.float16), leaf([2, 2], dt.float16)
    assert value(make(Op.FLOORDIV, h, k)).tolist() == [3, -4]
    assert value(make(Op.MOD, h, k)).tolist() == [1.5, 0.5]


def test_shifts_beyond_the_width() -> None:
    a, far = leaf([5, -5], dt.int32), leaf([40, 40], dt.int32)
    assert value(make(Op.SHL, a, far)).tolist() == [0, 0]
    assert value(make(Op.SHR, a, far)).tolist() == [0, -1]


@pytest.mark.parametrize("have", DTYPES.values(), ids=str)
def test_cast(have: DType) -> None:
    numbers = sample(have, 4, 40)
    if have.is_float:
        numbers = np.concatenate([numbers, cast(np.array([0.0, -0.0, 0.4, -0.4, 200.5]), have)])
    for want in DTYPES.values():
        torch_dtype = getattr(torch, want.name)
        same(value(make(Op.CAST, leaf(numbers), dtype=want)), to_torch(numbers).to(torch_dtype))


def test_cast_of_special_values_to_bool() -> None:
    x = leaf([np.nan, np.inf, 0.0, -0.0, 1e-30])
    assert value(make(Op.CAST, x, dtype=dt.bool_)).tolist() == [True, True, False, False, True]


def test_bitcast_and_where() -> None:
    x = sample(dt.float32, 5, 3, 4)
    assert (value(make(Op.BITCAST, leaf(x), dtype=dt.int32)) == x.view(np.int32)).all()
    for dtype in DTYPES.values():
        c, a, b = sample(dt.bool_, 6, 20), sample(dtype, 7, 20), sample(dtype, 8, 20)
        got = value(make(Op.WHERE, leaf(c), leaf(a), leaf(b)))
        same(got, torch.where(to_torch(c), to_torch(a), to_torch(b)))


@pytest.mark.parametrize("op", REDUCE)
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 2), (0, 1, 2)])
def test_reduce(op: Op, axes: tuple[int, ...]) -> None:
    for dtype in (dt.bool_, *INTS, *FLOATS):
        if takes(op, dtype):
            array = sample(dtype, 9, 2, 5, 3)
            same(value(make(op, leaf(array), axes=axes)), REDUCE[op](to_torch(array), axes))


def test_reduce_corner_cases() -> None:
    assert np.isnan(value(make(Op.REDUCE_MAX, leaf([1.0, np.nan, 2.0]), axes=(0,))))
    assert value(make(Op.REDUCE_SUM, leaf(np.zeros((2, 0))), axes=(1,))).tolist() == [0, 0]
    assert value(make(Op.REDUCE_PROD, leaf(np.zeros((2, 0))), axes=(1,))).tolist() == [1, 1]
    wrapped = value(make(Op.REDUCE_SUM, leaf([100, 100], dt.int8), axes=(0,)))
    assert wrapped.dtype == np.int8
    assert wrapped == -56
    assert value(make(Op.REDUCE_PROD, leaf([3, 100], dt.int8), axes=(0,))) == 44
    ones = leaf(np.ones(5000), dt.float16)
    assert value(make(Op.REDUCE_SUM, ones, axes=(0,))) == 5000
    x = sample(dt.float32, 10, 4, 6)
    same(value(make(Op.REDUCE_PROD, leaf(x), axes=(1,))), to_torch(x).prod(1))


def test_movement() -> None:
    x = sample(dt.float32, 11, 2, 3, 4)
    n, t = leaf(x), to_torch(x)
    same(value(make(Op.RESHAPE, n, shape=(4, 6))), t.reshape(4, 6))
    same(value(make(Op.PERMUTE, n, axes=(2, 0, 1))), t.permute(2, 0, 1))
    same(value(make(Op.EXPAND, n, shape=(5, 2, 3, 4))), t.expand(5, 2, 3, 4))
    same(
        value(make(Op.PAD, n, low=(0, 1, 2), high=(1, 0, 3))),
        torch.nn.functional.pad(t, (2, 3, 1, 0, 0, 1)),
    )
    same(value(make(Op.SLICE, n, start=(0, 1, 0), stop=(2, 3, 4), step=(1, 1, 3))), t[:, 1:, ::3])
    same(value(make(Op.FLIP, n, axes=(0, 2))), t.flip(0, 2))


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("dilation", [1, 3])
def test_window(stride: int, dilation: int) -> None:
    x = sample(dt.float32, 12, 3, 11, 2)
    got = value(make(Op.WINDOW, leaf(x), axis=1, size=3, stride=stride, dilation=dilation))
    want = to_torch(x).unfold(1, 2 * dilation + 1, stride)[..., ::dilation]
    same(got, want)


def test_gather_and_scatter() -> None:
    x, draw = sample(dt.float32, 13, 4, 5), np.random.default_rng(14)
    index = draw.integers(0, 5, (3, 7))
    got = value(make(Op.GATHER, leaf(x), leaf(index), axis=1))
    same(got, torch.gather(to_torch(x), 1, to_torch(index)))
    src, base = sample(dt.float32, 15, 3, 7), to_torch(x)
    names = {"add": "sum", "max": "amax", "min": "amin", "mul": "prod"}
    for ours, theirs in names.items():
        got = value(make(Op.SCATTER, leaf(x), leaf(index), leaf(src), axis=1, combine=ours))
        same(got, base.scatter_reduce(1, to_torch(index), to_torch(src), theirs))
    once = np.array([[0, 3], [4, 1]])
    got = value(make(Op.SCATTER, leaf(x), leaf(once), leaf(src[:2, :2]), axis=1, combine="set"))
    same(got, base.scatter(1, to_torch(once), to_torch(src[:2, :2])))


def test_scatter_of_halves_accumulates_in_more() -> None:
    base, index = leaf(np.zeros(1), dt.float16), leaf(np.zeros(5000, np.int64))
    ones = leaf(np.ones(5000), dt.float16)
    assert value(make(Op.SCATTER, base, index, ones, axis=0, combine="add")) == [5000]


@pytest.mark.parametrize("bad", [-1, 5])
def test_index_out_of_range(bad: int) -> None:
    x, index = leaf(np.zeros((4, 5))), leaf([[0, bad]])
    node = make(Op.GATHER, x, index, axis=1)
    with pytest.raises(OutOfRangeError, match=f"index {bad} is out of range for axis 1 of size 5"):
        value(node)
    with pytest.raises(OutOfRangeError) as caught:
        value(make(Op.SCATTER, x, index, leaf([[1.0, 2.0]]), axis=1, combine="add"))
    assert caught.value.source.file == __file__


def dot(a: np.ndarray, b: np.ndarray, contract: tuple, batch: tuple, dtype: DType) -> Node:
    return make(Op.DOT, leaf(a), leaf(b), contract=contract, batch=batch, dtype=dtype)


@pytest.mark.parametrize("dtype", [*FLOATS, dt.int8, dt.int32, dt.int64])
def test_dot(dtype: DType) -> None:
    a, b = sample(dtype, 16, 2, 3, 4), sample(dtype, 17, 2, 4, 5)
    same(value(dot(a, b, ((2,), (1,)), ((0,), (0,)), dtype)), to_torch(a) @ to_torch(b))
    ta, tb = to_torch(a), to_torch(b)
    got = value(dot(a, b, ((0, 2), (0, 1)), ((), ()), dtype))
    same(got, torch.einsum("abc,acd->bd", ta.double(), tb.double()).to(ta.dtype))
    got = value(dot(a, b, ((0,), (0,)), ((2,), (1,)), dtype))
    same(got, torch.einsum("abc,acd->cbd", ta.double(), tb.double()).to(ta.dtype))


def test_dot_states_its_result() -> None:
    a = sample(dt.int8, 18, 3, 200)
    wide = value(dot(a, a, ((1,), (1,)), ((), ()), dt.int32))
    assert (wide == a.astype(np.int32) @ a.astype(np.int32).T).all()
    h = sample(dt.bfloat16, 19, 3, 50)
    wide = value(dot(h, h, ((1,), (1,)), ((), ()), dt.float32))
    same(wide, to_torch(h).float() @ to_torch(h).float().T)


def test_leaves() -> None:
    assert value(make(Op.IOTA, shape=(2, 3), axis=1, dtype=dt.int32)).tolist() == [[0, 1, 2]] * 2
    assert value(make(Op.CONST, value=-1, dtype=dt.uint8)) == 255
    assert value(make(Op.CONST, value=2**64 - 1, dtype=dt.uint64)) == 2**64 - 1
    assert value(make(Op.CONST, value=0.1, dtype=dt.float32)) == np.float32(0.1)
    assert value(make(Op.CUSTOM_VJP, leaf(3.0), leaf(4.0), rule="any", params=())) == 3


WORDS = 0xFFFFFFFF
# Random123's known answers (kat_vectors: philox4x32 10): counter, key, output
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((WORDS,) * 4, (WORDS,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def join(low: int, high: int) -> np.ndarray:
    return np.array([high << 32 | low], np.uint64).view(np.int64)


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN_ANSWERS)
def test_philox_known_answers(counter: tuple, key: tuple, output: tuple) -> None:
    inputs = join(*counter[:2]), join(*counter[2:]), join(*key)
    assert tuple(int(word[0]) for word in philox(*inputs)) == output
    nodes = [make(Op.PHILOX, *map(leaf, inputs), word=word) for word in range(4)]
    assert tuple(int(word[0]) for word in values(*nodes)) == output


def test_no_warning_leaks_and_results_are_new() -> None:
    x = leaf([0.0, -1.0, np.inf])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values(
            make(Op.LOG, x),
            make(Op.DIV, x, x),
            make(Op.CAST, x, dtype=dt.int32),
            make(Op.FLOORDIV, leaf([1]), leaf([0])),
        )
    buffer = leaf([1.0, 2.0])
    got = value(buffer)
    got[0] = 7
    assert read(buffer.attr("storage"))[0] == 1
    spread = value(make(Op.EXPAND, buffer, shape=(3, 2)))
    assert spread.flags.c_contiguous
    assert spread.flags.writeable
