"""Names at the top of tgrad: functions that live elsewhere, places, and what is out of scope."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal


def test_every_name_is_there_and_is_pytorch_s():
    own = {"Dim", "errors", "explain"}
    for name in tgrad.__all__:
        assert getattr(tgrad, name) is not None or name == "newaxis"
    extra = {n for n in tgrad.__all__ if not hasattr(torch, n)} - own
    assert extra <= {"block_diag", "compile", "cond", "func", "masked", "signal"}, extra


@pytest.mark.parametrize(
    ("call", "shapes"),
    [
        (lambda t, x: t.selu(x), [(3, 4)]),
        (lambda t, x: t.hardshrink(x), [(3, 4)]),
        (lambda t, x, w: t.prelu(x, w), [(3, 4), (4,)]),
        (lambda t, x, w: t.conv2d(x, w, None, 2, 1), [(1, 2, 5, 5), (3, 2, 3, 3)]),
        (lambda t, x, w: t.layer_norm(x, (4,), w), [(3, 4), (4,)]),
        (lambda t, x: t.max_pool2d(x, 2), [(1, 2, 6, 4)]),
        (lambda t, x: t.pixel_shuffle(x, 2), [(1, 4, 2, 3)]),
        (lambda t, x: t.gcd_((x * 9).to(t.int32), (x.flip(0) * 30).to(t.int32)), [(7,)]),
        (lambda t, x: t.threshold(x, 0.1, 5.0), [(7,)]),
        (lambda t, x: t.vander(x, 4), [(5,)]),
        (lambda t, x: t.vander(x, increasing=True), [(3,)]),
        (lambda t, x: t.exp_(x.clone()), [(3,)]),
        (lambda t, x: t.clamp_(x.clone(), -0.5, 0.5), [(9,)]),
        (lambda t, x: t.dropout(x, 0.5, False), [(3, 4)]),
        (lambda t, x: t.is_floating_point(x), [(2,)]),
        (lambda t, x: t.numel(x), [(2, 3)]),
        (lambda t, x: t.is_tensor(x), [(1,)]),
    ],
)
def test_functions_like_torch(call, shapes):
    arrays = [normal(i, *shape) for i, shape in enumerate(shapes)]
    have = call(tgrad, *(tgrad.tensor(a, device="numpy") for a in arrays))
    want = call(torch, *map(torch.tensor, arrays))
    if isinstance(want, torch.Tensor):
        np.testing.assert_allclose(have.numpy(), want, rtol=1e-5, atol=1e-6)
    else:
        assert have == want


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("name", ["hann", "hamming", "blackman", "bartlett", "kaiser"])
def test_windows(name, periodic):
    for count in (0, 1, 2, 7, 8):
        have = getattr(tgrad, f"{name}_window")(count, periodic, device="numpy")
        want = getattr(torch, f"{name}_window")(count, periodic)
        np.testing.assert_allclose(have.numpy(), want, atol=1e-6)


@pytest.mark.parametrize("sizes", [(3, 4, 0), (4, 2, -1), (2, 5, 2), (0, 3, 0)])
def test_triangles(sizes):
    for name in ("tril_indices", "triu_indices"):
        have, want = getattr(tgrad, name)(*sizes), getattr(torch, name)(*sizes)
        np.testing.assert_array_equal(have.numpy(), want)


def test_unravel_and_buffers():
    places = np.random.default_rng(0).integers(0, 60, (4, 2))
    have = tgrad.unravel_index(tgrad.tensor(places), (3, 4, 5))
    for ours, theirs in zip(have, torch.unravel_index(torch.tensor(places), (3, 4, 5))):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    data = np.arange(6, dtype=np.int16).tobytes()
    assert tgrad.frombuffer(data, dtype=tgrad.int16, count=2, offset=4).tolist() == [2, 3]
    x = tgrad.ones(2)
    assert tgrad.asarray(x) is x and tgrad.asarray(x, copy=True) is not x


@pytest.mark.parametrize(
    "name", ["complex64", "view_as_complex", "sparse_coo_tensor", "qint8", "jit"]
)
def test_what_is_out_of_scope_says_why(name):
    with pytest.raises(AttributeError, match=f"tgrad has no {name}: "):
        getattr(tgrad, name)
    with pytest.raises(NotImplementedError):
        tgrad.set_default_dtype(tgrad.float64)
