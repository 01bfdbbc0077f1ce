"""Loads are issued before reductions that they do not wait for."""

from __future__ import annotations

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.triton_gen.builder import Builder
from tgrad import dtype as dt
from tgrad.fusion.region import Region
from tgrad.graph.index import Index
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.lower import lower
from tgrad.kernel.verify import verify_kernel
from tgrad.runtime.plan import record_plans
from tgrad.runtime.planning import planning
from tgrad.tensor import Tensor, realize_tensors
from tgrad.triton_gen import choose_config, search_space, target_by_name
from tgrad.triton_gen.early_loads import with_early_loads

pytest.importorskip("triton")
SM_90 = target_by_name("sm_90")


def rows(length: int, loads: int) -> Region:
    """Rows less their mean, and so many other rows added."""
    b = Builder(i=4096, r=length)
    x = b.load("i r")
    total = b.op(Op.SUB, x, b.reduce(Op.REDUCE_SUM, x, "r"))
    for _ in range(loads):
        total = b.op(Op.ADD, total, b.load("i r"))
    b.store(total, "i r")
    return b.region("rows", "reduce", row="r")


def order(region: Region) -> list[str]:
    config = choose_config(region, SM_90)
    kernel = with_early_loads(lower(region, config), config)
    verify_kernel(kernel)
    return [type(s).__name__ for s in kernel.body]


def test_loads_come_first() -> None:
    found = order(rows(1024, 2))
    assert found.index("ReduceTile") == 3 and found[:3] == ["LoadTile"] * 3


def test_only_as_many_as_registers_hold() -> None:
    """Rows of 4096 floats take 64 bytes of a thread: two more are loaded early, the others late."""
    found = order(rows(4096, 6))
    first = found.index("ReduceTile")
    assert found[:first].count("LoadTile") == 3 and found[first:].count("LoadTile") == 4


def test_an_address_that_is_computed_is_waited_for() -> None:
    b = Builder(i=64, r=64)
    x = b.load("i r")
    best = b.reduce(Op.REDUCE_MAX, x, "r")
    place = b.op(Op.CAST, best, dtype=dt.int32)
    from tgrad.graph.index import loaded

    at: Index = loaded(place, 0, 63)
    picked = b.load(at, size=64)
    b.store(b.op(Op.ADD, x, picked), "i r")
    region = b.region("picked", "reduce", row="r")
    config = choose_config(region, SM_90)
    kernel = with_early_loads(lower(region, config), config)
    verify_kernel(kernel)
    kinds = [type(s).__name__ for s in kernel.body]
    assert kinds.index("ReduceTile") < len(kinds) - 1 - kinds[::-1].index("LoadTile")


def test_a_norm_with_its_gradient_waits_for_memory_once_a_row() -> None:
    with planning("sm_90"), record_plans() as plans:
        weight, bias = (
            tgrad.zeros(4096, dtype=tgrad.bfloat16, device="cuda", requires_grad=True)
            for _ in range(2)
        )
        zeros = np.zeros((8192, 4096), np.float32)
        x, slope = (tgrad.tensor(zeros, device="cuda", dtype=tgrad.bfloat16) for _ in range(2))
        x.requires_grad_()
        y = F.layer_norm(x, (4096,), weight, bias)
        y.backward(slope)
        grads = [g for g in (x.grad, weight.grad, bias.grad) if g is not None]
        realize_tensors([y, *grads])
    kernel = max((k for p in plans for k in p.kernels), key=lambda k: k.bytes)
    loop = kernel.source.split("in tl.range(")[1]
    assert loop.count("tl.load") == 2
    assert loop.rindex("tl.load") < loop.index("tl.sum")


def test_values(device: str) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((7, 300), np.float32) for _ in range(2)]

    def result(where: str) -> list[Tensor]:
        x, slope = (tgrad.tensor(a, device=where) for a in arrays)
        weight = tgrad.tensor(arrays[0][0], device=where, requires_grad=True)
        x.requires_grad_()
        y = F.layer_norm(x, (300,), weight) + F.rms_norm(x, (300,))
        y.backward(slope)
        assert x.grad is not None and weight.grad is not None
        return [y, x.grad, weight.grad]

    wants, haves = result("numpy"), result(device)
    realize_tensors(wants)
    realize_tensors(haves)
    for want, have in zip(wants, haves):
        np.testing.assert_allclose(have.numpy(), want.numpy(), rtol=1e-4, atol=1e-4)


def test_nothing_moves_out_of_a_loop() -> None:
    region = rows(100_000, 1)
    config = choose_config(region, SM_90)
    kernel = lower(region, config)
    moved = with_early_loads(kernel, config)
    count = [sum(isinstance(s, ir.LoadTile) for s in k.body) for k in (kernel, moved)]
    assert count[0] == count[1]


def test_a_search_may_copy_the_next_rows_ahead() -> None:
    space = search_space(rows(100_000, 1), SM_90)
    named = space.named(space.start)
    assert named["num_stages"] == 1
    choice = space.find({**named, "num_stages": 3})
    assert choice is not None
    config = space.config(choice)
    assert config is not None and config.num_stages == 3
