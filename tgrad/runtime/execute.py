"""Running a plan.

In: a Plan and the memories of its inputs. Out: new memories with its outputs. Invariant: a run
launches each step once, in order, and allocates what the plan said.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from tgrad.runtime.device import Runtime, allocate, arena, counters, open_device
from tgrad.runtime.plan import Plan
from tgrad.runtime.planning import current_planning
from tgrad.runtime.watch import current_watcher

_run_lock = threading.RLock()


def execute(plan: Plan, inputs: Sequence[Any]) -> list[Any]:
    """Run the plan once.

    Args:
        plan: what to run.
        inputs: memories of the plan's inputs, in order.

    Returns:
        One new memory for each output; zeros while planning, when nothing runs.
    """
    runtime = open_device(plan.device)
    scope = current_planning()
    if scope is not None:
        scope.on_run(plan)
        return [runtime.allocate(b.nbytes) for b in plan.outputs]
    count = counters(plan.device)
    with _run_lock:
        outputs = [allocate(plan.device, b.nbytes) for b in plan.outputs]
        if plan.host is not None:
            arrays = [runtime.read(m, b.dtype, b.shape) for m, b in zip(inputs, plan.inputs)]
            for memory, array in zip(outputs, plan.host(arrays)):
                runtime.write(memory, array)
        else:
            whole = arena(plan.device, plan.arena_bytes) if plan.arena_bytes else None
            program = plan.program if current_watcher() is None else None
            if program is not None:
                count.launches += program.run(inputs, outputs, whole)
            else:
                _launch_steps(plan, runtime, inputs, outputs, whole)
        count.plans += 1
    return outputs


def _launch_steps(
    plan: Plan, runtime: Runtime, inputs: Sequence[Any], outputs: Sequence[Any], whole: Any
) -> None:
    """One launch a step, from Python."""
    count, watcher = counters(plan.device), current_watcher()
    temps = [runtime.view(whole, b.offset, b.nbytes) for b in plan.temps]
    table = {"input": inputs, "output": outputs, "temp": temps}
    for number, (step, artifact) in enumerate(zip(plan.steps, plan.artifacts)):
        memories = [table[b.kind][b.number] for b in step.buffers]
        if watcher is None:
            runtime.launch(artifact, memories)
        else:
            watcher.watch(plan, number, partial(runtime.launch, artifact, memories))
        count.launches += 1
