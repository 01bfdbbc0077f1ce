"""Whether training steps are right on a device, and which kernel is wrong where one is not.

In: keys of steps of the GPU table, a device. Out: the losses of the first calls beside PyTorch's;
where they differ, the kernels that do; an exit status. Invariant: the step runs in two ways from
one initial state: as users run it, which on a GPU is a graph from the second call on, and kernel by
kernel. A wrong first way with a right second one is not the kernels' fault.

    python -m bench confirm                                  step_gpt2 and step_resnet50 on cuda
    python -m bench confirm step_gpt2 --check always --all   every launch, whatever the losses
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.case import Inputs, StepCase, batch_of, error_of
from bench.cases_gpu import whole_steps
from bench.peers.tgrad import compiled_step, stored
from tgrad.checking import Checker, data_of, text_of
from tgrad.runtime.plan import Plan
from tgrad.runtime.watch import watching

DEFAULT = ("step_gpt2", "step_resnet50")
CALLS = 4


class Launches:
    """A watcher that looks at nothing: plans run kernel by kernel while it is there."""

    def watch(
        self, plan: Plan, step: int, memories: Sequence[Any], launch: Callable[[], None]
    ) -> None:
        launch()


@dataclass(frozen=True)
class Confirmed:
    """A step that ran.

    Attributes:
        key: of the case.
        losses: of the first calls, by way: "reference", "torch", "whole", "launches".
        errors: of the ways from the reference.
        tolerance: of the case.
        checked: rows of `tgrad check`; none where nothing was checked.
        wrong: names of the kernels that are wrong.
    """

    key: str
    losses: dict[str, list[float]]
    errors: dict[str, float]
    tolerance: float
    checked: list[dict[str, Any]]
    wrong: list[str]

    @property
    def is_right(self) -> bool:
        return not self.wrong and all(
            self.errors[way] <= self.tolerance for way in ("whole", "launches")
        )


def confirm(
    keys: Sequence[str],
    device: str,
    sizes: str,
    check: str,
    every: bool,
    say: Callable[[str], None],
    path: Path | None = None,
) -> bool:
    """Run the steps; whether all are right.

    Args:
        check: "auto" to check kernels where losses differ; "always"; "never".
        every: check every launch, not each different kernel once.
        path: a JSON file, written after each step again.
    """
    cases = {c.key: c for c in whole_steps(sizes)}
    done: list[Confirmed] = []
    for key in keys:
        found = confirm_step(cases[key], device, check, every, say)
        done.append(found)
        say(f"{key}: {'right' if found.is_right else 'WRONG'}")
        if path is not None:
            path.write_text(json.dumps([vars(x) for x in done], indent=1) + "\n")
    return all(x.is_right for x in done)


def confirm_step(
    case: StepCase, device: str, check: str, every: bool, say: Callable[[str], None]
) -> Confirmed:
    """One step, in all ways."""
    arrays = case.arrays()
    calls = max(CALLS, case.checked_calls)
    losses = {
        "reference": losses_of_torch(case, arrays, device, "float32", calls),
        "torch": losses_of_torch(case, arrays, device, "", calls),
        "whole": losses_of(case, arrays, device, calls, nullcontext()),
        "launches": losses_of(case, arrays, device, calls, watching(Launches())),
    }
    count = case.checked_calls
    want = [np.array(losses["reference"][:count])]
    errors = {way: error_of([np.array(x[:count])], want) for way, x in losses.items()}
    for way, values in losses.items():
        say(f"{case.key} {way:>9}: {' '.join(f'{x:.5f}' for x in values)}  {errors[way]:.1e}")
    is_right = all(errors[way] <= case.tolerance for way in ("whole", "launches"))
    if errors["whole"] > case.tolerance >= errors["launches"]:
        say(f"{case.key}: kernel by kernel it is right: the replay is wrong")
    checker = Checker(every=every)
    if check == "always" or (check == "auto" and not is_right):
        losses_of(case, arrays, device, 2, watching(checker))
        say(text_of(checker.launches))
    wrong = [x.kernel.name for x in checker.launches if not x.is_right]
    rows = data_of(checker.launches)
    return Confirmed(case.key, losses, errors, case.tolerance, rows, wrong)


def losses_of(
    case: StepCase, arrays: Inputs, device: str, calls: int, scope: AbstractContextManager[Any]
) -> list[float]:
    """The losses of the first calls of a step, compiled, from its initial state."""
    _, step = compiled_step(case, arrays, device)
    inputs, targets = (stored(a, case.dtype, device) for a in batch_of(arrays))
    with scope:
        return [float(step(inputs, targets).item()) for _ in range(calls)]


def losses_of_torch(
    case: StepCase, arrays: Inputs, device: str, option: str, calls: int
) -> list[float]:
    """PyTorch's, of a peer with this option."""
    from bench.peers.torch import make

    peer = make(option, device)
    loaded = peer.load(case, arrays)
    return [float(loaded.read(loaded.calls[0]())[0].reshape(-1)[0]) for _ in range(calls)]
