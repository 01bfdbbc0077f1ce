"""L-BFGS: a quasi-Newton method with a closure, and a line search.

In: parameters and a closure that computes the loss and its gradients. Out: new parameters.
Invariant: PyTorch's iterates; vectors stay on the device and have the shapes of the iteration
before, numbers are read by the host, which decides. The recursion over the history runs on the
products of its vectors, so that a direction is two products of matrices however long the history.
Sources: Liu and Nocedal 1989; Chen, Wang and Zhou 2014 (products); Nocedal and Wright 2006, 3.5;
https://docs.pytorch.org/docs/stable/generated/torch.optim.LBFGS.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tgrad.creation import zeros
from tgrad.errors import OutOfRangeError, UnsupportedError
from tgrad.grad_mode import enable_grad, no_grad
from tgrad.joining import cat, stack
from tgrad.optim.optimizer import Optimizer, check_settings
from tgrad.rollback import AllOrNothing
from tgrad.tensor import Tensor, labelled, realize_tensors, tensor

LEAST_CURVATURE = 1e-10
"""Pairs whose product is smaller are not kept."""
DECREASE, CURVATURE = 1e-4, 0.9
"""The two conditions of Wolfe."""

Closure = Callable[[], Any]


class LBFGS(Optimizer):
    """Steps along -H g, with H from the last differences of parameters and gradients.

    Args:
        params: parameters; groups are not supported, as in PyTorch.
        lr: length of a step, or the first one that a line search tries.
        max_iter: iterations of one `step`.
        max_eval: evaluations of one `step`, by default 1.25 times max_iter.
        tolerance_grad, tolerance_change: stop below these.
        history_size: how many differences are kept.
        line_search_fn: None or "strong_wolfe".

    >>> import tgrad
    >>> w = tgrad.tensor([3.0, -2.0], requires_grad=True)
    >>> optimizer = tgrad.optim.LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = ((w - 1) ** 4).sum()
    ...     loss.backward()
    ...     return loss
    >>> _ = optimizer.step(closure)
    >>> bool(((w - 1).abs() < 0.05).all())
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ):
        check_settings("LBFGS", lr=lr)  # type: ignore[arg-type]
        if line_search_fn not in (None, "strong_wolfe"):
            raise UnsupportedError(
                f"LBFGS: line_search_fn={line_search_fn!r}.", 'Use None or "strong_wolfe".'
            )
        settings = {
            "lr": lr, "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change,
            "history_size": history_size, "line_search_fn": line_search_fn,
        }  # fmt: skip
        super().__init__(params, settings)
        if len(self.param_groups) != 1:
            raise OutOfRangeError("LBFGS of several groups.", "Give the parameters as one list.")

    def step(self, closure: Closure | None = None) -> Any:
        """Iterate until a tolerance or a limit is reached; a step that fails has changed nothing.

        Args:
            closure: clears the gradients, computes the loss and its gradients, returns the loss.

        Returns:
            What the closure returned at first.
        """
        if closure is None:
            raise UnsupportedError("LBFGS.step without a closure.", "Give the one that evaluates.")
        with AllOrNothing(self._all_params(), self.state), no_grad():
            return self._iterate(closure)

    def _iterate(self, closure: Closure) -> Any:
        group, params = self.param_groups[0], self._all_params()
        state = self.state[params[0]]
        lr, least = float(group["lr"]), group["tolerance_change"]
        with enable_grad():
            first = closure()
        at = self._point(0.0, first, None)
        evaluations = 1
        state["func_evals"] = state.get("func_evals", 0) + 1
        number = state.setdefault("n_iter", 0)
        if at.largest <= group["tolerance_grad"]:
            return first
        for iteration in range(1, group["max_iter"] + 1):
            number += 1
            history: History = state.get("history") or History.empty(at.gradient)
            if number > 1:
                difference = at.gradient - state["prev_flat_grad"]
                pair = state["d"] * float(state["t"]), difference
                history = history.with_pair(*pair, at.gradient, group["history_size"])
            d, before = history.direction(at.gradient), at
            t = lr if number > 1 else min(1.0, 1.0 / _read(at.gradient.abs().sum())[0]) * lr
            slope, reach = _read((at.gradient * d).sum(), d.abs().amax())
            state |= {"n_iter": number, "history": history, "d": d, "t": t,
                      "prev_flat_grad": at.gradient, "prev_loss": at.loss}  # fmt: skip
            if slope > -least:
                break
            start, more = _flat(params), 0
            at = replace(before, t=0.0, slope=slope)

            def evaluate(t: float, start: Tensor = start, d: Tensor = d) -> Point:
                self._place(start, d, t)
                with enable_grad():
                    loss = closure()
                return self._point(t, loss, d)

            if group["line_search_fn"] is not None:
                limit = group["max_eval"] - evaluations
                at, more = strong_wolfe(evaluate, at, t, reach, least, limit)
                state["t"] = t = at.t
                self._place(start, d, t)
            elif iteration < group["max_iter"]:
                at, more = evaluate(t), 1
            else:
                self._place(start, d, t)
            evaluations += more
            state["func_evals"] += more
            is_flat = at.largest <= group["tolerance_grad"] or t * reach <= least
            if is_flat or evaluations >= group["max_eval"] or abs(at.loss - before.loss) < least:
                break
        realize_tensors([*params, *(v for v in state.values() if isinstance(v, Tensor))])
        return first

    @labelled("lbfgs")
    def _place(self, start: Tensor, d: Tensor, t: float) -> None:
        """Set the parameters to start + t d."""
        moved = start + d * self.as_number(-1, "t", t, d.device, d.dtype)
        offset = 0
        for p in self._all_params():
            p._assign(moved[offset : offset + p.numel()].reshape(p.shape).to(p.dtype))
            offset += p.numel()

    @labelled("lbfgs")
    def _point(self, t: float, loss: Any, d: Tensor | None) -> Point:
        """What the closure left: its loss, the gradients as one vector, and their slope along d."""
        gradients = [p._constant(0, p.dtype).expand(p.shape) if p.grad is None else p.grad
                     for p in self._all_params()]  # fmt: skip
        g = _flat(gradients)
        slope = g._constant(0, g.dtype) if d is None else (g * d).sum()
        value = loss.detach() if isinstance(loss, Tensor) else g._constant(loss, g.dtype)
        numbers = stack([value.to(g.dtype).reshape(()), g.abs().amax(), slope])
        realize_tensors([numbers, g, *self._all_params()])
        found = numbers.tolist()
        return Point(t, found[0], g, found[1], found[2])

    def state_dict(self) -> dict[str, Any]:
        """State and settings, in PyTorch's layout."""
        saved = super().state_dict()
        for kept in saved["state"].values():
            kept.update(kept.pop("history").saved())
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`, of tgrad or of PyTorch."""
        super().load_state_dict({**state_dict, "state": {}})
        p = self._all_params()[0]
        for kept in state_dict["state"].values():

            def vector(value: Any) -> Tensor:
                return tensor(np.asarray(value), dtype=p.dtype.accumulator, device=p.device)

            d, g = vector(kept["d"]), vector(kept["prev_flat_grad"])
            history = History.empty(g)
            for s, y in zip(kept["old_stps"], kept["old_dirs"]):
                size = self.param_groups[0]["history_size"]
                history = history.with_pair(vector(s), vector(y), g, size)
            self.state[p] = {
                "func_evals": int(kept["func_evals"]), "n_iter": int(kept["n_iter"]), "d": d,
                "t": float(kept["t"]), "prev_flat_grad": g,
                "prev_loss": float(kept["prev_loss"]), "history": history,
            }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Point:
    """The loss at a length of step.

    Attributes:
        t: the length.
        loss: the value.
        gradient: of all parameters, as one vector.
        largest: magnitude in the gradient.
        slope: of the loss along the direction.
    """

    t: float
    loss: float
    gradient: Tensor
    largest: float
    slope: float


@dataclass(frozen=True, eq=False)
class History:
    """Differences of parameters (s) and of gradients (y), and their products.

    Attributes:
        s, y: a row a pair, in slots.
        products: of all rows of s and y with each other, on the host.
        slots: of the pairs, the oldest first.
        along: of the gradient with the rows.
        scale: of the first approximation of H.
    """

    s: Tensor
    y: Tensor
    products: np.ndarray
    slots: tuple[int, ...]
    along: np.ndarray
    scale: float

    @staticmethod
    def empty(like: Tensor) -> History:
        none = zeros((0, like.numel()), dtype=like.dtype, device=like.device)
        return History(none, none, np.zeros((0, 0)), (), np.zeros(0), 1.0)

    def with_pair(self, s: Tensor, y: Tensor, g: Tensor, size: int) -> History:
        """With one pair more, and at most `size`, if their product is large enough; `along` is that
        of the gradient g."""
        wide = self._with_room(size)
        rows = wide.s.shape[0]
        free = next(i for i in range(rows) if i not in self.slots)
        place = tensor(np.arange(rows) == free, device=s.device).unsqueeze(1)
        s_rows, y_rows = s.where(place, wide.s), y.where(place, wide.y)
        found = cat([s_rows, y_rows]) @ stack([s, y, g], 1)
        realize_tensors([found, s_rows, y_rows])
        s_products, y_products, along = found.numpy().astype(np.float64).T
        ys, yy = y_products[free], y_products[rows + free]
        if not ys > LEAST_CURVATURE:
            return replace(wide, along=along)
        products = wide.products.copy()
        for slot, column in ((free, s_products), (rows + free, y_products)):
            products[slot] = products[:, slot] = column
        slots = (*self.slots, free)[-size:]
        return History(s_rows, y_rows, products, slots, along, ys / yy)

    def _with_room(self, size: int) -> History:
        """With a free slot: twice the slots when all are used, and one more than pairs at most."""
        rows = self.s.shape[0]
        if len(self.slots) < rows:
            return self
        more = min(max(2 * rows, 4), size + 1) - rows
        none = zeros((more, self.s.shape[1]), dtype=self.s.dtype, device=self.s.device)
        products = np.zeros((2, rows + more, 2, rows + more))
        products[:, :rows, :, :rows] = self.products.reshape(2, rows, 2, rows)
        count = 2 * (rows + more)
        s, y = (cat([held, none]) for held in (self.s, self.y))
        return replace(self, s=s, y=y, products=products.reshape(count, count))

    def direction(self, g: Tensor) -> Tensor:
        """-H g, a combination of the rows and g: the two loops of L-BFGS on its coefficients."""
        if not self.slots:
            return -g
        rows = self.s.shape[0]
        weights = np.zeros(2 * rows)
        products, own = self.products, -1.0
        alphas = {}
        for slot in reversed(self.slots):
            along = weights @ products[:, slot] + own * self.along[slot]
            alphas[slot] = along / products[slot, rows + slot]
            weights[rows + slot] -= alphas[slot]
        weights, own = weights * self.scale, own * self.scale
        for slot in self.slots:
            along = weights @ products[:, rows + slot] + own * self.along[rows + slot]
            weights[slot] += alphas[slot] - along / products[slot, rows + slot]
        factors = tensor(np.append(weights, own), dtype=g.dtype, device=g.device)
        return factors @ cat([self.s, self.y, g.unsqueeze(0)])

    def saved(self) -> dict[str, Any]:
        """As PyTorch keeps it: lists, the oldest first."""
        rows = self.s.shape[0]
        return {
            "old_dirs": [self.y[i] for i in self.slots],
            "old_stps": [self.s[i] for i in self.slots],
            "ro": [self._number(1.0 / self.products[i, rows + i]) for i in self.slots],
            "H_diag": self._number(self.scale) if self.slots else 1,
        }

    def _number(self, value: float) -> Tensor:
        return tensor(float(value), dtype=self.s.dtype, device=self.s.device)


def strong_wolfe(
    evaluate: Callable[[float], Point],
    start: Point,
    t: float,
    reach: float,
    tolerance: float,
    limit: int,
) -> tuple[Point, int]:
    """A length where the loss has fallen enough and its slope is nearly 0.

    Args:
        evaluate: gives the point at a length.
        start: the point at length 0.
        t: the first length.
        reach: the largest magnitude in the direction.
        tolerance: of lengths times reach.
        limit: of trials after the first.

    Returns:
        The point, and the number of evaluations.
    """

    def is_high(p: Point) -> bool:
        return p.loss > start.loss + DECREASE * p.t * start.slope

    def is_flat(p: Point) -> bool:
        return abs(p.slope) <= -CURVATURE * start.slope

    before, now, count = start, evaluate(t), 0
    while True:
        if count >= limit:
            before = start
            break
        if is_high(now) or (count > 1 and now.loss >= before.loss):
            break
        if is_flat(now):
            return now, count + 1
        if now.slope >= 0:
            break
        bounds = now.t + 0.01 * (now.t - before.t), now.t * 10
        before, now, count = now, evaluate(_cubic(before, now, *bounds)), count + 1
    low, high = (before, now) if before.loss <= now.loss else (now, before)
    is_stuck = False
    while count < limit and abs(high.t - low.t) * reach >= tolerance:
        t, is_stuck = _inside(low, high, is_stuck)
        now, count = evaluate(t), count + 1
        if is_high(now) or now.loss >= low.loss:
            low, high = (low, now) if low.loss <= now.loss else (now, low)
            continue
        if is_flat(now):
            return now, count + 1
        high = low if now.slope * (high.t - low.t) >= 0 else high
        low = now
    return low, count + 1


def _inside(low: Point, high: Point, was_stuck: bool) -> tuple[float, bool]:
    """The next length between two, not twice near an end; and whether it is near one."""
    left, right = sorted((low.t, high.t))
    t, margin = _cubic(low, high, left, right), 0.1 * (right - left)
    if min(right - t, t - left) >= margin:
        return t, False
    if not was_stuck and left < t < right:
        return t, True
    return (right - margin if abs(t - right) < abs(t - left) else left + margin), False


def _cubic(a: Point, b: Point, least: float, most: float) -> float:
    """Where the cubic through two points and their slopes is least, within bounds."""
    if a.t > b.t:
        a, b = b, a
    mean = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = mean * mean - a.slope * b.slope
    if not square >= 0:
        return (least + most) / 2
    root = float(np.sqrt(square))
    t = b.t - (b.t - a.t) * ((b.slope + root - mean) / (b.slope - a.slope + 2 * root))
    return min(max(t, least), most)


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    """All elements as one vector, in the dtype that updates are computed in."""
    return cat([t._without_history().reshape(-1).to(t.dtype.accumulator) for t in tensors])


def _read(*numbers: Tensor) -> list[float]:
    return [float(x) for x in stack(list(numbers)).tolist()]
