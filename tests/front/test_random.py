"""Random tensors: their distributions, the same bits everywhere, one plan for every draw."""

from __future__ import annotations

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


EXACT = ["rand", "rand_float64", "rand_float16", "randint", "bernoulli", "uniform_"]


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
