"""Files: every dtype, nested objects, other readers and writers."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch

import tgrad
from tgrad import nn, optim
from tgrad.errors import UnsupportedError

DTYPES = [
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16",
    "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2",
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype, tmp_path):
    x = tgrad.tensor([[0, 1, 3]], dtype=getattr(tgrad, dtype), device="numpy")
    tgrad.save({"x": x, "scalar": x[0, 2].clone()}, tmp_path / "file")
    found = tgrad.load(tmp_path / "file", map_location="numpy")
    assert found["x"].dtype is x.dtype and found["x"].tolist() == x.tolist()
    assert found["scalar"].shape == () and found["scalar"].item() == x[0, 2].item()


def test_other_readers_read_it(tmp_path):
    layer = nn.Linear(3, 2, device="numpy")
    tgrad.save(layer.state_dict(), tmp_path / "file")
    found = safetensors.numpy.load_file(tmp_path / "file")
    np.testing.assert_array_equal(found["weight"], layer.weight.numpy())
    with safetensors.safe_open(tmp_path / "file", "numpy") as file:
        assert file.metadata() is None


def test_reads_what_others_wrote(tmp_path):
    safetensors.numpy.save_file({"a.b": np.arange(3)}, tmp_path / "file", {"format": "pt"})
    assert tgrad.load(tmp_path / "file")["a.b"].tolist() == [0, 1, 2]


def test_nested_objects(tmp_path):
    obj = {
        "epoch": 3,
        "rate": 0.5,
        "note": None,
        7: [tgrad.ones(2), (1, "two", {"x": tgrad.zeros(1)})],
        "infinite": float("inf"),
        "a.b": tgrad.ones(1),
        "a": {"b": tgrad.zeros(1)},
    }
    tgrad.save(obj, tmp_path / "file")
    found = tgrad.load(tmp_path / "file")
    assert list(found) == list(obj)
    assert (found["epoch"], found["rate"], found["note"]) == (3, 0.5, None)
    assert found[7][0].tolist() == [1.0, 1.0] and found[7][1][:2] == (1, "two")
    assert found[7][1][2]["x"].tolist() == [0.0] and found["infinite"] == float("inf")
    assert found["a.b"].tolist() == [1.0] and found["a"]["b"].tolist() == [0.0]


def test_model_and_optimizer(tmp_path, device):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).to(device)
    optimizer = optim.AdamW(net.parameters())
    net(tgrad.rand(2, 1, 5, 5, device=device)).sum().backward()
    optimizer.step()
    tgrad.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "file")
    found = tgrad.load(tmp_path / "file", map_location=device)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(found["net"][name].numpy(), value.numpy())
    groups = optimizer.state_dict()["param_groups"]
    assert found["optimizer"]["param_groups"] == groups
    assert found["optimizer"]["state"][0]["step"].item() == 1.0


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    tgrad.save({"x": tgrad.ones(1)}, path)

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(safetensors.numpy, "save_file", fail)
    with pytest.raises(tgrad.errors.DataError, match="disk full"):
        tgrad.save({"x": tgrad.zeros(1)}, path)
    assert tgrad.load(path)["x"].tolist() == [1.0]
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_structure_is_json(tmp_path):
    tgrad.save({"n": 1, "x": tgrad.ones(1)}, tmp_path / "file")
    with safetensors.safe_open(tmp_path / "file", "numpy") as file:
        assert "dict" in json.loads(file.metadata()["tgrad"])


def test_file_objects(tmp_path):
    """In memory and on disk; what follows the other in one file is not lost."""
    memory = io.BytesIO()
    tgrad.save({"n": 1, "x": tgrad.arange(3)}, memory)
    memory.seek(0)
    found = tgrad.load(memory, map_location="cpu", weights_only=True)
    assert found["n"] == 1 and found["x"].tolist() == [0, 1, 2]
    with open(tmp_path / "file", "wb") as file:
        file.write(b"before")
        tgrad.save({"y": tgrad.ones(2, dtype=tgrad.float8_e5m2)}, file)
    with open(tmp_path / "file", "rb") as file:
        assert file.read(6) == b"before"
        assert tgrad.load(file)["y"].float().tolist() == [1.0, 1.0]
    with pytest.raises(tgrad.errors.DataError, match=r"The file object cannot be read"):
        tgrad.load(io.BytesIO(b"no tensors"))


class Net(nn.Module):
    """Weights that are one, buffers, complex numbers, and a layer that has no size yet."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.norm, self.late = nn.BatchNorm1d(3), nn.LazyLinear(2)
        self.register_buffer("phase", tgrad.tensor([1 + 2j]))
        self.note = {"made": (1, 2)}

    def forward(self, x):
        return self.norm(self.second(self.first(x).relu()))


def saved(obj, **options):
    file = io.BytesIO()
    tgrad.save(obj, file)
    file.seek(0)
    return tgrad.load(file, **options)


def test_whole_models(device):
    model = Net().to(device)
    optimizer = optim.Adam([*model.first.parameters()], lr=0.01)
    x = tgrad.tensor(np.random.default_rng().standard_normal((4, 3)), dtype=tgrad.float32).to(
        device
    )
    model(x).square().sum().backward()
    optimizer.step()
    found = saved(
        {"model": model.eval(), "optimizer": optimizer}, weights_only=False, map_location=device
    )
    again = found["model"]
    np.testing.assert_array_equal(again(x).detach().numpy(), model(x).detach().numpy())
    assert again.second.weight is again.first.weight and again.note == {"made": (1, 2)}
    assert isinstance(again.late, nn.LazyLinear) and again.phase.tolist() == [1 + 2j]
    assert not again.training and again.first.weight.device == model.first.weight.device
    assert found["optimizer"].param_groups[0]["params"][0] is again.first.weight
    moved = saved(model, weights_only=False, map_location="numpy")
    assert {p.device.type for p in moved.first.parameters()} == {"numpy"}


@pytest.mark.parametrize("obj", [{1, 2}, b"bytes", {(1, 2): 3}, {"dtype": tgrad.float16}])
def test_objects_that_run_no_code(obj):
    for weights_only in (None, True, False):
        found = saved(obj, weights_only=weights_only)
        assert found == obj and type(found) is type(obj)


@pytest.mark.parametrize("obj", [np.float32(2.5), {"n": np.int64(3)}])
def test_objects_that_are_no_plain_data(obj):
    found = saved(obj, weights_only=False)
    assert found == obj and type(found) is type(obj)
    with pytest.raises(UnsupportedError, match="which may run code as it is loaded") as caught:
        saved(obj)
    assert caught.value.hint == (
        "Give weights_only=False if you trust the file, or add_safe_globals for "
        "numpy._core.multiarray.scalar."
    )


def test_objects_that_cannot_be_pickled():
    with pytest.raises(UnsupportedError, match="save of a function") as caught:
        saved(lambda x: x)
    assert caught.value.hint.startswith("Save its state_dict()")


def test_what_was_computed_comes_back_as_a_leaf():
    loss = (tgrad.ones(2, requires_grad=True) * 2).sum()
    file = io.BytesIO()
    tgrad.save({"epoch": 3, "loss": loss}, file)
    file.seek(0)
    found = tgrad.load(file)["loss"]
    assert found.item() == 4 and found.requires_grad and found.is_leaf


def test_the_state_of_a_schedule_with_milestones():
    schedule = optim.lr_scheduler.MultiStepLR(optim.SGD([tgrad.ones(1)], 0.1), [1, 3, 3])
    file = io.BytesIO()
    tgrad.save(schedule.state_dict(), file)
    file.seek(0)
    schedule.load_state_dict(tgrad.load(file))
    assert sorted(schedule.milestones.elements()) == [1, 3, 3]
    schedule.load_state_dict({"milestones": [2]})  # as earlier versions kept them
    assert schedule.milestones == {2: 1}


def test_keys_that_are_numbers():
    found = saved({1: tgrad.ones(2), None: tgrad.zeros(1)})
    assert list(found) == [1, None] and found[1].tolist() == [1.0, 1.0]


def test_leaves_and_parameters():
    model = nn.Linear(2, 1)
    found = saved([*model.parameters(), tgrad.ones(2, requires_grad=True), tgrad.ones(2)])
    assert [type(t) for t in found] == [nn.Parameter, nn.Parameter, tgrad.Tensor, tgrad.Tensor]
    assert [t.requires_grad for t in found] == [True, True, True, False]


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_pytorch(zipped, tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    obj = {
        "model": model.state_dict(),
        "epoch": 3,
        "half": [torch.ones(2, dtype=torch.bfloat16)],
        "p": model.weight,
    }
    torch.save(obj, tmp_path / "file.pt", _use_new_zipfile_serialization=zipped)
    found = tgrad.load(tmp_path / "file.pt")
    layer = nn.Linear(3, 2)
    layer.load_state_dict(found["model"])
    np.testing.assert_array_equal(layer.weight.detach().numpy(), model.weight.detach())
    assert found["epoch"] == 3 and found["half"][0].dtype is tgrad.bfloat16
    assert isinstance(found["p"], nn.Parameter)
    torch.save(model, tmp_path / "whole.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsupportedError, match=r"whole\.pt holds objects that may run code"):
        tgrad.load(tmp_path / "whole.pt")


def test_places_of_a_file(tmp_path):
    path = tmp_path / "x"
    tgrad.save({"x": tgrad.ones(2), "shape": tgrad.ones(2, 3).shape, "pair": (1, 2)}, path)
    for where in (lambda storage, place: storage, lambda storage, place: None, {"cuda:0": "cpu"}):
        assert tgrad.load(path, where)["x"].device.type == "cpu"
    for where in ({"cpu": "numpy"}, tgrad.device("numpy")):
        assert tgrad.load(path, map_location=where)["x"].device.type == "numpy"
    found = tgrad.load(path, lambda storage, place: storage.cpu())
    assert type(found["shape"]) is tgrad.Size and type(found["pair"]) is tuple


class Settings:
    def __init__(self, rate):
        self.rate = rate


def test_what_files_may_name(tmp_path):
    path = tmp_path / "x"
    tgrad.save({"settings": Settings(tgrad.ones(2)), "seen": {1, 2}}, path)
    with pytest.raises(UnsupportedError, match="may run code") as caught:
        tgrad.load(path)
    assert "add_safe_globals for tests.front.test_serialization.Settings" in caught.value.hint
    serialization = tgrad.serialization
    with serialization.safe_globals([Settings]):
        found = tgrad.load(path)
        assert found["settings"].rate.tolist() == [1.0, 1.0] and found["seen"] == {1, 2}
    assert not serialization.get_safe_globals()
    serialization.add_safe_globals([Settings])
    assert serialization.get_safe_globals() == [Settings]
    torch.save(Settings(torch.ones(1)), tmp_path / "theirs")
    assert isinstance(tgrad.load(tmp_path / "theirs"), Settings)
    serialization.clear_safe_globals()
    with pytest.raises(UnsupportedError, match="may run code"):
        tgrad.load(path)
