// Sums and maxima over rows: attention received, and thumbnails. A block's kept exponentials become weights here.
#pragma once
#include "rows.h"

// Rows from .. to of a block: for each live key the sum and the maximum of their weights, in s->line_sum, s->line_max.
static void lines(const FvPlan* plan, const FvLook* look, int64_t from, int64_t to, FvScratch* s) {
    for (int64_t i = 0; i < look->panels; i++) {
        const int64_t c = i / CHUNK_PANELS;
        const float* tile = s->tiles + c * plan->rows * TILE_STRIDE + i % CHUNK_PANELS * FV_PANEL;
        for (int at = 0; at < FV_PANEL; at += 4 * VL) {
            vf sum[4] = {}, top[4] = {};
            for (int64_t few = from; few < to; few += 8) {  // sums of sums, which round less
                vf part[4] = {};
                for (int64_t r = few; r < least(few + 8, to); r++) {
                    const vf share = all(s->shares[r * plan->chunks + c]);
                    for (int j = 0; j < 4; j++) {
                        const vf w = load(tile + r * TILE_STRIDE + at + j * VL) * share;
                        part[j] += w;
                        top[j] = larger(top[j], w);
                    }
                }
                for (int j = 0; j < 4; j++) sum[j] += part[j];
            }
            const int64_t key = (int64_t)look->panel[i] * FV_PANEL + at;
            for (int j = 0; j < 4; j++) {
                store(s->line_sum + key + j * VL, sum[j]);
                store(s->line_max + key + j * VL, top[j]);
            }
        }
    }
}

// The bin of place i when `size` places share `bins` bins, and the first place of a bin.
FV_INLINE int64_t bin_of(int64_t i, int64_t bins, int64_t size) { return i * bins / size; }
FV_INLINE int64_t first_of(int64_t bin, int64_t bins, int64_t size) { return (bin * size + bins - 1) / bins; }

static float best_in(const float* x, int64_t n) {
    vf best = {};
    int64_t i = 0;
    for (; i + VL <= n; i += VL) best = larger(best, load(x + i));
    float top = top_of(best);
    for (; i < n; i++) top = x[i] > top ? x[i] : top;
    return top;
}

static float total_in(const float* x, int64_t n) {
    vf sum = {};
    int64_t i = 0;
    for (; i + VL <= n; i += VL) sum += load(x + i);
    float total = sum_of(sum);
    for (; i < n; i++) total += x[i];
    return total;
}

// Folds the lines over keys [from, to) into one row of a grid.
static void fold(const FvCall* call, const FvPooled* grid, void* into, int64_t from, int64_t to, const FvScratch* s) {
    for (int64_t bin = bin_of(from, grid->columns, call->K); from < to; bin++) {
        const int64_t stop = least(to, first_of(bin + 1, grid->columns, call->K));
        if (grid->mean) {
            ((double*)into)[bin] += (double)total_in(s->line_sum + from, stop - from);
        } else {
            const float top = best_in(s->line_max + from, stop - from);
            float* at = (float*)into + bin;
            *at = top > *at ? top : *at;
        }
        from = stop;
    }
}

// Adds a block of rows to its slice's sums. Cuts it where any grid's row ends.
static void columns_of_block(const FvPlan* plan, const FvLook* look, FvPart* part, FvScratch* s) {
    const FvCall* call = plan->call;
    for (int64_t from = 0; from < look->n;) {
        const int64_t row = call->first_row + look->first + from;
        int64_t to = look->n;
        for (int64_t g = 0; g < call->n_pooled; g++) {
            const FvPooled* grid = call->pooled + g;
            const int64_t bin = bin_of(row, grid->rows, call->all_rows);
            to = least(to, from + first_of(bin + 1, grid->rows, call->all_rows) - row);
        }
        lines(plan, look, from, to, s);
        for (int64_t i = 0; i < look->panels;) {
            int64_t end = i + 1;
            while (end < look->panels && look->panel[end] == look->panel[end - 1] + 1) end++;
            const int64_t key = (int64_t)look->panel[i] * FV_PANEL;
            const int64_t stop = least(call->K, ((int64_t)look->panel[end - 1] + 1) * FV_PANEL);
            if (part->received)
                for (int64_t j = key; j < stop; j++) part->received[j] += (double)s->line_sum[j];
            for (int64_t g = 0; g < call->n_pooled; g++) {
                const FvPooled* grid = call->pooled + g;
                const int64_t at = (bin_of(row, grid->rows, call->all_rows) - part->first[g]) * grid->columns;
                char* into = (char*)part->pooled[g] + at * (grid->mean ? 8 : 4);
                fold(call, grid, into, key, stop, s);
            }
            i = end;
        }
        from = to;
    }
}
