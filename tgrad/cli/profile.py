"""`tgrad profile SCRIPT`: run a program and show what its kernels took, beside the prediction.

In: a script and its arguments. Out: a table on standard output, a trace in a file, an exit status.
Invariant: the script really runs, as `python SCRIPT ARGUMENTS` would run it; each launch is
measured by itself, so plans are not replayed as one call meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tgrad.cli.script import fail, run_script, write_text
from tgrad.errors import TgradError
from tgrad.runtime.profile import profile_text, profiling, trace_of


def profile_script(
    script: Path,
    arguments: Sequence[str] = (),
    every: bool = False,
    trace_path: Path | None = None,
) -> int:
    """Run the script, then print the plan with the most work: predicted time by runs.

    Args:
        script: a Python program.
        arguments: its `sys.argv[1:]`.
        every: print every plan, in the order in which they first ran.
        trace_path: where to write the launches as a Chrome or Perfetto trace.

    Returns:
        The exit status: 0, or 1 where the script failed or launched nothing.
    """
    if not script.is_file():
        return fail("profile", f"{script} is not a file.", "Name the Python program to run.")
    with profiling() as profile:
        try:
            status = run_script(script, arguments)
        except TgradError as error:
            return fail("profile", f"{script} stopped.", str(error))
    plans = profile.plans()
    if not plans:
        hint = "Read a result, for example with .item() or .numpy(), so that there is work to do."
        return fail("profile", f"{script} launched no kernel.", hint)
    shown = plans if every else (max(plans, key=lambda p: p.work),)
    for plan in shown:
        which = f"plan {plans.index(plan) + 1} of {len(plans)} on {plan.report.plan.device}"
        print(f"\n{which}" + ("" if every else ", the one with the most work"))
        print(profile_text(plan))
    if trace_path is not None:
        reason = write_text(trace_path, json.dumps(trace_of(profile)) + "\n")
        if reason:
            return fail("profile", reason, "Name another file.")
    if status:
        hint = "See its output above."
        return fail("profile", f"{script} stopped with exit status {status}.", hint)
    return 0
