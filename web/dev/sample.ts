// Invented recordings with the look of real ones: heads that look back, at themselves, at the same word, at the first token.

import { deflateRawSync } from "node:zlib";
import type { Call, Doc, ExactCall, Kind, Ref, Sequence, Tokens } from "../src/protocol";

export interface Shape {
  kind: Kind;
  layers: number;
  heads: number;
  dim: number;
  words?: string[];
  target?: string[];
  count?: number;
  half?: boolean;
}

function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const STORY = "It was the best of times , it was the worst of times , it was the age of wisdom , it was the age of fool ##ish ##ness , it was the epoch of belief , it was the epoch of in ##cred ##ulity , it was the season of Light , it was the season of Dark ##ness , it was the spring of hope , it was the winter of despair .".split(" ");

export function tokens(words: string[], special = true): Tokens {
  const text: string[] = [];
  const word: number[] = [];
  const flags: boolean[] = [];
  const push = (piece: string, joins: boolean, flag: boolean) => {
    word.push(text.length === 0 ? 0 : (word[word.length - 1] as number) + (joins ? 0 : 1));
    text.push(piece);
    flags.push(flag);
  };
  if (special) push("[CLS]", false, true);
  for (const piece of words) push(piece.startsWith("##") ? piece.slice(2) : piece, piece.startsWith("##"), false);
  if (special) push("[SEP]", false, true);
  return { text, word, special: flags };
}

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%()*+,-./:;=?@[]^_{|}~";

/** Bytes as the digits that `decode85` reads. */
export function encode85(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4) {
    let number = 0;
    for (let n = 0; n < 4; n++) number = number * 256 + (bytes[at + n] ?? 0);
    let five = "";
    for (let n = 0; n < 5; n++) {
      five = (ALPHABET[number % 85] as string) + five;
      number = Math.floor(number / 85);
    }
    text += five.slice(0, Math.min(5, bytes.length - at + 1));
  }
  return text;
}

export class Blob2 {
  readonly texts: string[] = [];

  add(values: Float32Array, shape: number[], half: boolean): Ref {
    const bytes = half ? new Uint8Array(Uint16Array.from(values, toHalf).buffer) : new Uint8Array(values.buffer.slice(0));
    return this.push(bytes, shape, half ? "float16" : "float32");
  }

  steps(values: number[][]): Ref {
    const steps = values.flatMap((row) => row.map((value, n) => value - (n ? (row[n - 1] as number) : 0)));
    return this.push(new Uint8Array(Int32Array.from(steps).buffer), [1, 1, values.length, (values[0] as number[]).length], "steps");
  }

  /** The bytes of each number apart: all first ones, all second ones, ... */
  push(bytes: Uint8Array, shape: number[], dtype: Ref["dtype"]): Ref {
    const size = { float32: 4, float16: 2, steps: 4, bits: 1, uint8: 1 }[dtype];
    const planes = Uint8Array.from(bytes, (_, at) => bytes[(at % (bytes.length / size)) * size + Math.floor(at / (bytes.length / size))] as number);
    this.texts.push(encode85(deflateRawSync(planes)));
    return { part: this.texts.length - 1, shape, dtype };
  }
}

export function toHalf(value: number): number {
  const f = new Float32Array([value]);
  const bits = new Uint32Array(f.buffer)[0] as number;
  const sign = (bits >>> 16) & 0x8000;
  const exponent = ((bits >>> 23) & 255) - 112;
  if (exponent <= 0) return sign;
  if (exponent >= 31) return sign | 0x7c00;
  return sign | (exponent << 10) | ((bits >>> 13) & 1023);
}

/** Bits of a causal mask, packed like numpy.packbits. */
export function causalBits(queries: number, keys: number): Uint8Array {
  const perRow = Math.ceil(keys / 8);
  const bytes = new Uint8Array(queries * perRow);
  for (let i = 0; i < queries; i++) for (let j = 0; j <= i + keys - queries; j++) bytes[i * perRow + (j >> 3)] = (bytes[i * perRow + (j >> 3)] as number) | (128 >> (j & 7));
  return bytes;
}

/** Vectors by position whose dot product is largest for a chosen distance. */
function waves(length: number, dim: number, shift: number, noise: () => number, strength: number, stretch = 1): Float32Array {
  const result = new Float32Array(length * dim);
  for (let i = 0; i < length; i++) {
    for (let d = 0; d < dim; d += 2) {
      const angle = (i * stretch + shift) / 1.7 ** ((d / dim) * 12);
      result[i * dim + d] = strength * Math.cos(angle) + 0.5 * (noise() - 0.5);
      if (d + 1 < dim) result[i * dim + d + 1] = strength * Math.sin(angle) + 0.5 * (noise() - 0.5);
    }
  }
  return result;
}

function embeddedCall(blob: Blob2, shape: Shape, queries: number, keys: number, layer: number, causal: boolean, mask: Ref | null): ExactCall {
  const { heads, dim, half = false } = shape;
  const noise = random(layer * 977 + 5);
  const q = new Float32Array(heads * queries * dim);
  const k = new Float32Array(heads * keys * dim);
  const v = new Float32Array(heads * keys * dim).map(() => noise() - 0.5);
  for (let h = 0; h < heads; h++) {
    const shift = [(0), -1, 1, -2, -5, -3, -7, 0][(h + layer) % 8] as number;
    const strength = 0.7 + 1.1 * noise();
    q.set(waves(queries, dim, shift, noise, strength, queries > 1 ? (keys - 1) / (queries - 1) : 1), h * queries * dim);
    k.set(waves(keys, dim, 0, noise, strength), h * keys * dim);
    if ((h + layer) % 4 === 3) for (let i = 0; i < queries; i++) for (let d = 0; d < dim; d++) q[(h * queries + i) * dim + d] = (q[(h * queries + i) * dim + d] as number) * 0.4 + 0.5 * (k[h * keys * dim + d] as number);
  }
  return {
    query: blob.add(q, [1, heads, queries, dim], half), key: blob.add(k, [1, heads, keys, dim], half), value: blob.add(v, [1, heads, keys, dim], half),
    mask: causal ? mask : null, bias: null, sinks: null, score: { name: "scaled_dot", scale: 1.9 / Math.sqrt(dim), softcap: null }, dense: null, spans: null, distances: null, logsumexp: null, overview: null, lengths: [[queries, keys]],
  };
}

export function sample(name: string, shape: Shape): { doc: Doc; calls: ExactCall[]; blob: string[] } {
  const words = shape.words ?? Array.from({ length: (shape.count ?? 10) - 2 }, (_, i) => STORY[i % STORY.length] as string);
  const cross = shape.kind === "cross";
  const sequence: Sequence = { source: tokens(words, name !== "cat" && name !== "tiny" && !cross), target: shape.target ? tokens(shape.target, false) : null };
  const blob = new Blob2();
  const calls: ExactCall[] = [];
  const listed: Call[] = [];
  const kinds: Kind[] = cross ? ["encoder", "decoder", "cross"] : [shape.kind];
  const length = { source: sequence.source.text.length, target: sequence.target?.text.length ?? 0 };
  for (const kind of kinds) {
    const rows = cross && kind !== "encoder" ? "target" : "source";
    const columns = cross && kind === "decoder" ? "target" : "source";
    const causal = kind === "decoder";
    const [queries, keys] = [length[rows], length[columns]];
    const mask = causal ? blob.push(causalBits(queries, keys), [1, 1, queries, keys], "bits") : null;
    for (let layer = 0; layer < shape.layers; layer++) {
      listed.push({
        index: calls.length, name: `${kind}.layer.${layer}`, label: `layer ${layer}`, step: 0, kind, heads: shape.heads, queries, keys, rows, columns,
        offset: 0, causal, dim: shape.dim, values: true, score: "scaled_dot",
      });
      calls.push(embeddedCall(blob, shape, queries, keys, layer, causal, mask));
    }
  }
  const focus = name === "cat" ? { sequence: 0, call: 1, head: 0, token: 7, direction: "reads" as const, level: "token" as const } : null;
  const message = name === "cat" ? "it -> cat (97 %)" : cross ? "A translation and its alignment" : "";
  const doc: Doc = { id: name, title: name === "cat" ? "The cat sat on the mat because it was tired" : `Sample ${name}`, model: `invented ${shape.layers} × ${shape.heads}`, message, sequences: [sequence], calls: listed, focus, notes: [], decoding: null, beside: [] };
  if (cross) doc.focus = { sequence: 0, call: 2 * shape.layers, head: 0, token: 5, direction: "reads", level: "token" };
  return { doc, calls, blob: blob.texts };
}
