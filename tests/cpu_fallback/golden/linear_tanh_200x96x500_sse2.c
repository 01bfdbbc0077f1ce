/* linear_tanh    train.py:7
 * region linear_tanh (m=200, n=96, k=500)
 *   %0 = load a[(k + m*500)] : f32 [m k]
 *   %1 = load b[(k*96 + n)] : f32 [n k]
 *   %2 = dot %0, %1 over k : f32 [m n]
 *   %3 = load bias[n] : f32 [n]
 *   %4 = add %2, %3 : f32 [m n]
 *   %5 = tanh %4 : f32 [m n]
 *   out[(m*96 + n)] = %5
 * grid m = 200 by 50 (m=200)
 * loop k = 500 by 250 (k=500)
 * grid n = 96 by 96 (n=96)
 */
void linear_tanh(char *const *slots) {
  const float *restrict a = (const float *)slots[0];
  const float *restrict b = (const float *)slots[1];
  const float *restrict bias = (const float *)slots[2];
  float *restrict out = (float *)slots[3];
#pragma omp parallel num_threads(tg_threads)
  {
    float *const restrict vp = tg_scratch(52800 * sizeof(float));
    float *const restrict acc = vp + 48000;
    ptrdiff_t packed = -1;
#pragma omp for collapse(2) schedule(static)
    for (int n_lo = 0; n_lo < 96; n_lo += 96)
      for (int m_lo = 0; m_lo < 200; m_lo += 50) {
        const int m_hi = m_lo + 50;
        const int n_hi = n_lo + 96;
        if (packed != (ptrdiff_t)n_lo / 96) {
          packed = (ptrdiff_t)n_lo / 96;
          for (int k_lo = 0; k_lo < 500; k_lo += 250) {
            const int k_hi = tg_min(k_lo + 250, 500);
            for (int n_run = n_lo; n_run < n_hi; n_run += 8) {
              float *restrict to = (vp + k_lo / 250 * 24000) + (n_run - n_lo) / 8 * 2000;
              for (int k = k_lo; k < k_hi; k++) {
#pragma omp simd
                for (int n = n_run; n < n_run + 8; n++) {
                  const float t2 = b[k * 96 + n];
                  to[(k - k_lo) * 8 + n - n_run] = t2;
                }
              }
            }
          }
        }
        for (int k_lo = 0; k_lo < 500; k_lo += 250) {
          const int k_hi = tg_min(k_lo + 250, 500);
          for (ptrdiff_t j = 0; j < n_hi - n_lo; j += 8)
            for (ptrdiff_t i = 0; i < m_hi - m_lo; i += 5) {
              tg_dot_float_5x2x4_500_1(k_hi - k_lo, a + m_lo * 500 + k_lo + i * 500, vp + k_lo / 250 * 24000 + j * 250, acc + i * 96 + j, 96, k_lo == 0);
            }
        }
        float t3[96];
#pragma omp simd
        for (int n = n_lo; n < n_hi; n++) {
          t3[(n - n_lo)] = bias[n];
        }
        for (int m = m_lo; m < m_hi; m++) {
#pragma omp simd
          for (int n = n_lo; n < n_hi; n++) {
            const float t4 = (acc[(m - m_lo) * 96 + (n - n_lo)] + t3[(n - n_lo)]);
            const float t5 = tg_tanh(t4);
            out[m * 96 + n] = t5;
          }
        }
      }
  }
}
