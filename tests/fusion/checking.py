"""The check behind every fusion test: regions computed by NumPy equal the graph's interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.rounding import assert_within, bounded
from tgrad import cpu_fallback, triton_gen
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.fusion.device_limits import CPU_LIMITS, Limits
from tgrad.fusion.evaluate import evaluate_region
from tgrad.fusion.partition import Fused
from tgrad.fusion.region_json import region_from_json, region_to_json
from tgrad.graph.node import Node
from tgrad.graph.op import Op
from tgrad.graph.verify import verify
from tgrad.kernel.lower import lower
from tgrad.kernel.verify import verify_kernel
from tgrad.pipeline import canonical_bases, cut_graph
from tgrad.tensor import Tensor


def cut(tensors: Sequence[Tensor], limits: Limits = CPU_LIMITS) -> list[Fused]:
    """Kernels of tensors, after checking that they compute what the graph says."""
    nodes = [t._node for t in tensors]
    verify(nodes)
    bases = canonical_bases(nodes)
    verify(bases, lowered=True)
    fused = cut_graph(bases, limits)
    values: dict[Node, np.ndarray] = {}

    def flat(node: Node) -> np.ndarray:
        if node.op is Op.BUFFER:
            return node.attr("storage").numpy().reshape(-1)
        return values.get(node, np.zeros(node.size, node.dtype.numpy))

    machine, target = cpu_fallback.detect_machine(), triton_gen.target_by_name("sm_90")
    for f in fused:
        configs = [triton_gen.choose_config(f.region, target)]
        if limits.dots == 1:
            configs.append(choose_config(f.region, machine))
        for config in configs:
            verify_kernel(lower(f.region, config))
        assert region_from_json(region_to_json(f.region)) == f.region
        results = evaluate_region(f.region, [flat(n) for n in (*f.inputs, *f.outputs)])
        values.update(zip(f.outputs, results[len(f.inputs) :]))
    for base, node, want in zip(bases, nodes, bounded(nodes)):
        assert_within(flat(base).reshape(node.shape), want)
    return fused
