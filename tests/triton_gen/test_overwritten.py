"""Results over inputs: no thread of a program writes what another one has yet to read."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

import tgrad
from tests.triton_gen.builder import Builder, run
from tgrad import dtype as dt
from tgrad.fusion.region import Load, Region
from tgrad.graph.op import Op
from tgrad.kernel.ir import Artifact
from tgrad.kernel.lower import lower
from tgrad.runtime.plan import Plan, record_plans
from tgrad.runtime.planning import planning
from tgrad.settings import settings
from tgrad.tensor import realize_tensors
from tgrad.triton_gen import build, choose_config, emit, target_by_name

pytest.importorskip("triton")

BARRIER = "tl.debug_barrier()"


def with_slot_of(region: Region, read: int, written: int) -> Region:
    """The region with a result in the slot of an input, as fusion/inplace.py makes it."""
    from tgrad.fusion.inplace import _with_shared_slot

    inputs = sum(s.role == "in" for s in region.slots)
    shared = _with_shared_slot(region, read, inputs + written, inputs)
    assert shared is not None
    return shared


def weighted(rows: int, length: int) -> Region:
    """Rows times their weight, and the maximum of each row over the weight."""
    b = Builder(i=rows, r=length)
    weight, x = b.load("i"), b.load("i r")
    b.store(b.op(Op.MUL, x, weight), "i r")
    b.store(b.reduce(Op.REDUCE_MAX, x, "r"), "i")
    return with_slot_of(b.region("weighted", "reduce", parallel="i", row="r"), 0, 1)


def source_of(region: Region, target: str = "sm_90") -> str:
    config = choose_config(region, target_by_name(target))
    return emit(lower(region, config), config)


@pytest.mark.parametrize("length", [64, 20000])
def test_a_number_that_all_threads_load_is_overwritten_after_a_barrier(length: int) -> None:
    body = source_of(weighted(100, length)).split("@triton.jit")[-1]
    load, barrier = body.index("tl.load(out1_ptr"), body.index(BARRIER)
    assert load < barrier < body.index("tl.store(out1_ptr")
    assert body.count(BARRIER) == 1


def test_values_with_a_barrier(device: str) -> None:
    if device not in ("interpret", "cuda"):
        pytest.skip("barriers are of Triton's kernels")
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((33, 700), np.float32), rng.random(33, np.float32)
    rows, most = run(weighted(33, 700), [x.reshape(-1)], device=device, before=[weight])
    np.testing.assert_array_equal(rows.reshape(x.shape), x * weight[:, None])
    np.testing.assert_array_equal(most, x.max(1))


def test_what_is_made_of_its_own_element_needs_none() -> None:
    b = Builder(i=1 << 20)
    b.store(b.op(Op.ADD, b.load("i"), b.load("i")), "i")
    region = with_slot_of(b.region("added"), 0, 0)
    assert any(s.role == "inout" for s in region.slots)
    assert BARRIER not in source_of(region)


def test_what_is_made_of_something_else_needs_one() -> None:
    """Each of two loads has the threads that suit its dtype: another may store the result."""
    b = Builder(i=1 << 20)
    x, y = b.load("i"), b.load("i")
    b.store(b.op(Op.CAST, x, dtype=dt.bfloat16), "i")
    b.store(b.op(Op.NEG, y), "i")
    assert BARRIER in source_of(with_slot_of(b.region("apart"), 0, 1))


def compiled(region: Region) -> Artifact:
    target = target_by_name("sm_90")
    return build([(region, choose_config(region, target))], settings, target)[0]


@pytest.mark.parametrize("region", [weighted(100, 64), weighted(8192, 20000)])
def test_machine_code_has_the_barrier_between(region: Region) -> None:
    """Between the load and the store of one number at one address."""
    lines = compiled(region).entry.asm["ptx"].splitlines()  # type: ignore[attr-defined]
    numbers = {w: {m[1]: at for at, x in enumerate(lines)
                   if (m := re.search(rf"{w}.global.b32 .*\[ (%rd\d+) \+ 0 \]", x))}
               for w in ("ld", "st")}  # fmt: skip
    (address,) = numbers["ld"].keys() & numbers["st"].keys()
    load, store = numbers["ld"][address], numbers["st"][address]
    assert any("bar.sync" in x for x in lines[load:store])


def overwritten(plans: Sequence[Plan]) -> list[tuple[str, str]]:
    """The kernels that overwrite rows' numbers with others: name and source."""
    found = []
    for kernel in (k for p in plans for k in p.kernels if k.region is not None):
        region = kernel.region
        own = {s.slot for s in region.stores if region.slots[s.slot].role == "inout"}
        if any(isinstance(v, Load) and v.slot in own for v in region.values):
            found.append((kernel.name, kernel.source))
    return found


def test_the_loss_of_a_language_model_has_one() -> None:
    """The weight of each row's gradient is overwritten by the row's maximum."""
    with planning("sm_90"), record_plans() as plans:
        x = tgrad.zeros(256, 64, dtype=tgrad.bfloat16, device="cuda", requires_grad=True)
        w = tgrad.zeros(50304, 64, dtype=tgrad.bfloat16, device="cuda", requires_grad=True)
        targets = tgrad.tensor(np.zeros(256, np.int64), device="cuda")
        loss = tgrad.nn.functional.cross_entropy(x @ w.T, targets)
        loss.backward()
        assert x.grad is not None and w.grad is not None
        realize_tensors([loss, x.grad, w.grad])
    sources = [s for name, s in overwritten(plans) if name.startswith("cross_entropy")]
    assert sources and all(BARRIER in s for s in sources)
