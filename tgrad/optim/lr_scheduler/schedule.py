"""Schedules that a step number determines: constant, steps, lines, powers, cosines, functions.

In: an optimizer. Out: new values of its groups' "lr", after each `step`. Invariant: PyTorch's
values; a change writes one number and compiles nothing. Each `step` multiplies the rate that holds,
so that schedules may be chained; `step(epoch)` computes it from the first rate. Source:
https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from tgrad.errors import OutOfRangeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.optim.optimizer import Group, Optimizer
from tgrad.tensor import Tensor
from tgrad.tracing import tracer

Factor = Callable[[int], float]


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
                rate = group["lr"]
                group.setdefault("initial_lr", rate.clone() if isinstance(rate, Tensor) else rate)
            elif "initial_lr" not in group:
                raise UnsupportedError(
                    f"last_epoch={last_epoch} without 'initial_lr' in the parameter groups.",
                    "Load the optimizer's state_dict first.",
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self._last_lr: list[float] = []
        self._start()

    def _start(self) -> None:
        """Set the first rates."""
        self._step_count = 0
        self._is_initial, self._get_lr_called_within_step = True, False
        self.step()
        self._is_initial = False

    def get_lr(self) -> list[float]:
        """The rates of `last_epoch`, from those that hold."""
        raise NotImplementedError

    def _closed_form(self) -> list[float]:
        """The rates of `last_epoch`, from the first ones."""
        return self.get_lr()

    def get_last_lr(self) -> list[float]:
        """The rates that hold now."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Go to the next rates, or to those of an epoch.

        Raises:
            TraceError: a compiled function calls it, whose replays would not.
        """
        self._check_untraced()
        self._step_count += 1
        self._go_to(epoch)

    def _check_untraced(self) -> None:
        trace = tracer()
        if trace is not None:
            trace.refuse(
                f"{type(self).__name__}.step() is called",
                "Call it after the compiled step, which reads the rates at every call.",
            )

    def _go_to(self, epoch: int | None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        rates = self.get_lr() if epoch is None else self._closed_form()
        for group, rate in zip(self.optimizer.param_groups, rates):
            set_rate(group, rate)
        self._last_lr = self._rates()

    def _rates(self) -> list[float]:
        """The rates of the groups; a rate that is a tensor as a copy."""
        return [_number(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All but the optimizer; of functions, what objects that are called hold."""
        kept = {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "lr_lambdas")}
        if hasattr(self, "lr_lambdas"):
            kept["lr_lambdas"] = [held_by(f) for f in self.lr_lambdas]
        return kept

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self.__dict__.update({k: v for k, v in state_dict.items() if k != "lr_lambdas"})
        for function, held in zip(
            getattr(self, "lr_lambdas", ()), state_dict.get("lr_lambdas", ())
        ):
            if held is not None:
                function.__dict__.update(held)


def _number(rate: Any) -> Any:
    return rate.clone() if isinstance(rate, Tensor) else rate


def set_rate(group: Group, rate: float | Tensor) -> None:
    """The rate of a group; a rate that is a tensor stays that tensor."""
    held = group["lr"]
    if not isinstance(held, Tensor):
        group["lr"] = rate
    else:
        with no_grad():
            held.fill_(rate)


def held_by(function: Any) -> dict[str, Any] | None:
    """The attributes of an object that is called; None for a plain function."""
    return None if isinstance(function, FunctionType) else dict(function.__dict__)


def one_per_group(name: str, given: Any, optimizer: Optimizer) -> list[Any]:
    """One value or function a group.

    Raises:
        OutOfRangeError: a sequence of another length.
    """
    count = len(optimizer.param_groups)
    each = list(given) if isinstance(given, (list, tuple)) else [given] * count
    if len(each) != count:
        raise OutOfRangeError(f"{name}: {len(each)} values for {count} parameter groups.")
    return each


class LambdaLR(LRScheduler):
    """The first rate times a function of the step's number.

    Args:
        lr_lambda: the function, or one a group.
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1
    ):
        self.lr_lambdas = one_per_group("LambdaLR", lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas)]


class MultiplicativeLR(LRScheduler):
    """The rate times a function of the step's number.

    Args:
        lr_lambda: the function, or one a group.
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1
    ):
        self.lr_lambdas = one_per_group("MultiplicativeLR", lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._is_initial:
            return self._rates()
        return [rate * f(self.last_epoch) for rate, f in zip(self._rates(), self.lr_lambdas)]


class _Multiplied(LRScheduler):
    """A schedule whose step multiplies every rate by one factor."""

    def _factor(self) -> float:
        """What the rate of the step before is multiplied by."""
        raise NotImplementedError

    def _total(self) -> float:
        """What the first rate is multiplied by."""
        raise NotImplementedError

    def get_lr(self) -> list[float]:
        factor = self._factor()
        return self._rates() if factor == 1 else [rate * factor for rate in self._rates()]

    def _closed_form(self) -> list[float]:
        return [base * self._total() for base in self.base_lrs]


class StepLR(_Multiplied):
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

    def _factor(self) -> float:
        return 1.0 if self.last_epoch == 0 or self.last_epoch % self.step_size else self.gamma

    def _total(self) -> float:
        return self.gamma ** (self.last_epoch // self.step_size)


class MultiStepLR(_Multiplied):
    """The rate times gamma at each milestone."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ):
        self.milestones, self.gamma = Counter(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        return self.gamma ** self.milestones[self.last_epoch]

    def _total(self) -> float:
        return self.gamma ** sum(m <= self.last_epoch for m in self.milestones.elements())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.milestones = Counter(self.milestones)


class ConstantLR(_Multiplied):
    """The first rate times a factor for total_iters steps, then the first rate.

    Args:
        factor: 0 to 1.
        total_iters: when the rate goes back.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ):
        if not 0 <= factor <= 1:
            raise OutOfRangeError(f"ConstantLR: factor={factor}.", "Use 0 to 1.")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        if self.last_epoch == 0:
            return self.factor
        return 1.0 / self.factor if self.last_epoch == self.total_iters else 1.0

    def _total(self) -> float:
        return self.factor if self.last_epoch < self.total_iters else 1.0


class ExponentialLR(_Multiplied):
    """The rate times gamma at each step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        return 1.0 if self._is_initial else self.gamma

    def _total(self) -> float:
        return self.gamma**self.last_epoch


class LinearLR(_Multiplied):
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

    def _factor(self) -> float:
        if self.last_epoch == 0:
            return self.start_factor
        if self._is_initial or self.last_epoch > self.total_iters:
            return 1.0
        slope = self.end_factor - self.start_factor
        return 1.0 + slope / (self.total_iters * self.start_factor + (self.last_epoch - 1) * slope)

    def _total(self) -> float:
        done = min(self.total_iters, self.last_epoch) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * done


class PolynomialLR(_Multiplied):
    """The first rate times (1 - step / total_iters) ** power, 0 from total_iters on."""

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int = 5,
        power: float = 1.0,
        last_epoch: int = -1,
    ):
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        if self._is_initial or self.last_epoch > self.total_iters:
            return 1.0
        left = 1.0 - self.last_epoch / self.total_iters
        return (left / (1.0 - (self.last_epoch - 1) / self.total_iters)) ** self.power

    def _total(self) -> float:
        return (1.0 - min(self.total_iters, self.last_epoch) / self.total_iters) ** self.power


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the first rate to eta_min in T_max steps, and on from there.

    Source: Loshchilov and Hutter, SGDR (2017).
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ):
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def _height(self, epoch: int) -> float:
        return 1 + math.cos(math.pi * epoch / self.T_max)

    def get_lr(self) -> list[float]:
        if self._is_initial:
            return self._rates()
        if self._step_count == 1 and self.last_epoch > 0:
            return self._closed_form()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [r + (b - self.eta_min) * rise for r, b in zip(self._rates(), self.base_lrs)]
        factor = self._height(self.last_epoch) / self._height(self.last_epoch - 1)
        return [factor * (rate - self.eta_min) + self.eta_min for rate in self._rates()]

    def _closed_form(self) -> list[float]:
        share = self._height(self.last_epoch) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]
