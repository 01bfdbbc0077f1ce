"""Times of a statement.

In: a statement of Python, as text. Out: measurements. Invariant: tgrad computes when a value is
asked for; so after each run of the statement its value, all that it assigned and all that is
pending is computed inside of the time that is taken, and devices are waited for.
"""

from __future__ import annotations

import ast
import statistics
import sys
import textwrap
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, NoReturn

from tgrad.device import get_default_device
from tgrad.errors import UnsupportedError
from tgrad.methods.elementwise import is_complex
from tgrad.pending import realize_pending, realize_tensors
from tgrad.runtime.device import open_device, open_devices
from tgrad.tensor import Tensor
from tgrad.threads import get_num_threads, set_num_threads
from tgrad.utils._pytree import tree_leaves
from tgrad.utils.benchmark.measurement import Measurement, TaskSpec

_FINISH, _VALUE = "_finish_of_benchmark", "_value_of_benchmark"
_INNER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp,
          ast.SetComp, ast.DictComp, ast.GeneratorExp)  # fmt: skip
"""What has names of its own."""

LARGEST_BLOCK = 2**31 - 1


class Language(Enum):
    """What statements are written in."""

    PYTHON = 0
    CPP = 1


def timer() -> float:
    """Seconds, when all devices are done."""
    for device in open_devices():
        open_device(device).synchronize()
    return timeit.default_timer()


def finish(*values: Any) -> None:
    """Compute the tensors in these values, and all that is pending."""
    tensors = [t for value in values for t in _tensors(value)]
    if tensors:
        realize_tensors(tensors)
    for device in {get_default_device(), *open_devices()} - {t.device for t in tensors}:
        realize_pending(device)


def _tensors(value: Any) -> list[Tensor]:
    """The tensors in a nest."""
    if isinstance(value, Tensor):
        return [value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return []
    leaves = tree_leaves(value)
    parts = [p for t in leaves if is_complex(t) for p in (t.real, t.imag)]
    return [t for t in (*leaves, *parts) if isinstance(t, Tensor)]


def computing(stmt: str) -> str:
    """The statement, followed by a call that computes what it asks for.

    >>> print(computing("y = x * 2"))
    y = x * 2
    _finish_of_benchmark(*[v for k, v in locals().items() if k in ('y',)])
    >>> print(computing("x @ x"))
    _value_of_benchmark = x @ x
    _finish_of_benchmark(_value_of_benchmark)
    """
    tree = ast.parse(stmt)
    arguments = []
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        target = ast.Name(_VALUE, ast.Store())
        tree.body[-1] = ast.Assign([target], tree.body[-1].value, lineno=0)
        arguments.append(_VALUE)
    names = tuple(dict.fromkeys(n for n in _stored(tree) if n != _VALUE))
    if names:
        arguments.append(f"*[v for k, v in locals().items() if k in {names}]")
    return f"{ast.unparse(tree)}\n{_FINISH}({', '.join(arguments)})"


def _stored(node: ast.AST) -> Iterator[str]:
    """Names that the code binds, but for those inside of functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        elif not isinstance(child, _INNER):
            yield from _stored(child)


class Timer:
    """Times a statement; results that are lazy are computed within the time, which takes some
    microseconds of Python itself.

    Args:
        stmt: what is timed.
        setup: what runs once before.
        global_setup: only empty; it is for C++.
        timer: the clock, by default one that waits for devices.
        globals: names that the statement may use; `torch` and `tgrad` are tgrad unless given.
        label, sub_label, description, env: what tables are sorted by, see `Compare`.
        num_threads: of the kernels on the device "cpu", 1 as in PyTorch.
        language: only Python.

    Raises:
        ValueError: a statement that is no text, another language, or a `global_setup`.
        SyntaxError: the statement is no Python.

    >>> import tgrad
    >>> x = tgrad.ones(8, 8)
    >>> found = Timer("x @ x", globals={"x": x}).timeit(20)
    >>> found.number_per_run, found.median > 0
    (20, True)
    """

    def __init__(
        self,
        stmt: str = "pass",
        setup: str = "pass",
        global_setup: str = "",
        timer: Callable[[], float] = timer,
        globals: dict[str, Any] | None = None,
        label: str | None = None,
        sub_label: str | None = None,
        description: str | None = None,
        env: str | None = None,
        num_threads: int = 1,
        language: Language | str = Language.PYTHON,
    ):
        if not isinstance(stmt, str):
            raise UnsupportedError(f"Timer of a {type(stmt).__name__}.", "Give code as a string.")
        if global_setup or language not in (Language.PYTHON, "py", "python"):
            raise UnsupportedError(
                f"Timer: language={language!r}, global_setup={global_setup!r}.",
                "Statements are Python; what runs once before goes to setup=.",
            )
        stmt, setup = (textwrap.dedent(code).strip("\n").rstrip() for code in (stmt, setup))
        ours = sys.modules["tgrad"]
        names = {"torch": ours, "tgrad": ours, **(globals or {}), _FINISH: finish}
        self._timer = timeit.Timer(computing(stmt), setup or "pass", timer, names)
        self._task = TaskSpec(
            stmt, setup, global_setup, label, sub_label, description, env, num_threads
        )

    def _seconds(self, number: int) -> float:
        return max(self._timer.timeit(number), 1e-9)

    @contextmanager
    def _threads(self) -> Iterator[None]:
        before = get_num_threads()
        set_num_threads(self._task.num_threads)
        try:
            yield
        finally:
            set_num_threads(before)

    def timeit(self, number: int = 1000000) -> Measurement:
        """One time of `number` runs, after runs that compile and warm up."""
        with self._threads():
            self._seconds(max(number // 100, 2))
            return Measurement(number, [self._seconds(number)], self._task)

    def repeat(self, repeat: int = -1, number: int = -1) -> NoReturn:
        """Not supported, as in PyTorch.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError("Timer.repeat.", "Use blocked_autorange.")

    def autorange(self, callback: Any = None) -> NoReturn:
        """Not supported, as in PyTorch.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError("Timer.autorange.", "Use blocked_autorange.")

    def collect_callgrind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported: Valgrind would count the instructions of a compiler.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError("Timer.collect_callgrind.", "Use tgrad.profiler, or tgrad profile.")

    def _block(self, min_run_time: float) -> int:
        """So many runs that the clock costs nothing beside them."""
        cost = statistics.median(self._seconds(0) for _ in range(5))
        self._seconds(1)  # compiles
        number = 1
        while True:
            taken = self._seconds(number)
            is_long = cost / taken <= 1e-4 and taken >= min_run_time / 1000
            if is_long or taken > min_run_time or number * 10 > LARGEST_BLOCK:
                return number
            number *= 10

    def blocked_autorange(
        self,
        callback: Callable[[int, float], Any] | None = None,
        min_run_time: float = 0.2,
    ) -> Measurement:
        """Times of as many runs each as make the clock cost nothing, for at least a while.

        Args:
            callback: is called with the runs and the seconds of each time.
            min_run_time: seconds of all times together.
        """
        with self._threads():
            number = self._block(min_run_time)
            return self._measured(number, min_run_time, None, lambda _: True, callback)

    def adaptive_autorange(
        self,
        threshold: float = 0.1,
        *,
        min_run_time: float = 0.01,
        max_run_time: float = 10.0,
        callback: Callable[[int, float], Any] | None = None,
    ) -> Measurement:
        """Times until they spread less than `threshold` of their median.

        Args:
            threshold: of the interquartile range.
            min_run_time, max_run_time: seconds of all times together.
            callback: is called with the runs and the seconds of each time.
        """

        def is_sure(found: Measurement) -> bool:
            return len(found.raw_times) > 3 and found.meets_confidence(threshold)

        with self._threads():
            number = self._block(0.05)
            return self._measured(number, min_run_time, max_run_time, is_sure, callback)

    def _measured(
        self,
        number: int,
        least: float,
        most: float | None,
        is_enough: Callable[[Measurement], bool],
        callback: Callable[[int, float], Any] | None,
    ) -> Measurement:
        found = Measurement(number, [], self._task)
        total = 0.0
        while most is None or total <= most:
            taken = self._seconds(number)
            found.raw_times.append(taken)
            total += taken
            if callback is not None:
                callback(number, taken)
            if total >= least and is_enough(found):
                break
        return found
