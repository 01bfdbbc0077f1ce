"""Weights that a module computes from parameters and buffers of its own.

In: a module and the name of a parameter. Out: the module, where that name is computed from others,
`name_part`; and back again. Invariant: PyTorch's older form of weight_norm and spectral_norm, whose
state has these names; `parametrize` is the newer one.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from tgrad.errors import ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.nn.module import Module
from tgrad.nn.modules.convolution import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from tgrad.nn.parameter import Parameter
from tgrad.tensor import Tensor

R = TypeVar("R", bound="DerivedWeight")


class DerivedWeight:
    """The rule of an attribute that a module computes.

    Args:
        name: of the attribute.

    Attributes:
        function: which put it there.
        parts: what it is computed from: the attributes `name_part`.
    """

    function: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]

    def __init__(self, name: str):
        self.name = name

    def value(self, module: Module) -> Tensor:
        """What the parts compute to."""
        raise NotImplementedError

    def read(self, module: Module) -> Tensor:
        """The attribute."""
        return self.value(module)

    def write(self, module: Module, value: Any) -> None:
        """Refused: it is a result."""
        names = " and ".join(f"{self.name}_{part}" for part in self.parts)
        raise UnsupportedError(
            f"{type(module).__name__}.{self.name} is set, which {self.function} computes.",
            f"Set {names}, or call remove_{self.function} first.",
        )

    def held(self, module: Module) -> tuple[Tensor, ...]:
        """The parts, in their order."""
        return tuple(getattr(module, f"{self.name}_{part}") for part in self.parts)

    def take_over(self, module: Module) -> Parameter:
        """Compute what was a parameter from now on, and return that.

        Raises:
            ShapeError: the module has no parameter of that name.
            UnsupportedError: it is computed already.
        """
        if self.name in module._derived:
            raise UnsupportedError(
                f"{self.function} of {self.name!r} of {type(module).__name__}, which is computed "
                "already.",
                "Remove the other rule first.",
            )
        found = module._parameters.get(self.name)
        if found is None:
            names = ", ".join(n for n, p in module._parameters.items() if p is not None)
            raise ShapeError(
                f"{self.function}: {type(module).__name__} has no parameter {self.name!r}.",
                f"It has {names}.",
            )
        return found

    @classmethod
    def give_back(cls: type[R], module: Module, name: str) -> R:
        """Make the attribute a parameter of its present value again; the rule that computed it.

        Raises:
            ShapeError: it has no rule of this kind.
        """
        rule = module._derived.get(name)
        if not isinstance(rule, cls):
            raise ShapeError(
                f"remove_{cls.function}: {name!r} of {type(module).__name__} has none.",
                f"Call {cls.function} first.",
            )
        with no_grad():
            weight = rule.value(module)
        for each in (name, *(f"{name}_{part}" for part in cls.parts)):
            delattr(module, each)
        module.register_parameter(name, Parameter(weight))
        return rule


def axis_of_outputs(module: Module) -> int:
    """The axis of a weight that counts outputs."""
    return int(isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)))
