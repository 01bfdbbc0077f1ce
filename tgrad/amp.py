"""`torch.amp`'s names: autocast, and the scaling that keeps gradients in float16 above zero.

In: losses and optimizers. Out: the same steps, scaled. Invariant: whether a gradient overflowed is
known on the device alone, so that a step stays one plan: state and parameters that it may not
change are selected, not skipped.
Source: https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling
"""

from __future__ import annotations

from typing import Any

from tgrad import dtype as dt
from tgrad.autocasting import autocast as autocast
from tgrad.autocasting import custom_bwd as custom_bwd
from tgrad.autocasting import custom_fwd as custom_fwd
from tgrad.autocasting import get_autocast_dtype as get_autocast_dtype
from tgrad.autocasting import is_autocast_available as is_autocast_available
from tgrad.autocasting import is_autocast_enabled as is_autocast_enabled
from tgrad.errors import OutOfRangeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.optim.optimizer import Optimizer
from tgrad.tensor import Tensor, tensor


class GradScaler:
    """Multiplies losses, divides gradients, and leaves out steps whose gradients overflowed.

    The scale grows after `growth_interval` steps without an overflow, and shrinks after each.

    Args:
        device: accepted as in PyTorch; the scale lies beside the losses.
        init_scale, growth_factor, backoff_factor, growth_interval: as in PyTorch.
        enabled: False makes every method pass on what it gets.

    Raises:
        OutOfRangeError: a factor that does not grow, or does not shrink.

    >>> import tgrad
    >>> from tgrad import optim
    >>> w = tgrad.ones(2, requires_grad=True)
    >>> optimizer, scaler = optim.SGD([w], lr=0.5), tgrad.amp.GradScaler("cpu", init_scale=8.0)
    >>> scaler.scale((w * w).sum()).backward()
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> w.tolist(), scaler.get_scale()
    ([0.0, 0.0], 8.0)
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        self._enabled = enabled
        self._init_scale = init_scale
        self._settings: dict[str, float] = {}
        self.__wrapped__ = self._settings  # which compiled steps follow, and watch
        self.set_growth_factor(growth_factor)
        self.set_backoff_factor(backoff_factor)
        self.set_growth_interval(growth_interval)
        self._scale: Tensor | None = None
        self._growth: Tensor | None = None
        self._overflowed: dict[int, Tensor] = {}

    def _placed(self, device: Any) -> Tensor:
        """The scale, put beside the first loss."""
        if self._scale is None:
            self._scale = tensor(float(self._init_scale), device=device)
            self._growth = tensor(0.0, device=device)
        return self._scale

    def scale(self, outputs: Any) -> Any:
        """The outputs, in lists and tuples too, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * self._placed(outputs.device).detach().to(outputs.device)
        return type(outputs)(self.scale(output) for output in outputs)

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients of its parameters by the scale; before they are clipped, say.

        Raises:
            UnsupportedError: they were divided already, or no loss was scaled.
        """
        if not self._enabled:
            return
        if id(optimizer) in self._overflowed:
            raise UnsupportedError(
                "unscale_ of an optimizer twice.", "Call update() after each step, once."
            )
        self._overflowed[id(optimizer)] = self._unscaled(optimizer)

    def _unscaled(self, optimizer: Optimizer) -> Tensor:
        """Divides the gradients; whether one of them is not finite, a 0-d bool."""
        if self._scale is None:
            raise UnsupportedError("a step of GradScaler without a loss.", "Call scale(loss).")
        overflowed = self._scale._constant(False, dt.bool_)
        with no_grad():
            inverse = 1.0 / self._scale.double()
            for p in (p for group in optimizer.param_groups for p in group["params"]):
                if p.grad is None:
                    continue
                grad = p.grad._without_history()
                overflowed = overflowed | ~grad.isfinite().all()
                wide = grad.dtype.accumulator
                p.grad = (grad.to(wide) * inverse.to(grad.device).to(wide)).to(grad.dtype)
        return overflowed

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """`optimizer.step()`, which changes nothing where a gradient overflowed.

        Returns:
            What the optimizer's step returned.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs or args:
            raise UnsupportedError("GradScaler.step with a closure.", "Compute the loss before.")
        if id(optimizer) not in self._overflowed:
            self._overflowed[id(optimizer)] = self._unscaled(optimizer)
        optimizer.found_inf = self._overflowed[id(optimizer)]
        try:
            return optimizer.step()
        finally:
            optimizer.found_inf = None

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """The scale of the next step.

        Args:
            new_scale: the scale itself; by default it follows from the overflows.
        """
        if not self._enabled or self._scale is None or self._growth is None:
            return
        with no_grad():
            scale, growth = self._scale._without_history(), self._growth._without_history()
            if new_scale is not None:
                self._scale._assign(tensor(new_scale, dtype=scale.dtype, device=scale.device))
            elif self._overflowed:
                found = scale._constant(False, dt.bool_)
                for overflowed in self._overflowed.values():
                    found = found | overflowed.to(scale.device)
                grown = growth + 1.0
                is_due = grown >= float(self._settings["growth_interval"])
                larger = scale * self._settings["growth_factor"]
                larger = larger.where(larger.isfinite(), scale)
                kept = larger.where(is_due, scale)
                self._scale._assign((scale * self._settings["backoff_factor"]).where(found, kept))
                self._growth._assign((grown * 0.0).where(found | is_due, grown))
        self._overflowed.clear()

    def get_scale(self) -> float:
        """The scale; reads it from the device."""
        if not self._enabled:
            return 1.0
        return float(self._init_scale if self._scale is None else self._scale.item())

    def is_enabled(self) -> bool:
        """Whether it scales."""
        return self._enabled

    def get_growth_factor(self) -> float:
        """By how much the scale grows."""
        return self._settings["growth_factor"]

    def set_growth_factor(self, new_factor: float) -> None:
        """Choose it, from the next `update` on.

        Raises:
            OutOfRangeError: it is not above 1.
        """
        if not new_factor > 1:
            raise OutOfRangeError(f"GradScaler: growth_factor={new_factor}.", "Above 1.")
        self._settings["growth_factor"] = new_factor

    def get_backoff_factor(self) -> float:
        """What is left of the scale after an overflow."""
        return self._settings["backoff_factor"]

    def set_backoff_factor(self, new_factor: float) -> None:
        """Choose it, from the next `update` on.

        Raises:
            OutOfRangeError: it is not between 0 and 1.
        """
        if not 0 < new_factor < 1:
            raise OutOfRangeError(f"GradScaler: backoff_factor={new_factor}.", "In (0, 1).")
        self._settings["backoff_factor"] = new_factor

    def get_growth_interval(self) -> int:
        """Steps without an overflow before the scale grows."""
        return int(self._settings["growth_interval"])

    def set_growth_interval(self, new_interval: int) -> None:
        """Choose it, from the next `update` on.

        Raises:
            OutOfRangeError: it is not positive.
        """
        if not new_interval > 0:
            raise OutOfRangeError(f"GradScaler: growth_interval={new_interval}.", "1 or more.")
        self._settings["growth_interval"] = new_interval

    def state_dict(self) -> dict[str, Any]:
        """Scale and settings, in PyTorch's layout."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            **self._settings,
            "_growth_tracker": 0 if self._growth is None else int(self._growth.item()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`, of tgrad or PyTorch."""
        if not self._enabled:
            return
        if not state_dict:
            raise UnsupportedError("the state of a GradScaler that was not enabled.")
        self._init_scale = float(state_dict["scale"])
        self._settings.update({name: state_dict[name] for name in self._settings})
        self._placed("cpu" if self._scale is None else self._scale.device)
        assert self._scale is not None and self._growth is not None
        with no_grad():
            self._scale._assign(tensor(self._init_scale, device=self._scale.device))
            growth = tensor(float(state_dict["_growth_tracker"]), device=self._scale.device)
            self._growth._assign(growth)
