"""PyTorch's operator database, driven through tgrad's complex tensors.

In: the operators of `op_db` that take complex64. Out: for each, whether sample inputs give
PyTorch's results and gradients. Invariant: as in opinfo.py, nothing is computed by PyTorch while
tgrad's side runs.

    python -m tests.ops.complex_numbers --update     write the list of what passes
    python -m tests.ops.complex_numbers abs add      show the first failure of operators
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo

import tgrad
from tests.front.checking import to_numpy
from tests.ops.opinfo import (
    LEFT_OUT,
    RTOL,
    Case,
    Outcome,
    explain,
    made_samples,
    name_of,
)
from tgrad.complex_numbers import ComplexTensor
from tgrad.interop.torch_function import call
from tgrad.tensor import Tensor

PASSES = Path(__file__).with_name("complex_passes.txt")

SAMPLES = 3
"""Of each operator, spread evenly."""


@cache
def operators() -> dict[str, OpInfo]:
    """All that support complex64 on the CPU, less what is left out for other reasons than that."""
    reasons = (names for why, names in LEFT_OUT.items() if why != "complex")
    left_out = {name for names in reasons for name in names.split()}
    return {
        name_of(op): op
        for op in op_db
        if torch.complex64 in op.supported_dtypes("cpu") and name_of(op) not in left_out
    }


def samples_of(op: OpInfo, count: int) -> list[Any]:
    """So many samples, the first and the last among them; of one the middle one."""
    has_grad = torch.complex64 in op.supported_backward_dtypes("cpu")
    samples = list(made_samples(op, torch.complex64, has_grad and op.supports_autograd))
    if len(samples) <= count:
        return samples
    if count == 1:
        return samples[len(samples) // 2 :][:1]
    return [samples[i * (len(samples) - 1) // (count - 1)] for i in range(count)]


class ComplexCase(Case):
    """A sample input in both libraries."""

    def converted(self, value: Any) -> Any:
        """Complex tensors of torch too, and dtypes."""
        if isinstance(value, torch.dtype):
            return getattr(tgrad, str(value).removeprefix("torch."))
        if not isinstance(value, torch.Tensor) or not value.is_complex():
            return super().converted(value)
        array = value.detach().resolve_conj().numpy()
        made = tgrad.tensor(array, device=self.device).requires_grad_(value.requires_grad)
        self.leaves.append((value, made))
        return made

    def function(self, function: Any, args: list[Any], kwargs: Any) -> Callable[..., Any]:
        """tgrad's function of the same name; the database's own functions as they are."""
        if self.is_wrapped:
            return function  # type: ignore[no-any-return]
        name = getattr(function, "__name__", "")
        if isinstance(args[0], ComplexTensor) and getattr(torch.Tensor, name, None) is function:
            return lambda z, *args, **kwargs: getattr(z, name)(*args, **kwargs)
        if function is getattr(torch.fft, name.removeprefix("fft_"), None):
            return getattr(tgrad.fft, name.removeprefix("fft_"))  # type: ignore[no-any-return]
        return lambda *args, **kwargs: call(function, args, kwargs)

    def reals(self, values: Sequence[Any]) -> list[Tensor]:
        return parts_of(values)

    def compare(self, have: Any, want: Any, absolute: float) -> None:
        assert_equal(have, want, absolute)


def parts_of(values: Sequence[Any]) -> list[Tensor]:
    """The real tensors that tensors are made of."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, ComplexTensor):
            found += value.real, value.imag
        elif isinstance(value, Tensor):
            found.append(value)
    return found


def assert_equal(have: Any, want: Any, absolute: float) -> None:
    """Values, shapes and dtypes; complex numbers by the distance between them."""
    if not isinstance(want, torch.Tensor):
        assert have == want, f"{have} is not {want}"
        return
    assert isinstance(have, (Tensor, ComplexTensor)), f"a {type(have).__name__}"
    assert have.shape == tuple(want.shape), f"shape {have.shape}, want {tuple(want.shape)}"
    assert f"torch.{have.dtype.name}" == str(want.dtype), f"{have.dtype}, want {want.dtype}"
    ours = have.numpy() if isinstance(have, ComplexTensor) else to_numpy(have)
    theirs = to_numpy(want.resolve_conj().resolve_neg().clone())
    finite = np.abs(theirs[np.isfinite(theirs)]) if theirs.dtype.kind in "fc" else np.zeros(1)
    scale = max(1.0, float(finite.max(initial=0.0)))
    np.testing.assert_allclose(ours, theirs, rtol=RTOL, atol=absolute * scale, verbose=False)


def check_operator(op: OpInfo, count: int = SAMPLES, device: str = "numpy") -> Outcome:
    """Run samples of an operator in both libraries."""
    has_grad = op.supports_autograd and torch.complex64 in op.supported_backward_dtypes("cpu")
    name, backward, reason = name_of(op), has_grad or None, ""
    for number, sample in enumerate(samples_of(op, count)):
        try:
            case = ComplexCase(op, sample, device)
            case.check_forward()
        except Exception as error:
            return Outcome(name, False, backward and False, explain(error, number, sample))
        if not backward:
            continue
        try:
            case.check_backward()
        except Exception as error:
            backward, reason = False, f"backward: {explain(error, number, sample)}"
    return Outcome(name, True, backward, reason)


# -- the list ------------------------------------------------------------------------------------


def run(name: str) -> Outcome:
    warnings.simplefilter("ignore")
    try:
        return check_operator(operators()[name])
    except Exception as error:  # PyTorch's own samples do not run in this dtype
        return Outcome(name, False, None, f"samples: {type(error).__name__}: {error}")


def read_passes() -> dict[str, str]:
    """The lines of the list, by name."""
    lines = PASSES.read_text().splitlines()
    return {line.split()[0]: line for line in lines if line and not line.startswith("#")}


def write_passes(found: Sequence[Outcome]) -> None:
    failing = " ".join(o.name for o in found if not o.forward)
    head = [
        f"# Operators of PyTorch's database that agree in complex64, device numpy, {SAMPLES}",
        "# samples each at most. Written by: python -m tests.ops.complex_numbers --update",
        f"# {counted(found)}",
        f"# Not: {failing}",
    ]
    lines = sorted(o.line for o in found if o.forward)
    PASSES.write_text("\n".join([*head, *lines]) + "\n")


def counted(found: Sequence[Outcome]) -> str:
    """How many pass."""
    forward, backward = sum(o.forward for o in found), sum(bool(o.backward) for o in found)
    return f"{forward} pass forward and {backward} backward of {len(found)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="operators; all of them where none is given")
    parser.add_argument("--update", action="store_true", help="write the list of what passes")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        found = list(pool.map(run, options.names or operators(), chunksize=4))
    for outcome in found:
        if outcome.reason and not outcome.backward:
            print(f"{outcome.line}: {' '.join(outcome.reason.split())[:300]}")
    print(counted(found))
    if options.update:
        write_passes(found)


if __name__ == "__main__":
    main()
