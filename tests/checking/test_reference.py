"""Regions that are planned for a GPU, computed by generated C as by NumPy."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from bench.cases_gpu import whole_steps
from bench.planned import planned
from tests.checking.test_checking import attention
from tgrad.autotuning.inputs import make_inputs
from tgrad.checking.compare import difference, units_of
from tgrad.checking.reference import Reference, apart, compiled
from tgrad.fusion.evaluate import evaluate_region
from tgrad.fusion.region import Load, Region
from tgrad.runtime.plan import Plan, record_plans
from tgrad.runtime.planning import planning
from tgrad.tensor import Tensor, realize_tensors

rng = np.random.default_rng(0)


def leaf(*shape: int) -> Tensor:
    values = rng.standard_normal(shape).astype(np.float32)
    return tgrad.tensor(values, dtype=tgrad.bfloat16, requires_grad=True)


def gradients(*leaves: Tensor) -> list[Tensor]:
    found = [x.grad for x in leaves]
    assert all(g is not None for g in found)
    return found  # type: ignore[return-value]


def projections() -> list[Tensor]:
    """The gradient of what three products read is a sum over three groups of axes."""
    x, weights = leaf(2, 24, 40), [leaf(n, 40) for n in (48, 24, 24)]
    parts = [(x @ w.T).reshape(2, 24, -1, 8).transpose(1, 2) for w in weights]
    q, k, v = (p.repeat_interleave(6 // p.shape[1], 1) for p in parts)
    F.scaled_dot_product_attention(q, k, v, is_causal=True).float().sum().backward()
    return gradients(x, *weights)


def images() -> list[Tensor]:
    """Norms over pixels, strided convolutions, an update in place."""
    x, first, second = leaf(4, 3, 20, 20), leaf(32, 3, 3, 3), leaf(32, 32, 3, 3)
    y = F.relu(F.batch_norm(F.conv2d(x, first, padding=1), None, None, training=True))
    y = F.relu(F.batch_norm(F.conv2d(y, second, None, 2, 1), None, None, training=True))
    y.float().square().mean().backward()
    return gradients(x, first, second)


def constants() -> list[Tensor]:
    """Gradients of a sum: dots whose results lack rows, or columns."""
    x = leaf(24, 24)
    (x @ x).float().sum().backward()
    return gradients(x)


WORK: dict[str, Callable[[], list[Tensor]]] = {
    "attention": lambda: attention("cpu", "bfloat16"),
    "projections": projections,
    "images": images,
    "constants": constants,
}


def plans_of(make: Callable[[], list[Tensor]]) -> list[Plan]:
    with planning("sm_90"), record_plans() as plans:
        realize_tensors(make())
    return plans


@pytest.mark.parametrize("name", WORK)
def test_generated_c_computes_what_numpy_does(name: str) -> None:
    plans = plans_of(WORK[name])
    regions = list(dict.fromkeys(k.region for p in plans for k in p.kernels))
    reference = Reference(plans[0])
    reference.kernels = compiled([apart(r).region for r in regions])
    assert set(reference.kernels) == {apart(r).region for r in regions}
    for region in (r for r in regions if prod(a.extent for a in r.axes) <= 1 << 21):
        check(region, reference)


def check(region: Region, reference: Reference) -> None:
    before = make_inputs(region, 0)
    have, want = reference.run(region, before), evaluate_region(region, before)
    assert not isinstance(have, str)
    units = units_of(region)
    numbers = {slot.name: n for n, slot in enumerate(region.slots)}
    for slot, x, y in zip(region.buffers, have, want):
        if slot.role != "in":
            assert difference(slot, x, y, units[numbers[slot.name]]) is None, str(region)


@pytest.fixture(scope="module")
def step() -> Plan:
    """Of a training step."""
    (case,) = (c for c in whole_steps("small") if c.key == "step_gpt2")
    return planned(case, "sm_90")


@pytest.fixture(scope="module")
def updates(step: Plan) -> list[Region]:
    """The kernels of the step that write over what they read."""
    regions = dict.fromkeys(k.region for k in step.kernels)
    return [r for r in regions if apart(r).copied]


def test_what_is_written_over_is_read_from_a_slot_of_its_own(updates: list[Region]) -> None:
    region = next(r for r in updates if r.table is None)
    given = apart(region)
    assert [s.role for s in given.region.slots[len(region.slots) :]] == ["in"] * len(given.copied)
    written = {s.slot for s in region.stores if s.combine == "set"}
    loads = [v.slot for v in given.region.values if isinstance(v, Load)]
    assert written.isdisjoint(loads) and not written.isdisjoint(given.copied)


def test_a_batch_has_a_copy_for_each_member(updates: list[Region]) -> None:
    for region in (r for r in updates if r.table is not None):
        given = apart(region)
        assert region.table is not None and len(given.copied) % region.table.members == 0
        copies = given.region.buffers[-len(given.copied) :]
        assert [s.size for s in copies] == [region.buffers[n].size for n in given.copied]
        assert {s.role for s in copies} == {"in"}


def test_updates_are_computed_apart(step: Plan, updates: list[Region]) -> None:
    reference = Reference(step)
    reference.kernels = compiled([apart(r).region for r in updates])
    assert any(r.table for r in updates)
    for region in updates:
        check(region, reference)
