#define tg_bits(x) as_uint(x)
#define tg_float(u) as_float(u)
static inline void tg_atomic_add_f32(__global float *place, float value) {
  volatile __global uint *word = (volatile __global uint *)place;
  for (uint seen = *word, found;; seen = found) {
    const float old = tg_float((uint)seen);
    const float made = (old + value);
    found = atomic_cmpxchg(word, seen, (uint)tg_bits(made));
    if (found == seen) return;
  }
}
__kernel void embedding_gradient(
    __global const int *restrict ids, const long ids_at,
    __global const float *restrict dy, const long dy_at,
    __global float *restrict dw, const long dw_at)
{
  ids += ids_at;
  dy += dy_at;
  dw += dw_at;
  const int program = (int)get_global_id(0);
  if (program >= 1500) return;
  const int i = program / 5;
  const int j = program % 5;
  const int t0 = ids[i];
  const float t1 = dy[i * 5 + j];
  tg_atomic_add_f32(&dw[(int)t0 * 5 + j], t1);
}
