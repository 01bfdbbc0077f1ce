"""Compiled steps of optimizers that programs write: whatever they keep, the steps are PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tgrad.errors import TraceError

STEPS = 6
SIZE = 3


def zeros(t: Any, p: Any, g: Any, state: Any) -> Any:
    if "mu" not in state:
        state["mu"] = t.zeros_like(p)
    return state["mu"].mul_(0.9).add_(g)


def clone(t: Any, p: Any, g: Any, state: Any) -> Any:
    if "mu" not in state:
        state["mu"] = t.clone(g).detach()
        return state["mu"]
    return state["mu"].mul_(0.9).add_(g)


def bound_anew(t: Any, p: Any, g: Any, state: Any) -> Any:
    state["mu"] = state.get("mu", t.zeros_like(p)) * 0.9 + g
    return state["mu"]


def counted(t: Any, p: Any, g: Any, state: Any) -> Any:
    if len(state) == 0:
        state["step"], state["mu"] = t.tensor(0.0), t.zeros_like(p)
    state["step"] += 1
    return state["mu"].lerp_(g, 0.1) / (1 - 0.9 ** state["step"])


def handed_on(t: Any, p: Any, g: Any, state: Any) -> Any:
    if not state:
        state["now"], state["before"] = t.zeros_like(p), t.zeros_like(p)
    new = state["now"] * 0.9 + g
    state["before"], state["now"] = state["now"], new
    return new + state["before"] * 0.1


def two_names(t: Any, p: Any, g: Any, state: Any) -> Any:
    if not state:
        state["a"] = state["b"] = t.zeros_like(p)
    state["a"].add_(g)
    return g + state["b"] * 0.1


def one_name_of_two(t: Any, p: Any, g: Any, state: Any) -> Any:
    if not state:
        state["a"] = state["b"] = t.zeros_like(p)
    state["a"] = state["a"] * 0.9 + g
    return state["a"] + state["b"] * 0.1


def viewed(t: Any, p: Any, g: Any, state: Any) -> Any:
    if not state:
        state["all"] = t.zeros(2, *p.shape)
        state["first"] = state["all"][0]
    state["first"].add_(g)
    return g + state["all"].sum(0) * 0.1


def number(t: Any, p: Any, g: Any, state: Any) -> Any:
    state["step"] = state.get("step", 0) + 1
    return g / state["step"]


def history(t: Any, p: Any, g: Any, state: Any) -> Any:
    state.setdefault("norms", []).append(1.0)
    return g / len(state["norms"])


def grown(t: Any, p: Any, g: Any, state: Any) -> Any:
    state["all"] = t.cat([state["all"], g[None]]) if "all" in state else g[None].clone()
    return state["all"].mean(0)


def stepped(t: Any, rule: Callable[..., Any], xs: list[np.ndarray]) -> tuple[Any, Any]:
    """A training step with an optimizer of this rule, the parameter at its start as `xs[0]`."""

    class Own(t.optim.Optimizer):  # type: ignore[name-defined]
        def __init__(self, params: Any, lr: float):
            super().__init__(params, {"lr": lr})

        @t.no_grad()
        def step(self) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(rule(t, p, p.grad, self.state[p]), alpha=-group["lr"])

    w = t.nn.Parameter(t.tensor(xs[0]))
    optimizer = Own([w], 0.1)

    def step(x: Any) -> Any:
        loss = ((w * x).sum() - 1) ** 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, w


def drawn() -> list[np.ndarray]:
    rng = np.random.default_rng()
    return [rng.standard_normal(SIZE).astype(np.float32) for _ in range(STEPS + 1)]


@pytest.mark.parametrize(
    "rule",
    [zeros, clone, bound_anew, counted, handed_on, two_names, one_name_of_two, viewed],
    ids=lambda x: x.__name__,
)
def test_state_that_programs_keep(rule: Callable[..., Any]) -> None:
    xs = drawn()
    want_step, want = stepped(torch, rule, xs)
    have_step, have = stepped(tgrad, rule, xs)
    compiled = tgrad.compile(have_step)
    for x in xs[1:]:
        loss = want_step(torch.tensor(x)).item()
        assert compiled(tgrad.tensor(x)).item() == pytest.approx(loss, rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(have.detach().numpy(), want.detach(), rtol=1e-4, atol=1e-5)
    assert compiled.traces == 2


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (number, r"optimizer\.state\[\.\.\.\]\['step'\] changes from 1 to 2 while"),
        (history, r"optimizer\.state\[\.\.\.\]\['norms'\] changes from \[1\.0\] to \[1\.0, 1\.0\]"),
        (grown, r"optimizer\.state\[\.\.\.\]\['all'\] changes from a Tensor to a Tensor while"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_state_that_a_plan_cannot_change(rule: Callable[..., Any], message: str) -> None:
    xs = drawn()
    step, w = stepped(tgrad, rule, xs)
    compiled = tgrad.compile(step)
    compiled(tgrad.tensor(xs[1]))
    before = w.tolist()
    with pytest.raises(TraceError, match=message) as caught:
        compiled(tgrad.tensor(xs[2]))
    assert caught.value.hint == "Make it a tensor of one shape and change that in place."
    assert w.tolist() == before


def test_a_schedule_of_an_optimizer_that_programs_write() -> None:
    xs, seen = drawn(), []
    for compiled in (False, True):
        step, w = stepped(tgrad, lambda t, p, g, state: g, xs)
        optimizer = dict(zip(step.__code__.co_freevars, step.__closure__))["optimizer"]
        schedule = tgrad.optim.lr_scheduler.StepLR(optimizer.cell_contents, 1, 0.5)
        run = tgrad.compile(step) if compiled else step
        for x in xs[1:]:
            run(tgrad.tensor(x))
            schedule.step()
        seen.append(w.detach().numpy())
    np.testing.assert_allclose(seen[1], seen[0], rtol=1e-5)
