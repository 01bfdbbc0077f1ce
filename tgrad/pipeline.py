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
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
from tgrad.dtype import DType
from tgrad.errors import Source, UnsupportedError, VerifyError
from tgrad.fusion.as_loaded import lay_as_loaded
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
from tgrad.fusion.limits import with_computed_limits, with_limits
from tgrad.fusion.long_rows import split_long_rows
from tgrad.fusion.memory_order import keep_order_of_dots
from tgrad.fusion.order import order_for_memory
from tgrad.fusion.ordered import multiply_runs, order_scatters
from tgrad.fusion.partition import Fused, partition, places_to_cut
from tgrad.fusion.region import Region
from tgrad.fusion.row_chunks import chunk_rows
from tgrad.fusion.row_columns import split_columns
from tgrad.fusion.statistics import save_statistics
from tgrad.fusion.store_again import store_again
from tgrad.fusion.unordered import unordered
from tgrad.fusion.verify import verify_region
from tgrad.fusion.windows import first_bytes, with_windows
from tgrad.graph.demand import EVERYTHING, Condition, Needed, needed_elements
from tgrad.graph.form import with_inputs
from tgrad.graph.interpret import interpret
from tgrad.graph.key import GraphKey, Sources, graph_key, graph_of, sources_of
from tgrad.graph.node import Node, below, make, toposort
from tgrad.graph.op import REDUCE, Op
from tgrad.graph.rewrite import Rule, rewrite
from tgrad.graph.rules import CANONICAL, COMPILED
from tgrad.kernel.ir import Config, Draft, Executable
from tgrad.placement import Given, Placed, fit, unique_names
from tgrad.plan_store import find, keep, place_of
from tgrad.precision import input_precision
from tgrad.runtime.execute import execute
from tgrad.runtime.plan import (
    BufferRef,
    BufferSpec,
    Compiled,
    KernelInfo,
    Plan,
    PlannedGraph,
    announce_plan,
    are_graphs_recorded,
    step_of,
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

Asked = tuple[frozenset[tuple[int, int, int]], ...]
"""For each output the conditions of `Needed`, with the number of a leaf for the size."""


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
            backend, is_ordered = _backend(device), are_deterministic_algorithms_enabled()
            work = _Work(tuple(outputs), tuple(leaves), device, dict(gifts), memory_limit, read,
                         backend, is_ordered)  # fmt: skip
            digest = partial(key.digest, gifts, memory_limit, tuple(map(sorted, asked)))
            compiled = _kept_or_compiled(work, key, asked, digest)
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
        backend: who makes the kernels.
        is_ordered: whether `use_deterministic_algorithms` is on.
    """

    outputs: tuple[Node, ...]
    leaves: tuple[Node, ...]
    device: Device
    gifts: Mapping[int, int]
    memory_limit: int | None
    needed: Sequence[Needed]
    backend: Backend | None
    is_ordered: bool

    def on_graph(self, key: GraphKey, sources: Sources, asked: Asked) -> _Work:
        """The same work on a graph made of its key, whose buffers hold nothing."""

        def leaf(shape: tuple[int, ...], dtype: DType) -> Node:
            return make(Op.BUFFER, storage=Storage(self.device, dtype, shape, None))

        outputs, leaves = graph_of(key, sources, leaf)
        needed = [frozenset(Condition(i, c, leaves[n]) for i, c, n in each) for each in asked]
        needed += [EVERYTHING] * (len(outputs) - len(needed))
        return replace(self, outputs=tuple(outputs), leaves=tuple(leaves), needed=needed)

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


@dataclass(frozen=True)
class _Outputs:
    """What the passes over outputs make of them.

    Attributes:
        written, chosen: with values in the order of axes as written, and as is planned.
        bases: after all passes.
        copies: see `copy_channels_last`.
        turns, notes: see `chunk_rows`.
    """

    written: list[Node]
    chosen: list[Node]
    bases: list[Node]
    copies: frozenset[Node]
    turns: Mapping[Node, int]
    notes: Mapping[Source, str]


def _over_outputs(work: _Work, backend: Backend, choices: PlanChoices) -> _Outputs:
    """The passes that take outputs and return them, in their order."""
    limits, bases = backend.limits, canonical_bases(work.outputs, COMPILED)
    bases = _bases(multiply_runs(bases, limits))
    if work.is_ordered:
        bases = _bases(order_scatters(bases, limits))
        _check_order(unordered(bases, limits))
    bases = keep_nan(bases, limits)
    written = _bases(split_long_rows(bases, limits))
    chosen = written
    if _keeps_order_of_dots(limits, choices):
        chosen = _bases(keep_order_of_dots(written))
    bases = _bases(split_few_outputs(chosen, limits, choices))
    bases = _bases(split_few_queries(bases, limits))
    bases = _bases(split_columns(bases, limits))
    bases, copies = copy_channels_last(bases, limits)
    bases, laid = lay_as_loaded(bases, limits)
    chunked = chunk_rows(_bases(bases), backend.figures)
    bases = _bases(chunked.outputs)
    return _Outputs(written, chosen, bases, copies | laid, chunked.turns, chunked.notes)


def _places(work: _Work, choices: PlanChoices) -> list[Site]:
    """Where the passes could go another way."""
    backend = work.backend
    if backend is None:
        return []
    limits, outputs = backend.limits, _over_outputs(work, backend, choices)
    reductions = (n for n in toposort(outputs.written) if n.op in REDUCE or n.op is Op.DOT)
    nbytes = sum(n.nbytes for n in reductions)
    found = []
    ordered = _bases(keep_order_of_dots(outputs.written))
    if ordered != outputs.written:
        planned = "dots" if limits.keeps_order_of_dots else "written"
        found.append(Site(LAYOUT, planned, nbytes))
    found += sums_to_split(outputs.chosen, limits)
    made = [n for n in outputs.bases if n.size and n.op is not Op.BUFFER]
    found += places_to_cut(made, limits, choices, outputs.turns, outputs.copies)
    if limits.shares_launches:
        found.append(Site(LAUNCHES, "shared", nbytes))
    return [s for s in distinct(found) if choices.at(s.name) is None]


def _keeps_order_of_dots(limits: Limits, choices: PlanChoices) -> bool:
    chosen = choices.at(LAYOUT)
    return limits.keeps_order_of_dots if chosen is None else chosen == "dots"


def _kept_or_compiled(
    work: _Work, key: GraphKey, asked: Asked, digest: Callable[[], str]
) -> Compiled:
    """The plan that an earlier process kept, or a new one."""
    backend, options = work.backend, settings
    if backend is None:
        return _compile(work, options, NO_CHOICES)
    found = stored_choices(options, lambda: backend.place(options))
    choices = choices_of({} if found is None else found.plan(digest))
    place = None
    if current_planning() is None and not (are_graphs_recorded() or work.is_ordered):
        tuned = "" if found is None else found.digest
        more = sorted(work.gifts.items()), work.memory_limit, [sorted(a) for a in asked], tuned
        sources = sources_of(work.outputs)
        place = place_of(key, more, sources, work.device, backend, options)
    if place is None:
        return _compile(work, options, choices)
    less = replace(work, outputs=(), leaves=(), needed=())

    def again() -> Compiled:
        return _compile(less.on_graph(key, place.sources, asked), options, choices)

    kept = find(place, again, _replay(work.device, backend))
    return keep(place, _compile(work, options, choices)) if kept is None else kept


def _compile(work: _Work, options: Settings | None, choices: PlanChoices) -> Compiled:
    """Plan a graph; without settings no source is generated, and the plan cannot run."""
    backend, needed = work.backend, work.needed
    outputs = None if backend is None else _over_outputs(work, backend, choices)
    bases = canonical_bases(work.outputs) if outputs is None else outputs.bases
    number = {leaf: i for i, leaf in enumerate(work.leaves)}
    stored = list(dict.fromkeys(b for b in bases if b.op is not Op.BUFFER))
    sizes = {c.size for conditions in needed for c in conditions if c.size in number}
    sizes_in_order = sorted(sizes, key=number.__getitem__)
    used = list(dict.fromkeys(n for n in (*toposort(stored), *sizes_in_order) if n.op is Op.BUFFER))
    replaces: Mapping[Node, Node] = {}
    if backend is None or outputs is None:
        plan = _host_plan(stored, used, work.device)
    else:
        limits = backend.limits
        gifts = ((bases[i], work.leaves[n]) for i, n in work.gifts.items())
        fixed = frozenset((*used, *stored))
        # A buffer that nothing reads is no argument of the plan: it cannot be written either.
        donated = {base: leaf for base, leaf in gifts if leaf not in bases and leaf in fixed}
        cut = _cut(stored, limits, choices, outputs.turns, outputs.copies)
        cut = with_computed_limits([_noted(f, outputs.notes) for f in cut], stored)
        shares = limits.shares_launches and choices.at(LAUNCHES) != "apart"
        given = Given(donated, fixed, used, stored, shares)
        ordered = order_for_memory(cut, donated, fixed)
        seconds = _seconds(backend.figures)
        ordered = store_again(ordered, donated, fixed, limits, seconds)
        ordered = with_windows(ordered)
        place = fit(ordered, given, work.memory_limit, seconds)
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
    place: Placed,
    bases: Sequence[Node],
    needed: Sequence[Needed],
    used: Sequence[Node],
) -> Placed:
    """Kernels that skip what nobody reads."""
    given = frozenset(used)
    read: dict[Node, Needed] = {}
    for base, conditions in zip(bases, needed):
        known = frozenset(c for c in conditions if c.size in given)
        read[base] = read[base] & known if base in read else known
    elements = {
        n: frozenset(c for c in conditions if c.size in given)
        for n, conditions in needed_elements(read).items()
    }
    return replace(place, fused=unique_names([with_limits(f, elements, used) for f in place.fused]))


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


def canonical_bases(outputs: Sequence[Node], rules: Sequence[Rule] = CANONICAL) -> list[Node]:
    """The outputs in canonical form; a reshape stands for the node whose memory it shares."""
    return _bases(save_statistics(rewrite(outputs, rules)))


def _bases(outputs: Iterable[Node]) -> list[Node]:
    """The nodes whose memory the outputs share, if they are reshapes."""
    return [below(n, (Op.RESHAPE,)) for n in outputs]


def cut_graph(bases: Sequence[Node], limits: Limits) -> list[Fused]:
    """Verified kernels of canonical nodes, with unique names, in an order that may run."""
    return unique_names(_cut(bases, limits))


def _cut(
    bases: Sequence[Node],
    limits: Limits,
    choices: PlanChoices = NO_CHOICES,
    turns: Mapping[Node, int] | None = None,
    copies: Collection[Node] = (),
) -> list[Fused]:
    made = [n for n in bases if n.size and n.op is not Op.BUFFER]
    fused = partition(made, limits, choices, turns, copies)
    for region in {f.region for f in fused}:
        verify_region(region)
    return fused


def _noted(fused: Fused, notes: Mapping[Source, str]) -> Fused:
    """The kernel of a product with what was decided about its line."""
    note = notes.get(fused.region.source)
    if note is None or fused.region.space.kind != "dot":
        return fused
    return replace(fused, reasons=(note, *fused.reasons))


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


def _plan(
    placed: Placed,
    stored: list[Node],
    used: list[Node],
    device: Device,
    backend: Backend,
    options: Settings | None,
) -> Plan:
    fused, refs = placed.fused, placed.refs
    made = [n for n in stored if n not in placed.replaces]
    drafts: list[Draft | None] = [None] * len(fused)
    compile_all: Callable[[], tuple[Executable | None, ...]] = _no_artifacts
    if options is not None:
        drafts, compile_all = _drafts([f.region for f in fused], backend, options)
    kernels = tuple(_info(f, d) for f, d in zip(fused, drafts))
    has_calls = any(f.region.call is not None for f in fused)
    steps = tuple(
        step_of(
            i, f.region, tuple(refs[n] for n in (*f.inputs, *f.outputs)), first_bytes(f), k.bytes
        )
        for i, (f, k) in enumerate(zip(fused, kernels))
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


def _no_artifacts() -> tuple[Executable | None, ...]:
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
) -> tuple[list[Draft | None], Callable[[], tuple[Executable | None, ...]]]:
    """The source of each step, and how to compile all: calls of a library have and need none."""
    generated = [r for r in regions if r.call is None]
    drafts, compile_all = backend.generate(generated, options, _stored(generated, backend, options))
    each = iter(drafts)

    def compile_kernels() -> tuple[Executable | None, ...]:
        made = iter(compile_all())
        return tuple(next(made) if r.call is None else None for r in regions)

    return [next(each) if r.call is None else None for r in regions], compile_kernels


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
