/* scaled_dot_product_attention_permute_2x200x4x40_f32    train.py:7
 * region scaled_dot_product_attention_permute_2x200x4x40_f32 (i0=2, i1=200, i2=4, i3=40, r0=200)
 *   %0 = inside 0 <= (i1 + r0*-1) < 200 : b1 [i1 r0]
 *   %1 = load in0[(i0*32000 + i1*40 + i2*8000 + i3)] : f32 [i0 i1 i2 i3]
 *   %2 = load in1[(i0*32000 + i2*8000 + i3 + r0*40)] : f32 [i0 i2 i3 r0]
 *   %3 = dot %1, %2 over i3 : f32 [i0 i1 i2 r0]
 *   %4 = const 0.15811388300841897 : f32 []
 *   %5 = const -inf : f32 []
 *   %6 = where %0, %3, %5 : f32 [i0 i1 i2 r0]
 *   %7 = reduce_max %6 over r0 : f32 [i0 i1 i2]
 *   %8 = mul %7, %4 : f32 [i0 i1 i2]
 *   %9 = sub %6, %7 : f32 [i0 i1 i2 r0]
 *   %10 = mul %9, %4 : f32 [i0 i1 i2 r0]
 *   %11 = exp %10 : f32 [i0 i1 i2 r0]
 *   %12 = reduce_sum %11 over r0 : f32 [i0 i1 i2]
 *   %13 = load in2[(i0*32000 + i2*8000 + i3 + r0*40)] : f32 [i0 i2 i3 r0]
 *   %14 = dot %11, %13 over r0 : f32 [i0 i1 i2 i3]
 *   %15 = div %14, %12 : f32 [i0 i1 i2 i3]
 *   %16 = log %12 : f32 [i0 i1 i2]
 *   %17 = add %8, %16 : f32 [i0 i1 i2]
 *   live where 0 <= (i1 + r0*-1) < 200
 *   out0[(i0*800 + i1 + i2*200)] = %17
 *   out1[(i0*32000 + i1*160 + i2*40 + i3)] = %15
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
          float t9[1024] __attribute__((aligned(64)));
          for (int r0 = r0_lo; r0 < r0_hi; r0++) {
#pragma omp simd
            for (int i1 = i1_lo; i1 < i1_hi; i1++) {
              const _Bool t6 = (i1 - r0 >= 0);
              t9[(r0 - r0_lo) * 32 + (i1 - i1_lo)] = tg_where_f32(t6, t8[(r0 - r0_lo) * 32 + (i1 - i1_lo)], t2);
            }
          }
          float t10[32] __attribute__((aligned(64)));
#pragma omp simd
          for (int i1 = i1_lo; i1 < i1_hi; i1++) t10[(i1 - i1_lo)] = (-__builtin_inff());
          for (int r0 = r0_lo; r0 < r0_hi; r0++) {
#pragma omp simd
            for (int i1 = i1_lo; i1 < i1_hi; i1++) t10[(i1 - i1_lo)] = tg_max_f32(t10[(i1 - i1_lo)], t9[(r0 - r0_lo) * 32 + (i1 - i1_lo)]);
          }
          const float t12 = (-__builtin_inff());
          const float t14 = 0.0f;
          float t15[32] __attribute__((aligned(64)));
          float t16[32] __attribute__((aligned(64)));
#pragma omp simd
          for (int i1 = i1_lo; i1 < i1_hi; i1++) {
            const float t11 = tg_max_f32(t3[(i1 - i1_lo)], t10[(i1 - i1_lo)]);
            const _Bool t13 = t11 == t12;
            t15[(i1 - i1_lo)] = t13 ? t14 : t11;
            t16[(i1 - i1_lo)] = (t3[(i1 - i1_lo)] - t15[(i1 - i1_lo)]);
            t3[(i1 - i1_lo)] = tg_max_f32(t3[(i1 - i1_lo)], t10[(i1 - i1_lo)]);
          }
          float t21[1024] __attribute__((aligned(64)));
          for (int r0 = r0_lo; r0 < r0_hi; r0++) {
#pragma omp simd
            for (int i1 = i1_lo; i1 < i1_hi; i1++) {
              const float t19 = (t9[(r0 - r0_lo) * 32 + (i1 - i1_lo)] - t15[(i1 - i1_lo)]);
              const float t20 = t19 * t1;
              t21[(r0 - r0_lo) * 32 + (i1 - i1_lo)] = tg_exp_low(t20);
            }
          }
          float t22[32] __attribute__((aligned(64)));
#pragma omp simd
          for (int i1 = i1_lo; i1 < i1_hi; i1++) t22[(i1 - i1_lo)] = 0.0f;
          for (int r0 = r0_lo; r0 < r0_hi; r0++) {
#pragma omp simd
            for (int i1 = i1_lo; i1 < i1_hi; i1++) t22[(i1 - i1_lo)] = (t22[(i1 - i1_lo)] + t21[(r0 - r0_lo) * 32 + (i1 - i1_lo)]);
          }
          float t18[32] __attribute__((aligned(64)));
#pragma omp simd
          for (int i1 = i1_lo; i1 < i1_hi; i1++) {
            const float t17 = (t16[(i1 - i1_lo)] * t1);
            t18[(i1 - i1_lo)] = tg_exp(t17);
            t4[(i1 - i1_lo)] = (t4[(i1 - i1_lo)] * t18[(i1 - i1_lo)]);
            t4[(i1 - i1_lo)] = (t4[(i1 - i1_lo)] + t22[(i1 - i1_lo)]);
          }
          float t23[1536] __attribute__((aligned(64)));
          for (int r0 = r0_lo; r0 < r0_hi; r0++) {
#pragma omp simd
            for (int i3 = i3_lo; i3 < i3_hi; i3++) {
              t23[(r0 - r0_lo) * 48 + (i3 - i3_lo)] = in2[i0 * 32000 + i2 * 8000 + r0 * 40 + i3];
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
              tg_dot_float_8x3x16_1_32_48(r0_hi - r0_lo, t21 + i * 1, t23 + j, t5 + i * 48 + j, 48, 0);
            }
        }
#pragma omp simd
        for (int i1 = i1_lo; i1 < i1_hi; i1++) {
          const float t24 = (t3[(i1 - i1_lo)] * t1);
          const float t26 = tg_log(t4[(i1 - i1_lo)]);
          const float t27 = t24 + t26;
          out0[i0 * 800 + i2 * 200 + i1] = t27;
        }
        for (int i1 = i1_lo; i1 < i1_hi; i1++) {
#pragma omp simd
          for (int i3 = i3_lo; i3 < i3_hi; i3++) {
            const float t25 = (t5[(i1 - i1_lo) * 48 + (i3 - i3_lo)] / t4[(i1 - i1_lo)]);
            out1[i0 * 32000 + i1 * 160 + i2 * 40 + i3] = t25;
          }
        }
      }
}
