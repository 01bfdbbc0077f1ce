"""Sequences of several lengths: padded, and packed for recurrent layers.

In: sequences, or a padded tensor and lengths. Out: padded tensors, PackedSequences. Invariant: a
PackedSequence holds its sequences padded, and lengths as values; so recurrent layers compute one
graph for all lengths of one padded shape. PyTorch's packed rows, `data`, are gathered where they
are read. Source: https://docs.pytorch.org/docs/stable/nn.html#utilities
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tgrad.creation import arange, empty_like
from tgrad.device import ON_HOST
from tgrad.dtype import int64
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.joining import stack
from tgrad.nn.functional import pad
from tgrad.tensor import Tensor, tensor
from tgrad.tracing import tracer

Lengths = Tensor | Sequence[int]


@dataclass(frozen=True, init=False, eq=False, repr=False)
class PackedSequence:
    """Sequences of several lengths, as recurrent layers take and give them.

    `pack_padded_sequence` and `pack_sequence` make one; to make one of new rows for one that is
    there, give it `batch_sizes`, `sorted_indices` and `unsorted_indices` of that.

    Args:
        data: (rows, ...): the first elements of all sequences, the longest sequence's first, then
            their second elements, and so on.
        batch_sizes: how many sequences have an element at each step, on the host.
        sorted_indices: the sequences from the longest to the shortest; None where that is how they
            stand.
        unsorted_indices: the inverse of `sorted_indices`, and found from it.

    Attributes:
        padded: (T, B, ...): zeros beyond the end of each sequence.
        lengths: (B,), int64, on the device of `padded`.
        sizes: the lengths, where the host knows them: not inside `tgrad.compile`, if they were
            given as a tensor.
        is_sorted: whether the longest sequences are said to stand first.

    Raises:
        ShapeError: `batch_sizes` grow, or do not sum to the rows.
    """

    padded: Tensor
    lengths: Tensor
    sizes: tuple[int, ...] | None
    is_sorted: bool

    def __init__(
        self,
        data: Any,
        batch_sizes: Lengths | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ):
        if batch_sizes is None:
            data, batch_sizes = data
        counts = np.asarray(_host_numbers("PackedSequence", batch_sizes), np.int64)
        if not len(counts) or (np.diff(counts) > 0).any() or counts.sum() != data.shape[0]:
            raise ShapeError(
                f"PackedSequence of shape {data.shape} with batch_sizes {counts.tolist()}.",
                "They do not grow, and sum to the rows.",
            )
        if unsorted_indices is None and sorted_indices is not None:
            unsorted_indices = invert_permutation(sorted_indices)
        ranks = np.arange(counts[0])
        if unsorted_indices is not None:
            ranks = np.asarray(_host_numbers("PackedSequence", unsorted_indices), np.int64)
        is_inside = ranks < counts[:, None]
        places = np.where(is_inside, (np.cumsum(counts) - counts)[:, None] + ranks, 0)
        rows = data.index_select(0, tensor(places.reshape(-1), device=data.device))
        sizes = tuple(is_inside.sum(0).tolist())
        lengths = tensor(list(sizes), dtype=int64, device=data.device)
        padded = rows.reshape(*places.shape, *data.shape[1:])
        self._set(padded, lengths, sizes, unsorted_indices is None)

    def _set(
        self, padded: Tensor, lengths: Tensor, sizes: tuple[int, ...] | None, is_sorted: bool
    ) -> None:
        inside = inside_of(lengths, padded.shape[0], padded.ndim)
        for name, value in (
            ("padded", padded.where(inside, padded.new_zeros(()))),
            ("lengths", lengths),
            ("sizes", sizes),
            ("is_sorted", is_sorted),
        ):
            object.__setattr__(self, name, value)

    @staticmethod
    def of(
        padded: Tensor, lengths: Tensor, sizes: tuple[int, ...] | None, is_sorted: bool
    ) -> PackedSequence:
        """The sequences of a padded tensor (T, B, ...), whatever stands beyond their ends."""
        made = object.__new__(PackedSequence)
        made._set(padded, lengths, sizes, is_sorted)
        return made

    def like(self, padded: Tensor) -> PackedSequence:
        """Other sequences of the same lengths."""
        return PackedSequence.of(padded, self.lengths, self.sizes, self.is_sorted)

    # -- PyTorch's fields -----------------------------------------------------------------------

    def _known(self, what: str) -> np.ndarray:
        if self.sizes is None:
            raise UnsupportedError(
                f"{what} of a PackedSequence whose lengths are values of a compiled function.",
                "Give the lengths as a list, or use pad_packed_sequence with total_length=.",
            )
        return np.asarray(self.sizes, np.int64)

    def _order(self, what: str) -> np.ndarray:
        return np.argsort(-self._known(what), kind="stable")

    @property
    def data(self) -> Tensor:
        """The rows: of all sequences the first, then the second, and so on."""
        order = self._order("data")
        steps, batch = self.padded.shape[:2]
        inside = self._known("data")[order] > np.arange(steps)[:, None]
        places = (np.arange(steps)[:, None] * batch + order)[inside]
        rows = self.padded.flatten(0, 1)
        return rows.index_select(0, tensor(places, device=rows.device))

    @property
    def batch_sizes(self) -> Tensor:
        """How many sequences have an element at each step; on the host."""
        sizes = self._known("batch_sizes")
        steps = np.arange(self.padded.shape[0])[:, None]
        return tensor((sizes > steps).sum(1).astype(np.int64), device="cpu")

    @property
    def sorted_indices(self) -> Tensor | None:
        """The sequences from the longest to the shortest; None where that is how they stand."""
        if self.is_sorted:
            return None
        return tensor(self._order("sorted_indices"), device=self.padded.device)

    @property
    def unsorted_indices(self) -> Tensor | None:
        """The inverse of `sorted_indices`."""
        if self.is_sorted:
            return None
        order = np.argsort(self._order("unsorted_indices"), kind="stable")
        return tensor(order, device=self.padded.device)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.data, self.batch_sizes, self.sorted_indices, self.unsorted_indices))

    def __getitem__(self, index: int) -> Any:
        return tuple(self)[index]

    def __len__(self) -> int:
        return 4

    def _replace(self, **fields: Any) -> PackedSequence:
        names = ("data", "batch_sizes", "sorted_indices", "unsorted_indices")
        return PackedSequence(**{**dict(zip(names, self)), **fields})

    def __repr__(self) -> str:
        return (
            f"PackedSequence(data={self.data}, batch_sizes={self.batch_sizes}, "
            f"sorted_indices={self.sorted_indices}, unsorted_indices={self.unsorted_indices})"
        )

    # -- conversions ----------------------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The same in another dtype or on another device; see `Tensor.to`."""
        padded = self.padded.to(*args, **kwargs)
        if padded is self.padded:
            return self
        lengths = self.lengths.to(padded.device)
        return PackedSequence.of(padded, lengths, self.sizes, self.is_sorted)

    def cpu(self) -> PackedSequence:
        return self.to("cpu")

    def cuda(self, device: Any = None) -> PackedSequence:
        return self.to("cuda" if device is None else device)

    def float(self) -> PackedSequence:
        return self.like(self.padded.float())

    def double(self) -> PackedSequence:
        return self.like(self.padded.double())

    def half(self) -> PackedSequence:
        return self.like(self.padded.half())

    def long(self) -> PackedSequence:
        return self.like(self.padded.long())

    @property
    def is_cuda(self) -> bool:
        return self.padded.is_cuda


def inside_of(lengths: Tensor, steps: int, ndim: int) -> Tensor:
    """Whether step t is within sequence b: (T, B, 1, ...) of `ndim` axes."""
    times = arange(steps, dtype=int64, device=lengths.device).unsqueeze(1)
    inside = times < lengths
    return inside.reshape(*inside.shape, *(1,) * (ndim - 2))


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The inverse of a permutation.

    >>> import tgrad
    >>> tgrad.nn.utils.rnn.invert_permutation(tgrad.tensor([2, 0, 1])).tolist()
    [1, 2, 0]
    """
    if permutation is None:
        return None
    places = arange(permutation.numel(), dtype=permutation.dtype, device=permutation.device)
    return empty_like(permutation).scatter(0, permutation, places)


def _host_lengths(lengths: Lengths) -> tuple[int, ...] | None:
    """The lengths as numbers; None where a trace cannot know them."""
    if not isinstance(lengths, Tensor):
        return tuple(int(n) for n in lengths)
    return None if tracer() is not None else tuple(int(n) for n in lengths.tolist())


def _host_numbers(function: str, numbers: Lengths) -> tuple[int, ...]:
    """The same, needed on the host."""
    found = _host_lengths(numbers)
    if found is None:
        raise UnsupportedError(
            f"{function} with lengths that are values of a compiled function.",
            "Give them as a list, or do this outside.",
        )
    return found


def pack_padded_sequence(
    input: Tensor, lengths: Lengths, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Sequences of several lengths, of a padded tensor.

    Args:
        input: (T, B, ...), with `batch_first` (B, T, ...).
        lengths: of each sequence, at least 1. Inside `tgrad.compile` a tensor of them stays on the
            device, and the plan serves all lengths up to T.
        enforce_sorted: whether to raise where a sequence is longer than the one before; inside
            `tgrad.compile` that of a tensor is not seen. Recurrent layers need no order.

    Raises:
        ShapeError: lengths do not fit, or are not sorted; the input is empty.

    >>> import tgrad
    >>> padded = tgrad.tensor([[1, 2, 0], [3, 0, 0], [4, 5, 6]])
    >>> pack = tgrad.nn.utils.rnn.pack_padded_sequence
    >>> packed = pack(padded, [2, 1, 3], batch_first=True, enforce_sorted=False)
    >>> packed.data.tolist(), packed.batch_sizes.tolist(), packed.sorted_indices.tolist()
    ([4, 1, 3, 5, 2, 6], [3, 2, 1], [2, 0, 1])
    """
    if input.ndim < 2 or not input.numel():
        raise ShapeError(
            f"pack_padded_sequence of shape {input.shape}.", "Give (T, B, ...), not empty."
        )
    x = input.transpose(0, 1) if batch_first else input
    sizes = _host_lengths(lengths)
    if sizes is not None:
        _check_sizes(sizes, x.shape, enforce_sorted)
        x = x[: max(sizes)]
    on_device = lengths if isinstance(lengths, Tensor) else tensor(list(lengths), device=x.device)
    if on_device.dtype.is_float:
        raise DTypeError(f"lengths of {on_device.dtype.name}.", "Give integers.")
    return PackedSequence.of(x, on_device.to(x.device).to(int64), sizes, enforce_sorted)


def _check_sizes(sizes: tuple[int, ...], shape: tuple[int, ...], enforce_sorted: bool) -> None:
    steps, batch = shape[:2]
    if len(sizes) != batch or min(sizes) < 1 or max(sizes) > steps:
        raise ShapeError(
            f"pack_padded_sequence: {batch} sequences of up to {steps} with lengths {list(sizes)}.",
            f"Give {batch} lengths, each 1 to {steps}.",
        )
    if enforce_sorted and list(sizes) != sorted(sizes, reverse=True):
        raise ShapeError(
            f"pack_padded_sequence: lengths {list(sizes)} are not sorted.",
            "Pass enforce_sorted=False, or put the longest first.",
        )


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The padded tensor of packed sequences, and their lengths.

    Args:
        sequence: B sequences, of which the longest has T elements.
        batch_first: whether the tensor is (B, T, ...) and not (T, B, ...).
        padding_value: what stands beyond the end of a sequence.
        total_length: a T that is larger. Needed where the lengths are values of a compiled
            function: at least the T that was packed.

    Returns:
        The tensor, and the lengths (B,), on the host where it knows them.

    Raises:
        ShapeError: `total_length` is less than the longest length.
    """
    padded, steps = sequence.padded, sequence.padded.shape[0]
    if total_length is None:
        sequence._known("pad_packed_sequence")
    elif total_length < steps:
        raise ShapeError(
            f"pad_packed_sequence: total_length={total_length}.", f"It is at least {steps}."
        )
    if padding_value != 0:
        inside = inside_of(sequence.lengths, steps, padded.ndim)
        padded = padded.where(inside, padded.new_full((), padding_value))
    if total_length is not None and total_length > steps:
        padded = _to_length(padded, total_length, padding_value, "right")
    lengths = sequence.lengths
    if sequence.sizes is not None:
        lengths = tensor(list(sequence.sizes), dtype=int64, device="cpu")
    return (padded.transpose(0, 1) if batch_first else padded), lengths


def _to_length(x: Tensor, length: int, padding_value: float, side: str) -> Tensor:
    missing = length - x.shape[0]
    ends = (0, missing) if side == "right" else (missing, 0)
    return pad(x, (*(0,) * (2 * x.ndim - 2), *ends), value=padding_value)


def pad_sequence(
    sequences: Iterable[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Sequences of several lengths as one tensor.

    Where the values of all are in the host's memory, they are put together there: a batch that a
    loader collates compiles nothing.

    Args:
        sequences: (L, ...) each; only L may differ.
        batch_first: whether the result is (B, T, ...) and not (T, B, ...).
        padding_value: what is added.
        padding_side: "right" or "left".

    Raises:
        ShapeError: there is none, or other sizes than the first differ.

    >>> import tgrad
    >>> pad = tgrad.nn.utils.rnn.pad_sequence
    >>> pad([tgrad.tensor([1, 2]), tgrad.tensor([3])], batch_first=True).tolist()
    [[1, 2], [3, 0]]
    """
    given = list(sequences)
    if padding_side not in ("right", "left"):
        raise UnsupportedError(f"pad_sequence: padding_side={padding_side!r}.", "right or left.")
    if not given or any(s.ndim < 1 or s.shape[1:] != given[0].shape[1:] for s in given):
        raise ShapeError(
            f"pad_sequence of shapes {', '.join(str(s.shape) for s in given) or 'none'}.",
            "Give sequences that differ in their first size only.",
        )
    length = max(s.shape[0] for s in given)
    if tracer() is None and all(_is_on_host(s) for s in given):
        return _padded_on_host(given, length, batch_first, padding_value, padding_side)
    parts = [_to_length(s.to(given[0].dtype), length, padding_value, padding_side) for s in given]
    return stack(parts, 0 if batch_first else 1)


def _is_on_host(t: Tensor) -> bool:
    return t._storage is not None and not t.requires_grad and t.device.type in ON_HOST


def _padded_on_host(
    sequences: list[Tensor], length: int, batch_first: bool, value: float, side: str
) -> Tensor:
    first = sequences[0]
    shape = (len(sequences), length, *first.shape[1:])
    rows = np.full(shape, value, first.dtype.numpy)
    for row, s in zip(rows, sequences):
        count = s.shape[0]
        row[slice(count) if side == "right" else slice(length - count, length)] = s.numpy()
    made = rows if batch_first else np.ascontiguousarray(rows.swapaxes(0, 1))
    return tensor(made, dtype=first.dtype, device=first.device)


def unpad_sequence(
    padded_sequences: Tensor, lengths: Lengths, batch_first: bool = False
) -> list[Tensor]:
    """The sequences of a padded tensor.

    Args:
        padded_sequences: (T, B, ...), with `batch_first` (B, T, ...).
        lengths: of each, on the host.
    """
    x = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    sizes = _host_numbers("unpad_sequence", lengths)
    if len(sizes) != x.shape[0]:
        raise ShapeError(
            f"unpad_sequence: {x.shape[0]} sequences and {len(sizes)} lengths.", "One each."
        )
    return [x[number, :size].clone() for number, size in enumerate(sizes)]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (L, ...) of several lengths, packed; see `pack_padded_sequence`."""
    sizes = [s.shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), sizes, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences that were packed.

    >>> import tgrad
    >>> rnn = tgrad.nn.utils.rnn
    >>> packed = rnn.pack_sequence([tgrad.tensor([1, 2]), tgrad.tensor([3])])
    >>> [s.tolist() for s in rnn.unpack_sequence(packed)]
    [[1, 2], [3]]
    """
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
