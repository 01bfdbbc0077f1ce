"""The C generator: Regions in, compiled functions out.

In: Regions and Settings. Out: Artifacts whose entry is a ctypes function of one `void **`, the
base addresses of the region's slots in order. Invariant: equal regions give equal sources, and all
kernels that the cache lacks are compiled in one go. What emits kernels loads with the first of
them: a process whose plans are kept needs none of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tgrad.cpu_fallback.compile import (
    KernelSource,
    compile_kernels,
    find_compiler,
    without_header,
)
from tgrad.cpu_fallback.objects import keep, take
from tgrad.cpu_fallback.target import Machine, detect_machine, processor_name
from tgrad.errors import VerifyError
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Artifact, Config, Draft
from tgrad.kernel.space import Place, SearchSpace
from tgrad.settings import Settings
from tgrad.threads import get_num_threads

__all__ = [
    "Machine",
    "compile_drafts",
    "detect_machine",
    "draft",
    "generate",
    "keep",
    "place",
    "search_space",
    "take",
    "toolchain",
]


def search_space(region: Region) -> SearchSpace:
    """What a search may choose for a region on this machine."""
    from tgrad.cpu_fallback import space

    return space.search_space(region, detect_machine())


def place(settings: Settings) -> Place:
    """This processor with its present number of threads, and the compiler of the settings.

    Raises:
        CompileError: there is no compiler.
    """
    from tgrad.cpu_fallback.space import GENERATION

    machine = detect_machine()
    caches = "/".join(f"{size >> 10}" for size in (machine.l1, machine.l2, machine.l3))
    threads = get_num_threads()
    return Place(
        f"{processor_name()}, {machine.isa}, {caches} KiB, {threads} threads",
        f"C {GENERATION}, {find_compiler(settings, machine).version}",
    )


def toolchain(settings: Settings) -> str:
    """What compiled kernels depend on beside their sources: the processor and the compiler.

    Raises:
        CompileError: there is no compiler.
    """
    machine = detect_machine()
    return f"{machine} {find_compiler(settings, machine)}"


def draft(
    regions: Sequence[Region],
    configs: Sequence[Config | None] | None = None,
    machine: Machine | None = None,
) -> list[Draft]:
    """Generated sources of regions, in order; nothing is compiled.

    Equal work of one line of the user is generated once.

    Args:
        regions: one kernel's worth of work each; different work has different names.
        configs: stored configurations; None where the heuristics shall choose.
        machine: that they are for; this one by default.
    """
    from tgrad.cpu_fallback.emit_c import emit
    from tgrad.cpu_fallback.heuristics import choose_config
    from tgrad.kernel.draft import draft_regions

    machine = machine or detect_machine()
    chosen = list(configs) if configs is not None else [None] * len(regions)
    return draft_regions(
        list(zip(regions, chosen)),
        lambda region, stored: stored or choose_config(region, machine),
        lambda kernel, config: emit(kernel, config, machine),
    )


def compile_drafts(drafts: Sequence[Draft], settings: Settings) -> list[Artifact]:
    """Compile sources for this machine, one Artifact for each, in order.

    Args:
        drafts: kernels of one name have one source.
        settings: where the cache is, which compiler.

    Raises:
        CompileError: no compiler, or it refused a kernel.
        CacheError: the cache directory cannot be written.
        VerifyError: two different kernels have one name.
    """
    sources: dict[str, KernelSource] = {}
    for d in drafts:
        name = d.kernel.name
        known = sources.setdefault(name, KernelSource(name, d.source, d.kernel.source))
        if without_header(known.text) != without_header(d.source):
            raise VerifyError(f"Two different kernels are named {name}.", source=d.kernel.source)
    compiled = compile_kernels(list(sources.values()), settings)
    return [
        Artifact(
            name=d.kernel.name,
            source=d.source,
            path=compiled[d.kernel.name].path,
            entry=compiled[d.kernel.name].entry,
            grid=d.kernel.num_programs,
            config=d.config,
            binary=compiled[d.kernel.name].binary,
        )
        for d in drafts
    ]


def generate(
    regions: Sequence[Region],
    settings: Settings,
    configs: Sequence[Config | None] | None = None,
) -> list[Artifact]:
    """`compile_drafts(draft(regions))`: one Artifact for each region, in order."""
    return compile_drafts(draft(regions, configs), settings)
