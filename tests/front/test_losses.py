"""Losses against PyTorch: every option, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import check, classes, normal, share
from tgrad.errors import OutOfRangeError, ShapeError

REDUCTIONS = ("mean", "sum", "none")
LOGITS, TARGET = normal(1, 6, 5) * 3, classes(2, 5, 6)
WEIGHT = share(3, 5)
IGNORING = np.where(np.arange(6) % 3 == 1, -100, TARGET)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignoring", [False, True])
def test_cross_entropy(reduction, smoothing, weighted, ignoring, device):
    def function(p, x, y, w):
        w = w.detach() if weighted else None
        return p.F.cross_entropy(x, y, w, reduction=reduction, label_smoothing=smoothing)

    check(function, [LOGITS, IGNORING if ignoring else TARGET, WEIGHT], device)


def test_cross_entropy_shapes(device):
    check(
        lambda p, x, y: p.F.cross_entropy(x, y, reduction="none"),
        [normal(1, 2, 5, 3, 4), classes(2, 5, 2, 3, 4)],
        device,
    )
    check(lambda p, x, y: p.F.cross_entropy(x, y), [normal(1, 5), classes(2, 5)], device)
    check(
        lambda p, x, y: p.F.cross_entropy(x, y, ignore_index=2),
        [normal(1, 2, 5, 3), classes(2, 5, 2, 3)],
        device,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_probabilities(reduction, smoothing, device):
    targets = np.exp(normal(4, 6, 5))
    targets = (targets / targets.sum(1, keepdims=True)).astype(np.float32)

    def function(p, x, y, w):
        return p.F.cross_entropy(
            x, y.detach(), w.detach(), reduction=reduction, label_smoothing=smoothing
        )

    check(function, [LOGITS, targets, WEIGHT], device)


def test_cross_entropy_all_ignored(device):
    """The mean of nothing is NaN, as in PyTorch."""
    check(lambda p, x, y: p.F.cross_entropy(x, y), [LOGITS, np.full(6, -100)], device, grad=False)


def test_cross_entropy_far_out(device):
    x = np.float32([[1e4, 0, -1e4], [0, -np.inf, 0], [200, 200, 200]])
    check(lambda p, x, y: p.F.cross_entropy(x, y, reduction="none"), [x, np.array([1, 0, 2])],
          device)  # fmt: skip


def test_cross_entropy_second_order(device):
    def function(p, x, y):
        loss = p.F.cross_entropy(x, y)
        (g,) = p.t.autograd.grad(loss, x, create_graph=True)
        return (g * g).sum()

    check(function, [LOGITS, TARGET], device)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_cross_entropy_half(dtype):
    check(lambda p, x, y: p.F.cross_entropy(x, y), [LOGITS, TARGET], "numpy", dtype)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nll_loss(reduction, device):
    def function(p, x, y, w):
        return p.F.nll_loss(p.F.log_softmax(x, 1), y, w.detach(), reduction=reduction)

    check(function, [LOGITS, IGNORING, WEIGHT], device)


VALUE_LOSSES = {
    "mse_loss": {},
    "l1_loss": {},
    "smooth_l1_loss": {"beta": 0.7},
    "huber_loss": {"delta": 0.7},
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", VALUE_LOSSES)
def test_value_loss(name, reduction, device):
    check(
        lambda p, x, y: getattr(p.F, name)(x, y, reduction=reduction, **VALUE_LOSSES[name]),
        [normal(1, 4, 5), normal(2, 4, 5)],
        device,
    )


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_losses_with_a_weight_for_each_element(name, reduction, device):
    def function(p, x, y, w):
        return getattr(p.F, name)(x, y, reduction=reduction, weight=w)

    check(function, [normal(1, 4, 5), normal(2, 4, 5), share(3, 4, 5)], device)
    check(function, [normal(1, 4, 5), normal(2, 5), share(3, 4, 5)], device)
    x = tgrad.zeros(4, 5)
    with pytest.raises(ShapeError, match="weights of shape"):
        getattr(tgrad.nn.functional, name)(x, x, weight=tgrad.ones(5))


def test_mse_loss_broadcasts(device):
    check(lambda p, x, y: p.F.mse_loss(x, y), [normal(1, 4, 5), normal(2, 5)], device)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy(reduction, device):
    def plain(p, x, y, w):
        return p.F.binary_cross_entropy(x, y, w.detach(), reduction=reduction)

    def logits(p, x, y, w):
        return p.F.binary_cross_entropy_with_logits(
            x, y, w.detach(), reduction=reduction, pos_weight=w.detach() + 1
        )

    check(plain, [share(1, 4, 5), share(2, 4, 5), share(3, 5)], device)
    check(logits, [normal(1, 4, 5) * 3, share(2, 4, 5), share(3, 5)], device)


def test_binary_cross_entropy_at_the_ends(device):
    x, y = np.float32([0, 0, 1, 1]), np.float32([0, 1, 0, 1])
    check(lambda p, x, y: p.F.binary_cross_entropy(x, y.detach()), [x, y], device)
    far = np.float32([-200, -90, 90, 200])
    check(lambda p, x, y: p.F.binary_cross_entropy_with_logits(x, y.detach()), [far, y], device)


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("reduction", (*REDUCTIONS, "batchmean"))
def test_kl_div(reduction, log_target, device):
    def function(p, x, y):
        return p.F.kl_div(x, y, reduction=reduction, log_target=log_target)

    target = np.log(share(2, 4, 5)) if log_target else share(2, 4, 5) * (normal(3, 4, 5) > -1)
    check(function, [normal(1, 4, 5), target.astype(np.float32)], device, grad=log_target)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": True, "label_smoothing": 0.2, "reduction": "sum"},
        {"out_features": (2,), "bias": True},
        {"ignore_index": 1, "weight": np.linspace(0.5, 2, 6, dtype=np.float32)},
        {"reduction": "none", "options": None},
    ],
    ids=str,
)
def test_linear_cross_entropy_as_a_module(options):
    rng = np.random.default_rng()
    x = rng.standard_normal((5, 4)).astype(np.float32)
    target = rng.integers(0, 6, (5, *options.get("out_features", ())))
    theirs = torch.nn.LinearCrossEntropyLoss(
        4, 6, **{k: torch.tensor(v) if k == "weight" else v for k, v in options.items()}
    )
    ours = tgrad.nn.LinearCrossEntropyLoss(
        4, 6, **{k: tgrad.tensor(v) if k == "weight" else v for k, v in options.items()}
    )
    state = {name: tgrad.tensor(value.numpy()) for name, value in theirs.state_dict().items()}
    ours.load_state_dict(state)
    have, want = (
        ours(tgrad.tensor(x), tgrad.tensor(target)),
        theirs(torch.tensor(x), torch.tensor(target)),
    )
    np.testing.assert_allclose(have.tolist(), want.tolist(), rtol=1e-5)
    have.sum().backward()
    want.sum().backward()
    np.testing.assert_allclose(
        ours.linear.weight.grad.numpy(), theirs.linear.weight.grad, rtol=1e-4, atol=1e-6
    )


def test_linear_cross_entropy_that_is_refused():
    with pytest.raises(ShapeError, match="for 6 classes"):
        tgrad.nn.LinearCrossEntropyLoss(4, 6, weight=tgrad.ones(5))
    with pytest.raises(OutOfRangeError, match="label_smoothing=2"):
        tgrad.nn.LinearCrossEntropyLoss(4, 6, label_smoothing=2)
