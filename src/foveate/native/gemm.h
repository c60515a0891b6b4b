// The two matrix products, on tiles of up to 6 rows: scores from packed queries and keys, outputs from weights and values.
#pragma once
#include "simd.h"

enum { MR = 6, PANEL = 64, TILE = TILE_VECTORS * VL };

// scores[r][0..64) = sum over d of q[d][r] k[d][.], plus bias[. - r] unless that is NULL; top[r] keeps the largest score of
// each lane. q is packed (D, 6).
template <int ROWS>
FV_APART void scores_of_panel(const float* q, const float* k, int64_t D, const float* bias, float* scores, int64_t stride,
                            float* top) {
    for (int at = 0; at < PANEL; at += TILE) {
        vf sum[ROWS][TILE_VECTORS] = {};
        const float* column = k + at;
        for (int64_t d = 0; d < D; d++) {
            vf key[TILE_VECTORS];
            for (int c = 0; c < TILE_VECTORS; c++) key[c] = load(column + d * PANEL + c * VL);
            for (int r = 0; r < ROWS; r++) {
                const vf query = all(q[d * MR + r]);
                for (int c = 0; c < TILE_VECTORS; c++) sum[r][c] = fma_(query, key[c], sum[r][c]);
            }
        }
        for (int r = 0; r < ROWS; r++) {
            vf best = load(top + r * VL);
            for (int c = 0; c < TILE_VECTORS; c++) {
                if (bias) sum[r][c] += load(bias + at + c * VL - r);
                store(scores + r * stride + at + c * VL, sum[r][c]);
                best = larger(best, sum[r][c]);
            }
            store(top + r * VL, best);
        }
    }
}

#if defined(__AVX512BF16__)
// The same from pairs of bfloat16: products are exact, sums are float32. q is packed (D / 2, 6, 2), k (D / 2, 64, 2).
template <int ROWS>
FV_APART void scores_of_bf16_panel(const float* q, const float* k, int64_t pairs, float* scores, int64_t stride) {
    vf sum[ROWS][4] = {};
    for (int64_t d = 0; d < pairs; d++) {
        __m512bh key[4];
        for (int c = 0; c < 4; c++) key[c] = (__m512bh)load(k + d * PANEL + c * VL);
        for (int r = 0; r < ROWS; r++) {
            const __m512bh query = (__m512bh)all(q[d * MR + r]);
            for (int c = 0; c < 4; c++) sum[r][c] = _mm512_dpbf16_ps(sum[r][c], query, key[c]);
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < 4; c++) store(scores + r * stride + c * VL, sum[r][c]);
}
#endif

// out[r][0 .. N vectors) += sum over keys of weights[r][key] values[key][.]
template <int ROWS, int N>
FV_APART void read_values(const float* weights, int64_t stride, const float* v, int64_t v_stride, int64_t keys, float* out,
                        int64_t out_stride) {
    vf sum[ROWS][N];
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < N; c++) sum[r][c] = load(out + r * out_stride + c * VL);
    for (int64_t j = 0; j < keys; j++) {
        vf value[N];
        for (int c = 0; c < N; c++) value[c] = load(v + j * v_stride + c * VL);
        for (int r = 0; r < ROWS; r++) {
            const vf w = all(weights[r * stride + j]);
            for (int c = 0; c < N; c++) sum[r][c] = fma_(w, value[c], sum[r][c]);
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < N; c++) store(out + r * out_stride + c * VL, sum[r][c]);
}

template <int ROWS>
static void read_all_values(const float* weights, int64_t stride, const float* v, int64_t v_stride, int64_t keys,
                            float* out, int64_t width) {
    int64_t at = 0;
    for (; at + TILE <= width; at += TILE)
        read_values<ROWS, TILE_VECTORS>(weights, stride, v + at, v_stride, keys, out + at, width);
    for (; at + 2 * VL <= width; at += 2 * VL)
        read_values<ROWS, 2>(weights, stride, v + at, v_stride, keys, out + at, width);
    for (; at < width; at += VL) read_values<ROWS, 1>(weights, stride, v + at, v_stride, keys, out + at, width);
}

#define FV_FOR_ROWS(rows, call) \
    switch (rows) {             \
        case 1: call(1); break; \
        case 2: call(2); break; \
        case 3: call(3); break; \
        case 4: call(4); break; \
        case 5: call(5); break; \
        default: call(6);       \
    }
