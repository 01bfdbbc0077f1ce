"""`tgrad kernels SCRIPT --target sm_90`: the static quality of a program's kernels.

In: a script and the name of a GPU. Out: a row a kernel on standard output and in a JSON file, an
exit status. Invariant: no kernel runs and no GPU is needed; each figure is read from what Triton
compiled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tgrad.backend import backend_by_name
from tgrad.cli.planned import GivesUp, plan_script
from tgrad.cli.script import fail, write_text
from tgrad.errors import TgradError
from tgrad.runtime.plan import Plan


@dataclass(frozen=True)
class KernelRow:
    """A kernel of a program, compiled for a GPU.

    Attributes:
        name: of the kernel.
        line: the user's line.
        launches: of one run of the plans.
        registers, spills, shared, matrix_instruction, widest_load, async_copies: see
            `StaticFigures`.
        path: of the generated source.
    """

    name: str
    line: str
    launches: int
    registers: int | None
    spills: int | None
    shared: int | None
    matrix_instruction: str | None
    widest_load: int | None
    async_copies: int | None
    path: str


def kernel_rows(plans: Sequence[Plan]) -> list[KernelRow]:
    """A row for each different kernel, in the order of its first launch.

    Raises:
        CompileError: Triton refuses a kernel.
        DeviceError: Triton is not installed.
    """
    rows: dict[str, KernelRow] = {}
    for plan in plans:
        for info, artifact in zip(plan.kernels, plan.artifacts):
            if artifact is None:
                continue
            known = rows.get(artifact.path)
            launches = 1 if known is None else known.launches + 1
            line = info.line if known is None else known.line
            rows[artifact.path] = KernelRow(
                info.name, line, launches, **asdict(artifact.figures), path=artifact.path
            )
    return list(rows.values())


def kernels_of_script(
    script: Path,
    arguments: Sequence[str],
    target: str,
    every: bool = False,
    json_path: Path | None = None,
) -> int:
    """Show the kernels of the plan with the most FLOPs, as a rule the training step.

    Args:
        script: a Python program.
        arguments: its `sys.argv[1:]`.
        target: a GPU, such as "sm_90" or "gfx942".
        every: show the kernels of every plan.
        json_path: file to write, or None.

    Returns:
        The exit status.
    """
    try:
        if target in ("cpu", "interpret", "opencl"):
            raise GivesUp(f"{target} is no GPU.", "Name one, such as --target sm_90 or gfx942.")
        planned = plan_script(script, arguments, target)
        rows = kernel_rows(planned.plans if every else [planned.largest])
    except GivesUp as error:
        return fail("kernels", error.what, error.hint)
    except TgradError as error:
        return fail("kernels", error.what, error.hint)
    print(text_of_rows(rows, backend_by_name(target).name))
    if json_path is not None:
        data = {"target": target, "kernels": [asdict(r) for r in rows]}
        reason = write_text(json_path, json.dumps(data, indent=1) + "\n")
        if reason:
            return fail("kernels", reason, "Name another file.")
    return 0


def text_of_rows(rows: Sequence[KernelRow], target: str) -> str:
    """A table, and below it what is not as it should be."""
    header = (
        "kernel", "line", "launches", "registers", "spills", "shared", "widest load",
        "async copies", "matrix instruction",
    )  # fmt: skip
    cells = [header, *(_cells(r) for r in rows)]
    widths = [max(len(c[i]) for c in cells) for i in range(len(header))]
    lines = []
    for row in cells:
        aligned = [
            cell.rjust(w) if 2 <= i < 8 else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(aligned).rstrip())
    spilling = [r.name for r in rows if r.spills]
    lines.append(f"{len(rows)} kernels, {sum(r.launches for r in rows)} launches for {target}")
    if spilling:
        lines.append("registers are spilled by: " + ", ".join(spilling))
    return "\n".join(lines)


def _cells(row: KernelRow) -> tuple[str, ...]:
    def number(value: int | None) -> str:
        return "?" if value is None else f"{value:,}"

    figures = (row.registers, row.spills, row.shared, row.widest_load, row.async_copies)
    matrix = row.matrix_instruction or "-"
    return (row.name, row.line, number(row.launches), *map(number, figures), matrix)
