/* argsort    train.py:7
 * region argsort (i=33, j=5000)
 *   %0 = load x[(i*5000 + j)] : u32 [i j]
 *   %1 = argsort %0 along j : i32 [i j]
 *   %2 = load x[(%1 + i*5000)] : u32 [i j]
 *   out[(i*5000 + j)] = %1
 *   ordered[(i*5000 + j)] = %2
 * grid i = 33 by 1 (i=33)
 * full j = 5000 by 5000 (j=5000)
 */
void argsort(char *const *slots) {
  const uint32_t *restrict x = (const uint32_t *)slots[0];
  int32_t *restrict out = (int32_t *)slots[1];
  uint32_t *restrict ordered = (uint32_t *)slots[2];
#pragma omp parallel for schedule(static) num_threads(tg_threads)
  for (int i = 0; i < 33; i++) {
    char *const heap = tg_heap(120064);
    const int j_lo = 0, j_hi = 5000;
    uint32_t *restrict const t0 = (uint32_t *)(heap + 0);
#pragma omp simd
    for (int j = j_lo; j < j_hi; j++) {
      t0[(j - j_lo)] = x[i * 5000 + j];
    }
    int32_t *restrict const t1 = (int32_t *)(heap + 20032);
    tg_argsort_uint32_t_11(t0, 5000, t1, (uint64_t *)(heap + 40064));
#pragma omp simd
    for (int j = j_lo; j < j_hi; j++) {
      const uint32_t t2 = x[i * 5000 + (int)t1[(j - j_lo)]];
      out[i * 5000 + j] = t1[(j - j_lo)];
      ordered[i * 5000 + j] = t2;
    }
    free(heap);
  }
}
