"""PyTorch: eager, or `torch.compile` with its own compiler, with the most search, or with tgrad.

In: a case. Out: it, loaded. Invariant: best ordinary settings: no gradients where none are wanted,
the fused optimizers, the model with its loss compiled as one function.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from bench.case import Case, FunctionCase, Inputs, Repeated, StepCase, batch_of, state_of
from bench.peers import Loaded, StepCounts, StepMemory, Trainer, Unsupported
from bench.peers.torch_arrays import sampled, stored

COMPILERS: dict[str, dict[str, str]] = {
    "compile": {},
    "max-autotune": {"mode": "max-autotune"},
    "tgrad": {"backend": "tgrad"},
}
"""Options that compile, and what they are to `torch.compile`."""
REFERENCES = ("float64", "float32")
OPTIONS = ("", *COMPILERS, *REFERENCES)


def make(option: str, device: str) -> TorchPeer:
    """The peer in one of `OPTIONS`; `REFERENCES` are eager in that dtype, without TF32, on inputs
    that are rounded to the case's."""
    if option not in OPTIONS:
        raise ValueError(f"torch has no option {option!r}; one of {OPTIONS}")
    if option in REFERENCES:
        torch.set_float32_matmul_precision("highest")
        if device != "cpu":
            torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return TorchPeer(option, device)


class TorchPeer:
    """See bench/peers/__init__.py."""

    def __init__(self, option: str, device: str):
        self.option, self.device = option, device

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def load(self, case: Case, arrays: Inputs, copies: int = 1) -> Loaded:
        self.release()
        if isinstance(case, FunctionCase):
            return self._function(case, arrays, copies)
        return Loaded([self.training(case, arrays).step], _read)

    def release(self) -> None:
        """Dynamo keeps what it compiled by source, and all cases' functions have one source: after
        eight of them it would compile no more, and shapes would be dynamic from the second on."""
        if self.option in COMPILERS:
            torch.compiler.reset()

    def compiled(self, function: Any) -> Any:
        """The function under the option."""
        if self.option not in COMPILERS:
            return function
        return torch.compile(function, **COMPILERS[self.option])

    def stored(self, array: np.ndarray | Repeated, case: Case) -> torch.Tensor:
        """A copy of an array on the device, in the case's dtype if it is of floats, and in its
        layout; the reference rounds to that dtype too."""
        tensor = stored(array, self.device, case.dtype)
        if case.channels_last and tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return self.typed(tensor, case.dtype) if tensor.is_floating_point() else tensor

    def typed(self, value: Any, dtype: str) -> Any:
        """A tensor or module in a dtype; of a reference in its own, with values of that dtype."""
        value = value.to(getattr(torch, dtype))
        return value.to(getattr(torch, self.option)) if self.option in REFERENCES else value

    def _function(self, case: FunctionCase, arrays: Inputs, copies: int) -> Loaded:
        first = [self.stored(a, case) for a in arrays.values()]
        sets = [first, *([x.clone() for x in first] for _ in range(copies - 1))]
        program = case.exact if case.exact and self.option in REFERENCES else case.program
        forward = self.compiled(lambda *inputs: program(torch, F, *inputs))

        def call(inputs: Sequence[torch.Tensor]) -> Any:
            with torch.no_grad():
                return forward(*inputs)

        def call_with_gradient(inputs: Sequence[torch.Tensor]) -> Any:
            *arguments, gradient = inputs
            floats = [x for x in arguments if x.is_floating_point()]
            for x in floats:
                x.grad = None
            result = forward(*arguments)
            result.backward(gradient)
            return result, *(x.grad for x in floats)

        if not case.has_gradient:
            return Loaded([partial(call, inputs) for inputs in sets], _read)
        for inputs in sets:
            for x in inputs[:-1]:
                x.requires_grad_(x.is_floating_point())
        return Loaded([partial(call_with_gradient, inputs) for inputs in sets], _read)

    def training(self, case: StepCase, arrays: Inputs, **options: Any) -> Training:
        """The model with its initial state, its batch, and its step under the option.

        Args:
            options: of the optimizer.
        """
        with torch.device(self.device):
            model = self.typed(case.model(torch.nn, F, torch), case.dtype)
        state = state_of(arrays)
        model.load_state_dict({k: stored(a, self.device, case.dtype) for k, a in state.items()})
        if case.channels_last:
            model = model.to(memory_format=torch.channels_last)
        optimizer = case.optimizer(torch.optim, model.parameters(), **options or {"fused": True})
        forward = self.compiled(lambda inputs, targets: case.loss(F, model, inputs, targets))
        batch = tuple(self.stored(a, case) for a in batch_of(arrays))
        return Training(model, optimizer, forward, batch)

    def count_launches(self, case: StepCase, arrays: Inputs) -> StepCounts:
        """Of inductor's generated code, the optimizer's update compiled too.

        Counted are calls that do work: generated kernels (`cpp_fused_*`), library calls
        (`extern_kernels.*`) and operators that inductor leaves to PyTorch (`torch.ops.*`).
        """
        from torch._inductor import compile_fx, config, metrics
        from torch._inductor.utils import run_and_get_code

        if self.option != "compile":
            raise Unsupported("launches are counted under torch.compile")
        training = self.training(case, arrays, foreach=True)
        training.optimizer.step = self.compiled(training.optimizer.step)
        compile_fx.inductor_metrics_log.setLevel("INFO")  # bytes are counted for this log alone
        metrics.reset()
        with config.patch(force_disable_caches=True):
            training.step()  # makes the optimizer's state
            metrics.reset()
            _, passes = run_and_get_code(training.differentiate)
            _, update = run_and_get_code(training.optimizer.step)
        counted = [sum(map(calls_of, codes)) for codes in (passes, update)]
        return StepCounts(sum(counted), counted[1], int(metrics.num_bytes_accessed))

    def peak_memory(self, case: StepCase, arrays: Inputs) -> StepMemory:
        """Measured: what is held before the step, and on top of it every allocation and release
        of PyTorch's CPU allocator during the step, from its profiler."""
        training = self.training(case, arrays)
        for _ in range(2):  # compiles, and makes the optimizer's state
            training.step()
        training.optimizer.zero_grad()
        gc.collect()
        held = sum({s.data_ptr(): s.nbytes() for s in training.storages()}.values())
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
            training.step()
        events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
        events.sort(key=lambda e: e.start_ns())
        running = accumulate((e.nbytes() for e in events), initial=0)
        return StepMemory(held, held + max(running))

    def trainer(self, case: StepCase, arrays: Inputs) -> Trainer:
        """The step under the option; evaluation is eager."""
        training = self.training(case, arrays)

        def train(inputs: np.ndarray, targets: np.ndarray) -> None:
            training.step(self.stored(inputs, case), self.stored(targets, case))

        def logits(inputs: np.ndarray) -> np.ndarray:
            training.model.eval()
            with torch.no_grad():
                result = training.model(self.stored(inputs, case))
            training.model.train()
            found: np.ndarray = result.to("cpu", torch.float64).numpy()
            return found

        return Trainer(train, logits)


@dataclass(frozen=True)
class Training:
    """A model in training, and a batch of its own."""

    model: Any
    optimizer: Any
    forward: Callable[..., torch.Tensor]
    batch: tuple[torch.Tensor, ...]

    def differentiate(self, *batch: torch.Tensor) -> torch.Tensor:
        """Forward and backward, on the model's own batch where none is given; the loss."""
        self.optimizer.zero_grad()
        loss = self.forward(*(batch or self.batch))
        loss.backward()
        return loss.detach()

    def step(self, *batch: torch.Tensor) -> torch.Tensor:
        """Forward, backward and update; the loss."""
        loss = self.differentiate(*batch)
        self.optimizer.step()
        return loss

    def storages(self) -> Iterator[Any]:
        """What is held between steps."""
        tensors = [*self.batch, *self.model.state_dict().values()]
        for state in self.optimizer.state.values():
            tensors += [t for t in state.values() if isinstance(t, torch.Tensor)]
        return (t.untyped_storage() for t in tensors)


def calls_of(code: str) -> int:
    """Calls in inductor's generated `call` that do work."""
    return len(re.findall(r"^\s+(?:\w+ = )?(?:cpp_fused_\w+|extern_kernels\.\w+"
                          r"|torch\.ops\.\w+\.\w+(?:\.\w+)?)\(", code, re.M))  # fmt: skip


def _read(result: Any) -> list[np.ndarray]:
    return [sampled(p) for p in (result if isinstance(result, tuple) else (result,))]
