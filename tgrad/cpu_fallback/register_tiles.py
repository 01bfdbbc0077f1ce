"""C functions of register tiles: products whose sums stay in vector registers, transposes.

In: sizes, as a function's name has them. Out: its text, for preamble.py. Invariant: an accumulator
is a variable of its own, so that none is kept in memory while k runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache


def vector_type(ctype: str, lanes: int) -> str:
    """Name of the vector type of `lanes` elements, such as tg_float_16."""
    return f"tg_{ctype}_{lanes}"


@cache
def vector_piece(ctype: str, lanes: int) -> str:
    size = {"float": 4, "double": 8}.get(ctype) or int(re.sub(r"\D", "", ctype)) // 8
    name = vector_type(ctype, lanes)
    return (
        f"typedef {ctype} {name} __attribute__((vector_size({size * lanes})"
        f", aligned({size}), may_alias));\n"
    )


@cache
def transpose_piece(ctype: str, lanes: int) -> str:
    """In: `lanes` rows of kc elements, rs apart. Out: kc rows of `lanes` elements, ds apart."""
    v, one = vector_type(ctype, lanes), vector_type(ctype, 1)
    out = [
        f"static __attribute__((noinline)) void tg_transpose_{ctype}_{lanes}(",
        f"    const {ctype} *src, ptrdiff_t rs, ptrdiff_t kc, {ctype} *dst, ptrdiff_t ds) {{",
        "  ptrdiff_t k = 0;",
        f"  for (; k + {lanes} <= kc; k += {lanes}) {{",
        f"    {v} a[{lanes}], b[{lanes}];",
        f"#pragma GCC unroll {lanes}",
        f"    for (int i = 0; i < {lanes}; i++) a[i] = *(const {v} *)(src + i * rs + k);",
    ]
    source, target, step = "a", "b", lanes // 2
    while step:
        low = ", ".join(str(i - step + lanes if i & step else i) for i in range(lanes))
        high = ", ".join(str(i + lanes if i & step else i + step) for i in range(lanes))
        out += [
            f"#pragma GCC unroll {lanes}",
            f"    for (int i = 0; i < {lanes}; i++)",
            f"      {target}[i] = i & {step}",
            f"        ? __builtin_shufflevector({source}[i & ~{step}], {source}[i],",
            f"                                  {high})",
            f"        : __builtin_shufflevector({source}[i], {source}[i | {step}],",
            f"                                  {low});",
        ]
        source, target, step = target, source, step // 2
    out += [
        f"#pragma GCC unroll {lanes}",
        f"    for (int i = 0; i < {lanes}; i++) *({v} *)(dst + (k + i) * ds) = {source}[i];",
        "  }",
    ]
    if lanes > 4:
        half = lanes // 2
        out += [
            f"  for (int i = 0; k < kc && i < {lanes}; i += {half})",
            f"    tg_transpose_{ctype}_{half}(src + i * rs + k, rs, kc - k, dst + k * ds + i, ds);",
            "}",
        ]
    else:
        out += [
            "  for (; k < kc; k++)",
            f"    for (int i = 0; i < {lanes}; i++)",
            f"      *({one} *)(dst + k * ds + i) = *(const {one} *)(src + i * rs + k);",
            "}",
        ]
    return "\n".join(out) + "\n"


@dataclass(frozen=True)
class Elements:
    """What a register tile multiplies.

    Attributes:
        packed: C type of an element of an operand.
        sums: of a sum.
        together: elements that one multiply-add takes (dot_words.py).
    """

    packed: str
    sums: str
    together: int


def elements_of(kind: str) -> Elements:
    """By the kind in a function's name: a C type, "bf16", or the signs of a row and a lane."""
    if kind == "bf16":
        return Elements("uint16_t", "float", 2)
    return Elements("uint8_t", "int32_t", 4) if len(kind) == 2 else Elements(kind, kind, 1)


def _added(kind: str, s: str, x: str, y: str) -> str:
    """C statement that adds the product of a row's x and the lanes' y to s."""
    if kind == "bf16":
        return f"{s} = tg_add_bf16({s}, {x}, {y});"
    if kind in ("ss", "us"):
        return f"{s} = tg_add_bytes({s}, {x}, {y});"
    return f"{s} = tg_add_bytes({s}, {y}, {x});" if kind in ("uu", "su") else f"{s} += {x} * {y};"


def _product(kind: str, rows: range, nv: int, lanes: int, rs: int) -> list[str]:
    """s[rows, nv*lanes] += a[rows] * b[nv*lanes] with each accumulator a variable of its own.

    b's vectors are kept in registers: where no more than four multiply-adds use one, gcc reads it
    from memory again for each, and a tile of 4x2 vectors takes as long as one of 6x2 (Zen 3).
    """
    together, ctype, of_row = elements_of(kind).together, kind, "{}"
    if together > 1:
        ctype, of_row = "uint32_t", f"(tg_uint32_t_{lanes}){{{{0}}}} + *(const tg_word *)&{{}}"
    v = vector_type(ctype, lanes)
    x_type = ctype if together == 1 else v
    lines = [
        f"{v} y{j} = *(const {v} *)(b + {j * lanes * together}); tg_keep(y{j});" for j in range(nv)
    ]
    if kind in MOVED:
        lines += [_added(kind, f"moved{j}", "high", f"y{j}") for j in range(nv)]
    for r in rows:
        sums = " ".join(_added(kind, f"s{r}_{j}", "x", f"y{j}") for j in range(nv))
        lines.append(f"{{ const {x_type} x = {of_row.format(f'a[{r * rs}]')}; {sums} }}")
    return lines


MOVED = ("ss", "uu")
"""Kinds whose rows are packed with 128 added; 128 times the lanes' sums is taken away again."""


def _accumulators(kind: str, mr: int, nv: int, lanes: int) -> tuple[list[str], list[str]]:
    """Lines that declare the accumulators, and lines that add them to c or store them.

    They start from zero, so that a long sum is one of partial sums.
    """
    v = vector_type(elements_of(kind).sums, lanes)
    cells = [(f"s{r}_{j}", f"(c + {r} * ldc + {j * lanes})") for r in range(mr) for j in range(nv)]
    first = [f"  {v} " + ", ".join(f"{s} = {{0}}" for s, _ in cells) + ";"]
    last = []
    if kind in MOVED:
        word = vector_type("uint32_t", lanes)
        first.append(f"  {v} " + ", ".join(f"moved{j} = {{0}}" for j in range(nv)) + ";")
        first.append(f"  {word} high = ({word}){{0}} + 0x80808080u; tg_keep(high);")
        last += [f"  s{r}_{j} -= moved{j};" for r in range(mr) for j in range(nv)]
    last += [
        "  if (!first) {",
        *(f"    {s} += *(const {v} *){place};" for s, place in cells),
        "  }",
    ]
    return first, last + [f"  *({v} *){place} = {s};" for s, place in cells]


@cache
def dot_piece(
    kind: str, mr: int, nv: int, lanes: int, rs: int, ks: int, ldb: int | None = None
) -> str:
    """c[mr, nv*lanes] (+)= a[mr, kc] @ b[kc, nv*lanes], all of c in registers.

    a's rows are `rs` apart and its columns, or words, `ks`; b's rows are `ldb` apart, packed by
    default.
    """
    elements = elements_of(kind)
    first, last = _accumulators(kind, mr, nv, lanes)
    step, place = (nv * lanes * elements.together, "") if ldb is None else (ldb, f"_{ldb}")
    packed, k_next = elements.packed, _next("k", elements.together)
    out = [
        f"static __attribute__((noinline)) void {dot_name(kind, mr, nv, lanes, rs, ks)}{place}(",
        f"    ptrdiff_t kc, const {packed} *restrict a, const {packed} *restrict b,",
        f"    {elements.sums} *restrict c, ptrdiff_t ldc, int first) {{",
        *first,
        f"  for (ptrdiff_t k = 0; k < kc; {k_next}, a += {ks}, b += {step}) {{",
        *(f"    {line}" for line in _product(kind, range(mr), nv, lanes, rs)),
        "  }",
        *last,
    ]
    return "\n".join(out) + "\n}\n"


def dot_name(kind: str, mr: int, nv: int, lanes: int, rs: int, ks: int) -> str:
    """The C function of `dot_piece`, with b packed."""
    return f"tg_dot_{kind}_{mr}x{nv}x{lanes}_{rs}_{ks}"


def _next(name: str, step: int) -> str:
    return f"{name}++" if step == 1 else f"{name} += {step}"


@cache
def runs_piece(
    kind: str, mr: int, nv: int, lanes: int, rs: int, ks: int, parts: tuple[range, ...] = ()
) -> str:
    """The same over `runs` pieces of k of kc elements each, a_step and b_step apart.

    With parts, each piece is that many times kc elements, and a part adds to its own rows of c.
    """
    elements = elements_of(kind)
    first, last = _accumulators(kind, mr, nv, lanes)
    packed, together = elements.packed, elements.together
    out = [
        f"static __attribute__((noinline)) void {runs_name(kind, mr, nv, lanes, rs, ks, parts)}(",
        "    ptrdiff_t runs, ptrdiff_t a_step, ptrdiff_t b_step, ptrdiff_t kc,",
        f"    const {packed} *restrict a_run, const {packed} *restrict b_run,",
        f"    {elements.sums} *restrict c, ptrdiff_t ldc, int first) {{",
        *first,
        "  for (ptrdiff_t run = 0; run < runs; run++, a_run += a_step, b_run += b_step) {",
        f"    const {packed} *restrict a = a_run, *restrict b = b_run;",
    ]
    steps = f"{_next('k', together)}, a += {ks}, b += {nv * lanes * together}"
    for rows in parts or (range(mr),):
        out += [
            f"    for (ptrdiff_t k = 0; k < kc; {steps}) {{",
            *(f"      {line}" for line in _product(kind, rows, nv, lanes, rs)),
            "    }",
        ]
    return "\n".join([*out, "  }", *last]) + "\n}\n"


def runs_name(
    kind: str, mr: int, nv: int, lanes: int, rs: int, ks: int, parts: tuple[range, ...] = ()
) -> str:
    """The C function of `runs_piece`."""
    rows = "".join(f"_{part.start}to{part.stop}" for part in parts)
    return f"tg_runs_{kind}_{mr}x{nv}x{lanes}_{rs}_{ks}{rows}"
