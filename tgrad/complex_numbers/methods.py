"""Methods and operators of ComplexTensor, from the table of functions.

In: functions.py. Out: methods of the same names, and their forms in place. Invariant: a method is
the function of its name; Python's operators are methods with their sides as written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tgrad.complex_numbers.functions import FUNCTIONS, Function
from tgrad.complex_numbers.parts import EACH, VALUES
from tgrad.complex_numbers.tensor import ComplexTensor, changed
from tgrad.errors import UnsupportedError
from tgrad.methods.algebra import TRANSFORMS
from tgrad.methods.inplace import MOVEMENTS, SAME_SIGNATURE
from tgrad.tensor import Tensor, tensor

OPERATORS = {
    "__add__": "add", "__radd__": "add", "__sub__": "sub", "__rsub__": "rsub", "__mul__": "mul",
    "__rmul__": "mul", "__truediv__": "div", "__rtruediv__": "rdiv", "__pow__": "pow",
    "__rpow__": "rpow", "__matmul__": "matmul", "__eq__": "eq", "__ne__": "ne", "__neg__": "neg",
    "__abs__": "abs", "__pos__": "positive", "__rdiv__": "rdiv",
}  # fmt: skip
IN_PLACE = {
    "__iadd__": "add", "__isub__": "sub", "__imul__": "mul", "__itruediv__": "div",
    "__ipow__": "pow",
}  # fmt: skip
CHANGING = ("add", "conj_physical", "div", "mul", "pow", "sub", *SAME_SIGNATURE)
"""Methods that PyTorch has with an underscore too."""

REAL = ("abs", "absolute")
"""Of those, methods whose results are real."""
BORROWED = (
    "_like", "bfloat16", "bool", "byte", "cdouble", "cfloat", "char", "double", "float", "half",
    "int", "is_nonzero", "kron", "long", "new", "new_empty", "new_full", "new_ones", "new_tensor",
    "new_zeros", "short", "type_as",
)  # fmt: skip
"""Methods of Tensor that are made of others, which complex tensors have."""


def install() -> None:
    """Give ComplexTensor its methods."""
    for name, function in FUNCTIONS.items():
        if "." not in name:
            setattr(ComplexTensor, name, function)
    for name in BORROWED:
        setattr(ComplexTensor, name, getattr(Tensor, name))
    for special, name in OPERATORS.items():
        setattr(ComplexTensor, special, _operator(getattr(ComplexTensor, name)))
    for special in ("__lt__", "__le__", "__gt__", "__ge__"):
        setattr(ComplexTensor, special, _unordered(special.strip("_")))
    for special, name in IN_PLACE.items():
        setattr(ComplexTensor, special, changed(name))
    for name in CHANGING:
        if (name in FUNCTIONS or name in EACH or name in VALUES) and name not in REAL:
            setattr(ComplexTensor, f"{name}_", changed(name))
    for name in MOVEMENTS:
        setattr(ComplexTensor, f"{name}_", _moved(f"{name}_"))
    ComplexTensor.__rmatmul__ = _rmatmul  # type: ignore[attr-defined]
    ComplexTensor.__hash__ = object.__hash__  # type: ignore[method-assign]

    for name in TRANSFORMS:
        setattr(ComplexTensor, name, getattr(Tensor, name))


def _rmatmul(self: ComplexTensor, other: Any) -> Any:
    return FUNCTIONS["matmul"](other, self)


def _moved(name: str) -> Function:
    """A movement of both parts in place."""

    def move(self: ComplexTensor, *args: Any) -> ComplexTensor:
        for part in (self.real, self.imag):
            getattr(part, name)(*args)
        return self

    return move


def _unordered(name: str) -> Function:
    def compare(self: ComplexTensor, other: Any) -> Any:
        raise UnsupportedError(
            f"{name} of a complex tensor is not supported.", "Compare .real, .imag or .abs()."
        )

    return compare


def _operator(function: Function) -> Function:
    """NotImplemented for what is no number, so that Python asks the other side."""

    def operator(self: ComplexTensor, *others: Any) -> Any:
        kinds = (ComplexTensor, Tensor, int, float, complex)
        if all(isinstance(x, kinds) or hasattr(x, "__array__") for x in others):
            arrays = (tensor(x, device=self.device) if isinstance(x, np.ndarray) else x
                      for x in others)  # fmt: skip
            return function(self, *arrays)
        return NotImplemented

    return operator
