"""tgrad.utils.data beside torch.utils.data: the same batches, of tgrad's tensors."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest

import tgrad
from tgrad.errors import ShapeError
from tgrad.runtime.plan import record_plans

torch = pytest.importorskip("torch")

from tgrad.utils import data  # noqa: E402

X = np.random.default_rng(0).standard_normal((11, 3)).astype(np.float32)
Y = np.arange(11)


class Point(NamedTuple):
    x: Any
    y: Any


class Squares(data.Dataset):
    """Samples of many kinds, as a user's own data set has them."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {
            "array": X[i],
            "number": i * i,
            "share": i / 2,
            "name": f"n{i}",
            "torch": torch.tensor([i, -i], dtype=torch.int32),
            "half": torch.full((2,), i / 3, dtype=torch.bfloat16),
            "pair": Point(np.int64(i), (i, X[i] > 0)),
        }


def values(batch: Any) -> Any:
    """The batch with lists for tensors of either library."""
    if isinstance(batch, (tgrad.Tensor, torch.Tensor)):
        return str(batch.dtype).split(".")[-1], batch.tolist()
    if isinstance(batch, (list, tuple)):
        return type(batch).__name__, [values(part) for part in batch]
    if isinstance(batch, dict):
        return {key: values(part) for key, part in batch.items()}
    return batch


def tensors(batch: Any) -> list[Any]:
    parts = batch.values() if isinstance(batch, dict) else batch
    if isinstance(batch, (tuple, list, dict)):
        return [t for part in parts for t in tensors(part)]
    return [] if isinstance(batch, str) else [batch]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_of_a_data_set(workers: int, drop_last: bool) -> None:
    options = {"batch_size": 3, "num_workers": workers, "drop_last": drop_last}
    ours, theirs = (
        data.DataLoader(Squares(), **options),
        torch.utils.data.DataLoader(Squares(), **options),
    )
    assert len(ours) == len(theirs)
    for have, want in zip(ours, theirs, strict=True):
        assert values(have) == values(want)
        assert all(isinstance(t, tgrad.Tensor) for t in tensors(have))


@pytest.mark.parametrize("workers", [0, 1])
def test_rows_of_tensors(workers: int) -> None:
    ours = data.TensorDataset(tgrad.tensor(X), tgrad.tensor(Y))
    theirs = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    assert [values(part) for part in ours[2]] == [values(part) for part in theirs[2]]
    have = data.DataLoader(ours, 4, num_workers=workers)
    want = torch.utils.data.DataLoader(theirs, 4, num_workers=workers)
    for ours_batch, theirs_batch in zip(have, want, strict=True):
        assert values(ours_batch) == values(theirs_batch)


def test_rows_are_gathered_by_one_plan() -> None:
    rows = data.TensorDataset(tgrad.tensor(X) * 1, tgrad.tensor(Y))
    plans = []
    for x, y in data.DataLoader(rows, 4, shuffle=True, drop_last=True):
        with record_plans() as made:
            (x.sum(1) * y).sum().item()
        plans.append(len(made))
    assert plans == [1, 0], "the gather is part of the step, and its indices are inputs"


def test_the_seed_decides_the_order() -> None:
    def orders(**options: Any) -> list[list[int]]:
        loader = data.DataLoader(range(20), 20, shuffle=True, **options)
        return [next(iter(loader)).tolist() for _ in range(2)]

    tgrad.manual_seed(3)
    first = orders()
    tgrad.manual_seed(3)
    assert orders() == first
    assert first[0] != first[1] and sorted(first[0]) == list(range(20))
    again = [orders(generator=tgrad.Generator().manual_seed(5)) for _ in range(2)]
    assert again[0] == again[1] != first
    theirs = [orders(generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert theirs[0] == theirs[1]


@pytest.mark.parametrize(
    "make",
    [
        lambda g: data.RandomSampler(range(9), generator=g),
        lambda g: data.RandomSampler(range(9), replacement=True, num_samples=5, generator=g),
        lambda g: data.SubsetRandomSampler([3, 4, 5, 6], generator=g),
        lambda g: data.WeightedRandomSampler(tgrad.arange(9), 30, generator=g),
    ],
)
def test_samplers_draw_from_generators(make: Any) -> None:
    drawn = [list(make(tgrad.Generator().manual_seed(s))) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert 0 not in list(data.WeightedRandomSampler(tgrad.arange(9), 50))
    tgrad.manual_seed(8)
    first = list(make(None))
    tgrad.manual_seed(8)
    assert list(make(None)) == first


def test_random_split() -> None:
    tgrad.manual_seed(0)
    parts = [list(part) for part in data.random_split(range(10), [0.5, 0.3, 0.2])]
    assert [len(part) for part in parts] == [5, 3, 2]
    assert sorted(i for part in parts for i in part) == list(range(10))
    tgrad.manual_seed(0)
    assert [list(part) for part in data.random_split(range(10), [0.5, 0.3, 0.2])] == parts
    subset = data.random_split(data.TensorDataset(tgrad.tensor(Y)), [6, 5])[0]
    (batch,) = next(iter(data.DataLoader(subset, 6)))
    assert set(batch.tolist()) < set(range(11))


def test_a_collate_of_the_user_s() -> None:
    def padded(samples: list[Any]) -> Any:
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(s) for s in samples], True)

    (batch,) = data.DataLoader([[1, 2], [3]], 2, collate_fn=padded)
    assert isinstance(batch, tgrad.Tensor) and batch.tolist() == [[1, 2], [3, 0]]
    singles = list(data.DataLoader([5, 6], batch_size=None))
    assert singles == [5, 6]
    rows = data.TensorDataset(tgrad.tensor(Y))
    (first, *_) = data.DataLoader(rows, 4, collate_fn=lambda rows: [int(y) for (y,) in rows])
    assert first == [0, 1, 2, 3]


def test_tensors_of_different_lengths_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(11, 3\), \(4,\)"):
        data.TensorDataset(tgrad.tensor(X), tgrad.tensor(Y[:4]))
    with pytest.raises(ShapeError, match="no tensors"):
        data.TensorDataset()


def test_samples_are_converted_as_they_are() -> None:
    class Pair(NamedTuple):
        x: Any
        y: Any

    nest = [
        np.arange(3), np.float32(2.5), "text", b"bytes", 3, 2.5, None, np.array(["a", "b"]),
        (np.ones(2), [np.int64(4)]), {"k": Pair(np.zeros(2), "s")}, torch.ones(2), np.bool_(True),
    ]  # fmt: skip
    have, want = data.default_convert(nest), torch.utils.data.default_convert(nest)
    for ours, theirs in zip(have[:3], want[:3]):
        assert (
            getattr(ours, "tolist", lambda x=ours: x)()
            == getattr(theirs, "tolist", lambda x=theirs: x)()
        )
    assert have[3:7] == want[3:7] and have[7].tolist() == ["a", "b"]
    assert type(have[8]) is type(want[8]) and have[8][1][0].item() == 4
    assert have[9]["k"].x.tolist() == [0, 0] and have[9]["k"].y == "s"
    assert isinstance(have[10], tgrad.Tensor) and have[11].dtype is tgrad.bool
    x = tgrad.ones(2)
    assert data.default_convert([x])[0] is x


class Drawn(data.Dataset):
    """Samples that are drawn, as augmentations are."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> float:
        return tgrad.rand(1).item()


def test_workers_draw_from_streams_of_their_own() -> None:
    def drawn() -> list[float]:
        tgrad.manual_seed(1)
        loader = data.DataLoader(Drawn(), 2, num_workers=2)
        return [x for _ in range(2) for batch in loader for x in batch.tolist()]

    numbers = drawn()
    assert len(set(numbers)) == len(numbers) == 8
    assert drawn() == numbers


class Products(data.Dataset):
    """Samples whose kernel takes all threads that there are."""

    def __init__(self) -> None:
        self.x = tgrad.ones(512, 512)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: int) -> float:
        return (self.x @ self.x).sum().item()


def test_workers_compute_after_the_program_did() -> None:
    samples = Products()
    want = samples[0]
    (batch,) = data.DataLoader(samples, 1, num_workers=1, timeout=60)
    assert batch.tolist() == [want]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_collate_gets_a_list_of_tensors(workers: int) -> None:
    def last_two(rows: list[Any]) -> Any:
        rows.sort(key=lambda row: -row[1].item())
        return tgrad.stack([x / 2 for x, _ in rows[:2]])

    x = tgrad.arange(6, dtype=tgrad.int32).reshape(3, 2)
    rows = data.TensorDataset(x, tgrad.arange(3))
    (batch,) = data.DataLoader(rows, 3, collate_fn=last_two, num_workers=workers)
    assert batch.dtype is tgrad.float32 and batch.tolist() == [[2, 2.5], [1, 1.5]]


def test_slices_of_rows_are_rows() -> None:
    rows = data.TensorDataset(tgrad.arange(4)).__getitems__([3, 1, 2])
    assert [x.tolist() for (x,) in rows[1:]] == [1, 2]


@pytest.mark.parametrize("dtype", [tgrad.bfloat16, tgrad.float8_e4m3fn])
def test_narrow_rows_come_from_workers(dtype: Any) -> None:
    rows = data.TensorDataset(tgrad.arange(4).to(dtype))
    ((batch,),) = data.DataLoader(rows, 4, num_workers=1)
    assert batch.dtype is dtype and batch.tolist() == [0, 1, 2, 3]


def test_mappings_keep_their_type() -> None:
    samples = [OrderedDict(x=np.float32(i)) for i in range(2)]
    (batch,) = data.DataLoader(samples, 2)
    assert isinstance(batch, OrderedDict) and batch["x"].tolist() == [0, 1]


def test_negated_views_of_torch_become_numbers() -> None:
    assert data.as_tgrad(torch.tensor([1 + 2j]).conj().imag).tolist() == [-2]
