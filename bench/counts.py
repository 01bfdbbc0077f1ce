"""Figures that are the same on every machine: of plans.

In: cases and targets. Out: `Counts`; differences from a file. Invariant: nothing is measured and
nothing runs, so equal code gives equal counts; any difference is named, better ones too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import cases_cpu
from bench.case import Case
from bench.machine import ROOT
from bench.planned import planned
from bench.steps import step_cases
from bench.tables import DASH, Table
from tgrad.runtime.plan import Plan

FILE = ROOT / "bench" / "results" / "counts.json"
UPDATE = "python -m bench counts --json bench/results/counts.json"
TARGETS = ("cpu", "sm_90")
INFORMATIVE = ("regions", "source_lines")
"""Fields that say what else changed; they may differ."""


@dataclass(frozen=True)
class Counts:
    """A plan in numbers.

    Attributes:
        launches: of one run.
        kernels: different ones among them.
        flops, bytes: of one run, see tgrad/fusion/cost.py.
        peak_bytes: that a run allocates.
        input_bytes: that exist before.
        source_lines: of the generated source; 0 for "cpu", where they depend on the machine.
        regions: digest of what the kernels compute.
    """

    launches: int
    kernels: int
    flops: int
    bytes: int
    peak_bytes: int
    input_bytes: int
    source_lines: int
    regions: str


def counts_of(plan: Plan) -> Counts:
    """The numbers of a plan."""
    digest = hashlib.sha256("\n".join(k.region.key for k in plan.kernels).encode())
    return Counts(
        launches=plan.launches,
        kernels=len({k.name for k in plan.kernels}),
        flops=plan.flops,
        bytes=plan.bytes,
        peak_bytes=plan.peak_bytes,
        input_bytes=plan.input_bytes,
        source_lines=0 if plan.target == "cpu" else sum(k.source.count("\n") for k in plan.kernels),
        regions=digest.hexdigest()[:12],
    )


def work() -> dict[str, tuple[Case, str]]:
    """What is counted: "key target" to the case and the target."""
    cases = [*cases_cpu.function_cases("full"), *step_cases("full")]
    return {f"{c.key} {target}": (c, target) for c in cases for target in TARGETS}


def count(name: str) -> Counts:
    """The counts of an entry of `work`."""
    case, target = work()[name]
    return counts_of(planned(case, None if target == "cpu" else target))


def count_all() -> dict[str, Counts]:
    """All counts, by name."""
    return {name: count(name) for name in work()}


def write(counts: Mapping[str, Counts], path: Path) -> None:
    """As JSON, an entry a line."""
    rows = [f' "{name}": {json.dumps(asdict(c))}' for name, c in counts.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def read(path: Path) -> dict[str, Counts]:
    """From JSON."""
    return {name: Counts(**data) for name, data in json.loads(path.read_text()).items()}


def differences(
    before: Mapping[str, Counts], after: Mapping[str, Counts]
) -> Iterator[tuple[str, bool]]:
    """A line for each number that is not what it was, and whether it is worse: more of anything is.

    Args:
        before: committed.
        after: of the code as it is.
    """
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            yield f"{name}: {'new' if old is None else 'gone'}", old is not None
            continue
        was, now = asdict(old), asdict(new)
        for field in was:
            if field not in INFORMATIVE and was[field] != now[field]:
                is_worse = now[field] > was[field]
                word = "worse" if is_worse else "better"
                yield f"{name}: {field} {was[field]:,} -> {now[field]:,} ({word})", is_worse


def message_of(lines: list[str]) -> str:
    """What to do about differences."""
    listed = "\n".join(f"  {line}" for line in lines)
    return (
        f"Counts differ from {FILE.relative_to(ROOT)}:\n{listed}\n"
        f"If that is meant, update the file and commit it with the change:\n  {UPDATE}"
    )


def table_of(counts: Mapping[str, Counts]) -> Table:
    """A row an entry."""
    rows = [
        (
            name,
            str(c.launches),
            str(c.kernels),
            f"{c.flops / 1e6:,.1f}",
            f"{c.bytes / 1e6:,.1f}",
            f"{c.peak_bytes / 1e6:,.1f}",
            str(c.source_lines or DASH),
        )
        for name, c in counts.items()
    ]
    header = ("workload, target", "launches", "kernels", "MFLOP", "MB moved", "MB peak", "lines")
    return Table("counts", header, tuple(rows))
