// Between the caller's numbers and the kernel's: other dtypes to float and back, and the order the microkernels read in.
#pragma once
#include "abi.h"
#include "simd.h"

enum { ROWS_AT_ONCE = 6 };

FV_INLINE float bits_to_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

FV_INLINE uint32_t float_to_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

FV_INLINE float half_to_float(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023;
    if (exponent == 31) return bits_to_float(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0) return bits_to_float(sign | float_to_bits((float)fraction * 5.9604644775390625e-8f));
    return bits_to_float(sign | (exponent + 112) << 23 | fraction << 13);
}

FV_INLINE uint16_t float_to_half(float x) {  // to nearest, ties to even
    const uint32_t bits = float_to_bits(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (size >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (size < 0x38800000)  // below 2^-14: adding 1/2 leaves the rounded fraction in the last bits
        return (uint16_t)(sign | (float_to_bits(bits_to_float(size) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13));
}

FV_INLINE uint16_t float_to_bf16(float x) {
    const uint32_t bits = float_to_bits(x);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void to_floats(const void* from, int64_t dtype, int64_t n, float* to) {
    const uint16_t* p = (const uint16_t*)from;
    if (dtype == FV_F32) memcpy(to, from, (size_t)n * 4);
    if (dtype == FV_BF16)
        for (int64_t i = 0; i < n; i++) to[i] = bits_to_float((uint32_t)p[i] << 16);
    if (dtype == FV_F16) {
        int64_t i = 0;
#if defined(__F16C__)
        for (; i + 8 <= n; i += 8) _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + i))));
#endif
        for (; i < n; i++) to[i] = half_to_float(p[i]);
    }
}

static void from_floats(const float* from, int64_t dtype, int64_t n, void* to) {
    uint16_t* p = (uint16_t*)to;
    if (dtype == FV_F32) memcpy(to, from, (size_t)n * 4);
    if (dtype == FV_BF16)
        for (int64_t i = 0; i < n; i++) p[i] = float_to_bf16(from[i]);
    if (dtype == FV_F16)
        for (int64_t i = 0; i < n; i++) p[i] = float_to_half(from[i]);
}

FV_INLINE int64_t bytes_of(int64_t dtype) { return dtype == FV_F32 ? 4 : 2; }

FV_INLINE const char* place_of(const void* base, int64_t dtype, const int64_t* stride, int64_t b, int64_t h, int64_t row) {
    return (const char*)base + (b * stride[0] + h * stride[1] + row * stride[2]) * bytes_of(dtype);
}

// One row as 4-byte units: floats, or (`pairs`) pairs of bfloat16. In place where it can be, else through `room`.
FV_INLINE const float* units_of(const char* row, int64_t dtype, int64_t D, int pairs, float* room) {
    if (dtype == FV_F32 || (pairs && D % 2 == 0)) return (const float*)row;
    if (pairs) {
        memset((char*)room + D * 2, 0, 2);
        memcpy(room, row, (size_t)D * 2);
    } else {
        to_floats(row, dtype, D, room);
    }
    return room;
}

// 64 rows of `units` 4-byte units -> (units, 64), 16 units of 16 rows at a time so that both sides stay in the cache.
static void turn_panel(const char* const* rows, int64_t units, float* panel) {
    for (int64_t u = 0; u < units; u += 16) {
        const int64_t stop = units < u + 16 ? units : u + 16;
        for (int64_t j = 0; j < FV_PANEL; j += 4)
            for (int64_t d = u; d < stop; d++) {
                float* to = panel + d * FV_PANEL + j;
                for (int i = 0; i < 4; i++) memcpy(to + i, rows[j + i] + d * 4, 4);
            }
    }
}

// Keys [first, first + 64) of one head, zeros beyond the last key. `room` holds 64 rows of units.
static void pack_key_panel(const FvCall* call, int64_t b, int64_t g, int64_t first, int pairs, int64_t units,
                           float* panel, float* room) {
    static const float nothing[4096] = {0};
    const char* rows[FV_PANEL];
    for (int64_t j = 0; j < FV_PANEL; j++) {
        rows[j] = (const char*)nothing;
        if (first + j < call->K) {
            const char* row = place_of(call->k, call->dtype, call->k_stride, b, g, first + j);
            rows[j] = (const char*)units_of(row, call->dtype, call->D, pairs, room + j * units);
        }
    }
    turn_panel(rows, units, panel);
}

// Rows of queries -> tiles of (units, 6), times the scale unless they are pairs, zeros in the last tile's missing rows.
static void pack_queries(const FvCall* call, int64_t b, int64_t h, int64_t first, int64_t n, int pairs, int64_t units,
                         float scale, float* packed, float* room) {
    memset(packed + (n - 1) / ROWS_AT_ONCE * ROWS_AT_ONCE * units, 0, (size_t)(units * ROWS_AT_ONCE) * 4);
    for (int64_t r = 0; r < n; r++) {
        const char* row = place_of(call->q, call->dtype, call->q_stride, b, h, first + r);
        const float* unit = units_of(row, call->dtype, call->D, pairs, room);
        float* to = packed + r / ROWS_AT_ONCE * ROWS_AT_ONCE * units + r % ROWS_AT_ONCE;
        if (pairs)
            for (int64_t d = 0; d < units; d++) memcpy(to + d * ROWS_AT_ONCE, (const char*)unit + d * 4, 4);
        else
            for (int64_t d = 0; d < units; d++) to[d * ROWS_AT_ONCE] = unit[d] * scale;
    }
}

// Values of keys [first, last) of one head as floats, `width` apart; says whether all are finite. `packed` NULL: only look.
static int pack_values(const FvCall* call, int64_t b, int64_t g, int64_t first, int64_t last, int64_t width,
                       float* packed) {
    vf wrong = all(0.0f);
    float lost = 0.0f;
    for (int64_t j = first; j < last; j++) {
        const char* row = place_of(call->v, call->dtype, call->v_stride, b, g, j);
        const float* x = (const float*)row;
        if (packed) {
            float* to = packed + j * width;
            to_floats(row, call->dtype, call->V, to);
            for (int64_t d = call->V; d < width; d++) to[d] = 0.0f;
            x = to;
        }
        int64_t d = 0;  // 0 times a finite number is 0, times any other NaN
        for (; d + VL <= call->V; d += VL) wrong += load(x + d) * all(0.0f);
        for (; d < call->V; d++) lost += x[d] * 0.0f;
    }
    return lost + sum_of(wrong) == 0.0f;
}
