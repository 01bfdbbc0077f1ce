"""The order of kernels: it may run, and holds no more than the one it was given."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tgrad import pipeline
from tgrad.fusion.device_limits import CPU_LIMITS
from tgrad.fusion.order import order_for_memory
from tgrad.fusion.partition import Fused
from tgrad.graph.node import Node
from tgrad.graph.op import Op
from tgrad.tensor import Tensor, tensor


def leaf(*shape: int) -> Tensor:
    return tensor(np.zeros(shape, np.float32))


def cut(outputs: list[Tensor]) -> tuple[list[Fused], frozenset[Node]]:
    """Kernels of the outputs, and the nodes that are not in the arena."""
    bases = pipeline.canonical_bases([t._node for t in outputs])
    fused = pipeline.cut_graph(bases, CPU_LIMITS)
    given_nodes = {n for f in fused for n in f.inputs if n.op is Op.BUFFER}
    return fused, frozenset({*bases, *given_nodes})


def held(fused: list[Fused], fixed: frozenset[Node]) -> int:
    """The most bytes that are alive at once."""
    touched: dict[Node, list[int]] = {}
    for i, f in enumerate(fused):
        for n in (*f.inputs, *f.outputs):
            if n not in fixed:
                touched.setdefault(n, []).append(i)
    return max(
        (
            sum(n.nbytes for n, steps in touched.items() if steps[0] <= i <= steps[-1])
            for i in range(len(fused))
        ),
        default=0,
    )


def check_order(fused: list[Fused], ordered: list[Fused]) -> None:
    """The same kernels, readers after writers, writers of one value in their order."""
    assert sorted(map(id, fused)) == sorted(map(id, ordered))
    writers = {n: [f for f in fused if n in f.outputs] for f in fused for n in f.outputs}
    for n, found in writers.items():
        assert [f for f in ordered if n in f.outputs] == found
        last = max(ordered.index(f) for f in found)
        assert all(ordered.index(f) > last for f in ordered if n in f.inputs)


@settings(max_examples=40)
@given(st.data())
def test_random_graphs(data: st.DataObject) -> None:
    values = [leaf(8, 8), leaf(8, 8)]
    for _ in range(data.draw(st.integers(1, 14))):
        a, b = (values[data.draw(st.integers(0, len(values) - 1))] for _ in range(2))
        kind = data.draw(st.sampled_from(["dot", "softmax", "sum", "wide"]))
        if kind == "dot":
            values.append(a @ b)
        elif kind == "softmax":
            values.append((a + b).softmax(-1))
        elif kind == "sum":
            values.append(a.sum(0, keepdim=True) * b)
        else:
            values.append((a @ leaf(8, 32)) @ leaf(32, 8))
    chosen = data.draw(st.sets(st.integers(2, len(values) - 1), min_size=1, max_size=3))
    fused, fixed = cut([values[i] for i in sorted(chosen)])
    ordered = order_for_memory(fused, {}, fixed)
    check_order(fused, ordered)
    assert held(ordered, fixed) <= held(fused, fixed)


def test_weights_that_several_products_read() -> None:
    """Chains that compute the same rows' numbers: one of them stores these for others."""
    x = leaf(8, 8)
    weights = (x + (x @ leaf(8, 32)) @ leaf(32, 8)).softmax(-1)
    fused, fixed = cut([((weights @ leaf(8, 32)) @ leaf(32, 8)) @ ((weights @ x) @ weights)])
    check_order(fused, order_for_memory(fused, {}, fixed))
    written = [n for f in fused for n in f.outputs]
    assert len(written) == len(set(written))


def test_what_frees_memory_runs_first() -> None:
    """Two wide values, each reduced at once: never both alive."""
    x = leaf(64, 64)
    wide = [(x @ leaf(64, 4096)).tanh() for _ in range(3)]
    fused, fixed = cut([w @ leaf(4096, 4) for w in wide])
    by_stage = sorted(fused, key=lambda f: (f.outputs[0].shape != (64, 4096), fused.index(f)))
    writers = {n: by_stage.index(f) for f in by_stage for n in f.outputs}
    assert all(writers.get(n, -1) < i for i, f in enumerate(by_stage) for n in f.inputs)
    ordered = order_for_memory(by_stage, {}, fixed)
    check_order(by_stage, ordered)
    assert held(by_stage, fixed) >= 3 * wide[0]._node.nbytes
    assert held(ordered, fixed) <= 2 * wide[0]._node.nbytes + 4096


def test_a_buffer_is_overwritten_after_its_other_readers() -> None:
    weight, x = leaf(16, 16), leaf(16, 16)
    updated = weight - x.sum()
    after = (weight @ x).softmax(-1) @ x
    outputs = [updated, after]
    fused, fixed = cut(outputs)
    donated = {pipeline.canonical_bases([updated._node])[0]: weight._node}
    ordered = order_for_memory(fused, donated, fixed)
    check_order(fused, ordered)
    writer = next(i for i, f in enumerate(ordered) if {*f.outputs} & donated.keys())
    assert all(i <= writer for i, f in enumerate(ordered) if weight._node in f.inputs)
