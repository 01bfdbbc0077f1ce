"""Narrow floats that are moved and not computed with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tests.cpu_fallback.cases import Draft, check
from tgrad.cpu_fallback import detect_machine
from tgrad.cpu_fallback.emit_c import emit
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.cpu_fallback.moved_bits import move_bits
from tgrad.graph.op import Op
from tgrad.kernel.lower import lower
from tgrad.settings import Settings

MOVES: dict[str, Callable[[Any, Any], Any]] = {
    "flip": lambda lib, x: x.flip(1),
    "turn": lambda lib, x: lib.rot90(x),
    "transpose": lambda lib, x: x.t().contiguous(),
    "cat": lambda lib, x: lib.cat([x, x.flip(0)], 1),
    "roll": lambda lib, x: x.roll((1, 2), (0, 1)),
    "pad": lambda lib, x: lib.nn.functional.pad(x, (1, 2, 3, 0), value=1.5),
    "tril": lambda lib, x: lib.tril(x),
    "neg": lambda lib, x: -x,
    "abs": lambda lib, x: x.abs(),
    "choose": lambda lib, x: lib.where(lib.tensor([True, False] * 17), x, -x.flip(1)),
    "fill": lambda lib, x: x.masked_fill(lib.tensor([False, True] * 17), -0.0),
    "gather": lambda lib, x: x[:, lib.tensor([3, 0, 33, 1])],
    "scatter": lambda lib, x: x.scatter(1, lib.tensor([[4, 1, 7]] * 9), x),
}


def every_kind() -> np.ndarray:
    """9 x 34 bits of floats: both zeros, infinities, NaN of several kinds, the smallest."""
    bits = np.random.default_rng(1).integers(0, 1 << 16, 9 * 34).astype(np.uint16)
    bits[:8] = 0, 0x8000, 0x7F80, 0xFF80, 0x7C00, 0xFC00, 1, 0x8001
    return bits.reshape(9, 34)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", MOVES)
def test_bits_are_those_that_pytorch_moves(name: str, dtype: str) -> None:
    """Of NaN that it is one: PyTorch itself changes their bits now and then."""
    bits = every_kind().view(np.int16)
    x = tgrad.tensor(bits, device="cpu").view(getattr(tgrad, dtype))
    t = torch.tensor(bits).view(getattr(torch, dtype))
    have = MOVES[name](tgrad, x).view(tgrad.int16).numpy()
    moved = MOVES[name](torch, t)
    want = np.where(moved.isnan().numpy(), have, moved.view(torch.int16).numpy())
    np.testing.assert_array_equal(have, want)
    is_nan = MOVES[name](tgrad, x).isnan().numpy()
    np.testing.assert_array_equal(is_nan, moved.isnan().numpy())


@pytest.mark.parametrize("dtype", [tgrad.bfloat16, tgrad.float16, tgrad.float8_e4m3fn])
@pytest.mark.parametrize("op", [Op.NEG, Op.ABS])
def test_moves_convert_nothing(settings: Settings, dtype: tgrad.dtype, op: Op) -> None:
    d = Draft(i=7, j=40)
    x = d.input("x", "i j", dtype)
    d.store(x, d.var("j") * 7 + d.var("i"), size=280)
    d.store(d.op(op, x), "i j", "signed")
    region = d.region("moved", "map", parallel="i j")
    machine = detect_machine()
    config = choose_config(region, machine)
    source = emit(lower(region, config), config, machine)
    assert "tg_load" not in source and "tg_store" not in source
    check(region, settings)


def test_what_is_computed_with_stays_a_float(settings: Settings) -> None:
    """Of two inputs one is moved, the other is stored as it is and added to."""
    d = Draft(i=7, j=40)
    x, y, z = (d.input(n, "i j", tgrad.float16) for n in "xyz")
    d.store(x, "i j", "moved")
    d.store(y, "i j", "kept")
    d.store(d.op(Op.ADD, y, z), "i j", "total")
    region = d.region("both", "map", parallel="i j")
    kernel = lower(region, choose_config(region, detect_machine()))
    dtypes = {s.name: s.dtype for s in move_bits(kernel).slots}
    assert [n for n, dtype in dtypes.items() if dtype is tgrad.uint16] == ["x", "moved"]
    check(region, settings)
