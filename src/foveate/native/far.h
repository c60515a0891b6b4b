// Keys that a bias by distance puts so far below a row's others that nothing of them is left in the result: their
// panels are passed over, as if a mask hid them.
//
// For a tile of rows two things are known beforehand. No score in a panel exceeds |q| |k| + b, with the longest query of
// the tile, the longest key of the panel and the largest bias between them (Cauchy and Schwarz). And of each row one
// visible key a is looked at, where the bias is large. So a weight in the panel is at most exp(x) w(a) in every row,
// x = |q| |k| + b less the lowest of these s(a). The panel is passed over where x is below
//
//   -104, in any case: such a weight is less than 2^-150 of its row's largest. Float32 knows no number so small, a plain
//     softmax makes it 0, and every statistic does without it.
//   -(log K + 26 log 2 + max(0, log |v| - log |v(a)|)), where only the output is wanted: |v| is the largest number among
//     the panel's values, |v(a)| the smallest among those of a. Then all that is passed over changes a number of the
//     output by no more than 2^-26 of w(a) v(a), one of the products it sums, and 2^-26 of itself: quarters of a
//     rounding, whatever the values are. Where a value of a is 0, only the first rule is left.
//
// Nothing is passed over where a bound is NaN or large (long vectors, overflow), nor where the bias varies too little.
#pragma once
#include "rows.h"

static const double NOTHING_LEFT = 104.0, TWENTY_SIX_BITS = 18.03;
static const double SLACK = 1.0 / 1024;      // float32 sums of up to 1,024 products err by less, of |q| |k|
static const float LOST = 1024 * 0x1p-100f;  // more than the squares in a vector's length lose by underflow

enum { WINDOW = FV_PANEL + MR - 1 };  // distances between a tile of rows and a panel of keys

typedef struct {         // a head's bias by distance
    const float* peaks;  // peaks[j - i]: the largest of the WINDOW entries from there on
    int64_t peak;        // the first distance where it is largest
    double margin;       // the least by which anything passed over lies below
    bool values;         // the second rule holds
    bool varies;         // enough for anything to be passed over
} FvSlope;

typedef struct {          // what is known of a tile of rows
    double query_length;  // the longest
    double score;         // the lowest s(a)
    double value_log;     // the lowest log |v(a)|
} FvAnchor;

FV_INLINE double least_of(double a, double b) { return a < b ? a : b; }
FV_INLINE double most_of(double a, double b) { return a > b ? a : b; }

// The largest and the least of n >= 1 numbers. False: there is a NaN among them.
static bool range_of(const float* x, int64_t n, float* low, float* high) {
    vf smallest = all(x[0]), largest = smallest;
    uint32_t numbers = ~0u;
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        const vf y = load(x + i);
        numbers &= at_least(y, y);
        smallest = smaller(smallest, y), largest = larger(largest, y);
    }
    *low = -top_of(-smallest), *high = top_of(largest);
    bool sound = (~numbers & ((1ull << VL) - 1)) == 0;
    for (; i < n; i++) {
        sound &= x[i] == x[i];
        *low = x[i] < *low ? x[i] : *low, *high = x[i] > *high ? x[i] : *high;
    }
    return sound;
}

FV_INLINE bool output_only(const FvCall* call) {
    return call->v && !call->lse && !call->entropy && !call->top && !call->received && !call->n_pooled;
}

// For each of n numbers the largest of the WINDOW from it on, fewer at the end. `peaks` has room for WINDOW more.
static void peaks_of(const float* x, int64_t n, float* peaks) {
    memcpy(peaks, x, (size_t)n * 4);
    for (int64_t i = n; i < n + WINDOW + VL; i++) peaks[i] = -INFINITY;
    for (int64_t have = 1; have < WINDOW;) {  // each is the largest of `have`
        const int64_t step = least(have, WINDOW - have);
        for (int64_t i = 0; i < n; i += VL) store(peaks + i, larger(load(peaks + i), load(peaks + i + step)));
        have += step;
    }
}

static FvSlope slope_of(const FvCall* call, const FvLook* look, float* room) {
    FvSlope slope = {NULL, 0, NOTHING_LEFT, output_only(call), false};
    if (!look->table) return slope;
    if (slope.values) slope.margin = least_of(NOTHING_LEFT, log((double)call->K) + TWENTY_SIX_BITS);
    const float* first = look->table - (call->Q - 1);
    const int64_t n = call->Q + call->K - 1;
    float low, high;
    if (!range_of(first, n, &low, &high) || !((double)high - (double)low > slope.margin)) return slope;
    peaks_of(first, n, room);
    slope.peaks = room + call->Q - 1;
    while (*first != high) first++;
    slope.peak = first - look->table;
    slope.varies = true;
    return slope;
}

static double product_of(const float* a, const float* b, int64_t n) {
    vf sum = {};
    int64_t d = 0;
    for (; d + VL <= n; d += VL) sum = fma_(load(a + d), load(b + d), sum);
    float rest = sum_of(sum);
    for (; d < n; d++) rest += a[d] * b[d];
    return rest;
}

// The longest key of a packed panel. Infinite where one holds NaN or overflows.
static float longest_key(const FvPlan* plan, const float* panel) {
    float longest = 0.0f;
    for (int c = 0; c < FV_PANEL; c += VL) {
        vf sum = all(LOST);
        for (int64_t d = 0; d < plan->units; d++) {
            const vf x = load(panel + d * FV_PANEL + c);
            if (plan->pairs) {
                const vf low = (vf)((vi)x << 16), high = (vf)((vi)x & (int32_t)0xffff0000);
                sum = fma_(low, low, fma_(high, high, sum));
            } else {
                sum = fma_(x, x, sum);
            }
        }
        if (~at_least(all(3e38f), sum) & ((1ull << VL) - 1)) return INFINITY;
        const float top = top_of(sum);
        longest = top > longest ? top : longest;
    }
    return sqrtf(longest);
}

// What is asked of a panel: its longest key, and the logarithm of the largest size among its values.
static void measure_panel(const FvPlan* plan, FvHead* head, int64_t p) {
    const FvCall* call = plan->call;
    head->key_length[p] = longest_key(plan, head->keys + p * FV_PANEL * plan->units);
    if (!output_only(call)) return;
    vf best = {};
    float rest = 0.0f;
    for (int64_t j = p * FV_PANEL; j < least((p + 1) * FV_PANEL, call->K); j++) {
        const float* v = head->value + j * head->value_stride;
        int64_t d = 0;
        for (; d + VL <= call->V; d += VL) best = larger(best, size_of(load(v + d)));
        for (; d < call->V; d++) rest = fabsf(v[d]) > rest ? fabsf(v[d]) : rest;
    }
    head->value_log[p] = logf((float)most_of(rest, top_of(best)));
}

// log of the smallest size among a key's values.
static float least_value_log(const FvCall* call, const FvHead* head, int64_t j) {
    const float* v = head->value + j * head->value_stride;
    float low = INFINITY;
    for (int64_t d = 0; d < call->V; d++) low = fabsf(v[d]) < low ? fabsf(v[d]) : low;
    return logf(low);
}

static bool sees(const FvCall* call, const FvLook* look, int64_t r, int64_t j) {
    if (!look->word) return j >= look->lo[r] && j < look->hi[r];
    int64_t from = 0, to = look->panels;  // the panel's place, by halving
    while (to - from > 1) {
        const int64_t middle = (from + to) / 2;
        if (look->panel[middle] <= j / FV_PANEL) from = middle;
        else to = middle;
    }
    return to > from && look->panel[from] == j / FV_PANEL && (word_of(call, look, r, from) >> j % FV_PANEL & 1);
}

// Of three keys that row r may see the one of largest bias: where the bias is largest, or the first, or the last. -1: none.
static int64_t anchor_of(const FvCall* call, const FvLook* look, int64_t r, const FvSlope* slope) {
    const int64_t row = look->first + r, first = look->lo[r], last = look->hi[r] - 1;
    const int64_t tried[] = {least(most(row + slope->peak, first), last), first, last};
    int64_t best = -1;
    for (int64_t j : tried)
        if (sees(call, look, r, j) && (best < 0 || look->table[j - row] > look->table[best - row])) best = j;
    return best;
}

// Takes row r into what is known of its tile. False: nothing is known of it.
static bool anchor_row(const FvPlan* plan, const FvHead* head, const FvLook* look, int64_t r, const FvSlope* slope,
                       float* room, FvAnchor* anchor) {
    const FvCall* call = plan->call;
    if (look->lo[r] >= look->hi[r]) return true;  // it sees no key
    const int64_t row = look->first + r, j = anchor_of(call, look, r, slope);
    if (j < 0) return false;
    const char *from = place_of(call->q, call->dtype, call->q_stride, look->b, look->h, row),
               *to = place_of(call->k, call->dtype, call->k_stride, look->b, head->g, j);
    const float* q = units_of(from, call->dtype, call->D, 0, room);
    const float* k = units_of(to, call->dtype, call->D, 0, room + call->D);
    const double length = sqrt(product_of(q, q, call->D) + LOST), scale = fabs(call->scale), cap = fabs(call->softcap);
    double score = call->scale * product_of(q, k, call->D) - SLACK * scale * length * head->key_length[j / FV_PANEL];
    if (cap != 0) score = cap * tanh(score / cap) - SLACK * cap;
    score += look->table[j - row];
    if (score != score) return false;
    anchor->query_length = most_of(anchor->query_length, length);
    anchor->score = least_of(anchor->score, score);
    if (slope->values) anchor->value_log = least_of(anchor->value_log, least_value_log(call, head, j));
    return true;
}

// Whether the tile of rows that ends with row `last` of the call gets nothing from panel p. No comparison holds with NaN.
FV_INLINE bool nothing_from(const FvCall* call, const FvHead* head, int64_t p, int64_t last, const FvSlope* slope,
                            const FvAnchor* anchor) {
    double reach = anchor->query_length * head->key_length[p] * fabs(call->scale) * (1 + SLACK), margin = slope->margin;
    if (call->softcap != 0) reach = least_of(reach, fabs(call->softcap) * (1 + SLACK));
    if (slope->values) margin = least_of(NOTHING_LEFT, margin + most_of(0.0, head->value_log[p] - anchor->value_log));
    return reach + slope->peaks[p * FV_PANEL - last] < anchor->score - margin;
}

// Takes panels out of `look` that no row of it needs, and marks which tiles need the others.
static void pass_over(const FvPlan* plan, const FvHead* head, FvLook* look, const FvSlope* slope, FvScratch* s) {
    const FvCall* call = plan->call;
    int64_t passed = 0, kept = 0;
    memset(s->near, 0, (size_t)look->panels);
    for (int64_t from = 0, t = 0; from < look->n; from += MR, t++) {
        const int64_t to = least(from + MR, look->n);
        FvAnchor anchor = {0.0, INFINITY, INFINITY};
        bool known = true;
        for (int64_t r = from; r < to; r++) known = known && anchor_row(plan, head, look, r, slope, s->room, &anchor);
        for (int64_t i = 0; i < look->panels; i++) {
            const bool far = known && nothing_from(call, head, look->panel[i], look->first + to - 1, slope, &anchor);
            if (far) passed++;
            else s->near[i] |= (uint8_t)(1 << t);
        }
    }
    if (!passed) return;
    for (int64_t i = 0; i < look->panels; i++) {
        if (!s->near[i]) continue;
        s->near[kept] = s->near[i], s->list[kept] = look->panel[i];
        if (look->word) s->list_word[kept] = look->word[i];
        kept++;
    }
    look->panel = s->list, look->panels = kept, look->near = s->near;
    if (look->word) look->word = s->list_word;
    if (call->passed_over) __atomic_fetch_add(call->passed_over, passed, __ATOMIC_RELAXED);
}
