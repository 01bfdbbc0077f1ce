"""Derivatives of functions, as torch.autograd.functional.

In: a function of tensors and its inputs, one or a tuple. Out: values and derivatives in the same
form. Invariant: results have a history only with `create_graph`. These are `tgrad.func`'s
transforms, under PyTorch's older names.
Source: https://docs.pytorch.org/docs/stable/autograd.html#functional-higher-level-api
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tgrad import func as F
from tgrad.arguments import refuse
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.tensor import Tensor

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Tensors = tuple[Tensor, ...] | Tensor
Function = Callable[..., Any]


def jacobian(
    func: Function, inputs: Tensors, create_graph: bool = False, strict: bool = False,
    vectorize: bool = False, strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The derivatives of each result by each input, of shape (*result, *input); tuples of them for
    tuples, the results' outside.

    Args:
        strict: only False.
        vectorize: accepted; rows and columns are always computed in one batch.
        strategy: "reverse-mode" computes rows, "forward-mode" columns.

    >>> import tgrad
    >>> from tgrad.autograd.functional import jacobian
    >>> jacobian(lambda x: x * x, tgrad.tensor([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """
    refuse("autograd.functional.jacobian", strict=strict)
    found = _transform(strategy)(func, _places(inputs))(*_many(inputs))
    return _kept(found, create_graph)


def hessian(
    func: Function, inputs: Tensors, create_graph: bool = False, strict: bool = False,
    vectorize: bool = False, outer_jacobian_strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The second derivatives of a function whose result is one number, of shape (*input, *input);
    for a tuple of inputs a tuple of tuples.

    Args:
        strict: only False.
        vectorize: accepted; rows and columns are always computed in one batch.
        outer_jacobian_strategy: "reverse-mode" computes rows, "forward-mode" columns.

    >>> import tgrad
    >>> from tgrad.autograd.functional import hessian
    >>> hessian(lambda x: (x**3).sum(), tgrad.tensor([1.0, 2.0])).tolist()
    [[6.0, 0.0], [0.0, 12.0]]
    """
    refuse("autograd.functional.hessian", strict=strict)
    inner = F.jacrev(_scalar(func, "hessian"), _places(inputs))
    found = _transform(outer_jacobian_strategy)(inner, _places(inputs))(*_many(inputs))
    return _kept(found, create_graph)


def vjp(
    func: Function, inputs: Tensors, v: Any = None, create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """The result of `func`, and vᵀ times its Jacobian.

    Args:
        v: of the results' shapes; may be left out for one result of one element.
        strict: only False.

    >>> import tgrad
    >>> from tgrad.autograd.functional import vjp
    >>> vjp(lambda x: (x * x).sum(), tgrad.tensor([1.0, 2.0]))[1].tolist()
    [2.0, 4.0]
    """
    refuse("autograd.functional.vjp", strict=strict)
    result, pull = F.vjp(func, *_many(inputs))
    found = pull(*_vectors("vjp", result, v))
    return _kept((result, _as(inputs, found)), create_graph)


def jvp(
    func: Function, inputs: Tensors, v: Any = None, create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """The result of `func`, and its Jacobian times v.

    Args:
        v: of the inputs' shapes; may be left out for one input of one element.
        strict: only False.

    >>> import tgrad
    >>> from tgrad.autograd.functional import jvp
    >>> jvp(lambda x: x * x, tgrad.tensor([1.0, 2.0]), tgrad.ones(2))[1].tolist()
    [2.0, 4.0]
    """
    refuse("autograd.functional.jvp", strict=strict)
    return _kept(F.jvp_of_backward(func, _many(inputs), _vectors("jvp", inputs, v)), create_graph)


def vhp(
    func: Function, inputs: Tensors, v: Any = None, create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """The result of `func`, one number, and vᵀ times its second derivatives.

    Args:
        v: of the inputs' shapes; may be left out for one input of one element.
        strict: only False.

    >>> import tgrad
    >>> from tgrad.autograd.functional import vhp
    >>> vhp(lambda x: (x**3).sum(), tgrad.tensor([1.0, 2.0]), tgrad.ones(2))[1].tolist()
    [6.0, 12.0]
    """
    refuse("autograd.functional.vhp", strict=strict)
    one, many = _scalar(func, "vhp"), _many(inputs)
    _, pull = F.vjp(F.grad(one, tuple(range(len(many)))), *many)
    return _kept((one(*many), _as(inputs, pull(*_vectors("vhp", inputs, v)))), create_graph)


def hvp(
    func: Function, inputs: Tensors, v: Any = None, create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """The result of `func`, one number, and its second derivatives times v.

    Args:
        v: of the inputs' shapes; may be left out for one input of one element.
        strict: only False.

    >>> import tgrad
    >>> from tgrad.autograd.functional import hvp
    >>> hvp(lambda x: (x**3).sum(), tgrad.tensor([1.0, 2.0]), tgrad.ones(2))[1].tolist()
    [6.0, 12.0]
    """
    refuse("autograd.functional.hvp", strict=strict)
    one, many = _scalar(func, "hvp"), _many(inputs)
    slope = F.grad(one, tuple(range(len(many))))
    _, found = F.jvp_of_backward(slope, many, _vectors("hvp", inputs, v))
    return _kept((one(*many), _as(inputs, found)), create_graph)


def _transform(strategy: str) -> Function:
    known = {"reverse-mode": F.jacrev, "forward-mode": F.jacfwd}
    if strategy not in known:
        raise UnsupportedError(f"strategy={strategy!r}.", f"Use one of {', '.join(known)}.")
    return known[strategy]


def _many(inputs: Any) -> tuple[Tensor, ...]:
    return (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)


def _places(inputs: Any) -> int | tuple[int, ...]:
    return 0 if isinstance(inputs, Tensor) else tuple(range(len(inputs)))


def _as(inputs: Any, found: tuple[Tensor, ...]) -> Any:
    return found[0] if isinstance(inputs, Tensor) else tuple(found)


def _vectors(function: str, like: Any, v: Any) -> tuple[Tensor, ...]:
    """v as a tuple, ones where it may be left out."""
    tensors = _many(like)
    if v is None and (len(tensors) != 1 or tensors[0].numel() != 1):
        raise ShapeError(f"{function} without v.", "Only one element needs none.")
    vectors = (tensors[0].detach() * 0 + 1,) if v is None else _many(v)
    if [t.shape for t in vectors] != [t.shape for t in tensors]:
        raise ShapeError(
            f"{function}: v of shapes {[t.shape for t in vectors]} for shapes "
            f"{[t.shape for t in tensors]}."
        )
    return vectors


def _scalar(func: Function, name: str) -> Function:
    """func, whose result has one element, as a 0-d tensor."""

    def one(*args: Any) -> Tensor:
        found = func(*args)
        if not isinstance(found, Tensor) or found.numel() != 1:
            raise ShapeError(f"{name} of a function whose result is not one number.")
        return found.reshape(())

    return one


def _kept(found: Any, create_graph: bool) -> Any:
    """Nests of tensors, with their history or without it."""
    if isinstance(found, Tensor):
        return found if create_graph else found.detach()
    return type(found)(_kept(each, create_graph) for each in found)
