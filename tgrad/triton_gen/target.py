"""GPUs that kernels are generated for.

In: a name such as "sm_90", or the GPU that torch sees. Out: a `Target`. Invariant: nothing here
needs a GPU, and torch loads only when the present GPU is asked for.

Sources: NVIDIA's and AMD's data sheets and programming guides. Bandwidths and rates are peak
figures, good for ordering choices and not for promises.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tgrad.errors import DeviceError


@dataclass(frozen=True, slots=True)
class Target:
    """What a configuration depends on.

    Attributes:
        name: "sm_90", "gfx942", "interpret".
        backend: Triton's name: "cuda" or "hip"; "interpret" for the interpreter.
        arch: Triton's number or name of the architecture.
        warp_size: lanes of a warp or wave.
        shared_memory: bytes of shared memory that one program may use.
        num_sms: multiprocessors or compute units.
        bandwidth: of global memory, bytes/s.
        matrix_rate: float16 FLOP/s of the matrix units.
        vector_rate: float32 FLOP/s without them.
        input_precision: of float32 operands of products: "ieee", or "tf32" for the matrix units.
    """

    name: str
    backend: str
    arch: int | str
    warp_size: int
    shared_memory: int
    num_sms: int
    bandwidth: float
    matrix_rate: float
    vector_rate: float
    input_precision: str = "ieee"

    @property
    def is_nvidia(self) -> bool:
        return self.backend == "cuda"

    @property
    def is_interpreter(self) -> bool:
        return self.backend == "interpret"

    @property
    def has_wgmma(self) -> bool:
        """Whether a group of 4 warps shares one matrix instruction (Hopper)."""
        return self.is_nvidia and self.arch == 90

    @property
    def is_rdna(self) -> bool:
        """Whether waves of 32 lanes share AMD's matrix units, with 256 registers a lane."""
        return self.backend == "hip" and self.warp_size == 32

    @property
    def columns(self) -> int:
        """Of the results of 128 rows of a product that one program keeps in registers without
        spilling: half where operands come through registers, too."""
        return 256 if self.has_tma or self.warp_size == 64 else 128

    @property
    def has_tma(self) -> bool:
        """Whether one instruction copies a tile to shared memory (Hopper and later)."""
        return self.is_nvidia and int(self.arch) >= 90

    @property
    def has_float8(self) -> bool:
        """Whether matrix units and conversions take the 8-bit floats: Ada, Hopper and later. What
        gfx942 has instead are other types (fnuz)."""
        return self.is_nvidia and int(self.arch) >= 89


KIB = 1024

TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("sm_80", "cuda", 80, 32, 163 * KIB, 108, 2.0e12, 312e12, 19.5e12),
        Target("sm_86", "cuda", 86, 32, 99 * KIB, 84, 0.94e12, 142e12, 35e12),
        Target("sm_89", "cuda", 89, 32, 99 * KIB, 128, 1.0e12, 165e12, 82e12),
        Target("sm_90", "cuda", 90, 32, 227 * KIB, 132, 4.8e12, 990e12, 67e12),
        Target("sm_100", "cuda", 100, 32, 227 * KIB, 148, 8.0e12, 2250e12, 80e12),
        Target("gfx942", "hip", "gfx942", 64, 64 * KIB, 304, 5.3e12, 1300e12, 163e12),
        Target("gfx1100", "hip", "gfx1100", 32, 64 * KIB, 96, 0.96e12, 123e12, 61e12),
        Target("interpret", "interpret", 0, 32, 1 << 40, 1, 1e10, 1e10, 1e10),
    )
}

INTERPRET = TARGETS["interpret"]


def target_names() -> tuple[str, ...]:
    """Names of the GPUs that kernels can be generated for."""
    return tuple(name for name, t in TARGETS.items() if not t.is_interpreter)


def target_by_name(name: str) -> Target:
    """The target of a name.

    Raises:
        DeviceError: the name is not known.

    >>> target_by_name("sm_90").warp_size
    32
    """
    if name not in TARGETS:
        known = ", ".join(TARGETS)
        raise DeviceError(f"{name!r} is not a target of tgrad.", f"Use one of {known}.")
    return TARGETS[name]


def present_target(index: int = 0) -> Target:
    """The target of the GPU that torch sees, with its own multiprocessors and memory.

    Raises:
        DeviceError: torch is not installed, or sees no GPU.
    """
    try:
        import torch
    except ImportError:
        raise DeviceError(
            "The device cuda needs torch and triton.", "pip install tgrad[cuda]"
        ) from None
    if not torch.cuda.is_available():
        raise DeviceError(
            "torch sees no GPU.",
            "Use the device cpu, or run `tgrad doctor` to see what is missing.",
        )
    found = torch.cuda.get_device_properties(index)
    if getattr(torch.version, "hip", None):
        arch = found.gcnArchName.split(":")[0]
        base = TARGETS.get(arch, TARGETS["gfx942"])
        return replace(base, name=arch, arch=arch, num_sms=found.multi_processor_count)
    arch = found.major * 10 + found.minor
    known = [t for t in TARGETS.values() if t.is_nvidia and int(t.arch) <= arch]
    if not known:
        raise DeviceError(f"{found.name} is older than sm_80.", "Use the device cpu.")
    base = max(known, key=lambda t: int(t.arch))
    shared = getattr(found, "shared_memory_per_block_optin", base.shared_memory)
    clock, width = (getattr(found, n, 0) for n in ("memory_clock_rate", "memory_bus_width"))
    return replace(
        base,
        name=f"sm_{arch}",
        arch=arch,
        num_sms=found.multi_processor_count,
        shared_memory=shared,
        bandwidth=2 * clock * 1e3 * width / 8 or base.bandwidth,  # kHz of two transfers, bits
    )
