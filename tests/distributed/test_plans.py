"""Plans with exchanges: what is said before they run, in which order, and that waits suffice."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

import tgrad
import tgrad.distributed as dist
import tgrad.nn.functional as F
from tests.distributed.processes import backend
from tests.training.gpt import gpt
from tgrad import nn
from tgrad.cli.explain import Request, explain_script
from tgrad.device import Device
from tgrad.errors import UNKNOWN
from tgrad.fusion.region_json import region_from_json, region_to_json
from tgrad.graph.collective import COLLECTIVES, CollectiveCall
from tgrad.nn.parallel import DistributedDataParallel
from tgrad.runtime.collective import start_collective
from tgrad.runtime.device import counters
from tgrad.runtime.exchanges import awaited_before
from tgrad.runtime.plan import Plan
from tgrad.runtime.planning import planning

torch = pytest.importorskip("torch")


@pytest.fixture
def eight() -> Iterator[None]:
    """The first of eight processes, as far as plans can tell: nothing is exchanged."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=8, store=FakeStore())
    yield
    dist.destroy_process_group()


@pytest.fixture
def alone(tmp_path) -> Iterator[None]:
    """The only process: what it exchanges with itself comes late, when it is waited for."""
    dist.init_process_group(backend(), f"file://{tmp_path}/meeting", world_size=1, rank=0)
    yield
    dist.destroy_process_group()


def exchanges_of(plan: Plan) -> list[int]:
    return [i for i, k in enumerate(plan.kernels) if k.region.is_exchange]


def gpt_step(memory_limit: str | None = None) -> Plan:
    """A training step of a GPT of two layers in eight processes, for an H100."""
    plans: list[Plan] = []
    with planning("sm_90", plans.append):
        _gpt_step(memory_limit)
    return max(plans, key=lambda plan: plan.launches)


def _gpt_step(memory_limit: str | None) -> None:
    model = gpt(nn, F, tgrad, layers=2).to("cuda")
    wrapped = DistributedDataParallel(model, bucket_cap_mb=0.5, init_sync=False)
    optimizer = tgrad.optim.AdamW(wrapped.parameters())

    @tgrad.compile(memory_limit=memory_limit)
    def step(tokens, targets):
        loss = wrapped(tokens, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    tokens = tgrad.zeros(8, 32, dtype=tgrad.int64, device="cuda")
    step(tokens, tokens)


def test_a_step_says_what_is_exchanged(eight) -> None:
    plan = gpt_step()
    text = plan.explain()
    calls = [plan.kernels[i] for i in exchanges_of(plan)]
    parameters = sum(k.region.slots[0].size for k in calls)
    assert parameters == sum(p.numel() for p in gpt(nn, F, tgrad, layers=2).parameters())
    assert all(k.bytes == 2 * 4 * k.region.slots[0].size and not k.flops for k in calls)
    assert len(calls) >= 3 and "all_reduce(in0, sum) over 8" in text
    assert calls[0].name.startswith("all_reduce_")
    adamw = [k for k in plan.kernels if k.name.startswith("adamw")]
    assert 1 <= len(adamw) <= 4


def test_gradients_are_computed_while_others_are_exchanged(eight) -> None:
    plan = gpt_step()
    awaited = {i: before for before, found in awaited_before(plan).items() for i in found}
    first, *_, last = exchanges_of(plan)
    readers = [
        i for i, k in enumerate(plan.kernels) if "adamw" in k.name and "scalar" not in k.name
    ]
    assert awaited[first] > last and readers[0] > last
    between = plan.kernels[first + 1 : awaited[first]]
    assert sum("backward" in k.name for k in between) > 20


def test_a_memory_limit_repeats_no_exchange(eight) -> None:
    whole = gpt_step()
    room = whole.peak_bytes + whole.input_bytes
    less = gpt_step(memory_limit=str(room - whole.arena_bytes // 8))
    assert less.launches > whole.launches and less.arena_bytes < whole.arena_bytes
    names = [sorted(p.kernels[i].region.call.text() for i in exchanges_of(p))
             for p in (whole, less)]  # fmt: skip
    assert names[0] == names[1]


def test_a_call_is_data(eight) -> None:
    plans: list[Plan] = []
    with planning("sm_90", plans.append):
        x = tgrad.zeros(16, 3, device="cuda")
        dist.nn.functional.all_to_all_single(x, x, [2] * 8, [2] * 8)
        dist.all_reduce(x, dist.ReduceOp.MAX)
    regions = [k.region for p in plans for k in p.kernels if k.region.call is not None]
    assert [r.call.function for r in regions] == ["all_to_all", "all_reduce"]
    for region in regions:
        assert region_from_json(region_to_json(region)) == region


def test_what_runs_is_what_was_said(alone) -> None:
    a, b = tgrad.ones(4, 3), tgrad.ones(4, 3)

    @tgrad.compile
    def step(x):
        y = (x * 2).sum(0)
        dist.all_reduce(y)
        return y + a.sum(0)

    step(b)
    (plan,) = step.plans
    before = counters(b.device).launches
    assert step(b).tolist() == [12.0] * 3
    assert counters(b.device).launches - before == plan.launches


# -- waits ---------------------------------------------------------------------------------------

SIZES = (2, 3)


def program(seed: int):
    """A random step over three tensors that it changes in place, with exchanges among it."""
    draw = random.Random(seed)
    lines = []
    for _ in range(draw.randint(4, 14)):
        lines.append((draw.randrange(7), *(draw.randrange(4) for _ in range(3))))

    def step(x: tgrad.Tensor, state: list[tgrad.Tensor]) -> list[tgrad.Tensor]:
        values = [x, *state]
        made = []
        for kind, i, j, k in lines:
            a, b = values[i], values[j]
            if kind == 0:
                made.append(a @ b.T @ a)
            elif kind == 1:
                other = a * 0.5 + b
                dist.all_reduce(other)
                made.append(other)
            elif kind == 2 and k:
                state[k - 1].mul_(0.5).add_(a)
            elif kind == 3 and k:
                dist.all_reduce(state[k - 1])
            elif kind == 4:
                made.append(dist.nn.all_reduce(a.softmax(1)) + (made[-1] if made else b))
            elif kind == 5 and made:
                taken = tgrad.zeros(1, *SIZES, device=x.device)
                dist.all_gather_into_tensor(taken, made[-1] * 2)
                made[-1] = taken[0] - b
            else:
                made.append((a - b.mean()).tanh())
            if len(made) > 1 and kind % 2:
                values[0] = made[-2]
        return made

    return step


@pytest.mark.devices("cpu", "interpret")
@pytest.mark.parametrize("seed", range(30))
def test_nobody_reads_before_it_has_come(alone, seed, device) -> None:
    """On hosts a result is written when it is waited for: without the wait, others are read."""
    step = program(seed)
    numbers = np.random.default_rng(seed)
    arrays = [numbers.standard_normal(SIZES).astype(np.float32) for _ in range(7)]
    results = []
    for is_compiled in (False, True):
        state = [tgrad.tensor(a, device=device) for a in arrays[:3]]
        run = tgrad.compile(lambda x, state=state: step(x, state)) if is_compiled else None
        found = []
        for a in arrays[3:]:
            x = tgrad.tensor(a, device=device)
            made = step(x, state) if run is None else run(x)
            found += [t.numpy() for t in (*made, *state)]
        results.append(found)
    for known, found in zip(*results):
        np.testing.assert_allclose(found, known, rtol=1e-5, atol=1e-5)


# -- memory of a GPU -----------------------------------------------------------------------------


IN_PLACE = ("all_reduce", "reduce", "broadcast")


@pytest.mark.parametrize(
    ("function", "is_same"), [*((f, False) for f in COLLECTIVES), *((f, True) for f in IN_PLACE)]
)
def test_memory_that_torch_holds_is_exchanged_where_it_is(alone, function, is_same) -> None:
    """As on `cuda`, whose memory is torch's; here it is torch's on the host."""
    params = {
        "all_reduce": ("sum",), "reduce": ("max", 0), "broadcast": (0,), "all_gather": (),
        "reduce_scatter": ("sum",), "all_to_all": ((4,), (4,)),
    }[function]  # fmt: skip
    call = CollectiveCall(function, ((4, 3),), params, tgrad.bfloat16, 0, 1)
    assert call.is_in_place is (function in IN_PLACE)
    runtime = SimpleNamespace(device=Device("cuda"))
    x = torch.arange(12, dtype=torch.bfloat16)
    given = torch.cat([x.view(torch.uint8), torch.zeros(8, dtype=torch.uint8)])
    result = given if is_same else torch.zeros(32, dtype=torch.uint8)
    finish = start_collective(call, UNKNOWN, runtime, [given, result])
    finish()
    assert torch.equal(result[:24].view(torch.bfloat16), x)
    assert torch.equal(given[:24].view(torch.bfloat16), x) and not result[24:].any()


def test_a_script_is_planned_as_one_of_eight(tmp_path, capfd, monkeypatch) -> None:
    """Nobody joins, and nothing that goes past plans is exchanged."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    script = tmp_path / "step.py"
    script.write_text(SCRIPT)
    data = tmp_path / "plan.json"
    request = Request(target="sm_90", compiled=False, json_path=data, processes=8)
    assert explain_script(script, (), request) == 0
    printed = capfd.readouterr().out
    dist.destroy_process_group()
    assert "ranks [0, 1, 2, 3, 4, 5, 6, 7] told [3] of 8" in printed
    assert "all_reduce(in0, sum) over 8" in printed and "WORLD_SIZE" not in os.environ
    names = [kernel["name"] for kernel in json.loads(data.read_text())["kernels"]]
    assert sum(name.startswith("all_reduce") for name in names) == 1


SCRIPT = """
import os
import tgrad
import tgrad.distributed as dist
from tgrad.nn.parallel import DistributedDataParallel

dist.init_process_group()
tgrad.cuda.set_device(int(os.environ["LOCAL_RANK"]))
ranks, told = [None] * dist.get_world_size(), [3]
dist.all_gather_object(ranks, dist.get_rank())
dist.broadcast_object_list(told, 0)
dist.send(tgrad.ones(2, device="cuda"), 1)
dist.recv(tgrad.ones(2, device="cuda"), 1)
dist.barrier()
print("ranks", [n + i for i, n in enumerate(ranks)], "told", told, "of", dist.get_world_size())
model = DistributedDataParallel(tgrad.nn.Linear(64, 64).cuda(), device_ids=[0])
optimizer = tgrad.optim.SGD(model.parameters(), lr=0.1)
model(tgrad.randn(32, 64)).square().sum().backward()
optimizer.step()
model.module.weight.sum().item()
"""
