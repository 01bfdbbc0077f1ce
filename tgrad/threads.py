"""How many threads the kernels of the device "cpu" use.

In: a number. Out: the number now in force, told to whoever asked to be told. Invariant: it concerns
tgrad's own kernels only; NumPy, PyTorch and other OpenMP code of the process keep their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from tgrad.errors import UnsupportedError
from tgrad.settings import settings

_listeners: list[Callable[[int], None]] = []


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_count = settings.num_threads or _available_cores()


def get_num_threads() -> int:
    """Threads of the kernels on the device "cpu".

    Until `set_num_threads` this is OMP_NUM_THREADS as it was when tgrad was imported, else the
    cores that this process may use; 1 in a process that was forked after kernels ran.

    >>> import tgrad
    >>> tgrad.get_num_threads() >= 1
    True
    """
    return _count


def set_num_threads(count: int) -> None:
    """Use so many threads for the kernels on the device "cpu", from the next kernel on.

    Results do not depend on it: work is cut into parts by sizes alone. It holds for every thread
    of the program, and changes nothing for PyTorch or NumPy.
    Source: https://docs.pytorch.org/docs/stable/generated/torch.set_num_threads.html

    Args:
        count: at least 1.

    Raises:
        ValueError: count is not a whole number of at least 1.

    >>> import tgrad
    >>> before = tgrad.get_num_threads()
    >>> tgrad.set_num_threads(1)
    >>> tgrad.get_num_threads()
    1
    >>> tgrad.set_num_threads(before)
    """
    global _count
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"set_num_threads({count!r}): give a whole number of at least 1.")
    _count = count
    for listener in _listeners:
        listener(count)


def get_num_interop_threads() -> int:
    """1: the kernels of a plan run one after the other."""
    return 1


def set_num_interop_threads(count: int) -> None:
    """Only 1, see `get_num_interop_threads`.

    Raises:
        ValueError: count is not a whole number of at least 1.
        UnsupportedError: it is more than 1.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"set_num_interop_threads({count!r}): give a whole number of at least 1.")
    if count > 1:
        raise UnsupportedError(
            f"set_num_interop_threads({count}): the kernels of a plan run one after the other.",
            "Use set_num_threads, for the threads of each kernel.",
        )


def on_num_threads(listener: Callable[[int], None]) -> None:
    """Call `listener` with the number at every change of it."""
    _listeners.append(listener)
