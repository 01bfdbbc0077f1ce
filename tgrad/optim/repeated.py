"""Updates by templates: most parameters have an update like that of another, or of a step before.

In: an optimizer's `update`, and what it is given. Out: the new value and state. Invariant: the
graph is the one that `update` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


def repeated(
    update: Callable[[Update, Group], Tensor], u: Update, group: Group, pattern: Pattern
) -> Tensor:
    """`update(u, group)`.

    Raises:
        NotStartedError: it starts state, and has changed nothing.
    """
    held = {n: t for n, t in u.state.items() if n != "step" and isinstance(t, Tensor)}
    moving = [u.setting(name) for name in pattern.moving]

    def results(
        value: Tensor, grad: Tensor, step: Tensor, *others: Tensor
    ) -> Sequence[Tensor | None]:
        given = dict(zip(pattern.moving, others))
        inner = replace(
            u, value=value, grad=grad, step=step, shared={}, new={},
            state=_Started(zip(held, others[len(moving) :])),
            setting=lambda name: given[name] if name in given else u.setting(name),
        )  # fmt: skip
        new = update(inner, group)
        return [new, *map(inner.new.get, held)]

    operands = (u.value, u.grad, u.step, *moving, *(t._without_history() for t in held.values()))
    key = (*pattern.key, *held, u.param.dtype, u.param.shape)
    new, *kept = of_tensors(results, key, operands)
    u.new.update((name, t) for name, t in zip(held, kept) if t is not None)
    result: Tensor = new
    return result
