"""Reductions over neighbourhoods in C: pools and their gradients beside PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tests.cpu_fallback.cases import depthwise, pooling
from tests.cpu_fallback.test_golden import AVX512
from tgrad.cpu_fallback.emit_c import emit
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.cpu_fallback.neighbourhood_plan import Neighbourhood, match_neighbourhood
from tgrad.fusion.region import Region
from tgrad.kernel.lower import lower


def found(region: Region) -> Neighbourhood | None:
    return match_neighbourhood(lower(region, choose_config(region, AVX512)), AVX512.lanes(4))


def values(shape: tuple[int, ...], kind: str) -> torch.Tensor:
    """Random numbers, many of them equal or infinite."""
    x = torch.randn(shape)
    if kind == "equal":
        return x.relu()
    return x.where(torch.rand(shape) < 0.4, -torch.inf) if kind == "infinite" else x


SHAPES = {
    "a register": ((8, 3, 14, 14), 3, 1, 1, 1),
    "half a register": ((2, 9, 7, 7), 3, 1, 1, 1),
    "one column": ((4, 4, 9, 2), 2, 1, 1, 1),
    "not square": ((2, 5, 11, 27), (3, 5), 1, (1, 2), 1),
    "many taps": ((2, 5, 19, 20), 13, 1, 6, 1),
    "steps": ((2, 8, 28, 28), 3, 2, 1, 1),
    "long steps": ((2, 8, 29, 31), 5, 3, 2, 1),
    "dilated": ((2, 8, 17, 16), 3, 1, 1, 2),
    "dilated steps": ((2, 8, 17, 16), 3, 2, 1, 2),
    "bands": ((1, 3, 230, 211), 3, 1, 1, 1),
    "no padding": ((2, 8, 13, 13), 4, 2, 0, 1),
    "side by side": ((2, 8, 12, 12), 2, 2, 0, 1),
    "one image": ((1, 1, 12, 12), 3, 1, 1, 1),
}


@pytest.mark.parametrize("kind", ["random", "equal", "infinite"])
@pytest.mark.parametrize("name", SHAPES)
def test_maxima_their_places_and_gradients(name: str, kind: str) -> None:
    shape, *how = SHAPES[name]
    torch.manual_seed(0)
    theirs = values(shape, kind).requires_grad_()
    y, places = torch.nn.functional.max_pool2d(theirs, *how, return_indices=True)
    g = torch.randn_like(y)
    y.backward(g)
    mine = tgrad.tensor(theirs).requires_grad_()
    top, at = F.max_pool2d(mine, *how, return_indices=True)
    F.max_pool2d(mine, *how).backward(tgrad.tensor(g))
    assert np.array_equal(top.detach().numpy(), y.detach().numpy())
    assert np.array_equal(at.numpy(), places.numpy())
    np.testing.assert_allclose(mine.grad.numpy(), theirs.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in SHAPES if not n.startswith("dilated")])
def test_means(name: str) -> None:
    shape, *how, _ = SHAPES[name]
    torch.manual_seed(0)
    theirs = torch.randn(shape).requires_grad_()
    y = torch.nn.functional.avg_pool2d(theirs, *how, count_include_pad=False)
    g = torch.randn_like(y)
    y.backward(g)
    mine = tgrad.tensor(theirs).requires_grad_()
    mean = F.avg_pool2d(mine, *how, count_include_pad=False)
    mean.backward(tgrad.tensor(g))
    np.testing.assert_allclose(mean.detach().numpy(), y.detach(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mine.grad.numpy(), theirs.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16", "int32", "uint8", "int64"])
def test_other_dtypes(dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 9, (3, 4, 9, 10))
    mine = tgrad.tensor(x).to(getattr(tgrad, dtype))
    top, at = F.max_pool2d(mine, 3, 1, 1, return_indices=True)
    y, places = torch.nn.functional.max_pool2d(
        torch.tensor(x).double(), 3, 1, 1, return_indices=True
    )
    assert np.array_equal(top.to(tgrad.float64).numpy(), y) and np.array_equal(at.numpy(), places)


def test_what_is_computed_before_and_after_is_part_of_it() -> None:
    torch.manual_seed(0)
    x, scale = torch.randn(3, 4, 14, 13), torch.randn(3, 4, 14, 13)

    def program(functional: Any, x: Any, scale: Any) -> Any:
        return functional.max_pool2d((x * 2).sin(), 3, 1, 1) * scale

    mine = program(F, tgrad.tensor(x), tgrad.tensor(scale))
    (kernel,) = tgrad.explain(mine).kernels
    assert "plane0" in kernel.source and "line1" in kernel.source
    np.testing.assert_allclose(mine.numpy(), program(torch.nn.functional, x, scale), atol=1e-5)


@pytest.mark.parametrize(
    ("region", "width", "planes", "lines"),
    [
        (lambda: pooling(8, 3, 14, 14, 3, 1), 16, 1, 3),
        (lambda: pooling(8, 3, 7, 7, 3, 1), 8, 1, 3),
        (lambda: pooling(8, 3, 7, 7, 3, 1, columns="x y"), 7, 1, 0),
        (lambda: pooling(8, 3, 28, 28, 3, 1, 2), 16, 1, 3),
    ],
    ids=["a register", "half a register", "columns", "steps"],
)
def test_rows_are_whole_registers(region: Any, width: int, planes: int, lines: int) -> None:
    program = found(region())
    assert program is not None
    assert (program.width, len(program.planes), len(program.lines)) == (width, planes, lines)
    lowered = lower(region(), choose_config(region(), AVX512))
    source = emit(lowered, choose_config(region(), AVX512), AVX512)
    assert source.count("memcpy") == lines and "plane0" in source


def test_large_images_are_bands() -> None:
    program = found(pooling(1, 3, 230, 211, 3, 1))
    assert program is not None and 8 <= program.band < 230


def test_who_has_none() -> None:
    for region in (
        pooling(1, 1, 14, 14, 3, 1),  # threads would share nothing
        pooling(8, 8, 14, 14, 2, 0, 2),  # no two windows have a place in common
        pooling(8, 3, 40, 20000, 3, 1),  # rows beyond the cache
        depthwise("weight", 8, 8, 14, 14, 3, 1),  # sums over pixels
    ):
        assert found(region) is None


@pytest.mark.parametrize("kernel", [(3, 3, 1), (3, 1, 3), (1, 3, 3), (2, 3, 3)])
def test_windows_over_two_of_three_axes(kernel: tuple[int, ...]) -> None:
    """Two loops, of which one may walk along an axis that is no row's."""
    torch.manual_seed(0)
    x = torch.randn(8, 8, 5, 8, 8)
    y, places = torch.nn.functional.max_pool3d(x, kernel, 1, return_indices=True)
    top, at = F.max_pool3d(tgrad.tensor(x), kernel, 1, return_indices=True)
    assert np.array_equal(top.numpy(), y) and np.array_equal(at.numpy(), places)
    theirs = x.clone().requires_grad_()
    torch.nn.functional.max_pool3d(theirs, kernel, 1).sum().backward()
    mine = tgrad.tensor(x).requires_grad_()
    F.max_pool3d(mine, kernel, 1).sum().backward()
    assert np.array_equal(mine.grad.numpy(), theirs.grad)
