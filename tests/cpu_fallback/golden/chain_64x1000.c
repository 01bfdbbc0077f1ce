/* chain    train.py:7
 * region chain (i=64, j=1000)
 *   %0 = load x[(i*1000 + j)] : f32 [i j]
 *   %1 = load b[j] : f32 [j]
 *   %2 = add %0, %1 : f32 [i j]
 *   %3 = tanh %2 : f32 [i j]
 *   %4 = load c[i] : f32 [i]
 *   %5 = exp %4 : f32 [i]
 *   %6 = mul %3, %5 : f32 [i j]
 *   out[(i*1000 + j)] = %6
 * grid i = 64 by 1 (i=64)
 * grid j = 1000 by 1000 (j=1000)
 */
void chain(char *const *slots) {
  const float *restrict x = (const float *)slots[0];
  const float *restrict b = (const float *)slots[1];
  const float *restrict c = (const float *)slots[2];
  float *restrict out = (float *)slots[3];
#pragma omp parallel for collapse(2) schedule(static) num_threads(tg_threads)
  for (int i = 0; i < 64; i++)
    for (int j_lo = 0; j_lo < 1000; j_lo += 1000) {
      const int j_hi = j_lo + 1000;
      const float t4 = c[i];
      const float t5 = tg_exp(t4);
#pragma omp simd
      for (int j = j_lo; j < j_hi; j++) {
        const float t0 = x[i * 1000 + j];
        const float t1 = b[j];
        const float t2 = t0 + t1;
        const float t3 = tg_tanh(t2);
        const float t6 = t3 * t5;
        out[i * 1000 + j] = t6;
      }
    }
}
