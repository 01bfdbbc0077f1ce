"""What a chain computes once a row or once a result, and that results stay as exact."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.fusion.checking import cut
from tgrad.fusion import region as rg
from tgrad.graph.op import Op
from tgrad.tensor import Tensor

torch = pytest.importorskip("torch")

SHAPE = (2, 4, 70, 32)
TOLERANCE = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 4e-2}
"""Of float16 and bfloat16: rounded inputs' and results' of up to 4, and a few roundings between."""


def arrays() -> list[np.ndarray]:
    """Queries, keys, values, the gradient of the result."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(SHAPE, np.float32) for _ in range(4)]


def scaled(q: Any, k: Any, v: Any, scale: float) -> Any:
    """Causal attention by hand."""
    library = tgrad if isinstance(q, Tensor) else torch
    place = library.arange(q.shape[-2], device=q.device)
    scores = q @ k.transpose(-1, -2) * scale
    scores = library.where(place[:, None] >= place, scores, -math.inf)
    return library.nn.functional.softmax(scores, -1) @ v


def capped(q: Any, k: Any, v: Any, scale: float) -> Any:
    """A sliding window, heads that share keys and values, a soft cap."""
    library = tgrad if isinstance(q, Tensor) else torch
    k, v = (x[:, ::2, None].expand(2, 2, 2, *SHAPE[2:]).reshape(SHAPE) for x in (k, v))
    place = library.arange(q.shape[-2], device=q.device)
    scores = 5.0 * (q @ k.transpose(-1, -2) * (scale / 5.0)).tanh()
    seen = (place[:, None] >= place) & (place[:, None] - place < 24)
    scores = library.where(seen, scores, -math.inf)
    return library.nn.functional.softmax(scores, -1) @ v


def with_gradients(attend: Any, leaves: list[Any], slope: Any, scale: float) -> list[Any]:
    y = attend(*leaves, scale)
    y.backward(slope)
    return [y, *(x.grad for x in leaves)]


def ours(attend: Any, data: list[np.ndarray], scale: float, device: str, dtype: str) -> list[Any]:
    tensors = [tgrad.tensor(a, device=device).to(getattr(tgrad, dtype)).detach() for a in data]
    return with_gradients(attend, [x.requires_grad_() for x in tensors[:3]], tensors[3], scale)


def exact(attend: Any, data: list[np.ndarray], scale: float, dtype: str) -> list[np.ndarray]:
    tensors = [torch.tensor(a).to(getattr(torch, dtype)).double() for a in data]
    found = with_gradients(attend, [x.requires_grad_() for x in tensors[:3]], tensors[3], scale)
    return [x.detach().numpy() for x in found]


def assert_close(got: Tensor, want: np.ndarray, dtype: str) -> None:
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(got.float().numpy(), want, rtol=tolerance, atol=4 * tolerance)


def check(attend: Any, data: list[np.ndarray], scale: float, device: str, dtype: str) -> None:
    found = ours(attend, data, scale, device, dtype)
    for got, want in zip(found, exact(attend, data, scale, dtype)):
        assert_close(got, want, dtype)


@pytest.mark.devices("cpu", "interpret")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("scale", [0.3, 0.0, -0.3])
def test_scales(scale: float, dtype: str, device: str) -> None:
    check(scaled, arrays(), scale, device, dtype)


@pytest.mark.devices("cpu", "interpret")
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_windows_of_shared_heads_with_a_cap(dtype: str, device: str) -> None:
    check(capped, arrays(), 0.3, device, dtype)


@pytest.mark.devices("cpu", "interpret")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers(number: float, dtype: str, device: str) -> None:
    """They show in the rows that see them, and nowhere else."""
    data = arrays()
    data[1][1, 2, 40, 3] = number
    got, want = ours(scaled, data, 0.3, device, dtype)[0], exact(scaled, data, 0.3, dtype)[0]
    assert np.isnan(want).any() and not np.isnan(want).all()
    assert_close(got, want, dtype)


@pytest.mark.devices("cpu", "interpret")
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rows_that_see_nothing(dtype: str, device: str) -> None:
    """scaled_dot_product_attention gives 0 there, a plain softmax NaN."""
    seen = np.arange(70)[:, None] >= np.arange(70)
    seen[5::9] = False

    def attend(q: Any, k: Any, v: Any, scale: float) -> Any:
        library = tgrad if isinstance(q, Tensor) else torch
        mask = library.tensor(seen, device=q.device)
        return library.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=scale)

    check(attend, arrays(), 0.3, device, dtype)

    def by_hand(q: Any, k: Any, v: Any, scale: float) -> Any:
        library = tgrad if isinstance(q, Tensor) else torch
        scores = q @ k.transpose(-1, -2) * scale
        scores = library.where(library.tensor(seen, device=q.device), scores, -math.inf)
        return library.nn.functional.softmax(scores, -1) @ v

    got = ours(by_hand, arrays(), 0.3, device, dtype)[0]
    want = exact(by_hand, arrays(), 0.3, dtype)[0]
    assert np.isnan(want[:, :, 5::9]).all()
    assert_close(got, want, dtype)


# -- where things are computed --------------------------------------------------------------------


def regions(attend: Any, scale: float, dtype: str = "float32") -> list[rg.Region]:
    """Forward, gradient of the queries, gradients of keys and values."""
    kernels = cut(ours(attend, arrays(), scale, "numpy", dtype))
    return [k.region for k in kernels if k.region.space.kind == "chain"]


def products(region: rg.Region) -> list[tuple[float, bool]]:
    """The numbers that values are multiplied by, and whether the product is one of scores."""
    space, found = region.space, []
    of_scores = {a.name for a in (*space.m, *space.k)}
    for v, dims in zip(region.values, region.dims):
        if isinstance(v, rg.Compute) and v.op is Op.MUL:
            for x in v.args:
                number = region.values[x]
                if isinstance(number, rg.Const):
                    found.append((float(number.value), of_scores <= set(dims)))
    return sorted(found)


def maximum_of(region: rg.Region) -> rg.Value:
    (number,) = (v.arg for v in region.values if isinstance(v, rg.Reduce) and v.op is Op.REDUCE_MAX)
    return region.values[number]


def test_a_scale_is_next_to_the_exponential_and_behind_sums() -> None:
    forward, of_queries, of_keys = regions(scaled, 0.25)
    assert products(forward) == [(0.25, False), (0.25, True)]  # of the stored statistic, and of exp
    assert products(of_queries) == products(of_keys) == [(0.25, False), (0.25, True)]
    highest = maximum_of(forward)
    assert isinstance(highest, rg.Compute) and highest.op is Op.WHERE
    assert isinstance(forward.values[highest.args[1]], rg.Dot)
    assert all(r.space.live for r in (forward, of_queries, of_keys))


@pytest.mark.parametrize("scale", [-0.25, 0.0, 2.0**80])
def test_other_scales_stay_with_the_scores(scale: float) -> None:
    q, k, v = (tgrad.tensor(a, device="numpy") for a in arrays()[:3])
    (kernel,) = cut([scaled(q, k, v, scale)])
    highest = maximum_of(kernel.region)
    assert isinstance(highest, rg.Compute) and highest.op is Op.WHERE
    product = kernel.region.values[highest.args[1]]
    assert isinstance(product, rg.Compute) and product.op is Op.MUL


def test_gradients_take_a_row_s_number_off_before_they_multiply() -> None:
    for region in regions(scaled, 0.25)[1:]:
        v = region.values
        (power,) = (n for n, x in enumerate(v) if isinstance(x, rg.Compute) and x.op is Op.EXP)
        readers = [x for x in v if isinstance(x, rg.Compute) and power in x.args]
        weighted = [x for x in readers if x.op is Op.MUL]
        assert len(weighted) == 1
        (rest,) = (v[x] for x in weighted[0].args if x != power)
        assert isinstance(rest, rg.Compute) and rest.op is Op.SUB


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_products_inside_are_not_rounded(dtype: str) -> None:
    def attend(q: Any, k: Any, v: Any, scale: float) -> Any:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)

    for region in regions(attend, 0.25, dtype):
        k = {a.name for a in region.space.k}
        firsts = {
            n for n, v in enumerate(region.values) if isinstance(v, rg.Dot) and set(v.axes) != k
        }
        casts = [v for v in region.values if isinstance(v, rg.Compute) and v.op is Op.CAST]
        assert firsts and firsts.isdisjoint(x for v in casts for x in v.args)


@pytest.mark.parametrize(("dtype", "moves"), [("bfloat16", True), ("float16", False)])
def test_float16_keeps_what_makes_small_numbers_larger(dtype: str, moves: bool) -> None:
    """bfloat16 has float32's range."""
    kind = getattr(tgrad, dtype)
    q, k, v = (tgrad.tensor(a, device="numpy").to(kind).realize() for a in arrays()[:3])
    weights = F.softmax((q @ k.transpose(-1, -2)).float() * 0.25, -1) * 1.5
    (kernel,) = cut([weights.to(kind) @ v])
    assert ((1.5, False) in products(kernel.region)) is moves
    assert ((1.5, True) in products(kernel.region)) is not moves
