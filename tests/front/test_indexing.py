"""Indices at the edge: axes of no elements, indices of none, bools, and places that are not read;
against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tgrad.errors import ShapeError


def in_both(function: Callable[[Any, Any], Any], *arrays: np.ndarray) -> None:
    """Values, dtypes and gradients are PyTorch's."""
    ours = [tgrad.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    theirs = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    mine, wanted = function(tgrad, ours), function(torch, theirs)
    assert mine.shape == tuple(wanted.shape)
    assert f"torch.{mine.dtype.name}" == str(wanted.dtype)
    np.testing.assert_array_equal(mine.numpy(), wanted.detach().numpy())
    if wanted.requires_grad:
        mine.sum().backward()
        wanted.sum().backward()
        for have, want in zip(ours, theirs):
            if want.grad is not None:
                np.testing.assert_array_equal(have.grad.numpy(), want.grad.numpy())


NOTHING, INDEX = np.zeros((3, 0, 4), np.float32), np.array([[0, 2], [1, 1]])


@pytest.mark.parametrize(
    "function",
    [
        lambda p, t: t[0][t[1]],
        lambda p, t: t[0][:, :, t[1]],
        lambda p, t: t[0][t[1], :, t[1]],
        lambda p, t: p.gather(t[0], 0, p.zeros((3, 0, 4), dtype=p.int64)),
        lambda p, t: t[0].index_put((t[1],), p.zeros(2, 2, 0, 4)),
    ],
)
def test_axes_of_no_elements(function: Callable[[Any, Any], Any]) -> None:
    in_both(function, NOTHING, INDEX)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.bool_])
def test_an_index_of_none(dtype: Any) -> None:
    none = np.zeros((2, 0), np.int64)
    in_both(lambda p, t: t[0].gather(1, t[1]), np.ones((2, 3), dtype), none)


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("reduce", ["sum", "prod", "amax", "amin"])
def test_bools_are_combined_as_bools(reduce: str, include_self: bool) -> None:
    start, index = np.array([[True, False, True]]), np.array([[0, 0, 1]])
    sent = np.array([[False, True, False]])
    in_both(
        lambda p, t: t[0].scatter_reduce(1, t[1], t[2], reduce, include_self=include_self),
        start, index, sent,
    )  # fmt: skip
    in_both(lambda p, t: t[0].prod(1, dtype=p.bool), start)


@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (0, 3), (2, 3, 2)])
@pytest.mark.parametrize("size", [0, 2, 20])
def test_places_of_what_is_not_zero_by_a_size(shape: tuple[int, ...], size: int) -> None:
    """Nothing is read, so it compiles."""
    x = np.random.default_rng(0).integers(0, 2, shape).astype(np.float32)
    place = tgrad.compile(lambda x: tgrad.nonzero_static(x, size=size, fill_value=-3))
    want = torch.nonzero_static(torch.tensor(x), size=size, fill_value=-3)
    found = place(tgrad.tensor(x))
    assert found.shape == tuple(want.shape)
    np.testing.assert_array_equal(found.numpy(), want.numpy())


def test_batches_of_none() -> None:
    x = np.zeros((0, 2, 6, 6), np.float32)
    for dim in (0, 1):
        in_both(lambda p, t, dim=dim: t[0].logsumexp(dim), x)
        in_both(lambda p, t, dim=dim: t[0].chunk(3, dim)[1], x)
    in_both(lambda p, t: p.nn.functional.kl_div(t[0], t[0], reduction="batchmean"), x)
    in_both(lambda p, t: p.nn.functional.adaptive_max_pool2d(t[0], (2, 2)), x)
    grid = tgrad.zeros(0, 3, 3, 2)
    assert F.grid_sample(tgrad.tensor(x), grid, align_corners=False).shape == (0, 2, 3, 3)


def test_exponentials_of_matrices_in_half_types() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 4)).astype(np.float32)
    half = tgrad.tensor(x).bfloat16()
    want = torch.matrix_exp(torch.tensor(half.float().numpy()))
    found = tgrad.linalg.matrix_exp(half)
    assert found.dtype is tgrad.bfloat16
    np.testing.assert_allclose(found.float().numpy(), want.numpy(), rtol=2**-7, atol=1e-2)


@pytest.mark.parametrize("method", ["index_add", "index_copy"])
@pytest.mark.parametrize("shape", [(2, 1), (1, 3), (3, 3), (2,)])
def test_slices_have_the_shape_of_those_they_go_to(method: str, shape: tuple[int, ...]) -> None:
    for library in (tgrad, torch):
        x, index = library.zeros(4, 3), library.tensor([0, 2])
        with pytest.raises((ShapeError, RuntimeError, IndexError)):
            getattr(x, method)(0, index, library.ones(shape))
    with pytest.raises(ShapeError, match=r"2 places along axis 0 of \(4, 3\)"):
        tgrad.zeros(4, 3).index_reduce(0, tgrad.tensor([0, 2]), tgrad.ones(shape), "amax")


def test_a_tensor_with_no_axes_has_no_part() -> None:
    with pytest.raises(ShapeError, match="narrow of a tensor with no axes"):
        tgrad.tensor(1.0).narrow(0, 0, 1)
