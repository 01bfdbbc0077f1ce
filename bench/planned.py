"""Plans and graphs of cases, made and not run.

In: a case, a target. Out: its Plan, or the nodes that its calls build. Invariant: nothing is
computed and no compiler is called, so a plan for a GPU needs none, and figures are the same on
every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import tgrad
import tgrad.nn.functional as F
from bench.case import Case, FunctionCase, StepCase, expanded
from bench.peers.tgrad import compiled_function, lying
from tgrad import nn
from tgrad.graph.node import Node
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
        inputs = [lying(_stored(a, case.dtype), case) for a in expanded(case.arrays()).values()]
        function, calls = compiled_function(case, [inputs])
        calls[0]()
        plan: Plan = function.plans[-1]
        return plan


def graph_of(case: Case) -> list[Node]:
    """What the calls of a case build, before any rewriting: the result of a function, the loss and
    the gradients of a step."""
    with planning():
        if isinstance(case, FunctionCase):
            inputs = [_stored(a, case.dtype) for a in expanded(case.arrays()).values()]
            result: tgrad.Tensor = case.program(tgrad, F, *inputs)
            return [result._node]
        model = case.model(tgrad.nn, F, tgrad).to(getattr(tgrad, case.dtype))
        return differentiated(case, model, [_stored(a, case.dtype) for a in case.inputs().values()])


def differentiated(case: StepCase, model: nn.Module, batch: Sequence[tgrad.Tensor]) -> list[Node]:
    """The graph of forward and backward: the loss, then the gradients of the parameters."""
    loss = case.loss(F, model, *batch)
    loss.backward()
    nodes: list[Node] = [loss._node]
    for p in model.parameters():
        assert p.grad is not None
        nodes.append(p.grad._node)
        p.grad = None
    return nodes
