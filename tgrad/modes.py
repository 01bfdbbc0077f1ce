"""Modes: what holds for a thread, or for the process, until somebody changes it.

In: values from the modules that own a mode. Out: the same, to whoever looks. Invariant: a mode is
written by its owner alone; all are in two objects, so that a replayed call reads them at once.
"""

from __future__ import annotations

import threading
from typing import Any


class ThreadModes(threading.local):
    """Of a thread.

    Attributes:
        gradients: whether new results may require gradients (grad_mode.py).
        inference: whether it is in an `inference_mode` (grad_mode.py).
        devices: those of the `with` blocks that it is in (device.py).
        autocast: the dtype by type of device where autocast is on (autocasting.py).
        tracer: the trace that runs (tracing.py).
    """

    gradients = True
    inference = False
    devices: tuple[Any, ...] = ()
    tracer: Any = None

    def __init__(self) -> None:
        self.autocast: dict[str, Any] = {}


class ProcessModes:
    """Of the process.

    Attributes:
        precision: of float32 products on GPUs (precision.py).
        deterministic, warn_only: see determinism.py.
        anomalies, checks_nan: whether gradients are looked at (anomalies.py).
        device: where tensors are made that name none; None until somebody asks (device.py).
        floats: the dtype of floats that name none; None for float32 (dtype.py).
        gpu: the number that the name "cuda" means (device.py).
        stance: what compiled functions do (compiler.py).
    """

    __slots__ = (
        "anomalies", "checks_nan", "deterministic", "device", "floats", "gpu", "precision",
        "stance", "warn_only",
    )  # fmt: skip

    def __init__(self) -> None:
        self.precision = "highest"
        self.deterministic = self.warn_only = False
        self.anomalies, self.checks_nan = False, True
        self.device: Any = None
        self.floats: Any = None
        self.gpu = 0
        self.stance = "default"


thread = ThreadModes()
process = ProcessModes()
