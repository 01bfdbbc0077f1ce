/* conv_forward    train.py:7
 * region conv_forward (n=2, y=14, x=14, o=32, c=20, i=3, j=3)
 *   %0 = load im[(c*196 + i*14 + j + n*3920 + x + y*14 + -15)] if 0 <= (i + y + -1) < 14 and 0 <= (j + x + -1) < 14 : bf16 [n y x c i j]
 *   %1 = load w[(c*9 + i*3 + j + o*180)] : bf16 [o c i j]
 *   %2 = dot %0, %1 over c i j : f32 [n y x o]
 *   out[(n*6272 + o*196 + x + y*14)] = %2
 * grid n = 2 by 1 (n=2)
 * grid y = 14 by 1 (y=14)
 * grid x = 14 by 14 (x=14)
 * loop i = 3 by 1 (i=3)
 * loop j = 3 by 1 (j=3)
 * loop c = 20 by 20 (c=20)
 * grid o = 32 by 32 (o=32)
 */
void conv_forward(char *const *slots) {
  const uint16_t *restrict im = (const uint16_t *)slots[0];
  const uint16_t *restrict w_ = (const uint16_t *)slots[1];
  float *restrict out = (float *)slots[2];
#pragma omp parallel num_threads(tg_threads)
  {
    uint16_t *const restrict wp = tg_scratch(9856 * sizeof(float));
    uint16_t *const restrict ip = wp + 5760;
    float *const restrict acc = (float *)(ip + 4224);
    float *const restrict turned = acc + 2304;
    for (int o_t = 0; o_t < 32; o_t += 32)
      for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
          for (int c = 0; c < 20; c++) {
            uint16_t *restrict to = wp + o_t * 180 + ((i * 3 + j) * 20 + c / 2 * 2) * 32 + c % 2;
            for (int o = o_t; o < tg_min(o_t + 32, 32); o++) {
              const float t2 = tg_load_bf16(w_[o * 180 + c * 9 + i * 3 + j]);
              to[(o - o_t) * 2] = tg_bits(t2) >> 16;
            }
          }
#pragma omp for collapse(2) schedule(static)
    for (int n = 0; n < 2; n++)
      for (int y_lo = 0; y_lo < 14; y_lo += 4) {
        const int y_hi = tg_min(y_lo + 4, 14);
        const int row_lo = tg_max(0, y_lo - 1), row_hi = tg_min(14, y_hi + 1);
        for (int row = row_lo; row < row_hi; row++) {
          const uint16_t *restrict from = im + n * 3920 + row * 14;
          uint16_t *restrict to = ip + (row - row_lo) * 320;
          for (int e = 0; e < 20; e++) to[e] = 0;
          for (int e = 300; e < 320; e++) to[e] = 0;
          to += 20;
          for (int k = 0; k < 16; k += 16)
            tg_transpose_uint16_t_16(from + k * (ptrdiff_t)196, 196, 14, to + k, 20);
          for (int e = 0; e < 14; e++)
            for (int k = 16; k < 20; k++) {
              to[e * 20 + k] = from[e + k * 196];
            }
        }
        for (ptrdiff_t panel = 0; panel < 32; panel += 32)
          for (int y = y_lo; y < y_hi; y++) {
            const int i_lo = tg_max(1 - y, 0), i_hi = tg_min(tg_max(15 - y, 0), 3);
            const uint16_t *restrict image = ip + (y - 1 + i_lo - row_lo) * 320;
            const uint16_t *restrict weights = wp + panel * 180 + i_lo * 1920;
            float *restrict sums = acc + (y - y_lo) * 448 + panel;
            for (ptrdiff_t pixel = 0; pixel < 14; pixel += 14)
              tg_runs_bf16_14x2x16_20_2_1to14_0to14_0to13(i_hi - i_lo, 320, 1920, 20, image + pixel * 20, weights, sums + pixel * 32, 32, 1);
          }
        for (ptrdiff_t pixel = 0; pixel < (y_hi - y_lo) * 14; pixel += 16)
          tg_transpose_float_16(acc + pixel * 32, 32, 32, turned + pixel, 80);
        for (int o_lo = 0; o_lo < 32; o_lo++)
          for (int y = y_lo; y < y_hi; y++) {
            const int o_hi = o_lo + 1;
            const int x_lo = 0, x_hi = 14;
            const float *restrict sums = turned + o_lo * 80 + (y - y_lo) * 14;
            for (int o = o_lo; o < o_hi; o++) {
#pragma omp simd
              for (int x = x_lo; x < x_hi; x++) {
                out[n * 6272 + o * 196 + y * 14 + x] = sums[(x - x_lo) + (o - o_lo) * 80];
              }
            }
          }
      }
  }
}
