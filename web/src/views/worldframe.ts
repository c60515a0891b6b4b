// What surrounds a long map: names of tokens where they fit, their places where not, marks of what was found, the crosshair.

import { INK } from "../color";
import type { Session } from "../session";
import type { Axes } from "../units";
import { cross, fitted, names, ticks } from "./frame";
import type { View } from "./frame";

export interface Marks {
  i: number | null;
  j: number | null;
}

/** Half the width of the longest place that is written. */
const HALF = 24;

/** Places of both axes that were searched for, in order. */
export interface Found {
  rows: readonly number[];
  columns: readonly number[];
}

export function place(token: number): string {
  return token.toLocaleString("en");
}

/** Index of the first of ordered numbers that is at least `least`. */
function from(list: readonly number[], least: number): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((list[middle] as number) < least) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function drawWorldFrame(context: CanvasRenderingContext2D, family: string, session: Session, axes: Axes, view: View, marked: Marks, found: Found): void {
  const ink = INK[session.theme];
  const { left, top, px, r, c, width, height } = view;
  const right = Math.min(width - view.right, left + (axes.key.length - c) * px);
  const bottom = Math.min(height, top + (axes.query.length - r) * px);
  const { words, font, slant } = names(px);
  context.font = `${font}px ${family}`;
  context.strokeStyle = ink.faint;
  context.strokeRect(left - 0.5, top - 0.5, right - left + 1, bottom - top + 1);
  context.textBaseline = "middle";
  const stride = words ? 1 : ticks(0, Math.max((right - left) / px, (bottom - top) / px));
  context.textAlign = "right";
  for (let i = Math.ceil(r / stride) * stride; top + (i - r + 0.5) * px < bottom; i += stride) {
    const y = top + (i - r + 0.5) * px;
    context.fillStyle = i === marked.i ? ink.mark : ink.muted;
    context.fillText(words ? fitted(context, axes.query.text[i] || "·", left - 10) : place(axes.query.offset + i), left - 7, Math.max(y, words ? 0 : top + 5));
  }
  context.textAlign = words ? "left" : "center";
  for (let j = Math.ceil(c / stride) * stride; left + (j - c + 0.5) * px < right; j += stride) {
    context.fillStyle = j === marked.j ? ink.mark : ink.muted;
    context.save();
    const x = left + (j - c + 0.5) * px;
    context.translate(words ? x : Math.min(x, width - HALF), top - (words ? 7 : 11));
    if (words) context.rotate(-slant);
    context.fillText(words ? fitted(context, axes.key.text[j] || "·", 88) : place(j), 0, 0);
    context.restore();
  }
  context.fillStyle = ink.mark;
  const thick = Math.max(2, px - 1);
  for (let n = from(found.rows, Math.floor(r)), y = 0; n < found.rows.length && (y = top + ((found.rows[n] as number) - r) * px) < bottom; n++) context.fillRect(left - 5, Math.max(top, y), 4, thick);
  for (let n = from(found.columns, Math.floor(c)), x = 0; n < found.columns.length && (x = left + ((found.columns[n] as number) - c) * px) < right; n++) context.fillRect(Math.max(left, x), top - 5, thick, 4);
  cross(context, session, view, marked, right, bottom);
}
