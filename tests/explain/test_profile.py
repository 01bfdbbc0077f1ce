"""Measured beside predicted, and the trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tgrad
from tgrad.cli.profile import profile_script
from tgrad.runtime.profile import profile_text, profiling, trace_of
from tgrad.runtime.watch import current_watcher

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
import tgrad
x = tgrad.ones(64, 64).realize()
y = tgrad.ones(64, 64).realize()
for i in range(int(sys.argv[1])):
    print("sum", (x @ y).softmax(1).sum().item())
"""


def two_kernels(x: tgrad.Tensor) -> tgrad.Tensor:
    return (x @ x).tanh() @ x


def test_every_launch_is_measured() -> None:
    x = tgrad.ones(96, 96).realize()
    want = two_kernels(x).numpy()
    with profiling() as profile:
        for _ in range(3):
            got = two_kernels(x).numpy()
    assert current_watcher() is None
    assert (got == want).all()
    (plan,) = profile.plans()
    assert [k.runs for k in plan.kernels] == [3] * plan.report.plan.launches
    assert len(plan.kernels) == 2 and all(k.seconds > 0 for k in plan.kernels)
    assert plan.total >= sum(k.seconds for k in plan.kernels)
    text = profile_text(plan)
    assert all(k.name in text and k.line in text for k in plan.kernels)
    assert "measured" in text and "predicted" in text and "total" in text


def test_trace_events() -> None:
    x = tgrad.ones(80, 80).realize()
    with profiling() as profile:
        for _ in range(2):
            two_kernels(x).realize()
    trace = json.loads(json.dumps(trace_of(profile)))
    assert set(trace) == {"traceEvents", "displayTimeUnit"}
    bars = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    assert len(bars) == len(profile.launches) == 4
    assert [b["args"]["step"] for b in bars] == [0, 1, 0, 1]
    ends = [b["ts"] + b["dur"] for b in bars]
    assert all(end <= b["ts"] + 1e-6 for end, b in zip(ends, bars[1:]))
    for b in bars:
        assert b["dur"] > 0 and b["cat"] == "kernel" and b["args"]["flops"] > 0
        assert b["args"]["line"].startswith("test_profile.py:")
        assert b["args"]["predicted_us"] > 0
    counters = [e for e in trace["traceEvents"] if e["ph"] == "C"]
    assert len(counters) == 4 and all(e["args"]["bytes"] > 0 for e in counters)
    heads = {e["name"] for e in trace["traceEvents"] if e["ph"] == "M"}
    assert heads == {"process_name", "thread_name"}


def test_the_command_prints_each_kernel_and_writes_a_trace(tmp_path, capsys) -> None:
    script, path = tmp_path / "program.py", tmp_path / "trace.json"
    script.write_text(SCRIPT)
    assert profile_script(script, ["5"], every=False, trace_path=path) == 0
    out = capsys.readouterr().out
    assert out.count("sum 64.0") == 5
    assert "the one with the most work" in out and "GFLOP/s" in out
    events = json.loads(path.read_text())["traceEvents"]
    bars = {e["name"] for e in events if e["ph"] == "X"}
    assert any(name in out for name in bars)


def test_the_command_of_a_script_that_launches_nothing(tmp_path, capsys) -> None:
    script = tmp_path / "idle.py"
    script.write_text("print('nothing')\n")
    assert profile_script(script) == 1
    assert "launched no kernel." in capsys.readouterr().err
    assert profile_script(tmp_path / "absent.py") == 1
    assert "is not a file." in capsys.readouterr().err


@pytest.mark.parametrize("optimizer", ["Adam"])
def test_profile_of_the_example(tmp_path, optimizer) -> None:
    trace = tmp_path / "trace.json"
    run = subprocess.run(
        [sys.executable, "-m", "tgrad.cli.main", "profile", "examples/mnist.py", "--trace",
         str(trace), "--steps", "3", "--save", str(tmp_path / "model.safetensors")],
        cwd=ROOT, env={**os.environ}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "test accuracy" in run.stdout and "mnist.py:" in run.stdout
    assert f"{optimizer.lower()}_" in run.stdout and "ratio" in run.stdout
    assert json.loads(trace.read_text())["traceEvents"]
