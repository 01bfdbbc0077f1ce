"""Templates: the graph is the one that the function makes, on other operands."""

from __future__ import annotations

import numpy as np

from tests.graph.oracle import leaf
from tgrad import dtype as dt
from tgrad.errors import Source
from tgrad.graph import build as b
from tgrad.graph.node import Node, make, source_scope
from tgrad.graph.op import Op
from tgrad.graph.template import made_again


class Counted:
    """f(x, y) = (x + 2 * tanh(y), None, y), and how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Node, y: Node) -> list[Node | None]:
        self.calls += 1
        twice = b.mul(b.const_like(y, 2.0), make(Op.TANH, y))
        return [b.add(x, twice), None, y]


def operand(*shape: int) -> Node:
    return leaf(np.zeros(shape), dt.float32)


def test_the_graph_is_that_of_the_function() -> None:
    function = Counted()
    for _ in range(3):
        x, y = operand(2, 3), operand(2, 3)
        assert made_again(function, function, (x, y)) == Counted()(x, y)
    assert function.calls == 1


def test_other_types_are_other_templates() -> None:
    function = Counted()
    for shape in ((2, 3), (6,), (2, 3), (6,)):
        x, y = operand(*shape), operand(*shape)
        assert made_again(function, function, (x, y)) == Counted()(x, y)
    assert function.calls == 2


def test_operands_that_are_equal_once_may_differ_later() -> None:
    function, x, y = Counted(), operand(4), operand(4)
    for given in ((x, x), (x, y), (make(Op.TANH, y), y), (y, x)):
        assert made_again(function, function, given) == Counted()(*given)
    assert function.calls == 1


def test_nodes_are_on_the_line_of_the_call() -> None:
    function = Counted()
    for line in (7, 8):
        source = Source("train.py", line, "loss")
        with source_scope(source):
            made = made_again(function, function, (operand(5), operand(5)))
        assert made[0] is not None
        assert made[0].source == source


def test_what_has_memory_or_randomness_of_its_own_is_called_each_time() -> None:
    calls = 0

    def function(x: Node) -> list[Node]:
        nonlocal calls
        calls += 1
        return [b.add(x, operand(3))]

    results = [made_again(function, function, (operand(3),))[0] for _ in range(3)]
    assert len({n.inputs[1] for n in results if n is not None}) == 3
    assert calls == 4  # once to see


def test_numbers_stand_for_themselves() -> None:
    function = Counted()
    for value in (1.0, 2.0, 1.0, -0.0, 0.0, 2.0):
        given = b.slice_(b.const(value, dt.float32, (3,)), (1,), (3,)), operand(2)
        assert made_again(function, function, given) == Counted()(*given)
    assert function.calls == 4


def test_other_operands_of_no_device_are_left_to_the_function() -> None:
    function = Counted()
    for _ in range(2):
        given = make(Op.IOTA, shape=(2,), axis=0, dtype=dt.float32), operand(2)
        assert made_again(function, function, given) == Counted()(*given)
    assert function.calls == 2
