"""Whether results must be equal bits on every run.

In: PyTorch's switch. Out: its state. Invariant: on CPUs results are equal bits always; on GPUs what
is not is refused, or warned of, when a plan is made. Source:
https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html
"""

from __future__ import annotations

_mode, _warn_only = False, False


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Refuse plans, from now on, whose results may differ from run to run.

    Those are scatters on GPUs that add floats at one place, or write several numbers to it, in the
    order in which they come: gradients of embeddings and of indexing too. All else is computed in
    one order.

    Args:
        mode: whether to refuse.
        warn_only: warn where it would be refused.

    >>> import tgrad
    >>> tgrad.use_deterministic_algorithms(True)
    >>> tgrad.are_deterministic_algorithms_enabled()
    True
    >>> tgrad.use_deterministic_algorithms(False)
    """
    global _mode, _warn_only
    _mode, _warn_only = bool(mode), bool(warn_only)


def are_deterministic_algorithms_enabled() -> bool:
    """Whether `use_deterministic_algorithms` is on."""
    return _mode


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether it warns and does not refuse."""
    return _mode and _warn_only
