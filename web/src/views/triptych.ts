// One head of two recordings and the difference, on three canvases that zoom and pan as one.

import { heatIndex, heatTable, INK, rgb } from "../color";
import type { Theme } from "../color";
import type { Comparison, Maps } from "../compare";
import { el, framed, number, say, sizeCanvas } from "../dom";
import type { Compared } from "../protocol";
import type { Session } from "../session";
import { listenTo } from "./gestures";

/** Less, none, more. */
const ENDS: Record<Theme, [number[], number[], number[]]> = {
  light: [[33, 92, 190], [255, 255, 255], [194, 84, 10]],
  dark: [[110, 165, 255], [25, 26, 36], [255, 170, 80]],
};
const NAMED = 11;
const MOST_PX = 44;
const LARGEST = 460;
const PARTS = ["a", "b", "change"] as const;
type Part = (typeof PARTS)[number];

export interface Cell {
  r: number;
  c: number;
}

export class Triptych {
  readonly element: HTMLElement;
  readonly legend: HTMLElement;
  cell: Cell | null = null;
  private readonly canvases: Record<Part, HTMLCanvasElement>;
  private readonly scale = el("canvas", { class: "fv-scale", "aria-hidden": "true" });
  private readonly ends = [el("span"), el("span")] as const;
  private view = { r: 0, c: 0, px: 1, left: 0, top: 0, size: 200 };
  private readonly images = new Map<Part, { maps: Maps; theme: Theme; image: OffscreenCanvas }>();
  private fitted = false;
  readonly draw = framed(() => this.drawNow());
  private readonly onResize = new ResizeObserver(framed(() => this.fit()));

  constructor(
    private readonly session: Session, private readonly comparison: Comparison, about: Compared,
    private readonly row: () => number | null, private readonly point: (cell: Cell | null) => void,
  ) {
    const titles: Record<Part, string> = { a: about.label, b: about.other, change: `${about.other} − ${about.label}` };
    const canvas = (part: Part) => el("canvas", { class: "fv-map", role: "img", "aria-label": titles[part] });
    this.canvases = { a: canvas("a"), b: canvas("b"), change: canvas("change") };
    this.element = el("div", { class: "fv-three" }, ...PARTS.map((part) => el("figure", { "data-part": part }, el("figcaption", { title: titles[part] }, titles[part]), this.canvases[part])));
    this.legend = el("div", { class: "fv-legend" }, this.ends[0], this.scale, this.ends[1]);
    for (const part of PARTS) this.listen(this.canvases[part]);
    this.onResize.observe(this.element);
  }

  close(): void {
    this.onResize.disconnect();
  }

  fit(): void {
    this.fitted = false;
    this.draw();
  }

  private least({ height, width }: Maps): number {
    const { size, left, top } = this.view;
    return Math.min(MOST_PX, (size - left - 1) / Math.max(1, width), (size - top - 1) / Math.max(1, height));
  }

  private fitNow(maps: Maps): void {
    const { view } = this;
    view.size = Math.max(160, Math.min(LARGEST, (this.element.firstElementChild as HTMLElement).clientWidth));
    for (const [left, top] of [[66, 60], [6, 6]] as const) {
      Object.assign(view, { left, top });
      if (this.least(maps) >= NAMED) break;
    }
    Object.assign(view, { r: 0, c: 0, px: this.least(maps) });
    this.fitted = true;
  }

  zoom(by: number, x = this.view.size / 2, y = this.view.size / 2): void {
    const { view, comparison: { maps } } = this;
    if (!maps) return;
    const [c, r] = [view.c + (x - view.left) / view.px, view.r + (y - view.top) / view.px];
    view.px = Math.max(this.least(maps), Math.min(MOST_PX, view.px * by));
    this.moveTo(maps, r - (y - view.top) / view.px, c - (x - view.left) / view.px);
  }

  private moveTo({ height, width }: Maps, r: number, c: number): void {
    const { view } = this;
    view.r = Math.max(0, Math.min(height - (view.size - view.top) / view.px, r));
    view.c = Math.max(0, Math.min(width - (view.size - view.left) / view.px, c));
    this.draw();
  }

  private drawNow(): void {
    const { maps } = this.comparison;
    this.element.hidden = this.legend.hidden = !maps;
    if (!maps) return;
    if (!this.fitted) this.fitNow(maps);
    for (const part of PARTS) this.drawPart(part, maps);
    this.drawScale(maps.change);
  }

  private drawPart(part: Part, maps: Maps): void {
    const { left, top, px, r, c, size } = this.view;
    const { theme } = this.session;
    const [bottom, right] = [Math.min(size, top + (maps.height - r) * px), Math.min(size, left + (maps.width - c) * px)];
    const context = sizeCanvas(this.canvases[part], size, Math.ceil(bottom) + 1);
    context.save();
    context.beginPath();
    context.rect(left, top, right - left, bottom - top);
    context.clip();
    context.imageSmoothingEnabled = px < 1;
    context.drawImage(this.image(part, maps), left - c * px, top - r * px, maps.width * px, maps.height * px);
    for (let i = Math.floor(r); px > 5 && i < maps.height && top + (i - r) * px < bottom; i++) {
      for (let j = Math.floor(c); j < maps.width && left + (j - c) * px < right; j++) {
        if (Number.isNaN(valueOf(part, maps, i * maps.width + j))) slash(context, left + (j - c) * px, top + (i - r) * px, px, INK[theme].muted);
      }
    }
    context.restore();
    context.strokeStyle = INK[theme].faint;
    context.strokeRect(left - 0.5, top - 0.5, right - left + 1, bottom - top + 1);
    this.drawNames(context, part, right, bottom);
    this.drawMark(context, right, bottom);
  }

  /** A head as a picture of one pixel a cell, painted once. */
  private image(part: Part, maps: Maps): OffscreenCanvas {
    const { theme } = this.session;
    const present = this.images.get(part);
    if (present?.maps === maps && present.theme === theme) return present.image;
    const image = new OffscreenCanvas(Math.max(1, maps.width), Math.max(1, maps.height));
    const pixels = new ImageData(image.width, image.height);
    const words = new Uint32Array(pixels.data.buffer);
    const [table, none] = [heatTable(theme), packed(rgb(INK[theme].faint))];
    maps.a.forEach((_, at) => {
      const value = valueOf(part, maps, at);
      if (Number.isNaN(value)) words[at] = none;
      else words[at] = part === "change" ? packed(diverging(value / (maps.change || 1), theme)) : (table[heatIndex(value, maps.peak)] as number);
    });
    image.getContext("2d")?.putImageData(pixels, 0, 0);
    this.images.set(part, { maps, theme, image });
    return image;
  }

  private drawNames(context: CanvasRenderingContext2D, part: Part, right: number, bottom: number): void {
    const { view: { left, top, px, r, c }, session, comparison: { rows, columns }, comparison } = this;
    if (px < NAMED || left < 20) return;
    const ink = INK[session.theme];
    const here = (slots: Comparison["rows"], slot: number) => (part === "b" || (slots.a[slot] as number) >= 0) && (part === "a" || (slots.b[slot] as number) >= 0);
    const short = (text: string) => (text.length > 10 ? `${text.slice(0, 9)}…` : text || "·");
    context.font = `10px ${getComputedStyle(this.element).fontFamily}`;
    context.textBaseline = "middle";
    context.fillStyle = ink.muted;
    context.textAlign = "right";
    for (let i = Math.ceil(r); top + (i - r + 0.5) * px < bottom; i++) {
      if (here(rows, i)) context.fillText(short(comparison.text("query", i)), left - 5, top + (i - r + 0.5) * px);
    }
    context.textAlign = "left";
    for (let j = Math.ceil(c); left + (j - c + 0.5) * px < right; j++) {
      if (!here(columns, j)) continue;
      context.save();
      context.translate(left + (j - c + 0.5) * px, top - 5);
      context.rotate(-Math.PI / 3);
      context.fillText(short(comparison.text("key", j)), 0, 0);
      context.restore();
    }
  }

  /** The row that is looked at and the cell that is pointed at, at the same place in all three. */
  private drawMark(context: CanvasRenderingContext2D, right: number, bottom: number): void {
    const { view: { left, top, px, r, c }, cell } = this;
    const row = cell?.r ?? this.row();
    if (row === null) return;
    context.save();
    context.beginPath();
    context.rect(left - 1, top - 1, right - left + 2, bottom - top + 2);
    context.clip();
    context.strokeStyle = INK[this.session.theme].mark;
    context.strokeRect(left - 0.5, top + (row - r) * px - 0.5, right - left + 1, Math.max(2, px) + 1);
    if (cell) context.strokeRect(left + (cell.c - c) * px, top + (cell.r - r) * px, Math.max(2, px), Math.max(2, px));
    context.restore();
  }

  private drawScale(peak: number): void {
    const context = sizeCanvas(this.scale, 96, 8);
    for (let x = 0; x < 96; x++) {
      context.fillStyle = `rgb(${diverging((2 * x) / 95 - 1, this.session.theme).join(", ")})`;
      context.fillRect(x, 0, 1, 8);
    }
    context.strokeStyle = INK[this.session.theme].faint;
    context.strokeRect(0.5, 0.5, 95, 7);
    say(this.ends[0], peak ? `−${number(peak)}` : "0");
    say(this.ends[1], peak ? `+${number(peak)}` : "0");
  }

  private at({ x, y }: { x: number; y: number }): Cell | null {
    const { view, comparison: { maps } } = this;
    if (!maps || x < view.left || y < view.top) return null;
    const [r, c] = [Math.floor(view.r + (y - view.top) / view.px), Math.floor(view.c + (x - view.left) / view.px)];
    return r < maps.height && c < maps.width ? { r, c } : null;
  }

  private hover(cell: Cell | null): void {
    if (cell?.r === this.cell?.r && cell?.c === this.cell?.c) return;
    this.cell = cell;
    this.point(cell);
    this.draw();
  }

  private listen(canvas: HTMLCanvasElement): void {
    listenTo(canvas, {
      zoom: (by, x, y) => this.zoom(by, x, y),
      pan: (dx, dy) => {
        const { view, comparison: { maps } } = this;
        if (maps) this.moveTo(maps, view.r - dy / view.px, view.c - dx / view.px);
      },
      point: (at) => this.hover(at && this.at(at)),
      pick: (x, y, cause) => {
        const cell = this.at({ x, y });
        const unit = cell ? (this.comparison.rows.a[cell.r] as number) : -1;
        if (unit >= 0) this.session.set({ direction: "reads", cursor: unit, other: null, locked: true }, cause);
      },
      dive: () => undefined,
      canZoomOut: () => {
        const { view, comparison: { maps } } = this;
        return maps !== null && view.px > this.least(maps); // else all is seen: let the page scroll
      },
    });
  }
}

function valueOf(part: Part, { a, b }: Maps, at: number): number {
  const [x, y] = [a[at] as number, b[at] as number];
  return part === "a" ? x : part === "b" ? y : y - x;
}

function packed([red, green, blue]: number[]): number {
  return ((255 << 24) | ((blue as number) << 16) | ((green as number) << 8) | (red as number)) >>> 0;
}

/** -1 .. 1 as a colour, 0 that of the paper; small differences are lifted as small weights are in a heatmap. */
function diverging(part: number, theme: Theme): number[] {
  const [less, none, more] = ENDS[theme];
  const [end, far] = [part < 0 ? less : more, Math.min(1, Math.sqrt(Math.abs(part)))];
  return none.map((x, n) => Math.round(x + ((end[n] as number) - x) * far));
}

/** What a document does not have. */
function slash(context: CanvasRenderingContext2D, x: number, y: number, px: number, color: string): void {
  context.save();
  context.globalAlpha = 0.35;
  context.strokeStyle = color;
  context.beginPath();
  context.moveTo(x, y + px);
  context.lineTo(x + px, y);
  context.stroke();
  context.restore();
}
