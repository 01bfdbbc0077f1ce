"""Static quality: every pattern compiled for GPUs that need not be there."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.attention import attention_regions
from tests.triton_gen.builder import Builder
from tests.triton_gen.patterns import (
    bias,
    column_sums,
    dots,
    gated,
    gelu,
    linear,
    pointwise_and_reductions,
    scaled_product,
    scans_and_sorts,
    squares,
    summed,
    update,
)
from tgrad import dtype as dt
from tgrad.dtype import DTYPES, DType
from tgrad.fusion.device_limits import GPU_LIMITS
from tgrad.fusion.region import Region
from tgrad.graph.op import ELEMENTWISE, OPS, Op, takes
from tgrad.kernel.ir import Artifact
from tgrad.pipeline import canonical_bases, cut_graph
from tgrad.settings import settings
from tgrad.triton_gen import build, choose_config, compile_for, target_by_name

pytest.importorskip("triton")

TARGETS = ["sm_90", "gfx942"]


def only(region: Region, target: str) -> Artifact:
    (artifact,) = compile_for([region], target)
    return artifact


def assert_no_spills(artifacts: list[Artifact]) -> None:
    spilled = {a.name: a.figures.spills for a in artifacts if a.figures.spills != 0}
    assert not spilled, f"kernels that spill registers, or whose figures are not known: {spilled}"


@pytest.mark.parametrize("target", TARGETS)
def test_pointwise_and_reductions_do_not_spill(target: str) -> None:
    assert_no_spills(compile_for(pointwise_and_reductions(), target))


@pytest.mark.parametrize("target", TARGETS)
def test_scans_and_sorts_do_not_spill(target: str) -> None:
    assert_no_spills(compile_for(scans_and_sorts(), target))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [dt.bfloat16, dt.float32], ids=lambda d: d.short)
def test_batches_do_not_spill_and_load_wide(dtype: DType, target: str) -> None:
    """Lengths that 16 divides keep 16-byte loads, though they are not known when compiling."""
    lengths = (1 << 20, 768, 48, 4096 * 64)
    regions = [update(lengths, dtype), squares(lengths, dtype), column_sums(24, 512, 768, dtype)]
    artifacts = compile_for(regions, target)
    assert_no_spills(artifacts)
    assert [a.pointers is not None for a in artifacts] == [True] * 3
    for a in artifacts[:2]:
        text = a.entry.asm["ptx" if target == "sm_90" else "amdgcn"]
        wide = r"ld\.global\.v4\.b32|cp\.async\.cg.* 0x10|global_load_dwordx4"
        assert re.search(wide, text), a.source


DOTS = {
    dt.bfloat16: dots(dt.bfloat16),
    dt.float16: dots(dt.float16)[::4],
    dt.float32: dots(dt.float32),
}
"""Of float16, whose kernels are bfloat16's in another type, some."""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DOTS, ids=lambda d: d.short)
def test_dots_do_not_spill_and_use_matrix_units(dtype: DType, target: str) -> None:
    """float32 at full precision has no matrix instruction on NVIDIA: tf32 would lose 13 bits, so
    those kernels run on the FMA units."""
    artifacts = compile_for(DOTS[dtype], target)
    assert_no_spills(artifacts)
    for a in artifacts:
        found = a.figures.matrix_instruction
        if target == "gfx942":
            assert found is not None and found.startswith("v_mfma"), a.name
        elif dtype is dt.float32:
            assert found is None, a.name
        else:
            rows = a.config.axes[0].block
            want = "wgmma" if rows >= 64 else "mma.sync"
            assert found is not None and found.startswith(want), a.name


@pytest.mark.parametrize(
    "target, want",
    [("sm_80", "mma.sync.aligned.m16n8k16.row.col.f32.f16"), ("sm_90", "wgmma"),
     ("gfx942", "v_mfma_f32_32x32x8_f16")],
)  # fmt: skip
def test_products_of_8_bit_floats(target: str, want: str) -> None:
    """On wgmma as they are, its sums joined to the accumulator; as float16 without such units."""
    regions = [
        scaled_product(2048, 1024, 2048, dt.float8_e4m3fn),
        scaled_product(2048, 1000, 257, dt.float8_e5m2),
    ]
    artifacts = compile_for(regions, target)
    assert_no_spills(artifacts)
    for a, kind in zip(artifacts, ("e4m3", "e5m2")):
        found = a.figures.matrix_instruction
        assert found is not None and found.startswith(want), a.name
        if target == "sm_90":
            assert found.endswith(f".f32.{kind}.{kind}"), a.name
            assert f"_matrix_{kind}" not in a.source  # bytes would pass through registers
            blocks = {x.name: x.block for x in a.config.axes}
            tiles = (blocks["m"] + blocks["n"]) * blocks["k"] * a.config.num_stages
            assert (a.figures.shared or 0) >= tiles, "each operand is copied ahead"
            assert "add.f32" in a.entry.asm["ptx"] or "add.rn.f32" in a.entry.asm["ptx"], a.name


@pytest.mark.parametrize("target", TARGETS)
def test_several_dots_share_a_kernel_without_spills(target: str) -> None:
    regions = [
        gated(4096, 2048, 5632, dt.bfloat16),
        summed(4096, (512, 2048), 2048, dt.bfloat16),
    ]
    artifacts = compile_for(regions, target)
    assert_no_spills(artifacts)
    for a in artifacts:
        found = a.figures.matrix_instruction
        assert found and found.startswith("wgmma" if target == "sm_90" else "v_mfma"), a.name
        if target == "sm_90":
            assert a.figures.async_copies, a.name


@pytest.mark.parametrize(("size", "target"), [(64, "sm_90"), (128, "sm_90"), (128, "gfx942")])
def test_attention_that_skips_by_loaded_ids_stays_pipelined(size: int, target: str) -> None:
    """The loop over the ids is one of its own, so that the main one keeps its asynchronous copies:
    plain causal attention has from 8 to 20 of them."""
    artifacts = compile_for(attention_regions(8, 1024, size, dt.bfloat16, documents=True), target)
    assert_no_spills(artifacts)
    for a in artifacts:
        source = a.source[a.source.index("BLOCK_COLUMN") :]
        assert re.search(
            r"for column0 in .*\n(.*\n)*    k_start = .*\n(.*\n)*    for k0 in", source
        )
        if target == "sm_90":
            assert (a.figures.matrix_instruction or "").startswith("wgmma"), a.name
            assert (a.figures.async_copies or 0) >= 8, a.name


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("dtype", "size"), [(dt.bfloat16, 64), (dt.bfloat16, 128), (dt.float32, 128)]
)
def test_attention_does_not_spill_and_uses_matrix_units(
    dtype: DType, size: int, target: str
) -> None:
    artifacts = compile_for(attention_regions(8, 1024, size, dtype), target)
    assert_no_spills(artifacts)
    want = "v_mfma" if target == "gfx942" else "wgmma"
    for a in artifacts:
        found = a.figures.matrix_instruction
        if target == "sm_90" and dtype is dt.float32:
            assert found is None, a.name
        else:
            assert found is not None and found.startswith(want), a.name


def long_rows(classes: int) -> list[Region]:
    """Softmax, layer norm and cross entropy with its gradient, of rows that no program keeps."""
    x = tgrad.zeros(64, classes, device="numpy", dtype=tgrad.bfloat16)
    x = (x + x.realize()).realize().detach().requires_grad_()
    loss = F.cross_entropy(x, tgrad.tensor(np.zeros(64, np.int64), device="numpy"))
    loss.backward()
    assert x.grad is not None
    found = (F.softmax(x, -1), F.layer_norm(x, (classes,)), loss, x.grad)
    kernels = [k for t in found for k in cut_graph(canonical_bases([t._node]), GPU_LIMITS)]
    spaces = [(k, k.region.space) for k in kernels]
    reductions = [k for k, space in spaces if space.kind == "reduce" and not space.outer]
    rows = [k.region for k in reductions if any(n.size >= 64 * classes for n in k.inputs)]
    assert len(rows) >= 3
    return rows


def test_long_rows_are_copied_ahead_where_they_are_aligned() -> None:
    artifacts = compile_for(long_rows(65536), "sm_90")
    assert_no_spills(artifacts)
    for a in artifacts:
        assert a.config.num_stages == 2 and (a.figures.async_copies or 0) > 0, a.name
    artifacts = compile_for(long_rows(50257), "sm_90")
    assert_no_spills(artifacts)
    assert all(a.config.num_stages == 1 for a in artifacts)


def test_large_dot_is_pipelined() -> None:
    a = only(linear(4096, 1024, 4096, dt.bfloat16), "sm_90")
    assert "cp.async" in a.entry.asm["ptx"]  # type: ignore[attr-defined]
    assert a.config.num_stages >= 3
    assert a.figures.shared is not None and a.figures.shared >= 3 * (128 + 256) * 64 * 2


ALIGNED = [gelu(1 << 22, dt.float32), gelu(1 << 22, dt.bfloat16), bias(4096, 1024, dt.float32)]


@pytest.mark.parametrize("region", ALIGNED, ids=lambda r: r.name)
def test_loads_are_wide(region: Region) -> None:
    ptx = only(region, "sm_90").entry.asm["ptx"]  # type: ignore[attr-defined]
    loads = re.findall(r"ld\.global[\w.]*", ptx)
    stores = re.findall(r"st\.global[\w.]*", ptx)
    assert loads and all(".v4.b32" in text for text in loads + stores), loads + stores
    amd = only(region, "gfx942").entry.asm["amdgcn"]  # type: ignore[attr-defined]
    assert "buffer_load_dwordx4" in amd and "buffer_store_dwordx4" in amd


def all_ops(dtype: DType) -> Region:
    b = Builder(i=1 << 20)
    x, y = b.load("i", dtype), b.load("i", dtype)
    for op in sorted(ELEMENTWISE - {Op.CAST, Op.BITCAST, Op.PHILOX, Op.WHERE}):
        if takes(op, dtype):
            out = dt.bool_ if OPS[op].result == "bool" else dtype
            b.store(b.op(op, *[x, y][: OPS[op].arity], dtype=out), "i")
    for target in DTYPES.values():
        b.store(b.op(Op.CAST, x, dtype=target), "i")
    return b.region(f"all_ops_{dtype.short}")


@pytest.mark.parametrize("target", TARGETS)
def test_every_op_and_cast_compiles(target: str) -> None:
    """With four elements a thread, as many as the casts of 8-bit floats take at once: each more is
    only that many copies for LLVM."""
    gpu, work = target_by_name(target), []
    for region in map(all_ops, DTYPES.values()):
        config = choose_config(region, gpu)
        axis = replace(config.axes[0], block=4 * gpu.warp_size * config.num_warps)
        work.append((region, replace(config, axes=(axis,))))
    artifacts = build(work, settings, gpu)
    assert len(artifacts) == len(DTYPES)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "op", [Op.REDUCE_SUM, Op.REDUCE_PROD, Op.REDUCE_MAX, Op.REDUCE_MIN], ids=str
)
def test_every_reduction_compiles(op: Op, target: str) -> None:
    regions = []
    for dtype in (dt.float32, dt.float16, dt.bfloat16, dt.float64, dt.int64, dt.int8, dt.bool_):
        if dtype.is_bool and op in (Op.REDUCE_SUM, Op.REDUCE_PROD):
            continue
        b = Builder(i=512, j=1000)
        b.store(b.reduce(op, b.load("i j", dtype), "j"), "i")
        regions.append(b.region(f"{op}_{dtype.short}", "reduce", row="j"))
    assert_no_spills(compile_for(regions, target))


@pytest.mark.parametrize("target", ["sm_80", "sm_100", "gfx1100"])
def test_other_targets(target: str) -> None:
    regions = [gelu(1 << 20, dt.bfloat16), linear(1024, 512, 1024, dt.float16)]
    for a in compile_for(regions, target):
        assert a.figures.spills == 0
