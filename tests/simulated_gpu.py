"""The device `cuda` where there is no GPU: torch's CUDA calls over memory of the host, and kernels
as they are chosen for an H200, run by Triton's interpreter.

    pytest --simulated-gpu --device cuda tests/front

In: what tgrad asks of torch and Triton. Out: results, as a GPU would give them but for rounding.
Invariant: programs run in an order that is drawn anew for each launch; what they read and write
lies in the buffers of their kernel, which begin where kernels rely on it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from triton.runtime.interpreter import InterpreterBuilder

from tests.simulated_torch import SimulatedTorch
from tgrad import triton_gen
from tgrad.device import GPU_ALIGNMENT
from tgrad.kernel import ir
from tgrad.kernel.ir import Draft, Executable
from tgrad.runtime import cuda, profile
from tgrad.runtime.cuda import CudaRuntime
from tgrad.settings import Settings
from tgrad.triton_gen import Target, prelude
from tgrad.triton_gen.emit_batch import arguments_of

CARD = triton_gen.target_by_name("sm_90")
ACCESSES = {"create_masked_load": (0, 1), "create_masked_store": (0, 2),
            "create_atomic_rmw": (1, 3)}  # fmt: skip
"""The interpreter's functions that reach memory: which arguments are addresses and mask."""

CANNOT = {
    "test_copies_by_cuda_itself": "CUDA's library is simulated",
    "test_a_gpt_of_another_process_with_other_hashes": "other processes find no GPU",
    "test_long_rows[cuda-sort]": "the interpreter compares all pairs of a row",
    "test_argsort_of_rows_of_any_length": "the interpreter compares all pairs of a row",
}
"""Tests, or cases of them, that a GPU passes and this one does not, and why."""

Patch = Callable[[object, str, object], None]
"""Sets an attribute of an object."""


class Watch:
    """What the kernel that runs may do.

    Attributes:
        spans: where its buffers begin and where they end, in order; None while none runs.
        order: of its programs.
    """

    def __init__(self) -> None:
        self.random = np.random.default_rng(5)
        self.spans: np.ndarray | None = None
        self.order = np.arange(0)

    def check(self, pointers: Any, mask: Any) -> None:
        """Each element lies in one of the buffers."""
        addresses = pointers.data[mask.data].astype(np.int64)
        if self.spans is None or not addresses.size:
            return
        starts, ends = self.spans
        at = np.searchsorted(starts, addresses, side="right") - 1
        nbytes = max(pointers.get_element_ty().primitive_bitwidth // 8, 1)
        inside = (at >= 0) & (addresses + nbytes <= ends[at])
        assert inside.all(), "a program reads or writes beyond its buffers"

    def install(self, patch: Patch) -> None:
        """Have the interpreter ask."""
        plain = {n: getattr(InterpreterBuilder, n) for n in ("set_grid_idx", *ACCESSES)}

        def set_grid_idx(builder: Any, x: int, y: int, z: int) -> None:
            plain["set_grid_idx"](builder, x if self.spans is None else int(self.order[x]), y, z)

        def checked(name: str) -> Callable[..., Any]:
            pointers, mask = ACCESSES[name]

            def access(builder: Any, *arguments: Any) -> Any:
                self.check(arguments[pointers], arguments[mask])
                return plain[name](builder, *arguments)

            return access

        patch(InterpreterBuilder, "set_grid_idx", set_grid_idx)
        for name in ACCESSES:
            patch(InterpreterBuilder, name, checked(name))


class Kernel:
    """What is launched as Triton's CompiledKernel is."""

    function = packed_metadata = None

    def __init__(self, gpu: SimulatedTorch, watch: Watch, artifact: Executable, kernel: ir.Kernel):
        self.gpu, self.watch, self.kernel, self.grid = gpu, watch, kernel, artifact.grid
        self.entry = cast(Callable[[Sequence[int]], None], artifact.entry)

    def run(self, *arguments: Any) -> None:
        stream, addresses = arguments[3], arguments[9:]
        assert stream == self.gpu.streams[-1].number
        self.gpu.do(partial(self._run, addresses))

    def _run(self, addresses: Sequence[int]) -> None:
        watch = self.watch
        watch.spans, watch.order = self._spans(addresses), watch.random.permutation(self.grid)
        try:
            self.entry(addresses)
        finally:
            watch.spans = None

    def _spans(self, addresses: Sequence[int]) -> np.ndarray:
        """Where buffers begin and end; those that overlap are one."""
        sizes = [s.nbytes for s in arguments_of(self.kernel)]
        found = [*zip(addresses, sizes, strict=True), *self._of_members(addresses[-1])]
        assert not any(a % GPU_ALIGNMENT for a, _ in found), "kernels rely on it"
        return np.array(_joined((a, a + nbytes) for a, nbytes in found)).T

    def _of_members(self, table_address: int) -> list[tuple[int, int]]:
        """A batch's own buffers, and their bytes, by what its table says."""
        table, found = self.kernel.table, list[tuple[int, int]]()
        if table is not None:
            pointer = ctypes.cast(table_address, ctypes.POINTER(ctypes.c_int64))
            for number, slot in enumerate(self.kernel.slots[n] for n in table.own):
                lengths = table.lengths or (slot.size,) * table.members
                for member, length in enumerate(lengths):
                    address = pointer[number * table.members + member]
                    found.append((address, length * slot.dtype.itemsize))
        return found


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def install(patch: Patch = setattr) -> SimulatedTorch:
    """Let tgrad find a GPU, from now on."""
    gpu, watch = SimulatedTorch(), Watch()
    plain_copy, plain_read = CudaRuntime.copy, CudaRuntime.read

    def copy(self: CudaRuntime, target: Any, source: Any) -> None:
        gpu.do(partial(plain_copy, self, target, source))

    def read(self: CudaRuntime, *of: Any) -> np.ndarray:
        return plain_read(self, *of).copy()

    def enqueue(target: int, source: int, nbytes: int, stream: int) -> None:
        gpu.do(partial(ctypes.memmove, target, source, nbytes))

    def compile_drafts(
        drafts: Sequence[Draft], settings: Settings, target: Target
    ) -> list[Executable]:
        made = interpreted(drafts, settings, triton_gen.INTERPRET)
        if target.is_interpreter:
            return list(made)
        return [
            replace(artifact, entry=Kernel(gpu, watch, artifact, draft.kernel), needs_scratch=False)
            for artifact, draft in zip(made, drafts, strict=True)
        ]

    interpreted = triton_gen.compile_drafts
    patch(triton_gen, "present_target", lambda index=0: CARD)
    patch(triton_gen, "dialect_of", lambda target: prelude.INTERPRET)
    patch(triton_gen, "compile_drafts", compile_drafts)
    patch(cuda, "_torch", lambda: gpu)
    patch(profile, "import_module", lambda name: gpu)
    patch(CudaRuntime, "copy", copy)
    patch(CudaRuntime, "read", read)
    patch(CudaRuntime, "copier", lambda self: enqueue)
    patch(CudaRuntime, "pinned", lambda self, numbers: torch.tensor(numbers, dtype=torch.int64))
    watch.install(patch)
    return gpu
