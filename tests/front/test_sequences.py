"""The loss of sequences with unknown alignment, and pools at random places, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tests.front.checking import normal
from tgrad import nn
from tgrad.errors import ShapeError, TgradError

CASES = {
    "batch": ((7, 3, 5), [[1, 2, 3], [2, 2, 4], [4, 0, 0]], [7, 6, 5], [3, 3, 1], {}),
    "other blank": ((6, 2, 4), [[1, 2, 0], [0, 0, 1]], [6, 5], [2, 3], {"blank": 3}),
    "one after the other": ((6, 3, 4), [1, 2, 3, 3, 1], [6, 4, 5], [2, 3, 0], {"reduction": "sum"}),
    "one sequence": ((5, 4), [1, 3], [5], [2], {"reduction": "none"}),
    "impossible": (
        (3, 2, 4), [[1, 1, 2], [1, 2, 3]], [3, 3], [3, 3],
        {"zero_infinity": True, "reduction": "none"},
    ),
    "infinite": ((3, 2, 4), [[1, 1, 2], [1, 2, 3]], [3, 3], [3, 3], {"reduction": "none"}),
    "one step": ((1, 2, 3), [[1], [2]], [1, 1], [1, 0], {}),
    "no targets": ((4, 2, 3), [[], []], [4, 3], [0, 0], {"reduction": "none"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_ctc_loss(name):
    shape, targets, times, sizes, settings = CASES[name]
    values = normal(1, *shape)
    x = tgrad.tensor(values, device="numpy", requires_grad=True)
    v = torch.tensor(values, requires_grad=True)
    rows = tgrad.tensor(targets, device="numpy").long()
    have = F.ctc_loss(x.log_softmax(-1), rows, times, tgrad.tensor(sizes), **settings)
    want = torch.nn.functional.ctc_loss(
        v.log_softmax(-1), torch.tensor(targets).long(), torch.tensor(times), torch.tensor(sizes),
        **settings,
    )  # fmt: skip
    np.testing.assert_allclose(have.numpy(), want.detach().numpy().reshape(have.shape), rtol=1e-5)
    if name == "infinite":
        return
    weight = normal(2, *have.shape)
    (have * tgrad.tensor(weight, device="numpy")).sum().backward()
    (want * torch.tensor(weight).reshape(want.shape)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), v.grad, rtol=1e-4, atol=1e-6)


def test_ctc_loss_compiled():
    model = nn.Linear(3, 4)
    loss = nn.CTCLoss()

    @tgrad.compile
    def step(x, targets, times, sizes):
        found = loss(model(x).log_softmax(-1), targets, times, sizes)
        return found, tgrad.autograd.grad(found, [model.weight])[0]

    twin = torch.nn.Linear(3, 4)
    twin.load_state_dict({k: torch.tensor(v.numpy()) for k, v in model.state_dict().items()})
    for seed, sizes in ((1, [2, 1]), (2, [1, 2])):
        x, targets = normal(seed, 4, 2, 3), np.array([[1, 3], [2, 2]])
        given = [targets, np.array([4, 3]), np.array(sizes)]
        found, grad = step(tgrad.tensor(x), *map(tgrad.tensor, given))
        twin.zero_grad()
        want = torch.nn.CTCLoss()(twin(torch.tensor(x)).log_softmax(-1), *map(torch.tensor, given))
        want.backward()
        assert found.item() == pytest.approx(want.item(), rel=1e-5)
        np.testing.assert_allclose(grad.numpy(), twin.weight.grad, rtol=1e-4, atol=1e-6)
    assert step.traces == 1


POOLS = [
    ("fractional_max_pool2d", (2, 3, 7, 9), 2, {"output_size": (4, 5)}),
    ("fractional_max_pool2d", (3, 8, 8), (3, 2), {"output_ratio": (0.5, 0.7)}),
    ("fractional_max_pool2d", (1, 1, 5, 5), 5, {"output_size": 1}),
    ("fractional_max_pool3d", (2, 2, 6, 7, 5), 2, {"output_size": (3, 4, 2)}),
    ("fractional_max_pool3d", (1, 6, 6, 6), (2, 3, 2), {"output_ratio": (0.5, 0.5, 0.6)}),
]


@pytest.mark.parametrize(("name", "shape", "kernel", "settings"), POOLS)
def test_fractional_pools(name, shape, kernel, settings):
    rank = int(name[-2])
    values = normal(1, *shape)
    batch = shape[: len(shape) - rank]
    samples = np.random.default_rng(2).random(
        (*((1,) * (2 - len(batch)) + batch), rank), np.float32
    )
    x = tgrad.tensor(values, device="numpy", requires_grad=True)
    v = torch.tensor(values, requires_grad=True)
    have, places = getattr(F, name)(
        x,
        kernel,
        **settings,
        return_indices=True,
        _random_samples=tgrad.tensor(samples, device="numpy"),
    )
    want, others = getattr(torch.nn.functional, name)(
        v, kernel, **settings, return_indices=True, _random_samples=torch.tensor(samples)
    )
    np.testing.assert_array_equal(have.numpy(), want.detach())
    np.testing.assert_array_equal(places.numpy(), others)
    weight = normal(3, *want.shape)
    (have * tgrad.tensor(weight, device="numpy")).sum().backward()
    (want * torch.tensor(weight)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), v.grad, rtol=1e-6)


def test_fractional_pool_draws():
    pool = nn.FractionalMaxPool2d(2, output_ratio=0.5)
    x = tgrad.tensor(normal(1, 1, 64, 9, 9))
    first, second = (pool(x).numpy() for _ in range(2))
    assert first.shape == (1, 64, 4, 4) and (first != second).any()


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (
            lambda: F.ctc_loss(tgrad.ones(2, 1, 3), tgrad.ones(1, 1).long(), [2], [1], blank=3),
            "blank=3 of 3 classes.",
        ),
        (
            lambda: F.ctc_loss(tgrad.ones(2, 2, 3), tgrad.ones(1, 1).long(), [2, 2], [1, 1]),
            "targets of shape (1, 1) for 2 sequences.",
        ),
        (
            lambda: F.fractional_max_pool2d(tgrad.ones(1, 1, 4, 4), 2),
            "fractional_max_pool2d: output_size or output_ratio.",
        ),
        (
            lambda: F.fractional_max_pool2d(tgrad.ones(1, 1, 4, 4), 3, output_size=3),
            "(3, 3) windows of (3, 3) in (4, 4).",
        ),
    ],
)
def test_mistakes(make, what):
    with pytest.raises(TgradError) as caught:
        make()
    assert what in " ".join(str(caught.value).split())


@pytest.mark.parametrize("size, channels", [(5, 7), (3, 4), (2, 5), (5, 2)])
def test_cross_map_norms(size, channels):
    found = []
    for library in (tgrad, torch):
        layer = library.nn.CrossMapLRN2d(size, alpha=0.3, beta=0.6, k=1.5)
        x = library.tensor(normal(0, 2, channels, 3, 2)).requires_grad_()
        y = layer(x)
        (y * library.tensor(normal(1, 2, channels, 3, 2))).sum().backward()
        found.append((y.detach().numpy(), x.grad.numpy()))
    for have, want in zip(*found):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)
    with pytest.raises(ShapeError, match="CrossMapLRN2d of shape"):
        nn.CrossMapLRN2d(3)(tgrad.ones(2, 3))
