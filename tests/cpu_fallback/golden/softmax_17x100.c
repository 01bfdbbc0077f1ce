/* softmax    train.py:7
 * region softmax (i=17, j=100)
 *   %0 = load x[(i*100 + j)] : f32 [i j]
 *   %1 = reduce_max %0 over j : f32 [i]
 *   %2 = sub %0, %1 : f32 [i j]
 *   %3 = exp %2 : f32 [i j]
 *   %4 = reduce_sum %3 over j : f32 [i]
 *   %5 = div %3, %4 : f32 [i j]
 *   out[(i*100 + j)] = %5
 * grid i = 17 by 1 (i=17)
 * loop j = 100 by 1 (j=100)
 */
void softmax(char *const *slots) {
  const float *restrict x = (const float *)slots[0];
  float *restrict out = (float *)slots[1];
  for (int i = 0; i < 17; i++) {
    float t0 = (-__builtin_inff());
    {
      tg_float_8 t0_0 = (tg_float_8){0} + (-__builtin_inff()), t0_1 = (tg_float_8){0} + (-__builtin_inff()), t0_2 = (tg_float_8){0} + (-__builtin_inff()), t0_3 = (tg_float_8){0} + (-__builtin_inff());
      int j_v = 0;
      for (; j_v + 32 <= 100; j_v += 32) {
        {
          const int j = j_v + 0;
          const tg_float_8 t1 = *(const tg_float_8 *)(x + i * 100 + j);
          t0_0 = tg_max_8(t0_0, t1);
        }
        {
          const int j = j_v + 8;
          const tg_float_8 t1 = *(const tg_float_8 *)(x + i * 100 + j);
          t0_1 = tg_max_8(t0_1, t1);
        }
        {
          const int j = j_v + 16;
          const tg_float_8 t1 = *(const tg_float_8 *)(x + i * 100 + j);
          t0_2 = tg_max_8(t0_2, t1);
        }
        {
          const int j = j_v + 24;
          const tg_float_8 t1 = *(const tg_float_8 *)(x + i * 100 + j);
          t0_3 = tg_max_8(t0_3, t1);
        }
      }
      for (int j = j_v; j < 100; j++) {
        const float t1 = x[i * 100 + j];
        t0 = tg_max_f32(t0, t1);
      }
      t0_0 = tg_max_8(tg_max_8(t0_0, t0_1), tg_max_8(t0_2, t0_3));
      t0 = tg_max_f32(t0, tg_all_max_8(t0_0));
    }
    float t2 = 0.0f;
    float t6[100];
#pragma omp simd reduction(+:t2)
    for (int j = 0; j < 100; j++) {
      const float t3 = x[i * 100 + j];
      const float t4 = t3 - t0;
      const float t5 = tg_exp_low(t4);
      t2 = (t2 + t5);
      t6[j] = t5;
    }
    const float t2_inverse0 = 1 / t2;
#pragma omp simd
    for (int j = 0; j < 100; j++) {
      const float t7 = t6[j];
      const float t8 = t7 * t2_inverse0;
      out[i * 100 + j] = t8;
    }
  }
}
