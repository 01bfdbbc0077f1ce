"""Processes for the tests here; started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.distributed.processes import Processes

pytest.importorskip("torch")


@pytest.fixture(scope="session")
def pair() -> Iterator[Processes]:
    """Two processes."""
    processes = Processes(2)
    yield processes
    processes.close()


@pytest.fixture(scope="session")
def three() -> Iterator[Processes]:
    """Three processes."""
    processes = Processes(3)
    yield processes
    processes.close()
