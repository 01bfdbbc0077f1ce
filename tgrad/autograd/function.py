"""Functions with a backward of their own, as torch.autograd.Function.

In: a class with `forward` and `backward`. Out: `apply`. Invariant: each result is a `custom_vjp`
node over the tensors that were given; backward is graph, so it can be differentiated again.
Source: https://docs.pytorch.org/docs/stable/autograd.html#torch.autograd.Function
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from tgrad.autodiff.backward import register_vjp
from tgrad.errors import GradientError, ShapeError, UnsupportedError
from tgrad.grad_mode import is_grad_enabled, no_grad
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op
from tgrad.tensor import Tensor


class FunctionCtx:
    """What forward leaves for backward: tensors by `save_for_backward`, anything as attributes.

    Attributes:
        needs_input_grad: for each argument of apply, whether its gradient is wanted.
    """

    needs_input_grad: tuple[bool, ...] = ()

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] = ()
        self._results: list[Tensor] = []
        self._plain: list[Tensor] = []
        self._fills = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep arguments, results, or other tensors for backward."""
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return self._saved

    def mark_non_differentiable(self, *results: Tensor) -> None:
        """Results that no gradient flows into."""
        self._plain = list(results)

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros, or None, for results that have no gradient."""
        self._fills = value

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Arguments that forward changes in place: not supported.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError("mark_dirty.", "Return new values instead.")


class _Call:
    """One call of apply, as its nodes refer to it."""

    def __init__(self, function: type[Function], ctx: FunctionCtx, inputs: Sequence[Any]):
        self.function, self.ctx, self.inputs = function, ctx, inputs
        self.types: list[tuple[tuple[int, ...], Any]] = []

    def gradients(self, number: int, g: Tensor) -> list[Tensor | None]:
        """Of the tensors among the inputs, for the gradient of one result."""
        given: list[Tensor | None] = []
        for i, (shape, dtype) in enumerate(self.types):
            zeros = g._constant(0, dtype).expand(shape) if self.ctx._fills else None
            given.append(g if i == number else zeros)
        found = self.function.backward(self.ctx, *given)
        results = list(found) if isinstance(found, (tuple, list)) else [found]
        extra = results[len(self.inputs) :]
        if len(results) < len(self.inputs) or any(r is not None for r in extra):
            raise GradientError(
                f"{self.function.__name__}.backward returns {len(results)} gradients for "
                f"{len(self.inputs)} inputs.",
                "Return one for each argument of forward, None for what has none.",
            )
        return [self._fitting(r, x) for r, x in zip(results, self.inputs) if isinstance(x, Tensor)]

    def _fitting(self, g: Tensor | None, x: Tensor) -> Tensor | None:
        if g is None or not x.dtype.is_float:
            return None
        if g.shape != x.shape:
            raise ShapeError(
                f"{self.function.__name__}.backward returns shape {g.shape} for an input of shape "
                f"{x.shape}."
            )
        return g.to(x.dtype)


@register_vjp("function", has_effects=True)
def _rule(
    g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
) -> Sequence[Node | None]:
    call, number = params
    device = next(x._device for x in call.inputs if isinstance(x, Tensor))
    gradients = call.gradients(number, Tensor._of(g, device))
    return [None if each is None else each._node for each in gradients]


class Function:
    """Base of functions with a backward of their own.

    `forward(ctx, *args)`, or `forward(*args)` with `setup_context(ctx, inputs, output)`; and
    `backward(ctx, *grads)`, which returns a gradient for each argument. Both are static methods.
    Backward is called once for each result that has a gradient, with zeros for the others (or None,
    after `set_materialize_grads(False)`), and the gradients are added.

    >>> import tgrad
    >>> class Double(tgrad.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return x * 2
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return g * 2
    >>> x = tgrad.ones(2, requires_grad=True)
    >>> Double.apply(x).sum().backward()
    >>> x.grad.tolist()
    [2.0, 2.0]
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("a Function needs a static method forward.")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError("a Function needs a static method backward.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Save what backward needs, where forward takes no ctx."""
        raise NotImplementedError

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Call the function.

        Args:
            args: of forward. Tensors among them get gradients; those inside lists do not.
        """
        ctx = FunctionCtx()
        tensors = [x for x in args if isinstance(x, Tensor)]
        ctx.needs_input_grad = tuple(isinstance(x, Tensor) and x.requires_grad for x in args)
        has_context = cls.setup_context is not Function.setup_context
        with no_grad():
            found = cls.forward(*args) if has_context else cls.forward(ctx, *args)
            if has_context:
                cls.setup_context(ctx, args, found)
        is_single = isinstance(found, Tensor)
        results = [found] if is_single else list(found)
        if is_grad_enabled() and any(ctx.needs_input_grad):
            call = _Call(cls, ctx, args)
            call.types = [(r.shape, r.dtype) for r in results if isinstance(r, Tensor)]
            made = [cls._marked(call, i, r, tensors) for i, r in enumerate(results)]
            old = {id(r): m for r, m in zip(results, made)}
            ctx._saved = tuple(old.get(id(t), t) for t in ctx._saved)
            results = made
        return results[0] if is_single else type(found)(results)

    @staticmethod
    def _marked(call: _Call, number: int, result: Any, tensors: Sequence[Tensor]) -> Any:
        """A result that the rule differentiates."""
        is_plain = not isinstance(result, Tensor) or not result.dtype.is_float
        if is_plain or any(result is t for t in call.ctx._plain):
            return result
        nodes = [t._node for t in tensors]
        node = make(Op.CUSTOM_VJP, result._node, *nodes, rule="function", params=(call, number))
        marked = Tensor._of(node, result.device)
        marked._requires_grad = True
        return marked


class _Once(Function):
    """The first `count` values, computed from the others in a way that has no derivative."""

    @staticmethod
    def forward(ctx: Any, count: int, *values: Tensor) -> tuple[Tensor, ...]:
        return values[:count]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise GradientError(
            "a second derivative of a Function whose backward is once_differentiable.",
            "Take the decorator away if backward is made of operations of tgrad.",
        )


def once_differentiable(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of `backward`: its results cannot be differentiated, and say so.

    >>> import tgrad
    >>> from tgrad.autograd.function import once_differentiable
    >>> class Double(tgrad.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return x * 2
    ...
    ...     @staticmethod
    ...     @once_differentiable
    ...     def backward(ctx, g):
    ...         return g * 2
    >>> x = tgrad.ones(1, requires_grad=True)
    >>> tgrad.autograd.grad(Double.apply(x).sum(), x)[0].item()
    2.0
    """

    @wraps(fn)
    def backward(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            found = fn(ctx, *grads)
        results = list(found) if isinstance(found, tuple) else [found]
        sources = [g for g in grads if isinstance(g, Tensor)]
        sources += [t for t in ctx.saved_tensors if isinstance(t, Tensor)]
        if not any(t.requires_grad for t in sources):
            return found
        places = [i for i, r in enumerate(results) if isinstance(r, Tensor)]
        values = [results[i].detach() for i in places]
        marked = _Once.apply(len(values), *values, *sources)
        for i, value in zip(places, marked):
            results[i] = value
        return tuple(results) if isinstance(found, tuple) else results[0]

    return backward
