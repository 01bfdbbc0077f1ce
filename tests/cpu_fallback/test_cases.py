"""Loops under masks that do not change along them, and indices that masks bound."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import tgrad
from tests.cpu_fallback.cases import F32, Draft, check, random_slots
from tgrad import dtype as dt
from tgrad.cpu_fallback import detect_machine
from tgrad.cpu_fallback.emit_c import emit
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.dtype import DType
from tgrad.fusion.region import Region
from tgrad.graph.index import Bound, loaded
from tgrad.graph.op import Op
from tgrad.kernel.lower import lower
from tgrad.settings import Settings

ROWS, COLUMNS, TABLE = 12, 70, 5
OUTSIDE = [0, 4, 5, -1, 2**31, 2**32 + 3, -(2**32) + 1, -(2**63), 2**63 - 1, 2, 3, 1]
"""Numbers of which some are inside the table in their lower 32 bits alone."""


def picked(along: str, dtype: DType = F32) -> Region:
    """Rows or columns of a table by numbers that may be anything; 0 where there is none."""
    size = ROWS if along == "i" else COLUMNS
    d = Draft(i=ROWS, j=COLUMNS)
    number = d.load(d.slot("numbers", dt.int64, size), along)
    place = loaded(number, int(dt.int64.min), int(dt.int64.max))
    table = d.slot("table", dtype, TABLE * COLUMNS)
    index = place * COLUMNS + d.var("j") if along == "i" else place + d.var("i") * TABLE
    x = d.load(table, index, (Bound(place, 0, TABLE),))
    d.store(d.op(Op.ADD, x, d.input("y", "i j", dtype)), "i j")
    return d.region(f"picked_{along}", "map", parallel="i j")


def source_of(region: Region) -> str:
    machine = detect_machine()
    config = choose_config(region, machine)
    return emit(lower(region, config), config, machine)


@pytest.mark.parametrize("along", ["i", "j"])
@pytest.mark.parametrize("dtype", [F32, dt.float16, dt.int8])
def test_indices_are_as_wide_as_masks_ask_for(settings: Settings, along: str, dtype: DType) -> None:
    """What is compared is the whole number, whatever the type of indices; those of whole rows are
    as wide as numbers."""
    region = picked(along, dtype)
    assert ("ptrdiff_t" in source_of(region)) == (along == "i")
    arrays = random_slots(region)
    numbers = np.array(OUTSIDE, np.int64)
    arrays[0][:] = np.resize(numbers, arrays[0].size)
    check(region, settings, arrays)


def test_a_row_is_a_loop_for_each_case() -> None:
    source = source_of(picked("i"))
    assert len(re.findall(r"else \{", source)) == 1
    loads = re.findall(r"= (.*table\[.*);", source)
    assert len(loads) == 1 and "?" not in loads[0]
    assert "else {" not in source_of(picked("j")), "the mask changes along the row"


@pytest.mark.parametrize("op", [Op.REDUCE_SUM, Op.REDUCE_MAX])
@pytest.mark.parametrize("dtype", [F32, dt.bfloat16])
def test_reductions_along_picked_rows(settings: Settings, op: Op, dtype: DType) -> None:
    """A loop for rows that there are, and one for zeros."""
    d = Draft(i=ROWS, j=COLUMNS)
    number = d.load(d.slot("numbers", dt.int64, ROWS), "i")
    place = loaded(number, int(dt.int64.min), int(dt.int64.max))
    table = d.slot("table", dtype, TABLE * COLUMNS)
    x = d.load(table, place * COLUMNS + d.var("j"), (Bound(place, 0, TABLE),))
    d.store(d.reduce(op, d.op(Op.ADD, x, d.input("y", "i j", dtype)), "j"), "i")
    region = d.region("along_rows", "reduce", parallel="i", row="j")
    assert "else {" in source_of(region)
    arrays = random_slots(region)
    arrays[0][:] = OUTSIDE
    check(region, settings, arrays, tolerance=2e-2 if dtype.is_narrow else 1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("columns", [1, 15, 64, 100])
def test_embeddings(dtype: str, columns: int) -> None:
    rng = np.random.default_rng(columns)
    table = rng.standard_normal((9, columns)).astype(np.float32)
    numbers = rng.integers(0, 9, (4, 11))
    w = tgrad.tensor(table, dtype=getattr(tgrad, dtype), device="cpu", requires_grad=True)
    t = torch.tensor(table, dtype=getattr(torch, dtype), requires_grad=True)
    y = tgrad.nn.functional.embedding(tgrad.tensor(numbers, device="cpu"), w)
    u = torch.nn.functional.embedding(torch.tensor(numbers), t)
    np.testing.assert_array_equal(y.detach().float().numpy(), u.detach().float().numpy())
    (y * 2).sum().backward()
    (u * 2).sum().backward()
    np.testing.assert_allclose(w.grad.float().numpy(), t.grad.float().numpy())
