"""Sums over windows of planes in C: depthwise convolutions beside PyTorch's in float64."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tests.cpu_fallback.cases import depthwise
from tgrad.cpu_fallback.emit_c import emit
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.cpu_fallback.plane_plan import is_worth_planes, match_plane
from tgrad.cpu_fallback.target import detect_machine
from tgrad.kernel.lower import lower

TOLERANCE = {"float32": 3e-5, "float16": 1e-2, "bfloat16": 6e-2}


def random_case(seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    while True:
        rank = rng.choice([1, 2, 2, 2])
        sizes = [rng.choice([1, 5, 7, 14, 16, 17, 28, 33, 40, 70, 130]) for _ in range(rank)]
        case = {
            "batch": rng.choice([1, 2, 3]), "channels": rng.choice([1, 3, 8, 13, 24]),
            "times": rng.choice([1, 1, 2]), "sizes": sizes,
            "kernel": [rng.choice([1, 2, 3, 4, 5, 7, 9, 13]) for _ in range(rank)],
            "stride": rng.choice([1, 1, 1, 2, 3]), "dilation": rng.choice([1, 1, 2]),
            "padding": rng.choice([0, 1, 2, 3]),
            "dtype": rng.choice(3 * ["float32"] + [*TOLERANCE]),
            "around": rng.choice(["nothing", "before", "after", "both", "last"]),
        }  # fmt: skip
        reach = [case["dilation"] * (k - 1) for k in case["kernel"]]
        if all(n + 2 * case["padding"] > r for n, r in zip(sizes, reach)):
            return case


def run(module: Any, case: dict[str, Any], x: Any, w: Any, b: Any, s: Any) -> Any:
    """The convolution with what stands around it in a network."""
    if case["around"] in ("before", "both"):
        x = (x * s + 0.3).tanh()
    convolve = module.conv1d if len(case["sizes"]) == 1 else module.conv2d
    options = {name: case[name] for name in ("stride", "padding", "dilation")}
    y = convolve(x, w, b, groups=case["channels"], **options)
    if case["around"] in ("after", "both"):
        y = y.sigmoid() * y
    return y.movedim(1, -1) * 2 if case["around"] == "last" else y


@pytest.mark.parametrize("seed", range(24))
def test_convolutions_and_their_gradients(seed: int) -> None:
    case = random_case(seed)
    torch.manual_seed(seed)
    channels, rank = case["channels"], len(case["sizes"])
    shapes = (
        (case["batch"], channels, *case["sizes"]),
        (channels * case["times"], 1, *case["kernel"]),
        (channels * case["times"],),
        (1, channels, *rank * [1]),
    )
    narrow = [torch.randn(s).to(getattr(torch, case["dtype"])) for s in shapes]
    exact = [t.double().requires_grad_() for t in narrow]
    want = run(torch.nn.functional, case, *exact)
    g = torch.randn(want.shape, dtype=torch.float64)
    (want * g).sum().backward()
    mine = [tgrad.tensor(t).requires_grad_() for t in narrow]
    got = run(F, case, *mine)
    (got * tgrad.tensor(g.float().numpy()).to(got.dtype)).sum().backward()
    pairs = [(got, want), *((a.grad, b.grad) for a, b in zip(mine, exact) if b.grad is not None)]
    for ours, theirs in pairs:
        have, expected = ours.detach().double().numpy(), theirs.detach().numpy()
        limit = TOLERANCE[case["dtype"]] * max(1.0, np.abs(expected).max(initial=0))
        np.testing.assert_allclose(have, expected, rtol=0, atol=limit, err_msg=str(case))


@pytest.mark.parametrize("width", [14, 28, 33])
def test_nan_and_infinity_stay_where_they_are(width: int) -> None:
    """Lanes beyond a row, and rows and columns of zeros around it, add none."""
    torch.manual_seed(0)
    x, w = torch.randn(2, 8, 9, width), torch.randn(8, 1, 3, 3)
    x[0, 1, 3, width - 1], x[1, 2, 8, 0], x[0, 5, 0, 3] = torch.inf, torch.nan, -torch.inf
    g = torch.randn(2, 8, 9, width)
    leaves = [x.clone().requires_grad_(), w.clone().requires_grad_()]
    torch.nn.functional.conv2d(*leaves, padding=1, groups=8).backward(g)
    mine = [tgrad.tensor(t).requires_grad_() for t in (x, w)]
    y = F.conv2d(*mine, padding=1, groups=8)
    y.backward(tgrad.tensor(g))
    exact = torch.nn.functional.conv2d(x.double(), w.double(), padding=1, groups=8)
    np.testing.assert_allclose(y.detach().numpy(), exact.numpy(), rtol=1e-4, atol=1e-5)
    assert np.isfinite(y.detach().numpy()).sum() == y.numel() - 16  # 6, 4 and 6 see one
    for ours, theirs in zip(mine, leaves):
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["forward", "weight"])
def test_who_has_planes(kind: str, stride: int) -> None:
    machine = detect_machine()
    for channels, kernel in ((8, 3), (8, 5), (1, 5)):
        region = depthwise(kind, 1, channels, 20, 40, kernel, pad=1, stride=stride)
        config = choose_config(region, machine)
        lowered = lower(region, config)
        found = match_plane(lowered)
        assert found is not None and found.kind == {"forward": "pixels", "weight": "taps"}[kind]
        assert (found.y.stride, found.x.stride, found.x.taps) == (stride, stride, kernel)
        is_worth = channels == 8 if kind == "weight" else stride == 1 or kernel == 5
        assert is_worth_planes(found) == is_worth
        source = emit(lowered, config, machine)
        assert ("plane" in source) == is_worth
        assert not is_worth or source.count("expf") + source.count("tg_exp") <= 6


def test_layers_of_one_shape_share_a_launch() -> None:
    """Gradients of equal layers are a batch; channels lie last before and after each."""
    torch.manual_seed(0)
    values = torch.randn(4, 14, 14, 32), *(torch.randn(32, 1, 7, 7) for _ in range(3))

    def loss(module: Any, x: Any, *weights: Any) -> Any:
        for w in weights:
            y = module.conv2d(x.movedim(-1, 1), w, padding=3, groups=32).movedim(1, -1)
            x = x + module.layer_norm(y, (32,))
        return (x * x).sum()

    theirs = [t.double().requires_grad_() for t in values]
    loss(torch.nn.functional, *theirs).backward()
    mine = [tgrad.tensor(t).requires_grad_() for t in values]
    loss(F, *mine).backward()
    gradients = [t.grad for t in mine]
    sources = [k.source for k in tgrad.explain(*gradients).kernels if "_x3" in k.name]
    assert any("plane" in s and "member" in s for s in sources)
    for got, want in zip(gradients, theirs):
        np.testing.assert_allclose(got.numpy(), want.grad.numpy(), rtol=2e-3, atol=2e-3)


def test_sums_of_another_form_have_none() -> None:
    region = depthwise("forward", 2, 8, 20, 4, 3)
    lowered = lower(region, choose_config(region, detect_machine()))
    assert match_plane(lowered) is None  # rows of two
    region = depthwise("weight", 2, 8, 20, 40, 4, stride=4)
    assert match_plane(lower(region, choose_config(region, detect_machine()))) is None  # no overlap


@pytest.mark.parametrize("how", ["pixels", "taps"])
@pytest.mark.parametrize("other", ["one", "per channel", "per column", "per tap", "of everything"])
def test_products_with_any_factor(other: str, how: str) -> None:
    """Also one that no loop changes, and that is computed before them."""
    rng = np.random.default_rng(0)
    x, taps = rng.standard_normal((8, 10, 33)).astype(np.float32), (5, 3)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), taps, (1, 2))
    channels, rows, columns, *_ = windows.shape
    shape = {
        "one": (1, 1, 1, 1, 1),
        "per channel": (channels, 1, 1, 1, 1),
        "per column": (1, 1, columns, 1, taps[1]),
        "per tap": (1, 1, 1, *taps),
        "of everything": (channels, rows, columns, *taps),
    }[other]
    factor = rng.standard_normal(shape).astype(np.float32)
    axes = (3, 4) if how == "pixels" else (1, 2)
    mine = tgrad.tensor(x).unfold(1, taps[0], 1).unfold(2, taps[1], 1)
    got = (mine * tgrad.tensor(factor).sin()).sum(axes)
    want = (windows * np.sin(factor.astype(np.float64))).sum(axes)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-4)
