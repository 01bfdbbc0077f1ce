"""PyTorch's operator database, driven through tgrad.

In: `torch.testing._internal.common_methods_invocations.op_db`. Out: for each operator, whether all
of its sample inputs give PyTorch's results and gradients on tensors of tgrad. Invariant: while
tgrad's side runs, nothing is computed by PyTorch (`NothingInTorch` fails the case).

    python -m tests.ops.opinfo --update          write the list of what passes
    python -m tests.ops.opinfo add mul           show the first failure of operators
"""

from __future__ import annotations

import argparse
import random
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType, NoneType
from typing import Any

import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_utils import SEED
from torch.testing._internal.opinfo.core import OpInfo, SampleInput
from torch.utils._python_dispatch import TorchDispatchMode

import tgrad
from tests.arrays import from_torch
from tests.front.checking import to_numpy
from tgrad.interop.torch_function import call
from tgrad.tensor import Tensor, realize_tensors

PASSES = Path(__file__).with_name("opinfo_passes.txt")

RTOL, FORWARD, BACKWARD = 1e-4, 1e-5, 4e-5
"""Relative to an element; and to the largest one (1 at least), for what both libraries leave of
sums that cancel."""

LEFT_OUT = {
    "random": """bernoulli cauchy exponential geometric log_normal multinomial normal
        normal.in_place normal.number_mean uniform rand_like randint randint_like randn randn_like
        nn.functional.dropout nn.functional.dropout2d nn.functional.dropout3d
        nn.functional.alpha_dropout nn.functional.feature_alpha_dropout.with_train
        nn.functional.fractional_max_pool2d nn.functional.fractional_max_pool3d
        nn.functional.rrelu svd_lowrank pca_lowrank""",
    "uninitialised memory": """empty empty_like empty_permuted empty_strided new_empty
        new_empty_strided""",
    "sparse": "sparse.sampled_addmm sparse.mm.reduce to_sparse",
    "complex": """cdouble cfloat chalf complex polar view_as_complex stft""",
    "jiterator": """jiterator_unary jiterator_binary jiterator_4inputs_with_extra_args
        jiterator_binary_return_by_ref jiterator_2inputs_2outputs""",
}
"""What the list leaves out, and why; fft is complex too."""


NOT_HANDED_OVER = frozenset(f for f in vars(torch.masked).values() if callable(f))
"""Functions of torch that ask no argument's type; the table's row is called instead."""


@dataclass(frozen=True)
class Outcome:
    """How an operator fared.

    Attributes:
        name: of the operator, with its variant.
        forward, backward: whether all samples agree; backward is None without derivatives.
        reason: the first failure.
    """

    name: str
    forward: bool
    backward: bool | None
    reason: str = ""

    @property
    def line(self) -> str:
        words = ("forward", self.forward), ("backward", self.backward)
        return " ".join([self.name, *(word for word, holds in words if holds)])


class NothingInTorch(TorchDispatchMode):
    """Fails whatever PyTorch would compute."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} ran in PyTorch")


def name_of(op: OpInfo) -> str:
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name


@cache
def operators() -> dict[str, OpInfo]:
    """All that support float32 on the CPU, less `LEFT_OUT`."""
    left_out = {name for names in LEFT_OUT.values() for name in names.split()}
    return {
        name_of(op): op
        for op in op_db
        if torch.float32 in op.supported_dtypes("cpu")
        and name_of(op) not in left_out
        and not op.name.startswith("fft.")
    }


def made_samples(op: OpInfo, dtype: torch.dtype, requires_grad: bool) -> Iterator[SampleInput]:
    """`op.sample_inputs`, the same values; that walks the whole stack of Python's frames to name a
    unittest, which takes longer than most tests."""
    seed(SEED)
    for sample in op.sample_inputs_func(op, "cpu", dtype, requires_grad):
        yield sample
        seed(SEED)


def samples_of(op: OpInfo, count: int | None) -> list[SampleInput]:
    """All samples that differ for tgrad, or so many of them spread evenly, the first and the last
    among them."""
    made = made_samples(op, torch.float32, op.supports_autograd)
    samples = list({_identity(sample): sample for sample in made}.values())
    if count is None or len(samples) <= count:
        return samples
    return [samples[i * (len(samples) - 1) // (count - 1)] for i in range(count)]


def _identity(sample: SampleInput) -> Hashable:
    """Equal for samples that only PyTorch can tell apart: those of other memory formats, and those
    whose arguments the database gives twice."""
    given = sample.input, sample.args, sample.kwargs
    return _identity_of(given), _identity_of(sample.output_process_fn_grad)


def _identity_of(value: Any) -> Hashable:
    kind = type(value)
    if kind is torch.Tensor and value.layout is torch.strided and not value.is_complex():
        bits = np.ascontiguousarray(from_torch(value)).tobytes()
        return str(value.dtype), value.shape, value.requires_grad, bits
    if kind in (list, tuple):
        return kind, *map(_identity_of, value)
    if kind is dict:
        return kind, *((key, _identity_of(x)) for key, x in value.items())
    if kind is FunctionType and value.__closure__ is None:
        return value.__code__
    return (kind, repr(value)) if kind in (int, float, bool, str, NoneType) else (kind, id(value))


def check_operator(op: OpInfo, count: int | None = None, device: str = "numpy") -> Outcome:
    """Run samples of an operator (all, or `count` of them) in both libraries."""
    name, forward, backward, reason = name_of(op), True, op.supports_autograd or None, ""
    for number, sample in enumerate(samples_of(op, count)):
        try:
            case = Case(op, sample, device)
            case.check_forward()
        except Exception as error:
            return Outcome(name, False, backward and False, explain(error, number, sample))
        if not backward:
            continue
        try:
            case.check_backward()
        except Exception as error:
            backward, reason = False, f"backward: {explain(error, number, sample)}"
    return Outcome(name, forward, backward, reason)


def seed(number: int = 0) -> None:
    """`torch.manual_seed` formats the stack once for each kind of accelerator that is absent."""
    torch.default_generator.manual_seed(number)
    np.random.seed(number)
    random.seed(number)


def explain(error: Exception, number: int, sample: SampleInput) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} [{place.name}] sample {number}: {sample.summary()}"


class Case:
    """A sample input in both libraries: runs forward when made."""

    def __init__(self, op: OpInfo, sample: SampleInput, device: str):
        self.device, self.leaves = device, []
        given = (sample.input, *sample.args)
        finish = sample.output_process_fn_grad
        self.theirs = flat(finish(op.op(*given, **sample.kwargs)))
        self.is_wrapped = str(getattr(op.op, "__module__", "")).startswith("torch.testing")
        args = [self.converted(x) for x in given]
        kwargs = {k: self.converted(v) for k, v in sample.kwargs.items()}
        with NothingInTorch():
            function = self.function(op.op, args, kwargs)
            self.ours = flat(finish(function(*args, **kwargs)))

    def converted(self, value: Any) -> Any:
        """Tensors of torch as tensors of tgrad, in lists and tuples too."""
        if isinstance(value, torch.Tensor):
            made = tgrad.tensor(
                from_torch(value), device=self.device, requires_grad=value.requires_grad
            )
            self.leaves.append((value, made))
            return made
        if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
            return type(value)(map(self.converted, value))
        if isinstance(value, slice):
            return slice(*map(self.converted, (value.start, value.stop, value.step)))
        if isinstance(value, torch.dtype) and self.is_wrapped:
            return getattr(tgrad, str(value).removeprefix("torch."))
        if isinstance(value, torch.device) or value == "cpu":
            return self.device
        return value

    def function(self, function: Any, args: list[Any], kwargs: Any) -> Callable[..., Any]:
        """torch's function itself; its row of the table where torch does not hand the call over: no
        argument is a tensor, or it is a method of torch.Tensor."""
        has_tensor = any(isinstance(x, Tensor) for x in flat((args, list(kwargs.values()))))
        is_method = getattr(torch.Tensor, getattr(function, "__name__", ""), None) is function
        if has_tensor and not is_method and function not in NOT_HANDED_OVER:
            return function
        return lambda *args, **kwargs: call(function, args, kwargs)

    def reals(self, values: Sequence[Any]) -> list[Tensor]:
        """The real tensors that values are made of."""
        return [value for value in values if isinstance(value, Tensor)]

    def compare(self, have: Any, want: Any, absolute: float) -> None:
        """Values, shapes and dtypes."""
        assert_equal(have, want, absolute)

    def check_forward(self) -> None:
        realize_tensors(self.reals(self.ours))
        assert len(self.ours) == len(self.theirs), f"{len(self.ours)} results"
        for have, want in zip(self.ours, self.theirs):
            self.compare(have, want, FORWARD)

    def check_backward(self) -> None:
        """Of a random real linear function of the results."""
        pairs = [
            (have, want)
            for have, want in zip(self.ours, self.theirs)
            if isinstance(want, torch.Tensor) and want.requires_grad
        ]
        wanted = [(theirs, ours) for theirs, ours in self.leaves if theirs.requires_grad]
        if not pairs or not wanted:
            return
        seed()
        cotangents = [torch.randn_like(want) for _, want in pairs]
        theirs = torch.autograd.grad(
            [want for _, want in pairs], [x for x, _ in wanted], cotangents, allow_unused=True
        )
        weights = [self.converted(c) for c in cotangents]
        with NothingInTorch():
            total: Any = 0.0
            for (have, _), weight in zip(pairs, weights):
                for part, by in zip(self.reals([have]), self.reals([weight])):
                    total = total + (part * by).sum()
            if isinstance(total, Tensor) and total.requires_grad:
                total.backward()
            found = [x.grad for _, x in wanted]
            realize_tensors(self.reals(found))
        for have, want in zip(found, theirs):
            if have is None or want is None:
                assert have is None or not to_numpy(have).any(), "a gradient of what has none"
                assert want is None or not want.any(), "a gradient is missing"
            else:
                self.compare(have, want, BACKWARD)


def flat(value: Any) -> list[Any]:
    """The parts of nested lists and tuples."""
    if isinstance(value, (list, tuple)):
        return [part for item in value for part in flat(item)]
    return [value]


def assert_equal(have: Any, want: Any, absolute: float) -> None:
    if not isinstance(want, torch.Tensor):
        assert have == want, f"{have} is not {want}"
        return
    assert isinstance(have, Tensor), f"a {type(have).__name__}"
    assert have.shape == tuple(want.shape), f"shape {have.shape}, want {tuple(want.shape)}"
    assert f"torch.{have.dtype.name}" == str(want.dtype), f"{have.dtype}, want {want.dtype}"
    ours, theirs = to_numpy(have), to_numpy(want.clone())
    finite = np.abs(theirs[np.isfinite(theirs)]) if theirs.dtype.kind == "f" else np.zeros(1)
    scale = max(1.0, float(finite.max(initial=0.0)))
    np.testing.assert_allclose(ours, theirs, rtol=RTOL, atol=absolute * scale, verbose=False)


# -- the list ------------------------------------------------------------------------------------


def run(name: str) -> Outcome:
    return check_operator(operators()[name])


def read_passes() -> dict[str, str]:
    """The lines of the list, by name."""
    lines = PASSES.read_text().splitlines()
    return {line.split()[0]: line for line in lines if line and not line.startswith("#")}


def outcomes(names: Iterable[str], jobs: int) -> list[Outcome]:
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(run, names, chunksize=4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="operators; all of them where none is given")
    parser.add_argument("--update", action="store_true", help="write the list of what passes")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    found = outcomes(options.names or operators(), options.jobs)
    for outcome in found:
        if outcome.reason and not outcome.backward:
            print(f"{outcome.line}: {outcome.reason.splitlines()[0][:300]}")
    forward, backward = (
        sum(bool(x) for x in column) for column in zip(*((o.forward, o.backward) for o in found))
    )
    print(f"{forward} forward and {backward} backward of {len(found)}")
    if options.update:
        write_passes(found, forward, backward)


def write_passes(found: Sequence[Outcome], forward: int, backward: int) -> None:
    left_out = [f"#   {why}: {' '.join(names.split())}" for why, names in LEFT_OUT.items()]
    head = [
        "# Operators of PyTorch's database whose samples agree, float32, device numpy.",
        "# Written by: python -m tests.ops.opinfo --update",
        f"# {forward} pass forward and {backward} backward of {len(found)}. Left out:",
        *left_out,
        "#   complex results: fft.*",
    ]
    lines = sorted(o.line for o in found if o.forward)
    PASSES.write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    main()
