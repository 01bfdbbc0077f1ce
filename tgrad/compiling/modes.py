"""What a plan depends on besides a function, its arguments and what it reaches.

In: the modes of this thread and process. Out: a key. Invariant: calls under equal modes may share a
plan.
"""

from __future__ import annotations

from collections.abc import Hashable

from tgrad.autocasting import autocast_state
from tgrad.device import get_default_device
from tgrad.modes import process, thread


def current_modes() -> Hashable:
    """Those of this moment."""
    devices = thread.devices
    return (
        thread.gradients,
        process.precision,
        process.deterministic,
        autocast_state() if thread.autocast else (),
        (devices[-1] if devices else process.device) or get_default_device(),
    )
