"""torch.profiler's names, and those of torch.autograd.graph."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import tgrad
from tgrad import nn, optim, profiler
from tgrad.autograd import graph
from tgrad.errors import OutOfRangeError, UnsupportedError


def training(device):
    model = nn.Linear(8, 8, device=device)
    optimizer = optim.Adam(model.parameters())

    def step():
        with profiler.record_function("forward"):
            loss = model(tgrad.randn(4, 8, device=device)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.devices("cpu")
def test_kernels_and_names(is_compiled, device, tmp_path):
    step = training(device)
    step = tgrad.compile(step) if is_compiled else step
    step()
    with profiler.profile(activities=[profiler.ProfilerActivity.CPU], record_shapes=True) as found:
        for _ in range(3):
            with profiler.record_function("step"):
                step()
    rows = found.key_averages()
    counts = {row.key: row.count for row in rows}
    assert counts["step"] == 3 and any(name.startswith("linear") for name in counts)
    assert all((row.cpu_time > 0) != (row.cuda_time > 0) for row in rows)
    assert any(row.cuda_time > 0 for row in rows) == (device == "cuda")
    total = rows.total_average()
    assert total.count == sum(counts.values()) and total.cpu_time_total > 0
    lines = rows.table(sort_by="self_cpu_time_total", row_limit=2).splitlines()
    assert len(lines) == 3 and lines[0].split()[0] == "Name"
    assert len(rows.table(row_limit=-1).splitlines()) == len(rows) + 1
    found.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {"step"} < {e["name"] for e in events if e["ph"] == "X"}
    with pytest.raises(UnsupportedError, match="sorted by 'shape'"):
        rows.table(sort_by="shape")


@pytest.mark.parametrize(
    "numbers", [(1, 1, 2, 2, 0), (0, 0, 1, 0, 3), (2, 0, 1, 1, 1), (0, 2, 3, 0, 0)]
)
def test_schedules_are_pytorch_s(numbers):
    names = ("wait", "warmup", "active", "repeat", "skip_first")
    options = dict(zip(names, numbers, strict=True))
    have, want = profiler.schedule(**options), torch.profiler.schedule(**options)
    assert [have(n).name for n in range(20)] == [want(n).name for n in range(20)]


@pytest.mark.devices("cpu")
def test_scheduled_steps(device, tmp_path):
    seen = []
    write = profiler.tensorboard_trace_handler(str(tmp_path), "one")

    def ready(found):
        seen.append((found.step_num, {r.key: r.count for r in found.key_averages()}["forward"]))
        write(found)

    step = training(device)
    plan = profiler.schedule(wait=1, warmup=1, active=2, repeat=2)
    with profiler.profile(schedule=plan, on_trace_ready=ready) as found:
        for _ in range(10):
            step()
            found.step()
    assert seen == [(3, 2), (7, 2)]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "one.3.pt.trace.json", "one.7.pt.trace.json",
    ]  # fmt: skip


def test_what_profiles_do_not_do():
    with pytest.raises(UnsupportedError, match="execution_trace_observer"):
        profiler.profile(execution_trace_observer=print)
    with pytest.raises(OutOfRangeError, match="active is less than 1"):
        profiler.schedule(wait=0, warmup=0, active=0)


@pytest.mark.parametrize("mode", ["all", "any"])
def test_hooks_of_several_gradients(mode, device):
    arrays = [np.random.default_rng().standard_normal(3).astype(np.float32) for _ in range(3)]
    seen: list[list] = []
    for library, options in ((tgrad, {"device": device}), (torch, {})):
        a, b, c = (library.tensor(x, requires_grad=True, **options) for x in arrays)
        calls: list = []
        handle = library.autograd.graph.register_multi_grad_hook(
            [a, c] if mode == "any" else [a, b, c], calls.append, mode=mode
        )
        for _ in range(2):
            (a.exp() * 2 + a * b).sum().backward()
        handle.remove()
        (a * c).sum().backward()
        seen.append(calls)
    have, want = seen
    assert len(have) == len(want) == 2
    for mine, torchs in zip(have, want, strict=True):
        for g, h in zip(*([mine, torchs] if mode == "all" else [[mine], [torchs]]), strict=True):
            assert (g is None) is (h is None)
            if g is not None:
                np.testing.assert_allclose(g.detach().numpy(), h, rtol=1e-5)


def test_nothing_is_saved():
    with pytest.raises(UnsupportedError, match="a plan decides by itself") as caught:
        graph.saved_tensors_hooks(lambda x: x, lambda x: x)
    assert "tgrad.utils.checkpoint" in caught.value.hint
    with pytest.raises(UnsupportedError, match="save_on_cpu"):
        graph.save_on_cpu()
    w = tgrad.ones(2, requires_grad=True)
    with graph.allow_mutation_on_saved_tensors(), graph.disable_saved_tensors_hooks("no"):
        y = w * 2
        loss = (y * y).sum()
        with tgrad.no_grad():
            y.zero_()
    loss.backward()
    assert w.grad.tolist() == [8.0, 8.0]
    with pytest.raises(OutOfRangeError, match="mode='some'"):
        graph.register_multi_grad_hook([w], print, mode="some")
