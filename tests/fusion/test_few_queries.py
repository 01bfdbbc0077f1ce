"""Decoding: attention of few queries over many keys is a kernel for parts of keys and a merge."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad.pipeline import compile_graph
from tgrad.runtime.plan import Plan
from tgrad.runtime.planning import planning
from tgrad.tensor import Tensor
from tgrad.triton_gen import compile_for

torch = pytest.importorskip("torch")

Attend = Callable[[Any, Any, Any, Any, Any], Any]
"""(library, functional, q, k, v) -> attention, in either library"""


def _place(q: Any) -> dict[str, Any]:
    return {"device": q.device}


def plain(lib: Any, f: Any, q: Any, k: Any, v: Any) -> Any:
    return f.scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1])


def by_hand(lib: Any, f: Any, q: Any, k: Any, v: Any) -> Any:
    """Shared heads as a fifth axis, a soft cap, and keys beyond a length that is data."""
    batch, heads, rows, size = q.shape
    shared, keys = k.shape[1], k.shape[2]
    q = q.reshape(batch, shared, heads // shared, rows, size)
    scores = 4.0 * (q @ k[:, :, None].transpose(-1, -2) * 0.1).tanh()
    length = lib.tensor(keys - 70, **_place(q))
    scores = lib.where(lib.arange(keys, **_place(q)) < length, scores, -math.inf)
    return (f.softmax(scores, -1) @ v[:, :, None]).reshape(batch, heads, rows, -1)


def masked(lib: Any, f: Any, q: Any, k: Any, v: Any) -> Any:
    """A mask that leaves some rows no key at all, and some parts none."""
    seen = np.random.default_rng(4).random((q.shape[0], 1, q.shape[2], k.shape[2])) < 0.5
    seen[:, :, :, :300] = False
    seen[-1, :, -1] = False
    mask = lib.tensor(seen, **_place(q))
    return f.scaled_dot_product_attention(q, k, v, mask, enable_gqa=q.shape[1] != k.shape[1])


def lengths(lib: Any, f: Any, q: Any, k: Any, v: Any) -> Any:
    """Each sequence has a length of its own."""
    have = lib.tensor(list(range(40, 40 + q.shape[0])), **_place(q))
    seen = (lib.arange(k.shape[2], **_place(q)) < have[:, None])[:, None, None]
    return f.scaled_dot_product_attention(q, k, v, seen, enable_gqa=q.shape[1] != k.shape[1])


CASES: dict[str, Attend] = {f.__name__: f for f in (plain, by_hand, masked, lengths)}
SIZES = {"one": (2, 4, 2, 1, 515), "heads": (1, 2, 2, 1, 600), "rows": (1, 2, 1, 3, 520)}
"""Batch, query heads, key heads, queries, keys."""


def data(sizes: tuple[int, ...], size: int = 16) -> list[np.ndarray]:
    batch, heads, shared, rows, keys = sizes
    rng = np.random.default_rng(5)
    shapes = ((batch, heads, rows), (batch, shared, keys), (batch, shared, keys))
    return [rng.standard_normal((*s, size), dtype=np.float32) for s in shapes]


def plan_of(outputs: Sequence[Tensor]) -> Plan:
    compiled, _ = compile_graph([t._node for t in outputs], outputs[0].device)
    return compiled.plan


def kinds(plan: Plan) -> list[str]:
    assert all(k.region is not None for k in plan.kernels)
    return [plan.kernels[s.kernel].region.space.kind for s in plan.steps]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_values(name: str, sizes: str) -> None:
    arrays = data(SIZES[sizes])
    want = CASES[name](torch, torch.nn.functional, *(torch.tensor(a) for a in arrays))
    for device in ("interpret", "cpu"):
        y = CASES[name](tgrad, F, *(tgrad.tensor(a, device=device) for a in arrays))
        if device == "interpret":
            assert kinds(plan_of([y])) == ["chain", "reduce"]
        np.testing.assert_allclose(y.numpy(), want.numpy(), rtol=1e-5, atol=1e-5)


def test_nothing_to_attend_with() -> None:
    q = tgrad.zeros(0, 2, 1, 16, device="interpret")
    k = tgrad.zeros(0, 2, 600, 16, device="interpret")
    assert F.scaled_dot_product_attention(q, k, k).numpy().shape == (0, 2, 1, 16)


def test_rows_without_a_key_are_nan_where_the_softmax_is_plain() -> None:
    arrays = data(SIZES["rows"])
    found = []
    for lib, f, make in ((tgrad, F, "interpret"), (torch, torch.nn.functional, "cpu")):
        q, k, v = (lib.tensor(a, device=make) for a in arrays)
        seen = lib.tensor(np.arange(2 * 3).reshape(2, 3, 1) % 2 == 0, device=make)
        scores = lib.where(seen, q @ k.transpose(-1, -2), -math.inf)
        found.append((f.softmax(scores, -1) @ v).numpy())
    assert np.isnan(found[1]).any()
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-5)


def paged(lib: Any, f: Any, q: Any, pages: Sequence[Any], table: Any, have: Any) -> Any:
    """Keys and values in pages, found through a table."""
    (batch, places), (_, size, heads, width) = table.shape, pages[0].shape
    k, v = (x[table].reshape(batch, places * size, heads, width).transpose(1, 2) for x in pages)
    seen = (lib.arange(k.shape[2], **_place(q)) < have[:, None])[:, None, None]
    return f.scaled_dot_product_attention(q, k, v, seen, enable_gqa=True)


def test_pages_are_gathered_in_the_kernel() -> None:
    rng = np.random.default_rng(6)
    q = rng.standard_normal((2, 4, 1, 16), dtype=np.float32)
    pages = [rng.standard_normal((80, 16, 2, 16), dtype=np.float32) for _ in range(2)]
    table = rng.permutation(80)[:72].reshape(2, 36)
    found = []
    for lib, f, make in ((tgrad, F, "interpret"), (torch, torch.nn.functional, "cpu")):
        tensors = [lib.tensor(a, device=make) for a in (q, *pages, table, np.array([300, 570]))]
        found.append(paged(lib, f, tensors[0], tensors[1:3], *tensors[3:]))
    assert kinds(plan_of([found[0]])) == ["chain", "reduce"]
    np.testing.assert_allclose(found[0].numpy(), found[1].numpy(), rtol=1e-5, atol=1e-5)


# -- plans for a GPU, and what they compile to --------------------------------------------------

BF16 = [(1, 32, 8, 1, 8192), (1, 32, 32, 1, 8192), (1, 32, 8, 4, 8192)]


def empty(*shape: int, dtype: Any = tgrad.bfloat16) -> Tensor:
    return tgrad.empty(*shape, dtype=dtype, device="cuda").realize()


def decoding(sizes: tuple[int, ...], target: str, size: int = 128) -> Plan:
    """The plan of one step over a cache of which a runtime length is filled."""
    batch, heads, shared, rows, keys = sizes
    with planning(target):
        q, k, v = (
            empty(batch, heads, rows, size),
            *(empty(batch, shared, keys, size) for _ in range(2)),
        )
        seen = tgrad.arange(keys, device="cuda") < empty(1, dtype=tgrad.int64)
        return plan_of([F.scaled_dot_product_attention(q, k, v, seen, enable_gqa=True)])


@pytest.mark.parametrize("sizes", BF16, ids=lambda s: "x".join(map(str, s)))
def test_keys_are_read_once_and_fill_the_device(sizes: tuple[int, ...]) -> None:
    plan = decoding(sizes, "sm_90")
    assert kinds(plan) == ["chain", "reduce"]
    batch, heads, shared, rows, keys = sizes
    cache = 2 * batch * shared * keys * 128 * 2
    # partial results are float32, one for each part of at least 256 keys
    partial = batch * heads * rows * (keys // 256) * (128 + 2) * 4
    assert sum(plan.kernels[s.kernel].bytes for s in plan.steps) <= cache + 2 * partial + 100_000
    assert plan.arena_bytes <= partial + 1024
    config = plan.kernels[0].config
    assert config is not None
    assert math.prod(a.steps for a in config.axes if a.role.value == "grid") >= 256
    assert re.search(r"k_stop = tl.minimum\(256, t\d+|k_stop = tl.minimum\(1024, t\d+",
                     plan.kernels[0].source)  # fmt: skip


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
@pytest.mark.parametrize("sizes", BF16[:2], ids=["shared", "heads"])
def test_static_quality(sizes: tuple[int, ...], target: str) -> None:
    plan = decoding(sizes, target)
    chain, merge = compile_for([k.region for k in plan.kernels if k.region], target)
    assert chain.figures.spills == merge.figures.spills == 0
    assert chain.figures.widest_load == 128
    if target == "sm_90":
        assert chain.figures.async_copies
    uses_matrix_unit = chain.figures.matrix_instruction is not None
    assert uses_matrix_unit == (sizes[1] != sizes[2])  # one row is no product of matrices


def test_training_and_many_queries_stay_as_they_are() -> None:
    with planning("sm_90"):
        q, k, v = (empty(1, 4, 8, 64).requires_grad_(), empty(1, 4, 4096, 64).requires_grad_(),
                   empty(1, 4, 4096, 64).requires_grad_())  # fmt: skip
        y = F.scaled_dot_product_attention(q, k, v)
        y.backward(empty(1, 4, 8, 64))
        assert kinds(plan_of([y, q.grad, k.grad, v.grad])).count("chain") == 3  # type: ignore
        assert kinds(plan_of([F.scaled_dot_product_attention(*3 * [empty(8, 16, 512, 64)])])) == [
            "chain"
        ]


def test_statistics_that_others_need_are_stored_by_the_chain() -> None:
    """A softmax written by hand whose maximum and sum are results, too."""
    arrays = data((1, 2, 2, 40, 70))
    found = []
    for lib, make in ((tgrad, "interpret"), (torch, "cpu")):
        q, k, v = (lib.tensor(a, device=make) for a in arrays)
        scores = q @ k.transpose(-1, -2) * 0.25
        high = scores.amax(-1, keepdim=True)
        power = (scores - high).exp()
        total = power.sum(-1, keepdim=True)
        found.append(((power / total) @ v, high, total))
    assert kinds(plan_of(found[0])) == ["chain"]
    for got, want in zip(*found):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-5, atol=1e-5)


def test_one_query_of_one_head(device: str) -> None:
    """Its few keys are one part, and its products have one row and no batch: they are sums."""
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal((1, n, 16)).astype(np.float32) for n in (1, 37, 37)]
    made = F.scaled_dot_product_attention(*(tgrad.tensor(a, device=device) for a in arrays))
    want = torch.nn.functional.scaled_dot_product_attention(*map(torch.from_numpy, arrays))
    np.testing.assert_allclose(made.numpy(), want.numpy(), rtol=1e-5, atol=1e-6)
