"""Linear layers, embeddings, shapes.

In: sizes. Out: modules. Invariant: PyTorch's parameter names and initial distributions. Source:
https://docs.pytorch.org/docs/stable/nn.html
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from tgrad.arguments import refuse
from tgrad.creation import DeviceLike, arange, empty
from tgrad.dtype import DType
from tgrad.errors import ShapeError
from tgrad.grad_mode import no_grad
from tgrad.nn import functional as F
from tgrad.nn import init
from tgrad.nn.module import Module
from tgrad.nn.parameter import Parameter
from tgrad.tensor import Tensor

T = TypeVar("T", bound="Embedding")
Bag = TypeVar("Bag", bound="EmbeddingBag")


class Linear(Module):
    """x Wᵀ + b.

    Args:
        in_features, out_features: last sizes of input and output.
        bias: whether there is a b.

    Weight (out, in) and bias (out,) are uniform within 1 / sqrt(in) at first.

    >>> import tgrad
    >>> tgrad.nn.Linear(3, 2)(tgrad.ones(4, 3)).shape
    (4, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(empty(out_features, in_features, device=device, dtype=dtype))
        self.register_parameter("bias", None)
        if bias:
            self.bias = Parameter(empty(out_features, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Identity(Module):
    """The input itself; arguments are accepted and mean nothing, as in PyTorch."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Flatten(Module):
    """Axes from start_dim to end_dim made one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """One axis made several."""

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]):
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        axis = self.dim % input.ndim
        sizes = self.unflattened_size
        return input.reshape(*input.shape[:axis], *sizes, *input.shape[axis + 1 :])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Embedding(Module):
    """Rows of a table by number.

    Args:
        num_embeddings, embedding_dim: sizes of the table, which is normal at first.
        padding_idx: a row that is zero at first and gets no gradient.
        max_norm, norm_type: see nn.functional.embedding.
        scale_grad_by_freq, sparse: not supported.
        _weight, _freeze: see `from_pretrained`.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__()
        refuse("Embedding", scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ShapeError(f"Embedding: padding_idx={padding_idx} of {num_embeddings} rows.")
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.max_norm, self.norm_type = max_norm, norm_type
        sizes = num_embeddings, embedding_dim
        self.weight = _table("Embedding", _weight, sizes, _freeze, device, dtype)
        if _weight is None:
            self.reset_parameters()

    @classmethod
    def from_pretrained(
        cls: type[T],
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> T:
        """A module with this table, (rows, columns).

        Args:
            embeddings: the table.
            freeze: whether it gets no gradient.
            padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse: as of Embedding.

        >>> import tgrad
        >>> layer = tgrad.nn.Embedding.from_pretrained(tgrad.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> layer(tgrad.tensor([1])).tolist(), layer.weight.requires_grad
        ([[3.0, 4.0]], False)
        """
        rows, columns = _sizes("Embedding", embeddings)
        return cls(
            num_embeddings=rows,
            embedding_dim=columns,
            padding_idx=padding_idx,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            sparse=sparse,
            _weight=embeddings,
            _freeze=freeze,
        )

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            rows = arange(self.num_embeddings, device=self.weight.device).unsqueeze(1)
            with no_grad():
                self.weight._assign(self.weight.masked_fill(rows == self.padding_idx, 0.0))

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class EmbeddingBag(Module):
    """Sums, means or maxima of rows of a table, a bag of numbers each.

    Args:
        num_embeddings, embedding_dim: sizes of the table, which is normal at first.
        mode: "sum", "mean" or "max".
        include_last_offset: whether the last offset is the end of the last bag.
        padding_idx: a row that no bag counts.
        max_norm, norm_type: see nn.functional.embedding_bag.
        scale_grad_by_freq, sparse: not supported.
        _weight: see `from_pretrained`.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__()
        refuse("EmbeddingBag", scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.mode, self.include_last_offset = mode, include_last_offset
        self.padding_idx, self.max_norm, self.norm_type = padding_idx, max_norm, norm_type
        sizes = num_embeddings, embedding_dim
        self.weight = _table("EmbeddingBag", _weight, sizes, False, device, dtype)
        if _weight is None:
            self.reset_parameters()

    @classmethod
    def from_pretrained(
        cls: type[Bag],
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> Bag:
        """A module with this table, (rows, columns); see Embedding.from_pretrained."""
        rows, columns = _sizes("EmbeddingBag", embeddings)
        made = cls(
            num_embeddings=rows,
            embedding_dim=columns,
            _weight=embeddings,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            mode=mode,
            sparse=sparse,
            include_last_offset=include_last_offset,
            padding_idx=padding_idx,
        )
        made.weight.requires_grad_(not freeze)
        return made

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def forward(
        self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None
    ) -> Tensor:
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            mode=self.mode,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}"


def _sizes(name: str, table: Tensor) -> tuple[int, int]:
    """Rows and columns of a table."""
    if table.ndim != 2:
        raise ShapeError(f"{name}: a table of shape {table.shape}.", "Give (rows, columns).")
    return table.shape[0], table.shape[1]


def _table(
    name: str,
    weight: Tensor | None,
    sizes: tuple[int, int],
    is_frozen: bool,
    device: DeviceLike,
    dtype: DType | None,
) -> Parameter:
    """The parameter of a module with these sizes: a given table, or one that waits for values."""
    if weight is None:
        return Parameter(empty(*sizes, device=device, dtype=dtype), not is_frozen)
    if _sizes(name, weight) != sizes:
        raise ShapeError(f"{name} of {sizes}: a table of shape {weight.shape}.")
    return Parameter(weight, not is_frozen)


NonDynamicallyQuantizableLinear = Linear
"""Its name where PyTorch keeps it from being quantized, which nothing is here."""


class Bilinear(Module):
    """x1ᵀ W x2 + b for each output.

    Args:
        in1_features, in2_features, out_features: last sizes of the inputs and the output.
        bias: whether there is a b.

    Weight (out, in1, in2) and bias (out,) are uniform within 1 / sqrt(in1) at first.
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: DeviceLike = None,
        dtype: DType | None = None,
    ):
        super().__init__()
        if in1_features < 1:
            raise ShapeError(f"Bilinear: in1_features={in1_features}.", "Give at least 1.")
        self.in1_features, self.in2_features = in1_features, in2_features
        self.out_features = out_features
        shape = (out_features, in1_features, in2_features)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        self.register_parameter("bias", None)
        if bias:
            self.bias = Parameter(empty(out_features, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )
