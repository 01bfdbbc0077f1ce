"""Which operations compute in float16 or bfloat16 under `autocast`: PyTorch's rules as two tables.

In: `with autocast(...)`, and calls by PyTorch's names. Out: the same calls with other dtypes.
Invariant: float64 and integers stay; what an operation does inside follows no rule of its own; a
gradient has the dtype that its forward pass had.
Source: https://docs.pytorch.org/docs/stable/amp.html, the lists of operations.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.errors import DTypeError, UnsupportedError
from tgrad.graph.node import is_in_source_scope
from tgrad.modes import thread

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

PRODUCTS = """convolution addbmm addmm baddbmm bmm conv1d conv2d conv3d
    conv_transpose1d conv_transpose2d conv_transpose3d linear matmul __matmul__ __rmatmul__
    mm multi_dot chain_matmul prelu scaled_dot_product_attention vecdot lstm"""
LOSSES = """binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy
    hinge_embedding_loss kl_div l1_loss margin_ranking_loss mse_loss multilabel_margin_loss
    nll_loss poisson_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss"""

GPU = {
    "low": PRODUCTS
    + " addmv addr mv gru rnn_tanh rnn_relu gru_cell lstm_cell rnn_tanh_cell rnn_relu_cell",
    "float32": LOSSES
    + """ __pow__ __rpow__ __rtruediv__ acos asin cdist cosh cosine_similarity cumprod
        cumsum dist erfinv exp expm1 group_norm layer_norm log log10 log1p log2 log_softmax
        logsumexp multi_margin_loss norm normalize pdist pow prod reciprocal renorm rms_norm
        rsqrt sinh softmax softmin softplus sum tan""",
    "widest": """addcdiv addcmul atan2 bilinear cross dot grid_sample grid_sampler scatter_add
        tensordot vdot""",
    "refused": "binary_cross_entropy",
}
CPU = {
    "low": PRODUCTS + " tensordot",
    "float32": LOSSES
    + """ adaptive_avg_pool3d avg_pool3d binary_cross_entropy cdist ctc_loss grid_sample
        grid_sampler huber_loss multi_margin_loss nanquantile prod quantile trace""",
    "widest": "cat stack index_copy",
    "refused": "",
}
"""What PyTorch does on GPUs, and on CPUs: the name of an operation by what it computes in."""

MADE_OF_OTHERS = frozenset(["cov", "einsum", "matrix_power", "multi_head_attention_forward"])
"""Operations whose parts follow the tables, where they are not in one themselves."""

_RULES = {
    kind: {name: rule for rule, names in table.items() for name in names.split()}
    for kind, table in (("cuda", GPU), ("cpu", CPU))
}
_NAMES = frozenset(name for rules in _RULES.values() for name in rules)
_CAST = (dt.float32, dt.float16, dt.bfloat16)
_LOW = (dt.float16, dt.bfloat16)


class _State(threading.local):
    """Of a thread.

    Attributes:
        is_part: whether the call that is being made is part of one of `MADE_OF_OTHERS`.
        dtypes: those of `autocast` that `set_autocast_dtype` has set, by type of device.
        caches: what `set_autocast_cache_enabled` has set.
        depth: how many blocks `autocast_increment_nesting` has begun.
    """

    is_part = False
    caches = True
    depth = 0

    def __init__(self) -> None:
        self.dtypes: dict[str, DType] = {}


_state = _State()
_defaults = {"cuda": dt.float16, "cpu": dt.bfloat16}


class autocast:
    """Context manager and decorator: products compute in a low precision, and what needs range in
    float32, as `torch.autocast` has it. Use it around the forward pass and the loss.

    Args:
        device_type: "cuda", or "cpu", whose rules `opencl`, `interpret` and `numpy` follow too.
        dtype: float16 or bfloat16; by default float16 on "cuda" and bfloat16 on "cpu".
        enabled: False computes in the dtypes that are there.
        cache_enabled: accepted; one weight is cast once whatever it says.

    Raises:
        DTypeError: another dtype.
        UnsupportedError: another type of device.

    >>> import tgrad
    >>> a = tgrad.ones(2, 2)
    >>> with tgrad.autocast("cpu"):
    ...     print((a @ a).dtype, (a + a).dtype)
    tgrad.bfloat16 tgrad.float32
    """

    def __init__(
        self,
        device_type: str,
        dtype: DType | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ):
        kind = _kind_of(str(device_type).partition(":")[0])
        if kind not in _defaults:
            raise UnsupportedError(f"autocast on {device_type!r}.", 'Use "cuda" or "cpu".')
        if dtype is not None and dtype not in _LOW:
            raise DTypeError(f"autocast to {dtype.name}.", "Use float16 or bfloat16.")
        self.device_type, self.dtype, self.enabled = kind, dtype, bool(enabled)
        self._previous: list[dict[str, DType]] = []

    def __enter__(self) -> autocast:
        self._previous.append(thread.autocast)
        others = {k: d for k, d in thread.autocast.items() if k != self.device_type}
        dtype = self.dtype or _state.dtypes.get(self.device_type, _defaults[self.device_type])
        thread.autocast = {**others, self.device_type: dtype} if self.enabled else others
        return self

    def __exit__(self, *exc: object) -> None:
        thread.autocast = self._previous.pop()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with autocast(self.device_type, self.dtype, self.enabled):
                return function(*args, **kwargs)

        return call


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether `autocast` is on for a type of device, in this thread."""
    return _kind_of(device_type) in thread.autocast


def is_autocast_available(device_type: str) -> bool:
    """Whether `autocast` knows a type of device.

    >>> is_autocast_available("cuda"), is_autocast_available("meta")
    (True, False)
    """
    return _kind_of(device_type) in _defaults


def get_autocast_dtype(device_type: str) -> DType:
    """The dtype of `autocast` on a type of device; where it is off, what it would be."""
    kind = _kind_of(device_type)
    return thread.autocast.get(kind) or _state.dtypes.get(kind, _defaults[kind])


def set_autocast_enabled(device_type: str | bool, enabled: bool | None = None) -> None:
    """Switch `autocast` on or off for a type of device, in this thread; with one argument for
    "cuda".

    Raises:
        UnsupportedError: another type of device.

    >>> set_autocast_enabled("cpu", True)
    >>> is_autocast_enabled("cpu")
    True
    >>> set_autocast_enabled("cpu", False)
    """
    if enabled is None:
        device_type, enabled = "cuda", bool(device_type)
    autocast(str(device_type), enabled=enabled).__enter__()


def set_autocast_dtype(device_type: str, dtype: DType) -> None:
    """Have `autocast` compute in a dtype, where it is not given one, in this thread.

    Raises:
        DTypeError: the dtype is neither float16 nor bfloat16.
        UnsupportedError: another type of device.
    """
    kind = autocast(device_type, dtype).device_type
    _state.dtypes[kind] = dtype
    if kind in thread.autocast:
        thread.autocast = {**thread.autocast, kind: dtype}


def is_autocast_cache_enabled() -> bool:
    """What was set last: one weight is cast once whatever it says."""
    return _state.caches


def set_autocast_cache_enabled(enabled: bool) -> None:
    """See `is_autocast_cache_enabled`."""
    _state.caches = enabled


def clear_autocast_cache() -> None:
    """Nothing: casts are graph."""


def autocast_increment_nesting() -> int:
    """One more block of a program that switches `autocast` itself; how many there are."""
    _state.depth += 1
    return _state.depth


def autocast_decrement_nesting() -> int:
    """One less."""
    _state.depth -= 1
    return _state.depth


def autocast_state() -> tuple[tuple[str, DType], ...]:
    """What plans depend on."""
    dtypes = thread.autocast
    return tuple(sorted(dtypes.items(), key=lambda item: item[0])) if dtypes else ()


@contextmanager
def no_autocast() -> Iterator[None]:
    """No rules inside: what derives gradients keeps the dtypes that it finds."""
    previous, thread.autocast = thread.autocast, {}
    try:
        yield
    finally:
        thread.autocast = previous


# -- calls ---------------------------------------------------------------------------------------


def follow_autocast(name: str, function: Callable[P, R]) -> Callable[P, R]:
    """The function of PyTorch's `name`, under the tables."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not thread.autocast:
            return function(*args, **kwargs)
        return _call_under_autocast(name, function, args, kwargs)

    return call


def _call_under_autocast(
    name: str, function: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> R:
    """Call it with operands of the dtypes that its name asks for."""
    was_part = _state.is_part
    if is_in_source_scope() and not was_part:
        return function(*args, **kwargs)
    try:
        dtype = _dtype_for(name, [*_floats(args), *_floats(tuple(kwargs.values()))])
        _state.is_part = dtype is None and name in MADE_OF_OTHERS
        if dtype is None:
            return function(*args, **kwargs)
        return function(*_cast(args, dtype), **{k: _cast(v, dtype) for k, v in kwargs.items()})
    finally:
        _state.is_part = was_part


def under_autocast(name: str, values: T) -> T:
    """A tensor, or several, of the dtype in which an operation of this name computes."""
    dtype = _dtype_for(name, _floats([values])) if thread.autocast else None
    return values if dtype is None else _cast(values, dtype)


def install(tensor: type) -> None:
    """Methods of `tensor` that stand in the tables follow them."""
    for name in sorted(_NAMES):
        if hasattr(tensor, name):
            setattr(tensor, name, follow_autocast(name, getattr(tensor, name)))


def _dtype_for(name: str, operands: list[Any]) -> DType | None:
    """What an operation computes in; None leaves its operands as they are."""
    kinds = {_kind_of(x.device.type) for x in operands} & thread.autocast.keys()
    if not kinds:
        return None
    kind = kinds.pop()
    rule = _RULES[kind].get(name)
    if rule == "refused":
        raise UnsupportedError(
            f"{name} under autocast.", "Its gradient overflows in float16: use the loss of logits."
        )
    if rule == "widest":
        has_float32 = any(x.dtype is dt.float32 for x in operands)
        return dt.float32 if has_float32 else None
    return {"low": thread.autocast[kind], "float32": dt.float32, None: None}[rule]


def _floats(values: Any) -> list[Any]:
    """The tensors that autocast casts, in lists too."""
    if isinstance(values, (list, tuple)):
        return [x for value in values for x in _floats(value)]
    return [values] if _is_cast(values) else []


def _is_cast(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    return isinstance(dtype, DType) and dtype in _CAST and hasattr(value, "device")


def _cast(value: Any, dtype: DType) -> Any:
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_cast(part, dtype) for part in value)
    return value.to(dtype) if _is_cast(value) else value


def _kind_of(device_type: str) -> str:
    """Whose rules a type of device follows."""
    return "cpu" if device_type in ("opencl", "interpret", "numpy") else device_type


# -- functions with a backward of their own ------------------------------------------------------


def custom_fwd(
    fwd: Callable[..., Any] | None = None,
    *,
    device_type: str,
    cast_inputs: DType | None = None,
) -> Callable[..., Any]:
    """Decorator of `forward(ctx, ...)` of an autograd.Function, for use under `autocast`.

    Args:
        device_type: whose autocast is meant.
        cast_inputs: a dtype that floating-point arguments are cast to where autocast is on; the
            forward then runs without it.

    >>> import tgrad
    >>> class Square(tgrad.autograd.Function):
    ...     @staticmethod
    ...     @tgrad.amp.custom_fwd(device_type="cpu", cast_inputs=tgrad.float32)
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x
    ...
    ...     @staticmethod
    ...     @tgrad.amp.custom_bwd(device_type="cpu")
    ...     def backward(ctx, g):
    ...         return 2 * g * ctx.saved_tensors[0]
    >>> with tgrad.autocast("cpu"):
    ...     Square.apply(tgrad.ones(1, dtype=tgrad.bfloat16)).dtype
    tgrad.float32
    """
    if fwd is None:
        return partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)
    forward = fwd

    @wraps(forward)
    def call(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        is_on = is_autocast_enabled(device_type)
        ctx._autocast = is_on and cast_inputs is None, get_autocast_dtype(device_type)
        if not is_on or cast_inputs is None:
            return forward(ctx, *args, **kwargs)
        given = [_cast_to(x, cast_inputs) for x in args]
        named = {name: _cast_to(x, cast_inputs) for name, x in kwargs.items()}
        with autocast(device_type, enabled=False):
            return forward(ctx, *given, **named)

    return call


def custom_bwd(bwd: Callable[..., Any] | None = None, *, device_type: str) -> Callable[..., Any]:
    """Decorator of `backward(ctx, ...)` beside `custom_fwd`: it runs under the autocast that the
    forward ran under."""
    if bwd is None:
        return partial(custom_bwd, device_type=device_type)
    backward = bwd

    @wraps(backward)
    def call(ctx: Any, *args: Any) -> Any:
        is_on, dtype = ctx._autocast
        was_part, _state.is_part = _state.is_part, True  # gradients belong to an operation
        try:
            with autocast(device_type, dtype, is_on):
                return backward(ctx, *args)
        finally:
            _state.is_part = was_part

    return call


def _cast_to(x: Any, dtype: DType) -> Any:
    is_cast = getattr(getattr(x, "dtype", None), "is_float", False) and x.dtype.itemsize < 8
    return x.to(dtype) if is_cast else x
