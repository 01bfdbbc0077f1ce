"""The device "meta": shapes and dtypes with no values, for models that are given theirs later."""

from __future__ import annotations

import copy
import io

import pytest
import torch

import tgrad
from tgrad.errors import UnsupportedError


def model(module, device="meta"):
    nn = module.nn
    with module.device(device):
        return nn.Sequential(
            nn.Embedding(7, 8), nn.Linear(8, 8), nn.LayerNorm(8), nn.Dropout(), nn.Linear(8, 3)
        )


def tokens(module, device="meta"):
    return module.ones(2, 5, dtype=module.int64, device=device)


def test_a_model_is_made_without_values():
    made = model(tgrad)
    assert {p.device for p in made.parameters()} == {tgrad.device("meta")}
    assert all(p.is_meta and p._storage is None for p in made.parameters())
    theirs = model(torch)
    assert [tuple(p.shape) for p in made.parameters()] == [
        tuple(p.shape) for p in theirs.parameters()
    ]


def test_shapes_of_results_and_gradients():
    made = model(tgrad)
    result = made(tokens(tgrad))
    assert (result.shape, result.device, result.is_meta) == ((2, 5, 3), tgrad.device("meta"), True)
    result.sum().backward()
    for p in made.parameters():
        assert p.grad.shape == p.shape and p.grad.is_meta
    tgrad.optim.AdamW(made.parameters()).step()


FUNCTIONS = {
    "matmul": lambda m, x: x @ x.t(),
    "svd": lambda m, x: m.linalg.svd(x)[1],
    "sort": lambda m, x: x.sort(1)[1],
    "where": lambda m, x: m.where(x > 0, x, 0),
    "in place": lambda m, x: x.add_(1).t(),
    "arange": lambda m, x: m.arange(5, device="meta"),
    "like": lambda m, x: m.zeros_like(x, dtype=m.float64),
    "attention": lambda m, x: m.nn.functional.scaled_dot_product_attention(x, x, x),
    "moved": lambda m, x: m.ones(3, 2).to("meta"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_shapes_and_dtypes(name):
    ours = FUNCTIONS[name](tgrad, tgrad.empty(3, 4, device="meta"))
    theirs = FUNCTIONS[name](torch, torch.empty(3, 4, device="meta"))
    assert tuple(ours.shape) == tuple(theirs.shape)
    assert ours.dtype.name == str(theirs.dtype).removeprefix("torch.")
    assert ours.is_meta and theirs.is_meta


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_how_it_prints(dtype):
    def text(m):
        return repr(m.empty(2, 3, device="meta", dtype=getattr(m, dtype)))

    assert text(tgrad) == text(torch).replace("torch.", "tgrad.")


READS = {
    "tolist": lambda x: x.tolist(),
    "item": lambda x: x.sum().item(),
    "numpy": lambda x: x.numpy(),
    "bool": lambda x: bool(x.sum() > 0),
    "cpu": lambda x: x.cpu(),
    "computed": lambda x: (x * 2).to("numpy"),
    "nonzero": lambda x: x.nonzero(),
    "module": lambda x: model(tgrad).to("cpu"),
}


@pytest.mark.parametrize("name", READS)
def test_values_are_refused(name):
    with pytest.raises(NotImplementedError) as caught:
        READS[name](tgrad.ones(2, 2, device="meta"))
    assert "a tensor on the device meta has no values." in str(caught.value)
    assert "to_empty(device=...)" in str(caught.value)


def test_plans_are_refused():
    x = tgrad.ones(2, device="meta")
    for call in (tgrad.compile(lambda x: x + 1), lambda x: tgrad.explain(x + 1)):
        with pytest.raises(UnsupportedError, match="a plan for tensors on the device meta"):
            call(x)


def test_to_empty_then_values():
    made, real = model(tgrad), model(tgrad, "cpu")
    made.to_empty(device="cpu").load_state_dict(real.state_dict())
    x = tokens(tgrad, "cpu")
    made.eval(), real.eval()
    assert tgrad.equal(made(x), real(x))
    made[1].reset_parameters()
    assert not tgrad.equal(made(x), real(x))


def test_values_are_assigned():
    made, real = model(tgrad), model(tgrad, "cpu")
    made.load_state_dict(real.state_dict(), assign=True)
    assert all(isinstance(p, tgrad.nn.Parameter) and p.requires_grad for p in made.parameters())
    x = tokens(tgrad, "cpu")
    assert tgrad.equal(made.eval()(x), real.eval()(x))
    made(x).sum().backward()
    assert made[1].weight.grad.device == tgrad.device("cpu")


def test_values_that_would_be_lost_are_told():
    with pytest.warns(UserWarning, match=r"'weight' is on the device meta.*assign=True"):
        model(tgrad).load_state_dict(model(tgrad, "cpu").state_dict())


def test_files_are_read_without_values():
    file = io.BytesIO()
    tgrad.save({"w": tgrad.ones(3, 2)}, file)
    file.seek(0)
    found = tgrad.load(file, map_location="meta")["w"]
    assert found.is_meta and found.shape == (3, 2)


def test_copies_stay_there():
    assert copy.deepcopy(model(tgrad))[1].weight.is_meta
    real = tgrad.nn.Linear(2, 2).to("meta")
    assert real.weight.is_meta and real.weight.requires_grad
