/* scan_linear    train.py:7
 * region scan_linear (i=330, j=700)
 *   %0 = load x0[(i*700 + j)] : f32 [i j]
 *   %1 = load x1[(i*700 + j)] : f32 [i j]
 *   %2 = scan_linear %0, %1 along i : f32 [i j]
 *   out[(i*700 + j)] = %2
 * grid j = 700 by 384 (j=700)
 * loop i = 330 by 1 (i=330)
 */
void scan_linear(char *const *slots) {
  const float *restrict x0 = (const float *)slots[0];
  const float *restrict x1 = (const float *)slots[1];
  float *restrict out = (float *)slots[2];
#pragma omp parallel for schedule(static) num_threads(tg_threads)
  for (int j_lo = 0; j_lo < 700; j_lo += 384) {
    const int j_hi = tg_min(j_lo + 384, 700);
    double t2[384];
#pragma omp simd
    for (int j = j_lo; j < j_hi; j++) {
      t2[(j - j_lo)] = 0.0f;
    }
    for (int i = 0; i < 330; i++) {
#pragma omp simd
      for (int j = j_lo; j < j_hi; j++) {
        const float t0 = x0[i * 700 + j];
        const float t1 = x1[i * 700 + j];
        t2[(j - j_lo)] = t0 * t2[(j - j_lo)] + t1;
        const float t3 = t2[(j - j_lo)];
        out[i * 700 + j] = t3;
      }
    }
  }
}
