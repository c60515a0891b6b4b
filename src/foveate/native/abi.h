// What crosses from Python to C: one struct of pointers, sizes and strides. native/abi.py mirrors it field by field.
//
// Axes: B batch, H query heads, G key/value heads (G divides H), Q queries, K keys, D head width, V value width.
// Strides count elements; the last axis of q, k, v always has stride 1. Results are contiguous.
#pragma once
#include <stdint.h>

enum { FV_F32 = 0, FV_BF16 = 1, FV_F16 = 2 };             // dtypes
enum { FV_NAN_ROWS = 1, FV_ODD_VALUES = 2 };              // what a call reports: bits of its status
enum { FV_NO_MEMORY = -1, FV_BAD_CALL = -2 };             // or why it failed
enum { FV_PANEL = 64 };                                   // keys per word of a mask list, and per packed panel

typedef struct {
    int64_t rows, columns;  // the grid, no finer than the map
    int64_t mean;           // 0: maxima, into float (B,H,rows,columns); 1: sums, into double
    void* out;
} FvPooled;

typedef struct {
    int64_t size;                                  // sizeof(FvCall), so that a stale library is noticed
    int64_t B, H, G, Q, K, D, V;
    int64_t first_row, all_rows;                   // the Q rows given are rows first_row.. of all_rows
    const void *q, *k, *v;                         // v NULL: no output is wanted
    int64_t q_stride[3], k_stride[3], v_stride[3];
    int64_t dtype, threads, isa;
    double scale, softcap;                         // softcap 0: none
    const double* sinks;                           // (H) or NULL
    const double* known;                           // (B,H,Q) log-sum-exp of rows whose other keys are not here, or NULL
    const int32_t *lo, *hi;                        // keys [lo, hi) of each row, or NULL
    int64_t span_stride[3];                        // (B, H, Q)
    // Lists: blocks of list_rows rows; block i holds the panels list_start[i] .. list_start[i+1], ascending, each
    // with the place of its first word (one per row, bit j = key j of the panel), or -1 where all its keys are live.
    const int64_t* list_start;
    const int32_t* list_panel;
    const int64_t* list_word;
    const uint64_t* words;
    int64_t list_rows, list_stride[2];             // blocks between batches, between heads
    const float* table;                            // bias by distance, entry j - i + all_rows - 1, or NULL
    int64_t table_stride[2];
    const void* bias;                              // dense bias, or NULL
    int64_t bias_stride[4], bias_dtype;
    double bias_hides;                             // entries of either at or below it hide their key; NaN: none do
    void* out;                                     // (B,H,Q,V) in the inputs' dtype
    double* lse;                                   // (B,H,Q) each, or NULL
    float* entropy;
    float* top_values;                             // (B,H,Q,top)
    int64_t* top_indices;
    int64_t top;
    double* received;                              // (B,H,K)
    FvPooled* pooled;
    int64_t n_pooled;
    int64_t* passed_over;                          // counts panels left out by far.h, once per tile of rows
} FvCall;
