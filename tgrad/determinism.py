"""Whether results must be equal bits on every run.

In: PyTorch's switch. Out: its state. Invariant: on CPUs results are equal bits always; on GPUs it
has plans made so (fusion/ordered.py), and what is not is refused, or warned of. Source:
https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html
"""

from __future__ import annotations

from tgrad.modes import process


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Make plans, from now on, whose results are equal bits from run to run.

    Scatters on GPUs are what is not: floats that are added at one place (gradients of embeddings
    and of indexing too), or numbers that replace each other there, come in the order of a race.
    They are sorted by their places, and added in order, which takes more kernels; the last of those
    that replace stays. What has no such form is refused: scatters whose index is smaller than the
    tensor along another axis. (No GPU multiplies floats at one place, with the switch or without.)

    Args:
        mode: whether to do so.
        warn_only: warn where it would be refused.

    >>> import tgrad
    >>> tgrad.use_deterministic_algorithms(True)
    >>> tgrad.are_deterministic_algorithms_enabled()
    True
    >>> tgrad.use_deterministic_algorithms(False)
    """
    process.deterministic, process.warn_only = bool(mode), bool(warn_only)


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """`use_deterministic_algorithms` by a word: 0 or "default", 1 or "warn", 2 or "error".

    Raises:
        ValueError: another number or word.

    >>> import tgrad
    >>> tgrad.set_deterministic_debug_mode("warn")
    >>> tgrad.get_deterministic_debug_mode()
    1
    >>> tgrad.set_deterministic_debug_mode(0)
    """
    words = {"default": 0, "warn": 1, "error": 2}
    mode = words.get(debug_mode, -1) if isinstance(debug_mode, str) else debug_mode
    if mode not in (0, 1, 2):
        raise ValueError(f"set_deterministic_debug_mode({debug_mode!r}): 0, 1, 2 or {[*words]}.")
    use_deterministic_algorithms(mode > 0, warn_only=mode == 1)


def get_deterministic_debug_mode() -> int:
    """0, 1 or 2, see `set_deterministic_debug_mode`."""
    if not process.deterministic:
        return 0
    return 1 if process.warn_only else 2


def are_deterministic_algorithms_enabled() -> bool:
    """Whether `use_deterministic_algorithms` is on."""
    return process.deterministic


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether it warns and does not refuse."""
    return process.deterministic and process.warn_only
