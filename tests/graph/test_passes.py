"""The rewrite engine, the verifier and the printer."""

from __future__ import annotations

import numpy as np
import pytest

from tests.graph.oracle import leaf
from tgrad import dtype as dt
from tgrad.errors import Source, VerifyError
from tgrad.graph import build as b
from tgrad.graph.node import Node, make, source_scope
from tgrad.graph.op import Op
from tgrad.graph.printer import print_graph
from tgrad.graph.rewrite import Rule, rewrite, rule
from tgrad.graph.rules import CANONICAL
from tgrad.graph.verify import verify

x = leaf(np.zeros((2, 3)), dt.float32)
y = leaf(np.zeros((2, 3)), dt.float32)


@rule("sin(x) = cos(x)", Op.SIN)
def sin_to_cos(node: Node) -> Node | None:
    return make(Op.COS, node.inputs[0])


@rule("cos(x) = exp(x)", Op.COS)
def cos_to_exp(node: Node) -> Node | None:
    return make(Op.EXP, node.inputs[0])


@rule("exp(x) = sin(x)", Op.EXP)
def exp_to_sin(node: Node) -> Node | None:
    return make(Op.SIN, node.inputs[0])


@rule("tanh(x) = tanh(exp(tanh(x)))", Op.TANH)
def grows(node: Node) -> Node | None:
    return make(Op.TANH, make(Op.EXP, node))


@rule("x = sum(x)", Op.ABS)
def wrong_shape(node: Node) -> Node | None:
    return make(Op.REDUCE_SUM, node.inputs[0], axes=(0,))


def test_rules_apply_until_none_does() -> None:
    before = make(Op.ADD, make(Op.SIN, make(Op.SIN, x)), make(Op.COS, y))
    after = make(Op.ADD, make(Op.EXP, make(Op.EXP, x)), make(Op.EXP, y))
    assert rewrite([before, x, before], [sin_to_cos, cos_to_exp]) == [after, x, after]


def test_no_rule_no_change() -> None:
    node = make(Op.ADD, make(Op.SIN, x), y)
    assert rewrite([node], CANONICAL) == [node]
    assert rewrite([node], []) == [node]
    assert rewrite([], CANONICAL) == []


def test_each_node_is_matched_once() -> None:
    seen: list[Node] = []
    watch = Rule("watch", "x = x", (Op.SIN, Op.ADD), lambda node: seen.append(node))
    shared = make(Op.SIN, x)
    node = make(Op.ADD, shared, shared)
    for _ in range(30):
        node = make(Op.ADD, node, node)
    rewrite([node, shared], [watch])
    assert len(seen) == len(set(seen)) == 32


def test_dropped_inputs_are_not_visited() -> None:
    seen: list[Node] = []
    watch = Rule("watch", "x = x", (Op.SIN, Op.COS), lambda node: seen.append(node))
    kept, history = make(Op.SIN, x), make(Op.COS, x)
    marked = make(Op.CUSTOM_VJP, kept, history, rule="any", params=())
    assert rewrite([b.neg(marked)], [watch, *CANONICAL]) == [b.neg(kept)]
    assert seen == [kept]


@pytest.mark.parametrize("rules", [[sin_to_cos, cos_to_exp, exp_to_sin], [grows]])
def test_rules_in_a_circle_are_an_error(rules: list[Rule]) -> None:
    with pytest.raises(VerifyError, match="rewrite rules run in a circle"):
        rewrite([make(Op.SIN, x), make(Op.TANH, x)], rules)


def test_a_rule_must_keep_shape_and_dtype() -> None:
    with pytest.raises(VerifyError, match=r"rule 'wrong_shape' turns <abs .*> into <reduce_sum"):
        rewrite([make(Op.ABS, x)], [wrong_shape])


def test_new_nodes_keep_the_line_of_the_old() -> None:
    old = Source("model.py", 7, "attention")
    with source_scope(old):
        node = b.add(make(Op.SIN, make(Op.TANH, leaf([1.0]))), leaf([2.0]))
    (after,) = rewrite([node], [sin_to_cos])
    assert after is not node
    assert after.source == after.inputs[0].source == old


def test_a_deep_graph_needs_no_recursion_and_is_rewritten_once() -> None:
    node = x
    for step in range(1000):
        node = make(Op.ADD, make((Op.SIN, Op.EXP, Op.TANH)[step % 3], node), y)
        node = make(Op.MUL, node, node)
    (after,) = rewrite([node], CANONICAL)
    assert rewrite([after], CANONICAL) == [after]


def test_verify_accepts_what_make_builds() -> None:
    marked = make(Op.CUSTOM_VJP, make(Op.EXP, x), x, rule="any", params=())
    verify([make(Op.ADD, marked, y), x])
    with pytest.raises(VerifyError, match="a custom_vjp is left in a lowered graph"):
        verify([marked], lowered=True)
    verify(rewrite([marked], CANONICAL), lowered=True)


def broken(**changes: object) -> Node:
    """A node as `make` would never build it."""
    good = make(Op.ADD, x, y)
    node = Node.__new__(Node)
    for name in ("op", "inputs", "attrs", "shape", "size", "dtype", "device"):
        setattr(node, name, changes.get(name, getattr(good, name)))
    node.source = Source("model.py", 3)
    return node


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shape": (3, 2)}, r"<add f32\[3x2\] at model.py:3>: should be float32 of shape \(2, 3\)"),
        ({"dtype": dt.int32}, "should be float32 of shape"),
        ({"inputs": (x,)}, "does not fit its inputs: .*add takes 2 inputs, got 1"),
        ({"op": Op.RESHAPE, "inputs": (x,)}, "does not fit its inputs: KeyError"),
        ({"device": None}, "is on None, its inputs on numpy"),
    ],
)
def test_verify_names_the_broken_node(changes: dict, says: str) -> None:
    with pytest.raises(VerifyError, match=says) as caught:
        verify([make(Op.NEG, broken(**changes))])
    assert "model.py:3" in str(caught.value)


def test_print() -> None:
    with source_scope(Source("/home/me/train.py", 12)):
        first, second = leaf(np.zeros((4, 8)), dt.float32), leaf(np.zeros((8,)), dt.float16)
        row = make(Op.EXPAND, make(Op.CAST, second, dtype=dt.float32), shape=(4, 8))
        total = make(Op.REDUCE_SUM, b.mul(b.add(first, row), b.const_like(row, 2)), axes=(1,))
    expected = """\
%0 = buffer 0 : f32[4,8] on numpy  # train.py:12
%1 = buffer 1 : f16[8] on numpy  # train.py:12
%2 = cast %1 dtype=f32 : f32[8]  # train.py:12
%3 = expand %2 shape=(4, 8) : f32[4,8]  # train.py:12
%4 = add %0, %3 : f32[4,8]  # train.py:12
%5 = const 2.0 : f32[]
%6 = expand %5 shape=(4, 8) : f32[4,8]
%7 = mul %4, %6 : f32[4,8]  # train.py:12
%8 = reduce_sum %7 axes=(1,) : f32[4]  # train.py:12
return %8, %4"""
    plain = "\n".join(line.split("  #")[0] for line in expected.splitlines())
    assert print_graph([total, total.inputs[0].inputs[0]], sources=False) == plain
    assert print_graph([total, total.inputs[0].inputs[0]]) == expected


def test_print_does_not_depend_on_identity() -> None:
    def text() -> str:
        a, c = leaf([1.0, 2.0]), leaf([3.0, 4.0])
        return print_graph([b.add(b.mul(c, a), c)])

    assert text() == text()
