"""`torch._foreach_*`: one function on lists of tensors, which averages of weights are written with.

In: lists of tensors. Out: lists, or None of those that work in place. Invariant: each is the method
of that name on each tensor; what they make waits together and becomes few kernels.
Source: https://docs.pytorch.org/docs/stable/torch.html#foreach-operations
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tgrad.tensor import Tensor

_UNARY = (
    "abs", "acos", "asin", "atan", "ceil", "cos", "cosh", "erf", "erfc", "exp", "expm1", "floor",
    "frac", "lgamma", "log", "log10", "log1p", "log2", "neg", "reciprocal", "round", "rsqrt",
    "sigmoid", "sign", "sin", "sinh", "sqrt", "tan", "tanh", "trunc",
)  # fmt: skip
_BINARY = ("add", "clamp_max", "clamp_min", "div", "mul", "pow", "sub")
_TERNARY = ("addcdiv", "addcmul", "lerp")
_ALONE = {"_foreach_zero_": "zero_", "_foreach_copy_": "copy_", "_foreach_norm": "norm"}

NAMES = (
    *(f"_foreach_{n}{end}" for n in (*_UNARY, *_BINARY, *_TERNARY) for end in ("", "_")), *_ALONE,
)  # fmt: skip


def function(name: str) -> Callable[..., list[Tensor] | None]:
    """The function of a name in NAMES.

    Raises:
        AttributeError: there is none.

    >>> import tgrad
    >>> xs = [tgrad.ones(2), tgrad.zeros(1)]
    >>> tgrad._foreach_mul_(xs, 3.0), tgrad._foreach_add(xs, xs, alpha=2)[0].tolist()
    (None, [9.0, 9.0])
    """
    if name not in NAMES:
        raise AttributeError(f"module 'tgrad' has no attribute {name!r}")
    method = _ALONE.get(name) or name.removeprefix("_foreach_")
    is_inside = method.endswith("_")

    def call(self: Sequence[Tensor], *args: Any, **kwargs: Any) -> list[Tensor] | None:
        tensors = list(self)
        if method.startswith("addc") and len(args) > 2:
            args, kwargs = args[:2], {**kwargs, "value": args[2]}
        made = [
            getattr(t, method)(
                *(_of(a, i, len(tensors)) for a in args),
                **{name: _of(a, i, len(tensors)) for name, a in kwargs.items()},
            )
            for i, t in enumerate(tensors)
        ]
        return None if is_inside else made

    call.__name__ = name
    return call


def _of(argument: Any, i: int, count: int) -> Any:
    """What an argument is for one tensor: lists have one item for each.

    Raises:
        ValueError: a list of another length.
    """
    if not isinstance(argument, (list, tuple)):
        return argument
    if len(argument) != count:
        raise ValueError(f"a list of {len(argument)} for {count} tensors.")
    return argument[i]
