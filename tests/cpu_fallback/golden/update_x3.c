/* update_x3    train.py:7
 * region update_x3 (i=20000)
 *   for 3 members, each with its own w, g, out
 *   i of each: 20000 160 48
 *   %0 = load w[i] : f32 [i]
 *   %1 = load g[i] : f32 [i]
 *   %2 = load rate[0] : f32 []
 *   %3 = mul %1, %2 : f32 [i]
 *   %4 = sub %0, %3 : f32 [i]
 *   out[i] = %4
 * grid i = 20000 by 2048 (i=20000)
 * 3 members
 */
void update_x3(char *const *slots) {
  const float *restrict rate = (const float *)slots[6];
  static const ptrdiff_t first[4] = {
    0, 20000, 20160, 20208,
  };
  for (ptrdiff_t chunk = 0; chunk < 20208; chunk += 2048) {
    const ptrdiff_t chunk_end = tg_min(chunk + 2048, 20208);
    for (ptrdiff_t member = tg_member(first, 3, chunk); first[member] < chunk_end; member++) {
      const float *restrict w_ = (const float *)slots[member];
      const float *restrict g = (const float *)slots[3 + member];
      float *restrict out = (float *)slots[7 + member];
      const int i_lo = tg_max(chunk - first[member], 0);
      const int i_hi = tg_min(chunk_end, first[member + 1]) - first[member];
      const float t2 = rate[0];
#pragma omp simd
      for (int i = i_lo; i < i_hi; i++) {
        const float t0 = w_[i];
        const float t1 = g[i];
        const float t3 = t1 * t2;
        const float t4 = t0 - t3;
        out[i] = t4;
      }
    }
  }
}
