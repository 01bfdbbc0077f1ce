"""The pipeline: graph outputs in, Plan out. The only place that orders passes.

    outputs ─ rewrite ─▶ canonical graph ─ split long rows ─ partition ─▶ regions ─ order,
    store again, recompute, reuse ─▶ regions in memory ─ generate ─▶ kernels ─▶ Plan

In: nodes. Out: a Plan. Invariant: every pass is pure; plans are kept by graph key, so a second
iteration of the same loop compiles nothing.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tgrad.backend import Backend, backend_by_name, backend_of, capture_of
from tgrad.determinism import (
    are_deterministic_algorithms_enabled,
    is_deterministic_algorithms_warn_only_enabled,
)
from tgrad.device import Device
from tgrad.errors import MemoryLimitError, Source, UnsupportedError, VerifyError
from tgrad.fusion.batching import GROWTH, batch, fewest_launches, gather
from tgrad.fusion.channels_last import copy_channels_last
from tgrad.fusion.choices import (
    LAUNCHES,
    LAYOUT,
    NO_CHOICES,
    PlanChoices,
    Site,
    choices_of,
    distinct,
)
from tgrad.fusion.cost import DeviceFigures, cost_of, predict
from tgrad.fusion.device_limits import Limits
from tgrad.fusion.extrema import keep_nan
from tgrad.fusion.few_outputs import split_few_outputs, sums_to_split
from tgrad.fusion.few_queries import split_few_queries
from tgrad.fusion.inplace import InPlace, reuse_inputs
from tgrad.fusion.limits import with_limits
from tgrad.fusion.long_rows import split_long_rows
from tgrad.fusion.memory_order import keep_order_of_dots
from tgrad.fusion.order import order_for_memory
from tgrad.fusion.ordered import order_scatters
from tgrad.fusion.partition import Fused, partition, places_to_cut
from tgrad.fusion.recompute import Budget, recompute_to_fit
from tgrad.fusion.region import Region, verify_region
from tgrad.fusion.row_chunks import chunk_rows
from tgrad.fusion.row_columns import split_columns
from tgrad.fusion.statistics import save_statistics
from tgrad.fusion.store_again import store_again
from tgrad.fusion.unordered import unordered
from tgrad.graph.demand import EVERYTHING, Needed, needed_elements
from tgrad.graph.form import with_inputs
from tgrad.graph.interpret import interpret
from tgrad.graph.key import graph_key
from tgrad.graph.node import Node, make, toposort
from tgrad.graph.op import REDUCE, Op
from tgrad.graph.rewrite import rewrite
from tgrad.graph.rules import CANONICAL
from tgrad.kernel.ir import Artifact, Config, Draft
from tgrad.precision import input_precision
from tgrad.runtime.execute import execute
from tgrad.runtime.memory import Layout, Lifetime, peak_step, plan_memory
from tgrad.runtime.plan import (
    BufferRef,
    BufferSpec,
    Compiled,
    KernelInfo,
    Plan,
    PlannedGraph,
    Step,
    announce_plan,
)
from tgrad.runtime.planning import current_planning, planning
from tgrad.runtime.storage import Storage, upload
from tgrad.settings import Settings, settings
from tgrad.tune.stored import revision as stored_revision
from tgrad.tune.stored import stored_choices

__all__ = [
    "Compiled",
    "Storage",
    "canonical_bases",
    "compile_graph",
    "conditions",
    "cut_graph",
    "placeholder",
    "run",
    "upload",
    "with_stored",
]

KEPT_PLANS = 256
_PACKINGS = 4
"""How often a memory limit is tightened because the arena has gaps."""
_NAMED_BUFFERS = 5

Gifts = tuple[tuple[int, int], ...]
"""(position of an output, number of the leaf that it may overwrite)"""


_plans: OrderedDict[tuple[Any, ...], Compiled] = OrderedDict()
_lock = threading.RLock()


def compile_graph(
    outputs: Sequence[Node],
    device: Device,
    donated: Mapping[int, Node] | None = None,
    memory_limit: int | None = None,
    needed: Sequence[Needed] | None = None,
) -> tuple[Compiled, list[Node]]:
    """The plan that computes `outputs`, from the cache if this graph was seen before.

    Args:
        outputs: what to compute.
        device: where.
        donated: for positions in `outputs`, the BUFFER node whose memory the result may overwrite.
            Where that is legal, `results` names that input in place of an output.
        memory_limit: bytes that inputs, outputs and temporaries may take together; values are
            computed again instead of kept until they do.
        needed: which elements of each output somebody reads; all of them if left out.

    Returns:
        The plan, and the graph's BUFFER nodes in order of first use.

    Raises:
        MemoryLimitError: they take more.
    """
    key, leaves = graph_key(outputs)
    given = {} if donated is None else donated
    number = {leaf: i for i, leaf in enumerate(leaves)}
    gifts = tuple(sorted((i, number[leaf]) for i, leaf in given.items() if leaf in number))
    asked = tuple(
        frozenset((c.inner, c.capacity, number[c.size]) for c in conditions if c.size in number)
        for conditions in needed or ()
    )
    place = (key, gifts, device, memory_limit, asked, conditions())
    with _lock:
        compiled = _plans.get(place)
        if compiled is None:
            read = [EVERYTHING] * len(outputs) if needed is None else needed
            work = _Work(tuple(outputs), tuple(leaves), device, dict(gifts), memory_limit, read)
            digest = partial(key.digest, gifts, memory_limit, tuple(map(sorted, asked)))
            compiled = _compile(work, settings, _stored_choices(digest, device, settings))
            _plans[place] = compiled
            if len(_plans) > KEPT_PLANS:
                _plans.popitem(last=False)
            announce_plan(compiled, lambda: _planned_graph(digest(), work, compiled))
        _plans.move_to_end(place)
    return compiled, leaves


def run(compiled: Compiled, memories: Sequence[Any]) -> list[Any]:
    """Run a plan once.

    Args:
        compiled: from `compile_graph`.
        memories: of the graph's BUFFER nodes, in order of first use.

    Returns:
        The memory of each output of the graph, in order: a new one, or that of a leaf which it is
        or was written into.
    """
    made = execute(compiled.plan, [memories[i] for i in compiled.leaves])
    return [
        memories[ref.number] if ref.kind == "input" else made[ref.number]
        for ref in compiled.results
    ]


@dataclass(frozen=True)
class _Work:
    """What is planned; see `compile_graph`.

    Attributes:
        leaves: BUFFER nodes, in order of first use.
        gifts: by position of an output, the number of the leaf that it may overwrite.
    """

    outputs: tuple[Node, ...]
    leaves: tuple[Node, ...]
    device: Device
    gifts: Mapping[int, int]
    memory_limit: int | None
    needed: Sequence[Needed]

    def without_memory(self) -> _Work:
        """The same on buffers that hold nothing."""
        table = {n: placeholder(n, self.device) for n in self.leaves}
        needed = [
            frozenset(replace(c, size=table.get(c.size, c.size)) for c in conditions)
            for conditions in self.needed
        ]
        outputs, leaves = tuple(with_inputs(self.outputs, table)), tuple(table.values())
        return replace(self, outputs=outputs, leaves=leaves, needed=needed)


def _planned_graph(key: str, work: _Work, compiled: Compiled) -> PlannedGraph:
    """How a graph is planned again, for the search of `tgrad autotune`."""
    work, target = work.without_memory(), _planned_target()

    def again(choices: PlanChoices) -> Compiled:
        with planning(target or None):
            return _compile(work, None, choices)

    def places(choices: PlanChoices) -> list[Site]:
        with planning(target or None):
            return _places(work, choices)

    return PlannedGraph(key, len(work.leaves), compiled, again, places)


def _places(work: _Work, choices: PlanChoices) -> list[Site]:
    """Where the passes could go another way."""
    backend = _backend(work.device)
    if backend is None:
        return []
    limits = backend.limits
    bases = keep_nan(canonical_bases(work.outputs), limits)
    bases = [_below_reshapes(n) for n in split_long_rows(bases, limits)]
    ordered = [_below_reshapes(n) for n in keep_order_of_dots(bases)]
    nbytes = sum(n.nbytes for n in toposort(bases) if n.op in REDUCE or n.op is Op.DOT)
    found = []
    if ordered != bases:
        planned = "dots" if limits.keeps_order_of_dots else "written"
        found.append(Site(LAYOUT, planned, nbytes))
    chosen = ordered if _keeps_order_of_dots(limits, choices) else bases
    found += sums_to_split(chosen, limits)
    bases = [_below_reshapes(n) for n in split_few_outputs(chosen, limits, choices)]
    bases = [_below_reshapes(n) for n in split_few_queries(bases, limits)]
    bases, copies = copy_channels_last(split_columns(bases, limits), limits)
    chunked = chunk_rows(bases, backend.figures)
    bases = [_below_reshapes(n) for n in chunked.outputs]
    bases = [n for n in bases if n.size and n.op is not Op.BUFFER]
    found += places_to_cut(bases, limits, choices, chunked.turns, copies)
    if limits.shares_launches:
        found.append(Site(LAUNCHES, "shared", nbytes))
    return [s for s in distinct(found) if choices.at(s.name) is None]


def _keeps_order_of_dots(limits: Limits, choices: PlanChoices) -> bool:
    chosen = choices.at(LAYOUT)
    return limits.keeps_order_of_dots if chosen is None else chosen == "dots"


def _stored_choices(digest: Callable[[], str], device: Device, options: Settings) -> PlanChoices:
    """What `tgrad autotune` found for a graph as a whole."""
    backend = _backend(device)
    found = None if backend is None else stored_choices(options, lambda: backend.place(options))
    return choices_of({} if found is None else found.plan(digest))


def _compile(work: _Work, options: Settings | None, choices: PlanChoices) -> Compiled:
    """Plan a graph; without settings no source is generated, and the plan cannot run."""
    backend, needed = _backend(work.device), work.needed
    bases = canonical_bases(work.outputs)
    if backend is not None:
        limits = backend.limits
        if are_deterministic_algorithms_enabled():
            bases = [_below_reshapes(n) for n in order_scatters(bases, limits)]
            _check_order(unordered(bases, limits))
        bases = keep_nan(bases, limits)
        bases = [_below_reshapes(n) for n in split_long_rows(bases, limits)]
        if _keeps_order_of_dots(limits, choices):
            bases = [_below_reshapes(n) for n in keep_order_of_dots(bases)]
        bases = [_below_reshapes(n) for n in split_few_outputs(bases, limits, choices)]
        bases = [_below_reshapes(n) for n in split_few_queries(bases, limits)]
        bases = [_below_reshapes(n) for n in split_columns(bases, limits)]
        bases, copies = copy_channels_last(bases, limits)
        chunked = chunk_rows(bases, backend.figures)
        bases = [_below_reshapes(n) for n in chunked.outputs]
    number = {leaf: i for i, leaf in enumerate(work.leaves)}
    stored = list(dict.fromkeys(b for b in bases if b.op is not Op.BUFFER))
    sizes = [c.size for conditions in needed for c in conditions if c.size in number]
    used = list(dict.fromkeys(n for n in (*toposort(stored), *sizes) if n.op is Op.BUFFER))
    replaces: Mapping[Node, Node] = {}
    if backend is None:
        plan = _host_plan(stored, used, work.device)
    else:
        gifts = ((bases[i], work.leaves[n]) for i, n in work.gifts.items())
        fixed = frozenset((*used, *stored))
        # A buffer that nothing reads is no argument of the plan: it cannot be written either.
        donated = {base: leaf for base, leaf in gifts if leaf not in bases and leaf in fixed}
        cut = cut_graph(stored, backend.limits, choices, chunked.turns, copies)
        cut = [_noted(f, chunked.notes) for f in cut]
        shares = limits.shares_launches and choices.at(LAUNCHES) != "apart"
        given = _Given(donated, fixed, used, stored, shares)
        ordered = order_for_memory(cut, donated, fixed)
        seconds = _seconds(backend.figures)
        ordered = store_again(ordered, donated, fixed, backend.limits, seconds)
        place = _fit(ordered, given, work.memory_limit, seconds)
        replaces = place.replaces
        place = _without_unneeded(place, bases, needed, used)
        plan = replace(_plan(place, stored, used, work.device, backend, options), choices=choices)
    made = {n: i for i, n in enumerate(n for n in stored if n not in replaces)}
    results = tuple(
        BufferRef("output", made[b])
        if b in made
        else BufferRef("input", number[replaces.get(b, b)])
        for b in bases
    )
    return Compiled(plan, tuple(number[n] for n in used), results)


def _check_order(nodes: Sequence[Node]) -> None:
    """Refuse, or warn of, what `use_deterministic_algorithms` does not allow.

    Raises:
        UnsupportedError: results would depend on the order of a race.
    """
    if not nodes:
        return
    error = UnsupportedError(
        f"{nodes[0].source.label} writes numbers to one place in the order in which programs of a "
        "GPU come to it, and use_deterministic_algorithms is on.",
        "Pass warn_only=True, or run it on the device cpu.",
        nodes[0].source,
    )
    if not is_deterministic_algorithms_warn_only_enabled():
        raise error
    warnings.warn(str(error), RuntimeWarning, stacklevel=2)


def _without_unneeded(
    place: _Placed,
    bases: Sequence[Node],
    needed: Sequence[Needed],
    used: Sequence[Node],
) -> _Placed:
    """Kernels that skip what nobody reads."""
    read: dict[Node, Needed] = {}
    for base, conditions in zip(bases, needed):
        known = frozenset(c for c in conditions if c.size in used)
        read[base] = read[base] & known if base in read else known
    elements = needed_elements(read)
    return replace(place, fused=_unique_names([with_limits(f, elements) for f in place.fused]))


def conditions() -> tuple[object, ...]:
    """What plans depend on besides their graph, device and limit."""
    is_ordered = are_deterministic_algorithms_enabled()
    warns = is_deterministic_algorithms_warn_only_enabled()
    return _planned_target(), stored_revision(), input_precision(), is_ordered, warns


def _planned_target() -> str:
    """The target of the scope in which plans are made and not run; "" for the devices here."""
    scope = current_planning()
    return "" if scope is None or scope.target is None else scope.target


def _backend(device: Device) -> Backend | None:
    """Who makes the kernels; nobody on the device "numpy", which interprets the graph."""
    target = _planned_target()
    if target:
        return backend_by_name(target)
    return None if device.type == "numpy" else backend_of(device)


def canonical_bases(outputs: Sequence[Node]) -> list[Node]:
    """The outputs in canonical form; a reshape stands for the node whose memory it shares."""
    return [_below_reshapes(n) for n in save_statistics(rewrite(outputs, CANONICAL))]


def cut_graph(
    bases: Sequence[Node],
    limits: Limits,
    choices: PlanChoices = NO_CHOICES,
    turns: Mapping[Node, int] | None = None,
    copies: Collection[Node] = (),
) -> list[Fused]:
    """Verified kernels of canonical nodes, with unique names, in an order that may run."""
    made = [n for n in bases if n.size and n.op is not Op.BUFFER]
    fused = _unique_names(partition(made, limits, choices, turns, copies))
    for region in {f.region for f in fused}:
        verify_region(region)
    return fused


def _noted(fused: Fused, notes: Mapping[Source, str]) -> Fused:
    """The kernel of a product with what was decided about its line."""
    note = notes.get(fused.region.source)
    if note is None or fused.region.space.kind != "dot":
        return fused
    return replace(fused, reasons=(note, *fused.reasons))


def _below_reshapes(node: Node) -> Node:
    """The node whose memory a reshape shares."""
    while node.op is Op.RESHAPE:
        node = node.inputs[0]
    return node


def _unique_names(fused: Sequence[Fused]) -> list[Fused]:
    """Give kernels that differ different names; equal work keeps one name."""
    named: dict[str, Region] = {}
    result: list[Fused] = []
    for f in fused:
        region, count = f.region, 1
        while named.setdefault(region.name, region) != region:
            count += 1
            region = replace(region, name=f"{f.region.name}_{count}")
        result.append(f if region is f.region else replace(f, region=region))
    return result


def _host_plan(stored: list[Node], used: list[Node], device: Device) -> Plan:
    """The device "numpy": the graph interpreter, with no kernels."""
    abstract = {n: placeholder(n, device) for n in used}
    slots = {abstract[n].attr("storage"): i for i, n in enumerate(used)}
    nodes = with_inputs(stored, abstract)

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return interpret(nodes, lambda storage: arrays[slots[storage]])

    specs = [tuple(_spec(n) for n in group) for group in (used, stored)]
    return Plan(device, (), (), specs[0], specs[1], (), 0, lambda: (), run)


def placeholder(leaf: Node, device: Device) -> Node:
    """A BUFFER with no memory."""
    return make(Op.BUFFER, storage=Storage(device, leaf.dtype, leaf.shape, None))


def _spec(node: Node, offset: int = 0) -> BufferSpec:
    return BufferSpec(node.dtype, node.shape, node.nbytes, offset, node.source)


def _seconds(figures: DeviceFigures) -> Callable[[Fused], float]:
    """The predicted time of a kernel that fills the device."""
    return lambda f: predict(cost_of(f.region), figures.units, figures).seconds


@dataclass(frozen=True)
class _Placed:
    """Kernels with a place for each of their buffers.

    Attributes:
        fused: the kernels, in order.
        replaces: for results written in place, the node whose memory they take.
        refs: the buffer of each node.
        temps: nodes in the arena.
        layout: where they are.
    """

    fused: list[Fused]
    replaces: Mapping[Node, Node]
    refs: Mapping[Node, BufferRef]
    temps: list[Node]
    lifetimes: list[Lifetime]
    layout: Layout


@dataclass(frozen=True)
class _Given:
    """What the memory of a plan depends on beside its kernels.

    Attributes:
        donated: for results, the buffer that they may overwrite.
        fixed: nodes that are no temporaries.
        used, stored: buffers that are read, and results.
        shares_launches: whether kernels of one form may be one launch.
    """

    donated: Mapping[Node, Node]
    fixed: frozenset[Node]
    used: list[Node]
    stored: list[Node]
    shares_launches: bool = True

    def place(self, ordered: Sequence[Fused]) -> _Placed:
        """In place where that is possible."""
        return _place(reuse_inputs(ordered, self.donated, self.fixed), self.used, self.stored)


def _fit(
    ordered: list[Fused], given: _Given, limit: int | None, seconds: Callable[[Fused], float]
) -> _Placed:
    """Kernels with their memory; some run again, later, if all would not fit otherwise."""
    placed = given.place(ordered)
    if limit is None:
        return _share_launches(ordered, placed, given, None)

    made = sum(n.nbytes for n in given.stored if n not in placed.replaces)
    room = allowed = limit - made - sum(n.nbytes for n in given.used)
    again = ordered
    for _ in range(_PACKINGS):
        if placed.layout.nbytes <= room:
            return _share_launches(again, placed, given, room)
        budget = Budget(max(allowed, 0), seconds, given.fixed, given.donated)
        again = recompute_to_fit(ordered, budget)
        placed = given.place(again)
        allowed -= max(placed.layout.nbytes - room, 0)
    if placed.layout.nbytes <= room:
        return _share_launches(again, placed, given, room)
    raise _does_not_fit(placed, limit, placed.layout.nbytes - room)


def _share_launches(
    ordered: list[Fused], placed: _Placed, given: _Given, room: int | None
) -> _Placed:
    """Kernels of one form in shared launches, as far as the plan's memory hardly grows and fits.

    Of the orders tried, that with the fewest launches: with members brought together before results
    are written in place, or after.
    """
    if not given.shares_launches:
        return placed
    donated, fixed, arena = given.donated, given.fixed, placed.layout.nbytes
    results = sum(n.nbytes for n in given.stored if n not in placed.replaces)
    spare = round(GROWTH * (arena + results + sum(n.nbytes for n in given.used)))
    most = arena + spare if room is None else min(arena + spare, room)
    best, fewest = placed, fewest_launches(ordered)
    as_given, grown = reuse_inputs(ordered, donated, fixed), spare + 1
    for growth in (spare, spare // 2, spare // 4):
        if grown <= growth:  # what was tried took no more than this: it would come out the same
            continue
        gathered = gather(ordered, donated, fixed, growth)
        grown = gathered.grown
        for made in (reuse_inputs(gathered.fused, donated, fixed), as_given):
            shared = batch(made.fused, made.replaces, fixed, growth)
            grown = max(grown, shared.grown)
            if len(shared.fused) < len(best.fused):
                found = InPlace(tuple(shared.fused), made.replaces)
                tried = _place(found, given.used, given.stored)
                best = tried if tried.layout.nbytes <= most else best
            if len(best.fused) <= fewest:
                return best
    return best


def _does_not_fit(placed: _Placed, limit: int, excess: int) -> MemoryLimitError:
    lifetimes = placed.lifetimes
    top = peak_step(lifetimes)
    alive = [n for n, t in zip(placed.temps, lifetimes) if t.first <= top <= t.last]
    alive.sort(key=lambda n: -n.nbytes)
    largest = "; ".join(
        f"{n.dtype.short}{list(n.shape)} of {n.source.label} at {n.source}, {n.nbytes:,} bytes"
        for n in alive[:_NAMED_BUFFERS]
    )
    return MemoryLimitError(
        f"the plan takes {limit + excess:,} bytes, {excess:,} more than its memory_limit of "
        f"{limit:,}; what can be computed again is not kept. Of its {len(placed.fused)} kernels, "
        f"{placed.fused[top].region.name} runs at the peak. The largest buffers alive there: "
        f"{largest or 'none'}.",
        "Use a smaller batch or a larger limit; parameters and optimizer state count too.",
    )


def _place(placed: InPlace, used: list[Node], stored: list[Node]) -> _Placed:
    """The buffer of each node, and a layout of the arena."""
    fused, replaces = _unique_names(placed.fused), placed.replaces

    def place(node: Node) -> Node:
        """The node whose memory this one is written into; itself as a rule."""
        while node in replaces:
            node = replaces[node]
        return node

    made = [n for n in stored if n not in replaces]
    refs: dict[Node, BufferRef] = {n: BufferRef("input", i) for i, n in enumerate(used)}
    refs |= {n: BufferRef("output", i) for i, n in enumerate(made)}
    written = [n for n in dict.fromkeys(n for f in fused for n in f.outputs) if n not in refs]
    temps = [n for n in written if place(n) is n]
    refs |= {n: BufferRef("temp", i) for i, n in enumerate(temps)}
    refs |= {n: refs[place(n)] for n in written}
    touched: dict[Node, list[int]] = {n: [] for n in temps}
    for position, f in enumerate(fused):
        for n in (*f.inputs, *f.outputs):
            if place(n) in touched:
                touched[place(n)].append(position)
    lifetimes = [Lifetime(n.nbytes, touched[n][0], touched[n][-1]) for n in temps]
    return _Placed(fused, replaces, refs, temps, lifetimes, plan_memory(lifetimes))


def _plan(
    placed: _Placed,
    stored: list[Node],
    used: list[Node],
    device: Device,
    backend: Backend,
    options: Settings | None,
) -> Plan:
    fused, refs = placed.fused, placed.refs
    made = [n for n in stored if n not in placed.replaces]
    drafts: list[Draft | None] = [None] * len(fused)
    compile_all: Callable[[], tuple[Artifact | None, ...]] = _no_artifacts
    if options is not None:
        drafts, compile_all = _drafts([f.region for f in fused], backend, options)
    kernels = tuple(_info(f, d) for f, d in zip(fused, drafts))
    has_calls = any(f.region.library is not None for f in fused)
    steps = tuple(
        Step(i, tuple(refs[n] for n in (*f.inputs, *f.outputs))) for i, f in enumerate(fused)
    )
    return Plan(
        device,
        kernels,
        steps,
        tuple(_spec(n) for n in used),
        tuple(_spec(n) for n in made),
        tuple(_spec(n, offset) for n, offset in zip(placed.temps, placed.layout.offsets)),
        placed.layout.nbytes,
        compile_all,
        prepare=None if has_calls or options is None else capture_of(device, options),
        replay=Plan.replay if has_calls else _replay(device, backend),
        target=backend.name,
        figures=backend.figures,
        labels=frozenset(n.source.label for n in stored),
    )


def _no_artifacts() -> tuple[Artifact | None, ...]:
    raise VerifyError("A plan of a search has no sources.")


def with_stored(plan: Plan) -> Plan:
    """The plan with the configurations that are stored now: the same steps and memory."""
    backend = _backend(plan.device)
    if backend is None:
        return plan
    drafts, compile_all = _drafts([k.region for k in plan.kernels], backend, settings)
    kernels = tuple(
        k if d is None else replace(k, source=d.source, config=d.config)
        for k, d in zip(plan.kernels, drafts)
    )
    return replace(plan, kernels=kernels, compile=compile_all)


def _drafts(
    regions: Sequence[Region], backend: Backend, options: Settings
) -> tuple[list[Draft | None], Callable[[], tuple[Artifact | None, ...]]]:
    """The source of each step, and how to compile all: calls of a library have and need none."""
    generated = [r for r in regions if r.library is None]
    drafts, compile_all = backend.generate(generated, options, _stored(generated, backend, options))
    each = iter(drafts)

    def compile_kernels() -> tuple[Artifact | None, ...]:
        made = iter(compile_all())
        return tuple(next(made) if r.library is None else None for r in regions)

    return [next(each) if r.library is None else None for r in regions], compile_kernels


def _stored(regions: Sequence[Region], backend: Backend, options: Settings) -> list[Config | None]:
    """What `tgrad autotune` found for each region; None where the heuristic stands."""
    choices = stored_choices(options, lambda: backend.place(options))
    if not choices:
        return [None] * len(regions)
    found: dict[Region, Config | None] = {}
    for region in regions:
        if region not in found:
            found[region] = choices.config(region, backend.space)
    return [found[region] for region in regions]


def _replay(device: Device, backend: Backend) -> str:
    """How a compiled step runs the plan again."""
    if backend.name == "cpu":
        return "one call"
    if device.type == "cuda" or _planned_target() not in ("", "opencl"):
        return "one CUDA graph from the second run on, or launches where copies would take longer"
    return Plan.replay


def _info(fused: Fused, draft: Draft | None) -> KernelInfo:
    region = fused.region
    cost = cost_of(region)
    return KernelInfo(
        name=region.name,
        source="" if draft is None else draft.source,
        line=str(region.source),
        domain=region.domain,
        flops=cost.flops,
        bytes=cost.bytes,
        reasons=fused.reasons,
        config=None if draft is None else draft.config,
        region=region,
    )
