"""Steps of one form share launches, and compute what they computed apart."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tgrad
from tests.devices.test_fuzz import needs_triton
from tgrad import cpu_fallback, nn, optim, pipeline, placement, realizing, triton_gen
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.errors import VerifyError
from tgrad.fusion.batching import Shared
from tgrad.fusion.cost import cost_of
from tgrad.fusion.evaluate import evaluate_region
from tgrad.fusion.partition import Fused
from tgrad.fusion.region import Region, Table
from tgrad.fusion.region_json import region_from_json, region_to_json
from tgrad.fusion.table import form_of, members_of
from tgrad.fusion.verify import verify_region
from tgrad.graph.node import Node
from tgrad.kernel.lower import lower
from tgrad.kernel.printer import print_kernel
from tgrad.kernel.verify import verify_kernel
from tgrad.runtime.plan import Plan, record_plans
from tgrad.runtime.planning import planning
from tgrad.tensor import Tensor

SHAPES = st.lists(
    st.sampled_from(
        [(), (1,), (0,), (3,), (16,), (129,), (2, 5), (4, 0, 2), (33, 7), (64, 64), (5000,)]
    ),
    min_size=1,
    max_size=9,
)
DTYPES = st.sampled_from([tgrad.float32, tgrad.float64, tgrad.float16])
RULES = ["sgd", "momentum", "adam", "adamw", "amsgrad"]


@contextmanager
def apart() -> Iterator[None]:
    """Inside, every step has a launch of its own; plans of before are forgotten."""

    def as_they_are(fused: Sequence[Fused], *_: object) -> Shared:
        return Shared(list(fused), 0)

    with pytest.MonkeyPatch.context() as patch, fresh():
        patch.setattr(placement, "batch", as_they_are)
        patch.setattr(placement, "gather", as_they_are)
        yield


@contextmanager
def fresh() -> Iterator[None]:
    """No plans of before are known inside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "_plans", OrderedDict())
        patch.setattr(realizing, "_seen", OrderedDict())
        yield


def optimizer_of(rule: str, params: list[Tensor]) -> optim.Optimizer:
    if rule in ("sgd", "momentum"):
        return optim.SGD(params, lr=0.1, momentum=0.9 if rule == "momentum" else 0.0)
    if rule == "adam":
        return optim.Adam(params, lr=0.01)
    return optim.AdamW(params, lr=0.01, amsgrad=rule == "amsgrad")


def updated(
    tensors: Sequence[tuple[tuple[int, ...], tgrad.dtype.DType]],
    rule: str,
    device: str,
    clip: float | None,
    steps: int = 2,
) -> tuple[list[np.ndarray], list[Plan]]:
    """Parameters after steps with random gradients, and the plans made."""
    random = np.random.default_rng(len(tensors))
    params = [
        tgrad.tensor(random.standard_normal(shape), dtype=dtype, device=device, requires_grad=True)
        for shape, dtype in tensors
    ]
    optimizer = optimizer_of(rule, params)
    with record_plans() as plans:
        for _ in range(steps):
            for p in params:
                p.grad = tgrad.tensor(random.standard_normal(p.shape), dtype=p.dtype, device=device)
            if clip is not None:
                nn.utils.clip_grad_norm_(params, clip)
            optimizer.step()
    return [p.numpy() for p in params], plans


def batched(plans: Sequence[Plan]) -> list[Region]:
    return [k.region for p in plans for k in p.kernels if k.region.table is not None]


@pytest.mark.devices("cpu", pytest.param("interpret", marks=needs_triton))
@pytest.mark.parametrize("rule", RULES)
def test_optimizers_over_random_shapes(device: str, rule: str) -> None:
    @settings(max_examples=3)
    @given(SHAPES, st.data())
    def check(shapes: list[tuple[int, ...]], data: st.DataObject) -> None:
        tensors = [(shape, data.draw(DTYPES)) for shape in shapes]
        clip = data.draw(st.sampled_from([None, 0.5]))
        with fresh():
            ours, plans = updated(tensors, rule, device, clip)
        with apart():
            wanted, _ = updated(tensors, rule, device, clip)
        for got, want in zip(ours, wanted):
            if clip is None:
                np.testing.assert_array_equal(got, want)
            else:  # the norm's sums are added in another order
                rtol = 1e-3 if got.dtype == np.float16 else 1e-6
                np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)
        for region in batched(plans):
            check_region(region)

    check()


def check_region(region: Region) -> None:
    """The batch is well formed, and the oracle computes from it what its members compute."""
    verify_region(region)
    assert region_from_json(region_to_json(region)) == region
    machine, target = cpu_fallback.detect_machine(), triton_gen.target_by_name("sm_90")
    for config in (
        choose_config(region, machine),
        triton_gen.choose_config(region, target),
    ):
        verify_kernel(lower(region, config))
    random = np.random.default_rng(0)
    buffers = [random.random(s.size).astype(s.dtype.numpy) for s in region.buffers]
    results = evaluate_region(region, buffers)
    parts = list(members_of(region))
    assert cost_of(region).flops == sum(cost_of(m.region).flops for m in parts)
    assert cost_of(region).bytes == sum(cost_of(m.region).bytes for m in parts)
    for member in parts:
        verify_region(member.region)
        alone = evaluate_region(member.region, [buffers[b] for b in member.buffers])
        for buffer, want in zip(member.buffers, alone):
            np.testing.assert_array_equal(results[buffer], want)


def test_all_parameters_are_one_launch() -> None:
    """Sizes that 16 divides, sizes that it does not, the step counter."""
    shapes = [(64, 64), (64,), (128, 64), (256,), (10,), (7,), (129,), (5, 3)]
    with fresh():
        _, plans = updated([(s, tgrad.float32) for s in shapes], "adamw", "cpu", None)
    assert [p.launches for p in plans if p.launches] == [3]
    assert sorted(r.table.members for r in batched(plans) if r.table) == [4, 4]


def test_one_element_is_a_member_like_others() -> None:
    shapes = [(64,), (128,), (1,), ()]
    with fresh():
        _, plans = updated([(s, tgrad.float32) for s in shapes], "sgd", "cpu", None)
    (region,) = batched(plans)
    assert region.table is not None and sorted(region.table.lengths) == [1, 1, 64, 128]


def test_few_of_one_form_join_what_is_beside_them() -> None:
    """Two counters would share a launch; with the scale beside them they are one kernel. Lengths
    that differ are no kernel, and share."""
    counters, scale = [tgrad.tensor(n) for n in (3, 4)], tgrad.tensor(0.5)
    lengths = [tgrad.ones(n) for n in (16, 16, 32)]
    with fresh():
        step = tgrad.compile(lambda: [*(c + 1 for c in counters), scale * 0.5])
        assert [x.item() for x in step()] == [4, 5, 0.25]
        assert step.plans[-1].launches == 1
        scaled = tgrad.compile(lambda: [x * 3 for x in lengths])
        assert all((x == 3).all() for x in scaled())
        assert scaled.plans[-1].launches == 1


def test_zeros_of_two_sums_are_filled_at_once() -> None:
    """The first sum runs before the second begins, as that frees what it adds."""
    random = np.random.default_rng(0)
    x, *weights = (random.random(s, np.float32) for s in ((4096, 32), (32, 8), (32, 8)))
    rows = [random.integers(0, n, 4096) for n in (16, 48)]

    def step(x: Tensor, *weights: Tensor) -> list[Tensor]:
        given = zip((16, 48), rows, weights)
        return [tgrad.zeros(n, 8).index_add(0, tgrad.tensor(i), x @ w) * 2 for n, i, w in given]

    with fresh():
        compiled = tgrad.compile(step)
        results = compiled(*map(tgrad.tensor, (x, *weights)))
        regions = [k.region for k in compiled.plans[-1].kernels if k.region is not None]
    filled = [r.table for r in regions if r.name.startswith("base_of")]
    assert [t and t.members for t in filled] == [2]
    for n, i, w, found in zip((16, 48), rows, weights, results):
        want = np.zeros((n, 8))
        np.add.at(want, i, x.astype(np.float64) @ w)
        np.testing.assert_allclose(found.numpy(), 2 * want, rtol=1e-4)


def test_dtypes_are_apart() -> None:
    tensors = [((32,), d) for d in (tgrad.float32, tgrad.float64) for _ in range(4)]
    with fresh():
        _, plans = updated(tensors, "momentum", "cpu", None)
    regions = batched(plans)
    assert len(regions) == 2 * len(plans)
    assert all(len({s.dtype for s in r.slots if s.size > 1}) == 1 for r in regions)


def test_steps_that_need_each_other_run_apart() -> None:
    x = tgrad.tensor(np.arange(64.0, dtype=np.float32))
    with fresh(), record_plans() as plans:
        y = x
        for _ in range(3):
            y = y - y.sum()
        y.realize()
    want = np.arange(64.0, dtype=np.float32)
    for _ in range(3):
        want = want - want.sum()
    np.testing.assert_allclose(y.numpy(), want, rtol=1e-6)
    assert not batched(plans)


def test_whoever_reads_the_old_value_runs_before() -> None:
    """y = w0 * 3 reads what the update overwrites, and is needed after it."""
    w0, w1 = (tgrad.tensor(np.full(64, v, np.float32)) for v in (1.0, 2.0))

    @tgrad.compile
    def step(g: Tensor) -> Tensor:
        y = (w0 * 3).sum() + g
        w0.sub_(g)
        w1.sub_(g)
        return y + w0.sum()

    for n in range(3):
        g = tgrad.tensor(np.ones(64, np.float32))
        got = step(g)
        np.testing.assert_array_equal(got.numpy(), 3 * 64.0 * (1 - n) + 1 + 64.0 * (-n))
    np.testing.assert_array_equal(w0.numpy(), -2.0)
    np.testing.assert_array_equal(w1.numpy(), -1.0)


def test_column_sums_share_a_launch() -> None:
    xs = [tgrad.tensor(np.full((8, 48), float(i), np.float32)) for i in range(5)]
    with fresh(), record_plans() as plans:
        sums = [x.tanh().sum(0) for x in xs]
        tgrad.stack(sums).realize()
    (region,) = batched(plans)
    assert region.table == Table(5, region.table.own if region.table else ())
    check_region(region)
    for i, s in enumerate(sums):
        np.testing.assert_allclose(s.numpy(), 8 * np.tanh(np.float32(i)), rtol=1e-6)


def plan_gpt(optimizer: str) -> list[Plan]:
    """The plans of a training step of two layers, with clipping."""
    from tests.training.gpt import batches, gpt

    plans: list[Plan] = []
    with planning(None, plans.append):
        model = gpt(nn, tgrad.nn.functional, tgrad, layers=2)
        rule = optimizer_of(optimizer, list(model.parameters()))
        tokens, targets = (tgrad.tensor(a) for a in batches(1, 4)[0])
        model(tokens, targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rule.step()
    return plans


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_arena_hardly_grows(optimizer: str) -> None:
    def peak() -> tuple[int, int]:
        plans = plan_gpt(optimizer)
        return max(p.peak_bytes for p in plans), max(p.launches for p in plans)

    with fresh():
        ours, launches = peak()
    with apart():
        before, more = peak()
    assert ours <= 1.02 * before
    assert launches < 0.75 * more


@pytest.mark.parametrize("name", ["gather", "batch"])
def test_what_an_order_takes_is_all_that_it_needs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no more to spare than was taken the kernels are the same; with less some are not."""
    plain = getattr(placement, name)
    grown: list[int] = []
    differ: list[bool] = []

    def checked(
        fused: Sequence[Fused], donated: object, fixed: frozenset[Node], spare: int
    ) -> Shared:
        found: Shared = plain(fused, donated, fixed, spare)
        assert 0 <= found.grown <= spare
        assert plain(fused, donated, fixed, found.grown) == found
        grown.append(found.grown)
        if found.grown:
            differ.append(plain(fused, donated, fixed, found.grown - 1).fused != found.fused)
        return found

    monkeypatch.setattr(placement, name, checked)
    with fresh():
        plan_gpt("adamw")
    assert any(grown) == any(differ)
    assert len(grown) > 1


def ragged() -> Region:
    with fresh():
        _, plans = updated([((s,), tgrad.float32) for s in (48, 16, 160)], "sgd", "cpu", None)
    (region,) = batched(plans)
    return region


def test_text_of_a_batch() -> None:
    region = ragged()
    assert str(region).splitlines()[:3] == [
        f"region {region.name} (i0=160)",
        "  for 3 members, each with its own in0, in1, out0",
        "  i0 of each: 48 16 160",
    ]
    assert region.name.endswith("_x3")
    assert region.domain == "3 members, 224 elements"
    config = choose_config(region, cpu_fallback.detect_machine())
    assert "members 3 own in0 in1 out0 lengths 48 16 160" in print_kernel(lower(region, config))
    assert form_of(region) is None


@pytest.mark.parametrize(
    ("members", "own", "lengths", "why"),
    [
        (1, (0, 1, 3), (), "1 members"),
        (3, (0, 9), (), "a slot that is not there"),
        (3, (0,), (), "members share a slot that they write"),
        (3, (0, 1, 3), (160,), "1 lengths for 1 axes of 3 members"),
        (3, (0, 1, 3), (48, 16, 16), "the longest member is not the region's 160"),
    ],
)
def test_a_bad_table_is_refused(
    members: int, own: tuple[int, ...], lengths: tuple[int, ...], why: str
) -> None:
    region = ragged()
    assert region.table == Table(3, (0, 1, 3), (48, 16, 160))
    with pytest.raises(VerifyError, match=why):
        verify_region(replace(region, table=Table(members, own, lengths)))
