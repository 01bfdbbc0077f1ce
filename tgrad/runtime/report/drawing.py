"""Three drawings of a plan, as SVG text.

In: a PlanReport. Out: `<svg>` elements that take their colours from the page's CSS variables.
Invariant: no script and no external resource; every mark has a <title> that says what it is; a
drawing of any number of kernels stays within its box.

    graph      kernels from top to bottom in the order of their steps, an arc for each buffer that
               one writes and another reads
    memory     the arena: a box a temporary, from its first step to its last, at its offset;
               outputs above
    roofline   FLOP/s over FLOPs a byte, both logarithmic: a point a kernel, under its roof
"""

from __future__ import annotations

from html import escape
from math import ceil, floor, log2, log10

from tgrad.runtime.report.figures import BufferReport, KernelReport, PlanReport
from tgrad.runtime.report.text import duration, size

ROW = 24
LABEL_WIDTH = 430
BAR_WIDTH = 110
GRAPH_WIDTH = 900
PLOT_WIDTH = 900
PLOT_HEIGHT = 340
MARGIN = (88, 20, 20, 44)
"""Left, right, top, bottom of the plots."""
LEAST_INTENSITY = 0.01
"""FLOPs a byte below which a kernel only moves data."""
COLOURS = 12
"""Number of the page's series colours, --c0 and so on."""


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    """A text element."""
    style = f' class="{kind}"' if kind else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {place}{style}>{escape(words)}</text>"


def open_svg(width: float, height: float, name: str, label: str) -> str:
    """The start tag."""
    return (
        f'<svg class="{name}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">'
    )


def shorten(words: str, most: int) -> str:
    """The words, with the middle left out if they are many."""
    if len(words) <= most:
        return words
    half = (most - 1) // 2
    return f"{words[:half]}\u2026{words[-half:]}"


def colour_of(label: str, labels: list[str]) -> str:
    """The series colour of a label."""
    return f"var(--c{labels.index(label) % COLOURS})"


def calls_of(report: PlanReport) -> list[str]:
    """What the user called, in the order of first use."""
    return list(dict.fromkeys(k.call for k in report.kernels))


def makers_of(report: PlanReport) -> list[str]:
    """What made the temporaries, in the order of first use."""
    return list(dict.fromkeys(b.call for b in report.buffers if b.kind == "temp"))


# -- graph ------------------------------------------------------------------------------------


def draw_graph(report: PlanReport) -> str:
    """Kernels as rows with a bar for their time, buffers as arcs on the right."""
    kernels, edges = report.kernels, edges_of(report)
    height = ROW * len(kernels) + 20
    start = LABEL_WIDTH + BAR_WIDTH + 16
    labels = calls_of(report)
    longest = max((k.time.seconds for k in kernels if k.time), default=0.0)
    parts = [open_svg(GRAPH_WIDTH, height, "graph", "kernels and the buffers between them")]
    largest = max((b.nbytes for _, _, b in edges), default=1)
    for first, last, buffer in edges:
        parts.append(_arc(report, start, first, last, buffer, largest))
    for k in kernels:
        parts.append(_node(k, start, longest, colour_of(k.call, labels)))
    return "".join([*parts, "</svg>"])


def edges_of(report: PlanReport) -> list[tuple[int, int, BufferReport]]:
    """(writer, reader, buffer) by steps; a buffer written again starts from its last writer."""
    by_name = {b.name: b for b in report.buffers}
    writer: dict[str, int] = {}
    edges = []
    for k in report.kernels:
        edges += [(writer[name], k.step, by_name[name]) for name in k.reads if name in writer]
        writer.update(dict.fromkeys(k.writes, k.step))
    return edges


def _middle(step: int) -> float:
    return 10 + ROW * (step + 0.5)


def _node(k: KernelReport, start: float, longest: float, colour: str) -> str:
    y = _middle(k.step)
    seconds = k.time.seconds if k.time else 0.0
    width = BAR_WIDTH * seconds / longest if longest else 0
    tip = f"step {k.step}: {k.info.name}, {k.info.line}"
    if k.time:
        tip += f", predicted {duration(seconds)}, limited by {k.time.limit}"
    return (
        f'<a href="#kernel-{k.step}" class="node" data-step="{k.step}"><title>{escape(tip)}</title>'
        f'<rect class="row" x="0" y="{y - ROW / 2:.1f}" width="{GRAPH_WIDTH}" height="{ROW}"/>'
        + text(26, y + 4, str(k.step), "end", "dim")
        + text(36, y + 4, shorten(k.info.name, 54))
        + f'<rect class="bar" x="{LABEL_WIDTH}" y="{y - 6:.1f}" width="{max(width, 1):.1f}" '
        f'height="12" rx="2" fill="{colour}"/>'
        f'<circle cx="{start}" cy="{y:.1f}" r="4" fill="{colour}"/></a>'
    )


def _arc(
    report: PlanReport, start: float, first: int, last: int, buffer: BufferReport, largest: int
) -> str:
    top, bottom = _middle(first), _middle(last)
    reach = log2(last - first) / max(log2(report.plan.launches), 1.0)
    out = start + 40 + reach * (GRAPH_WIDTH - start - 60) * 1.25
    thick = 0.75 + 3.25 * (buffer.nbytes / largest) ** 0.5
    names = report.kernels[first].info.name, report.kernels[last].info.name
    tip = f"{buffer.name}, {buffer.type_text}, {size(buffer.nbytes)}: {names[0]} to {names[1]}"
    return (
        f'<path class="edge" data-from="{first}" data-to="{last}" stroke-width="{thick:.2f}" '
        f'd="M{start},{top:.1f} C{out:.1f},{top:.1f} {out:.1f},{bottom:.1f} {start},{bottom:.1f}">'
        f"<title>{escape(tip)}</title></path>"
    )


# -- memory -----------------------------------------------------------------------------------


def draw_memory(report: PlanReport) -> str:
    """The arena over the steps, and the outputs on top of it."""
    left, right, top, bottom = MARGIN
    wide, high = PLOT_WIDTH - left - right, PLOT_HEIGHT - top - bottom
    steps = max(report.plan.launches, 1)
    most = max(report.plan.peak_bytes, 1)
    arena, outputs = report.plan.arena_bytes, report.plan.output_bytes

    def x(step: float) -> float:
        return left + wide * step / steps

    def y(nbytes: float) -> float:
        return top + high * (1 - nbytes / most)

    def box(first: float, last: float, start: float, end: float, style: str, tip: str) -> str:
        width, height = max(x(last) - x(first), 0.5), max(y(start) - y(end), 0.5)
        return (
            f'<rect {style} x="{x(first):.1f}" y="{y(end):.1f}" width="{width:.1f}" '
            f'height="{height:.1f}"><title>{escape(tip)}</title></rect>'
        )

    parts = [open_svg(PLOT_WIDTH, PLOT_HEIGHT, "memory", "memory over the steps")]
    for fraction in (0.0, 0.25, 0.5, 0.75, 1.0):
        height = y(most * fraction)
        parts.append(_line(left, height, PLOT_WIDTH - right, height, "grid"))
        parts.append(text(left - 6, height + 4, size(round(most * fraction)), "end", "dim"))
    temps = [b for b in report.buffers if b.kind == "temp"]
    labels = makers_of(report)
    for b in temps:
        tip = (
            f"{b.name}, {b.type_text}, {size(b.nbytes)}, steps {b.first} to {b.last}, "
            f"{b.call} at {b.line}"
        )
        tall = " tall" if high * b.nbytes / most > 4 else ""
        style = f'class="buffer{tall}" fill="{colour_of(b.call, labels)}"'
        end = b.spec.offset + b.nbytes
        parts.append(box(b.first, b.last + 1, b.spec.offset, end, style, tip))
    if outputs:
        tip = f"outputs, {len(report.plan.outputs)} buffers, {size(outputs)}"
        parts.append(box(0, steps, arena, arena + outputs, 'class="outputs"', tip))
    parts.append(_live_line(report, x, y))
    if report.kernels:
        at = x(report.peak_step + 0.5)
        parts.append(_line(at, top, at, top + high, "peak"))
    every = max(1, steps // 12)
    for step in range(0, steps, every):
        parts.append(text(x(step + 0.5), PLOT_HEIGHT - bottom + 16, str(step), "middle", "dim"))
    parts.append(text(left + wide / 2, PLOT_HEIGHT - 8, "step", "middle", "dim"))
    return "".join([*parts, "</svg>"])


def _live_line(report: PlanReport, x: object, y: object) -> str:
    """Live bytes as a line of steps."""
    assert callable(x) and callable(y)
    points = []
    for m in report.memory:
        points += [f"{x(m.step):.1f},{y(m.live):.1f}", f"{x(m.step + 1):.1f},{y(m.live):.1f}"]
    tip = "<title>live bytes: temporaries and outputs, without gaps</title>"
    return f'<polyline class="live" points="{" ".join(points)}">{tip}</polyline>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


# -- roofline ---------------------------------------------------------------------------------


def draw_roofline(report: PlanReport) -> str:
    """Points are what the cost model predicts; kernels that only move data have no place here."""
    figures = report.plan.figures
    shown = [k for k in report.kernels if k.time is not None and k.intensity >= LEAST_INTENSITY]
    if figures is None or not shown:
        return ""
    left, right, top, bottom = MARGIN
    wide, high = PLOT_WIDTH - left - right, PLOT_HEIGHT - top - bottom
    roof = max(figures.vector_rate, figures.matrix_rate)
    rates = [k.info.flops / k.time.seconds for k in shown if k.time]
    low_x = floor(log10(min(k.intensity for k in shown)))
    knee = log10(roof / figures.bandwidth)
    high_x = ceil(max(log10(max(k.intensity for k in shown)), knee + 0.3))
    low_y, high_y = floor(log10(min(rates))), ceil(log10(roof) + 0.05)

    def x(intensity: float) -> float:
        return left + wide * (log10(intensity) - low_x) / (high_x - low_x)

    def y(rate: float) -> float:
        return top + high * (high_y - log10(rate)) / (high_y - low_y)

    parts = [open_svg(PLOT_WIDTH, PLOT_HEIGHT, "roofline", "roofline")]
    for power in range(low_x, high_x + 1):
        at = x(10.0**power)
        parts.append(_line(at, top, at, top + high, "grid"))
        parts.append(text(at, PLOT_HEIGHT - bottom + 16, f"{10.0**power:g}", "middle", "dim"))
    for power in range(low_y, high_y + 1):
        at = y(10.0**power)
        parts.append(_line(left, at, PLOT_WIDTH - right, at, "grid"))
        parts.append(text(left - 6, at + 4, _rate(10.0**power), "end", "dim"))
    parts.append(text(left + wide / 2, PLOT_HEIGHT - 8, "FLOPs a byte", "middle", "dim"))
    for rate, name in ((figures.vector_rate, "vector"), (figures.matrix_rate, "matrix")):
        if rate:
            parts.append(
                _roof(rate, figures.bandwidth, 10.0**low_x, 10.0**high_x, 10.0**low_y, x, y)
            )
            words = f"{name} units {_rate(rate)}"
            above = rate == roof
            at = y(rate) - 5 if above else y(rate) + 14
            parts.append(text(PLOT_WIDTH - right - 4, at, words, "end", "dim"))
    labels = calls_of(report)
    total = report.seconds or 1.0
    for k, rate in zip(shown, rates):
        assert k.time is not None
        tip = f"step {k.step}: {k.info.name}, {_rate(rate)}, {k.intensity:.2f} FLOPs a byte, "
        tip += f"predicted {duration(k.time.seconds)}, {k.time.seconds / total:.1%} of the plan"
        radius = 3.5 + 14 * (k.time.seconds / total) ** 0.5
        parts.append(
            f'<a href="#kernel-{k.step}"><circle class="point" cx="{x(k.intensity):.1f}" '
            f'cy="{y(rate):.1f}" r="{radius:.1f}" fill="{colour_of(k.call, labels)}">'
            f"<title>{escape(tip)}</title></circle></a>"
        )
    return "".join([*parts, "</svg>"])


def _roof(
    rate: float, bandwidth: float, least: float, most: float, floor_: float, x: object, y: object
) -> str:
    """The slope of memory up to the ceiling of arithmetic."""
    assert callable(x) and callable(y)
    start = max(least, floor_ / bandwidth)
    points = [(start, start * bandwidth), (rate / bandwidth, rate), (most, rate)]
    shown = [(a, b) for a, b in points if start <= a <= most]
    path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in shown)
    return f'<polyline class="roof" points="{path}"/>'


def _rate(rate: float) -> str:
    """FLOP/s with a unit."""
    for power, unit in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if rate >= 10**power:
            return f"{rate / 10**power:.3g} {unit}FLOP/s"
    return f"{rate:.3g} FLOP/s"
