"""Kernels that Triton has compiled before, found without its front end.

In: a generated source with what it is compiled for. Out: Triton's CompiledKernel and its figures.
Invariant: what is found is what Triton's own cache would give, whole and of this Triton.

Triton finds a kernel in its cache by parsing its source, hashing its own library of hundreds of
megabytes, and asking for each function that is called; figures need a program run for each kernel.
Here one file a kernel names the files in that cache, with their digests, and holds the figures.

Layout: <cache>/triton/kept/<key>.json
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tgrad.cache_files import write_whole
from tgrad.kernel.ir import Config, StaticFigures
from tgrad.triton_gen.target import Target

GENERATION = 2
"""Counted up when figures are read otherwise, or files are written so."""

_PARTS = ("_C", "backends", "compiler", "language", "runtime")
"""Folders of Triton that decide what it makes of a source."""


@dataclass(frozen=True)
class KeptKernel:
    """What is known of a kernel.

    Attributes:
        entry: Triton's CompiledKernel.
        figures: of it.
        num_stages: with which it fits the device's shared memory.
    """

    entry: Any
    figures: StaticFigures
    num_stages: int


@dataclass(frozen=True)
class KernelPlace:
    """Where a kernel is kept: of its key, and the path of its file."""

    key: str
    path: Path


def place_of(
    source: str,
    signature: Mapping[str, str],
    attributes: object,
    config: Config,
    target: Target,
    cache_dir: Path,
) -> KernelPlace | None:
    """Where a kernel would be; None where Triton was asked to compile in an unusual way.

    Comments decide nothing: kernels of two lines of a program that say the same are one to Triton
    too, and two records of it would each call the other's files broken.
    """
    if asks_to_compile():
        return None
    code = "\n".join(line for line in source.splitlines() if not line.startswith("#"))
    launched = (config.num_warps, config.num_stages)
    text = repr((made_with(target), launched, signature, attributes, code))
    return place_by_key(hashlib.sha256(text.encode()).hexdigest()[:32], cache_dir)


def place_by_key(key: str, cache_dir: Path) -> KernelPlace:
    return KernelPlace(key, cache_dir / "triton" / "kept" / f"{key}.json")


def asks_to_compile() -> bool:
    """Whether Triton's settings want each kernel compiled, by other means or watched."""
    import triton

    options, runtime = triton.knobs.compilation, triton.knobs.runtime
    is_changed = options.always_compile or options.override or options.dump_ir or options.listener
    return bool(is_changed) or runtime.add_stages_inspection_hook is not None


def made_with(target: Target) -> tuple[object, ...]:
    """What a compiled kernel depends on beside its source."""
    from triton.compiler import compiler

    environment = sorted((k, v) for k, v in os.environ.items() if k.startswith("TRITON_"))
    more = sorted(compiler.get_cache_invalidating_env_vars().items())
    made_for = (target.backend, target.arch, target.warp_size, target.shared_memory)
    return GENERATION, _stamp(), environment, more, made_for


_turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


def alone(place: KernelPlace) -> AbstractContextManager[object]:
    """While it is held no other thread compiles, finds or forgets this kernel."""
    return _turns[place.key]


@lru_cache(maxsize=1)
def _stamp() -> str:
    """Triton's version, and size and time of its files."""
    import triton

    root = Path(triton.__file__).parent
    files = sorted(f for part in _PARTS for f in _files(root / part))
    return repr((triton.__version__, str(root), files))


def _files(folder: Path | str) -> Iterator[tuple[str, int, int]]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if entry.name != "__pycache__":
                    yield from _files(entry.path)
            else:
                found = entry.stat()
                yield entry.path, found.st_size, found.st_mtime_ns


def find(place: KernelPlace) -> KeptKernel | None:
    """The kernel that is kept there; None where something is missing or broken."""
    from triton.compiler import CompiledKernel

    try:
        digest, _, body = place.path.read_bytes().partition(b"\n")
        if digest != _digest(place.key.encode() + body):
            return None
        data = json.loads(body)
        files: dict[str, list[str]] = data["files"]
        if not all(_is_whole(Path(path), d) for path, d in files.values()):
            _forget(path for path, _ in files.values())
            return None
        group = {name: path for name, (path, _) in files.items()}
        source = SimpleNamespace(signature=data["signature"], constants={})
        entry = CompiledKernel(source, group, data["hash"])
    except OSError:
        return None
    return KeptKernel(entry, StaticFigures(**data["figures"]), data["num_stages"])


def _is_whole(path: Path, digest: str) -> bool:
    try:
        return _digest(path.read_bytes()).decode() == digest
    except OSError:
        return False


def _forget(paths: Iterable[str]) -> None:
    """Delete a kernel of which a file is broken: Triton believes whatever its cache has."""
    for path in paths:
        with suppress(OSError):
            os.unlink(path)


def keep_kernel(place: KernelPlace, kernel: KeptKernel) -> None:
    """Write down where Triton keeps the kernel; without space or permission nothing is."""
    with suppress(OSError):
        files = {
            name: [str(path), _digest(Path(path).read_bytes()).decode()]
            for name, path in kernel.entry.metadata_group.items()
        }
        data = {
            "files": files,
            "hash": kernel.entry.hash,
            "signature": kernel.entry.src.signature,
            "figures": asdict(kernel.figures),
            "num_stages": kernel.num_stages,
        }
        body = json.dumps(data).encode()
        write_whole(place.path, _digest(place.key.encode() + body) + b"\n" + body)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
