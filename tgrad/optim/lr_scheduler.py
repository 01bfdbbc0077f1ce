"""Schedules of the learning rate.

In: an optimizer. Out: new values of its groups' "lr" (and momentum, for OneCycleLR), after each
`step`. Invariant: PyTorch's values; a change writes one number and compiles nothing. Source:
https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tgrad.arguments import refuse
from tgrad.errors import OutOfRangeError, UnsupportedError
from tgrad.optim.optimizer import Optimizer


class LRScheduler:
    """Base of all schedules: `get_lr` gives the rates for `last_epoch`.

    Args:
        optimizer: whose groups are scheduled.
        last_epoch: number of the last step when resuming, -1 to start.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        self.optimizer, self.last_epoch = optimizer, last_epoch
        for group in optimizer.param_groups:
            if last_epoch == -1:
                group["initial_lr"] = group["lr"]
            elif "initial_lr" not in group:
                raise UnsupportedError(
                    f"last_epoch={last_epoch} without 'initial_lr' in the parameter groups.",
                    "Load the optimizer's state_dict first.",
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self._last_lr: list[float] = []
        self.step()

    def get_lr(self) -> list[float]:
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The rates that hold now."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Go to the next rates."""
        refuse("LRScheduler.step", epoch=epoch)
        self.last_epoch += 1
        for group, rate in zip(self.optimizer.param_groups, self.get_lr()):
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All but the optimizer and functions."""
        return {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "lr_lambdas")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self.__dict__.update(state_dict)


class LambdaLR(LRScheduler):
    """The first rate times a function of the step's number.

    Args:
        lr_lambda: the function, or one a group.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ):
        count = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * count if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != count:
            raise OutOfRangeError(f"LambdaLR: {len(self.lr_lambdas)} functions, {count} groups.")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas)]


class StepLR(LRScheduler):
    """The rate times gamma every step_size steps.

    >>> import tgrad
    >>> w = tgrad.ones(1, requires_grad=True)
    >>> optimizer = tgrad.optim.SGD([w], lr=1.0)
    >>> schedule = tgrad.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    >>> rates = []
    >>> for _ in range(4):
    ...     optimizer.step()
    ...     schedule.step()
    ...     rates += schedule.get_last_lr()
    >>> rates
    [1.0, 0.5, 0.5, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ):
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        rates = [group["lr"] for group in self.optimizer.param_groups]
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return rates
        return [rate * self.gamma for rate in rates]


class MultiStepLR(LRScheduler):
    """The rate times gamma at each milestone."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ):
        self.milestones, self.gamma = list(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        factor = self.gamma ** self.milestones.count(self.last_epoch)
        return [group["lr"] * factor for group in self.optimizer.param_groups]


class ExponentialLR(LRScheduler):
    """The rate times gamma at each step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        factor = self.gamma if self.last_epoch > 0 else 1.0
        return [group["lr"] * factor for group in self.optimizer.param_groups]


class LinearLR(LRScheduler):
    """The first rate times a factor that goes from start_factor to end_factor in total_iters."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ):
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise OutOfRangeError(
                f"LinearLR: start_factor={start_factor}, end_factor={end_factor}.",
                "Factors are in (0, 1] and [0, 1].",
            )
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        done = min(self.last_epoch / self.total_iters, 1.0)
        factor = self.start_factor + (self.end_factor - self.start_factor) * done
        return [base * factor for base in self.base_lrs]


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the first rate to eta_min in T_max steps, and on from there.

    Source: Loshchilov and Hutter, SGDR (2017).
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ):
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        share = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]


class OneCycleLR(LRScheduler):
    """One rise to max_lr and one fall far below, with momentum the other way round.

    Args:
        max_lr: the peak, a number or one a group.
        total_steps: length, or `epochs` times `steps_per_epoch`.
        pct_start: share of the rise.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: whether momentum, or beta1, moves too.
        base_momentum, max_momentum: its range.
        div_factor: the first rate is max_lr / div_factor.
        final_div_factor: the last rate is the first / final_div_factor.
        three_phase: fall to the first rate before falling to the last.

    Source: Smith and Topin, Super-Convergence (2018).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        if anneal_strategy not in ("cos", "linear"):
            raise UnsupportedError(
                f"OneCycleLR: anneal_strategy={anneal_strategy!r}.", 'Use "cos" or "linear".'
            )
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise OutOfRangeError(
                    "OneCycleLR without a length.",
                    "Give total_steps, or epochs and steps_per_epoch.",
                )
            total_steps = epochs * steps_per_epoch
        if total_steps <= 0 or not 0 <= pct_start <= 1:
            raise OutOfRangeError(f"OneCycleLR: {total_steps} steps, pct_start={pct_start}.")
        self.total_steps, self.anneal_strategy = total_steps, anneal_strategy
        self.cycle_momentum = cycle_momentum
        self._phases = self._make_phases(pct_start, three_phase)
        groups = optimizer.param_groups
        for group, peak in zip(groups, _each(max_lr, groups)):
            if last_epoch == -1:
                group["initial_lr"] = peak / div_factor
                group["max_lr"], group["min_lr"] = peak, peak / div_factor / final_div_factor
        if cycle_momentum:
            self._start_momentum(optimizer, base_momentum, max_momentum, last_epoch)
        for group in groups:
            group["lr"] = group["initial_lr"] if last_epoch == -1 else group["lr"]
        super().__init__(optimizer, last_epoch)

    def _make_phases(self, pct_start: float, three_phase: bool) -> list[tuple[float, str, str]]:
        """(last step, first value, last value) of each phase."""
        end = float(self.total_steps - 1)
        rise = float(pct_start * self.total_steps) - 1
        if not three_phase:
            return [(rise, "initial_lr", "max_lr"), (end, "max_lr", "min_lr")]
        fall = float(2 * pct_start * self.total_steps) - 2
        return [
            (rise, "initial_lr", "max_lr"),
            (fall, "max_lr", "initial_lr"),
            (end, "initial_lr", "min_lr"),
        ]

    def _start_momentum(
        self,
        optimizer: Optimizer,
        base: float | Sequence[float],
        peak: float | Sequence[float],
        last_epoch: int,
    ) -> None:
        if not any(name in optimizer.defaults for name in ("momentum", "betas")):
            raise UnsupportedError(
                "OneCycleLR: cycle_momentum=True without momentum.", "Pass cycle_momentum=False."
            )
        groups = optimizer.param_groups
        optimizer.moving.add("beta1" if "betas" in optimizer.defaults else "momentum")
        for group, low, high in zip(groups, _each(base, groups), _each(peak, groups)):
            if last_epoch == -1:
                group["base_momentum"], group["max_momentum"] = low, high
                _set_momentum(group, high)

    def _between(self, start: float, end: float, done: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * done + start
        return end + (start - end) / 2.0 * (1 + math.cos(math.pi * done))

    def get_lr(self) -> list[float]:
        if self.last_epoch >= self.total_steps:
            raise OutOfRangeError(
                f"OneCycleLR: step {self.last_epoch} of {self.total_steps}.", "Give more steps."
            )
        # momentum is high where the rate is low
        opposite = {
            "initial_lr": "max_momentum",
            "max_lr": "base_momentum",
            "min_lr": "max_momentum",
        }
        start = 0.0
        number = 0
        while number < len(self._phases) - 1 and self.last_epoch > self._phases[number][0]:
            start = self._phases[number][0]
            number += 1
        end, low, high = self._phases[number]
        done = (self.last_epoch - start) / (end - start) if end != start else 1.0
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._between(group[low], group[high], done))
            if self.cycle_momentum:
                first, last = group[opposite[low]], group[opposite[high]]
                _set_momentum(group, self._between(first, last, done))
        return rates


def _each(value: float | Sequence[float], groups: Sequence[Any]) -> list[float]:
    """One number a group."""
    each = list(value) if isinstance(value, Sequence) else [value] * len(groups)
    if len(each) != len(groups):
        raise OutOfRangeError(f"{len(each)} values for {len(groups)} parameter groups.")
    return each


def _set_momentum(group: dict[str, Any], value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value
