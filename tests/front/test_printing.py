"""The text of tensors beside PyTorch's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import tgrad
from tgrad.errors import UnsupportedError

SHAPES = [
    (), (1,), (7,), (30,), (3, 4), (2, 1, 5), (2, 3, 2, 2), (1001,), (40, 40), (3, 400), (7, 8, 20),
    (2, 2, 2, 200), (1, 2000), (0,), (0, 3), (2, 0),
]  # fmt: skip
FLOATS = ["float32", "float64", "float16", "bfloat16"]
INTEGERS = ["int64", "int32", "int16", "int8", "uint8"]


def of_magnitude(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    normal = rng.normal(size=shape)
    if kind == "special":
        return np.where(rng.random(shape) < 0.3, rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0],
                                                            shape), normal)  # fmt: skip
    return {
        "near one": normal,
        "whole": np.round(normal * 20),
        "large whole": np.round(normal * 1e6),
        "small": normal * 1e-5,
        "large": normal * 1e9,
        "wide": normal * 10.0 ** rng.integers(-4, 4, shape),
        "zero": normal * 0,
        "not numbers": normal * np.nan,
    }[kind]


def in_both(array: np.ndarray, dtype: str) -> tuple[str, str]:
    given = torch.tensor(array).to(getattr(torch, dtype))
    if given.dtype is torch.bfloat16:
        ours = tgrad.tensor(given.float().numpy(), dtype=tgrad.bfloat16)
    else:
        ours = tgrad.tensor(given.numpy())
    return repr(ours).replace("tgrad.", "torch."), repr(given)


MAGNITUDES = [
    "near one", "whole", "large whole", "small", "large", "wide", "zero", "not numbers", "special",
]  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", MAGNITUDES)
def test_floats(kind: str, dtype: str) -> None:
    rng = np.random.default_rng()
    for shape in SHAPES:
        ours, theirs = in_both(of_magnitude(rng, shape, kind).astype(np.float64), dtype)
        assert ours == theirs, shape


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool", "complex64", "complex128"])
def test_other_dtypes(dtype: str) -> None:
    rng = np.random.default_rng()
    for shape, size in itertools.product(SHAPES, [1, 5, 120]):
        array = rng.integers(0 if dtype == "uint8" else -size, size, shape, endpoint=True)
        if "complex" in dtype:
            array = array / 7 + 1j * rng.normal(size=shape)
        ours, theirs = in_both(array, dtype)
        assert ours == theirs, shape


OPTIONS = [
    {"precision": 2}, {"precision": 10, "linewidth": 50}, {"sci_mode": True}, {"sci_mode": False},
    {"threshold": 5, "edgeitems": 1}, {"edgeitems": 0, "threshold": 3}, {"profile": "short"},
    {"profile": "full"}, {"linewidth": 20, "precision": 1}, {"profile": "short", "precision": 6},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options(options: dict) -> None:
    rng = np.random.default_rng()
    kept = np.get_printoptions()
    try:
        for library in (tgrad, torch):
            library.set_printoptions(**options)
        for kind, shape in itertools.product(MAGNITUDES, SHAPES[:-4]):
            ours, theirs = in_both(of_magnitude(rng, shape, kind), "float32")
            assert ours == theirs, (kind, shape)
        assert np.get_printoptions() == kept
    finally:
        for library in (tgrad, torch):
            library.set_printoptions(profile="default")


def test_what_is_left_out_stays_but_for_the_exponents() -> None:
    values, found = np.array([1e-6, 1.0, 3.0]), []
    for library in (tgrad, torch):
        try:
            library.set_printoptions(precision=2, sci_mode=False)
            first = repr(library.tensor(values))
            library.set_printoptions(linewidth=100)
            found.append([first, repr(library.tensor(values))])
        finally:
            library.set_printoptions(profile="default")
    assert [text.replace("tgrad.", "torch.") for text in found[0]] == found[1]


def test_what_else_is_said() -> None:
    for make in (
        lambda t: t.tensor([1.5, 2.0], requires_grad=True),
        lambda t: t.zeros(14, dtype=t.float64, requires_grad=True),
        lambda t: t.nn.Parameter(t.ones(2, 2)),
        lambda t: t.full((17,), 0.25, dtype=t.float64, requires_grad=True),
        lambda t: t.full((8,), 0.125, requires_grad=True),
    ):
        assert repr(make(tgrad)).replace("tgrad.", "torch.") == repr(make(torch))
    x = tgrad.tensor([1.0], requires_grad=True)
    assert repr(x * 2) == "tensor([2.], grad_fn=<MulBackward>)"
    assert repr(tgrad.ones(1, device="numpy")) == "tensor([1.], device='numpy')"
    text = repr(tgrad.ones(2, device="numpy", dtype=tgrad.float64))
    assert text == "tensor([1., 1.], device='numpy', dtype=tgrad.float64)"


def test_default_dtypes_are_not_named() -> None:
    for library in (tgrad, torch):
        library.set_default_dtype(library.float64)
    try:
        for make in (
            lambda t: t.zeros(2),
            lambda t: t.zeros(2, dtype=t.float32),
            lambda t: t.zeros(2, dtype=t.complex128),
            lambda t: t.zeros(2, dtype=t.complex64),
        ):
            assert repr(make(tgrad)).replace("tgrad.", "torch.") == repr(make(torch))
    finally:
        for library in (tgrad, torch):
            library.set_default_dtype(library.float32)


def test_no_such_profile() -> None:
    with pytest.raises(UnsupportedError, match=r"profile='long'(.|\n)*Use default, short, full"):
        tgrad.set_printoptions(profile="long")
