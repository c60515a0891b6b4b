// What the driver and the kernels of each set of instructions share.
#pragma once
#include "abi.h"

enum { CHUNK_PANELS = 4, CHUNK = CHUNK_PANELS * FV_PANEL, TILE_STRIDE = CHUNK + 16, MOST_LANES = 16 };

typedef struct {  // one call, prepared
    const FvCall* call;
    int64_t rows;        // of a block: how many share a pass over the keys
    int64_t panels;      // of 64 keys
    int64_t chunks;      // at most, of 4 panels
    int64_t units;       // of 4 bytes in a packed query or key
    int64_t width;       // of a row of values, padded
    int pairs;           // queries and keys are packed as pairs of bfloat16
    int keep;            // all tiles of a row block are kept, for `columns` or the largest weights
    int columns;         // something is summed over rows
    int direct_values;   // values are read where they lie
} FvPlan;

typedef struct {  // one key head, packed
    int64_t b, g;
    float *keys, *values;
    float *key_length, *value_log;  // of each panel, for far.h; NULL: there is no bias by distance
    int64_t value_stride;
    const float* value;
} FvHead;

typedef struct {  // what one slice of rows adds to sums over rows
    double* received;   // (K)
    void** pooled;      // for each grid, its rows from `first` on: float maxima or double sums
    int64_t* first;     // the first grid row of the slice
} FvPart;

typedef struct {  // one thread's own memory
    float *queries, *tiles, *tops, *bases, *shares, *out, *line_sum, *line_max, *room, *table, *peaks;
    int32_t* list;
    int64_t* list_word;
    uint8_t* near;
} FvScratch;

typedef struct {
    const char* name;
    int64_t lanes;
    int (*pack)(const FvPlan*, FvHead*, int64_t first_panel, int64_t last_panel, FvScratch*);  // 0, or FV_ODD_VALUES
    int (*rows)(const FvPlan*, const FvHead*, int64_t h, int64_t first, int64_t last, FvPart*, FvScratch*);
    int (*few)(const FvCall*, int64_t b, int64_t h, float* room);  // few.h; 0, or FV_ODD_VALUES
} FvIsa;
