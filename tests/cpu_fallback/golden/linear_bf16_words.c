/* linear_bf16    train.py:7
 * region linear_bf16 (m=200, n=96, k=301)
 *   %0 = load a[(k + m*301)] : bf16 [m k]
 *   %1 = load b[(k + n*301)] : bf16 [n k]
 *   %2 = dot %0, %1 over k : f32 [m n]
 *   %3 = cast %2 : bf16 [m n]
 *   out[(m*96 + n)] = %3
 * grid m = 200 by 104 (m=200)
 * loop k = 301 by 301 (k=301)
 * grid n = 96 by 48 (n=96)
 */
void linear_bf16(char *const *slots) {
  const uint16_t *restrict a = (const uint16_t *)slots[0];
  const uint16_t *restrict b = (const uint16_t *)slots[1];
  uint16_t *restrict out = (uint16_t *)slots[2];
#pragma omp parallel num_threads(tg_threads)
  {
    uint16_t *const restrict vp = tg_scratch(89856 * sizeof(uint16_t));
    uint16_t *const restrict rp = vp + 14592;
    float *const restrict acc = (float *)(vp + 71168);
    uint16_t *const restrict rows = vp + 81152;
    ptrdiff_t packed = -1;
#pragma omp for collapse(2) schedule(static)
    for (int n_lo = 0; n_lo < 96; n_lo += 48)
      for (int m_lo = 0; m_lo < 200; m_lo += 104) {
        const int m_hi = tg_min(m_lo + 104, 200);
        const int n_hi = n_lo + 48;
        if (packed != (ptrdiff_t)n_lo / 48) {
          packed = (ptrdiff_t)n_lo / 48;
          for (int k_lo = 0; k_lo < 301; k_lo += 301) {
            const int k_hi = tg_min(k_lo + 301, 301);
            for (int n_t = n_lo; n_t < n_hi; n_t += 16) {
              const int n_end = tg_min(n_t + 16, n_hi);
              for (int n = n_t; n < n_end; n++) {
                uint16_t *restrict to = rows + (n - n_t) * 544;
#pragma omp simd
                for (int k = k_lo; k < k_hi; k++) {
                  const float t2 = tg_load_bf16(b[n * 301 + k]);
                  to[k - k_lo] = tg_bits(t2) >> 16;
                }
                for (int q = k_hi - k_lo; q % 2; q++) (rows + (n - n_t) * 544)[q] = 0;
              }
              tg_transpose_uint32_t_16((uint32_t *)rows, 272, (k_hi - k_lo + 1) / 2, (uint32_t *)((vp + k_lo / 301 * 14496) + (n_t - n_lo) / 48 * 14496 + (n_t - n_lo) % 48 * 2), 48);
            }
          }
        }
        for (int k_lo = 0; k_lo < 301; k_lo += 301) {
          const int k_hi = tg_min(k_lo + 301, 301);
          for (int m = m_lo; m < m_hi; m++) {
            uint16_t *restrict to = rp + (m - m_lo) * 544;
#pragma omp simd
            for (int k = k_lo; k < k_hi; k++) {
              const float t1 = tg_load_bf16(a[m * 301 + k]);
              to[k - k_lo] = tg_bits(t1) >> 16;
            }
            for (int q = k_hi - k_lo; q % 2; q++) (rp + (m - m_lo) * 544)[q] = 0;
          }
          for (ptrdiff_t j = 0; j < n_hi - n_lo; j += 48)
            for (ptrdiff_t i = 0; i < m_hi - m_lo; i += 8) {
              tg_dot_bf16_8x3x16_544_2(k_hi - k_lo, rp + i * 544, vp + k_lo / 301 * 14496 + j * 302, acc + i * 48 + j, 48, k_lo == 0);
            }
        }
        for (int m = m_lo; m < m_hi; m++) {
#pragma omp simd
          for (int n = n_lo; n < n_hi; n++) {
            const float t3 = acc[(m - m_lo) * 48 + (n - n_lo)];
            out[m * 96 + n] = tg_store_bf16(t3);
          }
        }
      }
  }
}
