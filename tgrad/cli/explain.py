"""`tgrad explain SCRIPT`: show the plans that a program makes, without running a kernel.

In: a script and its arguments. Out: a report on standard output, JSON or HTML in files, an exit
status. Invariant: without `really` no kernel runs, and where the script stops is what planned.py
says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tgrad.cli.planned import GivesUp, as_first_of, plan_script
from tgrad.cli.script import fail, write_text
from tgrad.cli.table import print_report
from tgrad.errors import DeviceError, TgradError
from tgrad.runtime.plan import Plan
from tgrad.runtime.report import PlanReport, data_of, page_of, report_plan


@dataclass(frozen=True)
class Request:
    """What to explain, and how.

    Attributes:
        target: what plans are made for, such as "sm_90"; None for the script's own devices.
        limit: bytes that a plan shall fit into, or None.
        most: plans after which the script is stopped, or None for the rules above.
        really: run the kernels too, to the script's end.
        every: show every plan, not only the one with the most FLOPs.
        source: print the generated code after the table.
        compiled: compile for the target, for registers, shared memory, spills.
        json_path, html_path: files to write, or None.
        processes: of which the script is the first, or None for as many as there are.
    """

    target: str | None = None
    limit: int | None = None
    most: int | None = None
    really: bool = False
    every: bool = False
    source: bool = False
    compiled: bool = True
    json_path: Path | None = None
    html_path: Path | None = None
    processes: int | None = None


def explain_script(
    script: Path, arguments: Sequence[str] = (), request: Request | None = None
) -> int:
    """Show the plan with the most FLOPs, as a rule the training step.

    Args:
        script: a Python program.
        arguments: its `sys.argv[1:]`.
        request: what to show.

    Returns:
        The exit status: 0, or 1 where the script failed or made no plan.
    """
    asked = request or Request()
    try:
        with as_first_of(asked.processes):
            planned = plan_script(script, arguments, asked.target, asked.most, asked.really)
    except GivesUp as error:
        return _fail(error.what, error.hint)
    try:
        failed = _show(planned.plans, asked)
    except TgradError as error:
        return _fail("the plan cannot be shown.", str(error))
    if planned.stopped and not failed:
        hint = "Values are zeros while explaining; --run computes them."
        what = f"{script} stopped with {planned.stopped}; its plans until then are above."
        return _fail(what, hint)
    return failed


def _show(plans: Sequence[Plan], asked: Request) -> int:
    shown = plans if asked.every else [max(plans, key=lambda plan: plan.flops)]
    reports: list[PlanReport] = []
    for plan in shown:
        reports.append(_report(plan, asked))
        place = plan.target if asked.target else str(plan.device)
        which = f"plan {list(plans).index(plan) + 1} of {len(plans)} for {place}"
        print(f"\n{which}" + ("" if asked.every else ", the one with the most FLOPs"))
        print_report(reports[-1], asked.source)
    largest = max(reports, key=lambda r: r.plan.flops)
    files = []
    if asked.json_path is not None:
        data = [data_of(r) for r in reports] if asked.every else data_of(largest)
        files.append((asked.json_path, json.dumps(data, indent=1) + "\n"))
    if asked.html_path is not None:
        files.append((asked.html_path, page_of(largest)))
    for path, content in files:
        reason = write_text(path, content)
        if reason:
            return _fail(reason, "Name another file.")
    return 0


def _report(plan: Plan, asked: Request) -> PlanReport:
    """With the figures of compiled kernels where the target is a GPU and Triton is installed."""
    if asked.compiled and plan.target not in ("", "cpu", "interpret", "opencl"):
        try:
            return report_plan(plan, asked.limit, compiled=True)
        except DeviceError as error:
            print(f"tgrad explain: not compiled. {error.what}\n  {error.hint}", file=sys.stderr)
    return report_plan(plan, asked.limit)


def _fail(what: str, hint: str) -> int:
    sys.stdout.flush()
    return fail("explain", what, hint)
