"""The machine, the commit, and what the machine can do at most.

In: the system. Out: `Machine`, the commit's name, `Limits`. Invariant: limits are measured in the
run that they are compared with.
"""

from __future__ import annotations

import os
import platform
import subprocess
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np

from bench.results import Limits, Machine

ROOT = Path(__file__).resolve().parents[1]
COPIED = 1 << 28
"""Bytes of the copy that bandwidth is measured with: past any cache."""
SHARED = 0.1
"""Cores that others may take: a machine of nobody else's takes a hundredth."""
FEATURES = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "asimd", "sve")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine(cores: int, accelerator: str = "") -> Machine:
    """The machine of this process, of which a run uses so many cores."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    flags = fields.get("flags", fields.get("Features", "")).split()
    name = fields.get("model name", platform.processor() or platform.machine())
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        memory = 0
    family = fields.get("cpu family")
    if family:
        name += f", family {family} model {fields.get('model', '?')}"
    return Machine(
        processor=name,
        cores=cores,
        memory=memory,
        system=f"{platform.system()} {platform.machine()}",
        accelerator=accelerator,
        features=tuple(f for f in FEATURES if f in flags),
    )


class Others:
    """What other processes take of the cores while a run lasts."""

    def __init__(self) -> None:
        self._start = perf_counter(), _busy_seconds(), _own_seconds()

    def cores(self) -> float | None:
        """Cores that they kept busy since, on average; None where the system does not say. The
        workers of the run must have ended."""
        start, busy, own = self._start
        now = _busy_seconds()
        if now is None or busy is None:
            return None
        others = (now - busy) - (_own_seconds() - own)
        return max(others, 0.0) / (perf_counter() - start)


def is_shared(others: float | None) -> bool:
    """Whether other processes took so much that times are of no weight; ratios may still be."""
    return others is not None and others > SHARED


def _busy_seconds() -> float | None:
    """Seconds since the start of the machine that its cores were busy, all added."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, *interrupts = map(int, fields[:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def current_commit() -> str:
    """The commit's short name, "+" behind it where tracked files were changed; "unknown" outside of
    a repository."""
    try:
        name = _git("rev-parse", "--short=10", "HEAD")
        return name + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def measure_copy(cores: int, nbytes: int = COPIED, repeats: int = 7) -> float:
    """Bytes/s of the best of some copies by all cores; a copied byte is read and written."""
    source, target = np.ones(nbytes, np.uint8), np.zeros(nbytes, np.uint8)
    edges = np.linspace(0, nbytes, cores + 1).astype(int)
    best = float("inf")
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(repeats):
            start = perf_counter()
            jobs = [pool.submit(np.copyto, target[a:b], source[a:b]) for a, b in pairwise(edges)]
            for job in jobs:
                job.result()
            best = min(best, perf_counter() - start)
    return 2 * nbytes / best


def measure_matmul(size: int = 2048, repeats: int = 5) -> float:
    """FLOP/s of the best of some float32 products by NumPy."""
    a = np.ones((size, size), np.float32)
    best = float("inf")
    for _ in range(repeats):
        start = perf_counter()
        a @ a
        best = min(best, perf_counter() - start)
    return 2 * size**3 / best


def measure_limits(cores: int, sizes: str = "full") -> Limits:
    """Both, on the CPU; of no weight where `sizes` is "small".

    A peer's matmul that is faster raises the second, see bench/session.py.
    """
    if sizes == "small":
        return Limits(measure_copy(cores, COPIED >> 6, 1), measure_matmul(128, 1))
    return Limits(measure_copy(cores), measure_matmul())
