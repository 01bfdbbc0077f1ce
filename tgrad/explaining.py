"""What would run, without running it.

In: tensors. Out: their Plan. Invariant: no value is computed and no tensor changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tgrad.errors import DeviceError
from tgrad.tensor import Tensor, pending_tensors

if TYPE_CHECKING:
    from tgrad.runtime.plan import Plan


def explain(*tensors: Tensor) -> Plan:
    """The plan that computes these tensors and all that is pending on their device.

    Args:
        tensors: at least one, all on one device. Those that are stored already need no work, and
            what comes from other devices counts as there.

    Returns:
        The Plan: `launches`, `flops`, `bytes`, `peak_bytes`, `kernels`; `print` shows its table.

    Raises:
        DeviceError: there is no tensor, or they are on several devices.

    >>> import tgrad
    >>> plan = tgrad.explain(tgrad.ones(4) + 1)
    >>> plan.launches
    1
    """
    devices = list(dict.fromkeys(t.device for t in tensors))
    if len(devices) != 1:
        raise DeviceError(
            f"explain of {len(tensors)} tensors on {len(devices)} devices.",
            "Give tensors of one device.",
        )
    from tgrad.pipeline import compile_graph

    wanted = pending_tensors(devices[0], tensors)
    return compile_graph([t._node for t in wanted], devices[0])[0].plan
