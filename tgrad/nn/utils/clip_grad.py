"""Limits on gradients.

In: parameters. Out: norms, lazy. Invariant: nothing is read on the host that nobody asks for, so
clipping is part of the plan of the step. Source: https://docs.pytorch.org/docs/stable/nn.html#utilities
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import reduce

from tgrad.creation import zeros
from tgrad.device import Device
from tgrad.errors import GradientError
from tgrad.grad_mode import no_grad
from tgrad.methods.conversion import moved_later
from tgrad.repeating import of_tensors
from tgrad.tensor import Tensor, labelled

FAN_IN = 28
"""Scalars joined at once: as many as one kernel reads, so that each group is one."""


def _gradients(parameters: Iterable[Tensor] | Tensor) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in given if p.grad is not None]


def _joined(parts: list[Tensor], join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """All parts as one, in groups of equal size, so that the kernels of the groups are alike."""
    while len(parts) > 1:
        groups = [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]
        parts = [reduce(join, group) for group in groups]
    return parts[0]


@labelled("get_total_norm")
def get_total_norm(
    tensors: Iterable[Tensor] | Tensor,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all elements of all tensors (0-d), on the device of the first.

    Args:
        norm_type: 2, another positive number, or inf.
        error_if_nonfinite: whether a norm that is infinite or NaN raises, which reads it: not
            in a compiled function.

    Raises:
        GradientError: the norm is not finite, and `error_if_nonfinite`.
    """
    found = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not found:
        return zeros(())
    total = _norm_of_tensors(found, norm_type)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise GradientError(
            f"the norm of order {norm_type} of the gradients is {total.item()}.",
            "Leave error_if_nonfinite out to scale them by it.",
        )
    return total


def _norm_of_tensors(found: Sequence[Tensor], norm_type: float) -> Tensor:
    """The norm of all, on the device of the first."""
    parts: list[Tensor] = []
    for group in _by_device(found).values():
        parts += of_tensors(lambda *t: [_norm(t, norm_type)], ("norm", repr(norm_type)), group)
    if len(parts) == 1:
        return parts[0]
    return _norm([moved_later(part, parts[0].device) for part in parts], norm_type)


def _by_device(tensors: Iterable[Tensor]) -> dict[Device, list[Tensor]]:
    groups: dict[Device, list[Tensor]] = {}
    for t in tensors:
        groups.setdefault(t.device, []).append(t)
    return groups


def _norm(tensors: Sequence[Tensor], norm_type: float) -> Tensor:
    wide = [g.to(g.dtype.accumulator) for g in tensors]
    if norm_type == math.inf:
        return _joined([g.abs().amax() for g in wide], Tensor.maximum)
    total = _joined([(g.abs() ** norm_type).sum() for g in wide], Tensor.add)
    return total ** (1.0 / norm_type)


@labelled("clip_grads_with_norm")
def clip_grads_with_norm_(
    parameters: Iterable[Tensor] | Tensor,
    max_norm: float,
    total_norm: Tensor,
    foreach: bool | None = None,
) -> None:
    """Scale the gradients by max_norm / total_norm, where that is below 1."""
    with no_grad():
        scale = (max_norm / (total_norm + 1e-6)).minimum(1.0)
        for device, found in _by_device(_gradients(parameters)).items():
            here = moved_later(scale, device)
            scaled = of_tensors(lambda s, *given: [g * s for g in given], "scaled", (here, *found))
            for g, new in zip(found, scaled):
                g._assign(new)


@labelled("clip_grad_norm")
def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients so that their norm, taken together, is at most max_norm.

    Args:
        norm_type: 2, another positive number, or inf.
        error_if_nonfinite: whether a norm that is infinite or NaN raises, which reads it: not
            in a compiled function.

    Returns:
        The norm before (0-d), on the device of the first gradient.

    Raises:
        GradientError: the norm is not finite, and `error_if_nonfinite`.
    """
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    with no_grad():
        norm = get_total_norm(_gradients(given), norm_type, error_if_nonfinite)
    clip_grads_with_norm_(given, max_norm, norm)
    return norm


def clip_grad_norm(
    parameters: Iterable[Tensor] | Tensor,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """`clip_grad_norm_`: its older name."""
    warnings.warn("clip_grad_norm is now clip_grad_norm_.", FutureWarning, stacklevel=2)
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


@labelled("clip_grad_value")
def clip_grad_value_(
    parameters: Iterable[Tensor] | Tensor, clip_value: float, foreach: bool | None = None
) -> None:
    """Limit each element of the gradients to [-clip_value, clip_value]."""
    with no_grad():
        for g in _gradients(parameters):
            g._assign(g.clamp(-clip_value, clip_value))
