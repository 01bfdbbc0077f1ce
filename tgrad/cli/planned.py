"""The plans that a program makes, without running a kernel.

In: a script and its arguments. Out: its plans. Invariant: unless it shall really run, no kernel
runs and none is compiled for this machine; the script itself runs as `python SCRIPT ARGUMENTS`
would run it, up to the point where it is stopped.

Values that kernels would compute are zeros, so a loop would go on with wrong numbers. Therefore:
    1. after `most` plans the script is stopped, if that is given;
    2. else it is stopped at the first plan that holds an optimizer's step: the training step;
    3. else, having no optimizer, it runs to its end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tgrad.backend import backend_by_name
from tgrad.cli.script import print_traceback, run_script
from tgrad.errors import DeviceError, TgradError
from tgrad.runtime.plan import Plan, PlannedGraph, record_graphs, record_plans
from tgrad.runtime.planning import planning


class StopExplaining(BaseException):
    """Ends the script: what was asked for is known. No `except Exception` catches it."""


class GivesUp(Exception):
    """A script whose plans cannot be shown: what is wrong, and what to do."""

    def __init__(self, what: str, hint: str):
        super().__init__(what)
        self.what, self.hint = what, hint


@dataclass(frozen=True)
class Planned:
    """The plans of a script.

    Attributes:
        plans: at least one, in the order in which they were made.
        stopped: the name of the exception that ended the script, or "".
        graphs: what was planned, to be planned again.
    """

    plans: tuple[Plan, ...]
    stopped: str = ""
    graphs: tuple[PlannedGraph, ...] = ()

    @property
    def largest(self) -> Plan:
        """The plan with the most FLOPs, as a rule the training step."""
        return max(self.plans, key=lambda plan: plan.flops)


def plan_script(
    script: Path,
    arguments: Sequence[str] = (),
    target: str | None = None,
    most: int | None = None,
    really: bool = False,
) -> Planned:
    """Run a script until its plans are known.

    Args:
        script: a Python program.
        arguments: its `sys.argv[1:]`.
        target: what plans are made for, such as "sm_90"; None for the script's own devices.
        most: plans after which the script is stopped, or None for the rules above.
        really: run the kernels too, to the script's end.

    Raises:
        GivesUp: it failed, made no plan, or the target is unknown.
    """
    if not script.is_file():
        raise GivesUp(f"{script} is not a file.", "Name the Python program to run.")
    if really and target is not None:
        raise GivesUp("--run and --target exclude each other.", "A target need not be there.")
    try:
        if target is not None:
            backend_by_name(target)
    except DeviceError as error:
        raise GivesUp(error.what, error.hint) from None
    stopped = ""
    with record_plans() as plans, record_graphs() as graphs:
        try:
            with _scope(plans, target, most, really):
                status = run_script(script, arguments)
        except StopExplaining:
            status = 0
        except TgradError as error:
            raise GivesUp(f"{script} stopped.", f"{error}{_advice(error, target)}") from error
        except Exception as error:
            if really:
                raise
            print_traceback(script, error)
            status, stopped = 0, type(error).__name__
            if not plans:
                what = f"{script} raised {stopped} before it computed anything."
                raise GivesUp(what, "See the lines above; `python` should run it first.") from None
    if status:
        raise GivesUp(f"{script} stopped with exit status {status}.", "See its output above.")
    if not plans:
        raise GivesUp(
            f"{script} made no plan: nothing was computed.",
            "Read a result, for example with .item() or .numpy(), so that there is work to do.",
        )
    return Planned(tuple(plans), stopped, tuple(graphs))


@contextmanager
def as_first_of(processes: int | None) -> Iterator[None]:
    """Inside, the environment is what torchrun gives the first of so many processes; as it was for
    None."""
    if processes is None:
        yield
        return
    given = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": str(processes)}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _advice(error: TgradError, target: str | None) -> str:
    if isinstance(error, DeviceError) and target is None:
        return "\n  To plan for a GPU that is not here, name it: --target sm_90"
    return ""


@contextmanager
def _scope(plans: list[Plan], target: str | None, most: int | None, really: bool) -> Iterator[None]:
    """Nothing while really running; else plans are made, and the script is stopped by the rules.
    A plan that this process knows already is not made again, but it counts."""
    if really:
        yield
        return

    def stop(plan: Plan) -> None:
        if all(plan is not known for known in plans):
            plans.append(plan)
        if len(plans) >= most if most is not None else is_training_step(plan):
            raise StopExplaining

    with planning(target, stop):
        yield


def is_training_step(plan: Plan) -> bool:
    """Whether an optimizer made one of the plan's results."""
    from tgrad.optim import Optimizer

    classes: list[type] = [Optimizer]
    for each in classes:
        classes += each.__subclasses__()
    return not plan.labels.isdisjoint(c.__name__.lower() for c in classes)
