"""Derivatives of functions, and functions over batches, as torch.func.

In: a function of tensors. Out: a function. Invariant: everything is graph to graph: a transform
calls the function once, on variables, and rewrites the graph that it made; so transforms nest in
any order. Source: https://docs.pytorch.org/docs/stable/func.api.html
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import reduce, wraps
from typing import Any

from tgrad import dtype as dt
from tgrad.autodiff.backward import gradients, register_vjp
from tgrad.batching import UNRECORDED, batch, inside_transform, inside_vmap, placeholder
from tgrad.errors import GradientError, ShapeError, UnsupportedError
from tgrad.grad_mode import enable_grad
from tgrad.graph import build as b
from tgrad.graph.node import Node, is_leaf_mark, make, source_scope, toposort
from tgrad.graph.op import Op
from tgrad.joining import cat, stack
from tgrad.methods.reduction import normal_axis
from tgrad.random import drawn, get_rng_state, set_rng_state
from tgrad.tensor import Tensor
from tgrad.utils._pytree import tree_leaves, tree_map, tree_structure

__all__ = [
    "functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "linearize",
    "replace_all_batch_norm_modules_", "stack_module_state", "vjp", "vmap",
]  # fmt: skip

Function = Callable[..., Any]
Argnums = int | Sequence[int]

_numbers = itertools.count()


# -- nests of tensors ----------------------------------------------------------------------------


def _tensors(tree: Any, name: str) -> list[Tensor]:
    """The leaves, which are tensors.

    Raises:
        GradientError: one is not.
    """
    leaves = tree_leaves(tree)
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise GradientError(f"{name}: a {type(leaf).__name__} where a tensor belongs.")
    return leaves


# -- variables -----------------------------------------------------------------------------------


@register_vjp("variable", has_effects=True)
def _variable_rule(
    g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
) -> Sequence[Node | None]:
    """A variable is its value to whoever differentiates around this transform."""
    return (g,)


def _variable(t: Tensor) -> Tensor:
    """The same value, apart from all others."""
    mark = make(Op.CUSTOM_VJP, t._node, t._node, rule="variable", params=(next(_numbers),))
    found = Tensor._of(mark, t.device)
    found._requires_grad = t.dtype.is_float
    return found


def _tensor(node: Node, like: Tensor) -> Tensor:
    """A result, which requires a gradient if it leads to a leaf."""
    found = Tensor._of(node, like.device)
    found._requires_grad = node.dtype.is_float and any(map(is_leaf_mark, toposort([node])))
    return found


def _pulled(
    outputs: Sequence[Node], cotangents: Sequence[Node], variables: Sequence[Tensor]
) -> list[Node]:
    """Gradients of the variables, zeros where an output does not depend on one."""
    nodes = [v._node for v in variables]
    totals: list[Node | None] = [None] * len(nodes)
    for output, cotangent in zip(outputs, cotangents):
        if not output.dtype.is_float:
            continue
        for i, g in enumerate(gradients(output, cotangent, nodes, create_graph=True)):
            have = totals[i]
            totals[i] = g if have is None else have if g is None else b.add(have, g)
    return [b.const_like(n, 0) if g is None else g for n, g in zip(nodes, totals)]


# -- reverse mode --------------------------------------------------------------------------------


def vjp(func: Function, *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The result of `func`, and a function from its cotangents to those of the primals.

    Args:
        func: of the primals, each a tensor or a nest of tensors.
        has_aux: whether func returns (result, other), which is returned as well.

    >>> import tgrad
    >>> y, pull = tgrad.func.vjp(lambda x: x * x, tgrad.tensor(3.0))
    >>> pull(tgrad.tensor(1.0))[0].item()
    6.0
    """
    with inside_transform(), enable_grad():
        variables = tree_map(_variable, primals)
        found = func(*variables)
    result, aux = found if has_aux else (found, None)
    outputs, inputs = _tensors(result, "vjp"), _tensors(variables, "vjp")

    def pull(*cotangents: Any) -> Any:
        given = _tensors(cotangents if len(cotangents) > 1 else cotangents[0], "vjp")
        if [t.shape for t in given] != [t.shape for t in outputs]:
            raise ShapeError(
                f"cotangents of shapes {[t.shape for t in given]} for results of shapes "
                f"{[t.shape for t in outputs]}."
            )
        nodes = [t.to(o.dtype)._node for t, o in zip(given, outputs)]
        with source_scope(label="vjp"):
            pulled = iter(_pulled([t._node for t in outputs], nodes, inputs))
        return tree_map(lambda t: _tensor(next(pulled), t), primals)

    return (_outside(result), pull, aux) if has_aux else (_outside(result), pull)


def _outside(result: Any) -> Any:
    """Results as the caller sees them: they require what they led to before."""
    return tree_map(lambda t: _tensor(t._node, t) if isinstance(t, Tensor) else t, result)


def grad_and_value(func: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """A function that gives (gradient, value) of `func`, whose result is one number.

    >>> import tgrad
    >>> g, y = tgrad.func.grad_and_value(lambda x: x * x)(tgrad.tensor(3.0))
    >>> g.item(), y.item()
    (6.0, 9.0)
    """

    @wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        numbers = tuple(normal_axis(n, len(args)) for n in numbers)
        y, pull, aux = vjp(_of_some(func, args, kwargs, numbers, has_aux),
                           *(args[n] for n in numbers), has_aux=True)  # fmt: skip
        if not isinstance(y, Tensor) or y.numel() != 1 or not y.dtype.is_float:
            raise GradientError("grad of a function whose result is not one floating number.")
        found = pull(y._constant(1, y.dtype).expand(y.shape))
        found = found[0] if isinstance(argnums, int) else found
        return found, ((y, aux) if has_aux else y)

    return call


def _of_some(
    func: Function, args: tuple[Any, ...], kwargs: Any, numbers: tuple[int, ...], has_aux: bool
) -> Function:
    """`func` as a function of some of its arguments, that gives (result, aux)."""

    def call(*chosen: Any) -> Any:
        full = list(args)
        for n, value in zip(numbers, chosen):
            full[n] = value
        found = func(*full, **kwargs)
        return found if has_aux else (found, None)

    return call


def grad(func: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """A function that gives the gradient of `func`, whose result is one number.

    Args:
        argnums: the argument, a tensor or a nest of them; or several.
        has_aux: whether func returns (number, other); then (gradient, other) is returned.

    >>> import tgrad
    >>> cube = lambda x: x**3
    >>> tgrad.func.grad(tgrad.func.grad(cube))(tgrad.tensor(2.0)).item()
    12.0
    """
    both = grad_and_value(func, argnums, has_aux)

    @wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        found, value = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return call


# -- forward mode --------------------------------------------------------------------------------


def jvp(func: Function, primals: Any, tangents: Any, *, has_aux: bool = False) -> tuple[Any, ...]:
    """The result of `func`, and its derivative along the tangents.

    >>> import tgrad
    >>> y, dy = tgrad.func.jvp(lambda x: x * x, (tgrad.tensor(3.0),), (tgrad.tensor(2.0),))
    >>> dy.item()
    12.0
    """
    aux: Any = None

    def of_result(*given: Any) -> Any:
        nonlocal aux
        found = func(*given)
        result, aux = found if has_aux else (found, None)
        return result

    output, push = _linearized("jvp", of_result, tuple(primals))
    derivative = push(*tangents)
    return (output, derivative, aux) if has_aux else (output, derivative)


def linearize(func: Function, *primals: Any) -> tuple[Any, Function]:
    """The result of `func`, and the function from tangents of the primals to its derivative along
    them, which computes none of `func` again once its values are there.

    Args:
        func: of the primals, each a tensor or a nest of tensors.

    Returns:
        The result, and a function of as many tangents as there are primals, each of the primal's
        shape.

    Raises:
        GradientError: a leaf of the primals, of the result or of the tangents is no tensor.
        ShapeError: tangents of other shapes.
        UnsupportedError: the result depends on the primals by way of a block of `no_grad`.

    >>> import tgrad
    >>> y, along = tgrad.func.linearize(lambda x: x * x, tgrad.tensor(3.0))
    >>> y.item(), along(tgrad.tensor(1.0)).item(), along(tgrad.tensor(2.0)).item()
    (9.0, 6.0, 12.0)
    """
    return _linearized("linearize", func, primals)


def jvp_of_backward(func: Function, primals: Any, tangents: Any) -> tuple[Any, ...]:
    """`jvp` by two backward passes, to which blocks of `no_grad` are constants."""
    output, push = _linearized("jvp", func, tuple(primals), is_forward=False)
    return output, push(*tangents)


def _linearized(
    name: str, func: Function, primals: tuple[Any, ...], is_forward: bool = True
) -> tuple[Any, Function]:
    """The result, and the derivative along tangents.

    The VJP is linear in its cotangent; its own VJP at the tangents is the derivative.
    """
    _tensors(primals, name)
    with inside_transform(), enable_grad():
        variables = tree_map(_variable, primals)
        result = func(*variables)
    outputs, inputs = _tensors(result, name), _tensors(variables, name)
    if is_forward:
        _check_recorded([t._node for t in outputs], {t._node for t in inputs})
    with source_scope(label=name):
        cotangents = [_variable(t._constant(0, t.dtype).expand(t.shape)) for t in outputs]
        pulled = _pulled([t._node for t in outputs], [c._node for c in cotangents], inputs)

    def push(*tangents: Any) -> Any:
        along = _tensors(tangents, name)
        if [t.shape for t in inputs] != [t.shape for t in along]:
            raise ShapeError(
                f"tangents of shapes {[t.shape for t in along]} for primals of shapes "
                f"{[t.shape for t in inputs]}."
            )
        with source_scope(label=name):
            parts = [b.mul(g, t.to(g.dtype)._node) for g, t in zip(pulled, along)]
            sums = [b.sum_over(part, tuple(range(len(part.shape)))) for part in parts]
            total = reduce(b.add, sums)
            moved = _pulled([total], [b.const_like(total, 1)], cotangents)
        return _like(result, [_tensor(node, t) for node, t in zip(moved, outputs)])

    return _outside(result), push


def _check_recorded(outputs: Sequence[Node], variables: set[Node]) -> None:
    """
    Raises:
        UnsupportedError: what leads from the variables to the outputs was computed under no_grad.
    """
    moving = set(variables)
    for n in toposort(outputs):
        if moving.isdisjoint(n.inputs):
            continue
        if n.op is not Op.CUSTOM_VJP or n.attr("rule") != "detach":
            moving.add(n)
        elif n.attr("params") == UNRECORDED:
            raise UnsupportedError(
                "jvp, jacfwd or hessian through a block of no_grad, which PyTorch differentiates "
                "forwards and not backwards.",
                "Use x.detach() for a constant.",
                n.source,
            )


# -- batches -------------------------------------------------------------------------------------


def vmap(
    func: Function,
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Function:
    """A function that maps `func` over an axis of its arguments; one graph, no loop.

    Args:
        func: of tensors without that axis, and of anything else.
        in_dims: the axis of each positional argument, None for those that are the same for all, as
            those with a keyword are; a number for all, or a tuple with one for each argument (or a
            nest as the argument is).
        out_dims: where the axis stands in the results; None for those that are the same for all.
        randomness: "error" refuses functions that draw; "same" draws once for all members,
            "different" for each.
        chunk_size: how many members are computed at a time; None for all.

    Raises:
        ShapeError: out_dims is None for a result that depends on the member, or a chunk is empty.
        UnsupportedError: an unknown randomness; a value is read inside, or one that depends on the
            member is written to a tensor from outside.

    >>> import tgrad
    >>> tgrad.func.vmap(lambda x: x.sum())(tgrad.ones(2, 3)).tolist()
    [3.0, 3.0]
    """
    if randomness not in ("error", "same", "different"):
        raise UnsupportedError(
            f"vmap: randomness={randomness!r}.", 'Use "error", "same" or "different".'
        )
    if chunk_size is not None and chunk_size < 1:
        raise ShapeError(f"vmap: chunk_size={chunk_size}.", "Give 1 or more.")

    @wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        members = _Members(args, in_dims)
        if chunk_size is None or chunk_size >= members.size:
            return members.mapped(func, args, kwargs, out_dims, randomness)
        one = vmap(func, in_dims, out_dims, randomness)
        return _in_chunks(one, args, kwargs, members, chunk_size, out_dims, randomness == "same")

    return call


def _in_chunks(
    mapped: Function, args: tuple[Any, ...], kwargs: dict[str, Any], members: _Members,
    chunk: int, out_dims: Any, draws_again: bool,
) -> Any:  # fmt: skip
    """A mapped function of some members at a time, and the results of all."""
    state = get_rng_state() if draws_again else None
    found = []
    for first in range(0, members.size, chunk):
        if state is not None:
            set_rng_state(state)
        each, count = iter(members.axes), min(chunk, members.size - first)

        def part(leaf: Any) -> Any:
            d = next(each)  # noqa: B023
            return leaf if d is None else leaf.narrow(d, first, count)  # noqa: B023

        found.append(mapped(*tree_map(part, args), **kwargs))
    columns = zip(*map(tree_leaves, found), _out_dims(out_dims, found[0]))
    joined = iter([ts[0] if d is None else cat(ts, d) for *ts, d in columns])
    return tree_map(lambda _: next(joined), found[0])


class _Members:
    """The arguments of `vmap`, and what stands for them where one member is computed.

    Attributes:
        size: how many members there are.
        table: by placeholder, the node of all members.
    """

    def __init__(self, args: tuple[Any, ...], in_dims: Any):
        dims = in_dims if isinstance(in_dims, (tuple, list)) else (in_dims,) * len(args)
        self.axes = [d for a, each in zip(args, dims, strict=True) for d in _dims_of(a, each)]
        self.leaves = tree_leaves(args)
        wide = [None if d is None else a.movedim(d, 0) for a, d in zip(self.leaves, self.axes)]
        if any(t is not None and not t.shape for t in wide):
            raise ShapeError("vmap over a tensor with no axes.", "Give it None in in_dims.")
        sizes = {t.shape[0] for t in wide if t is not None}
        if len(sizes) != 1:
            raise ShapeError(f"vmap over axes of sizes {sorted(sizes)}.", "Give them one size.")
        (self.size,) = sizes
        self.table: dict[Node, Node] = {}
        self._remaining = iter(wide)
        self._ones: list[Tensor | None] = []

    def mapped(
        self, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any], out_dims: Any,
        randomness: str,
    ) -> Any:  # fmt: skip
        """The results for all members; see `vmap`."""
        before, others = drawn.count, drawn.members
        if randomness == "different":
            which = placeholder(next(_numbers), b.const(0, dt.int64, ()), ())
            self.table[which] = make(Op.IOTA, shape=(self.size,), axis=0, dtype=dt.int64)
            drawn.members = (*others, (which, self.size))
        try:
            with inside_vmap(), enable_grad():
                found = func(*tree_map(self.narrow, args), **kwargs)
        finally:
            drawn.members = others
        if randomness == "error" and drawn.count != before:
            raise UnsupportedError(
                "vmap of a function that draws.", 'Use randomness="same" or "different".'
            )
        outputs = _tensors(found, "vmap")
        places = _out_dims(out_dims, found)
        same = toposort([t._node for t, d in zip(outputs, places) if d is None])
        if any(n in self.table for n in same):
            raise ShapeError(
                "vmap: out_dims is None for a result that differs from member to member.",
                "Say where its axis stands.",
            )
        written = self.written()
        nodes = [t._node for t in (*outputs, *(one for *_, one in written))]
        with source_scope(label="vmap"):
            made = iter(batch(nodes, self.table, self.size))
        axes = iter(places)

        def wide(t: Tensor) -> Tensor:
            node, d = next(made), next(axes)
            return t if d is None else _tensor(node, t).movedim(0, d)

        results = tree_map(wide, found)
        for a, d, one in written:
            a._assign(_tensor(next(made), one).movedim(0, d))
        return results

    def narrow(self, leaf: Any) -> Any:
        """The next leaf of the arguments as one member has it."""
        t = next(self._remaining)
        self._ones.append(None)
        if t is None:
            return leaf
        variable = placeholder(next(_numbers), t._node, t.shape[1:])
        self.table[variable] = t._node
        one = Tensor._of(variable, t.device)
        one._requires_grad = t.dtype.is_float
        self._ones[-1] = one
        return one

    def written(self) -> list[tuple[Tensor, int, Tensor]]:
        """Arguments that the function has changed in place, their axes, and one member's values."""
        return [
            (leaf, axis, one)
            for leaf, axis, one in zip(self.leaves, self.axes, self._ones)
            if one is not None and axis is not None and one._node not in self.table
        ]


def _dims_of(value: Any, dims: Any) -> list[int | None]:
    """The axis of each leaf of an argument."""
    if isinstance(dims, dict):
        return [d for k in value for d in _dims_of(value[k], dims[k])]
    if isinstance(dims, (tuple, list)):
        return [d for v, each in zip(value, dims, strict=True) for d in _dims_of(v, each)]
    return [dims if isinstance(leaf, Tensor) else None for leaf in tree_leaves(value)]


def _out_dims(dims: Any, result: Any) -> list[int | None]:
    """The axis of each leaf of a result."""
    if dims is None or isinstance(dims, int):
        return [dims] * len(tree_leaves(result))
    return [d for r, each in zip(result, dims, strict=True) for d in _out_dims(each, r)]


# -- matrices of derivatives ---------------------------------------------------------------------


def jacrev(func: Function, argnums: Argnums = 0, *, has_aux: bool = False) -> Function:
    """A function that gives the Jacobian of `func`, of shape (*result, *argument), a row at a time
    in one batch; for nests of results and arguments a nest of Jacobians, those of the results
    outside.

    >>> import tgrad
    >>> tgrad.func.jacrev(lambda x: x * x)(tgrad.tensor([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """

    @wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        one = _of_some(func, args, kwargs, numbers, has_aux)
        y, pull, aux = vjp(one, *(args[n] for n in numbers), has_aux=True)
        outputs = _tensors(y, "jacrev")

        def rows(k: int) -> Any:
            given = [_zeros(o) for o in outputs]
            made = vmap(lambda v: pull(*given[:k], v, *given[k + 1 :]))(_basis(outputs[k]))
            made = tree_map(lambda g: g.reshape((*outputs[k].shape, *g.shape[1:])), made)
            return made[0] if isinstance(argnums, int) else made

        found = _like(y, [rows(k) for k in range(len(outputs))])
        return (found, aux) if has_aux else found

    return call


def jacfwd(
    func: Function, argnums: Argnums = 0, has_aux: bool = False, *, randomness: str = "error"
) -> Function:
    """A function that gives the Jacobian of `func`, as `jacrev` does, a column at a time in one
    batch.

    >>> import tgrad
    >>> tgrad.func.jacfwd(lambda x: x * x)(tgrad.tensor([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """

    @wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        given = tuple(args[n] for n in numbers)
        inputs = _tensors(given, "jacfwd")
        y: Any = None
        aux: Any = None

        def columns(v: Tensor, k: int) -> list[Tensor]:
            nonlocal y, aux
            tangents = [v if i == k else _zeros(x) for i, x in enumerate(inputs)]
            one = _of_some(func, args, kwargs, numbers, has_aux)
            _, y, aux = jvp(one, given, _like(given, tangents), has_aux=True)
            return _tensors(y, "jacfwd")

        parts: list[list[Tensor]] = []
        for k, x in enumerate(inputs):
            made = vmap(columns, (0, None), -1, randomness)(_basis(x), k)
            parts.append([m.reshape((*m.shape[:-1], *x.shape)) for m in made])
        nests = [_like(given, column) for column in zip(*parts)]
        found = _like(y, [nest[0] for nest in nests] if isinstance(argnums, int) else nests)
        return (found, aux) if has_aux else found

    return call


def _like(tree: Any, leaves: Sequence[Any]) -> Any:
    """The same nest with these leaves, in order."""
    return tree_structure(tree).unflatten(leaves)


def _zeros(like: Tensor) -> Tensor:
    return like._constant(0, like.dtype).expand(like.shape)


def _basis(like: Tensor) -> Tensor:
    """All tensors with a single 1, in a batch."""
    n = like.numel()
    square = like._constant(1, like.dtype).expand(n, n)
    return (square._places(0) == square._places(1)).to(like.dtype).reshape((n, *like.shape))


def hessian(func: Function, argnums: Argnums = 0) -> Function:
    """A function that gives the second derivatives of `func`.

    >>> import tgrad
    >>> tgrad.func.hessian(lambda x: (x**3).sum())(tgrad.tensor([1.0, 2.0])).tolist()
    [[6.0, 0.0], [0.0, 12.0]]
    """
    return jacfwd(jacrev(func, argnums), argnums)


# -- modules -------------------------------------------------------------------------------------


def functional_call(
    module: Any,
    parameter_and_buffer_dicts: Any,
    args: Any = None,
    kwargs: Any = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call a module with other parameters and buffers.

    Args:
        module: a Module, which keeps its own.
        parameter_and_buffer_dicts: by name, as in `named_parameters`, in a dictionary or several;
            those left out are the module's.
        args: one argument, or a tuple of them.
        tie_weights: whether what the module has under several names is replaced under all of them.
        strict: whether all must be given.

    Raises:
        GradientError: the module has none of that name, or one is left out and `strict` is set.

    >>> import tgrad
    >>> layer = tgrad.nn.Linear(1, 1)
    >>> zeros = {name: tgrad.zeros_like(p) for name, p in layer.named_parameters()}
    >>> tgrad.func.functional_call(layer, zeros, tgrad.ones(1, 1)).tolist()
    [[0.0]]
    """
    given = args if isinstance(args, tuple) else () if args is None else (args,)
    many = parameter_and_buffer_dicts
    named = {
        k: v for d in (many if isinstance(many, (tuple, list)) else [many]) for k, v in d.items()
    }
    own = dict(module.named_parameters(remove_duplicate=False))
    own |= module.named_buffers(remove_duplicate=False)
    if tie_weights:
        values = {id(own[name]): value for name, value in named.items() if name in own}
        named = {k: values[id(t)] for k, t in own.items() if id(t) in values} | named
    if strict and own.keys() - named.keys():
        left = sorted(own.keys() - named.keys())
        raise GradientError(f"functional_call leaves out {left}.", "Give them, or strict=False.")
    places = [(*_table_of(module, name), value) for name, value in named.items()]
    kept = [(table, key, table[key]) for table, key, _ in places]
    try:
        for table, key, value in places:
            table[key] = value
        return module(*given, **(kwargs or {}))
    finally:
        for table, key, value in kept:
            table[key] = value


def _table_of(module: Any, path: str) -> tuple[dict[str, Any], str]:
    """Where a module keeps the parameter or buffer of that name."""
    *parents, name = path.split(".")
    for parent in parents:
        module = module._modules[parent]
    for table in (module._parameters, module._buffers):
        if name in table:
            return table, name
    raise GradientError(f"functional_call: the module has no parameter or buffer {path!r}.")


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers of models of one kind, stacked, to be mapped over by `vmap` of a
    `functional_call`.

    Args:
        models: modules of one class, all in training or all in evaluation.

    Returns:
        Parameters (leaves, which require gradients where those of the models do) and buffers by
        name, each with the models along its first axis.

    >>> import tgrad
    >>> from tgrad.func import functional_call, stack_module_state, vmap
    >>> models = [tgrad.nn.Linear(3, 2) for _ in range(4)]
    >>> state = stack_module_state(models)
    >>> vmap(lambda p, b, x: functional_call(models[0], (p, b), (x,)), (0, 0, None))(
    ...     *state, tgrad.ones(5, 3)
    ... ).shape
    (4, 5, 2)
    """
    if not models:
        raise ShapeError("stack_module_state of no models.", "Give at least one.")
    if len({(type(m), m.training) for m in models}) != 1:
        raise UnsupportedError(
            "stack_module_state of models that differ.", "Give one class, all in one mode."
        )
    found: list[dict[str, Tensor]] = []
    for members in ("named_parameters", "named_buffers"):
        each = [dict(getattr(m, members)()) for m in models]
        joined = {}
        for name, first in each[0].items():
            whole = stack([one[name].detach() for one in each])
            joined[name] = whole.requires_grad_(first.requires_grad)
        found.append(joined)
    return found[0], found[1]


def replace_all_batch_norm_modules_(root: Any) -> Any:
    """Let all batch norms of a module take the statistics of the batch and keep none, in place;
    modules that `vmap` maps over must not change buffers.

    >>> import tgrad
    >>> net = tgrad.nn.Sequential(tgrad.nn.Linear(2, 3), tgrad.nn.BatchNorm1d(3))
    >>> list(tgrad.func.replace_all_batch_norm_modules_(net)[1].named_buffers())
    []
    """
    for module in root.modules():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        if "_BatchNorm" in kinds and module.track_running_stats:
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return root
