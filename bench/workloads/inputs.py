"""Inputs and parameters of the workloads.

In: sizes. Out: arrays and pytest parameters. Invariant: a quick parameter is float32 and small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest


def sizes(small: Any, *large: Any) -> list[Any]:
    """The first is quick."""
    return [pytest.param(small, marks=pytest.mark.quick, id=_name(small)), *(
        pytest.param(one, id=_name(one)) for one in large
    )]  # fmt: skip


def by_dtype(small: Any, *large: Any) -> list[Any]:
    """(size, dtype): the small size in float32 is quick, the large ones come in three dtypes."""
    quick = pytest.param(small, "float32", marks=pytest.mark.quick, id=f"{_name(small)}-float32")
    return [quick, *(
        pytest.param(one, dtype, id=f"{_name(one)}-{dtype}")
        for one in large
        for dtype in ("float32", "bfloat16", "float16")
    )]  # fmt: skip


def _name(size: Any) -> str:
    return "x".join(map(str, size)) if isinstance(size, Sequence) else str(size)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    """Values from the standard normal distribution, float32, always the same."""
    random = np.random.default_rng(2026)
    return scale * random.standard_normal(shape, dtype=np.float32)


def integers(high: int, *shape: int) -> np.ndarray:
    """Integers below `high`, int64, always the same."""
    return np.random.default_rng(2026).integers(0, high, shape)
