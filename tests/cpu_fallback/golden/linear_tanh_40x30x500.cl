/* linear_tanh    train.py:7
 * region linear_tanh (m=40, n=30, k=500)
 *   %0 = load a[(k + m*500)] : f32 [m k]
 *   %1 = load b[(k*30 + n)] : f32 [n k]
 *   %2 = dot %0, %1 over k : f32 [m n]
 *   %3 = load bias[n] : f32 [n]
 *   %4 = add %2, %3 : f32 [m n]
 *   %5 = tanh %4 : f32 [m n]
 *   out[(m*30 + n)] = %5
 * grid m = 40 by 2 (m=40)
 * loop k = 500 by 1 (k=500)
 * grid n = 30 by 2 (n=30)
 */
__kernel void linear_tanh(
    __global const float *restrict a, const long a_at,
    __global const float *restrict b, const long b_at,
    __global const float *restrict bias, const long bias_at,
    __global float *restrict out, const long out_at)
{
  a += a_at;
  b += b_at;
  bias += bias_at;
  out += out_at;
  const int program = (int)get_global_id(0);
  if (program >= 300) return;
  const int m = program / 15 * 2;
  const int m_0 = m, m_1 = m + 1;
  const int n = program % 15 * 2;
  const int n_0 = n, n_1 = n + 1;
  float t0_0_0 = 0.0f;
  float t0_0_1 = 0.0f;
  float t0_1_0 = 0.0f;
  float t0_1_1 = 0.0f;
  for (int k = 0; k < 500; k++) {
    const float t1_0 = a[m_0 * 500 + k];
    const float t1_1 = a[m_1 * 500 + k];
    const float t2_0 = b[k * 30 + n_0];
    const float t2_1 = b[k * 30 + n_1];
    t0_0_0 += t1_0 * t2_0;
    t0_0_1 += t1_0 * t2_1;
    t0_1_0 += t1_1 * t2_0;
    t0_1_1 += t1_1 * t2_1;
  }
  const float t3_0 = bias[n_0];
  const float t3_1 = bias[n_1];
  const float t4_0_0 = t0_0_0 + t3_0;
  const float t4_0_1 = t0_0_1 + t3_1;
  const float t4_1_0 = t0_1_0 + t3_0;
  const float t4_1_1 = t0_1_1 + t3_1;
  const float t5_0_0 = tg_tanh(t4_0_0);
  const float t5_0_1 = tg_tanh(t4_0_1);
  const float t5_1_0 = tg_tanh(t4_1_0);
  const float t5_1_1 = tg_tanh(t4_1_1);
  out[m_0 * 30 + n_0] = t5_0_0;
  out[m_0 * 30 + n_1] = t5_0_1;
  out[m_1 * 30 + n_0] = t5_1_0;
  out[m_1 * 30 + n_1] = t5_1_1;
}
