"""Reverse-mode differentiation, graph to graph.

In: an output, its gradient, and the nodes to differentiate with respect to. Out: one gradient node
(or None) for each. Invariant: a gradient has the shape and dtype of its node; parts of the graph
that do not lead to a wanted node are not visited; results are ordinary graph, so calls nest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tgrad.autodiff.vjp_rules import NO_VJP, VJP
from tgrad.errors import GradientError, Source, VerifyError
from tgrad.graph import build
from tgrad.graph.layout import like
from tgrad.graph.node import Node, make, source_scope, toposort
from tgrad.graph.op import Op

CustomRule = Callable[[Node, Node, tuple[Node, ...], tuple[Any, ...]], Sequence[Node | None]]
"""(g, result, arguments, params) -> one gradient per argument, or None."""

_custom_rules: dict[str, CustomRule] = {}
_formulas: set[str] = set()


class NodeHooks:
    """How the walk finds what to call with a node's gradient: nothing, until a hook is made."""

    find: Callable[[Node], Mapping[int, Callable[[Node], Node]] | None] = staticmethod(
        lambda node: None
    )


node_hooks = NodeHooks()

_SUFFIX = "_backward"


def register_vjp(name: str, is_formula: bool = False) -> Callable[[CustomRule], CustomRule]:
    """Decorator: the VJP of `custom_vjp` nodes whose attribute `rule` is `name`.

    The rule gets the gradient of the result, the result (the custom_vjp node itself, so that
    differentiating the rule again uses the rule again), its arguments and the attribute `params`.

    Args:
        is_formula: whether PyTorch's derivative is a function of the last argument too, though flat
            there (threshold_backward, of relu): what leads to the argument has zeros, and not None,
            as the gradient of that derivative.
    """

    def register(rule: CustomRule) -> CustomRule:
        if name in _custom_rules and _custom_rules[name].__qualname__ != rule.__qualname__:
            raise GradientError(
                f"a VJP named {name!r} is registered already.", "Choose a new name."
            )
        _custom_rules[name] = rule
        if is_formula:
            _formulas.add(name)
        return rule

    return register


@register_vjp("detach")
def _detach(
    g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
) -> Sequence[Node | None]:
    """No argument, so no gradient: the result counts as a constant."""
    return ()


@register_vjp("zero_slope")
def _zero_slope_rule(
    g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
) -> Sequence[Node | None]:
    """g of the value; the walk itself notes that the other is reached"""
    return (g, None)


@register_vjp("formula", is_formula=True)
def _formula_rule(
    g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
) -> Sequence[Node | None]:
    """g of the result, whose parts say what becomes of it"""
    return (g, None)


def gradients(
    output: Node, grad: Node, wrt: Sequence[Node], create_graph: bool = False
) -> list[Node | None]:
    """Gradients of `sum(output * grad)` with respect to each node of `wrt`.

    Args:
        output: a node of a floating-point dtype.
        grad: the gradient of `output`, of its shape and dtype.
        wrt: nodes, interior ones allowed.
        create_graph: whether their own gradients are told from None as PyTorch's are.

    Returns:
        A node of the shape and dtype of each `wrt`; zeros where only slopes of 0 lead to it, None
        where `output` does not depend on it.

    Raises:
        GradientError: a dtype that has no gradient, a `grad` that does not fit, or an op or
            custom rule that cannot be differentiated.
    """
    _check(output, grad, wrt)
    order = toposort([output])
    leads = _leads_to({id(node) for node in wrt}, order)
    found: dict[int, Node] = {}
    reached: set[int] = set()
    if id(output) in leads:
        found[id(output)] = like(grad, output)
    for node in reversed(order):
        g = found.get(id(node))
        if g is None and id(node) not in reached:
            continue
        hooks = list((node_hooks.find(node) or {}).values())
        if g is None and (hooks or _has_rule(node, "function")):
            g = found[id(node)] = _zeros(node)
        if g is None:
            reached.update(id(x) for _, x in _differentiable_inputs(node) if id(x) in leads)
            continue
        if _has_rule(node, "zero_slope") and id(node.inputs[2]) in leads:
            reached.add(id(node.inputs[2]))
        for hook in hooks:
            g = found[id(node)] = hook(g)
        with source_scope(_backward_source(node.source)):
            for x, gx in _input_gradients(node, g, leads):
                if create_graph and _is_formula(node):
                    gx = _flat_along(gx, node.inputs[-1])
                have = found.get(id(x))
                found[id(x)] = gx if have is None else build.add(have, gx)
    return [_zeros(x) if id(x) in reached - found.keys() else found.get(id(x)) for x in wrt]


def _zeros(node: Node) -> Node:
    return like(build.const_like(node, 0), node)


def _flat_along(g: Node, operand: Node) -> Node:
    """The gradient, marked as computed from the operand too, where its slope is 0."""
    return make(Op.CUSTOM_VJP, g, g, operand, rule="zero_slope", params=())


def _is_formula(node: Node) -> bool:
    custom = node.op is Op.CUSTOM_VJP and node.attr("rule") in _formulas
    return custom or node.op is Op.ABS


def _has_rule(node: Node, name: str) -> bool:
    return node.op is Op.CUSTOM_VJP and node.attr("rule") == name


def _check(output: Node, grad: Node, wrt: Sequence[Node]) -> None:
    for node in (output, *wrt):
        if not node.dtype.is_float:
            raise GradientError(
                f"{node.dtype.name} tensors have no gradient.",
                "Only floating-point tensors are differentiable; cast it first.",
                node.source,
            )
    if (grad.shape, grad.dtype) != (output.shape, output.dtype):
        raise GradientError(
            f"the gradient is {grad.dtype.name} of shape {grad.shape}, the output is "
            f"{output.dtype.name} of shape {output.shape}.",
            "Give a gradient of the output's shape and dtype.",
        )


def _differentiable_inputs(node: Node) -> list[tuple[int, Node]]:
    """Inputs that a gradient of the node may flow into, with their positions."""
    if not node.dtype.is_float:
        return []
    first = 1 if node.op is Op.CUSTOM_VJP else 0
    return [(i, x) for i, x in enumerate(node.inputs) if i >= first and x.dtype.is_float]


def _leads_to(wanted: set[int], order: Sequence[Node]) -> set[int]:
    """Ids of the nodes from which a wanted one is reached along differentiable inputs."""
    leads: set[int] = set()
    for node in order:
        if id(node) in wanted or any(id(x) in leads for _, x in _differentiable_inputs(node)):
            leads.add(id(node))
    return leads


def _input_gradients(node: Node, g: Node, leads: set[int]) -> list[tuple[Node, Node]]:
    """(input, its gradient) for the inputs that lead to a wanted node."""
    wanted = [(i, x) for i, x in _differentiable_inputs(node) if id(x) in leads]
    if not wanted:
        return []
    results: list[tuple[Node, Node]] = []
    custom = _custom_gradients(node, g) if node.op is Op.CUSTOM_VJP else None
    for i, x in wanted:
        gx = custom[i - 1] if custom is not None else _table_gradient(node, g, i)
        if gx is None:
            continue
        if (gx.shape, gx.dtype) != (x.shape, x.dtype):
            raise VerifyError(
                f"the VJP of {node!r} gives {gx!r} for input {i}, {x!r}.", source=node.source
            )
        results.append((x, like(gx, x)))
    return results


def _table_gradient(node: Node, g: Node, i: int) -> Node | None:
    rules = VJP.get(node.op)
    if rules is None:
        raise GradientError(
            f"{node.op} has no gradient: {NO_VJP[node.op]}.", "Detach the operand.", node.source
        )
    rule = rules[i]
    return None if rule is None else rule(node, g)


def custom_rule(name: str, source: Source | None = None) -> CustomRule:
    """The VJP that is registered under a name."""
    rule = _custom_rules.get(name)
    if rule is None:
        raise GradientError(
            f"no VJP is registered under the name {name!r}.",
            f"Known names: {', '.join(sorted(_custom_rules))}.",
            source,
        )
    return rule


def _custom_gradients(node: Node, g: Node) -> Sequence[Node | None]:
    name, arguments = node.attr("rule"), node.inputs[1:]
    results = custom_rule(name, node.source)(g, node, arguments, node.attr("params"))
    if len(results) != len(arguments):
        raise GradientError(
            f"the VJP {name!r} gives {len(results)} gradients for {len(arguments)} arguments.",
            "Return one gradient, or None, for each argument.",
            node.source,
        )
    return results


def _backward_source(source: Source) -> Source:
    label = source.label if source.label.endswith(_SUFFIX) else source.label + _SUFFIX
    return Source(source.file, source.line, label)
