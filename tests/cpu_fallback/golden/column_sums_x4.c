/* reduce_sum_column    train.py:7
 * region reduce_sum_column (i=330, j=700)
 *   for 4 members, each with its own x, out
 *   %0 = load x[(i*700 + j)] : f32 [i j]
 *   %1 = reduce_sum %0 over i : f32 [j]
 *   out[j] = %1
 * grid j = 700 by 700 (j=700)
 * loop i = 330 by 1 (i=330)
 * 4 members
 */
void reduce_sum_column(char *const *slots) {
  for (int member = 0; member < 4; member++)
    for (int j_lo = 0; j_lo < 700; j_lo += 700) {
      const float *restrict x = (const float *)slots[member];
      float *restrict out = (float *)slots[4 + member];
      const int j_hi = j_lo + 700;
      float t0[700];
#pragma omp simd
      for (int j = j_lo; j < j_hi; j++) {
        t0[(j - j_lo)] = 0.0f;
      }
      {
        float t0_chunk[7][700];
#pragma omp parallel for schedule(static) num_threads(tg_threads)
        for (int chunk = 0; chunk < 7; chunk++) {
          const int chunk_lo = (ptrdiff_t)330 * chunk / 7;
          const int chunk_hi = (ptrdiff_t)330 * (chunk + 1) / 7;
          float t0[700];
          for (int e = 0; e < 700; e++) t0[e] = 0.0f;
          const int i_end = chunk_lo + (chunk_hi - chunk_lo) / 8 * 8;
          for (int i = chunk_lo; i < i_end; i += 8) {
#pragma omp simd
            for (int j = j_lo; j < j_hi; j++) {
              const float t2 = x[i * 700 + j];
              t0[(j - j_lo)] = (t0[(j - j_lo)] + t2);
              const float t3 = x[i * 700 + j + 700];
              t0[(j - j_lo)] = (t0[(j - j_lo)] + t3);
              const float t4 = x[i * 700 + j + 1400];
              t0[(j - j_lo)] = (t0[(j - j_lo)] + t4);
              const float t5 = x[i * 700 + j + 2100];
              t0[(j - j_lo)] = (t0[(j - j_lo)] + t5);
              const float t6 = x[i * 700 + j + 2800];
              t0[(j - j_lo)] = (t0[(j - j_lo)] + t6);
              const float t7 = x[i * 700 + j + 3500];
              t0[(j - j_lo)] = (t0[(j - j_lo)] + t7);
              const float t8 = x[i * 700 + j + 4200];
              t0[(j - j_lo)] = (t0[(j - j_lo)] + t8);
              const float t9 = x[i * 700 + j + 4900];
              t0[(j - j_lo)] = (t0[(j - j_lo)] + t9);
            }
          }
          for (int i = i_end; i < chunk_hi; i++) {
#pragma omp simd
            for (int j = j_lo; j < j_hi; j++) {
              const float t1 = x[i * 700 + j];
              t0[(j - j_lo)] = (t0[(j - j_lo)] + t1);
            }
          }
          for (int e = 0; e < 700; e++) t0_chunk[chunk][e] = t0[e];
        }
        for (int chunk = 0; chunk < 7; chunk++)
          for (int e = 0; e < 700; e++) t0[e] = (t0[e] + t0_chunk[chunk][e]);
      }
#pragma omp simd
      for (int j = j_lo; j < j_hi; j++) {
        out[j] = t0[(j - j_lo)];
      }
    }
}
