"""`torch.compile(model, backend="tgrad")`: a PyTorch model keeps all of its code.

In: graphs of operators, forward and backward, as PyTorch's AOTAutograd makes them, and tensors of
torch. Out: the same results in tensors of torch, computed by plans of tgrad. Invariant: memory is
shared both ways where it is contiguous, so parameters, activations and gradients are copied no more
often than PyTorch itself would; autograd, state and optimizers stay PyTorch's.
Source: https://docs.pytorch.org/docs/stable/torch.compiler_custom_backends.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from torch._decomp import core_aten_decompositions
from torch._dynamo.backends.common import aot_autograd

import tgrad
from tgrad.errors import UnsupportedError
from tgrad.interop.operators import has_meaning, operator
from tgrad.interop.torch_function import converted

OPTIONS = ("memory_limit", "autotune")
"""What `options` may hold, with the meaning it has for `tgrad.compile`."""
WHOLE = "_scaled_dot_product_"
"""Operators that stay whole though PyTorch could take them apart begin so: tgrad knows them."""


def backend(
    graph: torch.fx.GraphModule,
    inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """The backend that torch.compile finds under the name "tgrad".

    Each shape is a plan of its own, found by its key at later calls. Random numbers, as of dropout,
    come from tgrad's generator: `tgrad.manual_seed`. What PyTorch asserts of values inside a graph,
    such as the range of classes in `one_hot`, is not checked.

    Args:
        graph, inputs: from torch.compile.
        mode: only "default".
        options: memory_limit and autotune, as `tgrad.compile` takes them.

    Raises:
        UnsupportedError: a mode or an option that is none, or an operator without a counterpart.

    >>> import torch
    >>> double = torch.compile(lambda x: x * 2, backend=backend)
    >>> double(torch.ones(2)).tolist()
    [2.0, 2.0]
    """
    if mode not in (None, "default"):
        raise UnsupportedError(f"torch.compile with the backend tgrad: mode={mode!r}.", "Leave it.")
    unknown = sorted(set(options or {}) - set(OPTIONS))
    if unknown:
        raise UnsupportedError(
            f"torch.compile with the backend tgrad: options {', '.join(unknown)}.",
            f"Known are {', '.join(OPTIONS)}.",
        )

    def make(module: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        return make_boxed_func(_Compiled(module, dict(options or {})))

    kept = {op: how for op, how in core_aten_decompositions().items() if not _is_whole(op)}
    aot = aot_autograd(
        fw_compiler=make,
        bw_compiler=make,
        decompositions=kept,
        partition_fn=min_cut_rematerialization_partition,
    )
    return aot(graph, inputs)


def _is_whole(op: Any) -> bool:
    return str(getattr(op, "overloadpacket", op).__name__).startswith(WHOLE)


class _Compiled:
    """A graph as a function of tensors of torch.

    Attributes:
        constants: tensors of the graph itself, given to `run` after the inputs.
        run: of tensors of tgrad, compiled; gives what `results` asks for, in order.
        results: for each output of the graph, the number of the input that it is, or None.
    """

    def __init__(self, module: torch.fx.GraphModule, options: Mapping[str, Any]):
        constants = [n for n in module.graph.nodes if n.op == "get_attr"]
        self.constants = [getattr(module, n.target) for n in constants]
        inputs = [n for n in module.graph.nodes if n.op == "placeholder"] + constants
        (output,) = (n for n in module.graph.nodes if n.op == "output")
        number = {n: i for i, n in enumerate(inputs)}
        wanted = list(output.args[0])
        self.results = [number.get(x) if isinstance(x, torch.fx.Node) else None for x in wanted]
        steps = _steps(module)

        def interpret(values: Sequence[Any]) -> list[Any]:
            made = dict(zip(inputs, values))
            for node, function, args, kwargs in steps:
                made[node] = function(*_filled(args, made), **_filled(kwargs, made))
            return [_filled(x, made) for x, at in zip(wanted, self.results) if at is None]

        found = {"interpret": interpret}.get
        """A built-in function, into which `tgrad.compile` does not look for what may change: nobody
        changes a graph, and to compare it would take longer than small graphs run."""

        def torch_graph(*values: Any) -> list[Any]:
            function = found("interpret")
            assert function is not None
            return function(values)

        self.run = tgrad.compile(torch_graph, **options)

    def __call__(self, *args: Any) -> list[Any]:
        given = (*args, *self.constants)
        with tgrad.no_grad():
            made = iter(self.run(*map(_to_tgrad, given)))
        return [_to_torch(next(made)) if at is None else given[at] for at in self.results]


def _steps(module: torch.fx.GraphModule) -> list[tuple[Any, Callable[..., Any], Any, Any]]:
    """The calls of a graph, in order, with their functions in terms of tgrad."""
    steps: list[tuple[Any, Callable[..., Any], Any, Any]] = []
    for node in module.graph.nodes:
        if node.op == "call_function":
            is_operator = isinstance(node.target, torch._ops.OpOverload)
            function = operator(node.target) if is_operator else node.target
            kwargs = {k: v for k, v in node.kwargs.items() if has_meaning(k)}
            steps.append((node, function, _plain(node.args), _plain(kwargs)))
    return steps


def _plain(value: Any) -> Any:
    """Arguments in tgrad's terms, but for the graph's nodes among them."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value)) if isinstance(value, tuple) else list(map(_plain, value))
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
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


def _to_tgrad(value: Any) -> Any:
    return tgrad.from_dlpack(value.detach()) if isinstance(value, torch.Tensor) else value


def _to_torch(value: Any) -> Any:
    if not isinstance(value, tgrad.Tensor):
        return value
    if value.device.type == "cuda" or value.dtype.in_numpy:
        return torch.from_dlpack(value)
    bits = value.numpy().view(f"i{value.dtype.itemsize}")  # NumPy has no such capsule
    return torch.from_numpy(bits).view(getattr(torch, value.dtype.name))
