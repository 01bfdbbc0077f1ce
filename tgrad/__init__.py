"""tgrad: a lazy tensor framework whose compiler you can read in a day.

In: nothing. Out: the public names. Invariant: importing this needs NumPy alone.
"""

import importlib as _importlib
import typing as _typing

from tgrad import autograd as autograd
from tgrad import errors as errors
from tgrad import random as random
from tgrad.creation import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    logspace,
    ones,
    ones_like,
    scalar_tensor,
    zeros,
    zeros_like,
)
from tgrad.device import Device as device
from tgrad.dtype import (
    bfloat16,
    float8_e4m3fn,
    float8_e5m2,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from tgrad.dtype import bool_ as bool
from tgrad.dtype import promote as promote_types
from tgrad.explaining import explain
from tgrad.functional import *  # noqa: F403
from tgrad.functional import __all__ as _functions
from tgrad.grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from tgrad.joining import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    block_diag,
    broadcast_tensors,
    cartesian_prod,
    cat,
    column_stack,
    combinations,
    concat,
    concatenate,
    dstack,
    hstack,
    meshgrid,
    row_stack,
    stack,
    vstack,
)
from tgrad.measures import corrcoef, cov, diff, gradient, isin, trapezoid, trapz
from tgrad.methods.algebra import FUNCTIONS as _algebra
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.methods.interchange import from_dlpack
from tgrad.products import cdist, chain_matmul, cross, einsum, tensordot
from tgrad.random import (
    Generator,
    bernoulli,
    get_rng_state,
    initial_seed,
    manual_seed,
    normal,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
    set_rng_state,
)
from tgrad.serialization import load, save
from tgrad.sorting import bucketize, cumulative_trapezoid, multinomial, searchsorted
from tgrad.tensor import Tensor, tensor
from tgrad.threads import get_num_threads, set_num_threads

if _typing.TYPE_CHECKING:
    from tgrad import fft as fft
    from tgrad import func as func
    from tgrad import linalg as linalg
    from tgrad import masked as masked
    from tgrad import nn as nn
    from tgrad import optim as optim
    from tgrad import signal as signal
    from tgrad import special as special
    from tgrad import utils as utils
    from tgrad.compiling import Dim
    from tgrad.compiling.cond import cond
    from tgrad.compiling.function import compile

__version__ = "0.1.0"

_LAZY = ("fft", "func", "linalg", "masked", "nn", "optim", "signal", "special", "utils")

half, float, double = float16, float32, float64
short, int, long = int16, int32, int64


def __getattr__(name: str) -> object:
    """What not every program uses, and the compiler with it, loads when it is first named."""
    if name in _LAZY:
        return _importlib.import_module(f"tgrad.{name}")
    if name in _algebra:
        return getattr(_importlib.import_module("tgrad.linalg"), _algebra[name])
    if name in ("Dim", "compile", "cond"):
        return getattr(_importlib.import_module("tgrad.compiling"), name)
    raise AttributeError(f"module 'tgrad' has no attribute {name!r}")


__all__ = [
    "Dim", "Generator", "Tensor", "arange", "as_tensor", "atleast_1d", "atleast_2d", "atleast_3d",
    "autograd", "bernoulli", "bfloat16", "block_diag", "bool", "broadcast_shapes",
    "broadcast_tensors", "cartesian_prod", "cat", "cdist", "chain_matmul", "column_stack",
    "combinations", "compile", "concat", "concatenate", "cond", "corrcoef", "cov", "cross",
    "device", "diff", "double", "dstack", "einsum", "empty", "empty_like", "enable_grad", "errors",
    "explain", "eye", "fft", "float", "float16", "float32", "float64", "float8_e4m3fn",
    "float8_e5m2", "from_dlpack", "from_numpy",
    "full", "full_like",
    "get_num_threads", "get_rng_state", "gradient", "half", "hstack", "inference_mode",
    "initial_seed", "int",
    "int16", "int32", "int64", "int8", "is_grad_enabled", "isin", "linalg", "linspace", "load",
    "logspace", "long", "manual_seed", "masked", "meshgrid", "nn", "no_grad", "normal", "ones",
    "ones_like", "optim", "promote_types", "rand", "rand_like", "randint", "randint_like", "randn",
    "randn_like", "random", "randperm", "row_stack", "save", "scalar_tensor", "set_grad_enabled",
    "set_num_threads", "set_rng_state", "short", "signal", "special", "stack", "tensor",
    "tensordot", "trapezoid", "trapz", "uint16", "uint32", "uint64", "uint8", "vstack", "zeros",
    "zeros_like",
    "bucketize", "cumulative_trapezoid", "multinomial", "searchsorted",
    *_algebra, *_functions,
]  # fmt: skip
