// The lines between words: which to draw, where they run, how thick they are. The same list feeds the screen and the export.

import { headColor, INK, lineOpacity, lineWidth } from "../color";
import { number, put, svg } from "../dom";
import type { Layout, Placed } from "../layout";
import type { Active, Session } from "../session";
import { meanWeight } from "../weights";

export interface Line {
  head: number;
  from: number;
  to: number;
  weight: number;
  d: string;
  color: string;
  width: number;
  opacity: number;
}

export interface Figure {
  x: number;
  y: number;
  text: string;
  anchor: "start" | "middle";
  strong: boolean;
}

const WIDEST = 11;
const WIDEST_OF_MANY = 5;
/** Few words get a line to each; a text gets its strongest only. */
const LINES = 900;
const TEXT_LINES = 24;
const LEAST = 1e-6;

function middle(placed: Placed, p: number): { x: number; y: number } {
  return { x: (placed.x[p] as number) + (placed.w[p] as number) / 2, y: (placed.y[p] as number) + placed.h / 2 };
}

function f(value: number): string {
  return value.toFixed(1);
}

/** A curve from the looking word to the looked-at one; `fan` sets the bundles of several heads apart. */
export function curve(layout: Layout, fromQuery: boolean, a: number, b: number, fan: number): string {
  const from = fromQuery ? layout.query : layout.key;
  const to = fromQuery ? layout.key : layout.query;
  if (layout.kind === "columns") {
    const edge = (placed: Placed, p: number) => (placed.x[p] as number) + (placed === layout.query ? (placed.w[p] as number) + 3 : -3);
    const [x0, x1] = [edge(from, a), edge(to, b)];
    const [y0, y1] = [middle(from, a).y + fan, middle(to, b).y + fan];
    const bend = (x1 - x0) * 0.45;
    return `M${f(x0)} ${f(y0)}C${f(x0 + bend)} ${f(y0)} ${f(x1 - bend)} ${f(y1)} ${f(x1)} ${f(y1)}`;
  }
  const [m0, m1] = [middle(from, a), middle(to, b)];
  if (layout.kind === "rows") {
    const edge = (placed: Placed, p: number) => (placed.y[p] as number) + (placed === layout.query ? -2 : placed.h + 2);
    const [y0, y1] = [edge(from, a), edge(to, b)];
    const bend = (y1 - y0) * 0.45;
    return `M${f(m0.x + fan)} ${f(y0)}C${f(m0.x + fan)} ${f(y0 + bend)} ${f(m1.x + fan)} ${f(y1 - bend)} ${f(m1.x + fan)} ${f(y1)}`;
  }
  return arc(from, a, to, b, fan);
}

/** In running text: over the words of one line, or through the space between lines. */
function arc(from: Placed, a: number, to: Placed, b: number, fan: number): string {
  const [m0, m1] = [middle(from, a), middle(to, b)];
  const half = from.h / 2;
  if (from === to && a === b) {
    const [x, y] = [m0.x, m0.y - half];
    return `M${f(x - 5 - fan)} ${f(y)}C${f(x - 14 - fan)} ${f(y - 15)} ${f(x + 14 + fan)} ${f(y - 15)} ${f(x + 5 + fan)} ${f(y)}`;
  }
  if (Math.abs(m0.y - m1.y) < 2) {
    const y = m0.y - half;
    const rise = Math.min(26, 9 + Math.abs(m1.x - m0.x) * 0.05) + fan;
    return `M${f(m0.x)} ${f(y)}C${f(m0.x)} ${f(y - rise)} ${f(m1.x)} ${f(y - rise)} ${f(m1.x)} ${f(y)}`;
  }
  const down = m1.y > m0.y ? 1 : -1;
  const [y0, y1] = [m0.y + down * half, m1.y - down * half];
  const bend = Math.max(10, Math.abs(y1 - y0) * 0.5) * down;
  return `M${f(m0.x + fan)} ${f(y0)}C${f(m0.x + fan)} ${f(y0 + bend)} ${f(m1.x + fan)} ${f(y1 - bend)} ${f(m1.x + fan)} ${f(y1)}`;
}

/** Whether words stand in running text, where a line to each would hide them. */
export function flows({ kind }: Layout): boolean {
  return kind === "text" || kind === "picture";
}

/** In a long text the largest weight may be small: lines and shades are drawn as if it were a good part of 1. */
export function boost({ weights, heads }: Session): number {
  const top = weights ? Math.max(0, ...heads.map((head) => weights.top(head, 1)[0]?.[1] ?? 0)) : 0;
  return Math.min(12, Math.max(1, 0.5 / (top || 1)));
}

/** Opacity of the shade behind a word that is looked at; 0 where it would not be seen. */
export function shade(weight: number, lift: number): number {
  const seen = Math.min(1, weight * lift);
  return seen < 0.006 ? 0 : 0.05 + 0.42 * Math.sqrt(seen) * (lift > 1 ? seen ** 0.25 : 1);
}

export function lines(session: Session, layout: Layout): Line[] {
  const { shown, weights, heads, theme, state } = session;
  if (!shown || !weights || layout.kind === "picture") return []; // what a picture shows is not crossed by lines
  const fromQuery = shown.direction === "reads";
  const from = fromQuery ? layout.query : layout.key;
  const to = fromQuery ? layout.key : layout.query;
  const a = from.place[shown.unit] ?? -1;
  if (a < 0) return [];
  const dense = layout.kind !== "text";
  const each = Math.max(2, Math.floor((dense ? LINES : TEXT_LINES * (state.all ? 2 : 1)) / Math.max(1, heads.length)));
  const step = state.all ? Math.min(4, (from.h * 0.8) / Math.max(1, heads.length)) : 0;
  const lift = dense ? 1 : boost(session);
  const result: Line[] = [];
  heads.forEach((head, n) => {
    const fan = (n - (heads.length - 1) / 2) * step;
    const color = state.all ? headColor(theme, head) : INK[theme].accent;
    const top = weights.top(head, each, (unit) => (to.place[unit] ?? -1) >= 0);
    for (const [unit, weight] of top) {
      if (weight * lift < (dense ? LEAST : 0.008)) continue;
      const d = curve(layout, fromQuery, a, to.place[unit] as number, fan);
      const width = lineWidth(weight * lift, state.all ? WIDEST_OF_MANY : WIDEST);
      result.push({ head, from: shown.unit, to: unit, weight, d, color, width, opacity: lineOpacity(weight * lift) });
    }
  });
  return result.reverse();
}

/** The numbers written beside the words that are looked at. */
export function figures(session: Session, layout: Layout): Figure[] {
  const { shown, weights, heads, state } = session;
  if (!shown || !weights) return [];
  const to = shown.direction === "reads" ? layout.key : layout.query;
  const hovered = session.hoveredOther ?? (state.locked ? state.other : null);
  const units = new Map<number, number>();
  const most = flows(layout) ? 6 : to.shown.length;
  const candidates = flows(layout) ? new Set(heads.flatMap((head) => weights.top(head, 8, (unit) => (to.place[unit] ?? -1) >= 0).map(([unit]) => unit))) : to.shown;
  const ranked = Array.from(candidates, (unit) => [unit, meanWeight(weights, heads, unit)] as const).filter(([, weight]) => weight >= 0.005);
  for (const [unit, weight] of ranked.sort((a, b) => b[1] - a[1]).slice(0, most)) units.set(unit, weight);
  if (hovered !== null && heads.every((head) => !Number.isNaN(weights.at(head, hovered)))) units.set(hovered, meanWeight(weights, heads, hovered));
  const result: Figure[] = [];
  const free = (x: number, y: number) => !result.some((other) => Math.abs(other.y - y) < 8 && Math.abs(other.x - x) < 30);
  for (const [unit, weight] of [...units].sort(([a], [b]) => Number(b === hovered) - Number(a === hovered))) {
    const p = to.place[unit] ?? -1;
    if (p < 0) continue;
    const { x, y } = middle(to, p);
    const strong = unit === hovered;
    const text = number(weight, strong);
    if (layout.kind === "columns") {
      const right = to === layout.key;
      const at = right ? (to.x[p] as number) + (to.w[p] as number) + 8 : (to.x[p] as number) - 8;
      result.push({ x: at, y: y + 4, text, anchor: "start", strong });
      if (!right) (result[result.length - 1] as Figure).x = at - 32;
    } else if (!free(x, layout.kind === "rows" ? y : (to.y[p] as number) + to.h + 8)) continue;
    else if (layout.kind === "rows") {
      result.push({ x, y: to === layout.key ? (to.y[p] as number) - 8 : (to.y[p] as number) + to.h + 15, text, anchor: "middle", strong });
    } else result.push({ x, y: (to.y[p] as number) + to.h + 8, text, anchor: "middle", strong });
  }
  return result;
}

/** Draws lines into a group, reusing the paths that are there. */
export function drawLines(group: SVGGElement, list: Line[]): void {
  while (group.childElementCount > list.length) group.lastElementChild?.remove();
  list.forEach((line, n) => {
    const path = (group.children[n] as SVGPathElement | undefined) ?? group.appendChild(svg("path", { class: "fv-line", fill: "none" }));
    put(path, "d", line.d);
    put(path, "stroke", line.color);
    put(path, "stroke-width", line.width.toFixed(2));
    put(path, "stroke-opacity", line.opacity.toFixed(3));
    put(path, "data-head", String(line.head));
    put(path, "data-from", String(line.from));
    put(path, "data-to", String(line.to));
    put(path, "data-weight", line.weight.toPrecision(7));
  });
}

export function drawFigures(group: SVGGElement, list: Figure[]): void {
  while (group.childElementCount > list.length) group.lastElementChild?.remove();
  list.forEach((figure, n) => {
    const text = (group.children[n] as SVGTextElement | undefined) ?? group.appendChild(svg("text"));
    put(text, "class", figure.strong ? "fv-figure fv-strong" : "fv-figure");
    put(text, "x", f(figure.x));
    put(text, "y", f(figure.y));
    put(text, "text-anchor", figure.anchor);
    if (text.textContent !== figure.text) text.textContent = figure.text;
  });
}

/** Where the eye should go: the active unit as a place of the layout. */
export function activePlace(active: Active | null, layout: Layout): { placed: Placed; p: number } | null {
  if (!active) return null;
  const placed = active.direction === "reads" ? layout.query : layout.key;
  const p = placed.place[active.unit] ?? -1;
  return p < 0 ? null : { placed, p };
}
