// One attention call of a static page: its weights, row by row, from queries and keys. All sums are in double precision.
// Of a call that a page cannot compute they are in the file.

import type { Bits, Parts } from "./blob";
import type { ExactCall } from "./protocol";

const NO_BIAS = -3.4028234e38; // float32's lowest: "may not see", as other libraries write it

/** What weights are called that were given as numbers: nobody knows their queries and keys. */
export const GIVEN = "given";
/** What a weight is made of, read from the file. */
interface Numbers {
  q: Float32Array;
  k: Float32Array;
  v: Float32Array | null;
  dense: { weights: Float32Array; scores: Float32Array; statistic: Float32Array } | null;
  mask: Bits | null;
  spans: { first: Int32Array; last: Int32Array; shape: number[] }[] | null;
  bias: Float32Array | null;
  distances: Float32Array | null;
  sinks: Float32Array | null;
  lse: Float32Array | null;
}

async function numbersOf(call: ExactCall, parts: Parts): Promise<Numbers> {
  const maybe = (ref: ExactCall["value"]) => (ref ? parts.floats(ref) : null);
  const { dense, spans } = call;
  const [q, k, v, bias, distances, sinks, lse, mask] = await Promise.all([
    parts.floats(call.query), parts.floats(call.key), maybe(call.value), maybe(call.bias), maybe(call.distances?.table ?? null), maybe(call.sinks), maybe(call.logsumexp),
    call.mask && parts.bits(call.mask),
  ]);
  return {
    q, k, v, bias, distances, sinks, lse, mask,
    dense: dense && { weights: await parts.floats(dense.weights), scores: await parts.floats(dense.scores), statistic: await parts.floats(dense.statistic) },
    spans: spans && await Promise.all(spans.map(async ({ first, last }) => ({ first: await parts.places(first), last: await parts.places(last), shape: first.shape }))),
  };
}

/** Dot products of one query with `count` keys from number `at` of `k` on. */
function products(query: Float64Array, k: Float32Array, at: number, count: number, scale: number, out: Float64Array, to: number): void {
  const dim = query.length;
  const even = dim - (dim % 4);
  for (let j = 0; j < count; j++, at += dim) {
    let [a, b, c, d] = [0, 0, 0, 0];
    let x = 0;
    for (; x < even; x += 4) {
      a += (query[x] as number) * (k[at + x] as number);
      b += (query[x + 1] as number) * (k[at + x + 1] as number);
      c += (query[x + 2] as number) * (k[at + x + 2] as number);
      d += (query[x + 3] as number) * (k[at + x + 3] as number);
    }
    for (; x < dim; x++) a += (query[x] as number) * (k[at + x] as number);
    out[to + j] = (a + b + c + d) * scale;
  }
}

export class Attend {
  readonly heads: number;
  readonly groups: number;
  readonly dim: number;
  readonly queries: number;
  readonly keys: number;
  readonly score: ExactCall["score"];
  /** What normalises, and what its statistic of a row is. */
  readonly normalizer: string;
  readonly statisticName: string;
  private readonly keyDim: number;
  private readonly allQueries: number;
  private readonly allKeys: number;
  private readonly valueDim: number;
  private readonly lse: Float64Array;
  private readonly scratch: Float64Array;
  private readonly asked: Float64Array;

  static async open(call: ExactCall, parts: Parts, sequence: number): Promise<Attend> {
    return new Attend(call, await numbersOf(call, parts), sequence);
  }

  private constructor(private readonly call: ExactCall, private readonly numbers: Numbers, private readonly sequence: number) {
    [, this.heads, this.allQueries, this.dim] = call.query.shape as [number, number, number, number];
    [, this.groups, this.allKeys, this.keyDim] = call.key.shape as [number, number, number, number];
    [this.queries, this.keys] = call.lengths[sequence] as [number, number];
    this.score = call.score;
    this.normalizer = call.dense?.normalizer ?? "softmax";
    this.statisticName = call.dense?.statistic_name ?? "log-sum-exp";
    this.valueDim = call.value ? (call.value.shape[3] as number) : 0;
    this.lse = new Float64Array(this.heads * this.queries).fill(NaN);
    const { lse } = numbers;
    if (lse) for (let head = 0; head < this.heads; head++) this.lse.set(lse.subarray(this.rowAt(head, 0), this.rowAt(head, this.queries)), head * this.queries);
    this.scratch = new Float64Array(this.keys);
    this.asked = new Float64Array(this.dim);
  }

  get given(): boolean {
    return this.normalizer === GIVEN;
  }

  private rowAt(head: number, i: number): number {
    return (this.sequence * this.heads + head) * this.allQueries + i;
  }

  private queryAt(head: number, i: number): number {
    return this.rowAt(head, i) * this.dim;
  }

  private groupAt(head: number): number {
    return this.sequence * this.groups + Math.floor((head * this.groups) / this.heads);
  }

  /** Numbers added to the scores of one row, and the place of key 0's and the step to the next; null without any. */
  private biasRow(head: number, i: number): { values: Float32Array; at: number; step: number } | null {
    const { numbers: { bias, distances }, call } = this;
    if (distances && call.distances) {
      const [heads, each] = call.distances.table.shape as [number, number];
      return { values: distances, at: (heads > 1 ? head * each : 0) + (call.distances.shifts[this.sequence] as number) - i, step: 1 };
    }
    if (!bias || !call.bias) return null;
    const [b, h, q, k] = call.bias.shape as [number, number, number, number];
    const row = ((b > 1 ? this.sequence : 0) * h + (h > 1 ? head : 0)) * q + (q > 1 ? i : 0);
    return { values: bias, at: row * k, step: k > 1 ? 1 : 0 };
  }

  biasOf(head: number, i: number, j: number): number {
    const row = this.biasRow(head, i);
    return row ? (row.values[row.at + j * row.step] as number) : 0;
  }

  sinkOf(head: number): number | null {
    return this.numbers.sinks ? (this.numbers.sinks[head] as number) : null;
  }

  /** The keys that row i may see, as intervals [first, last) that may overlap; one of all keys where no interval is known. */
  intervals(head: number, i: number): [number, number][] {
    const { spans } = this.numbers;
    if (!spans) return [[0, this.keys]];
    return spans.map(({ first, last, shape }) => {
      const [b, h, q] = shape as [number, number, number];
      const at = ((b > 1 ? this.sequence : 0) * h + (h > 1 ? head : 0)) * q + (q > 1 ? i : 0);
      return [first[at] as number, Math.min(this.keys, last[at] as number)];
    });
  }

  allowed(head: number, i: number, j: number): boolean {
    const { mask } = this.numbers;
    if (mask && !mask.test(mask.row(this.sequence, head, i), j)) return false;
    return this.intervals(head, i).some(([first, last]) => first <= j && j < last) && this.biasOf(head, i, j) > NO_BIAS;
  }

  /** Logits of row i for keys from..to-1 into out[0 ..]; -Infinity where the query may not look. */
  private logits(head: number, i: number, from: number, to: number, out: Float64Array): void {
    const { numbers: { q, k, mask }, asked, dim } = this;
    const { softcap } = this.score;
    const qAt = this.queryAt(head, i);
    for (let d = 0; d < dim; d++) asked[d] = q[qAt + d] as number;
    const kAt = this.groupAt(head) * this.allKeys * dim;
    out.fill(-Infinity, 0, to - from);
    const bias = this.biasRow(head, i);
    const maskAt = mask ? mask.row(this.sequence, head, i) : 0;
    for (const [first, last] of this.intervals(head, i)) {
      const [start, stop] = [Math.max(from, first), Math.min(to, last)];
      if (start >= stop) continue;
      products(asked, k, kAt + start * dim, stop - start, this.score.scale as number, out, start - from);
      if (!(mask || softcap || bias)) continue;
      for (let j = start; j < stop; j++) {
        let logit = out[j - from] as number;
        if (softcap) logit = softcap * Math.tanh(logit / softcap);
        if (bias) {
          const added = bias.values[bias.at + j * bias.step] as number;
          logit = added > NO_BIAS ? logit + added : -Infinity;
        }
        out[j - from] = mask && !mask.test(maskAt, j) ? -Infinity : logit;
      }
    }
  }

  /** What the normaliser knows of a row: the log of the sum of its exponentials, its sink included; -Infinity where it sees no key. */
  statistic(head: number, i: number): number {
    const { dense } = this.numbers;
    if (dense) return dense.statistic[this.rowAt(head, i)] as number;
    const slot = head * this.queries + i;
    const known = this.lse[slot] as number;
    if (!Number.isNaN(known)) return known;
    this.logits(head, i, 0, this.keys, this.scratch);
    return this.keepLse(slot, head, this.scratch);
  }

  private keepLse(slot: number, head: number, logits: Float64Array): number {
    let highest = -Infinity;
    for (const value of logits) if (value > highest) highest = value;
    let result = -Infinity;
    if (highest > -Infinity) {
      const sink = this.sinkOf(head);
      if (sink !== null && sink > highest) highest = sink;
      let sum = sink === null ? 0 : Math.exp(sink - highest);
      for (const value of logits) sum += Math.exp(value - highest);
      result = highest + Math.log(sum);
    }
    this.lse[slot] = result;
    return result;
  }

  /** Weights of row i for keys from..to-1 into out[0 ..]. */
  weights(head: number, i: number, from: number, to: number, out: Float64Array): void {
    const { dense } = this.numbers;
    if (dense) {
      const at = this.rowAt(head, i) * this.allKeys;
      out.set(dense.weights.subarray(at + from, at + to));
      return;
    }
    const slot = head * this.queries + i;
    let lse = this.lse[slot] as number;
    if (Number.isNaN(lse)) {
      this.logits(head, i, 0, this.keys, this.scratch);
      lse = this.keepLse(slot, head, this.scratch);
      out.set(this.scratch.subarray(from, to));
    } else this.logits(head, i, from, to, out);
    const count = to - from;
    if (lse === -Infinity) out.fill(0, 0, count);
    else for (let c = 0; c < count; c++) out[c] = Math.exp((out[c] as number) - lse);
  }

  /** The score of one pair, before bias and mask, and the products it is the sum of, where it is one. */
  compare(head: number, i: number, j: number): { products: number[] | null; score: number; scaled: number } {
    const { scale, softcap } = this.score;
    if (scale === null) {
      const score = (this.numbers.dense as { scores: Float32Array }).scores[this.rowAt(head, i) * this.allKeys + j] as number;
      return { products: null, score, scaled: score };
    }
    const key = this.key(head, j);
    const products = this.query(head, i).map((value, d) => value * (key[d] as number));
    const score = products.reduce((a, b) => a + b, 0);
    return { products, score, scaled: softcap ? softcap * Math.tanh((score * scale) / softcap) : score * scale };
  }

  query(head: number, i: number): number[] {
    const at = this.queryAt(head, i);
    return Array.from(this.numbers.q.subarray(at, at + this.dim));
  }

  key(head: number, j: number): number[] {
    const at = (this.groupAt(head) * this.allKeys + j) * this.keyDim;
    return Array.from(this.numbers.k.subarray(at, at + this.keyDim));
  }

  value(head: number, j: number): number[] | null {
    const { v } = this.numbers;
    if (!v) return null;
    const at = (this.groupAt(head) * this.allKeys + j) * this.valueDim;
    return Array.from(v.subarray(at, at + this.valueDim));
  }

  /** The weighted sum of the values of row i. */
  output(head: number, i: number): number[] | null {
    const { numbers: { v }, valueDim } = this;
    if (!v) return null;
    const weights = new Float64Array(this.keys);
    this.weights(head, i, 0, this.keys, weights);
    const sums = new Float64Array(valueDim);
    const at = this.groupAt(head) * this.allKeys * valueDim;
    for (let j = 0; j < this.keys; j++) {
      const weight = weights[j] as number;
      if (weight) for (let d = 0; d < valueDim; d++) sums[d] = (sums[d] as number) + weight * (v[at + j * valueDim + d] as number);
    }
    return Array.from(sums);
  }
}
