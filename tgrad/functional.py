"""Functions over tensors, named as in PyTorch: `tgrad.exp(x)` is `x.exp()`.

In: tensors. Out: lazy tensors. Invariant: each function is the method of its name; what is no
method (`where`) stands here whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, overload

from tgrad.dtype import DType, dtype_of_number, get_default_dtype
from tgrad.errors import DTypeError, UnsupportedError
from tgrad.methods.elementwise import is_complex, result_type
from tgrad.methods.inplace import written
from tgrad.tensor import Tensor, labelled

__all__ = [
    "abs",
    "absolute",
    "acos",
    "acosh",
    "add",
    "addbmm",
    "addcdiv",
    "addcmul",
    "addmm",
    "addmv",
    "addr",
    "adjoint",
    "alias_copy",
    "all",
    "allclose",
    "amax",
    "amin",
    "aminmax",
    "angle",
    "any",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "argmax",
    "argmin",
    "argsort",
    "argwhere",
    "as_strided",
    "as_strided_copy",
    "as_strided_scatter",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "baddbmm",
    "bincount",
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "bmm",
    "broadcast_to",
    "ceil",
    "chunk",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "clone",
    "conj",
    "conj_physical",
    "copysign",
    "cos",
    "cosh",
    "count_nonzero",
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "deg2rad",
    "diag",
    "diag_embed",
    "diagflat",
    "diagonal",
    "diagonal_copy",
    "diagonal_scatter",
    "digamma",
    "dist",
    "div",
    "divide",
    "dot",
    "dsplit",
    "eq",
    "equal",
    "erf",
    "erfc",
    "erfinv",
    "exp",
    "exp2",
    "expand_copy",
    "expm1",
    "fill",
    "flatten",
    "flip",
    "fliplr",
    "flipud",
    "float_power",
    "floor",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "frac",
    "frexp",
    "gather",
    "gcd",
    "ge",
    "ger",
    "greater",
    "greater_equal",
    "gt",
    "heaviside",
    "histc",
    "hsplit",
    "hypot",
    "i0",
    "igamma",
    "igammac",
    "index_add",
    "index_copy",
    "index_fill",
    "index_put",
    "index_reduce",
    "index_select",
    "inner",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "isreal",
    "kron",
    "kthvalue",
    "lcm",
    "ldexp",
    "le",
    "lerp",
    "less",
    "less_equal",
    "lgamma",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_softmax",
    "logaddexp",
    "logaddexp2",
    "logcumsumexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logit",
    "logsumexp",
    "lt",
    "masked_fill",
    "masked_scatter",
    "masked_select",
    "matmul",
    "max",
    "maximum",
    "mean",
    "median",
    "min",
    "minimum",
    "mm",
    "mode",
    "moveaxis",
    "movedim",
    "msort",
    "mul",
    "multiply",
    "mv",
    "mvlgamma",
    "nan_to_num",
    "nanmean",
    "nanmedian",
    "nanquantile",
    "nansum",
    "narrow",
    "narrow_copy",
    "ne",
    "neg",
    "negative",
    "nextafter",
    "nonzero",
    "nonzero_static",
    "norm",
    "not_equal",
    "outer",
    "permute",
    "permute_copy",
    "polygamma",
    "positive",
    "pow",
    "prod",
    "put",
    "quantile",
    "rad2deg",
    "ravel",
    "reciprocal",
    "relu",
    "remainder",
    "renorm",
    "repeat_interleave",
    "reshape",
    "resolve_conj",
    "resolve_neg",
    "result_type",
    "roll",
    "rot90",
    "round",
    "rsqrt",
    "rsub",
    "scatter",
    "scatter_add",
    "scatter_reduce",
    "select",
    "select_scatter",
    "sgn",
    "sigmoid",
    "sign",
    "signbit",
    "sin",
    "sinc",
    "sinh",
    "slice_scatter",
    "softmax",
    "sort",
    "split",
    "split_copy",
    "split_with_sizes",
    "split_with_sizes_copy",
    "sqrt",
    "square",
    "squeeze",
    "squeeze_copy",
    "std",
    "std_mean",
    "sub",
    "subtract",
    "sum",
    "swapaxes",
    "swapdims",
    "t",
    "t_copy",
    "take",
    "take_along_dim",
    "tan",
    "tanh",
    "tensor_split",
    "tile",
    "topk",
    "trace",
    "transpose",
    "transpose_copy",
    "tril",
    "triu",
    "true_divide",
    "trunc",
    "unbind",
    "unbind_copy",
    "unflatten",
    "unfold_copy",
    "unique",
    "unique_consecutive",
    "unsafe_chunk",
    "unsafe_split",
    "unsqueeze",
    "unsqueeze_copy",
    "var",
    "var_mean",
    "vdot",
    "view_copy",
    "vsplit",
    "where",
    "xlogy",
]  # fmt: skip

R = TypeVar("R")


def from_method(method: Callable[..., R]) -> Callable[..., R]:
    """The method as a function of its tensor, which may be passed as `input=`, and with `out=` for
    tensors that get the values of the result."""

    @wraps(method)
    def function(input: Tensor, *args: Any, out: Any = None, **kwargs: Any) -> R:
        if not isinstance(input, Tensor):
            if is_complex(input):
                return of_complex(method.__name__, input, *args, **kwargs)
            raise DTypeError(
                f"{method.__name__} of a {type(input).__name__}.",
                "Give a Tensor as first argument.",
            )
        result = method(input, *args, **kwargs)
        return result if out is None else written(result, out, method.__name__)

    return function


def of_complex(name: str, input: Any, *args: Any, **kwargs: Any) -> Any:
    """The method of a complex tensor or number."""
    from tgrad.complex_numbers import ComplexTensor

    if name.startswith("__") and not hasattr(ComplexTensor, name):
        raise UnsupportedError(
            f"{name.strip('_')} of a complex tensor is not supported.",
            "Write it with .real and .imag, or tgrad.view_as_real(z).",
        )
    return getattr(ComplexTensor.of(input), name)(*args, **kwargs)


def from_operator(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`from_method` of one with two operands, the first of which may be a number.

    >>> import tgrad
    >>> tgrad.pow(2, tgrad.tensor([1, 3])).tolist()
    [2, 8]
    """
    function = from_method(method)
    is_true_division = method.__name__ in ("div", "true_divide")

    @wraps(function)
    def operator(input: Any, *args: Any, **kwargs: Any) -> Tensor:
        other = next(iter((*args, *kwargs.values())), None)
        if isinstance(input, (bool, int, float)) and isinstance(other, Tensor):
            dtype = result_type(input, other)
            if is_true_division and not dtype.is_float and kwargs.get("rounding_mode") is None:
                dtype = get_default_dtype()  # which has numbers that the integers have not
            input = other._constant(input, dtype)
        return function(input, *args, **kwargs)

    return operator


# -- arithmetic ----------------------------------------------------------------------------------

abs = from_method(Tensor.abs)
add = from_operator(Tensor.add)
sub = from_operator(Tensor.sub)
mul = from_operator(Tensor.mul)
div = from_operator(Tensor.div)
floor_divide = from_operator(Tensor.floor_divide)
remainder = from_operator(Tensor.remainder)
pow = from_operator(Tensor.pow)
neg = from_method(Tensor.neg)
square = from_method(Tensor.square)
reciprocal = from_method(Tensor.reciprocal)
lerp = from_method(Tensor.lerp)
maximum = from_method(Tensor.maximum)
minimum = from_method(Tensor.minimum)
clamp = from_method(Tensor.clamp)
addcmul = from_method(Tensor.addcmul)
addcdiv = from_method(Tensor.addcdiv)
subtract = from_operator(Tensor.subtract)
multiply = from_operator(Tensor.multiply)
divide = from_operator(Tensor.divide)
true_divide = from_operator(Tensor.true_divide)
negative = from_method(Tensor.negative)
absolute = from_method(Tensor.absolute)
fmod = from_method(Tensor.fmod)
gcd, lcm = from_method(Tensor.gcd), from_method(Tensor.lcm)
rsub = from_method(Tensor.rsub)
ldexp = from_method(Tensor.ldexp)
frexp = from_method(Tensor.frexp)
fmax = from_method(Tensor.fmax)
fmin = from_method(Tensor.fmin)
clamp_min = from_method(Tensor.clamp_min)
clamp_max = from_method(Tensor.clamp_max)
clip = from_method(Tensor.clip)
logaddexp = from_method(Tensor.logaddexp)
logaddexp2 = from_method(Tensor.logaddexp2)
xlogy = from_operator(Tensor.xlogy)
float_power = from_operator(Tensor.float_power)
copysign = from_method(Tensor.copysign)
sgn = from_method(Tensor.sgn)
heaviside = from_method(Tensor.heaviside)
nextafter = from_method(Tensor.nextafter)
nan_to_num = from_method(Tensor.nan_to_num)
positive = from_method(Tensor.positive)
conj = from_method(Tensor.conj)
conj_physical = from_method(Tensor.conj_physical)
resolve_conj = from_method(Tensor.resolve_conj)
resolve_neg = from_method(Tensor.resolve_neg)
angle = from_method(Tensor.angle)
hypot = from_method(Tensor.hypot)

# -- comparison and logic ------------------------------------------------------------------------

eq = from_method(Tensor.eq)
ne = from_method(Tensor.ne)
lt = from_method(Tensor.lt)
le = from_method(Tensor.le)
gt = from_method(Tensor.gt)
ge = from_method(Tensor.ge)
isnan = from_method(Tensor.isnan)
isinf = from_method(Tensor.isinf)
isfinite = from_method(Tensor.isfinite)
logical_and = from_method(Tensor.logical_and)
logical_or = from_method(Tensor.logical_or)
logical_not = from_method(Tensor.logical_not)
bitwise_and = from_operator(Tensor.bitwise_and)
bitwise_or = from_operator(Tensor.bitwise_or)
bitwise_xor = from_operator(Tensor.bitwise_xor)
bitwise_not = from_method(Tensor.bitwise_not)
masked_fill = from_method(Tensor.masked_fill)
less = from_method(Tensor.less)
less_equal = from_method(Tensor.less_equal)
greater = from_method(Tensor.greater)
greater_equal = from_method(Tensor.greater_equal)
not_equal = from_method(Tensor.not_equal)
isposinf = from_method(Tensor.isposinf)
isneginf = from_method(Tensor.isneginf)
isreal = from_method(Tensor.isreal)
isclose = from_method(Tensor.isclose)
allclose = from_method(Tensor.allclose)
equal = from_method(Tensor.equal)
logical_xor = from_method(Tensor.logical_xor)
bitwise_left_shift = from_operator(Tensor.bitwise_left_shift)
bitwise_right_shift = from_operator(Tensor.bitwise_right_shift)
signbit = from_method(Tensor.signbit)

# -- functions -----------------------------------------------------------------------------------

exp = from_method(Tensor.exp)
log = from_method(Tensor.log)
sin = from_method(Tensor.sin)
cos = from_method(Tensor.cos)
tanh = from_method(Tensor.tanh)
erf = from_method(Tensor.erf)
sqrt = from_method(Tensor.sqrt)
rsqrt = from_method(Tensor.rsqrt)
floor = from_method(Tensor.floor)
ceil = from_method(Tensor.ceil)
round = from_method(Tensor.round)
trunc = from_method(Tensor.trunc)
sigmoid = from_method(Tensor.sigmoid)
relu = from_method(Tensor.relu)
softmax = from_method(Tensor.softmax)
log_softmax = from_method(Tensor.log_softmax)
log2 = from_method(Tensor.log2)
log10 = from_method(Tensor.log10)
exp2 = from_method(Tensor.exp2)
log1p = from_method(Tensor.log1p)
expm1 = from_method(Tensor.expm1)
tan = from_method(Tensor.tan)
sign = from_method(Tensor.sign)
frac = from_method(Tensor.frac)
asin = from_method(Tensor.asin)
acos = from_method(Tensor.acos)
atan = from_method(Tensor.atan)
atan2 = from_method(Tensor.atan2)
arcsin = from_method(Tensor.arcsin)
arccos = from_method(Tensor.arccos)
arctan = from_method(Tensor.arctan)
arctan2 = from_method(Tensor.arctan2)
sinh = from_method(Tensor.sinh)
cosh = from_method(Tensor.cosh)
asinh = from_method(Tensor.asinh)
acosh = from_method(Tensor.acosh)
atanh = from_method(Tensor.atanh)
arcsinh = from_method(Tensor.arcsinh)
arccosh = from_method(Tensor.arccosh)
arctanh = from_method(Tensor.arctanh)
sinc = from_method(Tensor.sinc)
deg2rad = from_method(Tensor.deg2rad)
rad2deg = from_method(Tensor.rad2deg)
lgamma = from_method(Tensor.lgamma)
digamma = from_method(Tensor.digamma)
polygamma = Tensor.polygamma
mvlgamma = from_method(Tensor.mvlgamma)
igamma = from_method(Tensor.igamma)
igammac = from_method(Tensor.igammac)
erfc = from_method(Tensor.erfc)
erfinv = from_method(Tensor.erfinv)
logit = from_method(Tensor.logit)
i0 = from_method(Tensor.i0)

# -- reductions ----------------------------------------------------------------------------------

sum = from_method(Tensor.sum)
prod = from_method(Tensor.prod)
mean = from_method(Tensor.mean)
amax = from_method(Tensor.amax)
amin = from_method(Tensor.amin)
max = from_method(Tensor.max)
min = from_method(Tensor.min)
argmax = from_method(Tensor.argmax)
argmin = from_method(Tensor.argmin)
any = from_method(Tensor.any)
all = from_method(Tensor.all)
var = from_method(Tensor.var)
std = from_method(Tensor.std)
var_mean = from_method(Tensor.var_mean)
logsumexp = from_method(Tensor.logsumexp)
norm = from_method(Tensor.norm)
dist = from_method(Tensor.dist)
renorm = from_method(Tensor.renorm)
std_mean = from_method(Tensor.std_mean)
aminmax = from_method(Tensor.aminmax)
count_nonzero = from_method(Tensor.count_nonzero)
nansum = from_method(Tensor.nansum)
nanmean = from_method(Tensor.nanmean)

# -- movement ------------------------------------------------------------------------------------

reshape = from_method(Tensor.reshape)
permute = from_method(Tensor.permute)
transpose = from_method(Tensor.transpose)
t = from_method(Tensor.t)
squeeze = from_method(Tensor.squeeze)
unsqueeze = from_method(Tensor.unsqueeze)
flatten = from_method(Tensor.flatten)
flip = from_method(Tensor.flip)
narrow = from_method(Tensor.narrow)
split = from_method(Tensor.split)
chunk = from_method(Tensor.chunk)
unbind = from_method(Tensor.unbind)
clone = from_method(Tensor.clone)
unflatten = from_method(Tensor.unflatten)
roll = from_method(Tensor.roll)
repeat_interleave = from_method(Tensor.repeat_interleave)
tril = from_method(Tensor.tril)
triu = from_method(Tensor.triu)
diagonal = from_method(Tensor.diagonal)
ravel = from_method(Tensor.ravel)
broadcast_to = from_method(Tensor.broadcast_to)
tile = from_method(Tensor.tile)
movedim = from_method(Tensor.movedim)
moveaxis = from_method(Tensor.moveaxis)
swapaxes = from_method(Tensor.swapaxes)
swapdims = from_method(Tensor.swapdims)
adjoint = from_method(Tensor.adjoint)
fliplr = from_method(Tensor.fliplr)
flipud = from_method(Tensor.flipud)
rot90 = from_method(Tensor.rot90)
diag = from_method(Tensor.diag)
diag_embed = from_method(Tensor.diag_embed)
diagflat = from_method(Tensor.diagflat)
trace = from_method(Tensor.trace)
tensor_split = from_method(Tensor.tensor_split)
hsplit = from_method(Tensor.hsplit)
vsplit = from_method(Tensor.vsplit)
dsplit = from_method(Tensor.dsplit)
split_with_sizes = from_method(Tensor.split_with_sizes)
unsafe_split = from_method(Tensor.unsafe_split)
unsafe_chunk = from_method(Tensor.unsafe_chunk)
as_strided = from_method(Tensor.as_strided)

# -- indexing and contraction --------------------------------------------------------------------

gather = from_method(Tensor.gather)
scatter = from_method(Tensor.scatter)
scatter_add = from_method(Tensor.scatter_add)
index_select = from_method(Tensor.index_select)
take = from_method(Tensor.take)
take_along_dim = from_method(Tensor.take_along_dim)
select = from_method(Tensor.select)
nonzero = from_method(Tensor.nonzero)
argwhere = from_method(Tensor.argwhere)
nonzero_static = from_method(Tensor.nonzero_static)
masked_select = from_method(Tensor.masked_select)
scatter_reduce = from_method(Tensor.scatter_reduce)
index_add = from_method(Tensor.index_add)
index_copy = from_method(Tensor.index_copy)
index_fill = from_method(Tensor.index_fill)
index_reduce = from_method(Tensor.index_reduce)
index_put = from_method(Tensor.index_put)
put = from_method(Tensor.put)
masked_scatter = from_method(Tensor.masked_scatter)
select_scatter = from_method(Tensor.select_scatter)
slice_scatter = from_method(Tensor.slice_scatter)
diagonal_scatter = from_method(Tensor.diagonal_scatter)
as_strided_scatter = from_method(Tensor.as_strided_scatter)
fill = from_method(Tensor.fill)
matmul = from_method(Tensor.matmul)
mm = from_method(Tensor.mm)
bmm = from_method(Tensor.bmm)
dot = from_method(Tensor.dot)
outer = from_method(Tensor.outer)
ger = from_method(Tensor.ger)
inner = from_method(Tensor.inner)
kron = from_method(Tensor.kron)
mv = from_method(Tensor.mv)
vdot = from_method(Tensor.vdot)
addmm = from_method(Tensor.addmm)
addmv = from_method(Tensor.addmv)
addr = from_method(Tensor.addr)
baddbmm = from_method(Tensor.baddbmm)
addbmm = from_method(Tensor.addbmm)


# -- copies of views -----------------------------------------------------------------------------


def copied(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method as a function whose results are no views."""

    @wraps(method)
    def function(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        made = getattr(input, method.__name__)(*args, **kwargs)
        is_several = isinstance(made, (list, tuple))
        return tuple(t.clone() for t in made) if is_several else made.clone()

    return function


as_strided_copy = copied(Tensor.as_strided)
diagonal_copy = copied(Tensor.diagonal)
expand_copy = copied(Tensor.expand)
narrow_copy = copied(Tensor.narrow)
permute_copy = copied(Tensor.permute)
split_copy = copied(Tensor.split)
split_with_sizes_copy = copied(Tensor.split_with_sizes)
squeeze_copy = copied(Tensor.squeeze)
t_copy = copied(Tensor.t)
transpose_copy = copied(Tensor.transpose)
unbind_copy = copied(Tensor.unbind)
unfold_copy = copied(Tensor.unfold)
unsqueeze_copy = copied(Tensor.unsqueeze)
view_copy = copied(Tensor.view)
alias_copy = copied(Tensor.clone)


# -- order ---------------------------------------------------------------------------------------

cumsum = from_method(Tensor.cumsum)
cumprod = from_method(Tensor.cumprod)
cummax = from_method(Tensor.cummax)
cummin = from_method(Tensor.cummin)
logcumsumexp = from_method(Tensor.logcumsumexp)
sort = from_method(Tensor.sort)
argsort = from_method(Tensor.argsort)
msort = from_method(Tensor.msort)
topk = from_method(Tensor.topk)
kthvalue = from_method(Tensor.kthvalue)
median = from_method(Tensor.median)
nanmedian = from_method(Tensor.nanmedian)
quantile = from_method(Tensor.quantile)
nanquantile = from_method(Tensor.nanquantile)
mode = from_method(Tensor.mode)
histc = from_method(Tensor.histc)
bincount = from_method(Tensor.bincount)
unique = from_method(Tensor.unique)
unique_consecutive = from_method(Tensor.unique_consecutive)


@labelled("where")
@overload
def where(condition: Tensor) -> tuple[Tensor, ...]: ...
@overload
def where(condition: Tensor, input: Tensor | float, other: Tensor | float) -> Tensor: ...
def where(condition: Tensor, input: Any = None, other: Any = None) -> Tensor | tuple[Tensor, ...]:
    """Elements of `input` where the condition holds, else of `other`; all broadcast.

    With the condition alone: where it holds, an index of each axis (`nonzero(as_tuple=True)`).

    >>> import tgrad
    >>> tgrad.where(tgrad.tensor([True, False]), 1.0, 2.0).tolist()
    [1.0, 2.0]
    """
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if input is None or other is None:
        raise DTypeError("where: one of input and other.", "Give both, or the condition alone.")
    if is_complex(input) or is_complex(other):
        return of_complex("where", input, condition, other)
    if isinstance(input, Tensor):
        return input.where(condition, other)
    if isinstance(other, Tensor):
        dtype: DType = result_type(input, other)
        return condition._constant(input, dtype).where(condition, other.to(dtype))
    dtype = dtype_of_number(input + other)
    return condition._constant(input, dtype).where(condition, other)
