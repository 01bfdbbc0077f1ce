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
 * loop j = 100 by 8 (j=100)
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
  float t0_0 = (-INFINITY);
  float t0_1 = (-INFINITY);
  float t0_2 = (-INFINITY);
  float t0_3 = (-INFINITY);
  float t0_4 = (-INFINITY);
  float t0_5 = (-INFINITY);
  float t0_6 = (-INFINITY);
  float t0_7 = (-INFINITY);
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
    t0_0 = tg_max_f32(t0_0, t1_0);
    t0_1 = tg_max_f32(t0_1, t1_1);
    t0_2 = tg_max_f32(t0_2, t1_2);
    t0_3 = tg_max_f32(t0_3, t1_3);
    t0_4 = tg_max_f32(t0_4, t1_4);
    t0_5 = tg_max_f32(t0_5, t1_5);
    t0_6 = tg_max_f32(t0_6, t1_6);
    t0_7 = tg_max_f32(t0_7, t1_7);
  }
  for (int j = 96; j < 100; j++) {
    const int j_0 = j;
    const float t1_0 = x[i * 100 + j_0];
    t0_0 = tg_max_f32(t0_0, t1_0);
  }
  const float t2 = tg_max_f32(tg_max_f32(tg_max_f32(t0_0, t0_1), tg_max_f32(t0_2, t0_3)), tg_max_f32(tg_max_f32(t0_4, t0_5), tg_max_f32(t0_6, t0_7)));
  float t3_0 = 0.0f;
  float t3_1 = 0.0f;
  float t3_2 = 0.0f;
  float t3_3 = 0.0f;
  float t3_4 = 0.0f;
  float t3_5 = 0.0f;
  float t3_6 = 0.0f;
  float t3_7 = 0.0f;
  for (int j = 0; j < 96; j += 8) {
    const int j_0 = j, j_1 = j + 1, j_2 = j + 2, j_3 = j + 3, j_4 = j + 4, j_5 = j + 5, j_6 = j + 6, j_7 = j + 7;
    const float t4_0 = x[i * 100 + j_0];
    const float t4_1 = x[i * 100 + j_1];
    const float t4_2 = x[i * 100 + j_2];
    const float t4_3 = x[i * 100 + j_3];
    const float t4_4 = x[i * 100 + j_4];
    const float t4_5 = x[i * 100 + j_5];
    const float t4_6 = x[i * 100 + j_6];
    const float t4_7 = x[i * 100 + j_7];
    const float t5_0 = t4_0 - t2;
    const float t5_1 = t4_1 - t2;
    const float t5_2 = t4_2 - t2;
    const float t5_3 = t4_3 - t2;
    const float t5_4 = t4_4 - t2;
    const float t5_5 = t4_5 - t2;
    const float t5_6 = t4_6 - t2;
    const float t5_7 = t4_7 - t2;
    const float t6_0 = tg_exp(t5_0);
    const float t6_1 = tg_exp(t5_1);
    const float t6_2 = tg_exp(t5_2);
    const float t6_3 = tg_exp(t5_3);
    const float t6_4 = tg_exp(t5_4);
    const float t6_5 = tg_exp(t5_5);
    const float t6_6 = tg_exp(t5_6);
    const float t6_7 = tg_exp(t5_7);
    t3_0 = (t3_0 + t6_0);
    t3_1 = (t3_1 + t6_1);
    t3_2 = (t3_2 + t6_2);
    t3_3 = (t3_3 + t6_3);
    t3_4 = (t3_4 + t6_4);
    t3_5 = (t3_5 + t6_5);
    t3_6 = (t3_6 + t6_6);
    t3_7 = (t3_7 + t6_7);
  }
  for (int j = 96; j < 100; j++) {
    const int j_0 = j;
    const float t4_0 = x[i * 100 + j_0];
    const float t5_0 = t4_0 - t2;
    const float t6_0 = tg_exp(t5_0);
    t3_0 = (t3_0 + t6_0);
  }
  const float t7 = (((t3_0 + t3_1) + (t3_2 + t3_3)) + ((t3_4 + t3_5) + (t3_6 + t3_7)));
  for (int j = 0; j < 96; j += 8) {
    const int j_0 = j, j_1 = j + 1, j_2 = j + 2, j_3 = j + 3, j_4 = j + 4, j_5 = j + 5, j_6 = j + 6, j_7 = j + 7;
    const float t8_0 = x[i * 100 + j_0];
    const float t8_1 = x[i * 100 + j_1];
    const float t8_2 = x[i * 100 + j_2];
    const float t8_3 = x[i * 100 + j_3];
    const float t8_4 = x[i * 100 + j_4];
    const float t8_5 = x[i * 100 + j_5];
    const float t8_6 = x[i * 100 + j_6];
    const float t8_7 = x[i * 100 + j_7];
    const float t9_0 = t8_0 - t2;
    const float t9_1 = t8_1 - t2;
    const float t9_2 = t8_2 - t2;
    const float t9_3 = t8_3 - t2;
    const float t9_4 = t8_4 - t2;
    const float t9_5 = t8_5 - t2;
    const float t9_6 = t8_6 - t2;
    const float t9_7 = t8_7 - t2;
    const float t10_0 = tg_exp(t9_0);
    const float t10_1 = tg_exp(t9_1);
    const float t10_2 = tg_exp(t9_2);
    const float t10_3 = tg_exp(t9_3);
    const float t10_4 = tg_exp(t9_4);
    const float t10_5 = tg_exp(t9_5);
    const float t10_6 = tg_exp(t9_6);
    const float t10_7 = tg_exp(t9_7);
    const float t11_0 = t10_0 / t7;
    const float t11_1 = t10_1 / t7;
    const float t11_2 = t10_2 / t7;
    const float t11_3 = t10_3 / t7;
    const float t11_4 = t10_4 / t7;
    const float t11_5 = t10_5 / t7;
    const float t11_6 = t10_6 / t7;
    const float t11_7 = t10_7 / t7;
    out[i * 100 + j_0] = t11_0;
    out[i * 100 + j_1] = t11_1;
    out[i * 100 + j_2] = t11_2;
    out[i * 100 + j_3] = t11_3;
    out[i * 100 + j_4] = t11_4;
    out[i * 100 + j_5] = t11_5;
    out[i * 100 + j_6] = t11_6;
    out[i * 100 + j_7] = t11_7;
  }
  for (int j = 96; j < 100; j++) {
    const int j_0 = j;
    const float t8_0 = x[i * 100 + j_0];
    const float t9_0 = t8_0 - t2;
    const float t10_0 = tg_exp(t9_0);
    const float t11_0 = t10_0 / t7;
    out[i * 100 + j_0] = t11_0;
  }
}
