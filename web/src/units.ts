// The units an axis counts: its tokens, or the words they make up.

import { clip, quote } from "./dom";
import type { Call, Doc, Level, Picture, Row, Sequence, Tokens } from "./protocol";

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
  /** The picture whose parts are among the units, each a unit of its own. */
  grid: Grid | null;
}

/** Equal parts of a picture, row by row, the first of them unit `first`. */
export interface Grid {
  picture: Picture;
  first: number;
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

function makeAxis(texts: Sequence, side: "source" | "target", offset: number, length: number, level: Level): Axis {
  const tokens = tokensOf(texts, side);
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
  return { length: units, text, special, joined, starts, side, offset, grid: side === "source" && texts.picture ? gridOf(texts.picture, starts, offset) : null };
}

/** Where an axis has the parts of a picture; nothing where it does not hold all of them. */
function gridOf(picture: Picture, starts: Int32Array, offset: number): Grid | null {
  const [at, parts] = [picture.first - offset, picture.rows * picture.columns];
  const first = starts.indexOf(at);
  return first >= 0 && starts[first + parts] === at + parts ? { picture, first } : null;
}

/** The part that a unit is, by row and column from 0. */
export function partOf(axis: Axis, unit: number): { row: number; column: number } | null {
  if (!axis.grid) return null;
  const { first, picture: { rows, columns } } = axis.grid;
  const part = unit - first;
  return part < 0 || part >= rows * columns ? null : { row: Math.floor(part / columns), column: part % columns };
}

/** Whether nothing on an axis is a word: parts of a picture and special tokens alone. */
export function wordless(axis: Axis): boolean {
  return axis.grid !== null && axis.special.every((special, unit) => special || partOf(axis, unit) !== null);
}

/** What a sentence calls a unit: a word in quotes; a part of a picture that has no name of its own by its place. */
export function named(axis: Axis, unit: number, most = 24): string {
  const [part, text] = [partOf(axis, unit), axis.text[unit] ?? ""];
  return part && text === `${part.row + 1},${part.column + 1}` ? `row ${part.row + 1}, column ${part.column + 1}` : quote(text, most);
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
  const query = makeAxis(texts, call.rows, call.offset, queries, level);
  const key = makeAxis(texts, call.columns, 0, keys, level);
  if (query.grid && key.grid && (query.offset !== key.offset || query.length !== key.length)) query.grid = null; // one picture for both sides, if they agree
  return { query, key, self: call.rows === call.columns };
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
