"""A region as equations, for people.

In: a Region. Out: lines such as `out0 = maximum(dot[r0](in0, in1) + in2(i1), 0.0)`. Invariant:
every store is an equation; a value that several others use has one of its own, before them. Axes
are written where a load lacks some of the region's: `in2(i1)` is constant along the others.
The exact indices and masks are in the region's own text.
"""

from __future__ import annotations

from collections import Counter

from tgrad.fusion import region as rg
from tgrad.fusion.region import Region
from tgrad.graph.op import Op

INFIX = {
    Op.ADD: "+", Op.SUB: "-", Op.MUL: "*", Op.DIV: "/", Op.FLOORDIV: "//", Op.MOD: "%",
    Op.POW: "**", Op.LT: "<", Op.LE: "<=", Op.EQ: "==", Op.NE: "!=", Op.AND: "&", Op.OR: "|",
    Op.XOR: "^", Op.SHL: "<<", Op.SHR: ">>",
}  # fmt: skip
LONGEST = 160
"""Longer values get a name, so that equations stay readable."""


def equations_of(region: Region) -> tuple[str, ...]:
    """One line a named value or store, in an order that computes."""
    uses = Counter(v for item in (*region.values, *region.stores) for v in rg.operands_of(item))
    everything = len(region.axes)
    if region.call is not None:
        return (f"{region.slots[-1].name} = {region.call.text()}",)
    lines: list[str] = []
    texts: list[str] = []
    for number, value in enumerate(region.values):
        text = _text(region, number, texts, everything)
        is_simple = isinstance(value, (rg.Load, rg.Const, rg.IndexValue))
        if not is_simple and (uses[number] > 1 or len(text) > LONGEST):
            lines.append(f"v{number} = {_bare(text)}")
            text = f"v{number}"
        texts.append(text)
    for store in region.stores:
        sign = "=" if store.combine == "set" else f"{store.combine}="
        lines.append(f"{region.slots[store.slot].name} {sign} {_bare(texts[store.value])}")
    return tuple(lines)


def _bare(text: str) -> str:
    """The text without parentheses around the whole of it."""
    if not text.startswith("("):
        return text
    depth = 0
    for at, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return text[1:-1] if at == len(text) - 1 else text
    return text


def _text(region: Region, number: int, texts: list[str], everything: int) -> str:
    value = region.values[number]
    match value:
        case rg.Load():
            dims = region.dims[number]
            name = region.slots[value.slot].name
            return name if len(dims) in (0, everything) else f"{name}({' '.join(dims)})"
        case rg.Const():
            return repr(value.value)
        case rg.IndexValue():
            return str(value.index)
        case rg.Inside():
            return f"inside({' and '.join(map(str, value.mask))})"
        case rg.Reduce():
            name = value.op.value.removeprefix("reduce_")
            return f"{name}[{' '.join(value.axes)}]({_bare(texts[value.arg])})"
        case rg.Scan():
            operands = ", ".join(_bare(texts[a]) for a in value.args)
            return f"{value.op}[{' '.join(value.axes)}]({operands})"
        case rg.Sort():
            return f"argsort[{' '.join(value.axes)}]({_bare(texts[value.arg])})"
        case rg.Dot():
            operands = f"{_bare(texts[value.a])}, {_bare(texts[value.b])}"
            product = f"dot[{' '.join(value.axes)}]({operands})"
            return product if value.start < 0 else f"({texts[value.start]} + {product})"
    args = [texts[a] for a in value.args]
    if value.op in INFIX and len(args) == 2:
        return f"({args[0]} {INFIX[value.op]} {args[1]})"
    inner = ", ".join(map(_bare, args))
    if value.op in (Op.CAST, Op.BITCAST):
        prefix = "" if value.op is Op.CAST else "bits_"
        return f"{prefix}{value.dtype.short}({inner})"
    return f"{value.op}({inner})"
