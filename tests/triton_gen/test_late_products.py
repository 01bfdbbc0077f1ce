"""Products of a chain's exponentials one step late."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.attention import attention_regions
from tests.triton_gen.builder import run
from tgrad import dtype as dt
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Artifact, Config
from tgrad.kernel.lower import lower
from tgrad.kernel.printer import print_kernel
from tgrad.kernel.verify import verify_kernel
from tgrad.settings import settings
from tgrad.triton_gen import build, choose_config, search_space, target_by_name
from tgrad.triton_gen.late_products import with_late_products

pytest.importorskip("triton")

SM_90 = target_by_name("sm_90")


def late(region: Region) -> Config:
    return replace(choose_config(region, SM_90), late_products=True)


def plain(region: Region) -> Config:
    return replace(choose_config(region, SM_90), late_products=False)


def test_the_program() -> None:
    region = attention_regions(8, 1024, 64, dt.bfloat16)[0]
    kernel = lower(region, late(region))
    changed = with_late_products(kernel)
    verify_kernel(changed)
    before, after = (print_kernel(k).splitlines() for k in (kernel, changed))
    gone = [line.strip() for line in before if line not in after]
    made = [line.strip() for line in after if line not in before]
    assert gone == [
        "t23 : bf16[k n] = load in2[(b*65536 + k*64 + n)]",
        "t24 : bf16[m k] = cast t21",
        "t5 = mul t5, t18",
        "t5 += dot t24, t23 over k",
    ]
    late_once = [
        "t5 = mul t5, t31",
        "t32 : bf16[k n] = load in2[(b*65536 + k*64 + n + -4096)] if 0 <= (k + -64) < 1024",
        "t33 : bf16[m k] = cast t30",
        "t5 += dot t33, t32 over k",
    ]
    start = ["init t30 : f32[m k] = 0.0", "init t31 : f32[m] = 1.0"]
    kept = ["keep t30 = t21", "keep t31 = t18"]
    assert made == [*start, *late_once, *kept, "then:", *late_once]


@pytest.mark.devices("interpret")
@pytest.mark.parametrize("length", [128, 256])
@pytest.mark.parametrize("kernel", [0, 1], ids=["forward", "gradient of the queries"])
def test_sums_stay_the_same(kernel: int, length: int, device: str) -> None:
    """Bit for bit in the interpreter: products and their order are the same; on GPUs, where other
    code is compiled, to the rounding of the operands."""
    if device not in ("interpret", "cuda"):
        pytest.skip("Triton's alone")
    region = attention_regions(2, length, 32, dt.float16)[kernel]
    rng = np.random.default_rng(0)
    inputs = [
        rng.standard_normal(s.size).astype(s.dtype.numpy) for s in region.slots if s.role == "in"
    ]
    config = choose_config(region, SM_90)
    wants, haves = (
        run(region, inputs, replace(config, late_products=is_late), device)
        for is_late in (False, True)
    )
    tolerance = 0 if device == "interpret" else 1e-2
    for want, have in zip(wants, haves):
        np.testing.assert_allclose(have, want, rtol=tolerance, atol=tolerance)


@pytest.mark.devices("interpret")
def test_what_is_never_read_adds_nothing(device: str) -> None:
    """Values beyond the mask are infinite: what is added before the first step is 0 times 0."""
    region = attention_regions(1, 128, 32, dt.float16)[0]
    heads, rows = 2, 128
    q, k = (np.zeros((heads, rows, 32), np.float16) for _ in range(2))
    v = np.ones((heads, rows, 32), np.float16)
    v[:, 64:] = np.inf
    (out,) = run(region, [x.reshape(-1) for x in (q, k, v)], late(region), device)[-1:]
    np.testing.assert_array_equal(out.reshape(-1, 32)[:64], 1.0)


def test_loops_that_begin_late_and_ragged_ones_stay() -> None:
    """The gradients of keys and values begin with the first query that sees a key."""
    of_keys = attention_regions(8, 1024, 64, dt.bfloat16)[2]
    ragged = attention_regions(8, 1000, 64, dt.bfloat16)[0]
    exact = attention_regions(8, 1024, 64, dt.float32)[0]
    for region in (of_keys, ragged, exact):
        kernel = lower(region, late(region))
        assert with_late_products(kernel) is kernel, region.name


def compiled(region: Region, config: Config) -> Artifact:
    (artifact,) = build([(region, config)], settings, SM_90)
    return artifact


@pytest.mark.parametrize("size", [64, 128])
def test_nothing_waits_for_it_on_hopper(size: int) -> None:
    """Between its start and the end of the step are the exponentials, and no wait; plain, the
    exponentials come first. Both leave two programs a multiprocessor their registers."""
    region = attention_regions(8, 1024, size, dt.bfloat16)[0]
    orders = []
    for config in (plain(region), late(region)):
        artifact = compiled(region, config)
        assert artifact.figures.spills == 0
        assert (artifact.figures.registers or 0) <= 65536 // (2 * 32 * config.num_warps)
        orders.append(_order(artifact.entry.asm["ttgir"]))  # type: ignore[attr-defined]
    before, after = orders
    assert before == ["dot", "wait", "exp", "exp", "dot", "end"]
    assert after == ["dot", "wait", "dot", "exp", "exp", "end"]


def _order(text: str) -> list[str]:
    """What happens in the first loop."""
    names = {
        "ttng.warp_group_dot ": "dot",
        "ttng.warp_group_dot_wait ": "wait",
        "math.exp2 ": "exp",
        "scf.yield ": "end",
    }
    body = text.split("scf.for ")[1]
    found = re.findall("|".join(map(re.escape, names)), body)
    order = [names[x] for x in found]
    return order[: order.index("end") + 1]


def test_a_search_may_choose_it() -> None:
    """The heuristic takes it for heads of 128, where it was quicker on an H200, and not for 64."""
    for size, usual in ((128, 1), (64, 0)):
        space = search_space(attention_regions(8, 1024, size, dt.bfloat16)[0], SM_90)
        named = space.named(space.start)
        assert named["late_products"] == usual
        choice = space.find({**named, "late_products": 1 - usual})
        assert choice is not None
        config = space.config(choice)
        assert config is not None and config.late_products == (not usual)
    region = attention_regions(8, 1024, 128, dt.bfloat16)[0]
    for target in ("sm_80", "sm_100", "gfx942"):
        older = search_space(region, target_by_name(target))
        assert "late_products" not in older.named(older.start)
    for gradient in attention_regions(8, 1024, 128, dt.bfloat16)[1:]:
        assert not choose_config(gradient, SM_90).late_products
