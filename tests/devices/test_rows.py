"""Every scan and the sort: each dtype on each device, against the oracle."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
from tgrad import dtype as dt
from tgrad.dtype import DTYPES, DType
from tgrad.graph.node import make
from tgrad.graph.op import OPS, ROWWISE, SCAN, Op, takes
from tgrad.tensor import Tensor, realize_tensors

KEYS = (dt.uint8, dt.uint16, dt.uint32, dt.uint64)
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}


def row_op(op: Op, *inputs: Tensor, axis: int) -> Tensor:
    return Tensor._of(make(op, *(x._node for x in inputs), axis=axis), inputs[0].device)


def values(dtype: DType, seed: int, shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.default_rng(seed)
    if dtype.is_float:
        return random.uniform(-1.2, 1.2, shape).astype(dtype.numpy)
    return random.integers(0, 2 if dtype.is_bool else 5, shape).astype(dtype.numpy)


def scans() -> list:
    return [
        pytest.param(op, dtype, id=f"{op}-{dtype.short}")
        for op in sorted(SCAN)
        for dtype in DTYPES.values()
        if takes(op, dtype)
    ]


def check(op: Op, arrays: list[np.ndarray], device: str, axes: range) -> None:
    """One plan of all axes on the device, and one of the oracle's."""
    ours, theirs = (
        [row_op(op, *(tgrad.tensor(a, device=name) for a in arrays), axis=axis) for axis in axes]
        for name in (device, "numpy")
    )
    realize_tensors(ours)
    for y, expected in zip(ours, theirs):
        tolerance = TOLERANCE.get(y.dtype.name, 0)
        have, want = (t.numpy().astype(np.float64 if tolerance else None) for t in (y, expected))
        np.testing.assert_allclose(have, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("op, dtype", scans())
def test_scan(op: Op, dtype: DType, device: str) -> None:
    shape = (3, 37, 4)
    arrays = [values(dtype, seed, shape) for seed in range(OPS[op].arity)]
    check(op, arrays, device, range(3))


@pytest.mark.parametrize("op", [Op.SCAN_MAX, Op.SCAN_MIN])
def test_scans_of_extrema_keep_nan_and_infinities(op: Op, device: str) -> None:
    x = np.array([[1, np.nan, 3], [-np.inf, 2, np.inf], [np.inf, -np.inf, np.nan]], np.float32)
    check(op, [x], device, range(2))


@pytest.mark.parametrize("dtype", KEYS, ids=str)
@pytest.mark.parametrize("most", [2, None])
def test_argsort(dtype: DType, most: int | None, device: str) -> None:
    top = int(dtype.max) if most is None else most
    keys = np.random.default_rng(1).integers(0, top, (3, 37, 4), dtype.numpy, endpoint=True)
    check(Op.ARGSORT, [keys], device, range(3))


@pytest.mark.parametrize("n", [2, 48, 49, 1023, 1025, 5000])
def test_argsort_of_rows_of_any_length(n: int, device: str) -> None:
    keys = np.random.default_rng(n).integers(0, 2**32, (2, n), np.uint32)
    keys[1] //= 2**30
    check(Op.ARGSORT, [keys], device, range(1, 2))


@pytest.mark.parametrize("op", [Op.SCAN_SUM, Op.SCAN_LINEAR])
def test_scan_of_a_long_row(op: Op, device: str) -> None:
    length = 70_001 if device == "cpu" else 20_001  # longer than a tile; the interpreter is slow
    x = np.random.default_rng(0).uniform(-1, 1, length).astype(np.float32)
    ours, theirs = (
        row_op(op, *[tgrad.tensor(x, device=name)] * OPS[op].arity, axis=0)
        for name in (device, "numpy")
    )
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("op", sorted(ROWWISE))
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (3, 1)])
def test_empty_rows_and_rows_of_one(op: Op, shape: tuple[int, int], device: str) -> None:
    dtype = dt.uint32 if op is Op.ARGSORT else dt.float32
    arrays = [values(dtype, seed, shape) for seed in range(OPS[op].arity)]
    check(op, arrays, device, range(2))


@pytest.mark.parametrize("op", sorted(SCAN))
@pytest.mark.parametrize("shape", [(1, 37, 1), (1, 1, 1), (3, 37, 1), (1, 37, 20)])
def test_scans_of_what_is_equal_along_other_axes(
    op: Op, shape: tuple[int, ...], device: str
) -> None:
    """The scan is of the small tensor, and its store of the large one."""
    x = values(dt.float32, 0, shape)
    ours, theirs = (
        row_op(op, *[tgrad.tensor(x, device=d).expand(3, 37, 20)] * OPS[op].arity, axis=1)
        for d in (device, "numpy")
    )
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-5)


def test_what_shares_a_kernel_with_a_scan(device: str) -> None:
    """A scan from the end, its neighbours, a second scan, and a reduction of the same rows."""
    x = tgrad.tensor(values(dt.float32, 0, (5, 33)), device=device)
    behind = row_op(Op.SCAN_SUM, (x * 2).flip(1), axis=1).flip(1) + 1
    twice = row_op(Op.SCAN_MAX, row_op(Op.SCAN_SUM, x, axis=1), axis=1)
    share = row_op(Op.SCAN_SUM, x.exp() / x.exp().sum(1, keepdim=True), axis=1)
    total = row_op(Op.SCAN_SUM, x, axis=1).amax(1)
    for y in (behind, twice, share, total):
        assert device == "numpy" or tgrad.explain(y).launches == 1
    realize_tensors([behind, twice, share, total])
    a = x.numpy().astype(np.float64)
    sums, e = np.cumsum(a, 1), np.exp(a)
    for y, want in (
        (behind, np.cumsum(2 * a[:, ::-1], 1)[:, ::-1] + 1),
        (twice, np.maximum.accumulate(sums, 1)),
        (share, np.cumsum(e / e.sum(1, keepdims=True), 1)),
        (total, sums.max(1)),
    ):
        np.testing.assert_allclose(y.numpy(), want, rtol=1e-5, atol=1e-5)


def test_values_are_gathered_in_the_kernel_that_sorts(device: str) -> None:
    keys = tgrad.tensor(values(dt.uint32, 0, (4, 50)), device=device)
    places = row_op(Op.ARGSORT, keys, axis=1)
    ordered = keys.gather(1, places)
    assert device == "numpy" or tgrad.explain(ordered, places).launches == 1
    np.testing.assert_array_equal(ordered.numpy(), np.sort(keys.numpy(), 1))
