"""`tgrad explain SCRIPT`: show the plans that a program makes, without running a kernel.

In: a script and its arguments. Out: a report on standard output, JSON or HTML in files, an exit
status. Invariant: without `really` no kernel runs and none is compiled for this machine; the script
itself runs as `python SCRIPT ARGUMENTS` would run it, up to the point where it is stopped.

Values that kernels would compute are zeros, so a loop would go on with wrong numbers. Therefore:
    1. after `most` plans the script is stopped, if that is given;
    2. else it is stopped at the first plan that holds an optimizer's step: the training step;
    3. else, having no optimizer, it runs to its end.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tgrad.backend import backend_by_name
from tgrad.cli.script import fail, run_script, write_text
from tgrad.cli.table import print_report
from tgrad.errors import DeviceError, TgradError
from tgrad.runtime.plan import Plan, record_plans
from tgrad.runtime.planning import planning
from tgrad.runtime.report import PlanReport, data_of, page_of, report_plan


class StopExplaining(BaseException):
    """Ends the script: what was asked for is known. No `except Exception` catches it."""


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
    if not script.is_file():
        return _fail(f"{script} is not a file.", "Name the Python program to run.")
    if asked.really and asked.target is not None:
        return _fail("--run and --target exclude each other.", "A target need not be there.")
    try:
        if asked.target is not None:
            backend_by_name(asked.target)
    except DeviceError as error:
        return _fail(error.what, error.hint)
    stopped = ""
    with record_plans() as plans:
        try:
            with _scope(asked, plans):
                status = run_script(script, arguments)
        except StopExplaining:
            status = 0
        except TgradError as error:
            return _fail(f"{script} stopped.", f"{error}{_advice(error, asked)}")
        except Exception as error:
            if asked.really or not plans:
                raise
            traceback.print_exc()
            status, stopped = 0, type(error).__name__
    if status:
        return _fail(f"{script} stopped with exit status {status}.", "See its output above.")
    if not plans:
        return _fail(
            f"{script} made no plan: nothing was computed.",
            "Read a result, for example with .item() or .numpy(), so that there is work to do.",
        )
    try:
        failed = _show(plans, asked)
    except TgradError as error:
        return _fail("the plan cannot be shown.", str(error))
    if stopped and not failed:
        hint = "Values are zeros while explaining; --run computes them."
        return _fail(f"{script} stopped with {stopped}; its plans until then are above.", hint)
    return failed


def _advice(error: TgradError, asked: Request) -> str:
    if isinstance(error, DeviceError) and asked.target is None:
        return "\n  To plan for a GPU that is not here, name it: --target sm_90"
    return ""


@contextmanager
def _scope(asked: Request, plans: list[Plan]) -> Iterator[None]:
    """Nothing while really running; else plans are made, and the script is stopped by the rules.
    A plan that this process knows already is not made again, but it counts."""
    if asked.really:
        yield
        return

    def stop(plan: Plan) -> None:
        if all(plan is not known for known in plans):
            plans.append(plan)
        if len(plans) >= asked.most if asked.most is not None else is_training_step(plan):
            raise StopExplaining

    with planning(asked.target, stop):
        yield


def is_training_step(plan: Plan) -> bool:
    """Whether an optimizer made one of the plan's results."""
    from tgrad.optim import Optimizer

    classes: list[type] = [Optimizer]
    for each in classes:
        classes += each.__subclasses__()
    return not plan.labels.isdisjoint(c.__name__.lower() for c in classes)


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
    if asked.compiled and plan.target not in ("", "cpu", "interpret"):
        try:
            return report_plan(plan, asked.limit, compiled=True)
        except DeviceError as error:
            print(f"tgrad explain: not compiled. {error.what}\n  {error.hint}", file=sys.stderr)
    return report_plan(plan, asked.limit)


def _fail(what: str, hint: str) -> int:
    sys.stdout.flush()
    return fail("explain", what, hint)
