"""`multi_head_attention_forward` against PyTorch's, in random combinations of its arguments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tgrad import nn
from tgrad.errors import TgradError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, about its masks

E, HEADS, L, S, N = 8, 2, 3, 4, 3


def drawn(rng):
    """Arrays that are differentiated, masks, and options."""
    batched, bias, separate, extra, zero = rng.integers(0, 2, 5)
    lead, features = (N,) * batched, 5 if separate else E
    shapes = {
        "query": (L, *lead, E), "key": (S, *lead, features), "value": (S, *lead, features),
        "out_proj_weight": (E, E),
    }  # fmt: skip
    if bias:
        shapes |= {"in_proj_bias": (3 * E,), "out_proj_bias": (E,)}
    if separate:
        shapes |= {"q_proj_weight": (E, E)}
        shapes |= {"k_proj_weight": (E, features), "v_proj_weight": (E, features)}
    else:
        shapes |= {"in_proj_weight": (3 * E, E)}
    if extra:
        shapes |= {"bias_k": (1, 1, E), "bias_v": (1, 1, E)}
    rows = HEADS * (N if batched else 1)
    for name in ("static_k", "static_v"):
        if not extra and rng.random() < 0.3:
            shapes |= {name: (rows, S, E // HEADS)}
    masks = {}
    wide = [(L, S), (rows, L, S)][rng.integers(2)]
    for name, shape in (("attn_mask", wide), ("key_padding_mask", (*lead, S))):
        hidden = rng.random(shape) < 0.4
        hidden[..., 0] = False
        kind = rng.integers(3)
        if kind:
            masks[name] = hidden if kind == 1 else np.where(hidden, -1.5, 0.5)
    options = {
        "add_zero_attn": bool(zero), "dropout_p": 0.5, "training": False,
        "need_weights": bool(rng.integers(2)), "average_attn_weights": bool(rng.integers(2)),
        "use_separate_proj_weight": bool(separate), "embed_dim_to_check": E, "num_heads": HEADS,
    }  # fmt: skip
    needed = ("in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "out_proj_bias")
    options |= {name: None for name in needed if name not in shapes}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}, masks, options


@pytest.mark.parametrize("seed", range(40))
def test_values_and_gradients(seed):
    rng = np.random.default_rng(seed)
    arrays, masks, options = drawn(rng)
    ours = {k: tgrad.tensor(v, device="numpy", requires_grad=True) for k, v in arrays.items()}
    theirs = {k: torch.tensor(v, requires_grad=True) for k, v in arrays.items()}
    have = F.multi_head_attention_forward(
        **ours, **options, **{k: tgrad.tensor(v, device="numpy") for k, v in masks.items()}
    )
    want = torch.nn.functional.multi_head_attention_forward(
        **theirs, **options, **{k: torch.tensor(v) for k, v in masks.items()}
    )
    assert (have[1] is None) == (want[1] is None) == (not options["need_weights"])
    losses = [tgrad.zeros((), dtype=tgrad.float64, device="numpy"), torch.zeros(())]
    for y, expected in zip(have, want):
        if y is None:
            continue
        assert y.shape == tuple(expected.shape)
        np.testing.assert_allclose(y.numpy(), expected.detach(), atol=1e-12)
        weight = rng.normal(size=y.shape)
        losses[0] = losses[0] + (y * tgrad.tensor(weight, device="numpy")).sum()
        losses[1] = losses[1] + (expected * torch.tensor(weight)).sum()
    for loss in losses:
        loss.backward()
    for name, t in theirs.items():
        if t.grad is not None:
            grad = np.zeros(t.shape) if ours[name].grad is None else ours[name].grad.numpy()
            np.testing.assert_allclose(grad, t.grad, atol=1e-11, err_msg=name)


def test_it_is_what_the_module_computes():
    layer = nn.MultiheadAttention(E, HEADS).eval()
    x = tgrad.randn(L, N, E)
    mask = nn.Transformer.generate_square_subsequent_mask(L)
    have = tgrad.compile(F.multi_head_attention_forward)(
        x, x, x, E, HEADS, layer.in_proj_weight, layer.in_proj_bias, None, None, False, 0.0,
        layer.out_proj.weight, layer.out_proj.bias, attn_mask=mask, is_causal=True,
    )  # fmt: skip
    for ours, theirs in zip(have, layer(x, x, x, attn_mask=mask, is_causal=True)):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"num_heads": 3}, "8 features in 3 heads, embed_dim_to_check=8."),
        ({"embed_dim_to_check": 4}, "8 features in 2 heads, embed_dim_to_check=4."),
        ({"query": tgrad.ones(2, E)}, "of shapes (2, 8), (4, 3, 8) and (4, 3, 8)."),
        ({"in_proj_weight": None}, "use_separate_proj_weight=False without such weights."),
        ({"use_separate_proj_weight": True}, "use_separate_proj_weight=True without such weights."),
        ({"bias_k": tgrad.ones(1, 1, E)}, "bias_k and bias_v go together"),
        ({"is_causal": True}, "is_causal=True. Give attn_mask too."),
    ],
)
def test_mistakes(change, what):
    given = {
        "query": tgrad.ones(L, N, E), "key": tgrad.ones(S, N, E), "value": tgrad.ones(S, N, E),
        "embed_dim_to_check": E, "num_heads": HEADS, "in_proj_weight": tgrad.ones(3 * E, E),
        "in_proj_bias": None, "bias_k": None, "bias_v": None, "add_zero_attn": False,
        "dropout_p": 0.0, "out_proj_weight": tgrad.ones(E, E), "out_proj_bias": None,
    }  # fmt: skip
    with pytest.raises(TgradError) as caught:
        F.multi_head_attention_forward(**given | change)
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert what in " ".join(line for line in lines if not line.startswith("at "))
