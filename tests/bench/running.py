"""Short runs of the CPU's table, with peers of tests/bench/peers.py."""

from __future__ import annotations

import sys
from typing import Any

from bench import cases_cpu
from bench.process import PeerSpec
from bench.results import Results
from bench.session import Keep, Plan, chosen_cases, run


def spec(name: str, option: str, module: str = "tests.bench.peers") -> PeerSpec:
    """A peer of this interpreter."""
    return PeerSpec(name, module, option, sys.executable)


OURS = spec("tgrad", "", "bench.peers.tgrad")


def short_run(
    *peers: PeerSpec,
    only: tuple[str, ...] = ("softmax",),
    keep: Keep | None = None,
    **options: Any,
) -> Results:
    """Tiny sizes, three rounds of a few calls.

    Args:
        keep: as of `run`.
        options: of the plan.
    """
    plan = Plan(
        "cpu", "bench.cases_cpu", "small", "cpu", peers, None,
        rounds=3, seconds=0.002, preliminary=True, **options,
    )  # fmt: skip
    return run(plan, chosen_cases(cases_cpu.cases("small"), only), lambda line: None, keep)
