"""tgrad: a lazy tensor framework whose compiler you can read in a day.

In: nothing. Out: the public names. Invariant: importing this needs NumPy alone.
"""

import importlib as _importlib
import math as _math
import typing as _typing

from tgrad import autograd as autograd
from tgrad import errors as errors
from tgrad import random as random
from tgrad.autocasting import autocast, get_autocast_dtype, is_autocast_enabled
from tgrad.creation import (
    arange,
    as_tensor,
    empty,
    empty_like,
    empty_permuted,
    empty_strided,
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
from tgrad.determinism import (
    are_deterministic_algorithms_enabled,
    get_deterministic_debug_mode,
    is_deterministic_algorithms_warn_only_enabled,
    set_deterministic_debug_mode,
    use_deterministic_algorithms,
)
from tgrad.device import Device as device
from tgrad.device import get_default_device, set_default_device
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
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from tgrad.interop.einops import register as _register_einops
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
from tgrad.methods.interchange import from_dlpack, to_dlpack
from tgrad.module_paths import module_below as _module_below
from tgrad.module_paths import register as _register_paths
from tgrad.precision import get_float32_matmul_precision, set_float32_matmul_precision
from tgrad.products import cdist, chain_matmul, cross, einsum, tensordot
from tgrad.random import (
    Generator,
    bernoulli,
    default_generator,
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
    seed,
    set_rng_state,
)
from tgrad.serialization import load, save
from tgrad.shapes import Size
from tgrad.sorting import bucketize, cumulative_trapezoid, multinomial, searchsorted
from tgrad.tensor import Tensor, tensor
from tgrad.threads import (
    get_num_interop_threads,
    get_num_threads,
    set_num_interop_threads,
    set_num_threads,
)

if _typing.TYPE_CHECKING:
    from tgrad import accelerator as accelerator
    from tgrad import amp as amp
    from tgrad import backends as backends
    from tgrad import compiler as compiler
    from tgrad import cpu as cpu
    from tgrad import cuda as cuda
    from tgrad import distributed as distributed
    from tgrad import fft as fft
    from tgrad import func as func
    from tgrad import hub as hub
    from tgrad import jit as jit
    from tgrad import linalg as linalg
    from tgrad import masked as masked
    from tgrad import multiprocessing as multiprocessing
    from tgrad import nn as nn
    from tgrad import optim as optim
    from tgrad import profiler as profiler
    from tgrad import signal as signal
    from tgrad import special as special
    from tgrad import testing as testing
    from tgrad import types as types
    from tgrad import utils as utils
    from tgrad import version as version
    from tgrad.compiling import Dim
    from tgrad.compiling.cond import cond
    from tgrad.compiling.function import compile

__version__ = "0.1.0"

_LAZY = (
    "_utils", "accelerator", "amp", "backends", "compiler", "cpu", "cuda", "distributed",
    "distributions", "fft", "func", "hub", "jit", "linalg", "masked", "multiprocessing", "nn",
    "optim", "profiler", "signal", "special", "testing", "types", "utils", "version",
)  # fmt: skip

_ELSEWHERE = {
    "tgrad.nn.functional": (
        "adaptive_avg_pool1d", "adaptive_max_pool1d", "alpha_dropout", "avg_pool1d", "bilinear",
        "celu", "celu_", "channel_shuffle", "constant_pad_nd", "conv1d", "conv2d",
        "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
        "cosine_similarity", "dropout",
        "feature_alpha_dropout", "group_norm", "hardshrink", "layer_norm", "max_pool1d",
        "max_pool2d", "max_pool3d", "pairwise_distance", "pdist", "pixel_shuffle",
        "pixel_unshuffle", "prelu", "rms_norm", "rrelu", "rrelu_", "selu", "selu_", "threshold",
        "threshold_",
    ),
    "tgrad.nn.functional.positional": (
        "affine_grid_generator", "batch_norm", "binary_cross_entropy_with_logits",
        "cosine_embedding_loss", "ctc_loss", "embedding", "grid_sampler", "hinge_embedding_loss",
        "instance_norm", "kl_div", "margin_ranking_loss", "poisson_nll_loss",
        "triplet_margin_loss",
    ),
    "tgrad.nn.recurrent_functions": (
        "gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh",
        "rnn_tanh_cell",
    ),
    "tgrad.complex_numbers": (
        "complex", "imag", "polar", "real", "view_as_complex", "view_as_real",
    ),
    "tgrad.symbolic": (
        "SymBool", "SymFloat", "SymInt", "sym_float", "sym_int", "sym_ite", "sym_max", "sym_min",
        "sym_not", "sym_sqrt", "sym_sum",
    ),
    "tgrad.methods.memory": ("TypedStorage", "UntypedStorage"),
    "tgrad.anomalies": ("is_anomaly_check_nan_enabled", "is_anomaly_enabled"),
    "tgrad.autocasting": (
        "autocast_decrement_nesting", "autocast_increment_nesting", "clear_autocast_cache",
        "is_autocast_cache_enabled", "set_autocast_cache_enabled", "set_autocast_dtype",
        "set_autocast_enabled",
    ),
    "tgrad.discrete": ("binomial", "poisson"),
    "tgrad.fft.frames": ("istft", "stft"),
    "tgrad.func": ("vmap",),
    "tgrad.amp": ("GradScaler",),
    "tgrad.dtype": ("complex64", "complex128", "get_default_dtype", "set_default_dtype"),
    "tgrad.errors": ("OutOfMemoryError",),
    "tgrad.places": (
        "BFloat16Tensor", "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor",
        "HalfTensor", "IntTensor", "LongTensor", "ShortTensor", "asarray", "frombuffer",
        "tril_indices", "triu_indices", "unravel_index", "vander",
    ),
    "tgrad.low_rank": ("lobpcg", "pca_lowrank", "svd_lowrank"),
    "tgrad.pivoting": ("lu_unpack",),
    "tgrad.printing": ("set_printoptions",),
    "tgrad.queries": (
        "_assert", "can_cast", "finfo", "get_autocast_cpu_dtype", "get_autocast_gpu_dtype",
        "get_device", "iinfo",
        "is_autocast_cpu_enabled", "is_complex", "is_conj", "is_floating_point", "is_inference",
        "is_neg", "is_nonzero", "is_same_size", "is_signed", "is_storage", "is_tensor", "numel",
        "set_autocast_cpu_dtype", "set_autocast_cpu_enabled", "set_autocast_gpu_dtype",
        "set_default_tensor_type", "set_flush_denormal", "typename",
    ),
    "tgrad.signal.periodic": (
        "bartlett_window", "blackman_window", "hamming_window", "hann_window", "kaiser_window",
    ),
}  # fmt: skip
"""Functions that load when they are first named, and where they are."""

_IN_PLACE = (
    "abs_", "acos_", "acosh_", "addmv_", "arccos_", "arccosh_", "arcsin_", "arcsinh_", "arctan_",
    "arctanh_", "asin_", "asinh_", "atan_", "atanh_", "ceil_", "clamp_", "clamp_max_", "clamp_min_",
    "clip_", "cos_", "cosh_", "deg2rad_", "detach", "detach_", "erf_", "erfc_", "exp2_", "exp_",
    "expm1_", "fill_", "fix", "fix_", "floor_", "frac_", "gcd_", "histogram", "i0_", "index_put_",
    "lcm_", "ldexp_", "log10_", "log1p_", "log2_", "log_", "logit_", "nan_to_num_", "neg_",
    "negative_", "rad2deg_", "reciprocal_", "relu_", "resize_as_", "round_", "rsqrt_", "sigmoid_",
    "sin_", "sinc_", "sinh_", "sqrt_", "square_", "tan_", "tanh_", "trunc_", "xlogy_", "zero_",
)  # fmt: skip
"""Methods that PyTorch has as functions too."""

_ABSENT = {
    **dict.fromkeys(("chalf", "complex32"), "complex numbers have parts of float32 or float64."),
    **dict.fromkeys(
        ("sparse_coo_tensor", "sparse_csr_tensor", "sparse_coo", "sparse_csr"),
        "tensors are dense."),
    **dict.fromkeys(
        ("qint8", "quint8", "qint32", "quantize_per_tensor"),
        "there are no quantized dtypes; integers and .to(dtype) compute the same."),
}  # fmt: skip
"""Names of PyTorch's that are out of scope, and why."""

e, inf, nan, newaxis, pi = _math.e, _math.inf, _math.nan, None, _math.pi
contiguous_format, preserve_format = "contiguous_format", "preserve_format"
channels_last, channels_last_3d = "channels_last", "channels_last_3d"
strided = "strided"
layout = memory_format = str
half, float, double = float16, float32, float64
short, int, long = int16, int32, int64


_SHORT = {"cdouble": "complex128", "cfloat": "complex64"}


def __getattr__(name: str) -> object:
    """What not every program uses, and the compiler with it, loads when it is first named."""
    if name in _LAZY:
        return _importlib.import_module(f"tgrad.{name}")
    if name in _algebra:
        return getattr(_importlib.import_module("tgrad.linalg"), _algebra[name])
    if name in ("Dim", "compile", "cond"):
        return getattr(_importlib.import_module("tgrad.compiling"), name)
    if name in _SHORT:
        return getattr(_importlib.import_module("tgrad.dtype"), _SHORT[name])
    for module, names in _ELSEWHERE.items():
        if name in names:
            return getattr(_importlib.import_module(module), name)
    if name in _IN_PLACE:
        return getattr(Tensor, name)
    if name.startswith("_foreach_"):
        return _importlib.import_module("tgrad.foreach").function(name)
    if name in _ABSENT:
        raise AttributeError(f"tgrad has no {name}: {_ABSENT[name]}")
    return _module_below(__name__, name)


__all__ = [
    "Dim", "Generator", "Size", "Tensor", "arange", "as_tensor", "atleast_1d", "atleast_2d",
    "atleast_3d", "autograd", "bernoulli", "bfloat16", "block_diag", "bool", "broadcast_shapes",
    "broadcast_tensors", "cartesian_prod", "cat", "cdist", "chain_matmul", "column_stack",
    "combinations", "compile", "concat", "concatenate", "cond", "corrcoef", "cov", "cross",
    "device", "diff", "double", "dstack", "einsum", "empty", "empty_like", "empty_permuted",
    "empty_strided", "enable_grad", "errors",
    "explain", "eye", "fft", "float", "float16", "float32", "float64", "float8_e4m3fn",
    "float8_e5m2", "from_dlpack", "from_numpy",
    "full", "full_like",
    "get_num_threads", "get_rng_state", "gradient", "half", "hstack", "inference_mode",
    "initial_seed", "int",
    "int16", "int32", "int64", "int8", "is_grad_enabled", "isin", "linalg", "linspace", "load",
    "logspace", "long", "manual_seed", "masked", "meshgrid", "nn", "no_grad", "normal", "ones",
    "ones_like", "optim", "promote_types", "rand", "rand_like", "randint", "randint_like", "randn",
    "randn_like", "random", "randperm", "row_stack", "save", "scalar_tensor", "set_grad_enabled",
    "are_deterministic_algorithms_enabled", "is_deterministic_algorithms_warn_only_enabled",
    "use_deterministic_algorithms", "get_float32_matmul_precision", "set_float32_matmul_precision",
    "default_generator", "get_deterministic_debug_mode", "get_num_interop_threads",
    "is_inference_mode_enabled", "set_deterministic_debug_mode", "set_num_interop_threads",
    "set_num_threads", "set_rng_state", "short", "signal", "special", "stack", "tensor",
    "tensordot", "to_dlpack", "trapezoid", "trapz", "uint16", "uint32", "uint64", "uint8", "vstack",
    "zeros", "zeros_like",
    "bucketize", "cumulative_trapezoid", "multinomial", "searchsorted",
    *_algebra, *_functions, *_IN_PLACE, *(n for names in _ELSEWHERE.values() for n in names),
    "channels_last", "channels_last_3d", "contiguous_format", "e", "inf", "nan", "newaxis", "pi",
    "preserve_format", "seed", "strided", "get_default_device", "set_default_device", "autocast",
    "get_autocast_dtype", "is_autocast_enabled",
]  # fmt: skip

_register_paths()
_register_einops()
