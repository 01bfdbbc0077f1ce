"""What a compiled kernel says about itself, read from its assembly.

In: Triton's CompiledKernel, a Target. Out: StaticFigures. Invariant: nothing runs; a figure whose
tool is missing is None and never a guess.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tgrad.kernel.ir import StaticFigures
from tgrad.triton_gen.target import Target

MATRIX_INSTRUCTION = re.compile(
    r"\b(wgmma\.mma_async[\w.]*|tcgen05\.mma[\w.]*|mma\.sync[\w.]*|v_mfma_\w+|v_wmma_\w+)"
)
_PTX_LOAD = re.compile(r"\bld\.global[.\w:]*?(?:\.v(\d))?\.[bfsu](\d+)\s")
_PTX_COPY = re.compile(r"\bcp\.async\.c[ag]\.shared\.global\S*\s+\[[^\]]*\],\s*\[[^\]]*\],\s*(\w+)")
_PTX_BULK = re.compile(r"\bcp\.async\.bulk\.tensor\.\dd\.shared")
_AMD_LOAD = re.compile(r"\b(?:global|buffer|flat)_load_(\w+)([^\n]*)")
_AMD_BITS = {
    "dwordx4": 128, "dwordx3": 96, "dwordx2": 64, "dword": 32, "ushort": 16, "sshort": 16,
    "short_d16": 16, "short_d16_hi": 16, "ubyte": 8, "sbyte": 8, "ubyte_d16": 8, "sbyte_d16": 8,
    "b128": 128, "b96": 96, "b64": 64, "b32": 32, "u16": 16, "i16": 16, "d16_b16": 16,
    "d16_hi_b16": 16, "u8": 8, "i8": 8, "lds_dword": 32, "lds_dwordx4": 128,
}  # fmt: skip


def read_figures(compiled: Any, target: Target, nvidia_tools: Any) -> StaticFigures:
    """The figures of a kernel.

    Args:
        compiled: Triton's CompiledKernel.
        target: what it was compiled for.
        nvidia_tools: Triton's knobs that name cuobjdump and ptxas.
    """
    asm = compiled.asm
    text = asm.get("ptx") or asm.get("amdgcn") or ""
    found = MATRIX_INSTRUCTION.search(text)
    instruction = found.group(1) if found else None
    shared = getattr(compiled.metadata, "shared", None)
    if target.is_nvidia:
        registers, spills = _nvidia_registers(asm, nvidia_tools)
        widest, copies = nvidia_accesses(text)
    else:
        registers, spills = _amd_registers(text)
        widest, copies = amd_accesses(text)
    return StaticFigures(registers, spills, shared, instruction, widest, copies)


def nvidia_accesses(ptx: str) -> tuple[int, int]:
    """(bits of the widest access of a thread to global memory, number of asynchronous copies).

    >>> nvidia_accesses("ld.global.v4.b32 {a, b, c, d}, [p]; ld.global.b16 e, [q];")
    (128, 0)
    >>> nvidia_accesses("cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10, 0x10;")
    (128, 1)
    """
    widths = [int(v or 1) * int(bits) for v, bits in _PTX_LOAD.findall(ptx)]
    copied = [8 * int(n, 0) for n in _PTX_COPY.findall(ptx)]
    bulk = len(_PTX_BULK.findall(ptx))
    return max((*widths, *copied, *([128] if bulk else ())), default=0), len(copied) + bulk


def amd_accesses(assembly: str) -> tuple[int, int]:
    """The same of AMD's assembly.

    >>> amd_accesses("global_load_dwordx4 v[0:3], v4, s[0:1]; buffer_load_ushort v1, v2, s[4:7], 0")
    (128, 0)
    """
    found = _AMD_LOAD.findall(assembly)
    copies = sum("lds" in f"{kind} {rest}" for kind, rest in found)
    return max((_AMD_BITS.get(kind, 0) for kind, _ in found), default=0), copies


def _amd_registers(text: str) -> tuple[int | None, int | None]:
    counts = {
        key: int(value)
        for key, value in re.findall(
            r"\.(vgpr_count|vgpr_spill_count|sgpr_spill_count):\s+(\d+)", text
        )
    }
    if "vgpr_spill_count" not in counts:
        return counts.get("vgpr_count"), None
    spills = counts["vgpr_spill_count"] + counts.get("sgpr_spill_count", 0)
    return counts.get("vgpr_count"), spills


def _nvidia_registers(asm: Any, tools: Any) -> tuple[int | None, int | None]:
    """Registers a thread and bytes spilled, from cuobjdump, and from ptxas where a stack frame
    may be one that the program asked for (the slow path of sin has one)."""
    output = _run_tool(tools, "cuobjdump", asm.get("cubin"), ".cubin", ["-res-usage"])
    found = re.search(r"REG:(\d+) STACK:(\d+)", output)
    if found is None:
        return None, None
    registers, stack = int(found.group(1)), int(found.group(2))
    if stack == 0:
        return registers, 0
    arch = re.search(r"\.target (sm_\w+)", asm["ptx"])
    flags = ["-v", f"--gpu-name={arch.group(1)}" if arch else "", "-o", os.devnull]
    output = _run_tool(tools, "ptxas", asm["ptx"].encode(), ".ptx", [f for f in flags if f])
    spilled = [int(n) for n in re.findall(r"(\d+) bytes spill (?:stores|loads)", output)]
    return registers, sum(spilled) if spilled else stack


def _run_tool(tools: Any, tool: str, content: bytes | None, suffix: str, flags: list[str]) -> str:
    """Output of one of the programs that Triton ships, or "" if it cannot be run."""
    path = getattr(getattr(tools, tool, None), "path", None)
    if content is None or path is None:
        return ""
    with tempfile.TemporaryDirectory(prefix="tgrad") as folder:
        file = Path(folder) / f"kernel{suffix}"
        file.write_bytes(content)
        try:
            done = subprocess.run(
                [path, *flags, str(file)], capture_output=True, text=True, timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
    return done.stdout + done.stderr
