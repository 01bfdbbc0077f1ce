"""Steps of a plan that call the device's library.

In: a call and the memories of its operands and result. Out: the result in its memory. Invariant: a
call that fails raises a LinAlgError before it has written anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tgrad.errors import Source
from tgrad.graph.library import LibraryCall, packed, refused

if TYPE_CHECKING:
    from tgrad.fusion.region import Region
    from tgrad.runtime.device import Runtime


def call_library(region: Region, runtime: Runtime, memories: Sequence[Any]) -> None:
    """Run the call that a region is on memories, the result's last."""
    call, source = region.call, region.source
    assert isinstance(call, LibraryCall)
    if runtime.device.type == "cuda":
        call_torch(call, source, memories)
        return
    operands = [runtime.read(m, call.dtype, s) for m, s in zip(memories, call.shapes)]
    runtime.write(memories[-1], call.compute(operands, source))


def call_torch(call: LibraryCall, source: Source, memories: Sequence[Any]) -> None:
    """Run a call by torch, on memories that are one-dimensional torch.uint8 tensors."""
    import torch

    dtype = getattr(torch, call.dtype.name)

    def array(memory: Any, shape: tuple[int, ...]) -> Any:
        count = 1
        for n in shape:
            count *= n
        return memory[: count * call.dtype.itemsize].view(dtype).view(shape)

    operands = [array(m, shape) for m, shape in zip(memories, call.shapes)]
    try:
        found = TORCH[call.function](torch.linalg, *operands, *call.params)
    except torch.linalg.LinAlgError as error:
        raise refused(call.function, str(error), source) from None
    parts = [t.to(dtype) for t in (found if isinstance(found, tuple) else (found,))]
    result = packed(parts, call, lambda t, shape: t.reshape(shape), lambda t: torch.cat(t, -1))
    array(memories[-1], call.shape).copy_(result)


def _cholesky_ex(linalg: Any, a: Any) -> tuple[Any, Any]:
    """NaN where there is no factor; torch leaves what it had."""
    factor, info = linalg.cholesky_ex(a)
    return factor.masked_fill((info != 0)[..., None, None], float("nan")), info


def _lu(linalg: Any, a: Any, check: bool) -> tuple[Any, Any]:
    """torch's own check raises a LinAlgError or, on GPUs, a RuntimeError."""
    factors, pivots, info = linalg.lu_factor_ex(a)
    if check and bool((info != 0).any()):
        raise linalg.LinAlgError("U has a 0 on its diagonal")
    return factors, pivots


def _geqrf(a: Any) -> tuple[Any, ...]:
    import torch

    return tuple(torch.geqrf(a))


def _permutation(swaps: Any, rows: int) -> Any:
    import torch

    data = swaps.new_zeros((*swaps.shape[:-2], rows, swaps.shape[-2]))
    matrix, _, _ = torch.lu_unpack(data, swaps.squeeze(-1).int(), unpack_data=False)
    return matrix.argmax(-2)


def _parts(*tensors: Any) -> tuple[Any, ...]:
    """Real and imaginary parts of those that are complex."""
    return tuple(part for t in tensors for part in ((t.real, t.imag) if t.is_complex() else (t,)))


def _complex(function: str) -> Callable[..., Any]:
    """The function of a matrix with these real and imaginary parts."""

    def call(linalg: Any, x: Any, y: Any, *params: Any) -> tuple[Any, ...]:
        import torch

        return _parts(*TORCH[function](linalg, torch.complex(x, y), *params))

    return call


TORCH: dict[str, Callable[..., Any]] = {
    "cholesky": lambda linalg, a: linalg.cholesky(a),
    "cholesky_ex": lambda linalg, a: _cholesky_ex(linalg, a),
    "lu": _lu,
    "ldl": lambda linalg, a: tuple(linalg.ldl_factor_ex(a)),
    "ldl_solve": lambda linalg, f, p, b: linalg.ldl_solve(f, p.squeeze(-1).int(), b),
    "permutation": lambda linalg, swaps, rows: _permutation(swaps, rows),
    "solve": lambda linalg, a, b: linalg.solve(a, b),
    "triangular": lambda linalg, a, b, unit: linalg.solve_triangular(
        a, b, upper=False, unitriangular=unit
    ),
    "qr": lambda linalg, a, mode: tuple(linalg.qr(a, mode=mode)),
    "geqrf": lambda linalg, a: _geqrf(a),
    "eigh": lambda linalg, a: tuple(linalg.eigh(a)),
    "svd": lambda linalg, a, full: tuple(linalg.svd(a, full_matrices=full)),
    "eig": lambda linalg, a: _parts(*linalg.eig(a)),
    "complex_eig": _complex("eig"),
    "complex_lu": _complex("lu"),
    "complex_qr": _complex("qr"),
    "complex_eigh": _complex("eigh"),
    "complex_svd": _complex("svd"),
    "det": lambda linalg, a: linalg.det(a),
    "slogdet": lambda linalg, a: tuple(linalg.slogdet(a)),
}
"""torch.linalg's spellings."""
