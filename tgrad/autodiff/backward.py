"""Reverse-mode differentiation, graph to graph.

In: an output, its gradient, and the nodes to differentiate with respect to. Out: one gradient node
(or None) for each. Invariant: a gradient has the shape and dtype of its node; parts of the graph
that do not lead to a wanted node are not visited; results are ordinary graph, so calls nest.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from tgrad.autodiff.repeated import gradients_again
from tgrad.autodiff.vjp_rules import NO_VJP, VJP
from tgrad.errors import GradientError, Source, VerifyError, source_at
from tgrad.graph import build
from tgrad.graph.layout import like
from tgrad.graph.node import Node, make, source_scope, toposort
from tgrad.graph.op import Op

CustomRule = Callable[[Node, Node, tuple[Node, ...], tuple[Any, ...]], Sequence[Node | None]]
"""(g, result, arguments, params) -> one gradient per argument, or None."""

Watch = Callable[[Node, Node, Node], None]

TWIN = "twin"
"""The rule of marks that tell a tensor from one that was computed alike, and has the same node: its
gradient joins that of the node where no hook of the other sees it."""

_custom_rules: dict[str, CustomRule] = {}
_formulas: set[str] = set()
_with_effects: set[str] = set()


class NodeHooks:
    """How the walk finds what to call with a node's gradient: nothing, until a hook is made.

    Attributes:
        find: the functions of a node by their numbers, in whose order they are called.
        before_walk: is called once before.
    """

    find: Callable[[Node], Mapping[int, Callable[[Node], Node]] | None] | None = None
    before_walk: Callable[[], None] | None = None


node_hooks = NodeHooks()

_SUFFIX = "_backward"

Routes = dict[Node, list[tuple[int, Node]]]
"""Nodes from which a wanted one is reached: the inputs that lead there, with their positions."""


def register_vjp(
    name: str, is_formula: bool = False, has_effects: bool = False
) -> Callable[[CustomRule], CustomRule]:
    """Decorator: the VJP of `custom_vjp` nodes whose attribute `rule` is `name`.

    The rule gets the gradient of the result, the result (the custom_vjp node itself, so that
    differentiating the rule again uses the rule again), its arguments and the attribute `params`.

    Args:
        is_formula: whether PyTorch's derivative is a function of the last argument too, though flat
            there (threshold_backward, of relu): what leads to the argument has zeros, and not None,
            as the gradient of that derivative.
        has_effects: whether the rule does more than to make graph of what it is given, or makes it
            of more: it calls a program's code, or exchanges values with other processes.
    """

    def register(rule: CustomRule) -> CustomRule:
        if name in _custom_rules and _custom_rules[name].__qualname__ != rule.__qualname__:
            raise GradientError(
                f"a VJP named {name!r} is registered already.", "Choose a new name."
            )
        _custom_rules[name] = rule
        if is_formula:
            _formulas.add(name)
        if has_effects:
            _with_effects.add(name)
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
    output: Node,
    grad: Node,
    wrt: Sequence[Node],
    create_graph: bool = False,
    order: Sequence[Node] | None = None,
    modes: Hashable = None,
    watch: Watch | None = None,
) -> list[Node | None]:
    """Gradients of `sum(output * grad)` with respect to each node of `wrt`.

    Args:
        output: a node of a floating-point dtype.
        grad: the gradient of `output`, of its shape and dtype.
        wrt: nodes, interior ones allowed.
        create_graph: whether their own gradients are told from None as PyTorch's are.
        order: `toposort` of the output, by who has it.
        modes: all that rules depend on beside the graph; None if there may be more.
        watch: is called with each node, an operand of it and the gradient that it gives for that.

    Returns:
        A node of the shape and dtype of each `wrt`; zeros where only slopes of 0 lead to it, None
        where `output` does not depend on it.

    Raises:
        GradientError: a dtype that has no gradient, a `grad` that does not fit, or an op or
            custom rule that cannot be differentiated.
    """
    _check(output, grad, wrt)
    nodes = toposort([output]) if order is None else order

    def walk() -> list[Node | None]:
        return _walk(output, grad, wrt, create_graph, nodes, watch)

    if modes is None or watch is not None or node_hooks.find is not None:
        return walk()
    return gradients_again(walk, nodes, (grad, *wrt), _with_effects, modes, create_graph)


def _walk(
    output: Node, grad: Node, wrt: Sequence[Node], create_graph: bool, order: Sequence[Node],
    watch: Watch | None,
) -> list[Node | None]:  # fmt: skip
    """The gradients, node by node against the order."""
    if node_hooks.before_walk is not None:
        node_hooks.before_walk()
    routes = _routes_to(set(wrt), order)
    found: dict[Node, Node] = {}
    of_twins: dict[Node, Node] = {}
    reached: set[Node] = set()
    if output in routes:
        found[output] = like(grad, output)
    for node in reversed(order):
        g, of_twin = found.get(node), of_twins.get(node)
        if g is None and of_twin is None and node not in reached:
            continue
        watched = None if node_hooks.find is None else node_hooks.find(node)
        hooks = [watched[number] for number in sorted(watched)] if watched else []
        if g is None and node in reached and (hooks or _has_rule(node, "function")):
            g = found[node] = _zeros(node)
        if g is None and of_twin is None:
            reached.update(x for _, x in routes[node])
            continue
        if _has_rule(node, "zero_slope") and node.inputs[2] in routes:
            reached.add(node.inputs[2])
        if g is not None:
            for hook in hooks:
                g = found[node] = hook(g)
        if not routes[node]:
            continue
        whole = of_twin if g is None else _added(of_twin, g)
        assert whole is not None
        into = of_twins if _has_rule(node, TWIN) else found
        with source_scope(_backward_source(node.source)):
            for x, gx in _input_gradients(node, whole, routes[node]):
                if create_graph and _is_formula(node):
                    gx = _flat_along(gx, node.inputs[-1])
                if watch is not None:
                    watch(node, x, gx)
                into[x] = _added(into.get(x), gx)
    return [_zeros(x) if x in reached - found.keys() else found.get(x) for x in wrt]


def _added(have: Node | None, g: Node) -> Node:
    return g if have is None else build.add(have, g)


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


def _routes_to(wanted: set[Node], order: Sequence[Node]) -> Routes:
    """The routes along inputs that a gradient may flow into."""
    routes: Routes = {}
    for node in order:
        inputs = [(i, x) for i, x in enumerate(node.inputs) if x in routes]
        if inputs and node.op is Op.CUSTOM_VJP and inputs[0][0] == 0:
            del inputs[0]  # the result, which the rule stands for
            if _has_rule(node, TWIN) and not routes[node.inputs[1]]:
                continue  # what its gradient joins ends there
        if node in wanted or (inputs and node.dtype.is_float):
            routes[node] = inputs
    return routes


def _input_gradients(
    node: Node, g: Node, wanted: Sequence[tuple[int, Node]]
) -> list[tuple[Node, Node]]:
    """(input, its gradient) for the inputs, given with their positions, that lead somewhere."""
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
    return source_at(source.file, source.line, label)
