"""Planning in the process of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tgrad


@pytest.fixture(autouse=True)
def fresh_generator() -> Iterator[None]:
    """The default generator keeps its key on each device: no test gets one made while planning."""
    yield
    tgrad.manual_seed(0)
