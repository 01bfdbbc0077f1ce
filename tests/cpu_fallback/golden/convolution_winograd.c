/* conv_forward    train.py:7
 * region conv_forward (n=2, y=14, x=14, o=32, c=32, i=3, j=3)
 *   %0 = load im[(c*196 + i*14 + j + n*6272 + x + y*14 + -15)] if 0 <= (i + y + -1) < 14 and 0 <= (j + x + -1) < 14 : f32 [n y x c i j]
 *   %1 = load w[(c*9 + i*3 + j + o*288)] : f32 [o c i j]
 *   %2 = dot %0, %1 over c i j : f32 [n y x o]
 *   out[(n*6272 + o*196 + x + y*14)] = %2
 * grid n = 2 by 1 (n=2)
 * grid y = 14 by 1 (y=14)
 * grid x = 14 by 14 (x=14)
 * loop i = 3 by 1 (i=3)
 * loop j = 3 by 1 (j=3)
 * loop c = 32 by 32 (c=32)
 * grid o = 32 by 32 (o=32)
 */
void conv_forward(char *const *slots) {
  const float *restrict im = (const float *)slots[0];
  const float *restrict w_ = (const float *)slots[1];
  float *restrict out = (float *)slots[2];
#pragma omp parallel num_threads(tg_threads)
  {
    float *const restrict wp = tg_scratch(68480 * sizeof(float));
    float *const restrict ip = wp + 36864;
    float *const restrict mid = ip + 3456;
    float *const restrict vp = mid + 3456;
    float *const restrict mp = vp + 5184;
    float *const restrict plain = mp + 5184;
    float *const restrict acc = plain + 9216;
    float *const restrict turned = acc + 2560;
    int has_plain = 0;
    for (int o_t = 0; o_t < 32; o_t += 32)
      for (int c = 0; c < 32; c++) {
        float taps[288] = {0}, half[576];
        for (int i = 0; i < 3; i++)
          for (int j = 0; j < 3; j++) {
            float *restrict to = taps + i * 96 + j * 32;
            for (int o = o_t; o < tg_min(o_t + 32, 32); o++) {
              const float t2 = w_[o * 288 + c * 9 + i * 3 + j];
              to[o - o_t] = t2;
            }
          }
        float *restrict to = wp + o_t * 1152 + c * 32;
        for (int e = 0; e < 96; e += 16)
          tg_winograd_filter_6_3_16(taps + e, 96, half + e, 96);
        for (int a = 0; a < 6; a++)
          for (int e = 0; e < 32; e += 16) {
            tg_winograd_filter_6_3_16(half + a * 96 + e, 32, to + a * 6144 + e, 1024);
          }
      }
#pragma omp for collapse(2) schedule(static)
    for (int n = 0; n < 2; n++)
      for (int y_lo = 0; y_lo < 14; y_lo += 4) {
        const int y_hi = tg_min(y_lo + 4, 14);
        const int tile_rows = (y_hi - y_lo + 3) / 4;
        const int row_lo = y_lo - 1;
        for (int row = row_lo; row < row_lo + tile_rows * 4 + 2; row++) {
          if (row < 0 || row >= 14) {
            for (int e = 0; e < 576; e++) ip[(row - row_lo) * 576 + e] = 0;
            continue;
          }
          const float *restrict from = im + n * 6272 + row * 14;
          float *restrict to = ip + (row - row_lo) * 576;
          for (int e = 0; e < 32; e++) to[e] = 0;
          for (int e = 480; e < 576; e++) to[e] = 0;
          to += 32;
          for (int k = 0; k < 32; k += 16)
            tg_transpose_float_16(from + k * (ptrdiff_t)196, 196, 14, to + k, 32);
        }
        for (ptrdiff_t ty = 0; ty < tile_rows; ty++) {
          for (ptrdiff_t e = 0; e < 576; e += 16)
            tg_winograd_data_6_6_16(ip + ty * 2304 + e, 576, mid + e, 576);
          for (ptrdiff_t a = 0; a < 6; a++)
            for (ptrdiff_t tx = 0; tx < 4; tx++)
              for (ptrdiff_t e = 0; e < 32; e += 16) {
                tg_winograd_data_6_6_16(mid + a * 576 + tx * 128 + e, 32, vp + a * 864 + (ty * 4 + tx) * 32 + e, 144);
              }
        }
        tg_float_16 odd = {0};
        for (ptrdiff_t panel = 0; panel < 32; panel += 32) {
          const ptrdiff_t tiles = tile_rows * 4;
          for (ptrdiff_t p = 0; p < 36; p++) {
            const float *restrict data = vp + p * 144;
            const float *restrict weights = wp + panel * 1152 + p * 1024;
            float *restrict to = mp + p * 144;
            ptrdiff_t t = 0;
            for (; t + 4 <= tiles; t += 4) tg_runs_float_4x2x16_32_1(1, 0, 0, 32, data + t * 32, weights, to + t * 32, 32, 1);
          }
          for (ptrdiff_t ty = 0; ty < tile_rows; ty++)
            for (ptrdiff_t tx = 0; tx < 4; tx++)
              for (int e = 0; e < 32; e += 16) {
                float half[384];
                const float *from = mp + (ty * 4 + tx) * 32 + e;
                float *to = acc + ty * 2048 + tx * 128 + panel + e;
                for (int a = 0; a < 6; a++)
                  tg_winograd_result_6_4_16(from + a * 864, 144, half + a * 64, 16);
                for (int x = 0; x < 4; x++, to += 32) {
                  tg_winograd_result_6_4_16(half + x * 16, 64, to, 512);
                  for (int y = 0; y < 4; y++) odd += 0.0f * *(const tg_float_16 *)(to + y * 512);
                }
              }
        }
        float oddity = 0;
        for (int e = 0; e < 16; e++) oddity += odd[e];
        if (oddity != 0) {
          if (!has_plain) {
            for (int o_t = 0; o_t < 32; o_t += 32)
              for (int i = 0; i < 3; i++)
                for (int j = 0; j < 3; j++)
                  for (int c = 0; c < 32; c++) {
                    float *restrict to = plain + o_t * 288 + ((i * 3 + j) * 32 + c) * 32;
                    for (int o = o_t; o < tg_min(o_t + 32, 32); o++) {
                      const float t2 = w_[o * 288 + c * 9 + i * 3 + j];
                      to[o - o_t] = t2;
                    }
                  }
            has_plain = 1;
          }
          for (ptrdiff_t panel = 0; panel < 32; panel += 32)
            for (ptrdiff_t y = 0; y < y_hi - y_lo; y++)
              for (ptrdiff_t x = 0; x < 16; x++) {
                tg_runs_float_1x2x16_32_1(3, 576, 3072, 96, ip + y * 576 + x * 32, plain + panel * 288, acc + (y * 16 + x) * 32 + panel, 32, 1);
              }
        }
        for (ptrdiff_t pixel = 0; pixel < (y_hi - y_lo) * 16; pixel += 16)
          tg_transpose_float_16(acc + pixel * 32, 32, 32, turned + pixel, 80);
        for (int o_lo = 0; o_lo < 32; o_lo++)
          for (int y = y_lo; y < y_hi; y++) {
            const int o_hi = o_lo + 1;
            const int x_lo = 0, x_hi = 14;
            const float *restrict sums = turned + o_lo * 80 + (y - y_lo) * 16;
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
