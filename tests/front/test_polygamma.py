"""Gamma functions, the inverse of erf, roots: exact values, ends, and loops that are vectors."""

from __future__ import annotations

import math
import re
import subprocess

import numpy as np
import pytest
import torch

import tgrad
from tests.cpu_fallback.cases import settings_in
from tgrad.cpu_fallback.compile import find_compiler
from tgrad.cpu_fallback.preamble import preamble

ENDS = [0.0, -0.0, 1.0, 2.0, -1.0, -7.0, math.inf, -math.inf, math.nan, 1e300, -1e300, 1e-300]


@pytest.mark.parametrize("order", [2, 3, 4, 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_polygamma_far_below_zero(device, order, dtype):
    x = np.array([-0.5, -2.3, -9.6, -10.4, -20.3, -50.2, -300.75, 1e-3, 0.4, 9.9, 100.0], dtype)
    have = tgrad.polygamma(order, tgrad.tensor(x, device=device)).numpy()
    want = torch.polygamma(order, torch.tensor(x).double()).numpy()
    np.testing.assert_allclose(have, want, rtol=1e-11 if dtype is np.float64 else 1e-6)


def test_polygamma_of_high_order(device):
    x = np.array([0.5, 3.0, 40.0])
    have = tgrad.polygamma(25, tgrad.tensor(x, device=device)).numpy()
    np.testing.assert_allclose(have, torch.polygamma(25, torch.tensor(x)).numpy(), rtol=1e-12)


def test_trigamma_is_exact():
    """π² / 2, π² / 6, and by reflection; PyTorch's has errors of 1e-10."""
    have = tgrad.polygamma(1, tgrad.tensor([0.5, 1.0, -0.5], dtype=tgrad.float64)).numpy()
    np.testing.assert_allclose(have, [math.pi**2 / 2, math.pi**2 / 6, math.pi**2 / 2 + 4], 1e-15)


@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_ends(device, name):
    x = np.array(ENDS)
    have = getattr(tgrad, name)(tgrad.tensor(x, device=device)).numpy()
    want = getattr(torch, name)(torch.tensor(x)).numpy()
    np.testing.assert_allclose(have, want, rtol=1e-13, atol=1e-14)


def test_erfinv_near_its_ends():
    """erfc of it is the distance from 1 again, which has all digits."""
    x = 1 - 2.0 ** -np.arange(1.0, 54.0)
    y = tgrad.tensor(np.concatenate([x, -x])).erfinv().numpy()
    back = np.array([math.erfc(v) for v in np.abs(y)])
    np.testing.assert_allclose(back, np.tile(1 - x, 2), rtol=1e-13)
    short = np.concatenate([np.linspace(-0.999, 0.999, 9999), x[:24]]).astype(np.float32)
    have = tgrad.tensor(short).erfinv().numpy()
    want = torch.erfinv(torch.tensor(short).double()).numpy()
    assert (np.abs(have - want) <= 0.6 * np.spacing(np.abs(have))).all()


@pytest.mark.parametrize(
    "compute",
    [
        tgrad.lgamma,
        tgrad.digamma,
        tgrad.erfinv,
        lambda x: tgrad.polygamma(1, x),
        lambda x: tgrad.polygamma(2, x),
        lambda x: tgrad.logaddexp(x, x[0]),
    ],
    ids=["lgamma", "digamma", "erfinv", "trigamma", "polygamma", "logaddexp"],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loops_are_vectors(compute, dtype, tmp_path):
    compiler = find_compiler(settings_in(tmp_path))
    version = subprocess.run([compiler.path, "--version"], capture_output=True, text=True)
    if "Free Software Foundation" not in version.stdout:
        pytest.skip("the compiler is not gcc, whose report is read")
    x = tgrad.tensor(np.linspace(0, 1, 1 << 14, dtype=dtype), device="cpu")
    [kernel] = tgrad.explain(compute(x)).kernels
    command = [compiler.path, *compiler.flags, "-fopt-info-vec", "-S", "-x", "c", "-"]
    answer = subprocess.run(
        [*command, "-o", "/dev/null"],
        input=preamble(kernel.source) + kernel.source,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search("loop vectorized", answer.stderr)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_a_power_of_a_half_is_the_square_root(device, dtype):
    x = [-0.0, 0.0, -math.inf, math.inf, math.nan, -1.0, 4.0, 2.3]
    a = torch.tensor(x, dtype=getattr(torch, dtype), requires_grad=True)
    b = tgrad.tensor(x, dtype=getattr(tgrad, dtype), device=device, requires_grad=True)
    (a**0.5).sum().backward()
    (b**0.5).sum().backward()
    for have, want in ((b**0.5, a**0.5), (b.grad, a.grad)):
        want, have = want.detach().double().numpy(), have.double().numpy()
        np.testing.assert_array_equal(have, want)
        signed = want == want
        np.testing.assert_array_equal(np.signbit(have[signed]), np.signbit(want[signed]))
