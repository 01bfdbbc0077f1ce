"""Which nodes share a kernel: the graph cut into regions.

In: canonical output nodes. Out: `Fused` kernels in an order that may run. Invariant: every output
and every node that two kernels need is stored once; all else is inlined where it is used.

1. Roots: outputs, reductions, scans, sorts, dots, scatters, and elementwise values that several
   kernels need and that cost more to compute again than to load, or that must be the same in all
   of them (computed_once.py).
2. Chains of dots and row reductions are found first and stand alone (find_chains.py).
3. Each root is a group. Reductions of the rows of one value join first; then a producer's group
   joins its consumer's when the builder finds one legal domain for both and no third kernel stands
   between them.
4. Groups over one domain that read the same data, or are tiny, join side by side.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

from tgrad.errors import VerifyError
from tgrad.fusion.builder import Built
from tgrad.fusion.calls import build_call
from tgrad.fusion.choices import NO_CHOICES, Names, PlanChoices, Site
from tgrad.fusion.computed_once import compared_with_extrema
from tgrad.fusion.device_limits import Limits
from tgrad.fusion.find_chains import Chain, find_chains
from tgrad.fusion.group import Bucket, Group, Kind
from tgrad.fusion.group_order import GroupOrder
from tgrad.fusion.histories import (
    TINY,
    History,
    histories_of,
    is_costly_prologue,
    is_dear_to_repeat,
    is_table_of_places,
    is_worth_storing,
)
from tgrad.fusion.legality import Refused
from tgrad.fusion.partial_sums import partial_sums
from tgrad.fusion.pointwise import Draft, Pointwise, pointwise_of
from tgrad.fusion.region import GROUPS, Region
from tgrad.fusion.structure import RegionBuilder
from tgrad.fusion.table import as_single, form_of, walks_whole_buffers
from tgrad.fusion.views import is_dear_to_view
from tgrad.graph.demand import conditions_of
from tgrad.graph.node import Node, behind, below, make, toposort, users_of
from tgrad.graph.op import CALLS, MOVEMENT, REDUCE, ROWWISE, Op, is_elementwise

INLINE_NODES = 256
"""Longest elementwise history that is computed in place; longer ones are stored on the way."""

_HEAVY = REDUCE | ROWWISE | CALLS | {Op.DOT, Op.SCATTER}
"""Ops that are never computed again where they are read."""

MANY = 4
"""Groups alike that stay apart from their neighbours, to share a launch."""


@dataclass(frozen=True)
class Fused:
    """A kernel to be: its region, the nodes of its slots, and why it stands alone.

    Attributes:
        region: what it computes.
        inputs, outputs: graph nodes of the slots, inputs first.
        reasons: one sentence for each neighbour that it could not join.
        starts: the element of each input that is its slot's first; empty if all are 0.
    """

    region: Region
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    reasons: tuple[str, ...]
    starts: tuple[int, ...] = ()

    @property
    def windows(self) -> list[tuple[Node, int]]:
        """The inputs with the element at which each begins."""
        return list(zip(self.inputs, self.starts or len(self.inputs) * (0,), strict=True))


def partition(
    outputs: Sequence[Node],
    limits: Limits,
    choices: PlanChoices = NO_CHOICES,
    turns: Mapping[Node, int] | None = None,
    copies: Collection[Node] = (),
) -> list[Fused]:
    """Cut the graph of `outputs` (none of them a buffer) into kernels.

    Args:
        choices: of what is stored, and of what stays apart, where somebody knows better.
        turns: nodes of different numbers are computed one after the other; see row_chunks.py.
        copies: nodes that are stored, by kernels that their readers do not join; see
            channels_last.py.
    """
    return _Partition(list(dict.fromkeys(outputs)), limits, choices, turns or {}, copies).run()


def places_to_cut(
    outputs: Sequence[Node],
    limits: Limits,
    choices: PlanChoices,
    turns: Mapping[Node, int],
    copies: Collection[Node] = (),
) -> list[Site]:
    """Values that may be stored or not, and kernels that are joined and need not be."""
    cut = _Partition(list(dict.fromkeys(outputs)), limits, choices, turns, copies)
    cut.run()
    return cut.sites()


class _Partition:
    def __init__(
        self,
        outputs: list[Node],
        limits: Limits,
        choices: PlanChoices,
        turns: Mapping[Node, int],
        copies: Collection[Node],
    ):
        self.turns, self.copies = turns, frozenset(copies)
        self.choices, self.names = choices, Names()
        self.asked: dict[Node, bool] = {}
        self.repeated: set[tuple[Node, Node]] = set()
        self.joined: dict[tuple[Node, Node], None] = {}
        self.outputs, self.limits = set(outputs), limits
        self.builder = RegionBuilder(limits)
        self.order = toposort(outputs)
        self.position = {n: i for i, n in enumerate(self.order)}
        self.uses = users_of(self.order)
        found = find_chains(self.order, self.uses, self.outputs)
        self.refused, self.rows = dict(found.refused), found.rows
        self._cut(found.chains)
        self._build_chains(found.chains)

    def _cut(self, chains: Sequence[Chain]) -> None:
        """Roots, what each reads and is read by, and a group for each root or chain."""
        self.chains = chains
        self.inside = frozenset(n for c in chains for n in c.inside)
        self.roots = self._find_roots()
        roots = frozenset(self.roots)
        self.producers: dict[Node, list[Node]] = {r: self._reads(r, roots) for r in self.roots}
        self.consumers: dict[Node, list[Node]] = defaultdict(list)
        for r in self.roots:
            for p in self.producers[r]:
                self.consumers[p].append(r)
                if p in self.copies or p in self.sums or p in self.viewed:
                    self.repeated.add((p, r))
        self.group_of: dict[Node, Group] = {r: Group([r]) for r in self.roots}
        self.sums_alike: set[Node] = set()
        self.maps: dict[Node, Pointwise | None] = {}

    def _build_chains(self, chains: Sequence[Chain]) -> None:
        """Build the kernels of chains. A refused pair is tried as two kernels; chains that share
        the scores of a refused one are refused, since its kernel needs them stored."""
        while chains:
            built = {c: self._build(list(c.roots), chain=True) for c in chains}
            if not any(isinstance(b, Refused) for b in built.values()):
                for chain, b in built.items():
                    assert isinstance(b, Built)
                    group = Group(list(chain.roots), b, is_chain=True)
                    self.group_of.update(dict.fromkeys(chain.roots, group))
                return
            refused = {c: b.reason for c, b in built.items() if isinstance(b, Refused)}
            left: list[Chain] = []
            for chain in chains:
                shared = [c for c in refused if not c.halves and c.inside & chain.inside]
                if shared:
                    dots = (r for r in chain.roots if r.op is Op.DOT)
                    self.refused.update(dict.fromkeys(dots, refused[shared[0]]))
                elif chain in refused:
                    left += chain.halves
                else:
                    left.append(chain)
            chains = left
            self._cut(chains)

    # -- roots ----------------------------------------------------------------------------------

    def _find_roots(self) -> list[Node]:
        """Nodes to be stored, in topological order."""
        roots = {n for n in self.order if n in self.outputs or n.op in _HEAVY}
        of_chains = {n for c in self.chains for n in c.roots}
        plain = (n for n in self.order if n.op is Op.DOT and n not in of_chains)
        roots |= {self._end_of_epilogue(n) for n in plain} | of_chains
        roots |= self.copies.intersection(self.order) | self.rows
        alone = self.inside | of_chains
        self.sums = partial_sums(self.order, self.uses, alone, self.limits.dots)
        roots |= self.sums
        roots -= self.inside
        self._cut_wide_histories(roots)
        histories = histories_of(self.order, roots, self.inside)
        for n in self.order:
            if n in self.inside and n.op is not Op.DOT:
                continue
            if n.op in CALLS:
                roots.update(below(x, (Op.RESHAPE,)) for x in n.inputs)
            if n.op is Op.DOT:
                roots |= self._stored_operands(n, histories)
            elif n not in roots and histories[n].nodes > INLINE_NODES and is_elementwise(n.op):
                roots.add(n)
            if n.op is Op.GATHER and below(n.inputs[0], MOVEMENT).op is Op.GATHER:
                roots.add(below(n.inputs[0], MOVEMENT))  # one load each time, not one after another
            if n.op is Op.EXPAND and n.size >= 8 * n.inputs[0].size:
                operand = below(n.inputs[0], MOVEMENT)
                if is_elementwise(operand.op) and histories[operand].cost >= 4:
                    is_table = is_table_of_places(operand, histories)
                    if self._is_stored(operand, not is_table):
                        roots.add(operand)
        self.viewed = {n for n in self.order if self._is_stored_for_views(n, histories)}
        roots |= self.viewed
        roots |= compared_with_extrema(self.order, roots) - self.inside
        histories = histories_of(self.order, roots, self.inside)
        users: dict[Node, set[Node]] = defaultdict(set)
        for n in reversed(self.order):
            several = n not in roots and n not in self.inside and len(users[n]) > 1
            if several and is_elementwise(n.op) and not is_free_cast(n):
                if self._is_stored(n, is_worth_storing(n, histories)):
                    roots.add(n)
            mine = {n} if n in roots else users[n]
            for x in n.inputs:
                users[x] |= mine
        live = [n for n in self.order if n in roots and (users[n] or n in self.outputs)]
        return [n for n in live if n.op is not Op.BUFFER]

    def _stored_operands(self, dot: Node, histories: Mapping[Node, History]) -> set[Node]:
        """Operands that a dot had better load; those that it must not compute are noted."""
        found = set[Node]()
        for x in dot.inputs:
            operand = below(x, MOVEMENT)
            if operand in self.inside or not is_elementwise(operand.op):
                continue
            if self._is_stored(operand, is_costly_prologue(operand, histories)):
                found.add(operand)
            if is_dear_to_repeat(operand, x, dot, histories, self.limits):
                self.repeated.add((operand, dot))
        return found

    def _is_stored_for_views(self, node: Node, histories: Mapping[Node, History]) -> bool:
        if not is_elementwise(node.op) or node in self.inside:
            return False
        is_dear = is_dear_to_view(node, self.uses, self.outputs, histories, self.limits)
        return is_dear and self._is_stored(node, True)

    def _is_stored(self, node: Node, planned: bool) -> bool:
        """Whether a value is stored that could be computed again where it is read."""
        self.asked[node] = planned
        chosen = self.choices.at_node("value", node, self.names)
        return planned if chosen is None else chosen == "stored"

    def sites(self) -> list[Site]:
        """Where the cut could have gone another way."""
        values = [
            Site(self.names.of("value", n), "stored" if planned else "again", n.nbytes)
            for n, planned in self.asked.items()
            if n not in self.outputs and n.size > TINY
        ]
        return values + [
            Site(self.names.of("join", a, b), "joined", a.nbytes)
            for a, b in self.joined
            if self.group_of[a] is self.group_of[b] and a.size > TINY
        ]

    def _cut_wide_histories(self, roots: set[Node]) -> None:
        """Store values on the way where one kernel would read more buffers than it may, as a norm
        over many parameters does."""
        limit = self.limits.slots - 4
        reads: dict[Node, frozenset[Node]] = {}
        for n in self.order:
            read = [below(x, MOVEMENT) for x in n.inputs]
            found = frozenset[Node]().union(*(reads[x] for x in read))
            while len(found) > limit:
                cut = max(
                    (x for x in read if self._may_cut(x) and x not in roots),
                    key=lambda x: len(reads[x]),
                    default=None,
                )
                if cut is None:
                    break
                roots.add(cut)
                reads[cut] = frozenset({cut})
                found = frozenset[Node]().union(*(reads[x] for x in read))
            reads[n] = frozenset({n}) if n.op is Op.BUFFER or n in roots else found

    def _may_cut(self, n: Node) -> bool:
        return is_elementwise(n.op) and n not in self.inside

    def _end_of_epilogue(self, dot: Node) -> Node:
        """The last node that a dot's kernel can compute before its value is used in two ways: what
        is stored is the activation in its own layout, not the bare product."""
        end = dot
        while end not in self.outputs and len(self.uses[end]) == 1:
            (user,) = self.uses[end]
            moves = user.op in (Op.RESHAPE, Op.PERMUTE)
            if user.size != end.size or not (moves or is_elementwise(user.op)):
                break
            if self.turns.get(user) != self.turns.get(dot) or _hides_by_place(user):
                break
            end = user
        while end.op is Op.RESHAPE or _is_widened(end):  # its readers take it as they need it
            end = end.inputs[0]
        return end

    def _reads(self, root: Node, roots: frozenset[Node]) -> list[Node]:
        """Roots that a root depends on with no root between."""
        met = behind(root.inputs, lambda n: n not in roots)
        return sorted(roots.intersection(met), key=self.position.__getitem__)

    # -- groups ---------------------------------------------------------------------------------

    def run(self) -> list[Fused]:
        for root in self.roots:
            group = self.group_of[root]
            if group.is_chain:
                continue
            built = self._build_alone(root)
            if isinstance(built, Refused):
                raise VerifyError(f"{root} alone is no kernel: {built.reason}", source=root.source)
            group.built = built
        self.sums_alike = self._find_sums_alike()
        groups = [self.group_of[root] for root in self._schedule()]
        self.group_order = GroupOrder(groups, self._readers)
        self._join_rows()
        for root in self.roots:
            for consumer in sorted(self.consumers[root], key=self.position.__getitem__):
                self._join_reader(root, consumer)
        for group in self._groups():
            self._settle(group)
        self._join_columns()
        self._join_siblings()
        return self._finish()

    def _readers(self, group: Group) -> Iterator[Group]:
        return (self.group_of[c] for r in group.roots for c in self.consumers[r])

    def _join_reader(self, root: Node, consumer: Node) -> None:
        a, b = self.group_of[root], self.group_of[consumer]
        if self.choices and self.choices.at(self.names.of("join", root, consumer)) == "apart":
            a.note(b, "measured to be quicker apart")
        elif a is not b and self._try_join(a, b):
            self.joined[root, consumer] = None

    def _find_sums_alike(self) -> set[Node]:
        """Reductions of whole buffers to scalars of which there are many of one form, as in a norm
        over all gradients: each stays alone, so that all share one launch."""
        alike: dict[Region, list[Node]] = defaultdict(list)
        for root in self.roots:
            form = self._form(self.group_of[root])
            if root.op in REDUCE and root.size == 1 and form is not None:
                alike[form].append(root)
        return {r for roots in alike.values() if len(roots) >= MANY for r in roots}

    def _form(self, group: Group) -> Region | None:
        return form_of(group.region)

    def _stored(self, roots: list[Node], inside: Collection[Node]) -> list[Node]:
        """Those of the roots of one kernel that others read, or the caller."""
        return [
            r for r in roots if r in self.outputs or any(c not in inside for c in self.consumers[r])
        ]

    def _build(self, roots: list[Node], chain: bool = False) -> Built | Refused:
        inside = set(roots)
        stored = self._stored(roots, inside)
        leaves = {p for r in roots for p in self.producers[r] if p not in inside}
        return self.builder.build(_name(roots, stored), roots, stored, leaves, chain)

    def _pointwise(self, group: Group) -> Pointwise | None:
        """What a group computes if it is one map; of a root alone it is found when asked for."""
        root = group.roots[0]
        if len(group.roots) == 1 and root not in self.maps:
            self.maps[root] = pointwise_of(root, self.group_of, self.limits.values)
        return group.pointwise if len(group.roots) > 1 else self.maps[root]

    def _draft(self, roots: list[Node], pointwise: Pointwise) -> Draft | Refused | None:
        """What `_build` gives, or will give, for elementwise roots over one shape; None where only
        that shows."""
        if len(pointwise.values) > self.limits.values:
            return None
        inside = set(roots)
        stored, inputs = self._stored(roots, inside), pointwise.loads - inside
        buffers = len(inputs) + len(stored)
        if buffers > self.limits.slots:
            return Refused(f"{buffers} buffers, more than {self.limits.slots} in one kernel")
        return Draft(_name(roots, stored), inputs, tuple(stored))

    def _settle(self, group: Group) -> None:
        """Build what is only drafted."""
        if isinstance(group.built, Draft):
            built = self._build(group.roots)
            if isinstance(built, Refused):
                raise VerifyError(f"{group.name} is no kernel: {built.reason}")
            group.built = built

    def _build_alone(self, root: Node) -> Built | Refused:
        if root.op in CALLS:
            return build_call(_name([root], [root]), root)
        return self._build([root])

    def _try_join(self, a: Group, b: Group, around: bool | None = None) -> bool:
        """Join two groups if that is legal; note the reason in both if it is not.

        Args:
            around: whether a third group stands between them; None if that is not known.
        """
        if a is b:
            return True
        refused = self._refuse_early(a, b)
        if refused is None:
            if self.group_order.has_path_around(a, b) if around is None else around:
                refused = Refused("another kernel stands between them")
        if refused is None:
            roots = sorted({*a.roots, *b.roots}, key=self.position.__getitem__)
            one, two = self._pointwise(a), self._pointwise(b)
            pointwise = one and two and one.joined(two, roots)
            built = (pointwise and self._draft(roots, pointwise)) or self._build(roots)
            if not isinstance(built, Refused):
                self.group_order.join(a, b)
                a.roots, a.built, a.kind, a.pointwise = roots, built, None, pointwise
                a.reasons += b.reasons
                for r in roots:
                    self.group_of[r] = a
                return True
            refused = built
        a.note(b, refused.reason)
        return False

    def _refuse_early(self, a: Group, b: Group) -> Refused | None:
        roots = (*a.roots, *b.roots)
        if len({self.turns[r] for r in roots if r in self.turns}) > 1:
            return Refused("chunks of rows are computed one after the other")
        refused = self._kind(a).refuse(self._kind(b), self.limits.dots)
        if refused is not None:
            return refused
        found = self.repeated.intersection(product(roots, repeat=2)) if self.repeated else ()
        if any(read in self.sums for read, _ in found):
            return Refused("products are added up as they come, so that few are alive at a time")
        if any(read in self.viewed for read, _ in found):
            return Refused("it would be computed again for each window or shift that reads it")
        if found:
            return Refused("a dot would compute its operand again for each of its tiles")
        buffers = _least_buffers(a.built, b.built)
        if buffers > self.limits.slots:
            return Refused(f"{buffers} buffers, more than {self.limits.slots} in one kernel")
        return None

    def _kind(self, group: Group) -> Kind:
        """Of the group as it is; kept until it takes in another."""
        if group.kind is None:
            ops = {r.op for r in group.roots}
            closed = ""
            if group.is_chain:
                closed = "a chain of dots and row reductions stands alone"
            elif not CALLS.isdisjoint(ops):
                closed = "a library call reads and writes whole buffers"
            elif Op.SCATTER in ops:
                closed = "a scatter writes where its index says"
            elif not self.sums_alike.isdisjoint(group.roots):
                closed = "a sum of which there are many shares a launch with its like"
            dots = sum(r.op is Op.DOT for r in group.roots)
            group.kind = Kind(closed, dots, not REDUCE.isdisjoint(ops))
        return group.kind

    def _groups(self) -> list[Group]:
        return list({id(self.group_of[r]): self.group_of[r] for r in self.roots}.values())

    def _join_siblings(self) -> None:
        """Join groups side by side: one domain, and common data, or next to none and no group of
        the same form and another length to share a launch with."""
        groups = self._groups()
        alone = self._find_alone(groups)
        empty = partial(Bucket, self._kind, self.limits.dots)
        buckets: dict[object, Bucket] = defaultdict(empty)
        for group in groups:
            space = group.region.space
            if space.kind not in ("map", "reduce", "scan", "dot"):
                continue
            key = (space.kind, *(tuple(a.extent for a in getattr(space, g)) for g in GROUPS))
            bucket = buckets[key]
            near = bucket.near(group, id(group) in alone)
            around = self.group_order.with_path_around(group, near) if near else frozenset[int]()
            for other in near:
                both = id(group) in alone and id(other) in alone
                if not self._is_sibling(group, other, both):
                    continue
                if self._try_join(other, group, id(other) in around):
                    self._settle(other)
                    bucket.note_inputs(other)
                    break
            else:
                bucket.add(group, id(group) in alone)

    def _find_alone(self, groups: Sequence[Group]) -> set[int]:
        """Groups, by identity, that share no launch with their like, or do so as well as one
        kernel: they are few and over one domain."""
        alike: dict[Region | None, list[Group]] = defaultdict(list)
        for group in groups:
            form = self._form(group)
            if form is not None and walks_whole_buffers(form):
                form = as_single(form)
            alike[form].append(group)
        alone: set[int] = set()
        for form, members in alike.items():
            domains = {tuple(a.extent for a in g.region.axes) for g in members}
            if len(members) == 1 or (form and len(domains) == 1 and len(members) < MANY):
                alone.update(map(id, members))
        return alone

    def _join_columns(self) -> None:
        """Join sums of columns in parts (row_columns.py) with a kernel of rows that reads what they
        read."""
        for root in self.roots:
            wide = root.inputs[0] if root.op is Op.REDUCE_SUM else root
            axes = root.attr("axes") if root.op is Op.REDUCE_SUM else ()
            if not axes or 0 in axes or len(wide.shape) - 1 in axes or not self.limits.columns:
                continue
            mine = self.group_of[root]
            assert mine.built is not None
            large = {n for n in mine.built.inputs if n.size >= wide.size}
            for other in self._groups():
                assert other.built is not None
                if other is mine or other.region.space.kind != "reduce":
                    continue
                stores = any(n.size == wide.size for n in other.built.outputs)
                if stores and large & set(other.built.inputs) and self._try_join(other, mine):
                    break

    def _join_rows(self) -> None:
        """Join reductions of the rows of one large value, before any joins what is done with them:
        the row is then read once (softmax's sums and the logit that cross entropy picks)."""
        buckets: dict[object, list[Node]] = defaultdict(list)
        for root in self.roots:
            if root.op not in REDUCE or root.inputs[0].size <= TINY:
                continue
            bucket = buckets[root.inputs[0].shape, root.attr("axes")]
            for other in bucket:
                a, b = self.group_of[other], self.group_of[root]
                assert a.built is not None and b.built is not None
                shared = set(a.built.inputs) & set(b.built.inputs)
                if any(n.size >= root.inputs[0].size for n in shared) and self._try_join(a, b):
                    break
            bucket.append(root)

    def _is_sibling(self, a: Group, b: Group, alone: bool) -> bool:
        assert a.built is not None and b.built is not None
        shared = set(a.built.inputs) & set(b.built.inputs)
        largest = max(n.size for g in (a, b) for n in (*g.roots, *g.built.inputs))  # type: ignore
        if alone and largest <= TINY:
            return True
        return any(n.size > 1 and n.size * 4 >= min(a.roots[-1].size, largest) for n in shared)

    def _finish(self) -> list[Fused]:
        result: list[Fused] = []
        done: set[int] = set()
        for root in self._schedule():
            group = self.group_of[root]
            if id(group) in done:
                continue
            done.add(id(group))
            reasons = tuple(dict.fromkeys(self._current_reasons(group)))
            if root.op is Op.SCATTER:
                result.append(self._scatter_base(root))
            assert isinstance(group.built, Built)
            inputs, stored = group.built.inputs, group.built.outputs
            result.append(Fused(group.region, inputs, stored, reasons))
        return result

    def _current_reasons(self, group: Group) -> list[str]:
        own = f"not with {group.name}:"
        chain = (f"no chain: {self.refused[r]}" for r in group.roots if r in self.refused)
        return [*chain, *(r for r in group.reasons if not r.startswith(own))]

    def _schedule(self) -> list[Node]:
        """One root of each group, in an order that may run."""
        order: list[Node] = []
        done: set[int] = set()
        open_groups: set[int] = set()

        for start in self.roots:
            stack: list[tuple[Group, bool]] = [(self.group_of[start], False)]
            while stack:
                group, ready = stack.pop()
                if ready:
                    done.add(id(group))
                    order.append(group.roots[0])
                    continue
                if id(group) in done:
                    continue
                if id(group) in open_groups:
                    raise VerifyError(
                        f"{group.roots[0]} needs its own result.", source=group.roots[0].source
                    )
                open_groups.add(id(group))
                stack.append((group, True))
                for r in group.roots:
                    for p in self.producers[r]:
                        other = self.group_of[p]
                        if other is not group and id(other) not in done:
                            stack.append((other, False))
        return order

    def _scatter_base(self, root: Node) -> Fused:
        """The kernel that fills a scatter's result with its base."""
        base = root.inputs[0]
        copy = make(Op.RESHAPE, base, shape=base.shape)
        name = "base_of_" + _name([root], [root])
        built = self.builder.build(name, [copy], [copy], set(self.producers[root]))
        if isinstance(built, Refused):
            raise VerifyError(f"{root}: its base is no kernel: {built.reason}", source=root.source)
        return Fused(built.region, built.inputs, (root,), ("its result is scattered into",))


def _least_buffers(a: Built | Draft | None, b: Built | Draft | None) -> int:
    """How many buffers a kernel for both has at least: what they load from others, and what each
    stores that the other does not read."""
    assert a is not None and b is not None
    loaded, stored = {*a.inputs, *b.inputs}, {*a.outputs, *b.outputs}
    return len(loaded - stored) + len(stored - loaded)


def _hides_by_place(node: Node) -> bool:
    """Whether elements from a number on that the plan computes are replaced: by readers, so that
    programs that compute them alone are skipped."""
    if node.op is not Op.WHERE:
        return False
    return any(c.size.op is not Op.BUFFER for c in conditions_of(node.inputs[0]))


def is_computed_once(node: Node) -> bool:
    """Whether no kernel that reads a node computes it again."""
    return node.op in _HEAVY


def is_free_cast(node: Node) -> bool:
    """A cast of something stored: loading the source is as good."""
    return node.op in (Op.CAST, Op.BITCAST)


def _is_widened(node: Node) -> bool:
    """A cast to a larger dtype, which is cheaper to repeat than to store."""
    return node.op is Op.CAST and node.dtype.itemsize > node.inputs[0].dtype.itemsize


def _name(roots: list[Node], stored: list[Node]) -> str:
    """What the kernel computes: labels of its heavy nodes and its result, shape, dtype."""
    heavy = [r for r in roots if r.op in _HEAVY]
    labels: dict[str, None] = {}
    for node in (*heavy, *stored, *roots[-1:]):
        is_exchange = node.op is Op.COLLECTIVE
        label = node.attr("function") if is_exchange else node.source.label
        labels[label or node.op.value] = None
    main = max(stored or roots, key=lambda n: n.size)
    shape = "x".join(map(str, main.shape)) or "scalar"
    words = "_".join(list(labels)[:3])
    text = f"{words}_{shape}_{main.dtype.short}"
    return re.sub(r"\W", "_", text)
