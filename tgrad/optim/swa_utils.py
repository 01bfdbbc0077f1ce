"""Averages of a model's parameters over training, and the schedule that goes with them.

In: a model, after each step. Out: a model whose parameters are averages. Invariant: the count of
averaged models is a buffer and every choice on it is made on the device, so `update_parameters` may
be part of a compiled step. Sources: Izmailov et al. 2018; Polyak and Juditsky 1992;
https://docs.pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

from tgrad import dtype as dt
from tgrad.creation import DeviceLike
from tgrad.errors import OutOfRangeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.nn.module import Module
from tgrad.nn.modules.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d
from tgrad.optim.lr_scheduler.schedule import LRScheduler, one_per_group
from tgrad.optim.optimizer import Optimizer
from tgrad.tensor import Tensor, tensor

Average = Callable[[Tensor, Tensor, Tensor], Tensor]
Averages = Callable[[list[Tensor], list[Tensor], Tensor], None]


def _check_decay(decay: float) -> None:
    if not 0 <= decay <= 1:
        raise OutOfRangeError(f"decay={decay}.", "Use 0 to 1.")


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """The average that moves by 1 - decay of the way."""
    _check_decay(decay)

    def average(held: Tensor, current: Tensor, num_averaged: Tensor) -> Tensor:
        return held * decay + current * (1 - decay)

    return average


def get_swa_avg_fn() -> Average:
    """The average of all models, equally weighted."""

    def average(held: Tensor, current: Tensor, num_averaged: Tensor) -> Tensor:
        return held + (current - held) / (num_averaged + 1)

    return average


def _for_lists(average: Average) -> Averages:
    @no_grad()
    def averages(held: list[Tensor], current: list[Tensor], num_averaged: Tensor) -> None:
        for each, now in zip(held, current):
            each.copy_(average(each, now, num_averaged))

    return averages


def get_ema_multi_avg_fn(decay: float = 0.999) -> Averages:
    """`get_ema_avg_fn` for lists of tensors, which are changed in place."""
    return _for_lists(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> Averages:
    """`get_swa_avg_fn` for lists of tensors, which are changed in place."""
    return _for_lists(get_swa_avg_fn())


class AveragedModel(Module):
    """A copy of a model that averages its parameters.

    Args:
        model: which is copied.
        device: where the copy lives; by default where the model does.
        avg_fn: the new average from the old one, the model's parameter and the count of models so
            far; by default `get_swa_avg_fn()`.
        multi_avg_fn: changes lists of averages in place instead.
        use_buffers: average the buffers too, instead of copying them.

    >>> import tgrad
    >>> model = tgrad.nn.Linear(1, 1, bias=False)
    >>> mean = tgrad.optim.swa_utils.AveragedModel(model)
    >>> for value in (1.0, 2.0, 6.0):
    ...     _ = tgrad.nn.init.constant_(model.weight, value)
    ...     mean.update_parameters(model)
    >>> mean.module.weight.item()
    3.0
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: DeviceLike = None,
        avg_fn: Average | None = None,
        multi_avg_fn: Averages | None = None,
        use_buffers: bool = False,
    ):
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise UnsupportedError("AveragedModel: avg_fn and multi_avg_fn.", "Give one of them.")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, dtype=dt.int64, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Take the model's parameters into the average; the first ones are the average."""
        held = list(chain(self.module.parameters(), self._averaged_buffers(self.module)))
        given = list(chain(model.parameters(), self._averaged_buffers(model)))
        current = [new.detach().to(old.device) for old, new in zip(held, given)]
        counts = {t.device: self.n_averaged.to(t.device) for t in held}
        before = [old.detach().clone() for old in held]
        if self.multi_avg_fn is not None:
            for device, count in counts.items():
                pairs = [(b, c) for b, c in zip(before, current) if b.device == device]
                olds, news = ([pair[i] for pair in pairs] for i in (0, 1))
                self.multi_avg_fn(olds, news, count)
            averages = before
        else:
            average = self.avg_fn or get_swa_avg_fn()
            averages = [average(b, c, counts[b.device]) for b, c in zip(before, current)]
        for old, new, mean in zip(held, current, averages):
            old.copy_(new.where(counts[old.device] == 0, mean.to(old.dtype)))
        if not self.use_buffers:
            for old, new in zip(self.module.buffers(), model.buffers()):
                old.copy_(new.detach().to(old.device))
        self.n_averaged += 1

    def _averaged_buffers(self, model: Module) -> Iterable[Tensor]:
        return model.buffers() if self.use_buffers else ()


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: DeviceLike = None) -> None:
    """Give the batch norms of a model the statistics of all batches of a loader.

    Args:
        loader: batches, or sequences whose first item is one.
        model: which is called with each batch.
        device: where batches are moved to.
    """
    norms = [m for m in model.modules() if isinstance(m, (BatchNorm1d, BatchNorm2d, BatchNorm3d))]
    if not norms:
        return
    momenta, was_training = [m.momentum for m in norms], model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    for batch in loader:
        first = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(first if device is None else first.to(device))
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """From the rate that holds to swa_lr in anneal_epochs steps, and constant from there.

    Args:
        swa_lr: the last rate, or one a group.
        anneal_epochs: 0 or more steps.
        anneal_strategy: "cos" or "linear".
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | Sequence[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ):
        if anneal_strategy not in ("cos", "linear"):
            raise UnsupportedError(
                f"SWALR: anneal_strategy={anneal_strategy!r}.", 'Use "cos" or "linear".'
            )
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise OutOfRangeError(f"SWALR: anneal_epochs={anneal_epochs}.", "Use 0 or more.")
        for group, rate in zip(optimizer.param_groups, one_per_group("SWALR", swa_lr, optimizer)):
            group["swa_lr"] = rate
        self.anneal_epochs, self._anneal_strategy = anneal_epochs, anneal_strategy
        super().__init__(optimizer, last_epoch)

    def _share(self, step: int) -> float:
        """How much of the way is gone."""
        t = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[float]:
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._share(step - 1), self._share(step)
        rates = []
        for group in self.optimizer.param_groups:
            last = group["swa_lr"]
            first = last if before == 1 else (group["lr"] - before * last) / (1 - before)
            rates.append(last * now + first * (1 - now))
        return rates
