"""A program is tuned, and from then on runs what was found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import numpy as np
import tgrad
a, b = (tgrad.tensor(np.ones(s, np.float32)) for s in [(96, 80), (80, 64)])
c = a @ b
plan = tgrad.explain(c)
print(float(c[3, 5].item()), *{k.config.origin for k in plan.kernels})
"""  # a, b need no kernels: one left out of the budget takes what is stored for sizes near its own
NUMBERS = """
import numpy as np
import tgrad
from tgrad.runtime.plan import record_plans
a, b = (tgrad.tensor(np.ones(s, np.float32)) for s in [(96, 80), (80, 64)])
with record_plans() as plans:
    last = [(a @ b * number).numpy()[3, 5] for number in (2.0, 3.0, 4.0)][-1]
print(last)
for plan in plans:
    print(*[f"{k.name.split('_')[0]}:{k.config.origin}" for k in plan.kernels])
"""


def tgrad_command(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command `tgrad` on a cache directory of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tgrad.cli.main", *arguments],
        env=environment(cache),
        capture_output=True,
        text=True,
        timeout=300,
    )


def environment(cache: Path, **more: str) -> dict[str, str]:
    own = {"TGRAD_CACHE_DIR": str(cache), "TGRAD_STORED": "1", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **own, **more}


def run(cache: Path, program: Path, **more: str) -> str:
    answer = subprocess.run(
        [sys.executable, str(program)],
        env=environment(cache, **more),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str, list[dict]]:
    """Cache, program, what the command printed and its journal."""
    folder = tmp_path_factory.mktemp("tuned")
    program = folder / "program.py"
    program.write_text(PROGRAM)
    journal = folder / "log.jsonl"
    cache = folder / "cache"
    assert run(cache, program).split() == ["80.0", "heuristic"]
    answer = tgrad_command(
        cache, "autotune", str(program), "--budget", "6s", "--seed", "3", "--log", str(journal)
    )
    assert answer.returncode == 0, answer.stderr
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    return cache, program, answer.stdout, events


def test_what_is_printed_in_a_pipe(tuned):
    _, _, text, events = tuned
    lines = text.splitlines()
    assert "kernels, " in lines[-1] or "stored in" in lines[-1]
    kernels = [e["kernel"] for e in events if e["event"] == "finished"]
    assert kernels and all(any(line.startswith(k) for line in lines) for k in kernels)


def test_the_journal_tells_all(tuned):
    events = tuned[3]
    assert events[0]["event"] == "planned"
    finished = [e for e in events if e["event"] == "finished"]
    assert finished and all(e["heuristic"] > 0 and e["tuned"] > 0 for e in finished)
    tried = [e for e in events if e["event"] == "tried"]
    assert tried and all(("ratio" in e) != ("failure" in e) for e in tried)
    assert all(e["tuned"] <= e["heuristic"] for e in finished)


def test_a_run_uses_what_is_stored_and_measures_nothing(tuned):
    cache, program, _, _ = tuned
    objects = set((cache / "c" / "objects").iterdir())
    assert run(cache, program).split() == ["80.0", "stored"]
    assert set((cache / "c" / "objects").iterdir()) == objects, "nothing was compiled"
    assert run(cache, program, TGRAD_STORED="0").split() == ["80.0", "heuristic"]


def test_explain_says_which(tuned):
    cache, program, _, _ = tuned
    answer = tgrad_command(cache, "explain", str(program))
    assert "(stored)" in answer.stdout


def test_a_plan_that_numbers_share_uses_what_is_stored(tmp_path):
    """The first number has a plan of its own; the second and the third share one, of which they are
    inputs. Either may be found quicker with its multiplication apart, which has little to tune."""
    cache, program = tmp_path / "cache", tmp_path / "program.py"
    program.write_text(NUMBERS)
    answer = tgrad_command(cache, "autotune", str(program), "--budget", "15s", "--seed", "3")
    assert answer.returncode == 0, answer.stderr
    objects = set((cache / "c" / "objects").iterdir())
    last, *plans = run(cache, program).splitlines()
    assert float(last) == 320 and len(plans) == 2
    assert all("matmul:stored" in plan.split() for plan in plans), plans
    assert set((cache / "c" / "objects").iterdir()) == objects, "nothing was compiled"
