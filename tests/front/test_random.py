"""Random tensors: their distributions, the same bits everywhere, one plan for every draw."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import tgrad
from tgrad.runtime.plan import record_plans

N = 40000

DRAWS = {
    "rand": (lambda g, **d: tgrad.rand(N, generator=g, **d), 0.5, 12**-0.5),
    "rand_float64": (
        lambda g, **d: tgrad.rand(N, generator=g, dtype=tgrad.float64, **d), 0.5, 12**-0.5
    ),
    "rand_float16": (
        lambda g, **d: tgrad.rand(N, generator=g, dtype=tgrad.float16, **d).float(), 0.5, 12**-0.5
    ),
    "randn": (lambda g, **d: tgrad.randn(200, N // 200, generator=g, **d), 0.0, 1.0),
    "randn_float64": (
        lambda g, **d: tgrad.randn(N, generator=g, dtype=tgrad.float64, **d), 0.0, 1.0
    ),
    "normal": (lambda g, **d: tgrad.normal(3.0, 2.0, (N,), generator=g, **d), 3.0, 2.0),
    "randint": (lambda g, **d: tgrad.randint(-3, 7, (N,), generator=g, **d), 1.5, 8.25**0.5),
    "bernoulli": (
        lambda g, **d: tgrad.bernoulli(tgrad.full((N,), 0.3, **d), generator=g), 0.3, 0.21**0.5
    ),
    "uniform_": (
        lambda g, **d: tgrad.zeros(N, **d).uniform_(-1, 3, generator=g), 1.0, 4 * 12**-0.5
    ),
    "exponential_": (lambda g, **d: tgrad.zeros(N, **d).exponential_(0.5, generator=g), 2.0, 2.0),
    "log_normal_": (
        lambda g, **d: tgrad.zeros(N, **d).log_normal_(0.2, 0.3, generator=g),
        np.exp(0.245), np.exp(0.245) * np.expm1(0.09) ** 0.5,
    ),
    "geometric_": (
        lambda g, **d: tgrad.zeros(N, **d).geometric_(0.25, generator=g), 4.0, 12**0.5
    ),
    "random_": (
        lambda g, **d: tgrad.zeros(N, **d).random_(-3, 7, generator=g), 1.5, 8.25**0.5
    ),
    "bernoulli_": (
        lambda g, **d: tgrad.zeros(N, **d).bernoulli_(0.3, generator=g), 0.3, 0.21**0.5
    ),
    "normal_": (lambda g, **d: tgrad.zeros(N, **d).normal_(1, 0.5, generator=g), 1.0, 0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
def test_distribution(name, device):
    draw, mean, std = DRAWS[name]
    values = draw(tgrad.Generator().manual_seed(4), device=device).numpy().astype(np.float64)
    assert values.mean() == pytest.approx(mean, abs=5 * std / N**0.5)
    assert values.std() == pytest.approx(std, rel=0.02)
    flat = values.reshape(-1)
    assert abs(np.corrcoef(flat[:-1], flat[1:])[0, 1]) < 0.03


EXACT = [
    "bernoulli_",
    "random_",
    "rand",
    "rand_float64",
    "rand_float16",
    "randint",
    "bernoulli",
    "uniform_",
]


@pytest.mark.parametrize("name", DRAWS)
def test_same_on_every_device(name):
    """Uniform numbers to the bit; normal ones to the last digits of log and cos."""
    draw = DRAWS[name][0]
    first, second = (
        draw(tgrad.Generator().manual_seed(9), device=d).numpy() for d in ("numpy", "cpu")
    )
    if name in EXACT:
        np.testing.assert_array_equal(first, second)
    else:
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


def test_bounds(device):
    generator = tgrad.Generator().manual_seed(0)
    x = tgrad.rand(300000, generator=generator, device=device).numpy()
    assert x.min() >= 0 and x.max() < 1
    assert (x * 2**24 == np.round(x * 2**24)).all()
    assert np.isfinite(tgrad.randn(300000, generator=generator, device=device).numpy()).all()
    big = tgrad.randint(0, 2**60, (1000,), generator=generator, device=device).numpy()
    assert big.min() >= 0 and big.max() < 2**60 and big.max() > 2**59
    small = tgrad.randint(5, (1000,), generator=generator, device=device).numpy()
    assert set(small) == {0, 1, 2, 3, 4}


def test_seeds_and_states(device):
    generator = tgrad.Generator().manual_seed(7)
    a = tgrad.rand(5, generator=generator, device=device).tolist()
    state = generator.get_state()
    b = tgrad.rand(5, generator=generator, device=device).tolist()
    generator.set_state(state)
    assert tgrad.rand(5, generator=generator, device=device).tolist() == b != a
    assert generator.manual_seed(7).initial_seed() == 7
    assert tgrad.rand(5, generator=generator, device=device).tolist() == a
    assert tgrad.rand(5, generator=generator.manual_seed(8), device=device).tolist() != a
    negative = tgrad.Generator().manual_seed(-1)
    assert negative.initial_seed() == 2**64 - 1
    assert len(set(tgrad.rand(50, generator=negative, device=device).tolist())) > 45


def test_default_generator():
    tgrad.manual_seed(3)
    assert tgrad.initial_seed() == 3
    state = tgrad.get_rng_state()
    a = tgrad.randn(4, device="numpy").tolist()
    tgrad.set_rng_state(state)
    assert tgrad.randn(4, device="numpy").tolist() == a


def test_a_second_draw_compiles_nothing(device):
    tgrad.manual_seed(1)
    tgrad.randn(1234, device=device).numpy()
    with record_plans() as plans:
        a, b = (tgrad.randn(1234, device=device).numpy() for _ in range(2))
        tgrad.manual_seed(2)
        c = tgrad.randn(1234, device=device).numpy()
    assert not plans
    assert (a != b).any() and (a != c).any()


def test_a_value_stays_what_it_is(device):
    x = tgrad.rand(10, device=device)
    y = x + 0
    assert x.tolist() == y.tolist() == x.tolist()


def test_randperm():
    generator = tgrad.Generator().manual_seed(0)
    a, b = (tgrad.randperm(100, generator=generator, device="numpy").tolist() for _ in range(2))
    assert sorted(a) == sorted(b) == list(range(100)) and a != b
    assert tgrad.randperm(100, generator=generator.manual_seed(0), device="numpy").tolist() == a


def test_like():
    x = tgrad.zeros(3, 4, dtype=tgrad.float64, device="numpy")
    for made in (tgrad.rand_like(x), tgrad.randn_like(x), tgrad.randint_like(x, 5)):
        assert (made.shape, made.dtype, made.device) == (x.shape, x.dtype, x.device)


def test_published_vectors():
    """Philox 4x32-10 of Random123's kat_vectors: the words behind a draw."""
    from tgrad.graph.interpret import philox

    counters = np.array([0]), np.array([0])
    words = philox(*counters, np.array([0]))
    assert [int(w[0]) for w in words] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


KOLMOGOROV = 1.63
"""The root of the count times the largest distance of distributions stays below it 99 times of
100."""


def assert_distributed(values, below):
    """By the largest distance to the distribution function `below`, of values and of 0.5 less, so
    that counts are met between their steps."""
    for x in np.unique(np.quantile(values, np.linspace(0.01, 0.99, 50))):
        assert abs((values <= x).mean() - below(x)) < KOLMOGOROV / len(values) ** 0.5


CONTINUOUS = {
    "uniform_": (lambda x, g: x.uniform_(-1, 3, generator=g), lambda s: s.uniform(-1, 4)),
    "normal_": (lambda x, g: x.normal_(1, 2, generator=g), lambda s: s.norm(1, 2)),
    "cauchy_": (lambda x, g: x.cauchy_(1, 2, generator=g), lambda s: s.cauchy(1, 2)),
    "exponential_": (lambda x, g: x.exponential_(3, generator=g), lambda s: s.expon(0, 1 / 3)),
    "log_normal_": (
        lambda x, g: x.log_normal_(0.5, 0.7, generator=g), lambda s: s.lognorm(0.7, 0, np.exp(0.5))
    ),
    "geometric_": (lambda x, g: x.geometric_(0.2, generator=g), lambda s: s.geom(0.2)),
    **{
        f"poisson {rate}": (
            lambda x, g, rate=rate: tgrad.poisson(x + rate, g), lambda s, rate=rate: s.poisson(rate)
        )
        for rate in (0.3, 9.9, 35.0, 4000.0)
    },
    **{
        f"binomial {n} {p}": (
            lambda x, g, n=n, p=p: tgrad.binomial(x + n, x + p, g),
            lambda s, n=n, p=p: s.binom(n, p),
        )
        for n, p in ((5, 0.3), (100, 0.9), (5000, 0.4))
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CONTINUOUS)
def test_distribution_function(name):
    stats = pytest.importorskip("scipy.stats")
    draw, known = CONTINUOUS[name]
    x = tgrad.zeros(N, device="numpy", dtype=tgrad.float64)
    values = draw(x, tgrad.Generator().manual_seed(11)).numpy()
    assert_distributed(values, known(stats).cdf)


def test_counts_of_extremes():
    device = "numpy"
    rate = tgrad.tensor([0.0, 1e-30, 2.0**40], device=device)
    zero, tiny, huge = tgrad.poisson(rate).tolist()
    assert (zero, tiny) == (0.0, 0.0) and abs(huge / 2.0**40 - 1) < 1e-4
    n, p = tgrad.tensor([0.0, 7.0, 7.0, 500.0]), tgrad.tensor([0.5, 0.0, 1.0, 1.0])
    assert tgrad.binomial(n.to(device), p.to(device)).tolist() == [0.0, 0.0, 7.0, 500.0]
    assert tgrad.poisson(tgrad.zeros(0, 3, device=device)).shape == (0, 3)


def test_counts_are_the_same_everywhere():
    first, second = (
        (
            tgrad.poisson(tgrad.linspace(0, 40, 500, device=d), tgrad.Generator().manual_seed(2)),
            tgrad.zeros(500, device=d).geometric_(0.3, generator=tgrad.Generator().manual_seed(2)),
        )
        for d in ("numpy", "cpu")
    )
    for a, b in zip(first, second):
        assert (a.numpy() != b.numpy()).sum() <= 1  # the last digit of a logarithm


@pytest.mark.parametrize(
    ("dtype", "most"),
    [("uint8", 255), ("int16", 2**15 - 1), ("int64", 2**63 - 1), ("float16", 2**11), ("bool", 1)],
)
def test_random_of_all_that_a_dtype_holds(dtype, most):
    found = tgrad.zeros(4000, dtype=getattr(tgrad, dtype)).random_(
        generator=tgrad.Generator().manual_seed(1)
    )
    values = found.numpy().astype(np.float64)
    assert values.min() >= 0 and most * 0.99 <= values.max() <= most


def test_seed_of_the_system_and_clones():
    generator = tgrad.Generator()
    assert generator.seed() == generator.initial_seed() != tgrad.Generator().seed()
    twin = generator.clone_state()
    assert tgrad.rand(3, generator=generator).tolist() == tgrad.rand(3, generator=twin).tolist()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))])
def test_copies_of_generators_continue_and_share_no_memory(copied):
    generator = tgrad.Generator().manual_seed(3)
    tgrad.rand(2, generator=generator).tolist()
    twins = [copied(generator) for _ in range(8)]
    drawn = [tgrad.rand(2, generator=g).tolist() for g in (generator, *twins)]
    assert all(numbers == drawn[0] for numbers in drawn)
    del twins, generator
    first = [tgrad.rand(2, generator=tgrad.Generator().manual_seed(4)).tolist() for _ in range(8)]
    assert all(numbers == first[0] for numbers in first)


def test_nodes_are_not_copied():
    node = tgrad.ones(2)._node
    assert copy.deepcopy(node) is node and copy.copy(node) is node
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(node)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda x: x.exponential_(0.0), "exponential_: lambd=0.0. Use more than 0."),
        (lambda x: x.cauchy_(0, -1), "cauchy_: sigma=-1."),
        (lambda x: x.geometric_(1.0), "geometric_: p=1.0."),
        (lambda x: x.random_(3, 3), "random_ from 3 to 3."),
        (lambda x: tgrad.poisson(x.long()), "poisson of int64."),
        (lambda x: tgrad.binomial(x, x.double()), "binomial of float32 and float64."),
    ],
)
def test_distributions_refuse(call, what):
    with pytest.raises(tgrad.errors.TgradError) as caught:
        call(tgrad.zeros(3))
    assert what.split(". ")[0] in " ".join(str(caught.value).split())
