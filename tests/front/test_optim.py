"""Optimizers and schedules against PyTorch, step by step; one plan a step, no plan twice."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tests.front.checking import classes, normal
from tgrad import nn, optim
from tgrad.runtime.plan import record_plans

OPTIMIZERS = {
    "SGD": lambda o, p: o.SGD(p, lr=0.1),
    "SGD_momentum": lambda o, p: o.SGD(p, lr=0.05, momentum=0.9),
    "SGD_dampening": lambda o, p: o.SGD(p, lr=0.05, momentum=0.8, dampening=0.3, weight_decay=0.1),
    "SGD_nesterov": lambda o, p: o.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "SGD_maximize": lambda o, p: o.SGD(p, lr=0.01, momentum=0.5, maximize=True),
    "Adam": lambda o, p: o.Adam(p, lr=0.01),
    "Adam_settings": lambda o, p: o.Adam(p, 0.01, (0.8, 0.95), 1e-6, weight_decay=0.1),
    "Adam_amsgrad": lambda o, p: o.Adam(p, lr=0.02, amsgrad=True),
    "Adam_no_first": lambda o, p: o.Adam(p, lr=0.01, betas=(0.0, 0.9)),
    "Adam_maximize": lambda o, p: o.Adam(p, lr=0.01, maximize=True),
    "AdamW": lambda o, p: o.AdamW(p, lr=0.01),
    "RMSprop": lambda o, p: o.RMSprop(p, lr=0.01),
    "RMSprop_settings": lambda o, p: o.RMSprop(p, 0.01, 0.9, 1e-6, 0.1, 0.8, True),
    "Adagrad": lambda o, p: o.Adagrad(p, lr=0.05),
    "Adagrad_settings": lambda o, p: o.Adagrad(p, 0.05, 0.1, 0.2, 0.3, maximize=True),
    "Adadelta": lambda o, p: o.Adadelta(p),
    "Adadelta_settings": lambda o, p: o.Adadelta(p, 0.5, 0.8, 1e-5, weight_decay=0.1),
    "Adamax": lambda o, p: o.Adamax(p, lr=0.02),
    "Adamax_settings": lambda o, p: o.Adamax(p, 0.02, (0.8, 0.95), 1e-6, weight_decay=0.1),
    "RAdam": lambda o, p: o.RAdam(p, lr=0.05),
    "RAdam_settings": lambda o, p: o.RAdam(p, 0.05, (0.8, 0.9), weight_decay=0.1),
    "RAdam_decoupled": lambda o, p: o.RAdam(p, 0.05, (0.8, 0.9), 1e-6, 0.1, True),
    "NAdam": lambda o, p: o.NAdam(p, lr=0.02),
    "NAdam_settings": lambda o, p: o.NAdam(p, 0.02, (0.8, 0.95), 1e-6, 0.1, 0.02, True),
    "ASGD": lambda o, p: o.ASGD(p, lr=0.1),
    "ASGD_settings": lambda o, p: o.ASGD(p, 0.1, 0.05, 0.6, t0=4, weight_decay=0.1),
    "Rprop": lambda o, p: o.Rprop(p, lr=0.02),
    "Rprop_settings": lambda o, p: o.Rprop(p, 0.03, (0.3, 1.4), (0.01, 0.05), maximize=True),
    "Adafactor": lambda o, p: o.Adafactor(p, lr=0.1),
    "Adafactor_settings": lambda o, p: o.Adafactor(p, 0.3, -0.5, (1e-3, 0.2), 1.5, 0.1),
    "AdamW_settings": lambda o, p: o.AdamW(p, lr=0.01, weight_decay=0.3, amsgrad=True),
}


def make_net(nn):
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def make_pair(device, make_optimizer):
    """A net of tgrad and PyTorch's with the same weights, and their optimizers."""
    theirs = make_net(torch.nn)
    with torch.no_grad():
        for i, p in enumerate(theirs.parameters()):
            p.copy_(torch.tensor(normal(20 + i, *p.shape)))
    ours = make_net(nn).to(device)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs, make_optimizer(optim, ours.parameters()), make_optimizer(
        torch.optim, theirs.parameters()
    )  # fmt: skip


def train_step(library, functional, net, optimizer, step, **where):
    x, y = normal(100 + step, 8, 6), classes(200 + step, 3, 8)
    loss = functional.cross_entropy(net(library.tensor(x, **where)), library.tensor(y, **where))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def ours_step(net, optimizer, step, device):
    return train_step(tgrad, F, net, optimizer, step, device=device)


def theirs_step(net, optimizer, step):
    return train_step(torch, torch.nn.functional, net, optimizer, step)


def assert_same_weights(ours, theirs, tolerance=2e-5):
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
        np.testing.assert_allclose(
            p.numpy(), q.detach(), rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_steps(name, device):
    ours, theirs, mine, other = make_pair(device, OPTIMIZERS[name])
    for step in range(10):
        with record_plans() as plans:
            loss = ours_step(ours, mine, step, device)
        assert loss == pytest.approx(theirs_step(theirs, other, step), abs=1e-5)
        assert_same_weights(ours, theirs)
        if step:
            assert not plans, f"step {step} compiled a plan"
    state, wanted = mine.state_dict(), other.state_dict()
    assert set(state["state"]) == set(wanted["state"])
    for number, kept in wanted["state"].items():
        for key, value in kept.items():
            if value is not None:
                np.testing.assert_allclose(
                    state["state"][number][key].numpy(), value, rtol=1e-4, atol=1e-6, err_msg=key
                )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_made_again_of_templates(name, monkeypatch):
    """Bit by bit what `update` makes when it is called for each parameter."""
    kind, calls, trained = OPTIMIZERS[name](optim, [tgrad.ones(1, requires_grad=True)]), [], []
    update = type(kind).update

    def counted(self, u, group):
        calls.append(u.param.shape)
        return update(self, u, group)

    monkeypatch.setattr(type(kind), "update", counted)
    for repeats in (True, False):
        monkeypatch.setattr(type(kind), "repeats", repeats)
        net, _, optimizer, _ = make_pair("cpu", OPTIMIZERS[name])
        for step in range(5):
            optimizer.param_groups[0]["lr"] *= 0.9
            before = len(calls)
            train_step(tgrad, F, net, optimizer, step)
        assert len(calls) - before == (0 if repeats and name != "SGD_dampening" else 4)
        trained.append([p.numpy() for p in net.parameters()])
    for one, other in zip(*trained):
        np.testing.assert_array_equal(one, other)


def test_an_update_of_a_program_may_depend_on_anything():
    class Slower(optim.SGD):
        turn = 0

        def update(self, u, group):
            self.turn += 1
            return u.value - u.grad / self.turn

    w = tgrad.ones(2, requires_grad=True)
    optimizer = Slower([w], lr=1.0)
    for _ in range(4):
        w.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    np.testing.assert_allclose(w.numpy(), 1 - (1 + 1 / 2 + 1 / 3 + 1 / 4), rtol=1e-6)


@pytest.mark.parametrize("name", ["NAdam", "ASGD_settings", "Rprop", "Adafactor"])
def test_compiled_steps_and_a_rate_that_moves(name):
    """The state is never stale: three rates, one trace, the weights of eager steps."""
    (ours, _, mine, _), (twin, _, other, _) = (make_pair("cpu", OPTIMIZERS[name]) for _ in "ab")

    @tgrad.compile
    def step(x, y):
        loss = F.cross_entropy(ours(x), y)
        mine.zero_grad()
        loss.backward()
        mine.step()
        return loss

    for number in range(6):
        for optimizer in (mine, other):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + number // 2)
        x, y = normal(100 + number, 8, 6), classes(200 + number, 3, 8)
        loss = step(tgrad.tensor(x), tgrad.tensor(y)).item()
        assert loss == pytest.approx(ours_step(twin, other, number, "cpu"), abs=1e-6)
    assert step.traces == 1
    for p, q in zip(ours.parameters(), twin.parameters()):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 4), (3, 8)])
@pytest.mark.parametrize(
    "settings",
    [{}, {"nesterov": False, "weight_decay": 0.0}, {"adjust_lr_fn": "match_rms_adamw"}],
    ids=lambda s: "-".join(s),
)
def test_muon(shape, settings):
    """As near to the float64 iteration as PyTorch's steps are, since both round to bfloat16."""
    weights = normal(1, *shape)
    w = tgrad.tensor(weights, requires_grad=True)
    v = torch.tensor(weights, requires_grad=True)
    mine, other = optim.Muon([w], lr=0.1, **settings), torch.optim.Muon([v], lr=0.1, **settings)
    right, buffer = weights.astype(np.float64), np.zeros(shape)
    for step in range(4):
        grad = normal(step, *shape)
        for library, p, optimizer in ((tgrad, w, mine), (torch, v, other)):
            optimizer.zero_grad()
            (p * library.tensor(grad)).sum().backward()
            optimizer.step()
        buffer = 0.95 * buffer + 0.05 * grad
        d = 0.05 * grad + 0.95 * buffer if settings.get("nesterov", True) else buffer
        d = d / np.linalg.norm(d)
        for _ in range(5):
            square = d @ d.T
            d = 3.4445 * d + (-4.775 * square + 2.0315 * square @ square) @ d
        ratio = max(1.0, shape[0] / shape[1]) ** 0.5
        if "adjust_lr_fn" in settings:
            ratio = 0.2 * max(shape) ** 0.5
        right = right * (1 - 0.1 * settings.get("weight_decay", 0.1)) - 0.1 * ratio * d
    errors = [np.abs(x - right).max() for x in (w.numpy(), v.detach().numpy())]
    assert errors[0] <= 1.5 * errors[1] + 1e-3
    buffers = [o.state_dict()["state"][0]["momentum_buffer"] for o in (mine, other)]
    np.testing.assert_allclose(buffers[0].numpy(), buffers[1], rtol=1e-5, atol=1e-6)


def rosenbrock(library, p, q):
    return ((1 - p) ** 2).sum() + 10 * ((q - p * p) ** 2).sum()


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": 0.1, "max_iter": 5},
        {"line_search_fn": "strong_wolfe", "max_iter": 6, "history_size": 3},
        {"line_search_fn": "strong_wolfe", "max_iter": 30, "max_eval": 9},
    ],
    ids=["steps", "wolfe", "evaluations"],
)
def test_lbfgs(settings):
    """PyTorch's iterates, in float64; and the state goes on, from tgrad's or from PyTorch's."""
    start = np.array([-1.2, 0.4, 1.7]), np.array([1.0, -0.5, 0.3])
    runs = []
    for library, o in ((tgrad, optim), (torch, torch.optim)):
        p, q = (library.tensor(x).requires_grad_() for x in start)
        optimizer = o.LBFGS([p, q], **settings)

        def closure(library=library, optimizer=optimizer, p=p, q=q):
            optimizer.zero_grad()
            loss = rosenbrock(library, p, q)
            loss.backward()
            return loss

        runs.append((p, q, optimizer, closure))
    states = []
    for step in range(4):
        losses = [optimizer.step(closure).item() for _, _, optimizer, closure in runs]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6), step
        for have, want in zip(runs[0][:2], runs[1][:2]):
            np.testing.assert_allclose(have.numpy(), want.detach(), rtol=1e-6)
        states = [optimizer.state_dict() for _, _, optimizer, _ in runs]
        runs[0][2].load_state_dict(states[step % 2])
    ours, theirs = (state["state"][0] for state in states)
    for name in ("func_evals", "n_iter"):
        assert ours[name] == theirs[name]
    for have, want in zip([*ours["ro"], ours["H_diag"]], [*theirs["ro"], theirs["H_diag"]]):
        assert have.dtype is tgrad.float64 and have.item() == pytest.approx(want.item(), rel=1e-5)
    np.testing.assert_allclose(np.stack(ours["old_dirs"]), np.stack(theirs["old_dirs"]), rtol=1e-6)


def test_lbfgs_reaches_a_minimum_in_float32(device):
    p = tgrad.tensor([-1.2, 0.4], device=device, requires_grad=True)
    q = tgrad.tensor([1.0, -0.5], device=device, requires_grad=True)
    optimizer = optim.LBFGS([p, q], line_search_fn="strong_wolfe", history_size=4, max_iter=40)

    def closure():
        optimizer.zero_grad()
        loss = rosenbrock(tgrad, p, q)
        loss.backward()
        return loss

    optimizer.step(closure)
    for x in (p, q):
        np.testing.assert_allclose(x.numpy(), 1.0, atol=1e-3)


def test_optimizers_refuse_what_they_cannot_do():
    w = tgrad.ones(3).requires_grad_()
    for make, what in (
        (lambda: optim.Muon([w]), "Muon of a parameter of shape (3,). Give matrices"),
        (lambda: optim.LBFGS([w]).step(), "LBFGS.step without a closure."),
        (lambda: optim.LBFGS([w], line_search_fn="x"), "line_search_fn='x'."),
        (lambda: optim.Rprop([w], etas=(1.5, 2.0)), "etas=(1.5, 2.0)."),
        (lambda: optim.Adafactor([w], d=0.5), "beta2_decay=-0.8, d=0.5."),
        (lambda: optim.NAdam([w], differentiable=True), "differentiable=True is not supported."),
    ):
        with pytest.raises(tgrad.errors.TgradError) as caught:
            make()
        assert what in " ".join(str(caught.value).split())
    with pytest.raises(AttributeError, match="no SparseAdam: gradients are dense; use Adam"):
        optim.SparseAdam  # noqa: B018
    assert not hasattr(optim, "SparseAdam")


@pytest.mark.parametrize("name", ["SGD_momentum", "AdamW"])
def test_a_step_is_one_plan_and_one_run(name, device):
    ours, _, mine, _ = make_pair(device, OPTIMIZERS[name])
    ours_step(ours, mine, 0, device)
    from tgrad.runtime.device import counters

    before = counters(tgrad.device(device)).plans
    ours_step(ours, mine, 1, device)
    assert counters(tgrad.device(device)).plans == before + 1


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_gradients_can_be_read_after_a_step(name, device):
    ours, theirs, mine, other = make_pair(device, OPTIMIZERS[name])
    ours_step(ours, mine, 0, device)
    theirs_step(theirs, other, 0)
    for p, q in zip(ours.parameters(), theirs.parameters()):
        np.testing.assert_allclose(p.grad.numpy(), q.grad, rtol=1e-4, atol=1e-6)


def test_gradients_accumulate_over_batches(device):
    ours, theirs, mine, other = make_pair(device, OPTIMIZERS["Adam"])
    for round_ in range(3):
        for step in range(2):
            x, y = normal(10 * round_ + step, 8, 6), classes(10 * round_ + step, 3, 8)
            loss = F.cross_entropy(
                ours(tgrad.tensor(x, device=device)), tgrad.tensor(y, device=device)
            )
            loss.backward()
            loss.item()
            torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y)).backward()
        for optimizer in (mine, other):
            optimizer.step()
            optimizer.zero_grad()
        assert_same_weights(ours, theirs)


def test_parameters_without_gradient_keep_their_count(device):
    """A parameter that joins later has its own step counter."""
    a, b = (tgrad.ones(3, device=device).requires_grad_() for _ in range(2))
    c, d = (torch.ones(3, requires_grad=True) for _ in range(2))
    mine, other = optim.Adam([a, b], lr=0.1), torch.optim.Adam([c, d], lr=0.1)
    for step in range(6):
        for optimizer, first, second in ((mine, a, b), (other, c, d)):
            optimizer.zero_grad()
            loss = (first * first).sum()
            if step % 3 == 2:
                loss = loss + (second * second * second).sum()
            loss.backward()
            optimizer.step()
        np.testing.assert_allclose(a.numpy(), c.detach(), rtol=1e-5)
        np.testing.assert_allclose(b.numpy(), d.detach(), rtol=1e-5)
    assert [mine.state[p]["step"].item() for p in (a, b)] == [6.0, 2.0]


def test_groups_have_their_own_settings(device):
    def make(library, net):
        first, second = net[0].parameters(), net[2].parameters()
        groups = [{"params": first}, {"params": second, "lr": 0.2, "weight_decay": 0.1}]
        return library.SGD(groups, lr=0.05, momentum=0.9)

    ours, theirs, _, _ = make_pair(device, OPTIMIZERS["SGD"])
    mine, other = make(optim, ours), make(torch.optim, theirs)
    for step in range(3):
        ours_step(ours, mine, step, device)
        theirs_step(theirs, other, step)
    assert_same_weights(ours, theirs)
    assert mine.state_dict()["param_groups"] == other.state_dict()["param_groups"]


@pytest.mark.parametrize("name", ["SGD_momentum", "Adam_amsgrad", "AdamW"])
def test_state_dict_of_pytorch_continues_here(name, device):
    ours, theirs, mine, other = make_pair(device, OPTIMIZERS[name])
    for step in range(3):
        theirs_step(theirs, other, step)
    ours.load_state_dict(theirs.state_dict())
    mine.load_state_dict(other.state_dict())
    for step in range(3, 6):
        ours_step(ours, mine, step, device)
        theirs_step(theirs, other, step)
    assert_same_weights(ours, theirs)


def test_state_dict_round_trip_through_a_file(tmp_path, device):
    ours, _, mine, _ = make_pair(device, OPTIMIZERS["Adam"])
    for step in range(2):
        ours_step(ours, mine, step, device)
    tgrad.save({"net": ours.state_dict(), "optimizer": mine.state_dict()}, tmp_path / "x")
    twin, _, other, _ = make_pair(device, OPTIMIZERS["Adam"])
    saved = tgrad.load(tmp_path / "x", map_location=device)
    twin.load_state_dict(saved["net"])
    other.load_state_dict(saved["optimizer"])
    for step in range(2, 4):
        assert ours_step(ours, mine, step, device) == ours_step(twin, other, step, device)


def test_closure_and_zero_grad(device):
    w = tgrad.ones(2, device=device).requires_grad_()
    optimizer = optim.SGD([w], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert w.tolist() == [0.5, 0.5]
    (w * float("inf")).sum().backward()
    grad = w.grad
    optimizer.zero_grad(set_to_none=False)
    assert w.grad is grad and grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert w.grad is None
    optimizer.step()
    assert w.tolist() == [0.5, 0.5]


def test_clip_grad_norm(device):
    ours, theirs, mine, other = make_pair(device, OPTIMIZERS["SGD"])
    for step in range(3):
        x, y = normal(step, 8, 6), classes(step, 3, 8)
        F.cross_entropy(
            ours(tgrad.tensor(x, device=device)), tgrad.tensor(y, device=device)
        ).backward()
        torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y)).backward()
        norm = nn.utils.clip_grad_norm_(ours.parameters(), 0.1)
        wanted = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
        for optimizer in (mine, other):
            optimizer.step()
            optimizer.zero_grad()
        assert norm.item() == pytest.approx(wanted.item(), rel=1e-5)
        assert_same_weights(ours, theirs)


SCHEDULES = {
    "StepLR": lambda s, o: s.StepLR(o, 3, gamma=0.5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [2, 5, 5, 9]),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.9),
    "LambdaLR": lambda s, o: s.LambdaLR(o, lambda step: 1 / (1 + step)),
    "LinearLR": lambda s, o: s.LinearLR(o, total_iters=4),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 7, eta_min=0.01),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, 0.5, total_steps=12),
    "OneCycleLR_three": lambda s, o: s.OneCycleLR(
        o, 0.5, epochs=3, steps_per_epoch=4, three_phase=True, anneal_strategy="linear"
    ),
    "ConstantLR": lambda s, o: s.ConstantLR(o, 0.25, total_iters=3),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, 8, power=2.0),
    "MultiplicativeLR": lambda s, o: s.MultiplicativeLR(o, lambda step: 1 - 0.05 * step),
    "CosineAnnealingLR_twice": lambda s, o: s.CosineAnnealingLR(o, 3),
    "WarmRestarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 2, 2, eta_min=0.01),
    "CyclicLR": lambda s, o: s.CyclicLR(o, 0.01, 0.1, 2, 3),
    "CyclicLR_halves": lambda s, o: s.CyclicLR(o, 0.01, 0.1, 2, mode="triangular2"),
    "CyclicLR_gamma": lambda s, o: s.CyclicLR(
        o, 0.01, 0.1, 3, mode="exp_range", gamma=0.9, cycle_momentum=False
    ),
    "CyclicLR_function": lambda s, o: s.CyclicLR(
        o, 0.01, 0.1, 3, scale_fn=lambda x: 1 / (1 + x), scale_mode="iterations"
    ),
    "SequentialLR": lambda s, o: s.SequentialLR(
        o,
        [s.LinearLR(o, 0.1, total_iters=3), s.CosineAnnealingLR(o, 4), s.ExponentialLR(o, 0.5)],
        [3, 7],
    ),
    "ChainedScheduler": lambda s, o: s.ChainedScheduler(
        [s.ConstantLR(o, 0.5, 2), s.CosineAnnealingLR(o, 6), s.LinearLR(o, total_iters=5)]
    ),
    "Sequential_of_chained": lambda s, o: s.SequentialLR(
        o,
        [s.ChainedScheduler([s.StepLR(o, 2), s.ExponentialLR(o, 0.8)]), s.PolynomialLR(o, 6)],
        [4],
    ),
}


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step")
@pytest.mark.parametrize("name", [n for n in SCHEDULES if "equential" not in n])
def test_the_state_of_a_schedule_is_pytorch_s(name):
    """The names are the same, and either library continues from the other's."""
    schedules = [
        SCHEDULES[name](o.lr_scheduler, o.SGD([library.ones(1).requires_grad_()], 0.5, 0.5))
        for library, o in ((tgrad, optim), (torch, torch.optim))
    ]
    for step in range(10):
        if step == 4:
            ours, theirs = (copy.deepcopy(s.state_dict()) for s in schedules)
            assert ours.keys() == theirs.keys()
            schedules[0].load_state_dict(theirs)
            schedules[1].load_state_dict(ours)
        for s in schedules:
            s.optimizer.step()
            s.step()
        rates = [s.get_last_lr() for s in schedules]
        assert rates[0] == pytest.approx(rates[1], abs=1e-7)


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step")
def test_a_schedule_with_phases_continues_with_those_that_are_loaded():
    schedules = [
        o.lr_scheduler.OneCycleLR(o.SGD([library.ones(1).requires_grad_()], 0.5, 0.5), 1.0, n)
        for library, o, n in ((tgrad, optim, 30), (torch, torch.optim, 12))
    ]
    schedules[0].load_state_dict(copy.deepcopy(schedules[1].state_dict()))
    for step in range(11):
        for s in schedules:
            s.optimizer.step()
            s.step()
        groups = [s.optimizer.param_groups[0] for s in schedules]
        if step:
            assert groups[0]["momentum"] == pytest.approx(groups[1]["momentum"])


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step")
@pytest.mark.parametrize("name", SCHEDULES)
def test_rates(name):
    schedules = []
    for library, o in ((tgrad, optim), (torch, torch.optim)):
        groups = [{"params": [library.ones(1).requires_grad_()], "lr": lr} for lr in (1.0, 0.5)]
        schedules.append(SCHEDULES[name](o.lr_scheduler, o.SGD(groups, lr=1.0, momentum=0.5)))
    ours, theirs = schedules
    for _ in range(12):
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), abs=1e-7)
        momenta = [[g["momentum"] for g in s.optimizer.param_groups] for s in schedules]
        assert momenta[0] == pytest.approx(momenta[1])
        ours.step()
        theirs.step()
    assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), abs=1e-7)
    if "OneCycle" in name:
        with pytest.raises(ValueError, match="step 13 of 12"):
            ours.step()
        with pytest.raises(ValueError):
            theirs.step()


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step")
@pytest.mark.parametrize("optimizer", ["SGD_momentum", "Adam"])
@pytest.mark.parametrize("name", ["StepLR", "OneCycleLR", "CyclicLR", "SequentialLR"])
def test_schedule(name, optimizer, device):
    """The rates, the weights that they give, and no new plan when a rate moves."""
    ours, theirs, mine, other = make_pair(device, OPTIMIZERS[optimizer])
    schedule = SCHEDULES[name](optim.lr_scheduler, mine)
    expected = SCHEDULES[name](torch.optim.lr_scheduler, other)
    for step in range(10):
        assert schedule.get_last_lr() == pytest.approx(expected.get_last_lr())
        with record_plans() as plans:
            ours_step(ours, mine, step, device)
        theirs_step(theirs, other, step)
        assert not (step and plans)
        schedule.step()
        expected.step()
    assert_same_weights(ours, theirs, 1e-3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_state_round_trip(name):
    def make():
        w = tgrad.ones(1, device="numpy").requires_grad_()
        optimizer = optim.SGD([w], lr=1.0, momentum=0.5)
        return optimizer, SCHEDULES[name](optim.lr_scheduler, optimizer)

    (optimizer, schedule), (other, twin) = make(), make()
    for _ in range(5):
        schedule.step()
    other.load_state_dict(optimizer.state_dict())
    twin.load_state_dict(schedule.state_dict())
    for _ in range(4):
        twin.step()
        schedule.step()
        assert twin.get_last_lr() == schedule.get_last_lr()
        assert other.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


@pytest.mark.filterwarnings("ignore:.*epoch parameter", "ignore:.*lr_scheduler.step")
@pytest.mark.parametrize("name", [n for n in SCHEDULES if n[:3] not in ("Seq", "Cha", "OneCycle")])
def test_a_schedule_goes_to_an_epoch(name):
    schedules = []
    for library, o in ((tgrad, optim), (torch, torch.optim)):
        w = library.ones(1).requires_grad_()
        schedules.append(SCHEDULES[name](o.lr_scheduler, o.SGD([w], lr=1.0, momentum=0.5)))
    for epoch in (4, 2, 9):
        for schedule in schedules:
            schedule.step(epoch)
        assert schedules[0].get_last_lr() == pytest.approx(schedules[1].get_last_lr())


def test_warm_restarts_within_an_epoch():
    schedules = []
    for library, o in ((tgrad, optim), (torch, torch.optim)):
        optimizer = o.SGD([library.ones(1).requires_grad_()], lr=1.0)
        schedules.append(o.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3, 2))
    for batch in range(40):
        for schedule in schedules:
            schedule.step(batch / 4)
        assert schedules[0].get_last_lr() == pytest.approx(schedules[1].get_last_lr())


@pytest.mark.parametrize(
    "settings",
    [
        {"patience": 1, "factor": 0.5},
        {"patience": 0, "mode": "max", "cooldown": 1},
        {"patience": 0, "threshold_mode": "abs", "threshold": 0.2, "min_lr": 0.3, "factor": 0.8},
        {"patience": 0, "mode": "max", "threshold_mode": "abs", "threshold": 0.1, "eps": 0.02},
    ],
    ids=lambda s: "-".join(s),
)
def test_reduce_on_plateau(settings):
    rates, metrics = [], np.random.default_rng(3).random(16).tolist()
    for library, o in ((tgrad, optim), (torch, torch.optim)):
        optimizer = o.SGD([library.ones(1).requires_grad_()], lr=1.0)
        schedule = o.lr_scheduler.ReduceLROnPlateau(optimizer, **settings)
        for number, value in enumerate(metrics):
            if number == 8:
                state = schedule.state_dict()
                schedule = o.lr_scheduler.ReduceLROnPlateau(optimizer, **settings)
                schedule.load_state_dict(state)
            schedule.step(library.tensor(value))
            rates.append(schedule.get_last_lr()[0])
    assert rates[:16] == pytest.approx(rates[16:]) and rates[15] < 1.0


def test_a_rate_that_is_a_tensor_stays_that_tensor(device):
    """And a compiled step reads it."""
    rate = tgrad.tensor(0.5, device=device)
    w = tgrad.zeros(1, device=device).requires_grad_()
    optimizer = optim.SGD([w], lr=rate)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    @tgrad.compile
    def step():
        optimizer.zero_grad()
        (-w).sum().backward()
        optimizer.step()

    for _ in range(3):
        step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] is rate and rate.item() == 0.0625
    assert w.item() == 0.875 and step.traces == 1


def test_schedules_refuse_what_they_cannot_do():
    optimizer, other = (optim.SGD([tgrad.ones(1).requires_grad_()], lr=1.0) for _ in range(2))
    s = optim.lr_scheduler
    plateau, line = s.ReduceLROnPlateau(optimizer), s.LinearLR(optimizer)
    for make, what in (
        (lambda: s.ChainedScheduler([line, plateau]), "ChainedScheduler of a ReduceLROnPlateau."),
        (lambda: s.SequentialLR(other, [line], []), "schedules of several optimizers."),
        (lambda: s.SequentialLR(optimizer, [line, line], []), "0 milestones for 2 schedules."),
        (lambda: s.ReduceLROnPlateau(optimizer, factor=1.0), "factor=1.0. Use less than 1."),
        (lambda: s.CosineAnnealingWarmRestarts(optimizer, 0), "T_0=0. Use an integer above 0."),
        (lambda: s.CyclicLR(optimizer, 0.1, 1.0, cycle_momentum=True, mode="x"), "mode='x'."),
        (lambda: s.LambdaLR(optimizer, [abs, abs]), "2 values for 1 parameter groups."),
    ):
        with pytest.raises(tgrad.errors.TgradError) as caught:
            make()
        assert what in " ".join(str(caught.value).split())


def test_half_parameters_are_updated_in_float32(device):
    w = tgrad.ones(4, device=device, dtype=tgrad.float16).requires_grad_()
    optimizer = optim.Adam([w], lr=0.125)
    (w.float() * 1e-4).sum().backward()
    optimizer.step()
    assert w.dtype is tgrad.float16
    assert w.tolist() == pytest.approx([0.875] * 4, abs=1e-3)


def test_norms_that_are_not_finite_raise():
    for library in (tgrad, torch):
        p = library.ones(2, requires_grad=True)
        (p * float("inf")).sum().backward()
        clip = library.nn.utils.clip_grad_norm_
        with pytest.raises(RuntimeError, match="norm of order 2"):
            clip([p], 1.0, error_if_nonfinite=True)
        p.grad = library.full((2,), 3.0)
        assert clip(p, 1.0, error_if_nonfinite=True).item() == pytest.approx(18**0.5)
        assert p.grad.norm().item() == pytest.approx(1.0, rel=1e-5)
