"""What the machine offers: vector width, cores, caches.

In: /proc/cpuinfo and /sys (Linux), or defaults. Out: a `Machine`. Invariant: two machines whose
compiled kernels are not exchangeable have different `isa` texts.
"""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """The processor that kernels are generated for.

    Attributes:
        isa: architecture and a digest of its feature flags.
        vector_bytes: width of the widest vector register that is quick.
        vector_registers: how many of them there are.
        cores: cores that this process may use.
        l1, l2, l3: bytes of data cache, per core for l1 and l2.
        has_bf16_dots: whether an instruction adds products of pairs of bfloat16 in float32, in
            registers of 64 bytes.
        has_byte_dots: the same for products of four bytes in int32.
        has_f16_words: whether instructions turn registers of float16 into float32 and back.
    """

    isa: str
    vector_bytes: int
    vector_registers: int
    cores: int
    l1: int
    l2: int
    l3: int
    has_bf16_dots: bool = False
    has_byte_dots: bool = False
    has_f16_words: bool = False

    def lanes(self, itemsize: int) -> int:
        """Elements of a size that one vector register holds."""
        return self.vector_bytes // itemsize


def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


@lru_cache(maxsize=1)
def processor_name() -> str:
    """What the processor calls itself; its architecture where it does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def _cache_size(level: int, default: int) -> int:
    for index in range(5):
        folder = Path(f"/sys/devices/system/cpu/cpu0/cache/index{index}")
        try:
            if int((folder / "level").read_text()) != level:
                continue
            if (folder / "type").read_text().strip() == "Instruction":
                continue
            text = (folder / "size").read_text().strip()
            return int(text.rstrip("KM")) * {"K": 1 << 10, "M": 1 << 20}.get(text[-1], 1)
        except (OSError, ValueError):
            continue
    return default


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache(maxsize=1)
def detect_machine() -> Machine:
    """The machine that this process runs on."""
    flags = _cpu_flags()
    vector_bytes, registers = 16, 16
    if "avx512f" in flags:
        vector_bytes, registers = 64, 32
    elif "avx2" in flags:
        vector_bytes, registers = 32, 16
    elif platform.machine() in ("aarch64", "arm64"):
        registers = 32
    digest = hashlib.sha256(" ".join(sorted(flags)).encode()).hexdigest()[:12]
    return Machine(
        isa=f"{platform.system()}-{platform.machine()}-{digest}".lower(),
        vector_bytes=vector_bytes,
        vector_registers=registers,
        cores=_cores(),
        l1=_cache_size(1, 32 << 10),
        l2=_cache_size(2, 512 << 10),
        l3=_cache_size(3, 8 << 20),
        has_bf16_dots={"avx512f", "avx512_bf16"} <= flags,
        has_byte_dots={"avx512f", "avx512_vnni"} <= flags,
        has_f16_words=vector_bytes >= 32 and "f16c" in flags,
    )
