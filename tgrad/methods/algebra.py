"""Linear algebra, and transforms of signals, as methods of Tensor.

In: a tensor. Out: what the function of that name in tgrad.linalg or tgrad.fft gives. Invariant:
none of it is loaded before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

FUNCTIONS = {
    "cholesky": "positional_cholesky",
    "cholesky_inverse": "cholesky_inverse",
    "cholesky_solve": "cholesky_solve",
    "det": "det",
    "geqrf": "geqrf",
    "inverse": "inv",
    "logdet": "logdet",
    "lu": "packed_lu",
    "lu_solve": "older_lu_solve",
    "matrix_exp": "matrix_exp",
    "matrix_power": "matrix_power",
    "orgqr": "orgqr",
    "ormqr": "ormqr",
    "pinverse": "pinverse",
    "qr": "some_qr",
    "slogdet": "slogdet",
    "svd": "reduced_svd",
    "triangular_solve": "triangular_solve",
}
"""Names of PyTorch's methods, and of the functions that they are."""
TRANSFORMS = ("istft", "stft")
"""Names of methods and of functions of tgrad.fft.frames."""


class AlgebraMethods:
    """Methods that factor a matrix or transform a signal."""

    __slots__ = ()


def _method(name: str, module: str, function: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(module), function)(self, *args, **kwargs)

    method.__name__, method.__qualname__ = name, f"AlgebraMethods.{name}"
    method.__doc__ = f"`tgrad.{name}`."
    return method


for _name, _function in FUNCTIONS.items():
    setattr(AlgebraMethods, _name, _method(_name, "tgrad.linalg", _function))
for _name in TRANSFORMS:
    setattr(AlgebraMethods, _name, _method(_name, "tgrad.fft.frames", _name))
