// Where a picture stands among the words that look at it, and its parts in it. Pure geometry, as in layout.ts.

import { flow, start } from "./layout";
import type { Layout, Placed } from "./layout";
import type { Axes, Axis, Grid } from "./units";

/** A picture's place; `side` says which axis its parts are on. */
export interface Frame extends Grid {
  side: "query" | "key" | "both";
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Larger than this no picture is shown. */
const WIDEST = 620;
const TALLEST = 520;
const LEAST = 12;
const MARGIN = 18;
const TOP = 10;
const [FONT, PITCH, HEIGHT] = [17, 40, 26];
/** More lines of words than this stand beside the picture, or below it where there is no room for both. */
const LINES_ABOVE = 4;
const BOTH_FROM = 640;
const WORDS_SHARE = 0.42;

/** The size at which a picture is shown: few pixels are enlarged by a whole number, so that each stays a square. */
export function scaled(width: number, height: number, room: number): { width: number; height: number } {
  const fit = Math.min(Math.min(room, WIDEST) / width, TALLEST / height);
  const scale = fit >= 2 ? Math.floor(fit) : fit;
  return { width: Math.max(LEAST, Math.round(width * scale)), height: Math.max(LEAST, Math.round(height * scale)) };
}

/** The unit of the part at a point, if one is there. */
export function unitIn(frame: Frame, x: number, y: number): number | null {
  const { rows, columns } = frame.picture;
  const [row, column] = [Math.floor(((y - frame.y) / frame.height) * rows), Math.floor(((x - frame.x) / frame.width) * columns)];
  return row < 0 || row >= rows || column < 0 || column >= columns ? null : frame.first + row * columns + column;
}

/** The box of a part, from the frame's corner. */
export function boxOf(frame: Frame, unit: number): { x: number; y: number; width: number; height: number } {
  const { rows, columns } = frame.picture;
  const part = unit - frame.first;
  const [width, height] = [frame.width / columns, frame.height / rows];
  return { x: (part % columns) * width, y: Math.floor(part / columns) * height, width, height };
}

/** Where an arrow key leads from a unit of an axis with a picture: from part to part, and over its edge to the tokens before and after. */
export function step({ grid, length, special }: Axis, unit: number, key: string, specials: boolean): number {
  const { first, picture: { rows, columns } } = grid as Grid;
  const last = first + rows * columns - 1;
  const shown = (from: number, by: number) => {
    let at = from;
    while (at >= 0 && at < length && !specials && special[at]) at += by;
    return at >= 0 && at < length ? at : unit;
  };
  if (key === "Home") return shown(0, 1);
  if (key === "End") return shown(length - 1, -1);
  const back = key === "ArrowLeft" || key === "ArrowUp";
  const by = back ? -1 : 1;
  if (unit < first || unit > last) return shown(unit + by, by);
  const column = (unit - first) % columns;
  if (key === "ArrowLeft" || key === "ArrowRight") return column + by < 0 || column + by >= columns ? unit : unit + by;
  const next = unit + by * columns;
  if (next < first) return shown(first - 1, -1);
  return next > last ? shown(last + 1, 1) : next;
}

/** The words, the picture and the tokens without a place in it: those before it stand above, those after it below. */
export function pictured(axes: Axes, special: boolean, width: number): Layout {
  const both = axes.query.grid !== null && axes.key.grid !== null;
  const shows = axes.key.grid ? axes.key : axes.query;
  const grid = shows.grid as Grid;
  const { picture, first } = grid;
  const chips = start(shows, special, HEIGHT, (unit) => unit < first || unit >= first + picture.rows * picture.columns);
  const words = both ? chips : start(shows === axes.key ? axes.query : axes.key, special, HEIGHT);
  let top = TOP;
  let [left, room, end] = [0, width, 0];
  const many = !both && flow(words, FONT, width, top, PITCH) - top > LINES_ABOVE * PITCH;
  if (many && width >= BOTH_FROM) {
    left = Math.round(width * WORDS_SHARE);
    room = width - left;
    end = flow(words, FONT, left, top, PITCH);
  } else if (!both && !many) top = lines(words, 0, words.shown.length, 0, width, top);
  const before = chips.shown.findIndex((unit) => unit >= first);
  const split = before < 0 ? chips.shown.length : before;
  if (split) top = lines(chips, 0, split, left, room, top);
  const size = scaled(picture.width, picture.height, room - 2 * MARGIN);
  const frame: Frame = { ...grid, side: both ? "both" : shows === axes.key ? "key" : "query", x: left + Math.round((room - size.width) / 2), y: top + 4, ...size };
  let bottom = frame.y + frame.height + 14;
  if (split < chips.shown.length) bottom = lines(chips, split, chips.shown.length, left, room, bottom);
  if (many && !left) end = lines(words, 0, words.shown.length, 0, width, bottom);
  const [query, key] = both ? [chips, chips] : shows === axes.key ? [words, chips] : [chips, words];
  return { kind: "picture", width, height: Math.max(bottom, end), font: FONT, query, key, captions: [], frame };
}

/** Some of the words from `top` down, each line in the middle of its room; answers where the next block may start. */
function lines(placed: Placed, from: number, to: number, left: number, room: number, top: number): number {
  const bottom = flow(placed, FONT, room, top, PITCH, from, to);
  const { x, y, w } = placed;
  for (let p = from, next = from; p < to; p = next) {
    while (next < to && y[next] === y[p]) next++;
    const by = left + Math.round((room - (x[next - 1] as number) - (w[next - 1] as number) - (x[p] as number)) / 2);
    for (let q = p; q < next; q++) x[q] = (x[q] as number) + by;
  }
  return bottom;
}
