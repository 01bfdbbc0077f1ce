"""Parametrizations that PyTorch provides.

In: a module. Out: the module with one of its tensors parametrized, see `parametrize`. Source:
https://docs.pytorch.org/docs/stable/nn.html#utilities
"""

from __future__ import annotations

from typing import Any, TypeVar

from tgrad.errors import ShapeError
from tgrad.grad_mode import no_grad
from tgrad.nn.functional import normalize
from tgrad.nn.module import Module
from tgrad.nn.utils.derived import axis_of_outputs
from tgrad.nn.utils.orthogonal import orthogonal as orthogonal
from tgrad.nn.utils.parametrize import register_parametrization
from tgrad.nn.utils.spectral_norm import (
    as_matrix,
    check_iterations,
    over_sigma,
    random_unit,
    step_of,
)
from tgrad.nn.utils.weight_norm import norm_except_dim, scaled_direction
from tgrad.tensor import Tensor

T = TypeVar("T", bound=Module)

FIRST_STEPS = 15
"""Of the power method, before the first value."""


class _WeightNorm(Module):
    def __init__(self, dim: int | None = 0):
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return scaled_direction(weight_v, weight_g, self.dim)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module: T, name: str = "weight", dim: int | None = 0) -> T:
    """Replace a tensor by its length and its direction: weight = g v / ‖v‖.

    Args:
        module: has the tensor; g and v are `parametrizations.weight.original0` and `original1`.
            State of `tgrad.nn.utils.weight_norm`, under `weight_g` and `weight_v`, loads as well.
        name: of the tensor.
        dim: the axis of which each slice has a length of its own; None for one length.

    Returns:
        The module.

    >>> import tgrad
    >>> layer = tgrad.nn.utils.parametrizations.weight_norm(tgrad.nn.Linear(3, 2))
    >>> layer.parametrizations.weight.original0.shape
    (2, 1)
    """
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def rename(module: Module, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        old = [f"{prefix}{name}_g", f"{prefix}{name}_v"]
        if all(key in state_dict for key in old):
            for number, key in enumerate(old):
                new = f"{prefix}parametrizations.{name}.original{number}"
                state_dict[new] = state_dict.pop(key)

    module.register_load_state_dict_pre_hook(rename)
    return module


class _SpectralNorm(Module):
    def __init__(self, weight: Tensor, n_power_iterations: int, dim: int, eps: float):
        super().__init__()
        if not -weight.ndim <= dim < weight.ndim:
            raise ShapeError(
                f"spectral_norm: dim={dim} of shape {weight.shape}.", "Name one of its axes."
            )
        check_iterations(n_power_iterations)
        self.dim, self.eps = dim % weight.ndim, eps
        if weight.ndim == 1:
            return
        self.n_power_iterations = n_power_iterations
        with no_grad():
            matrix = as_matrix(weight, self.dim)
            self.register_buffer("_u", random_unit(matrix.shape[0], weight, eps))
            self.register_buffer("_v", random_unit(matrix.shape[1], weight, eps))
            self._iterate(matrix, FIRST_STEPS)

    def _iterate(self, matrix: Tensor, steps: int) -> None:
        """Move u and v by steps of the power method."""
        with no_grad():
            for _ in range(steps):
                self._u.copy_(step_of(matrix, self._v, self.eps))
                self._v.copy_(step_of(matrix.t(), self._u, self.eps))

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        return over_sigma(weight, matrix, self._u, self._v)

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(
    module: T,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> T:
    """Divide a tensor by its largest singular value, found by the power method.

    In training each reading of the tensor takes steps of the power method, on the buffers `_u` and
    `_v` of `parametrizations.weight[0]`; `parametrize.cached()` makes many readings one.

    Args:
        module: has the tensor.
        name: of the tensor.
        n_power_iterations: steps at each reading.
        eps: the least length that a vector is divided by.
        dim: the axis of the outputs: 1 for transposed convolutions, else 0.

    Returns:
        The module.

    Raises:
        ShapeError: it has no such tensor or axis; no steps.

    >>> import tgrad
    >>> layer = tgrad.nn.utils.parametrizations.spectral_norm(tgrad.nn.Linear(3, 2))
    >>> [name.removeprefix("parametrizations.weight.") for name in layer.state_dict()]
    ['bias', 'original', '0._u', '0._v']
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ShapeError(
            f"spectral_norm: {type(module).__name__} has no parameter or buffer {name!r}.",
            f"It has {', '.join([*module._parameters, *module._buffers])}.",
        )
    axis = axis_of_outputs(module) if dim is None else dim
    rule = _SpectralNorm(weight, n_power_iterations, axis, eps)
    return register_parametrization(module, name, rule)
