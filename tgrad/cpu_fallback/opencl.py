"""The OpenCL generator: Regions in, sources out, and programs of them for a device to build.

In: Regions. Out: Drafts, and Artifacts whose entry is what the device's `build` made of one.
Invariant: equal regions give equal sources; no driver is needed to generate them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from tgrad.cache_files import write_whole
from tgrad.cpu_fallback.compile import without_header
from tgrad.cpu_fallback.emit_opencl import emit_opencl
from tgrad.cpu_fallback.opencl_heuristics import choose_opencl_config
from tgrad.cpu_fallback.opencl_words import program_text
from tgrad.errors import UNKNOWN, CacheError, VerifyError
from tgrad.fusion.region import Region
from tgrad.kernel.draft import draft_regions
from tgrad.kernel.ir import Artifact, Config, Draft
from tgrad.kernel.space import SearchSpace
from tgrad.settings import Settings

GENERATION = 1
"""Counted up when kernels change so that stored measurements no longer hold."""

ProgramText = Callable[[Sequence[Draft]], str]
Build = Callable[[Sequence[Draft], ProgramText, Path], Sequence[object]]
"""Kernels, the text of a program of some of them, and where what is built may be kept."""


def draft_opencl(
    regions: Sequence[Region], configs: Sequence[Config | None] | None = None
) -> list[Draft]:
    """Generated sources of regions, in order; nothing is compiled.

    Args:
        regions: one kernel's worth of work each; different work has different names.
        configs: stored configurations; None where the heuristics shall choose.
    """
    chosen = list(configs) if configs is not None else [None] * len(regions)
    return draft_regions(
        list(zip(regions, chosen)),
        lambda region, stored: stored or choose_opencl_config(region),
        lambda kernel, config: emit_opencl(kernel),
    )


def text_of(drafts: Sequence[Draft]) -> str:
    """The program of these kernels, without their headers: it is what caches know it by."""
    return program_text("\n".join(without_header(d.source) for d in drafts))


def build_drafts(drafts: Sequence[Draft], settings: Settings, build: Build) -> list[Artifact]:
    """Build kernels, one Artifact for each, in order; each source is written into the cache.

    Args:
        build: a device's.

    Raises:
        CompileError: the driver refused a kernel.
        CacheError: the cache directory cannot be written.
        VerifyError: two different kernels have one name.
    """
    unique = {d.kernel.name: d for d in drafts}
    for d in drafts:
        if without_header(unique[d.kernel.name].source) != without_header(d.source):
            raise VerifyError(
                f"Two different kernels are named {d.kernel.name}.", source=d.kernel.source
            )
    entries = dict(zip(unique, build(list(unique.values()), text_of, settings.cache_dir)))
    paths = {name: _keep(d, settings) for name, d in unique.items()}
    return [
        Artifact(
            name=d.kernel.name,
            source=d.source,
            path=paths[d.kernel.name],
            entry=entries[d.kernel.name],
            grid=d.kernel.num_programs,
            config=d.config,
        )
        for d in drafts
    ]


def _keep(draft: Draft, settings: Settings) -> str:
    """The path of a kernel's readable source, which is written if it is not there."""
    digest = hashlib.sha256(text_of([draft]).encode()).hexdigest()[:8]
    path = settings.cache_dir / "opencl" / "source" / f"{draft.kernel.name}-{digest}.cl"
    try:
        if not path.exists():
            write_whole(path, program_text(draft.source).encode())
    except OSError as error:
        raise CacheError(
            f"The cache directory {path.parent} cannot be written: {error.strerror or error}.",
            "Free some space there, or set TGRAD_CACHE_DIR to a directory that you can write to.",
            source=UNKNOWN,
        ) from error
    return str(path)


def opencl_space(region: Region) -> SearchSpace:
    """Nothing to search: one configuration serves all devices."""
    return SearchSpace((), (), lambda choice: choose_opencl_config(region))
