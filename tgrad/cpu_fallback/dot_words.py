"""Products of words: two bfloat16 or four bytes, multiplied and added by one instruction (AVX-512
BF16 and VNNI).

In: a dot's operands and the machine. Out: how they are packed, and the C functions that take them.
Invariant: products of bytes are exact; sums of bfloat16 products are float32's, but numbers and
sums below 2^-126 count as zero, as in the instruction.

A word holds what one row, or one lane, has at neighbouring steps of k; what is missing is zero:

    rows         a[i, 2q] a[i, 2q + 1]        as memory has it, where it is contiguous along k
    panels of v  b[2q, j] b[2q + 1, j]        two packed rows of a panel, joined in place

The instruction for bytes multiplies unsigned by signed ones. Where both operands have the same
sign, rows are packed with the highest bit turned over, which moves them by 128:

    u8 * s8 = (s8 + 128) * s8 - 128 * s8:   128 times the panel's sum is one more row of the tile
"""

from __future__ import annotations

from dataclasses import dataclass

from tgrad import dtype as dt
from tgrad.cpu_fallback.register_tiles import MOVED, elements_of
from tgrad.cpu_fallback.target import Machine
from tgrad.dtype import DType


@dataclass(frozen=True)
class Words:
    """How the operands of a dot are packed.

    Attributes:
        kind: as in the names of its functions: "bf16", or the signs of a row and a lane.
    """

    kind: str

    @property
    def size(self) -> int:
        """Elements of a word."""
        return elements_of(self.kind).together

    @property
    def ctype(self) -> str:
        """C type of a packed element."""
        return elements_of(self.kind).packed

    @property
    def moves_rows(self) -> bool:
        """Whether rows are packed with the highest bit turned over."""
        return self.kind in MOVED

    def packed(self, value: str, is_row: bool) -> str:
        """C text of a register's value as a packed element."""
        if self.kind == "bf16":
            return f"tg_bits({value}) >> 16"
        return f"({value}) ^ 0x80" if is_row and self.moves_rows else value


_BYTES = {dt.int8: "s", dt.uint8: "u"}


def words_of(row: DType, vector: DType, sums: DType, machine: Machine) -> Words | None:
    """How operands of these dtypes are packed; None where single elements are multiplied.

    Args:
        sums: dtype of what is added up.
    """
    if row is vector is dt.bfloat16 and sums is dt.float32 and machine.has_bf16_dots:
        return Words("bf16")
    if row in _BYTES and vector in _BYTES and sums is dt.int32 and machine.has_byte_dots:
        return Words(_BYTES[row] + _BYTES[vector])
    return None


# -- C functions ----------------------------------------------------------------------------------

WORD_PIECES = {
    "tg_word": """\
typedef uint32_t tg_word __attribute__((may_alias, aligned(1)));
""",
    "tg_add_bf16": """\
static inline tg_float_16 tg_add_bf16(tg_float_16 s, tg_uint32_t_16 x, tg_uint32_t_16 y) {
#ifdef __AVX512BF16__
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(s) : "v"(x), "v"(y));
  return s;
#else
  s += (tg_float_16)(x & 0xffff0000u) * (tg_float_16)(y & 0xffff0000u);
  return s + (tg_float_16)(x << 16) * (tg_float_16)(y << 16);
#endif
}
""",
    "tg_add_bytes": """\
static inline tg_int32_t_16 tg_add_bytes(tg_int32_t_16 s, tg_uint32_t_16 u, tg_uint32_t_16 i) {
#ifdef __AVX512VNNI__
  __asm__("vpdpbusd %2, %1, %0" : "+v"(s) : "v"(u), "v"(i)); /* unsigned by signed */
  return s;
#else
  for (int shift = 0; shift < 32; shift += 8)
    s += (tg_int32_t_16)(u >> shift & 255) * ((tg_int32_t_16)(i << (24 - shift)) >> 24);
  return s;
#endif
}
""",
    "tg_join_uint16_t": """\
static __attribute__((noinline)) void tg_join_uint16_t(uint16_t *p, ptrdiff_t rows, ptrdiff_t n) {
  uint16_t t[2 * n]; /* two rows of n elements become one of n words, in place */
  for (; rows > 0; rows -= 2, p += 2 * n) {
    for (ptrdiff_t i = 0; i < n; i++) t[i] = p[i], t[n + i] = rows > 1 ? p[n + i] : 0;
    tg_word *const w = (tg_word *)p;
    for (ptrdiff_t i = 0; i < n; i++) w[i] = t[i] | (uint32_t)t[n + i] << 16;
  }
}
""",
    "tg_join_uint8_t": """\
static __attribute__((noinline)) void tg_join_uint8_t(uint8_t *p, ptrdiff_t rows, ptrdiff_t n) {
  uint8_t t[4 * n]; /* four rows of n elements become one of n words, in place */
  for (; rows > 0; rows -= 4, p += 4 * n) {
    for (ptrdiff_t i = 0; i < 4 * n; i++) t[i] = i < rows * n ? p[i] : 0;
    tg_word *const w = (tg_word *)p;
    for (ptrdiff_t i = 0; i < n; i++)
      w[i] = t[i] | (uint32_t)t[n + i] << 8 | (uint32_t)t[2 * n + i] << 16 |
             (uint32_t)t[3 * n + i] << 24;
  }
}
""",
}
