"""Bags of rows of a table, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("shape", [(6, 5), (1, 40), (4, 1)])
@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_bags_of_one_length(
    mode: str, shape: tuple[int, int], padding: int | None, is_weighted: bool
) -> None:
    if is_weighted and mode != "sum":
        is_weighted = False  # refused by both
    rng = np.random.default_rng(5)
    table, factors = rng.standard_normal((9, 7)), rng.standard_normal(shape)
    numbers = rng.integers(0, 9, shape)
    if shape[0] > 3:
        numbers[1] = 2
    g = rng.standard_normal((shape[0], 7))
    results = []
    for lib in (tgrad, torch):
        w = lib.tensor(table).requires_grad_()
        f = lib.tensor(factors).requires_grad_() if is_weighted else None
        y = lib.nn.functional.embedding_bag(
            lib.tensor(numbers), w, mode=mode, padding_idx=padding, per_sample_weights=f
        )
        (y * lib.tensor(g)).sum().backward()
        results.append([y.detach(), w.grad, *([f.grad] if is_weighted else [])])
    for have, want in zip(*results):
        np.testing.assert_allclose(have.numpy(), want.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_empty_bags_are_zero(mode: str) -> None:
    numbers = tgrad.zeros(3, 0, dtype=tgrad.int64)
    y = tgrad.nn.functional.embedding_bag(numbers, tgrad.ones(4, 2), mode=mode)
    np.testing.assert_array_equal(y.numpy(), np.zeros((3, 2)))


def test_bags_of_one_length_are_added_where_they_are_read() -> None:
    """By one kernel, and by no scatter."""
    w, numbers = tgrad.rand(50, 16), tgrad.randint(0, 50, (8, 4))
    w, numbers = w.realize(), numbers.realize()
    (kernel,) = tgrad.explain(tgrad.nn.functional.embedding_bag(numbers, w, mode="sum")).kernels
    assert all(store.combine == "set" for store in kernel.region.stores)
