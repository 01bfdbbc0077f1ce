/* costly    train.py:7
 * region costly (i=17, j=700)
 *   %0 = load x[(i*700 + j)] : f32 [i j]
 *   %1 = load y[(i*700 + j)] : f32 [i j]
 *   %2 = exp %0 : f32 [i j]
 *   %3 = scan_sum %2 along j : f32 [i j]
 *   %4 = add %1, %3 : f32 [i j]
 *   %5 = sin %4 : f32 [i j]
 *   %6 = scan_max %5 along j : f32 [i j]
 *   %7 = add %2, %0 : f32 [i j]
 *   %8 = div %3, %7 : f32 [i j]
 *   %9 = tanh %8 : f32 [i j]
 *   out[(i*700 + j)] = %9
 *   largest[(i*700 + j)] = %6
 * grid i = 17 by 1 (i=17)
 * loop j = 700 by 1 (j=700)
 */
void costly(char *const *slots) {
  const float *restrict x = (const float *)slots[0];
  const float *restrict y = (const float *)slots[1];
  float *restrict out = (float *)slots[2];
  float *restrict largest = (float *)slots[3];
#pragma omp parallel for schedule(static) num_threads(tg_threads)
  for (int i = 0; i < 17; i++) {
    double t3 = 0.0f;
    float t7 = (-__builtin_inff());
    for (int j_lo = 0; j_lo < 700; j_lo += 256) {
      const int j_hi = tg_min(j_lo + 256, 700);
      float t1_part[256];
      float t2_part[256];
      float t9_part[256];
#pragma omp simd
      for (int j = j_lo; j < j_hi; j++) {
        const float t0 = x[i * 700 + j];
        const float t1 = y[i * 700 + j];
        const float t2 = tg_exp(t0);
        const float t9 = t2 + t0;
        t1_part[j - j_lo] = t1;
        t2_part[j - j_lo] = t2;
        t9_part[j - j_lo] = t9;
      }
      float t4_part[256];
      float t8_part[256];
      for (int j = j_lo; j < j_hi; j++) {
        t3 = (t3 + t2_part[j - j_lo]);
        const float t4 = t3;
        const float t5 = t1_part[j - j_lo] + t4;
        const float t6 = tg_sin(t5);
        t7 = tg_max_f32(t7, t6);
        const float t8 = t7;
        t4_part[j - j_lo] = t4;
        t8_part[j - j_lo] = t8;
      }
#pragma omp simd
      for (int j = j_lo; j < j_hi; j++) {
        const float t10 = t4_part[j - j_lo] / t9_part[j - j_lo];
        const float t11 = tg_tanh(t10);
        out[i * 700 + j] = t11;
        largest[i * 700 + j] = t8_part[j - j_lo];
      }
    }
  }
}
