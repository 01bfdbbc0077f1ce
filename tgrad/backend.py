"""What plans are made for: a device of this machine, or a GPU that need not be there.

In: a Device, or the name of a target. Out: a Backend: limits of fusion, figures of the cost model,
and the generator. Invariant: a backend of a named target needs neither a GPU nor its driver, and
nothing but its own generator is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from tgrad.device import Device
from tgrad.errors import DeviceError, UnsupportedError
from tgrad.fusion.cost import DeviceFigures
from tgrad.fusion.device_limits import (
    CPU_LIMITS,
    GPU_LIMITS,
    INTERPRETER_LIMITS,
    OPENCL_LIMITS,
    Limits,
)
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Config, Draft, Executable
from tgrad.kernel.space import Place, SearchSpace
from tgrad.precision import input_precision
from tgrad.runtime.device import open_device
from tgrad.runtime.plan import Moves, Plan, Program
from tgrad.settings import Settings

if TYPE_CHECKING:
    from tgrad.runtime.opencl import OpenClRuntime

Compile = Callable[[], tuple[Executable, ...]]
Configs = Sequence[Config | None]
"""One for each region; None where the heuristic chooses."""
Capture = Callable[[Plan, "Moves | None"], "Program | None"]
Generate = Callable[[Sequence[Region], Settings, Configs], tuple[list[Draft], Compile]]

CPU_CLOCK = 2.5e9
CPU_BANDWIDTH = 20e9
CPU_LAUNCH = 2e-6
GPU_LAUNCH = 4e-6


@dataclass(frozen=True)
class Binaries:
    """How another process finds the compiled kernels again.

    Attributes:
        key: what they depend on beside their sources: equal where they are exchangeable.
        keep: plain data about them; None where they are no longer in the cache.
        take: the kernels of that data, loaded; None where one is missing or broken.
    """

    key: Callable[[Settings], str]
    keep: Callable[[Sequence[Executable], Settings], dict[str, Any] | None]
    take: Callable[[dict[str, Any], Settings], list[Executable] | None]


@dataclass(frozen=True)
class Backend:
    """How plans for one kind of device are made.

    Attributes:
        name: "cpu", "opencl", "interpret", or a GPU's such as "sm_90".
        limits: what fusion may put into one kernel.
        figures: what the device can do at most.
        generate: regions, settings and configurations in, sources and how to compile them out.
        space: what a search may choose for a region.
        place: where measured times hold, with a compiler of the settings.
        binaries: how its kernels are found again; None where they are made in each process.
    """

    name: str
    limits: Limits
    figures: DeviceFigures
    generate: Generate
    space: Callable[[Region], SearchSpace]
    place: Callable[[Settings], Place]
    binaries: Binaries | None = None


def backend_of(device: Device) -> Backend:
    """The backend of a device of this machine.

    Raises:
        DeviceError: it is "cuda" and torch sees no GPU.
        UnsupportedError: it is "meta".
    """
    if device.type == "meta":
        raise UnsupportedError(
            "a plan for tensors on the device meta, which have no values.",
            "Call the function without tgrad.compile or explain, or on another device.",
        )
    if device.type == "cpu":
        return _cpu()
    if device.type == "opencl":
        return _opencl(device)
    from tgrad import triton_gen

    if device.type == "cuda":
        return _triton(triton_gen.present_target())
    return _triton(triton_gen.INTERPRET)


def capture_of(device: Device, options: Settings) -> Capture | None:
    """How to run all steps of a plan in one call; None where each is launched by itself."""
    if device.type == "cuda":
        from tgrad.runtime.graph_capture import capture_graph

        return capture_graph
    if device.type != "cpu":
        return None
    from tgrad.cpu_fallback.runner import compile_runner
    from tgrad.runtime.capture import CpuCapture

    return lambda plan, moves: CpuCapture(
        plan, plan.compiled, compile_runner(options), None if moves is None else moves.inputs
    )


def backend_by_name(name: str) -> Backend:
    """The backend of a target: "cpu" (this machine's), "opencl", or a GPU such as "sm_90" or
    "gfx942".

    Raises:
        DeviceError: the name is not known.

    >>> backend_by_name("sm_90").figures.units
    132
    """
    if name == "cpu":
        return _cpu()
    if name == "opencl":
        return _opencl(Device("opencl"))
    from tgrad import triton_gen

    if name not in triton_gen.target_names():
        known = ", ".join(("cpu", "opencl", *triton_gen.target_names()))
        raise DeviceError(f"{name!r} is not a target of tgrad.", f"Use one of {known}.")
    return _triton(triton_gen.target_by_name(name))


@lru_cache(maxsize=1)
def _cpu() -> Backend:
    """Figures are assumed from the number of cores and the width of their registers: they are the
    same on every run, and within a factor of two of what is measured."""
    from tgrad import cpu_fallback

    machine = cpu_fallback.detect_machine()

    def generate(
        regions: Sequence[Region], options: Settings, configs: Configs
    ) -> tuple[list[Draft], Compile]:
        drafts = cpu_fallback.draft(regions, configs)
        return drafts, lambda: tuple(cpu_fallback.compile_drafts(drafts, options))

    figures = DeviceFigures(
        name=f"cpu, {machine.cores} cores",
        bandwidth=CPU_BANDWIDTH * machine.cores,
        vector_rate=CPU_CLOCK * 4 * machine.lanes(4) * machine.cores,
        matrix_rate=0.0,
        units=machine.cores,
        launch=CPU_LAUNCH,
        origin=f"assumed: a core does 2 multiply-adds of {8 * machine.vector_bytes} bits a cycle "
        f"at {CPU_CLOCK / 1e9:g} GHz and moves {CPU_BANDWIDTH / 1e9:g} GB/s",
    )
    return Backend(
        "cpu", CPU_LIMITS, figures, generate, cpu_fallback.search_space, cpu_fallback.place,
        Binaries(cpu_fallback.toolchain, cpu_fallback.keep, cpu_fallback.take),
    )  # fmt: skip


@lru_cache(maxsize=8)
def _opencl(device: Device) -> Backend:
    """Sources need no driver; compiling them opens the device."""
    from tgrad.cpu_fallback import opencl

    def generate(
        regions: Sequence[Region], options: Settings, configs: Configs
    ) -> tuple[list[Draft], Compile]:
        drafts = opencl.draft_opencl(regions, configs)

        def compile_all() -> tuple[Executable, ...]:
            runtime = cast("OpenClRuntime", open_device(device))
            return tuple(opencl.build_drafts(drafts, options, runtime.build))

        return drafts, compile_all

    place = Place("opencl", f"OpenCL {opencl.GENERATION}")
    return Backend(
        "opencl", OPENCL_LIMITS, replace(_cpu().figures, name="opencl"), generate,
        opencl.opencl_space, lambda options: place,
    )  # fmt: skip


def _triton(target: object) -> Backend:
    from tgrad import triton_gen

    assert isinstance(target, triton_gen.Target)
    target = replace(target, input_precision=input_precision())

    def generate(
        regions: Sequence[Region], options: Settings, configs: Configs
    ) -> tuple[list[Draft], Compile]:
        work = [(r, c or triton_gen.choose_config(r, target)) for r, c in zip(regions, configs)]
        drafts = triton_gen.draft(work, target)
        return drafts, lambda: tuple(triton_gen.compile_drafts(drafts, options, target))

    figures = DeviceFigures(
        name=target.name,
        bandwidth=target.bandwidth,
        vector_rate=target.vector_rate,
        matrix_rate=target.matrix_rate,
        units=target.num_sms,
        launch=GPU_LAUNCH,
        origin="peak figures of the data sheet",
    )
    limits = INTERPRETER_LIMITS if target.is_interpreter else GPU_LIMITS
    kept = Binaries(lambda options: triton_gen.toolchain(target), triton_gen.keep, triton_gen.take)
    return Backend(
        target.name, limits, figures, generate,
        lambda region: triton_gen.search_space(region, target),
        lambda options: triton_gen.place(target),
        None if target.is_interpreter else kept,
    )  # fmt: skip
