"""PyTorch's operators in terms of tgrad: what a graph of torch.compile is made of.

In: an operator, such as aten.native_layer_norm. Out: a function of tensors of tgrad that gives what
the operator gives. Invariant: what has the name and arguments of a function of tgrad is that
function; only what is called or ordered otherwise has a row in the table. An operator without
either raises where the graph is compiled, before anything runs.
Source: https://docs.pytorch.org/docs/stable/torch.compiler_ir.html
"""

from __future__ import annotations

from functools import partial
from inspect import Parameter, signature
from itertools import zip_longest
from typing import Any

import torch

import tgrad
import tgrad.nn.functional as F
from tgrad import Tensor
from tgrad.errors import Source, UnsupportedError
from tgrad.interop.operators import attention as attention
from tgrad.interop.operators import drawing as drawing
from tgrad.interop.operators import embeddings as embeddings
from tgrad.interop.operators import flex_attention as flex_attention
from tgrad.interop.operators import layers as layers
from tgrad.interop.operators import linear_algebra as linear_algebra
from tgrad.interop.operators import of_cuda as of_cuda
from tgrad.interop.operators import plain as plain
from tgrad.interop.operators.table import RULES, Function

PYTORCH_S = frozenset({"aten", "prims", "prim", "rngprims", "_c10d_functional", "inductor"})
"""Namespaces of PyTorch's own operators."""
HINT = (
    "Leave it to PyTorch: options={'fallback': True} of torch.compile does so with each such "
    "operator, torch.compiler.disable with the function that calls it."
)
_SPACES: tuple[tuple[Any, str], ...] = (
    (tgrad, ""), (F, ""), (tgrad.linalg, ""), (tgrad.special, ""), (Tensor, ""),
    (tgrad.linalg, "linalg_"), (tgrad.special, "special_"),
)  # fmt: skip
"""Where a function of an operator's name, less a prefix, is looked for, in order."""
EACH = "_foreach_"
"""Operators on each tensor of a list, as of optimizers, begin so."""
_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_ALIASES = {"self": ("input",), "value": ("src",), "b": ("B",)}
"""Names of arguments of operators, and what they are called here."""
_LAYOUT = ("layout", "pin_memory", "memory_format", "non_blocking")
"""Arguments that say how memory is laid out, which is not seen in values."""


def unsupported(what: str, source: Source | None = None, hint: str = "") -> UnsupportedError:
    """The error for what the backend cannot take, at a line of the model.

    >>> print(unsupported("aten.fft has no counterpart.", hint="Leave it."))  # doctest: +ELLIPSIS
    torch.compile with the backend tgrad: aten.fft has no counterpart...
    """
    return UnsupportedError(f"torch.compile with the backend tgrad: {what}", hint or HINT, source)


def operator(op: Any, source: Source | None = None) -> Function:
    """The function of tgrad that an operator of PyTorch is.

    Args:
        op: an overload, such as torch.ops.aten.mm.default.
        source: the line of the model that calls it, for the error.

    Raises:
        UnsupportedError: there is none.

    >>> import torch, tgrad
    >>> operator(torch.ops.aten.mm.default)(tgrad.ones(1, 2), tgrad.ones(2, 1)).tolist()
    [[2.0]]
    """
    packet = op.overloadpacket.__name__
    if op.namespace not in PYTORCH_S:
        packet = f"{op.namespace}::{packet}"  # what it means is its library's to say
    for name in (f"{packet}.{op._overloadname}", packet):
        if name in RULES:
            return RULES[name]
    if packet.startswith(EACH):
        return _for_each(packet.removeprefix(EACH), source)
    for space, prefix in _SPACES:
        name = packet.removeprefix(prefix) if packet.startswith(prefix) else ""
        found = getattr(space, name, None)
        if callable(found) and _takes_the_same(found, op):
            return found
    raise unsupported(f"{op} has no counterpart.", source)


def _for_each(name: str, source: Source | None) -> Function:
    """An operator on each tensor of a list, with what each has of other lists."""
    packet = getattr(torch.ops.aten, name, None)
    overloads = [] if packet is None else [getattr(packet, o) for o in packet.overloads()]
    errors = []
    for op in overloads:
        try:
            function = operator(op, source)
        except UnsupportedError as error:
            errors.append(error)
        else:
            return partial(_on_each, function, name.startswith("addc"))
    raise errors[0] if errors else unsupported(f"aten.{EACH}{name} has no counterpart.", source)


def _on_each(function: Function, takes_value: bool, *args: Any, **kwargs: Any) -> list[Any]:
    """`takes_value`: a fourth argument is one that the single operator takes by its name."""
    made = []
    count = next(len(a) for a in args if isinstance(a, (list, tuple)))
    for i in range(count):
        own = [a[i] if isinstance(a, (list, tuple)) else a for a in args]
        named = {"value": own.pop()} if takes_value and len(own) > 3 else {}
        made.append(function(*own, **named, **kwargs))
    return made


def _takes_the_same(function: Function, op: Any) -> bool:
    """Whether what the operator is given by place has the same names there, after the first."""
    places = [p.name for p in signature(function).parameters.values() if p.kind in _BY_PLACE]
    names = [a.name for a in op._schema.arguments if not a.kwarg_only and has_meaning(a.name)]
    if any(p.kind is Parameter.VAR_POSITIONAL for p in signature(function).parameters.values()):
        return True
    return all(
        name == place or place in _ALIASES.get(name, ())
        for name, place in zip_longest(names[1:], places[1 : len(names)])
    )


def has_meaning(name: str) -> bool:
    """Whether an argument of that name has a meaning for tgrad."""
    return name not in _LAYOUT
