"""Where tensors lie: addresses and offsets that tell, as PyTorch's do, which tensors are one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tgrad import nn, optim
from tgrad.errors import GradientError, ShapeError, TraceError, UnsupportedError

VIEWS = {
    "rows": lambda x: x[1:3],
    "part": lambda x: x[1:3, 2:],
    "part of a transpose": lambda x: x[1:3, 2:].t()[1:],
    "steps": lambda x: x[::2, 1::3],
    "folded": lambda x: x.view(2, 12)[1],
    "window": lambda x: x.unfold(0, 2, 1)[1],
    "diagonal": lambda x: x.diagonal()[1:],
    "column": lambda x: x.select(1, 3),
    "half": lambda x: x.chunk(2)[1],
    "flat": lambda x: x.flatten()[7:],
    "detached": lambda x: x.detach()[2],
    "data": lambda x: x.data,
    "expanded": lambda x: x[1].expand(3, 6),
    "moved": lambda x: x.movedim(0, 1)[2],
}
COPIES = {
    "reordered": lambda x: x.t().reshape(-1),
    "part of one": lambda x: x.t().reshape(-1)[3:],
    "flipped": lambda x: x.flip(0),
    "clone": lambda x: x[1:].clone(),
    "computed": lambda x: x + 1,
}


def two(device):
    x = np.random.default_rng().standard_normal((4, 6)).astype(np.float32)
    return tgrad.tensor(x, device=device), torch.tensor(x)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("is_base_alive", [True, False])
def test_views(view, is_base_alive, device):
    have, want = two(device)
    if not is_base_alive:
        have, want = have.reshape(24)[:24].view(4, 6), want.reshape(24)[:24].view(4, 6)
    a, b = view(have), view(want)
    assert a.storage_offset() == b.storage_offset()
    assert a.data_ptr() - have.data_ptr() == b.data_ptr() - want.data_ptr()
    assert a.untyped_storage().nbytes() == b.untyped_storage().nbytes() == len(a.untyped_storage())
    assert a.untyped_storage().data_ptr() == have.untyped_storage().data_ptr() == have.data_ptr()
    assert a.untyped_storage().device == have.device
    have.mul_(2)
    assert a.untyped_storage().data_ptr() == have.data_ptr()
    np.testing.assert_array_equal(a.numpy(), view(want * 2))


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_copies(copy, device):
    have, want = two(device)
    a, b = copy(have), copy(want)
    assert a.storage_offset() == b.storage_offset()
    assert a.untyped_storage().data_ptr() != have.untyped_storage().data_ptr()
    np.testing.assert_array_equal(a.numpy(), b)


def test_weights_that_are_one(device):
    first, second = nn.Linear(3, 3, device=device), nn.Linear(3, 3, device=device)
    second.weight = first.weight
    optimizer = optim.SGD([*first.parameters(), second.bias], lr=0.1)
    for _ in range(2):
        pointers = {p.data_ptr() for p in (*first.parameters(), *second.parameters())}
        assert len(pointers) == 3
        assert first.weight.data_ptr() == second.weight.detach().data_ptr()
        second(first(tgrad.ones(2, 3, device=device))).sum().backward()
        optimizer.step()


def test_nothing_has_no_address(device):
    assert tgrad.zeros(0, device=device).data_ptr() == 0


def test_a_plan_cannot_read_addresses():
    with pytest.raises(TraceError, match="the address of a tensor is read"):
        tgrad.compile(lambda x: x * x.data_ptr())(tgrad.ones(2))


def test_state_of_weights_that_are_one():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    state = nn.ModuleList([first, second]).state_dict()
    pointers = [state[f"{i}.weight"].data_ptr() for i in range(2)]
    assert pointers == [first.weight.data_ptr()] * 2
    assert state["0.weight"].storage_offset() == 0


def test_functions_of_python(device):
    have, want = two(device)
    other, also = two(device)
    for x, y in ((have, other), (want, also)):
        x.apply_(lambda v: round(v, 1))
        x.map_(y, lambda a, b: a - 2 * b)
    np.testing.assert_allclose(have.numpy(), want, rtol=1e-6)


def test_membership_and_order(device):
    have, want = two(device)
    x = have[1, 2].item()
    assert x in have and 9.5 not in have
    np.testing.assert_array_equal(reversed(have).numpy(), reversed(want))
    weight = [0.3]
    for name, args in (("prelu", weight), ("hardshrink", []), ("narrow_copy", [1, 2, 3])):
        a = getattr(have, name)(
            *(tgrad.tensor([v], device=device) if v in weight else v for v in args)
        )
        b = getattr(want, name)(*(torch.tensor([v]) if v in weight else v for v in args))
        np.testing.assert_array_equal(a.numpy(), b)


def drawn_sizes(rng):
    return tuple(int(n) for n in rng.integers(0, 5, rng.integers(0, 4)))


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_resize_in_place(device):
    """Steps of sizes beside PyTorch's, whose values beyond what there was are any."""
    rng = np.random.default_rng()
    for _ in range(20 if device == "numpy" else 3):
        values = rng.integers(0, 99, 24)
        ours, theirs = tgrad.tensor(values, device=device), torch.tensor(values)
        other, known = ours.view(4, 6), 24
        for step in range(4):
            sizes = drawn_sizes(rng)
            count = int(np.prod(sizes))
            if count > 24 and other is not None:
                other = None
            assert ours.resize_(sizes) is ours
            theirs.resize_(sizes)
            assert ours.shape == tuple(theirs.shape)
            assert ours.is_contiguous()
            seen = min(known, count)
            have, want = (t.reshape(-1)[:seen].tolist() for t in (ours, theirs))
            assert have == want
            if step == 1 and count:
                ours.add_(1)
                theirs.add_(1)
                known = known if other is not None else min(known, count)
            if count > known:  # what was beyond is known now
                theirs.reshape(-1)[known:] = 0
                known = count


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_resize_to_few_elements_and_back(device):
    """Of one that is alone in its memory, which is larger than it."""
    t = tgrad.tensor(np.arange(24), device=device)
    for sizes in ((), (3, 3, 3), (), (3,)):
        t.resize_(sizes)
    assert t.tolist() == [0, 1, 2]


def test_resize_of_views():
    for make in (
        lambda t: t.arange(24).view(4, 6)[1:3].resize_(3, 2),
        lambda t: t.arange(24).view(4, 6).t().resize_(5, 2),
        lambda t: t.arange(24).view(4, 6)[2, 3:].resize_(9),
        lambda t: t.arange(6).resize_as_(t.zeros(2, 2)),
        lambda t: t.arange(6).resize_(3, 2),
        lambda t: t.arange(6.0).view(2, 3).detach().resize_([6]),
    ):
        np.testing.assert_array_equal(make(tgrad).numpy(), make(torch))
    found = []
    for t in (tgrad, torch):
        x = t.arange(6)
        y = x[1:].resize_(2, 2)
        y[0] = 9
        found.append((x.tolist(), y.tolist()))
    assert found[0] == found[1]
    x = tgrad.arange(6)
    with pytest.raises(UnsupportedError, match=r"resize_ of a view of shape \(2,\) to \(9,\)"):
        x[4:].resize_(9)
    with pytest.raises(GradientError, match="resize_ of a tensor that requires"):
        tgrad.ones(2, requires_grad=True).resize_(1)
    with pytest.raises(ShapeError, match="resize_"):
        x.resize_(-1)
    with pytest.raises(UnsupportedError, match="memory_format=channels_last"):
        x.resize_(1, 2, 3, 1, memory_format=tgrad.channels_last)


def test_resize_in_a_compiled_step():
    x = tgrad.arange(6.0)

    @tgrad.compile
    def step(y):
        z = y + 1
        return z.resize_(2, 2) * 2

    assert step(x).tolist() == [[2, 4], [6, 8]] and x.shape == (6,)


def test_memory_is_not_shared_between_processes():
    x = tgrad.ones(2)
    assert not x.is_shared() and not torch.ones(2).is_shared()
    for share in (x.share_memory_, nn.Linear(2, 2).share_memory):
        with pytest.raises(UnsupportedError, match=r"Exchange values by tgrad\.distributed"):
            share()


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_be_another_tensor():
    for t in (tgrad, torch):
        x, y, z = t.zeros(2), t.ones(3), t.arange(6.0)
        assert x.set_(y) is x and x.is_set_to(y) and not x.is_set_to(y[:2])
        x.add_(1)
        y[0] = 5
        assert x.tolist() == y.tolist() == [5, 2, 2]
        w = t.zeros(1)
        w.set_(z, 1, (2, 2), (2, 1)) if t is tgrad else w.set_(
            z.untyped_storage(), 1, (2, 2), (2, 1)
        )
        assert w.tolist() == [[1, 2], [3, 4]]
        assert w.set_().shape == (0,) and z.tolist() == [0, 1, 2, 3, 4, 5]
        v = t.arange(6).view(2, 3)
        assert v.as_strided_((2, 2), (3, 1)) is v and v.tolist() == [[0, 1], [3, 4]]
        assert z.storage().size() == 6 and z.storage().nbytes() == 24
        assert z[2:].storage().data_ptr() == z.data_ptr()
        with pytest.raises(RuntimeError):
            x.set_(t.arange(3))
    with pytest.raises(UnsupportedError, match="set_ to a UntypedStorage"):
        tgrad.zeros(1).set_(z.untyped_storage())
