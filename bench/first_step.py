"""The first step of a training script: from an empty cache, then from the cache that it left.

In: step cases and peers. Out: `FirstStep`s. Invariant: each measurement is a fresh process; all
caches of the peers are in a fresh directory; the time runs from the process' start, imports
included, to the end of the first step.
"""

from __future__ import annotations

import compileall
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from bench.case import Case
from bench.machine import ROOT
from bench.process import PeerFailure, PeerSpec, Process
from bench.results import FirstStep
from bench.worker import save_inputs

CACHES = {
    "TGRAD_CACHE_DIR": "tgrad",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "JAX_COMPILATION_CACHE_DIR": "jax",
    "XDG_CACHE_HOME": "xdg",
}
"""Variables of the peers' caches; tinygrad follows XDG_CACHE_HOME."""

PATIENCE = 3600.0
"""Seconds that a first step may take; a search of the best kernels takes many minutes."""


def measure_first_steps(
    table: str,
    sizes: str,
    cases: Sequence[Case],
    peers: Sequence[PeerSpec],
    cores: int,
    device: str = "cpu",
) -> list[FirstStep]:
    """Cold and warm, for every case and peer, with bytecode of tgrad as pip makes it."""
    compileall.compile_dir(ROOT / "tgrad", quiet=1)
    found = []
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="tgrad-bench-") as folder:
            path = Path(folder) / "arrays.npz"
            save_inputs(path, case.arrays())
            request = {"table": table, "sizes": sizes, "key": case.key, "arrays": str(path)}
            for spec in peers:
                found.append(_measure(request, case, spec, Launch(cores, device), Path(folder)))
    return found


@dataclass(frozen=True)
class Launch:
    """How processes start."""

    cores: int
    device: str


def _measure(
    request: Mapping[str, str], case: Case, spec: PeerSpec, launch: Launch, folder: Path
) -> FirstStep:
    extra = {name: str(folder / spec.name / part) for name, part in CACHES.items()}
    for path in extra.values():
        Path(path).mkdir(parents=True)
    try:
        cold, cold_call = _fresh_process(request, spec, launch, extra)
        warm, warm_call = _fresh_process(request, spec, launch, extra)
    except PeerFailure as failure:
        return FirstStep(case.key, case.title, spec.name, reason=str(failure))
    return FirstStep(case.key, case.title, spec.name, cold, warm, cold_call, warm_call)


def _fresh_process(
    request: Mapping[str, str], spec: PeerSpec, launch: Launch, extra: Mapping[str, str]
) -> tuple[float, float]:
    """Seconds from start to the end of the first step, and of the first call alone."""
    start = perf_counter()
    process = Process(spec, launch.device, launch.cores, extra)
    try:
        first = process.ask("first", timeout=PATIENCE, **request)["first"]
        return perf_counter() - start, float(first)
    finally:
        process.stop()
