"""Weights divided by their largest singular value.

In: a module. Out: the module, whose weight is W / σ. Invariant: PyTorch's names, `weight_orig`,
`weight_u` and `weight_v`; the vectors u and v are buffers, which each forward of a module in
training moves by steps of the power method, in place. Source:
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.spectral_norm.html
"""

from __future__ import annotations

from typing import Any, TypeVar

from tgrad.errors import ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.nn.functional import normalize
from tgrad.nn.module import Module
from tgrad.nn.modules.convolution import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from tgrad.nn.parameter import Parameter, mark_fresh
from tgrad.nn.utils.weight_norm import taken_parameter
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


class SpectralNorm:
    """The rule of an attribute that is W / σ, and the hook that moves u and v before a forward.

    Args:
        name: of the attribute.
        n_power_iterations: steps before each forward.
        dim: the axis that is the matrix's first.
        eps: the least length that a vector is divided by.
    """

    def __init__(self, name: str, n_power_iterations: int, dim: int, eps: float):
        check_iterations(n_power_iterations)
        self.name, self.n_power_iterations, self.dim, self.eps = name, n_power_iterations, dim, eps
        self.has_run = False

    def parts(self, module: Module) -> tuple[Tensor, Tensor, Tensor]:
        """W, u and v."""
        orig, u, v = (getattr(module, f"{self.name}_{part}") for part in ("orig", "u", "v"))
        return orig, u, v

    def __call__(self, module: Module, args: Any) -> None:
        self.has_run = True
        if not module.training:
            return
        weight, u, v = self.parts(module)
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
        return self.parts(module)[0].detach()

    def value(self, module: Module) -> Tensor:
        """W / σ"""
        weight, u, v = self.parts(module)
        return over_sigma(weight, as_matrix(weight, self.dim), u, v)

    def write(self, module: Module, value: Any) -> None:
        """Refused: it is a result."""
        raise UnsupportedError(
            f"{type(module).__name__}.{self.name} is set, which spectral_norm computes.",
            f"Set {self.name}_orig, or call remove_spectral_norm first.",
        )


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
    if dim is None:
        dim = 1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)) else 0
    rule = SpectralNorm(name, n_power_iterations, dim, eps)
    weight = taken_parameter("spectral_norm", module, name)
    rows, columns = as_matrix(weight, dim).shape
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
    rule = module._derived.get(name)
    if not isinstance(rule, SpectralNorm):
        raise ShapeError(
            f"remove_spectral_norm: {name!r} of {type(module).__name__} has none.",
            "Call spectral_norm first.",
        )
    with no_grad():
        weight = rule.value(module)
    for part in (name, f"{name}_u", f"{name}_v", f"{name}_orig"):
        delattr(module, part)
    hooks = module._forward_pre_hooks
    hooks.pop(next(number for number, (hook, _) in hooks.items() if hook is rule))
    module.register_parameter(name, Parameter(weight))
    return module
