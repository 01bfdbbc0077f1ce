"""Distributions against PyTorch's: densities, entropies, divergences, moments, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import tgrad
from tgrad import distributions as ours
from tgrad.errors import ShapeError, UnsupportedError

theirs = torch.distributions
RNG = np.random.default_rng(0)
LOC, OTHER = (RNG.standard_normal((3, 4)).astype(np.float32) for _ in range(2))
SCALE, WIDTH = (RNG.uniform(0.3, 2.0, (3, 4)).astype(np.float32) for _ in range(2))
PROBS, CHANCES = (RNG.uniform(0.05, 0.95, (3, 4)).astype(np.float32) for _ in range(2))

MADE = {
    "Normal": (lambda d, t: d.Normal(t(LOC), t(SCALE)), lambda d, t: d.Normal(t(OTHER), t(WIDTH))),
    "LogNormal": (
        lambda d, t: d.LogNormal(t(LOC), t(SCALE)), lambda d, t: d.LogNormal(t(OTHER), t(WIDTH)),
    ),
    "Uniform": (
        lambda d, t: d.Uniform(t(LOC), t(LOC + SCALE)),
        lambda d, t: d.Uniform(t(LOC - 1.0), t(LOC + SCALE + 1.0)),
    ),
    "Exponential": (lambda d, t: d.Exponential(t(SCALE)), lambda d, t: d.Exponential(t(WIDTH))),
    "Laplace": (
        lambda d, t: d.Laplace(t(LOC), t(SCALE)), lambda d, t: d.Laplace(t(OTHER), t(WIDTH)),
    ),
    "Bernoulli": (lambda d, t: d.Bernoulli(t(PROBS)), lambda d, t: d.Bernoulli(t(CHANCES))),
    "Bernoulli_logits": (
        lambda d, t: d.Bernoulli(logits=t(LOC)), lambda d, t: d.Bernoulli(logits=t(OTHER)),
    ),
    "Categorical": (lambda d, t: d.Categorical(t(PROBS)), lambda d, t: d.Categorical(t(CHANCES))),
    "Categorical_logits": (
        lambda d, t: d.Categorical(logits=t(LOC)), lambda d, t: d.Categorical(logits=t(OTHER)),
    ),
    "Independent": (
        lambda d, t: d.Independent(d.Normal(t(LOC), t(SCALE)), 1),
        lambda d, t: d.Independent(d.Normal(t(OTHER), t(WIDTH)), 1),
    ),
}  # fmt: skip
"""Two distributions of a kind, in either library."""

CONTINUOUS = [n for n in MADE if n[:4] not in ("Bern", "Cate")]


def tensor(device):
    return lambda array: tgrad.tensor(array, device=device)


def value_of(name):
    """What a distribution may have drawn."""
    if name.startswith("Bernoulli"):
        return (LOC > 0).astype(np.float32)
    if name.startswith("Categorical"):
        return np.array([0, 3, 1])
    return np.abs(LOC) + 0.1 if name in ("LogNormal", "Exponential") else LOC + 0.2


@pytest.mark.parametrize("name", MADE)
def test_densities_entropies_and_divergences(name, device):
    to, value = tensor(device), value_of(name)
    p, q = (make(ours, to) for make in MADE[name])
    a, b = (make(theirs, torch.tensor) for make in MADE[name])
    assert (p.batch_shape, p.event_shape) == (tuple(a.batch_shape), tuple(a.event_shape))
    loose = {"rtol": 2e-5, "atol": 2e-6}
    got = p.log_prob(tgrad.tensor(value, device=device)).numpy()
    a_unchecked = type(a).__new__(type(a))
    a_unchecked.__dict__.update(a.__dict__, _validate_args=False)  # the uniform's, beyond its ends
    want = a_unchecked.log_prob(torch.tensor(value)).numpy()
    np.testing.assert_allclose(got, want, **loose)
    np.testing.assert_allclose(p.entropy().numpy(), a.entropy().numpy(), **loose)
    divergence = theirs.kl_divergence(a, b).numpy()
    np.testing.assert_allclose(ours.kl_divergence(p, q).numpy(), divergence, **loose)
    if not name.startswith("Categorical"):
        np.testing.assert_allclose(p.mean.numpy(), a.mean.numpy(), **loose)
        np.testing.assert_allclose(p.stddev.numpy(), a.stddev.numpy(), **loose)


@pytest.mark.parametrize("name", [n for n in MADE if not n.startswith("Categorical")])
def test_draws_have_their_moments(name, device):
    """Within five standard errors of mean and variance."""
    tgrad.manual_seed(1)
    p, count = MADE[name][0](ours, tensor(device)), 20_000
    drawn = p.sample((count,))
    assert drawn.shape == (count, 3, 4) and not drawn.requires_grad
    x = drawn.numpy().astype(np.float64)
    x = np.log(x) if name == "LogNormal" else x
    mean, variance = (p.loc, p.scale.square()) if name == "LogNormal" else (p.mean, p.variance)
    mean, variance = mean.numpy(), variance.numpy()
    assert (abs(x.mean(0) - mean) < 5 * np.sqrt(variance / count)).all()
    error = np.sqrt(np.maximum(((x - mean) ** 2).var(0), 1e-12) / count)
    assert (abs(((x - mean) ** 2).mean(0) - variance) < 5 * error).all()


def test_classes_come_as_often_as_they_should(device):
    tgrad.manual_seed(2)
    probs = np.array([[0.1, 0.0, 0.6, 0.3], [0.25, 0.25, 0.5, 0.0]])
    p = ours.Categorical(tgrad.tensor(probs * 7, device=device))
    drawn = p.sample((20_000,)).numpy()
    often = np.stack([(drawn == k).mean(0) for k in range(4)], -1)
    assert (often[probs == 0] == 0).all()
    assert (abs(often - probs) < 5 * np.sqrt(probs * (1 - probs) / 20_000) + 1e-9).all()


@pytest.mark.parametrize("name", CONTINUOUS)
def test_draws_have_the_gradients_of_their_parameters(name):
    """d(draw) / d(parameter), where PyTorch's draw is made from the same noise by the inverse."""
    parameters = {
        "Normal": (LOC, SCALE), "LogNormal": (LOC, SCALE), "Uniform": (LOC, LOC + SCALE),
        "Exponential": (SCALE,), "Laplace": (LOC, SCALE), "Independent": (LOC, SCALE),
    }[name]  # fmt: skip
    kind = "Normal" if name == "Independent" else name
    tgrad.manual_seed(3)
    inputs = [tgrad.tensor(a, requires_grad=True) for a in parameters]
    drawn = getattr(ours, kind)(*inputs).rsample((5,))
    drawn.sum().backward()
    x = torch.tensor(drawn.numpy())
    known = [torch.tensor(a, requires_grad=True) for a in parameters]
    base = {"LogNormal": "Normal"}.get(kind, kind)
    y = x.log() if kind == "LogNormal" else x
    with torch.no_grad():
        noise = getattr(theirs, base)(*known).cdf(y).double()
    again = getattr(theirs, base)(*(k.double() for k in known), validate_args=False).icdf(noise)
    (again.exp() if kind == "LogNormal" else again).sum().backward()
    for ours_, theirs_ in zip(inputs, known):
        np.testing.assert_allclose(ours_.grad.numpy(), theirs_.grad.numpy(), rtol=5e-3, atol=5e-3)


def test_ends_and_classes_without_probability():
    assert ours.Uniform(0.0, 1.0).log_prob(1.0).item() == -math.inf
    assert ours.Uniform(0.0, 1.0).log_prob(0.0).item() == 0.0
    p, q = (ours.Categorical(tgrad.tensor(a)) for a in ([0.5, 0.5, 0.0], [1.0, 0.0, 0.0]))
    assert ours.kl_divergence(p, q).item() == math.inf
    assert ours.kl_divergence(q, p).item() == pytest.approx(math.log(2), rel=1e-5)


def test_quantiles_of_the_normal():
    p, places = ours.Normal(1.0, 2.0), tgrad.tensor([0.1, 0.5, 0.975])
    found = p.icdf(places)
    want = theirs.Normal(1.0, 2.0).icdf(torch.tensor([0.1, 0.5, 0.975]))
    np.testing.assert_allclose(found.numpy(), want.numpy(), rtol=1e-5)
    np.testing.assert_allclose(p.cdf(found).numpy(), places.numpy(), rtol=1e-5)


def test_a_policy_gradient_as_one_plan(device):
    """Draws differ from call to call; the loss is made of what was drawn."""
    logits = tgrad.zeros(64, 3, device=device).requires_grad_()

    @tgrad.compile
    def step():
        policy = ours.Categorical(logits=logits)
        action = policy.sample()
        loss = -(policy.log_prob(action) * (action == 2)).sum()
        (gradient,) = tgrad.autograd.grad(loss, [logits])
        return action, gradient

    first, second = (step() for _ in range(2))
    assert (first[0].numpy() != second[0].numpy()).any()
    for action, gradient in (first, second):
        a = action.numpy()
        want = (1 / 3 - np.eye(3)[a]) * (a == 2)[:, None]
        np.testing.assert_allclose(gradient.numpy(), want, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: ours.Bernoulli(), UnsupportedError, "Give one of the two"),
        (lambda: ours.Categorical(tgrad.tensor(1.0)), ShapeError, "Classes lie along the last"),
        (lambda: ours.Normal(0.0, 1.0, validate_args=True), UnsupportedError, "validate_args=True"),
        (lambda: ours.Bernoulli(0.5).rsample(), UnsupportedError, "have no gradient"),
        (lambda: ours.Independent(ours.Normal(0.0, 1.0), 1), ShapeError, "1 axes of 0"),
        (lambda: ours.Categorical(tgrad.ones(2)).mean, UnsupportedError, "has no mean"),
        (
            lambda: ours.kl_divergence(ours.Normal(0.0, 1.0), ours.Bernoulli(0.5)),
            UnsupportedError,
            "kl_divergence of Normal and Bernoulli",
        ),
    ],
)
def test_errors(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_a_formula_of_the_users():
    class Fixed(ours.Distribution):
        def __init__(self):
            super().__init__((), (), None)

    @ours.register_kl(Fixed, Fixed)
    def _(p, q):
        return tgrad.zeros(())

    assert ours.kl_divergence(Fixed(), Fixed()).item() == 0.0
