"""Gradients without `backward`, as torch.autograd has them.

In: outputs and inputs. Out: gradients as tensors. Invariant: `grad` of no tensor is touched.
"""

from __future__ import annotations

from collections.abc import Sequence

from tgrad.errors import GradientError
from tgrad.grad_mode import enable_grad, no_grad, set_grad_enabled
from tgrad.graph.node import Node, toposort
from tgrad.graph.op import Op
from tgrad.tensor import Tensor, gradient_tensor, gradients_of, is_leaf_mark

__all__ = ["enable_grad", "grad", "no_grad", "set_grad_enabled"]


def grad(
    outputs: Tensor,
    inputs: Sequence[Tensor] | Tensor,
    grad_outputs: Tensor | None = None,
    *,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` with respect to `inputs`, as torch.autograd.grad.

    Raises:
        GradientError: an input does not lead to the output and allow_unused is False.

    >>> import tgrad
    >>> x = tgrad.tensor(3.0, requires_grad=True)
    >>> (g,) = tgrad.autograd.grad(x * x, x, create_graph=True)
    >>> tgrad.autograd.grad(g, x)[0].item()
    2.0
    """
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    graph = toposort([outputs._node])
    marks: list[list[Node]] = []
    for t in wanted:
        if t._token is not None:
            marks.append([n for n in graph if is_leaf_mark(n) and n.attr("params")[0] == t._token])
        else:
            marks.append([_history(t._node)])
    flat = [n for group in marks for n in group]
    found = dict(zip(flat, gradients_of(outputs, grad_outputs, flat)))
    result: list[Tensor | None] = []
    for t, group in zip(wanted, marks):
        total: Tensor | None = None
        for n in group:
            g = found[n]
            if g is not None:
                part = gradient_tensor(g, t, create_graph)
                total = part if total is None else total + part
        if total is None and not allow_unused:
            raise GradientError(
                f"an input of shape {t.shape} was not used to compute the output.",
                "Pass allow_unused=True to get None for it.",
            )
        result.append(total)
    return tuple(result)


def _history(node: Node) -> Node:
    if node.op is Op.CUSTOM_VJP and node.attr("rule") == "realised":
        return node.inputs[1]
    return node
