"""Matrices kept orthogonal by what they are computed from.

In: a module. Out: the module with one of its tensors parametrized, see `parametrize`. Invariant:
the matrix has orthonormal columns, or rows where it is wider than high, whatever the parameter.
Sources: Lezcano-Casado 2019 (trivializations); Joffrain et al. 2006 (products of reflections);
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrizations.orthogonal.html
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from tgrad.creation import eye
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.grad_mode import no_grad
from tgrad.joining import cat
from tgrad.linalg import matrix_exp, qr, solve, solve_triangular
from tgrad.nn.module import Module
from tgrad.nn.utils.parametrize import register_parametrization
from tgrad.random import randn
from tgrad.tensor import Tensor, tensor

T = TypeVar("T", bound=Module)

MAPS = ("matrix_exp", "cayley", "householder")


def orthogonal(
    module: T,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
) -> T:
    """Replace a tensor of matrices (..., m, n) by an orthogonal one, computed from a parameter.

    Args:
        module: has the tensor; the parameter is `parametrizations.weight.original`.
        name: of the tensor.
        orthogonal_map: how. "matrix_exp": the exponential of a skew-symmetric matrix A; "cayley":
            (I + A / 2) (I - A / 2)⁻¹; "householder": a product of reflections. By default the
            first for square matrices and the last for others.
        use_trivialization: whether the result is multiplied with a fixed orthogonal matrix, the
            buffer `base`, which makes any value assignable.

    Returns:
        The module.

    Raises:
        ShapeError: it has no such tensor, or that has fewer than two axes.
        UnsupportedError: there is no such map.

    >>> import tgrad
    >>> layer = tgrad.nn.utils.parametrizations.orthogonal(tgrad.nn.Linear(4, 2))
    >>> product = layer.weight @ layer.weight.T
    >>> bool((product - tgrad.eye(2)).abs().max() < 1e-5)
    True
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor) or weight.ndim < 2:
        what = f"shape {weight.shape}" if isinstance(weight, Tensor) else "no tensor"
        raise ShapeError(
            f"orthogonal: {type(module).__name__}.{name} has {what}.", "Name a tensor of matrices."
        )
    is_square = weight.shape[-2] == weight.shape[-1]
    found = orthogonal_map or ("matrix_exp" if is_square else "householder")
    if found not in MAPS:
        raise UnsupportedError(
            f"orthogonal: orthogonal_map={orthogonal_map!r}.", f"Use one of {', '.join(MAPS)}."
        )
    rule = _Orthogonal(weight, found, use_trivialization)
    return register_parametrization(module, name, rule, unsafe=True)


class _Orthogonal(Module):
    """Parameter to orthogonal matrix, and back."""

    base: Tensor | None

    def __init__(self, weight: Tensor, orthogonal_map: str, use_trivialization: bool):
        super().__init__()
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        self.use_trivialization = use_trivialization
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, x: Tensor) -> Tensor:
        is_wide = x.shape[-2] < x.shape[-1]
        x = x.transpose(-2, -1) if is_wide else x
        q = _reflected(x) if self.orthogonal_map == "householder" else self._rotated(x)
        if self.use_trivialization:
            assert self.base is not None
            q = self.base @ q
        return q.transpose(-2, -1) if is_wide else q

    def _rotated(self, x: Tensor) -> Tensor:
        """The first columns of an orthogonal matrix, from the lower triangle of its logarithm."""
        n, k = x.shape[-2:]
        low = x.tril()
        if n != k:
            low = cat([low, low.new_zeros(*x.shape[:-1], n - k)], -1)
        skew = low - low.transpose(-2, -1)
        if self.orthogonal_map == "matrix_exp":
            return matrix_exp(skew)[..., :k]
        half = skew * 0.5
        one = eye(n, dtype=x.dtype, device=x.device).expand(skew.shape)
        return solve(one - half, one + half)[..., :k]

    def right_inverse(self, q: Tensor) -> Tensor:
        if q.shape != self.shape:
            raise ShapeError(
                f"a value of shape {q.shape} for an orthogonal tensor.", f"Give {self.shape}."
            )
        is_wide = q.shape[-2] < q.shape[-1]
        value = q.transpose(-2, -1) if is_wide else q
        with no_grad():
            if self.use_trivialization:
                self.base = _completed(value)
                return -eye(*q.shape[-2:], dtype=q.dtype, device=q.device).expand(q.shape).clone()
            if self.orthogonal_map != "householder":
                raise NotImplementedError(  # registering it catches this one
                    f"no value can be assigned to an orthogonal tensor by {self.orthogonal_map} "
                    "with use_trivialization=False. Use use_trivialization=True or "
                    'orthogonal_map="householder".'
                )
            x = _reflections_of(value)
        return x.transpose(-2, -1) if is_wide else x


def _reflected(x: Tensor) -> Tensor:
    """The first columns of H1 H2 ... Hk diag(x), with Hi = I - t v vᵀ, t = 2 / vᵀv, where v is 1 at
    place i, and below it column i of x: I - V S⁻¹ Vᵀ, S = diag(1 / t) + striu(Vᵀ V)."""
    n, k = x.shape[-2:]
    one = eye(n, k, dtype=x.dtype, device=x.device)
    v = x.tril(-1) + one
    gram = v.transpose(-2, -1) @ v
    halved = gram.triu(1) + eye(k, dtype=x.dtype, device=x.device) * gram * 0.5
    signs = x.diagonal(dim1=-2, dim2=-1).trunc().detach()
    q = one - v @ solve_triangular(halved, v[..., :k, :].transpose(-2, -1), upper=True)
    return q * signs.unsqueeze(-2)


def _orthonormalised(x: Tensor) -> Tensor:
    """The factor Q of x = Q R with a diagonal of R that is not negative."""
    q, r = qr(x)
    return q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)


def _completed(x: Tensor) -> Tensor:
    """An orthogonal square matrix that begins with the columns of x, made orthonormal."""
    n, k = x.shape[-2:]
    if n == k:
        return x.clone() if _is_orthogonal(x) else _orthonormalised(x)
    more = randn(*x.shape[:-1], n - k, dtype=x.dtype, device=x.device)
    return _orthonormalised(cat([x, more], -1))


def _is_orthogonal(x: Tensor) -> bool:
    n = x.shape[-1]
    one = eye(n, dtype=x.dtype, device=x.device)
    error = 10 * n * float(np.finfo(x.dtype.numpy).eps)
    return bool((x.transpose(-2, -1) @ x - one).abs().amax().item() <= error) if x.numel() else True


def _reflections_of(x: Tensor) -> Tensor:
    """What `_reflected` makes the factor Q of x from: the values are read."""
    packed, scales = np.linalg.qr(x.detach().numpy(), mode="raw")
    packed = np.array(packed.swapaxes(-2, -1))
    places = np.arange(x.shape[-1])
    signs = np.where(packed[..., places, places] < 0, -1, 1) * np.where(scales == 0, -1, 1)
    packed[..., places, places] = signs
    return tensor(packed, dtype=x.dtype, device=x.device)
