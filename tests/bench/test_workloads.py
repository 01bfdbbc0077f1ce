"""`pytest bench/`: collected, marked, and one of them run; the main test command has none of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert names == files


@pytest.mark.parametrize(
    ("chosen", "count"), [("test_softmax.py", 3), ("test_stages.py -k step_convnet", 8)]
)
def test_quick_workloads_run(chosen: str, count: int) -> None:
    output = run(*f"bench/workloads/{chosen}".split(), "--benchmark-only", "-m", "quick")
    assert f"{count} passed" in output


def test_the_main_command_runs_no_workload() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert 'testpaths = ["tests", "tgrad"]\n' in text
