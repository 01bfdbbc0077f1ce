"""Leaves that hold NumPy arrays, and their evaluation by the interpreter, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tgrad import dtype as dt
from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.graph.interpret import cast, interpret
from tgrad.graph.node import Node, make
from tgrad.graph.op import Op


@dataclass(eq=False)
class Held:
    """A storage whose value is at hand."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> DType:
        return dt.from_numpy(self.array.dtype)

    @property
    def device(self) -> Device:
        return Device("numpy")


def leaf(array: np.ndarray | Sequence | float, dtype: DType | None = None) -> Node:
    """A buffer node of this value."""
    value = np.array(array)
    return make(Op.BUFFER, storage=Held(value if dtype is None else cast(value, dtype)))


def held(node: Node) -> np.ndarray:
    """The array of a leaf, which a test may change in place."""
    return node.attr("storage").array


def read(storage: Held) -> np.ndarray:
    return storage.array


def values(*nodes: Node) -> list[np.ndarray]:
    return interpret(nodes, read)


def value(node: Node) -> np.ndarray:
    return values(node)[0]
