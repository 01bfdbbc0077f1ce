"""Weights divided by their largest singular value.

In: a module. Out: the module, whose weight is W / σ. Invariant: PyTorch's names, `weight_orig`,
`weight_u` and `weight_v`; the vectors u and v are buffers, which each forward of a module in
training moves by steps of the power method, in place. Source:
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.spectral_norm.html
"""

from __future__ import annotations

from typing import Any, TypeVar

from tgrad.errors import ShapeError
from tgrad.grad_mode import no_grad
from tgrad.nn.functional import normalize
from tgrad.nn.module import Module
from tgrad.nn.parameter import mark_fresh
from tgrad.nn.utils.derived import DerivedWeight, axis_of_outputs
from tgrad.random import randn
from tgrad.tensor import Tensor, labelled
from tgrad.tracing import tracer

T = TypeVar("T", bound=Module)


def check_iterations(n_power_iterations: int) -> None:
    """Raise unless there is a step to take."""
    if n_power_iterations < 1:
        raise ShapeError(
            f"spectral_norm: n_power_iterations={n_power_iterations}.", "It is at least 1."
        )


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    """(size of axis `dim`, all others)"""
    return weight.movedim(dim, 0).flatten(1)


def random_unit(size: int, like: Tensor, eps: float) -> Tensor:
    """A random vector of length 1, for a buffer."""
    vector = normalize(randn(size, dtype=like.dtype, device=like.device), dim=0, eps=eps)
    mark_fresh(vector)
    return vector


@labelled("spectral_norm")
def step_of(matrix: Tensor, vector: Tensor, eps: float) -> Tensor:
    """W x / ‖W x‖"""
    return normalize(matrix.mv(vector), dim=0, eps=eps)


@labelled("spectral_norm")
def over_sigma(weight: Tensor, matrix: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """W / (uᵀ W v)"""
    return weight / u.dot(matrix.mv(v))


class SpectralNorm(DerivedWeight):
    """The rule of an attribute that is W / σ, and the hook that moves u and v before a forward.

    Args:
        name: of the attribute.
        n_power_iterations: steps before each forward.
        dim: the axis that is the matrix's first.
        eps: the least length that a vector is divided by.
    """

    function, parts = "spectral_norm", ("orig", "u", "v")

    def __init__(self, name: str, n_power_iterations: int, dim: int, eps: float):
        super().__init__(name)
        check_iterations(n_power_iterations)
        self.n_power_iterations, self.dim, self.eps = n_power_iterations, dim, eps
        self.has_run = False

    def __call__(self, module: Module, args: Any) -> None:
        self.has_run = True
        if not module.training:
            return
        weight, u, v = self.held(module)
        with no_grad():
            matrix = as_matrix(weight, self.dim)
            for _ in range(self.n_power_iterations):
                v.copy_(step_of(matrix.t(), u, self.eps))
                u.copy_(step_of(matrix, v, self.eps))

    def read(self, module: Module) -> Tensor:
        """W / σ; before the first forward W, so that what initialises the weight reaches it."""
        if self.has_run:
            return self.value(module)
        trace = tracer()
        if trace is not None:
            trace.refuse(f"{self.name!r}, of spectral_norm, is read before the first forward")
        return self.held(module)[0].detach()

    def value(self, module: Module) -> Tensor:
        """W / σ"""
        weight, u, v = self.held(module)
        return over_sigma(weight, as_matrix(weight, self.dim), u, v)


def spectral_norm(
    module: T,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> T:
    """Replace a parameter W by W / σ, its largest singular value, found by the power method.

    PyTorch computes the weight before each forward and keeps it until the next; here it is computed
    whenever it is read. `tgrad.nn.utils.parametrizations.spectral_norm` is the newer form.

    Args:
        module: has the parameter; afterwards `name_orig`, and the buffers `name_u` and `name_v`.
        name: of the parameter.
        n_power_iterations: steps before each forward of a module in training.
        eps: the least length that a vector is divided by.
        dim: the axis of the outputs: 1 for transposed convolutions, else 0.

    Returns:
        The module.

    Raises:
        ShapeError: it has no such parameter; no steps.
        UnsupportedError: the parameter is computed already.

    >>> import tgrad
    >>> layer = tgrad.nn.utils.spectral_norm(tgrad.nn.Linear(3, 2))
    >>> list(layer.state_dict())
    ['bias', 'weight_orig', 'weight_u', 'weight_v']
    """
    rule = SpectralNorm(
        name, n_power_iterations, axis_of_outputs(module) if dim is None else dim, eps
    )
    weight = rule.take_over(module)
    rows, columns = as_matrix(weight, rule.dim).shape
    module._register_derived(name, rule)
    module.register_parameter(f"{name}_orig", weight)
    module.register_buffer(f"{name}_u", random_unit(rows, weight, eps))
    module.register_buffer(f"{name}_v", random_unit(columns, weight, eps))
    module.register_forward_pre_hook(rule)
    return module


def remove_spectral_norm(module: T, name: str = "weight") -> T:
    """Make the weight that `spectral_norm` computes a parameter again.

    Raises:
        ShapeError: `spectral_norm` was not called on it.
    """
    rule = SpectralNorm.give_back(module, name)
    hooks = module._forward_pre_hooks
    hooks.pop(next(number for number, (hook, _) in hooks.items() if hook is rule))
    return module
