"""The command line: doctor, cache, explain, and what it says when something is missing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tgrad.cli import cache, doctor
from tgrad.cli.explain import Request, explain_script
from tgrad.settings import read_settings

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def settings(tmp_path):
    return dataclasses.replace(read_settings(), cache_dir=tmp_path / "cache", cc="")


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tgrad.cli.main", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def by_name(findings: list[doctor.Finding]) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in findings}


# doctor


def test_doctor_reports_everything(settings):
    findings = by_name(doctor.examine(settings))
    assert list(findings) == [
        "Python", "tgrad", "numpy", "C compiler", "OpenMP", "processor",
        "torch", "Triton", "GPU", "OpenCL", "cache",
    ]  # fmt: skip
    assert findings["Python"].is_good and findings["numpy"].is_good
    assert all(finding.advice for finding in findings.values() if not finding.is_good)
    assert findings["cache"].detail == f"{settings.cache_dir}, 0 files, 0.0 MB"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_doctor_finds_a_device(settings, capsys):
    assert doctor.print_report(settings) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("devices: cpu")


def test_doctor_without_a_compiler(settings, capsys, monkeypatch):
    for check, name in (("_check_gpu", "GPU"), ("_check_opencl", "OpenCL")):
        missing = doctor.Finding(name, False, "none", "-")
        monkeypatch.setattr(doctor, check, lambda found=missing: found)
    assert doctor.print_report(dataclasses.replace(settings, cc="no-such-cc")) == 1
    out = capsys.readouterr().out
    assert "--  C compiler  The device 'cpu' needs a C compiler; 'no-such-cc' was not found." in out
    assert "set TGRAD_CC to its path" in out
    assert "cpu" not in out.splitlines()[-1]


def test_doctor_with_a_compiler_that_fails(settings):
    finding = by_name(doctor.examine(dataclasses.replace(settings, cc="false")))["C compiler"]
    assert not finding.is_good and "apt-get install gcc" in finding.advice


def test_doctor_with_a_cache_that_cannot_be_written(tmp_path, settings):
    (tmp_path / "file").write_text("")
    broken = dataclasses.replace(settings, cache_dir=tmp_path / "file" / "cache")
    finding = by_name(doctor.examine(broken))["cache"]
    assert not finding.is_good
    assert finding.advice == "Set TGRAD_CACHE_DIR to a directory that can be written."


def test_doctor_survives_a_package_that_fails_to_load(settings, monkeypatch):
    def fail(name: str) -> None:
        if name == "pyopencl":
            raise RuntimeError("clGetPlatformIDs failed: PLATFORM_NOT_FOUND_KHR\nmore")
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(doctor.importlib, "import_module", fail)
    findings = by_name(doctor.examine(settings))
    assert findings["torch"].detail == "torch is not installed"
    assert findings["OpenCL"].detail == "fails: clGetPlatformIDs failed: PLATFORM_NOT_FOUND_KHR"
    assert doctor.usable_devices(list(findings.values()))[-1] == "numpy"


def test_cpu_features(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t: fpu\n")
    assert doctor.cpu_features(path) == {"fpu", "avx2", "fma"}
    assert doctor.cpu_features(tmp_path / "absent") == frozenset()


def test_doctor_command(tmp_path):
    run = run_command("doctor", TGRAD_CACHE_DIR=str(tmp_path))
    assert "devices: " in run.stdout and str(tmp_path) in run.stdout


# cache


def cache_of(root: Path, **days: float) -> None:
    """Files of ten bytes in a cache, used so many days ago; __ stands for a folder's slash."""
    for name, age in days.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0123456789")
        os.utime(path, (time.time() - age * cache.DAY,) * 2)


def test_cache_says_what_there_is(tmp_path, settings, capsys):
    cache_of(tmp_path, plans__a=3.5, plans__b=40, c__objects__k=1.5, autotune=0, mnist__x=9)
    there = dataclasses.replace(settings, cache_dir=tmp_path)
    assert cache.print_cache(None, there) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["plans", "2", "files", "20", "bytes", "used", "3", "days", "ago"]
    assert "used 1 day ago" in lines[1] and lines[2].endswith("0 bytes")
    assert lines[4].startswith(cache.OTHERS) and "2 files" in lines[4] and "today" in lines[4]
    assert lines[5] == f"in {tmp_path}"


def test_cache_deletes_what_is_made_again(tmp_path, settings, capsys):
    old = {"plans__b": 40, "triton__kept__t": 31, "autotune": 90, "mnist__x": 90}
    cache_of(tmp_path, plans__a=3, c__objects__k=29, **old)
    there = dataclasses.replace(settings, cache_dir=tmp_path)
    assert cache.print_cache(30, there) == 0
    assert capsys.readouterr().out.startswith("deleted 2 files, 20 bytes\n")
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"plans/a", "c/objects/k", "autotune", "mnist/x"}
    assert cache.print_cache(0, there) == 0
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"autotune", "mnist/x"}


def test_cache_says_what_it_could_not_delete(tmp_path, settings, capsys, monkeypatch):
    cache_of(tmp_path, plans__a=3)

    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(cache.os, "unlink", refuse)
    assert cache.print_cache(1, dataclasses.replace(settings, cache_dir=tmp_path)) == 1
    assert "1 files could not be deleted" in capsys.readouterr().err


def test_cache_command(tmp_path):
    run = run_command("cache", "--unused-for", "30", TGRAD_CACHE_DIR=str(tmp_path))
    assert run.stdout.startswith("deleted 0 files, 0 bytes\nplans")


# explain

SCRIPT = """
import sys
import numpy as np
import tgrad
from tgrad import nn

tgrad.manual_seed(0)
small = tgrad.tensor(np.ones((2, 3), np.float32))
print("sum", small.sum().item(), sys.argv[1:], __name__)
x = tgrad.tensor(np.ones((64, 32), np.float32))
layer = nn.Linear(32, 16)
loss = layer(x).relu().sum()
loss.backward()
print("loss", loss.item(), layer.weight.grad.numpy().shape)
"""
LINE = "script.py:12"


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def test_explain_prints_the_largest_plan(script, capsys):
    arguments = sys.argv
    assert explain_script(script, ["--steps", "3"]) == 0
    assert sys.argv is arguments
    out = capsys.readouterr().out
    assert "['--steps', '3'] __main__" in out
    assert "the one with the most FLOPs" in out
    assert LINE in out and "peak memory" in out


def test_explain_json_agrees_with_the_table(script, tmp_path, capsys):
    path = tmp_path / "plan.json"
    assert explain_script(script, request=Request(json_path=path)) == 0
    out = capsys.readouterr().out
    plan = json.loads(path.read_text())
    assert plan["launches"] == len(plan["kernels"]) > 0
    assert plan["flops"] == sum(kernel["flops"] for kernel in plan["kernels"])
    assert plan["bytes"] == sum(kernel["bytes"] for kernel in plan["kernels"])
    assert plan["flops"] >= 2 * 64 * 32 * 16
    assert f"{plan['flops']:,}" in out and f"{plan['peak_bytes']:,}" in out
    for kernel in plan["kernels"]:
        assert kernel["name"] in out and kernel["line"] in out


def test_explain_source(script, capsys):
    assert explain_script(script, request=Request(source=True)) == 0
    out = capsys.readouterr().out
    assert out.count("\n---- ") >= 1 and LINE in out


def test_explain_all(script, tmp_path, capsys):
    path = tmp_path / "plans.json"
    assert explain_script(script, request=Request(every=True, json_path=path)) == 0
    plans = json.loads(path.read_text())
    assert len(plans) >= 2
    assert f"plan {len(plans)} of {len(plans)}" in capsys.readouterr().out


def test_explain_command_shares_the_options(script, tmp_path):
    path = tmp_path / "plan.json"
    run = run_command("explain", str(script), "--json", str(path), "--steps", "3", "--source")
    assert run.returncode == 0, run.stderr
    assert "['--steps', '3']" in run.stdout and "\n---- " in run.stdout
    assert json.loads(path.read_text())["launches"] > 0
    run = run_command("explain", str(script), "--", "--source")
    assert "['--source']" in run.stdout and "\n---- " not in run.stdout


def test_explain_of_no_file(tmp_path, capsys):
    assert explain_script(tmp_path / "absent.py") == 1
    assert capsys.readouterr().err == (
        f"tgrad explain: {tmp_path / 'absent.py'} is not a file.\n"
        "  Name the Python program to run.\n"
    )


def test_explain_of_no_work(tmp_path, capsys):
    path = tmp_path / "idle.py"
    path.write_text("print('nothing')\n")
    assert explain_script(path) == 1
    assert "made no plan: nothing was computed." in capsys.readouterr().err


def test_explain_of_a_script_that_exits(tmp_path, capsys):
    path = tmp_path / "stops.py"
    path.write_text("import sys\nsys.exit(3)\n")
    assert explain_script(path) == 1
    assert "stopped with exit status 3" in capsys.readouterr().err


def test_explain_of_a_mistake(tmp_path, capsys):
    path = tmp_path / "mistake.py"
    path.write_text("import tgrad\ntgrad.ones(2, 3) + tgrad.ones(4)\n")
    assert explain_script(path) == 1
    error = capsys.readouterr().err
    assert f"{path}:2" in error and "Traceback" not in error


def test_command_line_without_typer(tmp_path):
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError('typer', name='typer')\n")
    run = run_command("doctor", PYTHONPATH=str(tmp_path))
    assert run.returncode == 1
    assert run.stderr == (
        "tgrad: the command line needs the packages typer and rich.\n  pip install 'tgrad[cli]'\n"
    )


def test_table_of_a_wide_terminal(script, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert explain_script(script) == 0
    out = capsys.readouterr().out
    assert "why not one with its neighbours" in out and LINE in out and "total" in out
