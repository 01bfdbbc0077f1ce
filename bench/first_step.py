"""The first step of a training script: from an empty cache, then from the cache that it left.

In: step cases and peers. Out: `FirstStep`s. Invariant: each measurement is a fresh process; all
caches of the peers are in a fresh directory; the time runs from the process' start, imports
included, to the end of the first step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from bench.case import Case
from bench.process import PeerFailure, PeerSpec, Process
from bench.results import FirstStep
from bench.worker import save_arrays

CACHES = {
    "TGRAD_CACHE_DIR": "tgrad",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "XDG_CACHE_HOME": "xdg",
}
"""Variables of the peers' caches; tinygrad follows XDG_CACHE_HOME."""


def measure_first_steps(
    table: str, sizes: str, cases: Sequence[Case], peers: Sequence[PeerSpec], cores: int
) -> list[FirstStep]:
    """Cold and warm, for every case and peer."""
    found = []
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="tgrad-bench-") as folder:
            save_arrays(Path(folder) / "arrays.npz", case.arrays())
            for spec in peers:
                found.append(_measure(table, sizes, case, spec, cores, Path(folder)))
    return found


def _measure(
    table: str, sizes: str, case: Case, spec: PeerSpec, cores: int, folder: Path
) -> FirstStep:
    extra = {name: str(folder / spec.name / part) for name, part in CACHES.items()}
    for path in extra.values():
        Path(path).mkdir(parents=True)
    try:
        cold, cold_call = _fresh_process(table, sizes, case, spec, cores, folder, extra)
        warm, warm_call = _fresh_process(table, sizes, case, spec, cores, folder, extra)
    except PeerFailure as failure:
        return FirstStep(case.key, case.title, spec.name, reason=str(failure))
    return FirstStep(case.key, case.title, spec.name, cold, warm, cold_call, warm_call)


def _fresh_process(
    table: str,
    sizes: str,
    case: Case,
    spec: PeerSpec,
    cores: int,
    folder: Path,
    extra: dict[str, str],
) -> tuple[float, float]:
    """Seconds from start to the end of the first step, and of the first call alone."""
    start = perf_counter()
    process = Process(spec, "cpu", cores, extra)
    try:
        first = process.ask(
            "first",
            table=table,
            sizes=sizes,
            key=case.key,
            arrays=str(folder / "arrays.npz"),
        )["first"]
        return perf_counter() - start, float(first)
    finally:
        process.stop()
