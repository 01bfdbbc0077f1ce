/* pooling    train.py:7
 * region pooling (n=8, c=3, y=14, x=14, i=3, j=3)
 *   %0 = load im[(c*196 + i*14 + j + n*588 + x + y*14 + -15)] if 0 <= (i + y + -1) < 14 and 0 <= (j + x + -1) < 14 : f32 [n c y x i j]
 *   %1 = const -inf : f32 []
 *   %2 = inside 0 <= (i + y + -1) < 14 and 0 <= (j + x + -1) < 14 : b1 [y x i j]
 *   %3 = where %2, %0, %1 : f32 [n c y x i j]
 *   %4 = reduce_max %3 over i j : f32 [n c y x]
 *   %5 = index (i*3 + j) : i32 [i j]
 *   %6 = const 9 : i32 []
 *   %7 = eq %3, %4 : b1 [n c y x i j]
 *   %8 = where %7, %5, %6 : i32 [n c y x i j]
 *   %9 = load scale[(c*196 + n*588 + x + y*14)] : f32 [n c y x]
 *   %10 = mul %4, %9 : f32 [n c y x]
 *   %11 = reduce_min %8 over i j : i32 [n c y x]
 *   out[(c*196 + n*588 + x + y*14)] = %10
 *   places[(c*196 + n*588 + x + y*14)] = %11
 * grid c = 24 by 1 (n=8 c=3)
 * grid y = 14 by 1 (y=14)
 * grid x = 14 by 14 (x=14)
 * loop i = 3 by 1 (i=3)
 * loop j = 3 by 1 (j=3)
 */
void pooling(char *const *slots) {
  const float *restrict im = (const float *)slots[0];
  const float *restrict scale = (const float *)slots[1];
  float *restrict out = (float *)slots[2];
  int32_t *restrict places = (int32_t *)slots[3];
#pragma omp parallel for collapse(2) schedule(static) num_threads(tg_threads)
  for (int c = 0; c < 24; c++)
    for (int band = 0; band < 14; band += 14) {
      float *const restrict plane0 = (float *)(tg_scratch(1344));
      float *const restrict line0 = (float *)((char *)plane0 + 1152);
      float *const restrict line1 = (float *)((char *)line0 + 64);
      int32_t *const restrict line2 = (int32_t *)((char *)line1 + 64);
      const int band_end = tg_min(band + 14, 14);
      for (int place_u = band; place_u < (band_end - 1) + 3; place_u++) {
        float *const restrict row = plane0 + (place_u - band) * 18;
        if ((place_u - 1 >= 0) & (place_u - 1 < 14)) {
          for (int e = 0; e < 1; e++) {
            const int place_v = e;
            const float t0 = (-__builtin_inff());
            const float t2 = ((place_v - 1 >= 0) & (place_v - 1 < 14)) ? im[c * 196 + place_u * 14 + place_v - 15] : 0;
            const _Bool t3 = (place_v - 1 >= 0) & (place_v - 1 < 14);
            const float t4 = t3 ? t2 : t0;
            row[e] = t4;
          }
#pragma omp simd
          for (int e = 1; e < 15; e++) {
            const int place_v = e;
            const float t0 = (-__builtin_inff());
            const float t2 = im[c * 196 + place_u * 14 + place_v - 15];
            const _Bool t3 = 1;
            const float t4 = t3 ? t2 : t0;
            row[e] = t4;
          }
          for (int e = 15; e < 16; e++) {
            const int place_v = e;
            const float t0 = (-__builtin_inff());
            const float t2 = ((place_v - 1 >= 0) & (place_v - 1 < 14)) ? im[c * 196 + place_u * 14 + place_v - 15] : 0;
            const _Bool t3 = (place_v - 1 >= 0) & (place_v - 1 < 14);
            const float t4 = t3 ? t2 : t0;
            row[e] = t4;
          }
        }
        else {
#pragma omp simd
          for (int e = 0; e < 16; e++) {
            const int place_v = e;
            const float t0 = (-__builtin_inff());
            const float t2 = ((place_u - 1 >= 0) & (place_u - 1 < 14) & (place_v - 1 >= 0) & (place_v - 1 < 14)) ? im[c * 196 + place_u * 14 + place_v - 15] : 0;
            const _Bool t3 = (place_u - 1 >= 0) & (place_u - 1 < 14) & (place_v - 1 >= 0) & (place_v - 1 < 14);
            const float t4 = t3 ? t2 : t0;
            row[e] = t4;
          }
        }
        for (int e = 16; e < 18; e++) row[e] = 0;
      }
      for (int y = band; y < band_end; y++) {
        __builtin_memcpy(line0, scale + c * 196 + y * 14, 14 * sizeof(*line0));
        const int x_lo = 0, x_hi = 16;
        const float t0 = (-__builtin_inff());
        const int32_t t5 = 9;
        const int32_t t25 = (int32_t)(0);
        const int32_t t29 = (int32_t)(1);
        const int32_t t33 = (int32_t)(2);
        const int32_t t37 = (int32_t)(3);
        const int32_t t41 = (int32_t)(4);
        const int32_t t45 = (int32_t)(5);
        const int32_t t49 = (int32_t)(6);
        const int32_t t53 = (int32_t)(7);
        const int32_t t57 = (int32_t)(8);
#pragma omp simd
        for (int x = x_lo; x < x_hi; x++) {
          float t1 = (-__builtin_inff());
          const float t15 = plane0[band * -18 + y * 18 + x];
          t1 = tg_max_f32(t1, t15);
          const float t16 = plane0[band * -18 + y * 18 + x + 1];
          t1 = tg_max_f32(t1, t16);
          const float t17 = plane0[band * -18 + y * 18 + x + 2];
          t1 = tg_max_f32(t1, t17);
          const float t18 = plane0[band * -18 + y * 18 + x + 18];
          t1 = tg_max_f32(t1, t18);
          const float t19 = plane0[band * -18 + y * 18 + x + 19];
          t1 = tg_max_f32(t1, t19);
          const float t20 = plane0[band * -18 + y * 18 + x + 20];
          t1 = tg_max_f32(t1, t20);
          const float t21 = plane0[band * -18 + y * 18 + x + 36];
          t1 = tg_max_f32(t1, t21);
          const float t22 = plane0[band * -18 + y * 18 + x + 37];
          t1 = tg_max_f32(t1, t22);
          const float t23 = plane0[band * -18 + y * 18 + x + 38];
          t1 = tg_max_f32(t1, t23);
          int32_t t6 = 2147483647;
          const float t24 = plane0[band * -18 + y * 18 + x];
          const _Bool t26 = t24 == t1;
          const int32_t t27 = t26 ? t25 : t5;
          t6 = (t6 < t27 ? t6 : t27);
          const float t28 = plane0[band * -18 + y * 18 + x + 1];
          const _Bool t30 = t28 == t1;
          const int32_t t31 = t30 ? t29 : t5;
          t6 = (t6 < t31 ? t6 : t31);
          const float t32 = plane0[band * -18 + y * 18 + x + 2];
          const _Bool t34 = t32 == t1;
          const int32_t t35 = t34 ? t33 : t5;
          t6 = (t6 < t35 ? t6 : t35);
          const float t36 = plane0[band * -18 + y * 18 + x + 18];
          const _Bool t38 = t36 == t1;
          const int32_t t39 = t38 ? t37 : t5;
          t6 = (t6 < t39 ? t6 : t39);
          const float t40 = plane0[band * -18 + y * 18 + x + 19];
          const _Bool t42 = t40 == t1;
          const int32_t t43 = t42 ? t41 : t5;
          t6 = (t6 < t43 ? t6 : t43);
          const float t44 = plane0[band * -18 + y * 18 + x + 20];
          const _Bool t46 = t44 == t1;
          const int32_t t47 = t46 ? t45 : t5;
          t6 = (t6 < t47 ? t6 : t47);
          const float t48 = plane0[band * -18 + y * 18 + x + 36];
          const _Bool t50 = t48 == t1;
          const int32_t t51 = t50 ? t49 : t5;
          t6 = (t6 < t51 ? t6 : t51);
          const float t52 = plane0[band * -18 + y * 18 + x + 37];
          const _Bool t54 = t52 == t1;
          const int32_t t55 = t54 ? t53 : t5;
          t6 = (t6 < t55 ? t6 : t55);
          const float t56 = plane0[band * -18 + y * 18 + x + 38];
          const _Bool t58 = t56 == t1;
          const int32_t t59 = t58 ? t57 : t5;
          t6 = (t6 < t59 ? t6 : t59);
          const float t13 = line0[x];
          const float t14 = tg_product_f32(t1, t13);
          line1[x] = t14;
          line2[x] = t6;
        }
        __builtin_memcpy(out + c * 196 + y * 14, line1, 14 * sizeof(*line1));
        __builtin_memcpy(places + c * 196 + y * 14, line2, 14 * sizeof(*line2));
      }
    }
}
