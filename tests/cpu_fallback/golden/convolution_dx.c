/* conv_input    train.py:7
 * region conv_input (n=4, y=12, x=12, c=20, o=17, i=3, j=3)
 *   %0 = load dy[(i*10 + j + n*1700 + o*100 + x + y*10 + -22)] if 0 <= (i + y + -2) < 10 and 0 <= (j + x + -2) < 10 : f32 [n y x o i j]
 *   %1 = load w[(c*9 + i*-3 + j*-1 + o*180 + 8)] : f32 [c o i j]
 *   %2 = dot %0, %1 over o i j : f32 [n y x c]
 *   out[(c*144 + n*2880 + x + y*12)] = %2
 * grid m = 576 by 288 (n=4 y=12 x=12)
 * loop k = 153 by 153 (o=17 i=3 j=3)
 * grid c = 20 by 20 (c=20)
 */
void conv_input(char *const *slots) {
  const float *restrict dy = (const float *)slots[0];
  const float *restrict w_ = (const float *)slots[1];
  float *restrict out = (float *)slots[2];
#pragma omp parallel num_threads(tg_threads)
  {
    float *const restrict vp = tg_scratch(55296 * sizeof(float));
    float *const restrict rp = vp + 44096;
    float *const restrict acc = vp + 49536;
    ptrdiff_t packed = -1;
#pragma omp for collapse(2) schedule(static)
    for (int c_lo = 0; c_lo < 20; c_lo += 20)
      for (int m_lo = 0; m_lo < 576; m_lo += 288) {
        const int m_hi = m_lo + 288;
        const int c_hi = c_lo + 20;
        int vm_at[18][3], vm_b0[18][3], vm_b1[18][3], vm_to[18], vm_w = 0;
        uint16_t vm_in[18][3];
        for (int m_t = m_lo; m_t < m_hi; m_t += 16, vm_w++) {
          const int m_end = tg_min(m_t + 16, m_hi), w = vm_w;
          vm_to[w] = w / 3 * 7344 + w % 3 * 16;
          for (int p = 0, m = m_t, m_s; p < 3; p++, m = m_s) {
            m_s = tg_min(m_end, (m / 12 + 1) * 12);
            vm_in[w][p] = tg_window(m - m_t, m_s - m_t);
            vm_at[w][p] = m / 144 * 1700 + (m / 12) % 12 * 10 + m % 12 - 22 - (m - m_t);
            vm_b0[w][p] = (m / 12) % 12 - 2;
            vm_b1[w][p] = m % 12 - 2 - (m - m_t);
          }
        }
        if (packed != (ptrdiff_t)c_lo / 20) {
          packed = (ptrdiff_t)c_lo / 20;
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
                const int at0 = rk_f0[rk_q] + c * 9;
                float *restrict to = (rp + k_lo / 153 * 5440) + (c - c_lo) * 272 + rk_at[rk_q];
#pragma omp simd
                for (int k = k_run; k < k_end; k++) {
                  const float t2 = w_[at0 + (k - k_run) * -1];
                  to[k - k_run] = t2;
                }
              }
            }
          }
        }
        for (int k_lo = 0; k_lo < 153; k_lo += 153) {
          const int k_hi = tg_min(k_lo + 153, 153);
          for (int k = k_lo; k < k_hi; k++) {
            const int vm_g = k / 9 * 100 + (k / 3) % 3 * 10 + k % 3;
            const int vm_g0 = (k / 3) % 3;
            const int vm_g1 = k % 3;
            for (int w = 0; w < vm_w; w++) {
              tg_float_16 v = {0};
              v = tg_part_float(v, dy + vm_at[w][0] + vm_g, vm_in[w][0] & -((vm_b0[w][0] + vm_g0 >= 0) & (vm_b0[w][0] + vm_g0 < 10)) & tg_window(0 - (vm_b1[w][0] + vm_g1), 10 - (vm_b1[w][0] + vm_g1)));
              v = tg_part_float(v, dy + vm_at[w][1] + vm_g, vm_in[w][1] & -((vm_b0[w][1] + vm_g0 >= 0) & (vm_b0[w][1] + vm_g0 < 10)) & tg_window(0 - (vm_b1[w][1] + vm_g1), 10 - (vm_b1[w][1] + vm_g1)));
              v = tg_part_float(v, dy + vm_at[w][2] + vm_g, vm_in[w][2] & -((vm_b0[w][2] + vm_g0 >= 0) & (vm_b0[w][2] + vm_g0 < 10)) & tg_window(0 - (vm_b1[w][2] + vm_g1), 10 - (vm_b1[w][2] + vm_g1)));
              *(tg_float_16 *)(vp + (k - k_lo) * 48 + vm_to[w]) = v;
            }
          }
          for (ptrdiff_t j = 0; j < m_hi - m_lo; j += 48)
            for (ptrdiff_t i = 0; i < c_hi - c_lo; i += 5) {
              tg_dot_float_5x3x16_272_1(k_hi - k_lo, rp + k_lo / 153 * 5440 + i * 272, vp + j * 153, acc + i * 288 + j, 288, k_lo == 0);
            }
        }
        for (int c = c_lo; c < c_hi; c++) {
          for (int m_run = m_lo, m_end; m_run < m_hi; m_run = m_end) {
            m_end = tg_min(m_hi, (m_run / 144 + 1) * 144);
            const int at1 = m_run / 144 * 2880 + c * 144 + m_run % 144;
#pragma omp simd
            for (int m = m_run; m < m_end; m++) {
              out[at1 + (m - m_run)] = acc[(m - m_lo) + (c - c_lo) * 288];
            }
          }
        }
      }
  }
}
