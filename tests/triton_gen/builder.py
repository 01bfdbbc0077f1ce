"""Regions written by hand, and how the tests run them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.errors import Source
from tgrad.fusion.region import (
    Axis,
    Compute,
    Const,
    Dot,
    IndexValue,
    Inside,
    Load,
    Mask,
    Reduce,
    Region,
    Slot,
    Space,
    Store,
    Value,
)
from tgrad.fusion.verify import verify_region
from tgrad.graph.index import Index, flatten, var
from tgrad.graph.op import Op
from tgrad.kernel.ir import Artifact, Config
from tgrad.kernel.lower import lower
from tgrad.kernel.verify import verify_kernel
from tgrad.settings import settings
from tgrad.triton_gen import build, choose_config
from tgrad.triton_gen.target import INTERPRET, present_target

SOURCE = Source("train.py", 7, "test")


class Builder:
    """Collects axes, slots, values and stores; `region` freezes them."""

    def __init__(self, **extents: int):
        self.axes = tuple(Axis(n, e) for n, e in extents.items())
        self.by_name = {a.name: a for a in self.axes}
        self.inputs: list[Slot] = []
        self.outputs: list[Slot] = []
        self.values: list[Value] = []
        self.stores: list[tuple[int, Index, int, str, Mask]] = []

    def index(self, names: str) -> Index:
        """Row-major index over the named axes, separated by spaces."""
        axes = [self.by_name[n] for n in names.split()]
        shape = tuple(a.extent for a in axes)
        return flatten(tuple(var(a.name, a.extent) for a in axes), shape)

    def var(self, name: str) -> Index:
        return var(name, self.by_name[name].extent)

    def size(self, names: str) -> int:
        return prod(self.by_name[n].extent for n in names.split())

    def add(self, value: Value) -> int:
        self.values.append(value)
        return len(self.values) - 1

    def load(
        self,
        index: str | Index,
        dtype: DType = dt.float32,
        size: int | None = None,
        mask: Mask = (),
    ) -> int:
        """A load from a new input slot."""
        if isinstance(index, str):
            size, index = self.size(index), self.index(index)
        assert size is not None
        slot = len(self.inputs)
        self.inputs.append(Slot(f"in{slot}", dtype, size, "in"))
        return self.add(Load(slot, index, mask, dtype))

    def const(self, value: bool | int | float, dtype: DType = dt.float32) -> int:
        return self.add(Const(value, dtype))

    def iota(self, index: Index, dtype: DType = dt.int64) -> int:
        return self.add(IndexValue(index, dtype))

    def inside(self, mask: Mask) -> int:
        return self.add(Inside(mask))

    def op(self, op: Op, *args: int, dtype: DType | None = None, word: int = 0) -> int:
        return self.add(Compute(op, args, dtype or self.values[args[-1]].dtype, word))

    def reduce(self, op: Op, arg: int, axes: str, dtype: DType | None = None) -> int:
        dtype = dtype or self.values[arg].dtype.accumulator
        return self.add(Reduce(op, arg, tuple(axes.split()), dtype))

    def dot(self, a: int, b: int, axes: str, dtype: DType | None = None) -> int:
        dtype = dtype or self.values[a].dtype.accumulator
        return self.add(Dot(a, b, tuple(axes.split()), dtype))

    def store(
        self,
        value: int,
        index: str | Index,
        dtype: DType | None = None,
        size: int | None = None,
        combine: str = "set",
        mask: Mask = (),
    ) -> None:
        if isinstance(index, str):
            size, index = self.size(index), self.index(index)
        assert size is not None
        dtype = dtype or self.values[value].dtype
        slot = len(self.outputs)
        role = "out" if combine == "set" else "inout"
        self.outputs.append(Slot(f"out{slot}", dtype, size, role))
        self.stores.append((slot, index, value, combine, mask))

    def region(self, name: str, kind: str = "map", **groups: str) -> Region:
        """The region; groups name axes, and "parallel" is the rest if left out."""
        named = {g: tuple(self.by_name[n] for n in ns.split()) for g, ns in groups.items()}
        if kind == "dot":
            named["parallel"] = (*named.get("batch", ()), *named["m"], *named["n"])
        if "parallel" not in named:
            used = {a for axes in named.values() for a in axes}
            named["parallel"] = tuple(a for a in self.axes if a not in used)
        first = len(self.inputs)
        region = Region(
            name,
            self.axes,
            (*self.inputs, *self.outputs),
            tuple(self.values),
            tuple(Store(first + slot, i, v, c, m) for slot, i, v, c, m in self.stores),
            SOURCE,
            Space(kind, **named),
        )
        verify_region(region)
        return region


def runtime(device: str) -> Any:
    if device == "cuda":
        from tgrad.runtime.cuda import CudaRuntime

        return CudaRuntime()
    from tgrad.runtime.interpret import InterpretRuntime

    return InterpretRuntime()


def artifact_of(
    region: Region, config: Config | None = None, device: str = "interpret"
) -> Artifact:
    target = INTERPRET if device == "interpret" else present_target()
    config = config or choose_config(region, target)
    verify_kernel(lower(region, config))
    return build([(region, config)], settings, target)[0]


def run(
    region: Region,
    inputs: Sequence[np.ndarray],
    config: Config | None = None,
    device: str = "interpret",
    before: Sequence[np.ndarray] = (),
) -> list[np.ndarray]:
    """Outputs of a region as flat arrays; `before` is what in-place slots hold first.

    Each output has a guard behind it, which must stay as it was.
    """
    machine = runtime(device)
    artifact = artifact_of(region, config, device)
    memories, outputs = [], []
    rest, kept = list(inputs), list(before)
    guard = np.full(64, 0x5A, np.uint8)
    for slot in region.slots:
        memory = machine.allocate(slot.nbytes + 64)
        fill = np.full(slot.nbytes + 64, 0x5A, np.uint8)
        machine.write(memory, fill)
        if slot.role == "in" or (slot.role == "inout" and kept):
            data = rest.pop(0) if slot.role == "in" else kept.pop(0)
            data = np.ascontiguousarray(data)
            assert data.size == slot.size and data.dtype == slot.dtype.numpy, slot
            machine.write(memory, data)
        if slot.role != "in":
            outputs.append((slot, memory))
        memories.append(memory)
    machine.launch(artifact, memories)
    machine.synchronize()
    results = []
    for slot, memory in outputs:
        raw = machine.read(memory, dt.uint8, (slot.nbytes + 64,))
        assert np.array_equal(raw[slot.nbytes :], guard), f"{slot.name}: written beyond its end"
        results.append(raw[: slot.nbytes].view(slot.dtype.numpy))
    return results


def devices() -> list[str]:
    """Where kernels can run here."""
    try:
        import torch
    except ImportError:
        return ["interpret"]
    return ["interpret", "cuda"] if torch.cuda.is_available() else ["interpret"]
