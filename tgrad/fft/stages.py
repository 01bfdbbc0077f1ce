"""A discrete Fourier transform along one axis, in stages that are products of matrices.

In: real tensors (lead, n, trail) or pairs (lead, n, trail, 2). Out: the same layout, transformed.
Invariant: a stage is one product, its twiddle factors the prologue of the next; memory is a few
times the input's, however large n is.

n = r1 r2 ... rs with radices of at most 64 where n's primes allow. With n = r m, j = a m + b and
k = p + r q:

    X[p + r q] = sum_b e(b q / m) e(b p / n) sum_a e(a p / r) x[a m + b],  e(t) = exp(-2 pi i t)

so a stage contracts a, multiplies by the middle factor, and leaves b to the stages after it. A
length with a prime above 128 is a convolution with a chirp (Bluestein 1970), of twice its length.
The factors are computed in float64 and kept by length, dtype and device.
Sources: Cooley and Tukey 1965; Bailey 1990 (in four steps).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.fft.pairs import extended
from tgrad.tensor import Tensor, tensor
from tgrad.tracing import tracer

LARGEST_RADIX = 64
LARGEST_PRIME = 128
"""Above it, a chirp is less work than a matrix of that size."""
KEPT = 64
"""Tables of factors that are kept."""


@dataclass(frozen=True)
class Kind:
    """What is transformed.

    Attributes:
        inverse: whether the exponent is positive.
        real_in: the input has no imaginary part, and no axis of pairs.
        real_out: only the real part of the result is wanted, with no axis of pairs.
        half: only the first n // 2 + 1 values are wanted; there may be more.
        scale: of the result.
    """

    inverse: bool = False
    real_in: bool = False
    real_out: bool = False
    half: bool = False
    scale: float = 1.0


def transform(x: Tensor, kind: Kind) -> Tensor:
    """The transform along axis 1 of (lead, n, trail) or (lead, n, trail, 2)."""
    found = radices(x.shape[1])
    return _bluestein(x, kind) if found is None else _staged(x, kind, found)


@lru_cache(maxsize=1024)
def radices(n: int) -> tuple[int, ...] | None:
    """The factors of n, in as few stages as they allow; None where a prime is too large.

    >>> radices(4096), radices(360), radices(97), radices(997)
    ((64, 64), (20, 18), (97,), None)
    """
    primes, rest = [], n
    for p in range(2, LARGEST_PRIME + 1):
        while rest % p == 0:
            primes.append(p)
            rest //= p
    if rest > 1:
        return None
    count = max(1, math.ceil(math.log(n, LARGEST_RADIX) - 1e-9)) if n > 1 else 1
    while True:
        parts = [1] * count
        for p in reversed(primes):
            parts[parts.index(min(parts))] *= p
        if all(part <= LARGEST_RADIX or part in primes for part in parts):
            return tuple(sorted((part for part in parts if part > 1), reverse=True)) or (1,)
        count += 1


def _staged(x: Tensor, kind: Kind, factors: tuple[int, ...]) -> Tensor:
    lead, n, trail = x.shape[:3]
    y, rest, done = x, n, trail
    for number, r in enumerate(factors):
        rest //= r
        real_in = kind.real_in and number == 0
        is_last = number == len(factors) - 1
        real_out, half = kind.real_out and is_last, kind.half and is_last
        part = Kind(kind.inverse, real_in, real_out, half, 1.0 if number else kind.scale)
        matrix = _constant(("matrix", r, part), x.dtype, x.device)
        pairs = () if real_in else (2,)
        y = y.reshape(lead, r, rest, done, *pairs)
        y = y._dot(matrix, ((1,), (0,)) if real_in else ((1, 4), (0, 1)))
        if rest > 1:
            y = times(y, ("twiddles", r, rest, kind.inverse))
        order = (0, 1, 3, 2) if real_out else (0, 1, 3, 2, 4)
        y, done = y.permute(order), done * matrix.shape[1 if real_in else 2]
    return y.reshape(lead, done // trail, trail, *(() if kind.real_out else (2,)))


def times(y: Tensor, key: tuple[object, ...]) -> Tensor:
    """Pairs times the complex factors of a table: y t = y re(t) + (-im(y), re(y)) im(t)."""
    real, imag = (_constant((part, *key), y.dtype, y.device) for part in ("real", "imag"))
    return y * real + y.flip(-1) * imag


def _bluestein(x: Tensor, kind: Kind) -> Tensor:
    """With j k = (j^2 + k^2 - (k - j)^2) / 2, a transform is a convolution with exp(i pi j^2 / n)
    between two products with its conjugate."""
    n = x.shape[1]
    long = 1 << (2 * n - 2).bit_length()
    key = (n, kind.inverse)
    if kind.real_in:
        y = x.unsqueeze(-1) * _constant(("chirp", *key), x.dtype, x.device)
    else:
        y = times(x, ("factors", *key))
    y = transform(extended(y, 1, long), Kind())
    y = transform(times(y, ("spectrum", *key)), Kind(inverse=True, scale=kind.scale / long))
    y = times(y[:, :n], ("factors", *key))
    return y[..., 0] if kind.real_out else y


# -- tables of factors ---------------------------------------------------------------------------


def _constant(key: tuple[object, ...], dtype: DType, device: Device) -> Tensor:
    """The table of that key; a trace gets one of its own, which is a constant of its plan."""
    return (_held if tracer() is None else _made)(key, dtype, device)


@lru_cache(maxsize=KEPT)
def _held(key: tuple[object, ...], dtype: DType, device: Device) -> Tensor:
    return _made(key, dtype, device)


def _made(key: tuple[object, ...], dtype: DType, device: Device) -> Tensor:
    values = _complex(key[1:]) if key[0] in ("real", "imag") else _table(key)
    if key[0] == "real":
        values = values.real[..., None]
    if key[0] == "imag":
        values = np.stack([-values.imag, values.imag], -1)
    return tensor(np.ascontiguousarray(values), dtype=dtype, device=device)


def _table(key: tuple[object, ...]) -> np.ndarray:
    """Factors as real numbers."""
    if key[0] == "chirp":
        chirp = _complex(("factors", *key[1:]))
        return np.stack([chirp.real, chirp.imag], -1)
    r, kind = key[1:]
    assert isinstance(r, int) and isinstance(kind, Kind)
    columns = r // 2 + 1 if kind.half else r
    w = _roots(np.outer(np.arange(r), np.arange(columns)), r, kind.inverse) * kind.scale
    both = np.stack([np.stack([w.real, w.imag], -1), np.stack([-w.imag, w.real], -1)], 1)
    both = both[:, 0] if kind.real_in else both
    return both[..., 0] if kind.real_out else both


def _complex(key: tuple[object, ...]) -> np.ndarray:
    """Factors as complex numbers, with the axes of what they multiply."""
    if key[0] == "twiddles":
        _, r, rest, inverse = key
        assert isinstance(r, int) and isinstance(rest, int)
        places = np.outer(np.arange(rest), np.arange(r))
        return _roots(places, r * rest, bool(inverse))[:, None, :]
    _, n, inverse = key
    assert isinstance(n, int)
    chirp = _roots(np.arange(n, dtype=np.int64) ** 2, 2 * n, bool(inverse))
    if key[0] == "factors":
        return chirp[:, None]
    long = 1 << (2 * n - 2).bit_length()
    around = np.zeros(long, np.complex128)
    around[:n] = chirp.conj()
    around[long - n + 1 :] = chirp[1:][::-1].conj()
    return np.fft.fft(around)[:, None]


def _roots(places: np.ndarray, n: int, inverse: bool) -> np.ndarray:
    """exp(-2 pi i places / n), or of the other sign, in float64; quarters of a turn are exact."""
    places, sign = places % n, 1 if inverse else -1
    angles = places * (2 * sign * math.pi / n)
    quarters = np.array([1, sign * 1j, -1, sign * -1j])[4 * places // n]
    return np.where(4 * places % n == 0, quarters, np.cos(angles) + 1j * np.sin(angles))
