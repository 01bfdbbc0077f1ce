"""SyncBatchNorm: statistics over the batches of all processes.

In: this process's part of a batch. Out: it, normalised by the whole batch. Invariant: with one
process, in evaluation, and before processes are joined it is BatchNorm.
Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.SyncBatchNorm.html
"""

from __future__ import annotations

from typing import Any

from tgrad.creation import DeviceLike
from tgrad.distributed import get_world_size, is_initialized
from tgrad.distributed.groups import ProcessGroup
from tgrad.distributed.nn import all_gather
from tgrad.dtype import DType
from tgrad.grad_mode import no_grad
from tgrad.joining import cat, stack
from tgrad.nn.module import Module
from tgrad.nn.modules.normalization import _BatchNorm
from tgrad.pending import mark_pending
from tgrad.tensor import Tensor
from tgrad.tracing import tracer


class SyncBatchNorm(_BatchNorm):
    """Each channel normalised over the batches of all processes, in training.

    Args:
        num_features, eps, momentum, affine, track_running_stats, device, dtype, bias: as of
            `BatchNorm2d`.
        process_group: the processes; all if left out.

    Shapes:
        (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W); N may differ from process to process.

    >>> import tgrad
    >>> tgrad.nn.SyncBatchNorm(2)(tgrad.tensor([[1.0, 2.0], [3.0, 2.0]])).round().tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """

    ranks = (2, 3, 4, 5)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: ProcessGroup | None = None,
        device: DeviceLike = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ):
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )
        self.process_group = process_group

    def forward(self, input: Tensor) -> Tensor:
        is_alone = not is_initialized() or get_world_size(self.process_group) <= 1
        if is_alone or not self.training:
            return super().forward(input)
        self._check(input)
        momentum = self._next_momentum()
        x = input.to(input.dtype.accumulator)
        axes = [0, *range(2, x.ndim)]
        mean, variance, count = self._statistics(x, axes)
        if self.track_running_stats:
            with no_grad():
                unbiased = variance * (count / (count - 1))
                pairs = ((self.running_mean, mean), (self.running_var, unbiased))
                for running, found in pairs:
                    running.copy_(running * (1.0 - momentum) + found.detach() * momentum)
        shape = (1, -1, *(1,) * (x.ndim - 2))
        y = (x - mean.reshape(shape)) * (variance + self.eps).rsqrt().reshape(shape)
        if self.weight is not None:
            y = y * self.weight.reshape(shape)
        if self.bias is not None:
            y = y + self.bias.reshape(shape)
        return _kept(y.to(input.dtype))

    def _statistics(self, x: Tensor, axes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and biased variance of each channel, and elements of a channel, of all processes:
        of n_p, m_p and v_p of each, m = Σ n_p m_p / Σ n_p and v = Σ n_p (v_p + (m_p - m)²) / Σ n_p
        """
        if tracer() is None:  # the exchange computes; what is read again is not computed again
            mark_pending(x)
        elements = x.numel() // self.num_features
        count = x._constant(elements, x.dtype).expand(1)
        if elements:
            variance, mean = x.var(axes, unbiased=False), x.mean(axes)
        else:
            variance = mean = x.sum(axes)
        parts = stack(list(all_gather(cat([mean, variance, count]), self.process_group)))
        means, variances = parts[:, : len(mean)], parts[:, len(mean) : -1]
        counts = parts[:, -1:]
        total = counts.sum()
        mean = (means * counts).sum(0) / total
        variance = ((variances + (means - mean) ** 2) * counts).sum(0) / total
        return mean, variance, total

    @classmethod
    def convert_sync_batchnorm(
        cls, module: Module, process_group: ProcessGroup | None = None
    ) -> Module:
        """The module with SyncBatchNorm in place of each batch norm in it, and their state."""
        made: Any = module
        if isinstance(module, _BatchNorm):
            made = cls(
                module.num_features, module.eps, module.momentum, module.affine,
                module.track_running_stats, process_group,
            )  # fmt: skip
            for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                setattr(made, name, getattr(module, name))
            made.training = module.training
        for name, child in module.named_children():
            made.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return made


def _kept(y: Tensor) -> Tensor:
    """The result, whose gradient is stored where the exchange of backward computes it."""
    if tracer() is None and y.requires_grad:
        y.register_hook(mark_pending)
    return y
