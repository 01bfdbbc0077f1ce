"""The closed set of operations.

In: nothing. Out: `Op` and the table `OPS` of arity and kind. Invariant: shapes and dtypes of every
op follow from its inputs and attributes (graph/shape.py); an op that is not in the table does not
exist. A new op is a row here, a NumPy spelling (graph/interpret.py), a VJP
(autodiff/vjp_rules.py), a Triton spelling and a C spelling; a test fails for the one forgotten.

Attributes by op:
    cast, bitcast    dtype
    reduce_*         axes: tuple[int, ...] (sorted; the axes are removed)
    scan_*           axis: out[.., i, ..] combines x[.., 0, ..] to x[.., i, ..];
                     scan_linear of (a, b) is h[i] = a[i] * h[i - 1] + b[i] with h[-1] = 0 and
                     a[0] finite
    argsort          axis: int64 places of the elements in ascending order, equal ones in theirs
    reshape, expand  shape: tuple[int, ...]
    permute          axes: tuple[int, ...]
    pad              low, high: tuple[int, ...] (>= 0, filled with zeros)
    slice            start, stop, step: tuple[int, ...] (step >= 1, start <= stop)
    flip             axes
    window           axis, size, stride, dilation: axis of n becomes
                     (n - dilation*(size-1) - 1) // stride + 1, and `size` is appended as last axis
    gather           axis (out[.., i, ..] = x[.., index[.., i, ..], ..], as torch.gather)
    scatter          axis, combine in {"set", "add", "max", "min", "mul"} (as torch.scatter_reduce)
    dot              contract: ((axes of a), (axes of b)), batch: likewise, dtype: of the result
                     (accumulates in dtype.accumulator); result axes: batch, free of a, free of b
    iota             shape, axis, dtype
    const            value (Python number), dtype; shape ()
    philox           word: 0..3; inputs (index, offset, key) int64, result uint32
    library          function: name in graph/library.py, params: tuple; all results in one array
    collective       function: name in graph/collective.py, params: tuple, group: its number,
                     processes: how many it has; inputs x and, if there is one, the call before
    buffer           storage: opaque object with identity; shape, dtype, device
    custom_vjp       rule: name in autodiff's registry, params: tuple; inputs (result, *arguments)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache

from tgrad.dtype import DType


class Kind(Enum):
    """What an op does to the iteration domain."""

    ELEMENTWISE = "elementwise"
    REDUCE = "reduce"
    SCAN = "scan"
    SORT = "sort"
    MOVEMENT = "movement"
    INDEXING = "indexing"
    CONTRACTION = "contraction"
    LIBRARY = "library"
    COLLECTIVE = "collective"
    LEAF = "leaf"
    MARK = "mark"


class Op(str, Enum):
    """Names of the operations; the member's value is what printers show."""

    NEG = "neg"
    ABS = "abs"
    EXP = "exp"
    LOG = "log"
    SIN = "sin"
    COS = "cos"
    TANH = "tanh"
    ERF = "erf"
    SIGMOID = "sigmoid"
    SQRT = "sqrt"
    RSQRT = "rsqrt"
    FLOOR = "floor"
    ROUND = "round"
    TRUNC = "trunc"
    NOT = "not"
    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    FLOORDIV = "floordiv"
    MOD = "mod"
    POW = "pow"
    MAXIMUM = "maximum"
    MINIMUM = "minimum"
    AND = "and"
    OR = "or"
    XOR = "xor"
    SHL = "shl"
    SHR = "shr"
    LT = "lt"
    LE = "le"
    EQ = "eq"
    NE = "ne"
    WHERE = "where"
    CAST = "cast"
    BITCAST = "bitcast"
    PHILOX = "philox"
    REDUCE_SUM = "reduce_sum"
    REDUCE_PROD = "reduce_prod"
    REDUCE_MAX = "reduce_max"
    REDUCE_MIN = "reduce_min"
    SCAN_SUM = "scan_sum"
    SCAN_PROD = "scan_prod"
    SCAN_MAX = "scan_max"
    SCAN_MIN = "scan_min"
    SCAN_LINEAR = "scan_linear"
    ARGSORT = "argsort"
    RESHAPE = "reshape"
    PERMUTE = "permute"
    EXPAND = "expand"
    PAD = "pad"
    SLICE = "slice"
    FLIP = "flip"
    WINDOW = "window"
    GATHER = "gather"
    SCATTER = "scatter"
    DOT = "dot"
    LIBRARY = "library"
    COLLECTIVE = "collective"
    IOTA = "iota"
    CONST = "const"
    BUFFER = "buffer"
    CUSTOM_VJP = "custom_vjp"

    def __str__(self) -> str:
        return self._value_


@dataclass(frozen=True, slots=True)
class OpSpec:
    """A row of the op table.

    Attributes:
        kind: see `Kind`.
        arity: number of inputs; -1 for "one or more".
        domain: dtype kinds that inputs may have ("f" float only, "iu" integers, "biuf" all).
        result: "same" as the promoted inputs, "bool", or "attr" when an attribute says.
        cost: relative arithmetic cost of one element; 1 is an add. Above 4 counts as expensive.
    """

    kind: Kind
    arity: int
    domain: str = "biuf"
    result: str = "same"
    cost: int = 1


_E, _R, _M = Kind.ELEMENTWISE, Kind.REDUCE, Kind.MOVEMENT

OPS: dict[Op, OpSpec] = {
    Op.NEG: OpSpec(_E, 1, "iuf"),
    Op.ABS: OpSpec(_E, 1, "iuf"),
    Op.EXP: OpSpec(_E, 1, "f", cost=10),
    Op.LOG: OpSpec(_E, 1, "f", cost=12),
    Op.SIN: OpSpec(_E, 1, "f", cost=15),
    Op.COS: OpSpec(_E, 1, "f", cost=15),
    Op.TANH: OpSpec(_E, 1, "f", cost=15),
    Op.ERF: OpSpec(_E, 1, "f", cost=15),
    Op.SIGMOID: OpSpec(_E, 1, "f", cost=15),
    Op.SQRT: OpSpec(_E, 1, "f", cost=4),
    Op.RSQRT: OpSpec(_E, 1, "f", cost=4),
    Op.FLOOR: OpSpec(_E, 1, "f"),
    Op.ROUND: OpSpec(_E, 1, "f"),
    Op.TRUNC: OpSpec(_E, 1, "f"),
    Op.NOT: OpSpec(_E, 1, "biu"),
    Op.ADD: OpSpec(_E, 2, "iuf"),
    Op.SUB: OpSpec(_E, 2, "iuf"),
    Op.MUL: OpSpec(_E, 2, "iuf"),
    Op.DIV: OpSpec(_E, 2, "f", cost=4),
    Op.FLOORDIV: OpSpec(_E, 2, "iuf", cost=6),
    Op.MOD: OpSpec(_E, 2, "iuf", cost=6),
    Op.POW: OpSpec(_E, 2, "iuf", cost=25),
    Op.MAXIMUM: OpSpec(_E, 2),
    Op.MINIMUM: OpSpec(_E, 2),
    Op.AND: OpSpec(_E, 2, "biu"),
    Op.OR: OpSpec(_E, 2, "biu"),
    Op.XOR: OpSpec(_E, 2, "biu"),
    Op.SHL: OpSpec(_E, 2, "iu"),
    Op.SHR: OpSpec(_E, 2, "iu"),
    Op.LT: OpSpec(_E, 2, result="bool"),
    Op.LE: OpSpec(_E, 2, result="bool"),
    Op.EQ: OpSpec(_E, 2, result="bool"),
    Op.NE: OpSpec(_E, 2, result="bool"),
    Op.WHERE: OpSpec(_E, 3),
    Op.CAST: OpSpec(_E, 1, result="attr"),
    Op.BITCAST: OpSpec(_E, 1, result="attr", cost=0),
    Op.PHILOX: OpSpec(_E, 3, "i", result="attr", cost=60),
    Op.REDUCE_SUM: OpSpec(_R, 1, "iuf"),
    Op.REDUCE_PROD: OpSpec(_R, 1, "iuf"),
    Op.REDUCE_MAX: OpSpec(_R, 1),
    Op.REDUCE_MIN: OpSpec(_R, 1),
    Op.SCAN_SUM: OpSpec(Kind.SCAN, 1, "iuf"),
    Op.SCAN_PROD: OpSpec(Kind.SCAN, 1, "iuf"),
    Op.SCAN_MAX: OpSpec(Kind.SCAN, 1),
    Op.SCAN_MIN: OpSpec(Kind.SCAN, 1),
    Op.SCAN_LINEAR: OpSpec(Kind.SCAN, 2, "f", cost=2),
    Op.ARGSORT: OpSpec(Kind.SORT, 1, "u", result="attr", cost=20),
    Op.RESHAPE: OpSpec(_M, 1, cost=0),
    Op.PERMUTE: OpSpec(_M, 1, cost=0),
    Op.EXPAND: OpSpec(_M, 1, cost=0),
    Op.PAD: OpSpec(_M, 1, cost=0),
    Op.SLICE: OpSpec(_M, 1, cost=0),
    Op.FLIP: OpSpec(_M, 1, cost=0),
    Op.WINDOW: OpSpec(_M, 1, cost=0),
    Op.GATHER: OpSpec(Kind.INDEXING, 2),
    Op.SCATTER: OpSpec(Kind.INDEXING, 3),
    Op.DOT: OpSpec(Kind.CONTRACTION, 2, "iuf", result="attr", cost=2),
    Op.LIBRARY: OpSpec(Kind.LIBRARY, -1, "f", cost=1000),
    Op.COLLECTIVE: OpSpec(Kind.COLLECTIVE, -1, cost=1000),
    Op.IOTA: OpSpec(Kind.LEAF, 0, result="attr", cost=0),
    Op.CONST: OpSpec(Kind.LEAF, 0, result="attr", cost=0),
    Op.BUFFER: OpSpec(Kind.LEAF, 0, result="attr", cost=0),
    Op.CUSTOM_VJP: OpSpec(Kind.MARK, -1, cost=0),
}

ELEMENTWISE = frozenset(op for op, spec in OPS.items() if spec.kind is Kind.ELEMENTWISE)
MOVEMENT = frozenset(op for op, spec in OPS.items() if spec.kind is Kind.MOVEMENT)
REDUCE = frozenset(op for op, spec in OPS.items() if spec.kind is Kind.REDUCE)
SCAN = frozenset(op for op, spec in OPS.items() if spec.kind is Kind.SCAN)
ROWWISE = SCAN | {Op.ARGSORT}
"""Ops whose every element needs a whole row, and which keep the row."""
CALLS = frozenset({Op.LIBRARY, Op.COLLECTIVE})
"""Ops that are no generated kernel: a step calls a library with whole buffers."""

STORED = MOVEMENT | {
    Op.ABS, Op.EQ, Op.NE, Op.WHERE, Op.CAST, Op.BITCAST, Op.GATHER, Op.SCATTER, Op.DOT,
    Op.COLLECTIVE, Op.CUSTOM_VJP,
}  # fmt: skip
"""Ops that take floats of 8 bits, as in PyTorch: these are stored and multiplied, not added."""

REDUCE_COMBINE: dict[Op, Op] = {
    Op.REDUCE_SUM: Op.ADD,
    Op.REDUCE_PROD: Op.MUL,
    Op.REDUCE_MAX: Op.MAXIMUM,
    Op.REDUCE_MIN: Op.MINIMUM,
}
"""The elementwise op that joins two partial results of a reduction."""

SCAN_COMBINE: dict[Op, Op] = {
    Op.SCAN_SUM: Op.ADD,
    Op.SCAN_PROD: Op.MUL,
    Op.SCAN_MAX: Op.MAXIMUM,
    Op.SCAN_MIN: Op.MINIMUM,
}
"""The elementwise op that joins what came before with the next element; scan_linear has none."""

SCATTER_COMBINE: dict[str, Op] = {
    "add": Op.ADD,
    "mul": Op.MUL,
    "max": Op.MAXIMUM,
    "min": Op.MINIMUM,
}
"""The elementwise op that joins what a scatter finds with what it brings; "set" has none."""


def identity_of(op: Op, dtype: DType) -> bool | int | float:
    """The value that a reduction or a scan starts from, or that an op which joins two values leaves
    as the other."""
    combine = REDUCE_COMBINE.get(op, SCAN_COMBINE.get(op, op))
    if combine is Op.MAXIMUM:
        return dtype.min
    if combine is Op.MINIMUM:
        return dtype.max
    number = int(combine is Op.MUL)
    return float(number) if dtype.is_float else number


@cache
def takes(op: Op, dtype: DType) -> bool:
    """Whether the op takes operands of the dtype (the condition of a where aside)."""
    return dtype.kind in OPS[op].domain and (not dtype.is_float8 or op in STORED)


def is_elementwise(op: Op) -> bool:
    """Whether each element of the result depends on the inputs' elements at the same place."""
    return op in ELEMENTWISE


def is_expensive(op: Op) -> bool:
    """Whether one element costs so much that storing it can beat computing it again."""
    return OPS[op].cost > 4
