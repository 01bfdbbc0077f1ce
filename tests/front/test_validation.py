"""Distributions refuse what PyTorch's do, where it is known, and nothing runs for that."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tgrad import distributions as ours
from tgrad import realizing
from tgrad.errors import OutOfRangeError, ShapeError
from tgrad.runtime.planning import planning

theirs = torch.distributions


@pytest.fixture(autouse=True)
def _pytorch_validates(monkeypatch) -> None:
    """torch.compile switches it off for all that comes after."""
    monkeypatch.setattr(theirs.Distribution, "_validate_args", True)


NAN = float("nan")
SKEW = [[1.0, 2.0], [0.0, 1.0]]
BAD_PARAMETERS = {
    "Normal": lambda d, t, **v: d.Normal(0.0, -1.0, **v),
    "Normal_nan": lambda d, t, **v: d.Normal(t([0.0, NAN]), 1.0, **v),
    "Normal_tensor": lambda d, t, **v: d.Normal(0.0, t([[1.0], [0.0]]), **v),
    "LogNormal": lambda d, t, **v: d.LogNormal(t([0.0, 1.0]), t([-1.0]), **v),
    "LogisticNormal": lambda d, t, **v: d.LogisticNormal(t([0.0]), t([-1.0]), **v),
    "Uniform": lambda d, t, **v: d.Uniform(t([0.0, 1.0, 0.0]), t([[2.0], [0.5]]), **v),
    "Exponential": lambda d, t, **v: d.Exponential(t([1.0, 0.0]), **v),
    "Laplace": lambda d, t, **v: d.Laplace(0.0, 0.0, **v),
    "Weibull": lambda d, t, **v: d.Weibull(1.0, t([-1.0]), **v),
    "Pareto": lambda d, t, **v: d.Pareto(t([0.0]), 1.0, **v),
    "HalfNormal": lambda d, t, **v: d.HalfNormal(t([-1.0]), **v),
    "Gamma": lambda d, t, **v: d.Gamma(t([1.0]), t([0.0]), **v),
    "Chi2": lambda d, t, **v: d.Chi2(t([-2.0]), **v),
    "InverseGamma": lambda d, t, **v: d.InverseGamma(t([1.0]), t([-1.0]), **v),
    "Beta": lambda d, t, **v: d.Beta(t([1.0, -1.0]), 1.0, **v),
    "Dirichlet": lambda d, t, **v: d.Dirichlet(t([[1.0, 2.0], [0.0, 1.0]]), **v),
    "StudentT": lambda d, t, **v: d.StudentT(t([0.0]), **v),
    "FisherSnedecor": lambda d, t, **v: d.FisherSnedecor(t([1.0]), t([-1.0]), **v),
    "VonMises": lambda d, t, **v: d.VonMises(t([0.0]), t([-1.0]), **v),
    "Kumaraswamy": lambda d, t, **v: d.Kumaraswamy(t([0.0]), t([1.0]), **v),
    "GeneralizedPareto": lambda d, t, **v: d.GeneralizedPareto(t([0.0]), t([0.0]), t([1.0]), **v),
    "Bernoulli": lambda d, t, **v: d.Bernoulli(t([0.5, 1.5]), **v),
    "Bernoulli_logits": lambda d, t, **v: d.Bernoulli(logits=t([NAN]), **v),
    "ContinuousBernoulli": lambda d, t, **v: d.ContinuousBernoulli(t([NAN]), **v),
    "Geometric": lambda d, t, **v: d.Geometric(t([1.5]), **v),
    "Binomial": lambda d, t, **v: d.Binomial(t([1.5]), t([0.5]), **v),
    "NegativeBinomial": lambda d, t, **v: d.NegativeBinomial(t([3.0]), t([1.0]), **v),
    "Poisson": lambda d, t, **v: d.Poisson(t([-1.0]), **v),
    "Categorical": lambda d, t, **v: d.Categorical(t([[0.5, 0.5], [-1.0, 2.0]]), **v),
    "Categorical_zeros": lambda d, t, **v: d.Categorical(t([0.0, 0.0]), **v),
    "Categorical_logits": lambda d, t, **v: d.Categorical(logits=t([0.0, NAN]), **v),
    "OneHotCategorical": lambda d, t, **v: d.OneHotCategorical(t([0.5, -0.5]), **v),
    "Multinomial": lambda d, t, **v: d.Multinomial(3, t([0.5, -0.1]), **v),
    "RelaxedBernoulli": lambda d, t, **v: d.RelaxedBernoulli(t([1.0]), t([2.0]), **v),
    "MultivariateNormal": lambda d, t, **v: d.MultivariateNormal(t([0.0, 0.0]), t(SKEW), **v),
    "MultivariateNormal_scale": lambda d, t, **v: d.MultivariateNormal(
        t([0.0, 0.0]), scale_tril=t(SKEW), **v
    ),
    "LowRankMultivariateNormal": lambda d, t, **v: d.LowRankMultivariateNormal(
        t([0.0]), t([[1.0]]), t([-1.0]), **v
    ),
    "Wishart": lambda d, t, **v: d.Wishart(t([0.5]), scale_tril=t([[1.0, 0.0], [0.0, 1.0]]), **v),
    "LKJCholesky": lambda d, t, **v: d.LKJCholesky(3, t([-1.0]), **v),
}  # fmt: skip
BAD_VALUES = {
    "Normal": (lambda d, t, **v: d.Normal(t([0.0]), 1.0, **v), [NAN]),
    "Uniform": (lambda d, t, **v: d.Uniform(t([0.0, 1.0]), 2.0, **v), [0.5, 0.5]),
    "Exponential": (lambda d, t, **v: d.Exponential(t([1.0]), **v), [-1.0, 1.0]),
    "Bernoulli": (lambda d, t, **v: d.Bernoulli(t([0.5]), **v), [0.5]),
    "Binomial": (lambda d, t, **v: d.Binomial(3, t([0.5]), **v), [4.0]),
    "Poisson": (lambda d, t, **v: d.Poisson(t([1.0]), **v), [1.5]),
    "Categorical": (lambda d, t, **v: d.Categorical(t([0.5, 0.5]), **v), [-1.0, 1.0]),
    "OneHotCategorical": (lambda d, t, **v: d.OneHotCategorical(t([0.5, 0.5]), **v), [1.0, 1.0]),
    "Multinomial": (lambda d, t, **v: d.Multinomial(2, t([0.5, 0.5]), **v), [2.0, 1.0]),
    "Dirichlet": (lambda d, t, **v: d.Dirichlet(t([1.0, 1.0]), **v), [0.5, 0.6]),
    "Beta": (lambda d, t, **v: d.Beta(t([1.0]), t([1.0]), **v), [1.5]),
    "Pareto": (lambda d, t, **v: d.Pareto(t([2.0]), t([1.0]), **v), [1.0]),
    "LogNormal": (lambda d, t, **v: d.LogNormal(t([0.0]), t([1.0]), **v), [-1.0]),
    "HalfNormal": (lambda d, t, **v: d.HalfNormal(t([1.0]), **v), [-1.0]),
    "Independent": (
        lambda d, t, **v: d.Independent(d.Exponential(t([1.0, 1.0]), **v), 1, **v), [1.0, -1.0],
    ),
    "Wishart": (
        lambda d, t, **v: d.Wishart(t([3.0]), scale_tril=t([[1.0, 0.0], [0.0, 1.0]]), **v), SKEW,
    ),
}  # fmt: skip


def on_the_host(data):
    return tgrad.tensor(data, device="numpy")


@pytest.fixture
def nothing_runs(monkeypatch):
    def refuse(*_):
        raise AssertionError("something runs")

    monkeypatch.setattr(realizing, "run", refuse)


@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_parameters(name, nothing_runs):
    make = BAD_PARAMETERS[name]
    with pytest.raises((ValueError, torch.linalg.LinAlgError)):
        make(theirs, torch.tensor)
    for options in ({}, {"validate_args": True}):
        with pytest.raises(OutOfRangeError, match=r"(?s)violates.*validate_args=False"):
            make(ours, on_the_host, **options)
    make(ours, on_the_host, validate_args=False)


@pytest.mark.parametrize("name", BAD_VALUES)
def test_values(name, nothing_runs):
    make, value = BAD_VALUES[name]
    with pytest.raises(ValueError):
        make(theirs, torch.tensor).log_prob(torch.tensor(value))
    with pytest.raises(OutOfRangeError, match=r"the value is .* violates"):
        make(ours, on_the_host).log_prob(on_the_host(value))
    make(ours, on_the_host, validate_args=False).log_prob(on_the_host(value))


def test_shapes():
    for d, t in ((ours, tgrad.tensor), (theirs, torch.tensor)):
        with pytest.raises(ValueError):
            d.Normal(t([0.0, 1.0]), 1.0).log_prob(t([0.0, 1.0, 2.0]))
        with pytest.raises(ValueError):
            d.Dirichlet(t([1.0, 1.0])).log_prob(t([0.5, 0.25, 0.25]))
    with pytest.raises(ShapeError, match=r"a value of shape \(\)"):
        ours.Dirichlet(tgrad.ones(2)).log_prob(tgrad.tensor(1.0))


def test_what_is_not_computed_yet_is_not_checked(nothing_runs):
    scale = on_the_host([1.0, 2.0]) - 3.0
    d = ours.Normal(0.0, scale)
    ours.Exponential(tgrad.ones(2, device="numpy")).log_prob(scale)
    assert d.log_prob(on_the_host([0.0])).shape == (2,) and scale._storage is None


def test_constants_and_views_are_known(nothing_runs):
    with pytest.raises(
        OutOfRangeError, match=r"scale is 0.0, which violates GreaterThan\(lower_bound=0.0\)"
    ):
        ours.Normal(0.0, tgrad.zeros(1000, 1000))
    values = on_the_host([[1.0, 2.0, -3.0]])
    with pytest.raises(OutOfRangeError, match=r"-3\.0"):
        ours.Exponential(values.t().expand(3, 4))
    with pytest.raises(OutOfRangeError):
        ours.Dirichlet(tgrad.nn.Parameter(values))


def test_compiled_steps_check_their_arguments_at_each_call():
    @tgrad.compile
    def score(scale, value):
        return ours.HalfNormal(scale).log_prob(value).sum()

    good, bad = on_the_host([1.0, 2.0]), on_the_host([1.0, -2.0])
    want = theirs.HalfNormal(torch.tensor([1.0, 2.0])).log_prob(torch.tensor([1.0, 2.0])).sum()
    for _ in range(2):
        np.testing.assert_allclose(score(good, good).numpy(), want.numpy(), rtol=1e-6)
        with pytest.raises(ValueError, match="HalfNormal: scale"):
            score(bad, good)
        with pytest.raises(ValueError, match="HalfNormal: the value"):
            score(good, bad)
    assert len(score.plans) == 1


@pytest.mark.parametrize("target", [None, "sm_90"])
def test_where_nothing_runs_only_constants_are_known(target):
    with planning(target):
        x = tgrad.tensor([1.0, 2.0])
        step = tgrad.compile(lambda scale: ours.HalfNormal(scale).log_prob(scale))
        assert step(x).shape == step(x).shape == (2,)
        ours.MultivariateNormal(x, tgrad.eye(2) * x).log_prob(x)
        ours.Dirichlet(x).log_prob(x)
        ours.Uniform(x, x + 1.0).log_prob(x)
        with pytest.raises(ValueError, match=r"scale is 0\.0"):
            ours.Normal(x, tgrad.zeros(2))


def test_mapped_functions_do_not_check():
    found = tgrad.vmap(lambda s: ours.Exponential(s).log_prob(s))(on_the_host([1.0, 2.0]))
    want = theirs.Exponential(torch.tensor([1.0, 2.0])).log_prob(torch.tensor([1.0, 2.0]))
    np.testing.assert_allclose(found.numpy(), want.numpy(), rtol=1e-6)


def test_the_default_and_own_distributions():
    class Waiting(ours.Distribution):
        arg_constraints = {"rate": ours.constraints.positive}  # noqa: RUF012
        support = ours.constraints.nonnegative

        def __init__(self, rate, validate_args=None):
            self.rate = rate
            super().__init__(rate.shape, validate_args=validate_args)

        def log_prob(self, value):
            if self._validate_args:
                self._validate_sample(value)
            return self.rate.log() - self.rate * value

    with pytest.raises(ValueError, match="Waiting: rate"):
        Waiting(on_the_host([-1.0]))
    with pytest.raises(ValueError, match="Waiting: the value"):
        Waiting(on_the_host([1.0])).log_prob(on_the_host([-1.0]))
    ours.Distribution.set_default_validate_args(False)
    try:
        Waiting(on_the_host([-1.0]))
        ours.Normal(0.0, -1.0)
        with pytest.raises(ValueError):
            ours.Normal(0.0, -1.0, validate_args=True)
    finally:
        ours.Distribution.set_default_validate_args(True)
    with pytest.raises(ValueError, match="True or False"):
        ours.Distribution.set_default_validate_args(3)
    assert ours.Normal.arg_constraints["scale"] is ours.constraints.positive
