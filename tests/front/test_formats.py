"""Memory formats and limits of dtypes: what PyTorch says of the same tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tgrad.dtype import DTYPES
from tgrad.errors import ShapeError

RECIPES = {
    "to": lambda library, x: x.to(memory_format=library.channels_last),
    "twice": lambda library, x: x.to(memory_format=library.channels_last).to(
        memory_format=library.channels_last
    ),
    "a cast": lambda library, x: x.to(library.float64, memory_format=library.channels_last),
    "contiguous": lambda library, x: x.contiguous(memory_format=library.channels_last),
    "and back": lambda library, x: x.to(memory_format=library.channels_last).contiguous(),
    "clone": lambda library, x: x.clone(memory_format=library.channels_last),
    "like": lambda library, x: library.ones_like(x, memory_format=library.channels_last),
    "a sum": lambda library, x: x.to(memory_format=library.channels_last) + 1,
    "permuted": lambda library, x: x.permute(0, 3, 1, 2).contiguous(
        memory_format=library.channels_last
    ),
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 4, 4), (1, 3, 1, 1), (2, 3, 0, 2)])
def test_channels_last_has_pytorchs_strides(recipe: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    ours = RECIPES[recipe](tgrad, tgrad.tensor(array))
    theirs = RECIPES[recipe](torch, torch.tensor(array))
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert ours.shape == tuple(theirs.shape)
    if 0 not in shape and 1 not in shape:
        assert ours.stride() == theirs.stride()
        assert ours.is_contiguous() == theirs.is_contiguous()


def test_writes_go_to_a_tensor_of_its_own() -> None:
    def run(library: Any) -> list[Any]:
        x = library.zeros(1, 2, 2, 2)
        y = x.to(memory_format=library.channels_last)
        y.add_(1)
        z = y.contiguous(memory_format=library.channels_last)
        z.mul_(3)
        return [x.tolist(), y.tolist(), z.tolist()]

    assert run(tgrad) == run(torch)


def test_a_module_keeps_its_values() -> None:
    layer = tgrad.nn.Conv2d(3, 4, 3)
    before = layer.weight.tolist()
    assert layer.to(memory_format=tgrad.channels_last) is layer
    assert layer.weight.tolist() == before


def test_only_images_have_it() -> None:
    with pytest.raises(ShapeError, match="channels_last of a tensor with 2 axes"):
        tgrad.ones(2, 2).to(memory_format=tgrad.channels_last)


FLOATS = [name for name, d in DTYPES.items() if d.is_float]
INTEGERS = [name for name, d in DTYPES.items() if d.is_int]


@pytest.mark.parametrize("name", FLOATS)
def test_limits_of_floats(name: str) -> None:
    ours, theirs = tgrad.finfo(getattr(tgrad, name)), torch.finfo(getattr(torch, name))
    for field in ("bits", "eps", "max", "min", "tiny", "smallest_normal", "dtype"):
        assert getattr(ours, field) == getattr(theirs, field), field
    with pytest.raises(TypeError, match=r"use tgrad\.iinfo"):
        tgrad.finfo(tgrad.int32)


@pytest.mark.parametrize("name", INTEGERS)
def test_limits_of_integers(name: str) -> None:
    ours, theirs = tgrad.iinfo(getattr(tgrad, name)), torch.iinfo(getattr(torch, name))
    for field in ("bits", "max", "min", "dtype"):
        assert getattr(ours, field) == getattr(theirs, field), field
    with pytest.raises(TypeError, match=r"use tgrad\.finfo"):
        tgrad.iinfo(tgrad.float32)
