/* transpose    train.py:7
 * region transpose (i=3072, j=4096)
 *   %0 = load x[(i*4096 + j)] : f32 [i j]
 *   out[(i + j*3072)] = %0
 * grid i = 3072 by 64 (i=3072)
 * grid j = 4096 by 64 (j=4096)
 */
void transpose(char *const *slots) {
  const float *restrict x = (const float *)slots[0];
  float *restrict out = (float *)slots[1];
#pragma omp parallel for collapse(2) schedule(static) num_threads(tg_threads)
  for (int i_lo = 0; i_lo < 3072; i_lo += 64)
    for (int j_lo = 0; j_lo < 4096; j_lo += 64) {
      const int i_hi = i_lo + 64;
      const int j_hi = j_lo + 64;
      float t0[4096];
      for (int i = i_lo; i < i_hi; i++) {
#pragma omp simd
        for (int j = j_lo; j < j_hi; j++) {
          t0[(i - i_lo) * 64 + (j - j_lo)] = x[i * 4096 + j];
        }
      }
      for (int j = j_lo; j < j_hi; j++) {
#pragma omp simd
        for (int i = i_lo; i < i_hi; i++) {
          out[j * 3072 + i] = t0[(i - i_lo) * 64 + (j - j_lo)];
        }
      }
    }
}
