"""Cumulative functions, sorts and what stands on them, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
from tests.front.checking import Function, check, classes, normal, positive, special
from tgrad.errors import OutOfRangeError, TraceError

TIES = np.round(normal(0, 4, 37, 3) * 1.5)
ROW = normal(1, 53)

CUMULATIVE: dict[str, Function] = {
    "cumsum": lambda lib, x: lib.t.cumsum(x, 1),
    "cumsum dtype": lambda lib, x: x.cumsum(-1, dtype=lib.t.float64),
    "cumprod": lambda lib, x: x.cumprod(1),
    "cumprod first": lambda lib, x: x.cumprod(0),
    "cummax": lambda lib, x: lib.t.cummax(x, 1),
    "cummin": lambda lib, x: x.cummin(0),
    "logcumsumexp": lambda lib, x: lib.t.logcumsumexp(x, 1),
    "cumulative_trapezoid": lambda lib, x: lib.t.cumulative_trapezoid(x, dx=0.5, dim=1),
    "cumulative_trapezoid x": lambda lib, x: lib.t.cumulative_trapezoid(x, x.detach() * 2, dim=1),
    "cumsum in place": lambda lib, x: (x * 1).cumsum_(1),
}

ORDERED: dict[str, Function] = {
    "sort": lambda lib, x: lib.t.sort(x, dim=1, stable=True),
    "sort descending": lambda lib, x: x.sort(dim=0, descending=True, stable=True),
    "argsort": lambda lib, x: x.argsort(dim=-1, stable=True),
    "msort": lambda lib, x: lib.t.msort(x),
    "topk": lambda lib, x: x.topk(5, 1).values,
    "topk smallest": lambda lib, x: x.topk(3, 0, largest=False).values,
    "kthvalue": lambda lib, x: x.kthvalue(7, 1).values,
    "median": lambda lib, x: x.median(),
    "median dim": lambda lib, x: x.median(1, keepdim=True).values,
    "median even": lambda lib, x: x.median(0).values,
    "nanmedian": lambda lib, x: x.nanmedian(1).values,
    "nanmedian all": lambda lib, x: x.nanmedian(),
    "mode": lambda lib, x: (x.mode(1).values, x.gather(1, x.mode(1, True).indices)),
    "searchsorted": lambda lib, x: lib.t.searchsorted(x.msort()[:, 0, 0].contiguous(), x),
    "histc": lambda lib, x: x.histc(7, -2, 1.5),
    "bucketize": lambda lib, x: lib.t.bucketize(x, lib.t.tensor([-1.0, 0.0, 1.0]).to(x.device)),
}

QUANTILES: dict[str, Function] = {
    "number": lambda lib, x, q: x.quantile(0.3),
    "dim": lambda lib, x, q: x.quantile(0.25, 1, keepdim=True),
    "several": lambda lib, x, q: lib.t.quantile(x, q.detach(), 0),
    "several of all": lambda lib, x, q: x.quantile(q.detach(), keepdim=True),
    "nan": lambda lib, x, q: x.nanquantile(q.detach(), 1),
    **{
        how: lambda lib, x, q, how=how: x.quantile(q.detach(), 1, interpolation=how)
        for how in ("lower", "higher", "nearest", "midpoint")
    },
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", CUMULATIVE)
def test_cumulative(name: str, dtype: str, device: str) -> None:
    check(CUMULATIVE[name], [normal(0, 3, 11, 2)], device, dtype, grad=dtype == "float64")


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "cummax"])
def test_cumulative_of_special_values(name: str, device: str) -> None:
    check(CUMULATIVE[name], [special(0, 3, 6)], device, grad=False)


def test_cumprod_of_zeros_has_gradients(device: str) -> None:
    x = normal(2, 4, 6)
    x[0, 2] = x[1, 1] = x[1, 4] = x[2, 0] = 0
    check(CUMULATIVE["cumprod"], [x], device, "float64")


def test_logcumsumexp_of_numbers_far_apart(device: str) -> None:
    x = np.array([[-np.inf, -np.inf, 1.0, 2.0], [-900, 0, 900, 3], [1, np.inf, 2, 3]], np.float32)
    check(CUMULATIVE["logcumsumexp"], [x], device, grad=False)
    x = np.array([[-900, 0.5, 900, 3], [4, 3, 2, 1]], np.float32)
    check(CUMULATIVE["logcumsumexp"], [x], device, "float64")


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int8, np.int32, np.int64])
def test_cumulative_of_integers(kind: type, device: str) -> None:
    x = classes(0, 5, 3, 9).astype(kind)
    for name in ("cumsum", "cumprod", "cummax", "cummin"):
        check(lambda lib, x, name=name: getattr(x, name)(1), [x], device)


@pytest.mark.parametrize("name", ORDERED)
def test_ordered(name: str, device: str) -> None:
    """Gradients without ties: PyTorch leaves open which of equal elements gets it."""
    check(ORDERED[name], [TIES], device, grad=False)
    if name not in ("searchsorted", "histc", "bucketize", "argsort"):
        check(ORDERED[name], [normal(8, 4, 37, 3)], device)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_sort_of_floats(dtype: str, device: str) -> None:
    check(ORDERED["sort"], [normal(3, 2, 30)], device, dtype, grad=dtype == "float64")
    check(ORDERED["sort descending"], [special(4, 12, 3)], device, dtype, grad=False)


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int8, np.int16, np.int32, np.int64])
def test_sort_of_integers(kind: type, device: str) -> None:
    low, high = (0, 2) if kind is np.bool_ else (np.iinfo(kind).min, np.iinfo(kind).max)
    x = np.random.default_rng(0).integers(low, high, (3, 40)).astype(kind)
    x[:, :4] = np.array([low, high, high, low]).astype(kind)
    check(ORDERED["sort"], [x], device)
    check(ORDERED["sort descending"], [x], device)


@pytest.mark.parametrize("name", ["sort", "sort descending", "kthvalue", "nanmedian", "mode"])
def test_order_of_special_values(name: str, device: str) -> None:
    check(ORDERED[name], [special(5, 4, 9, 2)], device, grad=False)


def test_median_with_nan_is_its_first_nan(device: str) -> None:
    x = normal(0, 4, 7)
    x[1, 3] = x[1, 5] = x[2] = np.nan
    check(lambda lib, x: x.median(1), [x], device, grad=False)
    check(lambda lib, x: x.nanmedian(1).values, [x], device, grad=False)


@pytest.mark.parametrize("name", QUANTILES)
def test_quantiles(name: str, device: str) -> None:
    q = np.array([0.0, 0.13, 0.5, 1.0], np.float32)
    check(QUANTILES[name], [normal(6, 5, 9), q], device)
    x = normal(7, 5, 9)
    x[1, 2] = x[3] = np.nan
    check(QUANTILES[name], [x, q], device, grad=False)


@pytest.mark.parametrize("shape", [(0,), (1,), (0, 3), (3, 0), (1, 1), ()])
def test_empty_and_single(shape: tuple[int, ...], device: str) -> None:
    x = np.ones(shape, np.float32)
    for name in ("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "sort", "argsort"):
        check(lambda lib, x, name=name: getattr(x, name)(-1), [x], device, grad=False)


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_searchsorted(n: int, right: bool, device: str) -> None:
    rows, wanted = np.sort(classes(0, 5, 3, n), 1), classes(1, 7, 3, 11) - 1
    check(lambda lib, s, v: lib.t.searchsorted(s, v, right=right), [rows, wanted], device)
    check(lambda lib, s, v: lib.t.searchsorted(s[0], 2, right=right), [rows, wanted], device)
    shuffled = np.random.default_rng(2).permuted(rows, axis=1)
    check(
        lambda lib, s, v: lib.t.searchsorted(s, v, sorter=s.argsort(1), side="right"),
        [shuffled, wanted],
        device,
    )


def test_searchsorted_of_nan(device: str) -> None:
    row = np.array([-np.inf, 0, 1, np.inf], np.float32)
    wanted = np.array([np.nan, np.inf, -np.inf, 0.5], np.float32)
    for right in (False, True):
        check(
            lambda lib, s, v, right=right: lib.t.searchsorted(s, v, right=right),
            [row, wanted],
            device,
            grad=False,
        )


@pytest.mark.parametrize("options", [{}, {"return_inverse": True, "return_counts": True}])
@pytest.mark.parametrize("dim", [None, 0, 1])
def test_unique(dim: int | None, options: dict, device: str) -> None:
    x = classes(0, 2, 4, 3, 2)
    check(lambda lib, x: lib.t.unique(x, dim=dim, **options), [x], device)
    check(lambda lib, x: x.unique_consecutive(dim=dim, **options), [x], device)


def test_unique_of_floats_and_of_nothing(device: str) -> None:
    check(lambda lib, x: x.unique(return_counts=True), [special(0, 20)], device, grad=False)
    check(lambda lib, x: x.unique(return_inverse=True), [np.ones(0, np.float32)], device, "float32",
          grad=False)  # fmt: skip


def test_bincount(device: str) -> None:
    x, w = classes(0, 6, 20), positive(1, 20)
    check(lambda lib, x, w: x.bincount(), [x, w], device, grad=False)
    check(lambda lib, x, w: x.bincount(w, minlength=9), [x, w], device, grad=False)
    check(lambda lib, x: x.bincount(minlength=3), [np.ones(0, np.int64)], device)


def test_histc_of_the_range_of_the_data(device: str) -> None:
    check(lambda lib, x: x.histc(5), [ROW], device, grad=False)
    check(lambda lib, x: x.histc(4), [np.full(3, 2.0, np.float32)], device, grad=False)


def test_shapes_that_depend_on_values_are_refused_inside_compile() -> None:
    x = tgrad.tensor([1, 2, 2])
    for function in (lambda x: x.unique(), lambda x: x.bincount()):
        with pytest.raises(TraceError):
            tgrad.compile(function)(x)
    assert tgrad.compile(lambda x: x.sort(descending=True).values)(x).tolist() == [2, 2, 1]


@pytest.mark.parametrize("order", ["any", "rising", "falling", "few values"])
@pytest.mark.parametrize(
    "length, k", [(2, 1), (64, 2), (1000, 10), (5000, 100), (300, 75), (700, 700)]
)
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint8, np.float16])
def test_first_of_a_row(kind: type, length: int, k: int, order: str) -> None:
    """Equal ones keep their order; NaN is largest."""
    x = np.random.default_rng(0).standard_normal((3, length)) * 50
    x = np.round(x / 20) if order == "few values" else x
    x = {"rising": np.sort(x), "falling": -np.sort(-x)}.get(order, x)
    if kind is np.uint8:
        x = np.abs(x)
    elif kind is not np.int64 and order == "any":
        x[0, ::5], x[1, 1] = np.nan, np.inf
    x = x.astype(kind)
    nan = x != x
    for largest in (True, False):
        size = np.where(nan, 0, x).astype(np.float64) * (-1 if largest else 1)
        want = np.lexsort((size, ~nan if largest else nan))[:, :k]
        for dim, given in ((-1, x), (0, x.T)):
            values, places = tgrad.tensor(given, device="cpu").topk(k, dim, largest)
            found = places.numpy() if dim else places.numpy().T
            np.testing.assert_array_equal(found, want)
            kept = values.numpy() if dim else values.numpy().T
            np.testing.assert_array_equal(kept, np.take_along_axis(x, want, -1))
        if not largest:
            place = tgrad.tensor(x, device="cpu").kthvalue(k).indices
            np.testing.assert_array_equal(place.numpy(), want[:, -1])


def test_few_of_a_row_are_not_a_sort_of_it() -> None:
    rows = tgrad.tensor(normal(512, 1000), device="cpu")
    first, *_ = tgrad.explain(rows.topk(10).values).kernels
    assert "tg_first_32" in first.source and "tg_argsort" not in first.source


def test_multinomial_follows_the_weights(device: str) -> None:
    tgrad.manual_seed(0)
    weights = tgrad.tensor([[1.0, 0.0, 3.0], [0.0, 2.0, 2.0]], device=device)
    drawn = tgrad.multinomial(weights, 4000, replacement=True).numpy()
    for row, expected in zip(drawn, ([0.25, 0, 0.75], [0, 0.5, 0.5])):
        np.testing.assert_allclose(np.bincount(row, minlength=3) / 4000, expected, atol=0.03)
    two = tgrad.multinomial(weights.expand(2, 3), 2).numpy()
    assert set(two[0]) == {0, 2} and set(two[1]) == {1, 2}
    with pytest.raises(OutOfRangeError):
        tgrad.multinomial(weights, 4)


def test_first_draws_without_replacement_follow_the_weights() -> None:
    tgrad.manual_seed(0)
    weights = tgrad.tensor(np.tile(np.array([1, 2, 5], np.float32), (8000, 1)))
    first = tgrad.multinomial(weights, 2).numpy()[:, 0]
    np.testing.assert_allclose(np.bincount(first) / 8000, [1 / 8, 2 / 8, 5 / 8], atol=0.02)


def test_randperm_is_a_permutation_and_the_same_on_every_device(device: str) -> None:
    tgrad.manual_seed(3)
    order = tgrad.randperm(100, device=device).tolist()
    tgrad.manual_seed(3)
    assert order == tgrad.randperm(100, device="numpy").tolist()
    assert sorted(order) == list(range(100)) != order
    shuffle = tgrad.compile(lambda x: x[tgrad.randperm(5, device=device)])
    x = tgrad.tensor(np.arange(5), device=device)
    assert len({tuple(shuffle(x).tolist()) for _ in range(8)}) > 1


@pytest.mark.parametrize("name", ["cumsum", "cummax", "logcumsumexp", "sort"])
def test_long_rows(name: str, device: str) -> None:
    """Longer than a program's: blocks of the row, joined."""
    both = {**CUMULATIVE, **ORDERED}
    check(both[name], [normal(0, 2, 5001)], device, tolerance=1e-4)


def test_rows_of_symbolic_length(device: str) -> None:
    """One plan for all lengths: what is beyond the end comes last in every order."""
    step = tgrad.compile(
        lambda x: (x.cumsum(0), x.sort(0).values, x.argsort(0, descending=True)),
        dynamic={"x": {0: (1, 64)}},
    )
    for n in (3, 40, 64):
        x = normal(n, n, 2)
        sums, ordered, places = step(tgrad.tensor(x, device=device))
        np.testing.assert_allclose(sums.numpy(), np.cumsum(x, 0), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(ordered.numpy(), np.sort(x, 0))
        np.testing.assert_array_equal(places.numpy(), np.argsort(-x, 0))


@pytest.mark.parametrize("length", [2, 17, 80])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_sort_beside_what_it_reads(device: str, dtype: str, length: int) -> None:
    """Rows of 16-bit floats are kept in float32: they take twice the memory of their dtype."""
    x = tgrad.tensor(normal(3, 4, length, 6), device=device).to(getattr(tgrad, dtype)).flip(1)
    places = x.argsort(1)
    tgrad.explain(x, places)
    want = np.argsort(x.float().numpy(), axis=1, kind="stable")
    np.testing.assert_array_equal(places.numpy(), want)


@pytest.mark.parametrize("length", [2, 60])
def test_rows_of_one_value_are_in_order(device: str, length: int) -> None:
    x = tgrad.tensor(normal(4, 3, 1), device=device)
    wide = x.expand(3, length)
    assert wide.argsort(1).tolist() == [list(range(length))] * 3
    np.testing.assert_array_equal(wide.sort(1, descending=True).values.numpy(), wide.numpy())
    assert tgrad.zeros(2, length, device=device).argsort(0).tolist() == [[0] * length, [1] * length]
