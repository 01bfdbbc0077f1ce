"""ComplexTensor: two real tensors, used as PyTorch's complex ones.

In: real and imaginary parts of one shape. Out: what Tensor has, of complex numbers. Invariant: no
node is complex, so every device and every pass does what it does for real tensors; what is not
written here or in functions.py raises and names itself. See docs/decisions/0079.
Source: https://docs.pytorch.org/docs/stable/complex_numbers.html
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tgrad import dtype as dt
from tgrad.complex_numbers.parts import DATA, EACH, VALUES, in_parts, nonzero
from tgrad.creation import zeros_like
from tgrad.dtype import ComplexDType, DType
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.joining import stack
from tgrad.printing import text_of
from tgrad.tensor import Tensor, realize_tensors, tensor

Shape = tuple[int, ...]


@dataclass(eq=False, repr=False)
class ComplexTensor:
    """Complex numbers.

    Attributes:
        real, imag: of one shape, float32 or float64, on one device.

    >>> import tgrad
    >>> z = tgrad.tensor([3 + 4j, 1j])
    >>> z.abs().tolist(), (z * z.conj()).real.tolist()
    ([5.0, 1.0], [25.0, 1.0])
    """

    real: Any
    imag: Any

    is_complex_tensor = True
    _base: ClassVar[Tensor | None] = None
    __array_priority__ = 1000

    def __setattr__(self, name: str, value: Any) -> None:
        """`z.real = x` writes to the part, as in PyTorch."""
        held = self.__dict__.get(name)
        if name in ("real", "imag") and isinstance(held, Tensor):
            held.copy_(value) if isinstance(value, Tensor) else held.fill_(value)
        else:
            object.__setattr__(self, name, value)

    # -- making ---------------------------------------------------------------------------------

    @staticmethod
    def of(value: Any) -> ComplexTensor:
        """A complex value as it is; a real one with an imaginary part of 0. Of a number both parts
        are numbers."""
        if isinstance(value, ComplexTensor):
            return value
        if isinstance(value, np.ndarray):
            value = tensor(value)
            return value if isinstance(value, ComplexTensor) else ComplexTensor.of(value)
        if isinstance(value, Tensor):
            real = value if value.dtype.is_float else value.to(dt.get_default_dtype())
            dt.complex_of(real.dtype)
            return ComplexTensor(real, zeros_like(real))
        return ComplexTensor(complex(value).real, complex(value).imag)

    @staticmethod
    def from_pairs(pairs: Tensor) -> ComplexTensor:
        """Of a tensor whose last axis has both parts; they share its memory."""
        made = ComplexTensor(pairs.select(-1, 0), pairs.select(-1, 1))
        made.__dict__["_base"] = pairs
        return made

    def pairs(self) -> Tensor:
        """Both parts along a last axis: of what was made `from_pairs` that tensor."""
        return stack((self.real, self.imag), -1) if self._base is None else self._base

    # -- parts of formulas (functions.py), whose operands are complex -----------------------------

    def plus(self, other: ComplexTensor) -> ComplexTensor:
        """The sum."""
        return ComplexTensor(self.real + other.real, self.imag + other.imag)

    def less(self, other: ComplexTensor) -> ComplexTensor:
        """The difference."""
        return ComplexTensor(self.real - other.real, self.imag - other.imag)

    def times(self, other: ComplexTensor) -> ComplexTensor:
        """The product."""
        a, b, c, d = self.real, self.imag, other.real, other.imag
        return ComplexTensor(a * c - b * d, a * d + b * c)

    def contracted(self, other: ComplexTensor) -> ComplexTensor:
        """The product of matrices."""
        a, b, c, d = self.real, self.imag, other.real, other.imag
        return ComplexTensor(a @ c - b @ d, a @ d + b @ c)

    def scaled(self, by: Any) -> ComplexTensor:
        """Times a real number, or a tensor of them."""
        return ComplexTensor(self.real * by, self.imag * by)

    def turned(self) -> ComplexTensor:
        """Times i."""
        return ComplexTensor(-self.imag, self.real)

    def conjugate(self) -> ComplexTensor:
        """With imaginary parts of the other sign."""
        return ComplexTensor(self.real, -self.imag)

    def square_size(self) -> Any:
        """The square of the absolute value."""
        return self.real * self.real + self.imag * self.imag

    # -- what it is -----------------------------------------------------------------------------

    @property
    def dtype(self) -> ComplexDType:
        return dt.complex_of(self.real.dtype)

    @property
    def shape(self) -> Shape:
        return self.real.shape

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one axis."""
        return self.real.size(dim)

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    def is_complex(self) -> bool:
        return True

    @property
    def is_meta(self) -> bool:
        """Whether it has no values."""
        return self.real.is_meta

    def is_floating_point(self) -> bool:
        return False

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return int(self.real.nbytes) * 2

    @property
    def grad_fn(self) -> Any:
        """Where it comes from; None of a leaf."""
        return (self.real if self.real.requires_grad else self.imag).grad_fn

    @property
    def requires_grad(self) -> bool:
        return bool(self.real.requires_grad or self.imag.requires_grad)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> bool:
        if self._base is not None and self._base.requires_grad:
            return self._base.is_leaf
        return bool(self.real.is_leaf and self.imag.is_leaf)

    @property
    def grad(self) -> ComplexTensor | None:
        """Of each part, by the real numbers that it is: PyTorch's."""
        if self._base is not None and self._base.requires_grad:
            pairs = self._base.grad
            return None if pairs is None else ComplexTensor.from_pairs(pairs)
        real, imag = self.real.grad, self.imag.grad
        if real is None and imag is None:
            return None
        real = zeros_like(self.real) if real is None else real
        return ComplexTensor(real, zeros_like(real) if imag is None else imag)

    @grad.setter
    def grad(self, value: Any) -> None:
        if self._base is not None and self._base.requires_grad:
            self._base.grad = None if value is None else ComplexTensor.of(value).pairs()
            return
        found = ComplexTensor(None, None) if value is None else ComplexTensor.of(value)
        self.real.grad, self.imag.grad = found.real, found.imag

    def requires_grad_(self, requires_grad: bool = True) -> ComplexTensor:
        """Make it a leaf that `backward` fills `grad` of, or not."""
        if self._base is not None and self._base.holds_pairs:
            self._base.requires_grad_(requires_grad)
            self.__dict__.update(ComplexTensor.from_pairs(self._base).__dict__)
            return self
        self.__dict__.pop("_base", None)  # its parts are leaves of their own now
        self.real.requires_grad_(requires_grad)
        self.imag.requires_grad_(requires_grad)
        return self

    def backward(self, gradient: Any = None, **options: Any) -> None:
        """Add to `grad` of every leaf; see Tensor.backward.

        Raises:
            DTypeError: without `gradient`: only a real number has one by itself.
        """
        if gradient is None:
            raise DTypeError(
                "backward() of a complex tensor.", "Pass gradient=, or take a real number of it."
            )
        g = ComplexTensor.of(gradient)
        (self.real * g.real + self.imag * g.imag).sum().backward(**options)

    # -- values ---------------------------------------------------------------------------------

    def _without_history(self) -> ComplexTensor:
        return ComplexTensor(self.real._without_history(), self.imag._without_history())

    def numpy(self) -> np.ndarray:
        """A copy of the values on the host."""
        waiting = [t for t in (self.real, self.imag) if t._storage is None]
        realize_tensors(waiting)
        real, imag = self.real.numpy(), self.imag.numpy()
        made = np.empty(real.shape, self.dtype.numpy)
        made.real, made.imag = real, imag
        return made

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def item(self) -> complex:
        """The only element."""
        if self.numel() != 1:
            raise ShapeError(
                f"item() of a tensor with {self.numel()} elements, shape {self.shape}.",
                "Reduce it first, or use .numpy().",
            )
        return complex(self.numpy().reshape(-1)[0])

    __complex__ = item

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self.numpy().tolist()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __len__(self) -> int:
        return len(self.real)

    def __iter__(self) -> Iterator[ComplexTensor]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        if not isinstance(self.real, Tensor):
            return f"ComplexTensor({self.real}, {self.imag})"
        usual = dt.complex128 if dt.get_default_dtype() is dt.float64 else dt.complex64
        gradient = "requires_grad=True" if self.requires_grad else ""
        return text_of(self.numpy(), self.dtype, self.dtype is usual, self.device, gradient)

    def __getattr__(self, name: str) -> Any:
        """What a tensor has and this has not."""
        if name.startswith("__") or not hasattr(Tensor, name):
            raise AttributeError(f"'ComplexTensor' object has no attribute {name!r}")
        raise UnsupportedError(
            f"{'this' if name.startswith('_') else name} of a complex tensor is not supported.",
            "Write it with .real and .imag, or tgrad.view_as_real(z).",
        )

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What torch's functions do with it: what tgrad's of that name do."""
        from tgrad.interop.torch_function import call

        return call(func, args, kwargs or {})

    # -- moving ---------------------------------------------------------------------------------

    def to(self, *args: Any, dtype: Any = None, **options: Any) -> Any:
        """With another dtype or device; of a real dtype the real part.

        Args:
            args: as of Tensor.to; a tensor to be like may be complex.
        """
        given = [a for a in args if isinstance(a, (DType, ComplexDType))]
        alike = [a for a in args if isinstance(a, (Tensor, ComplexTensor))]
        target = dtype or next(iter((*given, *(t.dtype for t in alike))), None)
        others = [a for a in args if all(a is not x for x in (*given, *alike))]
        others = [*(t.device for t in alike), *others]
        if target in (bool, int, float, complex):
            target = dt.as_complex_dtype(target) or dt.as_dtype(target)
        if isinstance(target, DType):
            if target.is_bool:
                return nonzero(self)
            warnings.warn(
                "Casting complex values to real discards the imaginary part", stacklevel=2
            )
            return self.real.to(target, *others, **options)
        kinds = [] if target is None else [target.part]
        return ComplexTensor(*(x.to(*kinds, *others, **options) for x in (self.real, self.imag)))

    def type(self, dtype: Any) -> Any:
        """In a dtype; of a real one the real part."""
        return self.to(dtype)

    @property
    def data(self) -> ComplexTensor:
        """`detach()`."""
        return ComplexTensor(self.real.data, self.imag.data)

    @property
    def H(self) -> ComplexTensor:
        """The conjugate transpose of a matrix."""
        return self.t().conj()

    def adjoint(self) -> ComplexTensor:
        """The conjugate transposes of matrices."""
        return self.transpose(-2, -1).conj()

    mH = property(adjoint)

    def __getitem__(self, index: Any) -> ComplexTensor:
        return ComplexTensor(self.real[index], self.imag[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        new = ComplexTensor.of(value)
        self.real[index], self.imag[index] = new.real, new.imag

    def _constant(self, value: Any, dtype: Any) -> Any:
        """A number on this tensor's device."""
        if isinstance(dtype, DType):
            return self.real._constant(value, dtype)
        number = complex(value)
        parts = (number.real, number.imag)
        return ComplexTensor(*(self.real._constant(x, dtype.part) for x in parts))

    # -- in place -------------------------------------------------------------------------------

    def copy_(self, source: Any, non_blocking: bool = False) -> ComplexTensor:
        """Take other values."""
        new = ComplexTensor.of(source)
        for part, value in ((self.real, new.real), (self.imag, new.imag)):
            part.copy_(value) if isinstance(value, Tensor) else part.fill_(value)
        return self

    def fill_(self, value: Any) -> ComplexTensor:
        """Take one value."""
        return self.copy_(value)

    def zero_(self) -> ComplexTensor:
        """Take zeros."""
        return self.copy_(0)


def _moves(name: str) -> Callable[..., Any]:
    places = (0, *(place + 1 for place in VALUES.get(name, ())))

    def method(self: ComplexTensor, *args: Any, **kwargs: Any) -> Any:
        return in_parts(ComplexTensor, getattr(Tensor, name), places)(self, *args, **kwargs)

    method.__name__, method.__doc__ = name, f"Tensor.{name} of each part."
    return method


for _name in (*EACH, *VALUES):
    setattr(ComplexTensor, _name, _moves(_name))


def _shared(name: str) -> Callable[[ComplexTensor], Any]:
    """An attribute that both parts have."""
    return lambda self: getattr(self.real, name)


def _of_both(name: str) -> Callable[[ComplexTensor], ComplexTensor]:
    """An attribute of each part."""
    return lambda self: ComplexTensor(getattr(self.real, name), getattr(self.imag, name))


def _asked(name: str) -> Callable[..., Any]:
    """A method of both parts with one answer."""
    return lambda self, *args: getattr(self.real, name)(*args)


for _name in DATA:
    setattr(ComplexTensor, _name, property(_shared(_name)))
for _name in ("T", "mT"):
    setattr(ComplexTensor, _name, property(_of_both(_name)))
for _name in ("numel", "dim", "get_device", "is_contiguous", "stride"):
    setattr(ComplexTensor, _name, _asked(_name))


def changed(name: str) -> Callable[..., Any]:
    """The method of a name that changes its tensor."""

    def method(self: ComplexTensor, *args: Any, **kwargs: Any) -> ComplexTensor:
        return self.copy_(getattr(self, name)(*args, **kwargs))

    method.__name__, method.__doc__ = f"{name}_", f"`{name}`, in place."
    return method


def detached(z: ComplexTensor) -> ComplexTensor:
    """The values with no history."""
    with no_grad():
        return ComplexTensor(z.real.detach(), z.imag.detach())
