"""What PyTorch keeps in torch.nn.utils: limits on gradients, parameters as one vector.

In: parameters. Out: norms and vectors, lazy. Invariant: nothing is read on the host, so clipping is
part of the plan of the step. Source: https://docs.pytorch.org/docs/stable/nn.html#utilities
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tgrad.arguments import refuse
from tgrad.creation import zeros
from tgrad.grad_mode import no_grad
from tgrad.joining import cat
from tgrad.tensor import Tensor, labelled


def _gradients(parameters: Iterable[Tensor] | Tensor) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in given if p.grad is not None]


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
        error_if_nonfinite: not supported, since it would read the norm.

    Returns:
        The norm before (0-d).
    """
    refuse("clip_grad_norm_", error_if_nonfinite=error_if_nonfinite)
    found = _gradients(parameters)
    if not found:
        return zeros(())
    with no_grad():
        wide = [g.to(g.dtype.accumulator) for g in found]
        total: Tensor | None = None
        for g in wide:
            part = g.abs().amax() if norm_type == math.inf else (g.abs() ** norm_type).sum()
            if total is None:
                total = part
            else:
                total = total.maximum(part) if norm_type == math.inf else total + part
        assert total is not None
        norm = total if norm_type == math.inf else total ** (1.0 / norm_type)
        scale = (max_norm / (norm + 1e-6)).minimum(1.0)
        for g in found:
            g._assign(g * scale)
    return norm


@labelled("clip_grad_value")
def clip_grad_value_(
    parameters: Iterable[Tensor] | Tensor, clip_value: float, foreach: bool | None = None
) -> None:
    """Limit each element of the gradients to [-clip_value, clip_value]."""
    with no_grad():
        for g in _gradients(parameters):
            g._assign(g.clamp(-clip_value, clip_value))


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters, one after the other."""
    return cat([p.reshape(-1) for p in parameters])
