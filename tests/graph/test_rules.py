"""The canonical rules: each as text, before and after, and checked by the interpreter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.graph.oracle import leaf, value
from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.graph import build as b
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op
from tgrad.graph.rewrite import rewrite
from tgrad.graph.rules import CANONICAL, COMPILED
from tgrad.graph.rules_elementwise import is_lossless
from tgrad.graph.verify import verify

rng = np.random.default_rng(0)

LEAVES = {
    "x": leaf([[1.5, -0.0, np.nan], [np.inf, -2.25, 0.3]], dt.float32),
    "y": leaf([[-3.5, 2.0, 0.0], [-np.inf, 7.25, 0.1]], dt.float32),
    "h": leaf(rng.normal(size=(2, 3)), dt.float16),
    "i": leaf([[1, -2, 3], [0, 2**30, -7]], dt.int32),
    "s": leaf([[1, -2, 3], [0, 100, -7]], dt.int8),
    "c": leaf([[True, False, True], [False, False, True]]),
    "d": leaf([[False, False, True], [True, False, True]]),
    "t": leaf(rng.normal(size=(2, 3, 4)), dt.float32),
    "w": leaf(rng.normal(size=(3, 1)), dt.float32),
    "m": leaf(rng.normal(size=(3, 4)), dt.float16),
    "r": leaf(rng.normal(size=(1, 3)), dt.float16),
    "u": leaf(rng.normal(size=(2, 1, 3)), dt.float32),
    "v": leaf(rng.normal(size=4), dt.float32),
    "e": leaf(np.zeros((2, 0)), dt.float32),
    "n": leaf(np.zeros((2, 0)), dt.int64),
    "f": leaf(rng.normal(size=(5, 3)), dt.float8_e4m3fn),
    "k": leaf([[2**40, 2**63 + 1, 7], [2**40 - 1, 7, 2**40]], dt.uint64),
    "q": leaf([[1, 0, 1]], dt.int64),
}
x, y, h, i, s, c, d, t, w, m, r, u, v, e, n, f, k, q = LEAVES.values()
NAMES = {node: name for name, node in LEAVES.items()}


def text(node: Node) -> str:
    """The expression on one line; a number stands for itself expanded, too."""
    if node in NAMES:
        return NAMES[node]
    if node.op is Op.CONST:
        return repr(node.attr("value"))
    if node.op is Op.EXPAND and node.inputs[0].op is Op.CONST:
        return text(node.inputs[0])
    attrs = [f"{k}={a.short if isinstance(a, DType) else a}" for k, a in node.attrs]
    return f"{node.op}({', '.join([*map(text, node.inputs), *attrs])})"


def like(node: Node, number: float) -> Node:
    return b.const_like(node, number)


def op(name: Op, *inputs: Node, **attrs: object) -> Node:
    return make(name, *inputs, **attrs)


def expand(node: Node, *shape: int) -> Node:
    return op(Op.EXPAND, node, shape=shape)


def reshape(node: Node, *shape: int) -> Node:
    return op(Op.RESHAPE, node, shape=shape)


def cast(node: Node, dtype: DType) -> Node:
    return op(Op.CAST, node, dtype=dtype)


def cut(node: Node, start: tuple, stop: tuple, step: tuple) -> Node:
    return op(Op.SLICE, node, start=start, stop=stop, step=step)


def pad(node: Node, low: tuple, high: tuple) -> Node:
    return op(Op.PAD, node, low=low, high=high)


def dot(left: Node, right: Node, contract: tuple, batch: tuple = ((), ())) -> Node:
    return op(Op.DOT, left, right, contract=contract, batch=batch, dtype=left.dtype)


def contraction(left: Node, right: Node, dtype: DType = dt.float32) -> Node:
    return op(Op.DOT, left, right, contract=((0,), (0,)), batch=((), ()), dtype=dtype)


TRUE, FALSE = like(c, True), like(c, False)

# rule, node, its text, the text of what the rule alone makes of it
TABLE: list[tuple[str, Node, str, str]] = [
    ("strip_custom_vjp", op(Op.CUSTOM_VJP, b.exp(x), x, rule="softmax", params=()),
     "custom_vjp(exp(x), x, params=(), rule=softmax)", "exp(x)"),
    ("empty_result", b.exp(e), "exp(e)", "0.0"),
    ("empty_result", cut(x, (1, 0), (1, 3), (1, 1)),
     "slice(x, start=(1, 0), step=(1, 1), stop=(1, 3))", "0.0"),
    ("empty_result", b.less(e, e), "lt(e, e)", "False"),
    ("empty_reduction", op(Op.REDUCE_SUM, e, axes=(1,)), "reduce_sum(e, axes=(1,))", "0.0"),
    ("empty_reduction", op(Op.REDUCE_PROD, e, axes=(1,)), "reduce_prod(e, axes=(1,))", "1.0"),
    ("empty_dot", dot(e, e, ((1,), (1,))),
     "dot(e, e, batch=((), ()), contract=((1,), (1,)), dtype=f32)", "0.0"),
    ("empty_pad", pad(e, (0, 1), (0, 2)), "pad(e, high=(0, 2), low=(0, 1))", "0.0"),
    ("empty_scatter", op(Op.SCATTER, x, n, e, axis=1, combine="add"),
     "scatter(x, n, e, axis=1, combine=add)", "x"),
    ("scatter_of_one", op(Op.SCATTER, like(h, 2.0), q, r, axis=0, combine="set"),
     "scatter(2.0, q, r, axis=0, combine=set)",
     "where(eq(iota(axis=0, dtype=i32, shape=(2, 3)), "
     "expand(cast(minimum(maximum(q, -1), 2), dtype=i32), shape=(2, 3))), "
     "expand(r, shape=(2, 3)), 2.0)"),
    ("scatter_of_one", op(Op.SCATTER, like(h, 2.0), q, r, axis=0, combine="add"),
     "scatter(2.0, q, r, axis=0, combine=add)",
     "where(eq(iota(axis=0, dtype=i32, shape=(2, 3)), "
     "expand(cast(minimum(maximum(q, -1), 2), dtype=i32), shape=(2, 3))), "
     "add(2.0, expand(r, shape=(2, 3))), 2.0)"),
    ("scatter_of_one", op(Op.SCATTER, like(h, 2.0), q, r, axis=0, combine="max"),
     "scatter(2.0, q, r, axis=0, combine=max)",
     "scatter(2.0, q, r, axis=0, combine=max)"),
    ("narrow_scatter", op(Op.SCATTER, h, q, r, axis=0, combine="add"),
     "scatter(h, q, r, axis=0, combine=add)",
     "cast(scatter(cast(h, dtype=f32), q, cast(r, dtype=f32), axis=0, combine=add), dtype=f16)"),
    ("narrow_scatter", op(Op.SCATTER, h, q, r, axis=0, combine="set"),
     "scatter(h, q, r, axis=0, combine=set)", "scatter(h, q, r, axis=0, combine=set)"),
    ("fold_constants", b.add(like(x, 1), like(x, 2)), "add(1.0, 2.0)", "3.0"),
    ("fold_constants", b.div(like(h, 1), like(h, 3)), "div(1.0, 3.0)", "0.333251953125"),
    ("fold_constants", b.add(like(s, 100), like(s, 100)), "add(100, 100)", "-56"),
    ("fold_constants", cast(like(x, -1.5), dt.int32), "cast(-1.5, dtype=i32)", "-1"),
    ("fold_constants", b.less(like(x, 1), like(x, 2)), "lt(1.0, 2.0)", "True"),
    ("fold_constants", b.where(TRUE, like(x, 1), like(x, 2)), "where(True, 1.0, 2.0)", "1.0"),
    ("float_constant", b.add(x, expand(op(Op.CONST, value=2, dtype=dt.float32), 2, 3)),
     "add(x, 2)", "add(x, 2.0)"),
    ("integer_constant", b.add(s, expand(op(Op.CONST, value=300, dtype=dt.int8), 2, 3)),
     "add(s, 300)", "add(s, 44)"),
    ("integer_constant", b.mul(k, like(k, -2)), "mul(k, -2)", f"mul(k, {2**64 - 2})"),
    ("constant_second", b.mul(like(x, 2), x), "mul(2.0, x)", "mul(x, 2.0)"),
    ("constant_second", b.sub(like(x, 2), x), "sub(2.0, x)", "sub(2.0, x)"),
    ("add_zero", b.add(x, like(x, 0)), "add(x, 0.0)", "x"),
    ("add_zero", b.sub(i, like(i, 0)), "sub(i, 0)", "i"),
    ("multiply_one", b.mul(x, like(x, 1)), "mul(x, 1.0)", "x"),
    ("multiply_one", b.div(x, like(x, 1)), "div(x, 1.0)", "x"),
    ("multiply_zero", b.mul(i, like(i, 0)), "mul(i, 0)", "0"),
    ("multiply_zero", b.mul(x, like(x, 0)), "mul(x, 0.0)", "mul(x, 0.0)"),
    ("join_constants", b.add(b.add(i, like(i, 2)), like(i, 3)),
     "add(add(i, 2), 3)", "add(i, add(2, 3))"),
    ("join_constants", b.mul(b.mul(i, like(i, 2)), like(i, 3)),
     "mul(mul(i, 2), 3)", "mul(i, mul(2, 3))"),
    ("join_constants", b.mul(b.mul(x, like(x, 2)), like(x, 3)),
     "mul(mul(x, 2.0), 3.0)", "mul(mul(x, 2.0), 3.0)"),
    ("divide_by_power_of_two", b.div(x, like(x, 8)), "div(x, 8.0)", "mul(x, 0.125)"),
    ("divide_by_power_of_two", b.div(x, like(x, -0.25)), "div(x, -0.25)", "mul(x, -4.0)"),
    ("divide_by_power_of_two", b.div(x, like(x, 3)), "div(x, 3.0)", "div(x, 3.0)"),
    ("divide_by_power_of_two", b.div(x, like(x, 2.0**127)),
     f"div(x, {2.0**127})", f"div(x, {2.0**127})"),
    ("undo_twice", b.neg(b.neg(x)), "neg(neg(x))", "x"),
    ("undo_twice", op(Op.NOT, op(Op.NOT, c)), "not(not(c))", "c"),
    ("add_negative", b.add(x, b.neg(y)), "add(x, neg(y))", "sub(x, y)"),
    ("add_negative", b.sub(x, b.neg(y)), "sub(x, neg(y))", "add(x, y)"),
    ("multiply_negatives", b.mul(b.neg(x), b.neg(y)), "mul(neg(x), neg(y))", "mul(x, y)"),
    ("multiply_negatives", b.div(b.neg(x), b.neg(y)), "div(neg(x), neg(y))", "div(x, y)"),
    ("small_power", b.power(x, like(x, 0)), "pow(x, 0.0)", "1.0"),
    ("small_power", b.power(x, like(x, 1)), "pow(x, 1.0)", "x"),
    ("small_power", b.power(x, like(x, 2)), "pow(x, 2.0)", "mul(x, x)"),
    ("small_power", b.power(i, like(i, 3)), "pow(i, 3)", "mul(mul(i, i), i)"),
    ("small_power", b.power(x, like(x, 0.5)), "pow(x, 0.5)", "pow(x, 0.5)"),
    ("idempotent", op(Op.MAXIMUM, x, x), "maximum(x, x)", "x"),
    ("idempotent", b.both(c, c), "and(c, c)", "c"),
    ("known_logic", b.both(c, TRUE), "and(c, True)", "c"),
    ("known_logic", b.both(c, FALSE), "and(c, False)", "False"),
    ("known_logic", op(Op.OR, c, TRUE), "or(c, True)", "True"),
    ("known_logic", op(Op.OR, c, FALSE), "or(c, False)", "c"),
    ("known_condition", b.where(TRUE, x, y), "where(True, x, y)", "x"),
    ("known_condition", b.where(FALSE, x, y), "where(False, x, y)", "y"),
    ("same_branches", b.where(c, x, x), "where(c, x, x)", "x"),
    ("negated_condition", b.where(op(Op.NOT, c), x, y), "where(not(c), x, y)", "where(c, y, x)"),
    ("same_dtype", cast(x, dt.float32), "cast(x, dtype=f32)", "x"),
    ("same_dtype", op(Op.BITCAST, x, dtype=dt.float32), "bitcast(x, dtype=f32)", "x"),
    ("cast_chain", cast(cast(h, dt.float32), dt.float64),
     "cast(cast(h, dtype=f32), dtype=f64)", "cast(h, dtype=f64)"),
    ("cast_chain", cast(cast(h, dt.float32), dt.float16),
     "cast(cast(h, dtype=f32), dtype=f16)", "h"),
    ("cast_chain", cast(cast(x, dt.float16), dt.float32),
     "cast(cast(x, dtype=f16), dtype=f32)", "cast(cast(x, dtype=f16), dtype=f32)"),
    ("move_constant", reshape(like(x, 2), 6), "reshape(2.0, shape=(6,))", "2.0"),
    ("move_constant", op(Op.WINDOW, like(x, 2), axis=1, size=2, stride=1, dilation=1),
     "window(2.0, axis=1, dilation=1, size=2, stride=1)", "2.0"),
    ("move_constant", pad(like(x, 0), (1, 0), (0, 0)), "pad(0.0, high=(0, 0), low=(1, 0))", "0.0"),
    ("move_constant", pad(like(x, 1), (1, 0), (0, 0)),
     "pad(1.0, high=(0, 0), low=(1, 0))", "pad(1.0, high=(0, 0), low=(1, 0))"),
    ("same_shape", reshape(x, 2, 3), "reshape(x, shape=(2, 3))", "x"),
    ("same_shape", expand(x, 2, 3), "expand(x, shape=(2, 3))", "x"),
    ("join_shapes", reshape(reshape(x, 6), 3, 2),
     "reshape(reshape(x, shape=(6,)), shape=(3, 2))", "reshape(x, shape=(3, 2))"),
    ("join_shapes", expand(expand(w, 3, 4), 2, 3, 4),
     "expand(expand(w, shape=(3, 4)), shape=(2, 3, 4))", "expand(w, shape=(2, 3, 4))"),
    ("join_permutes", op(Op.PERMUTE, op(Op.PERMUTE, t, axes=(1, 2, 0)), axes=(0, 2, 1)),
     "permute(permute(t, axes=(1, 2, 0)), axes=(0, 2, 1))", "permute(t, axes=(1, 0, 2))"),
    ("join_permutes", op(Op.PERMUTE, op(Op.PERMUTE, x, axes=(1, 0)), axes=(1, 0)),
     "permute(permute(x, axes=(1, 0)), axes=(1, 0))", "x"),
    ("permute_ones", op(Op.PERMUTE, u, axes=(1, 0, 2)),
     "permute(u, axes=(1, 0, 2))", "reshape(u, shape=(1, 2, 3))"),
    ("permute_ones", op(Op.PERMUTE, x, axes=(0, 1)), "permute(x, axes=(0, 1))", "x"),
    ("move_nothing", pad(x, (0, 0), (0, 0)), "pad(x, high=(0, 0), low=(0, 0))", "x"),
    ("move_nothing", cut(x, (0, 0), (2, 3), (1, 1)),
     "slice(x, start=(0, 0), step=(1, 1), stop=(2, 3))", "x"),
    ("move_nothing", op(Op.FLIP, u, axes=(1,)), "flip(u, axes=(1,))", "u"),
    ("join_pads", pad(pad(x, (1, 0), (0, 2)), (1, 1), (0, 0)),
     "pad(pad(x, high=(0, 2), low=(1, 0)), high=(0, 0), low=(1, 1))",
     "pad(x, high=(0, 2), low=(2, 1))"),
    ("join_slices", cut(cut(t, (0, 0, 0), (2, 3, 4), (1, 2, 1)), (1, 0, 1), (2, 2, 4), (1, 1, 2)),
     "slice(slice(t, start=(0, 0, 0), step=(1, 2, 1), stop=(2, 3, 4)), start=(1, 0, 1), "
     "step=(1, 1, 2), stop=(2, 2, 4))",
     "slice(t, start=(1, 0, 1), step=(1, 2, 2), stop=(2, 3, 4))"),
    ("join_slices", cut(cut(x, (1, 1), (2, 3), (1, 1)), (1, 0), (1, 2), (1, 1)),
     "slice(slice(x, start=(1, 1), step=(1, 1), stop=(2, 3)), start=(1, 0), step=(1, 1), "
     "stop=(1, 2))",
     "slice(x, start=(0, 1), step=(1, 1), stop=(0, 3))"),
    ("slice_of_pad", cut(pad(x, (1, 2), (1, 2)), (1, 2), (3, 5), (1, 1)),
     "slice(pad(x, high=(1, 2), low=(1, 2)), start=(1, 2), step=(1, 1), stop=(3, 5))", "x"),
    ("slice_of_pad", cut(pad(x, (1, 2), (1, 2)), (2, 1), (4, 4), (1, 1)),
     "slice(pad(x, high=(1, 2), low=(1, 2)), start=(2, 1), step=(1, 1), stop=(4, 4))",
     "pad(slice(x, start=(1, 0), step=(1, 1), stop=(2, 2)), high=(1, 0), low=(0, 1))"),
    ("slice_of_pad", cut(pad(x, (0, 2), (0, 0)), (0, 0), (2, 2), (1, 1)),
     "slice(pad(x, high=(0, 0), low=(0, 2)), start=(0, 0), step=(1, 1), stop=(2, 2))",
     "slice(pad(x, high=(0, 0), low=(0, 2)), start=(0, 0), step=(1, 1), stop=(2, 2))"),
    ("join_flips", op(Op.FLIP, op(Op.FLIP, t, axes=(0, 1)), axes=(1, 2)),
     "flip(flip(t, axes=(0, 1)), axes=(1, 2))", "flip(t, axes=(0, 2))"),
    ("join_flips", op(Op.FLIP, op(Op.FLIP, x, axes=(0,)), axes=(0,)),
     "flip(flip(x, axes=(0,)), axes=(0,))", "x"),
    ("reduce_ones", op(Op.REDUCE_MAX, u, axes=(1,)),
     "reduce_max(u, axes=(1,))", "reshape(u, shape=(2, 3))"),
    ("reduce_ones", op(Op.REDUCE_SUM, x, axes=()), "reduce_sum(x, axes=())", "x"),
    ("extremum_of_expand", op(Op.REDUCE_MAX, expand(w, 2, 3, 4), axes=(0, 1, 2)),
     "reduce_max(expand(w, shape=(2, 3, 4)), axes=(0, 1, 2))",
     "reduce_max(reshape(w, shape=(3,)), axes=(0,))"),
    ("sum_of_expand", op(Op.REDUCE_SUM, expand(w, 3, 4), axes=(1,)),
     "reduce_sum(expand(w, shape=(3, 4)), axes=(1,))", "mul(reshape(w, shape=(3,)), 4.0)"),
    ("sum_of_expand", op(Op.REDUCE_SUM, expand(h, 4, 2, 3), axes=(0, 2)),
     "reduce_sum(expand(h, shape=(4, 2, 3)), axes=(0, 2))",
     "cast(mul(cast(reduce_sum(h, axes=(1,)), dtype=f32), 4.0), dtype=f16)"),
    ("sum_of_expand", op(Op.REDUCE_SUM, expand(s, 300, 2, 3), axes=(0,)),
     "reduce_sum(expand(s, shape=(300, 2, 3)), axes=(0,))", "mul(s, 44)"),
    ("sum_of_expand", op(Op.REDUCE_SUM, expand(w, 3, 4), axes=(0,)),
     "reduce_sum(expand(w, shape=(3, 4)), axes=(0,))",
     "reduce_sum(expand(w, shape=(3, 4)), axes=(0,))"),
    ("dot_of_vector", dot(r, m, ((1,), (0,))), "dot(r, m, batch=((), ()), contract=((1,), (0,)), "
     "dtype=f16)",
     "cast(reduce_sum(mul(expand(reshape(cast(r, dtype=f32), shape=(1, 1, 3)), shape=(1, 4, 3)), "
     "reshape(permute(cast(m, dtype=f32), axes=(1, 0)), shape=(1, 4, 3))), axes=(2,)), dtype=f16)"),
    ("dot_of_vector", dot(v, v, ((), ())),
     "dot(v, v, batch=((), ()), contract=((), ()), dtype=f32)",
     "mul(expand(reshape(v, shape=(4, 1)), shape=(4, 4)), expand(reshape(v, shape=(1, 4)), "
     "shape=(4, 4)))"),
    ("dot_of_vector", dot(t, v, ((2,), (0,))),
     "dot(t, v, batch=((), ()), contract=((2,), (0,)), dtype=f32)",
     "reduce_sum(mul(t, expand(reshape(v, shape=(1, 1, 4)), shape=(2, 3, 4))), axes=(2,))"),
    ("dot_of_vector", dot(t, t, ((1,), (1,)), ((0,), (0,))),
     "dot(t, t, batch=((0,), (0,)), contract=((1,), (1,)), dtype=f32)",
     "dot(t, t, batch=((0,), (0,)), contract=((1,), (1,)), dtype=f32)"),
    ("dot_of_casts", contraction(cast(f, dt.float16), cast(f, dt.float16)),
     "dot(cast(f, dtype=f16), cast(f, dtype=f16), batch=((), ()), contract=((0,), (0,)), "
     "dtype=f32)", "dot(f, f, batch=((), ()), contract=((0,), (0,)), dtype=f32)"),
    ("dot_of_casts", contraction(cast(f, dt.int32), cast(f, dt.int32), dt.int32),
     "dot(cast(f, dtype=i32), cast(f, dtype=i32), batch=((), ()), contract=((0,), (0,)), "
     "dtype=i32)", "dot(cast(f, dtype=i32), cast(f, dtype=i32), batch=((), ()), "
     "contract=((0,), (0,)), dtype=i32)"),
    ("row_of_one", op(Op.SCAN_LINEAR, w, b.neg(w), axis=1), "scan_linear(w, neg(w), axis=1)",
     "neg(w)"),
    ("row_of_one", op(Op.SCAN_MAX, w, axis=0), "scan_max(w, axis=0)", "scan_max(w, axis=0)"),
    ("row_of_one", op(Op.ARGSORT, reshape(k, 6, 1), axis=1),
     "argsort(reshape(k, shape=(6, 1)), axis=1)", "0"),
    ("sort_words", op(Op.ARGSORT, k, axis=1), "argsort(k, axis=1)",
     "gather(argsort(cast(k, dtype=u32), axis=1), argsort(gather(cast(shr(k, 32), dtype=u32), "
     "argsort(cast(k, dtype=u32), axis=1), axis=1), axis=1), axis=1)"),
]  # fmt: skip

BY_NAME = {rule.name: rule for rule in COMPILED}


def close(a: Node, b: Node) -> None:
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    tolerance = {"float16": 1e-3, "float32": 1e-6}.get(a.dtype.name, 0)
    np.testing.assert_allclose(value(a), value(b), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "node", "before", "after"), TABLE, ids=[f"{row[0]}: {row[2][:60]}" for row in TABLE]
)
def test_rule(name: str, node: Node, before: str, after: str) -> None:
    assert text(node) == before
    (alone,) = rewrite([node], [BY_NAME[name]])
    assert text(alone) == after
    (all_rules,) = rewrite([node], COMPILED)
    verify([alone])
    verify([all_rules], lowered=True)
    close(alone, node)
    close(all_rules, node)


def test_each_rule_is_in_the_table_and_changes_something() -> None:
    assert {row[0] for row in TABLE if row[2] != row[3]} == set(BY_NAME)
    assert len(BY_NAME) == len(COMPILED)
    assert all("=" in rule.equation for rule in COMPILED)


@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16, dt.float32, dt.float64])
def test_lossless_casts_hold_every_value(dtype: DType) -> None:
    for have in (dt.bool_, dt.uint8, dt.int8, dt.uint16, dt.int16):
        info = np.arange(int(have.min), int(have.max) + 1)
        there_and_back = value(cast(leaf(info, dtype), dt.int64))
        assert is_lossless(have, dtype) == bool((there_and_back == info).all())


MATH: list[Callable[[Node, Node], Node]] = [
    b.add, b.sub, b.mul, lambda p, q: op(Op.MAXIMUM, p, q), lambda p, q: b.neg(p),
    lambda p, q: b.where(b.less(p, q), p, q), lambda p, q: op(Op.TANH, p),
    lambda p, q: b.div(p, b.const_like(p, 4)), lambda p, q: b.power(p, b.const_like(p, 2)),
    lambda p, q: b.mul(p, b.const_like(p, 1)), lambda p, q: b.add(b.const_like(p, 0), p),
    lambda p, q: b.cast_to(b.cast_to(p, dt.float64), p.dtype),
    lambda p, q: b.restore(b.sum_over(p, (0,)), (0,), p.shape),
    lambda p, q: b.reduce_to(expand(reshape(p, 1, *p.shape), 3, *p.shape), p.shape),
]  # fmt: skip


def moves(p: Node, draw: np.random.Generator) -> Node:
    """A random movement that returns to a shape of 12 or fewer elements."""
    rank = len(p.shape)
    axes = tuple(int(a) for a in draw.permutation(rank))
    low, high = ((tuple(int(n) for n in draw.integers(0, 2, rank))) for _ in range(2))
    cuts = tuple(int(draw.integers(0, n)) for n in p.shape)
    steps = tuple(int(n) for n in draw.integers(1, 3, rank))
    choice = draw.integers(0, 6)
    if choice == 0:
        return op(Op.PERMUTE, p, axes=axes)
    if choice == 1:
        return op(Op.FLIP, p, axes=tuple(sorted(axes[: int(draw.integers(0, rank + 1))])))
    if choice == 2:
        return pad(p, low, high)
    if choice == 3:
        return cut(p, cuts, p.shape, steps)
    if choice == 4:
        return reshape(p, *((p.size,) if rank > 1 else (1, p.size)))
    return expand(p, *(3 if n == 1 else n for n in p.shape))


@pytest.mark.parametrize("seed", range(150))
def test_random_graphs_keep_their_values(seed: int) -> None:
    draw = np.random.default_rng(seed)
    node = leaf(draw.normal(size=(2, 3)), dt.float32)
    for _ in range(12):
        other = b.const_like(node, float(draw.integers(-1, 3))) if draw.random() < 0.3 else node
        if draw.random() < 0.5:
            node = MATH[draw.integers(len(MATH))](node, other)
        elif node.size < 200:
            node = moves(node, draw)
    (canonical,) = rewrite([node], CANONICAL)
    verify([canonical], lowered=True)
    np.testing.assert_allclose(value(canonical), value(node), rtol=1e-4, atol=1e-4)
    assert rewrite([canonical], CANONICAL) == [canonical]
