"""Random graphs on real devices against the graph interpreter."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzzing import graphs
from tgrad import pipeline
from tgrad.device import Device
from tgrad.graph.interpret import interpret

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)


@pytest.mark.parametrize("device", ["cpu", pytest.param("interpret", marks=needs_triton)])
def test_random_graphs(device: str) -> None:
    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        nodes = [t._node for t in data.draw(graphs(device))]
        expected = interpret(nodes, lambda storage: storage.numpy())
        for got, want in zip(pipeline.realize(nodes, Device(device)), expected):
            np.testing.assert_allclose(got.numpy(), want, rtol=2e-4, atol=2e-4)

    check()
