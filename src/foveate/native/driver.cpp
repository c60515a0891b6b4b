// One call: chooses the instructions, shares the work out to threads, adds up what slices of rows have found.
//
// Threads are started for the call: a few microseconds each against milliseconds of work, nothing left behind that
// spins, forks badly or must be shut down. Slices and the order of every sum depend on the sizes alone, never on threads.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#if defined(FV_X86)
#include <cpuid.h>
#endif

extern "C" {
extern const FvIsa fv_isa_portable;
#if defined(FV_X86)
extern const FvIsa fv_isa_avx2, fv_isa_avx512, fv_isa_avx512bf16;
#endif
}

namespace {

const int64_t TILES_BYTES = 4 << 20;     // kept exponentials of a block of rows, at most: they belong into the caches
const int64_t WAVE_BYTES = 12 << 20;     // packed keys and partial sums at a time
const int64_t WORTH_A_THREAD = 4 << 20;  // multiplications
enum { MOST_SLICES = 16, MOST_ROWS = 48, FEWEST_ROWS = 6, MOST_THREADS = 256, PACK_STEP = 16, FEW = 4 };

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
int64_t up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Takes pieces out of one block of memory, each on a cache line of its own. With `base` NULL it only counts.
struct Carver {
    char* base;
    size_t used;
    template <typename T>
    T* take(int64_t n) {
        T* piece = base ? (T*)(base + used) : NULL;
        used += (size_t)up(n * (int64_t)sizeof(T), 64);
        return piece;
    }
};

// Whether the processor has a set of instructions and the system keeps its registers; asked of both themselves.
int runs_here(int isa) {
#if defined(FV_X86)
    unsigned a, b, c, d, low, high;
    if (isa == 0) return 1;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
    if (~c & (fma | osxsave | avx | f16c)) return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (low & 6) != 6 || !(b >> 5 & 1)) return 0;
    if (isa == 1) return 1;
    const unsigned f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31;
    if ((low & 0xe6) != 0xe6 || (~b & (f | dq | bw | vl))) return 0;
    return isa == 2 || (isa == 3 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1));
#endif
    return isa == 0;
}

const FvIsa* isa_of(int64_t which) {
#if defined(FV_X86)
    if (which == 1) return &fv_isa_avx2;
    if (which == 2) return &fv_isa_avx512;
    if (which == 3) return &fv_isa_avx512bf16;
#endif
    return &fv_isa_portable;
}

struct Meeting {  // of threads
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t here, round, counted;
};

struct Job {
    const FvCall* call;
    const FvIsa* isa;
    FvPlan plan;
    int64_t heads;              // key heads in a wave
    int64_t slice, slices;      // rows in a slice, slices of a head
    int64_t threads, waves;
    int64_t part_bytes;
    FvHead* head;               // of the wave
    FvPart* part;               // of the wave: (heads, M, slices)
    char* memory;
    FvScratch* scratch;
    int64_t next[3];            // the next task of each phase, taken atomically
    int status;
    Meeting* meeting;
};

int64_t shared(const Job* job) { return job->call->H / job->call->G; }
int64_t wave_heads(const Job* job, int64_t wave) {
    return least(job->heads, job->call->B * job->call->G - wave * job->heads);
}

void plan_scratch(const Job* job, Carver* c, FvScratch* s) {
    const FvPlan* p = &job->plan;
    const int64_t chunks = p->keep ? p->chunks : 1;
    const int64_t keys = p->panels * FV_PANEL;
    s->queries = c->take<float>(up(p->rows, 6) * p->units);
    s->tiles = c->take<float>(chunks * p->rows * TILE_STRIDE);
    s->tops = c->take<float>(chunks * p->rows * MOST_LANES);
    s->bases = c->take<float>(p->keep ? p->rows * p->chunks : 0);
    s->shares = c->take<float>(p->keep ? p->rows * p->chunks : 0);
    s->out = c->take<float>(p->rows * p->width);
    s->line_sum = c->take<float>(p->columns ? keys : 0);
    s->line_max = c->take<float>(p->columns ? keys : 0);
    s->room = c->take<float>(FV_PANEL * p->units + most(job->call->D, FV_PANEL) + 16);
    s->table = c->take<float>(job->call->table ? job->call->Q + job->call->K + FV_PANEL : 0);
    s->peaks = c->take<float>(job->call->table ? job->call->Q + job->call->K + 2 * FV_PANEL : 0);
    s->list = c->take<int32_t>(p->panels + 1);
    s->list_word = c->take<int64_t>(job->call->table && job->call->list_start ? p->panels : 0);
    s->near = c->take<uint8_t>(job->call->table ? p->panels : 0);
}

// Grid rows [first, last] that rows from .. to of this call fall into.
void grid_rows(const FvCall* call, const FvPooled* grid, int64_t from, int64_t to, int64_t* first, int64_t* last) {
    *first = (call->first_row + from) * grid->rows / call->all_rows;
    *last = (call->first_row + to - 1) * grid->rows / call->all_rows;
}

void plan_part(const Job* job, int64_t slice, Carver* c, FvPart* part) {
    const FvCall* call = job->call;
    const int64_t from = slice * job->slice, to = least(call->Q, from + job->slice);
    double* received = call->received ? c->take<double>(call->K) : NULL;
    void** pooled = c->take<void*>(call->n_pooled);
    int64_t* first = c->take<int64_t>(call->n_pooled);
    for (int64_t g = 0; g < call->n_pooled; g++) {
        int64_t low, high;
        grid_rows(call, call->pooled + g, from, to, &low, &high);
        const int64_t n = (high - low + 1) * call->pooled[g].columns;
        void* piece = call->pooled[g].mean ? (void*)c->take<double>(n) : (void*)c->take<float>(n);
        if (c->base) pooled[g] = piece, first[g] = low;
    }
    if (part) part->received = received, part->pooled = pooled, part->first = first;
}

void plan_wave(Job* job, Carver* c) {
    const FvPlan* p = &job->plan;
    for (int64_t i = 0; i < job->heads; i++) {
        FvHead head;
        memset(&head, 0, sizeof head);
        head.keys = c->take<float>(p->panels * FV_PANEL * p->units);
        head.values = c->take<float>(p->direct_values ? 0 : job->call->K * p->width);
        if (job->call->table) {
            head.key_length = c->take<float>(p->panels);
            head.value_log = c->take<float>(p->panels);
        }
        if (c->base) job->head[i] = head;
    }
    if (!p->columns) return;
    for (int64_t i = 0; i < job->heads * shared(job); i++)
        for (int64_t s = 0; s < job->slices; s++) plan_part(job, s, c, c->base ? &job->part[i * job->slices + s] : NULL);
}

void make_plan(Job* job) {
    const FvCall* call = job->call;
    FvPlan* p = &job->plan;
    const int64_t lanes = job->isa->lanes;
    p->call = call;
    p->panels = up(call->K, FV_PANEL) / FV_PANEL;
    p->chunks = up(up(p->panels, CHUNK_PANELS) / CHUNK_PANELS, 16);
    p->pairs = call->dtype == FV_BF16 && call->isa == 3;
    p->units = p->pairs ? (call->D + 1) / 2 : call->D;
    p->width = call->v ? up(call->V, lanes) : 0;
    p->columns = call->received || call->n_pooled;
    p->keep = p->columns || call->top;
    p->direct_values = call->v && call->dtype == FV_F32 && call->V % lanes == 0;
    p->rows = MOST_ROWS;
    while (p->rows > FEWEST_ROWS && ((p->keep && p->rows * call->K * 4 > TILES_BYTES) || p->rows >= 2 * call->Q)) p->rows /= 2;
    job->slice = most(p->rows, up(up(call->Q, MOST_SLICES) / MOST_SLICES, p->rows));
    job->slices = up(call->Q, job->slice) / job->slice;
    const int64_t all = call->B * call->G;
    job->heads = 1;
    Carver count = {NULL, 0};
    plan_wave(job, &count);
    job->heads = most(1, least(all, WAVE_BYTES / most(1, (int64_t)count.used)));
    job->waves = up(all, job->heads) / job->heads;
    const int64_t work = call->B * call->H * call->Q * (call->K / 4 + 1) * (call->D + call->V);
    const int64_t tasks = job->heads * shared(job) * job->slices;
    job->threads = most(1, least(least(call->threads, MOST_THREADS), least(tasks, work / WORTH_A_THREAD)));
}

void note(Job* job, int status) {
    if (status) __atomic_fetch_or(&job->status, status, __ATOMIC_RELAXED);
}

void pack_task(Job* job, int64_t task, FvScratch* s) {
    const int64_t steps = up(job->plan.panels, PACK_STEP) / PACK_STEP;
    const int64_t first = task % steps * PACK_STEP;
    note(job, job->isa->pack(&job->plan, job->head + task / steps, first, least(first + PACK_STEP, job->plan.panels), s));
}

void clear_part(const Job* job, int64_t slice, FvPart* part) {
    const FvCall* call = job->call;
    const int64_t from = slice * job->slice, to = least(call->Q, from + job->slice);
    if (part->received) memset(part->received, 0, (size_t)call->K * 8);
    for (int64_t g = 0; g < call->n_pooled; g++) {
        int64_t low, high;
        grid_rows(call, call->pooled + g, from, to, &low, &high);
        memset(part->pooled[g], 0, (size_t)((high - low + 1) * call->pooled[g].columns) * (call->pooled[g].mean ? 8 : 4));
    }
}

void rows_task(Job* job, int64_t task, FvScratch* s) {
    const int64_t in_wave = task / job->slices, slice = job->slices - 1 - task % job->slices;  // causal: longest first
    const FvHead* head = job->head + in_wave / shared(job);
    const int64_t h = head->g * shared(job) + in_wave % shared(job);
    FvPart* part = job->plan.columns ? job->part + in_wave * job->slices + slice : NULL;
    if (part) clear_part(job, slice, part);
    const int64_t from = slice * job->slice;
    note(job, job->isa->rows(&job->plan, head, h, from, least(job->call->Q, from + job->slice), part, s));
}

void merge_task(Job* job, int64_t task) {
    const FvCall* call = job->call;
    const FvHead* head = job->head + task / shared(job);
    const int64_t to = head->b * call->H + head->g * shared(job) + task % shared(job);
    for (int64_t s = 0; s < job->slices; s++) {
        const FvPart* part = job->part + task * job->slices + s;
        if (call->received) {
            double* sum = call->received + to * call->K;
            for (int64_t j = 0; j < call->K; j++) sum[j] = (s ? sum[j] : 0.0) + part->received[j];
        }
        for (int64_t g = 0; g < call->n_pooled; g++) {
            const FvPooled* grid = call->pooled + g;
            int64_t low, high;
            grid_rows(call, grid, s * job->slice, least(call->Q, (s + 1) * job->slice), &low, &high);
            const int64_t n = (high - low + 1) * grid->columns, at = (to * grid->rows + low) * grid->columns;
            for (int64_t i = 0; i < n; i++) {
                if (grid->mean) {
                    ((double*)grid->out)[at + i] += ((double*)part->pooled[g])[i];
                } else {
                    float *best = (float*)grid->out + at + i, x = ((float*)part->pooled[g])[i];
                    *best = x > *best ? x : *best;
                }
            }
        }
    }
}

// All threads meet here; the last to come lets the others go. Threads sleep, so that a busy machine loses nothing.
void wait(Job* job) {
    Meeting* m = job->meeting;
    if (job->threads == 1) return;
    pthread_mutex_lock(&m->lock);
    const int64_t round = m->round;
    if (++m->here == job->threads) {
        m->here = 0, m->round++;
        pthread_cond_broadcast(&m->changed);
    }
    while (m->round == round) pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
}

struct Worker {
    Job* job;
    int64_t index;
};

void* work(void* given) {
    Worker* worker = (Worker*)given;
    Job* job = worker->job;
    FvScratch* s = job->scratch + worker->index;
    for (int64_t wave = 0; wave < job->waves; wave++) {
        const int64_t heads = wave_heads(job, wave), per_head = shared(job);
        if (worker->index == 0) {
            for (int64_t i = 0; i < heads; i++) {
                FvHead* head = job->head + i;
                const int64_t which = wave * job->heads + i;
                head->b = which / job->call->G, head->g = which % job->call->G;
                head->value = head->values, head->value_stride = job->plan.width;
                if (!job->plan.direct_values) continue;
                const int64_t* stride = job->call->v_stride;
                head->value = (const float*)job->call->v + head->b * stride[0] + head->g * stride[1];
                head->value_stride = stride[2];
            }
            job->next[0] = job->next[1] = job->next[2] = 0;
        }
        wait(job);
        const int64_t packs = heads * (up(job->plan.panels, PACK_STEP) / PACK_STEP);
        for (int64_t t; (t = __atomic_fetch_add(&job->next[0], 1, __ATOMIC_RELAXED)) < packs;) pack_task(job, t, s);
        wait(job);
        const int64_t tasks = heads * per_head * job->slices;
        for (int64_t t; (t = __atomic_fetch_add(&job->next[1], 1, __ATOMIC_RELAXED)) < tasks;) rows_task(job, t, s);
        wait(job);
        if (!job->plan.columns) continue;
        for (int64_t t; (t = __atomic_fetch_add(&job->next[2], 1, __ATOMIC_RELAXED)) < heads * per_head;) merge_task(job, t);
        wait(job);
    }
    return NULL;
}

void* when_counted(void* given) {
    Worker* worker = (Worker*)given;
    Meeting* m = worker->job->meeting;
    pthread_mutex_lock(&m->lock);
    while (!m->counted) pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
    return work(given);
}

// Does the job with as many threads as it asks for, or as the system has left.
void run_threads(Job* job) {
    Worker workers[MOST_THREADS];
    pthread_t thread[MOST_THREADS];
    Meeting meeting;
    meeting.here = meeting.round = meeting.counted = 0;
    job->meeting = &meeting;
    workers[0].job = job, workers[0].index = 0;
    if (job->threads > 1) {
        pthread_mutex_init(&meeting.lock, NULL);
        pthread_cond_init(&meeting.changed, NULL);
    }
    int64_t started = 1;
    for (; started < job->threads; started++) {
        workers[started].job = job, workers[started].index = started;
        if (pthread_create(&thread[started], NULL, when_counted, &workers[started])) break;
    }
    const bool several = job->threads > 1;
    if (several) {
        pthread_mutex_lock(&meeting.lock);
        job->threads = started, meeting.counted = 1;
        pthread_cond_broadcast(&meeting.changed);
        pthread_mutex_unlock(&meeting.lock);
    }
    work(workers);
    for (int64_t i = 1; i < started; i++) pthread_join(thread[i], NULL);
    if (several) {
        pthread_cond_destroy(&meeting.changed);
        pthread_mutex_destroy(&meeting.lock);
    }
}

void carve(Job* job, Carver* c) {
    FvScratch* scratch = c->take<FvScratch>(job->threads);
    FvHead* head = c->take<FvHead>(job->heads);
    FvPart* part = c->take<FvPart>(job->plan.columns ? job->heads * shared(job) * job->slices : 0);
    if (c->base) job->scratch = scratch, job->head = head, job->part = part;
    FvScratch counted;
    for (int64_t i = 0; i < job->threads; i++) plan_scratch(job, c, c->base ? scratch + i : &counted);
    plan_wave(job, c);
}

// Whether few.h is for this call: a few queries, of which only the output is wanted.
bool is_few(const FvCall* call) {
    const bool statistics = call->lse || call->entropy || call->top || call->received || call->n_pooled || call->known;
    const bool hidden = call->list_start || call->table || call->bias;
    return call->Q <= FEW && call->dtype == FV_F32 && call->v && !statistics && !hidden;
}

struct Few {
    const FvCall* call;
    const FvIsa* isa;
    int64_t room;  // floats of one thread
    int64_t next;
    int status;
};

struct FewWorker {
    Few* few;
    float* room;
};

void* few_work(void* given) {
    FewWorker* worker = (FewWorker*)given;
    Few* few = worker->few;
    const int64_t heads = few->call->B * few->call->H;
    int status = 0;
    for (int64_t t; (t = __atomic_fetch_add(&few->next, 1, __ATOMIC_RELAXED)) < heads;)
        status |= few->isa->few(few->call, t / few->call->H, t % few->call->H, worker->room);
    if (status) __atomic_fetch_or(&few->status, status, __ATOMIC_RELAXED);
    return NULL;
}

int run_few(const FvCall* call) {
    Few few = {call, isa_of(call->isa), up(call->D + 2 * call->V + call->K + 2 * MOST_LANES, 16), 0, 0};
    const int64_t work = call->B * call->H * call->Q * call->K * (call->D + call->V);
    const int64_t threads = most(1, least(least(call->threads, MOST_THREADS), least(call->B * call->H, work / WORTH_A_THREAD)));
    float* memory;
    if (posix_memalign((void**)&memory, 64, (size_t)(threads * few.room) * 4)) return FV_NO_MEMORY;
    FewWorker workers[MOST_THREADS];
    pthread_t thread[MOST_THREADS];
    for (int64_t i = 0; i < threads; i++) workers[i].few = &few, workers[i].room = memory + i * few.room;
    int64_t started = 1;
    for (; started < threads; started++)
        if (pthread_create(&thread[started], NULL, few_work, &workers[started])) break;
    few_work(workers);
    for (int64_t i = 1; i < started; i++) pthread_join(thread[i], NULL);
    free(memory);
    return few.status;
}

}  // namespace

extern "C" {

#define FV_PUBLIC __attribute__((visibility("default")))

FV_PUBLIC int64_t fv_call_size(void) { return (int64_t)sizeof(FvCall); }

// Whether a set of instructions can run on this machine: 0 portable, 1 AVX2, 2 AVX-512, 3 AVX-512 with bfloat16.
FV_PUBLIC int fv_runs(int isa) { return runs_here(isa); }

FV_PUBLIC int fv_run(const FvCall* call) {
    if (call->size != (int64_t)sizeof(FvCall) || !runs_here((int)call->isa)) return FV_BAD_CALL;
    const int64_t sizes[] = {call->B, call->H, call->G, call->Q, call->K, call->D};
    for (int64_t n : sizes)
        if (n < 1) return FV_BAD_CALL;
    if (call->D > 1024 || call->V > 1024 || call->top > call->K || (call->v && call->V < 1)) return FV_BAD_CALL;
    if (is_few(call)) return run_few(call);
    Job job;
    memset(&job, 0, sizeof job);
    job.call = call;
    job.isa = isa_of(call->isa);
    make_plan(&job);
    Carver count = {NULL, 0};
    carve(&job, &count);
    if (posix_memalign((void**)&job.memory, 4096, count.used)) return FV_NO_MEMORY;
    Carver real = {job.memory, 0};
    carve(&job, &real);
    run_threads(&job);
    free(job.memory);
    return job.status;
}
}
