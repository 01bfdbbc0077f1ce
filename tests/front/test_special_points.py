"""Values and gradients where formulas end: joints, ties, 0, infinities and NaN are PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import TGRAD, TORCH, Function, Library

INF, NAN = math.inf, math.nan
POINTS = np.array(
    [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 20.0, -20.0, 1e4, INF, -INF, NAN]
)
PAIRS = tuple(a.reshape(-1) for a in np.meshgrid(POINTS, POINTS))
FINITE = tuple(a.reshape(-1) for a in np.meshgrid(POINTS[:-3], POINTS[:-3]))
LIMITS = [-1.0, 0.0, 1.0, NAN, 2.0, INF]
TRIPLES = tuple(a.reshape(-1) for a in np.meshgrid(LIMITS, LIMITS, LIMITS))
ROWS = np.array(
    [[1, 2, 2, 1], [0, 0, 0, 0], [0, 3, 0, 2], [0, 2, 5, 3], [3, 3, 3, 3], [-1, -2, -1, -2.0]]
)
SHARES = tuple(a.reshape(-1) for a in np.meshgrid([0.0, 1.0, 0.5, 1e-30], [0.0, 1.0, 0.5, 0.3]))


def target(x: Any, *classes: Any) -> Any:
    return x.new_tensor(list(classes)).long()


CASES: dict[str, tuple[Function, tuple[np.ndarray, ...]]] = {
    "fmod": (lambda lib, a, b: lib.t.fmod(a, b), PAIRS),
    "fmod of a number": (lambda lib, a: lib.t.fmod(a, 2.0), (POINTS,)),
    "div trunc": (lambda lib, a, b: lib.t.div(a, b, rounding_mode="trunc"), PAIRS),
    "clamp": (lambda lib, x: x.clamp(-1.0, 2.0), (POINTS,)),
    "clamp reversed": (lambda lib, x: x.clamp(2.0, -1.0), (POINTS,)),
    "clamp NaN below": (lambda lib, x: x.clamp(NAN, 1.0), (POINTS,)),
    "clamp NaN above": (lambda lib, x: lib.t.clamp(x, max=NAN), (POINTS,)),
    "clamp min": (lambda lib, x, a: lib.t.clamp(x, min=a), PAIRS),
    "clamp max": (lambda lib, x, a: lib.t.clamp(x, max=a), PAIRS),
    "clamp both": (lambda lib, x, a, b: lib.t.clamp(x, a, b), TRIPLES),
    "copysign": (lambda lib, a, b: lib.t.copysign(a, b), FINITE),
    "logaddexp": (lambda lib, a, b: lib.t.logaddexp(a, b), PAIRS),
    "logaddexp2": (lambda lib, a, b: lib.t.logaddexp2(a, b), PAIRS),
    "xlogy": (lambda lib, a, b: lib.t.xlogy(a, b), PAIRS),
    "hypot": (lambda lib, a, b: lib.t.hypot(a, b), PAIRS),
    "acosh": (lambda lib, x: lib.t.acosh(x), (np.array([-1e4, -2.0, 1.0, 2.0, 1e12]),)),
    "logit": (lambda lib, x: lib.t.logit(x), (np.array([-1.0, 0.0, 0.5, 1.0, 2.0, NAN]),)),
    "ndtri": (
        lambda lib, x: lib.t.special.ndtri(x),
        (
            np.array(
                [0.0, 1e-30, 1e-20, 1e-10, 1e-3, 0.0199, 0.0201, 0.3, 0.5, 0.99, 1.0, -0.5, 2.0]
            ),
        ),
    ),
    "i1e": (lambda lib, x: lib.t.special.i1e(x), (np.array([0.0, 1e-42, -1e-42, 1e-30, 2.0]),)),
    "spherical j0": (lambda lib, x: lib.t.special.spherical_bessel_j0(x.detach()), (POINTS,)),
    "inverse root": (lambda lib, x: x.detach() ** -0.5, (POINTS,)),
    "cross entropy": (
        lambda lib, x: lib.F.cross_entropy(x, target(x, 0, 1, 2, 3, 0, 1), reduction="none"),
        (ROWS * 1e6,),
    ),
    "smoothed cross entropy": (
        lambda lib, x: lib.F.cross_entropy(
            x, target(x, 0, 1, 2, 3, 0, 1), reduction="none", label_smoothing=0.1
        ),
        (ROWS * 1e6,),
    ),
    "softplus": (lambda lib, x: lib.F.softplus(x), (POINTS,)),
    "logsigmoid": (lambda lib, x: lib.F.logsigmoid(x), (POINTS,)),
    "hardswish": (lambda lib, x: lib.F.hardswish(x), (POINTS[:-1],)),
    "hardsigmoid": (lambda lib, x: lib.F.hardsigmoid(x), (POINTS,)),
    "smooth_l1": (lambda lib, x, y: lib.F.smooth_l1_loss(x, y, reduction="none"), PAIRS),
    "huber": (lambda lib, x, y: lib.F.huber_loss(x, y, reduction="none", delta=2.0), PAIRS),
    "kl_div": (lambda lib, x, y: lib.F.kl_div(x, y, reduction="none"), FINITE),
    "bce": (lambda lib, x, y: lib.F.binary_cross_entropy(x, y, reduction="none"), SHARES),
    "multi_margin": (
        lambda lib, x: lib.F.multi_margin_loss(x, target(x, 0, 1, 2, 3, 0, 1), reduction="none"),
        (ROWS,),
    ),
    "multilabel_margin": (
        lambda lib, x: lib.F.multilabel_margin_loss(x, target(x, *[[0, 1, -1, -1]] * 6)),
        (ROWS,),
    ),
    "cdist inf": (lambda lib, x, y: lib.t.cdist(x, y, INF), (ROWS, ROWS[:3])),
    "cdist 0": (lambda lib, x, y: lib.t.cdist(x, y, 0.0), (ROWS, ROWS[:3])),
    "pdist inf": (lambda lib, x: lib.F.pdist(x, INF), (ROWS,)),
    "pdist 0": (lambda lib, x: lib.F.pdist(x, 0.0), (ROWS,)),
    "norm 0": (lambda lib, x: x.norm(0.0, 1), (ROWS,)),
    "pairwise 0": (lambda lib, x, y: lib.F.pairwise_distance(x, y, 0.0), (ROWS, ROWS + 1)),
    "median of all": (lambda lib, x: x.median(), (ROWS,)),
    "median of NaN": (lambda lib, x: x.median(), (np.array([1.0, NAN, 3.0, NAN]),)),
    "nanmedian of all": (lambda lib, x: x.nanmedian(), (np.array([1.0, NAN, 1.0, 3.0]),)),
}


def value_and_gradients(lib: Library, f: Function, arrays: Any, dtype: str) -> list[Any]:
    device = {"device": "numpy"} if lib is TGRAD else {}
    leaves = [
        lib.t.tensor(a, dtype=getattr(lib.t, dtype), requires_grad=True, **device) for a in arrays
    ]
    y = f(lib, *leaves)
    g = np.linspace(0.5, 2.0, max(y.numel(), 1)).reshape(tuple(y.shape))
    if y.requires_grad:
        y.backward(lib.t.tensor(g, dtype=y.dtype, **device))
    return [y.detach().numpy(), *(None if x.grad is None else x.grad.numpy() for x in leaves)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_at_special_points(name: str, dtype: str) -> None:
    f, arrays = CASES[name]
    if dtype == "float32":
        arrays = tuple(np.where(a == 1e-30, 1e-20, a) for a in arrays)
    torch.manual_seed(0)
    mine, theirs = (value_and_gradients(lib, f, arrays, dtype) for lib in (TGRAD, TORCH))
    for a, b in zip(mine, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=2e-5 if dtype == "float32" else 1e-8, atol=1e-7)


DIVISIONS: dict[str, Function] = {
    "floor_divide": lambda lib, a, b: a // b,
    "remainder": lambda lib, a, b: a % b,
    "fmod": lambda lib, a, b: lib.t.fmod(a, b),
    "div trunc": lambda lib, a, b: lib.t.div(a, b, rounding_mode="trunc"),
    "of a number": lambda lib, a, b: 7 // b,
    "remainder of a number": lambda lib, a, b: 7 % b,
    "by a number": lambda lib, a, b: a // 0,
    "remainder by a number": lambda lib, a, b: a % 0,
    "in place": lambda lib, a, b: a.floor_divide_(b),
}


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
@pytest.mark.parametrize("name", DIVISIONS)
def test_integers_are_not_divided_by_0(name: str, dtype: str) -> None:
    for lib in (TGRAD, TORCH):
        kind = getattr(lib.t, dtype)
        a, b = (lib.t.tensor(x, dtype=kind) for x in ([5, 7, 9], [2, 0, 3]))
        with pytest.raises(RuntimeError, match=r"ZeroDivisionError|integers are divided by 0"):
            DIVISIONS[name](lib, a, b)
    with pytest.raises(ZeroDivisionError):
        DIVISIONS[name](TGRAD, tgrad.tensor([5, 7, 9]), tgrad.tensor([2, 0, 3]))


def test_a_compiled_function_looks_at_each_divisor() -> None:
    divide = tgrad.compile(lambda a, b: a // b)
    a = tgrad.tensor([7, 9])
    assert divide(a, tgrad.tensor([2, 3])).tolist() == [3, 3]
    with pytest.raises(ZeroDivisionError):
        divide(a, tgrad.tensor([2, 0]))
    assert divide(a, tgrad.tensor([1, 3])).tolist() == [7, 3]


def test_floats_are_divided_by_0() -> None:
    a, b = tgrad.tensor([1.0, -1.0, 0.0]), tgrad.tensor([0, 0, 0])
    x, y = torch.tensor([1.0, -1.0, 0.0]), torch.tensor([0, 0, 0])
    np.testing.assert_array_equal((a // b).numpy(), (x // y).numpy())
    np.testing.assert_array_equal((a % b).numpy(), (x % y).numpy())
