"""Modules against PyTorch's, on the inputs of PyTorch's own module database.

Each module is made with the same arguments, takes over the state, and gives the same results and
gradients, in training and, where PyTorch says that it differs, in evaluation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad.errors import UnsupportedError

torch = pytest.importorskip("torch")
common_modules = pytest.importorskip("torch.testing._internal.common_modules")

DEVICE = "numpy"
"""The graph's interpreter: modules are tested here, and that devices agree elsewhere."""

LAZY = tuple(name for name in dir(torch.nn) if name.startswith("Lazy"))
"""Modules with no state to load before their first call: tests/front/test_lazy_modules.py."""

RANDOM = ("FractionalMaxPool2d", "FractionalMaxPool3d")
"""Modules whose draws are not PyTorch's; tests/front/test_sequences.py gives them the draws."""

REFUSED = {
    "MultiheadAttention": "is_causal without a mask is an error",
}
"""Modules some of whose arguments raise UnsupportedError, and why."""


INFOS: dict[str, Any] = {info.module_cls.__name__: info for info in common_modules.module_db}

CASES = [
    pytest.param(name, training, id=f"{name}-{'training' if training else 'evaluation'}")
    for name, info in INFOS.items()
    if hasattr(tgrad.nn, name) and name not in (*RANDOM, *LAZY)
    for training in (True, False)
    if training or info.train_and_eval_differ
]


def ours(value: Any) -> Any:
    """PyTorch's objects as tgrad's, in any container."""
    if isinstance(value, torch.Tensor):
        t = tgrad.tensor(value.detach().numpy(), device=DEVICE)
        return t.requires_grad_(value.requires_grad)
    if isinstance(value, (list, tuple)):
        return type(value)(ours(v) for v in value)
    if isinstance(value, dict):
        return {k: ours(v) for k, v in value.items()}
    if isinstance(value, torch.dtype):
        return getattr(tgrad, str(value).removeprefix("torch."))
    if isinstance(value, torch.nn.Module):
        return twin(value)
    functions = {torch.nn.functional.relu: F.relu, torch.nn.functional.gelu: F.gelu}
    return functions.get(value, value) if callable(value) else value


def twin(theirs: Any) -> Any:
    """A layer given to another module's constructor: the only kind is TransformerEncoderLayer."""
    assert type(theirs).__name__ == "TransformerEncoderLayer", theirs
    layer = tgrad.nn.TransformerEncoderLayer(
        theirs.self_attn.embed_dim,
        theirs.self_attn.num_heads,
        theirs.linear1.out_features,
        theirs.dropout.p,
        ours(theirs.activation),
        theirs.norm1.eps,
        theirs.self_attn.batch_first,
        theirs.norm_first,
        theirs.linear1.bias is not None,
    )
    load(layer, theirs)
    return layer


def load(mine: Any, theirs: Any) -> None:
    state = {k: tgrad.tensor(v.detach().numpy()) for k, v in theirs.state_dict().items()}
    assert set(mine.state_dict()) == set(state)
    mine.load_state_dict(state)


def leaves(value: Any) -> list[Any]:
    if isinstance(value, (torch.Tensor, tgrad.Tensor)):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in leaves(v)] if isinstance(value, (list, tuple)) else []


def close(have: Any, want: Any, what: str) -> None:
    got, exact = have.detach().numpy(), want.detach().numpy()
    np.testing.assert_allclose(got, exact, rtol=2e-4, atol=2e-4, err_msg=what)


def go_backward(pairs: list[tuple[Any, Any]]) -> None:
    """Derive the same weighted sum of results on both sides."""
    if not pairs:
        return
    rng = np.random.default_rng(0)
    slopes = [rng.standard_normal(tuple(w.shape)).astype(np.float32) for _, w in pairs]
    have = sum((h * tgrad.tensor(c, device=DEVICE)).sum() for (h, _), c in zip(pairs, slopes))
    want = sum((w * torch.from_numpy(c)).sum() for (_, w), c in zip(pairs, slopes))
    have.backward()
    want.backward()


def run(info: Any, given: Any, training: bool) -> None:
    theirs = info.module_cls(*given.constructor_input.args, **given.constructor_input.kwargs)
    made = getattr(tgrad.nn, info.module_cls.__name__)
    mine = made(*ours(given.constructor_input.args), **ours(given.constructor_input.kwargs))
    load(mine, theirs)
    mine.to(DEVICE)
    theirs.train(training)
    mine.train(training)
    inputs = (given.forward_input.args, given.forward_input.kwargs)
    args, kwargs = ours(inputs)
    results, expected = mine(*args, **kwargs), theirs(*inputs[0], **inputs[1])
    pairs = list(zip(leaves(results), leaves(expected), strict=True))
    go_backward([(h, w) for h, w in pairs if w.requires_grad])
    for have, want in pairs:  # the first brings the gradients with it, which are pending
        close(have, want, "result")
    named = dict(theirs.named_parameters())
    for name, p in mine.named_parameters():
        if named[name].grad is not None:
            close(p.grad, named[name].grad, f"gradient of {name}")
    for have, want in zip(leaves((args, kwargs)), leaves(inputs), strict=True):
        if want.grad is not None:
            close(have.grad, want.grad, "gradient of an input")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "training"), CASES)
def test_like_torch(name: str, training: bool) -> None:
    info, refused, done = INFOS[name], 0, 0
    torch.manual_seed(0)
    given = info.module_inputs_func(
        info, device="cpu", dtype=torch.float32, requires_grad=True, training=training
    )
    for each in given:
        try:
            run(info, each, training)
            done += 1
        except UnsupportedError:
            refused += 1
    assert done
    assert not refused or name in REFUSED


def test_every_module_is_there_or_named() -> None:
    assert {n for n in (*INFOS, *LAZY) if not hasattr(tgrad.nn, n)} == set()
    assert {n for n in tgrad.nn.__all__ if not hasattr(torch.nn, n)} == set()
