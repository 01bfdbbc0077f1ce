"""Exchanges between processes: values of each dtype, groups, gradients, compiled, and mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.distributed as dist
from tests.distributed.processes import backend
from tgrad import dtype as dt
from tgrad.errors import (
    DeviceError,
    DistributedError,
    DTypeError,
    ShapeError,
    TraceError,
    UnsupportedError,
)
from tgrad.runtime import collective

SHAPES = ((), (1,), (0, 3), (5, 3), (1031,))
SUMMED = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "int8")
MOVED = (*SUMMED, "int16", "bool", "float8_e4m3fn", "uint32")


def data(rank: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    random = np.random.default_rng([rank, *shape])
    return random.integers(0, 3, shape).astype(dt.by_name(dtype).numpy)


def as_tensor(array: np.ndarray, dtype: str) -> tgrad.Tensor:
    return tgrad.tensor(array, dtype=dt.by_name(dtype))


def host(t: tgrad.Tensor) -> np.ndarray:
    return t.numpy().astype(np.float64)


def _moves(rank: int) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for dtype in MOVED:
        for shape in SHAPES:
            x = as_tensor(data(rank, shape, dtype), dtype)
            sent = x.clone()
            dist.broadcast(sent, 1)
            gathered = [tgrad.zeros_like(x) for _ in range(3)]
            dist.all_gather(gathered, x)
            whole = tgrad.zeros(3, *shape, dtype=x.dtype)
            dist.all_gather_into_tensor(whole, x)
            rows = as_tensor(data(rank, (6, 2), dtype), dtype)
            taken = tgrad.zeros_like(rows)
            dist.all_to_all_single(taken, rows)
            results = [sent, *gathered, whole, taken]
            found[dtype, shape] = [host(t) for t in results]
    return found


def test_what_is_moved_is_what_the_others_have(three) -> None:
    for rank, found in enumerate(three.run(_moves)):
        for (dtype, shape), (sent, a, b, c, whole, taken) in found.items():
            given = [data(r, shape, dtype).astype(np.float64) for r in range(3)]
            np.testing.assert_array_equal(sent, given[1])
            np.testing.assert_array_equal([a, b, c], given)
            np.testing.assert_array_equal(whole, given)
            rows = [data(r, (6, 2), dtype).astype(np.float64) for r in range(3)]
            share = [x[2 * rank : 2 * rank + 2] for x in rows]
            np.testing.assert_array_equal(taken, np.concatenate(share))


def _sums(rank: int) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for dtype in SUMMED:
        for shape in SHAPES:
            x = as_tensor(data(rank, shape, dtype), dtype)
            results = []
            for op in (dist.ReduceOp.SUM, dist.ReduceOp.MAX, "ReduceOp.PRODUCT"):
                total = x.clone()
                assert dist.all_reduce(total, op, async_op=True).wait()
                results.append(total)
            kept = x.clone()
            dist.reduce(kept, 2)
            shares = as_tensor(data(rank, (3, *shape), dtype), dtype)
            share = tgrad.zeros(*shape, dtype=x.dtype)
            dist.reduce_scatter_tensor(share, shares)
            other = tgrad.zeros(*shape, dtype=x.dtype)
            dist.reduce_scatter(other, list(shares))
            found[dtype, shape] = [host(t) for t in (*results, kept, share, other)]
    return found


def test_what_is_joined_is_joined_over_all_processes(three) -> None:
    for rank, found in enumerate(three.run(_sums)):
        for (dtype, shape), results in found.items():
            given = np.stack([data(r, shape, dtype).astype(np.float64) for r in range(3)])
            shares = np.stack([data(r, (3, *shape), dtype).astype(np.float64) for r in range(3)])
            share = shares.sum(0)[rank]
            kept = given.sum(0) if rank == 2 else given[rank]
            wanted = [given.sum(0), given.max(0), given.prod(0), kept, share, share]
            for result, known in zip(results, wanted, strict=True):
                np.testing.assert_array_equal(result, known)


def _lists(rank: int) -> list[Any]:
    own = tgrad.full((2,), float(rank))
    gathered = [tgrad.zeros(2) for _ in range(3)] if rank == 1 else None
    dist.gather(own, gathered, dst=1)
    taken = tgrad.zeros(2)
    dist.scatter(taken, [own + 10 * n for n in range(3)] if rank == 2 else None, src=2)
    rows = [tgrad.full((rank + n,), 10.0 * rank + n) for n in range(3)]
    others = [tgrad.zeros(rank + n) for n in range(3)]
    dist.all_to_all(others, rows)
    flat = tgrad.zeros(3 * rank + 3)
    dist.all_to_all_single(flat, tgrad.cat(rows), [rank + n for n in range(3)],
                           [rank + n for n in range(3)])  # fmt: skip
    if rank == 0:
        dist.send(tgrad.arange(4, dtype=tgrad.bfloat16), 2)
    sender = None
    got = tgrad.zeros(4, dtype=tgrad.bfloat16)
    if rank == 2:
        sender = dist.recv(got)
    objects: list[Any] = [None] * 3
    dist.all_gather_object(objects, {"rank": rank})
    told = [rank]
    dist.broadcast_object_list(told, 1)
    mean = tgrad.full((1,), float(rank))
    dist.all_reduce(mean, dist.ReduceOp.AVG)
    dist.barrier()
    assert dist.barrier(None, True).wait()
    return [
        gathered and [t.tolist() for t in gathered], taken.tolist(), [t.tolist() for t in others],
        flat.tolist(), sender, got.tolist(), objects, told, mean.tolist(),
    ]  # fmt: skip


def test_lists_pairs_and_objects(three) -> None:
    for rank, found in enumerate(three.run(_lists)):
        gathered, taken, others, flat, sender, got, objects, told, mean = found
        assert gathered == ([[float(n)] * 2 for n in range(3)] if rank == 1 else None)
        assert taken == [2.0 + 10 * rank] * 2
        assert others == [[10.0 * n + rank] * (rank + n) for n in range(3)]
        assert flat == [number for row in others for number in row]
        assert (sender, got) == ((0, [0.0, 1.0, 2.0, 3.0]) if rank == 2 else (None, [0.0] * 4))
        assert objects == [{"rank": n} for n in range(3)] and told == [1] and mean == [1.0]


def _groups(rank: int) -> list[Any]:
    ends, first = dist.new_group([0, 2]), dist.new_group([0])
    t = tgrad.full((2,), float(rank + 1))
    dist.all_reduce(t, group=ends)
    sent = tgrad.full((1,), float(rank))
    dist.broadcast(sent, 2, group=ends)
    facts = [dist.get_rank(), dist.get_rank(ends), dist.get_world_size(ends), dist.get_rank(first)]
    places = []
    if rank != 1:
        places = [dist.get_global_rank(ends, 1), dist.get_group_rank(ends, 2),
                  dist.get_process_group_ranks(ends)]  # fmt: skip
        dist.destroy_process_group(ends)
        with pytest.raises(DistributedError, match="is not there"):
            dist.all_reduce(t, group=ends)
    return [t.tolist(), sent.item(), facts, places]


def test_a_group_is_some_of_the_processes(three) -> None:
    inside = [2, 1, [0, 2]]
    assert three.run(_groups) == [
        [[4.0, 4.0], 2.0, [0, 0, 2, 0], inside],
        [[2.0, 2.0], 1.0, [1, -1, -1, -1], []],
        [[4.0, 4.0], 2.0, [2, 1, 2, -1], inside],
    ]


# -- gradients -----------------------------------------------------------------------------------


def _gradients(rank: int, is_compiled: bool) -> list[np.ndarray]:
    found = []
    for name in ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all_single"):
        random = np.random.default_rng([rank, 7])
        x = tgrad.tensor(random.standard_normal((4, 3)), dtype=tgrad.float64)
        x.requires_grad_()

        def loss_of(x: tgrad.Tensor, name: str = name) -> tgrad.Tensor:
            y = x * (rank + 1)
            if name == "all_gather":
                z = tgrad.stack(dist.nn.all_gather(y))
            elif name == "reduce_scatter":
                z = dist.nn.reduce_scatter(y[:2], [y[:2], y[2:]])
            elif name == "broadcast":
                z = dist.nn.broadcast(y, 1)
            elif name == "all_to_all_single":
                z = dist.nn.functional.all_to_all_single(tgrad.zeros_like(y), y)
            else:
                z = dist.nn.all_reduce(y)
            places = tgrad.arange(z.numel(), dtype=z.dtype).reshape(z.shape)
            return (z**2 * (places + rank)).sum()

        @tgrad.compile
        def step(x: tgrad.Tensor) -> tgrad.Tensor:
            loss = loss_of(x)
            (g,) = tgrad.autograd.grad(loss, x)
            return g

        g = step(x) if is_compiled else tgrad.autograd.grad(loss_of(x), x)[0]
        found.append(g.numpy())
    return found


def exchanged(name: str, ys: list[Any]) -> list[Any]:
    """What each process gets, all in one process."""
    if name == "all_gather":
        return [tgrad.stack(ys)] * 2
    if name == "reduce_scatter":
        return [ys[0][:2] + ys[1][:2], ys[0][2:] + ys[1][2:]]
    if name == "broadcast":
        return [ys[1]] * 2
    if name == "all_to_all_single":
        return [tgrad.cat([ys[0][:2], ys[1][:2]]), tgrad.cat([ys[0][2:], ys[1][2:]])]
    return [ys[0] + ys[1]] * 2


@pytest.mark.parametrize("is_compiled", [False, True])
def test_gradients_are_those_of_the_sum_of_all_losses(pair, is_compiled) -> None:
    names = ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all_single")
    results = pair.run(_gradients, is_compiled)
    for number, name in enumerate(names):
        xs = [
            tgrad.tensor(np.random.default_rng([r, 7]).standard_normal((4, 3)),
                         dtype=tgrad.float64).requires_grad_()
            for r in range(2)
        ]  # fmt: skip
        zs = exchanged(name, [x * (r + 1) for r, x in enumerate(xs)])
        places = [tgrad.arange(z.numel(), dtype=z.dtype).reshape(z.shape) for z in zs]
        loss = sum((z**2 * (p + r)).sum() for r, (z, p) in enumerate(zip(zs, places)))
        for rank, g in enumerate(tgrad.autograd.grad(loss, xs, allow_unused=True)):
            known = np.zeros((4, 3)) if g is None else g.numpy()
            np.testing.assert_allclose(results[rank][number], known, rtol=1e-12, atol=1e-12)


def _second_order(rank: int) -> float:
    x = tgrad.tensor(float(rank + 1), requires_grad=True)
    y = dist.nn.all_reduce(x**2) ** 2
    (g,) = tgrad.autograd.grad(y, x, create_graph=True)
    (h,) = tgrad.autograd.grad(g, x)
    return h.item()


def test_gradients_of_gradients(pair) -> None:
    """Of 2 S² with S = x_0² + x_1², g_p = 8 S x_p; of their sum, 8 S + 16 x_p (x_0 + x_1)."""
    assert pair.run(_second_order) == [8 * 5 + 16 * 1 * 3, 8 * 5 + 16 * 2 * 3]


# -- compiled functions --------------------------------------------------------------------------


def _compiled(rank: int) -> list[Any]:
    counter = tgrad.zeros(2)

    @tgrad.compile
    def step(x: tgrad.Tensor) -> tgrad.Tensor:
        unread = x * 3
        dist.all_reduce(unread, dist.ReduceOp.MAX)
        if rank:  # nobody else reads it
            counter.add_(unread)
        y = x + 1
        dist.all_reduce(y)
        last = y * 2
        dist.broadcast(last, 1)
        return y

    results = [step(tgrad.full((2,), float(rank + i))).tolist() for i in range(3)]
    return [results, counter.tolist()]


def test_a_plan_keeps_the_order_of_exchanges_and_runs_all(pair) -> None:
    sums = [[3.0 + 2 * i] * 2 for i in range(3)]
    assert pair.run(_compiled) == [[sums, [0.0, 0.0]], [sums, [18.0, 18.0]]]


def _failing(rank: int) -> list[Any]:
    state = tgrad.ones(3)

    @tgrad.compile
    def step(x: tgrad.Tensor) -> tgrad.Tensor:
        state.mul_(2)
        y = x + state
        dist.all_reduce(y)
        state.add_(y)
        return y

    def broken(*args: Any) -> None:
        raise RuntimeError("Connection closed by peer")

    step(tgrad.ones(3))
    before = state.tolist()
    known, messages = collective._START["all_reduce"], []
    collective._START["all_reduce"] = broken
    for _ in range(2):
        try:
            step(tgrad.ones(3))
        except DistributedError as error:
            messages.append(str(error))
    collective._START["all_reduce"] = known
    assert state.tolist() == before
    return [step(tgrad.ones(3)).tolist(), messages]


def test_a_step_whose_exchange_fails_has_not_happened(pair) -> None:
    for result, messages in pair.run(_failing):
        # state 2, sum 6, state 8; then state 16, sum 34
        assert result == [34.0] * 3 and len(messages) == 2
        assert "all_reduce(in0, sum) over 2 failed: Connection closed by peer" in messages[0]
        assert "dist.all_reduce(y)" in messages[0]


# -- mistakes, and one process -------------------------------------------------------------------


def _mistakes(rank: int) -> None:
    x = tgrad.ones(4)
    with pytest.raises(ShapeError, match="tensor_list of 1 tensors"):
        dist.all_gather([x], x)
    with pytest.raises(ShapeError, match=r"tensor_list\[1\] is float32 of shape \(2,\)"):
        dist.all_gather([x, x[:2]], x)
    with pytest.raises(ShapeError, match="Give one of 8 elements of float32"):
        dist.all_gather_into_tensor(x, x)
    with pytest.raises(DeviceError, match="output_tensor is on numpy, and what"):
        dist.all_gather_into_tensor(tgrad.zeros(8, device="numpy"), x)
    with pytest.raises(ShapeError, match="input of 3 rows for 2 processes"):
        dist.all_to_all_single(tgrad.zeros(4), tgrad.ones(3))
    with pytest.raises(DTypeError, match="the average of int64"):
        dist.all_reduce(tgrad.ones(2, dtype=tgrad.int64), dist.ReduceOp.AVG)
    with pytest.raises(UnsupportedError, match="Use one of SUM, AVG"):
        dist.all_reduce(x, "ReduceOp.PREMUL_SUM")
    with pytest.raises(UnsupportedError, match=r"the gradient of ReduceOp\.MAX"):
        dist.nn.all_reduce(tgrad.ones(2, requires_grad=True), dist.ReduceOp.MAX)
    with pytest.raises(ShapeError, match="src=None, group_src=None"):
        dist.broadcast(x)
    with pytest.raises(ShapeError, match="gather_list is given in the wrong process"):
        dist.gather(x, [] if rank == 0 else [x, x])
    with pytest.raises(UnsupportedError, match="use_local_synchronization"):
        dist.new_group([0], use_local_synchronization=True)
    for call in (dist.barrier, lambda: dist.send(x, 0), lambda: dist.recv(x, 0),
                 lambda: dist.all_gather_object([None] * 2, 1)):  # fmt: skip
        with pytest.raises(TraceError, match=r"\(\) is called while tgrad.compile traces"):
            tgrad.compile(lambda a, call=call: (call(), a)[1])(x)
    with pytest.raises(TraceError, match="processes exchange a tensor in true_fn"):
        tgrad.cond(x.sum() > 0, lambda a: dist.nn.all_reduce(a), lambda a: a, (x,))
    ragged = tgrad.compile(lambda a: dist.nn.all_reduce(a), dynamic={"a": {0: (1, 8)}})
    with pytest.raises(TraceError, match="whose size differs from call to call"):
        ragged(x)
    with pytest.raises(UnsupportedError, match="over 2 processes on the device numpy"):
        dist.all_reduce(tgrad.ones(2, device="numpy"))


def test_mistakes_say_what_to_do(pair) -> None:
    pair.run(_mistakes)


def test_before_processes_are_joined() -> None:
    assert not dist.is_initialized()
    with pytest.raises(DistributedError, match="torchrun starts processes"):
        dist.all_reduce(tgrad.ones(2))
    with pytest.raises(DistributedError, match="get_rank before processes are joined"):
        dist.get_rank()


@pytest.fixture
def alone(tmp_path):
    dist.init_process_group(backend(), f"file://{tmp_path}/meeting", world_size=1, rank=0)
    yield
    dist.destroy_process_group()


def test_one_process(alone, device) -> None:
    x = tgrad.arange(6, dtype=tgrad.float32, device=device).reshape(2, 3)
    whole = tgrad.zeros(1, 2, 3, device=device)
    dist.all_gather_into_tensor(whole, x)
    dist.all_reduce(x, dist.ReduceOp.AVG)
    assert x.tolist() == whole[0].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert (dist.get_rank(), dist.get_world_size()) == (0, 1) and dist.get_backend()
