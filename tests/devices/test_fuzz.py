"""Random graphs on real devices against the graph interpreter: a thousand a run, many of them as
one plan. A failure prints what repeats it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tgrad
from tests.cpu_fallback.opencl import needs_opencl
from tests.fuzzing import check_nodes, graphs, with_gradients

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)
CPU = "cpu"
INTERPRET = pytest.param("interpret", marks=needs_triton)
OPENCL = pytest.param("opencl", marks=needs_opencl)


def quickly(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


FEWER = 10
"""Times fewer graphs for drivers of OpenCL, whose compilers take a tenth of a second a kernel."""


@pytest.mark.devices(CPU, INTERPRET, OPENCL)
def test_random_graphs(device: str) -> None:
    @quickly(40 if device != "opencl" else 40 // FEWER)
    @given(st.lists(graphs(device), min_size=10, max_size=10))
    def check(drawn: list[Any]) -> None:
        check_nodes([t._node for outputs in drawn for t in outputs], device)

    check()


@pytest.mark.devices(CPU, INTERPRET, OPENCL)
def test_gradients_of_random_graphs(device: str) -> None:
    """Forward and backward as one plan."""

    @quickly(20 if device != "opencl" else 20 // FEWER)
    @given(st.lists(graphs(device, requires_grad=True), min_size=5, max_size=5))
    def check(drawn: list[Any]) -> None:
        check_nodes([n for outputs in drawn for n in with_gradients(outputs)], device)

    check()


@pytest.mark.devices(CPU, INTERPRET)
@pytest.mark.parametrize("how", ["amax", "amin", "sum", "prod"])
@pytest.mark.parametrize("name", ["float16", "bfloat16", "int8", "uint8", "int16", "float32"])
def test_numbers_of_every_width_are_joined(name: str, how: str, device: str) -> None:
    """GPUs have no atomics of less than four bytes, nor of products."""
    dtype = getattr(tgrad, name)
    x = tgrad.tensor([3, 0, 2], device=device, dtype=dtype)
    index = tgrad.tensor([0, 0, 1, 1], device=device)
    source = tgrad.tensor([1, 5, 4, 1], device=device, dtype=dtype)
    made = x.scatter_reduce(0, index, source, how)
    assert made.dtype is dtype
    check_nodes([made._node], device)


@pytest.mark.devices(CPU, INTERPRET, OPENCL)
@pytest.mark.parametrize("shape", [(4, 3), (1, 2), (2, 1), (5, 2)])
@pytest.mark.parametrize("axis", [0, 1])
def test_products_meet_at_places(shape: tuple[int, int], axis: int, device: str) -> None:
    """With an index that reaches over a part of the other axis, too; -0.0 and NaN stay."""
    shape = shape[::-1] if axis else shape
    rng = np.random.default_rng(sum(shape))
    x = rng.standard_normal((3, 3)).astype(np.float32)
    x[0, 1], x[2, 2] = -0.0, np.nan
    index = rng.integers(0, 3, shape)
    source = tgrad.tensor(rng.standard_normal(shape).astype(np.float32), device=device)
    where = tgrad.tensor(index, device=device)
    made = tgrad.tensor(x, device=device).scatter_reduce(axis, where, source, "prod")
    check_nodes([made._node], device)


@pytest.mark.devices(CPU, INTERPRET, OPENCL)
@pytest.mark.parametrize("are_stored", [False, True], ids=["computed", "stored"])
@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_each_token_counts(name: str, are_stored: bool, device: str) -> None:
    """All of one row, which nothing of the kernel depends on; added in bfloat16, ones come to 256
    and no further."""
    table = tgrad.zeros(3, 2, dtype=getattr(tgrad, name), device=device).requires_grad_()
    tokens = tgrad.ones(1000, dtype=tgrad.int64, device=device)
    if are_stored:
        tokens.realize()
    tgrad.nn.functional.embedding(tokens, table).sum().backward()
    assert table.grad is not None
    assert table.grad.float().tolist() == [[0, 0], [1000, 1000], [0, 0]]
