"""Nodes: hash-consing, sources, devices, and the shape and dtype rules with their errors."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.graph.oracle import Held, leaf
from tgrad import dtype as dt
from tgrad.device import Device
from tgrad.errors import DeviceError, DTypeError, ShapeError, Source
from tgrad.graph import node as node_module
from tgrad.graph.node import Node, make, on_inputs, source_scope, toposort
from tgrad.graph.op import OPS, REDUCE_COMBINE, Op

x = leaf(np.zeros((2, 3)), dt.float32)
y = leaf(np.zeros((2, 3)), dt.float32)
i = leaf(np.zeros((2, 3)), dt.int64)
c = leaf(np.zeros((2, 3)), dt.bool_)


def test_equal_structure_is_the_same_object() -> None:
    assert make(Op.ADD, x, y) is make(Op.ADD, x, y)
    assert make(Op.ADD, x, y) is not make(Op.ADD, y, x)
    assert make(Op.RESHAPE, x, shape=(3, 2)) is make(Op.RESHAPE, x, shape=(3, 2))
    assert make(Op.RESHAPE, x, shape=(3, 2)) is not make(Op.RESHAPE, x, shape=(6,))
    assert leaf([1.0]) is not leaf([1.0])


@pytest.mark.parametrize(("a", "b"), [(0.0, -0.0), (1, 1.0), (1, True), (0.5, 0.25)])
def test_different_numbers_are_different_constants(a: float, b: float) -> None:
    left, right = (make(Op.CONST, value=v, dtype=dt.float32) for v in (a, b))
    assert left is not right
    assert left is make(Op.CONST, value=a, dtype=dt.float32)
    assert left is not make(Op.CONST, value=a, dtype=dt.float64)


def test_nan_is_one_constant() -> None:
    first = make(Op.CONST, value=float("nan"), dtype=dt.float32)
    assert first is make(Op.CONST, value=float("nan"), dtype=dt.float32)


def test_a_node_on_other_inputs_is_what_make_gives() -> None:
    with source_scope(Source("train.py", 7, "loss")):
        total = make(Op.REDUCE_SUM, make(Op.ADD, x, y), axes=(1,))
    wider = leaf(np.zeros((2, 5)), dt.float64)
    for other in (make(Op.MUL, x, y), wider):
        moved = on_inputs(total, (other,))
        assert moved.source == total.source
        assert moved is make(Op.REDUCE_SUM, other, axes=(1,))
        assert (moved.shape, moved.dtype) == ((2,), other.dtype)
    assert on_inputs(total, total.inputs) is total
    with pytest.raises(ShapeError):
        on_inputs(make(Op.ADD, x, y), (x, make(Op.RESHAPE, y, shape=(3, 2))))


def test_nodes_live_as_long_as_they_are_used() -> None:
    gc.collect()
    before = len(node_module._nodes)
    held = make(Op.EXP, make(Op.TANH, leaf([1.0, 2.0])))
    assert len(node_module._nodes) == before + 3
    del held
    gc.collect()
    assert len(node_module._nodes) == before


def test_threads_share_nodes() -> None:
    def build(_: int) -> Node:
        result = x
        for _ in range(50):
            result = make(Op.SIN, make(Op.ADD, result, y))
        return result

    with ThreadPoolExecutor(8) as pool:
        assert len({id(node) for node in list(pool.map(build, range(32)))}) == 1


def test_source_is_the_users_line() -> None:
    node = make(Op.COS, x)
    assert node.source.file == __file__
    assert (node.source.text, node.source.label) == ("node = make(Op.COS, x)", "cos")
    with source_scope(label="outer"), source_scope(label="inner"):
        assert make(Op.EXP, make(Op.COS, y)).source.label == "outer"
    fixed = Source("train.py", 12, "loss")
    with source_scope(fixed):
        assert make(Op.LOG, make(Op.COS, y)).source == fixed


def test_toposort_puts_inputs_first() -> None:
    a = make(Op.EXP, x)
    b = make(Op.MUL, a, y)
    assert toposort([b, a]) == [x, a, y, b]
    deep = x
    for _ in range(5000):
        deep = make(Op.NEG, deep)
    assert len(toposort([deep])) == 5001


def test_device_comes_from_the_inputs() -> None:
    other = make(Op.BUFFER, storage=OnCpu(np.zeros((2, 3), np.float32)))
    number = make(Op.EXPAND, make(Op.CONST, value=1.0, dtype=dt.float32), shape=(2, 3))
    assert number.device is None
    assert make(Op.ADD, other, number).device == Device("cpu")
    with pytest.raises(DeviceError, match="add of tensors on different devices: numpy and cpu"):
        make(Op.ADD, x, other)


class OnCpu(Held):
    """A storage that says it is on the CPU."""

    @property
    def device(self) -> Device:
        return Device("cpu")


def test_derived_facts() -> None:
    h = leaf(np.zeros((4, 5)), dt.float16)
    assert (h.size, h.nbytes) == (20, 40)
    total = make(Op.REDUCE_SUM, h, axes=(1,))
    assert total.attr("axes") == (1,)
    with pytest.raises(KeyError, match="reduce_sum has no attribute 'shape'"):
        total.attr("shape")
    assert repr(total).startswith("<reduce_sum f16[4] at test_node.py:")


def test_op_table_is_whole() -> None:
    assert set(OPS) == set(Op)
    assert {op for op in Op if op.value.startswith("reduce_")} == set(REDUCE_COMBINE)


dot = {"batch": ((), ()), "dtype": dt.float32}

# op, inputs, attributes, shape and dtype of the result
RESULTS: list[tuple[Op, tuple[Node, ...], dict, tuple[int, ...], dt.DType]] = [
    (Op.EXP, (x,), {}, (2, 3), dt.float32),
    (Op.LT, (x, y), {}, (2, 3), dt.bool_),
    (Op.WHERE, (c, i, i), {}, (2, 3), dt.int64),
    (Op.CAST, (x,), {"dtype": dt.int8}, (2, 3), dt.int8),
    (Op.BITCAST, (x,), {"dtype": dt.int32}, (2, 3), dt.int32),
    (Op.PHILOX, (i, i, i), {"word": 0}, (2, 3), dt.uint32),
    (Op.REDUCE_SUM, (i,), {"axes": (0,)}, (3,), dt.int64),
    (Op.REDUCE_MAX, (x,), {"axes": (0, 1)}, (), dt.float32),
    (Op.RESHAPE, (x,), {"shape": (1, 6)}, (1, 6), dt.float32),
    (Op.PERMUTE, (x,), {"axes": (1, 0)}, (3, 2), dt.float32),
    (Op.EXPAND, (x,), {"shape": (5, 2, 3)}, (5, 2, 3), dt.float32),
    (Op.PAD, (x,), {"low": (1, 0), "high": (0, 2)}, (3, 5), dt.float32),
    (Op.SLICE, (x,), {"start": (0, 0), "stop": (2, 3), "step": (1, 2)}, (2, 2), dt.float32),
    (Op.FLIP, (x,), {"axes": (1,)}, (2, 3), dt.float32),
    (Op.WINDOW, (x,), {"axis": 1, "size": 2, "stride": 1, "dilation": 1}, (2, 2, 2), dt.float32),
    (Op.GATHER, (x, i), {"axis": 1}, (2, 3), dt.float32),
    (Op.SCATTER, (x, i, y), {"axis": 0, "combine": "add"}, (2, 3), dt.float32),
    (Op.DOT, (x, y), {"contract": ((1,), (1,)), **dot}, (2, 2), dt.float32),
    (Op.DOT, (x, y), {"contract": ((), ()), **dot}, (2, 3, 2, 3), dt.float32),
    (Op.DOT, (x, y), {"contract": ((1,), (1,)), "batch": ((0,), (0,)), "dtype": dt.float32},
     (2,), dt.float32),
    (Op.IOTA, (), {"shape": (4,), "axis": 0, "dtype": dt.int32}, (4,), dt.int32),
    (Op.CUSTOM_VJP, (x, i), {"rule": "any", "params": ()}, (2, 3), dt.float32),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attrs", "shape", "dtype"), RESULTS)
def test_result(
    op: Op, inputs: tuple[Node, ...], attrs: dict, shape: tuple[int, ...], dtype: dt.DType
) -> None:
    node = make(op, *inputs, **attrs)
    assert (node.shape, node.dtype) == (shape, dtype)


row = leaf(np.zeros(3), dt.float32)

# op, inputs, attributes, error, what it says
ERRORS: list[tuple[Op, tuple[Node, ...], dict, type[Exception], str]] = [
    (Op.ADD, (x,), {}, ShapeError, "add takes 2 inputs, got 1"),
    (Op.ADD, (x, row), {}, ShapeError, r"add of shapes \(2, 3\) and \(3,\)"),
    (Op.ADD, (x, i), {}, DTypeError, "add of float32 and int64"),
    (Op.EXP, (i,), {}, DTypeError, "exp does not take int64"),
    (Op.WHERE, (x, x, x), {}, DTypeError, "where needs a bool condition, got float32"),
    (Op.BITCAST, (x,), {"dtype": dt.int8}, DTypeError, "bitcast from float32 to int8"),
    (Op.REDUCE_SUM, (x,), {"axes": (2,)}, ShapeError, r"reduce_sum over axes \(2,\) of shape"),
    (Op.REDUCE_MAX, (leaf(np.zeros((0, 2))),), {"axes": (0,)}, ShapeError, "over an empty axis"),
    (Op.RESHAPE, (x,), {"shape": (4, 2)}, ShapeError, "has 6 elements and cannot be"),
    (Op.PERMUTE, (x,), {"axes": (0, 0)}, ShapeError, "each axis must stand once"),
    (Op.EXPAND, (x,), {"shape": (2, 4)}, ShapeError, "cannot be expanded to"),
    (Op.PAD, (x,), {"low": (-1, 0), "high": (0, 0)}, ShapeError, "pad of shape"),
    (Op.SLICE, (x,), {"start": (0, 0), "stop": (2, 4), "step": (1, 1)}, ShapeError,
     r"slice \[0:4:1\] of an axis of size 3"),
    (Op.FLIP, (x,), {"axes": (2,)}, ShapeError, "flip of axes"),
    (Op.WINDOW, (x,), {"axis": 1, "size": 4, "stride": 1, "dilation": 1}, ShapeError,
     "a window of 4 elements, 1 apart, does not fit"),
    (Op.GATHER, (x, y), {"axis": 1}, DTypeError, "gather needs an integer index"),
    (Op.GATHER, (row, i), {"axis": 0}, ShapeError, "gather along axis 0"),
    (Op.SCATTER, (x, i, row), {"axis": 0, "combine": "add"}, ShapeError, "with an index of shape"),
    (Op.DOT, (x, y), {"contract": ((1,), (0,)), **dot}, ShapeError, "must have equal sizes"),
    (Op.DOT, (x, i), {"contract": ((1,), (1,)), **dot}, DTypeError, "dot of float32 and int64"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attrs", "error", "says"), ERRORS)
def test_errors(
    op: Op, inputs: tuple[Node, ...], attrs: dict, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        make(op, *inputs, **attrs)
    assert "test_node.py" in str(caught.value)
