"""What passes of PyTorch's database under `torch.compile` stays: a sample of compiled_passes.txt.

Each operator runs one sample in one of its dtypes, which the name decides, so that all dtypes are
met often; `python -m tests.ops.compiled --update` runs more.
"""

from __future__ import annotations

import warnings
import zlib

import pytest

from tests.ops.compiled import check, dtypes_of, operators, read_passes

OPERATORS, LISTED = operators(), read_passes()
UPDATE = "python -m tests.ops.compiled --update"


@pytest.mark.parametrize("name", LISTED)
def test_operator_compiled(name: str) -> None:
    dtype = LISTED[name][zlib.crc32(name.encode()) % len(LISTED[name])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about its own ops
        failure = check(OPERATORS[name], dtype, 1)
    assert not failure, f"{dtype}: {failure}\n{UPDATE}"


def test_list_names_operators_and_their_dtypes() -> None:
    for name, dtypes in LISTED.items():
        assert name in OPERATORS, f"{name} is not in the database: {UPDATE}"
        assert set(dtypes) <= set(dtypes_of(OPERATORS[name])), f"{name}: {UPDATE}"
