// The dense definition, written down plainly: what every source is compared with.

import { Blob2, causalBits } from "../dev/sample";
import type { Call, Doc, ExactCall, Tokens } from "../src/protocol";

export interface Case {
  doc: Doc;
  calls: ExactCall[];
  blob: string[];
  /** weights[head][query][key] of call 0, sequence s */
  weights: (sequence: number) => number[][][];
}

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return state / 1073741824 - 1;
  };
}

/** Word numbers 0 0 1 2 2 2 3 ...: words of one to three tokens. */
export function words(length: number): Tokens {
  const word: number[] = [];
  for (let n = 0; word.length < length; n++) for (let i = 0; i < [2, 1, 3][n % 3]! && word.length < length; i++) word.push(n);
  return { text: word.map((n, i) => `w${n}.${i}`), word, special: word.map((_, i) => i === 0) };
}

export interface Options {
  causal?: boolean;
  bias?: boolean;
  sink?: boolean;
  softcap?: number;
  half?: boolean;
  offset?: number;
  /** A score and a normaliser that a page cannot compute: weights and scores are in the file. */
  dense?: boolean;
}

// Axes of different primes, so that a swapped axis cannot pass.
const [B, H, G, Q, K, D, V] = [2, 6, 3, 11, 17, 5, 7];
const LENGTHS: [number, number][] = [[11, 17], [7, 13]];

export function makeCase({ causal = false, bias = false, sink = false, softcap, half = false, offset = 0, dense = false }: Options): Case {
  const noise = random(7);
  const rounded = (size: number) => Float32Array.from({ length: size }, () => Math.round(noise() * 64) / 32); // exact in float16 too
  const [q, k, v] = [rounded(B * H * Q * D), rounded(B * G * K * D), rounded(B * G * K * V)];
  const b = bias ? rounded(H * Q * K) : null;
  const sinks = sink ? rounded(H) : null;
  const blob = new Blob2();
  const score = { name: "scaled_dot" as const, scale: 0.4472135955, softcap: softcap ?? null };
  const call: ExactCall = {
    query: blob.add(q, [B, H, Q, D], half), key: blob.add(k, [B, G, K, D], half), value: blob.add(v, [B, G, K, V], half),
    mask: causal ? blob.push(causalBits(Q, K), [1, 1, Q, K], "bits") : null,
    bias: b && blob.add(b, [1, H, Q, K], false), sinks: sinks && blob.add(sinks, [H], false), score, dense: null, spans: null, distances: null, logsumexp: null, overview: null, lengths: LENGTHS,
  };
  const described: Call = {
    index: 0, name: "layer.0", label: "layer 0", step: 0, kind: offset ? "decoder" : "cross", heads: H, queries: Q, keys: K, rows: offset ? "source" : "target", columns: "source",
    offset, causal, dim: D, values: true, score: "scaled_dot",
  };
  const cut = (tokens: Tokens, length: number): Tokens => ({ text: tokens.text.slice(0, length), word: tokens.word.slice(0, length), special: tokens.special.slice(0, length) });
  const sequences = LENGTHS.map(([queries, keys]) => ({ source: cut(words(30), offset ? offset + queries : keys), target: offset ? null : cut(words(30), queries) }));
  const doc: Doc = { id: "case", title: "case", model: "none", message: "", sequences, calls: [described], focus: null, notes: [], decoding: null, beside: [] };
  const scoreOf = (s: number, h: number, i: number, j: number) => {
    const g = Math.floor(h / (H / G));
    let sum = 0;
    for (let d = 0; d < D; d++) sum += q[((s * H + h) * Q + i) * D + d]! * k[((s * G + g) * K + j) * D + d]!;
    sum *= score.scale;
    return softcap ? softcap * Math.tanh(sum / softcap) : sum;
  };
  const row = (s: number, h: number, i: number) => {
    const logits = Array.from({ length: LENGTHS[s]![1] }, (_, j) => (causal && j > i + K - Q ? -Infinity : scoreOf(s, h, i, j) + (b ? b[(h * Q + i) * K + j]! : 0)));
    const exps = logits.map(Math.exp);
    const total = exps.reduce((a, x) => a + x, 0) + (sinks ? Math.exp(sinks[h]!) : 0);
    return { total, weights: exps.map((x) => (total ? x / total : 0)) };
  };
  const weights = (s: number) => Array.from({ length: H }, (_, h) => Array.from({ length: LENGTHS[s]![0] }, (_, i) => row(s, h, i).weights));
  if (dense) {
    const padded = (size: number) => new Float32Array(size).fill(NaN); // nobody may read what is outside a text
    const tables = { weights: padded(B * H * Q * K), scores: padded(B * H * Q * K), statistic: padded(B * H * Q) };
    LENGTHS.forEach(([queries, keys], s) => {
      for (let h = 0; h < H; h++) for (let i = 0; i < queries; i++) {
        const at = (s * H + h) * Q + i;
        const { total, weights } = row(s, h, i);
        tables.statistic[at] = Math.log(total);
        for (let j = 0; j < keys; j++) [tables.weights[at * K + j], tables.scores[at * K + j]] = [weights[j]!, scoreOf(s, h, i, j)];
      }
    });
    call.dense = {
      weights: blob.add(tables.weights, [B, H, Q, K], false), scores: blob.add(tables.scores, [B, H, Q, K], false),
      statistic: blob.add(tables.statistic, [B, H, Q], false), normalizer: "softmax", statistic_name: "log-sum-exp",
    };
    call.score = { name: "additive", scale: null, softcap: null };
  }
  return { doc, calls: [call], blob: blob.texts, weights };
}

export const SHAPE = { B, H, G, Q, K, D, V };
