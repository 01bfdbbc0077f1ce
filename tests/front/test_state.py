"""State of modules and optimizers, saved and loaded: hooks, extra states, buffers, as PyTorch's."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import classes, normal
from tgrad import nn
from tgrad.errors import OutOfRangeError, ShapeError, UnsupportedError


def net_of(library):
    class Scaled(library.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = library.nn.Linear(2, 1)
            self.shift = library.nn.Buffer(library.ones(1))
            self.scratch = library.nn.Buffer(library.ones(1), persistent=False)
            self.seen = 0

        def get_extra_state(self):
            return {"seen": self.seen}

        def set_extra_state(self, state):
            self.seen = state["seen"]

    return library.nn.Sequential(Scaled(), library.nn.ReLU())


def test_hooks_of_modules():
    """One script in both libraries: which hooks run, in which order, with what."""

    def script(library):
        calls, net = [], net_of(library)
        scaled, inner = net[0], net[0].inner
        net.register_state_dict_pre_hook(lambda m, prefix, keep: calls.append((prefix, keep)))
        inner.register_state_dict_pre_hook(lambda m, prefix, keep: calls.append((prefix, keep)))
        inner.register_state_dict_post_hook(
            lambda m, state, prefix, _: state.update(
                {prefix + "kernel": state.pop(prefix + "bias")}
            )
        )
        net.register_state_dict_post_hook(lambda m, state, prefix, _: calls.append(list(state)))
        inner._register_load_state_dict_pre_hook(
            lambda state, prefix, *_: state.update({prefix + "bias": state.pop(prefix + "kernel")})
        )
        for module in (net, scaled, inner):
            module.register_load_state_dict_post_hook(
                lambda m, keys: calls.append((type(m).__name__, list(keys.missing_keys)))
            )
        forgiving = scaled.register_load_state_dict_post_hook(lambda m, keys: keys[0].clear())
        scaled.seen = 7
        state = net.state_dict(keep_vars=True)
        twin = net_of(library)
        calls.append([*twin.state_dict()])
        scaled.seen = 0
        del state["0.inner.weight"]
        calls.append(tuple(net.load_state_dict(state)))
        forgiving.remove()
        with pytest.raises((ShapeError, RuntimeError)):
            net.load_state_dict(state)
        calls.append(scaled.seen)
        calls.append(
            tuple(
                map(
                    list,
                    net.load_state_dict(
                        {"x": 0, "0.inner.kernel": state["0.inner.kernel"]}, strict=False
                    ),
                )
            )
        )
        return calls

    assert script(tgrad) == script(torch)


def test_extra_states_are_required_where_they_are_made():
    keys = net_of(tgrad).load_state_dict({}, strict=False).missing_keys
    assert keys == net_of(torch).load_state_dict({}, strict=False).missing_keys
    keys = nn.Linear(1, 1).load_state_dict({"_extra_state": 0}, strict=False)
    assert keys.unexpected_keys == ["_extra_state"]
    with pytest.raises(UnsupportedError, match="Linear has no get_extra_state"):
        nn.Linear(1, 1).get_extra_state()


def test_a_refused_state_changes_nothing():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = net[0].weight.numpy()
    state = {**net.state_dict(), "0.weight": np.ones((2, 2)), "1.weight": np.ones((3, 2))}
    with pytest.raises(ShapeError, match=r"'1.weight' has shape \(2, 2\)"):
        net.load_state_dict(state)
    np.testing.assert_array_equal(net[0].weight.numpy(), before)


def test_hooks_that_return_what_nobody_takes():
    layer = nn.Linear(1, 1)
    handle = layer.register_state_dict_post_hook(lambda *_: {})
    with pytest.raises(UnsupportedError, match="Change the dictionary it is given"):
        layer.state_dict()
    handle.remove()
    layer.register_load_state_dict_post_hook(lambda *_: 1)
    with pytest.raises(UnsupportedError, match="Change its lists of keys"):
        layer.load_state_dict(layer.state_dict())


def test_assigned_values_keep_their_dtype(device):
    layer = nn.Linear(2, 1, device=device)
    layer.bias.requires_grad_(False)
    state = {name: t.double() for name, t in layer.state_dict().items()}
    layer.load_state_dict(state, assign=True)
    assert layer.weight.dtype is tgrad.float64 and isinstance(layer.weight, nn.Parameter)
    assert layer.weight.requires_grad and not layer.bias.requires_grad
    np.testing.assert_array_equal(layer.weight.numpy(), state["weight"].numpy())


def test_buffers():
    net = net_of(tgrad)[0]
    assert [name for name, _ in net.named_buffers()] == ["shift", "scratch"]
    assert not net.shift.requires_grad and isinstance(net.shift, nn.Buffer)
    twin = pickle.loads(pickle.dumps(net.shift))
    assert isinstance(twin, nn.Buffer) and twin.tolist() == [1.0]
    net.other = copy.deepcopy(net.scratch)
    assert "shift" in net.state_dict() and "scratch" not in net.state_dict()
    net.scratch = nn.Buffer(tgrad.zeros(1))
    assert "scratch" in net.state_dict()


def test_empty_modules():
    layer = nn.BatchNorm1d(3)
    weight = layer.weight
    assert layer.to_empty(device="numpy").weight is weight
    assert {t.device.type for t in layer.state_dict().values()} == {"numpy"}
    assert layer.num_batches_tracked.dtype is tgrad.int64
    made = nn.utils.skip_init(nn.Linear, 3, 2, device="numpy")
    assert made.weight.shape == (2, 3) and made.weight.device.type == "numpy"


def test_hooks_of_optimizers():
    def script(library):
        calls = []
        optimizer = library.optim.SGD([library.ones(1, requires_grad=True)], lr=0.5)
        optimizer.register_state_dict_pre_hook(lambda o: calls.append(type(o).__name__))
        first = optimizer.register_state_dict_post_hook(lambda o, state: {**state, "a": 1})
        optimizer.register_state_dict_post_hook(lambda o, s: calls.append(sorted(s)), prepend=True)
        state = optimizer.state_dict()
        calls.append(sorted(state))
        first.remove()

        def slower(optimizer, state):
            groups = [{**group, "lr": 0.25} for group in state["param_groups"]]
            return {**state, "param_groups": groups}

        optimizer.register_load_state_dict_pre_hook(slower)
        optimizer.register_load_state_dict_post_hook(
            lambda o: calls.append(o.param_groups[0]["lr"])
        )
        optimizer.load_state_dict(state)
        calls.append(sorted(optimizer.state_dict()))
        return calls

    assert script(tgrad) == script(torch)


@pytest.mark.parametrize("head_bias", [False, True])
def test_adaptive_softmax(head_bias, device):
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 9, 15], 2.0, head_bias)
    ours = nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 9, 15], 2.0, head_bias, device=device)
    ours.load_state_dict(theirs.state_dict())
    rows, target = normal(1, 13, 8), classes(2, 20, 13)
    x = tgrad.tensor(rows, device=device, requires_grad=True)
    y = torch.tensor(rows, requires_grad=True)
    have = ours(x, tgrad.tensor(target, device=device))
    want = theirs(y, torch.tensor(target))
    have.loss.backward()
    want.loss.backward()
    pairs = [(have.output, want.output), (have.loss, want.loss), (x.grad, y.grad)]
    pairs += [(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters())]
    pairs += [(ours.log_prob(x), theirs.log_prob(y)), (ours.predict(x), theirs.predict(y))]
    one = ours(x[0], tgrad.tensor(target[0], device=device)).output
    pairs.append((one, theirs(y[0], torch.tensor(target[0])).output))
    for got, wanted in pairs:
        assert got.shape == tuple(wanted.shape)
        np.testing.assert_allclose(
            got.detach().numpy(), wanted.detach().numpy(), rtol=1e-5, atol=1e-6
        )


def test_adaptive_softmax_refuses():
    for cutoffs in ([], [3, 3], [0, 4], [4, 10]):
        with pytest.raises(OutOfRangeError, match="They rise, from 1"):
            nn.AdaptiveLogSoftmaxWithLoss(4, 10, cutoffs)
    softmax = nn.AdaptiveLogSoftmaxWithLoss(4, 10, [2])
    with pytest.raises(ShapeError, match="Give rows"):
        softmax(tgrad.ones(3, 4), tgrad.zeros(2).long())
    with pytest.raises(OutOfRangeError, match="class 10 with 10 classes"):
        softmax(tgrad.ones(1, 4), tgrad.tensor([10]))


class Old(nn.Module):
    """Was saved under another name, without its count and in other units."""

    def __init__(self, library=nn, make=tgrad.ones):
        super().__init__()
        self.weight = library.Parameter(make(2))
        self.register_buffer("count", make(1))

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "kernel"] = destination.pop(prefix + "weight")

    def _load_from_state_dict(self, state_dict, prefix, *others):
        state_dict[prefix + "weight"] = state_dict.pop(prefix + "kernel") * 2
        state_dict.setdefault(prefix + "count", self.count)
        super()._load_from_state_dict(state_dict, prefix, *others)


def test_modules_that_save_and_load_in_a_way_of_their_own():
    net = nn.Sequential(Old(), nn.Linear(2, 1, bias=False))
    state = net.state_dict()
    assert sorted(state) == ["0.count", "0.kernel", "1.weight"]
    del state["0.count"]
    assert str(net.load_state_dict(state)) == "<All keys matched successfully>"
    assert net[0].weight.tolist() == [2.0, 2.0] and "0.kernel" in state

    class Refusing(nn.Module):
        def _load_from_state_dict(self, *others):
            others[-1].append("too old.")

    with pytest.raises(RuntimeError, match=r"too old\."):
        nn.Sequential(Refusing()).load_state_dict({})


def test_modules_switch_and_move_in_a_way_of_their_own(device):
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.scale = nn.BatchNorm1d(2), tgrad.ones(2, device=device)

        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

        def _apply(self, fn):
            super()._apply(fn)
            self.scale = fn(self.scale)
            return self

    net = nn.Sequential(nn.Linear(2, 2), Frozen()).to(device)
    assert not net.train()[1].norm.training and net[1].training and not net.eval()[1].training
    assert net.to(tgrad.float64)[1].scale.dtype is net[1].norm.weight.dtype is tgrad.float64
    with pytest.raises(ValueError):
        net.train("yes")


def averaged(library, is_compiled):
    """Steps with an average of the weights by state_dict, then weights copied into one."""
    model = library.nn.Sequential(library.nn.Linear(3, 3), library.nn.BatchNorm1d(3))
    share = np.random.default_rng(7)
    with library.no_grad():
        for p in model.parameters():
            p.copy_(library.tensor(share.standard_normal(tuple(p.shape))))
    average = copy.deepcopy(model)
    optimizer = library.optim.SGD(model.parameters(), lr=0.1)

    def step(x):
        loss = model(x).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with library.no_grad():
            now = model.state_dict()
            for name, value in average.state_dict().items():
                if value.dtype.is_floating_point:
                    value.mul_(0.9).add_(now[name].detach(), alpha=0.1)
                else:
                    value.copy_(now[name])
        return loss

    step = library.compile(step) if is_compiled else step
    for _ in range(3):
        step(library.tensor(share.standard_normal((5, 3)), dtype=library.float32))
    own = model.state_dict()
    for name, value in average.state_dict().items():
        own[name].copy_(value)
    own["0.weight"][0] = 7.0
    own["0.bias"].zero_()
    kept = [*own.values(), *model.state_dict().values(), *average.state_dict().values()]
    return [t.detach().numpy() for t in kept]


@pytest.mark.parametrize("is_compiled", [False, True])
def test_writes_go_through_a_state_dict(is_compiled):
    for have, want in zip(averaged(tgrad, is_compiled), averaged(torch, False), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)


def followed(library, is_compiled):
    """What tensors of dictionaries made before some steps hold after them."""
    share = np.random.default_rng(2)
    model = library.nn.Sequential(library.nn.Linear(3, 3, bias=False), library.nn.BatchNorm1d(3))
    with library.no_grad():
        model[0].weight.copy_(library.tensor(share.standard_normal((3, 3)), dtype=library.float32))
    optimizer = library.optim.Adam(model.parameters(), lr=0.1)

    def step(x):
        optimizer.zero_grad()
        loss = (model(x) ** 3).sum()
        loss.backward()
        optimizer.step()
        return loss

    step = library.compile(step) if is_compiled else step
    batches = [
        library.tensor(share.standard_normal((5, 3)), dtype=library.float32) for _ in range(5)
    ]
    step(batches[0])
    weights, state = model.state_dict(), optimizer.state_dict()["state"][0]
    copied = copy.deepcopy(weights)
    for x in batches[1:]:
        step(x)
    with library.no_grad():
        model[1].bias.add_(1)
    kept = [*weights.values(), *copied.values(), state["exp_avg"], state["exp_avg_sq"]]
    return [t.detach().numpy() for t in kept]


@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_state_dict_follows_its_module(is_compiled):
    for have, want in zip(followed(tgrad, is_compiled), followed(torch, False), strict=True):
        np.testing.assert_allclose(have, want, rtol=2e-4, atol=2e-5)
