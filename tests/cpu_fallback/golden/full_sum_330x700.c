/* reduce_sum_full    train.py:7
 * region reduce_sum_full (i=330, j=700)
 *   %0 = load x[(i*700 + j)] : f32 [i j]
 *   %1 = reduce_sum %0 over i j : f32 []
 *   out[0] = %1
 * loop j = 231000 by 1 (i=330 j=700)
 */
void reduce_sum_full(char *const *slots) {
  const float *restrict x = (const float *)slots[0];
  float *restrict out = (float *)slots[1];
  float t0 = 0.0f;
  {
    float t0_chunk[7][1];
#pragma omp parallel for schedule(static) num_threads(tg_threads)
    for (int chunk = 0; chunk < 7; chunk++) {
      const int chunk_lo = (ptrdiff_t)231000 * chunk / 7;
      const int chunk_hi = (ptrdiff_t)231000 * (chunk + 1) / 7;
      float t0 = 0.0f;
      for (int j_s = chunk_lo; j_s < chunk_hi; j_s += 4096) {
        const int j_end = tg_min(j_s + 4096, chunk_hi);
        float t0_part = 0;
        const int j_w = (j_end - j_s) / 4;
        float t0_part_1 = 0.0f, t0_part_2 = 0.0f, t0_part_3 = 0.0f;
#pragma omp simd reduction(+:t0_part) reduction(+:t0_part_1) reduction(+:t0_part_2) reduction(+:t0_part_3)
        for (int j_q = j_s; j_q < j_s + j_w; j_q++) {
          {
            const int j = j_q;
            const float t1 = x[j];
            t0_part = (t0_part + t1);
          }
          {
            const int j = j_q + j_w;
            const float t1 = x[j];
            t0_part_1 = (t0_part_1 + t1);
          }
          {
            const int j = j_q + j_w * 2;
            const float t1 = x[j];
            t0_part_2 = (t0_part_2 + t1);
          }
          {
            const int j = j_q + j_w * 3;
            const float t1 = x[j];
            t0_part_3 = (t0_part_3 + t1);
          }
        }
#pragma omp simd reduction(+:t0_part)
        for (int j = j_s + j_w * 4; j < j_end; j++) {
          const float t1 = x[j];
          t0_part = (t0_part + t1);
        }
        t0_part = ((t0_part + t0_part_1) + (t0_part_2 + t0_part_3));
        t0 += t0_part;
      }
      t0_chunk[chunk][0] = t0;
    }
    for (int chunk = 0; chunk < 7; chunk++)
      for (int e = 0; e < 1; e++) t0 = (t0 + t0_chunk[chunk][e]);
  }
  out[0] = t0;
}
