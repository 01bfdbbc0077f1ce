"""flex_attention: of tensors of tgrad, and of PyTorch's under torch.compile, against the formula in
PyTorch; on GPUs one kernel forward, no scores in memory, tiles skipped."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.attention.bias
import torch.nn.attention.flex_attention as theirs

import tgrad
import tgrad.nn.attention.bias
import tgrad.nn.attention.flex_attention as ours
from tests.front.checking import normal
from tests.front.torch_only import halved
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.interop.operators import flex_attention as operators
from tgrad.runtime.planning import planning
from tgrad.tensor import Tensor

BATCH, HEADS, QUERIES, KEYS, WIDTH = 2, 4, 37, 50, 16
DOCUMENTS = np.arange(KEYS) // 17
BIAS = np.random.default_rng(1).standard_normal((HEADS, 2 * KEYS)).astype(np.float32)


def mods(bias: Any) -> dict[str, Any]:
    """By name, functions of a score and its places."""
    return {
        "as it is": None,
        "distance": lambda s, b, h, q, k: s - (q - k).abs() * 0.01,
        "soft cap": lambda s, b, h, q, k: 20 * (s / 20).tanh(),
        "learned": lambda s, b, h, q, k: s + bias[h, q - k + KEYS],
        "masked": lambda s, b, h, q, k: s.where(q >= k, -math.inf) if isinstance(s, Tensor)
        else torch.where(q >= k, s, -math.inf),
    }  # fmt: skip


def masks(tensor: Callable[[Any], Any]) -> dict[str, Any]:
    documents = tensor(DOCUMENTS)
    return {
        "all": None,
        "causal": lambda b, h, q, k: q >= k,
        "window": lambda b, h, q, k: (q >= k) & (q - k < 7),
        "documents": lambda b, h, q, k: (documents[q] == documents[k]) & (h < 3),
    }


NAMES = [(m, k) for m in mods(None) for k in masks(torch.tensor)]


def heads(count: int, rows: int, batch: int = BATCH) -> np.ndarray:
    rng = np.random.default_rng(rows + count)
    return rng.standard_normal((batch, count, rows, WIDTH)).astype(np.float32)


def formula(q: Any, k: Any, v: Any, mod: Any, mask: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """In PyTorch, with scores in memory."""
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    s = q @ k.mT / math.sqrt(q.shape[-1])
    sizes = ([-1 if a == axis else 1 for a in range(4)] for axis in range(4))
    places = [torch.arange(n).reshape(size) for n, size in zip(s.shape, sizes)]
    s = s if mod is None else mod(s, *places)
    s = s if mask is None else torch.where(mask(*places), s, -math.inf)
    return torch.softmax(s, -1).nan_to_num(0) @ v, torch.logsumexp(s, -1)


def loss(y: Any, rows: Any) -> Any:
    finite = rows.where(rows > -1e30, 0.0) if isinstance(rows, Tensor) else rows.clamp(min=-1e30)
    finite = finite if isinstance(rows, Tensor) else finite.where(rows > -1e30, torch.zeros(()))
    return (y * y).sum() + finite.sum()


def wanted(mod: str, mask: str, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Results and gradients."""
    leaves = [torch.tensor(a, requires_grad=True) for a in (*arrays, BIAS)]
    made = formula(*leaves[:3], mods(leaves[3])[mod], masks(torch.tensor)[mask])
    found = torch.autograd.grad(loss(*made), leaves, allow_unused=True)
    return [t.detach().numpy() for t in (*made, *found) if t is not None]


def assert_equal(found: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> None:
    for mine, other in zip(found, want, strict=True):
        largest = np.abs(other[np.isfinite(other)]).max()
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=2e-5 * max(1.0, largest))


@pytest.mark.devices("cpu", "interpret")
@pytest.mark.parametrize(("mod", "mask"), NAMES)
def test_of_tgrads_tensors(mod: str, mask: str, device: str) -> None:
    arrays = [heads(HEADS, QUERIES), heads(2, KEYS), heads(2, KEYS) + 1]
    made = partial(tgrad.tensor, device=device)
    q, k, v, bias = (made(a, requires_grad=True) for a in (*arrays, BIAS))
    sees = masks(made)[mask]
    block = None if sees is None else ours.create_block_mask(sees, None, None, QUERIES, KEYS)
    y, rows = ours.flex_attention(q, k, v, mods(bias)[mod], block, enable_gqa=True, return_lse=True)
    loss(y, rows).backward()
    found = [t.numpy() for t in (y, rows, q.grad, k.grad, v.grad, bias.grad) if t is not None]
    assert_equal(found, wanted(mod, mask, arrays))


@pytest.mark.parametrize(("mod", "mask"), NAMES)
def test_under_torch_compile(mod: str, mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With gradients, which PyTorch refuses on a CPU for its own kernels' sake; beside a mask one
    batch of keys is for all queries."""
    monkeypatch.setattr(theirs, "_validate_device", lambda *inputs: None)
    torch._dynamo.reset()
    batch = BATCH if mask == "all" else 1
    arrays = [heads(HEADS, QUERIES), heads(2, KEYS, batch), heads(2, KEYS, batch) + 1]
    leaves = [torch.tensor(a, requires_grad=True) for a in (*arrays, BIAS)]
    function, sees = mods(leaves[3])[mod], masks(torch.tensor)[mask]
    block = None
    if sees is not None:
        block = theirs.create_block_mask(sees, BATCH, HEADS, QUERIES, KEYS, device="cpu")

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
        return theirs.flex_attention(q, k, v, function, block, enable_gqa=True, return_lse=True)

    made = torch.compile(attention, backend="tgrad", fullgraph=True)(*leaves[:3])
    found = torch.autograd.grad(loss(*made), leaves, allow_unused=True)
    results = [t.detach().numpy() for t in (*made, *found) if t is not None]
    assert_equal(results, wanted(mod, mask, arrays))


def test_sizes_that_change() -> None:
    """In inference, on the CPU as PyTorch has it."""
    torch._dynamo.reset()

    def attention(q: torch.Tensor) -> Any:
        return theirs.flex_attention(q, q, q, lambda s, b, h, i, j: torch.where(i >= j, s, -1e9))

    run = torch.compile(attention, backend="tgrad", fullgraph=True, dynamic=True)
    for rows in (20, 33):
        q = torch.tensor(heads(2, rows))
        want, _ = formula(q, q, q, lambda s, b, h, i, j: torch.where(i >= j, s, -1e9), None)
        torch.testing.assert_close(run(q), want, rtol=1e-4, atol=1e-5)


def test_functions_of_more_than_one_score_are_refused() -> None:
    torch._dynamo.reset()
    points = torch.randn(QUERIES, 3)

    def attention(q: torch.Tensor) -> Any:
        return theirs.flex_attention(
            q, q, q, lambda s, b, h, i, j: s + (points[i] - points[j]).square().sum()
        )

    with pytest.raises(
        Exception, match=r"aten\.\w+\.\w+ in a function of flex_attention"
    ) as caught:
        torch.compile(attention, backend="tgrad")(torch.tensor(heads(2, QUERIES)))
    assert isinstance(caught.value.inner_exception, UnsupportedError)


@pytest.mark.parametrize("is_of_one", [True, False])
def test_beside_what_pytorch_runs(is_of_one: bool) -> None:
    """A plan holds the functions of its attention; one that it cannot take is PyTorch's."""
    torch._dynamo.reset()
    points = torch.randn(QUERIES, 3)

    def mod(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        return s + (points[i, 0] - points[j, 0] if is_of_one else (points[i] - points[j]).sum())

    def attention(q: torch.Tensor) -> torch.Tensor:
        return theirs.flex_attention(q, q, q, mod) + halved(q)

    q = torch.tensor(heads(2, QUERIES))
    run = torch.compile(attention, backend="tgrad", options={"fallback": True})
    asked = "PyTorch runs tgradtests.halved" if is_of_one else "PyTorch runs flex_attention"
    with pytest.warns(UserWarning, match=asked):
        found = run(q)
    places = points[:, :1] - points[:, 0] if is_of_one else (points[:, None] - points).sum(-1)
    want = torch.softmax(q @ q.mT / 4 + places, -1) @ q + halved(q)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)


LENGTH = 2048
ON_GPUS: dict[str, tuple[Any, Any]] = {
    "causal": (None, lambda documents, q, k: q >= k),
    "window": (None, lambda documents, q, k: (q >= k) & (q - k < 256)),
    "documents": (None, lambda documents, q, k: (documents[q] == documents[k]) & (q >= k)),
    "alibi": (lambda s, b, h, q, k: s + (k - q) * (-(h + 1.0)).exp2(), lambda d, q, k: q >= k),
    "soft cap": (lambda s, b, h, q, k: 20 * (s / 20).tanh(), None),
}


@pytest.mark.parametrize("name", ON_GPUS)
def test_kernels_on_gpus(name: str) -> None:
    """A chain forward, two and a sum over rows backward; nothing of length x length is stored."""
    shape, half = (2, 4, LENGTH, 64), tgrad.bfloat16
    mod, sees = ON_GPUS[name]

    def step(documents: Tensor, *inputs: Tensor) -> Any:
        def mask(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return sees(documents, q, k)

        block = None if sees is None else ours.create_block_mask(mask, 1, 1, LENGTH, LENGTH)
        y, pull = tgrad.func.vjp(lambda *t: ours.flex_attention(*t, mod, block), *inputs)
        return y, *pull(y)

    with planning("sm_90"):
        inputs = [tgrad.zeros(shape, dtype=half, device="cuda").realize() for _ in range(3)]
        documents = tgrad.zeros(LENGTH, dtype=tgrad.int64, device="cuda").realize()
        compiled = tgrad.compile(step)
        compiled(documents, *inputs)
        (plan,) = compiled.plans
    assert [k.region.space.kind for k in plan.kernels].count("chain") == 3
    largest = max(spec.nbytes for spec in (*plan.outputs, *plan.temps))
    assert largest < LENGTH * LENGTH


@pytest.mark.parametrize("name", ON_GPUS)
def test_kernels_of_torch_compile_on_gpus(name: str) -> None:
    """Two plans, forward and backward, with the rows' numbers between."""
    shape = (2, 4, LENGTH, 64)
    mod, sees = ON_GPUS[name]
    score = mod or (lambda s, b, h, q, k: s)
    mask = (None, lambda b, h, q, k, d: (q >= 0) if sees is None else sees(d, q, k))

    def forward(documents: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Any:
        return operators.forward(q, k, v, score, mask, 0.125, {}, (), (documents,))[:2]

    def backward(documents: Tensor, q: Tensor, k: Tensor, v: Tensor, *made: Tensor) -> Any:
        others = (*made, None, score, None, mask, 0.125, {}, (), (documents,))
        return operators.backward(q, k, v, *others)[:3]

    with planning("sm_90"), tgrad.no_grad():
        x = [tgrad.zeros(shape, dtype=tgrad.bfloat16, device="cuda").realize() for _ in range(5)]
        documents = tgrad.zeros(LENGTH, dtype=tgrad.int64, device="cuda").realize()
        rows = tgrad.zeros(shape[:3], device="cuda").realize()
        found = []
        for function, given in (
            (forward, x[:3]), (backward, (x[0], x[1], x[2], x[3], rows, x[4])),
        ):  # fmt: skip
            compiled = tgrad.compile(function)
            compiled(documents, *given)
            (plan,) = compiled.plans
            found.append([k.region.space.kind for k in plan.kernels if k.bytes > LENGTH])
            assert max(s.nbytes for s in (*plan.outputs, *plan.temps)) < LENGTH * LENGTH
    assert found[0] == ["chain", "map"]  # to logarithms to the base of 2
    assert sorted(found[1]) == ["chain", "chain", "map", "reduce"]


def test_mistakes() -> None:
    q, k = tgrad.zeros(1, 4, 8, 16), tgrad.zeros(1, 2, 8, 16)
    block = ours.create_block_mask(lambda b, h, q, k: q >= k, None, None, 8, 16)
    with pytest.raises(ShapeError, match=r"a mask of \(8, 16\) for \(8, 8\) queries and keys"):
        ours.flex_attention(q, q, q, block_mask=block)
    with pytest.raises(ShapeError, match="4 query heads over 2 key heads"):
        ours.flex_attention(q, k, k)
    with pytest.raises(ShapeError, match="batch, heads, places and features"):
        ours.flex_attention(q[0], q[0], q[0])
    with pytest.raises(UnsupportedError, match="block_mask of Tensor"):
        ours.flex_attention(q, q, q, block_mask=q)  # type: ignore[arg-type]


def test_masks() -> None:
    causal, near = (lambda b, h, q, k: q >= k), (lambda b, h, q, k: q - k < 2)
    for name in ("and_masks", "or_masks"):
        mine, other = (getattr(library, name)(causal, near) for library in (ours, theirs))
        found = ours.create_mask(mine, 2, None, 5, 6, device="cpu")
        want = theirs.create_mask(other, 2, None, 5, 6, device="cpu")
        assert found.dtype is tgrad.bool
        np.testing.assert_array_equal(found.numpy(), want.numpy())


def test_places_of_arguments() -> None:
    """Those that are read here are where PyTorch has them."""
    for op, function in (
        (operators.FORWARD, operators.forward), (operators.BACKWARD, operators.backward),
    ):  # fmt: skip
        asked = list(signature(type(op).__call__).parameters)[1:]
        assert len(asked) == len(signature(function).parameters)
    assert asked[operators.JOINT_GRAPH] == "joint_graph"


MASKS = [
    lambda b, h, q, k: q >= k,
    lambda b, h, q, k: (q >= k) & (q - k < 70),
    lambda b, h, q, k: (h == 0) | (q >= k),
]


@pytest.mark.parametrize("mask_mod", MASKS)
@pytest.mark.parametrize("sizes", [128, (32, 64)])
def test_lists_of_tiles(mask_mod, sizes):
    want = theirs.create_block_mask(mask_mod, 1, 2, 200, 128, device="cpu", BLOCK_SIZE=sizes)
    have = ours.create_block_mask(mask_mod, 1, 2, 200, 128, device="cpu", BLOCK_SIZE=sizes)
    for name in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices"):
        assert getattr(have, name).tolist() == getattr(want, name).tolist(), name
    assert have.shape == want.shape and have.numel() == want.numel()
    assert have.BLOCK_SIZE == want.BLOCK_SIZE and have.to("cpu").shape == want.shape
    assert have.sparsity() == pytest.approx(want.sparsity())
    assert have.to_dense().tolist() == want.to_dense().tolist()


def test_masks_of_lists_of_tiles():
    q, k, v = (tgrad.tensor(normal(i, 1, 2, 64, 8)) for i in range(3))
    causal = ours.create_block_mask(MASKS[0], 1, 2, 64, 64, device="cpu", BLOCK_SIZE=16)
    lists = (
        causal.kv_num_blocks, causal.kv_indices, causal.full_kv_num_blocks, causal.full_kv_indices,
    )  # fmt: skip
    again = ours.BlockMask.from_kv_blocks(*lists, BLOCK_SIZE=16, mask_mod=MASKS[0])
    want = ours.flex_attention(q, k, v, block_mask=causal)
    np.testing.assert_allclose(
        ours.flex_attention(q, k, v, block_mask=again).numpy(), want.numpy(), rtol=1e-5, atol=1e-6
    )
    have = ours.BlockMask.from_kv_blocks(*lists[:2], BLOCK_SIZE=16, mask_mod=MASKS[0])
    tiles = tgrad.arange(64) // 16
    near = (tiles[:, None] == tiles).tril() & tgrad.ones(64, 64, dtype=tgrad.bool).tril()
    want = tgrad.nn.functional.scaled_dot_product_attention(q, k, v, near)
    got = ours.flex_attention(q, k, v, block_mask=have)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-4, atol=1e-5)


PARTS = [
    (0,), (1, 1), (-1,), (slice(0, 2), slice(1, 2)), (slice(None), slice(None), slice(1, 3)),
    (0, slice(None), [2]), (slice(None), [1, 0]),
]  # fmt: skip


@pytest.mark.parametrize("index", PARTS)
def test_parts_of_masks(index):
    """Lists of tiles are PyTorch's, and a function that is assigned says what is seen in them."""
    lists = []
    for library, of in ((tgrad, ours), (torch, theirs)):
        at = tuple(library.tensor(i) if isinstance(i, list) else i for i in index)
        mask = of.create_block_mask(MASKS[0], 2, 2, 200, 128, device="cpu", BLOCK_SIZE=(64, 32))
        part = mask[at if len(at) > 1 else at[0]]
        names = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
        lists.append([part.BLOCK_SIZE, part.seq_lengths])
        lists[-1] += [getattr(part, n).tolist() for n in names]
    assert lists[0] == lists[1]


def test_a_part_of_a_mask_takes_a_function():
    q, k, v = (tgrad.tensor(normal(i, 1, 2, n, 8)) for i, n in enumerate((16, 64, 64)))
    causal = ours.create_block_mask(MASKS[0], 1, 2, 64, 64, device="cpu", BLOCK_SIZE=16)
    row = causal[:, :, tgrad.tensor([2])]
    with pytest.raises(ShapeError, match="flex_attention: a mask of"):
        ours.flex_attention(q, k, v, block_mask=row)
    row.seq_lengths = (16, 64)
    with pytest.raises(UnsupportedError, match="has no function of its own"):
        ours.flex_attention(q, k, v, block_mask=row)
    row.mask_mod = lambda b, h, q, k: q + 32 >= k
    got = ours.flex_attention(q, k, v, block_mask=row)
    seen = tgrad.arange(32, 48)[:, None] >= tgrad.arange(64)
    want = tgrad.nn.functional.scaled_dot_product_attention(q, k, v, seen)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-4, atol=1e-5)


def test_what_else_is_wanted():
    arrays = [normal(i, 1, 2, 20, 8) for i in range(3)]
    q, k, v = map(tgrad.tensor, arrays)
    y, extra = ours.flex_attention(q, k, v, return_aux=ours.AuxRequest(lse=True, max_scores=True))
    scores = torch.tensor(arrays[0]) @ torch.tensor(arrays[1]).mT / math.sqrt(8)
    want = scores.softmax(-1) @ torch.tensor(arrays[2])
    for have, expected in zip((y, *extra), (want, scores.logsumexp(-1), scores.amax(-1))):
        np.testing.assert_allclose(have.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert ours.flex_attention(q, k, v, return_aux=ours.AuxRequest())[1] == (None, None)
    with pytest.raises(ShapeError, match="return_lse and return_aux"):
        ours.flex_attention(q, k, v, return_lse=True, return_aux=ours.AuxRequest())


def test_causal_masks_of_other_lengths():
    bias = tgrad.nn.attention.bias
    for q, k in ((3, 5), (5, 3)):
        for name in ("causal_upper_left", "causal_lower_right"):
            want = getattr(torch.nn.attention.bias, name)(q, k)._materialize()
            assert getattr(bias, name)(q, k).tolist() == want.tolist()
