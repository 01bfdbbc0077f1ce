"""`tgrad explain SCRIPT`: run a program and show the plans that it made.

In: a script and its arguments. Out: a table on standard output, JSON in a file, an exit status.
Invariant: the script runs as `python SCRIPT ARGUMENTS` would run it.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tgrad.cli.table import print_plan
from tgrad.errors import TgradError
from tgrad.runtime.plan import record_plans


def explain_script(
    script: Path,
    arguments: Sequence[str] = (),
    source: bool = False,
    every: bool = False,
    json_path: Path | None = None,
) -> int:
    """Run the script, then print the plan with the most FLOPs, as a rule the training step.

    Args:
        script: a Python program.
        arguments: its `sys.argv[1:]`.
        source: print the generated code after the table.
        every: print every plan, in the order in which they were made.
        json_path: where to write the plan as JSON; a list of plans with `every`.

    Returns:
        The exit status: 0, or 1 where the script failed or made no plan.
    """
    if not script.is_file():
        return _fail(f"{script} is not a file.", "Name the Python program to run.")
    with record_plans() as plans:
        try:
            status = _run(script, arguments)
        except TgradError as error:
            return _fail(f"{script} stopped.", str(error))
    if status:
        return _fail(f"{script} stopped with exit status {status}.", "See its output above.")
    if not plans:
        return _fail(
            f"{script} made no plan: nothing was computed.",
            "Read a result, for example with .item() or .numpy(), so that there is work to do.",
        )
    shown = plans if every else [max(plans, key=lambda plan: plan.flops)]
    for plan in shown:
        which = f"plan {plans.index(plan) + 1} of {len(plans)}"
        print(f"\n{which} on {plan.device}" + ("" if every else ", the one with the most FLOPs"))
        print_plan(plan, source)
    if json_path is not None:
        data = [plan.to_json() for plan in shown] if every else shown[0].to_json()
        try:
            json_path.write_text(json.dumps(data, indent=1) + "\n")
        except OSError as error:
            return _fail(f"{json_path} cannot be written: {error.strerror}.", "Name another file.")
    return 0


def _run(script: Path, arguments: Sequence[str]) -> int:
    """The exit status of the script."""
    with _arguments([str(script), *arguments]), _first_on_path(str(script.resolve().parent)):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as exit_:
            if isinstance(exit_.code, str):
                print(exit_.code, file=sys.stderr)
                return 1
            return int(exit_.code or 0)
    return 0


@contextmanager
def _arguments(values: list[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = values
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _first_on_path(directory: str) -> Iterator[None]:
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        sys.path.remove(directory)


def _fail(what: str, hint: str) -> int:
    print(f"tgrad explain: {what}\n  {hint}", file=sys.stderr)
    return 1
