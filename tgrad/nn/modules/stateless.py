"""Modules that are a function and the constants that it is called with.

In: a function of `tgrad.nn.functional`, names of constants with their defaults. Out: a module
class. Invariant: arguments have PyTorch's names, order and defaults; every one of them is an
attribute that `forward` reads, so that changing it later counts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tgrad.arguments import refuse
from tgrad.nn.module import Module

REQUIRED = inspect.Parameter.empty
"""In place of a default: the constant must be given."""


def options(**defaults: Any) -> Mapping[str, Any]:
    """Names of constants, in the order of the arguments, with their defaults."""
    return MappingProxyType(defaults)


POOLED = options(kernel_size=REQUIRED, stride=None, padding=0)
"""Constants of a pooling window."""

REDUCED = options(size_average=None, reduce=None, reduction="mean")
"""Constants of a loss; the first two are PyTorch's old spelling and are refused."""


class Stateless(Module):
    """A module that calls `function` with its inputs and with `constants` by name.

    Subclasses give:
        function: a static method.
        constants: names in the order of the arguments, with their defaults or REQUIRED.
        tensors: names among them of tensors, which move with the module.
        by_training: whether the function also takes `training`.
        hidden: names that the text of the module leaves out, as PyTorch's does.

    >>> import tgrad
    >>> tgrad.nn.Hardshrink(lambd=1)
    Hardshrink(lambd=1)
    """

    function: ClassVar[Callable[..., Any]]
    constants: ClassVar[Mapping[str, Any]] = options()
    tensors: ClassVar[tuple[str, ...]] = ()
    by_training: ClassVar[bool] = False
    hidden: ClassVar[tuple[str, ...]] = ()
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls) -> None:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        cls.__signature__ = inspect.Signature(
            [inspect.Parameter(name, kind, default=d) for name, d in cls.constants.items()]
        )

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()
        name = type(self).__name__
        try:
            bound = self.__signature__.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}{self.__signature__}: {error}.") from None
        bound.apply_defaults()
        for key, value in bound.arguments.items():
            if key in ("size_average", "reduce"):
                refuse(name, 'Use reduction="mean", "sum" or "none".', **{key: value})
            elif key in self.tensors:
                self.register_buffer(key, value)
            else:
                setattr(self, key, value)

    def _constants(self) -> dict[str, Any]:
        old = ("size_average", "reduce")
        return {name: getattr(self, name) for name in self.constants if name not in old}

    def forward(self, *inputs: Any, **named: Any) -> Any:
        given = self._constants()
        if self.by_training:
            given["training"] = self.training
        return type(self).function(*inputs, **named, **given)

    def extra_repr(self) -> str:
        left_out = (*self.tensors, *self.hidden)
        shown = {k: v for k, v in self._constants().items() if k not in left_out}
        return ", ".join(
            f"{k}={v!r}" for k, v in shown.items() if not (k == "inplace" and v is False)
        )
