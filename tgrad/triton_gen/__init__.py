"""Triton kernels for NVIDIA and AMD GPUs, and for Triton's interpreter.

In: Regions. Out: Artifacts, ready to launch or, for a named target, to be inspected. Invariant:
nothing here needs a GPU, and triton loads when the first kernel is generated.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tgrad.errors import DeviceError
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Artifact, Config, Kernel, StaticFigures
from tgrad.kernel.lower import lower
from tgrad.settings import Settings
from tgrad.settings import settings as default_settings
from tgrad.triton_gen import prelude
from tgrad.triton_gen.compile import (
    compile_source,
    compiling,
    import_triton,
    load_module,
    read_figures,
    write_source,
)
from tgrad.triton_gen.emit import emit
from tgrad.triton_gen.heuristics import choose_config
from tgrad.triton_gen.interpreted import InterpretedKernel
from tgrad.triton_gen.target import INTERPRET, Target, present_target, target_by_name

__all__ = [
    "Target",
    "build",
    "choose_config",
    "compile_for",
    "emit",
    "generate",
    "present_target",
    "target_by_name",
]


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
    import_triton()
    kernels = [(lower(region, config), config) for region, config in work]
    if target.is_interpreter:
        return [_interpreted(kernel, config, settings) for kernel, config in kernels]
    with compiling(settings.cache_dir):
        if len(kernels) < 2:
            return [_compiled(k, c, settings, target) for k, c in kernels]
        threads = min(len(kernels), os.cpu_count() or 1)
        with ThreadPoolExecutor(threads, thread_name_prefix="tgrad-triton") as pool:
            return list(pool.map(lambda w: _compiled(w[0], w[1], settings, target), kernels))


def _compiled(kernel: Kernel, config: Config, settings: Settings, target: Target) -> Artifact:
    source = emit(kernel, config, prelude.GPU)
    path = write_source(source, kernel.name, settings.cache_dir)
    entry = compile_source(kernel.name, source, kernel.slots, config, target, path, kernel.source)
    figures = read_figures(entry, target)
    return Artifact(kernel.name, source, str(path), entry, kernel.num_programs, config, figures)


def _interpreted(kernel: Kernel, config: Config, settings: Settings) -> Artifact:
    source = emit(kernel, config, prelude.INTERPRET)
    path = write_source(source, kernel.name, settings.cache_dir)
    module = load_module(path, source)
    entry = InterpretedKernel(kernel.name, module, kernel.slots, kernel.num_programs, kernel.source)
    return Artifact(
        kernel.name, source, str(path), entry, kernel.num_programs, config, StaticFigures()
    )
