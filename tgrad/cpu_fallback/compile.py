"""Generated C to callable functions, through the system's compiler and a cache.

In: (name, source) pairs. Out: by name, the loaded function and the path of its readable source.
Invariant: a kernel is compiled once per machine, compiler and flags; all that are new are compiled
together, over all cores, into one shared object; whatever is cached is complete (written to a
temporary name, then renamed) and checked (size and digest) before it is loaded.

Layout below <cache>/c/:
    objects/<key>.so         shared objects
    kernels/<key>.json       per kernel: object, symbol, size and digest of the object
    source/<name>-<key>.c    what was compiled, to read
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tgrad.cache_files import write_whole
from tgrad.cpu_fallback.objects import Cache, digest_of, load
from tgrad.cpu_fallback.preamble import preamble
from tgrad.cpu_fallback.target import Machine, detect_machine
from tgrad.errors import UNKNOWN, CacheError, CompileError, Source
from tgrad.settings import Settings

FLAGS = (
    "-std=gnu11",
    "-O2",
    "-march=native",
    "-fopenmp",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fno-ivopts",
    "-w",
)
"""NaN and infinities hold: nothing here lets the compiler assume them away. gcc 12's pass over
induction variables gives masked loads under a condition of the whole loop wrong addresses; without
it kernels are at most 4% slower."""

ATTEMPTS = 3
"""How often kernels are looked for, and compiled, where others delete the cache meanwhile."""

MIN_PART = 6
"""Kernels below which a translation unit is not worth a second process."""


@dataclass(frozen=True, slots=True)
class KernelSource:
    """A kernel to compile: its function's name, C text without preamble, the user's line."""

    name: str
    text: str
    source: Source = UNKNOWN


@dataclass(frozen=True, slots=True)
class Compiled:
    """A loaded kernel: `entry(slots)` takes a `void **`; the name of its shared object."""

    name: str
    entry: Any
    path: str
    binary: str


@dataclass(frozen=True, slots=True)
class Compiler:
    """The C compiler: its path, what it says about itself, and all flags."""

    path: str
    version: str
    flags: tuple[str, ...]


def find_compiler(settings: Settings, machine: Machine | None = None) -> Compiler:
    """The compiler of the settings, else cc, gcc or clang on the path.

    Raises:
        CompileError: there is none.
    """
    return _find_compiler(settings.cc, machine or detect_machine())


@lru_cache(maxsize=8)
def _find_compiler(wanted: str, machine: Machine) -> Compiler:
    names = [wanted] if wanted else ["cc", "gcc", "clang"]
    for name in names:
        path = shutil.which(name)
        if path is None:
            continue
        try:
            answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60)
        except OSError:
            continue
        version = answer.stdout.strip().splitlines()
        if answer.returncode == 0 and version:
            width = machine.vector_bytes * 8
            is_x86 = "x86_64" in machine.isa or "amd64" in machine.isa
            wide = (f"-mprefer-vector-width={width}",) if is_x86 and width > 128 else ()
            return Compiler(path, version[0], FLAGS + wide)
    looked = f"{wanted!r}" if wanted else "cc, gcc and clang"
    raise CompileError(
        f"The device 'cpu' needs a C compiler; {looked} was not found.",
        "Install one (Debian and Ubuntu: apt-get install gcc; macOS: xcode-select --install), "
        "or set TGRAD_CC to its path.",
        source=UNKNOWN,
    )


def without_header(text: str) -> str:
    """The source without its leading comment, which does not change the code."""
    return re.sub(r"\A/\*.*?\*/\n", "", text, flags=re.DOTALL)


# -- compilation --------------------------------------------------------------------------------


def compile_kernels(sources: Sequence[KernelSource], settings: Settings) -> dict[str, Compiled]:
    """Load the kernels, compiling together those that are not in the cache.

    Args:
        sources: kernels with distinct names.

    Raises:
        CompileError: no compiler, or it refused a kernel (which is named).
        CacheError: the cache directory cannot be written.
    """
    machine = detect_machine()
    compiler = find_compiler(settings, machine)
    cache = Cache(settings)
    keys = {
        s.name: digest_of(
            preamble(s.text), without_header(s.text), compiler.version, *compiler.flags, machine.isa
        )
        for s in sources
    }
    attempt = 0
    while True:
        places = _places(sources, keys, compiler, machine, cache)
        try:
            return {
                s.name: Compiled(
                    s.name,
                    load(*places[s.name]),
                    str(cache.sources / f"{s.name}-{keys[s.name][:8]}.c"),
                    places[s.name][0].name,
                )
                for s in sources
            }
        except CacheError:
            attempt += 1
            if attempt == ATTEMPTS or all(path.exists() for path, _ in places.values()):
                raise


def _places(
    sources: Sequence[KernelSource],
    keys: dict[str, str],
    compiler: Compiler,
    machine: Machine,
    cache: Cache,
) -> dict[str, tuple[Path, str]]:
    """By kernel, its object and symbol; what the cache lacks is compiled into one."""
    found = {s.name: cache.find(keys[s.name]) for s in sources}
    missing = [s for s in sources if found[s.name] is None]
    if missing:
        cache.make()
        data = _build(missing, compiler, machine)
        try:
            path = _enter(missing, keys, data, cache)
        except OSError as error:
            raise cache.refused(error) from error
        found |= {s.name: (path, s.name) for s in missing}
    return {name: place for name, place in found.items() if place is not None}


def _build(missing: Sequence[KernelSource], compiler: Compiler, machine: Machine) -> bytes:
    """The kernels as one shared object."""
    parts = _parts(missing, machine.cores)
    try:
        with tempfile.TemporaryDirectory(prefix="tgrad-") as folder:
            return _build_in(Path(folder), parts, compiler)
    except OSError as error:
        raise CompileError(
            f"The C compiler {compiler.path} cannot run in {tempfile.gettempdir()}: "
            f"{error.strerror or error}.",
            "Free some space there or set TMPDIR to another directory; TGRAD_CC names another "
            "compiler.",
            source=missing[0].source,
        ) from error


def _build_in(folder: Path, parts: list[list[KernelSource]], compiler: Compiler) -> bytes:
    """Compile the parts side by side, and link them."""
    from concurrent.futures import ThreadPoolExecutor

    output = folder / "kernels.so"
    if len(parts) == 1:
        _compile(compiler, _unit(parts[0]), output, ("-shared",), parts[0])
        return output.read_bytes()
    objects = [folder / f"part{i}.o" for i in range(len(parts))]
    with ThreadPoolExecutor(len(parts)) as pool:
        jobs = [
            pool.submit(_compile, compiler, _unit(part), path, ("-c",), part)
            for part, path in zip(parts, objects)
        ]
        for job in jobs:
            job.result()
    command = [compiler.path, "-shared", "-fopenmp", *map(str, objects)]
    answer = subprocess.run(
        [*command, "-lm", "-o", str(output)], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise _failure(answer.stderr, [s for part in parts for s in part])
    return output.read_bytes()


def _enter(
    missing: Sequence[KernelSource], keys: dict[str, str], data: bytes, cache: Cache
) -> Path:
    """Write a shared object, and its kernels' sources and entries, into the cache."""
    digest = hashlib.sha256(data).hexdigest()
    path = cache.objects / f"{digest_of(*(keys[s.name] for s in missing), digest)}.so"
    write_whole(path, data)
    for s in missing:
        text = preamble(s.text) + "\n" + s.text
        write_whole(cache.sources / f"{s.name}-{keys[s.name][:8]}.c", text.encode())
        entry = {"object": path.name, "symbol": s.name, "size": len(data), "digest": digest}
        write_whole(cache.kernels / f"{keys[s.name]}.json", json.dumps(entry).encode())
    return path


def _parts(missing: Sequence[KernelSource], cores: int) -> list[list[KernelSource]]:
    """The kernels in about as many parts as cores, of about equal length of text."""
    count = max(1, min(cores, len(missing) // (MIN_PART // 2)))
    parts: list[list[KernelSource]] = [[] for _ in range(count)]
    sizes = [0] * count
    for s in sorted(missing, key=lambda s: (-len(s.text), s.name)):
        smallest = sizes.index(min(sizes))
        parts[smallest].append(s)
        sizes[smallest] += len(s.text) + 500
    return parts


def _unit(part: Sequence[KernelSource]) -> str:
    """One translation unit; each kernel's lines carry its name for error messages."""
    body = "".join(f'#line 1 "{s.name}.c"\n{s.text}\n' for s in part)
    return preamble("".join(s.text for s in part)) + body


def _compile(
    compiler: Compiler,
    text: str,
    output: Path,
    mode: tuple[str, ...],
    part: Sequence[KernelSource],
) -> None:
    command = [compiler.path, *compiler.flags, *mode, "-x", "c", "-", "-o", str(output)]
    if "-shared" in mode:
        command.append("-lm")
    answer = subprocess.run(command, input=text, capture_output=True, text=True)
    if answer.returncode:
        raise _failure(answer.stderr, part)


def _failure(message: str, part: Sequence[KernelSource]) -> CompileError:
    """The compiler's first errors, with the kernel and the user's line they belong to."""
    errors = [line for line in message.splitlines() if "error" in line] or message.splitlines()
    by_name = {s.name: s for s in part}
    named = next(
        (by_name[m] for line in errors for m in re.findall(r"(\w+)\.c:\d+", line) if m in by_name),
        part[0],
    )
    text = "\n    ".join(errors[:4]) or "no message"
    return CompileError(
        f"The C compiler refused kernel {named.name}:\n    {text}",
        "This is a defect of tgrad or of the compiler: report it with the source above, "
        "or try another compiler through TGRAD_CC.",
        source=named.source,
    )
