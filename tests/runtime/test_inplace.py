"""Results written over inputs: only where every element is read before it is written."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tgrad import pipeline, realizing
from tgrad.device import Device
from tgrad.graph.node import Node
from tgrad.runtime.device import counters
from tgrad.tensor import Tensor, tensor

CPU = Device("cpu")


def leaf(*shape: int) -> Tensor:
    return tensor(np.random.default_rng(1).standard_normal(shape).astype(np.float32))


def run(outputs: list[Tensor], donated: dict[int, Tensor]) -> tuple[list[np.ndarray], list[bool]]:
    """Values of the outputs, and for each whether it was written into a buffer of ours."""
    gifts: dict[int, Node] = {i: t._node for i, t in donated.items()}
    compiled, leaves = pipeline.compile_graph([t._node for t in outputs], CPU, gifts)
    memories = [n.attr("storage").memory for n in leaves]
    made = pipeline.run(compiled, memories)
    values = [
        pipeline.Storage(CPU, t.dtype, t.shape, memory).numpy() for t, memory in zip(outputs, made)
    ]
    return values, [ref.kind == "input" for ref in compiled.results]


def test_an_update_is_written_over_its_parameter() -> None:
    p, g = leaf(33, 7), leaf(33, 7)
    want = p.numpy() - 0.1 * g.numpy()
    (got,), in_place = run([p - 0.1 * g], {0: p})
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_array_equal(p.numpy(), got)
    assert in_place == [True]


def test_an_update_in_the_epilogue_of_a_dot_is_in_place() -> None:
    p, x, y = leaf(20, 30), leaf(16, 20), leaf(16, 30)
    want = p.numpy() - x.numpy().T @ y.numpy()
    (got,), in_place = run([p - x.T @ y], {0: p})
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    assert in_place == [True]


@pytest.mark.parametrize(
    "update",
    [lambda p: p.flip(0) + 1, lambda p: p.T + 1, lambda p: p @ p],
    ids=["flip", "transpose", "product"],
)
def test_what_reads_other_elements_is_not_in_place(update: Callable[[Tensor], Tensor]) -> None:
    p = leaf(8, 8)
    before = p.numpy()
    out = update(p)
    (got,), in_place = run([out], {0: p})
    assert in_place == [False]
    np.testing.assert_array_equal(p.numpy(), before)
    np.testing.assert_allclose(got, out.numpy(), rtol=1e-6)


def test_a_buffer_that_is_read_later_is_not_overwritten() -> None:
    p, x = leaf(16, 16), leaf(16, 16)
    updated = (p * 2).softmax(-1) @ x
    loss = p + updated
    before = p.numpy()
    (first, second), in_place = run([loss, (updated @ p)], {0: p})
    np.testing.assert_allclose(first, before + updated.numpy(), rtol=1e-5, atol=1e-5)
    assert in_place[0] == np.array_equal(p.numpy(), first)
    np.testing.assert_allclose(second, updated.numpy() @ before, rtol=1e-4, atol=1e-4)


def test_an_output_that_is_the_buffer_itself_is_kept() -> None:
    p = leaf(4)
    before = p.numpy()
    (same, new), in_place = run([p, p + 1], {1: p})
    assert in_place == [True, False]
    np.testing.assert_array_equal(same, before)
    np.testing.assert_array_equal(new, before + 1)


def test_a_chain_of_temporaries_shares_one_buffer() -> None:
    x = leaf(64, 64)
    y = x
    for _ in range(4):
        y = ((y @ x) * 0.1).softmax(-1)
    plan = pipeline.compile_graph([y._node], CPU)[0].plan
    assert plan.arena_bytes <= 2 * 64 * 64 * 4


def test_a_replay_makes_one_call_and_counts_its_launches() -> None:
    x = leaf(32, 32)
    nodes = [((x @ x).tanh() @ x @ x)._node]
    plan = pipeline.compile_graph(nodes, CPU)[0].plan
    assert plan.program is not None
    before = counters(CPU).launches
    realizing.realize(nodes, CPU)
    assert counters(CPU).launches - before == plan.launches == 3


@pytest.mark.parametrize("shape", [(5, 7), (3, 5000), (2000, 9)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_softmax_is_written_over_what_it_reads(shape: tuple[int, ...], axis: int) -> None:
    """The pass that writes is the last one that reads its row."""
    p = leaf(*shape)
    exact = np.exp(p.numpy().astype(np.float64))
    (got,), in_place = run([p.softmax(axis)], {0: p})
    np.testing.assert_allclose(got, exact / exact.sum(axis, keepdims=True), rtol=1e-5)
    assert in_place == [True]


def test_a_row_that_is_read_again_after_the_write_is_not_overwritten() -> None:
    p = leaf(6, 5000)
    before = p.numpy().astype(np.float64)
    centred = p - p.mean(1, keepdim=True)
    spread = (p * centred).sum(1)
    (got, second), in_place = run([centred, spread], {0: p})
    want = before - before.mean(1, keepdims=True)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(second, (before * want).sum(1), rtol=1e-4)
    assert in_place[0] == np.array_equal(p.numpy(), got)
