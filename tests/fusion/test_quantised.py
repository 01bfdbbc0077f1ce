"""Weights of few bits: dequantised in the prologue of the product that reads them, never stored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tgrad
from tests.fusion.checking import cut
from tgrad.fusion.device_limits import GPU_LIMITS
from tgrad.fusion.region import Dot, Region
from tgrad.runtime.plan import Plan, record_plans
from tgrad.runtime.planning import planning
from tgrad.tensor import Tensor, tensor

rng = np.random.default_rng(5)
GROUP = 16

Product = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def grouped(q: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Weights [N, K] of integers with a scale and a zero for each group along K."""
    rows, groups = scale.shape
    parts = q.reshape(rows, groups, -1).to(scale.dtype)
    return ((parts - zero[:, :, None]) * scale[:, :, None]).reshape(rows, -1)


def bytes_product(x: Tensor, w: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return x @ grouped(w, scale, zero).T


def nibbles_product(x: Tensor, w: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Two weights a byte, the lower four bits first."""
    pairs = tgrad.stack([w & 15, w >> 4], dim=-1)
    return x @ grouped(pairs.reshape(w.shape[0], -1), scale, zero).T


def arrays(m: int, n: int, k: int, packed: int) -> list[np.ndarray]:
    kind = np.int8 if packed == 1 else np.uint8
    limits = np.iinfo(kind)
    return [
        rng.standard_normal((m, k)).astype(np.float32),
        rng.integers(limits.min, limits.max + 1, (n, k // packed)).astype(kind),
        rng.standard_normal((n, k // GROUP)).astype(np.float32),
        rng.integers(0, 8, (n, k // GROUP)).astype(np.float32),
    ]


CASES = [(bytes_product, 1), (nibbles_product, 2)]
IDS = ["int8", "int4"]


@pytest.mark.parametrize(("product", "packed"), CASES, ids=IDS)
@pytest.mark.parametrize("m", [1, 5, 40])
def test_dequantisation_is_a_prologue(product: Product, packed: int, m: int) -> None:
    (kernel,) = cut([product(*map(tensor, arrays(m, 24, 64, packed)))], GPU_LIMITS)
    assert len(kernel.outputs) == 1 and len(kernel.inputs) == 4


@pytest.mark.parametrize(("product", "packed"), CASES, ids=IDS)
@pytest.mark.parametrize("m", [1, 40])
def test_the_interpreter_dequantises(product: Product, packed: int, m: int) -> None:
    pytest.importorskip("triton")
    given = arrays(m, 33, 96, packed)
    result = product(*(tensor(a, device="interpret") for a in given))
    with record_plans() as plans:
        got = result.numpy()
    assert [p.launches for p in plans] == [1]
    wanted = product(*(tensor(a, device="numpy") for a in given)).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3)


def planned(product: Product, target: str, m: int, packed: int, n: int = 2048) -> Plan:
    k, half = 4096, tgrad.bfloat16
    with planning(target):
        weights = tgrad.zeros(n, k // packed, dtype=tgrad.int8 if packed == 1 else tgrad.uint8)
        scales = [tgrad.zeros(n, k // 128, dtype=half) for _ in range(2)]
        compiled = tgrad.compile(product)
        compiled(tgrad.zeros(m, k, dtype=half), weights, *scales)
        plan: Plan = compiled.plans[-1]
    return plan


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
@pytest.mark.parametrize(("product", "packed"), CASES, ids=IDS)
@pytest.mark.parametrize("m", [1, 8, 512])
def test_the_packed_weight_is_read_once(product: Product, packed: int, m: int, target: str) -> None:
    pytest.importorskip("triton")
    from tgrad.triton_gen import compile_for

    plan = planned(product, target, m, packed)
    (kernel,) = plan.kernels
    scales = 2 * 2048 * 32 * 2
    assert plan.bytes == 2048 * 4096 // packed + scales + (m * 4096 + m * 2048) * 2
    (artifact,) = compile_for([kernel.region], target)
    figures = artifact.figures
    assert figures.spills == 0
    assert (figures.widest_load or 0) >= (64 if packed == 2 and m > 1 else 128)
    if m > 1:
        want = "wgmma" if target == "sm_90" else "v_mfma"
        assert figures.matrix_instruction and figures.matrix_instruction.startswith(want)


# -- int8 by int8 ----------------------------------------------------------------------------------


def dot_of(region: Region) -> tuple[str, str]:
    """The dtypes of a dot's operands, and of its sums."""
    (dot,) = (v for v in region.values if isinstance(v, Dot))
    operands = {region.values[v].dtype.name for v in (dot.a, dot.b)}
    assert len(operands) == 1
    return operands.pop(), dot.dtype.name


def bytes_of(*shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)


@pytest.mark.devices("cpu", "interpret")
@pytest.mark.parametrize(("m", "k", "n"), [(33, 70, 50), (4, 40, 64), (1, 100, 30)])
def test_products_of_bytes(m: int, k: int, n: int, device: str) -> None:
    """Widened they are exact; as they are they wrap, as PyTorch's do."""
    if device == "interpret":
        pytest.importorskip("triton")
    a, b = bytes_of(m, k), bytes_of(k, n)
    x, w = (tensor(v, device=device) for v in (a, b))
    exact = a.astype(np.int64) @ b.astype(np.int64)
    np.testing.assert_array_equal((x.to(tgrad.int32) @ w.to(tgrad.int32)).numpy(), exact)
    np.testing.assert_array_equal((x @ w).numpy(), exact.astype(np.int8))


def test_widened_bytes_are_multiplied_as_bytes() -> None:
    x, w = tensor(bytes_of(9, 20)), tensor(bytes_of(12, 20))
    scales = [tensor(rng.standard_normal(n).astype(np.float32)) for n in (9, 12)]
    product = x.to(tgrad.int32) @ w.to(tgrad.int32).T
    scaled = product.to(tgrad.float32) * scales[0][:, None] * scales[1]
    (kernel,) = cut([scaled])
    assert dot_of(kernel.region) == ("int8", "int32")


def test_bytes_beside_wider_integers_are_widened() -> None:
    x, w = tensor(bytes_of(9, 20)), tensor(rng.integers(-9, 9, (20, 12)).astype(np.int32))
    (kernel,) = cut([x.to(tgrad.int32) @ w])
    assert dot_of(kernel.region) == ("int32", "int32")


@pytest.mark.parametrize(
    ("target", "instruction"),
    [
        ("sm_80", "mma.sync.aligned.m16n8k32"),
        ("sm_90", "wgmma.mma_async.sync.aligned.m64n64k32.s32.s8.s8"),
        ("gfx942", "v_mfma_i32"),
        ("gfx1100", "v_wmma_i32"),
    ],
)
def test_bytes_use_matrix_units(target: str, instruction: str) -> None:
    pytest.importorskip("triton")
    from tgrad.triton_gen import compile_for

    with planning(target):
        x, w = (tgrad.zeros(n, 1024, dtype=tgrad.int8) for n in (512, 2048))
        compiled = tgrad.compile(lambda x, w: x.to(tgrad.int32) @ w.to(tgrad.int32).T)
        compiled(x, w)
        (kernel,) = compiled.plans[-1].kernels
    (artifact,) = compile_for([kernel.region], target)
    assert artifact.figures.spills == 0 and artifact.figures.widest_load == 128
    assert str(artifact.figures.matrix_instruction).startswith(instruction)
