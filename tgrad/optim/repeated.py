"""Updates by templates: most steps update the parameters as the step before did.

In: an optimizer's `update`, and what it is given. Out: the new value and state. Invariant: the
graph is the one that `update` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tgrad.repeating import of_tensors
from tgrad.tensor import Tensor

if TYPE_CHECKING:
    from tgrad.optim.optimizer import Group, Update

_PLAIN = (bool, int, float, str, type(None))


class NotStartedError(Exception):
    """An update asks for state that its parameter does not have yet."""


class _Started(dict[str, Tensor]):
    """The state of a parameter that has had an update."""

    def get(self, name: str, default: Any = None) -> Tensor:
        return self[name]

    def __missing__(self, name: str) -> Tensor:
        raise NotStartedError(name)


@dataclass(frozen=True)
class Pattern:
    """What the updates of a group have in common.

    Attributes:
        key: all that they depend on beside tensors.
        moving: names of settings that are tensors in them.
    """

    key: tuple[Any, ...]
    moving: tuple[str, ...]


def pattern_of(optimizer: type, group: Mapping[str, Any], moving: set[str]) -> Pattern | None:
    """The pattern of a group; None where its settings are not all plain values.

    Args:
        optimizer: whose update it is.
        group: with its settings.
        moving: names of those that move.
    """
    settings = {name: value for name, value in group.items() if name != "params"}
    if "betas" in settings:
        settings["beta1"], settings["beta2"] = settings.pop("betas")
    if not all(map(_is_plain, settings.values())):
        return None
    # what moves may choose by being 0, as a momentum does
    fixed = [(name, bool(v) if name in moving else v) for name, v in settings.items()]
    return Pattern((optimizer, repr(fixed)), tuple(sorted(moving & settings.keys())))


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return type(value) in _PLAIN


@dataclass(frozen=True)
class _Given:
    """What an update is given.

    Attributes:
        update: of one parameter.
        held: its state by name, but for the count.
        operands: all tensors in it, as `_result_of` takes them.
    """

    update: Update
    held: dict[str, Tensor]
    operands: tuple[Tensor, ...]

    @staticmethod
    def of(u: Update, pattern: Pattern) -> _Given:
        held = {n: t for n, t in u.state.items() if n != "step" and isinstance(t, Tensor)}
        moving = map(u.setting, pattern.moving)
        state = (t._without_history() for t in held.values())
        return _Given(u, held, (u.value, u.grad, u.step, *moving, *state))

    def batch(self) -> Hashable:
        """Equal for updates that have the same template, or none."""
        device = self.update.param.device
        is_usual = all(t._node.device is device for t in self.operands)
        return (device, is_usual, *self.held)


def repeated(
    update: Callable[[Update, Group], Tensor], updates: Sequence[Update], group: Group,
    pattern: Pattern,
) -> list[Tensor | None]:  # fmt: skip
    """What `update(u, group)` gives for each; None where that is to be called, which starts state
    or may do so."""
    found: list[Tensor | None] = [None] * len(updates)
    batches: dict[Hashable, list[int]] = {}
    given = [_Given.of(u, pattern) for u in updates]
    for i, g in enumerate(given):
        batches.setdefault(g.batch(), []).append(i)
    for numbers in batches.values():
        with suppress(NotStartedError):
            values = _of_batch(update, [given[i] for i in numbers], group, pattern)
            for i, value in zip(numbers, values):
                found[i] = value
    return found


def _of_batch(
    update: Callable[[Update, Group], Tensor], given: Sequence[_Given], group: Group,
    pattern: Pattern,
) -> list[Tensor]:  # fmt: skip
    """The new values of parameters with state of the same names.

    Raises:
        NotStartedError: an update starts state; nothing has changed.
    """
    tensors: dict[Hashable, Tensor] = {}  # by their nodes
    for g in given:
        tensors.update((t._node, t) for t in g.operands)
    number = {n: i for i, n in enumerate(tensors)}
    places = [[number[t._node] for t in g.operands] for g in given]

    def results(*operands: Tensor) -> list[Tensor | None]:
        made: list[Tensor | None] = []
        for g, own in zip(given, places):
            made += _result_of(update, g, [operands[i] for i in own], group, pattern)
        return made

    kinds = [(g.update.param.dtype, g.update.param.shape, *p) for g, p in zip(given, places)]
    key = (*pattern.key, *given[0].held, *kinds)
    made = iter(of_tensors(results, key, [*tensors.values()], is_deferred=True))
    values = []
    for g in given:
        values.append(next(made))
        kept = zip(g.held, made)
        g.update.new.update((name, t) for name, t in kept if t is not None)
    return values


def _result_of(
    update: Callable[[Update, Group], Tensor], given: _Given, operands: Sequence[Tensor],
    group: Group, pattern: Pattern,
) -> list[Tensor | None]:  # fmt: skip
    """A parameter's new value and state, of its operands or of stand-ins for them.

    Raises:
        NotStartedError: the update starts state.
    """
    u, held = given.update, given.held
    value, grad, step, *others = operands
    moving = dict(zip(pattern.moving, others))
    inner = replace(
        u, value=value, grad=grad, step=step, shared={}, new={},
        state=_Started(zip(held, others[len(moving) :])),
        setting=lambda name: moving[name] if name in moving else u.setting(name),
    )  # fmt: skip
    return [update(inner, group), *map(inner.new.get, held)]
