"""How many launches an optimizer adds to a step of a GPT with 12 layers, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

import tgrad
from tests.training.gpt import batches, gpt
from tgrad import nn, optim
from tgrad.fusion.region import Dot, Reduce, Region
from tgrad.runtime.plan import Plan
from tgrad.runtime.planning import planning
from tgrad.tensor import Tensor

LAYERS, FEW_LAYERS = 12, 4
RULES: dict[str, Callable[[list[Tensor]], optim.Optimizer]] = {
    "adamw": lambda params: optim.AdamW(params, lr=1e-3),
    "amsgrad": lambda params: optim.AdamW(params, lr=1e-3, amsgrad=True),
    "adam": lambda params: optim.Adam(params, lr=1e-3),
    "momentum": lambda params: optim.SGD(params, lr=1e-2, momentum=0.9),
}


@cache
def step_plan(rule: str | None, way: str, layers: int) -> Plan:
    """The plan of a compiled step; nothing runs. Several tests look at some.

    Args:
        rule: the optimizer's name; None for forward and backward alone.
        way: "plain", "clipped", "accumulated" over two batches, or "gradients" of before.
    """
    plans: list[Plan] = []
    with planning(None, plans.append):
        model = gpt(nn, tgrad.nn.functional, tgrad, layers=layers)
        params = list(model.parameters())
        optimizer = None if rule is None else RULES[rule](params)
        tokens, targets = (tgrad.tensor(a) for a in batches(1, 4)[0])

        @tgrad.compile
        def step(tokens: Tensor, targets: Tensor) -> Tensor:
            if way != "gradients":
                model.zero_grad()
            loss = tgrad.zeros(())
            parts = {"accumulated": 2, "gradients": 0}.get(way, 1)
            for i in range(parts):
                part = slice(4 // parts * i, 4 // parts * (i + 1))
                loss = model(tokens[part], targets[part])
                loss.backward()
            if way == "clipped":
                nn.utils.clip_grad_norm_(params, 1.0)
            if optimizer is not None:
                optimizer.step()
            return loss

        if way == "gradients":
            for p in params:
                p.grad = tgrad.zeros_like(p)
            tgrad.stack([p.grad.sum() for p in params]).realize()
        step(tokens, targets)
    return plans[-1]


def only_updates(plan: Plan) -> list[Region]:
    """Elementwise kernels whose results an optimizer made, over more than a number."""
    found = [k.region for k in plan.kernels if any(r in k.name for r in ("adam", "sgd"))]
    return [r for r in found if r.axes and not any(isinstance(v, (Reduce, Dot)) for v in r.values)]


@pytest.mark.parametrize(("way", "layers"), [("plain", LAYERS), ("accumulated", FEW_LAYERS)])
def test_adamw_adds_four_launches_at_most(way: str, layers: int) -> None:
    plan = step_plan("adamw", way, layers)
    assert plan.launches - step_plan(None, way, layers).launches <= 4
    assert len(only_updates(plan)) <= 4


def test_clipping_and_adamw() -> None:
    """The norm is three launches and the update one. The sums that make gradients of vectors share
    fewer launches than without: all gradients are alive until the norm is known, so less fits."""
    plan = step_plan("adamw", "clipped", LAYERS)
    norm = [k for k in plan.kernels if "clip_grad_norm" in k.name]
    assert len(norm) <= 3
    assert len(only_updates(plan)) == 1
    assert plan.launches - step_plan(None, "plain", LAYERS).launches <= 20


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("way", ["clipped", "gradients"])
def test_other_optimizers(rule: str, way: str) -> None:
    """148 parameters and more; nothing but the update where gradients are there."""
    plan = step_plan(rule, way, FEW_LAYERS if way == "clipped" else LAYERS)
    assert len(only_updates(plan)) == 1
    if way == "gradients":
        assert plan.launches <= 2


def test_column_sums_of_the_layers_share() -> None:
    plan = step_plan("adamw", "plain", LAYERS)
    members = [k.region.table.members for k in plan.kernels if k.region.table is not None]
    assert sum(members) - len(members) >= 50
    assert plan.launches <= 330
