"""Running a plan.

In: a Plan and the memories of its inputs. Out: memories with its outputs. Invariant: a run launches
each step once, in order, and allocates what the plan said, before the first launch.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from tgrad.errors import LaunchError, Source, TgradError
from tgrad.runtime.device import Runtime, allocate, arena, counters, open_device
from tgrad.runtime.exchanges import Exchanges
from tgrad.runtime.library import call_library
from tgrad.runtime.plan import Plan, Program
from tgrad.runtime.planning import current_planning, scopes
from tgrad.runtime.watch import current_watcher, watchers

_run_lock = threading.RLock()


def runs_programs() -> bool:
    """Whether plans run as one call where the device can: nobody plans, nobody watches launches."""
    return not scopes and not watchers


def allocate_outputs(plan: Plan, sizes: Sequence[int] | None = None) -> list[Any]:
    """New memory for the outputs; after it a run needs no more, since the arena is there too.

    Args:
        sizes: bytes of each output that needs memory; all if left out.

    Raises:
        MemoryError: there is not enough; nothing has run.
    """
    device = plan.device
    if sizes is None:
        sizes = [b.nbytes for b in plan.outputs]
    if current_planning() is not None:
        runtime = open_device(device)
        return [runtime.allocate(nbytes) for nbytes in sizes]
    if plan.arena_bytes:
        arena(device, plan.arena_bytes)
    return [allocate(device, nbytes) for nbytes in sizes]


def execute(plan: Plan, inputs: Sequence[Any], outputs: Sequence[Any] | None = None) -> list[Any]:
    """Run the plan once.

    Args:
        plan: what to run.
        inputs: memories of the plan's inputs, in order.
        outputs: where its results go; new memory if left out.

    Returns:
        The memories of the outputs; zeros while planning, when nothing runs.
    """
    scope = current_planning()
    if scope is not None:
        scope.on_run(plan)
    made = allocate_outputs(plan) if outputs is None else list(outputs)
    if scope is not None:
        return made
    runtime = open_device(plan.device)
    with _run_lock:
        if plan.host is not None:
            arrays = [runtime.read(m, b.dtype, b.shape) for m, b in zip(inputs, plan.inputs)]
            for memory, array in zip(made, plan.host(arrays)):
                runtime.write(memory, array)
        elif current_watcher() is None and plan.program is not None:
            replay(plan, plan.program, inputs, made)
            return made
        else:
            whole = arena(plan.device, plan.arena_bytes) if plan.arena_bytes else None
            _launch_steps(plan, runtime, inputs, made, whole)
        counters(plan.device).plans += 1
    return made


def replay(plan: Plan, program: Program, moved: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Run a plan once more as one call; the inputs that do not move are where they were bound.

    Args:
        program: made by the plan's `prepare`, and bound.
        moved: memories of the inputs that move.
        outputs: where the results go.
    """
    with _run_lock:
        whole = arena(plan.device, plan.arena_bytes) if plan.arena_bytes else None
        try:
            launches = program.run(moved, outputs, whole)
        except TgradError:
            raise
        except Exception as error:
            raise _failed(plan, f"A plan of {plan.launches} kernels", error) from error
        count = counters(plan.device)
        count.launches += launches
        count.plans += 1


def _launch_steps(
    plan: Plan, runtime: Runtime, inputs: Sequence[Any], outputs: Sequence[Any], whole: Any
) -> None:
    """One launch a step, from Python; exchanges between processes go on meanwhile."""
    count, watcher = counters(plan.device), current_watcher()
    exchanges = Exchanges(plan, watcher is not None)
    temps = [runtime.view(whole, b.offset, b.nbytes) for b in plan.temps]
    table = {"input": inputs, "output": outputs, "temp": temps}
    specs = {"input": plan.inputs, "output": plan.outputs, "temp": plan.temps}
    for number, (step, artifact) in enumerate(zip(plan.steps, plan.artifacts)):
        exchanges.end_before(number)
        memories = [
            _window(runtime, table[b.kind][b.number], start, specs[b.kind][b.number].nbytes)
            for b, start in step.windows
        ]
        if artifact is None:
            region = plan.kernels[step.kernel].region
            if region.is_exchange:
                launch = partial(exchanges.start, number, region, runtime, memories)
            else:
                launch = partial(call_library, region, runtime, memories)
        else:
            launch = partial(runtime.launch, artifact, memories)
        try:
            launch() if watcher is None else watcher.watch(plan, number, memories, launch)
        except TgradError:
            raise
        except Exception as error:
            kernel = plan.kernels[number]
            raise _failed(plan, f"Kernel {kernel.name}", error, kernel.region.source) from error
        count.launches += 1
    exchanges.end_before(len(plan.steps))


def _window(runtime: Runtime, memory: Any, start: int, nbytes: int) -> Any:
    """A buffer's memory from the byte at which a slot begins."""
    return runtime.view(memory, start, nbytes - start) if start else memory


def _failed(plan: Plan, what: str, error: Exception, source: Source | None = None) -> LaunchError:
    """What to raise where a kernel, or a plan whose kernels start together, did not start."""
    return LaunchError(
        f"{what} did not start on {plan.device}: {error}",
        "The step has not happened. Free memory of the device, or run `tgrad doctor`, and call "
        "again.",
        source,
    )
