/* conv_weight    train.py:7
 * region conv_weight (o=32, c=20, i=3, j=3, n=9, y=14, x=14)
 *   %0 = load dy[(n*6272 + o*196 + x + y*14)] : f32 [o n y x]
 *   %1 = load im[(c*196 + i*14 + j + n*3920 + x + y*14 + -15)] if 0 <= (i + y + -1) < 14 and 0 <= (j + x + -1) < 14 : f32 [c i j n y x]
 *   %2 = dot %0, %1 over n y x : f32 [o c i j]
 *   out[(c*9 + i*3 + j + o*180)] = %2
 * grid o = 32 by 32 (o=32)
 * loop n = 9 by 1 (n=9)
 * loop y = 14 by 1 (y=14)
 * loop x = 14 by 14 (x=14)
 * grid c = 20 by 20 (c=20)
 * grid i = 3 by 1 (i=3)
 * grid j = 3 by 1 (j=3)
 */
void conv_weight(char *const *slots) {
  const float *restrict dy = (const float *)slots[0];
  const float *restrict im = (const float *)slots[1];
  float *restrict out = (float *)slots[2];
  float *const restrict part = tg_partials(23040 * sizeof(float));
#pragma omp parallel for schedule(static) num_threads(tg_threads)
  for (int chunk = 0; chunk < 4; chunk++) {
    float *const restrict vp = tg_scratch(10112 * sizeof(float));
    float *const restrict rows = vp + 6272;
    float *const restrict acc = part + chunk * 5760;
    const int n_lo = (ptrdiff_t)9 * chunk / 4;
    const int n_hi = (ptrdiff_t)9 * (chunk + 1) / 4;
    for (int n = n_lo; n < n_hi; n++) {
      for (int o_t = 0; o_t < 32; o_t += 16) {
        const int o_end = tg_min(o_t + 16, 32);
        for (int o = o_t; o < o_end; o++)
          for (int y = 0; y < 14; y++) {
#pragma omp simd
            for (int x = 0; x < 14; x++) {
              const float t1 = dy[n * 6272 + o * 196 + y * 14 + x];
              rows[(o - o_t) * 240 + y * 14 + x] = t1;
            }
          }
        tg_transpose_float_16(rows, 240, 196, vp + o_t / 32 * 6272 + o_t % 32, 32);
      }
      for (ptrdiff_t panel = 0; panel < 32; panel += 32)
        for (int i = 0; i < 3; i++)
          for (int j = 0; j < 3; j++) {
            const int y_lo = tg_max(1 - i, 0), y_hi = tg_min(tg_max(15 - i, 0), 14);
            const int x_lo = tg_max(1 - j, 0), x_hi = tg_min(tg_max(15 - j, 0), 14);
            const float *restrict image = im + n * 3920 + i * 14 + j - 15 + y_lo * 14 + x_lo;
            const float *restrict weights = vp + panel * 196 + (y_lo * 14 + x_lo) * 32;
            float *restrict sums = acc + panel + ((i) * 3 + j) * 640;
            for (int row = 0; row < 20; row += 10)
              tg_runs_float_10x2x16_196_1(y_hi - y_lo, 14, 448, x_hi - x_lo, image + row * (ptrdiff_t)196, weights, sums + row * 32, 32, n == n_lo);
          }
    }
  }
#pragma omp parallel for schedule(static) num_threads(tg_threads)
  for (int block = 0; block < 5760; block += 4096) {
    const int end = tg_min(block + 4096, 5760);
    for (int chunk = 1; chunk < 4; chunk++)
      for (int e = block; e < end; e++)
        part[e] += part[chunk * 5760 + e];
  }
#pragma omp parallel for schedule(static) num_threads(tg_threads)
  for (int c_lo = 0; c_lo < 20; c_lo += 4) {
    const int c_hi = tg_min(c_lo + 4, 20), o_lo = 0, o_hi = 32;
    for (int i = 0; i < 3; i++)
      for (int j = 0; j < 3; j++) {
        const float *restrict acc = part + ((i) * 3 + j) * 640 + c_lo * 32;
        for (int o = o_lo; o < o_hi; o++) {
#pragma omp simd
          for (int c = c_lo; c < c_hi; c++) {
            out[o * 180 + c * 9 + i * 3 + j] = acc[(o - o_lo) + (c - c_lo) * 32];
          }
        }
      }
  }
}
