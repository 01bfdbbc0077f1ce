"""Schedules made of schedules, and the one that a measured value drives.

In: schedules of one optimizer; a metric. Out: new values of its groups' "lr". Invariant: PyTorch's
values. Source: https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from tgrad.arguments import refuse
from tgrad.errors import OutOfRangeError, UnsupportedError
from tgrad.optim.lr_scheduler.schedule import LRScheduler, one_per_group, set_rate
from tgrad.optim.optimizer import Optimizer


class _Combined(LRScheduler):
    """Schedules of one optimizer."""

    def _take(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> None:
        name = type(self).__name__
        if not schedulers:
            raise OutOfRangeError(f"{name} of no schedules.", "Give at least one.")
        self._schedulers = list(schedulers)
        self.optimizer = optimizer or self._schedulers[0].optimizer
        for each in self._schedulers:
            if isinstance(each, ReduceLROnPlateau):
                raise UnsupportedError(
                    f"{name} of a ReduceLROnPlateau.", "Step it beside: it takes a metric."
                )
            if each.optimizer is not self.optimizer:
                raise UnsupportedError(
                    f"{name} of schedules of several optimizers.", "Make one for each optimizer."
                )

    def state_dict(self) -> dict[str, Any]:
        """All but the optimizer, with the states of the schedules."""
        kept = {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "_schedulers")}
        return {**kept, "_schedulers": [each.state_dict() for each in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self.__dict__.update({k: v for k, v in state_dict.items() if k != "_schedulers"})
        for each, state in zip(self._schedulers, state_dict["_schedulers"]):
            each.load_state_dict(state)


class SequentialLR(_Combined):
    """One schedule after the other, each from its own first step.

    Args:
        optimizer: whose groups all of them schedule.
        schedulers: in order.
        milestones: the steps at which the second, the third ... begins.

    >>> import tgrad
    >>> w = tgrad.ones(1, requires_grad=True)
    >>> optimizer = tgrad.optim.SGD([w], lr=1.0)
    >>> schedules = tgrad.optim.lr_scheduler
    >>> warm = schedules.LinearLR(optimizer, 0.5, total_iters=2)
    >>> fall = schedules.ExponentialLR(optimizer, 0.5)
    >>> schedule = schedules.SequentialLR(optimizer, [warm, fall], [2])
    >>> rates = []
    >>> for _ in range(4):
    ...     rates += schedule.get_last_lr()
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [0.5, 0.75, 1.0, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ):
        self._take(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise OutOfRangeError(
                f"SequentialLR: {len(milestones)} milestones for {len(schedulers)} schedules.",
                "Give one less than schedules.",
            )
        self._milestones, self.last_epoch = list(milestones), last_epoch + 1
        for group in optimizer.param_groups:
            set_rate(group, group["initial_lr"])
        _take_back(self)
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._start()
        self._last_lr = first.get_last_lr()

    def step(self, epoch: int | None = None) -> None:
        """Go to the next rates; `epoch` is not supported."""
        self._check_untraced()
        refuse("SequentialLR.step", epoch=epoch)
        self.last_epoch += 1
        number = bisect_right(self._milestones, self.last_epoch)
        now = self._schedulers[number]
        if number and self._milestones[number - 1] == self.last_epoch:
            now._go_to(0)
        else:
            now.step()
        self._last_lr = now.get_last_lr()


def _take_back(schedule: LRScheduler) -> None:
    """Undo the first step that every schedule makes when it is built."""
    if isinstance(schedule, _Combined):
        for each in schedule._schedulers:
            _take_back(each)
    else:
        schedule.last_epoch -= 1


class ChainedScheduler(_Combined):
    """All schedules at every step, each on the rate that the one before left."""

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None):
        self._take(schedulers, optimizer)
        self._last_lr = self._rates()

    def _start(self) -> None:
        """Set the first rates."""
        self.step()

    def step(self, epoch: int | None = None) -> None:
        """Go to the next rates; `epoch` is not supported."""
        self._check_untraced()
        refuse("ChainedScheduler.step", epoch=epoch)
        for each in self._schedulers:
            each.step()
        self._last_lr = self._rates()


class ReduceLROnPlateau(LRScheduler):
    """The rate times a factor when a metric has not improved for `patience` steps.

    Args:
        mode: "min" for metrics that should fall, "max" for those that should rise.
        factor: below 1.
        patience: steps without improvement that are borne.
        threshold: what counts as improvement: so much better than the best.
        threshold_mode: "rel" for a share of the best, "abs" for a difference.
        cooldown: steps after a change that are not counted.
        min_lr: the least rate, or one a group.
        eps: smaller changes are not made.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ):
        if factor >= 1:
            raise OutOfRangeError(f"ReduceLROnPlateau: factor={factor}.", "Use less than 1.")
        if mode not in ("min", "max"):
            raise UnsupportedError(f"ReduceLROnPlateau: mode={mode!r}.", 'Use "min" or "max".')
        if threshold_mode not in ("rel", "abs"):
            raise UnsupportedError(
                f"ReduceLROnPlateau: threshold_mode={threshold_mode!r}.", 'Use "rel" or "abs".'
            )
        self.optimizer, self.factor, self.patience, self.eps = optimizer, factor, patience, eps
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.cooldown, self.last_epoch = cooldown, 0
        self.default_min_lr = None if isinstance(min_lr, (list, tuple)) else min_lr
        self.min_lrs = one_per_group("ReduceLROnPlateau: min_lr", min_lr, optimizer)
        self._last_lr = self._rates()
        self.best = self.mode_worse = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = 0

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Note a metric (a number, or a tensor, which is read), and reduce the rates if it is time.

        Args:
            metrics: the value.
            epoch: its number, by default the next.
        """
        self._check_untraced()
        current = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown_counter - 1, 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._rates()

    def _is_better(self, value: float) -> bool:
        sign = 1.0 if self.mode == "min" else -1.0
        if self.threshold_mode == "abs":
            return sign * value < sign * self.best - self.threshold
        return sign * value < sign * self.best * (1.0 - sign * self.threshold)

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise OutOfRangeError(
                    f"ReduceLROnPlateau: {len(self.min_lrs)} least rates, {len(groups)} groups.",
                    "Set min_lrs to one rate a group.",
                )
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, least in zip(groups, self.min_lrs):
            before = float(group["lr"])
            after = max(before * self.factor, least)
            if before - after > self.eps:
                set_rate(group, after)
