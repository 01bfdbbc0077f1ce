"""What passes of PyTorch's operator database stays: the list in opinfo_passes.txt holds.

Every sample of every operator runs on the device `numpy`; with `--opinfo-cpu`, three samples of
each operator that passes run as generated C too.
"""

from __future__ import annotations

import pytest

from tests.ops.opinfo import check_operator, operators, read_passes

OPERATORS, LISTED = operators(), read_passes()
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, about its own ops

UPDATE = "python -m tests.ops.opinfo --update"


@pytest.mark.parametrize("name", OPERATORS)
def test_operator(name: str) -> None:
    """All samples of what is listed agree; what is not listed does not pass either."""
    outcome = check_operator(OPERATORS[name])
    assert outcome.line == LISTED.get(name, name), f"{outcome.reason}\n{UPDATE}"


def test_list_names_operators() -> None:
    assert set(LISTED) <= set(OPERATORS), f"not in the database: {UPDATE}"


def test_operators_on_cpu(opinfo_cpu: str) -> None:
    """One operator as generated C: forward, and backward where it is listed."""
    outcome = check_operator(OPERATORS[opinfo_cpu], 3, "cpu")
    assert outcome.line.startswith(LISTED[opinfo_cpu]), outcome.reason


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "opinfo_cpu" in metafunc.fixturenames:
        chosen = LISTED if metafunc.config.getoption("--opinfo-cpu") else ["add"]
        metafunc.parametrize("opinfo_cpu", chosen)
