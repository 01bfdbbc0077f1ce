/* conv_weight    train.py:7
 * region conv_weight (o=32, c=32, i=3, j=3, n=9, y=14, x=14)
 *   %0 = load dy[(n*6272 + o*196 + x + y*14)] : f32 [o n y x]
 *   %1 = load im[(c*196 + i*14 + j + n*6272 + x + y*14 + -15)] if 0 <= (i + y + -1) < 14 and 0 <= (j + x + -1) < 14 : f32 [c i j n y x]
 *   %2 = dot %0, %1 over n y x : f32 [o c i j]
 *   out[(c*9 + i*3 + j + o*288)] = %2
 * grid o = 32 by 32 (o=32)
 * loop n = 9 by 1 (n=9)
 * loop y = 14 by 1 (y=14)
 * loop x = 14 by 14 (x=14)
 * grid c = 32 by 32 (c=32)
 * grid i = 3 by 1 (i=3)
 * grid j = 3 by 1 (j=3)
 */
void conv_weight(char *const *slots) {
  const float *restrict dy = (const float *)slots[0];
  const float *restrict im = (const float *)slots[1];
  float *restrict out = (float *)slots[2];
  float *const restrict part = tg_partials(131072 * sizeof(float));
#pragma omp parallel for schedule(static) num_threads(tg_threads)
  for (int chunk = 0; chunk < 8; chunk++) {
    float *const restrict dp = tg_scratch(72832 * sizeof(float));
    float *const restrict rows = dp + 6272;
    float *const restrict ip = rows + 3840;
    float *const restrict mid = ip + 8192;
    float *const restrict vp = mid + 2048;
    float *const restrict half = vp + 25344;
    float *const restrict wp = half + 1792;
    float *const restrict acc = part + chunk * 16384;
    const int n_lo = (ptrdiff_t)9 * chunk / 8;
    const int n_hi = (ptrdiff_t)9 * (chunk + 1) / 8;
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
        tg_transpose_float_16(rows, 240, 196, dp + o_t / 32 * 6272 + o_t % 32, 32);
      }
      for (ptrdiff_t tile = 0; tile < 7; tile += 7) {
        const ptrdiff_t tile_rows = tg_min(7, 7 - tile);
        const int y_lo = tile * 2;
        const int row_lo = y_lo - 1;
        for (int row = row_lo; row < row_lo + tile_rows * 2 + 2; row++) {
          if (row < 0 || row >= 14) {
            for (int e = 0; e < 512; e++) ip[(row - row_lo) * 512 + e] = 0;
            continue;
          }
          const float *restrict from = im + n * 6272 + row * 14;
          float *restrict to = ip + (row - row_lo) * 512;
          for (int e = 0; e < 32; e++) to[e] = 0;
          for (int e = 480; e < 512; e++) to[e] = 0;
          to += 32;
          for (int k = 0; k < 32; k += 16)
            tg_transpose_float_16(from + k * (ptrdiff_t)196, 196, 14, to + k, 32);
        }
        for (ptrdiff_t ty = 0; ty < tile_rows; ty++) {
          for (ptrdiff_t e = 0; e < 512; e += 16)
            tg_winograd_data_4_4_16(ip + ty * 1024 + e, 512, mid + e, 512);
          for (ptrdiff_t a = 0; a < 4; a++)
            for (ptrdiff_t tx = 0; tx < 7; tx++)
              for (ptrdiff_t e = 0; e < 32; e += 16) {
                tg_winograd_data_4_4_16(mid + a * 512 + tx * 64 + e, 32, vp + a * 6336 + (ty * 7 + tx) * 32 + e, 1584);
              }
        }
        for (ptrdiff_t panel = 0; panel < 1; panel++)
          for (ptrdiff_t ty = 0; ty < tile_rows; ty++) {
            const float *from = dp + panel * 6272 + (tile + ty) * 896;
            for (ptrdiff_t e = 0; e < 448; e += 16)
              tg_winograd_filter_4_2_16(from + e, 448, half + e, 448);
            for (ptrdiff_t a = 0; a < 4; a++)
              for (ptrdiff_t tx = 0; tx < 7; tx++)
                for (ptrdiff_t e = 0; e < 32; e += 16) {
                  tg_winograd_filter_4_2_16(half + a * 448 + tx * 64 + e, 32, wp + (panel * 4 + a) * 6336 + (ty * 7 + tx) * 32 + e, 1584);
                }
          }
        for (ptrdiff_t panel = 0; panel < 1; panel++)
          for (ptrdiff_t p = 0; p < 16; p++) {
            const float *restrict data = vp + p * 1584;
            const float *restrict vectors = wp + (panel * 16 + p) * 1584;
            float *restrict sums = acc + p * 1024 + panel * 32;
            for (int row = 0; row < 26; row += 13)
              tg_runs_float_13x2x16_1_32(1, 0, 0, tile_rows * 7, data + row, vectors, sums + row * 32, 32, n == n_lo && tile == 0);
              tg_runs_float_6x2x16_1_32(1, 0, 0, tile_rows * 7, data + 26, vectors, sums + 26 * 32, 32, n == n_lo && tile == 0);
          }
      }
    }
  }
#pragma omp parallel for schedule(static) num_threads(tg_threads)
  for (int block = 0; block < 16384; block += 4096) {
    const int end = tg_min(block + 4096, 16384);
    for (int chunk = 1; chunk < 8; chunk++)
      for (int e = block; e < end; e++)
        part[e] += part[chunk * 16384 + e];
  }
#pragma omp parallel for schedule(static) num_threads(tg_threads)
  for (ptrdiff_t e = 0; e < 1024; e += 16) {
    float sums[192];
    for (int a = 0; a < 4; a++)
      tg_winograd_result_4_3_16(part + a * 4096 + e, 1024, sums + a * 48, 16);
    for (int j = 0; j < 3; j++)
      tg_winograd_result_4_3_16(sums + j * 16, 48, part + j * 1024 + e, 3072);
  }
#pragma omp parallel for schedule(static) num_threads(tg_threads)
  for (int c_lo = 0; c_lo < 32; c_lo += 4) {
    const int c_hi = tg_min(c_lo + 4, 32), o_lo = 0, o_hi = 32;
    for (int i = 0; i < 3; i++)
      for (int j = 0; j < 3; j++) {
        const float *restrict acc = part + ((i) * 3 + j) * 1024 + c_lo * 32;
        for (int o = o_lo; o < o_hi; o++) {
#pragma omp simd
          for (int c = c_lo; c < c_hi; c++) {
            out[o * 288 + c * 9 + i * 3 + j] = acc[(o - o_lo) + (c - c_lo) * 32];
          }
        }
      }
  }
}
