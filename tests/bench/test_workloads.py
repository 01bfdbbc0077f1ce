"""`pytest bench/`: collected, marked, and one of them run; the main test command has none of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> str:
    """pytest in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers"]
    answer = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_quick_workloads_cover_every_file() -> None:
    listed = run("bench/", "--benchmark-only", "-m", "quick", "--collect-only")
    names = {line.split("::")[0] for line in listed.splitlines() if "::" in line}
    files = {str(p.relative_to(ROOT)) for p in (ROOT / "bench" / "workloads").glob("test_*.py")}
    assert names == files - {"bench/workloads/test_memory.py"}  # that one plans full sizes


def test_a_quick_workload_runs() -> None:
    output = run("bench/workloads/test_softmax.py", "--benchmark-only", "-m", "quick")
    assert "3 passed" in output


def test_the_main_command_runs_no_workload() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert 'testpaths = ["tests", "tgrad"]\n' in text
