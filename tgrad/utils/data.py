"""`torch.utils.data`'s names: PyTorch's data sets, samplers and loader, with batches of tgrad.

In: data sets of tensors, arrays, numbers or strings. Out: batches whose tensors are tgrad's.
Invariant: worker processes see NumPy and PyTorch alone, nothing is compiled there; orders are drawn
from tgrad's generators, so that `tgrad.manual_seed` decides them. Needs torch.
Source: https://docs.pytorch.org/docs/stable/data.html
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tgrad import random
from tgrad.dtype import bfloat16
from tgrad.errors import ShapeError
from tgrad.methods.interchange import from_dlpack
from tgrad.random import Generator
from tgrad.tensor import Tensor, realize_tensors, tensor

try:
    import torch
    from torch.utils import data as theirs
    from torch.utils.data._utils.collate import collate, default_collate_fn_map
    from torch.utils.data._utils.collate import default_convert as converted
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "tgrad.utils.data is PyTorch's loader with batches of tgrad: pip install torch."
    ) from error

BatchSampler = theirs.BatchSampler
ChainDataset = theirs.ChainDataset
ConcatDataset = theirs.ConcatDataset
Dataset = theirs.Dataset
DistributedSampler = theirs.DistributedSampler
IterableDataset = theirs.IterableDataset
Sampler = theirs.Sampler
SequentialSampler = theirs.SequentialSampler
StackDataset = theirs.StackDataset
Subset = theirs.Subset
get_worker_info = theirs.get_worker_info


class TensorDataset(theirs.Dataset):
    """Rows of tensors that are as long as each other.

    A loader gathers the rows of a batch at once: lazily, so that the gather is part of the step.

    Args:
        tensors: of shape (N, ...) each.

    Raises:
        ShapeError: their first sizes differ, or there is none.

    >>> import tgrad
    >>> from tgrad.utils.data import TensorDataset
    >>> rows = TensorDataset(tgrad.arange(6).reshape(3, 2), tgrad.arange(3))
    >>> len(rows), [part.tolist() for part in rows[1]]
    (3, [[2, 3], 1])
    """

    def __init__(self, *tensors: Tensor):
        sizes = {t.shape[0] if t.shape else None for t in tensors}
        if len(sizes) != 1 or None in sizes:
            shapes = ", ".join(str(t.shape) for t in tensors) or "no tensors"
            raise ShapeError(f"TensorDataset of {shapes}.", "Give tensors with as many rows.")
        realize_tensors(list(tensors))
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        return _row(_readable(self.tensors), index)

    def __getitems__(self, indices: list[int]) -> Rows:
        """The rows of a batch; PyTorch's loader asks so."""
        rows = np.asarray(indices, np.int64)
        return Rows(tuple(t[rows] for t in _readable(self.tensors)))

    def __len__(self) -> int:
        return self.tensors[0].shape[0]


class Rows(Sequence[Any]):
    """Samples that were gathered together: a sequence of them, each a tuple."""

    def __init__(self, columns: tuple[Any, ...]):
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return _row(self.columns, index)


def _row(columns: tuple[Any, ...], index: Any) -> tuple[Tensor, ...]:
    """A sample, whose tensors are tgrad's in worker processes too."""
    return tuple(x if isinstance(x := c[index], Tensor) else tensor(x) for c in columns)


def _readable(tensors: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """The tensors, or in a worker process their values as arrays: those need no kernels."""
    if get_worker_info() is None:
        return tensors
    return tuple(t.numpy() for t in tensors)


# -- batches -------------------------------------------------------------------------------------


def _stacked(batch: Sequence[Tensor], *, collate_fn_map: Any = None) -> Tensor:
    return tensor(np.stack([t.numpy() for t in batch]), device=batch[0].device)


COLLATE = {**default_collate_fn_map, Tensor: _stacked}
"""How samples of a type become a batch, PyTorch's table with a row for tensors of tgrad."""


def default_collate(batch: Any) -> Any:
    """A batch of samples, as PyTorch's, whose tensors are tgrad's.

    Args:
        batch: samples of one structure: tensors, arrays, numbers, strings, in tuples, lists and
            dicts.

    >>> import numpy as np
    >>> from tgrad.utils.data import default_collate
    >>> x, y = default_collate([(np.zeros(2, np.float32), 7), (np.ones(2, np.float32), 8)])
    >>> x.tolist(), y.tolist()
    ([[0.0, 0.0], [1.0, 1.0]], [7, 8])
    """
    return as_tgrad(_collate(batch))


def default_convert(data: Any) -> Any:
    """Tensors of tgrad for the arrays and the numbers of NumPy in a nest, and for PyTorch's
    tensors; what a loader with `batch_size=None` makes of each sample.

    >>> import numpy as np
    >>> from tgrad.utils.data import default_convert
    >>> found = default_convert({"x": np.arange(2), "name": "a", "n": 3})
    >>> found["x"].tolist(), found["name"], found["n"]
    ([0, 1], 'a', 3)
    """
    return as_tgrad(converted(data))


def _collate(batch: Any) -> Any:
    """What may cross from a worker process: PyTorch's tensors lie in shared memory."""
    if isinstance(batch, Rows):
        return [_sendable(c) for c in batch.columns]
    return collate(batch, collate_fn_map=COLLATE)


def _sendable(column: Any) -> Any:
    """PyTorch's tensor of an array; tgrad's of dtypes that PyTorch takes from no array."""
    if not isinstance(column, np.ndarray):
        return column
    is_of_numpy = column.dtype.isbuiltin == 1
    return torch.from_numpy(column) if is_of_numpy else tensor(column)


def _collate_samples(collate_fn: Callable[[Any], Any], batch: Any) -> Any:
    """A batch by the user's function, which gets a list of samples as from PyTorch's loader."""
    return collate_fn(list(batch) if isinstance(batch, Rows) else batch)


def as_tgrad(batch: Any) -> Any:
    """The same structure with tensors of tgrad for PyTorch's; memory is shared."""
    if isinstance(batch, torch.Tensor):
        batch = batch.resolve_conj().resolve_neg()
        if batch.dtype is torch.bfloat16:  # which NumPy's DLPack does not know
            return from_dlpack(batch.float()).to(bfloat16)
        return from_dlpack(batch)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*map(as_tgrad, batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(map(as_tgrad, batch))
    if isinstance(batch, Mapping):
        values = {key: as_tgrad(value) for key, value in batch.items()}
        if type(batch) is dict or not isinstance(batch, MutableMapping):
            return values
        like = copy.copy(batch)
        like.update(values)
        return like
    return batch


# -- orders --------------------------------------------------------------------------------------


class _Seeded:
    """Draws from a generator of tgrad, by a seed for PyTorch's at the start of each pass."""

    generator: Any

    def _follow(self, generator: Generator | torch.Generator | None) -> torch.Generator:
        """The generator of PyTorch that draws for this one; PyTorch's own stay themselves."""
        self._source = None if isinstance(generator, torch.Generator) else generator
        self._is_ours = not isinstance(generator, torch.Generator)
        return torch.Generator() if self._is_ours else generator

    def _start(self) -> None:
        if self._is_ours:
            self.generator.manual_seed(_seed(self._source))


def _seed(generator: Generator | None) -> int:
    """A number that the generator draws."""
    drawn = random.randint(0, 2**62, (), device="numpy", generator=generator)
    return int(drawn.item())


class RandomSampler(_Seeded, theirs.RandomSampler):
    """Indices in random order, as PyTorch's; the generator may be tgrad's."""

    def __init__(
        self,
        data_source: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | torch.Generator | None = None,
    ):
        super().__init__(data_source, replacement, num_samples, self._follow(generator))

    def __iter__(self) -> Iterator[int]:
        self._start()
        return super().__iter__()


class SubsetRandomSampler(_Seeded, theirs.SubsetRandomSampler):
    """Given indices in random order, as PyTorch's; the generator may be tgrad's."""

    def __init__(
        self, indices: Sequence[int], generator: Generator | torch.Generator | None = None
    ):
        super().__init__(indices, self._follow(generator))

    def __iter__(self) -> Iterator[int]:
        self._start()
        return super().__iter__()


class WeightedRandomSampler(_Seeded, theirs.WeightedRandomSampler):
    """Indices with given odds, as PyTorch's; the generator may be tgrad's."""

    def __init__(
        self,
        weights: Any,
        num_samples: int,
        replacement: bool = True,
        generator: Generator | torch.Generator | None = None,
    ):
        odds = weights.tolist() if isinstance(weights, Tensor) else weights
        super().__init__(odds, num_samples, replacement, self._follow(generator))

    def __iter__(self) -> Iterator[int]:
        self._start()
        return super().__iter__()


def random_split(
    dataset: Any,
    lengths: Sequence[float],
    generator: Generator | torch.Generator | None = None,
) -> list[Any]:
    """Parts of a data set, at random and without overlap, as PyTorch's.

    Args:
        lengths: of the parts; or fractions that add to 1.

    >>> import tgrad
    >>> from tgrad.utils.data import random_split
    >>> [len(part) for part in random_split(range(10), [0.7, 0.3])]
    [7, 3]
    """
    if not isinstance(generator, torch.Generator):
        generator = torch.Generator().manual_seed(_seed(generator))
    return theirs.random_split(dataset, lengths, generator)


# -- the loader ----------------------------------------------------------------------------------


def _start_worker(init: Callable[[int], Any] | None, number: int) -> None:
    """What PyTorch's workers do to its generator, to that of tgrad, before the user's function."""
    random.manual_seed(get_worker_info().seed)
    if init is not None:
        init(number)


class DataLoader(_Seeded, theirs.DataLoader):
    """PyTorch's loader: batches of a data set, whose tensors are tgrad's.

    Args:
        dataset: with `__getitem__` and `__len__`, or an IterableDataset; of tgrad or PyTorch.
        batch_size: samples of a batch; None gives the samples themselves.
        shuffle: whether each pass has an order of its own.
        collate_fn: makes a batch of samples; PyTorch's tensors in it become tgrad's.
        generator: tgrad's or PyTorch's; by default tgrad's, as `tgrad.manual_seed` left it.
        others: as PyTorch's: `num_workers`, `drop_last`, `sampler`, `batch_sampler`, ...

    >>> import tgrad
    >>> from tgrad.utils.data import DataLoader, TensorDataset
    >>> rows = TensorDataset(tgrad.arange(5), tgrad.arange(5) * 10)
    >>> [(x.tolist(), y.tolist()) for x, y in DataLoader(rows, batch_size=3)]
    [([0, 1, 2], [0, 10, 20]), ([3, 4], [30, 40])]
    """

    worker_init_fn: Any

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate_fn: Any = None,
        *args: Any,
        generator: Generator | torch.Generator | None = None,
        **others: Any,
    ):
        is_batched = batch_size is not None or batch_sampler is not None
        if is_batched and collate_fn in (None, default_collate):
            collate_fn = _collate
        elif is_batched:
            collate_fn = partial(_collate_samples, collate_fn)
        super().__init__(
            dataset,
            batch_size,
            shuffle,
            sampler,
            batch_sampler,
            num_workers,
            collate_fn,
            *args,
            generator=self._follow(generator),
            **others,
        )
        self.worker_init_fn = partial(_start_worker, self.worker_init_fn)

    def __iter__(self) -> Iterator[Any]:
        self._start()
        for batch in super().__iter__():
            yield as_tgrad(batch)
