"""What a plan depends on besides a function, its arguments and what it reaches.

In: the settings of this thread and process. Out: a key. Invariant: calls under equal modes may
share a plan.
"""

from __future__ import annotations

from collections.abc import Hashable

from tgrad.autocasting import autocast_state
from tgrad.determinism import are_deterministic_algorithms_enabled
from tgrad.device import get_default_device
from tgrad.grad_mode import is_grad_enabled
from tgrad.precision import get_float32_matmul_precision


def current_modes() -> Hashable:
    """Those of this moment."""
    return (
        is_grad_enabled(),
        get_float32_matmul_precision(),
        are_deterministic_algorithms_enabled(),
        autocast_state(),
        get_default_device(),
    )
