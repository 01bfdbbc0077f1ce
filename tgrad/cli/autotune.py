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
from fnmatch import fnmatchcase
from pathlib import Path

from tgrad.autotuning.plans import tune_graphs
from tgrad.autotuning.rank import rank
from tgrad.autotuning.session import Request, Session, share_budget, subjects_of
from tgrad.backend import Backend, backend_by_name, backend_of
from tgrad.cli.autotune_progress import Journal, Lines, Listeners, Table, summary_of
from tgrad.cli.planned import GivesUp, plan_script
from tgrad.cli.script import fail, write_text
from tgrad.device import Device
from tgrad.errors import TgradError
from tgrad.runtime.plan import Plan
from tgrad.settings import settings
from tgrad.tune.exchange import text_of
from tgrad.tune.store import Store, StoreError

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


_NAMED = 4
"""Names of kernels in an error."""
_AMPLE_SECONDS = 1e6


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
    if planned.stopped:
        print(f"{script} raised {planned.stopped}; what it computed before is tuned.")
    reason = _fits_nothing(planned.plans, request.kernels)
    if reason:
        return fail("autotune", reason, "Quote the pattern; `tgrad explain SCRIPT` lists names.")
    try:
        journal = None if asked.log is None else Journal(asked.log)
    except OSError as error:
        reason = f"{asked.log} cannot be written: {error.strerror}."
        return fail("autotune", reason, "Name another file.")
    with ExitStack() as stack:
        screen: Table | Lines = Table(request.budget) if sys.stdout.isatty() else Lines()
        stack.enter_context(screen)
        listeners = Listeners([screen])
        status = 0
        try:
            if journal is not None:
                listeners.all.append(stack.enter_context(journal))
            session = stack.enter_context(Session(backend, request, settings, listeners))
            if asked.output is not None:
                return _rank(session, planned.plans, asked.output)
            plans, spent = tune_graphs(session, planned.graphs)
            session.run(plans, spent=spent)
        except TgradError as error:
            return fail("autotune", error.what, error.hint)
        except StoreError as error:
            return fail("autotune", *str(error).split("\n  ", 1))
        except KeyboardInterrupt:
            status = INTERRUPTED
    if not (listeners.records or listeners.choices or status):
        if any(s.trials for s in listeners.planned_subjects):
            return fail("autotune", "No kernel could be measured.", "See the lines above.")
        return _nothing(session, planned.plans)
    print(summary_of(listeners, Store(settings.cache_dir).path, interrupted=status != 0))
    return status


def _fits_nothing(plans: Sequence[Plan], pattern: str) -> str:
    """That no kernel has such a name, in words; "" if one has."""
    names = list(dict.fromkeys(k.name for plan in plans for k in plan.kernels))
    if not names or any(fnmatchcase(name, pattern) for name in names):
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"--kernels {pattern!r} fits none of {', '.join(names[:_NAMED])}{more}."


def _nothing(session: Session, plans: Sequence[Plan]) -> int:
    """Why there was nothing to try."""
    request = session.request
    subjects = subjects_of(plans, session.backend, request.kernels)
    if not share_budget(subjects, session.backend, _AMPLE_SECONDS, session.jobs):
        print("nothing to tune: no kernel leaves a choice")
        return 0
    what = f"{request.budget:g} s are too little for the first kernel."
    return fail("autotune", what, "Give it more, such as --budget 30s.")


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
