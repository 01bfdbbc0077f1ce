"""What a trace does to the state of optimizers, those that programs write included.

In: the state before and after the function ran. Out: changes in place of the tensors that it held.
Invariant: what is held under a name by then is what was held there before, or the entry serves one
call alone, or the trace is refused.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tgrad.compiling.guards import freeze, shown
from tgrad.compiling.recorder import Recorder
from tgrad.errors import TraceError
from tgrad.grad_mode import no_grad
from tgrad.optim.optimizer import Optimizer
from tgrad.rollback import StateBefore
from tgrad.tensor import Tensor
from tgrad.tracing import tracing


class _Slot(NamedTuple):
    """A name of a parameter's state that holds another tensor than before."""

    state: dict[str, Any]
    name: str
    old: Tensor
    new: Tensor


class TracedState:
    """The state of one optimizer around a trace.

    Args:
        label: of the optimizer, for messages.
        optimizer: before the trace.
    """

    def __init__(self, label: str, optimizer: Optimizer):
        self.label = label
        self.before = StateBefore(optimizer.state)
        self.numbers = {
            (id(p), name): freeze(value)
            for p, kept in self.before.kept.items()
            for name, value in kept.items()
            if not isinstance(value, Tensor)
        }

    def tensors(self) -> list[Tensor]:
        """All that it holds now."""
        held = (v for state in self.before.state.values() for v in state.values())
        return [v for v in held if isinstance(v, Tensor)]

    def settle(self, recorder: Recorder) -> None:
        """Give tensors that others took the place of the values of those, and their place.

        Raises:
            TraceError: a number, or what is no tensor of the same shape, has changed.
        """
        self._check(recorder)
        slots = self._moved()
        taken = {id(s.old): s.new for s in slots}
        staying = {id(t) for t in self.tensors()} - {id(s.new) for s in slots}
        if any(taken[id(s.old)] is not s.new or id(s.old) in staying for s in slots):
            recorder.keep_once()
            return
        with tracing(recorder), no_grad():
            values = [s.new._without_history() for s in slots]
            for slot, value in zip(slots, values, strict=True):
                slot.old._assign(value)
                slot.state[slot.name] = slot.old

    def _moved(self) -> list[_Slot]:
        held = ((self.before.state[p], kept) for p, kept in self.before.kept.items())
        return [
            _Slot(state, name, old, state[name])
            for state, kept in held
            for name, old in kept.items()
            if isinstance(old, Tensor) and state[name] is not old
        ]

    def _check(self, recorder: Recorder) -> None:
        """Refuse what cannot be done again, and see whether there is state that needs a trace of
        its own."""
        for p, state in self.before.state.items():
            kept = self.before.kept.get(p, {})
            for name in [*kept, *(n for n in state if n not in kept)]:
                old, new = kept.get(name), state.get(name)
                if name not in kept:
                    if not isinstance(new, Tensor):
                        recorder.keep_once()
                elif isinstance(old, Tensor):
                    if new is not old and not _is_like(new, old):
                        self._refuse(name, freeze(old), freeze(new), recorder)
                elif freeze(new) != self.numbers[id(p), name]:
                    self._refuse(name, self.numbers[id(p), name], freeze(new), recorder)

    def _refuse(self, name: str, was: Any, now: Any, recorder: Recorder) -> None:
        raise TraceError(
            f"{self.label}.state[...][{name!r}] changes from {shown(was)} to {shown(now)} while "
            f"tgrad.compile traces {recorder.name!r}: replays would not change it.",
            "Make it a tensor of one shape and change that in place.",
            recorder.source,
        )


def _is_like(new: Any, old: Tensor) -> bool:
    is_tensor = isinstance(new, Tensor)
    return is_tensor and (new.shape, new.dtype, new.device) == (old.shape, old.dtype, old.device)
