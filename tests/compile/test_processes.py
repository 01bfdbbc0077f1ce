"""Processes that share a cache directory: started cold at once, killed while they compile, or with
entries that somebody has truncated."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import tgrad
from tgrad import nn, optim

tgrad.manual_seed(3)
model = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 2))
optimizer = optim.AdamW(model.parameters(), lr=0.1)

@tgrad.compile
def step(x):
    optimizer.zero_grad()
    loss = model(x).softmax(1).square().sum()
    loss.backward()
    optimizer.step()
    return loss

print([step(tgrad.ones(4, 3)).item() for _ in range(3)])
"""


def start(cache: Path, **variables: str) -> subprocess.Popen[str]:
    """A training run on this cache, in a process group of its own."""
    environment = {
        **os.environ,
        "TGRAD_CACHE_DIR": str(cache),
        "TGRAD_KEEP_PLANS": "1",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env={**environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def losses(process: subprocess.Popen[str]) -> str:
    """What a run that ends well has printed."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A complete cache, and the losses of a run."""
    cache = tmp_path_factory.mktemp("warm")
    return cache, losses(start(cache))


def test_two_processes_start_cold_at_once(warm: tuple[Path, str], tmp_path: Path) -> None:
    runs = [start(tmp_path) for _ in range(2)]
    assert [losses(run) for run in runs] == [warm[1]] * 2


@pytest.mark.parametrize("moment", ["compiler starts", "object is there"])
def test_a_process_is_killed_while_it_compiles(
    moment: str, warm: tuple[Path, str], tmp_path: Path
) -> None:
    cache, reached = tmp_path / "cache", tmp_path / "reached"
    script, compiler = tmp_path / "cc", shutil.which("gcc")
    work = f'{compiler} "$@"; ' if moment == "object is there" else ""
    version = f'[ "$1" = --version ] && exec {compiler} "$@"'
    script.write_text(f"#!/bin/sh\n{version}\n{work}touch {reached}; sleep 60\n")
    script.chmod(0o755)
    killed, other = start(cache, TGRAD_CC=str(script)), start(cache)
    while not reached.exists():
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert losses(other) == warm[1]
    assert losses(start(cache)) == warm[1]


@pytest.mark.parametrize("suffix", ["so", "json"])
@pytest.mark.parametrize("share", [0.0, 0.5], ids=["empty", "half"])
def test_entries_are_truncated(
    share: float, suffix: str, warm: tuple[Path, str], tmp_path: Path
) -> None:
    """Sources with them, which are there to be read by people."""
    cache = shutil.copytree(warm[0], tmp_path / "cache")
    paths, sources = list(cache.rglob(f"*.{suffix}")), list(cache.rglob("*.c"))
    assert paths and sources
    for path in (*paths, *sources):
        os.truncate(path, int(path.stat().st_size * share))
    assert losses(start(cache)) == warm[1]
    assert all(path.stat().st_size > 0 for path in paths)


def test_the_cache_is_deleted_while_a_process_runs(warm: tuple[Path, str], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run = start(cache)
    while run.poll() is None:
        shutil.rmtree(cache, ignore_errors=True)
        time.sleep(0.05)
    out, err = run.communicate()
    assert out == warm[1] or "Call again: what is missing is compiled again." in err, err
    assert losses(start(cache)) == warm[1]
