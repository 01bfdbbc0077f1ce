"""Inner loops of attention: one multiply-add an element before exp2, and nothing that is unused."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest

import tgrad
from tests.attention import attention_regions
from tests.triton_gen.test_golden import source_of
from tests.triton_gen.test_whole import MASKS, attention, inputs
from tgrad import dtype as dt
from tgrad.fusion.device_limits import GPU_LIMITS
from tgrad.fusion.region import extent_of
from tgrad.kernel.lower import lower
from tgrad.pipeline import canonical_bases, cut_graph
from tgrad.runtime.plan import record_plans
from tgrad.runtime.planning import planning
from tgrad.tensor import realize_tensors
from tgrad.triton_gen import choose_config
from tgrad.triton_gen.program_order import axes_from_the_end
from tgrad.triton_gen.target import target_by_name

TARGET = target_by_name("sm_90")
CASES = [
    (kind, size, dtype)
    for kind in range(3)
    for size in (64, 128)
    for dtype in (dt.bfloat16, dt.float16)
]
"""Forward, gradient of the queries, of keys and values; size of a head."""


def body_of(kind: int, size: int, dtype: dt.DType) -> str:
    """The kernel's function."""
    region = attention_regions(2, 512, size, dtype)[kind]
    return source_of(region, TARGET).split("@triton.jit")[-1].strip()


def loops_of(body: str) -> list[list[str]]:
    """The lines of each loop over tiles."""
    parts = re.split(r"^    for .*\n", body, flags=re.MULTILINE)[1:]
    inside = re.compile(r"(?:^        .*\n)+", re.MULTILINE)
    return [m.group().splitlines() for part in parts if (m := inside.match(part))]


@pytest.mark.parametrize(("kind", "size", "dtype"), CASES)
def test_loops_multiply_by_no_number_but_in_exponents(
    kind: int, size: int, dtype: dt.DType
) -> None:
    body = body_of(kind, size, dtype)
    loops = loops_of(body)
    assert len(loops) == 2
    for lines in loops:
        scaled = [x.strip() for x in lines if re.search(r"t\d+ \* [\d.]+", x)]
        wide = [x for x in scaled if "[:, None]" in x or "[None, :]" in x]
        assert all(re.match(r"t\d+ = tl\.exp2\(", x) for x in scaled)
        assert len(wide) == 1 and wide[0].count("exp2") == 1
        assert not any("_from_" in x for x in lines)  # no product is rounded on the way
        products = [x for x in lines if re.search(r"= t\d+ \* t\d+$", x)]
        assert len(products) == 1  # of sums forward, of weights and their gradient backward
    after = body.split("        ")[-1].splitlines()[1:]
    assert sum(bool(re.search(r"t\d+ \* [\d.]+$", x)) for x in after) == 1


@pytest.mark.parametrize(("kind", "size", "dtype"), CASES)
def test_what_is_assigned_is_used(kind: int, size: int, dtype: dt.DType) -> None:
    names = [x for x in ast.walk(ast.parse(body_of(kind, size, dtype))) if isinstance(x, ast.Name)]
    stored = {x.id for x in names if isinstance(x.ctx, ast.Store)}
    assert stored == {x.id for x in names if isinstance(x.ctx, ast.Load)} & stored


def test_statistics_that_are_loaded_are_multiplied_once() -> None:
    """Those of a program's rows, before the loop."""
    body = body_of(1, 64, dt.bfloat16)
    (name,) = re.findall(r"(t\d+_scaled) = t\d+ \* 1.442695", body.split("    for ")[0])
    assert all(sum(f"- {name}[:, None])" in x for x in lines) == 1 for lines in loops_of(body))


def test_numbers_of_the_exponent_are_one() -> None:
    assert "tl.exp2(t8 * 0.18033688011112042 - (t15 * 0.18033688011112042)[:, None])" in body_of(
        0, 64, dt.bfloat16
    )  # 0.125 log2 e


def test_scores_that_may_be_large_are_guarded() -> None:
    """A mask that is added, or numbers for what is masked: a row of such has one largest."""

    def sources(mask: str) -> list[str]:
        with planning("sm_90"), record_plans() as plans:
            numbers = np.zeros((2, 256, 64), np.float32)
            q, k, v = (tgrad.tensor(numbers, dtype=tgrad.bfloat16, device="cuda") for _ in range(3))
            seen = tgrad.tensor(np.ones((256, 256), bool), device="cuda")
            scores = q @ k.transpose(-1, -2) * 0.125
            if mask == "number":
                scores = scores.masked_fill(~seen, -1e9)
            if mask == "infinity":
                scores = scores.masked_fill(~seen, -float("inf"))
            if mask == "truth":
                scores = scores + seen.to(q.dtype)
            if mask == "sum":
                added = tgrad.tensor(numbers[0, :, :1], dtype=tgrad.bfloat16, device="cuda")
                scores = scores + added
            realize_tensors([tgrad.softmax(scores.float(), -1).to(q.dtype) @ v])
        return [k.source for plan in plans for k in plan.kernels]

    for mask in ("none", "infinity", "truth"):
        assert not any("_exp_from(" in s.split("@triton.jit")[-1] for s in sources(mask))
    for mask in ("number", "sum"):
        assert any("_exp_from(" in s.split("@triton.jit")[-1] for s in sources(mask))


@pytest.mark.parametrize("name", MASKS)
def test_longest_programs_come_first(name: str) -> None:
    """Only where the loop over keys starts at one place and ends later for later rows."""
    made = attention(MASKS[name][0], inputs("numpy"))
    kernels = cut_graph(canonical_bases([x._node for x in made]), GPU_LIMITS)
    chains = [k.region for k in kernels if k.region.space.kind == "chain"]
    found = [axes_from_the_end(lower(r, choose_config(r, TARGET))) for r in chains]
    queries = frozenset({"m"}) if name in ("causal", "shifted") else frozenset()
    keys = frozenset({"m"}) if name == "later" else frozenset()
    assert found == [queries, queries, keys]
    for region, axes in zip(chains, found):
        last = extent_of(region.space.m) // 32
        turned = f"m0 = ({last} - pid) * BLOCK_M"
        assert (turned in source_of(region, TARGET)) is bool(axes)
