"""What `tgrad autotune` is worth on this machine: gains, repeatability, the search's economy.

In: a question. Out: JSON on standard output. Invariant: times are those of the tuner's own clock,
kernels measured in turns.

    python -m bench.autotune exhaust [REGION]    every candidate of ten regions, measured
    python -m bench.autotune search     the search on these tables, with a quarter of the trials
    python -m bench.autotune live [REGION]   ten regions exhausted and searched, here and now
    python -m bench.autotune repeat     the winners of two sessions with one seed and budget
    python -m bench.autotune gain       thirteen functions and two steps: tuned beside heuristic
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import tgrad
from bench.cases_cpu import cases
from bench.peers.tgrad import make
from tgrad.autotuning.session import Measurement, Request, Session, Silent, Subject, subjects_of
from tgrad.backend import backend_of
from tgrad.device import Device
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Config
from tgrad.kernel.space import Choice, Parameter, SearchSpace
from tgrad.runtime.plan import Plan, record_plans
from tgrad.runtime.planning import planning
from tgrad.settings import settings
from tgrad.tune.key import region_key
from tgrad.tune.lookup import Choices
from tgrad.tune.record import Record
from tgrad.tune.search import (
    CANDIDATES,
    FINAL_ROUNDS,
    Outcome,
    Search,
    Trial,
    candidates_of,
)

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


LIVE = (
    "scaled_dot_product_attention_8x8x256x64_f32", "permute_4096x4096_f32",
    "conv2d_backward_adam_32x1x5x5_f32_inplace", "relu_backward_512x32x20x20_f32_inplace",
    "embedding_8192x256_f32", "conv2d_relu_128x32x24x24_f32",
    "conv2d_backward_adam_64x32x3x3_f32_inplace",
    "scaled_dot_product_attention_backward_reshape_backward_12x64x128_f32",
    "scaled_dot_product_attention_reshape_12x64x128_f32",
    "max_pool2d_backward_512x32x10x2x10x2_f32",
)  # fmt: skip
"""Regions of 12 to 180 candidates: their spaces are exhausted whole."""

PASSES = 3
PASS_ROUNDS = 12
"""The median of so many measurements of so many rounds, each beside other candidates."""


class Keeping(Silent):
    """A listener that keeps what was decided."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def finished(self, subject: Subject, record: Record, outcome: Outcome) -> None:
        self.records.append(record)


def plans_by_case() -> dict[str, list[Plan]]:
    """The plans of the thirteen functions and the two steps; nothing runs."""
    found: dict[str, list[Plan]] = {}
    for case in cases():
        with record_plans() as plans, planning():
            make("", "cpu").load(case, case.arrays()).calls[0]()
        found[case.key] = plans
    return found


def plans_of_cases() -> list[Plan]:
    """All of them."""
    return [plan for plans in plans_by_case().values() for plan in plans]


def table_of(
    session: Session, region: Region, space: SearchSpace, most: int = MOST
) -> dict[str, Any]:
    """The time of every candidate over the heuristic's."""
    measurement = Measurement(session, Subject(region, 1, 0.0, 1.0), space)
    measurement.open()
    candidates = candidates_of(space, most)
    found: dict[Choice, list[float]] = {c: [] for c in candidates}
    order = np.random.default_rng(0)
    for _ in range(PASSES):
        mixed = [candidates[n] for n in order.permutation(len(candidates)) if n]
        for at in range(0, len(mixed), 8):
            for trial in measurement.measure(mixed[at : at + 8], PASS_ROUNDS):
                found[trial.choice] += [] if trial.ratio is None else [trial.ratio]
    found[space.start] = [1.0]
    return {
        "region": region.name,
        "parameters": [[p.name, list(p.values)] for p in space.parameters],
        "candidates": [list(c) for c in candidates],
        "ratios": [round(float(np.median(found[c])), 4) if found[c] else None for c in candidates],
    }


def exhaust() -> list[dict[str, Any]]:
    """A table for each of the ten regions, or of those named."""
    backend = backend_of(Device("cpu"))
    subjects = {s.region.name: s for s in subjects_of(plans_of_cases(), backend)}
    with Session(backend, Request(), settings, Silent()) as session:
        tables = []
        for name in sys.argv[2:] or REGIONS:
            region = subjects[name].region
            tables.append(table_of(session, region, backend.space(region)))
            print(name, min(r for r in tables[-1]["ratios"] if r), file=sys.stderr, flush=True)
    return tables


def live() -> list[dict[str, Any]]:
    """Each region's whole space measured, then searched with a quarter of the trials; what was
    found and the best of the space are measured once more, in turns."""
    backend = backend_of(Device("cpu"))
    subjects = {s.region.name: s for s in subjects_of(plans_of_cases(), backend)}
    found = []
    with Session(backend, Request(), settings, Silent()) as session:
        for name in sys.argv[2:] or LIVE:
            found.append(_searched(session, subjects[name].region))
            print(found[-1], file=sys.stderr, flush=True)
    return found


def _searched(session: Session, region: Region) -> dict[str, Any]:
    space = session.backend.space(region)
    table = table_of(session, region, space, CANDIDATES)
    candidates: list[Choice] = [tuple(c) for c in table["candidates"]]
    known = {c: r for c, r in zip(candidates, table["ratios"]) if r is not None}
    best = min(known, key=lambda c: known[c])
    measurement = Measurement(session, Subject(region, 1, 0.0, 1.0), space)
    measurement.open()
    trials = max(len(candidates) // 4, 1)
    winner = Search(space, measurement.measure, trials).run().choice
    measurement = Measurement(session, Subject(region, 1, 0.0, 1.0), space)
    again = measurement.measure([c for c in {winner, best} if c != space.start], FINAL_ROUNDS)
    ratios = {space.start: 1.0, **{t.choice: t.ratio for t in again if t.ratio is not None}}
    is_same = not {winner, best} <= set(ratios)  # choices of one source are measured once
    lost = 1.0 if is_same else ratios[winner] / ratios[best]
    figures = {"best": known[best], "found": known.get(winner, 1.0), "lost": lost}
    rounded = {k: round(v, 4) for k, v in figures.items()}
    return {"region": region.name, "candidates": len(candidates), "trials": trials, **rounded}


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
        listener = Keeping()
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


def gain(budget: float = 300.0) -> dict[str, Any]:
    """Tune, then measure every kernel of every case again: stored choice beside heuristic's."""
    backend, by_case = backend_of(Device("cpu")), plans_by_case()
    ratios: dict[str, tuple[float, float, float]] = {}
    rows: list[dict[str, Any]] = []
    gains: list[float] = []
    with Session(backend, Request(budget), settings, Silent()) as session:
        session.run([plan for plans in by_case.values() for plan in plans])
        known = Choices(session.place, [session.store.records()])
        for key, plans in by_case.items():
            heuristic = tuned = 0.0
            for info in (kernel for plan in plans for kernel in plan.kernels):
                name = region_key(info.region)
                if name not in ratios:
                    ratios[name] = _again(session, info.region, known)
                    print(info.name, *ratios[name], file=sys.stderr, flush=True)
                heuristic += ratios[name][0]
                tuned += ratios[name][0] * ratios[name][1]
            gains.append(heuristic / tuned)
            rows.append({"case": key, "heuristic": heuristic, "tuned": tuned, "gain": gains[-1]})
    changed = [r for r in ratios.values() if r[1] != 1.0]
    return {
        "cases": rows,
        "gain": float(np.exp(np.mean(np.log(gains)))),
        "kernels": len(ratios),
        "changed": len(changed),
        "slower": sum(ratio - 2 * error > 1.02 for _, ratio, error in changed),
    }


def _again(session: Session, region: Region, known: Choices) -> tuple[float, float, float]:
    """Seconds of the heuristic's kernel, the ratio of the stored one, and its error."""
    space = session.backend.space(region)
    measurement = Measurement(session, Subject(region, 1, 0.0, 1.0), space)
    seconds = measurement.open()
    found = known.match(region) if known.has(region) else None
    choice = None if found is None else space.find(found.record.choice)
    if choice is None or choice == space.start:
        return seconds, 1.0, 0.0
    (trial,) = measurement.measure([choice], 2 * FINAL_ROUNDS)
    return measurement.heuristic, trial.ratio or 1.0, trial.error


def main() -> None:
    """Answer the question on the command line."""
    questions: dict[str, Callable[[], Any]] = {
        "exhaust": exhaust,
        "search": search,
        "live": live,
        "repeat": repeat,
        "gain": gain,
    }
    print(json.dumps(questions[sys.argv[1]](), indent=1))


if __name__ == "__main__":
    tgrad.manual_seed(0)
    main()
