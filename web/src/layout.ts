// Where every word stands: two columns, two rows, or flowing text; picturelayout.ts: around a picture. Pure geometry, so that a hundred thousand words cost
// one measurement each and no element.

import type { Frame } from "./picturelayout";
import type { Axes, Axis } from "./units";

export type LayoutKind = "columns" | "rows" | "text";

export interface Placed {
  axis: Axis;
  /** The units shown, in order; hidden special tokens are left out. */
  shown: Int32Array;
  /** Place of a unit in `shown`, or -1. */
  place: Int32Array;
  x: Float32Array;
  y: Float32Array;
  w: Float32Array;
  h: number;
}

export interface Caption {
  text: string;
  x: number;
  y: number;
  anchor: "start" | "middle" | "end";
}

export interface Layout {
  kind: LayoutKind | "picture";
  width: number;
  height: number;
  font: number;
  query: Placed;
  /** The same object as `query` where one flow of words plays both parts. */
  key: Placed;
  captions: Caption[];
  /** Where the parts of a picture are, which are no words. */
  frame: Frame | null;
}

export const COLUMN_LIMIT = 48;
const PAD = 7;
const widths = new Map<string, number>();
let ruler: CanvasRenderingContext2D | null = null;

export const FONT = 'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

export function measure(text: string, size: number): number {
  const name = `${size}\n${text}`;
  const known = widths.get(name);
  if (known !== undefined) return known;
  ruler ??= document.createElement("canvas").getContext("2d") as CanvasRenderingContext2D;
  ruler.font = `${size}px ${FONT}`;
  const width = ruler.measureText(text).width;
  if (widths.size > 200_000) widths.clear();
  widths.set(name, width);
  return width;
}

function visible(axis: Axis, special: boolean, among: (unit: number) => boolean): { shown: Int32Array; place: Int32Array } {
  const shown: number[] = [];
  const place = new Int32Array(axis.length).fill(-1);
  for (let u = 0; u < axis.length; u++) {
    if ((!special && axis.special[u]) || !among(u)) continue;
    place[u] = shown.length;
    shown.push(u);
  }
  return { shown: Int32Array.from(shown), place };
}

export function start(axis: Axis, special: boolean, h: number, among: (unit: number) => boolean = () => true): Placed {
  const { shown, place } = visible(axis, special, among);
  const make = () => new Float32Array(shown.length);
  return { axis, shown, place, x: make(), y: make(), w: make(), h };
}

function label(axis: Axis, unit: number): string {
  return axis.text[unit] || "·";
}

function widest(placed: Placed, font: number, most: number): number {
  let result = 24;
  for (const unit of placed.shown) result = Math.max(result, measure(label(placed.axis, unit), font) + 2 * PAD + 2);
  return Math.min(most, Math.ceil(result));
}

const NUMBERS = 50;

function columns(axes: Axes, special: boolean, width: number): Layout {
  const longest = Math.max(axes.query.length, axes.key.length);
  const pitch = longest <= 14 ? 36 : longest <= 22 ? 30 : longest <= 32 ? 24 : 19;
  const font = longest <= 22 ? 16 : longest <= 32 ? 14 : 13;
  const query = start(axes.query, special, pitch - (longest <= 22 ? 5 : 2));
  const key = start(axes.key, special, pitch - (longest <= 22 ? 5 : 2));
  const most = Math.floor(width * 0.32);
  const [above, over] = axes.self ? ["each word", "these words"] : ["each target word", "the source"];
  const room = (placed: Placed, caption: string) => Math.max(measure(caption, 12) + 12, widest(placed, font, most));
  const [left, right] = [room(query, above), room(key, over)];
  const span = Math.max(90, Math.min(380, width - left - right - NUMBERS - 12));
  const from = Math.max(left + 4, (width - left - right - NUMBERS - span) / 2 + left);
  const top = 34;
  const shorter = (a: Placed, b: Placed) => (Math.max(0, b.shown.length - a.shown.length) * pitch) / 2;
  for (const [placed, side] of [[query, -1], [key, 1]] as const) {
    const shift = shorter(placed, placed === query ? key : query);
    placed.shown.forEach((unit, p) => {
      const w = Math.min(side < 0 ? left : right, measure(label(placed.axis, unit), font) + 2 * PAD + 2);
      placed.w[p] = w;
      placed.x[p] = side < 0 ? from - w : from + span;
      placed.y[p] = top + shift + p * pitch;
    });
  }
  const captions: Caption[] = [
    { text: above, x: from, y: 18, anchor: "end" },
    { text: "looks at", x: from + span / 2, y: 18, anchor: "middle" },
    { text: over, x: from + span, y: 18, anchor: "start" },
  ];
  return { kind: "columns", width, height: top + Math.max(query.shown.length, key.shown.length) * pitch + 10, font, query, key, captions, frame: null };
}

const ROW_FONT = 16;
const ROW_GAPS = [10, 1]; // as it is, and where words are many

function rowWidth(axis: Axis, shown: Iterable<number>, gap: number): number {
  let sum = 0;
  for (const unit of shown) sum += measure(label(axis, unit), ROW_FONT) + 2 * PAD + 2 + (axis.joined[unit] ? 1 : gap);
  return sum;
}

/** The width of both rows with some room at the sides. */
function bothRows({ query, key }: { query: Axis; key: Axis }, gap: number): number {
  return Math.max(rowWidth(query, query.text.keys(), gap), rowWidth(key, key.text.keys(), gap)) + 24;
}

function rows(axes: Axes, special: boolean, width: number): Layout {
  const font = ROW_FONT;
  const gap = ROW_GAPS.find((each) => bothRows(axes, each) <= width) ?? (ROW_GAPS[0] as number);
  const key = start(axes.key, special, 32);
  const query = start(axes.query, special, 32);
  const full = Math.max(width, bothRows(axes, gap));
  const [top, bottom] = [56, 56 + 32 + 190];
  for (const [placed, y] of [[key, top], [query, bottom]] as const) {
    const own = rowWidth(placed.axis, placed.shown, gap);
    const spread = placed.shown.length > 1 ? Math.max(0, Math.min(60, (full * 0.86 - own) / placed.shown.length)) : 0;
    let x = (full - own - spread * Math.max(0, placed.shown.length - 1)) / 2;
    placed.shown.forEach((unit, p) => {
      const w = measure(label(placed.axis, unit), font) + 2 * PAD + 2;
      const next = placed.shown[p + 1];
      placed.x[p] = x;
      placed.y[p] = y;
      placed.w[p] = w;
      x += w + (next !== undefined && placed.axis.joined[next] ? 1 : gap) + spread;
    });
  }
  const captions: Caption[] = [
    { text: axes.self ? "looked at" : "source", x: 14, y: 20, anchor: "start" },
    { text: axes.self ? "looking" : "target", x: 14, y: bottom + 56, anchor: "start" },
  ];
  return { kind: "rows", width: full, height: bottom + 68, font, query, key, captions, frame: null };
}

const NEWLINE = "⏎";
const CLOSING = /^[.,;:!?)\]}%…’”]+$/;

/** True where a unit may not begin a line: it continues a word, or closes one. */
function tight(axis: Axis, unit: number): boolean {
  return axis.joined[unit] === true || CLOSING.test(label(axis, unit));
}

/** Flows words from `top` down, keeping what belongs together on one line; answers where the next block may start. */
export function flow(placed: Placed, font: number, width: number, top: number, pitch: number, from = 0, to = placed.shown.length): number {
  const margin = 18;
  const { axis, shown } = placed;
  const most = width - 2 * margin;
  const size = (p: number) => Math.min(most, measure(label(axis, shown[p] as number), font) + 6);
  let [x, y] = [margin, top];
  for (let p = from; p < to; p++) {
    const fresh = p > from && label(axis, shown[p - 1] as number) === NEWLINE;
    const joins = p > from && !fresh && tight(axis, shown[p] as number);
    const w = size(p);
    let whole = w;
    if (!joins) for (let next = p + 1; next < to && tight(axis, shown[next] as number) && whole < most; next++) whole += size(next) - 5;
    if (joins) x -= 5;
    else if (p > from) x += font * 0.08;
    if (fresh || (x + whole > width - margin && (!joins || whole > most)) || x + w > width - margin) {
      if (x > margin) y += pitch;
      x = margin;
    }
    placed.x[p] = x;
    placed.y[p] = y;
    placed.w[p] = w;
    x += w;
  }
  return y + pitch;
}

function prose(axes: Axes, special: boolean, width: number): Layout {
  const [font, pitch, h] = [16, 38, 24];
  const captions: Caption[] = [];
  const shared = axes.self && axes.query.offset === axes.key.offset && axes.query.length === axes.key.length;
  const key = start(axes.key, special, h);
  if (shared) return { kind: "text", width, height: flow(key, font, width, 22, pitch) + 4, font, query: key, key, captions, frame: null };
  const query = start(axes.query, special, h);
  captions.push({ text: axes.self ? "looking" : "target", x: 18, y: 18, anchor: "start" });
  const below = flow(query, font, width, 36, pitch) + 10;
  captions.push({ text: axes.self ? "looked at" : "source", x: 18, y: below + 10, anchor: "start" });
  return { kind: "text", width, height: flow(key, font, width, below + 28, pitch) + 4, font, query, key, captions, frame: null };
}

export function suggested(axes: Axes, width: number): LayoutKind {
  const longest = Math.max(axes.query.length, axes.key.length);
  if (longest > COLUMN_LIMIT) return "text";
  if (axes.self) return "columns";
  return bothRows(axes, ROW_GAPS[1] as number) <= width ? "rows" : "columns";
}

export function arrange(kind: LayoutKind, axes: Axes, special: boolean, width: number): Layout {
  if (kind === "text") return prose(axes, special, width);
  return kind === "rows" ? rows(axes, special, width) : columns(axes, special, width);
}

/** The places whose boxes touch the band top..bottom, as [first, one past the last]; y never falls along a text. */
export function within(placed: Placed, top: number, bottom: number): [number, number] {
  const { y, h } = placed;
  const search = (below: (value: number) => boolean) => {
    let [low, high] = [0, y.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (below(y[middle] as number)) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return [search((value) => value + h < top), search((value) => value <= bottom)];
}
