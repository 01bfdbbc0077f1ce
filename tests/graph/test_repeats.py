"""Which nodes, computed a second time, more than other nodes hold."""

from __future__ import annotations

import pytest

from tgrad import dtype as dt
from tgrad.graph import repeats
from tgrad.graph.node import Node, constant_node, make
from tgrad.graph.op import Op


def sine_of(value: float) -> Node:
    return make(Op.SIN, constant_node(value, dt.float32))


def test_what_only_nodes_hold_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many use it, and an operation both of whose operands it is."""
    monkeypatch.setattr(repeats, "repeated", {sine_of(17.5), sine_of(18.5)})
    users = [make(op, x) for x in repeats.repeated for op in (Op.EXP, Op.NEG)]
    twice = make(Op.MUL, *2 * users[0].inputs)
    assert repeats.take_held() == [] and not repeats.repeated
    assert len({twice, *users}) == 5


def test_what_others_hold_is_held_once(monkeypatch: pytest.MonkeyPatch) -> None:
    held = sine_of(19.5)
    user = make(Op.EXP, held)
    monkeypatch.setattr(repeats, "repeated", {held, sine_of(20.5)})
    assert repeats.take_held() == [held] == [*user.inputs]
    assert repeats.take_held() == []
