"""A plan as a file: what running it needs, and nothing that explains it.

In: a plan with what it meets in the caller's graph. Out: plain data, a file of it, and both back.
Invariant: a file is read only if it is whole and of the key asked for: its first line is a digest
of the key and of all that follows. Lines of the user's are numbers of rows of the graph's key, so
a program that has moved on in its file still finds its plans, and they name its present lines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgrad.cache_files import write_whole
from tgrad.dtype import by_name
from tgrad.errors import Source, VerifyError
from tgrad.runtime.plan import BufferRef, BufferSpec, Compiled, Step

_KINDS = ("input", "output", "temp")


@dataclass(frozen=True)
class KeptPlan:
    """What `Compiled` says, less what can be made again from the graph.

    Attributes:
        executables: for each step, which of the distinct kernels it launches.
        steps, inputs, outputs, temps, arena_bytes, labels: of the plan.
        leaves, results: of `Compiled`.
        binaries: by what the generator finds the distinct kernels.
    """

    executables: tuple[int, ...]
    steps: tuple[Step, ...]
    inputs: tuple[BufferSpec, ...]
    outputs: tuple[BufferSpec, ...]
    temps: tuple[BufferSpec, ...]
    arena_bytes: int
    labels: frozenset[str]
    leaves: tuple[int, ...]
    results: tuple[BufferRef, ...]
    binaries: Any


def kept_plan(compiled: Compiled, executables: Sequence[int], binaries: Any) -> KeptPlan:
    """The part of a plan that is kept."""
    plan = compiled.plan
    return KeptPlan(
        tuple(executables), plan.steps, plan.inputs, plan.outputs, plan.temps, plan.arena_bytes,
        plan.labels, compiled.leaves, compiled.results, binaries,
    )  # fmt: skip


def write_kept(path: Path, key: str, kept: KeptPlan, rows: Mapping[Source, int]) -> None:
    """Write a plan for `read_kept`.

    Args:
        rows: the number of each line of the user's.

    Raises:
        OSError: the system refuses it.
        KeyError: a buffer is of a line that has no number; nothing is written.
        VerifyError: the plan has something that plain data does not say yet.
    """
    body = json.dumps(_data(kept, rows), separators=(",", ":")).encode()
    lines = dict(zip(rows.values(), rows))
    if _plan(json.loads(body), lines) != kept:
        raise VerifyError("A plan that is kept would not be what it was.")
    write_whole(path, _digest(key, body) + b"\n" + body)


def read_kept(path: Path, key: str, lines: Sequence[Source]) -> KeptPlan | None:
    """The plan of a file; None where there is none, or another, or a part of one.

    Args:
        lines: of the user's, by their numbers.
    """
    try:
        digest, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if digest != _digest(key, body):
        return None
    return _plan(json.loads(body), dict(enumerate(lines)))


def _data(kept: KeptPlan, rows: Mapping[Source, int]) -> dict[str, Any]:
    specs = {"inputs": kept.inputs, "outputs": kept.outputs, "temps": kept.temps}
    return {
        "executables": kept.executables,
        "steps": [[_codes(s.buffers), s.starts, s.spans, s.written, s.moved] for s in kept.steps],
        **{
            name: [[b.dtype.name, b.shape, b.nbytes, b.offset, rows[b.source]] for b in buffers]
            for name, buffers in specs.items()
        },
        "arena_bytes": kept.arena_bytes,
        "labels": sorted(kept.labels),
        "leaves": kept.leaves,
        "results": _codes(kept.results),
        "binaries": kept.binaries,
    }


def _plan(data: Mapping[str, Any], lines: Mapping[int, Source]) -> KeptPlan:
    def specs(name: str) -> tuple[BufferSpec, ...]:
        return tuple(
            BufferSpec(by_name(dtype), tuple(shape), nbytes, offset, lines[row])
            for dtype, shape, nbytes, offset, row in data[name]
        )

    steps = enumerate(data["steps"])
    return KeptPlan(
        executables=tuple(data["executables"]),
        steps=tuple(
            Step(n, _buffers(codes), tuple(starts), tuple(spans), tuple(written), moved)
            for n, (codes, starts, spans, written, moved) in steps
        ),
        inputs=specs("inputs"),
        outputs=specs("outputs"),
        temps=specs("temps"),
        arena_bytes=data["arena_bytes"],
        labels=frozenset(data["labels"]),
        leaves=tuple(data["leaves"]),
        results=_buffers(data["results"]),
        binaries=data["binaries"],
    )


def _digest(key: str, body: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\n" + body).hexdigest().encode()


def _codes(buffers: Sequence[BufferRef]) -> list[int]:
    return [len(_KINDS) * b.number + _KINDS.index(b.kind) for b in buffers]


def _buffers(codes: Sequence[int]) -> tuple[BufferRef, ...]:
    return tuple(BufferRef(_KINDS[code % len(_KINDS)], code // len(_KINDS)) for code in codes)
