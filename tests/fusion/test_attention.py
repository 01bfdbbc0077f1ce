"""Attention, as a user writes it, is one kernel forward, and two and one of row sums backward."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.fusion.checking import cut
from tgrad.fusion import region as rg
from tgrad.fusion.partition import Fused
from tgrad.tensor import Tensor

torch = pytest.importorskip("torch")

BATCH, HEADS = 2, 4
Attend = Callable[[Any, Any, Any, Any], Any]
"""(functional, q, k, v) -> attention, in either library"""


def by_hand(f: Any, q: Any, k: Any, v: Any) -> Any:
    return f.softmax(q @ k.transpose(-1, -2) * 0.3, -1) @ v


def plain(f: Any, q: Any, k: Any, v: Any) -> Any:
    return f.scaled_dot_product_attention(q, k, v)


def causal(f: Any, q: Any, k: Any, v: Any) -> Any:
    return f.scaled_dot_product_attention(q, k, v, is_causal=True)


def _lib(q: Any) -> Any:
    return tgrad if isinstance(q, Tensor) else torch


def _place(q: Any) -> dict[str, Any]:
    return {"device": q.device}


def biased(f: Any, q: Any, k: Any, v: Any) -> Any:
    bias = np.random.default_rng(3).standard_normal((HEADS, q.shape[-2], k.shape[-2]))
    bias = _lib(q).tensor(bias.astype(np.float32), **_place(q))
    return f.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def masked(f: Any, q: Any, k: Any, v: Any) -> Any:
    """A boolean mask that leaves some queries no key at all."""
    seen = np.random.default_rng(4).random((q.shape[-2], k.shape[-2])) < 0.6
    seen[1::5] = False
    return f.scaled_dot_product_attention(
        q, k, v, attn_mask=_lib(q).tensor(seen, **_place(q)), scale=0.4
    )


def window(f: Any, q: Any, k: Any, v: Any) -> Any:
    """Sliding window, grouped heads, soft cap."""
    k, v = k[:, ::2], v[:, ::2]
    shape = (BATCH, HEADS // 2, 2, k.shape[-2])
    k, v = (x[:, :, None].expand(*shape, x.shape[-1]).reshape(BATCH, HEADS, *x.shape[-2:])
            for x in (k, v))  # fmt: skip
    scores = 5.0 * (q @ k.transpose(-1, -2) * 0.2 / 5.0).tanh()
    rows = _lib(q).arange(q.shape[-2], **_place(q))[:, None]
    columns = _lib(q).arange(k.shape[-2], **_place(q))[None, :]
    seen = (columns <= rows) & (rows - columns < 24)
    return f.softmax(_lib(q).where(seen, scores, -math.inf), -1) @ v


def rotary(f: Any, q: Any, k: Any, v: Any) -> Any:
    """Rotary positions of queries and keys, from tables that the graph computes."""
    library, size = _lib(q), q.shape[-1]

    def rotated(x: Any) -> Any:
        places = library.arange(x.shape[-2], **_place(x))
        rates = 10000.0 ** (library.arange(0, size, 2, **_place(x)) / -size)
        angles = places[:, None] * library.cat((rates, rates), 0)
        left, right = x.chunk(2, -1)
        return x * angles.cos() + library.cat((-right, left), -1) * angles.sin()

    return f.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True)


def _indices(q: Any, k: Any) -> tuple[Any, Any]:
    """Places of queries, as a column, and of keys, as a row."""
    rows = _lib(q).arange(q.shape[-2], **_place(q))[:, None]
    return rows, _lib(q).arange(k.shape[-2], **_place(q))[None, :]


def alibi(f: Any, q: Any, k: Any, v: Any) -> Any:
    """A bias of the distance with a slope of its own for each head, causal."""
    rows, columns = _indices(q, k)
    slopes = 2.0 ** (-2.0 * (_lib(q).arange(HEADS, **_place(q)) + 1))
    scores = q @ k.transpose(-1, -2) * 0.3 + slopes[:, None, None] * (columns - rows)
    return f.softmax(_lib(q).where(columns <= rows, scores, -math.inf), -1) @ v


def prefix(f: Any, q: Any, k: Any, v: Any) -> Any:
    """All see the first keys; the others are seen by later queries only."""
    rows, columns = _indices(q, k)
    seen = (columns < 10) | (columns <= rows)
    return f.scaled_dot_product_attention(q, k, v, attn_mask=seen)


def documents(f: Any, q: Any, k: Any, v: Any) -> Any:
    """Queries see the keys of their own document, up to their own place."""
    rows, columns = _indices(q, k)
    ids = _lib(q).tensor(np.arange(max(q.shape[-2], k.shape[-2])) // 11, **_place(q))
    same = ids[: q.shape[-2], None] == ids[None, : k.shape[-2]]
    return f.scaled_dot_product_attention(q, k, v, attn_mask=same & (columns <= rows))


def packed(f: Any, q: Any, k: Any, v: Any) -> Any:
    """Documents of each sequence in an order of their own, ids that are no numbers of keys, and
    queries of a document without keys."""
    rng = np.random.default_rng(1)
    lengths = (q.shape[-2], k.shape[-2])
    of_queries, of_keys = (np.sort(rng.integers(-3, 4, (BATCH, n))) for n in lengths)
    of_queries[1], of_keys[1] = rng.permutation(of_queries[1]), of_keys[1, ::-1]
    of_queries[:, -3:] = 1 << 40
    rows = _lib(q).tensor(of_queries, **_place(q))
    columns = _lib(q).tensor(of_keys.copy(), **_place(q))
    same = rows[:, None, :, None] == columns[:, None, None, :]
    return f.scaled_dot_product_attention(q, k, v, attn_mask=same)


def padded(f: Any, q: Any, k: Any, v: Any) -> Any:
    """A mask of keys for each sequence, of which one has none."""
    seen = np.arange(k.shape[-2]) < np.array([[k.shape[-2] // 3], [0]])
    mask = _lib(q).tensor(seen, **_place(q))[:, None, None, :]
    return f.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def filled(f: Any, q: Any, k: Any, v: Any) -> Any:
    """As many keys as a loaded length says, of which one is 0."""
    lengths = _lib(q).tensor(np.array([k.shape[-2] // 3, 0]), **_place(q))
    seen = _indices(q, k)[1] < lengths[:, None]
    return f.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None, :])


def retrieved(f: Any, q: Any, k: Any, v: Any) -> Any:
    """Each query sees keys below a loaded place, some none."""
    ends = np.random.default_rng(2).integers(-9, k.shape[-2] // 2, (q.shape[-2], 1))
    seen = ~(_indices(q, k)[1] >= _lib(q).tensor(ends, **_place(q)))
    return f.scaled_dot_product_attention(q, k, v, attn_mask=seen)


CASES: dict[str, Attend] = {
    f.__name__: f for f in (by_hand, plain, causal, biased, masked, window, rotary)
}
MASKS: dict[str, Attend] = {f.__name__: f for f in (alibi, prefix, documents)}
LOADED: dict[str, Attend] = {f.__name__: f for f in (packed, padded, filled, retrieved)}
ALONE = [name for name in CASES if name != "rotary"]
"""Those with no kernel but attention's."""
SIZES = [(100, 65, 40, 40), (7, 130, 32, 24), (64, 64, 64, 64)]
"""Queries, keys, size of a head of queries and keys, and of values."""


def data(sizes: tuple[int, ...]) -> list[np.ndarray]:
    queries, keys, size, values = sizes
    rng = np.random.default_rng(5)
    shapes = ((queries, size), (keys, size), (keys, values), (queries, values))
    return [0.5 * rng.standard_normal((BATCH, HEADS, *s), dtype=np.float32) for s in shapes]


def joined(y: Any) -> Any:
    """Heads side by side, as the next layer takes them."""
    return y.transpose(1, 2).reshape(BATCH, y.shape[2], -1)


def ours(attend: Attend, arrays: list[np.ndarray], device: str) -> list[Tensor]:
    q, k, v = (tgrad.tensor(a, device=device, requires_grad=True) for a in arrays[:3])
    y = joined(attend(F, q, k, v))
    y.backward(joined(tgrad.tensor(arrays[3], device=device)))
    assert q.grad is not None and k.grad is not None and v.grad is not None
    return [y, q.grad, k.grad, v.grad]


def theirs(attend: Attend, arrays: list[np.ndarray]) -> list[np.ndarray]:
    q, k, v = (torch.tensor(a, requires_grad=True) for a in arrays[:3])
    y = joined(attend(torch.nn.functional, q, k, v))
    y.backward(joined(torch.tensor(arrays[3])))
    return [x.detach().numpy() for x in (y, q.grad, k.grad, v.grad)]


def chains(kernels: list[Fused]) -> list[Fused]:
    return [k for k in kernels if k.region.space.kind == "chain"]


@pytest.mark.parametrize("sizes", SIZES, ids=lambda s: "x".join(map(str, s)))
@pytest.mark.devices("cpu", "interpret")
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name: str, device: str, sizes: tuple[int, ...]) -> None:
    if name == "causal" and sizes[0] > sizes[1]:
        sizes = (sizes[1], sizes[0], *sizes[2:])
    arrays = data(sizes)
    found = ours(CASES[name], arrays, device)
    for got, want in zip(found, theirs(CASES[name], arrays)):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.devices("cpu", "interpret")
def test_tiles_of_queries_without_keys_are_not_left_out(device: str) -> None:
    """Queries 89 to 229 see no key: their softmax is NaN, and so is what it adds to all values."""
    arrays = data((230, 65, 16, 16))
    found = ours(CASES["window"], arrays, device)
    wanted = theirs(CASES["window"], arrays)
    assert np.isnan(wanted[-1]).any()
    for got, want in zip(found, wanted):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.devices("cpu", "interpret")
@pytest.mark.parametrize("name", MASKS)
def test_masks_and_biases(name: str, device: str) -> None:
    arrays = data((33, 65, 16, 16) if name != "alibi" else (70, 70, 16, 16))
    found = ours(MASKS[name], arrays, device)
    for got, want in zip(found, theirs(MASKS[name], arrays)):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-5)
    kernels = cut(ours(MASKS[name], data((33, 33, 16, 16)), "numpy"))
    assert [len(k.outputs) for k in chains(kernels)] == [2, 1, 2]
    assert all(n.size <= BATCH * HEADS * 33 * 16 for k in kernels for n in k.outputs)


@pytest.mark.devices("cpu", "interpret")
@pytest.mark.parametrize("name", LOADED)
def test_masks_of_loaded_values(name: str, device: str) -> None:
    """Of several tiles of rows and columns, with rows that see nothing."""
    arrays = data((100, 130, 16, 32))
    for got, want in zip(ours(LOADED[name], arrays, device), theirs(LOADED[name], arrays)):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-5)


TESTS = {
    "documents": ("le rows, columns", "le columns, rows"),
    "packed": ("le rows, columns", "le columns, rows"),
    "padded": ("cast columns",),
    "retrieved": ("lt columns, rows",),
}


@pytest.mark.parametrize("name", TESTS)
def test_loaded_values_bound_the_loop(name: str) -> None:
    """Forward rows are queries; backward they are those of the first and the keys of the second."""
    found = chains(cut(ours((MASKS | LOADED)[name], data((33, 33, 16, 16)), "numpy")))
    for kernel in found:
        region = kernel.region
        looped = {a.name for a in region.space.k}
        sides = ("rows", "columns") if kernel is found[2] else ("columns", "rows")
        texts = [
            f"{test.op} "
            + ", ".join(sides[0] if looped & set(region.dims[x]) else sides[1] for x in test.args)
            for test in region.space.tests
            if isinstance(test, rg.Compute)
        ]
        assert sorted(texts) == sorted(TESTS[name])


@pytest.mark.devices("cpu", "interpret")
def test_tiles_of_other_documents_are_not_read(device: str) -> None:
    """What a tile holds that no row of the program sees does not show, were it infinite."""
    q, k, v, _ = data((128, 128, 16, 16))
    plain_mean = v[:, :, :64].mean(2, keepdims=True)
    k[:, :, 64:], v[:, :, 64:] = 0.0, np.inf
    q[:, :, :64] = 0.0
    ids = tgrad.tensor(np.repeat([7, -2], 64), device=device)
    tensors = (tgrad.tensor(a, device=device) for a in (q, k, v))
    y = F.scaled_dot_product_attention(*tensors, attn_mask=ids[:, None] == ids).numpy()
    np.testing.assert_allclose(y[:, :, :64], np.broadcast_to(plain_mean, q[:, :, :64].shape),
                               rtol=1e-5, atol=1e-6)  # fmt: skip


def test_dropout_in_the_kernels() -> None:
    """What is dropped forward is dropped backward: the gradient is that of the loss."""
    found = []
    for device in ("numpy", "interpret"):
        tgrad.manual_seed(3)
        q, k, v = (
            tgrad.tensor(a, device=device, requires_grad=True) for a in data((33, 33, 16, 16))[:3]
        )
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.3)
        (y * y).sum().backward()
        assert q.grad is not None and k.grad is not None and v.grad is not None
        found.append([t.detach().numpy() for t in (y, q.grad, k.grad, v.grad)])
    for got, want in zip(*found):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALONE)
def test_forward_is_one_kernel(name: str) -> None:
    q, k, v = (tgrad.tensor(a, device="numpy") for a in data((33, 33, 16, 16))[:3])
    (kernel,) = cut([joined(CASES[name](F, q, k, v))])
    assert kernel.region.space.kind == "chain" and len(kernel.outputs) == 1


@pytest.mark.parametrize("name", ALONE)
def test_backward_is_two_kernels_and_one_for_row_sums(name: str) -> None:
    kernels = cut(ours(CASES[name], data((33, 33, 16, 16)), "numpy"))
    found = chains(kernels)
    assert [len(k.outputs) for k in found] == [2, 1, 2]
    of_views = 4 if name == "window" else 0  # sums over shared heads, gradients of the slices
    assert len(kernels) == 4 + of_views
    assert all(n.size <= BATCH * HEADS * 33 * 16 for k in kernels for n in k.outputs)


def test_rotary_positions_leave_attention_whole() -> None:
    """Their long history is computed before, and refuses no chain."""
    found = ours(rotary, data((100, 100, 64, 64)), "numpy")
    assert len(chains(cut(found[:1]))) == 1
    assert len(chains(cut(found))) == 3


def live(kernels: list[Fused]) -> list[tuple[str, ...]]:
    """The bounds of each chain; m is a row of the kernel and k a column."""
    found = []
    for kernel in chains(kernels):
        space = kernel.region.space
        names = {space.m[0].name: "m", space.k[0].name: "k"}
        texts = [str(b) for b in space.live]
        for name, role in names.items():
            texts = [re.sub(rf"\b{name}\b", role, t) for t in texts]
        found.append(tuple(texts))
    return found


def test_masks_bound_the_loop() -> None:
    arrays = data((33, 33, 16, 16))
    of_rows, of_columns = "0 <= (m + k*-1) < 33", "0 <= (m*-1 + k) < 33"
    assert live(cut(ours(causal, arrays, "numpy"))) == [(of_rows,), (of_rows,), (of_columns,)]
    assert live(cut(ours(plain, arrays, "numpy"))) == [(), (), ()]
    forward, *_ = live(cut(ours(window, arrays, "numpy")))
    assert forward == (of_rows, "1 <= (m*-1 + k + 24) < 57")


def test_dropout_and_scale_are_elementwise() -> None:
    q, k, v = (tgrad.tensor(a, device="numpy", requires_grad=True)
               for a in data((33, 33, 16, 16))[:3])  # fmt: skip
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.3)
    y.backward(y.detach() * 2)
    kernels = cut([y, q.grad, k.grad, v.grad])  # type: ignore[list-item]
    assert len(chains(kernels)) == 3


def test_gradients_of_one_tensor_are_added_in_a_kernel_of_their_own() -> None:
    x = tgrad.tensor(data((33, 33, 16, 16))[0], device="numpy", requires_grad=True)
    y = F.scaled_dot_product_attention(x, x, x, is_causal=True)
    (y * y).sum().backward()
    kernels = cut([x.grad])  # type: ignore[list-item]
    assert len(chains(kernels)) == 3 and len(kernels) == 5


def test_weights_that_are_wanted_are_stored_and_it_says_so() -> None:
    q, k, v = (tgrad.tensor(a, device="numpy") for a in data((33, 33, 16, 16))[:3])
    weights = F.softmax(q @ k.transpose(-1, -2), -1)
    kernels = cut([weights, weights @ v])
    assert not chains(kernels)
    (last,) = (k for k in kernels if k.outputs[0].shape[-1] == 16)
    assert last.reasons[0] == "no chain: its div of softmax is needed outside of the kernel"


def test_heads_that_do_not_fit_on_chip_are_refused() -> None:
    q, k, v = (tgrad.tensor(a, device="numpy") for a in data((8, 8, 300, 300))[:3])
    kernels = cut([by_hand(F, q, k, v)])
    assert not chains(kernels)
    assert "no chain: 300 elements a row do not fit on chip in a chain" in kernels[-1].reasons


@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("keys", [1, 37])
def test_few_queries_and_keys(queries: int, keys: int) -> None:
    arrays = data((queries, keys, 16, 16))
    cut(ours(plain, arrays, "numpy"))
    for got, want in zip(ours(plain, arrays, "cpu"), theirs(plain, arrays)):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_accumulate_in_float32(dtype: str) -> None:
    arrays = data((65, 65, 32, 32))
    wide = theirs(causal, arrays)
    q, k, v, g = (tgrad.tensor(a).to(getattr(tgrad, dtype)).detach() for a in arrays)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    y = joined(causal(F, *leaves))
    y.backward(joined(g))
    for got, want in zip((y, *(x.grad for x in leaves)), wide):
        assert got is not None and got.dtype is getattr(tgrad, dtype)
        np.testing.assert_allclose(got.float().numpy(), want, rtol=3e-2, atol=3e-2)


def test_gradients_of_gradients() -> None:
    arrays = data((9, 9, 8, 8))
    x = tgrad.tensor(arrays[0][0, 0], requires_grad=True)
    t = torch.tensor(arrays[0][0, 0], requires_grad=True)
    y = F.scaled_dot_product_attention(x, x, x)
    (first,) = tgrad.autograd.grad((y * y).sum(), [x], create_graph=True)
    (second,) = tgrad.autograd.grad((first * first).sum(), [x])
    z = torch.nn.functional.scaled_dot_product_attention(t, t, t)
    (one,) = torch.autograd.grad((z * z).sum(), [t], create_graph=True)
    (two,) = torch.autograd.grad((one * one).sum(), [t])
    np.testing.assert_allclose(second.numpy(), two.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_what_a_chain_stores_is_inside_of_no_other() -> None:
    """A softmax over the batch of an attention's result, and a product of it."""
    rng = np.random.default_rng(0)
    q, k = (
        tgrad.tensor(rng.standard_normal(s, np.float32), device="cpu")
        for s in [(3, 4, 17), (3, 2, 17)]
    )
    attended = ((q @ k.transpose(1, 2)) * 17**-0.5).softmax(-1) @ k
    out = (attended.softmax(0) @ q.transpose(1, 2)) * 0.2
    a, b = (t.numpy().astype(np.float64) for t in (q, k))

    def softmax(x, axis):
        e = np.exp(x - x.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)

    weights = softmax(a @ b.transpose(0, 2, 1) * 17**-0.5, -1)
    want = softmax(weights @ b, 0) @ a.transpose(0, 2, 1) * 0.2
    np.testing.assert_allclose(out.numpy(), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("device", ["cpu", "interpret"])
@pytest.mark.parametrize("which", ["q", "k", "v", "qkv"])
@pytest.mark.parametrize("axis", [0, 1])
def test_rows_and_columns_from_the_end(device: str, which: str, axis: int) -> None:
    """Operands that memory has backwards."""
    rng = np.random.default_rng(axis)
    given = {name: rng.standard_normal((48, 32)).astype(np.float32) for name in "qkv"}
    turned = {n: np.flip(a, axis) if n in which else a for n, a in given.items()}
    q, k, v = (
        tgrad.tensor(a, device=device).flip(axis) if n in which else tgrad.tensor(a, device=device)
        for n, a in given.items()
    )
    have = ((q @ k.T) * 0.2).softmax(-1) @ v
    scores = turned["q"].astype(np.float64) @ turned["k"].T * 0.2
    e = np.exp(scores - scores.max(-1, keepdims=True))
    want = e / e.sum(-1, keepdims=True) @ turned["v"]
    np.testing.assert_allclose(have.numpy(), want, rtol=0, atol=1e-5)
