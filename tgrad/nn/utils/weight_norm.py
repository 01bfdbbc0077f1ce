"""Weights as a length and a direction.

In: a module. Out: the module, whose weight is g v / ‖v‖ of two parameters. Invariant: PyTorch's
names, `weight_g` and `weight_v`; the weight is computed where it is read. Source:
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.weight_norm.html
"""

from __future__ import annotations

from typing import TypeVar

from tgrad.errors import ShapeError
from tgrad.grad_mode import no_grad
from tgrad.linalg import vector_norm
from tgrad.nn.module import Module
from tgrad.nn.parameter import Parameter
from tgrad.nn.utils.derived import DerivedWeight
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


class WeightNorm(DerivedWeight):
    """The rule of an attribute that is g v / ‖v‖.

    Args:
        name: of the attribute.
        dim: the axis of which each slice has a length of its own; -1 for one length.
    """

    function, parts = "weight_norm", ("g", "v")

    def __init__(self, name: str, dim: int):
        super().__init__(name)
        self.dim = dim

    def value(self, module: Module) -> Tensor:
        """g v / ‖v‖"""
        g, v = self.held(module)
        return scaled_direction(v, g, self.dim)


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
    rule = WeightNorm(name, -1 if dim is None else dim)
    weight = rule.take_over(module)
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
    WeightNorm.give_back(module, name)
    return module
