"""Parameters of distributions that programs write themselves: PyTorch's distributions.utils.

In: numbers and tensors. Out: tensors of one shape, probabilities from logits and back, triangles as
vectors. Invariant: nothing is read on the host. Source:
https://github.com/pytorch/pytorch/blob/main/torch/distributions/utils.py
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from tgrad.creation import as_tensor, zeros
from tgrad.distributions.continuous import EULER
from tgrad.distributions.distribution import inside, sum_last
from tgrad.grad_mode import enable_grad
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.places import tril_indices
from tgrad.random import randn
from tgrad.tensor import Tensor

R = TypeVar("R")

__all__ = [
    "broadcast_all", "clamp_probs", "euler_constant", "lazy_property", "logits_to_probs",
    "probs_to_logits", "tril_matrix_to_vec", "vec_to_tril_matrix",
]  # fmt: skip

euler_constant = EULER
_sum_rightmost = sum_last


def broadcast_all(*values: Tensor | float) -> tuple[Tensor, ...]:
    """Tensors as views of one shape; numbers in the dtype and on the device of the first tensor.

    >>> from tgrad.distributions.utils import broadcast_all
    >>> import tgrad
    >>> [t.shape for t in broadcast_all(tgrad.zeros(3), 1.0)]
    [(3,), (3,)]
    """
    first = next((v for v in values if isinstance(v, Tensor)), None)
    if first is None:
        made = [as_tensor(float(v)) for v in values]
    else:
        made = [as_tensor(v) if isinstance(v, Tensor) else first.new_tensor(v) for v in values]
    shape = broadcast_shapes(*(t.shape for t in made))
    return tuple(t.expand(*shape) for t in made)


def logits_to_probs(logits: Tensor, is_binary: bool = False) -> Tensor:
    """Probabilities: of classes along the last axis, or of one of two."""
    return logits.sigmoid() if is_binary else logits.softmax(-1)


def clamp_probs(probs: Tensor) -> Tensor:
    """Probabilities whose logarithms are finite, those of the opposite too."""
    return inside(probs)


def probs_to_logits(probs: Tensor, is_binary: bool = False) -> Tensor:
    """The inverse of `logits_to_probs`."""
    return inside(probs).logit() if is_binary else inside(probs).log()


class lazy_property(Generic[R]):
    """Decorator: an attribute that is computed when it is first read, and kept.

    >>> from tgrad.distributions.utils import lazy_property
    >>> class Circle:
    ...     @lazy_property
    ...     def area(self):
    ...         print("computed")
    ...         return 3.14
    >>> circle = Circle()
    >>> circle.area + circle.area
    computed
    6.28
    """

    def __init__(self, wrapped: Callable[[Any], R]):
        self.wrapped, self.__doc__ = wrapped, wrapped.__doc__

    @overload
    def __get__(self, instance: None, owner: Any = None) -> lazy_property[R]: ...
    @overload
    def __get__(self, instance: object, owner: Any = None) -> R: ...
    def __get__(self, instance: Any, owner: Any = None) -> R | lazy_property[R]:
        if instance is None:
            return self
        with enable_grad():
            value = self.wrapped(instance)
        setattr(instance, self.wrapped.__name__, value)
        return value


def tril_matrix_to_vec(mat: Tensor, diag: int = 0) -> Tensor:
    """The lower triangles (*, k) of matrices (*, n, n), by rows, up to the diagonal `diag`.

    Raises:
        ValueError: there is no such diagonal.

    >>> from tgrad.distributions.utils import tril_matrix_to_vec
    >>> import tgrad
    >>> tril_matrix_to_vec(tgrad.arange(4).reshape(2, 2)).tolist()
    [0, 2, 3]
    """
    n = mat.shape[-1]
    if not -n <= diag < n:
        raise ValueError(f"diag={diag} of matrices of {n} columns.")
    rows, columns = tril_indices(n, n, diag, device=mat.device)
    return mat[..., rows, columns]


def vec_to_tril_matrix(vec: Tensor, diag: int = 0) -> Tensor:
    """Matrices (*, n, n) with these lower triangles (*, k), and zeros above.

    Raises:
        ValueError: no triangle has as many elements.

    >>> from tgrad.distributions.utils import vec_to_tril_matrix
    >>> import tgrad
    >>> vec_to_tril_matrix(tgrad.arange(3) + 1).tolist()
    [[1, 0], [2, 3]]
    """
    count = vec.shape[-1]
    n = next(k for k in itertools.count(1) if _triangle(k, diag) >= count)
    if _triangle(n, diag) != count:
        raise ValueError(f"{count} elements are no lower triangle up to the diagonal {diag}.")
    rows, columns = tril_indices(n, n, diag, device=vec.device)
    matrix = zeros(*vec.shape[:-1], n * n, dtype=vec.dtype, device=vec.device)
    places = (rows * n + columns).expand(vec.shape)
    return matrix.scatter(-1, places, vec).reshape(*vec.shape[:-1], n, n)


def _triangle(n: int, diag: int) -> int:
    """Elements of an n x n matrix up to a diagonal."""
    above = max(n - diag - 1, 0)
    return n * n - above * (above + 1) // 2 if diag >= 0 else max(n + diag, 0) * (n + diag + 1) // 2


def _standard_normal(shape: Any, dtype: Any, device: Any) -> Tensor:
    """Draws of mean 0 and variance 1."""
    return randn(*shape, dtype=dtype, device=device)
