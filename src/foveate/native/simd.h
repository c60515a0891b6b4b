// Vectors of floats: VL lanes in registers, the same few operations on AVX-512, AVX2 and whatever else the compiler has.
//
// Each is written once in the compilers' own vector arithmetic; where a set of instructions has something better, that
// replaces it. Everything here is static: the file is compiled once per set of instructions, under other flags.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define FV_INLINE static inline __attribute__((always_inline))
// The microkernels stay functions of their own: inlined into one another, gcc 12 keeps their sums in memory on AVX2, at
// twice the time.
#define FV_APART static __attribute__((noinline))

#if defined(__AVX512F__)
enum { VL = 16, TILE_VECTORS = 4 };  // lanes; and how many vectors wide the microkernels' tile of 6 rows is
#elif defined(__AVX2__)
enum { VL = 8, TILE_VECTORS = 2 };
#else
enum { VL = 4, TILE_VECTORS = 2 };
#endif

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef float vf_unaligned __attribute__((vector_size(VL * 4), aligned(4)));

FV_INLINE vf load(const float* p) { return *(const vf_unaligned*)p; }
FV_INLINE void store(float* p, vf x) { *(vf_unaligned*)p = x; }
FV_INLINE vf all(float x) { return x - (vf){}; }

#if defined(__AVX512F__)
FV_INLINE vf fma_(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
FV_INLINE vf larger(vf a, vf b) { return _mm512_max_ps(a, b); }  // b where either is NaN
FV_INLINE vf smaller(vf a, vf b) { return _mm512_min_ps(a, b); }
FV_INLINE uint32_t at_least(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
FV_INLINE uint32_t above(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
FV_INLINE vf keep(uint32_t lanes, vf a, vf b) { return _mm512_mask_mov_ps(b, (__mmask16)lanes, a); }
#elif defined(__AVX2__)
FV_INLINE vf fma_(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
FV_INLINE vf larger(vf a, vf b) { return _mm256_max_ps(a, b); }
FV_INLINE vf smaller(vf a, vf b) { return _mm256_min_ps(a, b); }
FV_INLINE uint32_t at_least(vf a, vf b) { return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)); }
FV_INLINE uint32_t above(vf a, vf b) { return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)); }
FV_INLINE vf keep(uint32_t lanes, vf a, vf b) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i on = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)lanes), bit), bit);
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(on));
}
#else
FV_INLINE vf fma_(vf a, vf b, vf c) { return a * b + c; }
FV_INLINE vf pick(vi on, vf a, vf b) { return (vf)((on & (vi)a) | (~on & (vi)b)); }
FV_INLINE vf larger(vf a, vf b) { return pick(a > b, a, b); }
FV_INLINE vf smaller(vf a, vf b) { return pick(a < b, a, b); }
FV_INLINE uint32_t lanes_of(vi on) {
    uint32_t lanes = 0;
    for (int i = 0; i < VL; i++) lanes |= (uint32_t)(on[i] & 1) << i;
    return lanes;
}
FV_INLINE uint32_t at_least(vf a, vf b) { return lanes_of((vi)(a >= b)); }
FV_INLINE uint32_t above(vf a, vf b) { return lanes_of((vi)(a > b)); }
FV_INLINE vf keep(uint32_t lanes, vf a, vf b) {
    vi on;
    for (int i = 0; i < VL; i++) on[i] = -(int32_t)(lanes >> i & 1);
    return pick(on, a, b);
}
#endif

FV_INLINE vf size_of(vf x) { return (vf)((vi)x & 0x7fffffff); }

FV_INLINE float top_of(vf x) {  // the largest lane
    float lane[VL];
    store(lane, x);
    for (int n = VL / 2; n; n /= 2)
        for (int i = 0; i < n; i++) lane[i] = lane[i] > lane[i + n] ? lane[i] : lane[i + n];
    return lane[0];
}

FV_INLINE float sum_of(vf x) {  // always in the same order
    float lane[VL];
    store(lane, x);
    for (int n = VL / 2; n; n /= 2)
        for (int i = 0; i < n; i++) lane[i] += lane[i + n];
    return lane[0];
}

// exp(x) for x <= 88; 0 below about -87.3, and at -inf; NaN at NaN. 2^t = 2^floor(t) p(t - floor(t)), p of degree 6.
FV_INLINE vf exp_(vf x) {
    const vf t = x * all(1.44269504088896341f);
#if defined(__AVX512F__)
    const vf r = _mm512_reduce_ps(t, 0x09);  // t - floor(t)
    vf p = all(2.1612916e-4f);
    p = fma_(p, r, all(1.2467846e-3f));
    p = fma_(p, r, all(9.675452e-3f));
    p = fma_(p, r, all(5.5485282e-2f));
    p = fma_(p, r, all(2.4022931e-1f));
    p = fma_(p, r, all(6.9314706e-1f));
    p = fma_(p, r, all(1.0f));
    return _mm512_scalef_ps(p, t);  // scales by 2^floor(t)
#else
    const vf magic = all(12582912.0f);  // adding 1.5 * 2^23 rounds to a whole number
    const vf n = (t + magic) - magic;
    const vf r = t - n;
    vf p = all(1.5353362e-4f);
    p = fma_(p, r, all(1.3398874e-3f));
    p = fma_(p, r, all(9.618437e-3f));
    p = fma_(p, r, all(5.5503324e-2f));
    p = fma_(p, r, all(2.4022648e-1f));
    p = fma_(p, r, all(6.9314720e-1f));
    p = fma_(p, r, all(1.0f));
    const vi two_to_n = (((vi)(t + magic) - (vi)magic) + 127) << 23;
    const vi tiny = (vi)(t < all(-126.0f));
    return (vf)((vi)(p * (vf)two_to_n) & ~tiny);
#endif
}

// tanh, after Cephes: a rational approximation near 0, where 1 - 2 / (exp(2x) + 1) would cancel.
FV_INLINE vf tanh_(vf x) {
    const vf size = size_of(x);
    const vf z = x * x;
    vf p = all(-5.70498872745e-3f);
    p = fma_(p, z, all(2.06390887954e-2f));
    p = fma_(p, z, all(-5.37397155531e-2f));
    p = fma_(p, z, all(1.33314422036e-1f));
    p = fma_(p, z, all(-3.33332819422e-1f));
    const vf near = fma_(p * z, x, x);
    const vf far = all(1.0f) - all(2.0f) / (exp_(smaller(all(30.0f), size + size)) + all(1.0f));
    const vi sign = (vi)x & (int32_t)0x80000000;
    return keep(at_least(size, all(0.625f)), (vf)((vi)far | sign), near);
}
