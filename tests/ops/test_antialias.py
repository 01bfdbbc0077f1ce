"""Interpolation with antialias against PyTorch's: sizes, factors, corners, modes, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad.errors import UnsupportedError

torch = pytest.importorskip("torch")

HOW: dict[str, dict[str, Any]] = {
    "smaller": {"size": (3, 5)},
    "larger": {"size": (31, 40)},
    "both": {"size": (7, 29)},
    "factors": {"scale_factor": (0.37, 1.61)},
    "recomputed": {"scale_factor": (0.37, 1.61), "recompute_scale_factor": True},
    "to one row": {"size": (1, 6)},
}
MODES = [(mode, corners) for mode in ("bilinear", "bicubic") for corners in (False, True)]


@pytest.mark.parametrize(("mode", "corners"), [*MODES, ("lanczos", False)])
@pytest.mark.parametrize("how", HOW)
def test_as_pytorch(how: str, mode: str, corners: bool) -> None:
    """PyTorch leaves an axis as it is that keeps its size, also where a factor asks for other
    places, and its gradient does not: no such sizes are here, nor results of one column, whose
    rows it takes for one."""
    random = np.random.default_rng(0)
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
        image = random.standard_normal((2, 3, 17, 23)).astype(dtype)
        x = torch.tensor(image, requires_grad=True)
        args = {"mode": mode, "align_corners": corners, "antialias": True, **HOW[how]}
        y = torch.nn.functional.interpolate(x, **args)
        g = torch.tensor(random.standard_normal(y.shape).astype(dtype))
        y.backward(g)
        ours = tgrad.tensor(image, requires_grad=True)
        result = F.interpolate(ours, **args)
        result.backward(tgrad.tensor(g.numpy()))
        np.testing.assert_allclose(result.detach().numpy(), y.detach(), tolerance, tolerance)
        np.testing.assert_allclose(ours.grad.numpy(), x.grad, tolerance, tolerance)


def test_infinite_pixels_reach_their_windows_only() -> None:
    image = np.ones((1, 1, 16, 16), np.float32)
    image[0, 0, 3, 12] = np.inf
    args = {"size": (4, 4), "mode": "bilinear", "antialias": True}
    want = torch.nn.functional.interpolate(torch.tensor(image), **args)
    got = F.interpolate(tgrad.tensor(image), **args).numpy()
    np.testing.assert_allclose(got, want)
    assert np.isfinite(got).sum() == 12


@pytest.mark.parametrize(("mode", "antialias"), [("nearest", True), ("lanczos", False)])
def test_modes_without(mode: str, antialias: bool) -> None:
    with pytest.raises(UnsupportedError, match=f"mode='{mode}' with antialias={antialias}"):
        F.interpolate(tgrad.ones(1, 1, 4, 4), 2, mode=mode, antialias=antialias)


@pytest.mark.parametrize("mode", ["nearest", "area", "lanczos"])
def test_modes_without_corners(mode: str) -> None:
    """PyTorch raises too, of lanczos for True alone."""
    with pytest.raises(UnsupportedError, match=f"align_corners=True with mode='{mode}'"):
        F.interpolate(
            tgrad.ones(1, 1, 4, 4), 2, mode=mode, align_corners=True, antialias=mode == "lanczos"
        )
