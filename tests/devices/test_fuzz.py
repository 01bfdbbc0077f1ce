"""Random graphs on real devices against the graph interpreter: a thousand a run. A failure prints
what repeats it."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzzing import graphs
from tgrad import realizing
from tgrad.autodiff.backward import gradients
from tgrad.device import Device
from tgrad.graph.interpret import interpret
from tgrad.graph.node import make, toposort
from tgrad.graph.op import Op
from tgrad.tensor import is_leaf_mark

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)


@pytest.mark.parametrize("device", ["cpu", pytest.param("interpret", marks=needs_triton)])
def test_random_graphs(device: str) -> None:
    @settings(max_examples=400, deadline=None, print_blob=True)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        nodes = [t._node for t in data.draw(graphs(device))]
        expected = interpret(nodes, lambda storage: storage.numpy())
        for got, want in zip(realizing.realize(nodes, Device(device)), expected):
            np.testing.assert_allclose(got.numpy(), want, rtol=2e-4, atol=2e-4)

    check()


def test_gradients_of_random_graphs() -> None:
    """Forward and backward as one plan on cpu, against the interpreter."""

    @settings(max_examples=200, deadline=None, print_blob=True)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        outputs = data.draw(graphs("cpu", requires_grad=True))
        loss = sum((t * t).sum() for t in outputs)
        if not loss.requires_grad:
            return
        leaves = {n for n in toposort([loss._node]) if is_leaf_mark(n)}
        marks = sorted(leaves, key=lambda n: n.attr("params")[0])
        found = gradients(loss._node, make(Op.CONST, value=1.0, dtype=loss.dtype), marks)
        nodes = [loss._node, *(g for g in found if g is not None)]
        expected = interpret(nodes, lambda storage: storage.numpy())
        for got, want in zip(realizing.realize(nodes, Device("cpu")), expected):
            scale = max(1.0, float(np.abs(want).max(initial=0.0)))
            np.testing.assert_allclose(got.numpy() / scale, want / scale, rtol=1e-3, atol=1e-3)

    check()
