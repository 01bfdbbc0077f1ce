"""VJPs written with Tensors, for methods: a line of mathematics each.

In: a name and a rule. Out: results marked with the rule. Invariant: rules of half precision are
computed in float32 and round once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tgrad import dtype as dt
from tgrad.autodiff.backward import register_vjp
from tgrad.device import get_default_device
from tgrad.errors import UnsupportedError
from tgrad.graph.node import Node, source_scope
from tgrad.repeating import of_nodes

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

Function = Callable[..., Any]


def define_vjp(
    name: str, is_formula: bool = False, has_effects: bool = False
) -> Callable[[Callable[..., Sequence[Tensor | None]]], None]:
    """Decorator: the VJP of a composite, written with Tensors.

    The rule is called as `rule(g, result, *arguments, *params)` and returns one gradient, or None,
    for each argument. Use `with_vjp` to mark results.

    Args:
        name, is_formula, has_effects: see register_vjp. The graph of rules without effects is made
            again from templates.
    """

    def register(rule: Callable[..., Sequence[Tensor | None]]) -> None:
        @register_vjp(name, is_formula, has_effects)
        def on_nodes(
            g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
        ) -> Sequence[Node | None]:
            nodes = (g, result, *arguments)
            if has_effects:
                return compute(params, *nodes)
            # repr keeps 0.0 and -0.0 apart
            return of_nodes(partial(compute, params), (name, params, repr(params)), nodes)

        def compute(params: tuple[Any, ...], *nodes: Node) -> list[Node | None]:
            from tgrad.tensor import Tensor

            known = [n.device for n in nodes if n.device is not None]
            device = known[0] if known else get_default_device()
            tensors = [Tensor._of(n, device) for n in nodes]
            return [None if t is None else t._node for t in rule(*tensors, *params)]

    return register


def by_formula(result: Tensor, operand: Tensor) -> Tensor:
    """The result, differentiated by its parts, where PyTorch has a formula that reads `operand`:
    see `is_formula` of register_vjp."""
    from tgrad.tensor import with_vjp

    return with_vjp("formula", result, result, operand)


def reached(result: Tensor, operand: Any) -> Tensor:
    """The result, whose gradient for an operand that it does not depend on is 0, and not None."""
    from tgrad.tensor import Tensor, with_vjp

    if not (isinstance(operand, Tensor) and operand._requires_grad):
        return result
    return with_vjp("zero_slope", result, result, operand)


def define_slopes(table: Mapping[str, Function]) -> None:
    """Derivatives of functions of one element: `slope(y, x, *params)` is dy/dx."""
    for name, slope in table.items():
        _define_slope(name, slope)


def _define_slope(name: str, slope: Function) -> None:
    @define_vjp(name)
    def rule(g: Any, y: Any, x: Any, *params: Any) -> tuple[Tensor]:
        wide = x.dtype.accumulator
        return ((g.to(wide) * slope(y.to(wide), x.to(wide), *params)).to(x.dtype),)


def define_partials(table: Mapping[str, tuple[Function, Function]]) -> None:
    """Derivatives of functions of two elements: `slope(y, a, b)` is dy/da, then dy/db."""
    for name, slopes in table.items():
        _define_partial(name, slopes)


def _define_partial(name: str, slopes: tuple[Function, Function]) -> None:
    @define_vjp(name)
    def rule(g: Any, y: Any, a: Any, b: Any) -> tuple[Tensor, ...]:
        wide = y.dtype.accumulator
        given = (y.to(wide), a.to(wide), b.to(wide))
        return tuple((g.to(wide) * slope(*given)).to(y.dtype) for slope in slopes)


def unary_function(name: str, x: Any, compute: Function, *params: Any) -> Tensor:
    """A function of one element with a slope of that name; integers are float32 first."""
    from tgrad.tensor import with_vjp

    with source_scope(label=name):
        x = x if x.dtype.is_float else _as_float(name, x)
        y = compute(x.to(x.dtype.accumulator), *params)
        return with_vjp(name, y.to(x.dtype), x, params=params)


def _as_float(name: str, x: Any) -> Any:
    if x.dtype.is_complex:
        raise UnsupportedError(
            f"{name} of a complex tensor is not supported.", "Take .real, .imag or .abs() of it."
        )
    return x.to(dt.get_default_dtype())


def double_function(name: str, x: Any, compute: Function, *params: Any) -> Tensor:
    """A `unary_function` that is computed in float64 and rounded once."""
    return unary_function(name, x, lambda wide, *rest: compute(wide.double(), *rest), *params)


def binary_function(name: str, a: Any, b: Any, compute: Function) -> Tensor:
    """A function of two elements with partial derivatives of that name."""
    from tgrad.tensor import with_vjp

    with source_scope(label=name):
        for x in (a, b):
            if getattr(x, "is_complex_tensor", False):
                _as_float(name, x)
        a, b = paired(a, b)
        wide = a.dtype.accumulator
        return with_vjp(name, compute(a.to(wide), b.to(wide)).to(a.dtype), a, b)


def paired(a: Any, b: Any, floats: bool = True) -> tuple[Any, Any]:
    """Two operands, one of them a tensor, in one dtype (floating point) and shape."""
    from tgrad.methods.elementwise import broadcast_shapes, owner_of, result_type
    from tgrad.tensor import Tensor

    dtype = result_type(a, b)
    dtype = dtype if dtype.is_float or not floats else dt.get_default_dtype()
    shape = broadcast_shapes(*(x.shape for x in (a, b) if isinstance(x, Tensor)))
    tensor: Any = owner_of(a, b) if isinstance(a, Tensor) else b
    return tensor._operand(a, dtype, shape), tensor._operand(b, dtype, shape)
