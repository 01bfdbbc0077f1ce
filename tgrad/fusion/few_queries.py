"""Attention of few queries over many keys (decoding), with the keys spread over programs.

In: canonical nodes, the device's limits. Out: nodes that compute the same. Invariant: pure; applied
where nothing but the result is read, so that no gradient's kernel misses a statistic; parts are
merged in one order, so results are the same on every run.

    s = q · k over d;  r = max_k s;  l = Σ_k exp(s - r);  o = Σ_k exp(s - r) v / l
    ->
    s = q' · k' over d                    query heads that share keys are rows of one product
    for each part p of the keys:          r_p, l_p, o_p of its keys alone, in one kernel
    r = max_p r_p;  c_p = exp(r_p - r);  l = Σ_p c_p l_p;  o = Σ_p c_p o_p / l

That is the rescaling of fusion/chain.py between programs in place of steps (FlashDecoding). Whether
heads share keys is seen from the index that the keys are read at, not from how that was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.fusion.device_limits import Limits
from tgrad.fusion.movement import Indices, push_index
from tgrad.graph import build as b
from tgrad.graph import index as ix
from tgrad.graph.node import Node, behind, make, on_inputs, source_scope, toposort, users_of
from tgrad.graph.op import MOVEMENT, Op, is_elementwise
from tgrad.graph.shape import dot_axes

MOST_ROWS = 64
"""Queries of one product, those of all heads that share keys together: one tile."""
LEAST_KEYS = 256
"""Keys of a part: fewer are not worth the merge."""
STEP = 64
"""What the length of a part is a multiple of, where it does not divide the keys."""
HALF = (dt.float16, dt.bfloat16)
_SAME_ORDER = (Op.RESHAPE, Op.CAST)


def split_few_queries(outputs: Sequence[Node], limits: Limits) -> list[Node]:
    """The outputs with attention of few queries in products of shared heads and parts of keys."""
    if not limits.programs or not limits.chain_bytes:
        return list(outputs)
    order = toposort(outputs)
    uses, wanted = users_of(order), set(outputs)
    found = [m for n in order if (m := _match(n, uses, wanted)) is not None]
    if not found:
        return list(outputs)
    return _Splitting(found, limits.programs).run(outputs, order)


# -- what is looked for -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Product:
    """node = reshape(Σ_k left[b, m, k] * right[b, n, k])"""

    node: Node
    left: Node
    right: Node

    @property
    def sizes(self) -> tuple[int, int, int]:
        """b, m, n"""
        return self.left.shape[0], self.left.shape[1], self.right.shape[1]


@dataclass(frozen=True)
class _Attention:
    """values = weights @ v, weights = exp(scores - shift) / total, all of them read here alone.

    Attributes:
        values: the last product; its left operand is made of `weights` by `casts`.
        scores: what the exponential is taken of, less `shift`, an expanded row.
        maximum, sum: the reductions behind `shift` and `total`, an expanded row.
        products: what the scores are computed from element by element.
    """

    values: _Product
    casts: tuple[DType, ...]
    scores: Node
    shift: Node
    total: Node
    maximum: Node
    sum: Node
    products: tuple[_Product, ...]


def _match(node: Node, uses: Mapping[Node, set[Node]], outputs: set[Node]) -> _Attention | None:
    values = _product(node) if node.size else None
    if values is None:
        return None
    weights, casts = node.inputs[0], list[DType]()
    if node.op is Op.DOT and not _lies_in_order(node):
        return None
    if node.op is Op.REDUCE_SUM:
        weights = next(x for x in weights.inputs if x.op is Op.EXPAND)
    while weights.op in (*_SAME_ORDER, Op.EXPAND):
        if len(uses[weights]) != 1 or weights in outputs:
            return None
        if weights.op is Op.CAST:
            casts.append(weights.dtype)
        weights = weights.inputs[0]
    if weights.op is not Op.DIV or weights.inputs[0].op is not Op.EXP:
        return None
    power, total = weights.inputs
    (difference,) = power.inputs
    if difference.op is not Op.SUB or len(uses[weights]) != 1:
        return None
    scores, shift = difference.inputs
    maximum, sum_ = _reduction_of(shift), _reduction_of(total)
    if maximum is None or sum_ is None or maximum.op is not Op.REDUCE_MAX:
        return None
    if maximum.inputs != (scores,) or sum_.op is not Op.REDUCE_SUM or sum_.inputs != (power,):
        return None
    keys = (len(scores.shape) - 1,)
    if maximum.attr("axes") != keys or sum_.attr("axes") != keys:
        return None
    if {power, difference, weights, scores, maximum, sum_} & outputs:
        return None
    if uses[scores] != {difference, maximum} or uses[power] != {sum_, weights}:
        return None
    rows = values.sizes[0] * values.sizes[1]
    if scores.shape[-1] != values.left.shape[-1] or scores.size != rows * scores.shape[-1]:
        return None
    products = _products_behind(scores, uses)
    if not products or any(p.sizes[:2] != values.sizes[:2] for p in products):
        return None
    if any(p.sizes[2] != scores.shape[-1] for p in products):
        return None
    return _Attention(values, tuple(casts[::-1]), scores, shift, total, maximum, sum_, products)


def _lies_in_order(dot: Node) -> bool:
    """Whether the left operand's axes are those of the batch, then rows, then what is summed."""
    left, right = dot.inputs
    free, _ = dot_axes(left.shape, right.shape, dict(dot.attrs))
    order = (*dot.attr("batch")[0], *free, *dot.attr("contract")[0])
    return order == tuple(range(len(left.shape)))


def _reduction_of(row: Node) -> Node | None:
    """The one reduction that an expanded row is computed from, constants apart."""

    def is_by_element(n: Node) -> bool:
        return n.op in (Op.RESHAPE, Op.EXPAND) or is_elementwise(n.op)

    ends = [n for n in behind([row], is_by_element) if not is_by_element(n)]
    found = [n for n in ends if n.op is not Op.CONST]
    is_one = len(found) == 1 and found[0].op in (Op.REDUCE_MAX, Op.REDUCE_SUM)
    return found[0] if is_one else None


def _products_behind(scores: Node, uses: Mapping[Node, set[Node]]) -> tuple[_Product, ...]:
    """The products of the scores' size that they are computed from element by element."""
    found: dict[Node, _Product] = {}
    stack, seen = [scores], set[Node]()
    while stack:
        n = stack.pop()
        if n in seen or n.size != scores.size:
            continue
        seen.add(n)
        product = _product(n)
        if product is not None:
            found[n] = product
        elif is_elementwise(n.op) or n.op is Op.RESHAPE:
            stack.extend(n.inputs)
    return tuple(found.values())


def _product(node: Node) -> _Product | None:
    """A dot, or the sum of products that a dot with one row has become, in the form of _Product."""
    if node.op is Op.DOT:
        left, right = node.inputs
        (ca, cb), (ba, bb) = node.attr("contract"), node.attr("batch")
        free_a, free_b = dot_axes(left.shape, right.shape, dict(node.attrs))
        return _Product(node, _three(left, ba, free_a, ca), _three(right, bb, free_b, cb))
    if node.op is not Op.REDUCE_SUM or node.inputs[0].op is not Op.MUL:
        return None
    (terms,) = node.inputs
    summed = node.attr("axes")
    for vector, matrix in (terms.inputs, terms.inputs[::-1]):
        free = _constant_axes(vector)
        if not free or _constant_axes(matrix) or set(free) & set(summed):
            continue
        batch = tuple(a for a in range(len(terms.shape)) if a not in (*free, *summed))
        if (*batch, *free, *summed) != tuple(range(len(terms.shape))):
            continue
        (x,) = vector.inputs
        have = (1,) * (len(terms.shape) - len(x.shape)) + x.shape
        lead = tuple(have[a] for a in batch)
        if lead != tuple(terms.shape[a] for a in batch):
            continue
        k = prod(have[a] for a in summed)
        left = b.reshape_to(x, (prod(lead), 1, k))
        right = b.reshape_to(matrix, (prod(lead), prod(terms.shape[a] for a in free), k))
        return _Product(node, *_narrowed(left, right))
    return None


def _three(x: Node, batch: Sequence[int], free: Sequence[int], contract: Sequence[int]) -> Node:
    """The operand of a dot with one axis of each kind."""
    shape = tuple(prod(x.shape[a] for a in group) for group in (batch, free, contract))
    return b.reshape_to(b.permute(x, (*batch, *free, *contract)), shape)


def _constant_axes(x: Node) -> tuple[int, ...]:
    """Axes that an expand has made."""
    if x.op is not Op.EXPAND:
        return ()
    have = (1,) * (len(x.shape) - len(x.inputs[0].shape)) + x.inputs[0].shape
    return tuple(a for a, n in enumerate(x.shape) if n != have[a])


def _narrowed(left: Node, right: Node) -> tuple[Node, Node]:
    """Operands of one half type as they were before they were widened."""
    narrow = tuple(_below_cast(x) for x in (left, right))
    if None in narrow or narrow[0].dtype is not narrow[1].dtype:  # type: ignore[union-attr]
        return left, right
    return narrow  # type: ignore[return-value]


def _below_cast(x: Node) -> Node | None:
    """The value before a cast from a half type, views of it kept."""
    if x.op is Op.CAST and x.inputs[0].dtype in HALF:
        return x.inputs[0]
    if x.op not in (Op.RESHAPE, Op.PERMUTE, Op.EXPAND):
        return None
    inner = _below_cast(x.inputs[0])
    return None if inner is None else make(x.op, inner, **dict(x.attrs))


# -- heads that share keys --------------------------------------------------------------------


def _sharing(rights: Sequence[Node], rows: int) -> int:
    """How many neighbours of the batch read the same keys and values, at most."""
    batch = rights[0].shape[0]
    for group in range(min(batch, MOST_ROWS // rows), 1, -1):
        if batch % group == 0 and all(_is_shared(x, group) for x in rights):
            return group
    return 1


def _is_shared(x: Node, group: int) -> bool:
    """Whether x[b] is the same for all b with one b // group."""
    first = ix.var("b", x.shape[0] // group) * group + ix.var("g", group)
    rest = (ix.var(f"x{a}", n) for a, n in enumerate(x.shape[1:]))
    return _is_free(x, (first, *rest), {})


def _is_free(x: Node, index: Indices, seen: dict[tuple[Node, Indices], bool]) -> bool:
    """Whether the element of x at an index does not depend on its variable g."""
    key = (x, index)
    if key not in seen:
        if x.op in MOVEMENT:
            pushed, bounds = push_index(x, index)
            fixed = all("g" not in e.index.variables() for e in bounds)
            seen[key] = fixed and _is_free(x.inputs[0], pushed, seen)
        elif is_elementwise(x.op):
            seen[key] = all(_is_free(y, index, seen) for y in x.inputs)
        elif x.op is Op.GATHER:
            values, places = x.inputs
            axis = x.attr("axis")
            others = (*index[:axis], ix.ZERO, *index[axis + 1 :])
            seen[key] = _is_free(places, index, seen) and _is_free(values, others, seen)
        else:
            seen[key] = x.op is Op.CONST or all("g" not in e.variables() for e in index)
    return seen[key]


# -- the rewrite ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Split:
    """An attention, how many neighbours of its batch share keys, and parts of the keys."""

    attention: _Attention
    group: int
    parts: int


@dataclass(frozen=True)
class _Parts:
    """Statistics of each part (batch, row, part), the exponentials of its scores, and its length,
    by which the parts may go beyond the keys."""

    maximum: Node
    sum: Node
    power: Node
    length: int


class _Splitting:
    def __init__(self, found: Sequence[_Attention], programs: int):
        splits = [s for a in found if (s := _plan(a, programs)) is not None]
        self.group = {p.node: (p, s.group) for s in splits for p in s.attention.products}
        self.group |= {s.attention.values.node: (s.attention.values, s.group) for s in splits}
        several = [s for s in splits if s.parts > 1]
        self.maximum = {s.attention.maximum: s for s in several}
        self.sum = {s.attention.sum: s for s in several}
        self.values = {s.attention.values.node: s for s in several}
        self.made: dict[Node, Node] = {}
        self.parts: dict[Node, _Parts] = {}
        """By maximum."""

    def run(self, outputs: Sequence[Node], order: Sequence[Node]) -> list[Node]:
        for node in order:
            with source_scope(node.source):
                self.made[node] = self._replaced(node)
        return [self.made[n] for n in outputs]

    def _replaced(self, node: Node) -> Node:
        if node in self.maximum:
            return self._merged_maximum(self.maximum[node])
        if node in self.sum:
            return self._merged_sum(self.sum[node])
        if node in self.values:
            return self._merged_values(self.values[node])
        if node in self.group:
            product, group = self.group[node]
            left, right = self._operands(product, group)
            return b.reshape_to(_dot(left, right, node.dtype), node.shape)
        inputs = tuple(self.made[x] for x in node.inputs)
        if node.op is Op.CAST and inputs[0].op is Op.RESHAPE:  # stored in the shape it is made in
            return b.reshape_to(b.cast_to(inputs[0].inputs[0], node.dtype), node.shape)
        return on_inputs(node, inputs)

    def _operands(self, product: _Product, group: int) -> tuple[Node, Node]:
        """(batch, row, k) and (batch, column, k), where rows of a group are rows of one product."""
        left, right = self._on_made(product.left), self._on_made(product.right)
        (batch, rows, k), columns = left.shape, right.shape[1]
        apart = b.reshape_to(right, (batch // group, group, columns, k))
        one = b.reshape_to(b.slice_axis(apart, 1, 0, 1), (batch // group, columns, k))
        return b.reshape_to(left, (batch // group, group * rows, k)), one

    def _on_made(self, operand: Node) -> Node:
        """An operand, which has views of its own above the graph's nodes."""
        if operand not in self.made:
            inputs = (self._on_made(x) for x in operand.inputs)
            self.made[operand] = make(operand.op, *inputs, **dict(operand.attrs))
        return self.made[operand]

    def _merged_maximum(self, s: _Split) -> Node:
        """r = max_p r_p"""
        a = s.attention
        keys = a.scores.shape[-1]
        length = -(-keys // s.parts)
        length = length if keys % s.parts == 0 else -(-length // STEP) * STEP
        parts = -(-keys // length)
        batch, rows, _ = a.values.sizes
        scores = self.made[a.scores]
        if parts * length > keys:
            scores = _with_low_end(scores, parts * length)
        wide = b.reshape_to(scores, (batch // s.group, s.group * rows, parts, length))
        high = make(Op.REDUCE_MAX, wide, axes=(3,))
        low = b.const_like(high, -inf)
        shift = b.where(b.equal(high, low), b.const_like(high, 0.0), high)
        power = b.exp(b.sub(wide, b.restore(shift, (3,), wide.shape)))
        self.parts[a.maximum] = _Parts(high, b.sum_over(power, (3,)), power, length)
        return b.reshape_to(make(Op.REDUCE_MAX, high, axes=(2,)), a.maximum.shape)

    def _factors(self, a: _Attention) -> Node:
        """c_p = exp(r_p - r), with r as the softmax subtracts it"""
        high = self.parts[a.maximum].maximum
        shift = b.reshape_to(self.made[a.shift].inputs[0], high.shape[:2])
        return b.exp(b.sub(high, b.restore(shift, (2,), high.shape)))

    def _merged_sum(self, s: _Split) -> Node:
        """l = Σ_p c_p l_p"""
        a = s.attention
        merged = b.sum_over(b.mul(self._factors(a), self.parts[a.maximum].sum), (2,))
        return b.reshape_to(merged, a.sum.shape)

    def _merged_values(self, s: _Split) -> Node:
        """o = Σ_p c_p o_p / l"""
        a = s.attention
        part = self.parts[a.maximum]
        _, right = self._operands(a.values, s.group)
        (batch, columns, keys), (_, rows, parts) = right.shape, part.maximum.shape
        right = b.pad_axis(right, 2, 0, parts * part.length - keys)
        right = b.reshape_to(right, (batch, columns, parts, part.length))
        weights = part.power
        for dtype in a.casts:
            weights = b.cast_to(weights, dtype)
        if weights.dtype is not right.dtype:  # the product was one of half types, widened
            weights = weights.inputs[0]
        wide = a.values.node.dtype.accumulator
        sides = {"contract": ((3,), (3,)), "batch": ((0, 2), (0, 2))}
        found = make(Op.DOT, weights, right, **sides, dtype=wide)  # batch, part, row, column
        factors = b.cast_to(b.permute(self._factors(a), (0, 2, 1)), wide)
        merged = b.sum_over(b.mul(found, b.restore(factors, (3,), found.shape)), (1,))
        total = b.reshape_to(b.cast_to(self.made[a.total].inputs[0], wide), (batch, rows))
        merged = b.div(merged, b.restore(total, (2,), merged.shape))
        return b.reshape_to(b.cast_to(merged, a.values.node.dtype), a.values.node.shape)


def _plan(a: _Attention, programs: int) -> _Split | None:
    """As many parts as fill the device twice, if it is not full already. One query of one head in
    one part stays a sum: a product would have neither rows nor a batch."""
    batch, rows, _ = a.values.sizes
    if rows > MOST_ROWS:
        return None
    group = _sharing([p.right for p in (*a.products, a.values)], rows)
    parts = min(2 * programs * group // batch, a.scores.shape[-1] // LEAST_KEYS)
    if parts < 2 and group == 1 and (rows > 1 or batch == 1):
        return None
    return _Split(a, group, parts)


def _with_low_end(scores: Node, size: int) -> Node:
    """Scores with keys of -inf up to a size."""
    padded = _longer(scores, size, {})
    place = make(Op.IOTA, axis=0, dtype=dt.int64, shape=(size,))
    inside = b.less(place, b.const(scores.shape[-1], dt.int64, (size,)))
    return b.where(b.expand_to(inside, padded.shape), padded, b.const_like(padded, -inf))


def _longer(x: Node, size: int, seen: dict[Node, Node]) -> Node:
    """x with more keys, of any value, computed as x is."""
    if x in seen:
        return seen[x]
    shape, keys = (*x.shape[:-1], size), x.shape[-1]
    if x.op is Op.DOT and x.inputs[1].shape[-2:] == (keys, x.inputs[0].shape[-1]):
        left, right = x.inputs
        right = b.pad_axis(right, len(right.shape) - 2, 0, size - keys)
        made = make(Op.DOT, left, right, **dict(x.attrs))
    elif is_elementwise(x.op):
        made = make(x.op, *(_longer(y, size, seen) for y in x.inputs), **dict(x.attrs))
    elif x.op is Op.RESHAPE and x.inputs[0].shape[-1:] == (keys,):
        made = b.reshape_to(_longer(x.inputs[0], size, seen), shape)
    elif x.op is Op.EXPAND:
        (y,) = x.inputs
        made = b.expand_to(_longer(y, size, seen) if y.shape[-1:] == (keys,) else y, shape)
    elif x.op is Op.IOTA and x.attr("axis") == len(shape) - 1:
        made = make(Op.IOTA, axis=x.attr("axis"), dtype=x.dtype, shape=shape)
    else:
        made = b.pad_axis(x, len(shape) - 1, 0, size - keys)
    seen[x] = made
    return made


def _dot(left: Node, right: Node, dtype: DType) -> Node:
    """(batch, row, k) by (batch, column, k)"""
    return make(Op.DOT, left, right, contract=((2,), (2,)), batch=((0,), (0,)), dtype=dtype)
