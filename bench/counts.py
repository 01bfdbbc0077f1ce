"""Figures that are the same on every machine: of graphs, plans and generated code.

In: cases and targets. Out: `Counts`; differences from a file. Invariant: nothing is measured and
nothing runs, so equal code gives equal counts; any difference is named, better ones too. C is
generated for `PROCESSOR`, whatever this one is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import cases_cpu
from bench.case import Case
from bench.machine import ROOT
from bench.planned import graph_of, planned
from bench.steps import step_cases
from bench.tables import Table
from tgrad.backend import backend_by_name
from tgrad.cpu_fallback import Machine, draft
from tgrad.cpu_fallback.compile import without_header
from tgrad.fusion.region_json import work_text
from tgrad.graph.node import Node, toposort
from tgrad.pipeline import canonical_bases
from tgrad.runtime.plan import Plan
from tgrad.settings import settings

FILE = ROOT / "bench" / "results" / "counts.json"
UPDATE = "python -m bench counts --json bench/results/counts.json"
TARGETS = ("cpu", "sm_90")
PROCESSOR = Machine("x86_64-avx512", 64, 32, 2, 32 << 10, 1 << 20, 32 << 20)
"""That C is generated for here: two cores with AVX-512."""
DIGESTS = ("regions", "source")
"""Fields that are equal or not; neither is better."""


@dataclass(frozen=True)
class Counts:
    """A case for a target, in numbers.

    Attributes:
        nodes: that the calls build: of a function its result, of a step the loss and the gradients.
        canonical_nodes: of the same graph once it is rewritten.
        launches: of one run.
        kernels: different ones among them.
        flops, bytes: of one run, see tgrad/fusion/cost.py.
        peak_bytes: that a run allocates.
        input_bytes: that exist before.
        source_lines: of the different kernels' generated code, comments left out.
        regions: digest of what the kernels compute.
        source: digest of that code.
    """

    nodes: int
    canonical_nodes: int
    launches: int
    kernels: int
    flops: int
    bytes: int
    peak_bytes: int
    input_bytes: int
    source_lines: int
    regions: str
    source: str


def counts_of(graph: Sequence[Node], plan: Plan) -> Counts:
    """The numbers of a graph and of the plan made of it."""
    code = code_of(plan)
    return Counts(
        nodes=len(toposort(graph)),
        canonical_nodes=len(toposort(canonical_bases(graph))),
        launches=plan.launches,
        kernels=len(code),
        flops=plan.flops,
        bytes=plan.bytes,
        peak_bytes=plan.peak_bytes,
        input_bytes=plan.input_bytes,
        source_lines=sum(text.count("\n") for text in code.values()),
        regions=_digest(work_text(k.region) for k in plan.kernels),
        source=_digest(code.values()),
    )


def code_of(plan: Plan) -> dict[str, str]:
    """The code of each different kernel as the heuristics configure it, whatever a search has found
    here; without the comment at its head, which names the user's line."""
    regions = {k.name: k.region for k in plan.kernels}
    if plan.target == "cpu":
        drafts = draft(list(regions.values()), machine=PROCESSOR)
        return {name: without_header(d.source) for name, d in zip(regions, drafts, strict=True)}
    backend = backend_by_name(plan.target)
    drafts, _ = backend.generate(list(regions.values()), settings, [None] * len(regions))
    return {name: without_comment(d.source) for name, d in zip(regions, drafts, strict=True)}


def without_comment(source: str) -> str:
    """Python without the comment at its head.

    >>> without_comment("# a kernel\\nimport triton\\n")
    'import triton\\n'
    """
    return re.sub(r"\A(#.*\n)+", "", source)


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def work() -> dict[str, tuple[Case, str]]:
    """What is counted: "key target" to the case and the target."""
    cases = [*cases_cpu.function_cases("full"), *step_cases("full")]
    return {f"{c.key} {target}": (c, target) for c in cases for target in TARGETS}


def count(name: str) -> Counts:
    """The counts of an entry of `work`."""
    case, target = work()[name]
    return counts_of(graph_of(case), planned(case, None if target == "cpu" else target))


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
            if was[field] == now[field]:
                continue
            if field in DIGESTS:
                yield f"{name}: {field} changed", False
                continue
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
            str(c.nodes),
            str(c.canonical_nodes),
            str(c.launches),
            str(c.kernels),
            f"{c.flops / 1e6:,.1f}",
            f"{c.bytes / 1e6:,.1f}",
            f"{c.peak_bytes / 1e6:,.1f}",
            str(c.source_lines),
        )
        for name, c in counts.items()
    ]
    header = ("workload, target", "nodes", "rewritten", "launches", "kernels", "MFLOP", "MB moved",
              "MB peak", "lines")  # fmt: skip
    return Table("counts", header, tuple(rows))
