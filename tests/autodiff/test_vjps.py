"""Every VJP against finite differences in float64, to second order, by one table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from tests.graph.oracle import held, leaf, values
from tgrad import dtype as dt
from tgrad.autodiff import NO_VJP, VJP, gradients
from tgrad.graph.node import Node, make
from tgrad.graph.op import OPS, Op
from tgrad.graph.rewrite import rewrite
from tgrad.graph.rules import CANONICAL
from tgrad.graph.verify import verify

SHAPE = (2, 3)


def positive(seed: int, *shape: int) -> np.ndarray:
    """Values in [0.5, 1.5], no two closer than the step of the differences."""
    n = int(np.prod(shape))
    return (0.5 + np.random.default_rng(seed).permutation(n) / max(n, 1)).reshape(shape)


def signed(seed: int, *shape: int) -> np.ndarray:
    """Values in [-2, 2], none near an integer or half."""
    n = int(np.prod(shape))
    signs = np.random.default_rng(seed + 1).choice([-1.0, 1.0], shape)
    return (
        signs * (0.13 + np.random.default_rng(seed).permutation(n) / (2.3 * n)).reshape(shape) * 2
    )


def unary(op: Op, **attrs: object) -> Callable[..., Node]:
    return partial(make, op, **attrs)


def dot(contract: tuple, batch: tuple = ((), ())) -> Callable[..., Node]:
    return partial(make, Op.DOT, contract=contract, batch=batch, dtype=dt.float64)


def window(axis: int, size: int, stride: int, dilation: int) -> Callable[..., Node]:
    return partial(make, Op.WINDOW, axis=axis, size=size, stride=stride, dilation=dilation)


def slices(start: tuple, stop: tuple, step: tuple) -> Callable[..., Node]:
    return partial(make, Op.SLICE, start=start, stop=stop, step=step)


CONDITION = leaf([[True, False, True], [False, False, True]])
INDEX = leaf([[2, 0, 2], [1, 1, 0]], dt.int64)
INDEX_ROWS = leaf([[1, 0, 0, 1], [1, 1, 0, 1], [0, 0, 0, 1]], dt.int64)

with_zeros = np.array([[0.7, 0.0, -1.2, 0.4], [0.0, 0.0, 1.5, 0.9], [0.6, 1.1, 0.8, -0.5]])

CASES: list[tuple[str, Callable[..., Node], list[np.ndarray]]] = [
    *((str(op), unary(op), [signed(1, *SHAPE)]) for op in (
        Op.NEG, Op.ABS, Op.EXP, Op.SIN, Op.COS, Op.TANH, Op.ERF, Op.SIGMOID, Op.FLOOR, Op.ROUND,
        Op.TRUNC)),
    *((str(op), unary(op), [positive(2, *SHAPE)]) for op in (Op.LOG, Op.SQRT, Op.RSQRT)),
    *((str(op), partial(make, op), [signed(3, *SHAPE), signed(4, *SHAPE) + 0.01]) for op in (
        Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.MAXIMUM, Op.MINIMUM, Op.FLOORDIV, Op.MOD)),
    ("pow", unary(Op.POW), [positive(5, *SHAPE), signed(6, *SHAPE)]),
    ("where", partial(make, Op.WHERE, CONDITION), [signed(7, *SHAPE), signed(8, *SHAPE)]),
    ("cast", unary(Op.CAST, dtype=dt.float64), [signed(9, *SHAPE)]),
    *((f"{op} {axes}", unary(op, axes=axes), [signed(10, 2, 3, 4)])
      for op in (Op.REDUCE_SUM, Op.REDUCE_PROD, Op.REDUCE_MAX, Op.REDUCE_MIN)
      for axes in ((), (1,), (0, 2), (0, 1, 2))),
    ("reduce_prod zeros", unary(Op.REDUCE_PROD, axes=(1,)), [with_zeros]),
    ("reduce_prod zeros all", unary(Op.REDUCE_PROD, axes=(0, 1)), [with_zeros]),
    *((f"{op} {axis}", unary(op, axis=axis), [signed(45, 2, 5, 3)])
      for op in (Op.SCAN_SUM, Op.SCAN_PROD, Op.SCAN_MAX, Op.SCAN_MIN) for axis in (0, 1, 2)),
    ("scan_prod zeros", unary(Op.SCAN_PROD, axis=1), [with_zeros]),
    *((f"scan_linear {axis}", unary(Op.SCAN_LINEAR, axis=axis),
       [signed(46, 3, 4), signed(47, 3, 4)]) for axis in (0, 1)),
    ("reshape", unary(Op.RESHAPE, shape=(3, 2)), [signed(11, *SHAPE)]),
    ("permute", unary(Op.PERMUTE, axes=(2, 0, 1)), [signed(12, 2, 3, 4)]),
    ("expand", unary(Op.EXPAND, shape=(2, 3, 4)), [signed(13, 3, 1)]),
    ("expand scalar", unary(Op.EXPAND, shape=(2, 3)), [signed(14)]),
    ("expand size 1 to 1", unary(Op.EXPAND, shape=(1, 1, 3)), [signed(14, 1, 3)]),
    ("pad", unary(Op.PAD, low=(1, 0), high=(0, 2)), [signed(15, *SHAPE)]),
    ("slice", slices((0, 1), (2, 3), (1, 1)), [signed(16, *SHAPE)]),
    ("slice step", slices((1, 0), (6, 5), (2, 3)), [signed(17, 7, 5)]),
    ("slice step ends", slices((0, 2), (7, 5), (3, 2)), [signed(17, 7, 5)]),
    ("slice empty", slices((1, 0), (1, 5), (2, 1)), [signed(17, 7, 5)]),
    ("flip", unary(Op.FLIP, axes=(0, 1)), [signed(18, *SHAPE)]),
    ("window overlapping", window(1, 3, 1, 1), [signed(19, 2, 7, 2)]),
    ("window stride", window(0, 3, 2, 1), [signed(20, 8, 2)]),
    ("window dilation", window(1, 3, 2, 2), [signed(21, 2, 10)]),
    ("window disjoint", window(0, 2, 2, 1), [signed(22, 7, 2)]),
    ("window gaps", window(0, 2, 3, 1), [signed(23, 8, 2)]),
    ("window gaps dilated", window(0, 2, 5, 2), [signed(24, 9, 2)]),
    ("window large", window(1, 35, 2, 1), [signed(25, 2, 40, 2)]),
    ("window large dilated", window(0, 33, 3, 2), [signed(26, 75, 2)]),
    ("gather", lambda x: make(Op.GATHER, x, INDEX, axis=1), [signed(27, 3, 4)]),
    ("gather axis 0", lambda x: make(Op.GATHER, x, INDEX_ROWS, axis=0), [signed(28, 2, 5)]),
    *((f"scatter {how}",
       lambda x, y, how=how: make(Op.SCATTER, x, INDEX_ROWS, y, axis=0, combine=how),
       [signed(29, 2, 5) * 1.01, signed(30, 3, 4)]) for how in ("add", "mul", "max", "min")),
    ("scatter set",
     lambda x, y: make(Op.SCATTER, x, leaf([[1, 3], [0, 2]]), y, axis=1, combine="set"),
     [signed(31, 3, 4), signed(32, 2, 2)]),
    ("dot", dot(((1,), (0,))), [signed(33, 2, 3), signed(34, 3, 4)]),
    ("dot transposed b", dot(((1,), (1,))), [signed(33, 2, 3), signed(34, 4, 3)]),
    ("dot transposed a", dot(((0,), (0,))), [signed(33, 3, 2), signed(34, 3, 4)]),
    ("dot transposed both", dot(((0,), (1,))), [signed(33, 3, 2), signed(34, 4, 3)]),
    ("dot batch", dot(((2,), (1,)), ((0,), (0,))), [signed(35, 2, 3, 4), signed(36, 2, 4, 5)]),
    ("dot batch last", dot(((0,), (1,)), ((2,), (0,))), [signed(35, 3, 4, 2), signed(36, 2, 3, 5)]),
    ("dot two axes", dot(((2, 0), (0, 2))), [signed(37, 2, 3, 4), signed(38, 4, 5, 2)]),
    ("dot general", dot(((3, 1), (0, 3)), ((0, 4), (2, 1))),
     [signed(39, 2, 3, 2, 4, 3), signed(40, 4, 3, 2, 3, 2)]),
    ("dot outer", dot(((), ())), [signed(41, 3), signed(42, 2)]),
    ("dot inner", dot(((0,), (0,))), [signed(43, 3), signed(44, 3)]),
]  # fmt: skip

STEP = 1e-5


def directional(f: list[Node], weights: list[Node], xs: list[Node], seed: int) -> tuple:
    """d/dt Σ f·w at x + t v, by central differences; returns it and v."""
    directions = [np.random.default_rng((seed, i)).normal(size=x.shape) for i, x in enumerate(xs)]
    originals = [held(x).copy() for x in xs]
    sums = []
    for t in (STEP, -STEP):
        for x, original, v in zip(xs, originals, directions, strict=True):
            held(x)[...] = original + t * v
        sums.append(sum(float((a * held(w)).sum()) for a, w in zip(values(*f), weights)))
    for x, original in zip(xs, originals, strict=True):
        held(x)[...] = original
    return (sums[0] - sums[1]) / (2 * STEP), directions


def check(f: list[Node], weights: list[Node], xs: list[Node]) -> list[Node]:
    """The gradients of Σ f·w, after comparing them with differences along random directions."""
    parts = [gradients(y, w, xs) for y, w in zip(f, weights, strict=True)]
    found = []
    for column, x in zip(zip(*parts, strict=True), xs, strict=True):
        known = [g for g in column if g is not None]
        total = known[0] if known else leaf(np.zeros(x.shape))
        for g in known[1:]:
            total = make(Op.ADD, total, g)
        found.append(total)
    got = values(*found)
    for seed in range(3):
        want, directions = directional(f, weights, xs, seed)
        have = sum(float((g * v).sum()) for g, v in zip(got, directions, strict=True))
        assert have == pytest.approx(want, rel=1e-6, abs=1e-7)
    return found


@pytest.mark.parametrize(("build", "arrays"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_first_and_second_order(build: Callable[..., Node], arrays: list[np.ndarray]) -> None:
    xs = [leaf(a) for a in arrays]
    y = build(*xs)
    first = check([y], [leaf(signed(50, *y.shape))], xs)
    second = check(first, [leaf(signed(60 + i, *x.shape)) for i, x in enumerate(xs)], xs)
    canonical = rewrite([y, *first, *second], CANONICAL)
    verify(canonical, lowered=True)
    for got, want in zip(values(*canonical), values(y, *first, *second), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


def test_each_op_has_a_vjp_or_a_reason() -> None:
    assert set(VJP) | set(NO_VJP) == set(OPS)
    assert not set(VJP) & set(NO_VJP)
    assert all(len(rules) == OPS[op].arity for op, rules in VJP.items())


def test_each_vjp_is_in_the_table_of_cases() -> None:
    tested = {name.split()[0] for name, _, _ in CASES}
    assert tested == {str(op) for op in VJP}
