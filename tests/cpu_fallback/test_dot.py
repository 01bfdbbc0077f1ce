"""Dots in C against the oracle: sizes, layouts, dtypes, prologues, epilogues, convolutions."""

from __future__ import annotations

import dataclasses

import pytest

from tests.cpu_fallback.cases import F32, Draft, check, convolution, dot_region, matmul
from tgrad import dtype as dt
from tgrad.cpu_fallback import detect_machine
from tgrad.cpu_fallback.dot_plan import register_tile
from tgrad.cpu_fallback.emit_c import emit
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.cpu_fallback.window_plan import match_window
from tgrad.fusion.region import Const
from tgrad.graph.index import Bound, loaded
from tgrad.graph.op import Op
from tgrad.kernel.ir import Config, Role, TileAxis
from tgrad.kernel.lower import lower
from tgrad.settings import Settings

SIZES = [(1, 1, 1), (1, 10, 33), (10, 10, 10), (37, 50, 70), (64, 96, 40), (130, 3, 500),
         (200, 300, 900)]  # fmt: skip


@pytest.mark.parametrize("m, n, k", SIZES)
@pytest.mark.parametrize("a", ["m k", "k m"])
@pytest.mark.parametrize("b", ["k n", "n k"])
def test_matmul(settings: Settings, m: int, n: int, k: int, a: str, b: str) -> None:
    check(dot_region(matmul(m, n, k, a, b)), settings, tolerance=1e-4)


@pytest.mark.parametrize(
    "dtype", [dt.float64, dt.float16, dt.bfloat16, dt.int32, dt.int64, dt.int8, dt.uint8]
)
def test_matmul_of_other_dtypes(settings: Settings, dtype: dt.DType) -> None:
    tolerance = 1e-12 if dtype is dt.float64 else 1e-5
    check(dot_region(matmul(21, 35, 18, dtype=dtype)), settings, tolerance=tolerance)
    check(dot_region(matmul(21, 35, 18, "k m", "n k", dtype)), settings, tolerance=tolerance)


def test_batched_matmul(settings: Settings) -> None:
    check(dot_region(matmul(20, 30, 40, batch=5), batch=True), settings, tolerance=1e-4)
    draft = matmul(256, 256, 64, b="n k", batch=6)
    check(dot_region(draft, batch=True), settings, tolerance=1e-4)


def test_epilogue(settings: Settings) -> None:
    d = matmul(37, 90, 50)
    x = d.op(Op.ADD, 2, d.input("bias", "n"))
    x = d.op(Op.ADD, d.op(Op.TANH, x), d.input("residual", "m n"))
    d.op(Op.MUL, x, d.input("scale", "m"))
    check(dot_region(d), settings)


def test_prologue(settings: Settings) -> None:
    d = Draft(m=45, n=33, k=70)
    zero = d.add(Const(0.0, F32))
    a = d.op(Op.MAXIMUM, d.op(Op.MUL, d.input("a", "m k"), d.input("s", "k")), zero)
    b = d.op(Op.CAST, d.input("b", "k n", dt.int8), dtype=F32)
    b = d.op(Op.MUL, b, d.input("q", "n"))
    d.dot(a, b, "k")
    check(dot_region(d), settings, tolerance=1e-4)


@pytest.mark.parametrize("m, n, k", [(64, 64, 3072), (37, 50, 70), (8, 300, 5000)])
def test_expensive_prologue(settings: Settings, m: int, n: int, k: int) -> None:
    """It is packed with its operand; nothing of it is kept for a loop that does not come."""
    d = Draft(m=m, n=n, k=k)
    x = d.input("a", "m k")
    d.dot(d.op(Op.MUL, x, d.op(Op.SIGMOID, x)), d.input("b", "n k"), "k")
    region, machine = dot_region(d), detect_machine()
    config = choose_config(region, machine)
    assert "tg_scratch" in emit(lower(region, config), config, machine)
    check(region, settings, tolerance=2e-4)


@pytest.mark.parametrize("side", ["m", "n"])
def test_gathered_operand(settings: Settings, side: str) -> None:
    """Rows of an embedding, looked up while packing."""
    d = Draft(m=40, n=24, k=33)
    index = d.input("index", side, dt.int64)
    table = d.slot("table", F32, 5 * 33)
    rows = d.load(table, loaded(index, 0, 4) * 33 + d.var("k"))
    if side == "m":
        d.dot(rows, d.input("b", "k n"), "k")
    else:
        d.dot(d.input("a", "m k"), rows, "k")
    check(dot_region(d), settings, tolerance=1e-4)


def test_broadcast_operand(settings: Settings) -> None:
    d = Draft(m=9, n=14, k=20)
    d.dot(d.input("a", "m k"), d.input("b", "k"), "k")
    d.store(2, "m n")
    check(d.region("matmul", "dot", parallel="m n", m="m", n="n", k="k"), settings)


def test_transposed_result(settings: Settings) -> None:
    d = matmul(40, 60, 30)
    d.store(2, d.flat("n m"), size=40 * 60)
    check(d.region("matmul_t", "dot", parallel="m n", m="m", n="n", k="k"), settings)


@pytest.mark.parametrize("kind", ["forward", "weight", "input"])
@pytest.mark.parametrize("n, c, o, h, k", [(2, 3, 4, 7, 3), (3, 1, 32, 28, 5), (4, 20, 17, 12, 3)])
def test_convolution(settings: Settings, kind: str, n: int, c: int, o: int, h: int, k: int) -> None:
    check(convolution(kind, n, c, o, h, k), settings, tolerance=2e-4)


@pytest.mark.parametrize("h", [5, 14])
def test_padded_convolution(settings: Settings, h: int) -> None:
    check(convolution("forward", 3, 6, 10, h, 3, pad=1), settings, tolerance=1e-4)


WINDOWS = [
    ("forward", 3, 16, 32, 12, 3, 0, 1),
    ("forward", 2, 32, 30, 14, 3, 1, 1),
    ("forward", 2, 20, 48, 15, 3, 0, 2),
    ("forward", 1, 7, 32, 29, 4, 2, 1),
    ("forward", 2, 32, 64, 9, 3, 3, 2),
    ("input", 3, 32, 16, 12, 5, 0, 1),
    ("input", 2, 30, 48, 16, 3, 0, 1),
    ("weight", 3, 32, 30, 12, 5, 0, 1),
    ("weight", 5, 1, 32, 14, 5, 0, 1),
    ("weight", 2, 20, 16, 9, 3, 1, 1),
    ("weight", 2, 5, 16, 15, 3, 2, 2),
    ("weight", 40, 33, 48, 11, 3, 0, 1),
]


@pytest.mark.parametrize("kind, n, c, o, h, k, pad, stride", WINDOWS)
def test_windows(
    settings: Settings, kind: str, n: int, c: int, o: int, h: int, k: int, pad: int, stride: int
) -> None:
    """Convolutions that are emitted as such, without patches."""
    region = convolution(kind, n, c, o, h, k, pad, stride)
    machine = dataclasses.replace(detect_machine(), vector_bytes=64, vector_registers=32)
    assert match_window(lower(region, choose_config(region, machine)), machine) is not None
    check(region, settings, tolerance=2e-4)


@pytest.mark.parametrize("m, n, is_in_place", [(96, 192, True), (97, 192, False), (96, 193, False)])
def test_register_tiles_write_the_result(
    settings: Settings, m: int, n: int, is_in_place: bool
) -> None:
    """Where it is all of whole register tiles; else they write a buffer that is copied."""
    machine = dataclasses.replace(detect_machine(), vector_bytes=64, vector_registers=32)
    region = dot_region(matmul(m, n, 70))
    config = choose_config(region, machine)
    assert ("acc" not in emit(lower(region, config), config, machine)) == is_in_place
    check(region, settings, tolerance=1e-4, config=config)


def test_strided_convolution(settings: Settings) -> None:
    check(convolution("forward", 2, 5, 7, 15, 3, stride=2), settings, tolerance=1e-4)


def test_index_that_mixes_row_and_contracted_axis(settings: Settings) -> None:
    """A view that no table of runs describes: every address is computed."""
    d = Draft(m=30, n=12, k=17)
    x = d.slot("x", F32, 100)
    e = (d.var("m") + d.var("k") * 2) // 3
    mask = (Bound((d.var("m") + d.var("k")) % 4, 0, 3),)
    d.dot(d.load(x, e, mask), d.input("b", "k n"), "k")
    check(dot_region(d), settings)


@pytest.mark.parametrize("m, k, n", [(16, 32, 48), (7, 5, 9), (100, 1000, 100)])
def test_any_block_sizes(settings: Settings, m: int, k: int, n: int) -> None:
    region = dot_region(matmul(61, 53, 47))
    axes = {a.name: a for a in region.axes}
    config = Config(
        tuple(
            TileAxis(name, (axes[name],), min(block, axes[name].extent), role)
            for name, block, role in (
                ("m", m, Role.GRID),
                ("k", k, Role.LOOP),
                ("n", n, Role.GRID),
            )
        )
    )
    check(region, settings, tolerance=1e-4, config=config)


@pytest.mark.parametrize("width, count", [(32, 16), (64, 32), (16, 32), (16, 16)])
def test_register_tiles_fit_and_waste_little(width: int, count: int) -> None:
    """Of all tiles, the one for 32 rows wastes no row, and none needs more registers than exist."""
    machine = dataclasses.replace(detect_machine(), vector_bytes=width, vector_registers=count)
    lanes = machine.lanes(4)
    for m in (1, 5, 32, 97, 1000):
        for n in (1, 10, 65, 1000):
            nv, mr = register_tile(n, m, lanes, machine)
            assert 1 <= mr <= m and 1 <= nv <= -(-n // lanes)
            assert nv * mr + nv + 1 <= count
    nv, mr = register_tile(4096, 32, lanes, machine)
    assert 32 % mr == 0
