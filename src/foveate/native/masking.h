// Which keys a row block looks at: its panels, and for each row and panel a word of 64 bits, bit j = key j may be seen.
#pragma once
#include "gemm.h"
#include "kernel.h"

typedef struct {
    int64_t b, h, first, n;                  // rows first .. first + n of one head
    const float* table;                      // the head's bias by distance, entry j - i, and 64 zeros; or NULL
    int64_t lo[64], hi[64];                  // each row's interval of keys
    int64_t all_lo, all_hi;                  // the keys that every row's interval holds
    const int32_t* panel;                    // the panels, ascending
    const int64_t* word;                     // where each one's words start, -1: none hidden; NULL: no list
    int64_t panels;
    const uint8_t* near;                     // each one's tiles of rows that need it, as bits; NULL: all do
    int64_t row_in_block;                    // of the list's block
} FvLook;

FV_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
FV_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Bits for the keys [lo, hi) within the panel that starts at key `start`.
FV_INLINE uint64_t interval_word(int64_t lo, int64_t hi, int64_t start) {
    const int64_t from = most(lo - start, 0), to = least(hi - start, FV_PANEL);
    if (to <= from) return 0;
    return (to == FV_PANEL ? ~0ull : (1ull << to) - 1) & ~((1ull << from) - 1);
}

// The bits in `near` of all tiles that n rows make.
FV_INLINE int all_tiles(int64_t n) { return (1 << (n + MR - 1) / MR) - 1; }

FV_INLINE uint64_t word_of(const FvCall* call, const FvLook* look, int64_t r, int64_t i) {
    if (look->near && !(look->near[i] >> r / MR & 1)) return 0;
    const uint64_t word = interval_word(look->lo[r], look->hi[r], (int64_t)look->panel[i] * FV_PANEL);
    if (!look->word || look->word[i] < 0) return word;
    return word & call->words[look->word[i] + look->row_in_block + r];
}

// Fills `look` for rows first .. first + n, which lie in one block of the list; room for all panels in `room`.
static void look_at(const FvPlan* plan, FvLook* look, int32_t* room) {
    const FvCall* call = plan->call;
    int64_t low = call->K, high = 0;
    look->all_lo = 0, look->all_hi = call->K;
    for (int64_t r = 0; r < look->n; r++) {
        look->lo[r] = 0, look->hi[r] = call->K;
        if (call->lo) {
            const int64_t* s = call->span_stride;
            const int64_t at = look->b * s[0] + look->h * s[1] + (look->first + r) * s[2];
            look->lo[r] = most(call->lo[at], 0), look->hi[r] = least(call->hi[at], call->K);
        }
        look->all_lo = most(look->all_lo, look->lo[r]), look->all_hi = least(look->all_hi, look->hi[r]);
        if (look->lo[r] < look->hi[r]) low = least(low, look->lo[r]), high = most(high, look->hi[r]);
    }
    const int64_t from = low / FV_PANEL, to = (high + FV_PANEL - 1) / FV_PANEL;
    look->word = NULL, look->panels = 0, look->panel = room, look->near = NULL;
    if (call->list_start) {
        const int64_t block = look->first / call->list_rows + look->b * call->list_stride[0] + look->h * call->list_stride[1];
        look->row_in_block = look->first % call->list_rows;
        const int64_t start = call->list_start[block], stop = call->list_start[block + 1];
        look->panel = call->list_panel + start, look->word = call->list_word + start, look->panels = stop - start;
        return;
    }
    for (int64_t p = from; p < to; p++) room[look->panels++] = (int32_t)p;
}
