"""Running a plan.

In: a Plan and the memories of its inputs. Out: new memories with its outputs. Invariant: a run
launches each step once, in order, and allocates what the plan said.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from tgrad.runtime.device import allocate, arena, counters, open_device
from tgrad.runtime.plan import Plan

_run_lock = threading.RLock()


def execute(plan: Plan, inputs: Sequence[Any]) -> list[Any]:
    """Run the plan once.

    Args:
        plan: what to run.
        inputs: memories of the plan's inputs, in order.

    Returns:
        One new memory for each output.
    """
    runtime = open_device(plan.device)
    count = counters(plan.device)
    with _run_lock:
        outputs = [allocate(plan.device, b.nbytes) for b in plan.outputs]
        if plan.host is not None:
            arrays = [runtime.read(m, b.dtype, b.shape) for m, b in zip(inputs, plan.inputs)]
            for memory, array in zip(outputs, plan.host(arrays)):
                runtime.write(memory, array)
        else:
            artifacts = plan.artifacts
            whole = arena(plan.device, plan.arena_bytes) if plan.arena_bytes else None
            temps = [runtime.view(whole, b.offset, b.nbytes) for b in plan.temps]
            table = {"input": inputs, "output": outputs, "temp": temps}
            for step, artifact in zip(plan.steps, artifacts):
                runtime.launch(artifact, [table[b.kind][b.number] for b in step.buffers])
                count.launches += 1
        count.plans += 1
    return outputs
