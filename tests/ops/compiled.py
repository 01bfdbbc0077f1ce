"""PyTorch's operator database under `torch.compile(backend="tgrad")`: results, their strides, and
gradients.

In: the operators of the database and dtypes. Out: for each operator the dtypes in which all of its
sample inputs, compiled, agree with eager PyTorch. Invariant: nothing falls back to PyTorch.

    python -m tests.ops.compiled --update           write the list of what passes
    python -m tests.ops.compiled fft.fft --dynamic  show failures; sizes are symbols
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo, SampleInput

from tests.ops.opinfo import LEFT_OUT, explain, made_samples, name_of

PASSES = Path(__file__).with_name("compiled_passes.txt")
DTYPES = ("float32", "bfloat16", "complex64", "int64", "bool")
SAMPLES = 3
"""Of each operator and dtype, spread evenly."""

ROUNDING = {torch.bfloat16: 2.0**-6, torch.float64: 1e-9}
BACKWARD = 4
"""How many times as far gradients may be apart; PyTorch rounds at more places."""

NOT_OF_COMPILERS = ("random", "uninitialised memory", "sparse", "jiterator")


def operators() -> dict[str, OpInfo]:
    """All but those of which PyTorch itself does not say the result."""
    left_out = {name for why in NOT_OF_COMPILERS for name in LEFT_OUT[why].split()}
    return {name_of(op): op for op in op_db if name_of(op) not in left_out}


def dtypes_of(op: OpInfo) -> list[str]:
    return [d for d in DTYPES if getattr(torch, d) in op.supported_dtypes("cpu")]


def samples_of(op: OpInfo, dtype: str, count: int) -> list[SampleInput]:
    """So many, spread evenly; the middle one if it is one."""
    kind = getattr(torch, dtype)
    has_gradients = op.supports_autograd and kind in op.supported_backward_dtypes("cpu")
    samples = list(made_samples(op, kind, has_gradients))
    if len(samples) <= count:
        return samples
    if count == 1:
        return samples[(len(samples) - 1) // 2 :][:1]
    return [samples[i * (len(samples) - 1) // (count - 1)] for i in range(count)]


def check(op: OpInfo, dtype: str, count: int = SAMPLES, dynamic: bool = False) -> str:
    """The first failure; "" if the samples agree."""
    for number, sample in enumerate(samples_of(op, dtype, count)):
        try:
            want = run(op.op, sample)
        except Exception:  # not in this dtype, or the graph of gradients ends in one that has none
            continue
        torch._dynamo.reset()
        try:
            compiled = torch.compile(partial(apply, op.op), backend="tgrad", dynamic=dynamic)
            have = run(compiled, sample)
            for mine, theirs, roundings in zip(have, want, (1, BACKWARD)):
                for pair in zip(mine, theirs, strict=True):
                    assert_close(*pair, roundings)
            for mine, theirs in zip(have[0], want[0]):
                assert lies(mine) == lies(theirs), f"strides {lies(mine)}, want {lies(theirs)}"
        except Exception as error:
            return explain(error, number, sample)
    return ""


def apply(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A function of Python, which torch.compile asks for."""
    return function(*args, **kwargs)


Tensors = list[torch.Tensor | None]


def run(function: Callable[..., Any], sample: SampleInput) -> tuple[Tensors, Tensors]:
    """Results, and gradients of a weighted sum of them, on copies of the arguments."""
    args, kwargs = pytree.tree_map_only(
        torch.Tensor, copied, ((sample.input, *sample.args), sample.kwargs)
    )
    results = tensors_of(sample.output_process_fn_grad(function(*args, **kwargs)))
    ends = [t for t in results if t.requires_grad]
    leaves = [t for t in tensors_of((args, kwargs)) if t.requires_grad]
    if not (ends and leaves):
        return list(results), []
    total = sum(weighted(t) for t in ends)
    return list(results), list(torch.autograd.grad(total, leaves, allow_unused=True))


def copied(t: torch.Tensor) -> torch.Tensor:
    return t.detach().clone(memory_format=torch.preserve_format).requires_grad_(t.requires_grad)


def tensors_of(value: Any) -> list[torch.Tensor]:
    return [t for t in pytree.tree_leaves(value) if isinstance(t, torch.Tensor)]


def weighted(t: torch.Tensor) -> Any:
    t = torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
    weights = torch.linspace(-1, 1, t.numel(), dtype=torch.float64)
    return (t.double() * weights.reshape(t.shape)).sum()


def assert_close(mine: torch.Tensor | None, theirs: torch.Tensor | None, roundings: float) -> None:
    """Integers exactly, floats within roundings of themselves and of the largest."""
    if mine is None or theirs is None:
        given = [t for t in (mine, theirs) if t is not None]
        assert not any(t.any() for t in given), "one has no gradient"
        return
    mine, theirs = mine.detach(), theirs.detach()
    rtol = atol = 0.0
    if theirs.is_floating_point() or theirs.is_complex():
        bound = ROUNDING.get(theirs.dtype, 1e-5) * roundings
        finite = theirs.abs()[theirs.isfinite()]
        rtol, atol = 10 * bound, bound * max(1.0, float(finite.max()) if finite.numel() else 1.0)
    torch.testing.assert_close(mine, theirs, equal_nan=True, rtol=rtol, atol=atol)


def lies(t: torch.Tensor | None) -> list[int]:
    """Strides that matter."""
    if t is None or not t.numel():
        return []
    return [stride for n, stride in zip(t.shape, t.stride()) if n > 1]


def run_operator(name: str, count: int, dynamic: bool) -> dict[str, str]:
    """The failure of each dtype; "" where there is none."""
    warnings.simplefilter("ignore")
    op = operators()[name]
    return {dtype: check(op, dtype, count, dynamic) for dtype in dtypes_of(op)}


def read_passes() -> dict[str, list[str]]:
    """Dtypes that pass, by operator."""
    lines = PASSES.read_text().splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines if line and line[0] != "#"}


def write_passes(found: dict[str, dict[str, str]]) -> None:
    passing = {name: [d for d, f in found[name].items() if not f] for name in sorted(found)}
    taken = [d for failures in found.values() for d in failures]
    passed = [d for dtypes in passing.values() for d in dtypes]
    head = [
        "# Operators of PyTorch's database and the dtypes in which their samples agree under",
        f"# torch.compile, {SAMPLES} samples each at most. Written by:",
        "# python -m tests.ops.compiled --update",
        *(f"#   {d}: {passed.count(d)} of {taken.count(d)}" for d in DTYPES),
    ]
    lines = [" ".join([name, *dtypes]) for name, dtypes in passing.items() if dtypes]
    PASSES.write_text("\n".join([*head, *lines]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="operators; all of them where none is given")
    parser.add_argument("--update", action="store_true", help="write the list of what passes")
    parser.add_argument("--dynamic", action="store_true", help="sizes are symbols")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    names: Sequence[str] = options.names or list(operators())
    one = partial(run_operator, count=options.samples, dynamic=options.dynamic)
    with ProcessPoolExecutor(options.jobs) as pool:
        found = dict(zip(names, pool.map(one, names, chunksize=4)))
    for name, failures in found.items():
        for dtype, failure in failures.items():
            if failure:
                print(f"{name} {dtype}: {' '.join(failure.split())[:300]}")
    if options.update:
        write_passes(found)


if __name__ == "__main__":
    main()
