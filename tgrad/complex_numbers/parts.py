"""What is done to both parts of complex numbers alike.

In: a function of real tensors. Out: the same of complex ones. Invariant: a function listed here
moves numbers or adds them; none multiplies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from tgrad.dtype import ComplexDType
from tgrad.errors import UnsupportedError
from tgrad.methods.elementwise import is_complex

EACH = (
    "_pad_zero", "_window", "as_strided", "broadcast_to", "chunk", "clone", "contiguous", "cpu",
    "cuda", "cumsum", "detach", "diag", "diag_embed", "diagflat", "diagonal", "dsplit", "expand",
    "expand_as", "flatten", "flip", "fliplr", "flipud", "gather", "hsplit", "index_select",
    "masked_select", "mean", "moveaxis", "movedim", "narrow", "neg", "negative", "permute",
    "positive", "ravel", "realize", "repeat", "repeat_interleave", "reshape", "reshape_as",
    "retain_grad", "roll", "rot90", "select", "split", "split_with_sizes", "squeeze", "sum",
    "sum_to_size", "swapaxes", "swapdims", "t", "take", "take_along_dim", "tensor_split", "tile",
    "trace", "transpose", "tril", "triu", "unbind", "unflatten", "unfold", "unsafe_chunk",
    "unsafe_split", "unsqueeze", "view", "view_as", "vsplit",
)  # fmt: skip
"""Methods that do the same to both parts of all complex arguments."""
VALUES = {
    "as_strided_scatter": (0,), "diagonal_scatter": (0,), "fill": (0,), "index_add": (2,),
    "index_copy": (2,), "index_fill": (2,), "index_put": (1,), "masked_fill": (1,),
    "masked_scatter": (1,), "put": (1,), "scatter": (2,), "scatter_add": (2,),
    "select_scatter": (0,), "slice_scatter": (0,),
}  # fmt: skip
"""The same; a real tensor or number at these places is a complex one without imaginary part."""
NAMES = ("value", "source", "src", "tensor")
"""Names of such arguments."""
DATA = ("device", "ndim")
"""Attributes that both parts share."""


def in_parts(make: Any, function: Callable[..., Any], values: Sequence[int]) -> Callable[..., Any]:
    """The function of each part.

    Args:
        make: ComplexTensor.
        function: of real tensors, the first of which is complex here.
        values: places of arguments that are complex numbers if they look real.
    """

    def picked(value: Any, part: str, is_value: bool) -> Any:
        if isinstance(value, (list, tuple)):
            is_value = is_value or any(isinstance(v, make) for v in value)
            return type(value)(picked(v, part, is_value) for v in value)
        is_complex = isinstance(value, (make, complex)) or is_value
        return getattr(make.of(value), part) if is_complex else value

    def apply(*args: Any, dtype: Any = None, **kwargs: Any) -> Any:
        if isinstance(dtype, ComplexDType):
            kwargs["dtype"] = dtype.part
        elif dtype is not None:
            raise UnsupportedError(f"complex numbers with a result of {dtype}.", "Leave it out.")
        real, imag = (
            function(
                *(picked(v, part, n in values) for n, v in enumerate(args)),
                **{name: picked(v, part, name in NAMES) for name, v in kwargs.items()},
            )
            for part in ("real", "imag")
        )
        if isinstance(real, (list, tuple)):
            return type(real)(make(*pair) for pair in zip(real, imag))
        return None if real is None else make(real, imag)

    return apply


def joined_parts(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """A function of a sequence of tensors, or of several, some of them complex: of each part."""
    from tgrad.complex_numbers.tensor import ComplexTensor

    listed = isinstance(args[0], (list, tuple))
    tensors, others = (args[0], args[1:]) if listed else (args, ())
    found = [ComplexTensor.of(t) for t in tensors]
    made = []
    for part in ("real", "imag"):
        parts = [getattr(z, part) for z in found]
        made.append(function(parts, *others, **kwargs) if listed else function(*parts, **kwargs))
    real, imag = made
    if isinstance(real, (list, tuple)):
        return type(real)(map(ComplexTensor, real, imag))
    return ComplexTensor(real, imag)


def multiplied(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    """A function that is linear in each of its tensors, such as an einsum, of complex ones: of real
    ones for each choice of parts, with i for each imaginary one."""
    from tgrad.complex_numbers.tensor import ComplexTensor

    total: dict[bool, Any] = {}
    choices = [("real", "imag") if is_complex(t) else ("",) for t in tensors]
    for chosen in product(*choices):
        made = function(*(getattr(t, c) if c else t for t, c in zip(tensors, chosen)))
        turns = chosen.count("imag")
        made = -made if turns % 4 in (2, 3) else made
        is_imaginary = turns % 2 == 1
        total[is_imaginary] = total[is_imaginary] + made if is_imaginary in total else made
    return ComplexTensor(total[False], total[True])


def nonzero(value: Any) -> Any:
    """Whether each number is not 0."""
    if getattr(value, "is_complex_tensor", False):
        return (value.real != 0) | (value.imag != 0)
    return value != 0
