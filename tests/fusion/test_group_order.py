"""The order of groups against a search of the whole graph; calls that planning takes."""

from __future__ import annotations

import cProfile
import pstats
import random
from collections.abc import Iterator

import pytest

import tgrad
from tgrad import nn
from tgrad.fusion.group_order import GroupOrder
from tgrad.runtime.planning import planning


class Graph:
    """Numbered nodes in groups; an edge goes from a smaller number to a larger one."""

    def __init__(self, count: int, edges: int, numbers: random.Random):
        self.group = {i: [i] for i in range(count)}
        self.edges = {tuple(sorted(numbers.sample(range(count), 2))) for _ in range(edges)}

    def consumers(self, group: list[int]) -> Iterator[list[int]]:
        return (self.group[b] for a, b in self.edges if a in group)

    def has_path_around(self, a: list[int], b: list[int]) -> bool:
        return any(self.reaches(c, y) for x, y in ((a, b), (b, a)) for c in self.others(x, y))

    def others(self, x: list[int], y: list[int]) -> list[list[int]]:
        return [c for c in self.consumers(x) if c is not x and c is not y]

    def reaches(self, x: list[int], y: list[int]) -> bool:
        stack, seen = [x], {id(x)}
        while stack:
            for c in self.consumers(stack.pop()):
                if c is y:
                    return True
                if id(c) not in seen:
                    seen.add(id(c))
                    stack.append(c)
        return False

    def join(self, a: list[int], b: list[int]) -> None:
        a += b
        self.group.update(dict.fromkeys(b, a))


@pytest.mark.parametrize("seed", range(20))
def test_joins_agree_with_a_search_of_the_whole_graph(seed: int) -> None:
    numbers = random.Random(seed)
    graph = Graph(24, 30, numbers)
    order = GroupOrder(list(graph.group.values()), graph.consumers)
    joined = 0
    for _ in range(60):
        a, b = (graph.group[i] for i in numbers.sample(range(24), 2))
        if a is b:
            continue
        around = graph.has_path_around(a, b)
        assert order.has_path_around(a, b) == around
        others = [g for g in {id(g): g for g in graph.group.values()}.values() if g is not a]
        found = {id(g) for g in others if graph.has_path_around(a, g)}
        assert order.with_path_around(a, others) == found
        if around:
            continue
        order.join(a, b)
        graph.join(a, b)
        joined += 1
        for x, y in graph.edges:
            first, second = graph.group[x], graph.group[y]
            assert first is second or order.place[id(first)] < order.place[id(second)]
    assert joined > 5


def calls_to_plan(layers: int, in_turn: bool) -> int:
    """Python calls of tracing and planning a training step."""
    with planning():
        model = nn.ModuleList(nn.Linear(8, 8) for _ in range(layers))
        optimizer = tgrad.optim.AdamW(model.parameters(), lr=1e-3)

        @tgrad.compile
        def step(x: tgrad.Tensor) -> tgrad.Tensor:
            loss = x.new_zeros(())
            for layer in model:
                y = layer(x)
                loss = loss + y.square().sum()
                x = y if in_turn else x
            loss.backward()
            optimizer.step()
            return loss

        x = tgrad.ones(4, 8)
        with cProfile.Profile() as profile:
            step(x)
    return pstats.Stats(profile).total_calls  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("in_turn", [True, False])
def test_planning_takes_calls_in_proportion_to_the_parameters(in_turn: bool) -> None:
    calls_to_plan(10, in_turn)
    few, many = calls_to_plan(25, in_turn), calls_to_plan(100, in_turn)
    assert many < 4.6 * few
