// All layers and heads as small pictures: one canvas, and one focusable cell over each picture.

import { el, framed, number, put, say, sizeCanvas } from "../dom";
import { numberOf, type Call } from "../protocol";
import type { Session } from "../session";
import { partial } from "../source";
import { drawThumbnail, sampled } from "./thumbnail";

const LABEL = 24;
const TOP = 18;
const MOST = 60;
const LEAST = 14;

export class GridView {
  readonly element: HTMLElement;
  private readonly canvas = el("canvas", { "aria-hidden": "true" });
  private readonly grid = el("div", { class: "fv-grid", role: "grid", "aria-label": "Layers and heads" });
  private readonly scroller: HTMLElement;
  private readonly progress = el("span", { class: "fv-quiet" });
  private readonly facts = el("p", { class: "fv-facts" });
  private layers: Call[] = [];
  private heads = 0;
  private cell = 24;
  private cells: HTMLElement[][] = [];
  private built = "";
  private seen = "";
  private message = "";
  readonly draw = framed(() => this.drawNow());
  private readonly onResize = new ResizeObserver(framed(() => this.rebuild()));

  constructor(private readonly session: Session) {
    this.scroller = el("div", { class: "fv-scroll" }, el("div", { class: "fv-gridbox" }, this.canvas, this.grid));
    this.element = el("section", { class: "fv-card fv-heads", "aria-label": "Choose layer and head" }, el("div", { class: "fv-head" }, el("h2", {}, "Layers × heads"), this.progress), this.scroller, this.facts);
    this.grid.addEventListener("click", (event) => this.choose(event.target));
    this.grid.addEventListener("keydown", (event) => this.key(event));
    this.onResize.observe(this.element);
  }

  close(): void {
    this.onResize.disconnect();
  }

  private rebuild(): void {
    this.built = "";
    this.seen = "";
    this.update();
  }

  private measure(): void {
    const room = Math.max(120, this.scroller.clientWidth - LABEL - 2);
    const tall = Math.max(160, 440 - TOP);
    const fit = Math.min(room / this.heads, Math.max(tall / this.layers.length, 18));
    this.cell = Math.max(LEAST, Math.min(MOST, Math.floor(fit)));
  }

  update(): void {
    const { session } = this;
    const layers = session.layers;
    const name = layers.map((call) => call.index).join();
    if (name !== this.built) {
      this.built = name;
      this.layers = layers;
      this.heads = Math.max(...layers.map((call) => call.heads));
      this.measure();
      this.build();
    }
    const { state, thumbnails, theme } = session;
    const rows = [...thumbnails.values()].reduce((sum, { measured }) => sum + (measured ?? 0), 0);
    const seen = [name, state.call, state.head, thumbnails.size, rows, theme].join(";");
    if (seen === this.seen) return;
    this.seen = seen;
    this.mark();
    this.tellFacts();
    this.draw();
  }

  private build(): void {
    const { cell } = this;
    this.cells = this.layers.map((call, layer) => Array.from({ length: call.heads }, (_, head) => {
      const element = el("div", { class: "fv-cell", role: "gridcell", tabindex: "-1", "data-layer": layer, "data-head": head });
      element.style.width = `${cell}px`;
      element.style.height = `${cell}px`;
      return element;
    }));
    this.grid.replaceChildren(...this.cells.map((row) => el("div", { role: "row" }, ...row)));
    this.grid.style.left = `${LABEL}px`;
    this.grid.style.top = `${TOP}px`;
  }

  private labelCell(layer: number, head: number): void {
    const call = this.layers[layer] as Call;
    const { index, label, name } = call;
    const entropy = this.session.thumbnails.get(index)?.entropy[head];
    const text = `${label || name}, head ${numberOf(call, head)}${entropy === undefined ? "" : `, entropy ${entropy.toFixed(2)} nats`}`;
    const element = this.cells[layer]?.[head];
    if (!element) return;
    put(element, "aria-label", text);
    put(element, "title", text);
  }

  private mark(): void {
    const { state } = this.session;
    this.cells.forEach((row, layer) => row.forEach((element, head) => {
      const chosen = this.layers[layer]?.index === state.call && head === state.head;
      put(element, "aria-selected", String(chosen));
      put(element, "tabindex", chosen ? "0" : "-1");
      element.classList.toggle("fv-chosen", chosen);
      this.labelCell(layer, head);
    }));
  }

  /** Says why there are no pictures. */
  tell(message: string): void {
    this.message = message;
    this.tellFacts();
  }

  private tellFacts(): void {
    const { call, state, thumbnails } = this.session;
    const known = thumbnails.get(call.index);
    const here = this.layers.filter(({ index }) => thumbnails.has(index) && thumbnails.get(index)?.measured !== 0).length;
    say(this.progress, here < this.layers.length && !this.message ? `drawing ${here + 1} of ${this.layers.length}` : "");
    const parts = [`${call.label || call.name}, head ${numberOf(call, state.head)}`];
    if (known && known.measured !== 0) parts.push(`entropy ${number(known.entropy[state.head])} nats`, `largest weight ${number(known.peak[state.head])}`);
    if (known && partial(known)) parts.push(`from ${sampled([known])}`);
    if (this.message && !known) parts.push(this.message);
    say(this.facts, parts.join(" · "));
  }

  private drawNow(): void {
    const { session, cell } = this;
    const [width, height] = [LABEL + this.heads * cell, TOP + this.layers.length * cell];
    (this.canvas.parentElement as HTMLElement).style.height = `${height}px`;
    (this.canvas.parentElement as HTMLElement).style.width = `${width}px`;
    const context = sizeCanvas(this.canvas, width, height);
    const styles = getComputedStyle(this.element);
    this.drawLabels(context, styles);
    this.layers.forEach((call, layer) => {
      const y = TOP + layer * cell;
      const pictures = session.thumbnails.get(call.index);
      for (let head = 0; head < call.heads; head++) {
        const gap = cell > 30 ? 3 : 2;
        const [x, inner] = [LABEL + head * cell + gap, cell - 2 * gap];
        context.fillStyle = styles.getPropertyValue("--line");
        context.fillRect(x - 1, y + gap - 1, inner + 2, inner + 2);
        if (!pictures) continue;
        drawThumbnail(context, pictures, head, x, y + gap, inner, session.theme);
      }
    });
  }

  private drawLabels(context: CanvasRenderingContext2D, styles: CSSStyleDeclaration): void {
    const { cell } = this;
    const every = cell < 16 ? 2 : 1;
    context.fillStyle = styles.getPropertyValue("--muted");
    context.font = `10px ${styles.fontFamily}`;
    context.textBaseline = "middle";
    context.textAlign = "center";
    for (let head = 0; head < this.heads; head += every) context.fillText(String(numberOf(this.layers[0] as Call, head)), LABEL + (head + 0.5) * cell, TOP / 2);
    context.textAlign = "right";
    for (let layer = 0; layer < this.layers.length; layer += every) context.fillText(String(layer), LABEL - 8, TOP + (layer + 0.5) * cell);
  }

  private choose(target: EventTarget | null): void {
    const element = target instanceof Element ? target.closest<HTMLElement>(".fv-cell") : null;
    if (element) this.go(Number(element.dataset.layer), Number(element.dataset.head));
  }

  private go(layer: number, head: number): void {
    const call = this.layers[layer];
    if (!call) return;
    this.session.set({ call: call.index, head: Math.min(head, call.heads - 1) });
    this.cells[layer]?.[Math.min(head, call.heads - 1)]?.focus({ preventScroll: false });
  }

  private key(event: KeyboardEvent): void {
    const { state } = this.session;
    const layer = this.layers.findIndex((call) => call.index === state.call);
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [layer, state.head - 1], ArrowRight: [layer, state.head + 1], ArrowUp: [layer - 1, state.head], ArrowDown: [layer + 1, state.head],
      Home: [layer, 0], End: [layer, this.heads - 1],
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    this.go(Math.max(0, Math.min(this.layers.length - 1, move[0])), Math.max(0, move[1]));
  }
}
