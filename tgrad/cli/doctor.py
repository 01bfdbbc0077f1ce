"""`tgrad doctor`: what this machine has, and what to do about what it lacks.

In: the machine. Out: a report on standard output, an exit status. Invariant: every finding that is
not good says what to do; a check never raises.
"""

from __future__ import annotations

import importlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tgrad.cpu_fallback.compile import find_compiler
from tgrad.cpu_fallback.target import detect_machine
from tgrad.errors import CompileError
from tgrad.settings import Settings, read_settings

VECTOR_FEATURES = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_bf16", "asimd", "asimdhp", "bf16", "sve",
)  # fmt: skip
OPENMP_PROGRAM = """
#include <omp.h>
#include <stdio.h>
int main(void) {
    int count = 0;
    #pragma omp parallel reduction(+ : count)
    count += 1;
    printf("%d", count);
    return 0;
}
"""
_TIMEOUT = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the report.

    Attributes:
        name: what was looked for.
        is_good: whether it is there and works.
        detail: what was found.
        advice: what to do if it is not good.
    """

    name: str
    is_good: bool
    detail: str
    advice: str = ""


def print_report(settings: Settings | None = None) -> int:
    """Print all findings and the devices that they allow.

    Returns:
        0 if there is a device to compute on ("cpu", "cuda" or "opencl"), else 1.
    """
    findings = examine(settings or read_settings())
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{'ok' if finding.is_good else '--':2}  {finding.name:{width}}  {finding.detail}")
        if finding.advice and not finding.is_good:
            print(f"    {'':{width}}  {finding.advice}")
    devices = usable_devices(findings)
    print(f"\ndevices: {', '.join(devices)}")
    return 0 if {"cpu", "cuda", "opencl"} & set(devices) else 1


def usable_devices(findings: list[Finding]) -> list[str]:
    """Names of the devices whose needs are met; "numpy" needs nothing.

    >>> usable_devices([Finding("torch", True, ""), Finding("Triton", True, "")])
    ['interpret', 'numpy']
    """
    good = {finding.name for finding in findings if finding.is_good}
    needs = {
        "cpu": {"C compiler", "OpenMP"},
        "cuda": {"torch", "Triton", "GPU"},
        "opencl": {"OpenCL"},
        "interpret": {"torch", "Triton"},
        "numpy": set(),
    }
    return [device for device, names in needs.items() if names <= good]


def examine(settings: Settings) -> list[Finding]:
    """All checks, in the order of the report."""
    return [
        _python(),
        _package("tgrad"),
        _package("numpy"),
        _check_compiler(settings),
        _check_openmp(settings),
        _check_processor(settings),
        _guard("torch", "pip install torch", _check_torch),
        _guard("Triton", "pip install triton, for the devices cuda and interpret.", _check_triton),
        _guard("GPU", "The device cuda needs torch built for CUDA or ROCm.", _check_gpu),
        _guard("OpenCL", "pip install 'tgrad[opencl]'", _check_opencl),
        _check_cache(settings.cache_dir),
    ]


def _python() -> Finding:
    return Finding(
        "Python",
        sys.version_info >= (3, 10),
        f"{platform.python_version()} at {sys.executable}",
        "Install Python 3.10 or newer.",
    )


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, False, "is not installed, only on the path.", "pip install -e .")


def _check_compiler(settings: Settings) -> Finding:
    try:
        compiler = find_compiler(settings)
    except CompileError as error:
        return Finding("C compiler", False, error.what, error.hint)
    return Finding("C compiler", True, f"{compiler.path}: {compiler.version}")


def _check_openmp(settings: Settings) -> Finding:
    """Compile and run a parallel region, with the flags of the kernels."""
    advice = "The device cpu needs OpenMP's headers and library: install libgomp or libomp."
    try:
        compiler = find_compiler(settings)
    except CompileError:
        return Finding("OpenMP", False, "needs a C compiler", advice)
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "probe.c"), str(Path(folder, "probe"))
        source.write_text(OPENMP_PROGRAM)
        try:
            _output([compiler.path, *compiler.flags, str(source), "-o", program])
            threads = _output([program])
        except (OSError, subprocess.SubprocessError) as error:
            return Finding("OpenMP", False, f"a parallel program fails: {error}", advice)
    return Finding("OpenMP", True, f"{threads} threads")


def _check_processor(settings: Settings) -> Finding:
    count = detect_machine().cores
    flags = cpu_features()
    features = " ".join(name for name in VECTOR_FEATURES if name in flags) or "unknown features"
    limit = f", OMP_NUM_THREADS={settings.num_threads}" if settings.num_threads else ""
    return Finding("processor", True, f"{platform.machine()}, {count} cores{limit}, {features}")


def cpu_features(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Linux's names of the instruction sets of the first core; empty elsewhere."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def _guard(name: str, advice: str, check: Callable[[], Finding]) -> Finding:
    """Importing these packages loads drivers, which may fail in any way: report it."""
    try:
        return check()
    except ModuleNotFoundError as error:
        return Finding(name, False, f"{error.name} is not installed", advice)
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        return Finding(name, False, f"fails: {text.splitlines()[0]}", advice)


def _check_torch() -> Finding:
    torch = importlib.import_module("torch")
    return Finding("torch", True, str(torch.__version__))


def _check_triton() -> Finding:
    triton = importlib.import_module("triton")
    return Finding("Triton", True, str(triton.__version__))


def _check_gpu() -> Finding:
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        reason = "torch finds none" if built else "this torch is built without CUDA and ROCm"
        return Finding("GPU", False, reason, "Without a GPU use the device cpu.")
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    names = [f"{d.name} ({d.total_memory / 2**30:.0f} GiB)" for d in devices]
    return Finding("GPU", True, ", ".join(names))


def _check_opencl() -> Finding:
    pyopencl = importlib.import_module("pyopencl")
    platforms = pyopencl.get_platforms()
    if not platforms:
        advice = "Install a driver, or PoCL: pip install pocl-binary-distribution"
        return Finding("OpenCL", False, "no platforms", advice)
    names = [f"{p.name.strip()} ({len(p.get_devices())} devices)" for p in platforms]
    return Finding("OpenCL", True, f"pyopencl {metadata.version('pyopencl')}: {', '.join(names)}")


def _check_cache(directory: Path) -> Finding:
    advice = "Set TGRAD_CACHE_DIR to a directory that can be written."
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
        sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
    except OSError as error:
        return Finding("cache", False, f"{directory}: {error.strerror}", advice)
    return Finding("cache", True, f"{directory}, {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB")


def _output(command: list[str]) -> str:
    """Standard output of a program that must succeed."""
    run = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=True)
    return run.stdout.strip()
