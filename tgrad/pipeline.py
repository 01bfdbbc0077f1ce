"""The pipeline: graph outputs in, Plan out. The only place that orders passes.

    outputs ─ rewrite ─▶ canonical graph ─ partition ─▶ regions ─ generate ─▶ kernels ─ plan ─▶ Plan

In: nodes. Out: a Plan, or storages with their values. Invariant: every pass is pure; plans are kept
by graph key, so a second iteration of the same loop compiles nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tgrad.device import Device
from tgrad.fusion.cost import cost_of
from tgrad.fusion.legality import CPU_LIMITS, GPU_LIMITS, Limits
from tgrad.fusion.partition import Fused, partition
from tgrad.fusion.region import Region, verify_region
from tgrad.graph.interpret import interpret
from tgrad.graph.key import GraphKey, graph_key
from tgrad.graph.node import Node, make, toposort
from tgrad.graph.op import Op
from tgrad.graph.rewrite import rewrite
from tgrad.graph.rules import CANONICAL
from tgrad.kernel.ir import Artifact, Draft
from tgrad.runtime.device import open_device
from tgrad.runtime.execute import execute
from tgrad.runtime.memory import Lifetime, plan_memory
from tgrad.runtime.plan import BufferRef, BufferSpec, KernelInfo, Plan, Step, announce_plan
from tgrad.runtime.storage import Storage, upload
from tgrad.settings import Settings, settings

__all__ = [
    "Compiled",
    "Storage",
    "canonical_bases",
    "compile_graph",
    "cut_graph",
    "realize",
    "upload",
]

KEPT_PLANS = 256


@dataclass(frozen=True)
class Compiled:
    """A plan and how it meets the caller's graph.

    Attributes:
        plan: what runs.
        leaves: which of the graph's buffers, in order of first use, are the plan's inputs.
        results: for each output of the graph, the plan's output or the leaf that it is.
    """

    plan: Plan
    leaves: tuple[int, ...]
    results: tuple[BufferRef, ...]


_plans: OrderedDict[tuple[GraphKey, Device], Compiled] = OrderedDict()
_lock = threading.RLock()


def compile_graph(outputs: Sequence[Node], device: Device) -> tuple[Compiled, list[Node]]:
    """The plan that computes `outputs`, from the cache if this graph was seen before, and the
    graph's BUFFER nodes in order of first use."""
    key, leaves = graph_key(outputs)
    with _lock:
        compiled = _plans.get((key, device))
        if compiled is None:
            compiled = _compile(outputs, leaves, device, settings)
            _plans[key, device] = compiled
            if len(_plans) > KEPT_PLANS:
                _plans.popitem(last=False)
            announce_plan(compiled.plan)
        _plans.move_to_end((key, device))
    return compiled, leaves


def realize(outputs: Sequence[Node], device: Device) -> list[Storage]:
    """Run the graph of `outputs` on a device.

    Returns:
        One storage for each output. An output that is a buffer already, reshaped or not, shares
        its memory.
    """
    compiled, leaves = compile_graph(outputs, device)
    memories = [leaf.attr("storage").memory for leaf in leaves]
    made = execute(compiled.plan, [memories[i] for i in compiled.leaves])
    return [
        Storage(
            device,
            node.dtype,
            node.shape,
            memories[ref.number] if ref.kind == "input" else made[ref.number],
        )
        for node, ref in zip(outputs, compiled.results)
    ]


def _compile(
    outputs: Sequence[Node], leaves: list[Node], device: Device, options: Settings
) -> Compiled:
    bases = canonical_bases(outputs)
    number = {leaf: i for i, leaf in enumerate(leaves)}
    stored = list(dict.fromkeys(b for b in bases if b.op is not Op.BUFFER))
    results = tuple(
        BufferRef("input", number[b]) if b.op is Op.BUFFER else BufferRef("output", stored.index(b))
        for b in bases
    )
    used = [n for n in toposort(stored) if n.op is Op.BUFFER]
    if device.type == "numpy":
        plan = _host_plan(stored, used, device)
    else:
        limits = CPU_LIMITS if device.type == "cpu" else GPU_LIMITS
        plan = _plan(cut_graph(stored, limits), stored, used, device, options)
    return Compiled(plan, tuple(number[n] for n in used), results)


def canonical_bases(outputs: Sequence[Node]) -> list[Node]:
    """The outputs in canonical form; a reshape stands for the node whose memory it shares."""
    return [_below_reshapes(n) for n in rewrite(outputs, CANONICAL)]


def cut_graph(bases: Sequence[Node], limits: Limits) -> list[Fused]:
    """Verified kernels of canonical nodes, with unique names, in an order that may run."""
    fused = _unique_names(partition([n for n in bases if n.size and n.op is not Op.BUFFER], limits))
    for f in fused:
        verify_region(f.region)
    return fused


def _below_reshapes(node: Node) -> Node:
    """The node whose memory a reshape shares."""
    while node.op is Op.RESHAPE:
        node = node.inputs[0]
    return node


def _unique_names(fused: list[Fused]) -> list[Fused]:
    """Give kernels that differ different names; equal work keeps one name."""
    keys: dict[str, str] = {}
    result: list[Fused] = []
    for f in fused:
        region, count = f.region, 1
        while keys.setdefault(region.name, region.key) != region.key:
            count += 1
            region = replace(region, name=f"{f.region.name}_{count}")
        result.append(replace(f, region=region))
    return result


def _host_plan(stored: list[Node], used: list[Node], device: Device) -> Plan:
    """The device "numpy": the graph interpreter, with no kernels."""
    abstract = {n: _placeholder(n) for n in used}
    slots = {abstract[n].attr("storage"): i for i, n in enumerate(used)}
    nodes = _replace_leaves(stored, abstract)

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return interpret(nodes, lambda storage: arrays[slots[storage]])

    specs = [tuple(_spec(n) for n in group) for group in (used, stored)]
    return Plan(device, (), (), specs[0], specs[1], (), 0, lambda: (), run)


def _placeholder(leaf: Node) -> Node:
    assert leaf.device is not None
    return make(Op.BUFFER, storage=Storage(leaf.device, leaf.dtype, leaf.shape, None))


def _replace_leaves(outputs: Sequence[Node], table: dict[Node, Node]) -> list[Node]:
    made = dict(table)
    for node in toposort(outputs):
        if node not in made:
            inputs = tuple(made[x] for x in node.inputs)
            made[node] = make(node.op, *inputs, **dict(node.attrs)) if inputs else node
    return [made[n] for n in outputs]


def _spec(node: Node, offset: int = 0) -> BufferSpec:
    return BufferSpec(node.dtype, node.shape, node.nbytes, offset)


def _plan(
    fused: list[Fused], stored: list[Node], used: list[Node], device: Device, options: Settings
) -> Plan:
    refs: dict[Node, BufferRef] = {n: BufferRef("input", i) for i, n in enumerate(used)}
    refs |= {n: BufferRef("output", i) for i, n in enumerate(stored)}
    temps = [n for n in dict.fromkeys(n for f in fused for n in f.outputs) if n not in refs]
    refs |= {n: BufferRef("temp", i) for i, n in enumerate(temps)}
    touched: dict[Node, list[int]] = {n: [] for n in temps}
    for position, f in enumerate(fused):
        for n in (*f.inputs, *f.outputs):
            if n in touched:
                touched[n].append(position)
    lifetimes = [Lifetime(n.nbytes, touched[n][0], touched[n][-1]) for n in temps]
    layout = plan_memory(lifetimes)
    regions = [f.region for f in fused]
    drafts, compile_all = _generate(regions, device, options)
    kernels = tuple(_info(f, d) for f, d in zip(fused, drafts))
    steps = tuple(
        Step(i, tuple(refs[n] for n in (*f.inputs, *f.outputs))) for i, f in enumerate(fused)
    )
    return Plan(
        device,
        kernels,
        steps,
        tuple(_spec(n) for n in used),
        tuple(_spec(n) for n in stored),
        tuple(_spec(n, offset) for n, offset in zip(temps, layout.offsets)),
        layout.nbytes,
        compile_all,
    )


def _info(fused: Fused, draft: Draft) -> KernelInfo:
    region = fused.region
    cost = cost_of(region)
    return KernelInfo(
        name=region.name,
        source=draft.source,
        line=str(region.source),
        domain=" x ".join(f"{a.name}={a.extent}" for a in region.axes) or "1",
        flops=cost.flops,
        bytes=cost.bytes,
        reasons=fused.reasons,
        config=draft.config,
        region=region,
    )


def _generate(
    regions: Sequence[Region], device: Device, options: Settings
) -> tuple[list[Draft], Callable[[], tuple[Artifact, ...]]]:
    """Sources of the regions by the generator of the device, and how to compile them."""
    open_device(device)
    if device.type == "cpu":
        from tgrad import cpu_fallback

        drafts = cpu_fallback.draft(regions)
        return drafts, lambda: tuple(cpu_fallback.compile_drafts(drafts, options))
    from tgrad import triton_gen

    target = triton_gen.INTERPRET if device.type == "interpret" else triton_gen.present_target()
    drafts = triton_gen.draft([(r, triton_gen.choose_config(r, target)) for r in regions], target)
    return drafts, lambda: tuple(triton_gen.compile_drafts(drafts, options, target))
