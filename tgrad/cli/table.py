"""A plan's report on standard output.

In: a PlanReport. Out: text. Invariant: the figures are the report's own; nothing is computed here.
A wide terminal gets rich's table; a narrow one, a file or a pipe gets the plain text of
`Plan.explain()`.
"""

from __future__ import annotations

import sys

from tgrad.runtime.plan import Plan
from tgrad.runtime.report import PlanReport, text_of
from tgrad.runtime.report.text import detail_lines, duration, summary_lines

WIDE = 140
"""Columns of a terminal beside which the details still fit."""


def print_report(report: PlanReport, source: bool = False) -> None:
    """Print a row a kernel, totals and memory; with `source` the generated code too."""
    if not (sys.stdout.isatty() and _print_rich(report)):
        print(text_of(report))
    if source:
        _print_sources(report.plan)


def _print_rich(report: PlanReport) -> bool:
    """False if rich is not installed, or the terminal is narrow."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return False
    console = Console(markup=False, highlight=False)
    if console.width < WIDE:
        return False
    plan = report.plan
    table = Table(show_footer=True)
    table.add_column("kernel", "total", overflow="fold")
    table.add_column("line", overflow="fold")
    table.add_column("domain", f"{plan.launches} launches")
    table.add_column("FLOPs", f"{plan.flops:,}", justify="right", no_wrap=True)
    table.add_column("bytes", f"{plan.bytes:,}", justify="right", no_wrap=True)
    table.add_column("predicted", duration(report.seconds), justify="right", no_wrap=True)
    table.add_column("configuration, and why not one with its neighbours", style="dim")
    for kernel in report.kernels:
        info = kernel.info
        time = duration(kernel.time.seconds) if kernel.time else ""
        figures = (f"{info.flops:,}", f"{info.bytes:,}", time)
        details = "\n".join(detail_lines(kernel))
        table.add_row(info.name, info.line, info.domain, *figures, details)
    console.print(table)
    for line in summary_lines(report):
        console.print(line)
    return True


def _print_sources(plan: Plan) -> None:
    """Each generated source once, in the order of the launches."""
    first = {kernel.source: kernel for kernel in reversed(plan.kernels) if kernel.source}
    for source, kernel in reversed(first.items()):
        print(f"\n---- {kernel.name}, {kernel.line}\n{source.rstrip()}")
