"""What the kernels of six training steps look like compiled, for GPUs that need not be there.

In: the steps, in bfloat16, and a target. Out: a row a kernel; files of rows; what is wrong with
rows. Invariant: nothing runs. A row holds a digest of the generated source, so that a file tells
without a compiler whether it is of the code as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from bench import architectures, models, steps
from bench.architectures import LlamaSizes
from bench.case import Arrays, StepCase
from bench.machine import ROOT
from bench.models import GPTSizes
from bench.planned import planned_step
from bench.tables import DASH, Table
from tgrad.fusion.region import Axis, Dot, Load, Region, extent_of
from tgrad.graph.index import Atom, var
from tgrad.kernel.ir import Config, Role
from tgrad.runtime.plan import Plan

FOLDER = ROOT / "bench" / "results" / "static"
UPDATE = "python -m bench static --write"
TARGETS = ("sm_90", "gfx942")

WIDE = 16
"""Bytes of the widest access of a thread."""


@dataclass(frozen=True)
class Row:
    """A kernel, compiled.

    Attributes:
        kernel: its name.
        kind: of its region: "map", "dot", "chain" ...
        source: digest of its generated source.
        registers, spills, shared, widest_load, matrix_instruction, async_copies: see
            `StaticFigures`.
        wants: what its sizes and strides allow: "matrix", "wgmma", "copies N", "wide".
    """

    kernel: str
    kind: str
    source: str
    registers: int | None
    spills: int | None
    shared: int | None
    widest_load: int | None
    matrix_instruction: str | None
    async_copies: int | None
    wants: tuple[str, ...]


@dataclass(frozen=True)
class File:
    """The rows of a target, by step, and the compiler that made them."""

    target: str
    triton: str
    steps: dict[str, list[Row]]


# -- steps -----------------------------------------------------------------------------------------


def _zeros(kind: type, **shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Arrays]:
    """Inputs whose values do not matter, since nothing runs."""
    return lambda random: {
        name: np.zeros(shape, np.int64 if kind is int or name == "targets" else np.float32)
        for name, shape in shapes.items()
    }


def _mean_square(functional: Any, model: Any, inputs: Any, wanted: Any) -> Any:
    return functional.mse_loss(model(inputs).float(), wanted.float())


def _step(
    key: str, batch: Any, model: Any, optimizer: Any, loss: Any = steps.classification_loss
) -> StepCase:
    return StepCase(key, f"a step of {key}", batch, model, optimizer, loss, dtype="bfloat16")


GPT2 = GPTSizes(50304, 1024, 768, 12, 2)
LLAMA = LlamaSizes(32000, 2048, 32, 8, 5632, 1)

CASES: dict[str, StepCase] = {
    case.key: case
    for case in (
        _step(
            "convnet",
            _zeros(float, images=(512, 1, 28, 28), targets=(512,)),
            models.convnet,
            steps.adam,
        ),
        _step(
            "resnet50",
            _zeros(float, images=(64, 3, 224, 224), targets=(64,)),
            architectures.resnet50,
            steps.sgd,
        ),
        _step(
            "gpt2",
            _zeros(int, tokens=(8, 1024), targets=(8, 1024)),
            partial(models.gpt, sizes=GPT2),
            steps.adamw,
        ),
        _step(
            "llama_block",
            _zeros(int, tokens=(2, 2048), targets=(2, 2048)),
            partial(architectures.llama, sizes=LLAMA),
            steps.adamw,
        ),
        _step(
            "vit",
            _zeros(float, images=(64, 3, 224, 224), targets=(64,)),
            partial(models.vit, size=224, patch=16, width=768, heads=12, layers=2, classes=1000),
            steps.adamw,
        ),
        _step(
            "unet_block",
            _zeros(float, images=(8, 128, 64, 64), wanted=(8, 128, 64, 64)),
            architectures.unet_block,
            steps.adamw,
            _mean_square,
        ),
    )
}
"""GPT-2 and the ViT have two layers: more would be the same kernels."""


def planned(key: str, target: str) -> Plan:
    """The plan of a step."""
    return planned_step(CASES[key], target)


# -- rows ------------------------------------------------------------------------------------------


def digest(source: str) -> str:
    """Of a generated source, without the lines of comment that name the user's file."""
    lines = (line for line in source.splitlines() if not line.startswith("#"))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def sources_of(plan: Plan) -> dict[str, str]:
    """Names and digests of a plan's different kernels."""
    return {k.name: digest(k.source) for k in plan.kernels}


def rows_of(plan: Plan, names: Sequence[str] | None = None) -> list[Row]:
    """A row for each different kernel of a plan, or those of these names.

    Raises:
        CompileError: Triton refuses a kernel.
    """
    from tgrad.settings import settings
    from tgrad.triton_gen import compile_for

    kernels = {k.name: k for k in plan.kernels if names is None or k.name in names}
    artifacts = compile_for([k.region for k in kernels.values()], plan.target, settings)
    return [
        Row(
            kernel=k.name,
            kind=k.region.space.kind,
            source=digest(k.source),
            wants=tuple(wants(k.region, a.config, plan.target)),
            **asdict(a.figures),
        )
        for k, a in zip(kernels.values(), artifacts)
    ]


def wants(region: Region, config: Config, target: str) -> Iterator[str]:
    """What a kernel's sizes and strides allow."""
    space = region.space
    if space.kind in ("dot", "chain"):
        sizes = [extent_of(g) for g in (space.m, space.n, space.k)]
        if min(sizes) >= 16:
            yield "wgmma" if target == "sm_90" and max(sizes[:2]) >= 64 else "matrix"
        copies = _copies(region, config) if target == "sm_90" else 0
        if copies:
            yield f"copies {copies}"
    if space.kind == "map" and region.table is None and _is_aligned(region):
        yield "wide"


def _copies(region: Region, config: Config) -> int:
    """Copies of 16 bytes that a thread starts in a step of a loop, of operands that allow it."""
    loops = [a for a in config.axes if a.role is Role.LOOP and a.steps > 1]
    walked = {a.name for t in loops for a in t.covers}
    threads, found = 32 * config.num_warps, 0
    for load in dict.fromkeys(_operands(region)):
        names = load.index.variables()
        if _is_wide(region, load) and names & walked:
            tile = prod(t.block for t in config.axes if names & {a.name for a in t.covers})
            found += max(tile * load.dtype.itemsize // (WIDE * threads), 1)
    return found


def _operands(region: Region) -> list[Load]:
    """Loads that feed a dot with no arithmetic between."""
    fed = {x for v in region.values if isinstance(v, Dot) for x in (v.a, v.b)}
    return [v for n, v in enumerate(region.values) if n in fed and isinstance(v, Load)]


def _is_wide(region: Region, load: Load) -> bool:
    """Whether a thread may load 16 bytes at once: neighbours along one axis, and all other steps
    multiples of 16 bytes."""
    lanes = WIDE // load.dtype.itemsize
    along = [a for a in region.axes if load.index.stride(a.name) == 1]
    if len(along) != 1 or along[0].extent % lanes or load.index.const % lanes:
        return False
    return all(c % lanes == 0 for atom, c in load.index.terms if atom != _variable(along[0]))


def _variable(axis: Axis) -> Atom | None:
    return var(axis.name, axis.extent).atom


def _is_aligned(region: Region) -> bool:
    """Whether an elementwise kernel reads large buffers in the order in which it writes, and rows
    are multiples of 16 bytes."""
    stores = {s.index for s in region.stores}
    loads = [v for v in region.values if isinstance(v, Load)]
    size = max(region.slots[s.slot].size for s in region.stores)
    large = [v for v in loads if region.slots[v.slot].size * 4 >= size]
    if size < 4096 or not large or any(v.index not in stores or v.mask for v in large):
        return False
    return all(_is_wide(region, v) for v in large)


def faults(row: Row, target: str) -> Iterator[str]:
    """What is wrong with a row."""
    if row.spills != 0:
        yield f"{row.spills} bytes or registers spilled"
    instruction = row.matrix_instruction or "no matrix instruction"
    if "wgmma" in row.wants and not instruction.startswith("wgmma"):
        yield f"{instruction} in place of wgmma"
    if "matrix" in row.wants and not row.matrix_instruction:
        yield instruction
    if target == "gfx942" and row.matrix_instruction and not instruction.startswith("v_mfma"):
        yield f"{instruction} in place of MFMA"
    copies = sum(int(w.split()[1]) for w in row.wants if w.startswith("copies"))
    if (row.async_copies or 0) < copies:
        yield f"{row.async_copies} asynchronous copies in a product's loop in place of {copies}"
    if "wide" in row.wants and row.widest_load != 128:
        yield f"loads of {row.widest_load} bits"


def faults_of(file: File) -> list[str]:
    """A line for each thing that is wrong."""
    return [
        f"{key}: {row.kernel}: {fault}"
        for key, rows in file.steps.items()
        for row in rows
        for fault in faults(row, file.target)
    ]


def table_of(file: File) -> Table:
    """A row a kernel."""
    header = (
        "step", "kernel", "registers", "spills", "shared", "widest load", "async copies",
        "matrix instruction",
    )  # fmt: skip
    cells = [
        (
            key,
            r.kernel,
            *(
                DASH if n is None else str(n)
                for n in (r.registers, r.spills, r.shared, r.widest_load, r.async_copies)
            ),
            r.matrix_instruction or DASH,
        )
        for key, rows in file.steps.items()
        for r in rows
    ]
    return Table(f"kernels for {file.target}", header, tuple(cells))


# -- files -----------------------------------------------------------------------------------------


def make(target: str, keys: Sequence[str] = tuple(CASES)) -> File:
    """The rows of all steps, compiled."""
    from importlib.metadata import version

    return File(target, version("triton"), {key: rows_of(planned(key, target)) for key in keys})


def path_of(target: str) -> Path:
    return FOLDER / f"{target}.json"


def write(file: File, path: Path) -> None:
    """As JSON, a row a line."""
    steps_text = []
    for key, rows in file.steps.items():
        lines = ",\n".join(f"   {json.dumps(asdict(r))}" for r in rows)
        steps_text.append(f'  "{key}": [\n{lines}\n  ]')
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f' "target": "{file.target}",\n "triton": "{file.triton}",\n "steps": {{\n'
    path.write_text("{\n" + head + ",\n".join(steps_text) + "\n }\n}\n")


def read(path: Path) -> File:
    """From JSON."""
    data = json.loads(path.read_text())
    found = {
        key: [Row(**{**row, "wants": tuple(row["wants"])}) for row in rows]
        for key, rows in data["steps"].items()
    }
    return File(data["target"], data["triton"], found)


def outdated(file: File, key: str, plan: Plan) -> list[str]:
    """Kernels of a plan that the file has not, or has in another form, and those it has alone."""
    have = {r.kernel: r.source for r in file.steps.get(key, [])}
    now = sources_of(plan)
    return sorted(n for n in {**have, **now} if have.get(n) != now.get(n))
