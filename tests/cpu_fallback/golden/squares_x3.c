/* squares_x3    train.py:7
 * region squares_x3 (i=20000)
 *   for 3 members, each with its own x, out
 *   i of each: 20000 160 48
 *   %0 = load x[i] : f32 [i]
 *   %1 = mul %0, %0 : f32 [i]
 *   %2 = reduce_sum %1 over i : f32 []
 *   out[0] = %2
 * loop i = 20000 by 1 (i=20000)
 * 3 members
 */
void squares_x3(char *const *slots) {
  static const ptrdiff_t first[4] = {
    0, 2, 3, 4,
  };
  static const ptrdiff_t length[3] = {
    20000, 160, 48,
  };
  float t0_piece[4];
  for (ptrdiff_t piece = 0; piece < 4; piece++) {
    const ptrdiff_t member = tg_member(first, 3, piece);
    const float *restrict x = (const float *)slots[member];
    float *restrict out = (float *)slots[3 + member];
    const int piece_lo = (piece - first[member]) * 16384;
    const int piece_hi = tg_min(piece_lo + 16384, length[member]);
    float t0 = 0.0f;
    for (int i_s = piece_lo; i_s < piece_hi; i_s += 4096) {
      const int i_end = tg_min(i_s + 4096, piece_hi);
      float t0_part = 0;
      const int i_w = (i_end - i_s) / 4;
      float t0_part_1 = 0.0f, t0_part_2 = 0.0f, t0_part_3 = 0.0f;
#pragma omp simd reduction(+:t0_part) reduction(+:t0_part_1) reduction(+:t0_part_2) reduction(+:t0_part_3)
      for (int i_q = i_s; i_q < i_s + i_w; i_q++) {
        {
          const int i = i_q;
          const float t1 = x[i];
          const float t2 = t1 * t1;
          t0_part = (t0_part + t2);
        }
        {
          const int i = i_q + i_w;
          const float t1 = x[i];
          const float t2 = t1 * t1;
          t0_part_1 = (t0_part_1 + t2);
        }
        {
          const int i = i_q + i_w * 2;
          const float t1 = x[i];
          const float t2 = t1 * t1;
          t0_part_2 = (t0_part_2 + t2);
        }
        {
          const int i = i_q + i_w * 3;
          const float t1 = x[i];
          const float t2 = t1 * t1;
          t0_part_3 = (t0_part_3 + t2);
        }
      }
#pragma omp simd reduction(+:t0_part)
      for (int i = i_s + i_w * 4; i < i_end; i++) {
        const float t1 = x[i];
        const float t2 = t1 * t1;
        t0_part = (t0_part + t2);
      }
      t0_part = ((t0_part + t0_part_1) + (t0_part_2 + t0_part_3));
      t0 += t0_part;
    }
    t0_piece[piece] = t0;
  }
  for (ptrdiff_t member = 0; member < 3; member++) {
    const float *restrict x = (const float *)slots[member];
    float *restrict out = (float *)slots[3 + member];
    float t0 = 0.0f;
    for (ptrdiff_t piece = first[member]; piece < first[member + 1]; piece++) {
      t0 = (t0 + t0_piece[piece]);
    }
    out[0] = t0;
  }
}
