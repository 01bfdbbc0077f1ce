"""Sequences of several lengths, padded and packed, and recurrent layers over them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal
from tgrad import nn
from tgrad.errors import ShapeError, UnsupportedError

OURS, THEIRS = nn.utils.rnn, torch.nn.utils.rnn


def near(ours, theirs):
    if theirs is None:
        assert ours is None
        return
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape and ours.dtype.name == theirs.dtype.name
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)


def both(arrays, device):
    """Sequences of either library, with gradients."""
    mine = [tgrad.tensor(a, device=device, requires_grad=True) for a in arrays]
    return mine, [torch.tensor(a, requires_grad=True) for a in arrays]


@pytest.mark.parametrize(
    ("lengths", "shape"), [((5, 3, 1), (2,)), ((2, 5, 5, 1), ()), ((4, 4), (2, 3)), ((1,), (1,))]
)
def test_packed_and_padded(lengths, shape, device):
    arrays = [normal(i, n, *shape) for i, n in enumerate(lengths)]
    mine, other = both(arrays, device)
    is_sorted = lengths != (2, 5, 5, 1)
    packed, theirs = OURS.pack_sequence(mine, is_sorted), THEIRS.pack_sequence(other, is_sorted)
    for ours, want in zip(packed, theirs, strict=True):
        near(ours, want)
    for options in ({"padding_value": 2.5}, {"total_length": 7}, {"batch_first": True}):
        have = OURS.pad_packed_sequence(packed, **options)
        for ours, want in zip(have, THEIRS.pad_packed_sequence(theirs, **options), strict=True):
            near(ours, want)
    for ours, want in zip(OURS.unpack_sequence(packed), THEIRS.unpack_sequence(theirs)):
        near(ours, want)
    again = OURS.PackedSequence(packed.data * 2, *tuple(packed)[1:])
    near(OURS.pad_packed_sequence(again)[0], 2 * THEIRS.pad_packed_sequence(theirs)[0])
    again.data.square().sum().backward()
    (2 * theirs.data).square().sum().backward()
    for t, u in zip(mine, other):
        near(t.grad, u.grad)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_pad_sequence(side, batch_first, device):
    mine, other = both([normal(i, n, 2) for i, n in enumerate((3, 0, 4))], device)
    want = THEIRS.pad_sequence(other, batch_first, -1.0, side)
    near(OURS.pad_sequence(mine, batch_first, -1.0, side), want)
    near(OURS.pad_sequence([t.detach() for t in mine], batch_first, -1.0, side), want)


@pytest.mark.parametrize(
    ("kind", "options", "lengths"),
    [
        ("LSTM", {"num_layers": 2, "bidirectional": True}, [5, 3, 3]),
        ("GRU", {"bidirectional": True, "batch_first": True}, [2, 4, 1]),
        ("RNN", {"num_layers": 2}, [1, 3]),
    ],
)
def test_recurrent_layers(kind, options, lengths, device):
    ours, theirs = getattr(nn, kind)(3, 4, **options), getattr(torch.nn, kind)(3, 4, **options)
    ours.to(device).load_state_dict(theirs.state_dict())
    batch, is_sorted = len(lengths), lengths == [5, 3, 3]
    runs = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    given = [normal(0, 6, batch, 3), *(normal(i, runs, batch, 4) for i in (1, 2))]
    mine, other = both(given[: 3 if kind == "LSTM" else 2], device)
    results = []
    for module, rnn, (x, *state) in ((ours, OURS, mine), (theirs, THEIRS, other)):
        packed = rnn.pack_padded_sequence(x, lengths, enforce_sorted=is_sorted)
        y, after = module(packed, tuple(state) if kind == "LSTM" else state[0])
        after = after if kind == "LSTM" else (after,)
        results.append([y.data, rnn.pad_packed_sequence(y)[0], *after])
        sum((t * t).sum() for t in results[-1]).backward()
    for t, u in zip(*results, strict=True):
        near(t, u)
    for t, u in zip([*mine, *ours.parameters()], [*other, *theirs.parameters()], strict=True):
        near(t.grad, u.grad)


def test_one_plan_serves_all_lengths_that_are_values(device):
    layer = nn.GRU(3, 4, device=device)

    def run(x, lengths):
        packed = OURS.pack_padded_sequence(x, lengths, enforce_sorted=False)
        y, h = layer(packed)
        return OURS.pad_packed_sequence(y, total_length=5)[0], h

    compiled = tgrad.compile(run)
    with tgrad.no_grad():
        for lengths in ([5, 3], [1, 4], [2, 2]):
            x = tgrad.tensor(normal(1, 5, 2, 3), device=device)
            for have, want in zip(
                compiled(x, tgrad.tensor(lengths, device=device)), run(x, lengths)
            ):
                np.testing.assert_allclose(have.numpy(), want.numpy(), atol=1e-6)
    assert compiled.traces == 1


def test_what_lies_beyond_the_end_reaches_no_gradient(device):
    layer = nn.LSTM(1, 2, device=device)
    x = tgrad.tensor(np.float32([[[1], [2]], [[3], [np.nan]]]), device=device)
    y, _ = layer(OURS.pack_padded_sequence(x, [2, 1]))
    OURS.pad_packed_sequence(y)[0].sum().backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in layer.parameters())


def test_fields_and_conversions():
    packed = OURS.pack_sequence([tgrad.tensor([1, 2]), tgrad.tensor([3])])
    theirs = THEIRS.pack_sequence([torch.tensor([1, 2]), torch.tensor([3])])
    assert repr(packed) == repr(theirs)
    assert packed.double().data.dtype is tgrad.float64 and packed.to(tgrad.int64) is packed
    assert packed._replace(data=packed.data + 1).data.tolist() == [2, 4, 3]
    assert len(packed) == 4 and packed[1].tolist() == [2, 1] and not packed.is_cuda


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: OURS.pack_padded_sequence(tgrad.ones(3, 2), [2, 3]),
            "pack_padded_sequence: lengths [2, 3] are not sorted.",
        ),
        (
            lambda: OURS.pack_padded_sequence(tgrad.ones(3, 2), [4, 0]),
            "pack_padded_sequence: 2 sequences of up to 3 with lengths [4, 0].",
        ),
        (
            lambda: OURS.pad_packed_sequence(
                OURS.pack_padded_sequence(tgrad.ones(3, 2), [3, 2]), total_length=2
            ),
            "pad_packed_sequence: total_length=2.",
        ),
        (
            lambda: OURS.PackedSequence(tgrad.ones(3), [1, 2]),
            "PackedSequence of shape (3,) with batch_sizes [1, 2].",
        ),
        (
            lambda: OURS.pad_sequence([tgrad.ones(3), tgrad.ones(3, 2)]),
            "pad_sequence of shapes (3,), (3, 2).",
        ),
        (lambda: OURS.unpad_sequence(tgrad.ones(3, 2), [1]), "unpad_sequence: 2 sequences and 1"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ShapeError) as caught:
        make()
    assert caught.value.what.startswith(message) and caught.value.hint


def test_lengths_that_are_values_of_a_compiled_function():
    def pad(x, lengths):
        return OURS.pad_packed_sequence(OURS.pack_padded_sequence(x, lengths))

    with pytest.raises(UnsupportedError, match="total_length="):
        tgrad.compile(pad)(tgrad.ones(3, 2), tgrad.tensor([3, 2]))
    with pytest.raises(UnsupportedError, match="unpad_sequence with lengths that are values"):
        tgrad.compile(OURS.unpad_sequence)(tgrad.ones(3, 2), tgrad.tensor([3, 2]))
