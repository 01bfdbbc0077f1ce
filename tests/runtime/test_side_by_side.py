"""Launches that run side by side: what touches the same bytes keeps its order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tgrad.runtime.side_by_side import Access, Turn, take_turns

ACCESS = st.builds(
    lambda start, size, is_write: Access(start, start + size, is_write),
    st.integers(0, 12), st.integers(1, 4), st.booleans(),
)  # fmt: skip
LAUNCHES = st.lists(st.lists(ACCESS, max_size=4), max_size=14)


def ended_before(turns: list[Turn]) -> list[set[int]]:
    """Of each launch those that have ended when it begins, by streams and waits alone."""
    found: list[set[int]] = []
    last: dict[int, int] = {}
    for number, turn in enumerate(turns):
        direct = {*turn.waits, *([last[turn.stream]] if turn.stream in last else [])}
        found.append(direct.union(*(found[n] for n in direct)))
        last[turn.stream] = number
    return found


def conflict(a: list[Access], b: list[Access]) -> bool:
    return any(
        x.start < y.stop and y.start < x.stop and (x.is_write or y.is_write) for x in a for y in b
    )


@given(LAUNCHES, st.integers(1, 5))
def test_what_touches_the_same_bytes_keeps_its_order(
    launches: list[list[Access]], streams: int
) -> None:
    turns = take_turns(launches, streams)
    ended = ended_before(turns)
    for late, b in enumerate(launches):
        assert 0 <= turns[late].stream < streams
        assert all(turns[n].stream != turns[late].stream for n in turns[late].waits)
        for early, a in enumerate(launches[:late]):
            assert not conflict(a, b) or early in ended[late], (early, late)


@given(LAUNCHES)
def test_nothing_else_is_ordered_where_streams_suffice(
    launches: list[list[Access]],
) -> None:
    ended = ended_before(take_turns(launches, len(launches) or 1))
    for late, b in enumerate(launches):
        direct = {n for n, a in enumerate(launches[:late]) if conflict(a, b)}
        assert ended[late] == direct.union(*(ended[n] for n in direct))


def test_one_stream_waits_for_nothing() -> None:
    everything = [[Access(0, 8, True)], [Access(0, 8, False)], [Access(8, 16, True)]]
    assert take_turns(everything, 1) == [Turn(0, ())] * 3


def test_gradients_of_weights_run_beside_the_chain_of_those_of_inputs() -> None:
    """g0 -> g1 -> g2 in place of g0, with a weight's gradient of each."""

    def at(number: int, is_write: bool = False) -> Access:
        return Access(8 * number, 8 * number + 8, is_write)

    chain = [at(0), at(1, True)], [at(1), at(0, True)]
    weights = [at(0), at(5, True)], [at(1), at(6, True)]
    turns = take_turns([[at(0, True)], weights[0], chain[0], weights[1], chain[1]], 4)
    ended = ended_before(turns)
    assert 1 not in ended[2] and 1 not in ended[3] and 3 not in ended[4]
    assert 1 in ended[4]  # what it reads is overwritten
