"""The memory planner: nothing overlaps, and little is wasted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tgrad.runtime.memory import (
    ALIGNMENT,
    Lifetime,
    live_bytes,
    lower_bound,
    peak_step,
    plan_memory,
)


@st.composite
def lifetimes(draw: st.DrawFn) -> list[Lifetime]:
    result = []
    for _ in range(draw(st.integers(0, 20))):
        first = draw(st.integers(0, 15))
        result.append(Lifetime(draw(st.integers(1, 5000)), first, first + draw(st.integers(0, 6))))
    return result


@given(lifetimes())
def test_live_buffers_do_not_overlap(buffers: list[Lifetime]) -> None:
    layout = plan_memory(buffers)
    for i, a in enumerate(buffers):
        assert layout.offsets[i] % ALIGNMENT == 0
        assert layout.offsets[i] + a.nbytes <= layout.nbytes
        for j, b in enumerate(buffers[:i]):
            if a.overlaps(b):
                lo, hi = sorted(((layout.offsets[i], a), (layout.offsets[j], b)),
                                key=lambda t: t[0])  # fmt: skip
                assert lo[0] + lo[1].nbytes <= hi[0]


@given(lifetimes())
def test_arena_is_between_the_lower_bound_and_the_sum(buffers: list[Lifetime]) -> None:
    layout = plan_memory(buffers)
    assert lower_bound(buffers) <= layout.nbytes <= sum(b.aligned for b in buffers)


def test_a_chain_needs_two_buffers() -> None:
    chain = [Lifetime(1024, i, i + 1) for i in range(10)]
    assert plan_memory(chain).nbytes == 2048 == lower_bound(chain)


@given(lifetimes())
def test_live_bytes_are_the_sums_of_what_is_alive(buffers: list[Lifetime]) -> None:
    live = live_bytes(buffers)
    for step, found in enumerate(live):
        assert found == sum(b.aligned for b in buffers if b.first <= step <= b.last)
    if buffers:
        assert live[peak_step(buffers)] == lower_bound(buffers) == max(live)
