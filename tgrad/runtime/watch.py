"""Watching launches: who wants to see each one replaces the replay of the whole plan.

In: a Watcher. Out: while the scope is open, `execute` hands it every launch. Invariant: with no
watcher, running a plan costs one comparison more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from tgrad.runtime.plan import Plan


class Watcher(Protocol):
    """Somebody who wants to see launches, such as a profile."""

    def watch(
        self, plan: Plan, step: int, memories: Sequence[Any], launch: Callable[[], None]
    ) -> None:
        """Call `launch`, which starts step number `step` of the plan; again only if what it writes
        to is as before.

        Args:
            memories: of the step's buffers.
        """


watchers: list[Watcher] = []
"""Of the open scopes, the innermost last."""


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Hand every launch of all threads to the watcher until the scope ends."""
    watchers.append(watcher)
    try:
        yield
    finally:
        watchers.remove(watcher)


def current_watcher() -> Watcher | None:
    """The innermost open scope's."""
    return watchers[-1] if watchers else None
