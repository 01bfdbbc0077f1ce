"""Schedules that rise and fall: one cycle, many, and cosines with restarts.

In: an optimizer. Out: new values of its groups' "lr", and of momentum or beta1 where it moves the
other way round. Invariant: PyTorch's values; a change writes one number and compiles nothing.
Source: https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tgrad.errors import OutOfRangeError, UnsupportedError
from tgrad.optim.lr_scheduler.schedule import LRScheduler, held_by, one_per_group, set_rate
from tgrad.optim.optimizer import Optimizer


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
        self.total_steps, self._anneal_func_type = total_steps, anneal_strategy
        self.cycle_momentum = cycle_momentum
        self._schedule_phases = self._make_phases(pct_start, three_phase)
        groups = optimizer.param_groups
        for group, peak in zip(groups, one_per_group("OneCycleLR: max_lr", max_lr, optimizer)):
            if last_epoch == -1:
                group["initial_lr"] = peak / div_factor
                group["max_lr"], group["min_lr"] = peak, peak / div_factor / final_div_factor
        if cycle_momentum:
            self._start_momentum(optimizer, base_momentum, max_momentum, last_epoch)
        for group in groups:
            set_rate(group, group["initial_lr"] if last_epoch == -1 else group["lr"])
        super().__init__(optimizer, last_epoch)

    def _make_phases(self, pct_start: float, three_phase: bool) -> list[dict[str, Any]]:
        """The last step, and the first and last values of each phase, as PyTorch keeps them."""
        rise = _phase(float(pct_start * self.total_steps) - 1, "initial_lr", "max_lr")
        end = self.total_steps - 1
        if not three_phase:
            return [rise, _phase(end, "max_lr", "min_lr")]
        fall = _phase(float(2 * pct_start * self.total_steps) - 2, "max_lr", "initial_lr")
        return [rise, fall, _phase(end, "initial_lr", "min_lr")]

    def _start_momentum(
        self,
        optimizer: Optimizer,
        base: float | Sequence[float],
        peak: float | Sequence[float],
        last_epoch: int,
    ) -> None:
        self.use_beta1 = _move_momentum("OneCycleLR", optimizer)
        lows = one_per_group("OneCycleLR: base_momentum", base, optimizer)
        highs = one_per_group("OneCycleLR: max_momentum", peak, optimizer)
        for group, low, high in zip(optimizer.param_groups, lows, highs):
            if last_epoch == -1:
                group["base_momentum"], group["max_momentum"] = low, high
                _set_momentum(group, high)

    def _between(self, start: float, end: float, done: float) -> float:
        if self._anneal_func_type == "linear":
            return (end - start) * done + start
        return end + (start - end) / 2.0 * (1 + math.cos(math.pi * done))

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:  # the step after the last batch is one of them
            raise OutOfRangeError(
                f"OneCycleLR: step {self.last_epoch} of {self.total_steps}.", "Give more steps."
            )
        phases = self._schedule_phases
        start = 0.0
        number = 0
        while number < len(phases) - 1 and self.last_epoch > phases[number]["end_step"]:
            start = phases[number]["end_step"]
            number += 1
        phase = phases[number]
        end = phase["end_step"]
        done = (self.last_epoch - start) / (end - start) if end != start else 1.0
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._between(group[phase["start_lr"]], group[phase["end_lr"]], done))
            if self.cycle_momentum:
                first, last = group[phase["start_momentum"]], group[phase["end_momentum"]]
                _set_momentum(group, self._between(first, last, done))
        return rates


def _phase(end_step: float, low: str, high: str) -> dict[str, Any]:
    """Momentum is high where the rate is low."""
    momenta = {"initial_lr": "max_momentum", "max_lr": "base_momentum", "min_lr": "max_momentum"}
    return {
        "end_step": end_step, "start_lr": low, "end_lr": high,
        "start_momentum": momenta[low], "end_momentum": momenta[high],
    }  # fmt: skip


def _set_momentum(group: dict[str, Any], value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


def _move_momentum(name: str, optimizer: Optimizer) -> bool:
    """Let momentum, or beta1, be a number that moves between steps; whether it is beta1."""
    if not any(kind in optimizer.defaults for kind in ("momentum", "betas")):
        raise UnsupportedError(
            f"{name}: cycle_momentum=True without momentum.", "Pass cycle_momentum=False."
        )
    is_beta1 = "betas" in optimizer.defaults
    optimizer.moving.add("beta1" if is_beta1 else "momentum")
    return is_beta1


class CyclicLR(LRScheduler):
    """Up from base_lr to max_lr and down again, over and over, with momentum the other way round.

    Args:
        base_lr, max_lr: the range, numbers or one a group.
        step_size_up, step_size_down: steps of the rise and of the fall, by default as many.
        mode: "triangular"; "triangular2" halves the height at each cycle; "exp_range" multiplies it
            by gamma at each step.
        scale_fn: the height by a function of the cycle's or the step's number instead.
        scale_mode: which of the two: "cycle" or "iterations".
        cycle_momentum: whether momentum, or beta1, moves too.
        base_momentum, max_momentum: its range.

    Source: Smith, Cyclical Learning Rates (2017).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ):
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise UnsupportedError(
                f"CyclicLR: mode={mode!r}.", 'Use "triangular", "triangular2" or "exp_range".'
            )
        lows = one_per_group("CyclicLR: base_lr", base_lr, optimizer)
        self.max_lrs = one_per_group("CyclicLR: max_lr", max_lr, optimizer)
        for group, low in zip(optimizer.param_groups, lows):
            if last_epoch == -1:
                set_rate(group, low)
        fall = step_size_up if step_size_down is None else step_size_down
        self.total_size = float(step_size_up + fall)
        self.step_ratio = step_size_up / self.total_size
        self.mode, self.gamma, self._scale_fn_custom = mode, gamma, scale_fn
        self.scale_mode = scale_mode
        if scale_fn is None:
            self.scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.use_beta1 = _move_momentum("CyclicLR", optimizer)
            self.base_momentums = one_per_group("CyclicLR: base", base_momentum, optimizer)
            self.max_momentums = one_per_group("CyclicLR: max", max_momentum, optimizer)
            momenta = zip(optimizer.param_groups, self.base_momentums, self.max_momentums)
            for group, low, high in momenta:
                if last_epoch == -1:
                    group["base_momentum"], group["max_momentum"] = low, high
                    _set_momentum(group, high)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lows

    def scale_fn(self, x: float) -> float:
        """The height of a cycle, as a share of max_lr - base_lr."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "triangular2":
            return 1 / 2.0 ** (x - 1)
        return float(self.gamma**x) if self.mode == "exp_range" else 1.0

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        rising = x <= self.step_ratio
        share = x / self.step_ratio if rising else (x - 1) / (self.step_ratio - 1)
        share *= self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            momenta = zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums)
            for group, low, high in momenta:
                _set_momentum(group, high - (high - low) * share)
        return [low + (high - low) * share for low, high in zip(self.base_lrs, self.max_lrs)]

    def state_dict(self) -> dict[str, Any]:
        """All but the optimizer; of a scale_fn, what an object that is called holds."""
        kept, custom = super().state_dict(), self._scale_fn_custom
        return {**kept, "_scale_fn_custom": None if custom is None else held_by(custom)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        held = state_dict["_scale_fn_custom"]
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_scale_fn_custom"})
        if held is not None and self._scale_fn_custom is not None:
            self._scale_fn_custom.__dict__.update(held)


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine from the first rate to eta_min, again and again.

    Args:
        T_0: steps of the first.
        T_mult: each is so many times as long as the one before.
        eta_min: the least rate.

    Source: Loshchilov and Hutter, SGDR (2017).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ):
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                raise OutOfRangeError(
                    f"CosineAnnealingWarmRestarts: {name}={value}.", "Use an integer above 0."
                )
        self.T_0, self.T_i, self.T_mult, self.eta_min = T_0, T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        share = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go to the next rates, or to those of an epoch, which may be between two: epoch + i / n
        after batch i of n.

        Raises:
            OutOfRangeError: the epoch is negative.
        """
        self._check_untraced()
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur, self.T_i = self.T_cur % self.T_i, self.T_i * self.T_mult
        else:
            self.T_cur, self.T_i = self._place(epoch)
        self.last_epoch = math.floor(epoch)
        for group, rate in zip(self.optimizer.param_groups, self.get_lr()):
            set_rate(group, rate)
        self._last_lr = self._rates()

    def _place(self, epoch: float) -> tuple[float, int]:
        """Where an epoch is in its cosine, and how long that is."""
        if epoch < 0:
            raise OutOfRangeError(f"CosineAnnealingWarmRestarts: epoch {epoch}.", "Use 0 or more.")
        if epoch < self.T_0:
            return epoch, self.T_0
        if self.T_mult == 1:
            return epoch % self.T_0, self.T_0
        number = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
        start = self.T_0 * (self.T_mult**number - 1) / (self.T_mult - 1)
        return epoch - start, self.T_0 * self.T_mult**number
