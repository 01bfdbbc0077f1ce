"""`tgrad check SCRIPT`: run a program and compare each of its kernels with the CPU.

In: a script and its arguments. Out: the kernels that are wrong on standard output, a JSON file, an
exit status. Invariant: the script really runs, as `python SCRIPT ARGUMENTS` would run it, kernel by
kernel; a program whose results are wrong though no kernel is has another fault than its kernels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tgrad.checking import Checker, data_of, text_of
from tgrad.cli.planned import StopExplaining, is_training_step
from tgrad.cli.script import fail, run_script, write_text
from tgrad.errors import TgradError
from tgrad.runtime.plan import Plan
from tgrad.runtime.watch import watching


@dataclass(frozen=True)
class CheckRequest:
    """What `tgrad check` was asked for.

    Attributes:
        steps: training steps after which the script is stopped; 0 to let it run to its end.
        every: check all launches of a plan, not each different kernel once.
        repeat: how often a kernel runs on the same inputs.
        json_path: file to write, or None.
    """

    steps: int = 2
    every: bool = False
    repeat: int = 2
    json_path: Path | None = None


def check_script(
    script: Path, arguments: Sequence[str] = (), request: CheckRequest = CheckRequest()
) -> int:
    """Run the script and print what is wrong.

    Returns:
        The exit status: 0 where no kernel is wrong; 1 where one is, or the script failed or
        launched nothing.
    """
    if not script.is_file():
        return fail("check", f"{script} is not a file.", "Name the Python program to run.")
    done = 0

    def after(plan: Plan, runs: int) -> None:
        nonlocal done
        done += is_training_step(plan)
        if request.steps and done >= request.steps:
            raise StopExplaining

    checker, status = Checker(1, request.every, request.repeat, after), 0
    try:
        with watching(checker):
            status = run_script(script, arguments)
    except StopExplaining:
        pass
    except TgradError as error:
        print(text_of(checker.launches))
        return fail("check", f"{script} stopped.", str(error))
    if not checker.launches:
        hint = "Read a result, for example with .item() or .numpy(), so that there is work to do."
        return fail("check", f"{script} launched no kernel.", hint)
    print(text_of(checker.launches))
    if request.json_path is not None:
        data = {"launches": data_of(checker.launches)}
        reason = write_text(request.json_path, json.dumps(data, indent=1) + "\n")
        if reason:
            return fail("check", reason, "Name another file.")
    if status:
        hint = "See its output above."
        return fail("check", f"{script} stopped with exit status {status}.", hint)
    return int(any(not x.is_right for x in checker.launches))
