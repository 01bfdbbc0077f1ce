"""Decompositions with complex factors, and their gradients, beside PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tgrad.errors import DTypeError, ShapeError, UnsupportedError


def drawn(*shape):
    random = np.random.default_rng(len(shape))
    return random.normal(size=shape) + 1j * random.normal(size=shape)


def low_rank(library, z):
    U, S, Vh = library.linalg.svd(z, full_matrices=False)
    return ((U * (S**3).unsqueeze(-2)) @ Vh,)


SQUARES = [
    ("eig", lambda t, z: t.linalg.eig(z)),
    ("eig of real", lambda t, z: t.linalg.eig(z.real)),
    ("eigvals", lambda t, z: (t.linalg.eigvals(z),)),
    ("eigh", lambda t, z: t.linalg.eigh(z)),
    ("eigh upper", lambda t, z: t.linalg.eigh(z, "U")),
    ("lu_solve", lambda t, z: (t.linalg.lu_solve(*t.linalg.lu_factor(z), z.mH * 2),)),
    ("lu_solve right",
     lambda t, z: (t.linalg.lu_solve(*t.linalg.lu_factor(z), z * 2, left=False),)),
    ("lu_solve adjoint",
     lambda t, z: (t.linalg.lu_solve(*t.linalg.lu_factor(z), z.mT * 2, adjoint=True),)),
]  # fmt: skip
ALL = [
    ("svd", lambda t, z: t.linalg.svd(z, full_matrices=False)),
    ("low rank", low_rank),
    ("torch.svd", lambda t, z: t.svd(z)),
    ("qr", lambda t, z: t.linalg.qr(z)),
    ("qr, its phases", lambda t, z: (t.linalg.qr(z).Q.real, t.linalg.qr(z).R.imag)),
    ("lu", lambda t, z: t.linalg.lu(z)),
    ("lu_factor", lambda t, z: t.linalg.lu_factor(z)[:1]),
]
CASES = [(*case, (2, 4, 4)) for case in SQUARES]
CASES += [(*case, shape) for case in ALL for shape in ((4, 4), (2, 5, 3), (3, 5))]


@pytest.mark.parametrize("name, function, shape", CASES, ids=[f"{n} {s}" for n, _, s in CASES])
def test_values_and_gradients(name, function, shape):
    found = []
    for library in (tgrad, torch):
        z = library.tensor(drawn(*shape)).requires_grad_()
        made = function(library, z)
        loss = library.zeros((), dtype=library.float64)
        for part in made:
            weights = np.cos(np.arange(part.numel())).reshape(tuple(part.shape))
            loss = loss + ((part * part.conj()).real * library.tensor(weights)).sum()
        loss.backward()
        sizes = [np.abs(part.detach().resolve_conj().numpy()) for part in made]  # free of phases
        found.append([*sizes, z.grad.numpy()])
    for have, want in zip(*found, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-8, atol=1e-9)


def test_what_is_decomposed_comes_back(device):
    z = tgrad.tensor(drawn(4, 4).astype(np.complex64), device=device)
    want = z.numpy()
    values, vectors = tgrad.linalg.eig(z)
    np.testing.assert_allclose((z @ vectors).numpy(), (vectors * values).numpy(), atol=1e-4)
    U, S, Vh = tgrad.linalg.svd(z)
    np.testing.assert_allclose(((U * S) @ Vh).numpy(), want, atol=1e-4)
    np.testing.assert_allclose(
        (tgrad.linalg.qr(z).Q @ tgrad.linalg.qr(z).R).numpy(), want, atol=1e-4
    )
    P, L, U = tgrad.linalg.lu(z)
    np.testing.assert_allclose((P @ L @ U).numpy(), want, atol=1e-4)
    factor, pivots, info = tgrad.linalg.lu_factor_ex(z)
    assert (
        info.item() == 0
        and pivots.tolist() == torch.linalg.lu_factor(torch.tensor(want))[1].tolist()
    )
    assert tgrad.linalg.lu_factor_ex(z * 0).info.item() == 1 and factor.shape == (4, 4)


def test_forms():
    z = tgrad.tensor(drawn(5, 3))
    assert [t.shape for t in tgrad.linalg.qr(z, "complete")] == [(5, 5), (5, 3)]
    assert [t.shape for t in tgrad.linalg.qr(z, "r")] == [(0,), (3, 3)]
    assert [t.shape for t in tgrad.linalg.svd(z)] == [(5, 5), (3,), (3, 3)]
    assert {"eig", "eigvals", "svd"} <= set(dir(tgrad.linalg))
    with pytest.raises(UnsupportedError, match="qr: mode='raw'"):
        tgrad.linalg.qr(z, "raw")
    with pytest.raises(UnsupportedError, match="eigh: UPLO='X'"):
        tgrad.linalg.eigh(z[:3], "X")
    with pytest.raises(ShapeError, match=r"eigh of shape \(5, 3\)"):
        tgrad.linalg.eigh(z)
    with pytest.raises(UnsupportedError, match="lu: pivot=False"):
        tgrad.linalg.lu(z, pivot=False)
    with pytest.raises(DTypeError, match="eig of int64"):
        tgrad.linalg.eig(tgrad.ones(2, 2).long())


def test_second_derivatives():
    found = []
    for library in (tgrad, torch):
        z = library.tensor(drawn(3, 3)).requires_grad_()
        values = library.linalg.eigvals(z)
        (g,) = library.autograd.grad((values * values * values).real.sum(), z, create_graph=True)
        (g * g.conj()).real.sum().backward()
        found.append(z.grad.numpy())
    np.testing.assert_allclose(*found, rtol=1e-7, atol=1e-8)
