"""Regions written by hand for the C generator, and how the tests run them."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tgrad import cpu_fallback
from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.errors import Source
from tgrad.fusion.evaluate import evaluate_region
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
from tgrad.graph import index as ix
from tgrad.graph.index import Bound, Index
from tgrad.graph.op import Op
from tgrad.kernel.ir import Config
from tgrad.settings import Settings, read_settings

SOURCE = Source("train.py", 7, "test")
F32 = dt.float32


def settings_in(folder: Path, cc: str = "") -> Settings:
    """Settings with a cache directory of their own."""
    base = read_settings()
    return dataclasses.replace(base, cache_dir=folder, cc=cc or base.cc)


class Draft:
    """Collects slots, values and stores over named axes."""

    def __init__(self, **extents: int):
        self.axes = tuple(Axis(n, e) for n, e in extents.items())
        self.slots: list[Slot] = []
        self.values: list[Value] = []
        self.stores: list[Store] = []

    def var(self, name: str) -> Index:
        return ix.var(name, self.extent(name))

    def extent(self, name: str) -> int:
        return next(a.extent for a in self.axes if a.name == name)

    def flat(self, names: str) -> Index:
        """Row-major index over named axes."""
        parts = names.split()
        shape = tuple(self.extent(n) for n in parts)
        return ix.flatten(tuple(self.var(n) for n in parts), shape)

    def slot(self, name: str, dtype: DType, size: int, role: str = "in") -> int:
        self.slots.append(Slot(name, dtype, size, role))
        return len(self.slots) - 1

    def add(self, value: Value) -> int:
        self.values.append(value)
        return len(self.values) - 1

    def load(self, slot: int, index: Index | str, mask: Mask = ()) -> int:
        e = self.flat(index) if isinstance(index, str) else index
        return self.add(Load(slot, e, mask, self.slots[slot].dtype))

    def input(self, name: str, names: str, dtype: DType = F32) -> int:
        """A new input slot over named axes, loaded."""
        size = 1
        for n in names.split():
            size *= self.extent(n)
        return self.load(self.slot(name, dtype, size), names)

    def op(self, op: Op, *args: int, dtype: DType | None = None, word: int = 0) -> int:
        return self.add(Compute(op, args, dtype or self.values[args[-1]].dtype, word))

    def reduce(self, op: Op, arg: int, names: str) -> int:
        return self.add(Reduce(op, arg, tuple(names.split()), self.values[arg].dtype))

    def dot(self, a: int, b: int, names: str, dtype: DType | None = None) -> int:
        return self.add(Dot(a, b, tuple(names.split()), dtype or self.values[a].dtype))

    def store(
        self,
        value: int,
        index: Index | str,
        name: str = "out",
        size: int | None = None,
        combine: str = "set",
        mask: Mask = (),
    ) -> None:
        e = self.flat(index) if isinstance(index, str) else index
        count = size
        if count is None:
            count = 1
            for n in index.split() if isinstance(index, str) else ():
                count *= self.extent(n)
        role = "out" if combine == "set" and not e.loaded() else "inout"
        slot = self.slot(name, self.values[value].dtype, count, role)
        self.stores.append(Store(slot, e, value, combine, mask))

    def region(self, name: str, kind: str, **groups: str) -> Region:
        by_name = {a.name: a for a in self.axes}
        space = Space(
            kind,
            **{
                "parallel": (),
                **{g: tuple(by_name[n] for n in v.split()) for g, v in groups.items()},
            },
        )
        region = Region(
            name,
            self.axes,
            tuple(self.slots),
            tuple(self.values),
            tuple(self.stores),
            SOURCE,
            space,
        )
        verify_region(region)
        return region


def random_slots(region: Region, seed: int = 0) -> list[np.ndarray]:
    """Random contents: normal floats, small integers, bools; outputs filled with zeros."""
    rng = np.random.default_rng(seed)
    arrays = []
    for slot in region.slots:
        if slot.role == "out":
            arrays.append(np.zeros(slot.size, slot.dtype.numpy))
        elif slot.dtype.is_float:
            arrays.append(rng.standard_normal(slot.size).astype(slot.dtype.numpy))
        elif slot.dtype.is_bool:
            arrays.append(rng.integers(0, 2, slot.size).astype(bool))
        else:
            arrays.append(rng.integers(0, 5, slot.size).astype(slot.dtype.numpy))
    return arrays


def call(entry: object, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run a kernel on copies of the arrays; all slots afterwards."""
    copies = [np.array(a) for a in arrays]
    pointers = (ctypes.c_void_p * len(copies))(*[c.ctypes.data for c in copies])
    entry(pointers)  # type: ignore[operator]
    return copies


def check(
    region: Region,
    settings: Settings,
    arrays: Sequence[np.ndarray] | None = None,
    tolerance: float = 1e-5,
    config: Config | None = None,
) -> list[np.ndarray]:
    """Compile and run the region; all slots equal the oracle's."""
    given = list(arrays) if arrays is not None else random_slots(region)
    configs = [config] if config is not None else None
    [artifact] = cpu_fallback.generate([region], settings, configs)
    have = call(artifact.entry, given)
    want = evaluate_region(region, given)
    for slot, a, b in zip(region.slots, have, want):
        compare(a, b, tolerance, f"{region.name} {slot.name}\n{artifact.source}")
    return have


def compare(have: np.ndarray, want: np.ndarray, tolerance: float, what: str) -> None:
    """Equal up to `tolerance` relative to the larger of the value and one; NaN equals NaN."""
    assert have.dtype == want.dtype, what
    if have.dtype.kind in "biu":
        np.testing.assert_array_equal(have, want, err_msg=what)
        return
    a, b = have.astype(np.float64), want.astype(np.float64)
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=what)


def matmul(
    m: int, n: int, k: int, a: str = "m k", b: str = "k n", dtype: DType = F32, batch: int = 0
) -> Draft:
    """A draft that ends in the dot of two inputs, stored nowhere yet."""
    extents = {"z": batch} if batch else {}
    draft = Draft(**extents, m=m, n=n, k=k)
    prefix = "z " if batch else ""
    x = draft.input("a", prefix + a, dtype)
    y = draft.input("b", prefix + b, dtype)
    draft.dot(x, y, "k", dtype.accumulator)
    return draft


def dot_region(draft: Draft, name: str = "matmul", batch: bool = False) -> Region:
    """The draft's last value stored over batch, m, n."""
    names = "z m n" if batch else "m n"
    draft.store(len(draft.values) - 1, names)
    groups = {"batch": "z"} if batch else {}
    return draft.region(name, "dot", parallel=names, m="m", n="n", k="k", **groups)


def sums_of(dtype: DType) -> DType:
    """What products of a dtype are added up in."""
    return dt.int32 if dtype in (dt.int8, dt.uint8) else dtype.accumulator


def convolution(
    kind: str,
    n: int,
    c: int,
    o: int,
    h: int,
    k: int,
    pad: int = 0,
    stride: int = 1,
    dtype: DType = F32,
) -> Region:
    """A square convolution as one dot: "forward", "weight" (dW) or "input" (dX, masked)."""
    s = (h + 2 * pad - k) // stride + 1
    if kind == "forward":
        d = Draft(n=n, y=s, x=s, o=o, c=c, i=k, j=k)
        im, w = d.slot("im", dtype, n * c * h * h), d.slot("w", dtype, o * c * k * k)
        row = d.var("y") * stride + d.var("i") - pad
        column = d.var("x") * stride + d.var("j") - pad
        mask = (Bound(row, 0, h), Bound(column, 0, h)) if pad else ()
        place = d.var("n") * (c * h * h) + d.var("c") * (h * h) + row * h + column
        out = d.dot(d.load(im, place, mask), d.load(w, "o c i j"), "c i j", sums_of(dtype))
        d.store(out, d.flat("n o y x"), size=n * o * s * s)
        groups = {"m": "n y x", "n": "o", "k": "c i j"}
    elif kind == "weight":
        d = Draft(o=o, c=c, i=k, j=k, n=n, y=s, x=s)
        dy, im = d.slot("dy", dtype, n * o * s * s), d.slot("im", dtype, n * c * h * h)
        row = d.var("y") * stride + d.var("i") - pad
        column = d.var("x") * stride + d.var("j") - pad
        mask = (Bound(row, 0, h), Bound(column, 0, h)) if pad else ()
        place = d.var("n") * (c * h * h) + d.var("c") * (h * h) + row * h + column
        out = d.dot(d.load(dy, "n o y x"), d.load(im, place, mask), "n y x", sums_of(dtype))
        d.store(out, "o c i j")
        groups = {"m": "o", "n": "c i j", "k": "n y x"}
    else:
        d = Draft(n=n, y=h, x=h, c=c, o=o, i=k, j=k)
        dy, w = d.slot("dy", dtype, n * o * s * s), d.slot("w", dtype, o * c * k * k)
        row, column = d.var("y") + d.var("i") - (k - 1), d.var("x") + d.var("j") - (k - 1)
        mask = (Bound(row, 0, s), Bound(column, 0, s))
        place = d.var("n") * (o * s * s) + d.var("o") * (s * s) + row * s + column
        flipped = d.var("o") * (c * k * k) + d.var("c") * (k * k) + (k * k - 1)
        flipped = flipped - d.var("i") * k - d.var("j")
        out = d.dot(d.load(dy, place, mask), d.load(w, flipped), "o i j", sums_of(dtype))
        d.store(out, d.flat("n c y x"), size=n * c * h * h)
        groups = {"m": "n y x", "n": "c", "k": "o i j"}
    parallel = f"{groups['m']} {groups['n']}"
    return d.region(f"conv_{kind}", "dot", parallel=parallel, **groups)


def depthwise(
    kind: str, n: int, c: int, h: int, w: int, k: int, pad: int = 0, stride: int = 1
) -> Region:
    """A convolution of each channel by itself: "forward", or "weight" (dW); of what exp makes of
    the image."""
    y, x = ((size + 2 * pad - k) // stride + 1 for size in (h, w))
    outer = {"n": n, "c": c, "y": y, "x": x, "i": k, "j": k}
    d = Draft(**{name: outer[name] for name in ("ncyxij" if kind == "forward" else "cijnyx")})
    im = d.slot("im", F32, n * c * h * w)
    row = d.var("y") * stride + d.var("i") - pad
    column = d.var("x") * stride + d.var("j") - pad
    mask = (Bound(row, 0, h), Bound(column, 0, w)) if pad else ()
    place = d.var("n") * (c * h * w) + d.var("c") * (h * w) + row * w + column
    image = d.op(Op.EXP, d.load(im, place, mask))
    if kind == "forward":
        total = d.reduce(Op.REDUCE_SUM, d.op(Op.MUL, image, d.input("w", "c i j")), "i j")
        d.store(d.op(Op.NEG, total), "n c y x")
        return d.region("depthwise_forward", "reduce", parallel="n c y x", row="i j")
    total = d.reduce(Op.REDUCE_SUM, d.op(Op.MUL, d.input("dy", "n c y x"), image), "n y x")
    d.store(total, "c i j")
    return d.region("depthwise_weight", "reduce", parallel="c i j", row="n y x")


def pooling(
    n: int, c: int, h: int, w: int, k: int, pad: int = 0, stride: int = 1, columns: str = "y x"
) -> Region:
    """The maxima of windows, scaled, and which element of its window each is first; the results'
    axes are n, c and these columns."""
    y, x = ((size + 2 * pad - k) // stride + 1 for size in (h, w))
    d = Draft(n=n, c=c, y=y, x=x, i=k, j=k)
    im = d.slot("im", F32, n * c * h * w)
    row = d.var("y") * stride + d.var("i") - pad
    column = d.var("x") * stride + d.var("j") - pad
    mask = (Bound(row, 0, h), Bound(column, 0, w)) if pad else ()
    place = d.var("n") * (c * h * w) + d.var("c") * (h * w) + row * w + column
    image = d.load(im, place, mask)
    if pad:
        lowest = d.add(Const(-np.inf, F32))
        image = d.op(Op.WHERE, d.add(Inside(mask)), image, lowest)
    top = d.reduce(Op.REDUCE_MAX, image, "i j")
    at = d.add(IndexValue(d.var("i") * k + d.var("j"), dt.int32))
    none = d.add(Const(k * k, dt.int32))
    first = d.op(Op.WHERE, d.op(Op.EQ, image, top, dtype=dt.bool_), at, none)
    scaled = d.op(Op.MUL, top, d.input("scale", "n c y x"))
    d.store(scaled, f"n c {columns}")
    d.store(d.reduce(Op.REDUCE_MIN, first, "i j"), f"n c {columns}", "places")
    return d.region("pooling", "reduce", parallel="n c y x", row="i j")
