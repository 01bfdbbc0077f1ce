"""`nn.DataParallel` on one device."""

from __future__ import annotations

import pytest

import tgrad
from tgrad import nn
from tgrad.errors import UnsupportedError


def test_a_wrapper_of_one_device():
    model = nn.DataParallel(nn.Linear(3, 2), device_ids=[0], output_device="cuda:0")
    x = tgrad.ones(4, 3)
    assert model(x).tolist() == model.module(x).tolist()
    assert list(model.state_dict()) == ["module.weight", "module.bias"]
    assert nn.parallel.data_parallel(model.module, (x,), [0]).shape == (4, 2)
    assert isinstance(nn.parallel.DataParallel(model), nn.DataParallel)


def test_several_devices_are_refused():
    with pytest.raises(UnsupportedError, match="on 2 GPUs: one process drives one") as caught:
        nn.DataParallel(nn.Linear(1, 1), device_ids=[0, 1])
    assert "DistributedDataParallel" in caught.value.hint
