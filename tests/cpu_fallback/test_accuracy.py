"""Errors of functions in units of the last place, over all floats and over samples of doubles.

4 million bit patterns, evenly over all 2^32, and the places where a function is delicate;
TGRAD_EXHAUSTIVE=1 takes every float (minutes). References are NumPy's float64 functions.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tgrad
from tests.cpu_fallback.cases import Draft, call
from tgrad import cpu_fallback
from tgrad import dtype as dt
from tgrad.graph.op import Op
from tgrad.settings import Settings

Array = np.ndarray[Any, Any]
STRIDE = 1 if os.environ.get("TGRAD_EXHAUSTIVE") else 1021
PART = 1 << 22
"""Floats of one call."""

SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0, 1.5, -1.5, np.inf, -np.inf, np.nan,
     1e-40, -1e-40, 2.0**23 - 0.5, 2.0**24 - 1, 2.0**24, 1 - 2.0**24, 1e30, -1e30, 1e38,
     1 + 2.0**-23, 1 - 2.0**-24],
    np.float32,
)  # fmt: skip


def _floats() -> Iterator[Array]:
    """Dense samples, then every STRIDE-th bit pattern."""
    around_one = 1 + np.linspace(-0.5, 0.5, 200_001)
    yield np.concatenate([SPECIAL, np.linspace(-12, 12, 400_001), around_one]).astype(np.float32)
    for start in range(0, 1 << 32, PART * STRIDE):
        bits = np.arange(start, min(start + PART * STRIDE, 1 << 32), STRIDE, dtype=np.uint64)
        yield bits.astype(np.uint32).view(np.float32)


def _erf(x: Array) -> Array:
    return np.fromiter(map(math.erf, x), np.float64, x.size)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


EXACT: dict[Op, tuple[Callable[[Array], Array], float]] = {
    Op.EXP: (np.exp, 1.5),
    Op.LOG: (np.log, 1.0),
    Op.TANH: (np.tanh, 1.5),
    Op.ERF: (_erf, 1.5),
    Op.SIGMOID: (_sigmoid, 2.0),
    Op.SIN: (np.sin, 0.6),
    Op.COS: (np.cos, 0.6),
    Op.SQRT: (np.sqrt, 0.5),
    Op.RSQRT: (lambda x: 1 / np.sqrt(x), 1.5),
}
"""What each op computes, and the units of the last place by which it may be off."""

DERIVED: dict[str, tuple[Callable[[Array], Array], float]] = {
    "exp2": (np.exp2, 1.0),
    "log2": (np.log2, 2.0),
    "log10": (np.log10, 2.0),
    "log1p": (np.log1p, 2.0),
    "expm1": (np.expm1, 2.0),
    "tan": (np.tan, 2.0),
}
"""Methods of Tensor made of these ops."""


def worst_error(have: Array, exact: Array, given: object = None) -> float:
    """The largest |have - exact| in units of the spacing of float32 at the exact value.

    What is not finite must be so in both; zeros have the same sign.
    """
    with np.errstate(over="ignore"):
        nearest = exact.astype(np.float32)
    special = ~np.isfinite(nearest) | ~np.isfinite(have) | (nearest == 0)
    np.testing.assert_array_equal(have[special], nearest[special], err_msg=repr(given))
    zero = nearest == 0
    np.testing.assert_array_equal(np.signbit(have[zero]), np.signbit(nearest[zero]))
    a, b = have[~special].astype(np.float64), exact[~special]
    return float((np.abs(a - b) / np.spacing(np.abs(nearest[~special]))).max(initial=0))


@pytest.mark.parametrize("op", EXACT, ids=str)
def test_ulps(settings: Settings, op: Op) -> None:
    exact, limit = EXACT[op]
    for x in _floats():
        d = Draft(i=x.size)
        d.store(d.op(op, d.input("x", "i")), "i")
        region = d.region(f"{op}_{x.size}", "map", parallel="i")
        [artifact] = cpu_fallback.generate([region], settings)
        have = call(artifact.entry, [x, np.zeros_like(x)])[1]
        with np.errstate(all="ignore"):
            want = exact(x.astype(np.float64))
        assert worst_error(have, want, op) <= limit


DOUBLES: dict[Op, tuple[Callable[[Array], Array], float]] = {
    Op.EXP: (np.exp, 1.0),
    Op.LOG: (np.log, 1.0),
    Op.TANH: (np.tanh, 3.0),
    Op.ERF: (np.vectorize(math.erf, otypes=[np.longdouble]), 2.0),
}


@pytest.mark.parametrize("op", DOUBLES, ids=str)
def test_ulps_of_doubles(settings: Settings, op: Op) -> None:
    """Any bits, all exponents of results, around 0 and around 1."""
    rng = np.random.default_rng(0)
    n = 1 << 18
    delicate = [5e-324, 1e-310, 2.0**-1022, 709.78, 709.79, -745.13, -745.14, 1e308, -1e-300]
    x = np.concatenate(
        [SPECIAL, delicate, rng.integers(0, 1 << 64, n, np.uint64).view(np.float64),
         rng.uniform(-750, 712, n), rng.uniform(-1, 1, n), rng.uniform(0.5, 1.5, n),
         rng.standard_normal(n) * 1e-8]
    )  # fmt: skip
    d = Draft(i=x.size)
    d.store(d.op(op, d.input("x", "i", dt.float64)), "i")
    region = d.region(f"{op}_f64_{x.size}", "map", parallel="i")
    [artifact] = cpu_fallback.generate([region], settings)
    have = call(artifact.entry, [x, np.zeros_like(x)])[1]
    exact, limit = DOUBLES[op]
    with np.errstate(all="ignore"):
        assert worst_error_of_doubles(have, exact(x.astype(np.longdouble))) <= limit


def worst_error_of_doubles(have: Array, wide: Array) -> float:
    """`worst_error` in units of the spacing of float64."""
    with np.errstate(all="ignore"):
        want = wide.astype(np.float64)
        special = ~np.isfinite(want) | ~np.isfinite(have) | (want == 0)
        np.testing.assert_array_equal(have[special], want[special])
        np.testing.assert_array_equal(np.signbit(have[want == 0]), np.signbit(want[want == 0]))
        error = np.abs(have - wide) / np.spacing(np.abs(want))
    return float(error[~special].max())


def test_exp2_of_doubles() -> None:
    rng = np.random.default_rng(0)
    n = 1 << 18
    x = np.concatenate([SPECIAL, [1023.9999, 1024.0, -1074.0, -1074.9, -1075.1, 5e-324],
                        rng.integers(0, 1 << 64, n, np.uint64).view(np.float64),
                        rng.uniform(-1080, 1026, n), rng.uniform(-1, 1, n)])  # fmt: skip
    have = tgrad.tensor(x, device="cpu").exp2().numpy()
    with np.errstate(all="ignore"):
        assert worst_error_of_doubles(have, np.exp2(x.astype(np.longdouble))) <= 1.0


def test_ulps_of_pow_of_doubles() -> None:
    """Special pairs; any bits; results over all exponents; bases near 1; negative bases."""
    rng = np.random.default_rng(0)
    n = 1 << 17
    ends = np.concatenate([SPECIAL, [5e-324, -1e-310, 2.0**52 - 0.5, 2.0**53 - 1, 2.0**53, 1e308]])
    bits = rng.integers(0, 1 << 64, (2, n), np.uint64).view(np.float64)
    base = np.abs(bits[0])
    near = 1 + rng.uniform(-1e-3, 1e-3, n)
    with np.errstate(all="ignore"):
        pairs = [(np.repeat(ends, ends.size), np.tile(ends, ends.size)), (bits[0], bits[1]),
                 (base, rng.uniform(-1080, 1026, n) / np.log2(base)),
                 (near, rng.uniform(-745, 710, n) / np.log(near)),
                 (rng.uniform(0, 10, n), rng.uniform(-20, 20, n)),
                 (-base, rng.integers(-40, 40, n).astype(np.float64))]  # fmt: skip
    x, y = (np.concatenate(side) for side in zip(*pairs))
    have = (tgrad.tensor(x, device="cpu") ** tgrad.tensor(y, device="cpu")).numpy()
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.longdouble), y.astype(np.longdouble))
    assert worst_error_of_doubles(have, want) <= 1.0


def _powers() -> Iterator[tuple[Array, Array]]:
    """Special pairs; any bits; results over all exponents; bases near 1 with large exponents."""
    yield np.repeat(SPECIAL, SPECIAL.size), np.tile(SPECIAL, SPECIAL.size)
    rng = np.random.default_rng(0)
    n = 1 << 20
    any_bits = rng.integers(0, 1 << 32, (2, n), np.uint64).astype(np.uint32).view(np.float32)
    yield any_bits[0], any_bits[1]
    base = np.abs(any_bits[0])
    with np.errstate(all="ignore"):
        exponents = (rng.uniform(-155, 130, n) / np.log2(base)).astype(np.float32)
    yield base, exponents
    near = (1 + rng.uniform(-1e-3, 1e-3, n)).astype(np.float32)
    yield near, (rng.uniform(-100, 88, n) / (near - 1 + 1e-9)).astype(np.float32)
    yield -np.abs(base), rng.integers(-40, 40, n).astype(np.float32)


def test_ulps_of_pow(settings: Settings) -> None:
    for x, y in _powers():
        d = Draft(i=x.size)
        d.store(d.op(Op.POW, d.input("x", "i"), d.input("y", "i")), "i")
        [artifact] = cpu_fallback.generate(
            [d.region(f"pow_{x.size}", "map", parallel="i")], settings
        )
        have = call(artifact.entry, [x, y, np.zeros_like(x)])[2]
        with np.errstate(all="ignore"):
            want = np.power(x.astype(np.float64), y.astype(np.float64))
        assert worst_error(have, want) <= 1.0


def test_remainders_are_exact() -> None:
    rng = np.random.default_rng(0)
    n = 1 << 18
    any_bits = rng.integers(0, 1 << 32, (2, n), np.uint64).astype(np.uint32).view(np.float32)
    near = [rng.integers(-k, k, n).astype(np.float32) for k in (1000, 20)]
    far = any_bits[0], (rng.standard_normal(n) * 1e-30).astype(np.float32)
    special = np.repeat(SPECIAL, SPECIAL.size), np.tile(SPECIAL, SPECIAL.size)
    a, b = (np.concatenate(side) for side in zip(special, any_bits, near, far))
    with np.errstate(all="ignore"):
        for name, want in (("fmod", np.fmod(a, b)), ("remainder", np.remainder(a, b))):
            have = getattr(tgrad, name)(tgrad.tensor(a), tgrad.tensor(b)).numpy()
            np.testing.assert_array_equal(have, want, err_msg=name)


@pytest.mark.parametrize("name", DERIVED)
def test_ulps_of_derived_functions(name: str) -> None:
    exact, limit = DERIVED[name]
    for x in _floats():
        have = getattr(tgrad.tensor(x, device="cpu"), name)().numpy()
        with np.errstate(all="ignore"):
            want = exact(x.astype(np.float64))
        assert worst_error(have, want, name) <= limit


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_small_floats_are_rounded_to_the_nearest(name: str) -> None:
    """Stored as such, and rounded between two operations; each of their numbers is loaded."""
    small = tgrad.dtype.by_name(name)
    every = np.arange(1 << 16, dtype=np.uint16).view(small.numpy)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(
            tgrad.tensor(every, device="cpu").float().numpy(), every.astype(np.float32)
        )
        for x in _floats():
            wide = tgrad.tensor(x, device="cpu")
            want = x.astype(small.numpy).astype(np.float32)
            stored = wide.to(small).numpy().astype(np.float32)
            rounded = wide.to(small).float().numpy()
            for have in (stored, rounded):
                np.testing.assert_array_equal(have, want)
                np.testing.assert_array_equal(np.signbit(have[x == x]), np.signbit(want[x == x]))


@pytest.mark.parametrize("shape", [(64, 64, 8192), (100, 300, 700)])
def test_a_product_is_as_exact_as_float32_blas(shape: tuple[int, int, int]) -> None:
    """Root of the mean square error against float64, at most twice that of NumPy's."""
    m, n, k = shape
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(size, np.float32) for size in ((m, k), (k, n)))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    ours = (tgrad.tensor(a, device="cpu") @ tgrad.tensor(b, device="cpu")).numpy()
    assert np.sqrt(((ours - exact) ** 2).mean()) <= 2 * np.sqrt(((a @ b - exact) ** 2).mean())


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_ulps_of_near_angles(name: str) -> None:
    """No argument is far out: those of float32 sampled evenly up to 2^20, and what is next to
    multiples of pi/2."""
    exact: Callable[[Array], Array] = getattr(np, name)
    quarter = np.arange(-600_000, 600_000) * (np.pi / 2)
    bits = np.arange(0, 0x49800000, STRIDE, dtype=np.uint32).view(np.float32)
    x = np.concatenate([bits, -bits, quarter.astype(np.float32)])
    have = getattr(tgrad.tensor(x, device="cpu"), name)().numpy()
    assert worst_error(have, exact(x.astype(np.float64)), name) <= 0.6
    rng = np.random.default_rng(0)
    sizes = rng.uniform(-1, 1, 1 << 18) * 2.0 ** rng.integers(-60, 30, 1 << 18)
    wide = np.concatenate([quarter, quarter * 1000, sizes, rng.uniform(-7, 7, 1 << 18),
                           [0.0, -0.0, 5e-324, -1e-310]])  # fmt: skip
    have = getattr(tgrad.tensor(wide, device="cpu"), name)().numpy()
    assert worst_error_of_doubles(have, exact(wide.astype(np.longdouble))) <= 1.0


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["fmod", "remainder", "floor_divide"])
def test_near_quotients_are_exact(name: str, kind: type) -> None:
    """Of numbers with as many bits as they can have, and of such that all but divide."""
    rng = np.random.default_rng(0)
    n = 1 << 17
    b = rng.uniform(0.5, 2, n) * 2.0 ** rng.integers(-20, 20, n) * rng.choice([-1, 1], n)
    whole = rng.integers(-(1 << 21), 1 << 21, n)
    with np.errstate(all="ignore"):
        a = np.concatenate([rng.standard_normal(n) * 1000 * b, b * whole, np.nextafter(b, 0)])
        a, b = a.astype(kind), np.tile(b, 3).astype(kind)
        a[: 2 * n : 2] = np.nextafter(a[: 2 * n : 2], kind(0))
        want = {"fmod": np.fmod, "remainder": np.remainder}.get(name, np.floor_divide)(a, b)
    have = getattr(tgrad, name)(tgrad.tensor(a), tgrad.tensor(b)).numpy()
    np.testing.assert_array_equal(have, want)


def test_near_and_far_arguments_share_a_tile() -> None:
    x = np.linspace(-20, 20, 40_000)
    x[[7, 20_000, 39_999]] = 1e300, np.inf, np.nan
    with np.errstate(all="ignore"):
        for name, want in (("sin", np.sin(x)), ("fmod", np.fmod(x, 1e-3))):
            y = tgrad.tensor(x, device="cpu")
            have = y.sin() if name == "sin" else y.fmod(1e-3)
            np.testing.assert_allclose(have.numpy(), want, rtol=1e-15, err_msg=name)
