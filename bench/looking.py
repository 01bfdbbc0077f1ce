"""Launches and memory of training steps, tgrad's as planned beside what its peers do.

In: step cases and peers. Out: tables. Invariant: tgrad's figures are of its plan, with no kernel
run; a peer's are of a step that it really did, in a process of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.case import StepCase
from bench.peers import StepCounts, StepMemory
from bench.planned import planned_step
from bench.process import PeerFailure, PeerSpec, Process
from bench.tables import DASH, Table
from bench.worker import save_inputs
from tgrad.runtime.plan import Plan

KEYS = ("step_convnet", "step_gpt", "step_gpt2")
"""The steps that are looked into."""
UPDATES = ("adam", "adamw", "sgd")
"""What tgrad calls the work of an optimizer's step."""
OURS = "tgrad (planned)"


@dataclass(frozen=True)
class Looked:
    """A step and what was found of it.

    Attributes:
        key, title: of the case.
        found: by peer: `StepCounts` or `StepMemory`, or the reason why there is none.
    """

    key: str
    title: str
    found: Mapping[str, StepCounts | StepMemory | str]


def launches_of(plan: Plan) -> StepCounts:
    """tgrad's own; a launch that does the update and something else is not one of the update."""
    only = [k for k in plan.kernels if _is_update(k.name)]
    return StepCounts(plan.launches, len(only), plan.bytes)


def _is_update(name: str) -> bool:
    """Whether a kernel's name, after what it computes, begins with an optimizer's."""
    return name.startswith(UPDATES)


def memory_of(plan: Plan) -> StepMemory:
    """tgrad's own: its inputs are all that is held between steps; a run adds arena and outputs."""
    return StepMemory(plan.input_bytes, plan.input_bytes + plan.peak_bytes)


def look(
    what: str, sizes: str, cases: Sequence[StepCase], peers: Sequence[PeerSpec], cores: int
) -> list[Looked]:
    """What tgrad's plan and each peer say of each step.

    Args:
        what: "count_launches" or "peak_memory".
        sizes: of the cases.
        cases: the steps.
        peers: others than tgrad.
        cores: threads of a peer.
    """
    kind: type[StepCounts] | type[StepMemory]
    kind = StepCounts if what == "count_launches" else StepMemory
    of_plan = launches_of if what == "count_launches" else memory_of
    result = []
    for case in cases:
        found: dict[str, StepCounts | StepMemory | str] = {OURS: of_plan(planned_step(case))}
        with tempfile.TemporaryDirectory(prefix="tgrad-bench-") as folder:
            path = Path(folder) / "arrays.npz"
            save_inputs(path, case.arrays())
            for spec in peers:
                try:
                    found[spec.name] = kind(**_ask(spec, what, sizes, case, path, cores))
                except PeerFailure as failure:
                    found[spec.name] = str(failure)
        result.append(Looked(case.key, case.title, found))
    return result


def _ask(
    spec: PeerSpec, what: str, sizes: str, case: StepCase, path: Path, cores: int
) -> dict[str, Any]:
    process = Process(spec, "cpu", cores)
    try:
        return process.ask(
            "look", what=what, table="bench.steps", sizes=sizes, key=case.key, arrays=str(path)
        )
    finally:
        process.stop()


def launch_table(steps: Sequence[Looked]) -> Table:
    """Launches, those of the update alone, and bytes moved."""
    rows = []
    for step in steps:
        for peer, counts in step.found.items():
            cells = (DASH, DASH, DASH)
            if isinstance(counts, StepCounts):
                update = str(counts.update) if counts.update else DASH
                cells = (str(counts.launches), update, f"{counts.bytes / 1e6:,.1f}")
            rows.append((f"{step.title}: {peer}", *cells))
    notes = (
        "tgrad: of its plan for the device cpu",
        "compile: calls in torch.compile's generated code that do work (generated kernels, library "
        "calls, operators left to PyTorch), the update compiled too; bytes by its own metrics",
        "tinygrad: its own counters of a replayed step",
        *_reasons(steps),
    )
    header = ("training step", "launches", "of the update alone", "MB moved")
    return Table("launches", header, tuple(rows), notes)


def memory_table(steps: Sequence[Looked]) -> Table:
    """Bytes held between steps, and at the peak of a step."""
    rows = []
    for step in steps:
        ours = step.found[OURS]
        for peer, memory in step.found.items():
            cells = (DASH, DASH, DASH)
            if isinstance(memory, StepMemory) and isinstance(ours, StepMemory):
                ratio = f"{memory.peak / ours.peak:.2f}"
                cells = (f"{memory.held / 1e6:,.1f}", f"{memory.peak / 1e6:,.1f}", ratio)
            rows.append((f"{step.title}: {peer}", *cells))
    notes = (
        "held: parameters, statistics, the optimizer's state and the batch; peak: those, "
        "gradients, activations and temporaries",
        "tgrad: planned: inputs, arena and outputs of the step's plan",
        "PyTorch: measured: what is held before a step, and every allocation and release of its "
        "CPU allocator during the step, by torch.profiler; what oneDNN allocates by itself is not "
        "in it",
        *_reasons(steps),
    )
    header = ("training step", "MB held", "MB at the peak", "peak ÷ tgrad's")
    return Table("memory", header, tuple(rows), notes)


def _reasons(steps: Sequence[Looked]) -> list[str]:
    return [
        f"{peer} ({step.key}): {found}"
        for step in steps
        for peer, found in step.found.items()
        if isinstance(found, str)
    ]
