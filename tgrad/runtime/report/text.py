"""A report as text and as plain data.

In: a PlanReport. Out: a string; a dictionary for JSON. Invariant: both hold the same figures. The
keys of the dictionary are listed in `data_of`; a change of their meaning raises VERSION.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tgrad.kernel.ir import StaticFigures
from tgrad.runtime.report.figures import BufferReport, KernelReport, PlanReport

VERSION = 1
SHOWN_BUFFERS = 8
_UNITS = ((1e-3, 1e3, "ms"), (1e-6, 1e6, "us"), (0.0, 1e9, "ns"))


def text_of(report: PlanReport) -> str:
    """A row a kernel with its equation and reasons, totals, memory at the peak."""
    lines = _table(report)
    return "\n".join([*lines, *summary_lines(report)])


def _table(report: PlanReport) -> list[str]:
    header = ("kernel", "line", "domain", "FLOPs", "bytes", "bound", "predicted", "limit")
    rows = [_row(k) for k in report.kernels]
    plan = report.plan
    totals = (f"{plan.flops:,}", f"{plan.bytes:,}", *_times(report.bound, report.seconds, report))
    rows.append(("total", "", f"{plan.launches} launches", *totals, ""))
    widths = [max(len(r[c]) for r in (header, *rows)) for c in range(len(header))]
    lines = []
    for number, row in enumerate((header, *rows)):
        cells = [
            cell.rjust(w) if 3 <= c < 7 else cell.ljust(w)
            for c, (cell, w) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip())
        if 0 < number <= len(report.kernels):
            kernel = report.kernels[number - 1]
            lines += [f"    {line}" for line in (*kernel.equations, *detail_lines(kernel))]
    return lines


def _row(kernel: KernelReport) -> tuple[str, ...]:
    info, time = kernel.info, kernel.time
    figures = (f"{info.flops:,}", f"{info.bytes:,}")
    if time is None:
        return (info.name, info.line, info.domain, *figures, "", "", "")
    times = (duration(time.bound), duration(time.seconds), time.limit)
    return (info.name, info.line, info.domain, *figures, *times)


def _times(bound: float, seconds: float, report: PlanReport) -> tuple[str, str]:
    return ("", "") if report.plan.figures is None else (duration(bound), duration(seconds))


def detail_lines(kernel: KernelReport) -> list[str]:
    """Configuration, figures of the compiled kernel, and reasons."""
    lines = []
    if kernel.tiles or kernel.origin:
        tiles = kernel.tiles or "one element"
        lines.append(f"tiles: {tiles}; grid {kernel.programs:,} ({kernel.origin})")
    if kernel.static is not None:
        lines.append(static_text(kernel.static))
    return [*lines, *grouped_reasons(kernel.info.reasons)]


def static_text(static: StaticFigures) -> str:
    """What is known about a compiled kernel, in words."""

    def count(value: int | None, what: str) -> str:
        return f"{what} not known" if value is None else f"{value:,} {what}"

    matrix = static.matrix_instruction or "none"
    return (
        f"{count(static.registers, 'registers')}, {count(static.shared, 'bytes shared')}, "
        f"{count(static.spills, 'spills')}, matrix instruction: {matrix}, "
        f"{count(static.widest_load, 'bits')} a load at most, "
        f"{count(static.async_copies, 'asynchronous copies')}"
    )


def grouped_reasons(reasons: tuple[str, ...]) -> list[str]:
    """Equal reasons together.

    >>> grouped_reasons(("not with a: two dots", "not with b: two dots", "its own"))
    ['not with a, b: two dots', 'its own']
    """
    groups: dict[str, list[str]] = {}
    for reason in reasons:
        neighbour, colon, why = reason.partition(": ")
        if not colon or not neighbour.startswith("not with "):
            groups.setdefault(reason, [])
        else:
            groups.setdefault(why, []).append(neighbour.removeprefix("not with "))
    return [
        f"not with {', '.join(dict.fromkeys(names))}: {why}" if names else why
        for why, names in groups.items()
    ]


def summary_lines(report: PlanReport) -> list[str]:
    """What the plan needs as a whole."""
    plan = report.plan
    lines = [f"{report.intensity:.1f} FLOPs a byte; {report.dot_flops:,} FLOPs in dots"]
    if plan.figures is not None:
        f = plan.figures
        matrix = f", matrix units {f.matrix_rate / 1e12:g} TFLOP/s" if f.matrix_rate else ""
        lines.append(
            f"time: at least {duration(report.bound)}, predicted {duration(report.seconds)} on "
            f"{f.name}: {f.bandwidth / 1e9:,.0f} GB/s, {f.vector_rate / 1e12:.3g} TFLOP/s{matrix}, "
            f"{duration(f.launch)} a launch ({f.origin})"
        )
    lines.append(
        f"peak memory {plan.peak_bytes:,} bytes: arena {plan.arena_bytes:,}, outputs "
        f"{plan.output_bytes:,} (and inputs {plan.input_bytes:,})"
    )
    lines.append(f"replay: {plan.replay}")
    lines += [f"stored choice: {site}: {value}" for site, value in plan.choices.decided]
    return [*lines, *live_lines(report), *fits_lines(report)]


def live_lines(report: PlanReport) -> list[str]:
    """The largest buffers at the peak."""
    if not report.kernels:
        return []
    live = [b for b in report.live_at_peak if b.kind != "input"]
    name = report.kernels[report.peak_step].info.name
    lines = [f"at the peak, step {report.peak_step} ({name}), {len(live)} buffers are alive:"]
    lines += [f"  {buffer_line(b)}" for b in live[:SHOWN_BUFFERS]]
    rest = live[SHOWN_BUFFERS:]
    if rest:
        lines.append(f"  {sum(b.nbytes for b in rest):>15,}  in {len(rest)} smaller ones")
    plan = report.plan
    lines.append(f"  {plan.input_bytes:>15,}  in {len(plan.inputs)} inputs, which exist before")
    return lines


def buffer_line(b: BufferReport) -> str:
    """Bytes, name, type and the line that made it."""
    made = f"{b.call} at {b.line}" if b.call and b.line else b.line
    return f"{b.nbytes:>15,}  {b.name:<10} {b.type_text:<24} {made}".rstrip()


def fits_lines(report: PlanReport) -> list[str]:
    """Whether it fits the limit, if there is one."""
    if report.limit is None:
        return []
    answer = "yes" if report.fits else "no"
    missing = report.needed - report.limit
    rest = f"{missing:,} bytes too many" if missing > 0 else f"{-missing:,} bytes are left"
    return [
        f"fits in {size(report.limit)}: {answer}; inputs, arena and outputs are "
        f"{report.needed:,} bytes, {rest}"
    ]


def duration(seconds: float) -> str:
    """Three digits and a unit.

    >>> duration(0.0123), duration(4.5e-6), duration(2.0)
    ('12.3 ms', '4.50 us', '2.00 s')
    """
    for least, factor, unit in _UNITS:
        if seconds < 1 and seconds >= least:
            return f"{_three_digits(seconds * factor)} {unit}"
    return f"{_three_digits(seconds)} s"


def _three_digits(x: float) -> str:
    return f"{x:.2f}" if x < 10 else f"{x:.1f}" if x < 100 else f"{x:,.0f}"


def size(nbytes: float) -> str:
    """Bytes in the largest unit that is not below one; in decimal units where those are round.

    >>> size(8 << 30), size(1536), size(12), size(500_000_000)
    ('8 GiB', '1.5 KiB', '12 bytes', '500 MB')
    """
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB")):
        if nbytes >= 10**power and nbytes % 10**power == 0:
            return f"{nbytes // 10**power:g} {unit}"
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if nbytes >= 1 << power:
            return f"{nbytes / (1 << power):.4g} {unit}"
    return f"{nbytes:g} bytes"


def data_of(report: PlanReport) -> dict[str, Any]:
    """Plain data: figures of the plan, of its kernels, of its memory, all in bytes and seconds."""
    plan = report.plan
    return {
        "version": VERSION,
        "device": str(plan.device),
        "target": plan.target,
        "figures": None if plan.figures is None else asdict(plan.figures),
        "launches": plan.launches,
        "replay": plan.replay,
        "choices": dict(plan.choices.decided),
        "flops": plan.flops,
        "dot_flops": report.dot_flops,
        "bytes": plan.bytes,
        "intensity": report.intensity,
        "bound_seconds": report.bound,
        "predicted_seconds": report.seconds,
        "peak_bytes": plan.peak_bytes,
        "arena_bytes": plan.arena_bytes,
        "output_bytes": plan.output_bytes,
        "input_bytes": plan.input_bytes,
        "needed_bytes": report.needed,
        "memory_limit": report.limit,
        "fits": report.fits,
        "peak_step": report.peak_step,
        "kernels": [_kernel_data(k) for k in report.kernels],
        "memory": [asdict(m) for m in report.memory],
        "live_at_peak": [_buffer_data(b) for b in report.live_at_peak],
    }


def _kernel_data(k: KernelReport) -> dict[str, Any]:
    return {
        "name": k.info.name,
        "line": k.info.line,
        "call": k.call,
        "code": k.code,
        "equations": list(k.equations),
        "domain": k.info.domain,
        "flops": k.info.flops,
        "dot_flops": k.dot_flops,
        "bytes": k.info.bytes,
        "intensity": k.intensity,
        "bound_seconds": k.time.bound if k.time else None,
        "predicted_seconds": k.time.seconds if k.time else None,
        "limit": k.time.limit if k.time else None,
        "programs": k.programs,
        "tiles": k.tiles,
        "origin": k.origin or None,
        "static": None if k.static is None else asdict(k.static),
        "reads": list(k.reads),
        "writes": list(k.writes),
        "reasons": list(k.info.reasons),
        "region": str(k.info.region),
        "source": k.info.source,
    }


def _buffer_data(b: BufferReport) -> dict[str, Any]:
    return {
        "name": b.name,
        "kind": b.kind,
        "type": b.type_text,
        "bytes": b.nbytes,
        "line": b.line,
        "call": b.call,
        "first": b.first,
        "last": b.last,
    }
