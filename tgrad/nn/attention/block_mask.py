"""Masks of `flex_attention`: a function of places, and PyTorch's lists of tiles of it.

In: a function of batch, head, query and key, and maybe lists of tiles. Out: a `BlockMask`.
Invariant: without lists only the function counts, and they are computed when they are asked for;
fusion finds tiles by itself.
Source: https://docs.pytorch.org/docs/stable/nn.attention.flex_attention.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from tgrad import dtype as dt
from tgrad.creation import DeviceLike, arange
from tgrad.errors import UnsupportedError
from tgrad.tensor import Tensor

MaskMod = Callable[..., Any]
"""(batch, head, query, key) -> whether the query sees the key."""


def places_of(shape: tuple[int, ...], device: DeviceLike) -> tuple[Tensor, ...]:
    """Batch, head, query and key of each score, such that they broadcast."""
    return tuple(
        arange(n, dtype=dt.int32, device=device).reshape([n if a == axis else 1 for a in range(4)])
        for axis, n in enumerate(shape)
    )


def create_mask(
    mod_fn: MaskMod,
    B: int | None,
    H: int | None,
    Q_LEN: int,
    KV_LEN: int,
    device: DeviceLike = None,
) -> Tensor:
    """A mask as a tensor of bools, (B, H, Q_LEN, KV_LEN); 1 for a size of None.

    >>> create_mask(lambda b, h, q, k: q >= k, 1, 1, 2, 2, device="cpu").tolist()
    [[[[True, False], [True, True]]]]
    """
    shape = (B or 1, H or 1, Q_LEN, KV_LEN)
    seen: Tensor = mod_fn(*places_of(shape, device))
    return seen.expand(shape)


@dataclass(frozen=True)
class Tiles:
    """Which tiles are seen, tensors of bools (B, H, rows of tiles, columns of tiles).

    Attributes:
        part: those that a function says more of.
        full: those that are seen as they are; None if none was listed.
    """

    part: Tensor
    full: Tensor | None

    def some(self) -> Tensor:
        """Those of which something is seen."""
        return self.part if self.full is None else self.part | self.full


@dataclass(eq=False)
class BlockMask:
    """Which keys queries see, by a function, in tiles where these are listed.

    Attributes:
        mask_mod: of batch, head, query and key. It may be assigned, as `seq_lengths` may be.
        seq_lengths: of queries and of keys.
        batch: sizes of batch and heads.
        BLOCK_SIZE: of the tiles that the lists below are of: queries and keys.
        device: of the lists.
        tiles: those that were listed.

    >>> causal = BlockMask(lambda b, h, q, k: q >= k, (4, 4), (1, 1), (2, 2), "cpu")
    >>> causal.kv_num_blocks.tolist(), causal.full_kv_indices.tolist(), causal.sparsity()
    ([[[1, 1]]], [[[[0, 1], [0, 1]]]], 25.0)
    """

    mask_mod: MaskMod
    seq_lengths: tuple[int, int]
    batch: tuple[int, int] = (1, 1)
    BLOCK_SIZE: tuple[int, int] = (128, 128)
    device: DeviceLike = None
    tiles: Tiles | None = None

    @staticmethod
    def from_kv_blocks(
        kv_num_blocks: Tensor,
        kv_indices: Tensor,
        full_kv_num_blocks: Tensor | None = None,
        full_kv_indices: Tensor | None = None,
        BLOCK_SIZE: int | tuple[int, int] = 128,
        mask_mod: MaskMod | None = None,
        seq_lengths: tuple[int, int] | None = None,
        compute_q_blocks: bool = True,
    ) -> BlockMask:
        """A mask of lists of tiles.

        Args:
            kv_num_blocks: (B, H, rows of tiles): how many tiles `mask_mod` says more of.
            kv_indices: (B, H, rows of tiles, columns of tiles): which these are, first.
            full_kv_num_blocks, full_kv_indices: the same for tiles that are seen as they are.
            BLOCK_SIZE: of queries and keys.
            mask_mod: by default all of a tile is seen.
            seq_lengths: by default those of all tiles.
            compute_q_blocks: accepted; lists are computed when they are asked for.

        >>> import tgrad
        >>> num, where = tgrad.ones(1, 1, 2).int(), tgrad.tensor([[[[1, 0], [0, 1]]]])
        >>> mask = BlockMask.from_kv_blocks(num, where, BLOCK_SIZE=1)
        >>> create_mask(mask.sees, 1, 1, 2, 2).int().tolist()
        [[[[0, 1], [1, 0]]]]
        """
        part, full = _tiles(kv_num_blocks, kv_indices), None
        if full_kv_num_blocks is not None and full_kv_indices is not None:
            full = _tiles(full_kv_num_blocks, full_kv_indices)
        return _of_tiles(
            Tiles(part, full), mask_mod or _everything, _pair(BLOCK_SIZE), seq_lengths,
            kv_indices.device,
        )  # fmt: skip

    def __getitem__(self, index: Any) -> BlockMask:
        """Some of its batches, heads and rows of tiles, of which its function knows nothing: assign
        `mask_mod`, and `seq_lengths` where rows are left out.

        Args:
            index: a number, a slice or a tensor of numbers for each of the three.
        """
        given = index if isinstance(index, tuple) else (index,)
        wanted = (*given, slice(None), slice(None), slice(None))[:3]
        some, whole = self._kinds()
        part, full = some & ~whole, whole
        for axis, one in enumerate(wanted):
            part, full = (_along(t, axis, one) for t in (part, full))
        tiles = Tiles(part, full)
        return _of_tiles(tiles, _unknown, self.BLOCK_SIZE, self.seq_lengths, self.device)

    def sees(self, b: Any, h: Any, q: Any, k: Any) -> Any:
        """Whether a query sees a key, in the tiles that were listed."""
        if self.tiles is None:
            return self.mask_mod(b, h, q, k)
        B, H, part = *self.batch, self.tiles.part
        tile = (
            b if B > 1 else b * 0, h if H > 1 else h * 0, q // self.BLOCK_SIZE[0],
            k // self.BLOCK_SIZE[1],
        )  # fmt: skip
        inside = part[tile] & self.mask_mod(b, h, q, k)
        return inside if self.tiles.full is None else inside | self.tiles.full[tile]

    @property
    def shape(self) -> tuple[int, ...]:
        """Batch, heads, queries, keys."""
        return (*self.batch, *self.seq_lengths)

    def numel(self) -> int:
        """How many pairs of a query and a key there are."""
        return prod(self.shape)

    def to(self, device: DeviceLike) -> BlockMask:
        """With lists on a device; what the function reads has to be there by itself."""
        return replace(self, device=device)

    def sparsity(self) -> float:
        """How much of it, in percent, is in no tile that is seen."""
        computed = int(self.to_dense().sum()) * prod(self.BLOCK_SIZE)
        return 100 * (1 - computed / self.numel())

    def to_dense(self) -> Tensor:
        """1 for each tile of which something is seen (int32)."""
        some, _ = self._kinds()
        return some.int()

    @property
    def kv_num_blocks(self) -> Tensor:
        """How many tiles of each row are seen in part."""
        return _listed(self._in_part())[0]

    @property
    def kv_indices(self) -> Tensor:
        """Which, first; then the others."""
        return _listed(self._in_part())[1]

    @property
    def full_kv_num_blocks(self) -> Tensor:
        """How many tiles of each row are seen as a whole."""
        return _listed(self._kinds()[1])[0]

    @property
    def full_kv_indices(self) -> Tensor:
        """Which, first; then the others."""
        return _listed(self._kinds()[1])[1]

    def _in_part(self) -> Tensor:
        some, whole = self._kinds()
        return some & ~whole

    def _kinds(self) -> tuple[Tensor, Tensor]:
        """Of each tile: whether something is seen of it, and whether all; none of the mask lies
        beyond its end, where PyTorch sees nothing."""
        if self.tiles is not None:
            some = self.tiles.some()
            return some, some & ~some if self.tiles.full is None else self.tiles.full
        mask = create_mask(self.mask_mod, *self.batch, *self.seq_lengths, self.device)
        low = [-n % size for n, size in zip(self.seq_lengths, self.BLOCK_SIZE)]
        padded = mask.int()._pad_zero((0, 0, 0, 0), (0, 0, *low))
        rows, columns = (n // s for n, s in zip(padded.shape[2:], self.BLOCK_SIZE))
        split = padded.reshape(
            *self.batch, rows, self.BLOCK_SIZE[0], columns, self.BLOCK_SIZE[1]
        ).transpose(3, 4)
        count = split.sum((-2, -1))
        return count > 0, count == prod(self.BLOCK_SIZE)


def _of_tiles(
    tiles: Tiles, mask_mod: MaskMod, sizes: tuple[int, int], lengths: tuple[int, int] | None,
    device: DeviceLike,
) -> BlockMask:  # fmt: skip
    B, H, rows, columns = tiles.part.shape
    lengths = (rows * sizes[0], columns * sizes[1]) if lengths is None else lengths
    return BlockMask(mask_mod, lengths, (B, H), sizes, device, tiles)


def _everything(b: Any, h: Any, q: Any, k: Any) -> Any:
    """All is seen."""
    return (b + h + q + k) >= 0


def _unknown(b: Any, h: Any, q: Any, k: Any) -> Any:
    """The function of a part, until one is assigned.

    Raises:
        UnsupportedError: always.
    """
    raise UnsupportedError(
        "a part of a BlockMask has no function of its own.", "Assign one to mask_mod."
    )


def _along(t: Tensor, axis: int, index: Any) -> Tensor:
    """Some places of an axis, which stays."""
    if isinstance(index, int):
        index = slice(index, index + 1 or None)
    return t[(slice(None),) * axis + (index,)]


def _pair(sizes: int | tuple[int, int]) -> tuple[int, int]:
    return (sizes, sizes) if isinstance(sizes, int) else sizes


def _listed(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """How many tiles of each row are marked, and all of them, the marked ones first."""
    order = tiles.int().argsort(-1, descending=True, stable=True)
    return tiles.sum(-1).int(), order.int()


def _tiles(count: Tensor, indices: Tensor) -> Tensor:
    """Which tiles of each row are marked."""
    columns = arange(indices.shape[-1], device=indices.device)
    is_listed = columns < count.unsqueeze(-1)
    return ((indices.unsqueeze(-1) == columns) & is_listed.unsqueeze(-1)).any(-2)
