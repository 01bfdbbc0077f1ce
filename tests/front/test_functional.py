"""Every function of nn.functional against PyTorch: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
import tgrad.nn.functional as F
from tests.front.checking import check, classes, normal, share, special

X = normal(1, 5, 7)
WITH_SPECIALS = special(2, 5, 7)

ACTIVATIONS = {
    "relu": lambda p, x: p.F.relu(x),
    "relu6": lambda p, x: p.F.relu6(x * 4),
    "hardtanh": lambda p, x: p.F.hardtanh(x, -0.5, 0.8),
    "leaky_relu": lambda p, x: p.F.leaky_relu(x, 0.2),
    "elu": lambda p, x: p.F.elu(x, 1.3),
    "gelu": lambda p, x: p.F.gelu(x),
    "gelu_tanh": lambda p, x: p.F.gelu(x, approximate="tanh"),
    "silu": lambda p, x: p.F.silu(x),
    "sigmoid": lambda p, x: p.F.sigmoid(x),
    "tanh": lambda p, x: p.F.tanh(x),
    "softplus": lambda p, x: p.F.softplus(x),
    "softplus_beta": lambda p, x: p.F.softplus(x, 2.5, 3.0),
    "logsigmoid": lambda p, x: p.F.logsigmoid(x),
    "softmax": lambda p, x: p.F.softmax(x, 1),
    "softmax_rows": lambda p, x: p.F.softmax(x, dim=-2),
    "softmin": lambda p, x: p.F.softmin(x, 1),
    "log_softmax": lambda p, x: p.F.log_softmax(x, -1),
    "glu": lambda p, x: p.F.glu(x[:, :6]),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name, device):
    check(ACTIVATIONS[name], [X], device)


POINTWISE = [n for n in ACTIVATIONS if "soft" not in n and "glu" not in n] + ["softplus"]


@pytest.mark.parametrize("name", POINTWISE)
def test_activation_of_specials(name, device):
    """NaN, infinities and zeros; but PyTorch's gelu(inf) depends on the place in the array."""
    x = WITH_SPECIALS if "gelu" not in name else np.where(np.isinf(WITH_SPECIALS), 9, WITH_SPECIALS)
    check(ACTIVATIONS[name], [x], device, grad=False)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "silu", "softplus", "elu", "leaky_relu"])
def test_gradient_far_out(name, device):
    check(ACTIVATIONS[name], [np.float32([-200, -90, -30, -0.0, 0, 30, 90, 200])], device)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_dtypes(name, dtype):
    check(ACTIVATIONS[name], [X], "numpy", dtype)


def test_softmax_with_dtype_and_specials(device):
    check(lambda p, x: p.F.softmax(x, 1, dtype=p.t.float64), [X], device)
    rows = np.float32([[-np.inf, 0, 1], [1e30, -1e30, 3], [np.nan, 0, 1]])
    check(lambda p, x: (p.F.softmax(x, 1), p.F.log_softmax(x, 1)), [rows], device, grad=False)


def test_one_hot(device):
    check(lambda p, i: p.F.one_hot(i, 5), [classes(3, 5, 4, 3)], device)
    check(lambda p, i: p.F.one_hot(i), [classes(3, 5, 4, 3)], device)


NORMALISATIONS = {
    "layer_norm": (lambda p, x, w, b: p.F.layer_norm(x, (7,), w, b), [(5, 7), (7,), (7,)]),
    "layer_norm_two_axes": (
        lambda p, x, w, b: p.F.layer_norm(x, (3, 7), w, b, eps=1e-3),
        [(2, 3, 7), (3, 7), (3, 7)],
    ),
    "layer_norm_plain": (lambda p, x: p.F.layer_norm(x, (7,)), [(5, 7)]),
    "layer_norm_no_bias": (lambda p, x, w: p.F.layer_norm(x, (7,), w), [(5, 7), (7,)]),
    "rms_norm": (lambda p, x, w: p.F.rms_norm(x, (7,), w), [(5, 7), (7,)]),
    "rms_norm_eps": (lambda p, x, w: p.F.rms_norm(x, (7,), w, 1e-2), [(2, 3, 7), (7,)]),
    "rms_norm_plain": (lambda p, x: p.F.rms_norm(x, (7,)), [(5, 7)]),
    "batch_norm": (
        lambda p, x, w, b: p.F.batch_norm(x, None, None, w, b, training=True),
        [(4, 3, 5, 2), (3,), (3,)],
    ),
    "batch_norm_rows": (
        lambda p, x, w, b: p.F.batch_norm(x, None, None, w, b, training=True, eps=0.1),
        [(6, 3), (3,), (3,)],
    ),
    "batch_norm_plain": (
        lambda p, x: p.F.batch_norm(x, None, None, training=True),
        [(4, 3, 5)],
    ),
    "group_norm": (lambda p, x, w, b: p.F.group_norm(x, 2, w, b), [(3, 6, 2, 5), (6,), (6,)]),
    "group_norm_rows": (lambda p, x: p.F.group_norm(x, 3), [(3, 6)]),
    "instance_norm": (lambda p, x, w, b: p.F.instance_norm(x, weight=w, bias=b),
                      [(3, 4, 6), (4,), (4,)]),
    "normalize": (lambda p, x: p.F.normalize(x), [(5, 7)]),
    "normalize_3": (lambda p, x: p.F.normalize(x, p=3.0, dim=0), [(5, 7)]),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_normalisation(name, device):
    function, shapes = NORMALISATIONS[name]
    check(function, [normal(i, *s) * 1.5 + 0.3 for i, s in enumerate(shapes)], device)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "batch_norm", "group_norm"])
def test_normalisation_half(name):
    function, shapes = NORMALISATIONS[name]
    check(function, [normal(i, *s) for i, s in enumerate(shapes)], "numpy", "bfloat16")


def test_batch_norm_moves_statistics(device):
    x, mean, var = normal(1, 4, 3, 5), normal(2, 3), share(3, 3)
    ours = [tgrad.tensor(a, device=device) for a in (x, mean, var)]
    theirs = [torch.tensor(a) for a in (x, mean, var)]
    for _ in range(2):
        y = F.batch_norm(*ours, training=True, momentum=0.3)
        expected = torch.nn.functional.batch_norm(*theirs, training=True, momentum=0.3)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(ours[1:], theirs[1:]):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-5, atol=1e-6)
    evaluated = F.batch_norm(*ours, eps=0.2)
    wanted = torch.nn.functional.batch_norm(*theirs, eps=0.2)
    np.testing.assert_allclose(evaluated.numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_batch_norm_in_evaluation(device):
    check(
        lambda p, x, m, v, w, b: p.F.batch_norm(x, m.detach(), v.detach(), w, b),
        [normal(1, 4, 3, 5), normal(2, 3), share(3, 3), normal(4, 3), normal(5, 3)],
        device,
    )


CONVOLUTIONS = [
    # shape, weight, stride, padding, dilation, groups
    ((2, 3, 8, 7), (4, 3, 3, 3), 1, 0, 1, 1),
    ((2, 3, 8, 7), (4, 3, 3, 2), 1, 1, 1, 1),
    ((2, 3, 9, 8), (4, 3, 3, 3), 2, 1, 1, 1),
    ((1, 2, 9, 11), (2, 2, 3, 2), (3, 2), (2, 0), 1, 1),
    ((2, 2, 9, 9), (3, 2, 3, 3), 1, 2, 2, 1),
    ((2, 2, 10, 9), (3, 2, 2, 3), 2, 1, (2, 3), 1),
    ((2, 4, 6, 6), (6, 2, 3, 3), 1, 1, 1, 2),
    ((2, 4, 7, 6), (8, 1, 3, 3), 2, 1, 1, 4),
    ((2, 3, 5, 5), (4, 3, 1, 1), 1, 0, 1, 1),
    ((2, 3, 5, 5), (4, 3, 1, 1), 2, 0, 1, 1),
    ((2, 3, 5, 5), (4, 3, 1, 1), 1, 2, 1, 1),
    ((2, 3, 6, 7), (4, 3, 4, 3), 1, "same", 1, 1),
    ((2, 3, 6, 7), (4, 3, 2, 3), 1, "same", 2, 1),
    ((2, 3, 6, 7), (4, 3, 4, 3), 1, "valid", 1, 1),
    ((3, 6, 7), (4, 3, 2, 3), 1, 1, 1, 1),
]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_conv2d(case, device):
    shape, weight, stride, padding, dilation, groups = case
    shape = shape if len(shape) == 4 else (3, *shape[1:])
    check(
        lambda p, x, w, b: p.F.conv2d(x, w, b, stride, padding, dilation, groups),
        [normal(1, *shape), normal(2, *weight), normal(3, weight[0])],
        device,
    )


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "sizes", "groups"),
    [
        ((3, 3), (2, 2), (1, 1), (8, 7), 1),
        ((7, 7), (2, 2), (3, 3), (12, 11), 1),
        ((4, 4), (2, 2), (1, 1), (6, 7), 2),
        ((3, 2), (3, 2), (0, 0), (10, 9), 1),
        ((5, 3), (3, 1), (2, 0), (11, 6), 1),
        ((3, 3), (4, 4), (1, 1), (13, 9), 1),
        ((5, 5), (2, 3), (4, 1), (9, 10), 3),
        ((1, 3), (2, 2), (0, 1), (8, 8), 1),
        ((2, 2), (3, 3), (1, 1), (8, 8), 1),
    ],
)
def test_gradients_of_strided_convolutions(kernel, stride, padding, sizes, groups, device):
    check(
        lambda p, x, w: p.F.conv2d(x, w, None, stride, padding, 1, groups),
        [normal(1, 2, 2 * groups, *sizes), normal(2, 3 * groups, 2, *kernel)],
        device,
    )


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_conv1d(stride, device):
    check(
        lambda p, x, w: p.F.conv1d(x, w, None, stride, 2, 2, 2),
        [normal(1, 2, 4, 11), normal(2, 6, 2, 3)],
        device,
    )


def test_conv3d():
    check(
        lambda p, x, w, b: p.F.conv3d(x, w, b, (1, 2, 1), 1),
        [normal(1, 1, 2, 4, 5, 4), normal(2, 3, 2, 2, 3, 2), normal(3, 3)],
        "numpy",
    )


def test_conv_second_order(device):
    """The gradient of a function of the gradient."""

    def function(p, x, w):
        y = p.F.conv2d(x, w, stride=2, padding=1)
        gx, gw = p.t.autograd.grad((y * y * y).sum(), [x, w], create_graph=True)
        return (gx * gx).sum() + (gw * gw).sum()

    check(function, [normal(1, 2, 2, 5, 5), normal(2, 3, 2, 3, 3) * 0.3], device)


@pytest.mark.parametrize("shape", [(2, 3, 7, 8), (3, 7, 8)])
def test_unfold(shape, device):
    check(
        lambda p, x: p.F.unfold(x, (2, 3), dilation=2, padding=1, stride=(2, 1)),
        [normal(1, *shape)],
        device,
    )


POOLS = [
    # kernel, stride, padding, dilation
    (2, None, 0, 1),
    ((2, 3), None, 0, 1),
    (3, 2, 0, 1),
    (3, 1, 1, 1),
    ((3, 2), (2, 3), (1, 1), 1),
    (2, 3, 1, 1),
    (2, 1, 0, 2),
    (2, 2, 1, 2),
]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("case", POOLS, ids=str)
def test_max_pool2d(case, ties, device):
    x = normal(1, 2, 3, 9, 8)
    if ties:  # as after a relu: whole windows of zeros
        x = np.maximum(np.round(x), 0)
    check(lambda p, x: p.F.max_pool2d(x, *case), [x], device)


def test_max_pool_of_relu_sends_ties_to_the_first(device):
    x = tgrad.zeros(1, 1, 2, 4, device=device).requires_grad_()
    F.max_pool2d(F.relu(x), 2).sum().backward()
    assert x.grad.tolist() == [[[[0.0] * 4] * 2]]  # relu's gradient at 0 is 0
    x.grad = None
    F.max_pool2d(x, 2).sum().backward()
    assert x.grad.tolist() == [[[[1.0, 0.0, 1.0, 0.0], [0.0] * 4]]]


def test_max_pool1d_and_unbatched(device):
    check(lambda p, x: p.F.max_pool1d(x, 3, 2, 1), [normal(1, 2, 3, 9)], device)
    check(lambda p, x: p.F.max_pool2d(x, 2), [normal(1, 3, 9, 4)], device)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("case", [c[:3] for c in POOLS if c[3] == 1], ids=str)
def test_avg_pool2d(case, include, device):
    check(
        lambda p, x: p.F.avg_pool2d(x, *case, count_include_pad=include),
        [normal(1, 2, 3, 9, 8)],
        device,
    )


def test_avg_pool_variants(device):
    x = normal(1, 2, 3, 9, 8)
    check(lambda p, x: p.F.avg_pool2d(x, 3, 2, divisor_override=5), [x], device)
    check(lambda p, x: p.F.avg_pool1d(x[0], 3, 2, 1), [x], device)
    check(lambda p, x: p.F.adaptive_avg_pool2d(x, (3, 4)), [x], device)
    check(lambda p, x: p.F.adaptive_avg_pool2d(x, (None, 1)), [x], device)
    check(lambda p, x: p.F.adaptive_avg_pool2d(x, 1), [x], device)


def test_linear(device):
    shapes = [normal(1, 2, 5, 3), normal(2, 4, 3), normal(3, 4)]
    check(lambda p, x, w, b: p.F.linear(x, w, b), shapes, device)
    check(lambda p, x, w: p.F.linear(x[0, 0], w), shapes[:2], device)


def test_embedding(device):
    i, w = classes(1, 6, 3, 4), normal(2, 6, 5)
    check(lambda p, i, w: p.F.embedding(i, w), [i, w], device)
    check(lambda p, i, w: p.F.embedding(i, w, padding_idx=2), [i, w], device)
    check(lambda p, i, w: p.F.embedding(i, w, padding_idx=-1), [i, w], device)


def test_pad(device):
    x = normal(1, 3, 4, 5)
    check(lambda p, x: p.F.pad(x, (1, 2)), [x], device)
    check(lambda p, x: p.F.pad(x, (1, 0, 0, 3), value=-2.5), [x], device)
    check(lambda p, x: p.F.pad(x, (-1, 2, 1, -2, 0, 1), value=7.0), [x], device)


ATTENTION = {
    "plain": {},
    "scale": {"scale": 0.3},
    "causal": {"is_causal": True},
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name, device):
    check(
        lambda p, q, k, v: p.F.scaled_dot_product_attention(q, k, v, **ATTENTION[name]),
        [normal(1, 2, 3, 5, 8), normal(2, 2, 3, 7, 8), normal(3, 2, 3, 7, 6)],
        device,
    )


def test_attention_with_masks(device):
    qkv = [normal(1, 2, 3, 5, 8), normal(2, 2, 3, 7, 8), normal(3, 2, 3, 7, 6)]
    mask = np.random.default_rng(4).random((5, 7)) < 0.6
    mask[2] = False  # a query that may see nothing

    def function(p, q, k, v, m):
        return p.F.scaled_dot_product_attention(q, k, v, attn_mask=m)

    check(function, [*qkv, mask], device)
    check(function, [*qkv, normal(5, 2, 1, 5, 7)], device)


def test_attention_shares_heads(device):
    check(
        lambda p, q, k, v: p.F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        [normal(1, 2, 6, 5, 8), normal(2, 2, 2, 7, 8), normal(3, 2, 2, 7, 6)],
        device,
    )


def test_cosine_similarity(device):
    check(lambda p, x, y: p.F.cosine_similarity(x, y), [X, normal(9, 5, 7)], device)


def test_dropout(device):
    tgrad.manual_seed(3)
    x = tgrad.ones(100, 50, device=device, requires_grad=True)
    y = F.dropout(x, 0.3)
    y.sum().backward()
    kept = y.numpy() != 0
    assert abs(kept.mean() - 0.7) < 0.02
    np.testing.assert_allclose(y.numpy()[kept], 1 / 0.7, rtol=1e-6)
    assert (x.grad.numpy() == y.numpy()).all()
    assert F.dropout(x, 0.3, training=False) is x
    assert not F.dropout(x, 1.0).numpy().any()


def test_dropout_is_the_same_on_every_device():
    masks = []
    for name in ("numpy", "cpu"):
        tgrad.manual_seed(3)
        masks.append(F.dropout(tgrad.ones(37, 11, device=name), 0.3).numpy())
    np.testing.assert_array_equal(*masks)


def test_where_of_a_condition_alone() -> None:
    mask = np.random.default_rng(0).random((4, 5)) > 0.5
    for ours, theirs in zip(tgrad.where(tgrad.tensor(mask)), np.where(mask), strict=True):
        assert ours.dtype is tgrad.int64 and ours.tolist() == theirs.tolist()
    with pytest.raises(TypeError, match="one of input and other"):
        tgrad.where(tgrad.tensor(mask), 1.0)  # type: ignore[call-overload]


@pytest.mark.parametrize("rank, kernel", [(1, 3), (2, (2, 3)), (3, (1, 2, 3))])
def test_norms_of_windows_that_reach_beyond_the_end(rank, kernel, device):
    x = np.abs(normal(4, 2, 2, *(5, 4, 4)[:rank])) + 0.1
    check(lambda p, x: getattr(p.F, f"lp_pool{rank}d")(x, 3, kernel, None, True), [x], device)


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize(
    "mode, sizes",
    [("linear", (2,)), ("bilinear", (5, 2)), ("trilinear", (3, 2, 2)), ("bicubic", (5, 2))],
)
def test_interpolation_by_a_factor_that_keeps_a_size(mode, sizes, corners, device):
    factors = (*(0.6,) * (len(sizes) - 1), 1.3)
    x = normal(5, 1, 2, *sizes)
    check(lambda p, x: p.F.interpolate(x, None, factors, mode, corners), [x], device)


def test_gradients_of_lengths_of_zero(device):
    x = normal(6, 3, 4)
    x[1:] = 0
    check(lambda p, x: p.F.cosine_similarity(x, x * 2 - 1), [x], device)
    check(lambda p, x: p.F.cosine_similarity(x * 3, x), [x], device)
    check(lambda p, x: (x.std(1), x.std(1, correction=0), (x[1:] * 2).std()), [x], device)


def test_gradients_of_angles_at_the_origin(device):
    y, x = (np.float32(v) for v in zip(*[(a, b) for a in (0, -0.0, 2) for b in (0, -0.0, 2)]))
    check(lambda p, y, x: p.t.atan2(y, x), [y, x], device)
    check(lambda p, y, x: p.t.complex(x, y).angle(), [y, x], device)
