// What surrounds a heatmap: the words of both axes where they fit, numbers where they do not, and the crosshair.

import { INK } from "../color";
import type { Session } from "../session";
import { unitAt, type Axes, type Axis } from "../units";

/** Cell (r, c) at the top left corner, px pixels a cell, and the room of the axes. */
export interface View {
  r: number;
  c: number;
  px: number;
  width: number;
  height: number;
  left: number;
  top: number;
  right: number;
}

/** Pixels of a cell from which it is named by its words, in large letters or in small ones; else by its number. */
export const NAMED_FROM = [12, 9, 0] as const;

interface Names {
  words: boolean;
  font: number;
  /** Of the words of columns; small ones stand closer together, so that more of a turn keeps them apart. */
  slant: number;
}

export function names(px: number): Names {
  const [large, small] = NAMED_FROM;
  return { words: px >= small, font: px >= small && px < large ? 9 : 11, slant: px < large ? Math.PI / 3 : Math.PI / 4 };
}

/** The room of the axes around cells of so many pixels. */
export function gutters({ query, key }: Axes, px: number, measure: (text: string, size: number) => number): { left: number; top: number; right: number } {
  const { words, font, slant } = names(px);
  if (!words) return { left: 44, top: 22, right: 14 };
  const longest = (axis: Axis) => {
    let width = 20;
    for (let u = 0; u < Math.min(axis.length, 400); u++) width = Math.max(width, measure(axis.text[u] ?? "", font));
    return Math.min(88, width);
  };
  const top = Math.ceil(longest(key) * Math.sin(slant)) + 18;
  return { left: Math.ceil(longest(query)) + 10, top, right: Math.min(40, top - 14) };
}

export function fitted(context: CanvasRenderingContext2D, text: string, most: number): string {
  if (context.measureText(text).width <= most) return text;
  let cut = text;
  while (cut && context.measureText(`${cut}…`).width > most) cut = cut.slice(0, -1);
  return `${cut}…`;
}

export function ticks(first: number, last: number): number {
  const raw = (last - first) / 5;
  const power = 10 ** Math.floor(Math.log10(Math.max(1, raw)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= raw) ?? power;
}

export function drawFrame(context: CanvasRenderingContext2D, canvas: HTMLElement, session: Session, view: View, cell: { i: number; j: number } | null): void {
  const { axes, theme } = session;
  const ink = INK[theme];
  const { left, top, px, r, c, width, height } = view;
  const right = Math.min(width - view.right, left + (axes.key.length - c) * px);
  const bottom = Math.min(height, top + (axes.query.length - r) * px);
  const { words, font, slant } = names(px);
  context.font = `${font}px ${getComputedStyle(canvas).fontFamily}`;
  const marked = marks(session, cell);
  hide(context, session, view, right, bottom);
  border(context, session, view, right, bottom);
  context.strokeStyle = ink.faint;
  context.strokeRect(left - 0.5, top - 0.5, right - left + 1, bottom - top + 1);
  context.textBaseline = "middle";
  const stride = words ? 1 : ticks(0, Math.max((right - left) / px, (bottom - top) / px));
  context.textAlign = "right";
  for (let i = Math.ceil(r / stride) * stride; top + (i - r + 0.5) * px < bottom; i += stride) {
    context.fillStyle = i === marked.i ? ink.mark : ink.muted;
    const text = words ? fitted(context, name(session, axes.query, i), left - 8) : String(i);
    context.fillText(text, left - 6, top + (i - r + 0.5) * px);
  }
  context.textAlign = "left";
  for (let j = Math.ceil(c / stride) * stride; left + (j - c + 0.5) * px < right; j += stride) {
    context.fillStyle = j === marked.j ? ink.mark : ink.muted;
    context.save();
    context.translate(left + (j - c + 0.5) * px, top - 7);
    context.rotate(words ? -slant : 0);
    if (!words) context.textAlign = "center";
    context.fillText(words ? fitted(context, name(session, axes.key, j), 88) : String(j), 0, 0);
    context.restore();
  }
  cross(context, session, view, marked, right, bottom);
}

function marks(session: Session, cell: { i: number; j: number } | null): { i: number | null; j: number | null } {
  if (cell) return cell;
  const { active, other } = session;
  if (!active) return { i: null, j: null };
  return active.direction === "reads" ? { i: active.unit, j: other } : { i: other, j: active.unit };
}

export function cross(context: CanvasRenderingContext2D, session: Session, view: View, at: { i: number | null; j: number | null }, right: number, bottom: number): void {
  const { left, top, px, r, c } = view;
  context.save();
  context.beginPath();
  context.rect(left - 2, top - 2, right - left + 4, bottom - top + 4);
  context.clip();
  context.strokeStyle = INK[session.theme].mark;
  context.lineWidth = 1;
  context.globalAlpha = 0.55;
  const thick = Math.max(px, 2);
  if (at.i !== null) context.strokeRect(left - 0.5, top + (at.i - r) * px - 0.5, right - left + 1, thick + 1);
  if (at.j !== null) context.strokeRect(left + (at.j - c) * px - 0.5, top - 0.5, thick + 1, bottom - top + 1);
  context.globalAlpha = 1;
  context.lineWidth = 2;
  if (at.i !== null && at.j !== null) context.strokeRect(left + (at.j - c) * px, top + (at.i - r) * px, thick, thick);
  context.restore();
}

/** Where what was generated begins, on both axes. */
function border(context: CanvasRenderingContext2D, session: Session, view: View, right: number, bottom: number): void {
  const { left, top, px, r, c } = view;
  const first = (axis: Axis) => {
    const unit = unitAt(axis, (session.steps[0]?.token ?? 0) + 1 - axis.offset);
    return session.generated(axis, unit) ? unit : NaN;
  };
  const [y, x] = [top + (first(session.axes.query) - r) * px, left + (first(session.axes.key) - c) * px];
  context.save();
  context.setLineDash([3, 3]);
  context.strokeStyle = INK[session.theme].mark;
  context.beginPath();
  if (y > top && y < bottom) context.moveTo(left, y), context.lineTo(right, y);
  if (x > left && x < right) context.moveTo(x, top), context.lineTo(x, bottom);
  context.stroke();
  context.restore();
}

/** What is there of a word; nothing before the step that writes it. */
function name(session: Session, axis: Axis, unit: number): string {
  return session.written(axis, unit) ? session.textOf(axis, unit) || "·" : "";
}

/** Rows and columns of special tokens are covered while these are off, and so are those that are not computed yet. */
function hide(context: CanvasRenderingContext2D, session: Session, view: View, right: number, bottom: number): void {
  if (session.state.special && !session.step) return;
  const { left, top, px, r, c } = view;
  context.save();
  context.beginPath();
  context.rect(left - 1, top - 1, right - left + 2, bottom - top + 2);
  context.clip();
  const { query, key } = session.axes;
  const cover = (axis: Axis, unit: number, x: number, y: number, width: number, height: number) => {
    const whole = session.complete(axis, unit);
    const special = !session.state.special && axis.special[unit];
    if (whole && !special) return;
    context.fillStyle = special ? INK[session.theme].faint : INK[session.theme].panel;
    context.fillRect(x - 0.5, y - 0.5, width + 1, height + 1); // no hairline between two of them
  };
  for (let i = Math.floor(r); i < query.length && top + (i - r) * px < bottom; i++) cover(query, i, left, top + (i - r) * px, right - left, px);
  for (let j = Math.floor(c); j < key.length && left + (j - c) * px < right; j++) cover(key, j, left + (j - c) * px, top, px, bottom - top);
  context.restore();
}
