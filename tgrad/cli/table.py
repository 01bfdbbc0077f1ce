"""A plan as a table on standard output.

In: a Plan. Out: text. Invariant: the figures are the plan's own; nothing is computed here. A wide
terminal gets rich's table; a narrow one, a file or a pipe gets the plain text of `Plan.explain()`.
"""

from __future__ import annotations

import sys

from tgrad.runtime.plan import Plan

WIDE = 140
"""Columns of a terminal beside which the reasons still fit."""


def print_plan(plan: Plan, source: bool = False) -> None:
    """Print a row a kernel, totals and peak memory; with `source` the generated code too."""
    if not (sys.stdout.isatty() and _print_rich(plan)):
        print(plan.explain())
    if source:
        _print_sources(plan)


def _print_rich(plan: Plan) -> bool:
    """False if rich is not installed, or the terminal is narrow."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return False
    console = Console(markup=False, highlight=False)
    if console.width < WIDE:
        return False
    table = Table(show_footer=True)
    table.add_column("kernel", "total", overflow="fold")
    table.add_column("line", overflow="fold")
    table.add_column("domain", f"{plan.launches} launches")
    table.add_column("FLOPs", f"{plan.flops:,}", justify="right", no_wrap=True)
    table.add_column("bytes", f"{plan.bytes:,}", justify="right", no_wrap=True)
    table.add_column("why not one with its neighbour", style="dim")
    for kernel in plan.kernels:
        reasons = "\n".join(kernel.reasons)
        figures = (f"{kernel.flops:,}", f"{kernel.bytes:,}")
        table.add_row(kernel.name, kernel.line, kernel.domain, *figures, reasons)
    console.print(table)
    console.print(f"peak memory {plan.peak_bytes:,} bytes")
    return True


def _print_sources(plan: Plan) -> None:
    """Each generated source once, in the order of the launches."""
    first = {kernel.source: kernel for kernel in reversed(plan.kernels) if kernel.source}
    for source, kernel in reversed(first.items()):
        print(f"\n---- {kernel.name}, {kernel.line}\n{source.rstrip()}")
