"""A report as one page of HTML, and as a short table for notebooks.

In: a PlanReport. Out: HTML text. Invariant: the page loads nothing from anywhere; all text from
programs is escaped; without a script it shows everything, with it tables sort and kernels light up.
"""

from __future__ import annotations

from html import escape

from tgrad.runtime.report.drawing import (
    calls_of,
    colour_of,
    draw_graph,
    draw_memory,
    draw_roofline,
    makers_of,
)
from tgrad.runtime.report.figures import KernelReport, PlanReport
from tgrad.runtime.report.style import SCRIPT, STYLE
from tgrad.runtime.report.text import (
    detail_lines,
    duration,
    fits_lines,
    size,
    summary_lines,
)

SHOWN_LIVE = 20
_COLUMNS = (
    ("step", True), ("kernel", False), ("line", False), ("FLOPs", True), ("bytes", True),
    ("FLOPs/byte", True), ("bound", True), ("predicted", True), ("share", True), ("limit", False),
)  # fmt: skip
_STATIC_COLUMNS = (
    ("regs", True), ("shared", True), ("spills", True), ("matrix instruction", False),
)  # fmt: skip


GRAPH_LEGEND = (
    "Kernels in the order of their steps; an arc is a buffer from the kernel that writes it to one "
    "that reads it, as thick as it is large. The bar is the predicted time."
)
MEMORY_LEGEND = (
    "Temporaries at their offsets in the arena, outputs above them. The line is what is live; the "
    "dashed mark is the peak."
)
ROOFLINE_LEGEND = (
    "What the cost model predicts for each kernel, under what the device can do. The larger the "
    "point, the longer it runs."
)


def page_of(report: PlanReport, title: str = "tgrad explain") -> str:
    """The whole page."""
    sections = [
        _section("Kernels", _kernel_table(report)),
        _section("Graph", _graph(report), GRAPH_LEGEND),
        _section("Memory", _memory(report), MEMORY_LEGEND),
        _section("Roofline", draw_roofline(report), ROOFLINE_LEGEND),
        _section("Sources", "".join(map(_kernel_details, report.kernels))),
    ]
    body = "".join(s for s in sections if s)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"</head><body><main><h1>{escape(title)}</h1>{_summary(report)}{body}</main>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _section(title: str, content: str, legend: str = "") -> str:
    if not content:
        return ""
    words = f"<p class=legend>{escape(legend)}</p>" if legend else ""
    return f'<section id="{title.lower()}"><h2>{title}</h2>{words}{content}</section>'


def _key(labels: list[str]) -> str:
    """Which colour stands for what the user called."""
    marks = "".join(
        f'<span><i class=dot style="background:{colour_of(label, labels)}"></i>'
        f"{escape(label or 'other')}</span>"
        for label in labels
    )
    return f"<p class=key>{marks}</p>"


def _summary(report: PlanReport) -> str:
    plan = report.plan
    cards = [
        ("target", plan.target or str(plan.device)),
        ("launches", f"{plan.launches:,}"),
        ("FLOPs", _short(plan.flops)),
        ("bytes moved", size(plan.bytes)),
        ("FLOPs/byte", f"{report.intensity:.1f}"),
    ]
    if plan.figures is not None:
        cards += [("at least", duration(report.bound)), ("predicted", duration(report.seconds))]
    cards += [("peak memory", size(plan.peak_bytes)), ("with inputs", size(report.needed))]
    if report.limit is not None:
        cards.append((f"fits in {size(report.limit)}", "yes" if report.fits else "no"))
    tiles = "".join(
        f"<div class=card><span>{escape(name)}</span><b>{escape(value)}</b></div>"
        for name, value in cards
    )
    notes = [line for line in summary_lines(report)[1:3] if not line.startswith("at the peak")]
    notes += fits_lines(report)
    words = "".join(f"<p class=legend>{escape(line)}</p>" for line in notes)
    return f"<div class=cards>{tiles}</div>{words}"


def _short(count: int) -> str:
    for power, unit in ((12, " T"), (9, " G"), (6, " M"), (3, " k")):
        if count >= 10**power:
            return f"{count / 10**power:.3g}{unit}"
    return str(count)


def _cell(shown: str, value: float | int | str | None = None, kind: str = "") -> str:
    """A cell; tables sort by `value` where it is given."""
    key = "" if value is None else f' data-value="{escape(str(value))}"'
    return f"<td{key}{f' class={kind}' if kind else ''}>{shown}</td>"


def _head(columns: tuple[tuple[str, bool], ...]) -> str:
    cells = "".join(
        f"<th{' class=number' if is_number else ''}><button type=button>{name}</button></th>"
        for name, is_number in columns
    )
    return f"<thead><tr>{cells}</tr></thead>"


def _kernel_table(report: PlanReport) -> str:
    has_static = any(k.static for k in report.kernels)
    columns = _COLUMNS + (_STATIC_COLUMNS if has_static else ())
    labels = calls_of(report)
    rows = "".join(_kernel_row(k, report, has_static, labels) for k in report.kernels)
    return (
        f'<div class=scroll><table class="sortable kernels">{_head(columns)}'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _kernel_row(k: KernelReport, report: PlanReport, has_static: bool, labels: list[str]) -> str:
    info, time = k.info, k.time
    number = "number"
    dot = f'<i class=dot style="background:{colour_of(k.call, labels)}"></i>'
    link = f'{dot}<a href="#kernel-{k.step}" title="{info.name}">{escape(info.name)}</a>'
    cells = [
        _cell(str(k.step), k.step, number),
        _cell(link, info.name, "name"),
        _cell(f'<span title="{escape(k.code)}">{escape(info.line)}</span>', info.line),
        _cell(f"{info.flops:,}", info.flops, number),
        _cell(f"{info.bytes:,}", info.bytes, number),
        _cell(f"{k.intensity:.1f}", k.intensity, number),
    ]
    if time is None:
        cells += [_cell("") for _ in range(4)]
    else:
        share = time.seconds / report.seconds if report.seconds else 0.0
        cells += [
            _cell(duration(time.bound), time.bound, number),
            _cell(duration(time.seconds), time.seconds, number),
            _cell(f"{share:.1%}", share, number),
            _cell(time.limit, time.limit),
        ]
    if has_static:
        s = k.static
        for value in (s and s.registers, s and s.shared, s and s.spills):
            cells.append(_cell("" if value is None else f"{value:,}", value or 0, number))
        cells.append(_cell(escape((s and s.matrix_instruction) or "no")))
    return f"<tr>{''.join(cells)}</tr>"


def _graph(report: PlanReport) -> str:
    return f"{_key(calls_of(report))}<div class=scroll>{draw_graph(report)}</div>"


def _memory(report: PlanReport) -> str:
    return _key(makers_of(report)) + draw_memory(report) + _live_table(report)


def _live_table(report: PlanReport) -> str:
    if not report.kernels:
        return ""
    live = report.live_at_peak
    columns = (("bytes", True), ("buffer", False), ("type", False), ("made by", False),
               ("line", False), ("steps", True))  # fmt: skip
    rows = "".join(
        "<tr>"
        + _cell(f"{b.nbytes:,}", b.nbytes, "number")
        + _cell(b.name)
        + _cell(b.type_text)
        + _cell(escape(b.call))
        + _cell(escape(b.line))
        + _cell(f"{b.first}\u2013{b.last}", b.first, "number")
        + "</tr>"
        for b in live[:SHOWN_LIVE]
    )
    rest = live[SHOWN_LIVE:]
    more = f", and {len(rest)} smaller ones of {size(sum(b.nbytes for b in rest))}" if rest else ""
    name = report.kernels[report.peak_step].info.name
    words = f"Alive at the peak, step {report.peak_step} ({name}): {len(live)} buffers{more}. "
    words += "What the run allocates, then inputs; the largest first."
    return (
        f"<h3>Live at the peak</h3><p class=legend>{escape(words)}</p><div class=scroll>"
        f'<table class="sortable live">{_head(columns)}<tbody>{rows}</tbody></table></div>'
    )


def _kernel_details(k: KernelReport) -> str:
    info = k.info
    where = f"{info.line}: {k.code}" if k.code else info.line
    lines = "".join(f"<li>{escape(line)}</li>" for line in detail_lines(k))
    equations = escape("\n".join(k.equations))
    reads, writes = ", ".join(k.reads) or "nothing", ", ".join(k.writes)
    return (
        f'<article id="kernel-{k.step}"><h3>{k.step}. {escape(info.name)}</h3>'
        f"<p class=legend><code>{escape(where)}</code><br>domain {escape(info.domain)}; "
        f"reads {escape(reads)}; writes {escape(writes)}</p>"
        f"<pre class=equation>{equations}</pre><ul>{lines}</ul>"
        f"<details><summary>region</summary><pre>{escape(str(info.region))}</pre></details>"
        f"<details><summary>generated source</summary><pre>{escape(info.source)}</pre></details>"
        "</article>"
    )


def table_of(report: PlanReport) -> str:
    """A short table with the style of the notebook around it."""
    head = "".join(f"<th>{c}</th>" for c in ("kernel", "line", "FLOPs", "bytes", "predicted"))
    rows = "".join(
        f'<tr title="{escape("; ".join(k.equations))}"><td>{escape(k.info.name)}</td>'
        f"<td>{escape(k.info.line)}</td><td>{k.info.flops:,}</td><td>{k.info.bytes:,}</td>"
        f"<td>{duration(k.time.seconds) if k.time else ''}</td></tr>"
        for k in report.kernels
    )
    plan = report.plan
    total = (
        f"<tr><th>{plan.launches} launches for {escape(plan.target or str(plan.device))}</th>"
        f"<th></th><th>{plan.flops:,}</th><th>{plan.bytes:,}</th>"
        f"<th>{duration(report.seconds) if plan.figures else ''}</th></tr>"
    )
    words = f"peak memory {size(plan.peak_bytes)}, and inputs {size(plan.input_bytes)}"
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody><tfoot>{total}</tfoot></table>"
        f"<p>{words}</p>"
    )
