/* softmax    train.py:7
 * region softmax (i=17, j=12)
 *   %0 = load x[(i*12 + j)] : f32 [i j]
 *   %1 = reduce_max %0 over j : f32 [i]
 *   %2 = sub %0, %1 : f32 [i j]
 *   %3 = exp %2 : f32 [i j]
 *   %4 = reduce_sum %3 over j : f32 [i]
 *   %5 = div %3, %4 : f32 [i j]
 *   out[(i*12 + j)] = %5
 * grid i = 17 by 1 (i=17)
 * loop j = 12 by 1 (j=12)
 */
__kernel void softmax(
    __global const float *restrict x, const long x_at,
    __global float *restrict out, const long out_at)
{
  x += x_at;
  out += out_at;
  const int program = (int)get_global_id(0);
  if (program >= 17) return;
  const int i = program;
  float t0 = (-INFINITY);
  for (int j = 0; j < 12; j++) {
    const float t1 = x[i * 12 + j];
    t0 = tg_max_f32(t0, t1);
  }
  float t2 = 0.0f;
  for (int j = 0; j < 12; j++) {
    const float t3 = x[i * 12 + j];
    const float t4 = t3 - t0;
    const float t5 = tg_exp(t4);
    t2 = (t2 + t5);
  }
  for (int j = 0; j < 12; j++) {
    const float t6 = x[i * 12 + j];
    const float t7 = t6 - t0;
    const float t8 = tg_exp(t7);
    const float t9 = t8 / t2;
    out[i * 12 + j] = t9;
  }
}
