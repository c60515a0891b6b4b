"""The Triton kernels: attention's output and the statistics of its weights, without the weights.

    rows      each program some rows, over their keys: output, peak and sum of the exponentials, entropy, and of each
              row the chunks that hold its largest scores
    pick      each program one row or some: the largest weights, out of those chunks
    columns   each program some keys, over their rows: attention received, and what the cells of a thumbnail pool

Exponentials are of differences from the peak: scores in base 2, scaled before the difference is taken, would save a
product but err by more than a softmax does. What may not be seen is LOWEST, which is finite, so that no difference of
two such numbers is NaN. A chunk is 8 keys of a tile, N/8 apart: its maximum takes no exchange between threads. The k
largest scores of a row lie in the k chunks of the largest maxima.

Axes: M rows of a tile, N keys of a tile, D head width, V value width (both filled up to powers of two).
"""

# mypy: disallow-untyped-defs=false, check-untyped-defs=false

import triton
import triton.language as tl

__all__ = ["CHUNK", "columns", "pick", "rows"]

LOWEST = tl.constexpr(-1.0e30)
CHUNK = tl.constexpr(8)
_COUNTS = ["heads", "shared", "queries", "keys", "place", "left", "right"]  # of any size; no kernel is made for each
_CELLS = ["first_row", "all_rows", "grid_rows", "grid_columns", "per_row", "per_column"]


@triton.jit
def _tanh(x):
    """To one or two units in the last place, by the polynomials of Cephes: 1 - 2 / (exp(2x) + 1) is not, near 0."""
    z = x * x
    odd = (((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z + 1.33314422036e-1) * z
    small = x + x * z * (odd - 3.33332819422e-1)
    large = 1.0 - 2.0 / (tl.exp(2.0 * tl.abs(x)) + 1.0)
    return tl.where(tl.abs(x) < 0.625, small, tl.where(x < 0, -large, large))


@triton.jit
def _scaled(s, factor, outer, CAP: tl.constexpr):
    s = s * factor
    if CAP:
        s = _tanh(s) * outer
    return s


@triton.jit
def _allowed(here, column, end, left, right, LEFT: tl.constexpr, RIGHT: tl.constexpr):
    """Whether a row at key position `here` sees a key."""
    gap = column - here
    ok = column < end
    if RIGHT:
        ok = ok & (gap <= right)
    if LEFT:
        ok = ok & (gap >= -left)
    return ok


@triton.jit
def _collect(s, tile, best, chunks, M: tl.constexpr, PARTS: tl.constexpr):
    """Each row's best chunks, unordered, this tile's taken in where they are better than the least of them."""
    slots, parts = tl.arange(0, best.shape[1])[None], tl.arange(0, PARTS)[None]
    maxima = tl.max(tl.reshape(s, [M, CHUNK, PARTS]), 1)
    least = tl.min(best, 1)
    left = tl.where(maxima > least[:, None], maxima, LOWEST)
    while tl.max(tl.max(left, 1), 0) > LOWEST:
        largest, part, slot = tl.max(left, 1), tl.argmax(left, 1), tl.argmin(best, 1)
        take = (slots == slot[:, None]) & (largest > least)[:, None]
        best = tl.where(take, largest[:, None], best)
        chunks = tl.where(take, (tile * PARTS + part)[:, None], chunks)
        least = tl.min(best, 1)
        left = tl.where((parts == part[:, None]) | (left <= least[:, None]), LOWEST, left)
    return best, chunks


# fmt: off
@triton.jit(do_not_specialize=_COUNTS)
def rows(q, k, v, sinks, out, peak, total, entropy, chunk, best, q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n,
         heads, shared, queries, keys, width, depth, place, left, right, factor, outer,
         M: tl.constexpr, N: tl.constexpr, D: tl.constexpr, V: tl.constexpr, SLOTS: tl.constexpr, PARTS: tl.constexpr,
         OUT: tl.constexpr, ENTROPY: tl.constexpr, SINKS: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr,
         CAP: tl.constexpr, PRECISION: tl.constexpr):
    # fmt: on
    block, bh = tl.num_programs(0) - 1 - tl.program_id(0), tl.program_id(1).to(tl.int64)
    b, h = bh // heads, bh % heads
    row, d, e = block * M + tl.arange(0, M), tl.arange(0, D), tl.arange(0, V)
    here, at = row + place, bh * queries + row
    q_MD = _tile(q + b * q_b + h * q_h, row, q_n, queries, d, width)
    k, v = k + b * k_b + h // shared * k_h, v + b * v_b + h // shared * v_h
    first, last = block * M + place, tl.minimum(block * M + M, queries) - 1 + place
    start, stop = 0, keys
    if LEFT:
        start = tl.maximum(first - left, 0) // N * N
    if RIGHT:
        stop = tl.minimum(tl.maximum(last + right + 1, 0), keys)
    m, t, u = tl.full([M], LOWEST, tl.float32), tl.zeros([M], tl.float32), tl.zeros([M], tl.float32)
    acc = tl.zeros([M, V if OUT else 1], tl.float32)
    maxima = tl.full([M, SLOTS], LOWEST, tl.float32)
    chunks = tl.full([M, SLOTS], -1, tl.int32)
    for n in range(start, stop, N):
        column = n + tl.arange(0, N)
        k_ND = _tile(k, column, k_n, keys, d, width)
        s = _scaled(tl.dot(q_MD, tl.trans(k_ND), input_precision=PRECISION), factor, outer, CAP)
        if (n + N > keys) | (RIGHT & (n + N - 1 > first + right)) | (LEFT & (n < last - left)):
            s = tl.where(_allowed(here[:, None], column[None], keys, left, right, LEFT, RIGHT), s, LOWEST)
        if SLOTS > 1:
            maxima, chunks = _collect(s, n // N, maxima, chunks, M, PARTS)
        new = tl.maximum(m, tl.max(s, 1))
        x = s - new[:, None]
        p, shrink = tl.exp(x), tl.exp(m - new)
        if ENTROPY:  # the sum of p x follows the peak as the sum of p does; no term of it has another sign
            u = shrink * (u + (m - new) * t) + tl.sum(p * x, 1)
        t, m = shrink * t + tl.sum(p, 1), new
        if OUT:
            v_NV = _tile(v, column, v_n, keys, e, depth)
            acc = tl.dot(p.to(v_NV.dtype), v_NV, acc * shrink[:, None], input_precision=PRECISION)
    sees = tl.zeros([M], tl.int32) < keys
    if RIGHT:
        sees = sees & (here + right >= 0)
    if LEFT:
        sees = sees & (here - left < keys)
    _finish(m, t, u, acc, sees, sinks + h, out, peak, total, entropy, at, row < queries, e, depth,
            OUT, ENTROPY, SINKS)  # fmt: skip
    if SLOTS > 1:
        spot, live = at[:, None] * SLOTS + tl.arange(0, SLOTS)[None], (row < queries)[:, None]
        tl.store(chunk + spot, chunks, mask=live)
        tl.store(best + spot, maxima, mask=live)


@triton.jit
def _tile(base, row, stride, n_rows, d, width):
    """Rows of a matrix as a tile, zeros beyond its ends."""
    inside = (row < n_rows)[:, None] & (d < width)[None]
    return tl.load(base + row.to(tl.int64)[:, None] * stride + d[None], mask=inside, other=0.0)


# fmt: off
@triton.jit
def _finish(m, t, u, acc, sees, sink, out, peak, total, entropy, at, live, e, depth,
            OUT: tl.constexpr, ENTROPY: tl.constexpr, SINKS: tl.constexpr):
    # fmt: on
    """From running sums to results. A row that sees keys, but whose scores all overflowed, is NaN and not empty."""
    none = m <= LOWEST
    t = tl.where(none, tl.where(sees, float("nan"), 0.0), t)
    every = t
    if SINKS:
        extra = tl.load(sink)
        new = tl.maximum(m, extra)
        shrink = tl.exp(m - new)
        u = shrink * (u + (m - new) * t)
        t, acc, m = shrink * t, acc * shrink[:, None], new
        every = t + tl.exp(extra - new)
    tl.store(peak + at, m, mask=live)
    tl.store(total + at, every, mask=live)
    one = tl.where(every == 0, 1.0, every)
    if ENTROPY:
        found = tl.where(t == 0, 0.0, (tl.log(one) * t - u) / one)
        tl.store(entropy + at, found, mask=live)
    if OUT:
        read = tl.where((t == 0)[:, None], 0.0, acc / one[:, None])
        inside = live[:, None] & (e < depth)[None]
        tl.store(out + at[:, None] * depth + e[None], read.to(out.dtype.element_ty), mask=inside)


# fmt: off
@triton.jit(do_not_specialize=[*_COUNTS, "top"])
def pick(q, k, chunk, best, peak, total, values, indices, q_b, q_h, q_n, k_b, k_h, k_n,
         heads, shared, queries, keys, width, top, place, left, right, factor, outer,
         M: tl.constexpr, N: tl.constexpr, D: tl.constexpr, SLOTS: tl.constexpr, PARTS: tl.constexpr,
         LEFT: tl.constexpr, RIGHT: tl.constexpr, CAP: tl.constexpr):
    # fmt: on
    bh = tl.program_id(1).to(tl.int64)
    row, d = tl.program_id(0) * M + tl.arange(0, M), tl.arange(0, D)
    b, h, at, live = bh // heads, bh % heads, bh * queries + row, row < queries
    j = tl.arange(0, SLOTS * 8)
    number = tl.load(chunk + at[:, None] * SLOTS + (j // CHUNK)[None], mask=live[:, None], other=-1)
    column = number // PARTS * N + number % PARTS + (j % CHUNK * PARTS)[None]
    ok = (number >= 0) & _allowed((row + place)[:, None], column, keys, left, right, LEFT, RIGHT)
    base = k + b * k_b + h // shared * k_h
    inside = ok[:, :, None] & (d < width)[None, None]
    k_MND = tl.load(base + column.to(tl.int64)[:, :, None] * k_n + d[None, None], mask=inside, other=0.0)
    q_MD = _tile(q + b * q_b + h * q_h, row, q_n, queries, d, width)
    s = _scaled(tl.sum(k_MND.to(tl.float32) * q_MD.to(tl.float32)[:, None], 2), factor, outer, CAP)
    # The largest of each chunk is taken as `rows` rounded it, for so it stands in the row's sum too.
    s = tl.reshape(tl.where(ok, s, LOWEST), [M, SLOTS, 8])
    known = tl.load(best + at[:, None] * SLOTS + tl.arange(0, SLOTS)[None], mask=live[:, None], other=LOWEST)
    s = tl.reshape(tl.where(s == tl.max(s, 2)[:, :, None], known[:, :, None], s), [M, SLOTS * 8])
    m, t = tl.load(peak + at, mask=live, other=0.0), tl.load(total + at, mask=live, other=1.0)
    for i in range(top):
        largest, place_of = tl.max(s, 1), tl.argmax(s, 1)
        hit = j[None] == place_of[:, None]
        weight = tl.where(largest > LOWEST, tl.exp(largest - m) / tl.where(t == 0, 1.0, t), 0.0)
        key = tl.sum(tl.where(hit, column, 0), 1)
        tl.store(values + at * top + i, weight, mask=live)
        tl.store(indices + at * top + i, tl.where(weight > 0, key, -1).to(tl.int64), mask=live)
        s = tl.where(hit, LOWEST, s)


@triton.jit
def _from(cell, size, cells):
    """The first place of a cell: place i lies in cell i * cells // size."""
    return ((cell.to(tl.int64) * size + cells - 1) // cells).to(tl.int32)


# fmt: off
@triton.jit(do_not_specialize=[*_COUNTS, *_CELLS])
def columns(q, k, peak, total, received, biggest, summed, q_b, q_h, q_n, k_b, k_h, k_n,
            heads, shared, queries, keys, width, first_row, all_rows, place, left, right, factor, outer,
            grid_rows, grid_columns, per_row, per_column,
            M: tl.constexpr, N: tl.constexpr, D: tl.constexpr, RECEIVED: tl.constexpr, MAX: tl.constexpr,
            MEAN: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, CAP: tl.constexpr, PRECISION: tl.constexpr):
    # fmt: on
    block, bh = tl.program_id(0), tl.program_id(1).to(tl.int64)
    b, h, d = bh // heads, bh % heads, tl.arange(0, D)
    n0 = _from(block // per_column, keys, grid_columns) + block % per_column * N
    n1 = tl.minimum(n0 + N, _from(block // per_column + 1, keys, grid_columns))
    column = n0 + tl.arange(0, N)
    k_ND = _tile(k + b * k_b + h // shared * k_h, column, k_n, n1, d, width)
    r0, r1 = first_row, first_row + queries
    if RIGHT:
        r0 = tl.maximum(r0, n0 - right - place)
    if LEFT:
        r1 = tl.minimum(r1, n1 + left - place)
    start, stop = 0, 0
    if (r0 < r1) & (n0 < n1):  # tiles are counted cell by cell, so that each lies in one cell
        a, z = (r0.to(tl.int64) * grid_rows // all_rows).to(tl.int32), r1 - 1
        y = (z.to(tl.int64) * grid_rows // all_rows).to(tl.int32)
        start = a * per_row + (r0 - tl.maximum(_from(a, all_rows, grid_rows), first_row)) // M
        stop = y * per_row + (z - tl.maximum(_from(y, all_rows, grid_rows), first_row)) // M + 1
    mass = tl.zeros([N], tl.float64)
    top, pooled = 0.0, tl.zeros([N], tl.float64)
    for i in range(start, stop):
        cell = i // per_row
        r = tl.maximum(_from(cell, all_rows, grid_rows), first_row) + i % per_row * M
        end = tl.minimum(_from(cell + 1, all_rows, grid_rows), first_row + queries)
        row = r + tl.arange(0, M)
        at = bh * queries + row - first_row
        q_MD = _tile(q + b * q_b + h * q_h, row - first_row, q_n, end - first_row, d, width)
        t = tl.load(total + at, mask=row < end, other=0.0)
        m = tl.where(t > 0, tl.load(peak + at, mask=row < end, other=0.0), float("inf"))
        s = _scaled(tl.dot(q_MD, tl.trans(k_ND), input_precision=PRECISION), factor, outer, CAP)
        low, high = r + place, tl.minimum(r + M, end) - 1 + place
        if (n0 + N > n1) | (RIGHT & (n1 - 1 > low + right)) | (LEFT & (n0 < high - left)):
            s = tl.where(_allowed((row + place)[:, None], column[None], n1, left, right, LEFT, RIGHT), s, LOWEST)
        p = tl.exp(s - m[:, None]) * tl.where(t > 0, 1.0 / tl.where(t > 0, t, 1.0), 0.0)[:, None]
        sums = tl.sum(p, 0).to(tl.float64)
        if RECEIVED:
            mass += sums
        spot = (bh * grid_rows + cell) * tl.num_programs(0) + block
        if MAX:
            top = tl.maximum(tl.where(i % per_row == 0, 0.0, top), tl.max(tl.max(p, 1), 0))
            tl.store(biggest + spot, top)
        if MEAN:
            pooled = tl.where(i % per_row == 0, 0.0, pooled) + sums
            tl.store(summed + spot, tl.sum(pooled, 0))
    if RECEIVED:
        tl.store(received + bh * keys + column, mass, mask=column < n1)
