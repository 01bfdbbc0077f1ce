"""`torch.utils.benchmark`'s names: statements timed honestly, and tables of the times.

In: statements of Python. Out: measurements, as text and as numbers. Invariant: what a statement
asks for is computed, and its device is done, before the clock is read.
Source: https://docs.pytorch.org/docs/stable/benchmark_utils.html
"""

from tgrad.utils.benchmark.compare import Colorize, Compare
from tgrad.utils.benchmark.measurement import Measurement, TaskSpec, select_unit, trim_sigfig
from tgrad.utils.benchmark.timer import Language, Timer, timer

__all__ = [
    "Colorize", "Compare", "Language", "Measurement", "TaskSpec", "Timer", "select_unit", "timer",
    "trim_sigfig",
]  # fmt: skip
