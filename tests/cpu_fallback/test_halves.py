"""Rows of float16 that instructions widen and round."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tests.cpu_fallback.cases import F32, Draft, call, check
from tgrad import cpu_fallback
from tgrad.cpu_fallback import detect_machine
from tgrad.cpu_fallback.emit_c import emit
from tgrad.cpu_fallback.emit_halves import LEAST, PART
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.fusion.region import Region
from tgrad.graph.op import Op
from tgrad.kernel.lower import lower
from tgrad.settings import Settings

WITH = dataclasses.replace(detect_machine(), has_f16_words=True)
WITHOUT = dataclasses.replace(WITH, has_f16_words=False)
SIZES = (LEAST - 1, LEAST, PART - 1, PART + 17, 2 * PART, 20000)

FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "sum": lambda lib, x: x + x.flip(0),
    "product": lambda lib, x: (x * 1.5).relu() - x,
    "rows": lambda lib, x: x.sum(1),
    "columns": lambda lib, x: x.amax(0),
    "scan": lambda lib, x: x.cummax(1).values,
    "shifted": lambda lib, x: x[:, 1:] * x[:, :-1],
    "widened": lambda lib, x: x.float() * 3,
    "turned": lambda lib, x: x.t() * 2,
}


def squares(size: int) -> Region:
    d = Draft(i=size)
    x = d.input("x", "i", tgrad.float16)
    d.store(d.op(Op.MUL, x, x), "i")
    return d.region("squares", "map", parallel="i")


def source_of(region: Region, machine: Any) -> str:
    config = choose_config(region, machine)
    return emit(lower(region, config), config, machine)


@pytest.mark.parametrize("size", SIZES)
def test_rows_go_through_arrays(settings: Settings, size: int) -> None:
    region = squares(size)
    assert ("tg_widen_" in source_of(region, WITH)) == (size >= LEAST)
    assert "tg_widen_" not in source_of(region, WITHOUT)
    check(region, settings)


def test_what_does_not_lie_together_is_widened_alone(settings: Settings) -> None:
    d = Draft(i=100)
    x = d.load(d.slot("x", tgrad.float16, 200), d.var("i") * 2)
    d.store(d.op(Op.ADD, x, x), "i")
    region = d.region("every_other", "map", parallel="i")
    source = source_of(region, WITH)
    assert "tg_narrow_" in source and "tg_widen_" not in source
    check(region, settings)


@pytest.mark.parametrize("vector_bytes", [32, 64])
def test_in_registers_of_either_width(settings: Settings, vector_bytes: int) -> None:
    """Every half; the end of a row is no whole register."""
    region = squares((1 << 16) - 3)
    machine = dataclasses.replace(WITH, vector_bytes=vector_bytes)
    [draft] = cpu_fallback.draft([region], machine=machine)
    assert f"tg_widen_{vector_bytes // 4}(" in draft.source
    [artifact] = cpu_fallback.compile_drafts([draft], settings)
    values = np.arange(3, 1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16)
    have = call(artifact.entry, [values, np.zeros_like(values)])[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        want = (values.astype(np.float32) ** 2).astype(np.float16)
    np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("columns", [31, 33, 515, 1100])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_are_those_of_pytorch(name: str, columns: int) -> None:
    """Whatever the bits are: NaN, infinities, the smallest, what overflows."""
    bits = np.random.default_rng(columns).integers(0, 1 << 16, (7, columns)).astype(np.uint16)
    if name == "rows":
        bits &= 0xBFFF  # sums of few infinities
    values = bits.view(np.float16)
    have = FUNCTIONS[name](tgrad, tgrad.tensor(values, device="cpu")).float().numpy()
    want = FUNCTIONS[name](torch, torch.tensor(values)).float().numpy()
    if name == "rows":
        np.testing.assert_allclose(have, want, rtol=2e-3)
    else:
        np.testing.assert_array_equal(have, want)


def test_every_half_is_widened_and_comes_back() -> None:
    values = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16)
    wide = tgrad.tensor(values, device="cpu").float()
    np.testing.assert_array_equal(wide.numpy(), values.astype(np.float32))
    np.testing.assert_array_equal(wide.half().numpy(), values)


@pytest.mark.parametrize("is_stored", [True, False])
def test_rounding_is_to_the_nearest(settings: Settings, is_stored: bool) -> None:
    """Of float32 on, just below and just above what lies between two halves, when they are stored
    and in the midst of arithmetic."""
    halves = np.arange(1 << 15, dtype=np.uint32).astype(np.uint16).view(np.float16)
    middle = (halves[:0x7C00].astype(np.float64) + halves[1:0x7C01]) / 2
    middle = np.nan_to_num(middle, posinf=65520.0).astype(np.float32)
    x = np.concatenate([np.nextafter(middle, np.float32(to)) for to in (0, np.inf)] + [middle])
    x = np.concatenate([x, -x, np.float32([np.inf, np.nan, 1e38, 1e-30, 0, -0.0])])
    d = Draft(i=x.size)
    half = d.op(Op.CAST, d.input("x", "i", F32), dtype=tgrad.float16)
    d.store(half if is_stored else d.op(Op.CAST, half, dtype=F32), "i")
    region = d.region("rounded", "map", parallel="i")
    with np.errstate(over="ignore"):
        want = x.astype(np.float16)
    have = check(region, settings, [x, np.zeros(x.size, region.slots[1].dtype.numpy)])[-1]
    np.testing.assert_array_equal(have.astype(np.float16), want)
    np.testing.assert_array_equal(np.signbit(have), np.signbit(want))
