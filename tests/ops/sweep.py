"""PyTorch's operator database in every dtype: results against PyTorch's.

In: the operators of opinfo.py and the dtypes that both libraries have. Out: for each operator the
dtypes in which all of its sample inputs agree within the dtype's rounding. Invariant: as in
opinfo.py, nothing is computed by PyTorch while tgrad's side runs.

    python -m tests.ops.sweep --update           write the list of what passes
    python -m tests.ops.sweep --device cpu       run it as generated C, without writing
    python -m tests.ops.sweep add floor_divide   show the first failure of operators
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.testing._internal.opinfo.core import OpInfo

from tests.arrays import from_torch
from tests.ops.opinfo import Case, explain, made_samples, operators
from tgrad.tensor import Tensor, realize_tensors

PASSES = Path(__file__).with_name("dtype_passes.txt")
DTYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float64",
)  # fmt: skip
"""float32 has the list of opinfo.py; op_db has samples in no other dtype."""

SAMPLES = 3
"""Of each operator and dtype, spread evenly."""

UNITS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float64": 2.0**-52}
ROUNDINGS = {"float16": 4, "bfloat16": 4, "float64": 2.0**22}
"""How many units in the last place results may be apart: PyTorch itself rounds its composites at
several places in half types; many float64 functions of either library are accurate to 1e-9."""


def samples_of(op: OpInfo, dtype: str, count: int | None) -> list[Any]:
    """So many samples, the first and the last among them; all for None."""
    samples = list(made_samples(op, getattr(torch, dtype), requires_grad=False))
    if count is None or len(samples) <= count:
        return samples
    if count == 1:
        return samples[len(samples) // 2 :][:1]
    return [samples[i * (len(samples) - 1) // (count - 1)] for i in range(count)]


def check(op: OpInfo, dtype: str, count: int | None = SAMPLES, device: str = "numpy") -> str:
    """The first failure; "" if the samples agree."""
    for number, sample in enumerate(samples_of(op, dtype, count)):
        try:
            case = Case(op, sample, device)
            realize_tensors([y for y in case.ours if isinstance(y, Tensor)])
            assert len(case.ours) == len(case.theirs), f"{len(case.ours)} results"
            for have, want in zip(case.ours, case.theirs):
                assert_close(have, want)
        except Exception as error:
            return explain(error, number, sample)
    return ""


def assert_close(have: Any, want: Any) -> None:
    """Integers and bools exactly, floats within roundings of themselves and of the largest."""
    if not isinstance(want, torch.Tensor):
        assert have == want, f"{have} is not {want}"
        return
    assert isinstance(have, Tensor), f"a {type(have).__name__}"
    assert have.shape == tuple(want.shape), f"shape {have.shape}, want {tuple(want.shape)}"
    assert f"torch.{have.dtype.name}" == str(want.dtype), f"{have.dtype}, want {want.dtype}"
    ours, theirs = have.numpy(), from_torch(want.clone())
    if not have.dtype.is_float:
        np.testing.assert_array_equal(ours, theirs, verbose=False)
        return
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    name = have.dtype.name
    rounding = UNITS[name] * ROUNDINGS[name] if name in UNITS else 1e-5
    finite = np.abs(theirs[np.isfinite(theirs)])
    absolute = rounding * max(1.0, float(finite.max(initial=0.0)))
    np.testing.assert_allclose(ours, theirs, rtol=rounding, atol=absolute, verbose=False)


def dtypes_of(op: OpInfo) -> list[str]:
    """Those that PyTorch takes on the CPU and tgrad has."""
    supported = op.supported_dtypes("cpu")
    return [d for d in DTYPES if getattr(torch, d) in supported]


def run(name: str, device: str = "numpy", count: int | None = SAMPLES) -> dict[str, str]:
    """The failure of each dtype of an operator; "" where there is none."""
    warnings.simplefilter("ignore")
    op = operators()[name]
    found: dict[str, str] = {}
    for dtype in dtypes_of(op):
        try:
            found[dtype] = check(op, dtype, count, device)
        except Exception as error:  # PyTorch's own samples do not run in this dtype
            found[dtype] = f"samples: {type(error).__name__}: {error}"
    return found


def read_passes() -> dict[str, list[str]]:
    """Dtypes that pass, by operator."""
    lines = PASSES.read_text().splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines if line and line[0] != "#"}


def counts(found: dict[str, dict[str, str]]) -> list[str]:
    """A line for each dtype: how many operators pass of those that take it."""
    taken = Counter(d for each in found.values() for d in each)
    passed = Counter(d for each in found.values() for d, failure in each.items() if not failure)
    return [f"{d}: {passed[d]} of {taken[d]}" for d in DTYPES]


def sweep(
    names: Sequence[str], device: str, count: int | None, jobs: int
) -> dict[str, dict[str, str]]:
    with ProcessPoolExecutor(jobs) as pool:
        work = pool.map(partial(run, device=device, count=count), names, chunksize=4)
        return dict(zip(names, work))


def write_passes(found: dict[str, dict[str, str]]) -> None:
    head = [
        "# Operators of PyTorch's database and the dtypes in which their samples agree, device",
        f"# numpy, {SAMPLES} samples each at most. Written by: python -m tests.ops.sweep --update",
        *(f"#   {line}" for line in counts(found)),
    ]
    lines = [" ".join([name, *passing(found[name])]) for name in sorted(found)]
    PASSES.write_text("\n".join([*head, *(line for line in lines if " " in line)]) + "\n")


def passing(failures: dict[str, str]) -> Iterable[str]:
    return (d for d, failure in failures.items() if not failure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="operators; all of them where none is given")
    parser.add_argument("--update", action="store_true", help="write the list of what passes")
    parser.add_argument("--device", default="numpy")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    names = options.names or list(operators())
    found = sweep(names, options.device, options.samples, options.jobs)
    for name, failures in found.items():
        for dtype, failure in failures.items():
            if failure:
                print(f"{name} {dtype}: {' '.join(failure.split())[:260]}")
    print("\n".join(counts(found)))
    if options.update:
        write_passes(found)


if __name__ == "__main__":
    main()
