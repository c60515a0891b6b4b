// The units an axis counts: its tokens, or the words they make up.

import { clip } from "./dom";
import type { Call, Doc, Level, Row, Sequence, Tokens } from "./protocol";

export interface Axis {
  /** Number of units. */
  length: number;
  text: string[];
  special: boolean[];
  /** True where the unit continues the word before it. */
  joined: boolean[];
  /** Unit u holds the positions starts[u] .. starts[u + 1] - 1 of the call's axis. */
  starts: Int32Array;
  /** Which of the document's token lists this is, and the token of position 0. */
  side: "source" | "target";
  offset: number;
}

/** Letters of a unit that are ever shown; measuring and fitting more would hold the page up. */
const LONGEST = 120;
/** What is shown of a token that holds only the rest of a character. */
const REST = "‥";

/** Spans of equal word number, as starts with one past the end. */
export function wordStarts(word: readonly number[], offset: number, length: number): Int32Array {
  const starts: number[] = [];
  for (let i = 0; i < length; i++) if (i === 0 || word[offset + i] !== word[offset + i - 1]) starts.push(i);
  starts.push(length);
  return Int32Array.from(length ? starts : [0]);
}

export function tokensOf(sequence: Sequence, side: "source" | "target"): Tokens {
  return (side === "target" ? sequence.target : null) ?? sequence.source;
}

function makeAxis(tokens: Tokens, side: "source" | "target", offset: number, length: number, level: Level): Axis {
  const starts = level === "word" ? wordStarts(tokens.word, offset, length) : Int32Array.from({ length: length + 1 }, (_, i) => i);
  const units = starts.length - 1;
  const text: string[] = new Array<string>(units);
  const special: boolean[] = new Array<boolean>(units);
  const joined: boolean[] = new Array<boolean>(units);
  for (let u = 0; u < units; u++) {
    const from = offset + (starts[u] as number);
    const to = offset + (starts[u + 1] as number);
    text[u] = clip(tokens.text.slice(from, to).join(""), LONGEST) || REST;
    special[u] = Boolean(tokens.special[from]);
    joined[u] = level === "token" && u > 0 && tokens.word[from] === tokens.word[from - 1];
  }
  return { length: units, text, special, joined, starts, side, offset };
}

export interface Axes {
  query: Axis;
  key: Axis;
  /** Both axes are the same text, so a word can be followed from one to the other. */
  self: boolean;
}

export function axes(doc: Doc, call: Call, sequence: number, level: Level): Axes {
  const texts = doc.sequences[sequence] as Sequence;
  const rows = tokensOf(texts, call.rows);
  const columns = tokensOf(texts, call.columns);
  const queries = Math.max(0, Math.min(call.queries, rows.text.length - call.offset));
  const keys = Math.min(call.keys, columns.text.length);
  return {
    query: makeAxis(rows, call.rows, call.offset, queries, level),
    key: makeAxis(columns, call.columns, 0, keys, level),
    self: call.rows === call.columns,
  };
}

/** Weights of positions, added up to weights of an axis' units. */
export function folded({ heads, length, weights }: Row, starts: Int32Array): Row {
  const units = starts.length - 1;
  const result = new Float32Array(heads * units);
  for (let head = 0; head < heads; head++) {
    for (let u = 0; u < units; u++) {
      let sum = 0;
      for (let at = starts[u] as number; at < (starts[u + 1] as number); at++) sum += weights[head * length + at] as number;
      result[head * units + u] = sum;
    }
  }
  return { heads, length: units, weights: result };
}

/** The unit of `to` at the same text position as unit `index` of `from`, or the nearest there is. */
export function follow(from: Axis, index: number, to: Axis): number {
  const token = from.offset + (from.starts[Math.min(index, from.length - 1)] ?? 0) - to.offset;
  return unitAt(to, token);
}

export function unitAt(axis: Axis, position: number): number {
  let low = 0;
  let high = axis.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((axis.starts[middle] as number) <= position) low = middle;
    else high = middle - 1;
  }
  return Math.max(0, low);
}
