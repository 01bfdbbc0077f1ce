"""What agrees of PyTorch's operator database in complex64 stays: the list in complex_passes.txt."""

from __future__ import annotations

import pytest

from tests.ops.complex_numbers import check_operator, operators, read_passes

LISTED = read_passes()
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, and of parts left out

UPDATE = "python -m tests.ops.complex_numbers --update"


@pytest.mark.parametrize("name", LISTED)
def test_operator(name: str) -> None:
    """Some samples of each, and their gradients where they are listed."""
    outcome = check_operator(operators()[name])
    assert outcome.line.startswith(LISTED[name]), f"{outcome.reason}\n{UPDATE}"


def test_list_names_operators() -> None:
    assert set(LISTED) <= set(operators()), f"not in the database: {UPDATE}"
