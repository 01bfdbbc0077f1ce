"""Peak memory of training steps, as planned; the time is that of planning it."""

from __future__ import annotations

from typing import Any

import pytest

from bench.planned import planned_step
from bench.steps import step_cases

CASES = {c.key: c for c in step_cases("full")}


@pytest.mark.parametrize("key", CASES)
def test_peak(benchmark: Any, key: str) -> None:
    plan = benchmark.pedantic(planned_step, (CASES[key],), rounds=1)
    benchmark.extra_info["peak_bytes"] = plan.peak_bytes
    benchmark.extra_info["input_bytes"] = plan.input_bytes
