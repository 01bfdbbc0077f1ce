"""tgrad.func beside torch.func: transforms, and transforms of transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.func

import tgrad
import tgrad.nn.functional
from tests.front.checking import TGRAD, TORCH, as_tuple, normal
from tgrad import nn
from tgrad.errors import GradientError, ShapeError, UnsupportedError

RNG = np.random.default_rng(3)
x, X, W = RNG.normal(size=3), RNG.normal(size=(4, 3)), RNG.normal(size=(3, 3))
B = RNG.normal(size=(4, 3, 3))

Case = tuple[Callable[..., Any], tuple[np.ndarray, ...]]


def many(p: Any, a: Any) -> Any:
    """Ops of every kind on a vector of 3."""
    parts = [a.sort()[0], a.cumsum(0), a.flip(0), p.F.pad(a, (1, 2)), a[1:], a.roll(1)]
    parts += [a.softmax(0), p.F.layer_norm(a, (3,)), a.amax(0).reshape(1), a.repeat(2)]
    parts += [a.prod(0)[None], a.clone().index_fill(0, a.argsort()[:1], 0.0)]
    return p.t.cat([*parts, a.unfold(0, 2, 1).sum(1)])


CASES: dict[str, Case] = {
    "grad": (lambda p, F, x: F.grad(lambda x: (x.sin() * x).sum())(x), (x,)),
    "grad of grad": (
        lambda p, F, x: F.grad(lambda y: F.grad(lambda x: (x**3).sum())(y).sin().sum())(x), (x,)),
    "grad of a dict": (
        lambda p, F, x, W: F.grad(lambda d: (d["w"] @ d["x"]).exp().sum())({"w": W, "x": x})["w"],
        (x, W)),
    "several arguments": (
        lambda p, F, x, W: F.grad(lambda a, b: (b @ a).sin().sum(), argnums=(0, 1))(x, W), (x, W)),
    "grad_and_value": (lambda p, F, x: F.grad_and_value(lambda x: x.prod())(x), (x,)),
    "aux": (lambda p, F, x: F.grad(lambda x: (x.prod(), x * 2), has_aux=True)(x), (x,)),
    "vjp": (lambda p, F, x, W: F.vjp(lambda x: W @ x * x, x)[1](x)[0], (x, W)),
    "jvp": (lambda p, F, x, W: F.jvp(lambda x: (W @ x).exp(), (x,), (x * 2,)), (x, W)),
    "vmap": (lambda p, F, X: F.vmap(lambda a: many(p, a))(X), (X,)),
    "vmap of grad": (lambda p, F, X, W: F.vmap(F.grad(lambda a: (a @ W).softmax(0)[0]))(X), (X, W)),
    "vmap of one": (lambda p, F, X, W: F.vmap(lambda a, w: w @ a, (0, None))(X, W), (X, W)),
    "vmap of axes": (lambda p, F, W: F.vmap(lambda a, b: a * b, (1, 0), 1)(W, W), (W,)),
    "vmap of products": (
        lambda p, F, B, W: F.vmap(lambda a: W @ a @ W + p.t.einsum("ij,jk->ki", W, a))(B), (B, W)),
    "vmap of vmap": (
        lambda p, F, X, W: F.vmap(F.vmap(lambda a, b: (a * b).sum(), (None, 0)), (0, None))(X, W),
        (X, W)),
    "vmap of a library call": (lambda p, F, B: F.vmap(p.t.linalg.inv)(B), (B,)),
    "vmap of hessian": (lambda p, F, X: F.vmap(F.hessian(lambda a: (a**3).prod()))(X), (X,)),
    "grad of vmap": (
        lambda p, F, X, W: F.grad(
            lambda w: F.vmap(lambda a: p.F.log_softmax(w @ a, 0)[0])(X).sum())(W), (X, W)),
    "grad of vmap of a library call": (
        lambda p, F, B, x: F.grad(
            lambda w: F.vmap(lambda a: p.t.linalg.solve(a, w))(B).sum())(x), (B, x)),
    "jacrev": (lambda p, F, x, W: F.jacrev(lambda x: (W @ x).tanh() * x)(x), (x, W)),
    "jacrev of a matrix": (lambda p, F, x, W: F.jacrev(lambda w: (w @ x).softmax(0))(W), (x, W)),
    "jacfwd": (lambda p, F, x, W: F.jacfwd(lambda x: (W @ x).tanh() * x)(x), (x, W)),
    "hessian": (lambda p, F, x, W: F.hessian(lambda x: p.F.log_softmax(W @ x, 0)[1])(x), (x, W)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_as_in_pytorch(name: str, device: str) -> None:
    function, arrays = CASES[name]
    got = function(TGRAD, tgrad.func, *(tgrad.tensor(a, device=device) for a in arrays))
    want = function(TORCH, torch.func, *(torch.tensor(a) for a in arrays))
    for mine, theirs in zip(as_tuple(got), as_tuple(want), strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-6, atol=1e-8)


def test_leaves_outside_get_gradients() -> None:
    w = tgrad.tensor(W, device="numpy", requires_grad=True)
    points = tgrad.tensor(X, device="numpy")
    energy = tgrad.func.vmap(tgrad.func.grad(lambda a: (w @ a).tanh().sum()))(points)
    (energy**2).sum().backward()
    other = torch.tensor(W, requires_grad=True)
    theirs = torch.func.vmap(torch.func.grad(lambda a: (other @ a).tanh().sum()))(torch.tensor(X))
    (theirs**2).sum().backward()
    assert w.grad is not None and other.grad is not None
    np.testing.assert_allclose(w.grad.numpy(), other.grad.numpy(), rtol=1e-8)


def test_functional_call_and_gradients_of_each_sample() -> None:
    layer = nn.Linear(3, 2, device="numpy")
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters: Any, sample: Any) -> Any:
        return (tgrad.func.functional_call(layer, parameters, sample) ** 2).sum()

    samples = tgrad.tensor(X.astype(np.float32), device="numpy")
    each = tgrad.func.vmap(tgrad.func.grad(loss), (None, 0))(parameters, samples)
    for i in range(4):
        want = tgrad.func.grad(loss)(parameters, samples[i])
        np.testing.assert_allclose(each["weight"][i].numpy(), want["weight"].numpy(), rtol=1e-5)
    assert layer.weight is dict(layer.named_parameters())["weight"]


def test_mistakes() -> None:
    x = tgrad.ones(2, 3, device="numpy")
    with pytest.raises(GradientError, match="grad of a function whose result is not one"):
        tgrad.func.grad(lambda x: x * 2)(x)
    with pytest.raises(ShapeError, match=r"vmap over axes of sizes \[2, 3\]"):
        tgrad.func.vmap(lambda a, b: a.sum() + b.sum(), (0, 1))(x, x)
    with pytest.raises(UnsupportedError, match="a value is read inside vmap"):
        tgrad.func.vmap(lambda a: a * a.sum().item())(x)
    with pytest.raises(UnsupportedError, match="vmap of a function that draws"):
        tgrad.func.vmap(lambda a: a * tgrad.rand(3, device="numpy"))(x)
    with pytest.raises(UnsupportedError, match="randomness='any'"):
        tgrad.func.vmap(lambda a: a, randomness="any")
    with pytest.raises(ShapeError, match="chunk_size=0"):
        tgrad.func.vmap(lambda a: a, chunk_size=0)
    with pytest.raises(ShapeError, match="tangents of shapes"):
        tgrad.func.jvp(lambda a: a, (x,), (x[0],))


def test_functional_call_replaces_tied_weights() -> None:
    layer = tgrad.nn.Sequential(
        tgrad.nn.Linear(2, 2, bias=False), tgrad.nn.Linear(2, 2, bias=False)
    )
    layer[1].weight = layer[0].weight
    doubled, x = {"0.weight": 2 * tgrad.eye(2)}, tgrad.ones(1, 2)
    call = tgrad.func.functional_call
    with tgrad.no_grad():
        layer[0].weight.copy_(tgrad.eye(2))
    assert call(layer, doubled, x).tolist() == [[4.0, 4.0]]
    assert call(layer, doubled, x, tie_weights=False).tolist() == [[2.0, 2.0]]
    assert call(layer, doubled, x, strict=True).tolist() == [[4.0, 4.0]]
    assert layer(x).tolist() == [[1.0, 1.0]]
    with pytest.raises(tgrad.errors.GradientError, match=r"leaves out \['1.weight'\]"):
        call(layer, doubled, x, tie_weights=False, strict=True)


def test_vmap_maps_positional_arguments_alone():
    x = normal(9, 3, 2)
    found = [
        library.func.vmap(lambda a, b: a * b)(library.tensor(x), b=library.tensor(x)).tolist()
        for library in (tgrad, torch)
    ]
    assert found[0] == found[1]


def test_vmap_changes_its_arguments_in_place():
    found = []
    for library in (tgrad, torch):
        x = library.tensor(normal(9, 3, 2))
        library.func.vmap(lambda a: a.add_(1).sum(), 1)(x)
        found.append(x.tolist())
    assert found[0] == found[1]


def test_vmap_refuses_to_write_members_to_one_tensor():
    total = tgrad.zeros(2)
    with pytest.raises(UnsupportedError, match="the same for all members is changed in place"):
        tgrad.func.vmap(lambda a: total.add_(a))(tgrad.ones(3, 2))
    assert total.tolist() == [0, 0]


@pytest.mark.parametrize("wrap", [lambda f: f, tgrad.compile])
def test_vmap_refuses_draws_of_any_generator(wrap):
    generator = tgrad.Generator()
    with pytest.raises(UnsupportedError, match="vmap of a function that draws"):
        wrap(tgrad.func.vmap(lambda a: a * tgrad.rand(2, generator=generator)))(tgrad.ones(3, 2))


def test_vmap_refuses_results_without_an_axis():
    with pytest.raises(ShapeError, match="out_dims is None for a result that differs"):
        tgrad.func.vmap(lambda a: a, out_dims=None)(tgrad.ones(3))


def test_vmap_gives_results_without_an_axis_as_they_are():
    found = []
    for library in (tgrad, torch):
        x, y = library.ones(4, 2), library.arange(2.0)
        mapped = library.func.vmap(lambda a, b: (a * b, b * 2), (0, None), (1, None))
        found.append([t.tolist() for t in mapped(x, y)])
    assert found[0] == found[1]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 9])
def test_vmap_in_chunks(chunk):
    found = []
    for library in (tgrad, torch):
        x, y = library.tensor(np.arange(15.0).reshape(3, 5)), library.arange(3.0)
        x.requires_grad_()

        def function(a, b):
            return a * b, {"sum": (a * b).sum()}

        mapped = library.func.vmap(function, (1, None), (1, 0), chunk_size=chunk)
        wide, sums = mapped(x, y)
        (wide.sin().sum() + sums["sum"].sum()).backward()
        found.append([wide.tolist(), sums["sum"].tolist(), x.grad.tolist()])
    np.testing.assert_allclose(np.ravel(found[0][0]), np.ravel(found[1][0]), rtol=1e-12)
    for mine, theirs in zip(found[0][1:], found[1][1:]):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_vmap_draws_for_each_member_or_for_all(device):
    def draw(a):
        return a + tgrad.rand(7, device=device), tgrad.nn.functional.dropout(a, 0.5)

    x = tgrad.ones(6, 7, device=device)
    for chunk in (None, 2):
        same = tgrad.func.vmap(draw, randomness="same", chunk_size=chunk)(x)
        for t in same:
            assert (t.numpy() == t.numpy()[0]).all()
    tgrad.manual_seed(0)
    apart = tgrad.func.vmap(draw, randomness="different")(x)
    tgrad.manual_seed(0)
    again = tgrad.func.vmap(draw, randomness="different")(x)
    assert len(np.unique(apart[0].numpy())) == 42
    assert len(np.unique(apart[1].numpy(), axis=0)) > 1
    assert all((a.numpy() == b.numpy()).all() for a, b in zip(apart, again))


def test_nested_vmap_draws_for_each_pair_of_members():
    def draw(a):
        return a + tgrad.rand(2)

    options = {"randomness": "different"}
    y = tgrad.func.vmap(tgrad.func.vmap(draw, **options), **options)(tgrad.zeros(5, 3, 2))
    assert len(np.unique(y.numpy())) == 30


def half_recorded(x):
    with tgrad.no_grad():
        factor = x * x
    return (x * factor).sum()


@pytest.mark.parametrize(
    "derivative",
    [
        lambda x: tgrad.func.jvp(half_recorded, (x,), (x,)),
        lambda x: tgrad.func.jacfwd(half_recorded)(x),
        lambda x: tgrad.func.hessian(half_recorded)(x),
    ],
)
def test_forward_derivatives_refuse_blocks_of_no_grad(derivative):
    with pytest.raises(UnsupportedError, match="through a block of no_grad"):
        derivative(tgrad.ones(2))


def test_backward_derivatives_take_blocks_of_no_grad_as_constants():
    x = tgrad.tensor([1.0, 2.0])
    assert tgrad.func.jacrev(half_recorded)(x).tolist() == [1, 4]
    assert tgrad.autograd.functional.jvp(half_recorded, x, x)[1].item() == 9
    assert tgrad.func.jacfwd(lambda x: x * (x * x).detach())(x).tolist() == [[1, 0], [0, 4]]


def test_vmap_refuses_numbers():
    with pytest.raises(ShapeError, match="vmap over a tensor with no axes"):
        tgrad.func.vmap(lambda a: a)(tgrad.tensor(1.0))
