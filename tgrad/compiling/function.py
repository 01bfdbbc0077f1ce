"""`tgrad.compile`: a function that is traced once a key and then replayed.

In: a function or Module. Out: a callable of the same arguments and results. Invariant: it does what
the function would do, with the same numbers, or raises; a plan is used only while its guards hold.
"""

from __future__ import annotations

import functools
import gc
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tgrad.compiling.dynamic import Dynamic
from tgrad.compiling.guards import current_modes
from tgrad.compiling.replay import Entry, OpenGraphError, check_argument
from tgrad.compiling.short import MISSED, ShortCall, one_at_a_time
from tgrad.compiling.structure import Flat
from tgrad.compiling.trace import trace
from tgrad.errors import UNKNOWN, Source, TraceError, UnsupportedError
from tgrad.grad_mode import is_grad_enabled, restore_grad_mode
from tgrad.many_sizes import OFTEN
from tgrad.modes import process
from tgrad.nn.module import Module
from tgrad.settings import parse_seconds, parse_size
from tgrad.tracing import tracer

KEPT_ENTRIES = 64
"""Traces that one function keeps; beyond that, the one unused for longest is dropped."""


class CompiledFunction:
    """What `tgrad.compile` returns. See there.

    Attributes:
        traces: how often the function was traced.
        joined: how many calls added their graph to one around them, see `compile`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        memory_limit: int | None = None,
        dynamic: Any = None,
        autotune: float | None = None,
    ):
        if not callable(function):
            raise UnsupportedError(
                f"tgrad.compile of a {type(function).__name__}.", "Give a function or a Module."
            )
        self.traces = self.joined = 0
        self._open: set[Hashable] = set()
        self._alone: set[Hashable] = set()
        self._owner = object()
        self._function, self._memory_limit = function, memory_limit
        self._autotune = autotune
        self._entries: OrderedDict[tuple[Hashable, int], Entry] = OrderedDict()
        self._latest: tuple[Hashable, Entry] | None = None
        self._ran: Entry | None = None
        self._short: ShortCall | None = None
        self._by_key: dict[Hashable, list[tuple[Hashable, int]]] = {}
        self._name, self._source = _name_of(function)
        self._dynamic = None
        if dynamic is not None:
            self._dynamic = Dynamic(dynamic, function, self._name, self._source)
        self.__wrapped__ = function
        if not isinstance(function, Module):
            functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if tracer() is not None or process.stance == "force_eager":
            return self._function(*args, **kwargs)
        if self._short is not None and not kwargs:
            with one_at_a_time:
                result = self._short(args)
            if result is not MISSED:
                return result
        sizes: tuple[int, ...] = ()
        axes = None
        if self._dynamic is not None:
            bound = self._dynamic.bind(args, kwargs)
            args, kwargs, sizes, axes = bound.args, bound.kwargs, bound.values, bound.axes
        flat = Flat(axes)
        key: Hashable = (
            current_modes(),
            tuple([flat.key(a, f"argument {i}") for i, a in enumerate(args)]),
            tuple([(k, flat.key(kwargs[k], f"argument {k!r}")) for k in sorted(kwargs)])
            if kwargs
            else (),
        )
        try:
            if not self._open or key not in self._open:
                return self._run(key, (args, kwargs), flat, sizes)
        except OpenGraphError:
            if self._has_options:
                raise
        self.joined += 1
        return self._function(*args, **kwargs)

    def _run(self, key: Hashable, call: Any, flat: Flat, sizes: tuple[int, ...]) -> Any:
        """The call as a plan: one that is kept, or a new one.

        Raises:
            OpenGraphError: gradients flow through the call, to or from what is outside.
        """
        with_gradients = is_grad_enabled()
        for number, t in enumerate(flat.tensors):
            if t._storage is None or t._requires_grad:
                check_argument(t, number, with_gradients)
        with one_at_a_time:
            entry = self._find(key, sizes)
            if entry is not None and entry.is_shared and entry.runs >= OFTEN:
                self._forget(key)
                entry = None
            if entry is not None:
                result = entry.run(flat.tensors, sizes)
                self._ran = entry
                if entry.is_short and (self._short is None or self._short.entry is not entry):
                    args, kwargs = call
                    self._short = None if kwargs else ShortCall.of(entry, current_modes(), args)
                return result
            try:
                return self._first_run(key, call, flat, sizes)
            except BaseException as error:
                restore_grad_mode(with_gradients)
                if isinstance(error, OpenGraphError):
                    self._open.add(key)
                raise

    def _options(self) -> tuple[Any, ...]:
        """What it was made with beside the function."""
        spec = None if self._dynamic is None else self._dynamic.spec
        return self._memory_limit, spec, self._autotune

    def __reduce__(self) -> tuple[Any, ...]:
        """For copy and pickle: the function, with no traces, whose plans are bound to its state."""
        return CompiledFunction, (self._function, *self._options())

    @property
    def _has_options(self) -> bool:
        """Whether a call must be a plan of its own."""
        return (self._memory_limit, self._dynamic, self._autotune) != (None, None, None)

    def _find(self, key: Hashable, sizes: tuple[int, ...]) -> Entry | None:
        """The kept entry whose guards hold, the latest first."""
        if self._latest is not None and self._latest[0] == key and self._latest[1].holds(sizes):
            return self._latest[1]
        for place in reversed(self._by_key.get(key, ())):
            entry = self._entries[place]
            if entry.holds(sizes):
                self._entries.move_to_end(place)
                self._latest = key, entry
                return entry
        return None

    def _forget(self, key: Hashable) -> None:
        """Forget the traces of a call that came so often that plans of its own are worth it."""
        for place in self._by_key.pop(key):
            del self._entries[place]
        self._latest = None
        self._alone.add(key)

    def _first_run(self, key: Hashable, call: Any, flat: Flat, sizes: tuple[int, ...]) -> Any:
        """Trace and run; if the run fails, it is as if there had been no trace.

        Raises:
            TraceError: `compiler.set_stance` allows no trace.
        """
        if process.stance == "eager_on_recompile":
            return self._function(*call[0], **call[1])
        if process.stance == "fail_on_recompile":
            raise TraceError(
                f"{self._name} is called in a way that no plan is kept for, under "
                "compiler.set_stance('fail_on_recompile').",
                "Call it that way before.",
                self._source,
            )
        self.traces += 1
        self._ran = None
        limit = self._memory_limit
        symbols = [] if self._dynamic is None else self._dynamic.symbols(sizes)
        with _no_collection():
            is_alone = key in self._alone or self._autotune is not None
            owner = None if is_alone else self._owner
            entry = trace(
                self._function, self._name, self._source, call, flat, limit, symbols, owner
            )
        try:
            if self._autotune is not None:
                entry.tune(self._autotune)
            return entry.run(flat.tensors, sizes)
        finally:
            if not entry.runs:
                entry.undo_trace()
            elif not entry.once:
                self._keep(key, entry)
                self._ran = entry

    def _keep(self, key: Hashable, entry: Entry) -> None:
        entry.kept = []
        place = (key, self.traces)
        self._entries[place] = entry
        self._latest = key, entry
        self._by_key.setdefault(key, []).append(place)
        if len(self._entries) > KEPT_ENTRIES:
            (old, number), _ = self._entries.popitem(last=False)
            self._by_key[old].remove((old, number))

    def short_call(self, args: tuple[Any, ...]) -> ShortCall | None:
        """The last call, which had these arguments, for whoever has memories and not tensors; None
        where there is more to be done than the run of a program."""
        return None if self._ran is None else ShortCall.of(self._ran, current_modes(), args)

    @property
    def plans(self) -> list[Any]:
        """The plans of all traces that are kept, each once."""
        plans = (part.compiled.plan for entry in self._entries.values() for part in entry.parts)
        return list({id(plan): plan for plan in plans}.values())

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: one compiled function an instance."""
        if instance is None or isinstance(self._function, Module):
            return self
        bound = CompiledFunction(self._function.__get__(instance, owner), *self._options())
        try:
            instance.__dict__[self._name.rpartition(".")[2]] = bound
        except AttributeError:
            raise UnsupportedError(
                f"tgrad.compile of a method of {type(instance).__name__}, which has no __dict__.",
                "Compile a function that calls it.",
            ) from None
        return bound

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_function" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._function, name)

    def __repr__(self) -> str:
        return f"<compiled {self._name}, {len(self._entries)} traces>"


@contextmanager
def _no_collection() -> Iterator[None]:
    """Look for no cycles of garbage meanwhile: graphs and plans are many objects and few cycles,
    and a tenth of the time of making them went into looking."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _name_of(function: Any) -> tuple[str, Source]:
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    code = getattr(inner, "__code__", None) or getattr(type(inner).forward, "__code__", None) \
        if isinstance(inner, Module) else getattr(inner, "__code__", None)  # fmt: skip
    name = getattr(inner, "__qualname__", type(inner).__name__).rpartition("<locals>.")[2]
    return name, Source(code.co_filename, code.co_firstlineno) if code else UNKNOWN


def compile(
    fn_or_module: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: Any = None,
    backend: str = "tgrad",
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
    disable: bool = False,
    memory_limit: int | str | None = None,
    autotune: float | str | None = None,
) -> Any:
    """A function or Module as one plan: traced at the first call, replayed at the next ones.

    Tensors among the arguments, in lists, tuples, dicts and dataclasses too, are inputs of the
    plan; other arguments, shapes, dtypes and devices are its key, so a second shape makes a second
    plan; from the third on, a plan may serve other sizes too. Tensors that the function reaches by
    its closure, globals, modules and optimizers are state: read as they are at each call, changed
    as the function changes them. Numbers that it reaches cause another trace when they change;
    learning rates do not, they are inputs. Gradients that an optimizer's step inside the function
    consumed are None after the call; others are in `grad`. Results carry no history. One that is an
    argument or a state is that tensor; one that is a view of it is a copy.

    Where gradients flow through a call, out of its result to a backward outside or into an argument
    that was computed from leaves, the call adds its graph to the one around it, as the function
    would by itself, and is planned with it: compile the whole step to save building that graph too.
    With one of the options below such a call raises instead.

    Args:
        fn_or_module: what to compile; left out, a decorator is returned.
        fullgraph: accepted; a trace is one graph, and raises where it cannot be.
        dynamic: True and False, as in PyTorch, leave it to how often sizes change. Or sizes that
            differ from call to call and still share one plan: for a parameter of the function,
            {axis: (smallest, largest)} of the tensor, or (smallest, largest) of the int. Sizes that
            are always equal have one name: {axis: ("T", 1, 4096)} or
            {axis: tgrad.Dim("T", 1, 4096)}. Inside, such a size is symbolic: shapes, slices,
            arithmetic and arithmetic with tensors take it; a comparison that does not hold for the
            whole range makes a guard, and a trace more where it fails; reading it as a number is
            an error. Memory is laid out for the largest size.
        backend: "tgrad", or "inductor", which scripts for PyTorch name.
        mode: None, "default" or "reduce-overhead", which all plans do. Those that measure warn:
            kernels have the configurations of heuristics and of what `autotune` has stored.
        options: None; what PyTorch's compiler takes is refused.
        disable: return what was given.
        memory_limit: bytes that each plan may take, such as "8GiB" or a number: its arguments,
            state, results and temporaries together. Values are computed again instead of kept
            until it fits.
        autotune: how long the first call of each trace may look for quicker configurations, such
            as "30s" or a number of seconds; what is found is stored, and kernels that the store
            knows are not measured again. Left out, nothing is ever measured.

    Raises:
        ValueError: a limit or a time that is none, or a mode that there is not.
        UnsupportedError: another backend, or options of PyTorch's; an argument that is not
            supported; at a call with options, gradients that flow through it.
        TraceError: at a call, something that a plan cannot repeat, such as reading a value.
        MemoryLimitError: at a call, a plan that does not fit; nothing has run then.
        ShapeError: at a call, a size out of its range, or two of one name that differ.

    >>> import tgrad
    >>> mean = tgrad.compile(lambda x: x.mean(1), dynamic={"x": {1: (1, 64)}})
    >>> [mean(tgrad.ones(2, n)).tolist() for n in (1, 5, 64)], mean.traces
    ([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], 1)
    >>> w = tgrad.ones(2, requires_grad=True)
    >>> optimizer = tgrad.optim.SGD([w], lr=0.5)
    >>> @tgrad.compile
    ... def step(x):
    ...     loss = (w * x).sum()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> [step(tgrad.tensor([1.0, 2.0])).item() for _ in range(3)]
    [3.0, 0.5, -2.0]
    >>> w.tolist()
    [-0.5, -2.0]
    """
    _check_choices(backend, mode, options)
    if disable:
        return (lambda function: function) if fn_or_module is None else fn_or_module
    if isinstance(dynamic, bool):
        dynamic = None
    if isinstance(memory_limit, str):
        memory_limit = parse_size(memory_limit)
    seconds = None if autotune is None else parse_seconds(str(autotune))
    if fn_or_module is None:
        return functools.partial(
            CompiledFunction, memory_limit=memory_limit, dynamic=dynamic, autotune=seconds
        )
    return CompiledFunction(fn_or_module, memory_limit, dynamic, seconds)


def _check_choices(backend: Any, mode: str | None, options: Mapping[str, Any] | None) -> None:
    """Of PyTorch's arguments, those that ask for another compiler are refused."""
    if backend not in ("tgrad", "inductor"):
        raise UnsupportedError(
            f"compile: backend={backend!r}.", "tgrad is the compiler; leave it out."
        )
    if options:
        raise UnsupportedError(
            f"compile: options={dict(options)!r} are those of PyTorch's compiler.",
            "Leave them out; memory_limit= and autotune= are tgrad's.",
        )
    if mode in (None, "default", "reduce-overhead"):
        return
    if mode not in ("max-autotune", "max-autotune-no-cudagraphs"):
        raise ValueError(
            f"compile: mode={mode!r}; there are default, reduce-overhead, max-autotune."
        )
    warnings.warn(
        f"compile: mode={mode!r} measures nothing. Kernels have heuristics' configurations, or "
        'those that `tgrad autotune SCRIPT`, or autotune="60s" here, has stored.',
        stacklevel=3,
    )
