"""`torch.compile(model, backend="tgrad")`: a PyTorch model keeps all of its code.

In: graphs of operators, forward and backward, as PyTorch's AOTAutograd makes them, and tensors of
torch. Out: the same results in tensors of torch, computed by plans of tgrad. Invariant: memory is
shared both ways where it is contiguous, so parameters, activations and gradients are copied no more
often than PyTorch itself would, and no two results that the caller sees share it; autograd, state
and optimizers stay PyTorch's.
Source: https://docs.pytorch.org/docs/stable/torch.compiler_custom_backends.html
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from operator import getitem
from typing import Any

import torch
from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from torch._decomp import core_aten_decompositions, get_decompositions
from torch._dynamo.backends.common import aot_autograd
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase

import tgrad
from tgrad.compiling.function import KEPT_ENTRIES
from tgrad.compiling.short import MISSED
from tgrad.errors import UnsupportedError
from tgrad.interop.operators.complex_numbers import is_complex
from tgrad.interop.operators.layers import max_pool_gradient
from tgrad.interop.torch_graph import Graph, is_custom, name_of, why_unsupported
from tgrad.interop.torch_replay import (
    TorchReplay,
    as_real,
    inverse,
    lies_plainly,
    numbers_of,
    order_of,
    permuted,
    symbols_of,
    to_tgrad,
    to_torch,
    views_among,
)

PLAN = "tgrad_"
"""Names of the parts of a graph that are plans, where some are not, begin so."""
OPTIONS = ("memory_limit", "autotune", "fallback")
"""What `options` may hold: the first two have the meaning that they have for `tgrad.compile`."""
WHOLE = "_scaled_dot_product_"
"""Operators that stay whole though PyTorch could take them apart begin so: tgrad knows them."""
POOLS = (
    torch.ops.aten.max_pool2d_with_indices_backward.default,
    torch.ops.aten.max_pool3d_with_indices_backward.default,
)
"""Operators whose last argument are places."""
TAKEN_APART = (
    torch.ops.aten._log_softmax,
    torch.ops.aten._log_softmax_backward_data,
    torch.ops.aten.batch_norm_backward,
)
"""Operators that are taken apart beside those that PyTorch takes apart for all: of logarithms of
softmax, so that backward is given statistics of rows and not a matrix of log-probabilities."""


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
        options: memory_limit and autotune, as `tgrad.compile` takes them. With fallback=True
            PyTorch runs each operator that has no counterpart, a warning names it and the line that
            calls it, and plans of tgrad run what is between. Operators of other libraries, which
            bring their kernels, are run so in any case.

    Raises:
        UnsupportedError: a mode or an option that is none, or an operator of PyTorch without a
            counterpart.

    >>> import torch
    >>> double = torch.compile(lambda x: x * 2, backend=backend)
    >>> double(torch.ones(2)).tolist()
    [2.0, 2.0]
    """
    _check_asked(mode, options or {})
    chosen = dict(options or {})
    falls_back = bool(chosen.pop("fallback", False))

    def make(
        is_forward: bool, module: torch.fx.GraphModule, inputs: Sequence[Any]
    ) -> Callable[..., Any]:
        if falls_back or any(map(is_custom, module.graph.nodes)):
            return make_boxed_func(_Mixed(module, chosen, falls_back, is_forward))
        count = sum(n.op == "placeholder" for n in module.graph.nodes)
        return make_boxed_func(_Compiled(module, chosen, range(count if is_forward else 0)))

    aot = aot_autograd(
        fw_compiler=partial(make, True),
        bw_compiler=partial(make, False),
        decompositions=_decompositions(),
        partition_fn=_partition,
    )
    return aot(graph, inputs)


def _partition(
    joint: torch.fx.GraphModule, inputs: Any, **options: Any
) -> tuple[torch.fx.GraphModule, torch.fx.GraphModule]:
    """What PyTorch does in forward and what in backward, by the least memory between them."""
    _forget_places(joint)
    return min_cut_rematerialization_partition(joint, inputs, **options)


def _forget_places(joint: torch.fx.GraphModule) -> None:
    """Let the gradients of pools find their maxima again: they read the pool's input in any case,
    and places are eight bytes a maximum to compute and to keep."""
    for node in joint.graph.nodes:
        if node.target in POOLS:
            node.target, node.args = max_pool_gradient, node.args[:-1]


def _check_asked(mode: str | None, options: Mapping[str, Any]) -> None:
    """
    Raises:
        UnsupportedError: a mode or an option that is none.
    """
    if mode not in (None, "default"):
        raise UnsupportedError(f"torch.compile with the backend tgrad: mode={mode!r}.", "Leave it.")
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise UnsupportedError(
            f"torch.compile with the backend tgrad: options {', '.join(unknown)}.",
            f"Known are {', '.join(OPTIONS)}.",
        )


@lru_cache(maxsize=1)
def _decompositions() -> dict[Any, Callable[..., Any]]:
    """What PyTorch takes apart before a graph is planned. PyTorch's own table takes 60 ms to make;
    what is registered later to be made of other operators is taken apart without being in it."""
    core = {op: how for op, how in core_aten_decompositions().items() if not _is_whole(op)}
    return core | get_decompositions(TAKEN_APART)


def _is_whole(op: Any) -> bool:
    return str(getattr(op, "overloadpacket", op).__name__).startswith(WHOLE)


class _Compiled:
    """A graph as a function of tensors of torch.

    Args:
        own: numbers of the arguments that are the caller's, and lie as the graph says; those of
            backward are what forward made.

    Attributes:
        graph: what is computed.
        results: for each output of the graph, the number of the input that it is, or None.
        same: by their numbers, outputs that are an earlier one.
        views: by their numbers, outputs that lie in the memory of an input, ~number, or of another
            output. PyTorch's graph makes them so: writes to one reach the other, or raise; and its
            code around the graph reads an input by what the output says of its memory.
        symbols: where a call finds the sizes that vary.
        made: numbers of the outputs that the plan makes: all others.
        complex: which of these are complex.
        orders: of these, those that PyTorch's graph has in another order than row by row, such as
            images with channels last: a plan makes them in that order.
    """

    def __init__(
        self, module: torch.fx.GraphModule, options: Mapping[str, Any], own: Collection[int]
    ):
        self.graph = graph = Graph(module)
        number = {n: i for i, n in enumerate(graph.inputs)}
        at = [number.get(x) if isinstance(x, torch.fx.Node) else None for x in graph.outputs]
        self.results, self.options = at, options
        values = [n.meta.get("val") if isinstance(n, torch.fx.Node) else n for n in graph.outputs]
        made = {n: v for n, v in enumerate(values) if at[n] is None and isinstance(v, torch.Tensor)}
        first = {graph.outputs[n]: n for n in reversed(made)}
        self.same = {n: first[x] for n in made if first[x := graph.outputs[n]] != n}
        made = {n: v for n, v in made.items() if n not in self.same}
        inputs = [node.meta.get("val") for node in graph.inputs]
        tensors = {~n: v for n, v in enumerate(inputs) if isinstance(v, torch.Tensor)}
        self.symbols = symbols_of(inputs)
        views = views_among(tensors | made, {~n for n in own}, self.symbols)
        self.views = {n: view for n, view in views.items() if n >= 0}
        made = {n: v for n, v in made.items() if n not in self.views}
        others = {*self.same, *self.views}
        self.made = [n for n, given in enumerate(at) if given is None and n not in others]
        self.complex = [n for n, v in made.items() if is_complex(v)]
        orders = {n: order_of(v) for n, v in made.items()}
        self.orders = {n: order for n, order in orders.items() if order is not None}
        self.plans: _Plans | None = None

    def __call__(self, *args: Any) -> list[Any]:
        given = (*args, *self.graph.constants)
        plans = self.plans
        if plans is None:
            stay = {n for n, t in enumerate(given) if _stays(t) or n >= len(args)}
            plans = self.plans = _Plans(self, given, stay)
        elif moved := plans.moved(given):
            plans = self.plans = _Plans(self, given, plans.kept.keys() - moved)
        with tgrad.no_grad():
            made = plans(given)
        results: list[Any] = [None if at is None else given[at] for at in self.results]
        for at, value in zip(self.made, made):
            results[at] = value
        for at in self.complex:
            results[at] = torch.view_as_complex(results[at]).data
        for at, order in self.orders.items():
            results[at] = results[at].permute(inverse(order)).data
        sizes = self._sizes(given) if self.views else {}
        for at, view in self.views.items():
            base = given[~view.base] if view.base < 0 else results[view.base]
            results[at] = view.of(base, sizes)
        for at, earlier in self.same.items():
            results[at] = results[earlier]
        for check, value in zip(self.graph.checks, made[len(self.made) :]):
            check.run(value)
        return results

    def _sizes(self, given: Sequence[Any]) -> dict[Any, int]:
        return {
            symbol: numbers_of(given[number])[at] for symbol, (number, at) in self.symbols.items()
        }

    def interpret(self, values: Sequence[Any]) -> list[Any]:
        """What is computed of all arguments, and what is checked afterwards."""
        found = self.graph(*values)
        for number, order in self.orders.items():
            found[number] = permuted(found[number], order)
        return [found[n] for n in self.made] + found[len(self.results) :]


class _Plans:
    """A graph, compiled for parameters that stay where they are: they are state of its plans, bound
    once, and a graph of a GPU does not copy them. Those of a block that several layers share do
    not stay.

    Attributes:
        kept: arguments that stay, by their numbers, as tensors of tgrad.
        moving: numbers of the other tensors.
        sizes: numbers of the arguments that are numbers.
        complex: which of the moving tensors are complex.
        orders: of tensors that lie in another order than row by row, by their numbers.
        run: of the moving arguments, as tensors of tgrad.
        replays: the latest way of a call without these, by its sizes.
    """

    def __init__(self, graph: _Compiled, given: Sequence[Any], stay: Collection[int]):
        others = [n for n in range(len(given)) if n not in stay]
        self.moving = [n for n in others if isinstance(given[n], torch.Tensor)]
        self.sizes = [n for n in others if n not in self.moving]
        self.complex = [at for at, n in enumerate(self.moving) if given[n].is_complex()]
        self.places = [(n, given[n].data_ptr()) for n in stay]
        found = {n: order_of(t) for n, t in enumerate(given) if isinstance(t, torch.Tensor)}
        self.orders = {n: order for n, order in found.items() if order is not None}
        self.kept = {n: to_tgrad(self._lying(given, n)) for n in stay}
        self.replays: dict[tuple[Any, ...], TorchReplay] = {}

        order = [*self.kept, *self.moving, *self.sizes]
        kept, orders = tuple(self.kept.values()), self.orders

        def interpret(values: Sequence[Any]) -> list[Any]:
            found = dict(zip(order, values))
            for n, axes in orders.items():
                found[n] = permuted(found[n], inverse(axes))
            return graph.interpret([found[n] for n in range(len(order))])

        inner = {"interpret": interpret}.get
        """A built-in function, into which `tgrad.compile` does not look for what may change: nobody
        changes a graph, and to compare it would take longer than small graphs run."""

        def torch_graph(*values: Any) -> list[Any]:
            function = inner("interpret")
            assert function is not None
            return function((*kept, *values))

        self.run = tgrad.compile(torch_graph, **graph.options)

    def _lying(self, given: Sequence[Any], number: int) -> torch.Tensor:
        """A tensor with its axes in the order in which its elements lay at first."""
        t: torch.Tensor = given[number]
        return t.permute(self.orders[number]) if number in self.orders else t

    def moved(self, given: Sequence[Any]) -> set[int]:
        """Which of those that stay are elsewhere now."""
        return {n for n, address in self.places if given[n].data_ptr() != address}

    def __call__(self, given: Sequence[Any]) -> list[Any]:
        tensors = [given[n] for n in self.moving]
        if self.orders:
            tensors = [self._lying(given, n) for n in self.moving]
        for at in self.complex:
            tensors[at] = as_real(tensors[at])
        sizes = tuple([given[n] for n in self.sizes])
        replay = self.replays.get(sizes)
        if replay is not None:
            made = replay(tensors)
            if made is not MISSED:
                return made
        values = tuple(map(to_tgrad, tensors))
        results = list(_apart(map(to_torch, self.run(*values, *sizes)), given))
        replay = TorchReplay.of(self.run.short_call(values), tensors)
        if replay is not None and len(self.replays) < KEPT_ENTRIES:
            self.replays[sizes] = replay
        return results


def _stays(value: Any) -> bool:
    """Whether an argument of a graph is likely to lie where it is at the next call."""
    if not isinstance(value, torch.nn.Parameter):
        return False
    order = order_of(value)
    return lies_plainly(value if order is None else value.permute(order))


class _Mixed:
    """A graph whose operators without a counterpart are run by PyTorch, between plans of tgrad.

    Args:
        takes_all: whether these may be PyTorch's own.
        is_forward: whether the arguments are the caller's.
    """

    def __init__(
        self,
        module: torch.fx.GraphModule,
        options: Mapping[str, Any],
        takes_all: bool,
        is_forward: bool,
    ):
        calls = [n for n in module.graph.nodes if n.op == "call_function"]
        errors = [(n, error) for n in calls if (error := why_unsupported(n)) is not None]
        for node, error in errors:
            if not (takes_all or is_custom(node)):
                raise error
        named = [f"{name_of(n)} at {e.source}" for n, e in errors if n.target is not getitem]
        if named:
            _warn(", ".join(dict.fromkeys(named)))
        known = CapabilityBasedPartitioner(module, _Known(), allows_single_node_partition=True)
        self.module = known.partition_and_fuse(PLAN)
        for node in self.module.graph.nodes:
            if node.op == "call_module" and node.target.startswith(PLAN):
                _take_functions(node, self.module)
                part = getattr(self.module, node.target)
                own = [n for n, x in enumerate(node.args) if is_forward and x.op == "placeholder"]
                plan = _Part(node.target, part, options, takes_all, own)
                setattr(self.module, node.target, plan)
        self.module.recompile()

    def __call__(self, *args: Any) -> Any:
        return self.module.forward(*args)


def _take_functions(call: torch.fx.Node, module: torch.fx.GraphModule) -> None:
    """Let a part hold the functions that it is given, such as those of attention's scores."""
    part: Any = getattr(module, str(call.target))
    inputs = [n for n in part.graph.nodes if n.op == "placeholder"]
    kept = []
    for node, given in zip(inputs, call.args, strict=True):
        of = None
        if isinstance(given, torch.fx.Node) and given.op == "get_attr":
            of = getattr(module, str(given.target))
        if not isinstance(of, torch.fx.GraphModule):
            kept.append(given)
            continue
        setattr(part, str(given.target), of)
        with part.graph.inserting_before(node):
            node.replace_all_uses_with(part.graph.get_attr(given.target))
        part.graph.erase_node(node)
    call.args = tuple(kept)
    part.recompile()


class _Part(torch.nn.Module):
    """A part of a graph, as a plan; PyTorch runs it where that turns out not to be one."""

    def __init__(
        self,
        name: str,
        part: torch.fx.GraphModule,
        options: Mapping[str, Any],
        takes_all: bool,
        own: Collection[int],
    ):
        super().__init__()
        self.name, self.part, self.takes_all = name, part, takes_all
        self.plan: _Compiled | None = _Compiled(part, options, own)

    def forward(self, *args: Any) -> Any:
        """What the part gives."""
        if self.plan is None:
            return self.part(*args)
        try:
            made = self.plan(*args)
        except UnsupportedError as error:  # arguments of an operator, seen when the plan is made
            if not self.takes_all:
                raise
            _warn(f"{self.name} ({error.what})")
            self.plan = None
            return self.part(*args)
        return made[0] if self.plan.graph.is_single else made


def _warn(what: str) -> None:
    warnings.warn(f"torch.compile with the backend tgrad: PyTorch runs {what}.", stacklevel=3)


class _Known(OperatorSupportBase):
    def is_node_supported(self, submodules: Any, node: torch.fx.Node) -> bool:
        return node.op == "call_function" and why_unsupported(node) is None


def _apart(made: Iterable[Any], given: Sequence[Any]) -> Iterator[Any]:
    """Results with no memory in common: equal values are one value to tgrad, copies of arguments
    too, and torch may write to each."""
    taken = {t.data_ptr() for t in given if isinstance(t, torch.Tensor)}
    for t in made:
        if isinstance(t, torch.Tensor):
            t = t.clone() if t.data_ptr() in taken else t
            taken.add(t.data_ptr())
        yield t
