"""Peak memory of training steps, as planned; the time is that of planning it."""

from __future__ import annotations

from typing import Any

import pytest

from bench.planned import planned_step
from bench.steps import step_cases

CASES = {c.key: c for c in step_cases("small")} | {f"{c.key}_full": c for c in step_cases("full")}
PARAMETERS = [
    pytest.param(key, marks=() if key.endswith("_full") else pytest.mark.quick) for key in CASES
]


@pytest.mark.parametrize("key", PARAMETERS)
def test_peak(benchmark: Any, key: str) -> None:
    plan = benchmark.pedantic(planned_step, (CASES[key],), rounds=1)
    benchmark.extra_info["peak_bytes"] = plan.peak_bytes
    benchmark.extra_info["input_bytes"] = plan.input_bytes
