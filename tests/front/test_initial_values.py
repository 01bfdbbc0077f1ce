"""nn.init and nn.utils: what the values are, against PyTorch where they are not random."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal
from tgrad import nn
from tgrad.errors import ShapeError


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 2, 3), (3, 3)])
def test_orthogonal(shape):
    w = nn.init.orthogonal_(tgrad.empty(*shape), 2.0).numpy().reshape(shape[0], -1)
    rows, columns = w.shape
    product = w @ w.T if rows <= columns else w.T @ w
    np.testing.assert_allclose(product, 4 * np.eye(min(w.shape)), atol=1e-5)
    other = nn.init.orthogonal_(tgrad.empty(*shape), generator=tgrad.Generator().manual_seed(3))
    assert (np.abs(other.numpy().reshape(w.shape) * 2 - w) > 1e-3).any()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("shape", [(4, 2, 3), (2, 5, 4, 3), (4, 2, 1, 2, 3)])
def test_dirac(shape, groups):
    have = nn.init.dirac_(tgrad.ones(*shape), groups)
    np.testing.assert_array_equal(have.numpy(), torch.nn.init.dirac_(torch.ones(shape), groups))


def test_sparse():
    w = nn.init.sparse_(tgrad.ones(10, 40), 0.25, 0.5).numpy()
    assert ((w == 0).sum(0) == 3).all()
    assert 0.35 < w[w != 0].std() < 0.65
    assert len({tuple(column) for column in (w == 0).T}) > 10


def test_vectors_and_norms():
    ours, theirs = nn.Linear(3, 4), torch.nn.Linear(3, 4)
    vector = normal(1, 16)
    nn.utils.vector_to_parameters(tgrad.tensor(vector), ours.parameters())
    torch.nn.utils.vector_to_parameters(torch.tensor(vector), theirs.parameters())
    back = nn.utils.parameters_to_vector(ours.parameters())
    np.testing.assert_array_equal(back.detach().numpy(), vector)
    with pytest.raises(ShapeError, match="16 elements"):
        nn.utils.vector_to_parameters(tgrad.ones(3), ours.parameters())
    x = normal(2, 5, 3)
    (ours(tgrad.tensor(x)) ** 2).sum().backward()
    (theirs(torch.tensor(x)) ** 2).sum().backward()
    for kind in (2.0, 1.0, 3.5, float("inf")):
        have = nn.utils.get_total_norm([p.grad for p in ours.parameters()], kind)
        want = torch.nn.utils.get_total_norm([p.grad for p in theirs.parameters()], kind)
        assert have.item() == pytest.approx(want.item(), rel=1e-5)
    nn.utils.clip_grads_with_norm_(ours.parameters(), 0.5, have)
    torch.nn.utils.clip_grads_with_norm_(theirs.parameters(), 0.5, want)
    for p, q in zip(ours.parameters(), theirs.parameters()):
        np.testing.assert_allclose(p.grad.numpy(), q.grad, rtol=1e-5)


def test_shapes_that_do_not_fit():
    for make in (
        lambda: nn.init.orthogonal_(tgrad.ones(3)),
        lambda: nn.init.dirac_(tgrad.ones(3, 3)),
        lambda: nn.init.sparse_(tgrad.ones(3), 0.5),
    ):
        with pytest.raises(ShapeError):
            make()


def test_complex_layers():
    for layer in (
        nn.Linear(300, 50, dtype=tgrad.complex64),
        nn.Conv1d(100, 9, 3, dtype=tgrad.complex64),
    ):
        values, bound = layer.weight.detach().numpy(), 300**-0.5
        for part in (values.real, values.imag, layer.bias.detach().numpy().imag):
            assert -bound <= part.min() < 0 < part.max() <= bound
        assert values.real.std() == pytest.approx(bound / 3**0.5, rel=0.1)
    w = nn.init.normal_(tgrad.empty(100, 100, dtype=tgrad.complex64), 1.0, 2.0).numpy()
    assert abs(w.mean() - (1 + 1j)) < 0.1 and w.imag.std() == pytest.approx(2**0.5, rel=0.05)
    nn.init.ones_(layer.bias)
    assert layer.bias.tolist() == [1 + 0j] * 9
