"""What `tgrad autotune` is worth on this machine: gains, repeatability, the search's economy.

In: a question. Out: JSON on standard output. Invariant: times are those of the tuner's own clock,
kernels measured in turns.

    python -m bench.autotune exhaust    every candidate of ten regions, measured
    python -m bench.autotune search     the search on these tables, with a quarter of the trials
    python -m bench.autotune repeat     the winners of two sessions with one seed and budget
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import tgrad
from bench.cases_cpu import cases
from bench.peers.tgrad import make
from tgrad.autotuning.session import Measurement, Request, Session, Subject, subjects_of
from tgrad.backend import backend_of
from tgrad.device import Device
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Config
from tgrad.kernel.space import Choice, Parameter, SearchSpace
from tgrad.runtime.plan import Plan, record_plans
from tgrad.runtime.planning import planning
from tgrad.settings import settings
from tgrad.tune.record import Record
from tgrad.tune.search import FINAL_ROUNDS, Outcome, Search, Trial, candidates_of

TABLES = Path(__file__).parents[1] / "tests" / "tune" / "tables.json"
REGIONS = (
    "linear_gelu_2048x2048_f32", "matmul_1024x1024_f32", "matmul_48x256x256_f32",
    "conv2d_32x64x28x28_f32", "scaled_dot_product_attention_8x8x256x64_f32",
    "permute_4096x4096_f32", "relu_backward_512x32x20x20_f32_inplace",
    "max_pool2d_backward_512x32x10x2x10x2_f32", "conv2d_backward_adam_64x32x3x3_f32_inplace",
    "conv2d_relu_512x64x8x8_f32",
)  # fmt: skip
MOST = 64
"""Candidates of a region: the most promising by estimate, in spaces with more."""


class Silent:
    """A listener that keeps what was decided."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def planned(self, subjects: Iterable[Subject]) -> None: ...

    def started(self, subject: Subject, candidates: int) -> None: ...

    def tried(self, subject: Subject, trial: Trial) -> None: ...

    def finished(self, subject: Subject, record: Record, outcome: Outcome) -> None:
        self.records.append(record)

    def gave_up(self, subject: Subject, reason: str) -> None: ...


def plans_of_cases() -> list[Plan]:
    """The plans of the thirteen functions and the two steps; nothing runs."""
    with record_plans() as plans, planning():
        for case in cases():
            make("", "cpu").load(case, case.arrays()).calls[0]()
    return plans


def table_of(session: Session, region: Region, space: SearchSpace) -> dict[str, Any]:
    """The time of every candidate over the heuristic's."""
    measurement = Measurement(session, Subject(region, 1, 0.0, 1.0), space)
    measurement.open()
    candidates = candidates_of(space, MOST)
    ratios: list[float | None] = [1.0]
    for at in range(1, len(candidates), 8):
        some = candidates[at : at + 8]
        found = {t.choice: t.ratio for t in measurement.measure(some, FINAL_ROUNDS)}
        ratios += [found.get(c) for c in some]
    return {
        "region": region.name,
        "parameters": [[p.name, list(p.values)] for p in space.parameters],
        "candidates": [list(c) for c in candidates],
        "ratios": [None if r is None else round(r, 4) for r in ratios],
    }


def exhaust() -> list[dict[str, Any]]:
    """A table for each of the ten regions."""
    backend = backend_of(Device("cpu"))
    subjects = {s.region.name: s for s in subjects_of(plans_of_cases(), backend)}
    with Session(backend, Request(), settings, Silent()) as session:
        tables = []
        for name in REGIONS:
            region = subjects[name].region
            tables.append(table_of(session, region, backend.space(region)))
            print(name, min(r for r in tables[-1]["ratios"] if r), file=sys.stderr, flush=True)
    return tables


def search_table(table: dict[str, Any], seed: int, noise: float = 0.01) -> float:
    """With a quarter of the trials: the time of what is found, over the best of the table."""
    candidates: list[Choice] = [tuple(c) for c in table["candidates"]]
    true = dict(zip(candidates, table["ratios"]))
    order = {c: n for n, c in enumerate(candidates)}
    random = np.random.default_rng(seed + 1000)
    space = SearchSpace(
        tuple(Parameter(n, tuple(v)) for n, v in table["parameters"]),
        candidates[0],
        lambda c: replace(Config(()), band=order[c]) if c in order else None,
        lambda c: 1 + order.get(c, 0) / len(order),
        lambda: iter(candidates),
    )

    def measure(choices: Iterable[Choice], rounds: int) -> list[Trial]:
        error = noise * (1 if rounds < FINAL_ROUNDS else 0.4)
        return [
            Trial(c, true[c] * float(np.exp(error * random.standard_normal())), error)
            for c in choices
            if true[c] is not None
        ]

    outcome = Search(space, measure, max(len(candidates) // 4, 1), seed).run()
    return true[outcome.choice] / min(r for r in true.values() if r is not None)


def search() -> list[dict[str, Any]]:
    """The search on the tables, over ten seeds."""
    found = []
    for table in json.loads(TABLES.read_text()):
        lost = [search_table(table, seed) for seed in range(10)]
        figures = {"median": float(np.median(lost)), "worst": max(lost)}
        rounded = {name: round(value, 4) for name, value in figures.items()}
        size = len(table["candidates"])
        found.append({"region": table["region"], "candidates": size, **rounded})
    return found


def repeat(budget: float = 60.0) -> dict[str, Any]:
    """Two sessions from empty stores."""
    backend, plans = backend_of(Device("cpu")), plans_of_cases()
    winners: list[dict[str, Record]] = []
    for _ in range(2):
        listener = Silent()
        with tempfile.TemporaryDirectory() as folder:
            fresh = replace(settings, cache_dir=Path(folder))
            with Session(backend, Request(budget), fresh, listener) as session:
                session.run(plans)
        winners.append({r.key: r for r in listener.records})
    first, second = winners
    both = [k for k in first if k in second]
    same = [k for k in both if dict(first[k].choice) == dict(second[k].choice)]
    gains = [float(np.log(r.gain)) for r in first.values()]
    return {
        "kernels": len(both),
        "same": len(same),
        "different": [first[k].kernel for k in both if k not in same],
        "gain": round(float(np.exp(np.mean(gains))), 4),
    }


def main() -> None:
    """Answer the question on the command line."""
    question = {"exhaust": exhaust, "search": search, "repeat": repeat}[sys.argv[1]]
    print(json.dumps(question(), indent=1), file=sys.stdout)


if __name__ == "__main__":
    tgrad.manual_seed(0)
    main()
