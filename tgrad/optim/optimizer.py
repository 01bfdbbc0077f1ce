"""Optimizer: what all of them share.

In: parameters with gradients. Out: new values of parameters and state, as graph, run with the
forward and backward pass as one plan. Invariant: the graph of a step is that of the step before:
numbers that move (lr) are 0-d tensors, written anew only when they changed; the step counter is
state that the graph itself counts up. Source: https://docs.pytorch.org/docs/stable/optim.html
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import numpy as np

from tgrad import dtype as dt
from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.errors import GradientError, OutOfRangeError, ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.nn.parameter import is_lazy, realize_parameters, stored_full
from tgrad.nn.state import ModuleHook
from tgrad.optim.repeated import Pattern, pattern_of, repeated
from tgrad.repeating import modes
from tgrad.rollback import AllOrNothing
from tgrad.tensor import (
    Tensor,
    drop_pending,
    labelled,
    mark_pending,
    realize_pending,
    realize_tensors,
    tensor,
)
from tgrad.tracing import WatchedDict, WatchedState, tracer, versions
from tgrad.unread import uncut

ParamsT = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
Group = dict[str, Any]

STATE_HOOKS = (
    "state_dict_pre", "state_dict_post", "load_state_dict_pre", "load_state_dict_post",
)  # fmt: skip

required: Any = object()
"""PyTorch's default of settings that must be given; optimizers that programs write name it."""


class WatchedGroup(WatchedDict):
    """A parameter group; `inputs` are the names of its moving settings.

    Attributes:
        read: those that a compiled function has read as numbers of Python, so that they are part of
            plans, and no inputs any more.
    """

    __slots__ = ("read",)

    def __init__(self, items: Any = (), inputs: set[str] | None = None):
        super().__init__(items, inputs)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self._note_read(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._note_read(key)
        return super().get(key, default)

    def _note_read(self, key: str) -> None:
        name = "beta1" if key == "betas" else key
        if name in self.inputs and tracer() is not None:
            self.read.add(name)

    def is_input(self, key: str, value: Any) -> bool:
        moving = self.inputs - self.read
        if key == "betas" and "beta1" in moving and key in self:
            return len(value) == 2 and value[1] == self[key][1]
        return key in moving and isinstance(self.get(key), float | int)


@dataclass
class Update:
    """One parameter in a step. Tensors are in the dtype that updates are computed in: float32 for
    float16 and bfloat16, else the parameter's.

    Attributes:
        param: the parameter.
        value, grad: its value and gradient without history; the gradient is negated to maximize.
        state: what the optimizer keeps for it.
        setting: a number of its group by name: a 0-d tensor if it may move between steps.
        step: 0-d, the number of this step, the first is 1; where the optimizer counts.
        shared: results that depend on the settings and the step alone, to be made once.
        new: the state after this step, by name.
    """

    param: Tensor
    value: Tensor
    grad: Tensor
    state: dict[str, Any]
    setting: Callable[[str], Any]
    step: Tensor
    shared: dict[Any, Tensor]
    new: dict[str, Tensor] = field(default_factory=dict)

    def start(self, name: str, first: float = 0.0, shape: Sequence[int] | None = None) -> Tensor:
        """The state of that name before this step, by default in the parameter's shape; `first`
        everywhere at first."""
        if self.state.get(name) is None:
            sizes = self.param.shape if shape is None else tuple(shape)
            self.state[name] = stored_full(sizes, first, self.param)
        return self.state[name]._without_history().to(self.value.dtype)

    def keep(self, name: str, new: Tensor) -> Tensor:
        """Make `new` the state of that name, stored with the plan of the step."""
        self.new[name] = new
        return new

    def share(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives, made once for all parameters with this count of steps."""
        key = (key, self.value.dtype)
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]


def unless(found_inf: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    """`new`; where a gradient was not finite, the old value."""
    if found_inf is None:
        return new
    return old._without_history().where(found_inf.to(old.device), new.to(old.dtype))


@dataclass
class Counted:
    """A step counter in one step: its tensors, and what was computed from them."""

    before: Tensor
    after: Tensor
    shared: dict[Any, Tensor] = field(default_factory=dict)


class Steps:
    """The step counters of one step, by the identity of their tensors: one tensor for all
    parameters that have had as many steps, counted in place.

    Args:
        optimizer: whose parameters make a step: those that have a gradient.
    """

    def __init__(self, optimizer: Optimizer):
        self.counted: dict[int, Counted] = {}
        self.zeros: dict[Device, Tensor] = {}
        self.resting: set[int] = set()
        self.found_inf = optimizer.found_inf
        for p, state in optimizer.state.items():
            if "step" in state and p.grad is None:
                self.resting.add(id(state["step"]))

    def count(self, p: Tensor, state: dict[str, Any]) -> Counted:
        """The counter of a parameter."""
        if "step" not in state:
            if p.device not in self.zeros:
                self.zeros[p.device] = tensor(0.0, dtype=dt.float32, device=p.device)
            state["step"] = self.zeros[p.device]
        before = state["step"]
        if id(before) not in self.counted:
            self.counted[id(before)] = Counted(before, self._next(before))
        found = self.counted[id(before)]
        if found.after is not before:
            state["step"] = found.after
        return found

    def _next(self, before: Tensor) -> Tensor:
        """The counter after this step: the same tensor, unless others that make no step have it."""
        if id(before) not in self.resting:
            after = before._without_history() + 1.0
            return before._assign(unless(self.found_inf, after, before))
        after = unless(self.found_inf, before + 1.0, before)
        mark_pending(after)
        trace = tracer()
        if trace is not None:
            trace.keep_once()
        return after


def _calling_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step with the hooks of its optimizer around it."""

    @wraps(step)
    def call(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        for hook, _ in tuple(self._step_pre_hooks.values()):
            if hook(self, (self, *args), kwargs) is not None:
                raise UnsupportedError(
                    "a hook before a step returns other arguments.", "Let it return None."
                )
        result = step(self, *args, **kwargs)
        for hook, _ in tuple(self._step_post_hooks.values()):
            hook(self, (self, *args), kwargs)
        return result

    return call


class Optimizer:
    """Base of all optimizers: groups of parameters with their settings, and state.

    Args:
        params: parameters, dictionaries with "params" and settings, or (name, parameter) pairs.
        defaults: the settings of groups that have none of their own.

    Attributes:
        moving: names of the settings that may change between steps without a new plan; a
            schedule that moves others adds them.
        found_inf: 0-d bool, set by `GradScaler`: a step changes nothing where it is true.
    """

    counts_steps = False
    """Whether the state has a "step"."""
    repeats = False
    """Whether `update` computes from what it is given and the settings of the group alone, so that
    its graph is made again from a template. Who writes another `update` says so again."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "update" in cls.__dict__:
            cls.repeats = cls.__dict__.get("repeats", False)
        if "step" in cls.__dict__:
            cls.step = _calling_hooks(cls.step)  # type: ignore[method-assign]

    def __init__(self, params: Iterable[Any], defaults: Group):
        self.defaults = defaults
        self._step_pre_hooks: dict[int, Any] = {}
        self._step_post_hooks: dict[int, Any] = {}
        self._state_hooks: dict[str, dict[int, Any]] = {name: {} for name in STATE_HOOKS}
        self.param_groups: list[Group] = []
        self.state: defaultdict[Tensor, dict[str, Any]] = WatchedState()
        self.moving = {"lr"}
        self.found_inf: Tensor | None = None
        self._numbers: dict[tuple[int, str, Device, DType], tuple[float, Tensor]] = {}
        given = [params] if isinstance(params, dict) else list(params)
        if isinstance(params, Tensor):
            raise ShapeError("an optimizer of one tensor.", "Give a list: [tensor].")
        if not given:
            raise ShapeError("an optimizer of no parameters.", "Give at least one.")
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: Group) -> None:
        """Optimize more parameters, with settings of their own.

        Raises:
            GradientError: one was computed from others, or is in a group already.
        """
        group = WatchedGroup(param_group, self.moving)
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        params = [p[1] if isinstance(p, tuple) else p for p in params]
        known = {id(p) for other in self.param_groups for p in other["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise ShapeError(f"an optimizer of a {type(p).__name__}.", "Give tensors.")
            if not p.is_leaf:
                raise GradientError(
                    f"an optimizer of a computed tensor of shape {p.shape}.", "Give leaves only."
                )
            if id(p) in known:
                raise GradientError(
                    f"a parameter of shape {p.shape} stands twice.", "Give each one once."
                )
            known.add(id(p))
        group["params"] = params
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        self.param_groups.append(group)
        versions.guards += 1
        realize_parameters()
        realize_tensors([p for p in params if p._storage is None and not is_lazy(p)])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or set them to zero."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    drop_pending(p.grad)
                    if set_to_none:
                        p.grad = None
                    else:
                        with no_grad():
                            p.grad.zero_()

    def register_step_pre_hook(self, hook: Callable[..., None]) -> ModuleHook:
        """Call `hook(optimizer, args, kwargs)` before each step.

        Returns:
            A handle whose `remove()` takes it away.
        """
        return ModuleHook(self._step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., None]) -> ModuleHook:
        """Call `hook(optimizer, args, kwargs)` after each step.

        Returns:
            A handle whose `remove()` takes it away.

        >>> import tgrad
        >>> w = tgrad.ones(2, requires_grad=True)
        >>> optimizer = tgrad.optim.SGD([w], lr=3.0)
        >>> def limit(optimizer, args, kwargs):
        ...     with tgrad.no_grad():
        ...         w.clamp_(-1.0, 1.0)
        >>> handle = optimizer.register_step_post_hook(limit)
        >>> w.sum().backward(), optimizer.step(), w.tolist()
        (None, None, [-1.0, -1.0])
        """
        return ModuleHook(self._step_post_hooks, hook)

    @_calling_hooks
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change all parameters that have a gradient, and run what is pending as one plan.

        A step that fails, because memory or the disk is full or by Ctrl-C, has changed nothing.

        Args:
            closure: computes the loss again, with its gradients; called first.

        Returns:
            What the closure returned.
        """
        loss = None if closure is None else closure()
        with AllOrNothing(self._all_params(), self.state), uncut():
            for device in self._update_all():
                realize_pending(device)
        return loss

    def _update_all(self) -> list[Device]:
        devices: dict[Device, None] = {}
        steps, compute = Steps(self), labelled(type(self).__name__.lower())(self._computed)
        repeats = self.repeats and modes() is not None
        with no_grad():
            for number, group in enumerate(self.param_groups):
                pattern = pattern_of(type(self), group, self.moving) if repeats else None
                with_gradients = [p for p in group["params"] if p.grad is not None]
                updates = [self._begun(p, number, group, steps) for p in with_gradients]
                for u, new in zip(updates, compute(pattern, updates, group)):
                    self._finish(u, new)
                    devices[u.param.device] = None
        return list(devices)

    def _begun(self, p: Tensor, number: int, group: Group, steps: Steps) -> Update:
        """What the update of a parameter is computed from."""
        wide = p.dtype.accumulator
        grad = p.grad._without_history().to(wide)  # type: ignore[union-attr]
        grad = -grad if group.get("maximize") else grad
        state = self.state[p]
        value = p._without_history().to(wide)
        step, shared = value, {}
        if self.counts_steps:
            counted = steps.count(p, state)
            step, shared = counted.after.to(wide), counted.shared

        def setting(name: str) -> Any:
            return self._setting(number, name, p.device, wide)

        return Update(p, value, grad, state, setting, step, shared)

    def _computed(
        self, pattern: Pattern | None, updates: Sequence[Update], group: Group
    ) -> list[Tensor]:
        """The parameters' new values, by `update` or by templates of it."""
        found = [None] * len(updates) if pattern is None else repeated(
            self.update, updates, group, pattern
        )  # fmt: skip
        return [self.update(u, group) if x is None else x for u, x in zip(updates, found)]

    def _finish(self, u: Update, new: Tensor) -> None:
        """Give a parameter and its state their new values."""
        for name, kept in u.state.items():
            if name in u.new:
                kept._assign(unless(self.found_inf, u.new[name], kept))
        u.param._assign(unless(self.found_inf, new, u.param))
        drop_pending(u.param.grad)  # type: ignore[arg-type]

    def _setting(self, number: int, name: str, device: Device, dtype: DType) -> Any:
        """A number of a group; "beta1" and "beta2" are those of its "betas"."""
        value = self._number(number, name)
        if isinstance(value, Tensor):
            return value._without_history().to(device)
        return self.as_number(number, name, value, device, dtype) if name in self.moving else value

    def _number(self, number: int, name: str) -> Any:
        group, is_beta = self.param_groups[number], name in ("beta1", "beta2")
        value = dict.__getitem__(group, "betas" if is_beta else name)  # the plan reads it
        return value[int(name[4]) - 1] if is_beta else value

    def as_number(
        self, number: int, name: str, value: float, device: Device, dtype: DType
    ) -> Tensor:
        """A 0-d tensor of the number, written only when it is another than last time."""
        key = (number, name, device, dtype)
        trace = tracer()
        if trace is not None:
            moves = number >= 0
            return trace.number(
                (id(self), *key),
                (lambda: float(self._number(number, name))) if moves else (lambda: value),
                device,
                dtype,
            )
        known = self._numbers.get(key)
        if known is None or known[0] != value:
            self._numbers[key] = value, tensor(float(value), dtype=dtype, device=device)
        return self._numbers[key][1]

    def update(self, u: Update, group: Group) -> Tensor:
        """The parameter's new value."""
        raise NotImplementedError

    # -- state ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """State and settings, in PyTorch's layout: parameters are numbered in order."""
        self._call_hooks("state_dict_pre")
        numbers = {p: i for i, p in enumerate(self._all_params())}
        groups, first = [], 0
        for group in self.param_groups:
            plain = {name: value for name, value in group.items() if name != "params"}
            count = len(group["params"])
            groups.append({**plain, "params": list(range(first, first + count))})
            first += count
        state = {
            numbers[p]: {k: v.detach() if isinstance(v, Tensor) else v for k, v in kept.items()}
            for p, kept in self.state.items()
            if kept
        }
        return self._call_hooks("state_dict_post", {"state": state, "param_groups": groups})

    def _all_params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`, of tgrad or (as NumPy arrays) of PyTorch.

        Raises:
            ShapeError: the groups have other numbers of parameters.
        """
        state_dict = self._call_hooks("load_state_dict_pre", dict(state_dict))
        have = [len(group["params"]) for group in self.param_groups]
        found = [len(group["params"]) for group in state_dict["param_groups"]]
        if have != found:
            raise ShapeError(
                f"load_state_dict: groups of {found} parameters for an optimizer with {have}.",
                "Build the optimizer as the saved one.",
            )
        for group, saved in zip(self.param_groups, state_dict["param_groups"]):
            for name, value in saved.items():
                if name != "params":
                    group[name] = tuple(value) if isinstance(value, list) else value
        order = [i for saved in state_dict["param_groups"] for i in saved["params"]]
        params = dict(zip(order, self._all_params()))
        steps: dict[tuple[float, Device], Tensor] = {}
        self.state.clear()
        for number, kept in state_dict["state"].items():
            p = params[number]
            self.state[p] = {k: _loaded(k, v, p, steps) for k, v in kept.items()}
        self._call_hooks("load_state_dict_post")

    def _call_hooks(self, name: str, *state: dict[str, Any]) -> Any:
        """Call hooks with this optimizer and a state, in whose place comes what one returns."""
        for hook, _ in tuple(self._state_hooks[name].values()):
            found = hook(self, *state)
            state = state if found is None or not state else (found,)
        return state[0] if state else None

    def register_state_dict_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> ModuleHook:
        """Call `hook(optimizer)` before `state_dict`.

        Returns:
            A handle whose `remove()` takes it away.
        """
        return ModuleHook(self._state_hooks["state_dict_pre"], hook, prepend)

    def register_state_dict_post_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> ModuleHook:
        """Call `hook(optimizer, state_dict)` after `state_dict`; it may return another.

        Returns:
            A handle whose `remove()` takes it away.

        >>> import tgrad
        >>> optimizer = tgrad.optim.SGD([tgrad.ones(1, requires_grad=True)])
        >>> handle = optimizer.register_state_dict_post_hook(lambda o, state: {**state, "seen": 5})
        >>> optimizer.state_dict()["seen"]
        5
        """
        return ModuleHook(self._state_hooks["state_dict_post"], hook, prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> ModuleHook:
        """Call `hook(optimizer, state_dict)` before `load_state_dict`; it may return another.

        Returns:
            A handle whose `remove()` takes it away.
        """
        return ModuleHook(self._state_hooks["load_state_dict_pre"], hook, prepend)

    def register_load_state_dict_post_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> ModuleHook:
        """Call `hook(optimizer)` after `load_state_dict`.

        Returns:
            A handle whose `remove()` takes it away.
        """
        return ModuleHook(self._state_hooks["load_state_dict_post"], hook, prepend)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines += ["", f"Parameter Group {i}"] if i else [f"Parameter Group {i}"]
            lines += [f"    {k}: {group[k]}" for k in sorted(group) if k != "params"]
        return "\n".join([*lines, ")"])


def _loaded(name: str, value: Any, p: Tensor, steps: dict[tuple[float, Device], Tensor]) -> Any:
    """A copy of a saved value for a parameter; equal step counters become one tensor."""
    if value is None or isinstance(value, (bool, str)):
        return value
    array = value.numpy() if hasattr(value, "numpy") else np.asarray(value)
    if name != "step":
        return tensor(array, dtype=p.dtype, device=p.device)
    key = float(array), p.device
    if key not in steps:
        steps[key] = tensor(key[0], dtype=dt.float32, device=p.device)
    return steps[key]


def check_settings(optimizer: str, **settings: float) -> None:
    """Refuse negative settings.

    Raises:
        OutOfRangeError: names the first one.
    """
    for name, value in settings.items():
        if not isinstance(value, Tensor) and not value >= 0:
            raise OutOfRangeError(f"{optimizer}: {name}={value}.", "It is 0 or more.")


def check_betas(optimizer: str, betas: Sequence[float]) -> None:
    """Refuse betas outside [0, 1)."""
    if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
        raise OutOfRangeError(f"{optimizer}: betas={betas}.", "Each is at least 0 and below 1.")
