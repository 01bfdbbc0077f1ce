"""Plans of cases, made and not run.

In: a case, a target. Out: its Plan. Invariant: nothing is computed and no compiler is called, so a
plan for a GPU needs none, and figures are the same on every machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tgrad
import tgrad.nn.functional as F
from bench.case import Case, FunctionCase, StepCase
from tgrad.runtime.plan import Plan
from tgrad.runtime.planning import planning


def planned(case: Case, target: str | None = None) -> Plan:
    """The plan of a case under `tgrad.compile`.

    Args:
        case: a function or a step; of a function the inputs' values do not matter.
        target: such as "sm_90"; None for the device cpu.
    """
    if isinstance(case, StepCase):
        return planned_step(case, target)
    return _planned_function(case, target)


def planned_step(case: StepCase, target: str | None = None) -> Plan:
    """The plan of a whole training step."""
    with planning(target):
        model = case.model(tgrad.nn, F, tgrad).to(getattr(tgrad, case.dtype))
        optimizer = case.optimizer(tgrad.optim, model.parameters())

        @tgrad.compile
        def step(inputs: tgrad.Tensor, targets: tgrad.Tensor) -> tgrad.Tensor:
            loss: tgrad.Tensor = case.loss(F, model, inputs, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        inputs = [_stored(a, case.dtype) for a in case.inputs().values()]
        for _ in range(2):  # the first call makes the optimizer's state, the second has it
            step(*inputs)
        plan: Plan = step.plans[-1]
        return plan


def _stored(array: np.ndarray, dtype: str) -> tgrad.Tensor:
    """In the case's dtype if it is of floats."""
    return tgrad.tensor(array, dtype=getattr(tgrad, dtype) if array.dtype.kind == "f" else None)


def _planned_function(case: FunctionCase, target: str | None) -> Plan:
    with planning(target):
        inputs = [_stored(a, case.dtype) for a in case.arrays().values()]

        @tgrad.compile
        def function(*inputs: tgrad.Tensor) -> Any:
            return case.program(tgrad, F, *inputs)

        function(*inputs)
        plan: Plan = function.plans[-1]
        return plan
