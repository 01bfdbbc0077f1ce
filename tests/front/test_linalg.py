"""Factorisations beside torch.linalg: values, gradients of gradients, errors, and plans."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tgrad.dtype import float64
from tgrad.errors import (
    UNKNOWN,
    DTypeError,
    LinAlgError,
    OutOfRangeError,
    ShapeError,
    UnsupportedError,
)
from tgrad.fusion.region_json import region_from_json, region_to_json
from tgrad.graph.library import LIBRARY, LibraryCall
from tgrad.runtime.library import TORCH, call_torch

RNG = np.random.default_rng(7)
SQUARE, ROWS = RNG.normal(size=(2, 3, 3)), RNG.normal(size=(2, 3, 4))
TALL, WIDE = RNG.normal(size=(2, 4, 3)), RNG.normal(size=(2, 3, 5))
POSITIVE = SQUARE @ SQUARE.transpose(0, 2, 1) + 3 * np.eye(3)
SYMMETRIC = SQUARE + SQUARE.transpose(0, 2, 1)
TRIANGLE = SQUARE + 3 * np.eye(3)

Case = tuple[Callable[..., Any], tuple[np.ndarray, ...]]

CASES: dict[str, Case] = {
    "cholesky": (lambda L, a: L.cholesky((a + a.mT) / 2), (POSITIVE,)),
    "cholesky upper": (lambda L, a: L.cholesky((a + a.mT) / 2, upper=True), (POSITIVE,)),
    "solve": (lambda L, a, b: L.solve(a, b), (SQUARE, ROWS)),
    "solve right": (lambda L, a, b: L.solve(a, b.mT, left=False), (SQUARE, ROWS)),
    "solve vector": (lambda L, a, b: L.solve(a, b), (SQUARE[0], ROWS[0, :, 0])),
    "solve batch": (lambda L, a, b: L.solve(a, b), (SQUARE, ROWS[0])),
    "triangular": (lambda L, a, b: L.solve_triangular(a, b, upper=False), (TRIANGLE, ROWS)),
    "triangular upper": (lambda L, a, b: L.solve_triangular(a, b, upper=True), (TRIANGLE, ROWS)),
    "triangular unit": (
        lambda L, a, b: L.solve_triangular(a, b.mT, upper=True, left=False, unitriangular=True),
        (TRIANGLE, ROWS),
    ),
    "inv": (lambda L, a: L.inv(a), (SQUARE,)),
    "det": (lambda L, a: L.det(a), (SQUARE,)),
    "slogdet": (lambda L, a: L.slogdet(a)[1], (SQUARE,)),
    "qr of tall": (lambda L, a: L.qr(a)[0] @ L.qr(a)[1].sin(), (TALL,)),
    "qr of wide": (lambda L, a: L.qr(a)[0] @ L.qr(a)[1].sin(), (WIDE,)),
    "svd of tall": (lambda L, a: L.svd(a, False)[0].abs() * L.svd(a, False)[1][:, None], (TALL,)),
    "svd of wide": (lambda L, a: L.svd(a, False)[2].abs() * L.svd(a, False)[1][..., None], (WIDE,)),
    "svdvals": (lambda L, a: L.svdvals(a), (WIDE,)),
    "eigh": (lambda L, a: L.eigh(a + a.mT)[1].abs() + L.eigh(a + a.mT)[0][:, None], (SQUARE,)),
    "eigvalsh": (lambda L, a: L.eigvalsh(a + a.mT), (SQUARE,)),
    "pinv of tall": (lambda L, a: L.pinv(a), (TALL,)),
    "pinv of wide": (lambda L, a: L.pinv(a), (WIDE,)),
    "lstsq": (lambda L, a, b: L.lstsq(a, b)[0], (TALL, RNG.normal(size=(2, 4, 2)))),
    "lstsq of others": (
        lambda L, a, b: L.lstsq(a, b, driver="gelsd")[1],
        (TALL, RNG.normal(size=(2, 4, 2))),
    ),
    "lu": (lambda L, a: L.lu(a)[1].sin() @ L.lu(a)[2], (SQUARE,)),
    "lu of tall": (lambda L, a: L.lu(a)[1].sin() @ L.lu(a)[2], (TALL,)),
    "lu of wide": (lambda L, a: L.lu(a)[1].sin() @ L.lu(a)[2].cos(), (WIDE,)),
    "lu_factor": (lambda L, a: L.lu_factor(a)[0], (SQUARE,)),
    "lu_solve": (lambda L, a, b: L.lu_solve(*L.lu_factor(a), b), (SQUARE, ROWS)),
    "lu_solve adjoint": (
        lambda L, a, b: L.lu_solve(*L.lu_factor(a), b, adjoint=True),
        (SQUARE, ROWS),
    ),
    "lu_solve right": (
        lambda L, a, b: L.lu_solve(*L.lu_factor(a), b.mT, left=False),
        (SQUARE, ROWS),
    ),
    "householder_product": (
        lambda L, a, t: L.householder_product(a, t),
        (TALL, np.array([[0.5, 1.3, 0.0], [0.7, 2.0, 1.1]])),
    ),
    "householder_product of fewer": (
        lambda L, a, t: L.householder_product(a, t),
        (TALL, np.array([[0.5, 1.3], [0.7, 2.0]])),
    ),
    "cholesky_ex": (lambda L, a: L.cholesky_ex((a + a.mT) / 2, upper=True)[0], (POSITIVE,)),
    "solve_ex": (lambda L, a, b: L.solve_ex(a, b)[0], (SQUARE, ROWS)),
    "solve_ex vector": (lambda L, a, b: L.solve_ex(a, b)[0], (SQUARE[0], ROWS[0, :, 0])),
    "inv_ex": (lambda L, a: L.inv_ex(a)[0], (SQUARE,)),
    "norms": (lambda L, a: L.matrix_norm(a, 2) + L.matrix_norm(a, "nuc"), (TALL,)),
    "smallest": (lambda L, a: L.matrix_norm(a, -2, keepdim=True), (TALL,)),
    "cond": (lambda L, a: L.cond(a), (SQUARE,)),
    "matrix_power": (lambda L, a: L.matrix_power(a, -2), (SQUARE,)),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_of_gradients(name: str, device: str) -> None:
    function, arrays = CASES[name]
    mine = [tgrad.tensor(a, device=device, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    found = []
    for library, given, grad in (
        (tgrad.linalg, mine, tgrad.autograd.grad),
        (torch.linalg, theirs, torch.autograd.grad),
    ):
        y = function(library, *given)
        first = grad((y * y).sum(), given, create_graph=True)
        second = grad(sum((g * g).sum() for g in first), given)
        found.append([y, *first, *second])
    for got, want in zip(*found):
        np.testing.assert_allclose(got.numpy(), want.detach().numpy(), rtol=1e-6, atol=1e-7)


PLAIN: dict[str, Callable[[Any, Any], Any]] = {
    "cholesky_solve": lambda t, a: t.cholesky_solve(a[:, :, :2], t.cholesky(a)),
    "cholesky_inverse": lambda t, a: t.cholesky_inverse(t.cholesky(a)),
    "logdet": lambda t, a: t.logdet(a) + t.logdet(-a).isnan(),
    "matrix_rank": lambda t, a: t.linalg.matrix_rank(a * 0 + 1),
    "svd": lambda t, a: t.svd(a)[0] @ t.diag_embed(t.svd(a)[1]) @ t.svd(a)[2].mT,
    "full svd": lambda t, a: t.linalg.svd(a[:, :2])[2].abs() + t.linalg.svd(a)[0][..., :1].abs(),
    "complete qr": lambda t, a: t.linalg.qr(a[..., :2], "complete")[0][..., :2].abs(),
    "r": lambda t, a: t.linalg.qr(a, "r")[1].abs(),
    "geqrf": lambda t, a: (
        a.geqrf()[0] + t.geqrf(a[:, :2])[1].sum() + t.geqrf(a.mT[..., :1])[1].sum()
    ),
    "orgqr": lambda t, a: t.orgqr(*t.geqrf(a)) + a.orgqr(t.geqrf(a)[1][:, :2]),
    "ormqr": lambda t, a: t.ormqr(*t.geqrf(a[..., :2]), a) @ t.ormqr(*t.geqrf(a), a, False, True),
    "ormqr transposed": lambda t, a: (
        t.ormqr(*t.geqrf(a), a, transpose=True) @ a.ormqr(t.geqrf(a)[1], a[:, :2], left=False).mT
    ),
    "methods": lambda t, a: a.inverse() + a.det()[:, None, None] + a.pinverse(),
    "cond": lambda t, a: t.linalg.cond(a, 1) + t.linalg.cond(a, -2),
    "pivots": lambda t, a: t.lu(a.flip(1))[1] + 10 * t.linalg.lu_factor_ex(a[:, :2])[1].sum(),
    "P": lambda t, a: t.linalg.lu(a.flip(1))[0] + t.lu_unpack(*t.lu(a), unpack_data=False)[0],
    "older lu_solve": lambda t, a: t.lu_solve(a[:, :, :2], *a.lu()) + a[..., :2].lu_solve(*t.lu(a)),
    "info": lambda t, a: t.linalg.cholesky_ex(a - 6 * a[0]).info + t.linalg.inv_ex(a * 0).info,
    "infos": lambda t, a: a.triu(1).lu(get_infos=True)[2] + t.linalg.lu_factor_ex(a).info,
    "sign": lambda t, a: a.slogdet()[0],
    "of 0 by 0": lambda t, a: t.linalg.det(a[:, :0, :0]),
    "empty batch": lambda t, a: t.linalg.inv(a[:0]),
}


@pytest.mark.parametrize("name", PLAIN)
def test_values(name: str, device: str) -> None:
    got = PLAIN[name](tgrad, tgrad.tensor(POSITIVE, device=device))
    want = PLAIN[name](torch, torch.tensor(POSITIVE))
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-8, atol=1e-9)


def test_singular_matrices(device: str) -> None:
    a = tgrad.ones(3, 3, device=device)
    with pytest.raises(LinAlgError, match=r"linalg\.solve: The solver failed because the input"):
        tgrad.linalg.inv(a).numpy()
    with pytest.raises(LinAlgError, match=r"linalg\.cholesky: .* is not positive-definite"):
        tgrad.linalg.cholesky(-a).numpy()
    with pytest.raises(LinAlgError, match=r"linalg\.lu: U has a 0 on its diagonal"):
        tgrad.linalg.lu_factor(a)[0].numpy()
    with pytest.raises(LinAlgError, match=r"linalg\.lu: U has a 0 on its diagonal"):
        tgrad.linalg.inv_ex(a, check_errors=True)[0].numpy()
    assert tgrad.linalg.inv_ex(a).info.item() == 2
    assert not np.isfinite(tgrad.linalg.inv_ex(a).inverse.numpy()).all()
    assert np.isnan(tgrad.linalg.cholesky_ex(-a).L.numpy()).all()
    b = tgrad.ones(3, 1, device=device)
    x = tgrad.linalg.solve_triangular(tgrad.zeros(3, 3, device=device), b, upper=False)
    assert np.isinf(x.numpy()).any()


def test_mistakes() -> None:
    a = tgrad.ones(2, 3, device="numpy")
    with pytest.raises(ShapeError, match=r"inv of shape \(2, 3\)"):
        tgrad.linalg.inv(a)
    with pytest.raises(DTypeError, match="svd of float16"):
        tgrad.linalg.svd(a.half())
    with pytest.raises(DTypeError, match="solve of float32 and float64"):
        tgrad.linalg.solve(a @ a.mT, a.double())
    with pytest.raises(ShapeError, match=r"solve of shapes \(2, 2\) and \(3, 2\)"):
        tgrad.linalg.solve(a @ a.mT, a.mT)
    with pytest.raises(UnsupportedError, match="lu_factor: pivot=False"):
        tgrad.linalg.lu_factor(a, pivot=False)
    with pytest.raises(DTypeError, match="pivots of float32"):
        tgrad.linalg.lu_solve(a @ a.mT, tgrad.ones(2), a)
    with pytest.raises(ShapeError, match=r"pivots of shape \(3,\)"):
        tgrad.lu_unpack(a, tgrad.ones(3, dtype=tgrad.int32))
    with pytest.raises(ShapeError, match=r"eig of shape \(2, 3\)"):
        tgrad.linalg.eig(a)
    with pytest.raises(UnsupportedError, match="qr: mode='raw'"):
        tgrad.linalg.qr(a, "raw")


def test_a_call_is_a_step_of_the_plan() -> None:
    a = tgrad.randn(64, 64)
    positive = a @ a.mT + tgrad.eye(64) * 64
    plan = tgrad.explain(tgrad.linalg.cholesky(positive).exp() * 2)
    calls = [k for k in plan.kernels if k.region.call is not None]
    assert len(calls) == 1 and plan.launches == 3
    assert calls[0].flops == 64**3 // 3 and calls[0].bytes == 2 * 4 * 64 * 64
    assert "out0 = cholesky(in0)" in str(plan)
    region = calls[0].region
    assert region_from_json(region_to_json(region)) == region


def test_training_through_a_factorisation(device: str) -> None:
    """A compiled step with a call in it, which is launched step by step."""
    w = tgrad.nn.Parameter(tgrad.eye(3, device=device) * 2)
    optimizer = tgrad.optim.SGD([w], lr=0.05)

    def step(x: Any) -> Any:
        loss = (tgrad.linalg.solve(w, x) ** 2).sum() + tgrad.linalg.slogdet(w).logabsdet
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    x = tgrad.ones(3, 2, device=device)
    want = [step(x).item() for _ in range(4)]
    with tgrad.no_grad():
        w.copy_(tgrad.eye(3, device=device) * 2)
    compiled = tgrad.compile(step)
    np.testing.assert_allclose([compiled(x).item() for _ in range(4)], want, rtol=1e-5)
    before = w.detach().clone().realize()
    with tgrad.no_grad():
        w.zero_()
    with pytest.raises(LinAlgError):
        compiled(x)
    assert w.tolist() == [[0.0] * 3] * 3 and before.numpy().any()


@pytest.mark.parametrize("function", LIBRARY)
def test_torch_spells_every_function(function: str) -> None:
    """What runs on cuda, on torch's memory of the host."""
    operands, params = {
        "solve": ((SQUARE, ROWS), ()),
        "triangular": ((SQUARE, ROWS), (True,)),
        "lu": ((TALL,), (True,)),
        "permutation": ((np.array([[[3.0], [3.0], [4.0]], [[1.0], [4.0], [4.0]]]),), (5,)),
        "qr": ((TALL,), ("complete",)),
        "svd": ((WIDE,), (False,)),
        "ldl": ((SYMMETRIC,), ()),
        "ldl_solve": ((SYMMETRIC, np.array([[[1.0], [-3], [-3]], [[2], [2], [3]]]), ROWS), ()),
        "eigh": ((SYMMETRIC,), ()),
        "eig": ((SQUARE,), ()),
        "complex_eig": ((SQUARE, POSITIVE), ()),
        "complex_lu": ((TALL, TALL * 2 + 1), (True,)),
        "complex_qr": ((TALL, TALL * 2 + 1), ("complete",)),
        "complex_svd": ((WIDE, WIDE * 2 + 1), (False,)),
        "complex_eigh": ((SYMMETRIC, SQUARE - SQUARE.transpose(0, 2, 1)), ()),
    }.get(function, ((POSITIVE,), ()))
    call = LibraryCall(function, tuple(a.shape for a in operands), params, float64)
    want = call.compute(operands, UNKNOWN)
    memories = [torch.from_numpy(np.array(a)).view(-1).view(torch.uint8) for a in operands]
    result = torch.zeros(want.nbytes, dtype=torch.uint8)
    call_torch(call, UNKNOWN, [*memories, result])
    got = result.view(torch.float64).numpy().reshape(want.shape)
    np.testing.assert_allclose(np.abs(got), np.abs(want), rtol=1e-8, atol=1e-10)
    assert set(TORCH) == set(LIBRARY)


@pytest.mark.parametrize("shape", [(70, 70), (2, 80, 45), (45, 80), (0, 3), (2, 3, 0)])
def test_lu_in_panels(shape):
    """Beside LAPACK's, for more columns than a panel has."""
    a = np.random.default_rng(0).normal(size=shape)
    P, L, U = tgrad.linalg.lu(tgrad.tensor(a, device="numpy"))
    for have, want in zip((P, L, U), torch.linalg.lu(torch.tensor(a))):
        assert have.shape == tuple(want.shape)
        np.testing.assert_allclose(have.numpy(), want.numpy(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_matrix_exp(size):
    """Against float64, for norms that take no squaring and many; and its gradient."""
    values = np.random.default_rng(0).standard_normal((2, 4, 4)) * size / 4
    values -= np.abs(values).sum(-1, keepdims=True) * np.eye(4)  # so that nothing overflows
    for dtype, tolerance in (("float32", 1e-4), ("float64", 1e-11)):
        x = tgrad.tensor(values, dtype=getattr(tgrad, dtype), device="numpy", requires_grad=True)
        v = torch.tensor(values, requires_grad=True)
        have, want = tgrad.linalg.matrix_exp(x), torch.linalg.matrix_exp(v)
        np.testing.assert_allclose(have.numpy(), want.detach(), atol=tolerance)
        (have**2).sum().backward()
        (want**2).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), v.grad, atol=10 * tolerance)


@pytest.mark.parametrize("dtype, largest", [("float32", 2.0**19), ("float64", 2.0**48)])
def test_matrix_exp_of_large_norms(dtype, largest):
    """A stiff system: right up to the limit, NaN beyond it with its gradient, never a wrong number;
    and what overflows is so in both libraries."""
    kind = getattr(torch, dtype)
    for size in (5e5, largest / 3, largest, largest * 1.01, 1e30, math.inf, math.nan):
        values = torch.tensor([[-size, size / 2], [0.0, -1.0]], dtype=kind)
        x = tgrad.tensor(values.numpy(), device="numpy", requires_grad=True)
        have = tgrad.linalg.matrix_exp(x)
        have.sum().backward()
        if size <= largest:
            want = np.array(
                [[np.exp(-size), values[0, 1] / (size - 1) * np.exp(-1)], [0, 1 / np.e]]
            )
            tolerance = size * float(torch.finfo(kind).eps)
            np.testing.assert_allclose(have.detach().numpy(), want, rtol=0, atol=tolerance)
        else:
            assert np.isnan(have.detach().numpy()).all() and np.isnan(x.grad.numpy()).all()
    rotation = tgrad.tensor([[400.0, 1.0], [-1.0, 400.0]], dtype=x.dtype, device="numpy") * 2
    want = torch.linalg.matrix_exp(torch.from_numpy(rotation.numpy()))
    assert not torch.isfinite(want).any()
    assert not np.isfinite(tgrad.linalg.matrix_exp(rotation).numpy()).any()


def test_tensor_equations():
    values, right = np.random.default_rng(1).standard_normal((2, 3, 6)), np.ones((2, 3))
    a, b = tgrad.tensor(values, device="numpy"), tgrad.tensor(right, device="numpy")
    have = tgrad.linalg.tensorsolve(a, b)
    want = torch.linalg.tensorsolve(torch.tensor(values), torch.tensor(right))
    np.testing.assert_allclose(have.numpy(), want, rtol=1e-9)
    have = tgrad.linalg.tensorinv(a, ind=2)
    np.testing.assert_allclose(
        have.numpy(), torch.linalg.tensorinv(torch.tensor(values)), rtol=1e-9
    )
    with pytest.raises(ShapeError, match="tensorinv of shape"):
        tgrad.linalg.tensorinv(a, ind=1)
    with pytest.raises(ShapeError, match="Give square matrices"):
        tgrad.linalg.matrix_exp(a)


@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (2, 7, 6)])
@pytest.mark.parametrize("name", ["svd_lowrank", "pca_lowrank"])
def test_matrices_of_low_rank(name, shape):
    """Random vectors differ; singular values and what the factors multiply to do not."""
    rng = np.random.default_rng()
    left, right = rng.standard_normal((*shape[:-1], 2)), rng.standard_normal((2, shape[-1]))
    A, M = (left @ right).astype(np.float32), rng.standard_normal(shape[-1:]).astype(np.float32)
    for options in ({"q": 3}, {"q": 4, "niter": 1}, {"q": 4, "M": M}, {"q": 3, "center": False}):
        if ("M" if name == "pca_lowrank" else "center") in options:
            continue
        found = []
        for t in (tgrad, torch):
            given = {k: t.tensor(v) if k == "M" else v for k, v in options.items()}
            U, S, V = getattr(t, name)(t.tensor(A), **given)
            product = (U * S.unsqueeze(-2)) @ V.transpose(-1, -2)
            found.append((S.numpy(), product.numpy(), (U.shape, S.shape, V.shape)))
        assert found[0][2] == tuple(map(tuple, found[1][2]))
        for have, want in zip(found[0][:2], found[1][:2]):
            np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-3)


def test_matrices_of_low_rank_that_are_refused():
    A = tgrad.ones(4, 3)
    for call, what in (
        (lambda: tgrad.svd_lowrank(A, q=4), "q=4 of a matrix"),
        (lambda: tgrad.svd_lowrank(A, q=2, niter=-1), "niter=-1"),
        (lambda: tgrad.svd_lowrank(A.long(), q=2), "svd_lowrank of int64"),
        (lambda: tgrad.pca_lowrank(A, q=0), "q=0"),
    ):
        with pytest.raises((OutOfRangeError, DTypeError), match=what):
            call()


def symmetric(seed, *shape):
    """Indefinite, with zeros on the diagonal: pivots of two rows are needed."""
    a = np.random.default_rng(seed).standard_normal(shape)
    a = a + np.swapaxes(a, -1, -2)
    a[..., range(1, shape[-1], 2), range(1, shape[-1], 2)] = 0
    return a


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (7, 7), (30, 30), (3, 2, 5, 5), (0, 4, 4)])
def test_factors_of_symmetric_matrices(shape, dtype):
    A = symmetric(0, *shape).astype(dtype)
    ours, theirs = (m.linalg.ldl_factor_ex(m.tensor(A)) for m in (tgrad, torch))
    np.testing.assert_array_equal(ours.pivots.numpy(), theirs.pivots.numpy())
    np.testing.assert_array_equal(ours.info.numpy(), theirs.info.numpy())
    assert ours.pivots.dtype is ours.info.dtype is tgrad.int32
    tolerance = 1e-3 if dtype is np.float32 else 1e-9
    np.testing.assert_allclose(ours.LD.numpy(), theirs.LD.numpy(), rtol=tolerance, atol=tolerance)
    B = np.random.default_rng(1).standard_normal((*shape[:-1], 3)).astype(dtype)
    factors = tgrad.linalg.ldl_factor(tgrad.tensor(A))
    X = tgrad.linalg.ldl_solve(*factors, tgrad.tensor(B))
    np.testing.assert_allclose(A @ X.numpy(), B, rtol=tolerance, atol=100 * tolerance)
    taken = tgrad.linalg.ldl_solve(
        tgrad.tensor(theirs.LD.numpy()), tgrad.tensor(theirs.pivots.numpy()), tgrad.tensor(B)
    )
    np.testing.assert_allclose(taken.numpy(), X.numpy(), rtol=tolerance, atol=10 * tolerance)


def test_factors_of_singular_and_differentiated_matrices():
    for m in (tgrad, torch):
        found = m.linalg.ldl_factor_ex(m.zeros(3, 3))
        assert (found.pivots.tolist(), found.info.item()) == ([1, 2, 3], 1)
        with pytest.raises(RuntimeError):
            m.linalg.ldl_factor(m.eye(2).requires_grad_()).LD.sum().backward()
    with pytest.raises(DTypeError, match="pivots of int64"):
        tgrad.linalg.ldl_solve(tgrad.eye(2), tgrad.ones(2).long(), tgrad.ones(2, 1))


@pytest.mark.parametrize("largest", [None, True, False])
@pytest.mark.parametrize("general", [False, True])
def test_a_few_eigenvalues(largest, general):
    A = symmetric(2, 2, 9, 9)
    half = np.random.default_rng(3).standard_normal((2, 9, 9))
    B = half @ np.swapaxes(half, -1, -2) + np.eye(9) if general else None
    options = {"k": 2, "largest": largest}
    ours = tgrad.lobpcg(tgrad.tensor(A), B=None if B is None else tgrad.tensor(B), **options)
    theirs = torch.lobpcg(
        torch.tensor(A), B=None if B is None else torch.tensor(B), niter=500, tol=1e-11, **options
    )
    np.testing.assert_allclose(ours[0].numpy(), theirs[0].numpy(), rtol=1e-6)
    np.testing.assert_allclose(np.abs(ours[1].numpy()), np.abs(theirs[1].numpy()), atol=1e-4)
    assert tgrad.lobpcg(tgrad.tensor(A), X=tgrad.ones(9, 4)).eigenvalues.shape == (2, 4)
    with pytest.raises(OutOfRangeError, match="k=10 of a matrix of 9 rows"):
        tgrad.lobpcg(tgrad.tensor(A), k=10)


def test_gradient_of_a_few_eigenvalues():
    A = symmetric(4, 9, 9)
    grads = []
    for m in (tgrad, torch):
        a = m.tensor(A, requires_grad=True)
        options = {} if m is tgrad else {"niter": 500, "tol": 1e-12}
        m.lobpcg((a + a.mT) / 2, k=2, **options)[0].sum().backward()
        grads.append(a.grad.numpy())
    np.testing.assert_allclose(*grads, atol=1e-5)
