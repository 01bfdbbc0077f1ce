"""Which elements of a node are needed: conditions move from users to inputs, or are dropped."""

from __future__ import annotations

from tgrad import dtype as dt
from tgrad.device import Device
from tgrad.graph import build as b
from tgrad.graph.demand import EVERYTHING, Condition, conditions_of, needed_elements
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op
from tgrad.runtime.storage import Storage

CPU = Device("cpu")


def buffer(*shape: int, dtype: dt.DType = dt.float32) -> Node:
    return make(Op.BUFFER, storage=Storage(CPU, dtype, shape, None))


N = buffer(dtype=dt.int64)


def below(shape: tuple[int, ...], axis: int) -> Node:
    place = make(Op.IOTA, shape=shape, axis=axis, dtype=dt.int32)
    return b.less(place, b.expand_to(b.cast_to(N, dt.int32), shape))


def test_a_mask_says_what_is_needed() -> None:
    mask = below((4, 32, 8), 1)
    assert list(conditions_of(mask)) == [Condition(8, 32, N)]
    inner = make(Op.IOTA, shape=(128,), axis=0, dtype=dt.int32)
    inner = make(Op.MOD, inner, b.const_like(inner, 32))
    merged = b.less(inner, b.expand_to(b.cast_to(N, dt.int32), (128,)))
    assert list(conditions_of(merged)) == [Condition(1, 32, N)]
    other = buffer(4, 32, 8, dtype=dt.bool_)
    assert list(conditions_of(b.both(mask, other))) == [Condition(8, 32, N)]
    assert list(conditions_of(other)) == []


def test_conditions_go_from_users_to_inputs() -> None:
    x, w = buffer(4, 32, 8), buffer(8, 5)
    product = make(
        Op.DOT, b.neg(x), w, contract=((2,), (0,)), batch=((), ()), dtype=dt.float32
    )  # 4 x 32 x 5
    moved = b.permute(product, (1, 0, 2))
    hidden = b.where(below(moved.shape, 0), moved, b.const_like(moved, 0))
    total = b.sum_over(hidden, (0,))
    found = needed_elements({total: EVERYTHING})
    assert found[hidden] == EVERYTHING
    assert found[moved] == {Condition(20, 32, N)}
    assert found[product] == {Condition(5, 32, N)}
    assert found[x] == {Condition(8, 32, N)}
    assert found[w] == EVERYTHING


def test_another_user_needs_everything() -> None:
    y = b.neg(buffer(4, 32))
    hidden = b.where(below((4, 32), 1), y, b.const_like(y, 0))
    assert needed_elements({b.sum_over(hidden, (1,)): EVERYTHING})[y] == {Condition(1, 32, N)}
    outputs = {b.sum_over(hidden, (1,)): EVERYTHING, b.exp(y): EVERYTHING}
    assert needed_elements(outputs)[y] == EVERYTHING


def test_what_a_movement_changes_is_dropped() -> None:
    x = b.neg(buffer(4, 32))
    wanted = frozenset({Condition(1, 32, N)})
    assert needed_elements({make(Op.FLIP, x, axes=(1,)): wanted})[x] == EVERYTHING
    assert needed_elements({b.slice_axis(x, 1, 0, 32): wanted})[x] == wanted
    padded = b.pad_axis(x, 0, 1, 1)
    assert needed_elements({padded: wanted})[x] == wanted
    assert needed_elements({b.pad_axis(x, 1, 0, 1): frozenset({Condition(1, 33, N)})})[x] == set()
    assert needed_elements({b.reshape_to(x, (128,)): wanted})[x] == wanted
