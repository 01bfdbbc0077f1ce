"""Who may import whom, as a table; file sizes; what `import tgrad` loads.

Every import counts: at the top of a module, inside a function, under TYPE_CHECKING, and a string
that names a module of tgrad (the argument of `import_module`).
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE = 700

LEAVES = (
    "tgrad.absent",
    "tgrad.cache_files",
    "tgrad.determinism",
    "tgrad.dtype",
    "tgrad.device",
    "tgrad.settings",
    "tgrad.shapes",
    "tgrad.symbolic",
    "tgrad.errors",
    "tgrad.modes",
    "tgrad.precision",
    "tgrad.threads",
    "tgrad.weak_table",
)
IR = (
    "tgrad.graph.op",
    "tgrad.graph.library",
    "tgrad.graph.collective",
    "tgrad.graph.index",
    "tgrad.fusion.region",
)
"""What a Region and a Kernel are made of: whoever reads one may name its parts."""
RUNNING = ("tgrad.pipeline", "tgrad.realizing", "tgrad.runtime.storage")
"""What the front needs to hold memory, and to compute."""

FRONT = (
    "tgrad.tensor",
    "tgrad._utils",
    "tgrad.methods",
    "tgrad.aliases",
    "tgrad.anomalies",
    "tgrad.arguments",
    "tgrad.autocasting",
    "tgrad.autograd",
    "tgrad.batching",
    "tgrad.checkpointing",
    "tgrad.complex_forms",
    "tgrad.complex_numbers",
    "tgrad.func",
    "tgrad.hooks",
    "tgrad.utils",
    "tgrad.creation",
    "tgrad.discrete",
    "tgrad.explaining",
    "tgrad.fft",
    "tgrad.foreach",
    "tgrad.from_template",
    "tgrad.factorizations",
    "tgrad.functional",
    "tgrad.grad_mode",
    "tgrad.interrupts",
    "tgrad.jit",
    "tgrad.joining",
    "tgrad.known",
    "tgrad.labelling",
    "tgrad.linalg",
    "tgrad.low_rank",
    "tgrad.masked",
    "tgrad.measures",
    "tgrad.module_paths",
    "tgrad.pending",
    "tgrad.pivoting",
    "tgrad.repeating",
    "tgrad.places",
    "tgrad.printing",
    "tgrad.products",
    "tgrad.queries",
    "tgrad.random",
    "tgrad.rollback",
    "tgrad.serialization",
    "tgrad.signal",
    "tgrad.sorting",
    "tgrad.special",
    "tgrad.reflections",
    "tgrad.strided",
    "tgrad.strides",
    "tgrad.tracing",
    "tgrad.unread",
)
"""The Tensor and the functions that make and join tensors."""
PARTS = (
    "tgrad.graph",
    "tgrad.autodiff",
    "tgrad.fusion",
    "tgrad.kernel",
    "tgrad.triton_gen",
    "tgrad.cpu_fallback",
    "tgrad.tune",
    "tgrad.runtime",
)

ALLOWED: dict[str, tuple[str, ...]] = {
    "tgrad.graph": LEAVES,
    "tgrad.autodiff": (*LEAVES, "tgrad.graph"),
    "tgrad.fusion": (*LEAVES, "tgrad.graph"),
    "tgrad.kernel": (*LEAVES, "tgrad.graph", "tgrad.fusion.region"),
    "tgrad.triton_gen": (*LEAVES, "tgrad.kernel", *IR),
    "tgrad.cpu_fallback": (*LEAVES, "tgrad.kernel", *IR),
    "tgrad.tune": (*LEAVES, "tgrad.kernel", *IR, "tgrad.fusion.region_json"),
    "tgrad.runtime": (
        *LEAVES,
        "tgrad.graph.key",
        "tgrad.kernel.ir",
        *IR,
        "tgrad.fusion.cost",
        "tgrad.fusion.choices",
    ),
    "tgrad.backend": (*LEAVES, *PARTS),
    "tgrad.autotuning": (*LEAVES, *PARTS, "tgrad.backend"),
    "tgrad.checking": (*LEAVES, *PARTS, "tgrad.backend"),
    "tgrad.placement": (*LEAVES, "tgrad.graph", "tgrad.fusion", "tgrad.runtime"),
    "tgrad.plan_store": (
        *LEAVES,
        "tgrad.graph",
        "tgrad.kernel.ir",
        "tgrad.runtime",
        "tgrad.backend",
    ),
    "tgrad.pipeline": (*LEAVES, *PARTS, "tgrad.backend", "tgrad.placement", "tgrad.plan_store"),
    "tgrad.boxes": (*LEAVES, "tgrad.graph", "tgrad.runtime.device"),
    "tgrad.many_sizes": (
        *LEAVES,
        "tgrad.graph",
        "tgrad.runtime.storage",
        "tgrad.boxes",
        "tgrad.pipeline",
    ),
    "tgrad.realizing": (
        *LEAVES,
        "tgrad.graph",
        "tgrad.runtime",
        "tgrad.boxes",
        "tgrad.many_sizes",
        "tgrad.pipeline",
    ),
    **dict.fromkeys(FRONT, (*LEAVES, *FRONT, "tgrad.graph", "tgrad.autodiff", *RUNNING)),
    "tgrad.tensor": (
        *LEAVES,
        *FRONT,
        "tgrad.graph",
        "tgrad.autodiff",
        *RUNNING,
        "tgrad.interop.torch_function",
    ),
    "tgrad.complex_numbers.tensor": (
        *LEAVES,
        *FRONT,
        "tgrad.graph",
        *RUNNING,
        "tgrad.interop.torch_function",
    ),
    "tgrad.known": (*LEAVES, *FRONT, "tgrad.graph", *RUNNING, "tgrad.runtime.planning"),
    "tgrad.explaining": (*LEAVES, *FRONT, "tgrad.pipeline", "tgrad.runtime.plan"),
    "tgrad.nn": (*LEAVES, *FRONT),
    "tgrad.nn.compiled": ("tgrad.compiling.function",),
    "tgrad.nn.parallel": (*LEAVES, *FRONT, "tgrad.cuda", "tgrad.nn", "tgrad.distributed"),
    "tgrad.nn.modules.sync_batchnorm": (*LEAVES, *FRONT, "tgrad.nn", "tgrad.distributed"),
    "tgrad.optim": (*LEAVES, *FRONT, "tgrad.nn"),
    "tgrad.amp": (*LEAVES, *FRONT, "tgrad.optim"),
    "tgrad.distributions": (*LEAVES, *FRONT, "tgrad.nn"),
    "tgrad.backends": LEAVES,
    "tgrad.accelerator": (*LEAVES, *FRONT, "tgrad.cuda"),
    "tgrad.compiler": (*LEAVES, *FRONT, "tgrad.compiling.function"),
    "tgrad.cpu": (*LEAVES, *FRONT, "tgrad.amp"),
    "tgrad.cuda": (*LEAVES, *FRONT, "tgrad.amp"),
    "tgrad.compiling": (
        *LEAVES,
        *FRONT,
        "tgrad.nn",
        "tgrad.optim",
        "tgrad.graph",
        "tgrad.autotuning",
        "tgrad.boxes",
        "tgrad.many_sizes",
        "tgrad.pipeline",
        "tgrad.runtime.device",
        "tgrad.runtime.execute",
        "tgrad.runtime.plan",
        "tgrad.runtime.planning",
    ),
    "tgrad.data": LEAVES,
    "tgrad.switches": (*LEAVES, "tgrad.compiler"),
    "tgrad.interop": ("tgrad",),
    "tgrad.distributed": (
        *LEAVES,
        *FRONT,
        "tgrad.graph",
        "tgrad.runtime.collective",
        "tgrad.runtime.device",
        "tgrad.runtime.planning",
        "tgrad.runtime.storage",
    ),
    "tgrad.cli": ("tgrad",),
    "tgrad.module_paths": ("tgrad",),
    "tgrad.utils.benchmark": (*LEAVES, *FRONT, "tgrad.runtime.device"),
    "tgrad.hub": (*LEAVES, *FRONT),
    "tgrad.multiprocessing": LEAVES,
    "tgrad.types": (*LEAVES, *FRONT),
    "tgrad.profiler": (*LEAVES, *FRONT, "tgrad.runtime"),
    "tgrad.testing": (*LEAVES, *FRONT),
    "tgrad.version": ("tgrad",),
    "tgrad": (
        *LEAVES,
        *FRONT,
        "tgrad.accelerator",
        "tgrad.amp",
        "tgrad.backends",
        "tgrad.compiler",
        "tgrad.cpu",
        "tgrad.cuda",
        "tgrad.distributed",
        "tgrad.nn",
        "tgrad.optim",
        "tgrad.data",
        "tgrad.hub",
        "tgrad.interop.einops",
        "tgrad.multiprocessing",
        "tgrad.profiler",
        "tgrad.testing",
        "tgrad.types",
        "tgrad.version",
        "tgrad.pipeline",
        "tgrad.compiling",
    ),
    **dict.fromkeys(LEAVES, LEAVES),
}
"""By prefix; the longest that fits a module is its row. Its own row a module may always import.
A part that is not here yet gets its row with its first file."""

FILES = sorted((ROOT / "tgrad").rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def has_prefix(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def row_of(module: str) -> str:
    """The longest row that fits; the package's own row is for the package alone."""
    rows = [row for row in ALLOWED if row != "tgrad" and has_prefix(module, row)]
    return max(rows, key=len, default="tgrad" if module == "tgrad" else "")


def resolve(module: str, node: ast.AST) -> Iterator[str]:
    """The modules of tgrad that a statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if has_prefix(alias.name, "tgrad"))
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
            for _ in range(node.level - 1):
                package = package.rpartition(".")[0]
            base = f"{package}.{base}".rstrip(".")
        if has_prefix(base, "tgrad"):
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in MODULES else base
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.value in MODULES and node.value != "tgrad":
            yield node.value


def is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk_module_level(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Statements that run when the module is imported."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or is_for_types(node):
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from walk_module_level(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from walk_module_level(handler.body)


def parse(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(), str(MODULES[module]))


@pytest.mark.parametrize("module", sorted(MODULES))
def test_import_table(module):
    row = row_of(module)
    assert row, f"{module} has no row in the import table of design.md: add it to ALLOWED."
    allowed = ALLOWED[row] if row == "tgrad" else (row, *ALLOWED[row])
    wrong = [
        f"{MODULES[module].relative_to(ROOT)}:{getattr(node, 'lineno', 0)} imports {target}"
        for node in ast.walk(parse(module))
        for target in resolve(module, node)
        if not any(has_prefix(target, prefix) for prefix in allowed)
    ]
    assert not wrong, f"{row} may import {', '.join(ALLOWED[row])}"


def test_the_table_forbids_what_it_must():
    for generator, other in (("triton_gen", "cpu_fallback"), ("cpu_fallback", "triton_gen")):
        assert f"tgrad.{other}" not in ALLOWED[f"tgrad.{generator}"]
        assert f"tgrad.{generator}" not in ALLOWED["tgrad.tune"]
        assert f"tgrad.{generator}" not in ALLOWED["tgrad.runtime"]
    for part in PARTS:
        assert "tgrad.pipeline" not in ALLOWED[part]
        assert not set(FRONT) & set(ALLOWED[part])


def test_no_import_cycles():
    edges = {
        module: sorted(
            {
                target
                for node in walk_module_level(parse(module).body)
                if isinstance(node, (ast.Import, ast.ImportFrom))
                for target in resolve(module, node)
            }
        )
        for module in MODULES
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            pytest.fail(" -> ".join((*path[path.index(module) :], module)))
        if module in done:
            return
        for target in edges.get(module, ()):
            visit(target, (*path, module))
        done.add(module)

    for module in edges:
        visit(module, ())


def test_no_long_files():
    lengths = {path: len(path.read_text().splitlines()) for path in FILES}
    long = [f"{path.name}: {n}" for path, n in lengths.items() if n > LONGEST_FILE]
    assert not long, f"over {LONGEST_FILE} lines; split by what the parts do"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_docstring(path):
    assert ast.get_docstring(ast.parse(path.read_text())), "say: in, out, invariant"


def run_python(program: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process for each module takes minutes")
def test_each_part_can_be_imported_first():
    parts = [m for m in sorted(MODULES) if m.count(".") == 1 and not m.endswith("__main__")]
    program = (
        "import importlib, os, sys, tgrad\n"
        f"for name in {parts}:\n"
        "    if child := os.fork():\n"
        "        if os.waitpid(child, 0)[1]: sys.exit(f'{name} cannot be imported first')\n"
        "    else:\n"
        "        importlib.import_module(name)\n"
        "        os._exit(0)\n"
    )
    run_python(program)


def test_import_loads_numpy_alone():
    program = (
        "import sys; before = set(sys.modules); import tgrad\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - sys.stdlib_module_names))"
    )
    loaded = set(run_python(program).split())
    assert {"numpy", "tgrad"} <= loaded
    assert loaded <= {"numpy", "tgrad", "platformdirs"}


def test_import_needs_numpy_alone():
    """With everything but the standard library and NumPy out of reach."""
    program = (
        "import sys\n"
        "class Wall:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] not in {*sys.stdlib_module_names, 'numpy', 'tgrad'}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Wall())\n"
        "import tgrad, tgrad.data, tgrad.nn, tgrad.optim\n"
        "import tgrad.cli.doctor, tgrad.cli.explain, tgrad.cli.main, tgrad.cli.profile"
    )
    run_python(program)
