"""Methods of Tensor that have a VJP of their own: activations and softmax.

In: a tensor. Out: a lazy tensor marked with its VJP. Invariant: float16 and bfloat16 compute in
float32 and round once, as in PyTorch; each rule is one line of mathematics over the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tgrad.autodiff.backward import register_vjp
from tgrad.dtype import DType, get_default_dtype
from tgrad.errors import DTypeError
from tgrad.from_template import from_template
from tgrad.graph import build as b
from tgrad.graph.node import Node, make, source_scope
from tgrad.graph.op import Op
from tgrad.methods.reduction import normal_axis

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

Rule = Callable[..., Node]


class ActivationMethods:
    """Functions whose derivative is simpler than that of their parts."""

    __slots__ = ()

    def relu(self: Any) -> Tensor:
        """max(x, 0); the gradient at 0 is 0."""
        from tgrad.tensor import with_vjp

        with source_scope(label="relu"):
            return with_vjp("relu", self.maximum(0), self)

    def sigmoid(self: Any) -> Tensor:
        """1 / (1 + exp(-x))."""
        with source_scope(label="sigmoid"):
            x = as_float(self)
            y: Tensor = x.to(x.dtype.accumulator)._unary(Op.SIGMOID).to(x.dtype)
            return y

    def softmax(self: Any, dim: int, dtype: DType | None = None) -> Tensor:
        """exp(x) / sum(exp(x)) over `dim`, without overflow."""
        with source_scope(label="softmax"):
            x, axis = _softmax_input(self, dim, dtype, "softmax")
            return _softmax_along(x, axis)

    def log_softmax(self: Any, dim: int, dtype: DType | None = None) -> Tensor:
        """log(softmax(x)) over `dim`, without overflow or loss of digits."""
        with source_scope(label="log_softmax"):
            x, axis = _softmax_input(self, dim, dtype, "log_softmax")
            return _log_softmax_along(x, axis)


@from_template()
def _softmax_along(x: Any, axis: int) -> Tensor:
    from tgrad.tensor import with_vjp

    if not x.numel():
        return x.clone()
    wide = x.to(x.dtype.accumulator)
    power = (wide - wide.amax(axis, keepdim=True)).exp()
    y = power / power.sum(axis, keepdim=True)
    return with_vjp("softmax", y.to(x.dtype), x, params=(axis,))


@from_template()
def _log_softmax_along(x: Any, axis: int) -> Tensor:
    from tgrad.tensor import with_vjp

    if not x.numel():
        return x.clone()
    wide = x.to(x.dtype.accumulator)
    centred = wide - wide.amax(axis, keepdim=True)
    y = centred - centred.exp().sum(axis, keepdim=True).log()
    return with_vjp("log_softmax", y.to(x.dtype), x, params=(axis,))


def as_float(x: Any) -> Tensor:
    """Integers in the default dtype, as PyTorch's functions of floats take them."""
    return x if x.dtype.is_float or x.dtype.is_complex else x.to(get_default_dtype())


def _softmax_input(x: Any, dim: int, dtype: DType | None, name: str) -> tuple[Any, int]:
    x = x if dtype is None else x.to(dtype)
    if not x.dtype.is_float:
        raise DTypeError(f"{name} of a tensor of {x.dtype.name}.", "Use .float() or pass dtype=.")
    return x, normal_axis(dim, len(x.shape))


def _rule(name: str, is_formula: bool = False) -> Callable[[Rule], Rule]:
    """Decorator: a VJP of one argument, computed in the accumulator's dtype."""

    def register(rule: Rule) -> Rule:
        @register_vjp(name, is_formula)
        def on_nodes(
            g: Node, y: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
        ) -> tuple[Node]:
            wide = y.dtype.accumulator
            result = rule(b.cast_to(g, wide), b.cast_to(y, wide), *params)
            return (b.cast_to(result, y.dtype),)

        return rule

    return register


@_rule("relu", is_formula=True)
def _relu(g: Node, y: Node) -> Node:
    """0 where y <= 0, else g (NaN passes it on, as in PyTorch)"""
    zero = b.const_like(y, 0)
    return b.where(make(Op.LE, y, zero), zero, g)


def _sum_like(x: Node, axis: int) -> Node:
    """The sum over an axis (none for a 0-d tensor), expanded back."""
    return b.restore(b.sum_over(x, (axis,)), (axis,), x.shape) if x.shape else x


@_rule("softmax")
def _softmax(g: Node, y: Node, axis: int) -> Node:
    """g * y - y * sum(g * y)"""
    weighted = b.mul(g, y)
    return b.sub(weighted, b.mul(y, _sum_like(weighted, axis)))


@_rule("log_softmax")
def _log_softmax(g: Node, y: Node, axis: int) -> Node:
    """g - exp(y) * sum(g)"""
    return b.sub(g, b.mul(b.exp(y), _sum_like(g, axis)))
