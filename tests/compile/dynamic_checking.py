"""What tests of `dynamic=` share: memory beyond the sizes is poisoned before every call, so that a
plan that sees any of it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import tgrad
from tgrad.compiling.dynamic import PaddedArgument
from tgrad.runtime.device import open_device

SIZES = (1, 2, 7, 31, 32)


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """NaN, the largest integer or True wherever no element of an argument exists."""
    take = PaddedArgument.take

    def poisoned(self: PaddedArgument, t: tgrad.Tensor) -> tgrad.Tensor:
        storage = take(self, t)._storage
        assert storage is not None
        kind = storage.dtype.numpy
        value = np.nan if storage.dtype.is_float else True if storage.dtype.is_bool else \
            np.iinfo(kind).max  # fmt: skip
        array = np.full(storage.shape, value, kind)
        open_device(storage.device).write(storage.memory, array)
        return take(self, t)

    monkeypatch.setattr(PaddedArgument, "take", poisoned)
    yield


def numbers(seed: int, *shape: int, device: str) -> tgrad.Tensor:
    rng = np.random.default_rng(seed)
    return tgrad.tensor(rng.standard_normal(shape, dtype=np.float32), device=device)


def check_range(
    function: Callable[..., tgrad.Tensor],
    shape: Sequence[int],
    axes: Sequence[int],
    device: str,
    sizes: Sequence[int] = SIZES,
    tolerance: float = 1e-5,
    **settings: Any,
) -> None:
    """Assert that one plan gives what the function gives, for every size of the axes. What it gives
    is said by the device "numpy", where no size costs a kernel."""
    spec = {a: ("N", settings.get("smallest", 1), 32) for a in axes}
    compiled = tgrad.compile(function, dynamic={"x": spec})
    for n in sizes:
        size = [n if a in axes else m for a, m in enumerate(shape)]
        wanted = function(numbers(n, *size, device="numpy"))
        found = compiled(numbers(n, *size, device=device))
        assert wanted.shape == found.shape
        np.testing.assert_allclose(
            found.numpy(), wanted.numpy(), rtol=tolerance, atol=tolerance, err_msg=f"size {n}"
        )
    assert compiled.traces == 1
    assert len(compiled.plans) == 1
