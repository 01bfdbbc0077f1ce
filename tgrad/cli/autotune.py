"""`tgrad autotune SCRIPT`: find quicker configurations for a program's kernels, ahead of time.

In: a script and its arguments, a budget. Out: choices in the store, a table on standard output, an
exit status. Invariant: the script is planned and not run; what was found is kept whatever ends the
session.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tgrad.autotuning.plans import tune_graphs
from tgrad.autotuning.rank import rank
from tgrad.autotuning.session import Request, Session
from tgrad.backend import Backend, backend_by_name, backend_of
from tgrad.cli.autotune_progress import Journal, Lines, Listeners, Table, summary_of
from tgrad.cli.planned import GivesUp, plan_script
from tgrad.cli.script import fail, write_text
from tgrad.device import Device
from tgrad.errors import TgradError
from tgrad.runtime.plan import Plan
from tgrad.settings import settings
from tgrad.tune.exchange import text_of
from tgrad.tune.store import StoreError

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


@dataclass(frozen=True)
class Asked:
    """The command line.

    Attributes:
        session: what to tune.
        log: file for JSON lines, or None.
        output: where ranked choices for an absent GPU go; None to measure.
    """

    session: Request = field(default_factory=Request)
    log: Path | None = None
    output: Path | None = None


def autotune_script(script: Path, arguments: Sequence[str], asked: Asked) -> int:
    """Tune the kernels of all plans that a script makes up to its first optimizer step.

    Returns:
        The exit status: 0, 1 where nothing could be tuned, 130 after Ctrl-C.
    """
    request = asked.session
    try:
        backend = _backend(request)
        planned = plan_script(script, arguments, backend.name)
    except GivesUp as error:
        return fail("autotune", error.what, error.hint)
    except TgradError as error:
        return fail("autotune", error.what, error.hint)
    with ExitStack() as stack:
        screen: Table | Lines = Table(request.budget) if sys.stdout.isatty() else Lines()
        stack.enter_context(screen)
        listeners = Listeners([screen])
        if asked.log is not None:
            try:
                listeners.all.append(stack.enter_context(Journal(asked.log)))
            except OSError as error:
                hint = "Name another file."
                return fail("autotune", f"{asked.log} cannot be written: {error.strerror}.", hint)
        session = stack.enter_context(Session(backend, request, settings, listeners))
        status = 0
        try:
            if asked.output is not None:
                return _rank(session, planned.plans, asked.output)
            plans, spent = tune_graphs(session, planned.graphs)
            session.run(plans, spent=spent)
        except StoreError as error:
            return fail("autotune", *str(error).split("\n  ", 1))
        except KeyboardInterrupt:
            status = INTERRUPTED
    print(summary_of(listeners, session.store.path, interrupted=status != 0))
    return status


def _rank(session: Session, plans: Sequence[Plan], output: Path) -> int:
    """Rank choices for a GPU that is not here, and write them."""
    records = rank(session, plans)
    if not records:
        return fail("autotune", "There is nothing to rank.", "No kernel has a choice.")
    reason = write_text(output, text_of(records))
    if reason:
        return fail("autotune", reason, "Name another file with --output.")
    print(
        f"{len(records)} kernels ranked for {session.place.device}, written to {output}; nothing "
        f"was measured.\nOn that machine: tgrad autotune import {output.name}, then tgrad autotune "
        "SCRIPT, which starts from them."
    )
    return 0


def _backend(request: Request) -> Backend:
    """What kernels are generated for."""
    if request.target:
        return backend_by_name(request.target)
    return backend_of(Device(request.device))
