// A few queries of many heads, as a decoder asks token by token: nothing is packed, every key is read once where it lies.
#pragma once
#include "pack.h"

enum { RUN = 256 };  // keys whose values are added up before they join the rest, as over very many small ones are lost

// The sum of a vector's lanes, always in the same order.
FV_INLINE float lanes_sum(vf x) {
    typedef float four __attribute__((vector_size(16)));
    four part[VL / 4], sum;
    memcpy(part, &x, sizeof x);
    sum = part[0];
    for (int i = 1; i < VL / 4; i++) sum += part[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

FV_INLINE float dot(const float* a, const float* b, int64_t n) {
    vf even = {}, odd = {};
    int64_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL) {
        even = fma_(load(a + i), load(b + i), even);
        odd = fma_(load(a + i + VL), load(b + i + VL), odd);
    }
    for (; i + VL <= n; i += VL) even = fma_(load(a + i), load(b + i), even);
    float sum = lanes_sum(even + odd);
    for (; i < n; i++) sum += a[i] * b[i];
    return sum;
}

// One query over keys [lo, hi): its output, or false where that is no number. `query`, `out` and `part` have place for a
// row, `room` for the scores and two vectors more.
static bool few_row(const FvCall* call, int64_t b, int64_t h, int64_t i, float* query, float* out, float* part,
                    float* room) {
    const int64_t g = h / (call->H / call->G), row = (b * call->H + h) * call->Q + i;
    const float* q = (const float*)call->q + b * call->q_stride[0] + h * call->q_stride[1] + i * call->q_stride[2];
    const float* k = (const float*)call->k + b * call->k_stride[0] + g * call->k_stride[1];
    const float* v = (const float*)call->v + b * call->v_stride[0] + g * call->v_stride[1];
    const int64_t* s = call->span_stride;
    const int64_t span = call->lo ? b * s[0] + h * s[1] + i * s[2] : 0;
    const int64_t lo = call->lo ? call->lo[span] : 0, hi = call->lo ? call->hi[span] : call->K;
    const double sink = call->sinks ? call->sinks[h] : -INFINITY;
    const int64_t n = hi > lo ? hi - lo : 0, whole = (n + VL - 1) / VL * VL;
    for (int64_t d = 0; d < call->D; d++) query[d] = q[d] * (float)call->scale;
    for (int64_t j = 0; j < n; j++) room[j] = dot(query, k + (lo + j) * call->k_stride[2], call->D);
    for (int64_t j = n; j < whole; j++) room[j] = -INFINITY;
    vf best = all((float)sink);
    for (int64_t j = 0; j < whole; j += VL) {
        vf x = load(room + j);
        if (call->softcap != 0) {
            x = tanh_(x / all((float)call->softcap)) * all((float)call->softcap);
            for (int64_t l = 0; l < VL; l++) x[l] = j + l < n ? x[l] : -INFINITY;
            store(room + j, x);
        }
        best = larger(best, x);
    }
    const float peak = top_of(best), base = peak == -INFINITY && !n ? 0.0f : peak;
    double mass = call->sinks ? exp(sink - (double)base) : 0.0;
    for (int64_t j = 0; j < whole; j += VL) {
        const vf e = exp_(load(room + j) - all(base));
        store(room + j, e);
        mass += (double)lanes_sum(e);
    }
    const float share = n ? (float)(1.0 / mass) : 0.0f;
    float odd = 0.0f;
    memset(out, 0, (size_t)call->V * 4);
    for (int64_t first = 0; first < n; first += RUN) {
        memset(part, 0, (size_t)call->V * 4);
        for (int64_t j = first; j < n && j < first + RUN; j++) {
            const float* value = v + (lo + j) * call->v_stride[2];
            const float weight = room[j] * share;
            int64_t c = 0;
            for (; c + VL <= call->V; c += VL) store(part + c, fma_(all(weight), load(value + c), load(part + c)));
            for (; c < call->V; c++) part[c] += weight * value[c];
        }
        for (int64_t c = 0; c < call->V; c++) out[c] += part[c];
    }
    for (int64_t c = 0; c < call->V; c++) odd += out[c] - out[c];  // 0, or NaN
    memcpy((float*)call->out + row * call->V, out, (size_t)call->V * 4);
    return odd == 0.0f;
}

// All queries of one head.
static int few_rows(const FvCall* call, int64_t b, int64_t h, float* room) {
    float *query = room, *out = query + call->D, *part = out + call->V, *scores = part + call->V;
    int status = 0;
    for (int64_t i = 0; i < call->Q; i++)
        if (!few_row(call, b, h, i, query, out, part, scores)) status = FV_ODD_VALUES;
    return status;
}
