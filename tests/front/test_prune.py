"""tgrad.nn.utils.prune beside PyTorch's: masks, states, training, what comes after."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn.utils import prune as theirs

import tgrad
from tests.front.checking import normal
from tgrad import nn
from tgrad.errors import TgradError

ours = nn.utils.prune
SCORES = normal(5, 3, 4)
RULES = {
    "identity": [lambda p, m, t: p.identity(m, "weight")],
    "l1": [lambda p, m, t: p.l1_unstructured(m, "weight", 0.4)],
    "l1 of a bias": [lambda p, m, t: p.l1_unstructured(m, "bias", amount=1)],
    "l1 of nothing": [lambda p, m, t: p.l1_unstructured(m, "weight", 0)],
    "l1 by scores": [
        lambda p, m, t: p.l1_unstructured(m, "weight", 5, importance_scores=t(SCORES))
    ],
    "rows": [lambda p, m, t: p.ln_structured(m, "weight", 1, n=2, dim=0)],
    "columns": [lambda p, m, t: p.ln_structured(m, "weight", 0.5, n=1, dim=-1)],
    "columns by scores": [
        lambda p, m, t: p.ln_structured(
            m, "weight", 2, n=float("inf"), dim=1, importance_scores=t(SCORES)
        )
    ],
    "mask": [lambda p, m, t: p.custom_from_mask(m, "weight", t(SCORES > 0))],
    "twice": [
        lambda p, m, t: p.l1_unstructured(m, "weight", 0.25),
        lambda p, m, t: p.l1_unstructured(m, "weight", 0.5),
    ],
    "elements, then slices, then a mask": [
        lambda p, m, t: p.l1_unstructured(m, "weight", 3),
        lambda p, m, t: p.ln_structured(m, "weight", 1, n=2, dim=0),
        lambda p, m, t: p.ln_structured(m, "weight", 1, n=2, dim=-1),
        lambda p, m, t: p.custom_from_mask(m, "weight", t(SCORES > -0.5)),
    ],
    "slices, then elements": [
        lambda p, m, t: p.ln_structured(m, "weight", 2, n=2, dim=1),
        lambda p, m, t: p.l1_unstructured(m, "weight", 0.5),
        lambda p, m, t: p.l1_unstructured(m, "bias", 0.5),
    ],
}


def pair_of_layers(device):
    mine, other = nn.Linear(4, 3, device=device), torch.nn.Linear(4, 3)
    mine.load_state_dict(other.state_dict())
    return mine, other


def same_state(mine, other):
    assert list(mine.state_dict()) == list(other.state_dict())
    for a, b in zip(mine.state_dict().values(), other.state_dict().values()):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_like_pytorch(rule, device):
    mine, other = pair_of_layers(device)
    for step in RULES[rule]:
        step(ours, mine, lambda x: tgrad.tensor(x, device=device))
        step(theirs, other, torch.tensor)
        same_state(mine, other)
    assert ours.is_pruned(nn.Sequential(mine)) and repr(mine) == repr(other)
    x = normal(1, 2, 4)
    for model, library in ((mine, tgrad), (other, torch)):
        place = {"device": device} if library is tgrad else {}
        optimizer = library.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            model(library.tensor(x, **place)).square().sum().backward()
            optimizer.step()
    same_state(mine, other)
    same_state(copy.deepcopy(mine), other)
    name = "weight" if "weight_mask" in mine.state_dict() else "bias"
    kept = mine.get_parameter(f"{name}_orig")
    ours.remove(mine, name)
    theirs.remove(other, name)
    assert getattr(mine, name) is kept
    same_state(mine, other)


@pytest.mark.parametrize(
    ("prune", "share"),
    [
        (lambda p, m: p.random_unstructured(m, "weight", 0.25), (9, None, None)),
        (lambda p, m: p.random_structured(m, "weight", amount=2, dim=1), (6, None, 2)),
        (lambda p, m: p.random_structured(m, "weight", amount=1 / 3, dim=0), (8, 2, None)),
    ],
)
def test_random_ones_prune_as_many(prune, share, device):
    for library, module in zip((ours, theirs), pair_of_layers(device)):
        prune(library, module)
        mask = np.asarray(module.weight_mask.detach())
        assert mask.sum() == share[0]
        for axis, count in enumerate(share[1:]):
            assert count is None or mask.any(1 - axis).sum() == count


def test_global_pruning(device):
    base = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    mine = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).to(device)
    mine.load_state_dict(base.state_dict())
    for net, prune in ((mine, ours), (base, theirs)):
        prune.l1_unstructured(net[0], "weight", 2)
        pairs = [(net[0], "weight"), (net[1], "weight")]
        prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=0.3)
    same_state(mine, base)
    with pytest.raises(NotImplementedError, match="must be unstructured"):
        ours.global_unstructured([(mine[1], "weight")], ours.LnStructured, amount=1, n=1)


def test_own_methods_and_containers():
    counts = []
    for p, t in ((ours, tgrad), (theirs, torch)):

        class Positive(p.BasePruningMethod):
            PRUNING_TYPE = "unstructured"

            def compute_mask(self, t, default_mask):
                return default_mask * (t > 0).to(default_mask.dtype)

        layer = (nn if t is tgrad else torch.nn).Linear(2, 2)
        with t.no_grad():
            layer.weight.copy_(t.tensor([[1.0, -2.0], [3.0, 4.0]]))
        Positive.apply(layer, "weight")
        container = p.L1Unstructured.apply(layer, "weight", 1)
        assert isinstance(container, p.PruningContainer) and len(container) == 2
        assert isinstance(container[0], Positive) and len(list(container)) == 2
        counts.append(layer.weight.tolist())
        assert p.L1Unstructured(1).prune(t.tensor([3.0, -1.0])).tolist() == [3.0, 0.0]
        with pytest.raises(TypeError):
            p.PruningContainer().add_pruning_method(layer)
        other = p.Identity()
        other._tensor_name = "bias"
        with pytest.raises(ValueError):
            container.add_pruning_method(other)
    assert counts[0] == counts[1] == [[0.0, 0.0], [3.0, 4.0]]


def test_compiled_steps(device):
    """A pruned model trains compiled as it does otherwise; another mask is another value."""
    first = ours.l1_unstructured(nn.Linear(4, 3, device=device), "weight", 4)
    second, results = copy.deepcopy(first), []
    for model, wrap in ((first, tgrad.compile), (second, lambda f: f)):
        optimizer = tgrad.optim.SGD(model.parameters(), lr=0.1)

        def step(x, model=model, optimizer=optimizer):
            loss = model(x).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        run, x = wrap(step), tgrad.tensor(normal(1, 5, 4), device=device)
        results.append([run(x).item() for _ in range(2)])
        ours.ln_structured(model, "weight", 1, n=1, dim=0)
        results[-1] += [run(x).item() for _ in range(2)]
    np.testing.assert_allclose(*results, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda p, m, t: p.l1_unstructured(m, "weight", 1.5), ValueError),
        (lambda p, m, t: p.l1_unstructured(m, "weight", -1), ValueError),
        (lambda p, m, t: p.l1_unstructured(m, "weight", 13), ValueError),
        (lambda p, m, t: p.l1_unstructured(m, "weight", "all"), TypeError),
        (lambda p, m, t: p.ln_structured(m, "bias", 1, n=1, dim=0), ValueError),
        (lambda p, m, t: p.ln_structured(m, "weight", 1, n=1, dim=2), IndexError),
        (lambda p, m, t: p.remove(m, "weight"), ValueError),
    ],
)
def test_mistakes(make, kind, device):
    for library, module, t in zip((ours, theirs), pair_of_layers(device), (tgrad, torch)):
        with pytest.raises(kind):
            make(library, module, t)
        assert sorted(module.state_dict()) == ["bias", "weight"]


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda m: ours.identity(m, "scale"), "prune: Linear has no parameter 'scale'."),
        (lambda m: ours.identity(nn.utils.weight_norm(m), "weight"), "is computed already."),
        (
            lambda m: setattr(ours.identity(m, "weight"), "weight", tgrad.ones(3, 4)),
            "Set weight_orig, or call prune.remove first.",
        ),
        (
            lambda m: ours.l1_unstructured(m, "bias", 1, importance_scores=tgrad.ones(2)),
            "importance_scores of shape (2,) for parameter 'bias' of (3,).",
        ),
        (lambda m: ours.custom_from_mask(m, "bias", tgrad.ones(2)), "a mask of shape (2,)"),
    ],
)
def test_mistakes_of_our_own(make, what):
    with pytest.raises(TgradError) as caught:
        make(nn.Linear(4, 3))
    assert what in " ".join(str(caught.value).split())
