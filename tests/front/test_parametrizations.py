"""Weights that are computed from others: weight and spectral norm, and what users register."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal
from tgrad import nn
from tgrad.errors import DTypeError, ShapeError, TraceError, UnsupportedError

pytestmark = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")

LAYERS = {
    "linear": (lambda nn: nn.Linear(5, 7), (3, 5)),
    "conv": (lambda nn: nn.Conv1d(2, 3, 3), (2, 2, 6)),
    "transposed": (lambda nn: nn.ConvTranspose1d(2, 3, 3), (2, 2, 6)),
}
RULES = {
    "weight_norm": lambda u, m: u.parametrizations.weight_norm(m),
    "weight_norm of all": lambda u, m: u.parametrizations.weight_norm(m, dim=None),
    "weight_norm of columns": lambda u, m: u.parametrizations.weight_norm(m, dim=1),
    "spectral_norm": lambda u, m: u.parametrizations.spectral_norm(m),
    "older weight_norm": lambda u, m: u.weight_norm(m, dim=1),
    "older spectral_norm": lambda u, m: u.spectral_norm(m, n_power_iterations=2),
}


def near(ours, theirs):
    np.testing.assert_allclose(ours.numpy(), theirs.detach(), rtol=1e-4, atol=1e-5)


def agree(ours, theirs, shape, device):
    """Outputs, gradients and buffers of one call."""
    x = normal(1, *shape)
    mine, other = ours(tgrad.tensor(x, device=device)), theirs(torch.tensor(x))
    near(mine, other)
    weight = normal(2, *other.shape)
    ours.zero_grad()
    theirs.zero_grad()
    (mine * tgrad.tensor(weight, device=device)).sum().backward()
    (other * torch.tensor(weight)).sum().backward()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        near(p.grad, q.grad)
    for b, c in zip(ours.buffers(), theirs.buffers(), strict=True):
        near(b, c)


@pytest.mark.parametrize(
    ("layer", "rule"),
    [
        *(("linear", rule) for rule in RULES),
        ("conv", "weight_norm of columns"),
        *(("transposed", rule) for rule in RULES if "spectral" in rule),
    ],
)
def test_like_pytorch(layer, rule, device):
    make, shape = LAYERS[layer]
    ours = RULES[rule](nn.utils, make(nn)).to(device)
    theirs = RULES[rule](torch.nn.utils, make(torch.nn))
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    for _ in range(2):
        agree(ours, theirs, shape, device)
    agree(copy.deepcopy(ours.eval()), theirs.eval(), shape, device)
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    for utils, module in ((nn.utils, ours), (torch.nn.utils, theirs)):
        if rule.startswith("older"):
            getattr(utils, f"remove_{rule.split()[1]}")(module)
        else:
            utils.parametrize.remove_parametrizations(module, "weight")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    agree(ours, theirs, shape, device)


@pytest.mark.parametrize("rule", ["spectral_norm", "older spectral_norm", "weight_norm"])
def test_compiled_steps(rule, device):
    """Two steps of training, compiled and not: the same weights and vectors."""
    first = RULES[rule](nn.utils, nn.Linear(4, 3, device=device))
    second = copy.deepcopy(first)
    results = []
    for model, wrap in ((first, tgrad.compile), (second, lambda f: f)):
        optimizer = tgrad.optim.SGD(model.parameters(), lr=0.1)

        def step(x, model=model, optimizer=optimizer):
            loss = model(x).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        run = wrap(step)
        x = tgrad.tensor(normal(1, 5, 4), device=device)
        results.append([run(x).item() for _ in range(3)])
    np.testing.assert_allclose(*results, rtol=1e-4)
    for ours, other in zip(first.state_dict().values(), second.state_dict().values()):
        np.testing.assert_allclose(ours.numpy(), other.numpy(), rtol=1e-4, atol=1e-6)


def test_recurrent_weights_are_computed_where_they_are_read(device):
    ours, theirs = nn.GRU(3, 4).to(device), torch.nn.GRU(3, 4)
    for utils, module in ((nn.utils, ours), (torch.nn.utils, theirs)):
        utils.weight_norm(module, "weight_hh_l0")
    ours.load_state_dict(theirs.state_dict())
    x = normal(1, 5, 2, 3)
    near(ours(tgrad.tensor(x, device=device))[0], theirs(torch.tensor(x))[0])
    assert [w.shape for w in ours.all_weights[0]] == [(12, 3), (12, 4), (12,), (12,)]


def test_weights_of_the_older_norm_load_into_the_newer():
    old, new = nn.utils.weight_norm(nn.Linear(3, 2)), nn.Sequential(nn.Linear(3, 2))
    nn.utils.parametrizations.weight_norm(new[0])
    state = {f"0.{name}": value for name, value in old.state_dict().items()}
    assert new.load_state_dict(state) == ([], []) and "0.weight_g" in state
    np.testing.assert_array_equal(new[0].weight.numpy(), old.weight.numpy())


def test_initial_values_reach_a_spectral_norm_that_has_not_run():
    layer = nn.utils.spectral_norm(nn.Linear(3, 3, bias=False))
    nn.init.eye_(layer.weight)
    np.testing.assert_array_equal(layer.weight_orig.numpy(), np.eye(3))
    layer(tgrad.ones(1, 3))
    assert layer.weight.requires_grad and layer.weight is not layer.weight_orig


# -- what users register ---------------------------------------------------------------------------


def rules(nn, linalg):
    """The same parametrizations over either library."""

    class Symmetric(nn.Module):
        def forward(self, x):
            return x.triu() + x.triu(1).T

        def right_inverse(self, x):
            return x.triu()

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(linalg.ones(()) * 2)

        def forward(self, x):
            return x * self.scale

        def right_inverse(self, x):
            return x / self.scale

    class Sum(nn.Module):
        def forward(self, x, y):
            return x + y

        def right_inverse(self, x):
            return x.triu(), x.tril(-1)

    return Symmetric, Scaled, Sum


@pytest.mark.parametrize("chosen", [(0,), (2,), (0, 1), (2, 1)])
def test_registered(chosen):
    kept = []
    for nn_, library in ((nn, tgrad), (torch.nn, torch)):
        P, kinds = nn_.utils.parametrize, rules(nn_, library)
        layer = nn_.Linear(3, 3)
        layer.load_state_dict({k: library.tensor(normal(1, *v.shape))
                               for k, v in layer.state_dict().items()})  # fmt: skip
        assert not P.is_parametrized(layer)
        for number in chosen:
            assert P.register_parametrization(layer, "weight", kinds[number]()) is layer
        assert P.is_parametrized(layer, "weight") and not P.is_parametrized(layer, "bias")
        y = layer(library.tensor(normal(2, 4, 3))).square().sum()
        y.backward()
        values = [y, layer.weight, *(p.grad for p in layer.parameters())]
        value = library.tensor(normal(3, 3, 3))
        layer.weight = value + value.T
        values += [layer.weight, *layer.state_dict().values()]
        names = list(layer.state_dict())
        P.remove_parametrizations(layer, "weight", leave_parametrized=chosen != (0,))
        assert isinstance(layer.weight, nn_.Parameter) and not P.is_parametrized(layer)
        kept.append([*values, layer.weight, names, list(layer.state_dict())])
    ours, theirs = kept
    assert ours[-2:] == theirs[-2:]
    for x, y in zip(ours[:-2], theirs[:-2], strict=True):
        near(x, y)


def test_a_buffer_is_computed_too():
    layer = nn.BatchNorm1d(2)
    P = nn.utils.parametrize
    P.register_parametrization(layer, "running_mean", rules(nn, tgrad)[1]())
    assert layer.running_mean.tolist() == [0.0, 0.0]
    assert "parametrizations.running_mean.original" in dict(layer.named_buffers())


def test_cached_values_are_computed_once():
    P, layer = nn.utils.parametrize, nn.Linear(2, 2)
    P.register_parametrization(layer, "weight", rules(nn, tgrad)[1]())
    with P.cached():
        first = layer.weight
        with P.cached():
            assert layer.weight is first
        assert layer.weight is first
        traced = tgrad.compile(lambda x: layer(x) + layer(x))  # nothing of a trace stays in it
        with tgrad.no_grad():
            traced(tgrad.ones(1, 2))
        assert layer.weight is first
    assert layer.weight is not first


# -- mistakes --------------------------------------------------------------------------------------


class Wider(nn.Module):
    def forward(self, x):
        return x.to(tgrad.float64)


class Longer(nn.Module):
    def forward(self, x):
        return tgrad.cat([x, x])


@pytest.mark.parametrize(
    ("kind", "make", "message"),
    [
        (
            ShapeError,
            lambda: nn.utils.weight_norm(nn.Linear(2, 2), "w"),
            "weight_norm: Linear has no parameter 'w'.",
        ),
        (
            UnsupportedError,
            lambda: nn.utils.spectral_norm(nn.utils.weight_norm(nn.Linear(2, 2))),
            "spectral_norm of 'weight' of Linear, which is computed already.",
        ),
        (
            ShapeError,
            lambda: nn.utils.weight_norm(nn.Linear(2, 2), dim=2),
            "weight_norm: dim=2 of shape (2, 2).",
        ),
        (
            ShapeError,
            lambda: nn.utils.spectral_norm(nn.Linear(2, 2), n_power_iterations=0),
            "spectral_norm: n_power_iterations=0.",
        ),
        (
            ShapeError,
            lambda: nn.utils.remove_weight_norm(nn.Linear(2, 2)),
            "remove_weight_norm: 'weight' of Linear has none.",
        ),
        (
            UnsupportedError,
            lambda: setattr(nn.utils.weight_norm(nn.Linear(2, 2)), "weight", tgrad.ones(2, 2)),
            "Linear.weight is set, which weight_norm computes.",
        ),
        (
            DTypeError,
            lambda: nn.utils.parametrize.register_parametrization(
                nn.Linear(2, 2), "weight", Wider()
            ),
            "A parametrization makes float64 of float32.",
        ),
        (
            ShapeError,
            lambda: nn.utils.parametrize.register_parametrization(
                nn.Linear(2, 2), "weight", Longer()
            ),
            "A parametrization makes shape (4, 2) of (2, 2).",
        ),
        (
            ShapeError,
            lambda: nn.utils.parametrize.remove_parametrizations(nn.Linear(2, 2), "weight"),
            "remove_parametrizations: 'weight' of Linear has none.",
        ),
    ],
)
def test_mistakes(kind, make, message):
    with pytest.raises(kind) as caught:
        make()
    assert caught.value.what == message and caught.value.hint


def test_spectral_norm_read_before_its_first_forward_inside_a_trace():
    layer = nn.utils.spectral_norm(nn.Linear(2, 2))
    with pytest.raises(TraceError, match="'weight', of spectral_norm, is read before the first"):
        tgrad.compile(lambda: layer.weight.detach() * 2)()


# -- orthogonal ----------------------------------------------------------------------------------


def orthogonal_pair(shape, orthogonal_map, use_trivialization):
    """The same parametrized layer in both, with a parameter that is not its first value."""
    options = {"orthogonal_map": orthogonal_map, "use_trivialization": use_trivialization}
    layers = []
    for lib, double in ((tgrad, tgrad.float64), (torch, torch.float64)):
        layer = lib.nn.Linear(shape[1], shape[0], dtype=double)
        layers.append(lib.nn.utils.parametrizations.orthogonal(layer, **options))
    ours, theirs = layers
    state = {name: value.numpy() for name, value in ours.state_dict().items()}
    assert list(state) == list(theirs.state_dict())
    noise = 0.1 * normal(3, *shape) * (1 - np.eye(*shape))
    key = "parametrizations.weight.original"
    state[key] = state[key] + noise
    ours.load_state_dict(state)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    return ours, theirs


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6), (1, 1), (5, 1)])
@pytest.mark.parametrize("use_trivialization", [True, False])
@pytest.mark.parametrize("orthogonal_map", ["matrix_exp", "cayley", "householder"])
def test_orthogonal(shape, orthogonal_map, use_trivialization):
    ours, theirs = orthogonal_pair(shape, orthogonal_map, use_trivialization)
    np.testing.assert_allclose(ours.weight.numpy(), theirs.weight.detach(), atol=1e-12)
    weight = np.random.default_rng(4).normal(size=shape)
    (ours.weight * tgrad.tensor(weight)).sum().backward()
    (theirs.weight * torch.tensor(weight)).sum().backward()
    have, want = (m.parametrizations.weight.original.grad for m in (ours, theirs))
    np.testing.assert_allclose(have.numpy(), want, atol=1e-12)
    tall = np.linalg.qr(np.random.default_rng(5).normal(size=sorted(shape)[::-1]))[0]
    value = tall if shape[0] >= shape[1] else tall.T
    if use_trivialization or orthogonal_map == "householder":
        with tgrad.no_grad():
            ours.weight = tgrad.tensor(value)
        np.testing.assert_allclose(ours.weight.numpy(), value, atol=1e-12)
    else:
        with pytest.raises(NotImplementedError, match=r"Use use_trivialization=True or"):
            ours.weight = tgrad.tensor(value)


def test_orthogonal_matrices_in_a_step():
    layer = nn.utils.parametrizations.orthogonal(nn.Linear(4, 6))
    before = layer.weight.numpy()
    optimizer = tgrad.optim.SGD(layer.parameters(), lr=0.1)

    @tgrad.compile
    def step(x):
        optimizer.zero_grad()
        (layer(x) ** 3).sum().backward()
        optimizer.step()

    for _ in range(2):
        step(tgrad.tensor(normal(0, 3, 4)))
    after = layer.weight.numpy()
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after.T @ after, np.eye(4), atol=1e-5)


def test_orthogonal_is_chosen_by_shape():
    for shape, chosen in (((3, 3), "matrix_exp"), ((4, 3), "householder")):
        layer = nn.utils.parametrizations.orthogonal(nn.Linear(*shape[::-1]))
        assert layer.parametrizations.weight[0].orthogonal_map == chosen
    with pytest.raises(UnsupportedError, match=r"orthogonal_map='qr'. *\n.*\n? *Use one of matrix"):
        nn.utils.parametrizations.orthogonal(nn.Linear(2, 2), orthogonal_map="qr")
    with pytest.raises(ShapeError, match=r"Linear.bias has shape \(2,\)"):
        nn.utils.parametrizations.orthogonal(nn.Linear(2, 2), "bias")
