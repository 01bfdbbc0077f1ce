"""Peers that misbehave: wrong results, no start, a case that kills the process, delays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bench.case import Case, FunctionCase, Inputs, expanded, sampled
from bench.peers import Loaded
from bench.peers import tgrad as ours


class NumpyPeer:
    """Right: the reference itself, in float32."""

    def versions(self) -> dict[str, str]:
        return {}

    def changed(self, result: np.ndarray) -> np.ndarray:
        return result

    def load(self, case: Case, arrays: Inputs, copies: int = 1) -> Loaded:
        assert isinstance(case, FunctionCase) and case.reference is not None
        reference: Callable[..., np.ndarray] = case.reference
        inputs = list(expanded(arrays).values())

        def call() -> np.ndarray:
            return self.changed(np.asarray(reference(*inputs)))

        return Loaded([call], lambda result: [sampled(result)])


class WrongPeer(NumpyPeer):
    """One element of each result is off by a hundredth of the largest."""

    def changed(self, result: np.ndarray) -> np.ndarray:
        wrong = result.copy()
        wrong.flat[0] += 0.01 * float(np.abs(result).max())
        return wrong


class DyingPeer(NumpyPeer):
    """Its process ends in the middle of a call."""

    def changed(self, result: np.ndarray) -> np.ndarray:
        os._exit(3)


class SleepingPeer(NumpyPeer):
    """Takes a minute to load."""

    def load(self, case: Case, arrays: Inputs, copies: int = 1) -> Loaded:
        time.sleep(60)
        return super().load(case, arrays, copies)


class DelayedTgrad(ours.TgradPeer):
    """tgrad with a kernel that takes a twentieth of a second longer."""

    def load(self, case: Case, arrays: Inputs, copies: int = 1) -> Loaded:
        loaded = super().load(case, arrays, copies)

        def call() -> Any:
            time.sleep(0.05)
            return loaded.calls[0]()

        return replace(loaded, calls=[call])


def make(option: str, device: str) -> Any:
    """The peer that the option names."""
    if option == "absent":
        raise ImportError("No module named 'absent'")
    kinds: dict[str, Any] = {
        "right": NumpyPeer,
        "wrong": WrongPeer,
        "dying": DyingPeer,
        "sleeping": SleepingPeer,
    }
    return DelayedTgrad(device) if option == "delayed" else kinds[option]()
