"""Gradients by function, as torch.autograd has them.

In: outputs and inputs. Out: gradients as tensors. Invariant: only `backward` touches the `grad` of
tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tgrad.anomalies import detect_anomaly, set_detect_anomaly
from tgrad.arguments import refuse
from tgrad.errors import GradientError, UnsupportedError
from tgrad.grad_mode import enable_grad, inference_mode, no_grad, set_grad_enabled
from tgrad.graph.node import Node, is_leaf_mark, toposort
from tgrad.hooks import history_of
from tgrad.methods.elementwise import is_complex, is_tensor
from tgrad.module_paths import module_below
from tgrad.tensor import Tensor, gradient_tensor, gradients_of

if TYPE_CHECKING:
    from tgrad.autograd.finite_differences import gradcheck as gradcheck
    from tgrad.autograd.finite_differences import gradgradcheck as gradgradcheck
    from tgrad.autograd.function import Function as Function
    from tgrad.autograd.function import FunctionCtx as FunctionCtx

__all__ = [
    "Variable", "backward", "detect_anomaly", "enable_grad", "grad", "inference_mode", "no_grad",
    "set_detect_anomaly", "set_grad_enabled",
]  # fmt: skip


_LATER = {
    "Function": "function", "FunctionCtx": "function", "GradcheckError": "finite_differences",
    "gradcheck": "finite_differences", "gradgradcheck": "finite_differences",
}  # fmt: skip
"""Names that load when they are first named, and where they are."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"tgrad.autograd.{_LATER[name]}"), name)
    if name in ("function", "functional", "graph"):
        return import_module(f"tgrad.autograd.{name}")
    return module_below(__name__, name)


Tensors = Sequence[Tensor] | Tensor


def Variable(data: Tensor, requires_grad: bool = False) -> Tensor:
    """A tensor without its history, as torch's older name for tensors makes it.

    >>> import tgrad
    >>> tgrad.autograd.Variable(tgrad.ones(2), requires_grad=True).requires_grad
    True
    """
    return data.detach().requires_grad_(requires_grad)


def grad(
    outputs: Tensors,
    inputs: Tensors,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs`, added, with respect to `inputs`, as torch.autograd.grad.

    Args:
        grad_outputs: the gradient of each output; may be left out for single elements.
        retain_graph: accepted; the graph is always kept until its tensors are gone.
        create_graph: whether the gradients can be differentiated again.
        only_inputs: only True.
        allow_unused: whether inputs that lead to no output give None, and do not raise.
        is_grads_batched: whether `grad_outputs` have a first axis of their own, of gradients that
            are taken back at once, as those of the inputs have then.
        materialize_grads: whether such inputs give zeros.

    Raises:
        GradientError: an input requires no gradient, or leads to no output and neither of the two
            is set.

    >>> import tgrad
    >>> x = tgrad.tensor(3.0, requires_grad=True)
    >>> (g,) = tgrad.autograd.grad(x * x, x, create_graph=True)
    >>> tgrad.autograd.grad(g, x)[0].item()
    2.0
    """
    if not only_inputs:
        raise UnsupportedError("grad with only_inputs=False.", "Leave it out.")
    if is_grads_batched:
        return _of_batch(outputs, inputs, grad_outputs, create_graph, allow_unused,
                         materialize_grads)  # fmt: skip
    wanted = _listed(inputs)
    for t in wanted:
        if not t.requires_grad:
            raise GradientError(
                f"an input of shape {t.shape} does not require a gradient.",
                "Call requires_grad_() before computing the outputs.",
            )
    pairs = _with_gradients(outputs, grad_outputs)
    if not any(map(is_complex, wanted)):
        return _gradients(pairs, wanted, create_graph, allow_unused, materialize_grads)
    parts = [p for z in wanted for p in real_leaves(z)]
    found = iter(_gradients(pairs, parts, create_graph, True, materialize_grads))
    return tuple(_joined(z, found, allow_unused) for z in wanted)


def _of_batch(
    outputs: Tensors, inputs: Tensors, grad_outputs: Any, create_graph: bool,
    allow_unused: bool | None, materialize_grads: bool,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """`grad` for each member of a batch of gradients.

    Raises:
        GradientError: there are none.
    """
    from tgrad.func import vmap

    given = [] if grad_outputs is None else [g for g in _listed(grad_outputs) if g is not None]
    if not given:
        raise GradientError("is_grads_batched=True without grad_outputs.", "Give a batch of them.")
    is_there: list[bool] = []

    def of_one(*members: Tensor) -> tuple[Tensor, ...]:
        each = iter(members)
        gradients = [None if g is None else next(each) for g in _listed(grad_outputs)]
        found = grad(outputs, inputs, gradients, None, create_graph, True, allow_unused, False,
                     materialize_grads)  # fmt: skip
        is_there[:] = [g is not None for g in found]
        return tuple(g for g in found if g is not None)

    made = iter(vmap(of_one)(*given))
    return tuple(next(made) if there else None for there in is_there)


def _gradients(
    pairs: list[tuple[Tensor, Tensor | None]],
    wanted: list[Tensor],
    create_graph: bool,
    allow_unused: bool | None,
    materialize_grads: bool,
) -> tuple[Tensor | None, ...]:
    """`grad` of real tensors."""
    graph = toposort([output._node for output, _ in pairs])
    marks: list[list[Node]] = []
    for t in wanted:
        if t._token is not None:
            marks.append([n for n in graph if is_leaf_mark(n) and n.attr("params")[0] == t._token])
        else:
            marks.append([history_of(t._node)])
    flat = [n for group in marks for n in group]
    found = [dict(zip(flat, gradients_of(y, g, flat, create_graph))) for y, g in pairs]
    result: list[Tensor | None] = []
    for t, group in zip(wanted, marks):
        parts = [each[n] for each in found for n in group]
        tensors = [gradient_tensor(g, t, create_graph) for g in parts if g is not None]
        total = sum(tensors[1:], tensors[0]) if tensors else None
        if total is None and materialize_grads:
            total = t._constant(0, t.dtype).expand(t.shape)
        if total is None and not allow_unused:
            raise GradientError(
                f"an input of shape {t.shape} was not used to compute the output.",
                "Pass allow_unused=True to get None for it.",
            )
        result.append(total)
    return tuple(result)


def _listed(given: Any) -> list[Any]:
    """One tensor, or several, as a list."""
    return [given] if is_tensor(given) or is_complex(given) else list(given)


def real_leaves(z: Any) -> list[Tensor]:
    """What a complex tensor is differentiated by: its two parts, or the tensor that they view."""
    if not is_complex(z):
        return [z]
    return [z.real, z.imag] if z._base is None else [z._base]


def _joined(z: Any, found: Iterator[Any], allow_unused: bool | None) -> Any:
    """The gradient of a tensor from those of its `real_leaves`."""
    parts = [next(found) for _ in real_leaves(z)]
    if all(p is None for p in parts):
        if allow_unused:
            return None
        raise GradientError(
            f"an input of shape {z.shape} was not used to compute the output.",
            "Pass allow_unused=True to get None for it.",
        )
    if not is_complex(z):
        return parts[0]
    if len(parts) == 1:
        return type(z).from_pairs(parts[0])
    return type(z)(*(x._constant(0, x.dtype).expand(x.shape) if p is None else p
                     for p, x in zip(parts, (z.real, z.imag))))  # fmt: skip


def _with_gradients(outputs: Any, gradients: Any) -> list[tuple[Tensor, Tensor | None]]:
    """Each output with the gradient that is given for it; of complex ones, both parts.

    Raises:
        GradientError: the gradient of a complex output is not given.
    """
    many = _listed(outputs)
    if gradients is None or is_tensor(gradients) or is_complex(gradients):
        gradients = [gradients] * len(many)
    pairs: list[tuple[Tensor, Tensor | None]] = []
    for y, g in zip(many, gradients, strict=True):
        if not is_complex(y):
            pairs.append((y, g))
        elif g is None:
            raise GradientError("the gradient of a complex output.", "Give grad_outputs.")
        else:
            pairs += [(y.real, g.real), (y.imag, g.imag)]
    return pairs


def backward(
    tensors: Tensors,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: Any = None,
    inputs: Tensors | None = None,
) -> None:
    """`backward` of each tensor.

    Args:
        grad_variables: the old name of `grad_tensors`, not supported.

    >>> import tgrad
    >>> x = tgrad.ones(2, requires_grad=True)
    >>> tgrad.autograd.backward([x.sum(), (x * 2).sum()])
    >>> x.grad.tolist()
    [3.0, 3.0]
    """
    refuse("backward", 'Use "grad_tensors".', grad_variables=grad_variables)
    for t, g in _with_gradients(tensors, grad_tensors):
        t.backward(g, retain_graph, create_graph, inputs)
