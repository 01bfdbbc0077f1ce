"""What passes of PyTorch's database in each dtype stays: a sample of dtype_passes.txt.

Each operator runs one sample in one of its dtypes, which the name decides, so that all dtypes are
met often; `python -m tests.ops.sweep --update` runs them all.
"""

from __future__ import annotations

import warnings
import zlib

import pytest

from tests.ops.opinfo import operators
from tests.ops.sweep import check, dtypes_of, read_passes

OPERATORS, LISTED = operators(), read_passes()
UPDATE = "python -m tests.ops.sweep --update"

WHOLE = [
    "add", "sub", "mul", "floor_divide", "remainder", "fmod", "bitwise_left_shift",
    "bitwise_right_shift", "pow", "abs", "neg", "maximum", "clamp", "trunc", "floor", "sum", "prod",
    "cumsum", "amax", "argmax", "where", "gather",
]  # fmt: skip
"""Where integers differ most between languages; these run as generated C too."""


def chosen(name: str) -> str:
    return LISTED[name][zlib.crc32(name.encode()) % len(LISTED[name])]


@pytest.mark.parametrize("name", LISTED)
def test_operator_in_a_dtype(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about its own ops
        failure = check(OPERATORS[name], chosen(name), 1)
    assert not failure, f"{chosen(name)}: {failure}\n{UPDATE}"


@pytest.mark.parametrize("name", [n for n in WHOLE if n in LISTED])
def test_integers_on_cpu(name: str) -> None:
    dtypes = [d for d in LISTED[name] if "int" in d]
    dtype = dtypes[zlib.crc32(name.encode()) % len(dtypes)]
    failure = check(OPERATORS[name], dtype, 1, "cpu")
    assert not failure, f"{dtype}: {failure}"


def test_list_names_operators_and_their_dtypes() -> None:
    for name, dtypes in LISTED.items():
        assert name in OPERATORS, f"{name} is not in the database: {UPDATE}"
        assert set(dtypes) <= set(dtypes_of(OPERATORS[name])), f"{name}: {UPDATE}"
