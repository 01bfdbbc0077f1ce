"""Attention whose scores a function of places changes, as torch.nn.attention.flex_attention has it.

In: queries, keys and values, a function of scores and one that says which keys a query sees. Out:
lazy tensors. Invariant: the functions are called once, with places that broadcast; what they
compute is part of the graph, so that fusion makes one kernel of all, and finds from the mask's own
arithmetic which tiles to skip. Nothing is stored for a mask.
Source: https://docs.pytorch.org/docs/stable/nn.attention.flex_attention.html
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from tgrad.creation import DeviceLike, full
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.nn.attention.block_mask import BlockMask, MaskMod, create_mask, places_of
from tgrad.nn.functional.attention import attend, log_sums, scores, share_heads
from tgrad.tensor import Tensor, labelled

__all__ = [
    "AuxOutput", "AuxRequest", "BlockMask", "and_masks", "create_block_mask", "create_mask",
    "flex_attention", "noop_mask", "or_masks",
]  # fmt: skip

ScoreMod = Callable[..., Any]
"""(score, batch, head, query, key) -> score."""


class AuxRequest(NamedTuple):
    """What `flex_attention` gives beside the values.

    Attributes:
        lse: the logarithm of each row's sum of exponentials.
        max_scores: the largest score of each row.
    """

    lse: bool = False
    max_scores: bool = False


class AuxOutput(NamedTuple):
    """What was asked for by an `AuxRequest`, (B, H, L), float32 at least; None for the rest."""

    lse: Tensor | None = None
    max_scores: Tensor | None = None


def noop_mask(batch: Any, head: Any, token_q: Any, token_kv: Any) -> Tensor:
    """Every query sees every key.

    >>> noop_mask(0, 0, 0, 0).item()
    True
    """
    return full((), True, device=getattr(batch, "device", None))


def and_masks(*mask_mods: MaskMod) -> MaskMod:
    """What all masks let a query see.

    >>> import tgrad
    >>> both = and_masks(lambda b, h, q, k: q >= k, lambda b, h, q, k: q - k < 2)
    >>> create_mask(both, None, None, 3, 3, device="cpu").int().tolist()[0][0]
    [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """

    def mask(*places: Any) -> Any:
        seen = mask_mods[0](*places)
        for other in mask_mods[1:]:
            seen = seen & other(*places)
        return seen

    return mask


def or_masks(*mask_mods: MaskMod) -> MaskMod:
    """What one of several masks lets a query see.

    >>> import tgrad
    >>> prefix = or_masks(lambda b, h, q, k: q >= k, lambda b, h, q, k: k < 2)
    >>> create_mask(prefix, None, None, 3, 3, device="cpu").int().tolist()[0][0]
    [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    """

    def mask(*places: Any) -> Any:
        seen = mask_mods[0](*places)
        for other in mask_mods[1:]:
            seen = seen | other(*places)
        return seen

    return mask


def create_block_mask(
    mask_mod: MaskMod,
    B: int | None,
    H: int | None,
    Q_LEN: int,
    KV_LEN: int,
    device: DeviceLike = None,
    BLOCK_SIZE: int | tuple[int, int] = 128,
    _compile: bool = False,
    separate_full_blocks: bool = True,
    compute_dq_write_order: bool = False,
    dq_kv_order: bool = True,
) -> BlockMask:
    """What `flex_attention` takes as a mask. Nothing is computed.

    Args:
        mask_mod: a function of batch, head, query and key, integers that broadcast.
        Q_LEN, KV_LEN: how many queries and keys there are.
        B, H, device, BLOCK_SIZE: for the mask's lists of tiles, which are computed when they are
            asked for; the tiles of kernels follow from the function.
        _compile, separate_full_blocks, compute_dq_write_order, dq_kv_order: accepted; they are
            about how PyTorch computes and orders those lists.

    >>> create_block_mask(lambda b, h, q, k: q >= k, None, None, 8, 8).seq_lengths
    (8, 8)
    """
    sizes = (BLOCK_SIZE, BLOCK_SIZE) if isinstance(BLOCK_SIZE, int) else BLOCK_SIZE
    return BlockMask(mask_mod, (Q_LEN, KV_LEN), (B or 1, H or 1), sizes, device)


@labelled("flex_attention")
def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None = None,
    block_mask: BlockMask | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: dict[str, Any] | None = None,
    *,
    return_aux: AuxRequest | None = None,
) -> Any:
    """softmax(score_mod(q kᵀ * scale)) v over the keys that a mask lets each query see.

    Args:
        query: (B, H, L, E).
        key: (B or 1, Hk, S, E).
        value: (B or 1, Hk, S, Ev).
        score_mod: of a score and its batch, head, query and key, tensors that broadcast, of which
            the last four are integers; may read other tensors by them, and these have gradients.
        block_mask: from `create_block_mask`.
        scale: by default 1 / sqrt(E).
        enable_gqa: key and value may have fewer heads, each shared by a group of query heads.
        return_lse: also the logarithm of each row's sum of exponentials, (B, H, L), float32; -inf
            for a query that sees no key.
        kernel_options: accepted; configurations are tgrad's.
        return_aux: what else is wanted; the result is then a pair of the values and an `AuxOutput`.

    Returns:
        (B, H, L, Ev). A query that sees no key gets 0.

    Raises:
        ShapeError: other shapes, or a mask of other lengths.

    >>> import tgrad
    >>> q = tgrad.zeros(1, 2, 4, 8)
    >>> causal = create_block_mask(lambda b, h, q, k: q >= k, None, None, 4, 4)
    >>> near = lambda score, b, h, q, k: score - (q - k).abs()
    >>> flex_attention(q, q, q + 1, near, causal).shape
    (1, 2, 4, 8)
    """
    _check(query, key, value, block_mask, enable_gqa)
    mask_mod = None if block_mask is None else block_mask.sees
    key, value = shared(query, key, value)
    wide = modified_scores(query, key, score_mod, mask_mod, scale)
    y = attend(wide, value, block_mask is None and score_mod is None)
    if return_aux is None:
        return (y, row_sums(wide)) if return_lse else y
    if return_lse:
        raise ShapeError("flex_attention with return_lse and return_aux.", "Give return_aux.")
    lse = row_sums(wide) if return_aux.lse else None
    return y, AuxOutput(lse, wide.detach().amax(-1) if return_aux.max_scores else None)


def _check(
    query: Tensor, key: Tensor, value: Tensor, mask: BlockMask | None, enable_gqa: bool
) -> None:
    """
    Raises:
        ShapeError, UnsupportedError: what does not go together.
    """
    if not query.ndim == key.ndim == value.ndim == 4:
        raise ShapeError(
            f"flex_attention of shapes {query.shape}, {key.shape} and {value.shape}.",
            "Give batch, heads, places and features.",
        )
    if mask is not None and not isinstance(mask, BlockMask):
        raise UnsupportedError(
            f"flex_attention: block_mask of {type(mask).__name__}.", "Use create_block_mask."
        )
    lengths = (query.shape[2], key.shape[2])
    is_known = all(isinstance(n, int) for n in lengths)
    if mask is not None and is_known and mask.seq_lengths != lengths:
        raise ShapeError(
            f"flex_attention: a mask of {mask.seq_lengths} for {lengths} queries and keys.",
            "Create one of these lengths.",
        )
    if query.shape[1] != key.shape[1] and not enable_gqa:
        raise ShapeError(
            f"flex_attention of {query.shape[1]} query heads over {key.shape[1]} key heads.",
            "Say enable_gqa=True.",
        )


def shared(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of as many batches and heads as queries have."""
    key, value = (share_heads(t, query.shape[1]) for t in (key, value))
    return tuple(t.expand(query.shape[0], *t.shape[1:]) for t in (key, value))  # type: ignore[return-value]


def modified_scores(
    query: Tensor,
    key: Tensor,
    score_mod: ScoreMod | None,
    mask_mod: MaskMod | None,
    scale: float | None,
) -> Tensor:
    """score_mod(q kᵀ * scale), -inf for keys that a query does not see; in float32 at least."""
    wide = scores(query, key) * (1.0 / math.sqrt(query.shape[-1]) if scale is None else scale)
    places = places_of(wide.shape, query.device)
    made = wide if score_mod is None else score_mod(wide, *places).to(wide.dtype)
    return made if mask_mod is None else made.where(mask_mod(*places), -math.inf)


def row_sums(wide: Tensor) -> Tensor:
    """log Σ exp of each row; -inf of one that is -inf throughout."""
    sees_none = wide.amax(-1) == -math.inf
    return log_sums(wide, False).where(~sees_none, -math.inf)
