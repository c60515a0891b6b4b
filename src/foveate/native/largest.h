// The largest weights of a row, exactly. The k largest of many maxima name the only places where they can lie: a chunk
// keeps the maximum of each lane, that is of every VL-th score, so that few scores are looked at again.
#pragma once
#include "rows.h"

enum { FEW = 64 };  // candidates that are ranked by counting, without branches; more go through a sorted list

typedef struct {
    float value[FEW + MOST_LANES];
    int64_t index[FEW];
    int64_t length;
} FvFew;

// How many of the first `length` values come before value i, the earlier of two equal ones first.
FV_INLINE int64_t rank_of(const FvFew* few, int64_t i) {
    const vf own = all(few->value[i]);
    int64_t before = 0;
    for (int64_t j = 0; j < few->length; j += VL) {
        const vf other = load(few->value + j);
        const int64_t earlier = most(0, least(i - j, VL));
        before += __builtin_popcount(above(other, own));
        before += __builtin_popcount(at_least(other, own) & at_least(own, other) & ((1u << earlier) - 1));
    }
    return before;
}

FV_INLINE void close_few(FvFew* few) {  // nothing beyond the end may count
    store(few->value + few->length, all(-INFINITY));
}

static float kth_of(const FvFew* few, int64_t k) {
    for (int64_t i = 0; i < few->length; i++)
        if (rank_of(few, i) == k - 1) return few->value[i];
    return -INFINITY;
}

// A bound that the k-th largest score of a row is not below: the k-th largest of its lanes' maxima over all chunks.
static float first_bound(const float* tops, int64_t step, int64_t chunks, int64_t k) {
    FvFew few;
    vf best = all(-INFINITY);
    if (k > VL) return -INFINITY;
    for (int64_t c = 0; c < chunks; c++) best = larger(best, load(tops + c * step));
    store(few.value, best);
    few.length = VL;
    close_few(&few);
    return kth_of(&few, k);
}

// The lane maxima that are at least the k-th largest of them; false where those are more than a few.
static bool best_lanes(const float* tops, int64_t step, int64_t chunks, int64_t k, FvFew* few) {
    FvFew found;
    const float bound = first_bound(tops, step, chunks, k);
    found.length = 0;
    for (int64_t c = 0; c < chunks; c++) {
        const float* top = tops + c * step;
        uint32_t lanes = at_least(load(top), all(bound));
        if (found.length + __builtin_popcount(lanes) > FEW) return false;
        for (; lanes; lanes &= lanes - 1) {
            const int64_t lane = __builtin_ctz(lanes);
            found.value[found.length] = top[lane];
            found.index[found.length++] = c * VL + lane;
        }
    }
    close_few(&found);
    const float last = kth_of(&found, k);
    few->length = 0;
    for (int64_t i = 0; i < found.length; i++) {
        few->value[few->length] = found.value[i];
        few->index[few->length] = found.index[i];
        few->length += found.value[i] >= last;
    }
    few->value[FEW] = last;
    return true;
}

// Puts (value, index) into a list of at most k, best first; returns its new length. `value` must beat a full list's last.
FV_INLINE int64_t place(float* values, int64_t* indices, int64_t length, int64_t k, float value, int64_t index) {
    int64_t at = length < k ? length : k - 1;
    while (at > 0 && values[at - 1] < value) {
        values[at] = values[at - 1];
        indices[at] = indices[at - 1];
        at--;
    }
    values[at] = value;
    indices[at] = index;
    return length < k ? length + 1 : k;
}

FV_INLINE vf every_lane_th(const float* x, int64_t n) {  // x[0], x[VL], x[2 VL] ... as one vector, 0 beyond n
    float lane[VL] = {0};
    for (int i = 0; i < VL && i * VL < n; i++) lane[i] = x[i * VL];
    return load(lane);
}

FV_INLINE int64_t key_of(const FvLook* look, int64_t c, int64_t j) {
    return (int64_t)look->panel[c * CHUNK_PANELS + j / FV_PANEL] * FV_PANEL + j % FV_PANEL;
}

// By way of the best lanes. `shares` turns a chunk's exponentials into weights. False: too many for this way.
static bool largest_by_lanes(const FvPlan* plan, const FvLook* look, int64_t r, int64_t chunks, const FvScratch* s,
                             int64_t k, float* values, int64_t* indices) {
    FvFew lanes, found;
    if (!best_lanes(s->tops + r * VL, plan->rows * VL, chunks, k, &lanes)) return false;
    const vf last = all(lanes.value[FEW]);
    found.length = 0;
    for (int64_t i = 0; i < lanes.length; i++) {
        const int64_t c = lanes.index[i] / VL, lane = lanes.index[i] % VL;
        const float share = s->shares[r * plan->chunks + c];
        const vf goal = exp_(last - all(s->bases[r * plan->chunks + c])) * all(share);
        const int64_t n = least(CHUNK_PANELS, look->panels - c * CHUNK_PANELS) * FV_PANEL;
        const float* tile = s->tiles + (c * plan->rows + r) * TILE_STRIDE + lane;
        for (int64_t from = 0; from < n; from += VL * VL) {
            const vf w = every_lane_th(tile + from, n - from) * all(share);
            uint32_t hits = at_least(w, goal) & above(w, all(0.0f));
            if (found.length + __builtin_popcount(hits) > FEW) return false;
            for (; hits; hits &= hits - 1) {
                const int64_t j = from + __builtin_ctz(hits) * VL;
                found.value[found.length] = tile[j] * share;
                found.index[found.length++] = key_of(look, c, j + lane);
            }
        }
    }
    close_few(&found);
    for (int64_t i = found.length; i < k; i++) values[i] = 0.0f, indices[i] = -1;
    for (int64_t i = 0; i < found.length; i++) {
        const int64_t at = rank_of(&found, i);
        if (at < k) values[at] = found.value[i], indices[at] = found.index[i];
    }
    return true;
}

// Fills k places, best first, -1 where no key has a weight above 0.
static void largest_of_row(const FvPlan* plan, const FvLook* look, int64_t r, const FvScratch* s, int64_t k,
                           float* values, int64_t* indices) {
    const int64_t chunks = (look->panels + CHUNK_PANELS - 1) / CHUNK_PANELS;
    if (k <= FEW && largest_by_lanes(plan, look, r, chunks, s, k, values, indices)) return;
    int64_t length = 0;
    for (int64_t c = 0; c < chunks; c++) {
        const vf share = all(s->shares[r * plan->chunks + c]);
        const float* tile = s->tiles + (c * plan->rows + r) * TILE_STRIDE;
        const int64_t n = least(CHUNK_PANELS, look->panels - c * CHUNK_PANELS) * FV_PANEL;
        for (int64_t at = 0; at < n; at += VL) {
            const vf w = load(tile + at) * share;
            uint32_t hits = above(w, all(length == k ? values[k - 1] : 0.0f));
            for (; hits; hits &= hits - 1) {
                const int64_t j = at + __builtin_ctz(hits);
                const float value = tile[j] * share[0];
                if (length == k && !(value > values[k - 1])) continue;
                length = place(values, indices, length, k, value, key_of(look, c, j));
            }
        }
    }
    for (; length < k; length++) values[length] = 0.0f, indices[length] = -1;
}
