"""An operator of PyTorch's that tgrad will never have."""

from __future__ import annotations

import torch

torch.library.define("tgradtests::halved", "(Tensor x) -> Tensor")


@torch.library.impl("tgradtests::halved", "CompositeExplicitAutograd")
def _halved(x: torch.Tensor) -> torch.Tensor:
    return x / 2


@torch.library.register_fake("tgradtests::halved")
def _fake(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def halved(x: torch.Tensor) -> torch.Tensor:
    return torch.ops.tgradtests.halved(x)
