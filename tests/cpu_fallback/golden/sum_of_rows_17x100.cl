/* reduce_sum_row    train.py:7
 * region reduce_sum_row (i=17, j=100)
 *   %0 = load x[(i*100 + j)] : f32 [i j]
 *   %1 = reduce_sum %0 over j : f32 [i]
 *   out[i] = %1
 * grid i = 17 by 1 (i=17)
 * loop j = 100 by 8 (j=100)
 */
__kernel void reduce_sum_row(
    __global const float *restrict x, const long x_at,
    __global float *restrict out, const long out_at)
{
  x += x_at;
  out += out_at;
  const int program = (int)get_global_id(0);
  if (program >= 17) return;
  const int i = program;
  float t0_0 = 0.0f;
  float t0_1 = 0.0f;
  float t0_2 = 0.0f;
  float t0_3 = 0.0f;
  float t0_4 = 0.0f;
  float t0_5 = 0.0f;
  float t0_6 = 0.0f;
  float t0_7 = 0.0f;
  for (int j = 0; j < 96; j += 8) {
    const int j_0 = j, j_1 = j + 1, j_2 = j + 2, j_3 = j + 3, j_4 = j + 4, j_5 = j + 5, j_6 = j + 6, j_7 = j + 7;
    const float t1_0 = x[i * 100 + j_0];
    const float t1_1 = x[i * 100 + j_1];
    const float t1_2 = x[i * 100 + j_2];
    const float t1_3 = x[i * 100 + j_3];
    const float t1_4 = x[i * 100 + j_4];
    const float t1_5 = x[i * 100 + j_5];
    const float t1_6 = x[i * 100 + j_6];
    const float t1_7 = x[i * 100 + j_7];
    t0_0 = (t0_0 + t1_0);
    t0_1 = (t0_1 + t1_1);
    t0_2 = (t0_2 + t1_2);
    t0_3 = (t0_3 + t1_3);
    t0_4 = (t0_4 + t1_4);
    t0_5 = (t0_5 + t1_5);
    t0_6 = (t0_6 + t1_6);
    t0_7 = (t0_7 + t1_7);
  }
  for (int j = 96; j < 100; j++) {
    const int j_0 = j;
    const float t1_0 = x[i * 100 + j_0];
    t0_0 = (t0_0 + t1_0);
  }
  const float t2 = (((t0_0 + t0_1) + (t0_2 + t0_3)) + ((t0_4 + t0_5) + (t0_6 + t0_7)));
  out[i] = t2;
}
