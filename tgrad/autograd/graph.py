"""`torch.autograd.graph`'s names.

In: tensors and a function. Out: hooks on their gradients. Invariant: nothing is saved for backward
by itself: one plan computes forward and backward, and keeps or computes again what it needs.
Source: https://docs.pytorch.org/docs/stable/autograd.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from tgrad.errors import OutOfRangeError, UnsupportedError
from tgrad.hooks import RemovableHandle, after_backward
from tgrad.tensor import Tensor

__all__ = [
    "allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks", "register_multi_grad_hook",
    "save_on_cpu", "saved_tensors_hooks",
]  # fmt: skip


def saved_tensors_hooks(
    pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]
) -> NoReturn:
    """Not supported: there is no moment at which a tensor is saved.

    Raises:
        UnsupportedError: always.
    """
    _refuse("saved_tensors_hooks")


def save_on_cpu(pin_memory: bool = False, device_type: str = "cuda") -> NoReturn:
    """Not supported, as `saved_tensors_hooks`."""
    _refuse("save_on_cpu")


def _refuse(name: str) -> NoReturn:
    raise UnsupportedError(
        f"{name}: a plan decides by itself what it keeps for backward.",
        "Use tgrad.utils.checkpoint, or tgrad.compile(memory_limit=...), to keep less.",
    )


@contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """A block with no `saved_tensors_hooks`, of which there are none."""
    yield


@contextmanager
def allow_mutation_on_saved_tensors() -> Iterator[None]:
    """A block in which what backward needs may be changed in place, as it may be everywhere: what
    was computed before keeps the values that it was computed from."""
    yield


class _Gathered(RemovableHandle):
    """Gradients of one backward, until the function is called with them."""

    def __init__(self, tensors: Sequence[Tensor], fn: Callable[..., None], wants_all: bool):
        self.fn, self.wants_all, self.size = fn, wants_all, len(tensors)
        self.found: dict[int, Tensor] = {}
        self.handles = [t.register_hook(self._hook(i)) for i, t in enumerate(tensors)]

    def _hook(self, number: int) -> Callable[[Tensor], None]:
        def note(g: Tensor) -> None:
            if not self.found and not self.wants_all:
                self.fn(g)
            self.found[number] = g
            after_backward(self.finish)

        return note

    def finish(self) -> None:
        """The backward is over."""
        found, self.found = self.found, {}
        if self.wants_all and found:
            self.fn([found.get(i) for i in range(self.size)])

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def register_multi_grad_hook(
    tensors: Sequence[Tensor], fn: Callable[..., None], *, mode: str = "all"
) -> RemovableHandle:
    """Call a function with the gradients of several tensors, once in each `backward`.

    Args:
        tensors: that require gradients.
        fn: gets the gradients, None for a tensor that has none, at the end; with mode "any" the
            first one as soon as it is there.
        mode: "all" or "any".

    Returns:
        A handle whose `remove()` takes it away.

    >>> import tgrad
    >>> a, b = tgrad.ones(2, requires_grad=True), tgrad.ones(2, requires_grad=True)
    >>> show = lambda grads: print([g.tolist() for g in grads])
    >>> handle = tgrad.autograd.graph.register_multi_grad_hook((a, b), show)
    >>> (a * 2 + b).sum().backward()
    [[2.0, 2.0], [1.0, 1.0]]
    """
    if mode not in ("all", "any"):
        raise OutOfRangeError(f"register_multi_grad_hook: mode={mode!r}.", 'Give "all" or "any".')
    return _Gathered(tensors, fn, mode == "all")
