"""Every module against PyTorch's: the same weights, outputs, gradients, buffers, keys."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import classes, normal, share
from tgrad import nn
from tgrad.errors import ShapeError, TgradError

CASES = {
    "Linear": (lambda nn: nn.Linear(5, 3), (4, 5)),
    "Linear_no_bias": (lambda nn: nn.Linear(5, 3, bias=False), (2, 4, 5)),
    "Conv1d": (lambda nn: nn.Conv1d(4, 6, 3, 2, padding=1, groups=2), (2, 4, 9)),
    "Conv2d": (lambda nn: nn.Conv2d(3, 4, (3, 2), padding=(1, 0), dilation=(1, 2)), (2, 3, 7, 8)),
    "Conv2d_same": (lambda nn: nn.Conv2d(3, 4, 3, padding="same", bias=False), (2, 3, 7, 8)),
    "Conv3d": (lambda nn: nn.Conv3d(2, 3, 2), (1, 2, 3, 4, 3)),
    "BatchNorm1d": (lambda nn: nn.BatchNorm1d(5), (8, 5)),
    "BatchNorm1d_length": (lambda nn: nn.BatchNorm1d(5, momentum=None), (4, 5, 3)),
    "BatchNorm2d": (lambda nn: nn.BatchNorm2d(3, eps=1e-3, momentum=0.3), (4, 3, 5, 2)),
    "BatchNorm2d_plain": (lambda nn: nn.BatchNorm2d(3, affine=False), (4, 3, 5, 2)),
    "BatchNorm2d_no_statistics": (
        lambda nn: nn.BatchNorm2d(3, track_running_stats=False), (4, 3, 5, 2)
    ),
    "BatchNorm3d": (lambda nn: nn.BatchNorm3d(3), (2, 3, 2, 3, 2)),
    "LayerNorm": (lambda nn: nn.LayerNorm((3, 5)), (4, 3, 5)),
    "LayerNorm_no_bias": (lambda nn: nn.LayerNorm(5, bias=False), (4, 5)),
    "RMSNorm": (lambda nn: nn.RMSNorm(5, eps=1e-5), (4, 5)),
    "GroupNorm": (lambda nn: nn.GroupNorm(2, 6), (3, 6, 4)),
    "ReLU": (lambda nn: nn.ReLU(), (4, 5)),
    "ReLU6": (lambda nn: nn.ReLU6(), (4, 5)),
    "GELU": (lambda nn: nn.GELU("tanh"), (4, 5)),
    "SiLU": (lambda nn: nn.SiLU(), (4, 5)),
    "Sigmoid": (lambda nn: nn.Sigmoid(), (4, 5)),
    "Tanh": (lambda nn: nn.Tanh(), (4, 5)),
    "LeakyReLU": (lambda nn: nn.LeakyReLU(0.2), (4, 5)),
    "ELU": (lambda nn: nn.ELU(1.5), (4, 5)),
    "Softplus": (lambda nn: nn.Softplus(), (4, 5)),
    "Softmax": (lambda nn: nn.Softmax(1), (4, 5)),
    "LogSoftmax": (lambda nn: nn.LogSoftmax(-1), (4, 5)),
    "Flatten": (lambda nn: nn.Flatten(), (4, 5, 2)),
    "Unflatten": (lambda nn: nn.Unflatten(1, (2, 3)), (4, 6)),
    "Identity": (lambda nn: nn.Identity(3, key=4), (4, 5)),
    "MaxPool1d": (lambda nn: nn.MaxPool1d(3, 2, 1), (2, 3, 9)),
    "MaxPool2d": (lambda nn: nn.MaxPool2d(3, stride=2, padding=1), (2, 3, 9, 8)),
    "AvgPool1d": (lambda nn: nn.AvgPool1d(2), (2, 3, 8)),
    "AvgPool2d": (lambda nn: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 3, 9, 8)),
    "AdaptiveAvgPool1d": (lambda nn: nn.AdaptiveAvgPool1d(2), (2, 3, 8)),
    "AdaptiveAvgPool2d": (lambda nn: nn.AdaptiveAvgPool2d((1, 2)), (2, 3, 9, 8)),
    "Dropout_evaluated": (lambda nn: nn.Dropout(0.4).eval(), (4, 5)),
    "Sequential": (
        lambda nn: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(36, 2),
        ),
        (3, 1, 8, 8),
    ),
}  # fmt: skip


def pair(name, device):
    """A module of tgrad and PyTorch's with the same weights."""
    make, shape = CASES[name]
    theirs = make(torch.nn)
    with torch.no_grad():
        for i, p in enumerate(theirs.parameters()):
            p.copy_(torch.tensor(normal(50 + i, *p.shape)) * 0.3 + 0.2)
    ours = make(nn).to(device)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs, shape


@pytest.mark.parametrize("name", CASES)
def test_module(name, device):
    ours, theirs, shape = pair(name, device)
    for step in range(2):
        x = normal(step, *shape)
        mine = tgrad.tensor(x, device=device, requires_grad=True)
        other = torch.tensor(x, requires_grad=True)
        y, z = ours(mine), theirs(other)
        (y * y).sum().backward()
        (z * z).sum().backward()
        near(y, z)
        near(mine.grad, other.grad)
    for (key, p), (other_key, q) in zip(ours.named_parameters(), theirs.named_parameters()):
        assert key == other_key
        near(p.grad, q.grad)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        near(ours.state_dict()[key], value)
    near(ours.eval()(mine), theirs.eval()(other))


def near(ours, theirs):
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5 * (1 + abs(theirs).max()))


@pytest.mark.parametrize("name", [n for n in CASES if n != "Dropout_evaluated"])
def test_repr_is_that_of_pytorch(name):
    make, _ = CASES[name]
    assert repr(make(nn)) == repr(make(torch.nn))


LOSSES = {
    "CrossEntropyLoss": (lambda nn, w: nn.CrossEntropyLoss(w, label_smoothing=0.1), "classes"),
    "NLLLoss": (lambda nn, w: nn.NLLLoss(w, reduction="sum"), "classes"),
    "MSELoss": (lambda nn, w: nn.MSELoss(), "values"),
    "L1Loss": (lambda nn, w: nn.L1Loss(reduction="none"), "values"),
    "SmoothL1Loss": (lambda nn, w: nn.SmoothL1Loss(beta=0.5), "values"),
    "HuberLoss": (lambda nn, w: nn.HuberLoss(delta=0.5), "values"),
    "KLDivLoss": (lambda nn, w: nn.KLDivLoss(reduction="batchmean"), "shares"),
    "BCELoss": (lambda nn, w: nn.BCELoss(), "shares of shares"),
    "BCEWithLogitsLoss": (lambda nn, w: nn.BCEWithLogitsLoss(pos_weight=w), "shares"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name, device):
    make, kind = LOSSES[name]
    weight = share(1, 5)
    x = share(2, 6, 5) if kind == "shares of shares" else normal(2, 6, 5)
    y = {
        "classes": classes(3, 5, 6),
        "values": normal(4, 6, 5),
        "shares": share(5, 6, 5),
        "shares of shares": share(6, 6, 5),
    }[kind]
    mine = tgrad.tensor(x, device=device, requires_grad=True)
    other = torch.tensor(x, requires_grad=True)
    loss = make(nn, tgrad.tensor(weight, device=device))(mine, tgrad.tensor(y, device=device))
    expected = make(torch.nn, torch.tensor(weight))(other, torch.tensor(y))
    loss.sum().backward()
    expected.sum().backward()
    near(loss, expected)
    near(mine.grad, other.grad)


@pytest.mark.parametrize("kind", [2.0, 1.0, math.inf])
@pytest.mark.parametrize("name", ["Embedding", "EmbeddingBag"])
def test_rows_are_scaled_to_a_norm_in_place(name, kind, device):
    """Those that are named, and whose norm is larger; a step of training follows."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(7, 4, max_norm=1.0, norm_type=kind)
    theirs.weight.data[5] = 0.0
    mine = getattr(nn, name)(7, 4, max_norm=1.0, norm_type=kind).to(device)
    mine.load_state_dict(theirs.state_dict())
    rows = np.array([[1, 3, 5], [3, 0, 1]])
    for _ in range(2):
        x, y = theirs(torch.tensor(rows)), mine(tgrad.tensor(rows, device=device))
        np.testing.assert_allclose(y.numpy(), x.detach(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            mine.weight.numpy(), theirs.weight.detach(), rtol=1e-5, atol=1e-6
        )
        x.square().sum().backward()
        y.square().sum().backward()
        np.testing.assert_allclose(
            mine.weight.grad.numpy(), theirs.weight.grad, rtol=1e-5, atol=1e-6
        )
        with torch.no_grad(), tgrad.no_grad():
            theirs.weight += theirs.weight.grad
            mine.weight += mine.weight.grad
        theirs.weight.grad = mine.weight.grad = None


def test_embedding(device):
    theirs = torch.nn.Embedding(7, 3, padding_idx=2)
    ours = nn.Embedding(7, 3, padding_idx=2, device=device)
    assert not ours.weight[2].numpy().any()
    ours.load_state_dict(theirs.state_dict())
    i = classes(1, 7, 4, 5)
    y, z = ours(tgrad.tensor(i, device=device)), theirs(torch.tensor(i))
    (y * y).sum().backward()
    (z * z).sum().backward()
    near(y, z)
    near(ours.weight.grad, theirs.weight.grad)


INITIAL = {
    "Linear": (lambda nn: nn.Linear(300, 200), 1 / math.sqrt(300)),
    "Conv2d": (lambda nn: nn.Conv2d(16, 100, 5), 1 / math.sqrt(400)),
}


@pytest.mark.parametrize("name", INITIAL)
def test_initial_distribution(name, device):
    make, bound = INITIAL[name]
    tgrad.manual_seed(0)
    for p in make(nn).to(device).parameters():
        values = p.numpy()
        assert abs(values).max() <= bound
        assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert abs(values.mean()) < 0.1 * bound


def test_init_functions(device):
    tgrad.manual_seed(0)
    w = tgrad.zeros(200, 300, device=device)
    init = nn.init
    stds = {
        init.xavier_uniform_: math.sqrt(2 / 500),
        init.xavier_normal_: math.sqrt(2 / 500),
        init.kaiming_normal_: math.sqrt(2 / 300),
        init.kaiming_uniform_: math.sqrt(2 / 300),
        init.normal_: 1.0,
        init.uniform_: 1 / math.sqrt(12),
        init.trunc_normal_: 0.8796,
    }
    for fill, std in stds.items():
        assert fill(w) is w
        assert w.numpy().std() == pytest.approx(std, rel=0.02), fill
    assert abs(init.trunc_normal_(w, std=5.0).numpy()).max() <= 2
    np.testing.assert_array_equal(init.eye_(w).numpy(), np.eye(200, 300))
    assert (init.constant_(w, 2.5).numpy() == 2.5).all()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 2)])
        self.scale = nn.Parameter(tgrad.ones(2))
        self.heads = nn.ModuleDict({"a": nn.Linear(2, 1)})
        self.register_buffer("shift", tgrad.tensor([1.0, 2.0]))
        self.register_buffer("scratch", tgrad.zeros(1), persistent=False)

    def forward(self, x):
        for layer in self.body:
            x = layer(x).relu()
        return self.heads["a"](x * self.scale + self.shift)


def test_module_api():
    net = Net().to("numpy")
    names = [name for name, _ in net.named_parameters()]
    assert names == [
        "scale", "body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias", "heads.a.weight",
        "heads.a.bias",
    ]  # fmt: skip
    assert [name for name, _ in net.named_buffers()] == ["shift", "scratch"]
    assert "scratch" not in net.state_dict() and "shift" in net.state_dict()
    assert len(list(net.modules())) == 6
    assert [name for name, _ in net.named_children()] == ["body", "heads"]
    assert net.get_submodule("body.1") is net.body[1]
    assert not net.eval().body[0].training and net.train().body[0].training
    assert net(tgrad.ones(3, 4, device="numpy")).shape == (3, 1)
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    seen = []
    net.apply(lambda module: seen.append(type(module).__name__))
    assert seen[-1] == "Net" and len(seen) == 6
    net.double()
    assert {str(t.dtype) for t in net.state_dict().values()} == {"tgrad.float64"}
    del net.scale
    assert "scale" not in net.state_dict()


def test_shared_parameters_count_once():
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, layer)
    assert len(list(net.parameters())) == 2
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_load_state_dict_names_what_differs():
    layer = nn.Linear(2, 2)
    with pytest.raises(ShapeError, match=r"missing keys \['bias'\], unexpected keys \['x'\]"):
        layer.load_state_dict({"weight": np.zeros((2, 2)), "x": np.zeros(1)})
    keys = layer.load_state_dict({"weight": np.zeros((2, 2)), "x": np.zeros(1)}, strict=False)
    assert keys == (["bias"], ["x"])
    with pytest.raises(ShapeError, match=r"'weight' has shape \(2, 2\), the value \(3, 2\)"):
        layer.load_state_dict({"weight": np.zeros((3, 2))}, strict=False)


def test_deepcopy_is_a_model_of_its_own(device):
    layer = nn.Linear(3, 2, device=device)
    twin = copy.deepcopy(layer)
    with tgrad.no_grad():
        layer.weight.zero_()
    assert twin.weight.numpy().any() and twin.weight.requires_grad
    assert isinstance(twin.weight, nn.Parameter)
    x = tgrad.ones(1, 3, device=device)
    twin(x).sum().backward()
    assert layer.weight.grad is None and twin.weight.grad is not None


def test_moving_a_model_that_was_not_computed_yet():
    tgrad.manual_seed(5)
    here = nn.Linear(4, 3, device="numpy").weight.numpy()
    tgrad.manual_seed(5)
    there = nn.Linear(4, 3, device="cpu").to("numpy").weight
    assert str(there.device) == "numpy"
    np.testing.assert_array_equal(there.numpy(), here)


def test_half_model_keeps_pytorch_dtypes(device):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).to(device).half()
    kinds = [t.dtype.name for t in net.state_dict().values()]
    assert kinds == ["float16"] * 6 + ["int64"]
    assert net(tgrad.ones(2, 1, 5, 5, device=device).half()).dtype is tgrad.float16


def test_forward_before_init_says_so():
    class Wrong(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    with pytest.raises(TgradError, match=r"Call super\(\).__init__\(\) first"):
        Wrong()


def test_forward_hooks_see_and_change_arguments_and_results() -> None:
    seen = []
    for library, make in ((torch, torch.nn.Linear), (tgrad, nn.Linear)):
        layer, calls = make(2, 2), []
        first = layer.register_forward_pre_hook(lambda m, args, calls=calls: calls.append("pre"))
        layer.register_forward_pre_hook(lambda m, args: args[0] * 0, prepend=True)
        layer.register_forward_pre_hook(
            lambda m, args, kwargs, calls=calls: calls.append(sorted(kwargs)), with_kwargs=True
        )
        layer.register_forward_hook(lambda m, args, y, calls=calls: calls.append(tuple(y.shape)))
        layer.register_forward_hook(lambda m, args, y: y - y + 3)
        layer.register_forward_hook(
            lambda m, args, kwargs, y, calls=calls: calls.append(y.sum().item()), with_kwargs=True
        )
        assert layer(library.ones(1, 2)).tolist() == [[3.0, 3.0]]
        first.remove()
        with layer.register_forward_hook(lambda m, args, y: y + 1, prepend=True):
            layer(library.ones(1, 2))
        seen.append(calls)
    assert seen[0] == seen[1]


def test_forward_hooks_that_are_always_called() -> None:
    seen: list[Any] = []
    for library in (tgrad, torch):
        layer, found = library.nn.Identity(), []

        def fails(*args: Any) -> None:
            raise KeyError("b")

        layer.register_forward_hook(
            lambda m, args, kwargs, y, found=found: found.append((y is None, kwargs)),
            always_call=True,
            with_kwargs=True,
        )
        layer.register_forward_hook(lambda m, args, y, found=found: found.append("plain"))
        layer(library.ones(1))
        with layer.register_forward_pre_hook(fails), pytest.raises(KeyError):
            layer(library.ones(1))
        layer.register_forward_hook(fails, always_call=True)
        layer.register_forward_hook(
            lambda m, args, y, found=found: found.append("last"), always_call=True
        )
        with pytest.raises(KeyError):
            layer(library.ones(1))
        with (
            layer.register_forward_pre_hook(lambda *args: 1 / 0),
            pytest.raises(ZeroDivisionError),
            pytest.warns(UserWarning, match="always_call=True"),
        ):
            layer(library.ones(1))
        seen.append(found)
    assert seen[0] == seen[1]
    assert seen[0][:3] == [(False, {}), "plain", (True, {})]


def test_hooks_of_a_compiled_module_are_not_stale() -> None:
    layer = nn.Identity()
    compiled = tgrad.compile(layer)
    assert compiled(tgrad.ones(1)).item() == 1
    handle = layer.register_forward_hook(lambda m, args, y: y + 1)
    assert compiled(tgrad.ones(1)).item() == 2
    handle.remove()
    assert compiled(tgrad.ones(1)).item() == 1


def test_modules_and_tensors_pickle() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to(dtype=tgrad.bfloat16)
    model[0].weight.requires_grad_(False)
    twin = pickle.loads(pickle.dumps(model))
    for (name, ours), (key, theirs) in zip(
        model.named_parameters(), twin.named_parameters(), strict=True
    ):
        assert name == key
        assert type(theirs) is nn.Parameter
        assert ours.requires_grad == theirs.requires_grad
    for ours, theirs in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        assert ours.dtype is theirs.dtype
        assert ours.tolist() == theirs.tolist()
    computed = pickle.loads(pickle.dumps(model[1].weight * 2))  # a leaf, as in PyTorch
    assert type(computed) is tgrad.Tensor and computed.is_leaf and computed.requires_grad


@pytest.mark.parametrize(
    "make",
    [
        lambda nn: nn.LayerNorm(4),
        lambda nn: nn.RMSNorm(4),
        lambda nn: nn.GroupNorm(2, 4),
        lambda nn: nn.BatchNorm1d(4),
        lambda nn: nn.PReLU(3, init=0.5),
    ],
)
def test_parameters_are_what_they_were_at_first(make) -> None:
    ours, theirs = make(nn), make(torch.nn)
    for layer, no_grad in ((ours, tgrad.no_grad), (theirs, torch.no_grad)):
        with no_grad():
            for t in (*layer.parameters(), *layer.buffers()):
                t.fill_(7)
        layer.reset_parameters()
    for name, value in theirs.state_dict().items():
        assert ours.state_dict()[name].tolist() == value.tolist()


def test_rows_of_bags_are_drawn_again() -> None:
    bags = nn.EmbeddingBag(3, 2, padding_idx=1)
    first = bags.weight.tolist()
    bags.reset_parameters()
    assert bags.weight.tolist() != first and bags.weight[1].tolist() == [0.0, 0.0]


def test_inputs_of_losses_and_activations_by_name() -> None:
    x, y = normal(1, 3, 4), np.array([0, 3, 1])
    ours, theirs = tgrad.tensor(x), torch.tensor(x)
    have = nn.CrossEntropyLoss()(input=ours, target=tgrad.tensor(y))
    want = torch.nn.CrossEntropyLoss()(input=theirs, target=torch.tensor(y))
    np.testing.assert_allclose(have.item(), want.item(), rtol=1e-6)
    assert nn.ReLU()(input=ours).tolist() == torch.nn.ReLU()(input=theirs).tolist()


def test_dictionaries_of_parameters() -> None:
    seen = []
    for library in (tgrad, torch):
        d = library.nn.ParameterDict({"a": library.nn.Parameter(library.ones(1))})
        other = d.copy()
        found = [d.get("a") is d["a"], d.get("b"), d.setdefault("c", library.zeros(2)).tolist()]
        found += [d.pop("a").tolist(), list(d.keys()), list(other.keys())]
        d.clear()
        seen.append([*found, len(d)])
    assert seen[0] == seen[1]


def test_dtypes_of_modules_and_older_names_of_dtypes() -> None:
    layer = nn.Linear(2, 2).type(tgrad.float64)
    assert layer.weight.dtype is tgrad.float64
    assert layer.weight.type() == "tgrad.DoubleTensor"
    assert layer.weight.type(tgrad.LongTensor).dtype is tgrad.int64


def test_what_is_replaced_keeps_its_place() -> None:
    seen = []
    for library in (nn, torch.nn):
        net = library.Sequential(library.Linear(2, 2), library.ReLU(), library.Linear(2, 1))
        net[0] = library.Linear(3, 2)
        net[0].weight = library.Parameter(net[0].weight * 2)
        seen.append(([type(m).__name__ for m in net], list(net.state_dict())))
    assert seen[0] == seen[1]
