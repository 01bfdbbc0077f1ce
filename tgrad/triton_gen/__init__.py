"""Triton kernels for NVIDIA and AMD GPUs, and for Triton's interpreter.

In: Regions. Out: Artifacts, ready to launch or, for a named target, to be inspected. Invariant:
nothing here needs a GPU, and triton loads when the first kernel is generated.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from tgrad.errors import DeviceError
from tgrad.fusion.region import Region, Slot
from tgrad.kernel.draft import draft_regions
from tgrad.kernel.ir import Artifact, Config, Draft, StaticFigures, count_launched
from tgrad.kernel.space import Place
from tgrad.settings import Settings
from tgrad.settings import settings as default_settings
from tgrad.triton_gen import prelude
from tgrad.triton_gen.binaries import keep, take, toolchain
from tgrad.triton_gen.compile import (
    attributes_of,
    compile_source,
    compiling,
    import_triton,
    load_module,
    signature_of,
    write_source,
)
from tgrad.triton_gen.emit import emit
from tgrad.triton_gen.emit_batch import arguments_of, pointers_of
from tgrad.triton_gen.heuristics import choose_config
from tgrad.triton_gen.interpreted import InterpretedKernel
from tgrad.triton_gen.kept import KeptKernel, KernelPlace, alone, find, keep_kernel, place_of
from tgrad.triton_gen.search_space import GENERATION, search_space
from tgrad.triton_gen.static import read_figures
from tgrad.triton_gen.target import (
    INTERPRET,
    Target,
    present_target,
    target_by_name,
    target_names,
)

__all__ = [
    "INTERPRET",
    "Target",
    "build",
    "choose_config",
    "compile_drafts",
    "compile_for",
    "dialect_of",
    "draft",
    "emit",
    "generate",
    "keep",
    "place",
    "present_target",
    "search_space",
    "take",
    "target_by_name",
    "target_names",
    "toolchain",
]


def place(target: Target) -> Place:
    """The GPU and Triton's version, which is read without loading it."""
    try:
        version = metadata.version("triton")
    except metadata.PackageNotFoundError:
        version = "none"
    device = f"{target.name}, {target.num_sms} multiprocessors"
    if target.input_precision != "ieee":
        device += f", {target.input_precision}"
    return Place(device, f"Triton {GENERATION}, triton {version}")


def generate(
    regions: Sequence[Region],
    settings: Settings = default_settings,
    target: Target | None = None,
    interpret: bool = False,
) -> list[Artifact]:
    """One launchable artifact per region, in order, each with the heuristic configuration.

    Args:
        target: the GPU; the present one if left out.
        interpret: for Triton's interpreter instead of a GPU.

    Raises:
        DeviceError: triton is missing, or no target is given and there is no GPU.
        CompileError: Triton refuses a kernel.
        CacheError: the cache directory cannot be written.
    """
    if target is None:
        target = INTERPRET if interpret else present_target()
    return build([(r, choose_config(r, target)) for r in regions], settings, target)


def compile_for(
    regions: Sequence[Region], target_name: str, settings: Settings = default_settings
) -> list[Artifact]:
    """Artifacts for a named target, with static figures, on a machine that needs no GPU."""
    target = target_by_name(target_name)
    if target.is_interpreter:
        raise DeviceError(f"{target_name!r} is not a GPU.", "Use a name such as sm_90 or gfx942.")
    return generate(regions, settings, target)


def build(
    work: Sequence[tuple[Region, Config]], settings: Settings, target: Target
) -> list[Artifact]:
    """Artifacts for regions with given configurations, compiled in parallel."""
    return compile_drafts(draft(work, target), settings, target)


def draft(work: Sequence[tuple[Region, Config]], target: Target) -> list[Draft]:
    """Generated sources for regions with given configurations; nothing is compiled.

    Equal work of one line of the user is generated once.
    """
    dialect = dialect_of(target)
    return draft_regions(
        work,
        lambda region, config: replace(config, input_precision=target.input_precision),
        lambda kernel, config: emit(kernel, config, dialect),
    )


def dialect_of(target: Target) -> str:
    """Which small functions kernels of a target call; see prelude.py."""
    if target.is_interpreter:
        return prelude.INTERPRET
    return prelude.GPU_FLOAT8 if target.has_float8 else prelude.GPU


def compile_drafts(drafts: Sequence[Draft], settings: Settings, target: Target) -> list[Artifact]:
    """Compile sources in parallel, one Artifact for each, in order.

    Raises:
        DeviceError: triton is not installed.
        CompileError: Triton refuses a kernel.
        CacheError: the cache directory cannot be written.
    """
    import_triton()
    if target.is_interpreter:
        return [_interpreted(d, settings) for d in drafts]
    distinct = list({id(d): d for d in drafts}.values())
    with compiling(settings.cache_dir):
        threads = min(len(distinct), os.cpu_count() or 1)
        with ThreadPoolExecutor(max(threads, 1), thread_name_prefix="tgrad-triton") as pool:
            made = pool.map(lambda d: _compiled(d, settings, target), distinct)
            artifacts = {id(d): artifact for d, artifact in zip(distinct, made)}
    return [artifacts[id(d)] for d in drafts]


def _compiled(d: Draft, settings: Settings, target: Target) -> Artifact:
    """The kernel; with fewer stages than its draft where those take more shared memory than there
    is, which shows only when it is compiled."""
    kernel = d.kernel
    slots = arguments_of(kernel)
    signature, attributes = signature_of(slots), attributes_of(slots, target)
    place = place_of(d.source, signature, attributes, d.config, target, settings.cache_dir)
    with nullcontext() if place is None else alone(place):
        return _found_or_made(d, slots, place, settings, target)


def _found_or_made(
    d: Draft, slots: tuple[Slot, ...], place: KernelPlace | None, settings: Settings, target: Target
) -> Artifact:
    kernel = d.kernel
    found = None if place is None else find(place)
    if found is not None:
        d = _with_stages(d, found.num_stages, target)
        path = write_source(d.source, kernel.name, settings.cache_dir)
        return _artifact(d, path, found.entry, found.figures, place)
    while True:
        path = write_source(d.source, kernel.name, settings.cache_dir)
        entry = compile_source(kernel.name, d.source, slots, d.config, target, path, kernel.source)
        figures = read_figures(entry, target, import_triton().knobs.nvidia)
        if (figures.shared or 0) <= target.shared_memory or d.config.num_stages <= 1:
            if place is not None:
                keep_kernel(place, KeptKernel(entry, figures, d.config.num_stages))
            return _artifact(d, path, entry, figures, place)
        d = _with_stages(d, d.config.num_stages - 1, target)


def _with_stages(d: Draft, num_stages: int, target: Target) -> Draft:
    if num_stages == d.config.num_stages:
        return d
    config = replace(d.config, num_stages=num_stages)
    return replace(d, config=config, source=emit(d.kernel, config, dialect_of(target)))


def _interpreted(d: Draft, settings: Settings) -> Artifact:
    kernel = d.kernel
    path = write_source(d.source, kernel.name, settings.cache_dir)
    module = load_module(path, d.source)
    entry = InterpretedKernel(kernel.name, module, arguments_of(kernel), _grid(d), kernel.source)
    return _artifact(d, path, entry, StaticFigures(), None)


def _grid(d: Draft) -> int:
    return count_launched(d.config, d.kernel.table)


def _artifact(
    d: Draft, path: Path, entry: object, figures: StaticFigures, place: KernelPlace | None
) -> Artifact:
    return Artifact(
        name=d.kernel.name,
        source=d.source,
        path=str(path),
        entry=entry,
        grid=_grid(d),
        config=d.config,
        figures=figures,
        needs_scratch=d.config.descriptors,
        pointers=pointers_of(d.kernel),
        binary="" if place is None else place.key,
    )
