"""PyTorch's transforms: one axis and several, of real and of complex values.

In: real tensors, or complex ones. Out: complex tensors, or real ones. Invariant: those of several
axes transform one axis after the other; a scale is a factor of one stage. Inside, complex values
are pairs: real tensors with a last axis of 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tgrad.complex_numbers.tensor import ComplexTensor
from tgrad.errors import OutOfRangeError, ShapeError, UnsupportedError
from tgrad.fft.pairs import (
    as_float,
    check_pairs,
    complex_both,
    complex_in,
    complex_out,
    conjugate,
    extended,
)
from tgrad.fft.stages import Kind, transform
from tgrad.joining import cat
from tgrad.tensor import Tensor, labelled

Sizes = int | Sequence[int] | None
NORMS = {"forward": -1.0, "ortho": -0.5, "backward": 0.0}
"""The power of n that the forward transform is multiplied by."""


# -- one axis ------------------------------------------------------------------------------------


def _scale(name: str, n: int, norm: str | None, inverse: bool) -> float:
    found = "backward" if norm is None else norm
    if found not in NORMS:
        raise UnsupportedError(f"{name}: norm={norm!r}.", f"Use {', '.join(map(repr, NORMS))}.")
    return float(n) ** (-1.0 - NORMS[found] if inverse else NORMS[found])


def _axis(dim: int, rank: int, name: str) -> int:
    if not -rank <= dim < rank:
        raise OutOfRangeError(
            f"{name}: dim={dim} of {rank} axes.", "Count from 0, or from -1 at the end."
        )
    return dim % rank


def _resized(x: Tensor, axis: int, n: int, name: str) -> Tensor:
    """Cut, or filled with zeros, to n."""
    if n < 1:
        raise ShapeError(f"{name} of length {n}.", "Give at least one element.")
    have = x.shape[axis]
    return x.narrow(axis, 0, n) if n <= have else extended(x, axis, n)


def _along(x: Tensor, axis: int, kind: Kind) -> Tensor:
    """The transform along an axis."""
    pairs = () if kind.real_in else (2,)
    shape = x.shape if kind.real_in else x.shape[:-1]
    lead, trail = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    if 0 in shape:
        return x.reshape(lead, shape[axis], trail, *pairs)
    made = transform(x.reshape(lead, shape[axis], trail, *pairs), kind)
    sizes = (*shape[:axis], made.shape[1], *shape[axis + 1 :])
    return made.reshape(*sizes, *(() if kind.real_out else (2,)))


def of_pairs(
    input: Tensor, n: int | None, dim: int, norm: str | None, inverse: bool, name: str
) -> Tensor:
    check_pairs(input, name)
    axis = _axis(dim, input.ndim - 1, name)
    x = _resized(input, axis, input.shape[axis] if n is None else n, name)
    if 0 in x.shape:
        return x
    return _along(x, axis, Kind(inverse, scale=_scale(name, x.shape[axis], norm, inverse)))


def pairs_of_real(
    input: Tensor, n: int | None, dim: int, norm: str | None, inverse: bool, name: str
) -> Tensor:
    x = as_float(input, name)
    axis = _axis(dim, x.ndim, name)
    x = _resized(x, axis, x.shape[axis] if n is None else n, name)
    size, half = x.shape[axis], x.shape[axis] // 2 + 1
    if 0 in x.shape:
        return x.narrow(axis, 0, half).unsqueeze(-1).expand(*x.shape[:axis], half,
                                                            *x.shape[axis + 1 :], 2)  # fmt: skip
    kind = Kind(inverse, real_in=True, half=True, scale=_scale(name, size, norm, inverse))
    return _along(x, axis, kind).narrow(axis, 0, half)


def real_of_pairs(
    input: Tensor, n: int | None, dim: int, norm: str | None, inverse: bool, name: str
) -> Tensor:
    """The transform of the n values of which the first n // 2 + 1 are given, and the others are
    their conjugates: imaginary parts of the first and, for even n, the middle one do not count."""
    check_pairs(input, name)
    axis = _axis(dim, input.ndim - 1, name)
    n = 2 * (input.shape[axis] - 1) if n is None else n
    if n < 1:
        raise ShapeError(f"{name} of length {n}.", "Give n, at least 1.")
    half = _resized(input, axis, n // 2 + 1, name)
    if 0 in half.shape:
        return half.narrow(axis, 0, 1).expand(*half.shape[:axis], n, *half.shape[axis + 1 :])[
            ..., 0
        ]
    mirrored = conjugate(half.narrow(axis, 1, (n - 1) // 2).flip(axis))
    kind = Kind(inverse, real_out=True, scale=_scale(name, n, norm, inverse))
    return _along(cat([half, mirrored], axis), axis, kind)


@complex_both
@labelled("fft")
def fft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """X[k] = sum over j of x[j] exp(-2 pi i j k / n).

    Args:
        input: complex, or real.
        n: length; the axis is cut or filled with zeros.
        dim: the axis.
        norm: "backward" (no factor), "ortho" (1 / sqrt(n)) or "forward" (1 / n).

    Returns:
        Complex.

    Raises:
        DTypeError: the dtype is float16 or bfloat16.

    >>> import tgrad
    >>> tgrad.fft.fft(tgrad.tensor([1.0, 3.0])).tolist()
    [(4+0j), (-2+0j)]
    """
    return of_pairs(input, n, dim, norm, False, "fft")


@complex_both
@labelled("ifft")
def ifft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """x[j] = 1/n sum over k of X[k] exp(2 pi i j k / n); arguments as those of `fft`, whose
    inverse it is with the same norm."""
    return of_pairs(input, n, dim, norm, True, "ifft")


@complex_out
@labelled("rfft")
def rfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The first n // 2 + 1 values of the transform of real values, which determine the others.

    Args:
        input: real; integers are converted to float32.
        n, dim, norm: as those of `fft`.

    Returns:
        Complex.

    >>> import tgrad
    >>> tgrad.fft.rfft(tgrad.tensor([1.0, 3.0])).tolist()
    [(4+0j), (-2+0j)]
    """
    return pairs_of_real(input, n, dim, norm, False, "rfft")


@complex_in
@labelled("irfft")
def irfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The real values of which `rfft` gives `input`.

    Args:
        input: complex, or real.
        n: length of the result, by default 2 (m - 1) for m values.
        dim, norm: as those of `fft`.

    >>> import tgrad
    >>> tgrad.fft.irfft(tgrad.fft.rfft(tgrad.tensor([1.0, 3.0]))).tolist()
    [1.0, 3.0]
    """
    return real_of_pairs(input, n, dim, norm, True, "irfft")


@complex_in
@labelled("hfft")
def hfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The real transform of values of which the first n // 2 + 1 are given; the others are their
    conjugates. Arguments as those of `irfft`."""
    return real_of_pairs(input, n, dim, norm, False, "hfft")


@complex_out
@labelled("ihfft")
def ihfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of `hfft`: complex from real values; arguments as those of `rfft`."""
    return pairs_of_real(input, n, dim, norm, True, "ihfft")


# -- several axes --------------------------------------------------------------------------------


def _axes(
    input: Tensor, rank: int, s: Sizes, dim: Sizes, name: str
) -> tuple[list[int], list[int | None]]:
    """The axes, and their lengths where given."""
    if dim is None:
        count = rank if s is None else 1 if isinstance(s, int) else len(s)
        dim = range(rank - count, rank)
    dim = (dim,) if isinstance(dim, int) else dim
    s = (s,) if isinstance(s, int) else s
    axes = [_axis(d, rank, name) for d in dim]
    sizes: list[int | None] = (
        [None] * len(axes) if s is None else [k if k >= 0 else None for k in s]
    )
    if len(set(axes)) != len(axes) or len(sizes) != len(axes):
        raise ShapeError(
            f"{name}: s={s} for dim={tuple(dim)}.", "Give one length for each of distinct axes."
        )
    return axes, sizes


def _pairs_axes(
    input: Tensor, s: Sizes, dim: Sizes, norm: str | None, inverse: bool, name: str
) -> Tensor:
    check_pairs(input, name)
    axes, sizes = _axes(input, input.ndim - 1, s, dim, name)
    for axis, n in zip(reversed(axes), reversed(sizes)):
        input = of_pairs(input, n, axis, norm, inverse, name)
    return input


def pairs_of_real_axes(
    input: Tensor, s: Sizes, dim: Sizes, norm: str | None, inverse: bool, name: str
) -> Tensor:
    axes, sizes = _axes(input, input.ndim, s, dim, name)
    if not axes:
        raise ShapeError(f"{name} along no axes.", "Give at least one.")
    made = pairs_of_real(input, sizes[-1], axes[-1], norm, inverse, name)
    for axis, n in zip(reversed(axes[:-1]), reversed(sizes[:-1])):
        made = of_pairs(made, n, axis, norm, inverse, name)
    return made


def real__pairs_axes(
    input: Tensor, s: Sizes, dim: Sizes, norm: str | None, inverse: bool, name: str
) -> Tensor:
    check_pairs(input, name)
    axes, sizes = _axes(input, input.ndim - 1, s, dim, name)
    if not axes:
        raise ShapeError(f"{name} along no axes.", "Give at least one.")
    for axis, n in zip(axes[:-1], sizes[:-1]):
        input = of_pairs(input, n, axis, norm, inverse, name)
    return real_of_pairs(input, sizes[-1], axes[-1], norm, inverse, name)


@complex_both
@labelled("fftn")
def fftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """`fft` along several axes.

    Args:
        input: complex, or real.
        s: a length for each axis, -1 for that of the input.
        dim: the axes; by default all, or the last len(s).
        norm: as that of `fft`.

    >>> import tgrad
    >>> tgrad.fft.fftn(tgrad.ones(2, 2))[0].tolist()
    [(4+0j), 0j]
    """
    return _pairs_axes(input, s, dim, norm, False, "fftn")


@complex_both
@labelled("ifftn")
def ifftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """`ifft` along several axes; arguments as those of `fftn`."""
    return _pairs_axes(input, s, dim, norm, True, "ifftn")


@complex_out
@labelled("rfftn")
def rfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """`rfft` along the last of several axes, `fft` along the others; arguments as those of `fftn`,
    but real."""
    return pairs_of_real_axes(input, s, dim, norm, False, "rfftn")


@complex_in
@labelled("irfftn")
def irfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """The inverse of `rfftn`, real; the last of `s` is its length, by default 2 (m - 1)."""
    return real__pairs_axes(input, s, dim, norm, True, "irfftn")


@complex_in
@labelled("hfftn")
def hfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """`hfft` along the last of several axes, `fft` along the others; real."""
    return real__pairs_axes(input, s, dim, norm, False, "hfftn")


@complex_out
@labelled("ihfftn")
def ihfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> Tensor:
    """The inverse of `hfftn`: complex from real values."""
    return pairs_of_real_axes(input, s, dim, norm, True, "ihfftn")


def fft2(
    input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None
) -> ComplexTensor:
    """`fftn` along two axes."""
    return fftn(input, s, dim, norm)


def ifft2(
    input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None
) -> ComplexTensor:
    """`ifftn` along two axes."""
    return ifftn(input, s, dim, norm)


def rfft2(
    input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None
) -> ComplexTensor:
    """`rfftn` along two axes."""
    return rfftn(input, s, dim, norm)


def irfft2(
    input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None
) -> Tensor:
    """`irfftn` along two axes."""
    return irfftn(input, s, dim, norm)


def hfft2(input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None) -> Tensor:
    """`hfftn` along two axes."""
    return hfftn(input, s, dim, norm)


def ihfft2(
    input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None
) -> ComplexTensor:
    """`ihfftn` along two axes."""
    return ihfftn(input, s, dim, norm)
