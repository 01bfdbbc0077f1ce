"""Constraints, the transforms to them, and divergences of unlike distributions, against PyTorch."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

import tgrad
from tests.front.test_distributions import LOC, MADE, OTHER, PROBS, ROOTS, SCALE, TAILS, WIDTH
from tgrad import distributions as ours
from tgrad.errors import ShapeError, UnsupportedError

theirs = torch.distributions
BOTH = ((ours, tgrad.tensor), (theirs, torch.tensor))


class WithTransforms:
    """All names of PyTorch in one place, as tgrad has them."""

    def __init__(self, library):
        self.library = library

    def __getattr__(self, name):
        for place in (self.library, self.library.transforms, self.library.constraints):
            if hasattr(place, name):
                return getattr(place, name)
        raise AttributeError(name)


def in_both(make):
    return [make(WithTransforms(library), to) for library, to in BOTH]


def numbers(t):
    return t.detach().numpy()


TRANSFORMS = {
    "lower": (lambda d, t: d.LowerCholeskyTransform(), ROOTS, False),
    "definite": (lambda d, t: d.PositiveDefiniteTransform(), ROOTS * 0.5, False),
    "correlations": (lambda d, t: d.CorrCholeskyTransform(), np.tile(LOC, 2)[:, :6] * 0.7, True),
    "reshape": (lambda d, t: d.ReshapeTransform((4,), (2, 2)), LOC, True),
    "cumulative": (
        lambda d, t: d.CumulativeDistributionTransform(d.Normal(t(LOC), t(SCALE))), OTHER, True),
    "cat": (lambda d, t: d.CatTransform(
        [d.ExpTransform(), d.AffineTransform(t(1.0), t(2.0))], 1, [1, 3]), LOC, True),
    "cat of first axis": (lambda d, t: d.CatTransform(
        [d.ExpTransform(), d.SigmoidTransform(), d.identity_transform], 0), LOC, True),
    "cat of vectors": (lambda d, t: d.CatTransform(
        [d.IndependentTransform(d.ExpTransform(), 1), d.AffineTransform(1.0, -2.0, 1)],
        -1, [2, 2]), LOC, True),
    "stack": (lambda d, t: d.StackTransform(
        [d.ExpTransform(), d.SigmoidTransform(), d.TanhTransform()], 0), LOC, True),
    "shrinking": (lambda d, t: d.ComposeTransform(
        [d.AffineTransform(t(0.5), t(-SCALE)), d.TanhTransform()]), LOC, True),
    "many": (lambda d, t: d.ComposeTransform([
        d.ReshapeTransform((4,), (2, 2)), d.IndependentTransform(d.ExpTransform(), 1),
        d.ReshapeTransform((2, 2), (4,)), d.StickBreakingTransform()]), LOC * 0.3, True),
}  # fmt: skip
"""By name: in either library, points, and whether there is a density."""


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name):
    make, points, has_density = TRANSFORMS[name]
    f, g = in_both(make)
    x, x_ = tgrad.tensor(points, requires_grad=True), torch.tensor(points, requires_grad=True)
    y, y_ = f(x), g(x_)
    assert f.domain.event_dim == g.domain.event_dim
    assert f.codomain.event_dim == g.codomain.event_dim and f.bijective == g.bijective
    assert f.forward_shape(x.shape) == tuple(g.forward_shape(x_.shape)) == y.shape
    assert f.inverse_shape(y.shape) == tuple(g.inverse_shape(y_.shape)) == x.shape
    pairs = [(y, y_), (f.inv(y), g.inv(y_))]
    if has_density:
        pairs.append((f.log_abs_det_jacobian(x, y), g.log_abs_det_jacobian(x_, y_)))
        assert pairs[-1][0].shape == tuple(pairs[-1][1].shape)
    else:
        with pytest.raises(UnsupportedError, match="has no density"):
            f.log_abs_det_jacobian(x, y)
    for have, want in pairs:
        np.testing.assert_allclose(numbers(have), numbers(want), rtol=2e-4, atol=2e-5)
    sum((have.square().sum() for have, _ in pairs), tgrad.zeros(())).backward()
    sum((want.square().sum() for _, want in pairs), torch.zeros(())).backward()
    np.testing.assert_allclose(x.grad.numpy(), x_.grad, rtol=1e-3, atol=1e-4)


def test_distributions_of_transformed_points_of_other_axes():
    """Shapes, densities and cumulative functions where transforms turn and widen."""

    def made(d, t):
        base = d.Normal(t(LOC[0]), t(SCALE[0]))
        return [
            d.TransformedDistribution(base, [d.ReshapeTransform((4,), (2, 2))]),
            d.TransformedDistribution(base, [d.AffineTransform(t(LOC), t(-SCALE))]),
            d.TransformedDistribution(d.Normal(t(LOC), t(SCALE)), [d.SigmoidTransform()]),
            d.TransformedDistribution(
                d.Normal(t(np.zeros((2, 3, 6), np.float32)), t(1.0)),
                [d.CorrCholeskyTransform()],
            ),
        ]

    for p, q in zip(*in_both(made)):
        assert (p.batch_shape, p.event_shape) == (tuple(q.batch_shape), tuple(q.event_shape))
        torch.manual_seed(0)
        value = q.sample()
        have = p.log_prob(tgrad.tensor(value.numpy()))
        np.testing.assert_allclose(have.numpy(), q.log_prob(value), rtol=1e-3, atol=1e-4)
        assert p.sample((2,)).shape == tuple(q.sample((2,)).shape)
        if not q.event_shape:
            have = p.cdf(tgrad.tensor(value.numpy()))
            np.testing.assert_allclose(have.numpy(), q.cdf(value), rtol=1e-3, atol=1e-5)
            have = p.icdf(tgrad.tensor(PROBS))
            np.testing.assert_allclose(have.numpy(), q.icdf(torch.tensor(PROBS)), rtol=1e-3)


CONSTRAINTS = {
    "real": lambda c: c.real,
    "real_vector": lambda c: c.real_vector,
    "positive": lambda c: c.positive,
    "nonnegative": lambda c: c.nonnegative,
    "greater_than": lambda c: c.greater_than(0.5),
    "less_than": lambda c: c.less_than(0.25),
    "unit_interval": lambda c: c.unit_interval,
    "interval": lambda c: c.interval(-1.0, 0.5),
    "half_open_interval": lambda c: c.half_open_interval(-1.0, 0.5),
    "independent": lambda c: c.independent(c.positive, 2),
    "simplex": lambda c: c.simplex,
    "lower_cholesky": lambda c: c.lower_cholesky,
    "positive_definite": lambda c: c.positive_definite,
    "positive_semidefinite": lambda c: c.positive_semidefinite,
    "corr_cholesky": lambda c: c.corr_cholesky,
    "cat": lambda c: c.cat([c.positive, c.unit_interval], -1, [1, 3]),
    "stack": lambda c: c.stack([c.real, c.positive, c.unit_interval], 0),
    "boolean": lambda c: c.boolean,
    "one_hot": lambda c: c.one_hot,
    "integers": lambda c: c.integer_interval(-1, 1),
    "counts": lambda c: c.nonnegative_integer,
    "positive_integer": lambda c: c.positive_integer,
    "multinomial": lambda c: c.multinomial(4),
    "lower_triangular": lambda c: c.lower_triangular,
    "symmetric": lambda c: c.symmetric,
    "square": lambda c: c.square,
}


@pytest.mark.parametrize("name", CONSTRAINTS)
@pytest.mark.parametrize("registry", ["biject_to", "transform_to"])
def test_the_way_to_a_constraint(name, registry):
    c, c_ = (CONSTRAINTS[name](library.constraints) for library in (ours, theirs))
    assert (c.event_dim, c.is_discrete) == (c_.event_dim, c_.is_discrete)
    try:
        f_ = getattr(theirs, registry)(c_)
    except NotImplementedError:
        with pytest.raises(UnsupportedError, match="no transform leads to"):
            getattr(ours, registry)(c)
        return
    f = getattr(ours, registry)(c)
    points = {2: ROOTS}.get(c.event_dim, LOC) if name != "corr_cholesky" else LOC[:, :3]
    y, y_ = f(tgrad.tensor(points)), f_(torch.tensor(points))
    np.testing.assert_allclose(y.numpy(), y_, rtol=1e-4, atol=1e-5)
    assert np.asarray(c.check(y).numpy()).all()


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_what_is_inside(name):
    c, c_ = (CONSTRAINTS[name](library.constraints) for library in (ours, theirs))
    eye = np.eye(4, dtype=np.float32)
    found = [
        LOC, np.round(LOC), (LOC > 0).astype(np.float32), PROBS, eye, eye[:3], ROOTS, -eye,
        PROBS / PROBS.sum(-1, keepdims=True), ROOTS @ ROOTS.transpose(0, 2, 1),
        np.abs(np.round(LOC)),
    ]  # fmt: skip
    for x in found:
        if c.event_dim > x.ndim or (name == "stack" and x.shape[0] != 3):
            continue
        if c.event_dim == 2 and x.shape[-1] != x.shape[-2] and name != "square":
            continue
        have, want = c.check(tgrad.tensor(x)), c_.check(torch.tensor(x))
        np.testing.assert_array_equal(have.numpy(), want.numpy(), str(x))


@pytest.mark.filterwarnings("ignore:Singular sample detected")
@pytest.mark.parametrize("name", MADE)
def test_supports(name):
    have, want = MADE[name][0](ours, tgrad.tensor), MADE[name][0](theirs, torch.tensor)
    assert (have.support.event_dim, have.support.is_discrete) == (
        want.support.event_dim, want.support.is_discrete,
    )  # fmt: skip
    drawn = want.sample((3,))
    if name not in ("Wishart", "LKJCholesky"):  # PyTorch's own draws are at the edge
        inside = have.support.check(tgrad.tensor(drawn.numpy())).numpy()
        np.testing.assert_array_equal(inside, want.support.check(drawn).numpy())


# -- divergences ---------------------------------------------------------------------------------

KINDS = {
    "Bernoulli": (PROBS,), "Beta": (SCALE, WIDTH), "Binomial": (4.0, PROBS),
    "ContinuousBernoulli": (PROBS,), "Exponential": (SCALE,), "Gamma": (WIDTH, SCALE),
    "Gumbel": (LOC, WIDTH), "Laplace": (OTHER, SCALE), "Normal": (LOC, SCALE),
    "Pareto": (SCALE * 0.2, WIDTH + 0.9), "Poisson": (WIDTH,), "Uniform": (TAILS, TAILS + PROBS),
}  # fmt: skip
PAIRS = [
    (p, q) for p, q in (
        (a.__name__, b.__name__) for a, b in theirs.kl._KL_REGISTRY)
    if p != q and p in KINDS and q in KINDS
]  # fmt: skip


def made(name, library, to):
    return getattr(library, name)(*(to(np.asarray(a, np.float32)) for a in KINDS[name]))


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_divergences_of_unlike_distributions(first, second):
    have, want = (
        library.kl_divergence(made(first, library, to), made(second, library, to))
        for library, to in BOTH
    )
    assert have.shape == tuple(want.shape)
    np.testing.assert_allclose(have.numpy(), want, rtol=2e-4, atol=2e-5)


def test_divergences_of_wisharts():
    """One by one: PyTorch's of batches are not those of their members."""
    roots, spreads = ROOTS.astype(np.float64), np.abs(ROOTS[::-1]).astype(np.float64)
    counts = SCALE[:, :2].astype(np.float64) + 6
    p, q = (
        ours.Wishart(tgrad.tensor(counts[:, i]), scale_tril=tgrad.tensor(r))
        for i, r in enumerate((roots, spreads))
    )
    have = ours.kl_divergence(p, q).numpy()
    for k in range(3):
        a, b = (
            theirs.Wishart(torch.tensor(counts[k, i]), scale_tril=torch.tensor(r[k]))
            for i, r in enumerate((roots, spreads))
        )
        np.testing.assert_allclose(have[k], theirs.kl_divergence(a, b).detach(), rtol=1e-6)


def test_draws_beyond_a_threshold_have_gradients():
    """Those of the quantile, by differences."""
    tails = TAILS.astype(np.float64)
    parameters = [tgrad.tensor(a, requires_grad=True) for a in (LOC * 1.0, SCALE * 1.0, tails)]
    parameters = [p.detach().double().requires_grad_() for p in parameters]
    x = ours.GeneralizedPareto(*parameters).rsample()
    x.sum().backward()
    values = [p.detach() for p in parameters]
    u = ours.GeneralizedPareto(*values).cdf(x.detach())
    loc, scale, tail = values
    high, low = (ours.GeneralizedPareto(loc, scale, tail + h).icdf(u) for h in (1e-5, -1e-5))
    want = [np.ones((3, 4)), ((x - loc) / scale).detach().numpy(), ((high - low) / 2e-5).numpy()]
    heavy = np.abs(tails) > 1e-3  # the family is cut at 0
    for p, expected in zip(parameters[:2], want):
        np.testing.assert_allclose(p.grad.numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(parameters[2].grad.numpy()[heavy], want[2][heavy], rtol=1e-4)


def test_divergences_have_gradients():
    p = tgrad.tensor(SCALE, requires_grad=True)
    p_ = torch.tensor(SCALE, requires_grad=True)
    ours.kl_divergence(ours.Gamma(p, 1.0), ours.Gumbel(0.0, p)).sum().backward()
    theirs.kl_divergence(theirs.Gamma(p_, 1.0), theirs.Gumbel(0.0, p_)).sum().backward()
    np.testing.assert_allclose(p.grad.numpy(), p_.grad, rtol=1e-3, atol=1e-4)


def test_every_pair_of_pytorch_is_there():
    from tgrad.distributions.divergence import _DIVERGENCES

    have = {(a.__name__, b.__name__) for a, b in _DIVERGENCES}
    assert {(a.__name__, b.__name__) for a, b in theirs.kl._KL_REGISTRY} <= have
    assert set(theirs.__all__) <= set(ours.__all__)
    assert set(theirs.constraints.__all__) <= set(ours.constraints.__all__)


# -- draws and families --------------------------------------------------------------------------


def test_relaxed_draws_have_gradients():
    """sigmoid((logit(u) + logit(p)) / t), and its derivative with respect to p."""
    p = tgrad.tensor(PROBS, requires_grad=True)
    x = ours.RelaxedBernoulli(0.7, p).rsample((5,))
    x.sum().backward()
    values = x.detach().numpy().astype(np.float64)
    want = (values * (1 - values) / 0.7 / (PROBS * (1 - PROBS))).sum(0)
    np.testing.assert_allclose(p.grad.numpy(), want, rtol=1e-3, atol=1e-4)
    logits = tgrad.tensor(LOC, requires_grad=True)
    weight = tgrad.tensor(OTHER)
    (ours.RelaxedOneHotCategorical(0.7, logits=logits).rsample() * weight).sum().backward()
    assert np.abs(logits.grad.numpy()).max() > 1e-3
    np.testing.assert_allclose(logits.grad.sum(-1).numpy(), 0, atol=1e-5)
    probs = tgrad.tensor(PROBS / PROBS.sum(-1, keepdims=True), requires_grad=True)
    drawn = ours.OneHotCategoricalStraightThrough(probs).rsample()
    assert set(np.round(drawn.detach().numpy(), 5).reshape(-1)) == {0.0, 1.0}
    (drawn * weight).sum().backward()
    total = PROBS.sum(-1, keepdims=True) * 0 + 1
    want = OTHER - (OTHER * probs.detach().numpy()).sum(-1, keepdims=True) * total
    np.testing.assert_allclose(probs.grad.numpy(), want, rtol=1e-4, atol=1e-5)


def test_draws_of_matrices_have_gradients():
    """E[tr(X)] = df tr(L Lᵀ), and of a normal vector E[x'x] = tr(W W') + sum(d) + m'm."""
    tgrad.manual_seed(0)
    root = tgrad.tensor(ROOTS[0], requires_grad=True)
    x = ours.Wishart(7.0, scale_tril=root).rsample((4000,))
    x.diagonal(dim1=-2, dim2=-1).sum(-1).mean().backward()
    np.testing.assert_allclose(root.grad.numpy(), np.tril(14 * ROOTS[0]), atol=0.8)
    w, d = tgrad.tensor(ROOTS[0, :, :2], requires_grad=True), tgrad.tensor(SCALE[0])
    d = d.requires_grad_()
    x = ours.LowRankMultivariateNormal(tgrad.zeros(4), w, d).rsample((20_000,))
    x.square().sum(-1).mean().backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * ROOTS[0, :, :2], atol=0.15)
    np.testing.assert_allclose(d.grad.numpy(), 1, atol=0.1)


def test_a_compiled_step_of_draws(device):
    @tgrad.compile
    def step(logits):
        p = ours.RelaxedOneHotCategorical(0.5, logits=logits)
        x = p.rsample()
        angle = ours.VonMises(logits[:, 0].detach(), 2.0).sample()
        loss = (p.log_prob(x) * angle.cos()).sum()
        return x, *tgrad.autograd.grad(loss, [logits])

    logits = tgrad.tensor(LOC, device=device).requires_grad_()
    first, second = step(logits), step(logits)
    assert np.abs(first[0].numpy() - second[0].numpy()).max() > 0
    np.testing.assert_allclose(second[0].numpy().sum(-1), 1, rtol=1e-4)


def test_the_mode_of_kumaraswamy_is_the_maximum():
    p = ours.Kumaraswamy(tgrad.tensor([2.0, 3.0, 0.5]), tgrad.tensor([3.0, 1.5, 2.0]))
    x = np.linspace(0.001, 0.999, 9981, dtype=np.float32)
    best = x[p.log_prob(tgrad.tensor(x[:, None])).numpy().argmax(0)]
    np.testing.assert_allclose(p.mode.numpy()[:2], best[:2], atol=1e-3)
    assert np.isnan(p.mode.numpy()[2])


def test_exponential_families_of_users():
    def made(d, lib, to):
        class Gaussian(d.ExponentialFamily):
            _mean_carrier_measure = 0
            arg_constraints = {}  # noqa: RUF012

            def __init__(self, loc, scale):
                self.loc, self.scale = loc, scale
                super().__init__(loc.shape, (), validate_args=None)

            @property
            def _natural_params(self):
                square = self.scale.square()
                return self.loc / square, -0.5 / square

            def _log_normalizer(self, x, y):
                return -0.25 * x.square() / y + 0.5 * (-np.pi / y).log()

        p, q = Gaussian(to(LOC), to(SCALE)), Gaussian(to(OTHER), to(WIDTH))
        return p.entropy(), d.kl_divergence(p, q)

    known = theirs.Normal(torch.tensor(LOC), torch.tensor(SCALE))
    other = theirs.Normal(torch.tensor(OTHER), torch.tensor(WIDTH))
    have = made(ours, tgrad, tgrad.tensor)
    for mine, want in zip(have, (known.entropy(), theirs.kl_divergence(known, other))):
        np.testing.assert_allclose(mine.detach().numpy(), want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: ours.Wishart(3.0), UnsupportedError, "Wishart of 0 matrices"),
        (lambda: ours.LKJCholesky(1), ShapeError, "LKJCholesky: dim=1"),
        (
            lambda: ours.LowRankMultivariateNormal(
                tgrad.zeros(2), tgrad.ones(3, 1), tgrad.ones(2)
            ),
            ShapeError, r"of shapes \(2,\), \(3, 1\) and \(2,\)",
        ),
        (lambda: ours.ReshapeTransform((2,), (3,)), ShapeError, "Both have as many elements"),
        (lambda: ours.CorrCholeskyTransform()(tgrad.ones(4)), ShapeError, "of 4 numbers"),
        (
            lambda: ours.StackTransform([ours.ExpTransform()])(tgrad.ones(2)),
            ShapeError, "Axis 0 has size 1",
        ),
        (lambda: ours.RelaxedBernoulli(1.0), UnsupportedError, "Give one of the two"),
        (lambda: ours.VonMises(0.0, 1.0).rsample(), UnsupportedError, "have no gradient"),
        (
            lambda: ours.constraints.dependent.check(tgrad.ones(1)),
            ValueError, "A dependent constraint cannot tell",
        ),
    ],
)  # fmt: skip
def test_errors(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_dependent_constraints():
    c = ours.constraints

    class Above:
        @c.dependent_property(is_discrete=False, event_dim=0)
        def support(self):
            return c.greater_than(2.0)

    assert c.is_dependent(inspect.getattr_static(Above, "support"))
    assert not c.is_dependent(c.real) and Above().support.lower_bound == 2.0
    assert repr(c.interval(0.0, 1.0)) == repr(theirs.constraints.interval(0.0, 1.0))
