"""The C generator: Regions in, compiled functions out.

In: Regions and Settings. Out: Artifacts whose entry is a ctypes function of one `void **`, the
base addresses of the region's slots in order. Invariant: equal regions give equal sources, and all
kernels that the cache lacks are compiled in one go.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tgrad.cpu_fallback.compile import KernelSource, compile_kernels
from tgrad.cpu_fallback.emit_c import emit
from tgrad.cpu_fallback.heuristics import choose_config
from tgrad.cpu_fallback.target import Machine, detect_machine
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Artifact, Config, Kernel
from tgrad.kernel.lower import lower
from tgrad.settings import Settings

__all__ = ["Machine", "choose_config", "detect_machine", "emit", "generate"]


def generate(
    regions: Sequence[Region],
    settings: Settings,
    configs: Sequence[Config | None] | None = None,
) -> list[Artifact]:
    """Compile regions for this machine, one Artifact for each, in order.

    Args:
        regions: one kernel's worth of work each.
        settings: where the cache is, which compiler.
        configs: stored configurations; None where the heuristics shall choose.

    Raises:
        CompileError: no compiler, or it refused a kernel.
        CacheError: the cache directory cannot be written.
    """
    machine = detect_machine()
    chosen = list(configs) if configs is not None else [None] * len(regions)
    kernels: list[tuple[Kernel, Config]] = []
    sources: dict[str, KernelSource] = {}
    order: list[str] = []
    for region, stored in zip(regions, chosen):
        config = stored or choose_config(region, machine)
        kernel = lower(region, config)
        text = emit(kernel, config, machine)
        name, count = kernel.name, 1
        while name in sources and sources[name].text != text:
            count += 1
            name = f"{kernel.name}_{count}"
            text = emit(dataclasses.replace(kernel, name=name), config, machine)
        sources[name] = KernelSource(name, text, kernel.source)
        kernels.append((kernel, config))
        order.append(name)
    compiled = compile_kernels(list(sources.values()), settings)
    return [
        Artifact(
            name=name,
            source=sources[name].text,
            path=compiled[name].path,
            entry=compiled[name].entry,
            grid=kernel.num_programs,
            config=config,
        )
        for name, (kernel, config) in zip(order, kernels)
    ]
