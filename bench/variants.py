"""Kernels of a row with one thing changed at a time: what the heuristics leave.

In: keys of rows of the GPU table, a device. Out: for each kernel the time of its heuristic's
configuration, and the quickest changes. Invariant: a variant counts only if its results are the
heuristic's; times are the tuner's, in turns.

    python -m bench variants 'layer_norm_8192x4096*' conv_64_64_3_1_56_backward --rounds 5
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from statistics import median
from typing import Any

from bench.case import Case
from bench.cases_gpu import cases
from bench.peers.tgrad import make
from tgrad.autotuning.worker import Measurer
from tgrad.fusion.region import Region
from tgrad.kernel.space import Choice, SearchSpace
from tgrad.runtime.plan import record_plans
from tgrad.runtime.planning import planning

SHORT = (
    "layer_norm_8192x4096_backward", "conv_64_64_3_1_56_backward", "conv_256_256_3_1_14",
    "matmul_float8_8192", "attention_causal_4096_128", "attention_causal_4096_64_backward",
)  # fmt: skip
"""Rows that were short on an H100 at commit b075ce6."""
SHOWN = 5


def chosen(patterns: Sequence[str], sizes: str) -> list[Case]:
    """The rows of these keys or shell patterns of them.

    Raises:
        ValueError: a pattern fits none.
    """
    table = cases(sizes)
    for p in patterns:
        if not any(fnmatch(c.key, p) for c in table):
            raise ValueError(f"no row is named {p}")
    return [c for c in table if any(fnmatch(c.key, p) for p in patterns)]


def regions_of(case: Case, device: str) -> list[Region]:
    """The different kernels of a row's largest plan, the longest first."""
    peer = make("", device)
    with planning(), record_plans() as plans:
        peer.load(case, case.arrays()).calls[0]()
    plan = max(plans, key=lambda p: (p.bytes, p.flops))
    kernels = {k.region: k for k in plan.kernels if k.region.call is None}
    return sorted(kernels, key=lambda r: (-kernels[r].flops, -kernels[r].bytes))


def neighbours(space: SearchSpace) -> Iterator[tuple[str, Choice]]:
    """What differs from the heuristic's choice in one parameter, in words."""
    for at, parameter in enumerate(space.parameters):
        for value in parameter.values:
            if value != space.start[at]:
                choice = (*space.start[:at], value, *space.start[at + 1 :])
                if space.config(choice) is not None:
                    yield f"{parameter.name} {space.start[at]} -> {value}", choice


def measure(
    case: Case, device: str, rounds: int, say: Callable[[str], None], seed: int = 0
) -> None:
    """Measure a row's kernels and say what was found."""
    measurer = Measurer("", device)
    for region in regions_of(case, device):
        once = measurer.open(region, seed)
        assert measurer.subject is not None
        named = list(neighbours(measurer.subject.space))
        reply = measurer.measure([choice for _, choice in named], rounds)
        heuristic = median(reply["heuristic"]) if reply["heuristic"] else once
        say(f"{case.key} {region.name}: {1e6 * heuristic:.1f} us, {len(named)} variants")
        for line in _lines(named, reply["trials"], heuristic):
            say(f"    {line}")


def _lines(
    named: Sequence[tuple[str, Choice]], trials: Sequence[dict[str, Any]], heuristic: float
) -> Iterator[str]:
    timed = [(median(t["seconds"]), name) for (name, _), t in zip(named, trials)
             if t.get("seconds")]  # fmt: skip
    for seconds, name in sorted(timed)[:SHOWN]:
        yield f"{heuristic / seconds:.2f}x {name}"
    for (name, _), trial in zip(named, trials):
        if "is wrong" in trial.get("failure", ""):
            yield f"WRONG {name}: {trial['failure']}"
