"""autograd.functional, gradcheck and gradgradcheck beside PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal
from tgrad.errors import GradientError, ShapeError, UnsupportedError

X, Y, V, W = (normal(i, 3).astype(np.float64) for i in range(4))


def pair(library, x, y):
    return (x * y).sin(), (x.exp() * y).sum()


def number(library, x, y):
    return (x**3 * y).sum() + (y * y).prod()


CASES = {
    "jacobian": lambda p, F, x, y, v, w: F.jacobian(lambda x: x[:2] * x.sum(), x),
    "jacobian of many": lambda p, F, x, y, v, w: F.jacobian(lambda *a: pair(p, *a), (x, y)),
    "jacobian of one in a tuple": lambda p, F, x, y, v, w: F.jacobian(lambda a: a * a, (x,)),
    "jacobian forward": lambda p, F, x, y, v, w: F.jacobian(
        lambda *a: pair(p, *a), (x, y), vectorize=True, strategy="forward-mode"
    ),
    "hessian": lambda p, F, x, y, v, w: F.hessian(lambda x: (x**3).prod(), x),
    "hessian of many": lambda p, F, x, y, v, w: F.hessian(lambda *a: number(p, *a), (x, y)),
    "hessian forward": lambda p, F, x, y, v, w: F.hessian(
        lambda *a: number(p, *a), (x, y), vectorize=True, outer_jacobian_strategy="forward-mode"
    ),
    "vjp": lambda p, F, x, y, v, w: F.vjp(lambda *a: pair(p, *a), (x, y), (v, w.sum())),
    "vjp without v": lambda p, F, x, y, v, w: F.vjp(lambda *a: number(p, *a), (x, y)),
    "jvp": lambda p, F, x, y, v, w: F.jvp(lambda *a: pair(p, *a), (x, y), (v, w)),
    "vhp": lambda p, F, x, y, v, w: F.vhp(lambda *a: number(p, *a), (x, y), (v, w)),
    "hvp": lambda p, F, x, y, v, w: F.hvp(lambda *a: number(p, *a), (x, y), (v, w)),
    "hvp of one": lambda p, F, x, y, v, w: F.hvp(lambda x: (x**3).sum(), x, v),
    "create_graph": lambda p, F, x, y, v, w: p.autograd.grad(
        F.jacobian(lambda a: a**3, x.requires_grad_(), create_graph=True).sum(), x
    ),
    "func.jacrev of nests": lambda p, F, x, y, v, w: p.func.jacrev(
        lambda d, y: {"a": d["x"] * y, "b": (y.sum(), d["x"][:1])}, argnums=(0, 1)
    )({"x": x}, y)["b"],
    "func.jacfwd of nests": lambda p, F, x, y, v, w: p.func.jacfwd(
        lambda d, y: {"a": d["x"] * y, "b": (y.sum(), d["x"][:1])}, argnums=(0, 1)
    )({"x": x}, y)["a"],
    "func.hessian of many": lambda p, F, x, y, v, w: p.func.hessian(
        lambda *a: number(p, *a), argnums=(0, 1)
    )(x, y),
}


@pytest.mark.parametrize("name", CASES)
def test_functional(name):
    found = []
    for library in (tgrad, torch):
        given = [library.tensor(a) for a in (X, Y, V, W)]
        result = CASES[name](library, library.autograd.functional, *given)
        found.append(leaves(result))
    assert not any(t.requires_grad for t in found[0])
    (have, form), (want, wanted_form) = map(shapes, found)
    assert form == wanted_form
    for a, b in zip(have, want):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12)


def leaves(tree):
    if isinstance(tree, dict):
        return [t for v in tree.values() for t in leaves(v)]
    return [t for v in tree for t in leaves(v)] if isinstance(tree, (tuple, list)) else [tree]


def shapes(tensors):
    return tensors, [tuple(t.shape) for t in tensors]


def test_functional_refuses():
    F, x = tgrad.autograd.functional, tgrad.ones(2)
    with pytest.raises(UnsupportedError, match="strict=True"):
        F.jacobian(lambda x: x, x, strict=True)
    with pytest.raises(UnsupportedError, match="strategy='sideways'"):
        F.jacobian(lambda x: x, x, strategy="sideways")
    with pytest.raises(ShapeError, match="vjp without v"):
        F.vjp(lambda x: x, x)
    with pytest.raises(ShapeError, match="not one number"):
        F.hessian(lambda x: x, x)
    with pytest.raises(ShapeError, match="v of shapes"):
        F.jvp(lambda x: x, x, tgrad.ones(3))


def functions(library):
    """A Function with a right, and one with a wrong derivative; one wrong at second order."""

    class Cube(library.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * x * x * g

    class Wrong(Cube):
        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * x * x * g

    class WrongTwice(Cube):
        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * x.detach() * x * g

    return Cube.apply, Wrong.apply, WrongTwice.apply


@pytest.mark.parametrize("fast_mode", [False, True])
def test_gradcheck(fast_mode):
    def script(library):
        check, twice = library.autograd.gradcheck, library.autograd.gradgradcheck
        options = {"raise_exception": False, "fast_mode": fast_mode}
        x = library.tensor(X, requires_grad=True)
        y = library.tensor(Y, requires_grad=True)
        found = [(check(f, x, **options), twice(f, x, **options)) for f in functions(library)]
        found.append(check(lambda x, n, y: (x * y, n + x.sum()), (x, 3, y), **options))
        found.append(twice(lambda x, y: (x * y, (x / y).exp()), (x, y), **options))
        found.append(check(lambda x: x.detach() * 2 + x[:0].sum(), x, **options))
        found.append(check(lambda x: x.abs(), library.zeros_like(x, requires_grad=True), **options))
        return found

    assert script(tgrad) == script(torch)


def test_gradcheck_shows_both_jacobians():
    x = tgrad.tensor([1.0], dtype=tgrad.float64, requires_grad=True)
    with pytest.raises(GradientError, match=r"of result 0 by input 0 is\n\[\[2\.\]\]\nby backward"):
        tgrad.autograd.gradcheck(functions(tgrad)[1], x)
    with pytest.raises(GradientError, match="no input requires a gradient"):
        tgrad.autograd.gradcheck(lambda x: x, tgrad.ones(1))
    with pytest.raises(UnsupportedError, match="check_forward_ad=True"):
        tgrad.autograd.gradcheck(lambda x: x, x, check_forward_ad=True)
    with pytest.warns(UserWarning, match="needs float64"):
        tgrad.autograd.gradcheck(lambda x: x * 1, x.detach().float().requires_grad_(), atol=0.1)


def test_gradcheck_sees_backwards_that_differ():
    class Drifting(tgrad.autograd.Function):
        calls = 0

        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            Drifting.calls += 1
            return g * (1 + 1e-7 * Drifting.calls)

    x = tgrad.tensor([1.0], dtype=tgrad.float64, requires_grad=True)
    with pytest.raises(GradientError, match="two runs of the backward"):
        tgrad.autograd.gradcheck(Drifting.apply, x)
    assert tgrad.autograd.gradcheck(Drifting.apply, x, nondet_tol=1e-5)


def test_once_differentiable():
    def script(library):
        class Cube(library.autograd.Function):
            @staticmethod
            def forward(ctx, x, y):
                ctx.save_for_backward(x, y)
                return x * x * x * y

            @staticmethod
            @library.autograd.function.once_differentiable
            def backward(ctx, g):
                x, y = ctx.saved_tensors
                return 3 * x * x * y * g, x * x * x * g

        x, y = (library.tensor(a, requires_grad=True) for a in (X, Y))
        first = library.autograd.grad(Cube.apply(x, y).square().sum(), (x, y), create_graph=True)
        message = "once_differentiable" if library is tgrad else "appears to not have been used"
        with pytest.raises(RuntimeError, match=message):
            library.autograd.grad(first[0].sum(), x)
        return [g.detach().numpy() for g in first]

    for have, want in zip(script(tgrad), script(torch)):
        np.testing.assert_allclose(have, want, rtol=1e-12)


def test_models_in_a_batch():
    """Outputs and gradients of an ensemble, as of its members."""
    models = [tgrad.nn.Sequential(tgrad.nn.Linear(3, 4), tgrad.nn.BatchNorm1d(4)) for _ in range(3)]
    params, buffers = tgrad.func.stack_module_state(models)
    assert set(params) == {"0.weight", "0.bias", "1.weight", "1.bias"} and len(buffers) == 3
    assert all(p.requires_grad and p.is_leaf and p.shape[0] == 3 for p in params.values())
    models = [m.eval() for m in models]
    x = tgrad.tensor(normal(0, 5, 3))

    def one(p, b, x):
        return tgrad.func.functional_call(models[0], (p, b), (x,))

    have = tgrad.func.vmap(one, (0, 0, None))(params, buffers, x)
    have.square().sum().backward()
    for k, model in enumerate(models):
        want = model(x)
        want.square().sum().backward()
        np.testing.assert_allclose(have[k].detach().numpy(), want.detach().numpy(), rtol=1e-5)
        gradient = params["0.weight"].grad[k].numpy()
        np.testing.assert_allclose(gradient, model[0].weight.grad.numpy(), rtol=1e-4, atol=1e-6)
    with pytest.raises(ShapeError, match="stack_module_state of no models"):
        tgrad.func.stack_module_state([])
    with pytest.raises(UnsupportedError, match="Give one class"):
        tgrad.func.stack_module_state([models[0], models[1].train()])


def test_attention_kernels_have_names():
    from tgrad.nn.attention import SDPBackend, sdpa_kernel

    assert [b.name for b in SDPBackend] == list(torch.nn.attention.SDPBackend.__members__)
    with sdpa_kernel([SDPBackend.MATH, SDPBackend.FLASH_ATTENTION], set_priority=True):
        pass
    with (
        pytest.raises(UnsupportedError, match="Give members of SDPBackend"),
        sdpa_kernel(["flash"]),
    ):
        pass
