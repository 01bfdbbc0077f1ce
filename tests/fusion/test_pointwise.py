"""Kernels that are known to be legal before they are built; how many planning builds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import tgrad
from tests.fuzzing import graphs
from tgrad import nn
from tgrad.fusion.builder import Built
from tgrad.fusion.device_limits import GPU_LIMITS
from tgrad.fusion.legality import Refused
from tgrad.fusion.partition import _Partition
from tgrad.fusion.pointwise import Draft, Pointwise
from tgrad.fusion.structure import RegionBuilder
from tgrad.graph.node import Node
from tgrad.pipeline import canonical_bases, cut_graph
from tgrad.runtime.planning import planning
from tgrad.tensor import Tensor, tensor


@pytest.fixture
def drafts(monkeypatch: pytest.MonkeyPatch) -> list[Draft]:
    """Drafts as they are made, each checked against the kernel that is built in its place."""
    made: list[Draft] = []
    draft = _Partition._draft

    def checked(
        self: _Partition, roots: list[Node], pointwise: Pointwise
    ) -> Draft | Refused | None:
        found, built = draft(self, roots, pointwise), self._build(roots)
        if isinstance(found, Draft):
            made.append(found)
            assert isinstance(built, Built)
            assert (found.name, found.outputs) == (built.region.name, built.outputs)
            assert found.inputs == set(built.inputs)
            assert built.region.space.kind == "map"
            assert len(built.region.values) <= len(pointwise.values)
        elif found is not None:
            assert found == built
        return found

    monkeypatch.setattr(_Partition, "_draft", checked)
    return made


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graphs("numpy"))
def test_drafts_of_random_graphs_are_what_is_built(
    drafts: list[Draft], outputs: list[Tensor]
) -> None:
    cut_graph(canonical_bases([t._node for t in outputs]), GPU_LIMITS)


def test_a_value_that_is_read_in_another_order_is_no_part_of_the_map(drafts: list[Draft]) -> None:
    x = tensor(np.ones((4, 8), np.float32), device="numpy")
    y = ((x.exp() + 1).sigmoid() * x).tanh()
    for read in (y.flip(0) * y, y[:2].sum() * y, nn.functional.pad(y, (1, 1))[:, 1:-1] * y.exp()):
        cut_graph(canonical_bases([read._node, y._node]), GPU_LIMITS)


def builds(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> int:
    """Kernels that are built, or looked up, to see whether they are legal."""
    count = 0
    build = RegionBuilder.build

    def counted(self: RegionBuilder, *args: object, **kwargs: object) -> Built | Refused:
        nonlocal count
        count += 1
        return build(self, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(RegionBuilder, "build", counted)
        work()
    return count


@pytest.mark.parametrize("target", [None, "sm_90"])
def test_repeated_cells_take_builds_in_proportion(
    monkeypatch: pytest.MonkeyPatch, target: str | None
) -> None:
    def step(length: int) -> None:
        with planning(target):
            model = nn.GRU(8, 16, batch_first=True)
            x = tgrad.ones(2, length, 8)

            @tgrad.compile
            def loss(x: Tensor) -> Tensor:
                found = model(x)[0].square().mean()
                found.backward()
                return found

            loss(x)

    few, many = (builds(monkeypatch, lambda n=n: step(n)) for n in (8, 24))  # type: ignore[misc]
    assert many < 3.3 * few


def test_a_long_elementwise_history_is_not_built_for_each_of_its_roots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = tensor(np.ones(64, np.float32), device="numpy")
    for _ in range(30):
        x = (x.exp() + x).sigmoid() * x
    bases = canonical_bases([x._node])
    sizes: list[int] = []
    build = _Partition._build

    def noted(self: _Partition, group: list[Node], chain: bool = False) -> Built | Refused:
        sizes.append(len(group))
        return build(self, group, chain)

    monkeypatch.setattr(_Partition, "_build", noted)
    assert len(cut_graph(bases, GPU_LIMITS)) == 1
    assert max(sizes) > 5 and sum(n > 1 for n in sizes) == 1


@pytest.mark.parametrize("target", [None, "sm_90"])
def test_chains_longer_than_python_s_stack(target: str | None) -> None:
    """As many steps of an integration that nobody compiles."""
    x = np.linspace(-1, 1, 8, dtype=np.float32)

    def integrate(y: Tensor) -> Tensor:
        for number in range(700):
            y = (y * 0.99 + number % 3) if number % 2 else tgrad.where(y > 0.5, y.sin(), y + 0.1)
        return y

    if target is not None:
        with planning(target):
            assert tgrad.explain(integrate(tensor(x, device="cuda").realize())).launches
        return
    got = integrate(tensor(x, device="cpu")).numpy()
    want = integrate(tensor(x, device="numpy")).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
