/* scan_sum    train.py:7
 * region scan_sum (i=330, j=700)
 *   %0 = load x0[(i*700 + j)] : f32 [i j]
 *   %1 = scan_sum %0 along j : f32 [i j]
 *   out[(i*700 + j)] = %1
 * grid i = 330 by 1 (i=330)
 * loop j = 700 by 1 (j=700)
 */
void scan_sum(char *const *slots) {
  const float *restrict x0 = (const float *)slots[0];
  float *restrict out = (float *)slots[1];
#pragma omp parallel for schedule(static) num_threads(tg_threads)
  for (int i = 0; i < 330; i++) {
    double t1 = 0.0f;
    for (int j = 0; j < 700; j++) {
      const float t0 = x0[i * 700 + j];
      t1 = (t1 + t0);
      const float t2 = t1;
      out[i * 700 + j] = t2;
    }
  }
}
