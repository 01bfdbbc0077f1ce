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
CLASSES = (
    "Categorical", "Categorical_logits", "OneHotCategorical", "Multinomial",
    "MixtureSameFamily_vectors",
)  # fmt: skip
PROBS, CHANCES = (RNG.uniform(0.05, 0.95, (3, 4)).astype(np.float32) for _ in range(2))
COUNTS = np.full((3, 4), 6.0, np.float32)
HEAT = np.array(0.7, np.float32)
TAILS = np.linspace(-0.4, 0.4, 12, dtype=np.float32).reshape(3, 4) * np.array([1, 1, 1, 0], "f")
ROOTS, SPREADS = (
    (np.tril(RNG.standard_normal((3, 4, 4))) * 0.4 + np.eye(4) * 1.5).astype(np.float32)
    for _ in range(2)
)


def covariance(root):
    return root @ root.transpose(0, 2, 1)


def of_one_kind(name, *pairs):
    """Two distributions of a kind, by pairs of its parameters."""
    return tuple(
        lambda d, t, given=given: getattr(d, name)(*map(t, given)) for given in zip(*pairs)
    )


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
    "Cauchy": of_one_kind("Cauchy", (LOC, OTHER), (SCALE, WIDTH)),
    "Gumbel": of_one_kind("Gumbel", (LOC, OTHER), (SCALE, WIDTH)),
    "Weibull": of_one_kind("Weibull", (SCALE, WIDTH), (WIDTH + 0.5, SCALE + 0.5)),
    "Pareto": of_one_kind("Pareto", (SCALE, SCALE * 0.5), (WIDTH + 2.5, SCALE)),
    "HalfNormal": of_one_kind("HalfNormal", (SCALE, WIDTH)),
    "HalfCauchy": of_one_kind("HalfCauchy", (SCALE, WIDTH)),
    "Gamma": of_one_kind("Gamma", (SCALE, WIDTH), (WIDTH, SCALE)),
    "Chi2": of_one_kind("Chi2", (SCALE * 2, WIDTH)),
    "InverseGamma": of_one_kind("InverseGamma", (SCALE + 4, WIDTH + 4), (WIDTH, SCALE)),
    "Beta": of_one_kind("Beta", (SCALE, WIDTH), (WIDTH, SCALE)),
    "Dirichlet": of_one_kind("Dirichlet", (SCALE, WIDTH)),
    "StudentT": of_one_kind("StudentT", (SCALE + 5, WIDTH), (LOC, OTHER), (WIDTH, SCALE)),
    "Poisson": of_one_kind("Poisson", (SCALE * 3, WIDTH)),
    "Geometric": of_one_kind("Geometric", (PROBS, CHANCES)),
    "Binomial": (lambda d, t: d.Binomial(6, t(PROBS)), lambda d, t: d.Binomial(6, t(CHANCES))),
    "NegativeBinomial": of_one_kind("NegativeBinomial", (COUNTS, COUNTS), (PROBS, CHANCES)),
    "OneHotCategorical": of_one_kind("OneHotCategorical", (PROBS, CHANCES)),
    "Multinomial": (
        lambda d, t: d.Multinomial(5, t(PROBS)), lambda d, t: d.Multinomial(5, t(CHANCES))),
    "MultivariateNormal": (
        lambda d, t: d.MultivariateNormal(t(LOC), scale_tril=t(ROOTS)),
        lambda d, t: d.MultivariateNormal(t(OTHER), t(covariance(SPREADS))),
    ),
    "MultivariateNormal_precision": (
        lambda d, t: d.MultivariateNormal(t(LOC), precision_matrix=t(covariance(ROOTS))),
        lambda d, t: d.MultivariateNormal(t(OTHER), t(covariance(SPREADS))),
    ),
    "MixtureSameFamily": (lambda d, t: d.MixtureSameFamily(
        d.Categorical(t(PROBS)), d.Normal(t(LOC), t(SCALE))),) * 2,
    "MixtureSameFamily_vectors": (lambda d, t: d.MixtureSameFamily(
        d.Categorical(t(PROBS[0, :3])), d.MultivariateNormal(t(LOC), scale_tril=t(ROOTS))),) * 2,
    "Kumaraswamy": of_one_kind("Kumaraswamy", (SCALE + 0.8, WIDTH), (WIDTH + 0.8, SCALE)),
    "ContinuousBernoulli": of_one_kind("ContinuousBernoulli", (PROBS, CHANCES)),
    "ContinuousBernoulli_logits": (
        lambda d, t: d.ContinuousBernoulli(logits=t(LOC)),
        lambda d, t: d.ContinuousBernoulli(logits=t(OTHER * 1e-3), lims=(0.4999, 0.5001)),
    ),
    "VonMises": of_one_kind("VonMises", (LOC, OTHER), (SCALE * 3, WIDTH)),
    "GeneralizedPareto": of_one_kind(
        "GeneralizedPareto", (LOC, OTHER), (SCALE, WIDTH), (TAILS, TAILS)),
    "FisherSnedecor": of_one_kind("FisherSnedecor", (SCALE * 4, WIDTH), (WIDTH + 9, SCALE)),
    "LogisticNormal": of_one_kind("LogisticNormal", (LOC, OTHER), (SCALE, WIDTH)),
    "RelaxedBernoulli": (
        lambda d, t: d.RelaxedBernoulli(t(HEAT), t(PROBS)),
        lambda d, t: d.RelaxedBernoulli(t(HEAT), logits=t(OTHER)),
    ),
    "RelaxedOneHotCategorical": (
        lambda d, t: d.RelaxedOneHotCategorical(t(HEAT), t(PROBS)),
        lambda d, t: d.RelaxedOneHotCategorical(t(HEAT), logits=t(OTHER)),
    ),
    "OneHotCategoricalStraightThrough": of_one_kind(
        "OneHotCategoricalStraightThrough", (PROBS, CHANCES)),
    "LowRankMultivariateNormal": (
        lambda d, t: d.LowRankMultivariateNormal(t(LOC), t(ROOTS[..., :2]), t(SCALE)),
        lambda d, t: d.LowRankMultivariateNormal(t(OTHER), t(SPREADS[..., :3]), t(WIDTH)),
    ),
    "LowRankMultivariateNormal_full": (
        lambda d, t: d.LowRankMultivariateNormal(t(LOC), t(ROOTS[..., :2]), t(SCALE)),
        lambda d, t: d.MultivariateNormal(t(OTHER), scale_tril=t(SPREADS)),
    ),
    "MultivariateNormal_low": (
        lambda d, t: d.MultivariateNormal(t(LOC), scale_tril=t(ROOTS)),
        lambda d, t: d.LowRankMultivariateNormal(t(OTHER), t(SPREADS[..., :2]), t(WIDTH)),
    ),
    "Wishart": (
        lambda d, t: d.Wishart(t(SCALE[:, 0] + 7), scale_tril=t(ROOTS)),
        lambda d, t: d.Wishart(t(WIDTH[:, 0] + 5), t(covariance(SPREADS))),
    ),
    "LKJCholesky": (lambda d, t: d.LKJCholesky(4, t(SCALE)), lambda d, t: d.LKJCholesky(4)),
    "Independent": (
        lambda d, t: d.Independent(d.Normal(t(LOC), t(SCALE)), 1),
        lambda d, t: d.Independent(d.Normal(t(OTHER), t(WIDTH)), 1),
    ),
}  # fmt: skip
"""Two distributions of a kind, in either library."""


def tensor(device):
    return lambda array: tgrad.tensor(array, device=device)


def unchecked(distribution):
    """PyTorch's, which takes values beyond the support."""
    made = type(distribution).__new__(type(distribution))
    made.__dict__.update(distribution.__dict__, _validate_args=False)
    return made


def value_of(name, distribution):
    """What a distribution may have drawn."""
    torch.manual_seed(4)
    return LOC + 0.2 if name == "Uniform" else distribution.sample().numpy()


def agree(have, want, rtol=3e-5):
    """One function in both libraries: values, or neither has it."""
    try:
        wanted = want().detach().numpy()
    except (NotImplementedError, AttributeError):
        with pytest.raises(UnsupportedError):
            have()
        return
    np.testing.assert_allclose(have().numpy(), wanted, rtol=rtol, atol=3e-6)


@pytest.mark.filterwarnings("ignore:Singular sample detected")
@pytest.mark.parametrize("name", MADE)
def test_densities_entropies_and_divergences(name, device):
    to = tensor(device)
    p, q = (make(ours, to) for make in MADE[name])
    a, b = (make(theirs, torch.tensor) for make in MADE[name])
    assert (p.batch_shape, p.event_shape) == (tuple(a.batch_shape), tuple(a.event_shape))
    value = value_of(name, a)
    mine, other = to(value), torch.tensor(value)
    agree(lambda: p.log_prob(mine), lambda: unchecked(a).log_prob(other))
    agree(p.entropy, a.entropy)
    if name != "Wishart":  # PyTorch's of batches are not those of their members
        agree(lambda: ours.kl_divergence(p, q), lambda: theirs.kl_divergence(a, b))
    if device == "numpy" and name not in ("StudentT", "Independent", *CLASSES):
        agree(lambda: p.cdf(mine), lambda: unchecked(a).cdf(other))
    if p.has_rsample and not p.event_shape and name not in ("Gamma", "Chi2", "InverseGamma"):
        agree(lambda: p.icdf(to(PROBS)), lambda: a.icdf(torch.tensor(PROBS)))
    if not name.startswith("Categorical"):
        agree(lambda: p.mean, lambda: a.mean)
        cancels = name.startswith("ContinuousBernoulli")  # near 1/2, in PyTorch's formula too
        agree(lambda: p.stddev, lambda: a.stddev, 1e-3 if cancels else 3e-5)


NO_MOMENTS = (
    *CLASSES, "Cauchy", "HalfCauchy", "VonMises", "LogisticNormal", "RelaxedBernoulli",
    "RelaxedOneHotCategorical", "LKJCholesky",
)  # fmt: skip
"""Those that have no mean, or one of angles."""


@pytest.mark.parametrize("name", [n for n in MADE if n not in NO_MOMENTS])
def test_draws_have_their_moments(name, device):
    """Within five standard errors of mean and variance."""
    tgrad.manual_seed(1)
    p, count = MADE[name][0](ours, tensor(device)), 5_000 if device == "numpy" else 500
    drawn = p.sample((count,))
    assert drawn.shape == (count, *p.batch_shape, *p.event_shape) and not drawn.requires_grad
    x = drawn.numpy().astype(np.float64)
    x = np.log(x) if name == "LogNormal" else x
    mean, variance = (p.loc, p.scale.square()) if name == "LogNormal" else (p.mean, p.variance)
    mean, variance = mean.numpy(), variance.numpy()
    assert (abs(x.mean(0) - mean) < 5 * np.sqrt(variance / count)).all()
    if name in ("Pareto", "InverseGamma", "StudentT", "GeneralizedPareto", "FisherSnedecor"):
        return  # a fourth moment that is infinite, or nearly so
    error = np.sqrt(np.maximum(((x - mean) ** 2).var(0), 1e-12) / count)
    assert (abs(((x - mean) ** 2).mean(0) - variance) < 5 * error).all()


@pytest.mark.parametrize(
    "name",
    [
        "Cauchy",
        "HalfCauchy",
        "Gamma",
        "Gumbel",
        "Weibull",
        "Pareto",
        "Kumaraswamy",
        "ContinuousBernoulli",
        "GeneralizedPareto",
    ],
)
def test_draws_are_spread_as_their_distribution_function(name):
    """Kolmogorov and Smirnov's distance of 5,000 draws is above 0.0326 once in 10,000."""
    tgrad.manual_seed(6)
    p = MADE[name][0](ours, tensor("numpy"))
    ranks = np.sort(p.cdf(p.sample((5_000,))).numpy().astype(np.float64), 0)
    steps = np.arange(1, 5_001)[:, None, None] / 5_000
    assert abs(ranks - steps).max() < 0.0326


@pytest.mark.filterwarnings("ignore:Singular sample detected")
@pytest.mark.parametrize(
    "name",
    ["Beta", "StudentT", "Dirichlet", "InverseGamma", "VonMises", "RelaxedBernoulli",
     "RelaxedOneHotCategorical", "LogisticNormal", "LKJCholesky", "Wishart", "FisherSnedecor",
     "LowRankMultivariateNormal"],
)  # fmt: skip
def test_draws_are_spread_as_pytorch_s(name):
    tgrad.manual_seed(7)
    torch.manual_seed(7)
    have = MADE[name][0](ours, tensor("numpy")).sample((5_000,)).numpy().reshape(5_000, -1)
    want = MADE[name][0](theirs, torch.tensor).sample((5_000,)).numpy().reshape(5_000, -1)
    for k in range(have.shape[1]):
        places = np.sort(np.concatenate([have[:, k], want[:, k]]))
        below = [np.searchsorted(np.sort(x[:, k]), places, "right") / 5_000 for x in (have, want)]
        assert abs(below[0] - below[1]).max() < 0.046, name


def test_classes_come_as_often_as_they_should(device):
    tgrad.manual_seed(2)
    probs = np.array([[0.1, 0.0, 0.6, 0.3], [0.25, 0.25, 0.5, 0.0]])
    p = ours.Categorical(tgrad.tensor(probs * 7, device=device))
    drawn = p.sample((5_000,)).numpy()
    often = np.stack([(drawn == k).mean(0) for k in range(4)], -1)
    assert (often[probs == 0] == 0).all()
    assert (abs(often - probs) < 5 * np.sqrt(probs * (1 - probs) / 5_000) + 1e-9).all()


INVERTED = {
    "Normal": (LOC, SCALE), "LogNormal": (LOC, SCALE), "Uniform": (LOC, LOC + SCALE),
    "Exponential": (SCALE,), "Laplace": (LOC, SCALE), "Cauchy": (LOC, SCALE),
    "Gumbel": (LOC, SCALE), "Weibull": (SCALE, WIDTH + 0.5), "Pareto": (SCALE, WIDTH + 2.5),
    "HalfNormal": (SCALE,), "Kumaraswamy": (SCALE + 0.8, WIDTH + 0.8),
    "ContinuousBernoulli": (PROBS,),
}  # fmt: skip


@pytest.mark.parametrize("name", INVERTED)
def test_draws_have_the_gradients_of_their_parameters(name):
    """d(draw) / d(parameter), where PyTorch's draw is made from the same noise by the inverse."""
    tgrad.manual_seed(3)
    inputs = [tgrad.tensor(a, requires_grad=True, device="numpy") for a in INVERTED[name]]
    drawn = getattr(ours, name)(*inputs).rsample((5,))
    drawn.sum().backward()
    known = [torch.tensor(a, requires_grad=True, dtype=torch.float64) for a in INVERTED[name]]
    make = getattr(theirs, name)
    x = torch.tensor(drawn.detach().numpy(), dtype=torch.float64)
    with torch.no_grad():
        noise = make(*known, validate_args=False).cdf(x)
    make(*known, validate_args=False).icdf(noise).sum().backward()
    for mine, other in zip(inputs, known):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("a", [0.2, 1.0, 7.5, 80.0])
def test_gamma_draws_have_the_gradient_of_their_quantile(a):
    """-(dP/da) / (dP/dx), by wide differences of PyTorch's P."""
    tgrad.manual_seed(5)
    at = tgrad.full((50,), a, dtype=tgrad.float64, device="numpy").requires_grad_()
    drawn = ours.Gamma(at, 1.0).rsample()
    drawn.sum().backward()
    x, step = torch.tensor(drawn.detach().numpy()), 1e-3 * a
    whole = [torch.igamma(torch.full_like(x, a + k * step), x) for k in (-2, -1, 1, 2)]
    below = (whole[0] - 8 * whole[1] + 8 * whole[2] - whole[3]) / (12 * step)
    want = -below / theirs.Gamma(torch.full_like(x, a), 1.0).log_prob(x).exp()
    bulk = (x > x.quantile(0.1)) & (x < x.quantile(0.9))
    np.testing.assert_allclose(at.grad.numpy()[bulk], want.numpy()[bulk], rtol=1e-4, atol=1e-6)
    (g,) = tgrad.autograd.grad(ours.Gamma(at, 1.0).rsample().sum(), at, create_graph=True)
    with pytest.raises(UnsupportedError, match="second derivative of draws of a gamma"):
        tgrad.autograd.grad(g.sum(), at)


TRANSFORMS = {
    "exp": lambda d, t: d.ExpTransform(),
    "power": lambda d, t: d.ComposeTransform([d.ExpTransform(), d.PowerTransform(t(SCALE))]),
    "sigmoid": lambda d, t: d.SigmoidTransform(),
    "tanh": lambda d, t: d.TanhTransform(),
    "softplus": lambda d, t: d.SoftplusTransform(),
    "affine": lambda d, t: d.AffineTransform(t(LOC), t(SCALE), event_dim=1),
    "back": lambda d, t: d.SigmoidTransform().inv.inv,
    "many": lambda d, t: d.ComposeTransform([
        d.AffineTransform(1.0, t(SCALE)), d.TanhTransform(),
        d.IndependentTransform(d.ExpTransform(), 1)]),
    "sticks": lambda d, t: d.StickBreakingTransform(),
    "nothing": lambda d, t: d.identity_transform,
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name):
    """Images, inverses, volumes, and the density and draws of what is transformed."""
    found = []
    for d, to in ((ours, tensor("numpy")), (theirs, torch.tensor)):
        if d is theirs:
            d = type("Both", (), {**vars(theirs), **vars(theirs.transforms)})
        f, x = TRANSFORMS[name](d, to), to(OTHER * 0.5)
        y = f(x)
        p = d.TransformedDistribution(d.Normal(to(LOC), to(SCALE)), [f])
        results = [y, f.inv(y), f.log_abs_det_jacobian(x, y), p.log_prob(y)]
        found.append([*results, tuple(p.batch_shape), tuple(p.event_shape)])
        assert p.rsample((2,)).shape[1:] == y.shape
    for have, want in zip(*found):
        if isinstance(want, tuple):
            assert have == want
        else:
            np.testing.assert_allclose(have.numpy(), want.numpy(), rtol=2e-4, atol=2e-5)


def test_divergence_of_transformed_distributions():
    def made(d, t, loc, scale):
        base = d.Normal(t(loc), t(scale))
        return d.TransformedDistribution(base, [d.AffineTransform(1.0, 2.0), d.ExpTransform()])

    pairs = [(LOC, SCALE), (OTHER, WIDTH)]
    p, q = (made(ours, tensor("numpy"), *pair) for pair in pairs)
    a, b = (made(theirs, torch.tensor, *pair) for pair in pairs)
    want = theirs.kl_divergence(a, b).numpy()
    np.testing.assert_allclose(ours.kl_divergence(p, q).numpy(), want, rtol=1e-5)
    other = ours.TransformedDistribution(p.base_dist, [ours.ExpTransform()])
    with pytest.raises(UnsupportedError, match="Transform both alike"):
        ours.kl_divergence(p, other)


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
        (lambda: ours.Bernoulli(0.5).rsample(), UnsupportedError, "have no gradient"),
        (lambda: ours.Independent(ours.Normal(0.0, 1.0), 1), ShapeError, "1 axes of 0"),
        (lambda: ours.Categorical(tgrad.ones(2)).mean, UnsupportedError, "has no mean"),
        (lambda: ours.Dirichlet(tgrad.tensor(1.0)), ShapeError, "Parts lie along the last axis"),
        (
            lambda: ours.MultivariateNormal(tgrad.ones(1)),
            UnsupportedError,
            "MultivariateNormal of 0 matrices",
        ),
        (
            lambda: ours.MixtureSameFamily(
                ours.Categorical(tgrad.ones(2)), ours.Normal(tgrad.ones(3), 1.0)
            ),
            ShapeError,
            "of 2 classes and parts of batch shape",
        ),
        (
            lambda: ours.TransformedDistribution(
                ours.Normal(0.0, 1.0), ours.StickBreakingTransform()
            ),
            ShapeError,
            "transforms of points with 1 axes",
        ),
        (lambda: ours.SoftmaxTransform().log_abs_det_jacobian(1, 1), UnsupportedError, "density"),
        (
            lambda: ours.Binomial(tgrad.ones(1), probs=0.5).entropy(),
            UnsupportedError,
            "Binomial.entropy of a tensor of counts",
        ),
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


@pytest.mark.filterwarnings("ignore:Singular sample detected")
@pytest.mark.parametrize("name", MADE)
def test_modes_and_wider_batches(name):
    have, want = MADE[name][0](ours, tgrad.tensor), MADE[name][0](theirs, torch.tensor)
    try:
        mode = want.mode
    except NotImplementedError:
        with pytest.raises(UnsupportedError, match="has no mode"):
            have.mode  # noqa: B018
    else:
        if name != "Kumaraswamy":  # PyTorch's is NaN
            np.testing.assert_allclose(have.mode.numpy(), mode.numpy(), rtol=1e-5)
    shape = (2, *want.batch_shape)
    have, want = have.expand(shape), want.expand(shape)
    assert have.batch_shape == tuple(want.batch_shape)
    assert have.event_shape == tuple(want.event_shape)
    assert have.sample((2,)).shape == tuple(want.sample((2,)).shape)
    value = want.sample()
    density = have.log_prob(tgrad.tensor(value.numpy()))
    np.testing.assert_allclose(density.numpy(), want.log_prob(value).numpy(), rtol=1e-4, atol=1e-4)


def test_an_older_name_of_draws():
    with pytest.warns(FutureWarning, match="sample"):
        assert ours.Normal(tgrad.zeros(2), 1.0).sample_n(3).shape == (3, 2)


ENUMERATED = [
    lambda d, t: d.Bernoulli(t(PROBS)),
    lambda d, t: d.Bernoulli(logits=t(LOC)),
    lambda d, t: d.Binomial(5, t(PROBS)),
    lambda d, t: d.Binomial(t(COUNTS), logits=t(LOC)),
    lambda d, t: d.Categorical(t(PROBS)),
    lambda d, t: d.Categorical(t(PROBS[0])),
    lambda d, t: d.OneHotCategorical(t(PROBS)),
    lambda d, t: d.OneHotCategoricalStraightThrough(t(PROBS)),
    lambda d, t: d.Independent(d.Bernoulli(t(PROBS)), 0),
]


@pytest.mark.parametrize("expand", [True, False])
@pytest.mark.parametrize("make", ENUMERATED)
def test_all_values(make, expand):
    have = make(ours, tgrad.tensor).enumerate_support(expand)
    want = make(theirs, torch.tensor).enumerate_support(expand)
    assert have.dtype.name == str(want.dtype).rpartition(".")[2]
    assert make(ours, tgrad.tensor).has_enumerate_support
    assert have.shape == tuple(want.shape)
    np.testing.assert_array_equal(have.numpy(), want)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: ours.Normal(0.0, 1.0), "enumerate_support of Normal"),
        (lambda: ours.Binomial(tgrad.tensor([2.0, 3.0]), tgrad.ones(2) / 2), "of 2 to 3 trials"),
        (lambda: ours.Independent(ours.Bernoulli(tgrad.ones(2) / 2), 1), "of an Independent"),
    ],
)
def test_no_list_of_values(make, what):
    with pytest.raises(UnsupportedError, match=what):
        make().enumerate_support()
    assert make().has_enumerate_support == ("trials" in what)
