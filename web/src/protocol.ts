// The shapes that cross between Python and the page: "The source protocol" of docs/DESIGN.md, name for name.

export type Side = "source" | "target";
export type Kind = "encoder" | "decoder" | "cross";
export type Level = "token" | "word";
export type Direction = "reads" | "read_by";

export interface Tokens {
  text: string[];
  word: number[];
  special: boolean[];
}

export interface Call {
  index: number;
  name: string;
  label: string;
  step: number;
  kind: Kind;
  heads: number;
  queries: number;
  keys: number;
  rows: Side;
  columns: Side;
  offset: number;
  causal: boolean;
  dim: number;
  values: boolean;
  score: string;
  /** The numbers that these heads have in the module, where only some were recorded. */
  numbers?: number[] | null;
  /** How many of each row's largest weights a static page holds, where it holds no others. */
  kept?: number | null;
}

/** What a head of a call is called: by its number in the module. */
export function numberOf(call: Call, head: number): number {
  return call.numbers?.[head] ?? head;
}

/** A picture whose equal parts are tokens, row by row from `first` on; pixels, and the PNG file in base 64. */
export interface Picture {
  height: number;
  width: number;
  rows: number;
  columns: number;
  first: number;
  png: string;
}

export interface Sequence {
  source: Tokens;
  target: Tokens | null;
  /** What the source's tokens are parts of. */
  picture?: Picture | null;
}

export interface Focus {
  sequence: number;
  call: number;
  head: number | null;
  /** null: a word in sight, not locked. */
  token: number | null;
  direction: Direction;
  level: Level;
  /** Of all heads, those whose lines are drawn at first. */
  heads?: number[] | null;
}

export interface Alternative {
  text: string;
  probability: number;
}

/** One step of a decoder: its token, and the most probable ones to come out, where they are known; `chosen` of them did. */
export interface Step {
  token: number;
  alternatives: Alternative[];
  chosen: number;
}

/** How targets were written. `calls` computed one row at each step; the first is shown. */
export interface Decoding {
  calls: number[];
  /** The row of a step is what its token read once it was there, not what was read to write it. */
  own?: boolean;
  steps: Step[][];
}

/** An answer to compare with the document's own, and what gave it. */
export interface Beside {
  label: string;
  text: string;
}

/** Another document that is shown beside this one, and what both are called. */
export interface Compared {
  id: string;
  label: string;
  other: string;
}

/** Runs of units that are the same in both: first place in one, in the other, length. */
export type Blocks = [a: number, b: number, size: number][];

/** A call beside its counterpart: per head the share of attention that lies elsewhere, and the divergence in bits. */
export interface Difference {
  call: number | null;
  heads: (number | null)[];
  rows: Blocks;
  columns: Blocks;
  moved: (number | null)[];
  divergence: (number | null)[];
  compared: number;
  of: number;
  note: string;
}

export interface DifferenceQuery extends Where {
  other: string;
  level: Level;
}

export interface Doc {
  id: string;
  title: string;
  model: string;
  message: string;
  sequences: Sequence[];
  calls: Call[];
  focus: Focus | null;
  notes: string[];
  decoding: Decoding | null;
  beside: Beside[];
  compare?: Compared | null;
}

export interface Thumbnails {
  heads: number;
  size: number;
  peak: number[];
  entropy: number[];
  pixels: Uint8Array;
  /** Rows that were looked at, of how many: fewer than all in a long text, and then more when asked again. */
  measured?: number;
  rows?: number;
}

/** Measures of all heads of a call, `values[head][measure]`; null where one is not defined. `measured` as in `Thumbnails`. */
export interface HeadMeasures {
  names: string[];
  values: (number | null)[][];
  measured: number;
  rows: number;
}

/** All heads at once: `weights[head * length + position]`. */
export interface Row {
  heads: number;
  length: number;
  weights: Float32Array;
  /** Less than 1 while some of a column is not known yet: NaN there. */
  refined?: number;
}

export interface TopK {
  indices: number[][];
  weights: number[][];
  rest: number[];
  refined?: number;
}

export interface Tile {
  height: number;
  width: number;
  peak: number;
  pixels: Uint8Array;
  /** Only of a static page: not from weights but from a picture with cells of so many tokens a side. */
  pooled?: number;
}

export interface Pair {
  /** Query and key are empty, and the score null, where the weight was given as a number. */
  query: number[];
  key: number[];
  /** null where the score is no product of query and key. */
  products: number[] | null;
  score: number | null;
  scale: number | null;
  scaled: number | null;
  bias: number | null;
  allowed: boolean;
  /** null where the normaliser is no plain softmax; `statistic` then says what it knows of the row. */
  logsumexp: number | null;
  normalizer: string;
  statistic: number | null;
  statistic_name: string;
  weight: number | null;
  value: number[] | null;
  contribution: number[] | null;
  output: number[] | null;
  score_name: string;
  softcap: number | null;
  sink: number | null;
}

/** A part of a long map: 255 = 1, even ratios down to 1 = 10^-6, 0 = nothing. `exact`: from all weights under it. */
export interface MapTile {
  height: number;
  width: number;
  exact: boolean;
  /** How much of the whole map has been passed over, 0 to 1. */
  refined: number;
  pixels: Uint8Array;
}

export interface Where {
  call: number;
  sequence: number;
}

export interface RowQuery extends Where {
  index: number;
  direction: Direction;
  level: Level;
  /** The only head that is asked about, of a source that takes it (`Source.oneHead`). */
  head?: number;
}

export interface TopKQuery extends RowQuery {
  k: number;
}

export interface TileQuery extends Where {
  head: number;
  r0: number;
  r1: number;
  c0: number;
  c1: number;
  height: number;
  width: number;
  how: "max" | "mean";
  level: Level;
}

/** Tile (row, column), counted from the top left, of 256 x 256 pixels with 2^zoom tokens a side each. */
export interface MapQuery extends Where {
  head: number;
  zoom: number;
  row: number;
  column: number;
  how: "max" | "mean";
}

export interface PairQuery extends Where {
  head: number;
  i: number;
  j: number;
}

export interface ModelInfo {
  name: string;
  kind: "encoder" | "decoder" | "encoder-decoder" | "none";
  examples: string[];
  limits: { text: number; tokens: number };
  run?: string | null;
}

export interface RunState {
  state: "running" | "done" | "failed";
  progress: number;
  message: string;
  document: string | null;
}

export interface Listed {
  id: string;
  title: string;
}

/** A tensor inside a static page: one of its parts. "steps" are whole numbers, as differences along the last axis. */
export interface Ref {
  part: number;
  shape: number[];
  dtype: "float32" | "float16" | "bits" | "steps" | "uint8";
}

/** What a page cannot compute: weights and scores (B, H, Q, K), and what the normaliser knows of each row (B, H, Q). */
export interface Dense {
  weights: Ref;
  scores: Ref;
  statistic: Ref;
  normalizer: string;
  statistic_name: string;
}

/** Each head as a picture, (B, H, h, w) bytes as those of a `MapTile`: 2^zoom rows and columns in a cell. */
export interface Overview {
  max: { zoom: number; cells: Ref };
  mean: { zoom: number; cells: Ref };
  /** Of each head's rows, in nats: [sequence][head]. */
  entropy: number[][];
}

interface Embedded {
  lengths: [number, number][];
}

export interface ExactCall extends Embedded {
  query: Ref;
  key: Ref;
  value: Ref | null;
  mask: Ref | null;
  /** Which keys a row may see: those of any of these intervals [first, last), (B|1, H|1, Q|1). */
  spans: { first: Ref; last: Ref }[] | null;
  bias: Ref | null;
  /** A bias by distance, table (H|1, distances): entry j - i + shift of the sequence is that of query i and key j. */
  distances: { table: Ref; shifts: number[] } | null;
  sinks: Ref | null;
  /** No scale: the score is no product. */
  score: { name: string; scale: number | null; softcap: number | null };
  dense: Dense | null;
  /** Of a long call, so that no row need be computed whole: (B, H, Q). */
  logsumexp: Ref | null;
  overview: Overview | null;
}

/** Only the k largest weights of each row, by the place of their keys (B, H, Q, k), and the rest of its sum (B, H, Q). */
export interface ListedCall extends Embedded {
  top: { k: number; places: Ref; weights: Ref; rest: Ref };
  overview: Overview;
}

export type EmbeddedCall = ExactCall | ListedCall;

export type PageData = { transport: "http" } | { document: Doc; calls: EmbeddedCall[]; parts: string[] };
