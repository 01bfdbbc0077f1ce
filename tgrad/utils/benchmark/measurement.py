"""Times of a statement, and what they say.

In: seconds. Out: statistics and text. Invariant: times are of one run of the statement, however
many runs were timed together.
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

WIDE, VERY_WIDE = 0.1, 0.25
"""Interquartile ranges, as shares of the median, from which on a measurement is doubted."""

_LEAST_ERROR = 25e-9
_NORMAL_90 = 1.645
"""Of a normal distribution 90 % are within so many standard deviations."""


@dataclass(frozen=True)
class TaskSpec:
    """What was timed; see `Timer`."""

    stmt: str
    setup: str
    global_setup: str = ""
    label: str | None = None
    sub_label: str | None = None
    description: str | None = None
    env: str | None = None
    num_threads: int = 1

    @property
    def title(self) -> str:
        """The label, or else the statement, and the sub-label."""
        if self.label is None and "\n" in self.stmt:
            which = f" ({self.sub_label})" if self.sub_label else ""
            return f"stmt:{which}\n{textwrap.indent(self.stmt, '  ')}"
        name = self.stmt if self.label is None else self.label
        return f"{name}: {self.sub_label}" if self.sub_label else name

    def setup_str(self) -> str:
        """The setup, named as such; empty if there is none."""
        if self.setup in ("", "pass"):
            return ""
        if "\n" in self.setup:
            return f"setup:\n{textwrap.indent(self.setup, '  ')}"
        return f"setup: {self.setup}"

    def summarize(self) -> str:
        """Title, description and setup, a line each."""
        parts = [self.title, self.description or "", self.setup_str()]
        return "\n".join(part for part in parts if part)


_OF_TASK = frozenset(f.name for f in fields(TaskSpec))


@dataclass(repr=False)
class Measurement:
    """Times of a statement.

    Attributes:
        number_per_run: how often the statement ran for each of the times.
        raw_times: seconds of these runs together.
        task_spec: what was timed. Its fields are attributes of the measurement, too.
        metadata: for the program that measures.

    >>> found = Measurement(10, [1e-5, 1.2e-5, 1.1e-5, 1e-5], TaskSpec("x @ y", "pass"))
    >>> round(found.median * 1e6, 3), round(found.iqr * 1e6, 3), found.stmt
    (1.05, 0.125, 'x @ y')
    """

    number_per_run: int
    raw_times: list[float]
    task_spec: TaskSpec
    metadata: dict[Any, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        if name in _OF_TASK and "task_spec" in self.__dict__:
            return getattr(self.task_spec, name)
        raise AttributeError(f"a Measurement has no {name!r}")

    @property
    def times(self) -> list[float]:
        """Seconds of one run of the statement, for each of the times."""
        return [t / self.number_per_run for t in self.raw_times]

    @property
    def median(self) -> float:
        """Half of the times are shorter."""
        return statistics.median(self.times)

    @property
    def mean(self) -> float:
        """Their average."""
        return statistics.fmean(self.times)

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the times is shorter than the first, and longer than the second."""
        low, high = np.quantile(self.times, [0.25, 0.75]).tolist()
        return low, high

    @property
    def iqr(self) -> float:
        """How far the quartiles are apart."""
        low, high = self.quartiles
        return high - low

    @property
    def significant_figures(self) -> int:
        """How many digits of the median mean something, 1 to 4: by the spread of the middle half
        of the times."""
        times = sorted(self.times)
        middle = times[len(times) // 4 : math.ceil(3 * len(times) / 4)]
        error = _NORMAL_90 * statistics.pstdev(middle) / math.sqrt(len(middle))
        digits = math.floor(math.log10(self.median / max(error, _LEAST_ERROR)))
        return min(max(digits, 1), 4)

    def meets_confidence(self, threshold: float = WIDE) -> bool:
        """Whether the interquartile range is less than a share of the median."""
        return self.iqr / self.median < threshold

    @property
    def has_warnings(self) -> bool:
        """Whether the times spread so that they are doubted."""
        return not self.meets_confidence(WIDE)

    @property
    def title(self) -> str:
        """Of what was timed."""
        return self.task_spec.title

    @property
    def as_row_name(self) -> str:
        """What a table calls it: its sub-label, or else the statement."""
        return self.task_spec.sub_label or self.task_spec.stmt or "[Unknown]"

    def to_dict(self) -> dict[str, Any]:
        """The fields, as plain data."""
        return asdict(self)

    def __repr__(self) -> str:
        unit, scale = select_unit(self.median)
        count, runs, threads = len(self.raw_times), self.number_per_run, self.num_threads
        lines = [object.__repr__(self), self.task_spec.summarize()]
        value = f"{self.median / scale:.2f} {unit}"
        lines.append(f"  Median: {value}" if count > 1 else f"  {value}")
        if count >= 4:
            low, high = (q / scale for q in self.quartiles)
            lines.append(f"  IQR:    {high - low:.2f} {unit} ({low:.2f} to {high:.2f})")
        text = f"  {count} measurements, {runs} runs per measurement" if count > 1 else (
            f"  1 measurement, {runs} runs")  # fmt: skip
        lines.append(f"{text}, {threads} thread{'s' * (threads > 1)}")
        if self.has_warnings:
            share = 100 * self.iqr / self.median
            cause = (
                "could be the system's fluctuation."
                if self.meets_confidence(VERY_WIDE)
                else "suggests that something else ran meanwhile."
            )
            lines.append(f"  WARNING: Interquartile range is {share:.1f}% of the median: {cause}")
        return "\n".join(lines)

    @staticmethod
    def merge(measurements: Iterable[Measurement]) -> list[Measurement]:
        """One measurement for each task, with all times of its measurements."""
        times: dict[TaskSpec, list[float]] = {}
        for m in measurements:
            times.setdefault(m.task_spec, []).extend(m.times)
        return [Measurement(1, found, task) for task, found in times.items()]


def select_unit(t: float) -> tuple[str, float]:
    """The unit that suits a time, and its seconds.

    >>> select_unit(3e-5), select_unit(20.0)
    (('us', 1e-06), ('s', 1.0))
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if t >= scale:
            return unit, scale
    return "ns", 1e-9


def trim_sigfig(x: float, n: int) -> float:
    """A number rounded to `n` digits that mean something.

    >>> trim_sigfig(3.14159, 2), trim_sigfig(1234.0, 2)
    (3.1, 1200.0)
    """
    return float(f"{x:.{n - 1}e}")
