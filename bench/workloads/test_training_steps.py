"""Whole training steps: forward, backward and update as one plan."""

from __future__ import annotations

from typing import Any

import pytest

import tgrad
from bench.case import StepCase, batch_of
from bench.conftest import extra_info_of, stored, wait
from bench.peers.tgrad import compiled_step
from bench.steps import step_cases

CASES = {c.key: c for c in step_cases("small")} | {f"{c.key}_full": c for c in step_cases("full")}
PARAMETERS = [
    pytest.param(key, marks=() if key.endswith("_full") else pytest.mark.quick) for key in CASES
]


@pytest.mark.parametrize("key", PARAMETERS)
def test_step(benchmark: Any, key: str, device: str) -> None:
    case: StepCase = CASES[key]
    arrays = case.arrays()
    model, step = compiled_step(case, arrays, device)
    inputs, targets = (stored(a, case.dtype, device) for a in batch_of(arrays))

    def run() -> tgrad.Tensor:
        loss: tgrad.Tensor = step(inputs, targets)
        wait(device)
        return loss

    run()
    benchmark.extra_info.update(extra_info_of(step))
    benchmark.extra_info["parameters"] = sum(p.numel() for p in model.parameters())
    loss = benchmark(run)
    assert loss.isfinite().item()
