"""Import: a fresh process that imports tgrad, less one that imports NumPy alone."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest


@pytest.mark.quick
@pytest.mark.parametrize("module", ["numpy", "tgrad"])
def test_import(benchmark: Any, module: str) -> None:
    command = [sys.executable, "-c", f"import {module}"]
    benchmark.pedantic(lambda: subprocess.run(command, check=True), rounds=5, warmup_rounds=1)
