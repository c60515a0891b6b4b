// The whole map of the chosen head: canvas tiles that are asked for as they come into sight, with zoom, pan and a crosshair.

import { heatTable, INK, paint } from "../color";
import { el, framed, number, put, say, sizeCanvas } from "../dom";
import { measure } from "../layout";
import type { Session } from "../session";
import { aborted, Cache } from "../source";
import { named } from "../units";
import { drawFrame, gutters, NAMED_FROM } from "./frame";
import type { View } from "./frame";
import { CellNumbers } from "./numbers";
import { headOf } from "./sentences";

const TILE = 256;
const MOST_PX = 56;
const TALLEST = 560;
/** A pixel never stands for more than 64 x 64 weights, so that no tile takes minutes. */
const LEAST_PX = 0.75 / 64;
const AT_ONCE = 2;

interface Drawn {
  image: OffscreenCanvas;
  pixels: Uint8Array;
  height: number;
  width: number;
  peak: number;
  painted: string;
  pooled: number;
}

export class HeatmapView {
  readonly element: HTMLElement;
  readonly canvas = el("canvas", { class: "fv-map", role: "img", tabindex: "0", "aria-label": "Heatmap" });
  private readonly readout = el("p", { class: "fv-readout" });
  private readonly scale = el("canvas", { class: "fv-scale", "aria-hidden": "true" });
  private readonly where = el("span", { class: "fv-quiet" });
  private pending = 0;
  /** Tokens on a side of a cell, where what is shown is a pooled picture and not weights. */
  private pooled = 0;
  private problem = "";
  private readonly scaleEnd = el("span");
  private readonly tiles = new Cache<Drawn | Promise<void>>(96);
  private abort = new AbortController();
  private view: View = { r: 0, c: 0, px: 1, width: 320, height: 320, left: 60, top: 60, right: 20 };
  private fitted = "";
  private least = 1;
  private cell: { i: number; j: number } | null = null;
  private drag: { x: number; y: number; r: number; c: number; moved: boolean } | null = null;
  private readonly numbers: CellNumbers;
  private readonly peaks = new Map<string, { all: number; plain: number }>();
  readonly draw = framed(() => this.drawNow());
  private readonly onResize = new ResizeObserver(framed(() => { this.fitted = ""; this.drawNow(); }));

  constructor(private readonly session: Session) {
    this.numbers = new CellNumbers(session, () => this.draw());
    const button = (text: string, label: string, act: () => void) => el("button", { type: "button", class: "fv-small", "aria-label": label, title: label, click: act }, text);
    const tools = el("div", { class: "fv-tools" },
      button("−", "Zoom out", () => this.zoom(1 / 1.6)), button("+", "Zoom in", () => this.zoom(1.6)), button("Fit", "Show all", () => this.fit()));
    const foot = el("div", { class: "fv-foot" }, this.readout, el("div", { class: "fv-legend" }, "0", this.scale, this.scaleEnd));
    this.element = el("section", { class: "fv-card fv-heat", "aria-label": "Map of the chosen head" },
      el("div", { class: "fv-head" }, el("h2", {}, "Map"), this.where, tools), el("div", { class: "fv-mapbox" }, this.canvas), foot);
    this.listen();
    this.onResize.observe(this.element);
  }

  close(): void {
    this.onResize.disconnect();
    this.abort.abort();
  }

  private key(): string {
    const { call, sequence, head, level } = this.session.state;
    return [call, sequence, head, level].join();
  }

  update(): void {
    const name = this.key();
    if (this.canvas.dataset.of !== name) {
      this.canvas.dataset.of = name;
      this.abort.abort();
      this.abort = new AbortController();
      this.problem = "";
      this.cell = null;
      this.fetched = null;
    }
    const { query, key } = this.session.axes;
    const size = [query.length, key.length, this.session.state.special].join();
    if (!this.fitted.startsWith(`${size};`)) this.fitted = "";
    this.draw();
  }

  private fit(): void {
    this.fitted = "";
    this.draw();
  }

  private fitNow(): void {
    const { query, key } = this.session.axes;
    const width = Math.floor(Math.max(160, Math.min(620, this.element.clientWidth - 28)));
    let most = MOST_PX;
    for (const least of NAMED_FROM) {
      const { left, top, right } = gutters(this.session.axes, least, measure);
      const fit = Math.min((width - left - right) / Math.max(1, key.length), (TALLEST - top) / Math.max(1, query.length), most);
      const px = Math.max(fit, LEAST_PX);
      const height = Math.ceil(Math.max(120, Math.min(TALLEST, top + px * query.length) + 2));
      this.view = { r: 0, c: 0, px, width, height, left, top, right };
      if (px >= least) break;
      most = least - 0.01; // with less room around there may be enough for larger cells, which would need more room
    }
    this.least = this.view.px;
    this.fitted = `${query.length},${key.length},${this.session.state.special};`;
  }

  private zoom(by: number, x?: number, y?: number): void {
    const { view } = this;
    const px = Math.max(this.least, Math.min(MOST_PX, view.px * by));
    const ax = x ?? (view.left + view.width - view.right) / 2;
    const ay = y ?? (view.top + view.height) / 2;
    const c = view.c + (ax - view.left) / view.px;
    const r = view.r + (ay - view.top) / view.px;
    view.px = px;
    Object.assign(view, gutters(this.session.axes, px, measure));
    this.moveTo(r - (ay - view.top) / px, c - (ax - view.left) / px);
  }

  private moveTo(r: number, c: number): void {
    const { view, session } = this;
    const { query, key } = session.axes;
    view.r = Math.max(0, Math.min(query.length - (view.height - view.top - 2) / view.px, r));
    view.c = Math.max(0, Math.min(key.length - (view.width - view.left - view.right) / view.px, c));
    view.r = Math.max(0, view.r);
    view.c = Math.max(0, view.c);
    this.draw();
  }

  /** The tile of cells r0.. c0.. where a pixel stands for block x block cells; asks for it if it is not here. */
  private tile(block: number, tr: number, tc: number): Drawn | null {
    const { session } = this;
    const { call, sequence, head, level } = session.state;
    const { query, key } = session.axes;
    const of = this.key();
    const name = `${of}/${block}/${tr}/${tc}`;
    const present = this.tiles.get(name);
    if (present) return present instanceof Promise ? null : present;
    if (this.pending >= AT_ONCE) return null; // asked for when another has come
    const span = TILE * block;
    const [r0, c0] = [tr * span, tc * span];
    const [r1, c1] = [Math.min(query.length, r0 + span), Math.min(key.length, c0 + span)];
    const [height, width] = [Math.ceil((r1 - r0) / block), Math.ceil((c1 - c0) / block)];
    this.pending++;
    const asked = session.source.tile({ call, sequence, head, r0, r1, c0, c1, height, width, how: "max", level }, this.abort.signal).then(
      ({ pixels, peak, pooled = 0 }) => {
        this.pending--;
        this.tiles.set(name, { image: new OffscreenCanvas(width, height), pixels, height, width, peak, painted: "", pooled });
        const plain = block > 1 ? peak : (peak * this.plainPeak(pixels, r0, c0, width)) / 255;
        const before = this.peaks.get(of) ?? { all: 0, plain: 0 };
        this.peaks.set(of, { all: Math.max(before.all, peak), plain: Math.max(before.plain, plain) });
        this.draw();
      },
      (error: unknown) => {
        this.pending--;
        if (aborted(error)) this.tiles.delete(name); // one that failed is not asked for again
        else this.problem = error instanceof Error ? error.message : String(error);
        this.draw();
      },
    );
    this.tiles.set(name, asked);
    return null;
  }

  /** The largest pixel that is not in the row or column of a special token. */
  private plainPeak(pixels: Uint8Array, r0: number, c0: number, width: number): number {
    const { query, key } = this.session.axes;
    let result = 0;
    pixels.forEach((value, at) => {
      if (value > result && !query.special[r0 + Math.floor(at / width)] && !key.special[c0 + (at % width)]) result = value;
    });
    return result;
  }

  /** Where the colours end: the largest weight of the head, as far as it is known and shown. */
  private get peak(): number {
    const { session } = this;
    const seen = this.peaks.get(this.key());
    if (!session.state.special) return seen?.plain || 1;
    const known = session.state.level === "token" ? session.peak(session.state.head) : null;
    return Math.max(known ?? 0, seen?.all ?? 0) || 1;
  }

  private drawNow(): void {
    if (!this.fitted) this.fitNow();
    this.drawMap(sizeCanvas(this.canvas, this.view.width, this.view.height));
    this.drawScale(this.peak);
    this.describe();
    setTimeout(() => this.tellWhere(), 250);
  }

  private drawMap(context: CanvasRenderingContext2D): void {
    const { width, height, left, top, right } = this.view;
    context.save();
    context.beginPath();
    context.rect(left, top, width - left - right, height - top);
    context.clip();
    this.drawTiles(context, this.peak);
    this.numbers.draw(context, this.view, this.peak);
    context.restore();
    drawFrame(context, this.canvas, this.session, this.view, this.cell);
  }

  /** The map as it is seen, drawn `scale` times as large. */
  picture(scale: number): HTMLCanvasElement {
    const { width, height, left, right, px } = this.view;
    const used = Math.min(width, left + this.session.axes.key.length * px + right);
    const canvas = el("canvas", { width: Math.ceil(used * scale), height: Math.ceil(height * scale) });
    const context = canvas.getContext("2d") as CanvasRenderingContext2D;
    context.scale(scale, scale);
    this.drawMap(context);
    return canvas;
  }

  private tellWhere(): void {
    const { call, state } = this.session;
    const few = call.kept ? ` · the ${call.kept} largest of each row` : "";
    const what = this.pooled > 1 ? ` · pooled: largest of ${this.pooled} × ${this.pooled} tokens` : this.pooled ? "" : few;
    say(this.where, this.pending ? "computing …" : `${headOf(call, state.head)}${what}`);
  }

  private drawTiles(context: CanvasRenderingContext2D, peak: number): void {
    const { width, height, left, top, right, px, r, c } = this.view;
    const { query, key } = this.session.axes;
    let block = 1;
    while (block * px < 0.75) block *= 2;
    const span = TILE * block;
    const [r1, c1] = [Math.min(query.length, r + (height - top) / px), Math.min(key.length, c + (width - left - right) / px)];
    const look = `${this.session.theme}/${peak}`;
    context.imageSmoothingEnabled = block > 1 && block * px < 1;
    this.pooled = 0;
    for (let tr = Math.floor(r / span); tr * span < r1; tr++) {
      for (let tc = Math.floor(c / span); tc * span < c1; tc++) {
        const tile = this.tile(block, tr, tc);
        if (!tile) continue;
        this.pooled = Math.max(this.pooled, tile.pooled);
        if (tile.painted !== look) {
          tile.painted = look;
          tile.image.getContext("2d")?.putImageData(paint(tile.pixels, tile.width, tile.height, tile.peak, peak, this.session.theme), 0, 0);
        }
        const [w, h] = [Math.min(key.length - tc * span, span), Math.min(query.length - tr * span, span)];
        context.drawImage(tile.image, left + (tc * span - c) * px, top + (tr * span - r) * px, w * px, h * px);
      }
    }
  }

  private drawScale(peak: number): void {
    const context = sizeCanvas(this.scale, 96, 8);
    const table = heatTable(this.session.theme);
    for (let x = 0; x < 96; x++) {
      const word = table[Math.round(255 * Math.sqrt(x / 95))] as number;
      context.fillStyle = `rgb(${word & 255}, ${(word >> 8) & 255}, ${(word >> 16) & 255})`;
      context.fillRect(x, 0, 1, 8);
    }
    context.strokeStyle = INK[this.session.theme].faint;
    context.strokeRect(0.5, 0.5, 95, 7);
    say(this.scaleEnd, number(peak));
  }

  /** The cell the crosshair is on: pointed at, or the selected pair. */
  private get crosshair(): { i: number; j: number | null } | null {
    if (this.cell) return this.cell;
    const { active, other } = this.session;
    if (!active) return null;
    if (active.direction === "reads") return { i: active.unit, j: other };
    return other === null ? null : { i: other, j: active.unit };
  }

  private describe(): void {
    const { session } = this;
    const { query, key } = session.axes;
    put(this.canvas, "aria-label", `Heatmap of ${headOf(session.call, session.state.head)}: ${query.length} by ${key.length} weights. Arrow keys move, Enter selects, plus and minus zoom, 0 shows all.`);
    const at = this.crosshair;
    if (this.problem) return say(this.readout, this.problem);
    if (!at || at.j === null) return say(this.readout, "Point at a cell");
    const weight = this.weightAt(at.i, at.j);
    say(this.readout, `${named(query, at.i, 16)} → ${named(key, at.j, 16)}  ${weight === null ? this.missing : number(weight, true)}`);
  }

  /** What stands in the place of a weight that is not at hand: yet, or at all. */
  private get missing(): string {
    const { kept } = this.session.call;
    return kept ? `not among the ${kept} largest of this row, which this page holds` : "…";
  }

  /** Exact where the row is at hand. */
  private weightAt(i: number, j: number): number | null {
    const { session } = this;
    const { shown, weights } = session;
    if (!shown || !weights) return null;
    const at = shown.direction === "reads" ? (shown.unit === i ? j : -1) : shown.unit === j ? i : -1;
    if (at < 0) {
      const here = this.fetched?.i === i ? this.fetched.row[j] : undefined;
      return here === undefined || Number.isNaN(here) ? null : here;
    }
    const weight = weights.at(session.state.head, at);
    if (!Number.isNaN(weight)) return weight;
    const { pair, pairAt, state } = session; // only the largest are at hand
    return session.paired && pairAt?.i === i && pairAt.j === j && state.level === "token" ? (pair?.weight ?? null) : null;
  }

  private fetched: { i: number; row: Float32Array } | null = null;

  /** While a word is locked, a pointed-at cell of another row needs that row. */
  private fetchRow(i: number): void {
    const { session } = this;
    const { call, sequence, level, head } = session.state;
    if (this.fetched?.i === i || session.axes.key.length > 8192) return;
    const name = this.key();
    session.source.row({ call, sequence, index: i, direction: "reads", level }).then(({ weights, length }) => {
      if (this.key() !== name || this.cell?.i !== i) return;
      this.fetched = { i, row: weights.subarray(head * length, (head + 1) * length) };
      this.describe();
    }, (error: unknown) => session.fail(error));
  }

  private cellAt(event: MouseEvent): { i: number; j: number } | null {
    const { view, session } = this;
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    if (x < view.left || y < view.top || x > view.width - view.right) return null;
    const [i, j] = [Math.floor(view.r + (y - view.top) / view.px), Math.floor(view.c + (x - view.left) / view.px)];
    const { query, key } = session.axes;
    return i < query.length && j < key.length ? { i, j } : null;
  }

  private hover(event: PointerEvent): void {
    const { session, drag, view } = this;
    if (drag) {
      if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 3) drag.moved = true;
      if (drag.moved) this.moveTo(drag.r - (event.clientY - drag.y) / view.px, drag.c - (event.clientX - drag.x) / view.px);
      return;
    }
    const cell = this.cellAt(event);
    if (cell?.i === this.cell?.i && cell?.j === this.cell?.j) return;
    this.cell = cell;
    if (cell && !session.state.locked) {
      session.point({ unit: cell.i, direction: "reads" }, event.timeStamp);
      session.pointOther(cell.j);
    } else if (cell) {
      this.fetchRow(cell.i);
      const { direction, cursor } = session.state;
      const [from, to] = direction === "reads" ? [cell.i, cell.j] : [cell.j, cell.i];
      session.pointOther(from === cursor ? to : null);
    } else session.pointOther(null);
    this.draw();
  }

  private select(cell: { i: number; j: number }, cause = 0): void {
    this.fetched = null;
    this.session.set({ direction: "reads", cursor: cell.i, other: cell.j, locked: true }, cause);
  }

  private listen(): void {
    const { canvas, session } = this;
    canvas.addEventListener("pointerdown", (event) => {
      this.drag = { x: event.clientX, y: event.clientY, r: this.view.r, c: this.view.c, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => this.hover(event));
    canvas.addEventListener("pointerup", (event) => {
      const moved = this.drag?.moved;
      this.drag = null;
      const cell = this.cellAt(event);
      if (cell && !moved) this.select(cell, event.timeStamp);
    });
    canvas.addEventListener("pointerleave", (event) => {
      this.cell = null;
      session.pointOther(null);
      session.point(null, event.timeStamp);
      this.draw();
    });
    canvas.addEventListener("wheel", (event) => {
      const box = canvas.getBoundingClientRect();
      const by = Math.exp(-event.deltaY * 0.002);
      if (by < 1 && this.view.px <= this.least) return; // all is seen: let the page scroll
      event.preventDefault();
      this.zoom(by, event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.press(event));
  }

  private press(event: KeyboardEvent): void {
    const steps: Record<string, [number, number]> = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const step = steps[event.key];
    if (event.key === "+" || event.key === "=") this.zoom(1.6);
    else if (event.key === "-") this.zoom(1 / 1.6);
    else if (event.key === "0") this.fit();
    else if (step) this.step(step);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private step([down, right]: [number, number]): void {
    const { query, key } = this.session.axes;
    const at = this.crosshair ?? { i: 0, j: 0 };
    const i = Math.max(0, Math.min(query.length - 1, at.i + down));
    const j = Math.max(0, Math.min(key.length - 1, (at.j ?? 0) + right));
    this.cell = null;
    this.select({ i, j });
    const { view } = this;
    const [rows, columns] = [(view.height - view.top) / view.px, (view.width - view.left - view.right) / view.px];
    this.moveTo(Math.min(i, Math.max(view.r, i + 1 - rows)), Math.min(j, Math.max(view.c, j + 1 - columns)));
  }
}

