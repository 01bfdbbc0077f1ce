"""Parts of tensors of symbolic sizes, read and written, against PyTorch at every size."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tests.compile.dynamic_checking import poison as poison

Function = Callable[..., Any]
SHAPES = ((3, 4), (5, 6), (1, 6), (5, 1), (1, 1), (2, 2))
"""Of calls: the largest, the smallest, equal ones, and the other way round."""


def check(
    function: Function, shapes: Sequence[tuple[int, int]] = SHAPES, smallest: int = 1,
    traces: int | None = 1,
) -> None:  # fmt: skip
    """Assert that function(m, x), for x of [B, T, 4], gives what it gives with PyTorch, as does the
    gradient of what x is multiplied with."""
    scales = np.array([1.0, -2.0, 0.5, 1.5])

    def step(m: Any, x: Any, scale: Any) -> Any:
        found = function(m, x * scale)
        results = found if isinstance(found, tuple) else (found,)
        total = sum((r * r.detach().sin()).sum() for r in results)
        return *(r.detach() * 1 for r in results), *m.autograd.grad(total, [scale])

    mine, theirs = (m.tensor(scales).requires_grad_() for m in (tgrad, torch))
    spec = {0: ("B", smallest, 5), 1: ("T", smallest, 6)}
    compiled = tgrad.compile(lambda x: step(tgrad, x, mine), dynamic={"x": spec})
    for shape in shapes:
        x = np.random.default_rng(sum(shape)).standard_normal((*shape, 4))
        found, wanted = compiled(tgrad.tensor(x)), step(torch, torch.tensor(x), theirs)
        for ours, other in zip(found, wanted):
            assert ours.shape == tuple(other.shape)
            np.testing.assert_allclose(ours.numpy(), other.numpy(), 1e-9, 1e-9, err_msg=str(shape))
    assert traces is None or compiled.traces == traces


def _written(m: Any, x: Any) -> Any:
    y = x * 1
    y[:, 1:].mul_(2)
    y[:-1, :, 1:3] += 1
    y[: x.shape[0] - 1].sub_(x[1:])
    return y * x


def _between_others(m: Any, x: Any) -> Any:
    y = m.zeros(x.shape[0] + 2, x.shape[1], 4, dtype=x.dtype)
    middle = y[1:-1]
    middle.copy_(x)
    middle[:, 1:].add_(x[:, :-1])
    y[1 : x.shape[0] + 1].mul_(x)
    return y, middle


def _turned(m: Any, x: Any) -> Any:
    y = x * 1
    rows = y.transpose(0, 1)[1:].unsqueeze(1)
    rows[..., :2].mul_(3)
    y.view(-1, 4)[:, 1].add_(1)
    y.permute(2, 0, 1)[3].clamp_(-0.1, 0.1)
    return y * 2, rows * 1


def _diagonals(m: Any, x: Any) -> Any:
    y = x @ x.mT
    y.diagonal(0, 1, 2).add_(1)
    square = y[0] * 1
    square.fill_diagonal_(0.5)
    return y, square


def _put(m: Any, x: Any) -> Any:
    y = x * 1
    y[m.arange(x.shape[0]), x.detach()[:, :, 0].argmax(1)] = x[:, 0] * 3
    y[:, m.arange(x.shape[1]).flip(0)] = y * 2
    rows = m.arange(x.shape[0])
    return y.index_put((rows, rows * 0), x[:, -1], accumulate=True) * x


READ_AND_WRITTEN: dict[str, Function] = {
    "slices of symbolic length": _written,
    "a part between others": _between_others,
    "views that are turned and merged": _turned,
    "diagonals": _diagonals,
    "places of two symbolic axes": _put,
    "the best of each row": lambda m, x: x[m.arange(x.shape[0]), x.detach().sum(2).argmax(1)],
    "flattened without the first": lambda m, x: x[:, :-1].reshape(-1, 4) * x[:, 1:].reshape(-1, 4),
    "pieces that make a fixed size": lambda m, x: m.cat([x[:1] * 2, x[:0]], 0) * x[:1],
    "place of the largest of all": lambda m, x: x.sum() + x.argmax() - x.argmin(),
    "diagonal of a product": lambda m, x: (x @ x.mT).diagonal(0, 2, 1) * x[..., 0],
    "sum of a diagonal": lambda m, x: m.trace(x[0] @ x[0].T) * x,
    "covariances": lambda m, x: m.cov(m.cat([x, x * x, x], 0)[:, 0].T),
    "flattened and a bias": lambda m, x: m.nn.functional.linear(
        x.flatten(0, 1), m.ones(4, 4, dtype=x.dtype) * x.sum(), x[0, 0]
    ).unflatten(0, (x.shape[0], x.shape[1])),
}


@pytest.mark.parametrize("name", READ_AND_WRITTEN)
def test_parts(name: str) -> None:
    check(READ_AND_WRITTEN[name])


ALONG: dict[str, Function] = {
    "sorted": lambda m, x: x.sort(1).values,
    "sorted backwards": lambda m, x: x.sort(0, descending=True).values,
    "as many as there are": lambda m, x: x.topk(x.shape[1], 1).values,
    "median": lambda m, x: (
        x - x.median(1, keepdim=True).values * x.nanmedian(0, keepdim=True).values
    ),
    "median of integers": lambda m, x: (x * 9).long().median(1).values + x[:, 0],
    "mode": lambda m, x: x + (x.detach() * 2).round().mode(1, keepdim=True).values,
    "running extremes": lambda m, x: x.cummax(1).values * x.cummin(0).values,
    "places of running extremes": lambda m, x: x + x.cummax(1).indices,
    "running products": lambda m, x: x.cumprod(1) + x.logcumsumexp(0),
    "products": lambda m, x: x.prod(1) + x[:, 0],
    "rolled": lambda m, x: x.roll((1, -2), (0, 1)) + x.roll(37, 1) * 2,
    "set by index": lambda m, x: x.index_copy(1, m.arange(x.shape[1]).flip(0), x * x),
    "set in a longer axis": lambda m, x: m.zeros(9, 4, dtype=x.dtype).index_copy(
        0, m.arange(x.shape[1]) + 2, x[0]
    ),
    "scattered": lambda m, x: (x * 2).scatter(1, x.detach().argsort(1), x),
}


@pytest.mark.parametrize("name", ALONG)
def test_order_and_places_along_a_symbolic_axis(name: str) -> None:
    """Most of these raised."""
    check(ALONG[name], smallest=2, shapes=((3, 4), (5, 6), (2, 6), (5, 2), (2, 2)))


def test_what_is_gathered_beside_flattened_rows() -> None:
    """Rows that stand in memory behind places that do not exist were read as the first one."""
    compiled = tgrad.compile(
        lambda x, n: (x.reshape(-1, 4)[:, n], x.reshape(-1, 4).narrow(1, n, 1) + 1),
        dynamic={"x": {0: (1, 5), 1: (1, 6)}, "n": (0, 3)},
    )
    for n, shape in enumerate(SHAPES[:4]):
        x = np.random.default_rng(n).standard_normal((*shape, 4))
        column, beside = compiled(tgrad.tensor(x), n)
        np.testing.assert_array_equal(column.numpy(), x.reshape(-1, 4)[:, n])
        np.testing.assert_array_equal(beside.numpy(), x.reshape(-1, 4)[:, n : n + 1] + 1)
    assert compiled.traces == 1


@pytest.mark.parametrize("squeeze", [lambda x: x.squeeze(0), lambda x: x.squeeze()])
def test_an_axis_of_one_is_squeezed(squeeze: Function) -> None:
    """It stayed, in the calls where its size was 1."""
    compiled = tgrad.compile(lambda x: squeeze(x * 2), dynamic={"x": {0: (1, 8)}})
    for n in (3, 1, 8, 1):
        assert compiled(tgrad.ones(n, 4)).shape == ((n, 4) if n > 1 else (4,))
    assert compiled.traces == 2


@pytest.mark.parametrize("offset", [0, 1, -1, 3])
def test_diagonals_of_matrices_of_two_symbolic_sizes(offset: int) -> None:
    """With an offset a ShapeError told of a reshape."""
    compiled = tgrad.compile(
        lambda x: x.diagonal(offset) * 2, dynamic={"x": {0: (1, 5), 1: (1, 6)}}
    )
    for shape in SHAPES:
        x = np.random.default_rng(0).standard_normal(shape)
        np.testing.assert_array_equal(compiled(tgrad.tensor(x)).numpy(), np.diagonal(x, offset) * 2)


def test_a_table_shorter_than_the_largest_size() -> None:
    """Its rows and those of an argument have memory of one length; add said that it had not."""
    table = np.random.default_rng(0).standard_normal((5, 2))
    positions = tgrad.tensor(table)
    compiled = tgrad.compile(lambda x: x + positions[: x.shape[0]], dynamic={"x": {0: (1, 8)}})
    for n in (3, 5, 1):
        np.testing.assert_array_equal(compiled(tgrad.ones(n, 2)).numpy(), 1 + table[:n])
    assert compiled.traces == 1


def test_a_size_that_a_guard_leaves_no_choice() -> None:
    """The argument is that number then; it was said to change."""
    compiled = tgrad.compile(lambda x, n: x[n:].diagonal(), dynamic={"n": (0, 3)})
    x = tgrad.arange(12).reshape(4, 3)
    assert [compiled(x, n).tolist() for n in (0, 3, 2)] == [[0, 4, 8], [9], [6, 10]]


def test_state_of_a_trace_that_failed() -> None:
    """It changes in place afterwards, though the error holds a view of it."""
    held = tgrad.zeros(4)

    def fail(x: tgrad.Tensor) -> None:
        part = held[: x.shape[0]]
        part.add_(x)
        raise ValueError(part)

    with pytest.raises(ValueError) as info:
        tgrad.compile(fail, dynamic={"x": {0: (1, 4)}})(tgrad.ones(2))
    assert held.add_(1).tolist() == [1.0] * 4
    assert info.value.args


def test_results_that_are_views_of_state_are_copies() -> None:
    """As `compile` says."""
    held = tgrad.zeros(4, 2)
    compiled = tgrad.compile(lambda n: held[:n], dynamic={"n": (1, 4)})
    compiled(2).add_(1)
    assert held.tolist() == [[0.0, 0.0]] * 4


def test_writes_to_state_from_a_symbolic_place_on() -> None:
    """A cache of keys: read as far as it is written, by any of the ways to write it."""
    ways: dict[str, Function] = {
        "copy": lambda keys, at, new: keys[:, at : at + new.shape[1]].copy_(new),
        "assigned": lambda keys, at, new: keys.__setitem__(
            (slice(None), slice(at, at + new.shape[1])), new
        ),
        "narrow": lambda keys, at, new: keys.narrow(1, at, new.shape[1]).copy_(new),
        "turned": lambda keys, at, new: keys.transpose(0, 1)[at : at + new.shape[1]].copy_(
            new.transpose(0, 1)
        ),
        "index": lambda keys, at, new: keys.index_copy_(1, at + tgrad.arange(new.shape[1]), new),
    }
    for name, way in ways.items():
        keys, wanted = tgrad.zeros(2, 8), np.zeros((2, 8), np.float32)

        def append(new: tgrad.Tensor, at: int, way: Function = way, keys: Any = keys) -> Any:
            way(keys, at, new)
            return keys[:, : at + new.shape[1]] * 1

        compiled = tgrad.compile(append, dynamic={"new": {1: (1, 4)}, "at": (0, 7)})
        at = 0
        for n in (3, 1, 4):
            new = np.random.default_rng(n).standard_normal((2, n)).astype(np.float32)
            wanted[:, at : at + n] = new
            at += n
            found = compiled(tgrad.tensor(new), at - n)
            np.testing.assert_array_equal(found.numpy(), wanted[:, :at], err_msg=name)
            np.testing.assert_array_equal(keys.numpy(), wanted, err_msg=name)


VIEWS: tuple[Function, ...] = (
    lambda v: v[1:],
    lambda v: v[:-1],
    lambda v: v[:, : v.shape[0]],
    lambda v: v[-2:],
    lambda v: v.transpose(0, 1),
    lambda v: v.unsqueeze(1).squeeze(1),
    lambda v: v[..., 0],
    lambda v: v.detach(),
    lambda v: v.diagonal(0, 0, 1),
)
WRITES: tuple[Function, ...] = (
    lambda v: v.mul_(2),
    lambda v: v.copy_(v * 0.5 + 1),
    lambda v: v.masked_fill_(v > 0, 0.25),
    lambda v: v.__setitem__(..., 0.75),
)


@pytest.mark.parametrize("seed", range(12))
def test_chains_of_views_and_writes(seed: int) -> None:
    chance = random.Random(seed)
    steps = [(chance.random() < 0.6, chance.random(), chance.randrange(9)) for _ in range(8)]

    def function(m: Any, x: Any) -> Any:
        pool = [x * 1]
        for is_view, which, number in steps:
            v = pool[int(which * len(pool))]
            if not is_view:
                WRITES[number % len(WRITES)](v)
            elif v.ndim > 1 and (v.ndim > 2 or number < 7):
                pool.append(VIEWS[number](v))
        return tuple(pool)

    check(function, ((3, 4), (5, 6), (2, 2)), smallest=2, traces=None)
