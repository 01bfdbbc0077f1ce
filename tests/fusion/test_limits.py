"""Programs that write only what nobody needs are skipped, and no others."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad.fusion.device_limits import CPU_LIMITS
from tgrad.fusion.limits import with_limits
from tgrad.fusion.region import AxisLimit, Region
from tgrad.fusion.region_json import region_from_json, region_to_json
from tgrad.graph.demand import Condition
from tgrad.graph.node import make
from tgrad.graph.op import Op
from tgrad.pipeline import cut_graph
from tgrad.runtime.plan import record_plans


def regions_of(function: object, shape: tuple[int, ...], axis: int, device: str) -> list[Region]:
    compiled = tgrad.compile(function, dynamic={"x": {axis: (1, 64)}})
    with record_plans() as plans:
        compiled(tgrad.ones(*shape, device=device))
    return [k.region for k in plans[-1].kernels]


def test_limits_of_rows_and_of_lengths() -> None:
    (rows,) = regions_of(lambda x: F.layer_norm(x, (8,)), (3, 8), 0, "cpu")
    assert rows.limits == (AxisLimit("i0", 1, 64, 1),)
    assert rows.slots[1].role == "in"
    (lengths,) = regions_of(lambda x: F.layer_norm(x, (8,)), (3, 5, 8), 1, "cpu")
    assert lengths.axes[0].extent == 3 * 64
    assert lengths.limits == (AxisLimit("i0", 1, 64, 1),)
    assert region_from_json(region_to_json(lengths)) == lengths
    assert str(lengths).splitlines()[-1] == "  needed where i0 // 1 % 64 < in1[0]"


def test_sizes_of_equal_conditions_come_in_the_order_given() -> None:
    """A set of nodes has another order in each process."""
    x, a, b = (t._node for t in map(tgrad.tensor, (np.zeros(64), 3, 5)))
    y = make(Op.EXP, x)
    (kernel,) = cut_graph([y], CPU_LIMITS)
    needed = {y: frozenset((Condition(1, 64, a), Condition(1, 64, b)))}
    for sizes in ((a, b), (b, a)):
        assert with_limits(kernel, needed, sizes).inputs[1:] == sizes


@pytest.mark.parametrize(
    "columns, skips",
    [
        (40, "if (i0 / 1 % 64 >= in1[0]) continue;"),
        (7, "if (i0_lo / 1 % 64 >= in1[0] && i0_lo / 64 == (i0_hi - 1) / 64) continue;"),
    ],
)
def test_the_source_skips(columns: int, skips: str) -> None:
    compiled = tgrad.compile(lambda x: F.layer_norm(x, (columns,)), dynamic={"x": {1: (1, 64)}})
    with record_plans() as plans:
        compiled(tgrad.ones(3, 5, columns))
    assert skips in plans[-1].kernels[0].source


@pytest.mark.parametrize("rows", [1, 5])
def test_tiles_of_products_are_skipped_as_a_whole(rows: int) -> None:
    w = tgrad.tensor(np.random.default_rng(0).standard_normal((96, 80), dtype=np.float32))
    compiled = tgrad.compile(lambda x: (x @ w).exp(), dynamic={"x": {1: (1, 256)}})
    for n in (1, 47, 48, 49, 200, 256):
        x = tgrad.tensor(np.random.default_rng(n).standard_normal((rows, n, 96), dtype=np.float32))
        np.testing.assert_allclose(compiled(x).numpy(), np.exp(x.numpy() @ w.numpy()), 2e-3, 1e-5)
    assert compiled.traces == 1


def test_what_is_needed_has_no_limit() -> None:
    found = regions_of(lambda x: x.exp().sum(0), (3, 8), 0, "cpu")
    assert all(not r.limits for r in found)
    (whole,) = regions_of(lambda x: F.pad(x, (0, 0, 0, 1)).exp()[0], (3, 8), 0, "cpu")
    assert not whole.limits


def test_part_of_a_tile_of_a_product() -> None:
    """Rows of a tile beyond the size are not computed, unless those of the next batch follow."""
    w = tgrad.tensor(np.random.default_rng(0).standard_normal((96, 80), dtype=np.float32))
    compiled = tgrad.compile(lambda x: (x @ w).exp(), dynamic={"x": {1: (1, 256)}})
    with record_plans() as plans:
        compiled(tgrad.ones(7, 9, 96))
    kernels = [k for p in plans for k in p.kernels if k.region and k.region.space.kind == "dot"]
    (limit,), source = kernels[0].region.limits, kernels[0].source  # type: ignore[union-attr]
    assert f"(int)tg_min(in{limit.slot}[0], 256)" in source


def test_tiles_of_attention_are_skipped() -> None:
    """Rows beyond the size are no program's, keys beyond it no step's; NaN there is not seen."""
    compiled = tgrad.compile(
        lambda q, k: F.scaled_dot_product_attention(q, k, k, is_causal=True),
        dynamic={"q": {2: ("N", 1, 160)}, "k": {2: ("N", 1, 160)}},
    )
    rng = np.random.default_rng(0)
    with record_plans() as plans:
        for n in (160, 1, 63, 64, 65, 159):
            last = [np.nan, 1.0][n != 160]  # the first call leaves NaN behind in padded memory
            q, k = (rng.standard_normal((2, 3, n, 16), dtype=np.float32) for _ in range(2))
            k[:, :, -1] *= last
            a, b = tgrad.tensor(q), tgrad.tensor(k)
            want = F.scaled_dot_product_attention(a, b, b, is_causal=True).numpy()
            np.testing.assert_allclose(compiled(a, b).numpy(), want, rtol=1e-4, atol=1e-5)
    assert compiled.traces == 1
    sources = [k.source for p in plans for k in p.kernels if k.region]
    chains = [s for s in sources if "_stop" in s and "[0]) continue;" in s]
    assert chains


def product(x: tgrad.Tensor, count: tgrad.Tensor) -> tgrad.Tensor:
    """Rows of x @ x.T that a number made by the plan leaves, read in another order."""
    y = (x @ x.mT).where(tgrad.arange(x.shape[0], device=x.device).unsqueeze(1) < count, 0)
    return y.index_select(0, tgrad.arange(x.shape[0] - 1, -1, -1, device=x.device))


@pytest.mark.parametrize("count", [0, 1, 17, 40])
def test_a_number_that_the_plan_makes_limits_too(count: int, device: str) -> None:
    """What is skipped is what memory holds, NaN at its worst."""
    parts = np.array([count // 2, count - count // 2])
    values = np.random.default_rng(0).standard_normal((40, 24), dtype=np.float32)
    want = values @ values.T
    want[count:] = 0

    def function(x: tgrad.Tensor, parts: tgrad.Tensor) -> tgrad.Tensor:
        return product(x, parts.sum())

    compiled = tgrad.compile(function)
    for _ in range(3):
        x, given = (tgrad.tensor(a, device=device) for a in (values, parts))
        full = tgrad.full((40, 40), float("nan"), device=device).realize()
        del full  # its memory is taken next
        np.testing.assert_allclose(compiled(x, given).numpy(), want[::-1], rtol=1e-4, atol=1e-5)
    if device == "numpy":
        return
    limited = [k for k in compiled.plans[-1].kernels if k.region.limits]
    assert [k.region.space.kind for k in limited] == ["dot"]
    (limit,) = limited[0].region.limits
    assert (limit.inner, limit.capacity) == (1, 40)


def test_a_number_that_depends_on_what_it_would_limit() -> None:
    """It is there only when all rows are."""
    values = np.random.default_rng(0).standard_normal((40, 24), dtype=np.float32)
    want = values @ values.T
    count = int((want > 5).sum()) % 30 + 5
    want[count:] = 0

    def function(x: tgrad.Tensor) -> tgrad.Tensor:
        return product(x, ((x @ x.mT) > 5).sum() % 30 + 5)

    compiled = tgrad.compile(function)
    with record_plans() as plans:
        found = compiled(tgrad.tensor(values)).numpy()
    np.testing.assert_allclose(found, want[::-1], rtol=1e-4, atol=1e-5)
    assert 0 < count < 40 and not any(k.region.limits for p in plans for k in p.kernels)


def test_a_number_comes_before_what_it_limits() -> None:
    """Though its kernel would stand behind: the sum waits for many others."""

    def function(x: tgrad.Tensor, parts: tgrad.Tensor) -> tgrad.Tensor:
        for _ in range(4):
            parts = parts.sort()[0].cumsum(0) % 7
        return product(x, parts.sum())

    x, parts = tgrad.ones(40, 24), tgrad.tensor(np.arange(30) % 5)
    compiled = tgrad.compile(function)
    with record_plans() as plans:
        found = compiled(x, parts).numpy()
    np.testing.assert_allclose(found, function(x, parts).numpy(), rtol=1e-5)
    plan = plans[-1]
    (at,) = (n for n, k in enumerate(plan.kernels) if k.region.limits)
    (limit,) = plan.kernels[at].region.limits
    size = plan.steps[at].buffers[limit.slot]
    (made,) = (n for n, s in enumerate(plan.steps) if any(s.buffers[w] == size for w in s.written))
    assert made < at
