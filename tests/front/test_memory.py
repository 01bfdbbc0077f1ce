"""Where tensors lie: addresses and offsets that tell, as PyTorch's do, which tensors are one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tgrad import nn, optim
from tgrad.errors import TraceError

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
