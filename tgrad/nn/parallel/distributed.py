"""DistributedDataParallel: the same model in every process, each with a part of the batch.

In: a module. Out: a module that computes the same, whose gradients are those of the mean of all
processes' losses. Invariant: parameters start equal and get equal gradients, so they stay equal.
Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from tgrad import dtype as dt
from tgrad.device import as_device
from tgrad.distributed import all_gather_object, get_world_size
from tgrad.distributed.calls import exchange_all, write
from tgrad.distributed.collectives import ReduceOp
from tgrad.distributed.groups import ProcessGroup
from tgrad.errors import DistributedError, UnsupportedError
from tgrad.grad_mode import is_grad_enabled
from tgrad.hooks import after_backward
from tgrad.joining import cat
from tgrad.nn.module import Module
from tgrad.tensor import Tensor, tensor
from tgrad.tracing import tracer

FIRST_BUCKET, BUCKET = 1 << 20, 25 << 20
"""Bytes of gradients that are exchanged together, PyTorch's: few at first, so that it begins."""


class DistributedDataParallel(Module):
    """Keeps a module's copies in all processes equal.

    Parameters and buffers get the values of the first process. After each backward, `grad` of each
    parameter is the mean of those of all processes, exchanged in buckets; in a compiled step these
    exchanges are steps of the plan.

    Args:
        module: the same in every process; some of its parameters require gradients.
        device_ids: None, or the one device that inputs are moved to.
        output_device: None, or the same.
        dim: accepted; a process has one device, so no batch is split.
        broadcast_buffers: whether buffers, such as running means, get the values of the first
            process before each forward in training, and before the first one after it.
        init_sync: whether parameters and buffers get them now.
        process_group: the processes; all if left out.
        bucket_cap_mb: MiB of gradients that are exchanged together; 25 if left out.
        find_unused_parameters: whether a backward may leave parameters out. Where all processes
            leave one out its `grad` stays; a process that does so alone counts as zeros.
        gradient_as_bucket_view: accepted; gradients always share the memory of their bucket.
        static_graph: accepted; which parameters are used is seen at each backward.

    Raises:
        DistributedError: no processes are joined, or the modules of two processes differ.
        UnsupportedError: several devices; or an option of PyTorch that is not listed here.

    >>> import tgrad
    >>> tgrad.nn.parallel.DistributedDataParallel(tgrad.nn.Linear(2, 1))
    Traceback (most recent call last):
        ...
    tgrad.errors.DistributedError: get_world_size before processes are joined.
    ...
    """

    def __init__(
        self,
        module: Module,
        device_ids: Sequence[Any] | None = None,
        output_device: Any = None,
        dim: int = 0,
        broadcast_buffers: bool = True,
        init_sync: bool = True,
        process_group: ProcessGroup | None = None,
        bucket_cap_mb: float | None = None,
        find_unused_parameters: bool = False,
        gradient_as_bucket_view: bool = False,
        static_graph: bool = False,
        **options: Any,
    ):
        super().__init__()
        _refuse(options)
        self.module, self.process_group = module, process_group
        self.broadcast_buffers, self.dim = broadcast_buffers, dim
        self.find_unused_parameters, self.static_graph = find_unused_parameters, static_graph
        self.gradient_as_bucket_view = gradient_as_bucket_view
        self.require_backward_grad_sync = True
        self.device_ids = None if not device_ids else [_device(device_ids, output_device)]
        cap = BUCKET if bucket_cap_mb is None else int(bucket_cap_mb * (1 << 20))
        named = module.named_parameters()
        names: dict[Tensor, str] = {p: name for name, p in named if p.requires_grad}
        self._reducer = _Reducer(names, process_group, cap, find_unused_parameters)
        if init_sync:
            self._reducer.check_equal()
            _from_first([*module.parameters(), *module.buffers()], process_group)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Inside, backward adds to `grad` of this process alone; the first one whose forward is
        outside exchanges all that was added."""
        before = self.require_backward_grad_sync
        self.require_backward_grad_sync = False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        reducer, is_synced = self._reducer, self.require_backward_grad_sync
        buffers = list(self.module.buffers()) if self.broadcast_buffers and is_synced else []
        if buffers and (self.training or reducer.have_buffers_moved or tracer() is not None):
            _from_first(buffers, self.process_group)
            reducer.have_buffers_moved = self.training
        reducer.is_due = is_synced and is_grad_enabled()
        if self.device_ids is None:
            return self.module(*inputs, **kwargs)
        return self.module(*self._moved(inputs), **self._moved(kwargs))

    def _moved(self, value: Any) -> Any:
        """Tensors in containers, on the process's device."""
        assert self.device_ids is not None
        if isinstance(value, Tensor):
            return value.to(self.device_ids[0])
        if isinstance(value, dict):
            return {key: self._moved(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return type(value)(self._moved(each) for each in value)
        return value


_OTHERS = frozenset(
    [
        "batched_grad_copy", "bucket_cap_mb_list", "check_reduction",
        "delay_all_reduce_named_params", "device_mesh", "forward_sync_buffers", "mixed_precision",
        "param_to_hook_all_reduce", "skip_all_reduce_unused_params",
    ]
)  # fmt: skip
"""Options of PyTorch's that tgrad takes only where they are off."""


def _refuse(options: dict[str, Any]) -> None:
    for name, value in options.items():
        if name not in _OTHERS:
            raise TypeError(f"DistributedDataParallel has no argument {name!r}.")
        if value:
            raise UnsupportedError(f"DistributedDataParallel({name}={value!r}).", "Leave it out.")


def _device(device_ids: Sequence[Any], output_device: Any) -> Any:
    """The one device.

    Raises:
        UnsupportedError: there are several.
    """
    if len(device_ids) != 1 or output_device not in (None, device_ids[0]):
        raise UnsupportedError(
            f"device_ids={device_ids}, output_device={output_device}.",
            "One process drives one device: start a process for each, with torchrun.",
        )
    (found,) = device_ids
    return as_device(f"cuda:{found}" if isinstance(found, int) else found)


def _from_first(tensors: Sequence[Tensor], group: ProcessGroup | None) -> None:
    """Give tensors the values of the first process."""
    buckets = _buckets(list({id(t): t for t in tensors if t.numel()}.values()), BUCKET, BUCKET)
    flats = [cat([t.detach().reshape(-1) for t in bucket]) for bucket in buckets]
    for bucket, flat in zip(buckets, exchange_all("broadcast", flats, (0,), group)):
        for t, part in zip(bucket, flat.split([t.numel() for t in bucket])):
            write(t, part)


def _buckets(tensors: Sequence[Tensor], first: int, most: int) -> list[list[Tensor]]:
    """Tensors in order, of one dtype and so many bytes each."""
    buckets: list[list[Tensor]] = []
    sizes: list[int] = []
    latest: dict[Any, int] = {}
    for t in tensors:
        nbytes, number = t.numel() * t.element_size(), latest.get(t.dtype)
        cap = first if number == 0 else most
        if number is None or sizes[number] + nbytes > cap:
            number = latest[t.dtype] = len(buckets)
            buckets.append([])
            sizes.append(0)
        buckets[number].append(t)
        sizes[number] += nbytes
    return buckets


class _Reducer:
    """Exchanges the gradients of parameters at the end of each backward.

    Attributes:
        names: of the parameters.
        is_due: whether the next backward exchanges; what `forward` was called under says so.
        have_buffers_moved: whether a forward in training came after they were made equal.
    """

    def __init__(
        self, names: dict[Tensor, str], group: ProcessGroup | None, cap: int, finds_unused: bool
    ):
        self.names, self.group, self.cap, self.finds_unused = names, group, cap, finds_unused
        self.count = get_world_size(group)
        if not self.names:
            raise DistributedError(
                "DistributedDataParallel of a module without parameters that require gradients.",
                "Call the module itself.",
            )
        self.is_due = self.have_buffers_moved = False
        self.reached: set[Tensor] = set()
        for p in self.names:
            p.register_post_accumulate_grad_hook(self._reach)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Reducer:
        """That of a copied module, whose parameters are copied too."""
        names = {deepcopy(p, memo): name for p, name in self.names.items()}
        return _Reducer(names, self.group, self.cap, self.finds_unused)

    def check_equal(self) -> None:
        """See that all processes have the same parameters.

        Raises:
            DistributedError: two differ.
        """
        own = [(name, tuple(p.shape), p.dtype.name) for p, name in self.names.items()]
        found: list[Any] = [None] * self.count
        all_gather_object(found, own, self.group)
        for number, other in enumerate(found):
            if other != found[0]:
                pairs = [*zip(found[0], other), (f"{len(found[0])} parameters", len(other))]
                a, b = next(pair for pair in pairs if pair[0] != pair[1])
                raise DistributedError(
                    f"the modules of processes 0 and {number} differ: {a} and {b}.",
                    "Make the same module in every process.",
                )

    def _reach(self, p: Tensor) -> None:
        if self.is_due:
            self.reached.add(p)
            after_backward(self._reduce)

    def _reduce(self) -> None:
        """Give each parameter the mean of its gradients."""
        reached, self.reached, self.is_due = self.reached, set(), False
        order = [p for p in reversed(self.names) if p.numel()]
        used = self._used(order, reached)
        buckets = _buckets(order, min(FIRST_BUCKET, self.cap), self.cap)
        flats = [
            cat([_gradient(p, p in reached).reshape(-1) for p in bucket]) / self.count
            for bucket in buckets
        ]
        sums = exchange_all("all_reduce", flats, (ReduceOp.SUM.value,), self.group)
        for bucket, flat in zip(buckets, sums):
            for p, part in zip(bucket, flat.split([p.numel() for p in bucket])):
                if p not in used:
                    continue
                if p.grad is None:
                    p.grad = part.reshape(p.shape).clone()
                else:
                    write(p.grad, part)

    def _used(self, order: Sequence[Tensor], reached: set[Tensor]) -> set[Tensor]:
        """The parameters that some process has gradients of.

        Raises:
            DistributedError: this one has none of one, and did not say that this may be.
        """
        missing = [p for p in order if p not in reached]
        if missing and not self.finds_unused:
            names = ", ".join(self.names[p] for p in missing[:4])
            raise DistributedError(
                f"backward leaves out {len(missing)} parameters: {names}.",
                "Use them in forward, or give find_unused_parameters=True.",
            )
        if not self.finds_unused:
            return set(order)
        trace = tracer()
        if trace is not None:
            trace.refuse(
                "find_unused_parameters=True asks other processes",
                "Leave it out, or compile the model without backward.",
            )
        flags = tensor([int(p in reached) for p in order], dtype=dt.int32)
        flags = flags.to(order[0].device)
        (counts,) = exchange_all("all_reduce", [flags], (ReduceOp.SUM.value,), self.group)
        return {p for p, count in zip(order, counts.tolist()) if count}


def _gradient(p: Tensor, is_reached: bool) -> Tensor:
    grad = p.grad if is_reached else None
    return p._constant(0, p.dtype).expand(p.shape) if grad is None else grad
