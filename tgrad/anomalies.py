"""Where gradients become NaN: `torch.autograd.detect_anomaly`.

In: PyTorch's switch, and the gradients that a backward pass makes. Out: an error that names the
line of the forward pass whose derivative gave the first NaN. Invariant: with the switch off nothing
is looked at; with it on each backward pass is computed at once, and once more with its results.
Source: https://docs.pytorch.org/docs/stable/autograd.html#anomaly-detection
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tgrad.autodiff.backward import Watch
from tgrad.errors import GradientError
from tgrad.grad_mode import no_grad
from tgrad.graph.node import Node, is_leaf_mark
from tgrad.graph.op import Op
from tgrad.modes import process
from tgrad.pending import realize_tensors
from tgrad.tracing import tracer

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


class set_detect_anomaly:
    """Look for NaN in the gradients of each backward pass, or no longer: a function, or a context
    manager that puts back what was before. For debugging: passes are computed twice.

    Operations are looked at as wholes: what a softmax or a loss gives for its operands, not what it
    computes on the way.

    Args:
        mode: whether to look.
        check_nan: False for no look: errors name the line of the forward pass always.

    >>> import tgrad
    >>> with tgrad.autograd.set_detect_anomaly(True):
    ...     tgrad.is_anomaly_enabled()
    True
    >>> tgrad.is_anomaly_enabled()
    False
    """

    def __init__(self, mode: bool, check_nan: bool = True):
        self.former = process.anomalies, process.checks_nan
        process.anomalies, process.checks_nan = bool(mode), bool(check_nan)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        process.anomalies, process.checks_nan = self.former


class detect_anomaly(set_detect_anomaly):
    """`set_detect_anomaly(True)` as a context manager.

    Args:
        check_nan: as there.

    Raises:
        GradientError: by a backward pass inside, whose derivatives give NaN: it names the operation
            and its line.
        TraceError: by one that is compiled, whose values nobody has.

    >>> import tgrad
    >>> x = tgrad.zeros(2, requires_grad=True)
    >>> with tgrad.autograd.set_detect_anomaly(True):
    ...     (x.sqrt() * 0).sum().backward()
    Traceback (most recent call last):
    tgrad.errors.GradientError: Function 'SqrtBackward' returned nan values in its 0th output.
    ...
    """

    def __init__(self, check_nan: bool = True):
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should "
            "only be enabled for debugging.",
            stacklevel=2,
        )
        super().__init__(True, check_nan)


def is_anomaly_enabled() -> bool:
    """Whether gradients are looked at, see `autograd.set_detect_anomaly`."""
    return process.anomalies


def is_anomaly_check_nan_enabled() -> bool:
    """Whether NaN is looked for then."""
    return process.checks_nan


def name_of(operation: str) -> str:
    """The name of an operation's derivative, as `grad_fn` has it: "sqrt" is "SqrtBackward"."""
    return f"{operation.title().replace('_', '')}Backward"


@contextmanager
def looking_for_nan(like: Tensor) -> Iterator[Watch | None]:
    """Inside, a backward pass is made: what it is to call with each gradient, None for nothing.

    Args:
        like: a tensor on the gradients' device.

    Raises:
        GradientError: one of them has a NaN.
        TraceError: the pass is traced.
    """
    if not (process.anomalies and process.checks_nan):
        yield None
        return
    trace = tracer()
    if trace is not None:
        trace.refuse("detect_anomaly looks at gradients")
    seen: list[tuple[Node, int, Node]] = []

    def watch(node: Node, operand: Node, gradient: Node) -> None:
        if is_leaf_mark(operand) or operand.source != node.source:  # else it is nobody's result
            operands = node.inputs[1:] if node.op is Op.CUSTOM_VJP else node.inputs
            seen.append((node, operands.index(operand), gradient))

    yield watch
    with no_grad():
        flags = [like._of(g, like._device).isnan().any() for _, _, g in seen]
    realize_tensors(flags)
    for (node, place, _), flag in zip(seen, flags):
        if flag:
            raise GradientError(
                f"Function '{name_of(node.source.label)}' returned nan values in its {place}th "
                "output.",
                "The line is that of the forward pass; look at its operands there.",
                node.source,
            )
