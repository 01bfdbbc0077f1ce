/* conv_input    train.py:7
 * region conv_input (n=4, y=12, x=12, c=20, o=17, i=3, j=3)
 *   %0 = load dy[(i*10 + j + n*1700 + o*100 + x + y*10 + -22)] if 0 <= (i + y + -2) < 10 and 0 <= (j + x + -2) < 10 : f32 [n y x o i j]
 *   %1 = load w[(c*9 + i*-3 + j*-1 + o*180 + 8)] : f32 [c o i j]
 *   %2 = dot %0, %1 over o i j : f32 [n y x c]
 *   out[(c*144 + n*2880 + x + y*12)] = %2
 * grid m = 576 by 576 (n=4 y=12 x=12)
 * loop k = 153 by 153 (o=17 i=3 j=3)
 * grid c = 20 by 10 (c=20)
 */
void conv_input(char *const *slots) {
  const float *restrict dy = (const float *)slots[0];
  const float *restrict w = (const float *)slots[1];
  float *restrict out = (float *)slots[2];
#pragma omp parallel
  {
    float *const restrict vp = tg_scratch(96640 * sizeof(float));
    float *const restrict rp = vp + 88128;
    float *const restrict acc = rp + 2752;
    ptrdiff_t packed = -1;
#pragma omp for collapse(2) schedule(static)
    for (int m_lo = 0; m_lo < 576; m_lo += 576)
      for (int c_lo = 0; c_lo < 20; c_lo += 10) {
        const int m_hi = m_lo + 576;
        const int c_hi = c_lo + 10;
        int vm_from[63], vm_at[62], vm_f0[62], vm_f1[62], vm_f2[62], vm_runs = 0;
        for (int m = m_lo, m_end; m < m_hi; m = m_end) {
          m_end = tg_min(tg_min(m_hi, (m / 12 + 1) * 12), m_lo + ((m - m_lo) / 48 + 1) * 48);
          vm_from[vm_runs] = m;
          vm_at[vm_runs] = (m - m_lo) / 48 * 7344 + (m - m_lo) % 48;
          vm_f0[vm_runs] = m / 144 * 1700 + (m / 12) % 12 * 10 + m % 12 - 22;
          vm_f1[vm_runs] = (m / 12) % 12 - 2;
          vm_f2[vm_runs] = m % 12 - 2;
          vm_runs++;
        }
        vm_from[vm_runs] = m_hi;
        if (packed != (ptrdiff_t)m_lo / 576) {
          packed = (ptrdiff_t)m_lo / 576;
          for (int k_lo = 0; k_lo < 153; k_lo += 153) {
            const int k_hi = tg_min(k_lo + 153, 153);
            for (int k = k_lo; k < k_hi; k++) {
              for (int vm_q = 0; vm_q < vm_runs; vm_q++) {
                const int m_run = vm_from[vm_q], m_end = vm_from[vm_q + 1];
                const int at0 = vm_f0[vm_q] + k / 9 * 100 + (k / 3) % 3 * 10 + k % 3;
                const int at1 = vm_f1[vm_q] + (k / 3) % 3;
                const int at2 = vm_f2[vm_q] + k % 3;
                float *restrict to = (vp + k_lo / 153 * 88128) + vm_at[vm_q] + (k - k_lo) * 48;
                ptrdiff_t first = 0, last = m_end - m_run;
                last = (at1 >= 0) & (at1 < 10) ? last : 0;
                first = tg_max(first, 0 - (at2));
                last = tg_min(last, 10 - (at2));
                tg_copy(to, dy + at0, m_end - m_run, first, last);
              }
            }
          }
        }
        for (int k_lo = 0; k_lo < 153; k_lo += 153) {
          const int k_hi = tg_min(k_lo + 153, 153);
          int rk_from[20], rk_at[19], rk_f0[19], rk_runs = 0;
          for (int k = k_lo, k_end; k < k_hi; k = k_end) {
            k_end = tg_min(k_hi, (k / 9 + 1) * 9);
            rk_from[rk_runs] = k;
            rk_at[rk_runs] = k - k_lo;
            rk_f0[rk_runs] = k / 9 * 180 - (k % 9) + 8;
            rk_runs++;
          }
          rk_from[rk_runs] = k_hi;
          for (int c = c_lo; c < c_hi; c++) {
            for (int rk_q = 0; rk_q < rk_runs; rk_q++) {
              const int k_run = rk_from[rk_q], k_end = rk_from[rk_q + 1];
              const int at3 = rk_f0[rk_q] + c * 9;
              float *restrict to = rp + (c - c_lo) * 272 + rk_at[rk_q];
#pragma omp simd
              for (int k = k_run; k < k_end; k++) {
                const float t2 = w[at3 + (k - k_run) * -1];
                to[k - k_run] = t2;
              }
            }
          }
          for (ptrdiff_t j = 0; j < m_hi - m_lo; j += 48)
            for (ptrdiff_t i = 0; i < c_hi - c_lo; i += 5) {
              tg_dot_float_5x3x16_272_1(k_hi - k_lo, rp + i * 272, vp + k_lo / 153 * 88128 + j * 153, acc + i * 576 + j, 576, k_lo == 0);
            }
        }
        for (int c = c_lo; c < c_hi; c++) {
          for (int m_run = m_lo, m_end; m_run < m_hi; m_run = m_end) {
            m_end = tg_min(m_hi, (m_run / 144 + 1) * 144);
            const int at4 = m_run / 144 * 2880 + c * 144 + m_run % 144;
#pragma omp simd
            for (int m = m_run; m < m_end; m++) {
              out[at4 + (m - m_run)] = acc[(m - m_lo) + (c - c_lo) * 576];
            }
          }
        }
      }
  }
}
