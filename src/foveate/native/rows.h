// A block of rows against all its keys, chunk by chunk: scores, bias, mask, exponentials against the running maximum,
// output. Where `keep` says so the exponentials stay, with the maximum each was taken against, for largest.h and columns.h.
#pragma once
#include "gemm.h"
#include "masking.h"
#include "pack.h"

typedef struct {
    double mass[64], moment[64];  // sum of exp(s - peak), and of exp(s - peak) (s - peak), over the keys so far
    float peak[64];               // the running maximum
} FvSums;

// The entries of a head's bias by distance that this call's rows need, as `table` in FvLook.
static const float* table_of(const FvCall* call, int64_t b, int64_t h, float* room) {
    if (!call->table) return NULL;
    const int64_t n = call->Q + call->K - 1, first = call->all_rows - call->first_row - call->Q;
    memcpy(room, call->table + b * call->table_stride[0] + h * call->table_stride[1] + first, (size_t)n * 4);
    memset(room + n, 0, FV_PANEL * 4);
    return room + call->Q - 1;
}

// A row's bias over the panel that starts at key `start`, as floats; in place where it lies so, else in `room`.
static const float* bias_of(const FvCall* call, const FvLook* look, int64_t r, int64_t start, float* room) {
    const int64_t n = least(FV_PANEL, call->K - start), row = look->first + r;
    if (look->table) return look->table + start - row;
    const int64_t* s = call->bias_stride;
    const int64_t at = look->b * s[0] + look->h * s[1] + row * s[2] + start * s[3];
    const char* from = (const char*)call->bias + at * bytes_of(call->bias_dtype);
    if (s[3] == 1 && n == FV_PANEL && call->bias_dtype == FV_F32) return (const float*)from;
    if (s[3] == 1) {
        to_floats(from, call->bias_dtype, n, room);
    } else {
        for (int64_t j = 0; j < n; j++) {
            if (s[3] == 0 && j) room[j] = room[0];
            else to_floats(from + j * s[3] * bytes_of(call->bias_dtype), call->bias_dtype, 1, room + j);
        }
    }
    for (int64_t j = n; j < FV_PANEL; j++) room[j] = 0.0f;
    return room;
}

// Whether the bias is added to the products while they are in registers.
FV_INLINE bool added_early(const FvPlan* plan) {
    return plan->call->table && plan->call->softcap == 0 && !plan->pairs;
}

// What comes between a panel's products and its exponentials, for one row. Returns the largest score of each lane.
template <int BIAS, int CAP>
FV_INLINE vf adjust_panel(const FvCall* call, float scale, const float* bias, uint64_t word, float* scores) {
    const vf nothing = all(-INFINITY), hides = all((float)call->bias_hides), cap = all((float)call->softcap);
    vf best = nothing;
    for (int c = 0; c < FV_PANEL; c += VL) {
        vf s = load(scores + c) * all(scale);
        if (CAP) s = tanh_(s / cap) * cap;
        if (BIAS) {
            const vf b = load(bias + c);
            s = keep(at_least(hides, b), nothing, s + b);
        }
        s = keep((uint32_t)(word >> c), s, nothing);
        store(scores + c, s);
        best = larger(best, s);
    }
    return best;
}

// The same for all panels of a chunk; `words` NULL: none of their keys is hidden.
static vf adjust(const FvPlan* plan, const FvLook* look, int64_t r, int64_t i, int64_t panels, const uint64_t* words,
                 float* scores, float* room) {
    const FvCall* call = plan->call;
    const bool biased = call->bias || (call->table && !added_early(plan));
    const float scale = plan->pairs ? (float)call->scale : 1.0f;
    vf best = all(-INFINITY);
    for (int64_t p = 0; p < panels; p++, scores += FV_PANEL) {
        const uint64_t word = words ? words[p] : ~0ull;
        const float* bias = biased ? bias_of(call, look, r, (int64_t)look->panel[i + p] * FV_PANEL, room) : room;
        vf top;
        if (call->softcap != 0) top = biased ? adjust_panel<1, 1>(call, scale, bias, word, scores)
                                             : adjust_panel<0, 1>(call, scale, bias, word, scores);
        else top = biased ? adjust_panel<1, 0>(call, scale, bias, word, scores)
                          : adjust_panel<0, 0>(call, scale, bias, word, scores);
        best = larger(best, top);
    }
    return best;
}

template <int MOMENT, int HOLES>
static void exponentials(float* scores, int64_t n, float peak, double* mass, double* moment) {
    const vf base = all(peak), floor = all(-150.0f);
    vf sum[4] = {}, weighted[4] = {};
    for (int64_t j = 0; j < n; j += 4 * VL)
        for (int c = 0; c < 4; c++) {
            vf x = load(scores + j + c * VL) - base;
            if (HOLES) x = larger(floor, x);  // keeps -inf out of the moment, and NaN in it
            const vf e = exp_(x);
            store(scores + j + c * VL, e);
            sum[c] += e;
            if (MOMENT) weighted[c] = fma_(e, x, weighted[c]);
        }
    *mass += (double)sum_of((sum[0] + sum[1]) + (sum[2] + sum[3]));
    if (MOMENT) *moment += (double)sum_of((weighted[0] + weighted[1]) + (weighted[2] + weighted[3]));
}

// The exponentials of one row's chunk. Its running sums, and its output so far, move to the new maximum.
static void weigh(const FvPlan* plan, FvSums* sums, int64_t r, vf best, int holes, float* scores, int64_t n, float* out) {
    const float top = top_of(best), old = sums->peak[r];
    if (!(top <= old)) {
        const double shrink = old == -INFINITY ? 0.0 : exp((double)old - (double)top);
        if (old != -INFINITY) sums->moment[r] = shrink * (sums->moment[r] + ((double)old - (double)top) * sums->mass[r]);
        sums->mass[r] *= shrink;
        if (out)
            for (int64_t c = 0; c < plan->width; c += VL) store(out + c, load(out + c) * all((float)shrink));
        sums->peak[r] = top;
    }
    const float base = sums->peak[r] == -INFINITY ? 0.0f : sums->peak[r];
    double *mass = &sums->mass[r], *moment = &sums->moment[r];
    if (!plan->call->entropy) exponentials<0, 0>(scores, n, base, mass, moment);
    else if (holes) exponentials<1, 1>(scores, n, base, mass, moment);
    else exponentials<1, 0>(scores, n, base, mass, moment);
}

// Products of a tile's rows with one panel.
static void products(const FvPlan* plan, const float* q, const float* k, const float* bias, int64_t rows, float* scores,
                     float* tops) {
#if defined(__AVX512BF16__)
    if (plan->pairs) {
#define FV_CALL(n) scores_of_bf16_panel<n>(q, k, plan->units, scores, TILE_STRIDE)
        FV_FOR_ROWS(rows, FV_CALL)
#undef FV_CALL
        return;
    }
#endif
#define FV_CALL(n) scores_of_panel<n>(q, k, plan->units, bias, scores, TILE_STRIDE, tops)
    FV_FOR_ROWS(rows, FV_CALL)
#undef FV_CALL
}

// Adds what a tile's weights read from the live panels of a chunk, runs of neighbours at once.
static void read_chunk(const FvPlan* plan, const FvHead* head, const FvLook* look, int64_t i, int64_t panels,
                       uint32_t live, int64_t rows, const float* weights, float* out) {
    for (int64_t p = 0; p < panels;) {
        if (!(live >> p & 1)) {
            p++;
            continue;
        }
        int64_t end = p + 1;
        while (end < panels && (live >> end & 1) && look->panel[i + end] == look->panel[i + end - 1] + 1) end++;
        const int64_t key = (int64_t)look->panel[i + p] * FV_PANEL;
        const int64_t keys = least((end - p) * FV_PANEL, plan->call->K - key);
        const float *from = weights + p * FV_PANEL, *v = head->value + key * head->value_stride;
#define FV_CALL(n) read_all_values<n>(from, TILE_STRIDE, v, head->value_stride, keys, out, plan->width)
        FV_FOR_ROWS(rows, FV_CALL)
#undef FV_CALL
        p = end;
    }
}

// One tile of up to 6 rows. Where `masked`, `words` hide what is not live, and what lies there may be anything.
static void tile_of_chunk(const FvPlan* plan, const FvLook* look, FvSums* sums, int64_t i, int64_t panels, int64_t row,
                          int64_t rows, const uint64_t (*words)[CHUNK_PANELS], int masked, float* tile, float* tops,
                          FvScratch* s) {
    const FvCall* call = plan->call;
    const int changes = plan->pairs || call->softcap != 0 || call->bias;
    for (int64_t r = 0; r < rows; r++) {
        float *scores = tile + r * TILE_STRIDE, *out = call->v ? s->out + (row + r) * plan->width : NULL;
        vf best = load(tops + r * VL);
        int holes = masked || call->bias || call->table;
        if (changes || masked) {
            best = adjust(plan, look, row + r, i, panels, masked ? words[r] : NULL, scores, s->room);
            store(tops + r * VL, best);
        }
        weigh(plan, sums, row + r, best, holes, scores, panels * FV_PANEL, out);
    }
}

// All keys of a block of rows: sums in `sums`, output (not yet divided) and kept exponentials in `s`.
static void all_chunks(const FvPlan* plan, const FvHead* head, const FvLook* look, FvSums* sums, FvScratch* s) {
    uint64_t words[MR][CHUNK_PANELS];
    const int64_t n = look->n;
    const float* early = added_early(plan) ? look->table - look->first : NULL;
    for (int64_t i = 0, chunk = 0; i < look->panels; i += CHUNK_PANELS, chunk++) {
        const int64_t panels = least(CHUNK_PANELS, look->panels - i);
        const int64_t start = (int64_t)look->panel[i] * FV_PANEL;
        const int64_t stop = ((int64_t)look->panel[i + panels - 1] + 1) * FV_PANEL;
        int masked = look->all_lo > start || look->all_hi < stop;
        if (look->word)
            for (int64_t p = 0; p < panels; p++) masked |= look->word[i + p] >= 0;
        if (look->near)
            for (int64_t p = 0; p < panels; p++) masked |= look->near[i + p] != all_tiles(n);
        float* tile = s->tiles + (plan->keep ? chunk * plan->rows * TILE_STRIDE : 0);
        float* tops = s->tops + (plan->keep ? chunk * plan->rows * VL : 0);
        uint32_t live[16];
        for (int64_t r = 0; r < n * VL; r += VL) store(tops + r, all(-INFINITY));
        for (int64_t row = 0, t = 0; row < n; row += MR, t++) {
            live[t] = masked ? 0 : ~0u;
            for (int64_t r = row; masked && r < least(n, row + MR); r++)
                for (int64_t p = 0; p < panels; p++)
                    if (word_of(plan->call, look, r, i + p)) live[t] |= 1u << p;
        }
        for (int64_t p = 0; p < panels; p++) {
            const int64_t at = (int64_t)look->panel[i + p] * FV_PANEL;
            const float* k = head->keys + at * plan->units;
            for (int64_t row = 0, t = 0; row < n; row += MR, t++)
                if (live[t] >> p & 1)
                    products(plan, s->queries + row * plan->units, k, early ? early + at - row : NULL, least(MR, n - row),
                             tile + row * TILE_STRIDE + p * FV_PANEL, tops + row * VL);
        }
        for (int64_t row = 0, t = 0; row < n; row += MR, t++) {
            const int64_t rows = least(MR, n - row);
            for (int64_t r = 0; masked && r < rows; r++)
                for (int64_t p = 0; p < panels; p++) words[r][p] = word_of(plan->call, look, row + r, i + p);
            if (live[t] || plan->keep)
                tile_of_chunk(plan, look, sums, i, panels, row, rows, words, masked, tile + row * TILE_STRIDE,
                              tops + row * VL, s);
            if (plan->call->v && live[t])
                read_chunk(plan, head, look, i, panels, live[t], rows, tile + row * TILE_STRIDE, s->out + row * plan->width);
        }
        if (plan->keep)
            for (int64_t r = 0; r < n; r++)
                s->bases[r * plan->chunks + chunk] = sums->peak[r] == -INFINITY ? 0.0f : sums->peak[r];
    }
}
