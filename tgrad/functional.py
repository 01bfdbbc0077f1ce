"""Functions over tensors, named as in PyTorch: `tgrad.exp(x)` is `x.exp()`.

In: tensors. Out: lazy tensors. Invariant: each function is the method of its name; what is no
method (`where`) stands here whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from tgrad.dtype import DType, as_dtype
from tgrad.errors import DTypeError
from tgrad.methods.elementwise import result_type
from tgrad.tensor import Tensor, labelled

__all__ = [
    "abs",
    "add",
    "addcdiv",
    "addcmul",
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "bmm",
    "ceil",
    "chunk",
    "clamp",
    "clone",
    "cos",
    "diagonal",
    "div",
    "dot",
    "eq",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "flatten",
    "flip",
    "floor",
    "floor_divide",
    "frac",
    "gather",
    "ge",
    "gt",
    "index_select",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "lerp",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "logsumexp",
    "lt",
    "masked_fill",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mm",
    "mul",
    "narrow",
    "ne",
    "neg",
    "norm",
    "outer",
    "permute",
    "pow",
    "prod",
    "reciprocal",
    "relu",
    "remainder",
    "repeat_interleave",
    "reshape",
    "result_type",
    "roll",
    "round",
    "rsqrt",
    "scatter",
    "scatter_add",
    "sigmoid",
    "sign",
    "sin",
    "softmax",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "std",
    "sub",
    "sum",
    "t",
    "tan",
    "tanh",
    "transpose",
    "tril",
    "triu",
    "trunc",
    "unbind",
    "unflatten",
    "unsqueeze",
    "var",
    "var_mean",
    "where",
]  # fmt: skip

R = TypeVar("R")


def from_method(method: Callable[..., R]) -> Callable[..., R]:
    """The method as a function of its tensor, which may be passed as `input=`."""

    @wraps(method)
    def function(input: Tensor, *args: Any, **kwargs: Any) -> R:
        if not isinstance(input, Tensor):
            raise DTypeError(
                f"{method.__name__} of a {type(input).__name__}.",
                "Give a Tensor as first argument.",
            )
        return method(input, *args, **kwargs)

    return function


# -- arithmetic ----------------------------------------------------------------------------------

abs = from_method(Tensor.abs)
add = from_method(Tensor.add)
sub = from_method(Tensor.sub)
mul = from_method(Tensor.mul)
div = from_method(Tensor.div)
floor_divide = from_method(Tensor.floor_divide)
remainder = from_method(Tensor.remainder)
pow = from_method(Tensor.pow)
neg = from_method(Tensor.neg)
square = from_method(Tensor.square)
reciprocal = from_method(Tensor.reciprocal)
lerp = from_method(Tensor.lerp)
maximum = from_method(Tensor.maximum)
minimum = from_method(Tensor.minimum)
clamp = from_method(Tensor.clamp)
addcmul = from_method(Tensor.addcmul)
addcdiv = from_method(Tensor.addcdiv)

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
bitwise_and = from_method(Tensor.bitwise_and)
bitwise_or = from_method(Tensor.bitwise_or)
bitwise_xor = from_method(Tensor.bitwise_xor)
bitwise_not = from_method(Tensor.bitwise_not)
masked_fill = from_method(Tensor.masked_fill)

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

# -- indexing and contraction --------------------------------------------------------------------

gather = from_method(Tensor.gather)
scatter = from_method(Tensor.scatter)
scatter_add = from_method(Tensor.scatter_add)
index_select = from_method(Tensor.index_select)
matmul = from_method(Tensor.matmul)
mm = from_method(Tensor.mm)
bmm = from_method(Tensor.bmm)
dot = from_method(Tensor.dot)
outer = from_method(Tensor.outer)


@labelled("where")
def where(condition: Tensor, input: Tensor | float, other: Tensor | float) -> Tensor:
    """Elements of `input` where the condition holds, else of `other`; all broadcast.

    >>> import tgrad
    >>> tgrad.where(tgrad.tensor([True, False]), 1.0, 2.0).tolist()
    [1.0, 2.0]
    """
    if isinstance(input, Tensor):
        return input.where(condition, other)
    if isinstance(other, Tensor):
        dtype: DType = result_type(input, other)
        return condition._constant(input, dtype).where(condition, other.to(dtype))
    dtype = as_dtype(type(input + other))
    return condition._constant(input, dtype).where(condition, other)
