// One set of instructions' kernels: packing, and a slice of rows. Compiled once per set, FV_NAME tells them apart.
#include "columns.h"
#include "far.h"
#include "few.h"
#include "largest.h"

namespace {

int pack(const FvPlan* plan, FvHead* head, int64_t first, int64_t last, FvScratch* s) {
    const FvCall* call = plan->call;
    for (int64_t p = first; p < last; p++)
        pack_key_panel(call, head->b, head->g, p * FV_PANEL, plan->pairs, plan->units,
                       head->keys + p * FV_PANEL * plan->units, s->room);
    const int64_t stop = least(last * FV_PANEL, call->K);
    float* to = plan->direct_values ? NULL : head->values;
    const bool sound = !call->v || pack_values(call, head->b, head->g, first * FV_PANEL, stop, plan->width, to);
    for (int64_t p = first; call->table && p < last; p++) measure_panel(plan, head, p);
    return sound ? 0 : FV_ODD_VALUES;
}

// Whether a row whose exponentials are all 0 may nevertheless see a key: then its scores have overflowed.
bool sees_a_key(const FvPlan* plan, const FvLook* look, int64_t r, float* room) {
    const FvCall* call = plan->call;
    for (int64_t i = 0; i < look->panels; i++) {
        const uint64_t word = word_of(call, look, r, i);
        if (!word) continue;
        if (!call->bias && !call->table) return true;
        const float* bias = bias_of(call, look, r, (int64_t)look->panel[i] * FV_PANEL, room);
        for (int j = 0; j < FV_PANEL; j++)
            if ((word >> j & 1) && !(bias[j] <= (float)call->bias_hides)) return true;
    }
    return false;
}

// A row's results once all keys have been seen. Returns its log-sum-exp.
double finish(const FvPlan* plan, const FvLook* look, const FvSums* sums, int64_t r, FvScratch* s, int* status) {
    const FvCall* call = plan->call;
    const double peak = sums->peak[r], sink = call->sinks ? call->sinks[look->h] : -INFINITY;
    double total = sums->mass[r] + (call->sinks ? exp(sink - peak) : 0.0);
    double lse = peak + log(total), entropy = ((lse - peak) * sums->mass[r] - sums->moment[r]) / total;
    if (call->sinks && sink == -INFINITY && sums->mass[r] == 0.0) total = 0.0;
    if (total == 0.0) {
        const bool lost = sees_a_key(plan, look, r, s->room);
        lse = lost ? NAN : -INFINITY, entropy = lost ? NAN : 0.0;
        total = lost ? NAN : 1.0;
    }
    if (lse != lse || (call->entropy && entropy != entropy)) *status |= FV_NAN_ROWS;
    const int64_t row = (look->b * call->H + look->h) * call->Q + look->first + r;
    if (call->known && lse == lse) {
        lse = call->known[row];
        if (lse != lse) *status |= FV_NAN_ROWS;
    }
    if (call->lse) call->lse[row] = lse;
    if (call->entropy) call->entropy[row] = (float)entropy;
    if (call->v) {
        float* out = s->out + r * plan->width;
        for (int64_t c = 0; c < plan->width; c += VL) store(out + c, load(out + c) / all((float)total));
        from_floats(out, call->dtype, call->V, (char*)call->out + row * call->V * bytes_of(call->dtype));
    }
    return lse;
}

// What turns each chunk's exponentials into weights: exp(base - lse), at most 1, as a weight is.
void share_out(const FvPlan* plan, int64_t r, int64_t chunks, double lse, FvScratch* s) {
    const float *bases = s->bases + r * plan->chunks;
    float* shares = s->shares + r * plan->chunks;
    const double safe = lse == -INFINITY ? 0.0 : lse;
    for (int64_t c = 0; c < chunks; c++) {  // bases are running maxima, and seldom change
        const double less = (double)bases[c] - safe;
        shares[c] = c && bases[c] == bases[c - 1] ? shares[c - 1] : (float)exp(less > 0.0 ? 0.0 : less);
    }
}

int block(const FvPlan* plan, const FvHead* head, FvLook* look, const FvSlope* slope, FvPart* part, FvScratch* s) {
    const FvCall* call = plan->call;
    FvSums sums;
    int status = 0;
    for (int64_t r = 0; r < look->n; r++) {
        sums.mass[r] = sums.moment[r] = 0.0;
        sums.peak[r] = call->sinks ? (float)call->sinks[look->h] : -INFINITY;
    }
    look_at(plan, look, s->list);
    if (slope->varies) pass_over(plan, head, look, slope, s);
    pack_queries(call, look->b, look->h, look->first, look->n, plan->pairs, plan->units, (float)call->scale, s->queries,
                 s->room);
    if (call->v) memset(s->out, 0, (size_t)(look->n * plan->width) * 4);
    all_chunks(plan, head, look, &sums, s);
    const int64_t chunks = (look->panels + CHUNK_PANELS - 1) / CHUNK_PANELS;
    for (int64_t r = 0; r < look->n; r++) {
        const double lse = finish(plan, look, &sums, r, s, &status);
        if (!plan->keep) continue;
        share_out(plan, r, chunks, lse, s);
        if (!call->top) continue;
        const int64_t row = (look->b * call->H + look->h) * call->Q + look->first + r;
        largest_of_row(plan, look, r, s, call->top, call->top_values + row * call->top, call->top_indices + row * call->top);
    }
    if (plan->columns && !(status & FV_NAN_ROWS)) columns_of_block(plan, look, part, s);
    return status;
}

int rows(const FvPlan* plan, const FvHead* head, int64_t h, int64_t first, int64_t last, FvPart* part, FvScratch* s) {
    const FvCall* call = plan->call;
    int status = 0;
    FvLook look;
    look.b = head->b, look.h = h;
    look.table = table_of(call, look.b, look.h, s->table);
    const FvSlope slope = slope_of(call, &look, s->peaks);
    for (int64_t row = first; row < last;) {
        int64_t stop = least(row + plan->rows, last);
        if (call->list_start) stop = least(stop, row + call->list_rows - row % call->list_rows);
        look.first = row, look.n = stop - row;
        status |= block(plan, head, &look, &slope, part, s);
        row = stop;
    }
    return status;
}

}  // namespace

#define FV_JOIN_(a, b) a##b
#define FV_JOIN(a, b) FV_JOIN_(a, b)
#define FV_TEXT_(a) #a
#define FV_TEXT(a) FV_TEXT_(a)
extern "C" const FvIsa FV_JOIN(fv_isa_, FV_NAME);
extern "C" const FvIsa FV_JOIN(fv_isa_, FV_NAME) = {FV_TEXT(FV_NAME), VL, pack, rows, few_rows};
