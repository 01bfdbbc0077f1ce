"""`tgrad explain SCRIPT`: where it stops, and what it says, with nothing run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tgrad.cli.explain import Request, explain_script
from tgrad.device import Device
from tgrad.runtime.device import counters
from tgrad.settings import parse_size

ROOT = Path(__file__).resolve().parents[2]

TRAINING = """
import sys
import numpy as np
import tgrad
from tgrad import nn, optim

device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
model = nn.Linear(8, 4).to(device)
optimizer = optim.{optimizer}(model.parameters(), lr=0.1)
for step in range(3):
    x = tgrad.tensor(np.ones((16, 8), np.float32), device=device)
    loss = (model(x) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print("step", step, "loss", loss.item())
print("end")
"""

INFERENCE = """
import tgrad
x = tgrad.ones(32, 32).realize()
for i in range({count}):
    print(i, (x @ x + i).sum().item())
print("end")
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "program.py"
    path.write_text(text)
    return path


def launches() -> int:
    return counters(Device("cpu")).launches


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
def test_it_stops_at_the_first_optimizer_step(tmp_path, capsys, optimizer):
    script, before = write(tmp_path, TRAINING.format(optimizer=optimizer)), launches()
    assert explain_script(script) == 0
    out = capsys.readouterr().out
    assert "step 0 loss" not in out and "end\n" not in out
    assert f"{optimizer.lower()}_" in out and "backward" in out
    assert launches() == before


def test_an_optimizer_of_the_users_stops_it_too(tmp_path, capsys):
    mine = "class Mine(optim.SGD):\n    pass\noptim.Mine = Mine\n"
    text = TRAINING.format(optimizer="Mine").replace("device = sys", mine + "device = sys")
    assert explain_script(write(tmp_path, text)) == 0
    assert "step 0 loss" not in capsys.readouterr().out


COMPILED = """
import numpy as np
import tgrad
from tgrad import nn, optim

model = nn.Linear(8, 4)
optimizer = optim.AdamW(model.parameters(), lr=0.1)

@tgrad.compile
def step(x):
    optimizer.zero_grad()
    loss = (model(x) ** 2).mean()
    loss.backward()
    optimizer.step()
    return loss

for i in range(3):
    print("loss", step(tgrad.tensor(np.ones((16, 8), np.float32))).item())
"""


def test_a_compiled_step(tmp_path, capsys):
    before, path = launches(), tmp_path / "plan.json"
    script = write(tmp_path, COMPILED)
    request = Request(target="sm_90", compiled=False, json_path=path)
    assert explain_script(script, request=request) == 0
    assert "loss" not in capsys.readouterr().out.splitlines()[0]
    assert launches() == before
    plan = json.loads(path.read_text())
    assert any("adamw" in k["name"] for k in plan["kernels"])


LARGE = """
import tgrad
from tgrad import nn, optim
model = nn.Linear(12288, 12288)
optimizer = optim.Adam(model.parameters())
(model(tgrad.ones(4, 12288).realize()) ** 2).sum().backward()
optimizer.step()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_model_larger_than_the_memory_that_it_takes_to_plan_it(tmp_path):
    """Parameters, gradients and state of 600 MB each. The peak is VmHWM: that of getrusage counts
    the process that started this one too."""
    script = write(tmp_path, LARGE)
    program = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from tgrad.cli.explain import Request, explain_script\n"
        "def peak():\n"
        "    status = Path('/proc/self/status').read_text()\n"
        "    return int(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1]) // 1024\n"
        "request = Request(target='sm_90', limit=1 << 31, compiled=False)\n"
        "before = peak()\n"
        "assert explain_script(Path(sys.argv[1]), request=request) == 0\n"
        "print('grown', peak() - before)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(script)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "fits in 2 GiB: no" in run.stdout
    assert int(run.stdout.split()[-1]) < 100


def test_without_an_optimizer_it_runs_to_its_end_on_zeros(tmp_path, capsys):
    before = launches()
    assert explain_script(write(tmp_path, INFERENCE.format(count=2))) == 0
    out = capsys.readouterr().out
    assert "0 0.0" in out and "1 0.0" in out and "end" in out
    assert launches() == before


def test_plans_says_when_to_stop(tmp_path, capsys):
    path = tmp_path / "plans.json"
    script = write(tmp_path, INFERENCE.format(count=7).replace("+ i", "+ i + 0.25"))
    assert explain_script(script, request=Request(most=2, every=True, json_path=path)) == 0
    assert "end" not in capsys.readouterr().out
    assert len(json.loads(path.read_text())) == 2


def test_run_really_runs(tmp_path):
    script = write(tmp_path, TRAINING.format(optimizer="SGD"))
    command = [sys.executable, "-m", "tgrad.cli.main", "explain", "--run", str(script)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert "step 2" in run.stdout and "end" in run.stdout and "loss 0.0\n" not in run.stdout
    assert "sgd_" in run.stdout


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_the_script_may_name_a_gpu_that_is_not_there(tmp_path, capsys, target):
    script = write(tmp_path, TRAINING.format(optimizer="Adam"))
    assert explain_script(script, ["cuda"], Request(target=target, compiled=False)) == 0
    assert f"for {target}, the one with the most FLOPs" in capsys.readouterr().out


def test_without_triton_the_compiled_figures_are_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    text = TRAINING.format(optimizer="Adam").replace("(16, 8)", "(24, 8)")
    assert explain_script(write(tmp_path, text), request=Request(target="sm_90")) == 0
    captured = capsys.readouterr()
    assert "not compiled. The devices cuda and interpret need triton" in captured.err
    assert "predicted" in captured.out and "registers" not in captured.out


def test_a_gpu_that_is_not_there_needs_a_target(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert explain_script(write(tmp_path, TRAINING.format(optimizer="Adam")), ["cuda"]) == 1
    assert "name it: --target sm_90" in capsys.readouterr().err


def test_a_target_that_is_not_known(tmp_path, capsys):
    script = write(tmp_path, TRAINING.format(optimizer="Adam"))
    assert explain_script(script, request=Request(target="sm_9")) == 1
    assert capsys.readouterr().err.startswith("tgrad explain: 'sm_9' is not a target of tgrad.")


def test_run_and_target_exclude_each_other(tmp_path, capsys):
    script = write(tmp_path, TRAINING.format(optimizer="Adam"))
    assert explain_script(script, request=Request(target="sm_90", really=True)) == 1
    assert "--run and --target exclude each other." in capsys.readouterr().err


def test_a_script_that_cannot_bear_zeros(tmp_path, capsys):
    text = "import tgrad\nx = tgrad.ones(3, 5)\nprint(1 / x.sum().item())\n"
    assert explain_script(write(tmp_path, text)) == 1
    captured = capsys.readouterr()
    assert "ZeroDivisionError" in captured.err and "--run computes them" in captured.err
    assert "1 launches" in captured.out


def test_a_training_step_with_static_figures_and_memory(tmp_path):
    """The command itself, for GPUs that are not there: no spills, fits, a page."""
    pytest.importorskip("triton")
    for target in ("sm_90", "gfx942"):
        data, page = tmp_path / f"{target}.json", tmp_path / f"{target}.html"
        run = subprocess.run(
            [sys.executable, "-m", "tgrad.cli.main", "explain", "examples/mnist.py",
             "--target", target, "--memory-limit", "8GiB", "--json", str(data), "--html", str(page),
             "--", "--batch-size", "64", "--dtype", "bfloat16"],
            cwd=ROOT, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert "fits in 8 GiB: yes" in run.stdout and "test accuracy" not in run.stdout
        plan = json.loads(data.read_text())
        assert plan["target"] == target and plan["fits"] is True
        assert all(k["static"]["spills"] == 0 for k in plan["kernels"])
        assert all(k["static"]["registers"] > 0 for k in plan["kernels"])
        dots = [k for k in plan["kernels"] if k["dot_flops"]]
        assert len(dots) >= 10
        assert sum(bool(k["static"]["matrix_instruction"]) for k in dots) >= 8
        assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GiB", 8 << 30), ("8gib", 8 << 30), ("500MB", 500_000_000), ("1.5k", 1500), ("12", 12)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "8XB", "1.2.3", "-4", "."])
def test_what_is_not_a_size(text):
    with pytest.raises(ValueError, match="is not a size; write for example 8GiB or 500MB"):
        parse_size(text)
