"""Weights as a length and a direction.

In: a module. Out: the module, whose weight is g v / ‖v‖ of two parameters. Invariant: PyTorch's
names, `weight_g` and `weight_v`; the weight is computed where it is read. Source:
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.weight_norm.html
"""

from __future__ import annotations

from typing import Any, TypeVar

from tgrad.errors import ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.linalg import vector_norm
from tgrad.nn.module import Module
from tgrad.nn.parameter import Parameter
from tgrad.tensor import Tensor, labelled

T = TypeVar("T", bound=Module)


def norm_except_dim(v: Tensor, dim: int) -> Tensor:
    """The 2-norm of each slice along an axis, shaped to divide `v`; of the whole for -1 (0-d)."""
    if dim == -1:
        return vector_norm(v)
    if not -v.ndim <= dim < v.ndim:
        raise ShapeError(f"weight_norm: dim={dim} of shape {v.shape}.", "Name one of its axes.")
    rows = v.transpose(0, dim)
    lengths = vector_norm(rows.reshape(rows.shape[0], -1), dim=1)
    return lengths.reshape(-1, *(1,) * (v.ndim - 1)).transpose(0, dim)


@labelled("weight_norm")
def scaled_direction(v: Tensor, g: Tensor, dim: int) -> Tensor:
    """g v / ‖v‖"""
    return v * (g / norm_except_dim(v, dim))


class WeightNorm:
    """The rule of an attribute that is g v / ‖v‖.

    Args:
        name: of the attribute.
        dim: the axis of which each slice has a length of its own; -1 for one length.
    """

    def __init__(self, name: str, dim: int):
        self.name, self.dim = name, dim

    def read(self, module: Module) -> Tensor:
        """The weight."""
        v, g = (getattr(module, f"{self.name}_{part}") for part in "vg")
        return scaled_direction(v, g, self.dim)

    def write(self, module: Module, value: Any) -> None:
        """Refused: it is a result."""
        raise UnsupportedError(
            f"{type(module).__name__}.{self.name} is set, which weight_norm computes.",
            f"Set {self.name}_g and {self.name}_v, or call remove_weight_norm first.",
        )


def taken_parameter(function: str, module: Module, name: str) -> Parameter:
    """The parameter whose place a rule takes.

    Raises:
        ShapeError: the module has no parameter of that name.
        UnsupportedError: it is computed already.
    """
    if name in module._derived:
        raise UnsupportedError(
            f"{function} of {name!r} of {type(module).__name__}, which is computed already.",
            "Remove the other rule first.",
        )
    found = module._parameters.get(name)
    if found is None:
        raise ShapeError(
            f"{function}: {type(module).__name__} has no parameter {name!r}.",
            f"It has {', '.join(n for n, p in module._parameters.items() if p is not None)}.",
        )
    return found


def weight_norm(module: T, name: str = "weight", dim: int | None = 0) -> T:
    """Replace a parameter by its length and its direction: weight = g v / ‖v‖.

    PyTorch computes the weight before each forward and keeps it until the next; here it is computed
    whenever it is read. `tgrad.nn.utils.parametrizations.weight_norm` is the newer form.

    Args:
        module: has the parameter; afterwards `name_g` and `name_v`.
        name: of the parameter.
        dim: the axis of which each slice has a length of its own; None for one length.

    Returns:
        The module.

    Raises:
        ShapeError: it has no such parameter or axis.
        UnsupportedError: the parameter is computed already.

    >>> import tgrad
    >>> layer = tgrad.nn.utils.weight_norm(tgrad.nn.Linear(3, 2))
    >>> [(name, p.shape) for name, p in layer.named_parameters()]
    [('bias', (2,)), ('weight_g', (2, 1)), ('weight_v', (2, 3))]
    """
    weight = taken_parameter("weight_norm", module, name)
    rule = WeightNorm(name, -1 if dim is None else dim)
    with no_grad():
        length = norm_except_dim(weight, rule.dim)
    module._register_derived(name, rule)
    module.register_parameter(f"{name}_g", Parameter(length))
    module.register_parameter(f"{name}_v", Parameter(weight))
    return module


def remove_weight_norm(module: T, name: str = "weight") -> T:
    """Make the weight that `weight_norm` computes a parameter again.

    Raises:
        ShapeError: `weight_norm` was not called on it.
    """
    rule = module._derived.get(name)
    if not isinstance(rule, WeightNorm):
        raise ShapeError(
            f"remove_weight_norm: {name!r} of {type(module).__name__} has none.",
            "Call weight_norm first.",
        )
    with no_grad():
        weight = rule.read(module)
    for part in (name, f"{name}_g", f"{name}_v"):
        delattr(module, part)
    module.register_parameter(name, Parameter(weight))
    return module
