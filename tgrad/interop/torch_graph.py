"""A graph of PyTorch's operators as a function of tensors of tgrad.

In: a module of torch.fx whose calls are operators, as PyTorch's AOTAutograd makes it. Out: `Graph`,
which calls their functions in order. Invariant: what is computed, and every error, belongs to the
line of the model that called the operator; nothing of torch is computed.
Source: https://docs.pytorch.org/docs/stable/fx.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import getitem
from typing import Any

import torch
import torch._prims.rng_prims
import torch.utils._pytree as pytree

import tgrad
from tgrad.dtype import by_name, complex_of
from tgrad.errors import UNKNOWN, DTypeError, Source, TraceError, UnsupportedError
from tgrad.graph.node import source_scope
from tgrad.interop.operators import (
    PYTORCH_S,
    flex_attention,
    has_meaning,
    operator,
    unsupported,
)
from tgrad.interop.operators.complex_numbers import (
    PARTS,
    Complex,
    complex_operator,
    is_complex,
)
from tgrad.interop.operators.drawing import draw_again, draw_and_save
from tgrad.interop.operators.table import Lies
from tgrad.interop.torch_function import converted
from tgrad.interop.torch_replay import known
from tgrad.strides import memory_order

_FRAME = re.compile(r'File "(?P<file>.*)", line (?P<line>\d+)')
_TORCH = os.path.dirname(torch.__file__) + os.sep


CHECKS = (torch.ops.aten._linalg_check_errors.default,)
"""Operators that give nothing, and raise for a value."""
EFFECT = torch.ops.higher_order.with_effects
AROUND = ("auto_functionalized", "auto_functionalized_v2")
"""What stands around operators that change their arguments."""
BY_LAYOUT = frozenset(
    getattr(getattr(torch.ops.aten, name), overload)
    for name, overload in (
        ("_linalg_det", "default"), ("_linalg_slogdet", "default"), ("as_strided", "default"),
        ("as_strided_copy", "default"), ("as_strided_scatter", "default"), ("sym_stride", "int"),
        ("sym_storage_offset", "default"),
    )
)  # fmt: skip
"""Operators whose results depend on how their first argument lies in memory."""


@dataclass(frozen=True)
class Check:
    """What PyTorch shall look at.

    Attributes:
        of: the node of the value.
        run: of that value, as a tensor of torch.
    """

    of: torch.fx.Node
    run: Callable[[torch.Tensor], None]


@dataclass(frozen=True)
class Step:
    """One call: arguments hold nodes of the graph where its results go."""

    node: torch.fx.Node
    function: Callable[..., Any]
    args: Any
    kwargs: Any
    source: Source


class Graph:
    """A function of tensors of tgrad, and of sizes. Complex tensors have the parts of their numbers
    along a last axis of two.

    Args:
        is_of_one: whether it is traced for single elements, and called for many.

    Attributes:
        inputs: nodes of the arguments; the graph's constants follow them.
        constants: these, as tensors of torch.
        outputs: the nodes of the results, or what stands in their place.
        is_single: whether the graph gives a result and not a list of one.
        checks: what PyTorch shall look at after a run; the values follow the results.

    Raises:
        UnsupportedError: an operator, or a dtype of its, without a counterpart.
    """

    def __init__(self, module: torch.fx.GraphModule, is_of_one: bool = False):
        self._is_of_one = is_of_one
        nodes = list(module.graph.nodes)
        attributes = {n: getattr(module, n.target) for n in nodes if n.op == "get_attr"}
        held = {n: v for n, v in attributes.items() if isinstance(v, torch.Tensor)}
        self._inner = {n: _inner(n, v) for n, v in attributes.items() if n not in held}
        self.constants = list(held.values())
        self.inputs = [*(n for n in nodes if n.op == "placeholder"), *held]
        values = {n: held.get(n, n.meta.get("val")) for n in self.inputs}
        self._complex_inputs = [n for n in self.inputs if is_complex(values[n])]
        (output,) = (n for n in nodes if n.op == "output")
        results = output.args[0]
        self.is_single = not isinstance(results, (list, tuple))
        self.outputs = [results] if self.is_single else list(results)
        calls = [n for n in nodes if n.op == "call_function"]
        self._steps = [_step(n) for n in calls]
        self.checks = [check for n in calls if (check := _check_of(n)) is not None]

    def __call__(self, *values: Any) -> list[Any]:
        """What the graph gives for its arguments and constants.

        Raises:
            UnsupportedError: arguments of an operator that tgrad does not take.
        """
        made: dict[Any, Any] = {**dict(zip(self.inputs, values)), **self._inner}
        for node in self._complex_inputs:
            made[node] = Complex.from_pairs(made[node])
        for step in self._steps:
            args, kwargs = _filled(step.args, made), _filled(step.kwargs, made)
            try:
                with source_scope(step.source):
                    made[step.node] = step.function(*args, **kwargs)
            except TraceError as error:
                what = f"{step.node.target} depends on a value that is known when it has run."
                raise unsupported(what, step.source) from error
            except UnsupportedError as error:
                what = f"{step.node.target}: {error.what}"
                raise unsupported(what, step.source, error.hint) from error
            if not self._is_of_one:
                _check_made(step, made[step.node])
        wanted = [*self.outputs, *(check.of for check in self.checks)]
        found = (_filled(x, made) for x in wanted)
        return [x.pairs() if isinstance(x, Complex) else x for x in found]


def _check_made(step: Step, made: Any) -> None:
    """One of several results may be what PyTorch keeps for its backward, and differ.

    Raises:
        UnsupportedError: a result that is complex where PyTorch's is not, or of another shape, as
            far as that is known.
    """
    wanted = step.node.meta.get("val")
    part = made.real if isinstance(made, Complex) else made
    is_one = isinstance(wanted, torch.Tensor) and isinstance(part, tgrad.Tensor)
    if not is_one or step.node.target is getitem:
        return
    has, wants, shape = isinstance(made, Complex), is_complex(wanted), tuple(part.shape)
    is_known = all(isinstance(n, int) for n in (*shape, *wanted.shape))
    if has == wants and (shape == tuple(wanted.shape) or not is_known):
        return
    found, other = (
        f"a {'complex' if is_so else 'real'} tensor of shape {size}"
        for is_so, size in ((has, shape), (wants, tuple(wanted.shape)))
    )
    raise unsupported(f"{step.node.target} gives {found}, and PyTorch's {other}.", step.source)


def why_unsupported(node: torch.fx.Node) -> UnsupportedError | None:
    """What a graph with this call would raise; None where the call has a counterpart."""
    try:
        _step(node)
    except UnsupportedError as error:
        return error
    return None


def is_custom(node: torch.fx.Node) -> bool:
    """Whether a call is of an operator that another library brings with its kernels, or of a part
    of its result."""
    if node.target is getitem:
        return isinstance(node.args[0], torch.fx.Node) and is_custom(node.args[0])
    target = _called(node)
    return isinstance(target, torch._ops.OpOverload) and target.namespace not in PYTORCH_S


def name_of(node: torch.fx.Node) -> str:
    """The operator that is called, for a message."""
    return str(_called(node))


def _called(node: torch.fx.Node) -> Any:
    target: Any = node.target
    is_around = isinstance(target, torch._ops.HigherOrderOperator) and target.name() in AROUND
    return node.args[0] if is_around else target


def source_of(node: torch.fx.Node) -> Source:
    """The line of the model, outside of torch if there is one."""
    frames = list(_FRAME.finditer(node.meta.get("stack_trace") or ""))
    own = [f for f in frames if not f["file"].startswith(_TORCH)] or frames
    target = getattr(node.target, "_overloadpacket", node.target)
    label = getattr(target, "__name__", str(target)).rpartition(".")[2]
    return Source(own[-1]["file"], int(own[-1]["line"]), label) if own else UNKNOWN


def _check_of(node: torch.fx.Node) -> Check | None:
    if node.target is not EFFECT or node.args[1] not in CHECKS:
        return None
    _, op, of, *others = node.args
    kwargs = dict(node.kwargs)
    return Check(of, lambda value: op(value, *others, **kwargs))


def _step(node: torch.fx.Node) -> Step:
    source = source_of(node)
    if node.target is EFFECT and node.args[1] not in CHECKS:
        raise unsupported(f"the effect {node.args[1]} has no counterpart.", source)
    function = _function(node, source)
    _check_dtypes(node, source)
    kwargs = {k: v for k, v in node.kwargs.items() if has_meaning(k)}
    if node.target in BY_LAYOUT:
        kwargs["lies"] = _lies(node.args[0].meta["val"])
    return Step(node, function, _plain(node.args), _plain(kwargs), source)


def _lies(t: torch.Tensor) -> Lies:
    """Symbolic sizes are those of the trace: the order is the same for others."""
    shape, strides = ([known(n) for n in numbers] for numbers in (t.shape, t.stride()))
    return Lies(memory_order(tuple(shape), strides), known(t.storage_offset()))


def _check_dtypes(node: torch.fx.Node, source: Source) -> None:
    """
    Raises:
        UnsupportedError: the call takes or gives a dtype that tgrad has not.
    """
    for verb, at in (*(("takes", n) for n in node.all_input_nodes), ("gives", node)):
        found = at.meta.get("val")
        for value in found if isinstance(found, (list, tuple)) else (found,):
            if not isinstance(value, torch.Tensor) or is_complex(value):
                continue
            try:
                by_name(str(value.dtype).removeprefix("torch."))
            except DTypeError:
                what = f"{node.target} {verb} {value.dtype}."
                raise unsupported(what, source) from None


def _function(node: torch.fx.Node, source: Source) -> Callable[..., Any]:
    target: Any = node.target
    if target is torch.ops.higher_order.cond:
        return _cond
    if target is EFFECT:
        return _token
    if target in (flex_attention.FORWARD, flex_attention.BACKWARD):
        if found := flex_attention.what_is_not_of_one_score(node):
            raise unsupported(f"{found} in a function of flex_attention.", source)
        is_forward = target is flex_attention.FORWARD
        return flex_attention.forward if is_forward else flex_attention.backward
    if target is torch._prims.rng_prims.run_and_save_rng_state:
        return partial(draw_and_save, operator(node.args[0], source))
    if target is torch._prims.rng_prims.run_with_rng_state:
        return partial(draw_again, operator(node.args[1], source))
    if not isinstance(target, torch._ops.OperatorBase):
        return target  # arithmetic with sizes, and the choice of one result of several
    if isinstance(target, torch._ops.OpOverload):
        return _of_complex(node, source) if _has_complex(node) else operator(target, source)
    raise unsupported(f"{target} has no counterpart.", source)


def _has_complex(node: torch.fx.Node) -> bool:
    """Whether a complex number is among the arguments or the results of a call."""
    found = [n.meta.get("val") for n in (node, *node.all_input_nodes)]
    return any(map(is_complex, pytree.tree_leaves(found)))


def _of_complex(node: torch.fx.Node, source: Source) -> Callable[..., Any]:
    target: Any = node.target
    name = target.overloadpacket.__name__
    function = None
    if target.namespace in PYTORCH_S:
        function = complex_operator(name, lambda: operator(target, source))
    if function is None:
        raise unsupported(f"{target} of complex numbers has no counterpart.", source)
    return function


def _inner(node: torch.fx.Node, module: torch.fx.GraphModule) -> Callable[..., Any] | None:
    """A branch, as a function of its operands alone; or a function of attention's scores."""
    user = next(iter(node.users), node)
    is_of_scores = user.target in (flex_attention.FORWARD, flex_attention.BACKWARD)
    if user.target is flex_attention.BACKWARD and user.args[flex_attention.JOINT_GRAPH] is node:
        return None
    graph = Graph(module, is_of_scores)

    def function(*operands: Any) -> Any:
        made = graph(*operands, *map(tgrad.from_dlpack, graph.constants))
        return made[0] if is_of_scores else made

    return function


def _token(token: Any, *effect: Any, **kwargs: Any) -> tuple[Any]:
    """What orders effects is passed on; the effect comes after the plan."""
    return (token,)


def _cond(pred: Any, yes: Callable[..., Any], no: Callable[..., Any], operands: Any) -> Any:
    return tgrad.cond(pred, yes, no, tuple(operands))


def _plain(value: Any) -> Any:
    """Arguments in tgrad's terms, but for the graph's nodes among them."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value)) if isinstance(value, tuple) else list(map(_plain, value))
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, torch.dtype) and value in PARTS:
        return complex_of(PARTS[value])
    return converted(value)


def _filled(value: Any, made: Mapping[Any, Any]) -> Any:
    """Arguments with what was made in place of the graph's nodes."""
    if isinstance(value, torch.fx.Node):
        return made[value]
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(x, made) for x in value)
    if isinstance(value, dict):
        return {k: _filled(v, made) for k, v in value.items()}
    return value
