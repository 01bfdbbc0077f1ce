"""Plans that serve graphs of many sizes.

In: a graph of a form that no plan is for. Out: a plan for its skeleton and larger sizes, with what
its inputs are; or nothing, and the graph gets a plan of its own. Invariant: a graph is run by such
a plan only if its sizes are exactly what the plan's polynomials give, and its values are equal
where they are not inputs. See docs/decisions/0080.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from tgrad.boxes import Box
from tgrad.device import Device
from tgrad.dtype import DType, int64
from tgrad.errors import ShapeError, TraceError
from tgrad.graph.demand import EVERYTHING
from tgrad.graph.form import Form
from tgrad.graph.general import General, general_graph
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op
from tgrad.graph.size import Extent, Scope, Terms, value_of
from tgrad.graph.sized import capacity_of
from tgrad.graph.skeleton import Fit, Skeleton, fit, skeleton_of
from tgrad.pipeline import KEPT_PLANS, Compiled, compile_graph, conditions
from tgrad.runtime.storage import Storage, upload

_INTERPRETED = "numpy"
"""The device on which no size costs a kernel."""
ENOUGH = 3
"""Graphs of one skeleton and different sizes, the last of which gets a plan for many."""
OFTEN = 1000
"""How often one size is served before it gets a plan of its own after all."""
_FITTED = 16
"""Graphs that a fit is made of, at most: the last ones."""
_COUNTED = 1024
"""Values of the symbols that are counted."""
_TRIES = 6
"""Fits and plans that may fail before each graph of a skeleton gets a plan of its own."""
_KEPT = 32
"""Plans of one skeleton, at most: the youngest."""
_WASTE = 4
"""How many times the elements of a graph its plan's memory may have."""


class _Unfilled(Storage):
    """Memory of the largest sizes that is there when the plan runs."""

    __slots__ = ("sizes",)

    def __init__(self, device: Device, dtype: DType, sizes: tuple[Extent, ...]):
        super().__init__(device, dtype, tuple(capacity_of(n) for n in sizes), None)
        self.sizes = sizes


@dataclass(frozen=True, eq=False)
class PaddedPlan:
    """A plan for many sizes.

    Attributes:
        compiled: the plan.
        capacities: the largest values of its symbols.
        varying: which values of the form are inputs.
        sizes: what further inputs are, as polynomials of the symbols.
        order: for each input of its graph, which it is of the form's leaves, values, sizes.
        given, made: where the elements of leaves and results stand; None where all exist.
        scope: holds what else the values of the symbols must meet.
    """

    compiled: Compiled
    capacities: tuple[int, ...]
    varying: tuple[int, ...]
    sizes: tuple[Terms, ...]
    order: tuple[int, ...]
    given: tuple[Box | None, ...]
    made: tuple[Box | None, ...]
    scope: Scope

    def serves(self, values: Sequence[int]) -> bool:
        """Whether a graph of these values fits in, and is not lost in it."""
        if any(n > c for n, c in zip(values, self.capacities)) or not self.scope.holds(values):
            return False
        return not _is_wasted([*self.given, *self.made], values)


def _is_wasted(boxes: Sequence[Box | None], values: Sequence[int]) -> bool:
    """Whether memory is much larger than the elements in it; where all exist there is no box."""
    changing = [box for box in boxes if box is not None]
    elements = sum(prod(box.shape(values)) for box in changing)
    return sum(prod(box.capacities) for box in changing) > _WASTE * elements


@dataclass(frozen=True)
class Served:
    """A plan for graphs of one skeleton, and the values of its symbols for one of them."""

    plan: PaddedPlan
    values: tuple[int, ...]

    def further_inputs(self, form: Form, device: Device) -> list[Storage]:
        """What the plan reads beside the leaves: the form's values that vary, and sizes."""
        sizes = [np.array(value_of(terms, self.values)) for terms in self.plan.sizes]
        numbers = numbers_of(form, self.plan.varying, device)
        return [*numbers, *(upload(n, int64, device) for n in sizes)]


def numbers_of(form: Form, varying: Sequence[int], device: Device) -> list[Storage]:
    """The values of a form that are inputs, in 0-d storages."""
    sites = [form.sites[i] for i in varying]
    return [upload(np.array(s.number).astype(s.dtype.numpy), s.dtype, device) for s in sites]


@dataclass
class _Family:
    """The graphs of one skeleton.

    Attributes:
        sizes: of the last of them.
        first: the values of the first.
        varying: in which values they differed.
        fit: how sizes follow from others; None until there are enough.
        plans: the youngest last.
        counts: how often a plan for many was looked for, by the values of the symbols.
        tries: how often a fit or a plan failed.
    """

    first: tuple[str, ...]
    sizes: OrderedDict[tuple[int, ...], None] = field(default_factory=OrderedDict)
    varying: tuple[int, ...] = ()
    fit: Fit | None = None
    plans: list[PaddedPlan] = field(default_factory=list)
    counts: Counter[tuple[int, ...]] = field(default_factory=Counter)
    tries: int = 0

    def note(self, sizes: tuple[int, ...], values: tuple[str, ...]) -> tuple[int, ...] | None:
        """Remember a graph; what was made for graphs that differ less is forgotten.

        Returns:
            The values of its symbols; None as long as there are too few graphs.
        """
        differ = {i for i, pair in enumerate(zip(values, self.first)) if pair[0] != pair[1]}
        varying = tuple(sorted(differ.union(self.varying)))
        known = None if self.fit is None else self.fit.values(sizes)
        self.sizes[sizes] = None
        self.sizes.move_to_end(sizes)
        if len(self.sizes) > _FITTED:
            self.sizes.popitem(last=False)
        if varying != self.varying or known is None:
            self.varying = varying
            self.plans.clear()
        if known is None and len(self.sizes) >= ENOUGH:
            self.tries += self.fit is not None
            self.fit = fit(list(self.sizes))
            self.counts.clear()
            known = self.fit.values(sizes)
        return known

    def came_often(self, values: tuple[int, ...]) -> bool:
        """Count a graph, and say whether a plan of its own is worth it."""
        if len(self.counts) >= _COUNTED and values not in self.counts:
            self.counts.clear()
        self.counts[values] += 1
        return self.counts[values] > OFTEN

    def capacities(self, values: Sequence[int]) -> list[tuple[int, ...]]:
        """Of a new plan: powers of two; before them those of the last plan too, if these are not
        much larger."""
        own = tuple(1 << (n - 1).bit_length() for n in values)
        last = self.plans[-1].capacities if self.plans else own
        wide = tuple(map(max, own, last))
        return [wide, own] if own != wide and sum(wide) <= 2 * sum(own) else [own]


_families: OrderedDict[tuple[Any, ...], _Family] = OrderedDict()
_lock = threading.RLock()


def plan_for_sizes(
    form: Form,
    outputs: Sequence[Node],
    device: Device,
    donated: Mapping[int, Node] | None = None,
    owner: Hashable = None,
) -> Served | None:
    """A plan that serves a graph among others of its skeleton.

    Args:
        form, outputs: of the graph.
        donated: see `compile_graph`.
        owner: graphs of different owners have nothing to do with each other.

    Returns:
        None where graphs of its skeleton were too few or differ in more than sizes, and where this
        one came so often that a plan of its own is worth the time.
    """
    skeleton = None if device.type == _INTERPRETED else skeleton_of(form)
    if skeleton is None:
        return None
    number = {leaf: i for i, leaf in enumerate(form.leaves)}
    gifts = {} if donated is None else {i: number[leaf] for i, leaf in donated.items()}
    graph = _Graph(skeleton, form, outputs, device, gifts)
    place = (skeleton.rows, device, conditions(), tuple(sorted(gifts.items())), owner)
    with _lock:
        family = _families.setdefault(place, _Family(form.values))
        _families.move_to_end(place)
        if len(_families) > KEPT_PLANS:
            _families.popitem(last=False)
        return _served(family, graph)


@dataclass(frozen=True)
class _Graph:
    """What a plan is looked for.

    Attributes:
        gifts: by position of an output, the number of the leaf that it may overwrite.
    """

    skeleton: Skeleton
    form: Form
    outputs: Sequence[Node]
    device: Device
    gifts: Mapping[int, int]


def _served(family: _Family, graph: _Graph) -> Served | None:
    if family.tries >= _TRIES:
        return None
    values = family.note(graph.skeleton.sizes, graph.form.values)
    if family.fit is None or values is None or family.came_often(values):
        return None
    for plan in reversed(family.plans):
        if plan.serves(values):
            return Served(plan, values)
    made = _new_plan(family, family.fit, values, graph)
    return None if made is None else Served(made, values)


def _new_plan(
    family: _Family, fit: Fit, values: tuple[int, ...], graph: _Graph
) -> PaddedPlan | None:
    """One more plan for a family; None where the graph cannot be one of symbolic sizes."""
    form, varying = graph.form, family.varying

    def buffer(dtype: DType, sizes: tuple[Extent, ...]) -> Node:
        return make(Op.BUFFER, storage=_Unfilled(graph.device, dtype, sizes))

    for capacities in family.capacities(values):
        try:
            general = general_graph(form, graph.outputs, fit, capacities, values, varying, buffer)
        except (TraceError, ShapeError):
            family.tries = _TRIES
            return None
        if not _is_wasted([*map(Box.of, general.given), *map(Box.of, general.made)], values):
            break
    plan = _padded_plan(general, capacities, varying, graph)
    family.plans = [*family.plans[1 - _KEPT :], plan]
    return plan


def _padded_plan(
    general: General, capacities: tuple[int, ...], varying: tuple[int, ...], graph: _Graph
) -> PaddedPlan:
    read = {c.size: None for conditions in general.needed for c in conditions}
    sizes = [n for n in general.sizes.values() if n in read and n not in general.outputs]
    needed = [*general.needed, *[EVERYTHING] * len(sizes)]
    donated = {i: general.leaves[number] for i, number in graph.gifts.items()}
    nodes = [*general.outputs, *sizes]
    compiled, used = compile_graph(nodes, graph.device, donated, needed=needed)
    leaves = [*general.leaves, *general.sizes.values()]
    place = {leaf: i for i, leaf in enumerate(leaves)}
    return PaddedPlan(
        compiled,
        capacities,
        varying,
        tuple(general.sizes),
        tuple(place[leaf] for leaf in used),
        tuple(map(Box.of, general.given)),
        tuple(map(Box.of, general.made)),
        general.scope,
    )
