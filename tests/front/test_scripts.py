"""What training scripts say beside the loop: older constructors, printing, folded norms."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal
from tgrad import nn
from tgrad.errors import ShapeError, UnsupportedError


@pytest.mark.parametrize(
    ("make", "shape", "affine"),
    [
        (lambda nn: nn.Conv2d(2, 3, 3), (2, 2, 5, 4), True),
        (lambda nn: nn.ConvTranspose2d(2, 3, 3, bias=False), (2, 2, 3, 4), False),
        (lambda nn: nn.Linear(5, 3), (4, 5), True),
    ],
    ids=["convolution", "transposed", "linear"],
)
def test_folded_norms(make, shape, affine, device):
    fused = []
    for library, tensor in ((nn, tgrad.tensor), (torch.nn, torch.tensor)):
        layer = make(library)
        kind = library.BatchNorm2d if len(shape) == 4 else library.BatchNorm1d
        norm = kind(3, affine=affine)
        pair = library.Sequential(layer, norm)
        count = iter(range(99))
        state = {
            name: value if name.endswith("tracked") else tensor(
                np.abs(normal(next(count), *value.shape))
            )
            for name, value in pair.state_dict().items()
        }  # fmt: skip
        pair.load_state_dict(state)
        pair.eval()
        if library is nn:
            pair.to(device)
        if isinstance(layer, library.Linear):
            fused.append(library.utils.fuse_linear_bn_eval(layer, norm))
        else:
            transposed = isinstance(layer, library.ConvTranspose2d)
            fused.append(library.utils.fuse_conv_bn_eval(layer, norm, transpose=transposed))
        if library is nn:
            x = tgrad.tensor(normal(50, *shape), device=device)
            wanted = pair(x)
            np.testing.assert_allclose(fused[0](x).numpy(), wanted.numpy(), rtol=1e-4, atol=1e-4)
    for name, p in fused[1].state_dict().items():
        np.testing.assert_allclose(fused[0].state_dict()[name].numpy(), p, rtol=1e-4, atol=1e-5)


def test_a_norm_in_training_is_not_folded():
    with pytest.raises(ShapeError, match="in training") as caught:
        nn.utils.fuse_conv_bn_eval(nn.Conv1d(1, 1, 1), nn.BatchNorm1d(1))
    assert caught.value.hint == "Call .eval() first."


@pytest.mark.parametrize("name", ["Float", "Double", "Half", "Long", "Int", "Byte", "Bool", "Char"])
def test_older_constructors(name):
    have, want = (getattr(t, f"{name}Tensor") for t in (tgrad, torch))
    assert f"torch.{have([1, 0]).dtype.name}" == str(want([1, 0]).dtype)
    assert have([[1, 0]]).tolist() == want([[1, 0]]).tolist()
    assert have(2, 3).shape == tuple(want(2, 3).shape) and have().shape == tuple(want().shape)


def test_numbers_in_text():
    for values in (2.5, 3, True, [1.0, 2.0]):
        assert f"{tgrad.tensor(values)}" == f"{torch.tensor(values)}"
    assert f"{tgrad.tensor(2.5):.2f}" == "2.50"


def test_facts_and_places():
    x = tgrad.ones(2)
    assert x.pin_memory() is x and not x.is_pinned()
    assert not (x.is_sparse or x.is_quantized or x.is_meta)
    assert isinstance(x.shape, tgrad.Size) and tgrad.OutOfMemoryError is not None
    assert tgrad.GradScaler is tgrad.amp.GradScaler


def test_random_numbers_go_on_after_a_fork():
    tgrad.manual_seed(3)
    wanted = tgrad.rand(4).tolist()
    tgrad.manual_seed(3)
    with tgrad.random.fork_rng():
        tgrad.manual_seed(9)
        tgrad.rand(5).tolist()
    assert tgrad.rand(4).tolist() == wanted
    with tgrad.random.fork_rng(enabled=False):
        tgrad.manual_seed(9)
    assert tgrad.initial_seed() == 9


def test_parts_of_modules_by_dotted_names():
    model = nn.Sequential(nn.Sequential(nn.BatchNorm1d(2)))
    assert model.get_buffer("0.0.running_mean") is model[0][0].running_mean
    with pytest.raises(AttributeError, match=r"'0\.0\.weight' is not a buffer"):
        model.get_buffer("0.0.weight")
    model.set_submodule("0.0", nn.Identity())
    assert isinstance(model[0][0], nn.Identity)


def test_containers_change_like_pytorch_s():
    for library in (nn, torch.nn):
        layers = library.ModuleList([library.Identity()])
        layers.insert(0, library.ReLU())
        layers += [library.Tanh(), library.GELU()]
        layers.pop(1)
        assert [type(m).__name__ for m in layers] == ["ReLU", "Tanh", "GELU"]
        both = library.Sequential(library.ReLU()) + library.Sequential(library.Tanh())
        assert list(both._modules) == ["0", "1"]
        named = library.ModuleDict({"a": library.ReLU(), "b": library.Tanh()})
        named.update({"c": library.GELU()})
        assert type(named.pop("a")).__name__ == "ReLU" and list(named) == ["b", "c"]
        del named["b"]
        named.clear()
        assert not len(named)


@pytest.mark.parametrize(
    "call",
    [
        lambda t, x: x.sum(axis=-1),
        lambda t, x: x.mean(axis=(0, 2), keepdims=True),
        lambda t, x: x.max(axis=1, keepdims=True).values,
        lambda t, x: t.std(x, axis=0),
        lambda t, x: t.argmax(x, axis=2),
        lambda t, x: t.cat([x, x + 1], axis=1),
        lambda t, x: t.stack((x, x), axis=-1),
        lambda t, x: x.unsqueeze(axis=1).squeeze(axis=1).cumsum(axis=0),
        lambda t, x: t.softmax(x, axis=0),
        lambda t, x: t.logsumexp(x, axis=1, keepdims=True),
        lambda t, x: t.diff(x, axis=1),
        lambda t, x: x.diff(axis=0),
        lambda t, x: t.trapezoid(x, axis=1),
        lambda t, x: t.topk(x, 2, axis=1)[0],
        lambda t, x: t.sort(x, axis=0, descending=True).indices,
    ],
)
def test_names_of_numpy(call, device):
    array = np.random.default_rng().standard_normal((3, 4, 5)).astype(np.float32)
    have, want = call(tgrad, tgrad.tensor(array, device=device)), call(torch, torch.tensor(array))
    np.testing.assert_allclose(have.numpy(), want, rtol=1e-5, atol=1e-6)


def test_names_of_numpy_and_ours_at_once():
    with pytest.raises(TypeError, match="axis"):
        tgrad.ones(2, 3).sum(dim=0, axis=1)
    with pytest.raises(TypeError, match="axis"):
        tgrad.ones(2, 3).exp(axis=1)


class EarlyAttributes(nn.Conv1d):
    """A causal convolution, as scripts have it."""

    def __init__(self, channels, size, dilation):
        self.pad = (size - 1) * dilation
        self.scale = tgrad.tensor(2.0)
        super().__init__(channels, channels, size, dilation=dilation)

    def forward(self, x):
        return super().forward(nn.functional.pad(x, (self.pad, 0))) * self.scale


def test_attributes_of_parameters(device):
    layer = nn.Linear(2, 2, device=device)
    layer.weight.no_decay, layer.weight.scale = True, 2.0
    again = pickle.loads(pickle.dumps(layer))
    assert vars(again.weight) == {"no_decay": True, "scale": 2.0} and not vars(again.bias)
    lazy = nn.LazyLinear(3, device=device)
    lazy.weight.no_decay = True
    lazy(tgrad.ones(1, 2, device=device))
    assert type(lazy.weight) is nn.Parameter and lazy.weight.no_decay

    @tgrad.compile
    def scaled(x):
        return x * layer.weight.scale

    assert scaled(tgrad.ones(1, device=device)).item() == 2.0
    layer.weight.scale = 3.0
    assert scaled(tgrad.ones(1, device=device)).item() == 3.0


def test_attributes_before_init():
    layer = EarlyAttributes(2, 3, 2)
    assert layer(tgrad.ones(1, 2, 7)).shape == (1, 2, 7)
    assert layer.pad == 4 and list(layer.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("make", [lambda: nn.Linear(1, 1), lambda: nn.Parameter(tgrad.ones(1))])
def test_parts_before_init(make):
    class Early(nn.Module):
        def __init__(self):
            self.part = make()
            super().__init__()

    with pytest.raises(UnsupportedError, match=r"Early\.part is set before") as caught:
        Early()
    assert caught.value.hint == "Call super().__init__() first."


def test_containers_print_and_slice_like_pytorch_s():
    texts = []
    for library, ones in ((nn, tgrad.ones), (torch.nn, torch.ones)):
        pair = library.Sequential(library.ReLU(), library.Tanh())
        layers = library.ModuleList([library.Linear(2, 2), *[copy.deepcopy(pair)] * 2, pair])
        net = library.Sequential(library.Linear(2, 3), library.ReLU(), library.Linear(3, 1))
        doubled = net * 2
        net *= 2
        named = library.ModuleDict([["b", library.ReLU()], ["a", library.Linear(1, 1)]])
        held = library.ParameterList([ones(2), ones(2, 3)])
        held += [ones(1)]
        values = library.ParameterDict([("x", ones(2)), ("y", ones(1))])
        values |= library.ParameterDict({"z": ones(3)})
        more = values | library.ParameterDict({"w": ones(1)})
        last = more.popitem()[0]
        texts.append([
            *map(repr, (layers, layers[1:3], library.ModuleList(), named, held)),
            list(net[1:].state_dict()), list(doubled.state_dict()), list(net.state_dict()),
            list(reversed(values)), last, list(more), list(values.fromkeys("ab", ones(1))),
        ])  # fmt: skip
        assert type(layers[1:]) is type(layers)
    have, want = texts
    assert have == [t.replace("torch.", "tgrad.") if isinstance(t, str) else t for t in want]


@pytest.mark.parametrize("is_frozen", [True, False])
def test_tables_that_are_given(is_frozen, device):
    table = np.random.default_rng().standard_normal((5, 3)).astype(np.float32)
    places = [[0, 3, 4], [2, 2, 1]]
    for name, options in (
        ("Embedding", {"padding_idx": 2}),
        ("EmbeddingBag", {"mode": "sum", "padding_idx": 2}),
    ):
        grads = []
        for library, nn_ in ((tgrad, nn), (torch, torch.nn)):
            values = library.tensor(table)
            values = values.to(device) if library is tgrad else values
            index = library.tensor(places)
            index = index.to(device) if library is tgrad else index
            layer = getattr(nn_, name).from_pretrained(values, freeze=is_frozen, **options)
            found = layer(index)
            assert layer.weight.requires_grad is not is_frozen
            if not is_frozen:
                found.square().sum().backward()
            grads.append([found.detach().cpu(), None if is_frozen else layer.weight.grad.cpu()])
        for have, want in zip(*grads):
            if want is not None:
                np.testing.assert_allclose(have.numpy(), want, rtol=1e-5, atol=1e-6)
    with pytest.raises(ShapeError, match="Embedding: a table of shape"):
        nn.Embedding.from_pretrained(tgrad.ones(3))
