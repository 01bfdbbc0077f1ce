"""Averages of models over training, against PyTorch, uncompiled and compiled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal
from tgrad import nn, optim

AVERAGES = {
    "swa": lambda u: {},
    "ema": lambda u: {"avg_fn": u.get_ema_avg_fn(0.8)},
    "ema_lists": lambda u: {"multi_avg_fn": u.get_ema_multi_avg_fn(0.8), "use_buffers": True},
    "swa_lists": lambda u: {"multi_avg_fn": u.get_swa_multi_avg_fn()},
    "own": lambda u: {"avg_fn": lambda held, new, count: held * 0.5 + new * 0.5 + count},
}


def make_net(nn):
    """In float64: norms of five rows and a large rate make much of float32's rounding."""
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


def pair():
    theirs = make_net(torch.nn)
    ours = make_net(nn)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def assert_same_state(ours, theirs, rtol=1e-9):
    have, want = ours.state_dict(), theirs.state_dict()
    assert list(have) == list(want)
    for name, value in want.items():
        np.testing.assert_allclose(have[name].numpy(), value, rtol, rtol / 100, err_msg=name)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", AVERAGES)
def test_averaged_model(name, compiled):
    ours, theirs = pair()
    mean = optim.swa_utils.AveragedModel(ours, **AVERAGES[name](optim.swa_utils))
    utils = torch.optim.swa_utils
    other = utils.AveragedModel(theirs, **AVERAGES[name](utils))
    optimizers = optim.SGD(ours.parameters(), lr=0.1), torch.optim.SGD(theirs.parameters(), lr=0.1)

    def step(library, net, optimizer, average, x):
        optimizer.zero_grad()
        (net(x) ** 2).sum().backward()
        optimizer.step()
        average.update_parameters(net)

    def ours_step(x):
        step(tgrad, ours, optimizers[0], mean, x)

    run = tgrad.compile(ours_step) if compiled else ours_step
    for number in range(4):
        x = normal(number, 5, 3).astype(np.float64)
        run(tgrad.tensor(x))
        step(torch, theirs, optimizers[1], other, torch.tensor(x))
        # PyTorch divides by the count in float32 where it averages lists.
        assert_same_state(mean, other, 1e-6 if name == "swa_lists" else 1e-9)
    assert mean.n_averaged.item() == 4
    twin = optim.swa_utils.AveragedModel(ours)
    twin.load_state_dict(mean.state_dict())
    x = tgrad.tensor(normal(9, 5, 3)).double()
    np.testing.assert_array_equal(twin.eval()(x).numpy(), mean.eval()(x).numpy())


def test_update_bn():
    ours, theirs = pair()
    batches = [normal(i, 6, 3).astype(np.float64) for i in range(3)]
    optim.swa_utils.update_bn([(tgrad.tensor(b), None) for b in batches], ours.eval())
    torch.optim.swa_utils.update_bn([(torch.tensor(b), None) for b in batches], theirs.eval())
    assert_same_state(ours, theirs)
    assert not ours.training and ours[1].momentum == 0.1


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step")
@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 4])
def test_swa_rate(strategy, epochs):
    schedules = []
    for library, o in ((tgrad, optim), (torch, torch.optim)):
        optimizer = o.SGD([library.ones(1).requires_grad_()], lr=1.0)
        schedules.append(o.swa_utils.SWALR(optimizer, 0.1, epochs, strategy))
    for _ in range(7):
        assert schedules[0].get_last_lr() == pytest.approx(schedules[1].get_last_lr())
        for schedule in schedules:
            schedule.step()
    twin = optim.swa_utils.SWALR(schedules[0].optimizer, 0.1, epochs, strategy)
    twin.load_state_dict(schedules[0].state_dict())
    assert twin.get_last_lr() == schedules[0].get_last_lr()


def test_averages_refuse_what_they_cannot_do():
    u = optim.swa_utils
    optimizer = optim.SGD([tgrad.ones(1).requires_grad_()], lr=1.0)
    for make, what in (
        (lambda: u.get_ema_avg_fn(1.5), "decay=1.5. Use 0 to 1."),
        (lambda: u.SWALR(optimizer, 0.1, anneal_strategy="x"), "anneal_strategy='x'."),
        (
            lambda: u.AveragedModel(
                nn.Linear(1, 1), avg_fn=u.get_swa_avg_fn(), multi_avg_fn=u.get_swa_multi_avg_fn()
            ),
            "AveragedModel: avg_fn and multi_avg_fn.",
        ),
    ):
        with pytest.raises(tgrad.errors.TgradError) as caught:
            make()
        assert what in " ".join(str(caught.value).split())
