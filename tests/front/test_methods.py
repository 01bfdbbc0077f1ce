"""Methods of Tensor, and their functions, against PyTorch: values, gradients, dtypes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import check, classes, normal, positive, special
from tgrad.errors import TgradError

X, Y = normal(1, 3, 5), normal(2, 3, 5)
ROW, COLUMN = normal(3, 5), normal(4, 3, 1)
POSITIVE = positive(5, 3, 5)
INT, INT2 = classes(6, 9, 3, 5) - 4, classes(7, 5, 3, 5) + 1
BOOL, BOOL2 = classes(8, 2, 3, 5).astype(bool), classes(9, 2, 3, 5).astype(bool)

FLOAT_CASES = {
    "add": (lambda p, x, y: x + y, [X, ROW]),
    "add_alpha": (lambda p, x, y: x.add(y, alpha=2.5), [X, COLUMN]),
    "sub": (lambda p, x, y: x - y, [X, ROW]),
    "rsub": (lambda p, x: 2 - x, [X]),
    "mul": (lambda p, x, y: x * y, [COLUMN, ROW]),
    "div": (lambda p, x, y: x / y, [X, POSITIVE]),
    "rdiv": (lambda p, x: 3 / x, [POSITIVE]),
    "div_floor": (lambda p, x, y: x.div(y, rounding_mode="floor"), [X, POSITIVE]),
    "div_trunc": (lambda p, x, y: x.div(y, rounding_mode="trunc"), [X, POSITIVE]),
    "remainder": (lambda p, x, y: x % y, [X, POSITIVE]),
    "remainder_negative": (lambda p, x: x % -0.7, [X]),
    "pow": (lambda p, x, y: x**y, [POSITIVE, Y]),
    "pow_2": (lambda p, x: x**2, [X]),
    "pow_half": (lambda p, x: x**0.5, [POSITIVE]),
    "pow_minus_1": (lambda p, x: x**-1, [X]),
    "rpow": (lambda p, x: 2.0**x, [X]),
    "neg": (lambda p, x: -x, [X]),
    "abs": (lambda p, x: abs(x), [X]),
    "square": (lambda p, x: x.square(), [X]),
    "reciprocal": (lambda p, x: x.reciprocal(), [POSITIVE]),
    "exp": (lambda p, x: p.t.exp(x), [X]),
    "log": (lambda p, x: p.t.log(x), [POSITIVE]),
    "log2": (lambda p, x: p.t.log2(x), [POSITIVE]),
    "log10": (lambda p, x: p.t.log10(x), [POSITIVE]),
    "log1p": (lambda p, x: p.t.log1p(x), [POSITIVE]),
    "exp2": (lambda p, x: p.t.exp2(x), [X]),
    "expm1": (lambda p, x: p.t.expm1(x), [X]),
    "sin": (lambda p, x: x.sin(), [X]),
    "cos": (lambda p, x: x.cos(), [X]),
    "tan": (lambda p, x: x.tan(), [X]),
    "tanh": (lambda p, x: x.tanh(), [X]),
    "erf": (lambda p, x: x.erf(), [X]),
    "sqrt": (lambda p, x: x.sqrt(), [POSITIVE]),
    "rsqrt": (lambda p, x: x.rsqrt(), [POSITIVE]),
    "sign": (lambda p, x: x.sign(), [X]),
    "floor_ceil": (lambda p, x: (x.floor(), x.ceil()), [X * 3]),
    "round_trunc": (lambda p, x: (x.round(), x.trunc()), [X * 3]),
    "frac": (lambda p, x: x.frac(), [X * 3]),
    "maximum": (lambda p, x, y: p.t.maximum(x, y), [X, Y]),
    "minimum": (lambda p, x, y: p.t.minimum(x, y), [X, Y]),
    "clamp": (lambda p, x: x.clamp(-0.5, 0.7), [X]),
    "clamp_min": (lambda p, x: x.clamp(min=0.1), [X]),
    "clamp_tensors": (lambda p, x, y: x.clamp(y, y + 1), [X, ROW]),
    "where": (lambda p, c, x, y: p.t.where(c, x, y), [BOOL, X, ROW]),
    "where_number": (lambda p, c, x: p.t.where(c, x, 2.0), [BOOL, X]),
    "where_number_first": (lambda p, c, x: p.t.where(c, 2.0, x), [BOOL, X]),
    "masked_fill": (lambda p, c, x: x.masked_fill(c, -3.0), [BOOL, X]),
    "lerp": (lambda p, x, y: x.lerp(y, 0.3), [X, Y]),
    "addcmul": (lambda p, x, y: x.addcmul(y, y, value=0.5), [X, Y]),
    "addcdiv": (lambda p, x, y: x.addcdiv(x, y, value=0.5), [X, POSITIVE]),
    "sum": (lambda p, x: x.sum(), [X]),
    "sum_axes": (lambda p, x: (x.sum(0), x.sum((0, -1), keepdim=True), x.sum(-1)), [X]),
    "mean": (lambda p, x: (x.mean(), x.mean(1), x.mean((0, 1), keepdim=True)), [X]),
    "prod": (lambda p, x: (x.prod(), x.prod(1)), [X]),
    "amax": (lambda p, x: (x.amax(), x.amax(0), x.amin((0, 1), keepdim=True)), [X]),
    "max_values": (lambda p, x: x.max(1).values, [X]),
    "max_all": (lambda p, x: (x.max(), x.min()), [X]),
    "var": (lambda p, x: (x.var(), x.var(0), x.var(1, correction=0)), [X]),
    "std": (lambda p, x: (x.std(1), x.std(0, keepdim=True)), [X]),
    "var_mean": (lambda p, x: p.t.var_mean(x, 1), [X]),
    "norm": (lambda p, x: (x.norm(), x.norm(dim=1), x.norm(1), x.norm(3, 0), (x * 0).norm()), [X]),
    "logsumexp": (lambda p, x: (x.logsumexp(1), x.logsumexp((0, 1), keepdim=True)), [X]),
    "softmax": (lambda p, x: (x.softmax(0), x.log_softmax(1)), [X]),
    "reshape": (lambda p, x: (x.reshape(5, 3), x.view(-1), x.reshape((3, -1))), [X]),
    "permute": (lambda p, x: (x.reshape(3, 1, 5).permute(2, 0, 1), x.transpose(0, 1), x.t()), [X]),
    "T": (lambda p, x: (x.T, x.mT), [X]),
    "expand": (lambda p, x: (x.expand(2, 3, 4), x.expand(-1, 6)), [COLUMN]),
    "squeeze": (lambda p, x: (x.squeeze(), x.squeeze(1), x.squeeze(0), x.unsqueeze(-1)), [COLUMN]),
    "flatten": (lambda p, x: (x.flatten(), x.unsqueeze(0).flatten(1, 2)), [X]),
    "unflatten": (lambda p, x: x.unflatten(0, (3, 1)), [X]),
    "flip": (lambda p, x: (x.flip(0), x.flip((0, 1)), x.flip(-1, 0)), [X]),
    "roll": (lambda p, x: (x.roll(2, 1), x.roll(-1, 0), x.roll((1, 2), (0, 1))), [X]),
    "narrow": (lambda p, x: (x.narrow(1, 1, 3), x.narrow(0, -2, 1)), [X]),
    "split": (lambda p, x: x.split(2, 1), [X]),
    "split_sizes": (lambda p, x: p.t.split(x, [1, 4], dim=1), [X]),
    "chunk": (lambda p, x: x.chunk(3, 1), [X]),
    "unbind": (lambda p, x: x.unbind(0), [X]),
    "unfold": (lambda p, x: x.unfold(1, 3, 2), [X]),
    "repeat": (lambda p, x: (x.repeat(2, 3), x.repeat(2, 1, 1)), [X]),
    "repeat_interleave": (lambda p, x: x.repeat_interleave(2, 1), [X]),
    "triangles": (lambda p, x: (x.tril(), x.triu(1), x.tril(-1)), [X]),
    "diagonal": (lambda p, x: (x.diagonal(), p.t.diagonal(x, 1)), [X]),
    "slices": (lambda p, x: (x[1], x[-1, 2], x[1:, ::2], x[..., 1], x[:, None, 3:]), [X]),
    "index_tensor": (lambda p, x, i: (x[:, i], x[i % 3]), [X, classes(1, 5, 2, 4)]),
    "index_list": (lambda p, x: x[:, [0, 2, -1]], [X]),
    "index_mask_where": (lambda p, x, c: x.where(c, x * 2), [X, BOOL]),
    "gather": (lambda p, x, i: x.gather(1, i), [X, classes(2, 5, 3, 2)]),
    "index_select": (lambda p, x, i: x.index_select(0, i), [X, classes(3, 3, 4)]),
    "scatter": (lambda p, x, y: x.scatter(1, p.t.arange(4).reshape(1, 4).to(x.device), y),
                [X, normal(1, 1, 4)]),
    "scatter_add": (lambda p, x, i, y: x.scatter_add(0, i, y), [X, classes(4, 3, 2, 5), Y[:2]]),
    "matmul": (lambda p, x, y: x @ y, [X, normal(2, 5, 4)]),
    "matmul_vectors": (lambda p, x, y: (x[0] @ y, x @ y, y @ x.T), [X, ROW]),
    "matmul_batched": (lambda p, x, y: x @ y, [normal(1, 2, 1, 3, 4), normal(2, 5, 4, 2)]),
    "matmul_batched_vector": (lambda p, x, y: (x @ y, y @ x.mT),
                        [normal(1, 2, 3, 4), normal(2, 4)]),
    "mm_bmm": (lambda p, x, y: (x[0].mm(y[0]), x.bmm(y)), [normal(1, 2, 3, 4), normal(2, 2, 4, 5)]),
    "dot": (lambda p, x, y: x.dot(y), [ROW, normal(7, 5)]),
    "outer": (lambda p, x, y: p.t.outer(x, y), [ROW, normal(7, 4)]),
    "clone_detach": (lambda p, x: (x.clone() * x.detach(), x.contiguous()), [X]),
    "cat": (lambda p, x, y: (p.t.cat([x, y]), p.t.cat((x, y, x), dim=1)), [X, Y]),
    "stack": (lambda p, x, y: (p.t.stack([x, y]), p.t.stack((x, y), dim=-1)), [X, Y]),
    "hstack": (lambda p, x, y: (p.t.hstack([x, y]), p.t.vstack([x, y])), [X, Y]),
}  # fmt: skip

PLAIN_CASES = {
    "int_arithmetic": (lambda p, x, y: (x + y, x - y, x * y, x // y, x % y, -x, abs(x)),
                        [INT, INT2]),
    "floordiv": (lambda p, x, y: (x // y, x // 0.3), [X, POSITIVE]),
    "int_division": (lambda p, x, y: (x / y, x.div(y, rounding_mode="trunc")), [INT, INT2]),
    "int_numbers": (lambda p, x: (x + 1.5, x * 2, x // 2, x % 3, 7 - x, x / 2), [INT]),
    "int_power": (lambda p, x: (x**2, x**3), [INT]),
    "bits": (lambda p, x, y: (x & y, x | y, x ^ y, ~x, x << 1, x >> 1), [INT, INT2]),
    "bool_logic": (lambda p, x, y: (x & y, x | y, x ^ y, ~x, x + y, x * y), [BOOL, BOOL2]),
    "logical": (lambda p, x, y: (x.logical_and(y), x.logical_or(y), x.logical_not()), [INT, BOOL]),
    "compare": (lambda p, x, y: (x < y, x <= y, x > y, x >= y, x == y, x != y), [INT, INT2]),
    "compare_numbers": (lambda p, x: (x < 0.5, x == 1, x.ge(0.5)), [X]),
    "bool_to_float": (lambda p, x: (x.float(), x.long(), x * 1.5, x.sum(), x.float().mean()),
                        [BOOL]),
    "int_functions": (lambda p, x: (x.exp(), x.sqrt(), x.sigmoid(), x.tanh()), [INT2]),
    "int_reductions": (lambda p, x: (x.sum(), x.prod(1), x.amax(0), x.min(), x.any(), x.all(1)),
                       [INT]),
    "small_int_sums": (lambda p, x: (x.int().sum(), x.to(p.t.int8).sum(0), x.to(p.t.uint8).prod()),
                       [INT2]),
    "arg": (lambda p, x: (x.argmax(), x.argmin(1), x.argmax(0, keepdim=True), *x.max(1)), [X]),
    "arg_of_ties": (lambda p, x: (x.argmax(1), x.argmin(0)), [np.round(X)]),
    "special_reductions": (lambda p, x: (x.sum(1), x.amax(0), x.amin(1), x.isnan().any(1)),
                           [special(3, 5, 6)]),
    "special_tests": (lambda p, x: (x.isnan(), x.isinf(), x.isfinite()), [special(3, 5, 6)]),
    "special_compare": (lambda p, x, y: (x < y, x == x, x.maximum(y), x.minimum(y), x.clamp(-1, 1)),
                        [special(3, 5, 6), special(4, 5, 6)]),
    "special_functions": (lambda p, x: (x.exp(), x.tanh(), x.erf(), x.abs(), x.floor(), x.sign()),
                          [special(3, 5, 6)]),
    "special_log": (lambda p, x: (x.abs().log(), x.sqrt(), x.abs().rsqrt()), [special(3, 5, 6)]),
    "casts": (lambda p, x: (x.int(), x.double(), x.half(), x.bool(), x.to(p.t.int8)), [X * 50]),
    "float_to_uint": (lambda p, x: x.to(p.t.uint8), [positive(1, 4, 5) * 100]),
    "cat_exact": (lambda p, x: p.t.cat([x, -x, x], 1), [special(3, 5, 6)]),
    "cat_dtypes": (lambda p, x, y: p.t.cat([x, y]), [INT, X]),
    "one_dimension": (lambda p, x: (x.sum(0), x[2], x.argmax(), x.flip(0)), [normal(1, 4)]),
    "zero_dimensions": (lambda p, x: (x.sum(), x.exp(), x.reshape(1), x.mean(-1)), [normal(1)]),
    "empty": (lambda p, x: (x.sum(), x.sum(0), x.exp(), x.prod(), x.mean()), [normal(1, 0, 3)]),
    "empty_matmul": (lambda p, x: x.T @ x, [normal(1, 0, 3)]),
    "scatter_number": (lambda p, x, i: x.scatter(1, i, 2.0), [X, classes(2, 5, 3, 1)]),
    "type_as": (lambda p, x, y: x.type_as(y), [INT, X]),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOAT_CASES)
def test_floats(name, device):
    function, arrays = FLOAT_CASES[name]
    check(function, arrays, device)


@pytest.mark.parametrize("name", PLAIN_CASES)
def test_values(name, device):
    function, arrays = PLAIN_CASES[name]
    check(function, arrays, device, grad=False)


HALF = ["add", "div", "exp", "sum", "mean", "var", "softmax", "matmul", "amax", "where", "pow_2"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", HALF)
def test_half(name, dtype, device):
    function, arrays = FLOAT_CASES[name]
    check(function, arrays, device, dtype)


def test_functions_take_input_by_name():
    x = tgrad.tensor([1.0, 2.0], device="numpy")
    assert tgrad.sum(input=x, dim=0).item() == 3.0
    assert tgrad.softmax(x, dim=0).shape == (2,)


def test_an_array_cannot_change_the_tensor() -> None:
    x = tgrad.tensor([1.0, 2.0])
    for copy in (np.array(x), x.numpy()):
        copy[0] = 5.0
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(x)[0] = 5.0
    assert x.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("tensor_weight", [False, True], ids=["number", "tensor"])
def test_lerp_is_exact_at_both_ends(tensor_weight, device):
    """Where the ends differ in size, start + weight * (end - start) loses the smaller one."""
    start, end = tgrad.tensor([1e8, 3.0], device=device), tgrad.tensor([0.3, -1e7], device=device)
    for weight, expected in ((0.0, start), (1.0, end)):
        by = tgrad.full((2,), weight, device=device) if tensor_weight else weight
        assert start.lerp(end, by).tolist() == expected.tolist()


@pytest.mark.devices("cpu", "interpret")
def test_variance_far_from_zero(device: str) -> None:
    """Of numbers around 10,000 it is exact to the last bits; of equal ones 0."""
    x = (1e4 + np.random.default_rng(0).standard_normal((4, 5000))).astype(np.float32)
    want = x.astype(np.float64).var(-1, ddof=1)
    got = tgrad.tensor(x, device=device).var(-1).numpy()
    np.testing.assert_allclose(got, want, rtol=6e-7)
    assert tgrad.full((3, 1001), 0.1, device=device).std(-1).tolist() == [0.0, 0.0, 0.0]


HISTOGRAMS = [
    ((5,), {}),
    ((4,), {"range": (-1.0, 1.0)}),
    ((7,), {"range": (-1.0, 1.5), "density": True}),
    ((3,), {"range": (2.0, 2.0)}),
    (([-1.0, 0.0, 0.25, 3.0],), {}),
    (([-1.0, 0.0, 0.25, 3.0],), {"density": True}),
    ((6,), {"weight": True}),
    ((6,), {"weight": True, "density": True, "range": (0.0, 1.0)}),
]


@pytest.mark.parametrize("values", ["normal", "grid", "one", "none"])
@pytest.mark.parametrize(("bins", "options"), HISTOGRAMS)
def test_histograms(values, bins, options):
    x = np.random.default_rng().standard_normal((11, 9)).astype(np.float32)
    x = {"normal": x, "grid": np.round(x * 4) / 4, "one": x * 0 + 2, "none": x[:0]}[values]
    found = []
    for t in (tgrad, torch):
        given = dict(options)
        if "weight" in given:
            given["weight"] = t.tensor(x * x)
        edges = [t.tensor(b) if isinstance(b, list) else b for b in bins]
        hist, ends = t.histogram(t.tensor(x), *edges, **given)
        found.append((hist.numpy(), ends.numpy()))
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5, atol=1e-6)
    got, want = found[0][0], found[1][0]
    if values == "grid":  # an edge's last bit decides on which side of it a value lies
        weight = x * x if "weight" in options else None
        want, _ = np.histogram(x, found[0][1], weights=weight, density=options.get("density"))
    if values in ("normal", "grid") or "density" not in options:
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_histograms_that_are_refused():
    x = tgrad.ones(3)
    for call, what in (
        (lambda: tgrad.ones(3, dtype=tgrad.int64).histogram(2), "histogram of int64"),
        (lambda: x.histogram(0), "histogram with 0 bins"),
        (lambda: x.histogram(2, range=(3.0, 1.0)), "histogram from 3.0 to 1.0"),
        (lambda: x.histogram(tgrad.ones(1)), r"edges of shape \(1,\)"),
    ):
        with pytest.raises(TgradError, match=what):
            call()
