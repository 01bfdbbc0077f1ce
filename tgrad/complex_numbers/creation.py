"""Complex tensors made of real ones, of numbers, and of arrays.

In: parts, lengths and angles, pairs, arrays of the host. Out: ComplexTensor. Invariant: what is
complex already comes out as it is.
Source: https://docs.pytorch.org/docs/stable/complex_numbers.html
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tgrad import creation, random
from tgrad import dtype as dt
from tgrad.aliases import CLOSED
from tgrad.complex_numbers.functions import FUNCTIONS
from tgrad.complex_numbers.tensor import ComplexTensor
from tgrad.errors import DTypeError, ShapeError
from tgrad.joining import broadcast_tensors
from tgrad.tensor import Tensor, tensor


def _check_parts(name: str, a: Tensor, b: Tensor) -> None:
    if a.dtype is not b.dtype or a.dtype not in (dt.float32, dt.float64):
        raise DTypeError(
            f"{name} of {a.dtype.name} and {b.dtype.name}.", "Give both as float32 or float64."
        )


def complex(real: Tensor, imag: Tensor) -> ComplexTensor:
    """Complex numbers of real and imaginary parts.

    Args:
        real, imag: float32 or float64, both alike; shapes are broadcast.

    Raises:
        DTypeError: they are of other dtypes.

    >>> import tgrad
    >>> tgrad.complex(tgrad.tensor([1.0]), tgrad.tensor([2.0])).tolist()
    [(1+2j)]
    """
    _check_parts("complex", real, imag)
    return ComplexTensor(*(part.clone() for part in broadcast_tensors(real, imag)))


def polar(abs: Tensor, angle: Tensor) -> ComplexTensor:
    """Complex numbers of absolute values and angles.

    Args:
        abs, angle: float32 or float64, both alike; angles in radians.

    >>> import tgrad
    >>> tgrad.polar(tgrad.tensor([2.0]), tgrad.tensor([0.0])).tolist()
    [(2+0j)]
    """
    _check_parts("polar", abs, angle)
    made = FUNCTIONS["polar"](abs, angle)
    return ComplexTensor(*broadcast_tensors(made.real, made.imag))


def view_as_complex(input: Tensor) -> ComplexTensor:
    """Pairs of real numbers as complex ones, in the same memory.

    Args:
        input: (..., 2), float32 or float64.

    Raises:
        ShapeError: the last axis is not 2.

    >>> import tgrad
    >>> tgrad.view_as_complex(tgrad.tensor([[1.0, 2.0]])).tolist()
    [(1+2j)]
    """
    if not input.ndim or input.shape[-1] != 2:
        raise ShapeError(f"view_as_complex of shape {input.shape}.", "The last axis is 2.")
    dt.complex_of(input.dtype)
    return ComplexTensor.from_pairs(input)


def view_as_real(input: ComplexTensor) -> Tensor:
    """Both parts along a last axis; nothing may be written to it, but of what `view_as_complex`
    made.

    Raises:
        DTypeError: the tensor is real.

    >>> import tgrad
    >>> tgrad.view_as_real(tgrad.tensor([1 + 2j])).tolist()
    [[1.0, 2.0]]
    """
    if not isinstance(input, ComplexTensor):
        raise DTypeError("view_as_real of a real tensor.", "Give a complex one.")
    pairs = input.pairs()
    return pairs if input._base is pairs else input.real._share(pairs, CLOSED)


def real(input: Any) -> Any:
    """The real part; itself where it is real."""
    return input.real if isinstance(input, ComplexTensor) else input


def imag(input: Any) -> Tensor:
    """The imaginary part.

    Raises:
        DTypeError: the tensor is real.
    """
    if not isinstance(input, ComplexTensor):
        raise DTypeError("imag of a real tensor.", "It has no imaginary part.")
    return input.imag


def as_complex(value: Any) -> ComplexTensor:
    """A real tensor or a number as a complex one; a complex one as it is."""
    return ComplexTensor.of(value)


def copied(data: Any, dtype: Any, device: Any, requires_grad: bool) -> Any:
    """A copy of a complex tensor, or a number as a tensor."""
    if not isinstance(data, ComplexTensor):
        return of_array(np.asarray(data), dtype, device, requires_grad, hasattr(data, "dtype"))
    parts = (tensor(p, device=device or data.device) for p in (data.real, data.imag))
    made = ComplexTensor(*parts)
    return (made if dtype is None else made.to(dtype)).requires_grad_(requires_grad)


def of_array(array: np.ndarray, dtype: Any, device: Any, requires_grad: bool, keeps: bool) -> Any:
    """A copy of an array of the host, whose numbers may be real.

    Args:
        keeps: whether it keeps its dtype where none is given, as NumPy's arrays do.
    """
    if dtype is None:
        dtype = array.dtype if keeps else dt.complex_of(dt.get_default_dtype())
    kind = dt.as_complex_dtype(dtype)
    if kind is None:
        if array.imag.any():
            raise DTypeError(f"complex numbers as {dtype}.", "Take .real of them.")
        return tensor(np.array(array.real, order="C"), dtype=dtype, device=device)
    parts = (np.array(part, order="C") for part in (array.real, array.imag))
    made = ComplexTensor(*(tensor(p, dtype=kind.part, device=device) for p in parts))
    return made.requires_grad_(requires_grad)


def filled(function: Callable[..., Tensor], args: Any, options: dict[str, Any]) -> Any:
    """A function that makes tensors of sizes, of one value or like another, with a complex dtype,
    value or model.

    Args:
        function: such as zeros, full, or randn_like.
        args: its own.
        options: those by name.
    """
    name, options = function.__name__, dict(options)
    requires_grad, kind = options.pop("requires_grad", False), options.pop("dtype", None)
    if name.endswith("_like"):
        like, *args = args
        kind = like.dtype if kind is None else kind
        options.setdefault("device", like.device)
        name, args = name.removesuffix("_like"), (like.shape, *args)
    if name in ("linspace", "logspace"):
        return _spaced(name, *args, dtype=kind, **options).requires_grad_(requires_grad)
    if name == "full":
        size, value = args if len(args) == 2 else (args[0], options.pop("fill_value"))
        kind = dt.complex_of(dt.get_default_dtype()) if kind is None else kind
    wanted = dt.as_complex_dtype(kind)
    if wanted is None:
        return _MAKERS[name](*args, dtype=kind, **options)
    part = {"dtype": wanted.part, **options}
    if name == "full":
        number = builtins.complex(value)
        made = ComplexTensor(*(creation.full(size, x, **part) for x in (number.real, number.imag)))
    elif name in ("ones", "eye"):
        real = _MAKERS[name](*args, **part)
        made = ComplexTensor(real, creation.zeros_like(real))
    else:
        made = ComplexTensor(*(_MAKERS[name](*args, **part) for _ in range(2)))
        made = made.scaled(math.sqrt(0.5)) if name == "randn" else made  # of variance 1 together
    return made.requires_grad_(requires_grad)


def _spaced(
    name: str, start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any, **options: Any
) -> Any:
    """linspace and logspace, whose ends may be complex."""
    wanted = dt.as_complex_dtype(dtype) or dt.complex_of(dt.get_default_dtype())
    ends = [v.item() if hasattr(v, "item") else v for v in (start, end)]
    pairs = zip(*((builtins.complex(v).real, builtins.complex(v).imag) for v in ends))
    parts = [creation.linspace(a, b, steps, dtype=dt.float64, **options) for a, b in pairs]
    made = ComplexTensor(*parts)
    return (made if name == "linspace" else FUNCTIONS["pow"](base, made)).to(wanted)


_MAKERS: dict[str, Any] = {
    **{name: getattr(creation, name) for name in ("zeros", "ones", "empty", "eye", "full")},
    "rand": random.rand, "randn": random.randn,
}  # fmt: skip
