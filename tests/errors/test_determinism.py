"""`use_deterministic_algorithms`: what GPUs compute in the order of a race is put in order, or
refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import tgrad
from tests.errors.mistakes import check_message
from tgrad.errors import UnsupportedError
from tgrad.tensor import Tensor


@pytest.fixture(autouse=True)
def off_afterwards() -> Iterator[None]:
    yield
    tgrad.use_deterministic_algorithms(False)


def tokens(device: str) -> Tensor:
    return tgrad.tensor([0, 1, 1], device=device)


RACES: dict[str, Callable[[str], Tensor]] = {
    "part of another axis": lambda d: tgrad.zeros(3, 2, device=d).scatter_add(
        0, tokens(d).reshape(3, 1), tgrad.ones(3, 1, device=d)
    ),
}
ORDERED: dict[str, Callable[[str], Tensor]] = {
    "integers": lambda d: tgrad.zeros(3, dtype=tgrad.int32, device=d).index_add(
        0, tokens(d), tgrad.ones(3, dtype=tgrad.int32, device=d)
    ),
    "extrema": lambda d: tgrad.zeros(3, device=d).scatter_reduce(
        0, tokens(d), tgrad.ones(3, device=d), "amax"
    ),
    "sums": lambda d: tgrad.ones(64, 64, device=d).sum(),
}


@pytest.mark.parametrize("name", RACES)
def test_races_are_refused_where_programs_race(name: str) -> None:
    expected = RACES[name]("interpret").tolist()
    tgrad.use_deterministic_algorithms(True)
    assert tgrad.are_deterministic_algorithms_enabled()
    with pytest.raises(UnsupportedError, match="use_deterministic_algorithms is on"):
        RACES[name]("interpret").tolist()
    assert RACES[name]("cpu").tolist() == expected
    tgrad.use_deterministic_algorithms(True, warn_only=True)
    with pytest.warns(RuntimeWarning, match="use_deterministic_algorithms is on"):
        assert RACES[name]("interpret").tolist() == expected


@pytest.mark.parametrize("name", ORDERED)
def test_what_has_one_result_is_not(name: str) -> None:
    tgrad.use_deterministic_algorithms(True)
    assert ORDERED[name]("interpret").tolist() == ORDERED[name]("cpu").tolist()


def test_the_message() -> None:
    tgrad.use_deterministic_algorithms(True)
    x, ones = tgrad.zeros(3, 2, device="interpret"), tgrad.ones(3, 1, device="interpret")
    places = tokens("interpret").reshape(3, 1)
    check_message(
        UnsupportedError,
        NotImplementedError,
        lambda: x.scatter_add(0, places, ones).tolist(),
        "scatter writes numbers to one place in the order in which programs of a GPU come to it, "
        "and use_deterministic_algorithms is on.\n"
        "Pass warn_only=True, or run it on the device cpu.",
    )
