"""Steps that nobody reads: what they made runs before their graph grows.

In: results as they are made, gradients as they are asked for. Out: runs of what is pending and of
what lives. Invariant: results do not depend on it, only when they are computed and what is stored.
See docs/decisions/0081.

    w -= rate * w.grad          a step written by hand: ends where w is used again
    x = f(x); seen.append(x)    a loop that reads nothing: ends each time it passes a line of it
    (y * y).sum().backward()    gradients that no step uses: end at one of so many calls
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import ReferenceType, ref

from tgrad.errors import Source, find_user_source
from tgrad.grad_mode import is_grad_enabled
from tgrad.graph.node import is_in_source_scope
from tgrad.graph.repeats import is_work
from tgrad.pending import is_waiting, realize_tensors, waiting_tensors
from tgrad.tracing import tracer

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

LONG = 2000
"""Results after which a graph that nobody reads is looked at. A forward pass of ResNet-50 has 1040,
one of twelve layers of a transformer 1008: they stay one plan."""
SHORT = 128
"""Results that run together in such a loop, at least: building their graph takes about 1 ms, and
running one plan 0.1."""
DEEP, FEWER = 10_000, 2000
"""The same of results that require gradients, where others are made of them: an evaluation that
forgot `no_grad`. The forward pass of a training step has seldom more than 5,000."""
CALLS = 8
"""Calls for gradients on one line after which they run: as many parts of a batch are one plan."""


@dataclass
class _Loops:
    """The loops that read nothing, and what has happened since something ran.

    Attributes:
        ends: the lines where such loops are cut, by identity.
        passes: how often they passed each line since somebody read something.
        living: results that may live, from when the first such loop was found.
        made: the lines of results that require no gradient.
        deep: how many results require one.
        limit, deep_limit: how many of them there are when they are looked at.
        calls: calls for gradients by line.
        has_gradients: whether there was one: a step will follow.
        is_due: whether the next operation asks `settle` first.
        is_at_end: whether a loop is to be cut there.
    """

    ends: dict[int, Source] = field(default_factory=dict)
    passes: Counter[Source] = field(default_factory=Counter)
    living: list[ReferenceType[Tensor]] | None = None
    made: list[Source] = field(default_factory=list)
    deep: int = 0
    limit: int = LONG
    deep_limit: int = DEEP
    calls: Counter[Source] = field(default_factory=Counter)
    has_gradients: bool = False
    is_due: bool = False
    is_at_end: bool = False


loops = _Loops()


class _Depth(threading.local):
    """How many blocks that nothing cuts a thread is in."""

    whole = 0


_depth = _Depth()


@contextmanager
def uncut() -> Iterator[None]:
    """Inside the block nothing is cut: what an optimizer's step changes runs at once or not."""
    _depth.whole += 1
    try:
        yield
    finally:
        _depth.whole -= 1


def note_result(t: Tensor) -> None:
    """A result that requires no gradient is made. Where gradients were asked for, a step follows,
    which this one may belong to."""
    if loops.has_gradients:
        return
    made, source = loops.made, t._node.source
    made.append(source)
    if loops.living is not None and _runs_now():
        loops.living.append(ref(t))
        if id(source) in loops.ends and (len(made) >= SHORT or loops.deep >= FEWER):
            loops.is_due = loops.is_at_end = True
    if len(made) >= loops.limit or loops.deep >= loops.deep_limit:
        _find_loop()


def note_inner(sources: Sequence[Source | None], have_gradients: bool) -> None:
    """Results are made that nobody gets, on the way to one that is noted next.

    Args:
        sources: their lines.
        have_gradients: whether that one requires a gradient.
    """
    if have_gradients:
        loops.deep += len(sources)
    elif not loops.has_gradients:
        loops.made += (s for s in sources[1:] if s is not None)


def _runs_now() -> bool:
    """Whether what is made here may be replaced by values now: no trace, no transformed function
    and no optimizer's step runs."""
    from tgrad.batching import is_inside_transform

    return tracer() is None and not _depth.whole and not is_inside_transform()


def _find_loop() -> None:
    """Choose where to cut the loop that has made so much."""
    if not _runs_now():
        loops.made.clear()
        loops.deep = 0
        return
    recent = loops.made[-max(len(loops.made) // 4, 3) :]
    loops.limit, loops.deep_limit = len(loops.made) + LONG, loops.deep + DEEP
    _choose_end(recent, loops.passes + Counter(loops.made))
    if loops.living is None and loops.ends:
        loops.living = []


def _choose_end(recent: list[Source], counts: Mapping[Source, int]) -> None:
    """Cut at what is passed least often, at least three times: of nested loops that is a line of
    the outermost. A line that is passed nearly as seldom stays, and plans with it."""
    often = [s for s in dict.fromkeys(recent) if counts[s] >= 3]
    if not often:
        return
    best = min(often, key=counts.__getitem__)
    before = [s for s in often if id(s) in loops.ends]
    if any(counts[s] < 2 * counts[best] for s in before):
        return
    for source in before:
        del loops.ends[id(source)]
    loops.ends[id(best)] = best


def note_gradients(create_graph: bool) -> None:
    """Gradients are asked for; as graph where a step within a step needs them."""
    if not _runs_now():
        return
    loops.has_gradients = True
    source = find_user_source()
    loops.calls[source] += not create_graph
    if loops.calls[source] >= CALLS or id(source) in loops.ends:
        loops.ends[id(source)] = source
        loops.is_due = loops.is_at_end = True


def note_leaf() -> None:
    """A leaf that requires a gradient has a new value, which is not computed."""
    if loops.has_gradients and _runs_now():
        loops.is_due = True


def note_run() -> None:
    """Something runs."""
    loops.made.clear()
    loops.calls.clear()
    if not loops.is_at_end:
        loops.passes.clear()
    loops.has_gradients = loops.is_due = loops.is_at_end = False
    loops.deep, loops.limit, loops.deep_limit = 0, LONG, DEEP
    if loops.living:
        loops.living = [r for r in loops.living if is_waiting(r())]


def settle(operands: Iterable[Tensor] = ()) -> None:
    """Before an operation on `operands`: run what is due."""
    with_gradients = is_grad_enabled()
    if not (with_gradients or loops.is_at_end) or not _runs_now():  # an optimizer's step, mostly
        return
    leaves = [t for t in operands if t._token is not None and is_waiting(t)]
    if leaves and with_gradients:
        realize_tensors(leaves)
    elif loops.is_at_end and not is_in_source_scope():
        _cut()


def _cut() -> None:
    """Run what is pending and what lives and is work."""
    loops.passes.update(loops.made)
    _choose_end(loops.made, loops.passes)
    living = [t for t in (r() for r in loops.living or ()) if t is not None and is_waiting(t)]
    realize_tensors([*waiting_tensors(), *(t for t in living if is_work(t._node))])
    if loops.is_at_end:  # nothing ran
        note_run()
