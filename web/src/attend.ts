// One attention call of a static page: its weights, row by row, from queries and keys. All sums are in double precision.
// Of a call that a page cannot compute they are in the file.

import { Bits, floats } from "./blob";
import type { EmbeddedCall } from "./protocol";

const NO_BIAS = -3.4028234e38; // float32's lowest: "may not see", as other libraries write it

/** What weights are called that were given as numbers: nobody knows their queries and keys. */
export const GIVEN = "given";

export class Attend {
  readonly heads: number;
  readonly groups: number;
  readonly dim: number;
  readonly queries: number;
  readonly keys: number;
  readonly score: EmbeddedCall["score"];
  /** What normalises, and what its statistic of a row is. */
  readonly normalizer: string;
  readonly statisticName: string;
  private readonly dense: { weights: Float32Array; scores: Float32Array; statistic: Float32Array } | null;
  private readonly keyDim: number;
  private readonly q: Float32Array;
  private readonly k: Float32Array;
  private readonly v: Float32Array | null;
  private readonly mask: Bits | null;
  private readonly bias: { values: Float32Array; shape: number[] } | null;
  private readonly sinks: Float32Array | null;
  private readonly allQueries: number;
  private readonly allKeys: number;
  private readonly valueDim: number;
  private readonly lse: Float64Array;
  private readonly scratch: Float64Array;

  constructor(call: EmbeddedCall, blob: ArrayBuffer, private readonly sequence: number) {
    [, this.heads, this.allQueries, this.dim] = call.query.shape as [number, number, number, number];
    [, this.groups, this.allKeys, this.keyDim] = call.key.shape as [number, number, number, number];
    [this.queries, this.keys] = call.lengths[sequence] as [number, number];
    this.score = call.score;
    const { dense } = call;
    this.dense = dense && { weights: floats(blob, dense.weights), scores: floats(blob, dense.scores), statistic: floats(blob, dense.statistic) };
    this.normalizer = dense?.normalizer ?? "softmax";
    this.statisticName = dense?.statistic_name ?? "log-sum-exp";
    this.q = floats(blob, call.query);
    this.k = floats(blob, call.key);
    this.v = call.value && floats(blob, call.value);
    this.valueDim = call.value ? (call.value.shape[3] as number) : 0;
    this.mask = call.mask && Bits.at(blob, call.mask);
    this.bias = call.bias && { values: floats(blob, call.bias), shape: call.bias.shape };
    this.sinks = call.sinks && floats(blob, call.sinks);
    this.lse = new Float64Array(this.heads * this.queries).fill(NaN);
    this.scratch = new Float64Array(this.keys);
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

  /** Start and step of the bias of one row; null without a bias. */
  private biasRow(head: number, i: number): { at: number; step: number } | null {
    if (!this.bias) return null;
    const [b, h, q, k] = this.bias.shape as [number, number, number, number];
    const row = ((b > 1 ? this.sequence : 0) * h + (h > 1 ? head : 0)) * q + (q > 1 ? i : 0);
    return { at: row * k, step: k > 1 ? 1 : 0 };
  }

  biasOf(head: number, i: number, j: number): number {
    const row = this.biasRow(head, i);
    return row ? ((this.bias as { values: Float32Array }).values[row.at + j * row.step] as number) : 0;
  }

  sinkOf(head: number): number | null {
    return this.sinks ? (this.sinks[head] as number) : null;
  }

  allowed(head: number, i: number, j: number): boolean {
    if (this.mask && !this.mask.test(this.mask.row(this.sequence, head, i), j)) return false;
    return this.biasOf(head, i, j) > NO_BIAS;
  }

  /** Logits of row i for keys from..to-1 into out[0 ..]; -Infinity where the query may not look. */
  private logits(head: number, i: number, from: number, to: number, out: Float64Array): void {
    const { q, k, dim, mask } = this;
    const { softcap } = this.score;
    const scale = this.score.scale as number;
    const qAt = this.queryAt(head, i);
    const kAt = this.groupAt(head) * this.allKeys * dim;
    const bias = this.biasRow(head, i);
    const biases = this.bias?.values;
    const maskAt = mask ? mask.row(this.sequence, head, i) : 0;
    for (let j = from; j < to; j++) {
      if (mask && !mask.test(maskAt, j)) {
        out[j - from] = -Infinity;
        continue;
      }
      let sum = 0;
      const at = kAt + j * dim;
      for (let d = 0; d < dim; d++) sum += (q[qAt + d] as number) * (k[at + d] as number);
      sum *= scale;
      if (softcap) sum = softcap * Math.tanh(sum / softcap);
      if (bias && biases) {
        const added = biases[bias.at + j * bias.step] as number;
        sum = added > NO_BIAS ? sum + added : -Infinity;
      }
      out[j - from] = sum;
    }
  }

  /** What the normaliser knows of a row: the log of the sum of its exponentials, its sink included; -Infinity where it sees no key. */
  statistic(head: number, i: number): number {
    if (this.dense) return this.dense.statistic[this.rowAt(head, i)] as number;
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
    if (this.dense) {
      const at = this.rowAt(head, i) * this.allKeys;
      out.set(this.dense.weights.subarray(at + from, at + to));
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
      const score = (this.dense as { scores: Float32Array }).scores[this.rowAt(head, i) * this.allKeys + j] as number;
      return { products: null, score, scaled: score };
    }
    const key = this.key(head, j);
    const products = this.query(head, i).map((value, d) => value * (key[d] as number));
    const score = products.reduce((a, b) => a + b, 0);
    return { products, score, scaled: softcap ? softcap * Math.tanh((score * scale) / softcap) : score * scale };
  }

  query(head: number, i: number): number[] {
    const at = this.queryAt(head, i);
    return Array.from(this.q.subarray(at, at + this.dim));
  }

  key(head: number, j: number): number[] {
    const at = (this.groupAt(head) * this.allKeys + j) * this.keyDim;
    return Array.from(this.k.subarray(at, at + this.keyDim));
  }

  value(head: number, j: number): number[] | null {
    if (!this.v) return null;
    const at = (this.groupAt(head) * this.allKeys + j) * this.valueDim;
    return Array.from(this.v.subarray(at, at + this.valueDim));
  }

  /** The weighted sum of the values of row i. */
  output(head: number, i: number): number[] | null {
    const { v, valueDim } = this;
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
