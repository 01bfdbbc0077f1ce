"""Deferred nodes: the same graph, made when somebody looks behind it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from weakref import ref

import numpy as np
import pytest

from tests.graph.oracle import leaf
from tgrad import dtype as dt
from tgrad.graph import build as b
from tgrad.graph.deferred import Instance, is_pending
from tgrad.graph.form import form_of
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op
from tgrad.graph.template import Template, template_of


def function(x: Node, y: Node) -> list[Node | None]:
    twice = b.mul(b.const_like(y, 2.0), make(Op.TANH, y))
    return [b.add(x, twice), None, y, twice]


def operand(*shape: int) -> Node:
    return leaf(np.zeros(shape), dt.float32)


def deferred(*operands: Node) -> list[Node | None]:
    template = template_of(function, "deferred", operands)
    assert isinstance(template, Template)
    return template.deferred_on(operands)


def first_of(*operands: Node) -> Node:
    total = deferred(*operands)[0]
    assert total is not None
    return total


@pytest.fixture()
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Instance]]:
    """The instances whose nodes were asked for."""
    found, make_all = list[Instance](), Instance.make
    monkeypatch.setattr(Instance, "make", lambda self: (found.append(self), make_all(self))[1])
    yield found


def test_types_are_known_and_nothing_is_made(made: list[Instance]) -> None:
    x, y = operand(2, 3), operand(2, 3)
    total, nothing, same, twice = deferred(x, y)
    assert total is not None and nothing is None and same is y and twice is not None
    assert (total.shape, total.size, total.dtype, total.device) == ((2, 3), 6, dt.float32, x.device)
    assert is_pending(total) and is_pending(twice) and not is_pending(y) and not made


def test_the_graph_is_that_of_the_function(made: list[Instance]) -> None:
    x, y = operand(2, 3), operand(2, 3)
    total, _, _, twice = deferred(x, y)
    assert total is not None and total.op is Op.ADD and total.inputs == (x, twice)
    assert len(made) == 1 and twice is not None and not is_pending(twice)
    assert [total, None, y, twice] == function(x, y), "whoever makes it later has these nodes"


def test_what_is_there_already_stays_the_one_node() -> None:
    x, y = operand(4), operand(4)
    total, _, _, twice = deferred(x, y)
    before = function(x, y)
    assert total is not None and twice is not None
    assert (total.op, total.inputs) == (Op.RESHAPE, (before[0],))
    assert (twice.op, twice.inputs, twice.attr("shape")) == (Op.RESHAPE, (before[3],), (4,))


def test_equal_results_of_one_instance_are_one_node() -> None:
    x = operand(5)
    pair = Template.between([x], [make(Op.TANH, x)])
    assert pair is not None
    both = Template(pair.fixed, pair.rows * 2, (1, 2), pair.used)
    first, second = both.deferred_on([x])
    assert first is not None and second is not None
    assert first.op is Op.TANH and second.inputs == (first,)


def test_nodes_are_made_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = operand(4), operand(4)
    total, _, _, twice = deferred(x, y)
    assert total is not None and twice is not None

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Instance, "_note_computed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            assert is_pending(total) and total.instance is not None  # type: ignore[attr-defined]
            total.instance.make()  # type: ignore[attr-defined]
    assert is_pending(total)
    total.instance.make()  # type: ignore[attr-defined]
    assert not is_pending(total) and [total, None, y, twice] == function(x, y)


def test_operands_are_free_when_results_are_gone() -> None:
    gc.disable()
    try:
        x = operand(6)
        gone, total = ref(x), first_of(x, operand(6))
        del x
        assert gone() is not None
        assert total.op is Op.ADD
        del total
        assert gone() is None, "without a collection of garbage"
        x = operand(6)
        gone, total = ref(x), first_of(x, operand(6))
        del x, total
        assert gone() is None
    finally:
        gc.enable()


def test_what_a_plan_computed_was_computed_of_all_behind_it() -> None:
    total, _, _, twice = deferred(operand(3), operand(3))
    assert total is not None and twice is not None
    twice.is_computed = True
    tanh = twice.inputs[1]
    assert tanh.is_computed and not total.is_computed


def test_a_form_has_one_row_for_an_instance(made: list[Instance]) -> None:
    forms = []
    for _ in range(2):
        x, y = operand(7), operand(7)
        total = first_of(make(Op.NEG, x), y)
        forms.append(form_of([b.mul(total, total)], is_whole=False))
        assert set(forms[-1].leaves) == {x, y} and forms[-1].deferred == [total]
    assert forms[0].rows == forms[1].rows and not made
    whole = form_of([b.mul(total, total)])
    assert len(made) == 1 and not whole.deferred
    assert whole.rows == form_of([b.mul(total, total)], is_whole=False).rows, "nothing waits"


def test_forms_tell_templates_operands_and_results_apart() -> None:
    x, y = operand(2), operand(2)
    total, _, _, twice = deferred(x, y)
    other, _, _, _ = deferred(y, x)
    assert total is not None and twice is not None and other is not None
    outputs = [[total], [twice], [total, twice], [twice, total], [b.add(total, x)],
               [b.add(total, y)], [b.add(total, other)]]  # fmt: skip
    assert len({form_of(o, is_whole=False).rows for o in outputs}) == len(outputs)


def test_a_part_of_a_result_is_no_part_of_a_buffer() -> None:
    total = first_of(operand(8), operand(8))
    half = b.slice_(total, (0,), (4,))
    form = form_of([half], is_whole=False)
    assert form.parts == (None, None) and is_pending(total)
