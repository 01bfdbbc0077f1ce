/* scaled_dot_product_attention_backward_2x4x200x64_f32_2    train.py:7
 * region scaled_dot_product_attention_backward_2x4x200x64_f32_2 (i0=8, i1=200, i2=64, r0=200)
 *   %0 = inside 0 <= (i1*-1 + r0) < 200 : b1 [i1 r0]
 *   %1 = load in0[(i0*12800 + i2 + r0*64)] : f32 [i0 i2 r0]
 *   %2 = load in1[(i0*12800 + i1*64 + i2)] : f32 [i0 i1 i2]
 *   %3 = dot %1, %2 over i2 : f32 [i0 i1 r0]
 *   %4 = load in2[(i0*12800 + i2 + r0*64)] : f32 [i0 i2 r0]
 *   %5 = load in3[(i0*12800 + i1*64 + i2)] : f32 [i0 i1 i2]
 *   %6 = dot %4, %5 over i2 : f32 [i0 i1 r0]
 *   %7 = const 0.125 : f32 []
 *   %8 = const -inf : f32 []
 *   %9 = where %0, %6, %8 : f32 [i0 i1 r0]
 *   %10 = mul %9, %7 : f32 [i0 i1 r0]
 *   %11 = load in4[(i0*200 + r0)] : f32 [i0 r0]
 *   %12 = sub %10, %11 : f32 [i0 i1 r0]
 *   %13 = exp %12 : f32 [i0 i1 r0]
 *   %14 = load in5[(i0*200 + r0)] : f32 [i0 r0]
 *   %15 = sub %3, %14 : f32 [i0 i1 r0]
 *   %16 = mul %15, %13 : f32 [i0 i1 r0]
 *   %17 = const 0.0 : f32 []
 *   %18 = where %0, %16, %17 : f32 [i0 i1 r0]
 *   %19 = dot %18, %4 over r0 : f32 [i0 i1 i2]
 *   %20 = mul %19, %7 : f32 [i0 i1 i2]
 *   %21 = dot %13, %1 over r0 : f32 [i0 i1 i2]
 *   live where 0 <= (i1*-1 + r0) < 200
 *   out0[(i0*12800 + i1*64 + i2)] = %20
 *   out1[(i0*12800 + i1*64 + i2)] = %21
 * grid i0 = 8 by 1 (i0=8)
 * loop r0 = 200 by 32 (r0=200)
 * grid i1 = 200 by 32 (i1=200)
 * full i2 = 64 by 64 (i2=64)
 */
void scaled_dot_product_attention_backward_2x4x200x64_f32_2(char *const *slots) {
  const float *restrict in0 = (const float *)slots[0];
  const float *restrict in1 = (const float *)slots[1];
  const float *restrict in2 = (const float *)slots[2];
  const float *restrict in3 = (const float *)slots[3];
  const float *restrict in4 = (const float *)slots[4];
  const float *restrict in5 = (const float *)slots[5];
  float *restrict out0 = (float *)slots[6];
  float *restrict out1 = (float *)slots[7];
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(tg_threads)
  for (int i0 = 0; i0 < 8; i0++)
    for (int i1_lo = 0; i1_lo < 200; i1_lo += 32) {
      const int i1_hi = tg_min(i1_lo + 32, 200);
      const int i2_lo = 0, i2_hi = 64;
      const float t2 = 0.125f;
      const float t3 = (-__builtin_inff());
      const float t4 = 0.0f;
      float t0[2048] __attribute__((aligned(64)));
      float t1[2048] __attribute__((aligned(64)));
      float t5[2048] __attribute__((aligned(64)));
      float t6[2048] __attribute__((aligned(64)));
      for (int i1 = i1_lo; i1 < i1_hi; i1++) {
#pragma omp simd
        for (int i2 = i2_lo; i2 < i2_hi; i2++) {
          t0[(i2 - i2_lo) * 32 + (i1 - i1_lo)] = in1[i0 * 12800 + i1 * 64 + i2];
          t1[(i2 - i2_lo) * 32 + (i1 - i1_lo)] = in3[i0 * 12800 + i1 * 64 + i2];
          t5[(i1 - i1_lo) * 64 + (i2 - i2_lo)] = 0.0f;
          t6[(i1 - i1_lo) * 64 + (i2 - i2_lo)] = 0.0f;
        }
      }
      const int r0_start = tg_max(0, i1_lo) / 32 * 32;
      for (int r0_lo = r0_start; r0_lo < 200; r0_lo += 32) {
        const int r0_hi = tg_min(r0_lo + 32, 200);
        const float *const t8 = in0 + (i0 * 12800 + r0_lo * 64 + i2_lo);
        const float *const t10 = in2 + (i0 * 12800 + r0_lo * 64 + i2_lo);
        float t9[1024] __attribute__((aligned(64)));
        for (ptrdiff_t j = 0; j < 32; j += 32) {
          ptrdiff_t i = 0;
          for (; i + 8 <= r0_hi - r0_lo; i += 8)
            tg_dot_float_8x2x16_64_1_32(i2_hi - i2_lo, t8 + i * 64, t0 + j, t9 + i * 32 + j, 32, 1);
        }
        float t11[1024] __attribute__((aligned(64)));
        for (ptrdiff_t j = 0; j < 32; j += 32) {
          ptrdiff_t i = 0;
          for (; i + 8 <= r0_hi - r0_lo; i += 8)
            tg_dot_float_8x2x16_64_1_32(i2_hi - i2_lo, t10 + i * 64, t1 + j, t11 + i * 32 + j, 32, 1);
        }
        float t14[32] __attribute__((aligned(64)));
        float t17[32] __attribute__((aligned(64)));
#pragma omp simd
        for (int r0 = r0_lo; r0 < r0_hi; r0++) {
          t14[(r0 - r0_lo)] = in4[i0 * 200 + r0];
          t17[(r0 - r0_lo)] = in5[i0 * 200 + r0];
        }
        float t16[1024] __attribute__((aligned(64)));
        float t20[1024] __attribute__((aligned(64)));
        for (int r0 = r0_lo; r0 < r0_hi; r0++) {
#pragma omp simd
          for (int i1 = i1_lo; i1 < i1_hi; i1++) {
            const _Bool t7 = (-i1 + r0 >= 0);
            const float t12 = tg_where_f32(t7, t11[(r0 - r0_lo) * 32 + (i1 - i1_lo)], t3);
            const float t13 = t12 * t2;
            const float t15 = (t13 - t14[(r0 - r0_lo)]);
            t16[(r0 - r0_lo) * 32 + (i1 - i1_lo)] = tg_exp(t15);
            const float t18 = (t9[(r0 - r0_lo) * 32 + (i1 - i1_lo)] - t17[(r0 - r0_lo)]);
            const float t19 = (t18 * t16[(r0 - r0_lo) * 32 + (i1 - i1_lo)]);
            t20[(r0 - r0_lo) * 32 + (i1 - i1_lo)] = t7 ? t19 : t4;
          }
        }
        for (ptrdiff_t j = 0; j < 64; j += 64)
          for (ptrdiff_t i = 0; i < i1_hi - i1_lo; i += 4) {
            tg_dot_float_4x4x16_1_32_64(r0_hi - r0_lo, t20 + i * 1, t10 + j, t5 + i * 64 + j, 64, 0);
          }
        for (ptrdiff_t j = 0; j < 64; j += 64)
          for (ptrdiff_t i = 0; i < i1_hi - i1_lo; i += 4) {
            tg_dot_float_4x4x16_1_32_64(r0_hi - r0_lo, t16 + i * 1, t8 + j, t6 + i * 64 + j, 64, 0);
          }
      }
      for (int i1 = i1_lo; i1 < i1_hi; i1++) {
#pragma omp simd
        for (int i2 = i2_lo; i2 < i2_hi; i2++) {
          const float t21 = (t5[(i1 - i1_lo) * 64 + (i2 - i2_lo)] * t2);
          out0[i0 * 12800 + i1 * 64 + i2] = t21;
          out1[i0 * 12800 + i1 * 64 + i2] = t6[(i1 - i1_lo) * 64 + (i2 - i2_lo)];
        }
      }
    }
}
