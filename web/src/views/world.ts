// One head of a long text as a map of the world: all of it first, then any part, down to single tokens. Always in tokens.

import { Camera } from "../camera";
import { coloured, logTable } from "../color";
import { el, framed, number, put, say, sizeCanvas } from "../dom";
import { FONT } from "../layout";
import { byteWeight, logByte } from "../scale";
import type { Session } from "../session";
import { aborted } from "../source";
import { above, below, lastZoom, side, tilesIn, zoomFor } from "../tiling";
import type { Box, Place, Spot } from "../tiling";
import { Tiles } from "../tiles";
import type { Kept, Which } from "../tiles";
import { axes as makeAxes, named, unitAt } from "../units";
import type { Axes } from "../units";
import { ExactRows } from "./exactrows";
import { listenTo } from "./gestures";
import { LogLegend } from "./loglegend";
import { Minimap } from "./minimap";
import { cellText, inkOn, LEAST, NARROW } from "./numbers";
import { headOf } from "./sentences";
import { drawWorldFrame, place } from "./worldframe";
import type { Found, Marks } from "./worldframe";

/** Pixels of a token where a jump ends, so that tokens are named. */
const READABLE = 14;
const TALLEST = 600;
const GLIDE_MS = 180;
const SETTLE_MS = 220;
const REST_MS = 70;

export class WorldView {
  readonly element: HTMLElement;
  readonly canvas = el("canvas", { class: "fv-map fv-world", role: "img", tabindex: "0" });
  /** Told when the reader has moved the map and it stands still. */
  moved: (box: Box) => void = () => undefined;
  found: Found = { rows: [], columns: [] };
  private readonly readout = el("p", { class: "fv-readout" });
  private readonly where = el("span", { class: "fv-quiet" });
  private readonly legend: LogLegend;
  private readonly minimap = new Minimap((row, column) => this.centre(row, column));
  private readonly tiles: Tiles;
  private readonly rows: ExactRows;
  private readonly pictures = new WeakMap<Kept, { image: OffscreenCanvas; look: string }>();
  private readonly camera = new Camera();
  private axes: Axes;
  private of = "";
  private fitted = false;
  private cursor: number | null = null;
  private placed: Place | null = null;
  private cell: { i: number; j: number } | null = null;
  private exact: { i: number; j: number; weight: number } | null = null;
  private pair = new AbortController();
  private problem = "";
  private gliding = 0;
  private settle: ReturnType<typeof setTimeout> | undefined;
  private rest: ReturnType<typeof setTimeout> | undefined;
  readonly draw = framed(() => this.drawNow());
  private readonly onResize = new ResizeObserver(framed(() => this.resize()));

  constructor(private readonly session: Session) {
    this.axes = this.tokens();
    this.tiles = new Tiles(session.source, this.draw, (error) => this.fail(error));
    this.rows = new ExactRows(session.source, this.draw);
    this.legend = new LogLegend((how) => session.set({ how }));
    const button = (text: string, label: string, act: () => void) => el("button", { type: "button", class: "fv-small", "aria-label": label, title: label, click: act }, text);
    const tools = el("div", { class: "fv-tools" }, this.legend.how.element,
      button("−", "Zoom out", () => this.step(-1)), button("+", "Zoom in", () => this.step(1)), button("Fit", "Show all", () => this.fit()));
    this.element = el("section", { class: "fv-card fv-heat", "aria-label": "Map of the chosen head" },
      el("div", { class: "fv-head" }, el("h2", {}, "Map"), this.where, tools),
      el("div", { class: "fv-mapbox" }, this.canvas),
      el("div", { class: "fv-worldfoot" }, el("div", { class: "fv-worldwords" }, this.readout, this.legend.element), this.minimap.element));
    this.listen();
    this.onResize.observe(this.element);
  }

  close(): void {
    this.onResize.disconnect();
    this.tiles.close();
    this.pair.abort();
    cancelAnimationFrame(this.gliding);
    clearTimeout(this.settle);
    clearTimeout(this.rest);
  }

  private tokens(): Axes {
    const { session } = this;
    return session.state.level === "token" ? session.axes : makeAxes(session.doc, session.call, session.state.sequence, "token");
  }

  private fail(error: unknown): void {
    if (aborted(error)) return;
    this.problem = error instanceof Error ? error.message : String(error);
    this.draw();
  }

  /** Follows the session: another map, another place, another word. */
  update(): void {
    const { state } = this.session;
    const of = [state.call, state.sequence, state.level].join();
    if (of !== this.of) {
      this.of = of;
      const { query, key } = this.axes;
      this.axes = this.tokens();
      if (this.axes.query.length !== query.length || this.axes.key.length !== key.length) this.fitted = false;
    }
    this.problem = "";
    this.exact = null;
    if (!this.fitted) this.fitNow();
    if (state.place !== this.placed) {
      this.placed = state.place;
      this.camera.go(state.place);
    }
    const { active } = this.session;
    if (active?.unit !== this.cursor) {
      if (this.cursor !== null && state.locked) this.follow();
      this.cursor = active?.unit ?? null;
    }
    this.draw();
  }

  private fitNow(): void {
    const { query, key } = this.axes;
    this.camera.fit(query.length, key.length, Math.floor(Math.max(200, this.element.clientWidth - 28)), TALLEST);
    this.fitted = true;
  }

  private resize(): void {
    const here = this.camera.whole ? null : this.camera.here;
    this.fitNow();
    this.camera.go(here);
    this.draw();
  }

  /** Drawn now, and when it stands still others hear of it: the text need not follow where it led. */
  private touched(led = false): void {
    this.draw();
    put(this.element, "data-moving", "true");
    clearTimeout(this.settle);
    this.settle = setTimeout(() => {
      put(this.element, "data-moving", "false");
      const { state } = this.session;
      state.place = this.placed = this.camera.whole ? null : this.camera.here;
      this.session.emit("place");
      if (!led) this.moved(this.camera.box);
    }, SETTLE_MS);
  }

  private pan(dx: number, dy: number): void {
    cancelAnimationFrame(this.gliding);
    this.camera.pan(dx, dy);
    this.touched();
  }

  private centre(row: number, column: number): void {
    this.camera.go({ ...this.camera.here, row, column });
    this.touched();
  }

  private fit(): void {
    this.glide({ row: this.axes.query.length / 2, column: this.axes.key.length / 2, zoom: Infinity });
  }

  private step(by: number): void {
    const { here } = this.camera;
    this.glide({ ...here, zoom: here.zoom - by });
  }

  /** Moves the middle of the view there, in a few frames where the reader does not mind motion. */
  private glide(there: Place, led = false): void {
    cancelAnimationFrame(this.gliding);
    const from = this.camera.here;
    const to = { ...there, zoom: -Math.log2(this.camera.inside(2 ** -there.zoom)) };
    const start = performance.now();
    const { view } = this.camera;
    const far = Math.max(Math.abs(to.row - from.row), Math.abs(to.column - from.column)) * view.px > 2 * view.height; // a blur nobody sees
    const still = far || window.matchMedia?.("(prefers-reduced-motion: reduce)").matches;
    const frame = () => {
      const t = still ? 1 : Math.min(1, (performance.now() - start) / GLIDE_MS);
      const between = (key: keyof Place) => from[key] + (to[key] - from[key]) * t * (2 - t);
      this.camera.go({ row: between("row"), column: between("column"), zoom: between("zoom") });
      this.touched(led);
      if (t < 1) this.gliding = requestAnimationFrame(frame);
    };
    frame();
  }

  /** Brings a row, a column or a cell to the middle, near enough to read its tokens. */
  reveal(i: number | null, j: number | null): void {
    const { here, view } = this.camera;
    const whole = view.px < 1;
    const row = i ?? (whole ? (j ?? 0) : here.row);
    const column = j ?? (whole ? (i ?? 0) : here.column);
    this.glide({ row: row + 0.5, column: column + 0.5, zoom: Math.min(here.zoom, -Math.log2(READABLE)) }, true);
  }

  /** A word that was chosen elsewhere comes into sight, unless all is. */
  private follow(): void {
    const { i, j } = this.chosen;
    const { box, here, whole } = this.camera;
    if (whole) return;
    const row = i === null || (i >= box.r0 && i + 1 <= box.r1) ? here.row : i + 0.5;
    const column = j === null || (j >= box.c0 && j + 1 <= box.c1) ? here.column : j + 0.5;
    if (row !== here.row || column !== here.column) this.glide({ row, column, zoom: here.zoom }, true);
  }

  /** The chosen row and column, in tokens. */
  get chosen(): Marks {
    const { active, other, axes } = this.session;
    if (!active) return { i: null, j: null };
    const reads = active.direction === "reads";
    const [row, column] = reads ? [active.unit, other] : [other, active.unit];
    return { i: row === null ? null : (axes.query.starts[row] ?? null), j: column === null ? null : (axes.key.starts[column] ?? null) };
  }

  private get which(): Which {
    const { call, sequence, head, how } = this.session.state;
    return { call, sequence, head, how };
  }

  /** Colours begin at the power of ten nearest to what each key would get if all got the same. */
  private get low(): number {
    return logByte(10 ** -Math.round(Math.log10(Math.max(10, this.axes.key.length))));
  }

  private drawNow(): void {
    if (!this.fitted) return;
    const { axes, session } = this;
    const { view } = this.camera;
    const context = sizeCanvas(this.canvas, view.width, view.height);
    const last = lastZoom(axes.query.length, axes.key.length);
    const top = { zoom: last, row: 0, column: 0 };
    const spots = tilesIn(this.camera.box, zoomFor(view.px, last), axes.query.length, axes.key.length);
    this.tiles.show(this.which, [top, ...spots]);
    this.drawMap(context, spots, last);
    const whole = this.tiles.get(top);
    this.minimap.draw(whole ? this.painted(whole) : null, this.camera.box, axes.query.length, axes.key.length, session.theme);
    this.describe(spots);
  }

  private drawMap(context: CanvasRenderingContext2D, spots: Spot[], last: number): void {
    const { width, height, left, top, right, px } = this.camera.view;
    context.save();
    context.beginPath();
    context.rect(left, top, width - left - right, height - top);
    context.clip();
    for (const spot of spots) this.drawSpot(context, spot, last);
    if (px >= NARROW) this.drawNumbers(context);
    context.restore();
    drawWorldFrame(context, FONT, this.session, this.axes, this.camera.view, this.cell ?? this.chosen, this.found);
  }

  /** A tile; while it is not here a part of a coarser one, and over it what is here of finer ones. */
  private drawSpot(context: CanvasRenderingContext2D, spot: Spot, last: number): void {
    const kept = this.tiles.get(spot);
    if (kept) return this.drawTile(context, spot, kept, spot);
    for (let up = 1; spot.zoom + up <= last; up++) {
      const coarser = above(spot, up);
      const present = this.tiles.get(coarser);
      if (!present) continue;
      this.drawTile(context, coarser, present, spot);
      break;
    }
    for (const finer of below(spot)) {
      const present = this.tiles.get(finer);
      if (present) this.drawTile(context, finer, present, finer);
    }
  }

  /** The part of a tile that lies under `spot`. */
  private drawTile(context: CanvasRenderingContext2D, at: Spot, kept: Kept, spot: Spot): void {
    const { px, r, c, left, top } = this.camera.view;
    const ratio = Math.max(1, window.devicePixelRatio || 1);
    const edge = (value: number) => Math.round(value * ratio) / ratio; // tiles meet without a seam
    const [cell, span] = [2 ** at.zoom, side(spot.zoom)];
    const [sx, sy] = [(spot.column * span - at.column * side(at.zoom)) / cell, (spot.row * span - at.row * side(at.zoom)) / cell];
    const [sw, sh] = [Math.min(span / cell, kept.width - sx), Math.min(span / cell, kept.height - sy)];
    if (sw <= 0 || sh <= 0) return;
    const [x, y] = [left + (spot.column * span - c) * px, top + (spot.row * span - r) * px];
    const [x0, y0, x1, y1] = [edge(x), edge(y), edge(x + sw * cell * px), edge(y + sh * cell * px)];
    context.imageSmoothingEnabled = cell * px < 1 || at.zoom > spot.zoom;
    context.drawImage(this.painted(kept), sx, sy, sw, sh, x0, y0, x1 - x0, y1 - y0);
  }

  private painted(kept: Kept): OffscreenCanvas {
    const look = `${this.session.theme}/${this.low}`;
    let present = this.pictures.get(kept);
    if (present?.look === look) return present.image;
    present = { image: new OffscreenCanvas(kept.width, kept.height), look };
    present.image.getContext("2d")?.putImageData(coloured(kept.pixels, kept.width, kept.height, logTable(this.low, this.session.theme)), 0, 0);
    this.pictures.set(kept, present);
    return present.image;
  }

  private row(i: number): Float32Array | null {
    const { call, state } = this.session;
    return this.rows.get({ call: state.call, sequence: state.sequence, head: state.head, heads: call.heads, keys: this.axes.key.length }, i);
  }

  private drawNumbers(context: CanvasRenderingContext2D): void {
    const { px, r, c, left, top } = this.camera.view;
    const { r1, c1 } = this.camera.box;
    const table = logTable(this.low, this.session.theme);
    context.font = `${px < 36 ? 10 : 11}px ${FONT}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let i = Math.floor(r); i < r1; i++) {
      const row = this.row(i);
      if (!row) continue;
      for (let j = Math.floor(c); j < c1; j++) {
        const weight = row[j] as number;
        if (!(weight >= LEAST)) continue;
        context.fillStyle = inkOn(table[logByte(weight)] as number);
        context.fillText(cellText(weight, px), left + (j - c + 0.5) * px, top + (i - r + 0.5) * px + 0.5);
      }
    }
  }

  /** The map as it is seen, drawn `scale` times as large. */
  picture(scale: number): HTMLCanvasElement {
    const { width, height, px } = this.camera.view;
    const { query, key } = this.axes;
    const canvas = el("canvas", { width: Math.ceil(width * scale), height: Math.ceil(height * scale) });
    const context = canvas.getContext("2d") as CanvasRenderingContext2D;
    context.scale(scale, scale);
    const last = lastZoom(query.length, key.length);
    this.drawMap(context, tilesIn(this.camera.box, zoomFor(px, last), query.length, key.length), last);
    return canvas;
  }

  private describe(spots: Spot[]): void {
    const { session, axes, tiles } = this;
    const { query, key } = axes;
    const name = headOf(session.call, session.state.head);
    put(this.canvas, "aria-label", `Map of ${name}: ${place(query.length)} by ${place(key.length)} weights. Arrow keys move the map, with Shift the crosshair, Enter selects, plus and minus zoom, 0 shows all.`);
    const here = spots.map((spot) => tiles.get(spot));
    const missing = here.some((kept) => !kept);
    const blank = missing && !tiles.get({ zoom: lastZoom(query.length, key.length), row: 0, column: 0 });
    say(this.where, missing && tiles.pending ? "computing …" : name);
    put(this.element, "data-tiles", blank ? "coming" : here.every((kept) => kept?.exact) ? "exact" : "rough");
    this.legend.show(session.theme, session.state.how, this.low, this.problem || this.note(here, spots[0]?.zoom ?? 0));
    say(this.readout, this.said());
  }

  /** What is exact, and what is not yet. */
  private note(here: (Kept | undefined)[], zoom: number): string {
    const cell = 2 ** zoom;
    const pooled = zoom ? `Each pixel is the ${this.session.state.how === "max" ? "largest" : "mean"} of ${cell} × ${cell} weights` : "Each cell is one weight";
    if (here.every((kept) => kept?.exact)) return `${pooled}, all computed.`;
    const { refined } = this.tiles;
    if (refined === null) return "The overview comes first.";
    return `${pooled}. ${Math.floor(100 * refined)} % of the rows are computed; the others look like the nearest that are.`;
  }

  /** The pointed-at cell, or the selected one, in words. */
  private said(): string {
    const at = this.cell ?? this.chosen;
    const { i, j } = at;
    if (i === null || j === null) return "Point at a place";
    const { axes } = this;
    const zoom = this.cell ? zoomFor(this.camera.view.px, lastZoom(axes.query.length, axes.key.length)) : 0;
    const weight = zoom ? null : this.weightAt(i, j);
    if (zoom && weight === null) {
      const cell = 2 ** zoom;
      const span = (from: number, length: number) => `${place(Math.floor(from / cell) * cell)}–${place(Math.min(length, (Math.floor(from / cell) + 1) * cell) - 1)}`;
      return `queries ${span(i, axes.query.length)} → keys ${span(j, axes.key.length)}  ${this.roughly(i, j, zoom)}`;
    }
    const word = (axis: Axes["query"], at: number) => `${named(axis, at, 16)} (${place(axis.offset + at)})`;
    return `${word(axes.query, i)} → ${word(axes.key, j)}  ${weight === null ? this.roughly(i, j, 0) : number(weight, true)}`;
  }

  /** What the picture says of a place. */
  private roughly(i: number, j: number, zoom: number): string {
    const span = side(zoom);
    const spot = { zoom, row: Math.floor(i / span), column: Math.floor(j / span) };
    const kept = this.tiles.get(spot);
    if (!kept) return "…";
    const at = Math.floor((i - spot.row * span) / 2 ** zoom) * kept.width + Math.floor((j - spot.column * span) / 2 ** zoom);
    const byte = kept.pixels[at] ?? 0;
    const weight = byteWeight(byte);
    const value = byte ? `${byte === 1 ? "≤" : "≈"} ${weight < 0.001 ? weight.toExponential(0).replace("-", "−") : weight.toPrecision(2)}` : "0";
    return `${zoom ? `${this.session.state.how === "max" ? "largest" : "mean"} ` : ""}${value}${kept.exact ? "" : " (not refined yet)"}`;
  }

  /** Exact where the row or the pair is at hand. */
  private weightAt(i: number, j: number): number | null {
    if (this.exact?.i === i && this.exact.j === j) return this.exact.weight;
    const { pair, paired, pairAt } = this.session;
    return paired && pairAt?.i === i && pairAt.j === j ? (pair?.weight ?? null) : null;
  }

  private point(at: { x: number; y: number } | null): void {
    const cell = at && this.camera.cellAt(at);
    if (cell?.i === this.cell?.i && cell?.j === this.cell?.j) return;
    this.cell = cell;
    clearTimeout(this.rest);
    if (cell && this.camera.view.px >= 1) this.rest = setTimeout(() => this.askExact(cell), REST_MS);
    this.draw();
  }

  /** Where the pointer rests on a single weight, it is computed. */
  private askExact({ i, j }: { i: number; j: number }): void {
    this.pair.abort();
    this.pair = new AbortController();
    const { call, sequence, head } = this.session.state;
    this.session.source.pair({ call, sequence, head, i, j }, this.pair.signal).then((pair) => {
      if (pair && pair.weight !== null) this.exact = { i, j, weight: pair.weight };
      this.draw();
    }, (error: unknown) => this.fail(error));
  }

  private select(i: number, j: number, cause: number): void {
    const { session } = this;
    const { query, key } = session.axes;
    session.set({ direction: "reads", cursor: unitAt(query, i), other: this.camera.view.px >= 1 ? unitAt(key, j) : null, locked: true }, cause);
  }

  private listen(): void {
    const { canvas } = this;
    listenTo(canvas, {
      zoom: (by, x, y) => {
        cancelAnimationFrame(this.gliding);
        this.camera.zoom(by, x, y);
        this.touched();
      },
      pan: (dx, dy) => this.pan(dx, dy),
      point: (at) => this.point(at),
      pick: (x, y, cause) => {
        const cell = this.camera.cellAt({ x, y });
        if (cell) this.select(cell.i, cell.j, cause);
      },
      dive: (x, y) => {
        const cell = this.camera.cellAt({ x, y });
        if (cell) this.glide({ row: cell.i + 0.5, column: cell.j + 0.5, zoom: this.camera.here.zoom - 2 });
      },
      canZoomOut: () => !this.camera.whole,
    });
    canvas.addEventListener("keydown", (event) => this.press(event));
  }

  private press(event: KeyboardEvent): void {
    const arrows: Record<string, [number, number]> = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const arrow = arrows[event.key];
    const { view } = this.camera;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "+" || event.key === "=") this.step(1);
    else if (event.key === "-") this.step(-1);
    else if (event.key === "0") this.fit();
    else if (event.key === "Enter") this.reveal(this.chosen.i, this.chosen.j);
    else if (arrow && event.shiftKey) this.nudge(arrow);
    else if (arrow) this.pan(-arrow[1] * (view.width - view.left) / 8, -arrow[0] * (view.height - view.top) / 8);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** The crosshair goes on by a token, or by a pixel where a pixel is more. */
  private nudge([down, right]: [number, number]): void {
    const { axes, chosen } = this;
    const { row, column } = this.camera.here;
    const by = Math.max(1, Math.round(1 / this.camera.view.px));
    const inside = (value: number, length: number) => Math.max(0, Math.min(length - 1, Math.round(value)));
    const i = inside((chosen.i ?? row) + down * by, axes.query.length);
    const j = inside((chosen.j ?? column) + right * by, axes.key.length);
    const { query, key } = this.session.axes;
    this.session.set({ direction: "reads", cursor: unitAt(query, i), other: unitAt(key, j), locked: true });
  }
}
