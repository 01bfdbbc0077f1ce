/* scaled_dot_product_attention_permute_2x200x4x40_f32    train.py:7
 * region scaled_dot_product_attention_permute_2x200x4x40_f32 (i0=2, i1=200, i2=4, i3=40, r0=200)
 *   %0 = inside 0 <= (i1 + r0*-1) < 200 : b1 [i1 r0]
 *   %1 = load in0[(i0*32000 + i1*40 + i2*8000 + i3)] : f32 [i0 i1 i2 i3]
 *   %2 = load in1[(i0*32000 + i2*8000 + i3 + r0*40)] : f32 [i0 i2 i3 r0]
 *   %3 = dot %1, %2 over i3 : f32 [i0 i1 i2 r0]
 *   %4 = const 0.15811388300841897 : f32 []
 *   %5 = mul %3, %4 : f32 [i0 i1 i2 r0]
 *   %6 = const -inf : f32 []
 *   %7 = where %0, %5, %6 : f32 [i0 i1 i2 r0]
 *   %8 = reduce_max %7 over r0 : f32 [i0 i1 i2]
 *   %9 = sub %7, %8 : f32 [i0 i1 i2 r0]
 *   %10 = exp %9 : f32 [i0 i1 i2 r0]
 *   %11 = reduce_sum %10 over r0 : f32 [i0 i1 i2]
 *   %12 = load in2[(i0*32000 + i2*8000 + i3 + r0*40)] : f32 [i0 i2 i3 r0]
 *   %13 = dot %10, %12 over r0 : f32 [i0 i1 i2 i3]
 *   %14 = div %13, %11 : f32 [i0 i1 i2 i3]
 *   %15 = log %11 : f32 [i0 i1 i2]
 *   %16 = add %8, %15 : f32 [i0 i1 i2]
 *   live where 0 <= (i1 + r0*-1) < 200
 *   out0[(i0*800 + i1 + i2*200)] = %16
 *   out1[(i0*32000 + i1*160 + i2*40 + i3)] = %14
 * grid i0 = 2 by 1 (i0=2)
 * grid i2 = 4 by 1 (i2=4)
 * loop r0 = 200 by 32 (r0=200)
 * grid i1 = 200 by 32 (i1=200)
 * full i3 = 40 by 40 (i3=40)
 */
void scaled_dot_product_attention_permute_2x200x4x40_f32(char *const *slots) {
  const float *restrict in0 = (const float *)slots[0];
  const float *restrict in1 = (const float *)slots[1];
  const float *restrict in2 = (const float *)slots[2];
  float *restrict out0 = (float *)slots[3];
  float *restrict out1 = (float *)slots[4];
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(tg_threads)
  for (int i0 = 0; i0 < 2; i0++)
    for (int i2 = 0; i2 < 4; i2++)
      for (int i1_lo = 0; i1_lo < 200; i1_lo += 32) {
        const int i1_hi = tg_min(i1_lo + 32, 200);
        const int i3_lo = 0, i3_hi = 40;
        const float t1 = 0.15811388f;
        const float t2 = (-__builtin_inff());
        float t3[32] __attribute__((aligned(64)));
        float t4[32] __attribute__((aligned(64)));
#pragma omp simd
        for (int i1 = i1_lo; i1 < i1_hi; i1++) {
          t3[(i1 - i1_lo)] = (-__builtin_inff());
          t4[(i1 - i1_lo)] = 0.0f;
        }
        float t0[1536] __attribute__((aligned(64)));
        float t5[1536] __attribute__((aligned(64)));
        for (int i1 = i1_lo; i1 < i1_hi; i1++) {
#pragma omp simd
          for (int i3 = i3_lo; i3 < i3_hi; i3++) {
            t0[(i3 - i3_lo) * 32 + (i1 - i1_lo)] = in0[i0 * 32000 + i2 * 8000 + i1 * 40 + i3];
            t5[(i1 - i1_lo) * 48 + (i3 - i3_lo)] = 0.0f;
          }
        }
        const int r0_stop = tg_min(200, i1_lo + 32);
        for (int r0_lo = 0; r0_lo < r0_stop; r0_lo += 32) {
          const int r0_hi = tg_min(r0_lo + 32, 200);
          const float *const t7 = in1 + (i0 * 32000 + i2 * 8000 + r0_lo * 40 + i3_lo);
          float t8[1024] __attribute__((aligned(64)));
          for (ptrdiff_t j = 0; j < 32; j += 32) {
            ptrdiff_t i = 0;
            for (; i + 8 <= r0_hi - r0_lo; i += 8)
              tg_dot_float_8x2x16_40_1_32(i3_hi - i3_lo, t7 + i * 40, t0 + j, t8 + i * 32 + j, 32, 1);
          }
          float t10[1024] __attribute__((aligned(64)));
          for (int r0 = r0_lo; r0 < r0_hi; r0++) {
#pragma omp simd
            for (int i1 = i1_lo; i1 < i1_hi; i1++) {
              const _Bool t6 = (i1 - r0 >= 0);
              const float t9 = (t8[(r0 - r0_lo) * 32 + (i1 - i1_lo)] * t1);
              t10[(r0 - r0_lo) * 32 + (i1 - i1_lo)] = t6 ? t9 : t2;
            }
          }
          float t11[32] __attribute__((aligned(64)));
#pragma omp simd
          for (int i1 = i1_lo; i1 < i1_hi; i1++) t11[(i1 - i1_lo)] = (-__builtin_inff());
          for (int r0 = r0_lo; r0 < r0_hi; r0++) {
#pragma omp simd
            for (int i1 = i1_lo; i1 < i1_hi; i1++) t11[(i1 - i1_lo)] = tg_max_f32(t11[(i1 - i1_lo)], t10[(r0 - r0_lo) * 32 + (i1 - i1_lo)]);
          }
          const float t13 = (-__builtin_inff());
          const float t15 = 0.0f;
          float t16[32] __attribute__((aligned(64)));
          float t17[32] __attribute__((aligned(64)));
#pragma omp simd
          for (int i1 = i1_lo; i1 < i1_hi; i1++) {
            const float t12 = tg_max_f32(t3[(i1 - i1_lo)], t11[(i1 - i1_lo)]);
            const _Bool t14 = t12 == t13;
            t16[(i1 - i1_lo)] = t14 ? t15 : t12;
            t17[(i1 - i1_lo)] = (t3[(i1 - i1_lo)] - t16[(i1 - i1_lo)]);
            t3[(i1 - i1_lo)] = tg_max_f32(t3[(i1 - i1_lo)], t11[(i1 - i1_lo)]);
          }
          float t20[1024] __attribute__((aligned(64)));
          for (int r0 = r0_lo; r0 < r0_hi; r0++) {
#pragma omp simd
            for (int i1 = i1_lo; i1 < i1_hi; i1++) {
              const float t19 = (t10[(r0 - r0_lo) * 32 + (i1 - i1_lo)] - t16[(i1 - i1_lo)]);
              t20[(r0 - r0_lo) * 32 + (i1 - i1_lo)] = tg_exp(t19);
            }
          }
          float t21[32] __attribute__((aligned(64)));
#pragma omp simd
          for (int i1 = i1_lo; i1 < i1_hi; i1++) t21[(i1 - i1_lo)] = 0.0f;
          for (int r0 = r0_lo; r0 < r0_hi; r0++) {
#pragma omp simd
            for (int i1 = i1_lo; i1 < i1_hi; i1++) t21[(i1 - i1_lo)] = (t21[(i1 - i1_lo)] + t20[(r0 - r0_lo) * 32 + (i1 - i1_lo)]);
          }
          float t18[32] __attribute__((aligned(64)));
#pragma omp simd
          for (int i1 = i1_lo; i1 < i1_hi; i1++) {
            t18[(i1 - i1_lo)] = tg_exp(t17[(i1 - i1_lo)]);
            t4[(i1 - i1_lo)] = (t4[(i1 - i1_lo)] * t18[(i1 - i1_lo)]);
            t4[(i1 - i1_lo)] = (t4[(i1 - i1_lo)] + t21[(i1 - i1_lo)]);
          }
          float t22[1536] __attribute__((aligned(64)));
          for (int r0 = r0_lo; r0 < r0_hi; r0++) {
#pragma omp simd
            for (int i3 = i3_lo; i3 < i3_hi; i3++) {
              t22[(r0 - r0_lo) * 48 + (i3 - i3_lo)] = in2[i0 * 32000 + i2 * 8000 + r0 * 40 + i3];
            }
          }
          for (int i1 = i1_lo; i1 < i1_hi; i1++) {
#pragma omp simd
            for (int i3 = i3_lo; i3 < i3_hi; i3++) {
              t5[(i1 - i1_lo) * 48 + (i3 - i3_lo)] = (t5[(i1 - i1_lo) * 48 + (i3 - i3_lo)] * t18[(i1 - i1_lo)]);
            }
          }
          for (ptrdiff_t j = 0; j < 48; j += 48)
            for (ptrdiff_t i = 0; i < i1_hi - i1_lo; i += 8) {
              tg_dot_float_8x3x16_1_32_48(r0_hi - r0_lo, t20 + i * 1, t22 + j, t5 + i * 48 + j, 48, 0);
            }
        }
#pragma omp simd
        for (int i1 = i1_lo; i1 < i1_hi; i1++) {
          const float t24 = tg_log(t4[(i1 - i1_lo)]);
          const float t25 = (t3[(i1 - i1_lo)] + t24);
          out0[i0 * 800 + i2 * 200 + i1] = t25;
        }
        for (int i1 = i1_lo; i1 < i1_hi; i1++) {
#pragma omp simd
          for (int i3 = i3_lo; i3 < i3_hi; i3++) {
            const float t23 = (t5[(i1 - i1_lo) * 48 + (i3 - i3_lo)] / t4[(i1 - i1_lo)]);
            out1[i0 * 32000 + i1 * 160 + i2 * 40 + i3] = t23;
          }
        }
      }
}
