// The words and the lines between them. Only the words near the visible part are elements; geometry comes from layout.ts.

import { alpha, headColor, INK } from "../color";
import { el, framed, put, say, svg } from "../dom";
import { arrange, COLUMN_LIMIT, suggested, within } from "../layout";
import type { Layout, Placed } from "../layout";
import { pictured, step, unitIn } from "../picturelayout";
import type { Session } from "../session";
import { strongest } from "../weights";
import { activePlace, boost, curve, drawFigures, drawLines, figures, flows, lines, shade } from "./lines";
import { PictureView } from "./picture";

/** Beyond this many words the lines of all of them at once would be a grey patch. */
const WEB_LIMIT = 2 * COLUMN_LIMIT;

export type SideName = "query" | "key";

export class WordsView {
  readonly element: HTMLElement;
  layout: Layout;
  private readonly pane = el("div", { class: "fv-pane" });
  private readonly canvas = el("div", { class: "fv-canvas" });
  private readonly picture = svg("svg", { class: "fv-lines", "aria-hidden": "true" });
  private readonly web = svg("g");
  private readonly strokes = svg("g");
  private readonly numbers = svg("g");
  private readonly captions = svg("g");
  private readonly lists: Record<SideName, HTMLElement>;
  private readonly parts: PictureView;
  private readonly rendered = new Map<string, HTMLElement>();
  /** Which words stand out because they were searched for, and whether it is the one that is gone to. */
  mark: (side: SideName, unit: number) => "" | "found" | "here" = () => "";
  private webFor = "";
  private laid = "";
  /** Where the pane is scrolled to, and its height; to ask the browser each time would have it lay out the page each time. */
  private seen = { top: 0, room: 0 };
  private made = ""; // what `layout` was made of
  private last = 0; // where the arrow keys were
  private readonly onResize = new ResizeObserver(framed(() => this.relayout()));

  constructor(private readonly session: Session) {
    const list = (side: SideName) => el("div", { class: "fv-words", role: "listbox", tabindex: "0", "data-list": side });
    this.lists = { query: list("query"), key: list("key") };
    this.picture.append(this.web, this.strokes, this.captions, this.numbers);
    this.parts = new PictureView(session, (side) => this.lists[side]);
    this.canvas.append(this.picture, this.lists.query, this.lists.key);
    this.pane.append(this.canvas);
    this.element = el("section", { class: "fv-card fv-look", "aria-label": "Words and lines" }, this.pane, this.parts.foot);
    this.layout = this.makeLayout();
    this.listen();
    this.onResize.observe(this.pane);
  }

  close(): void {
    this.parts.close();
    this.onResize.disconnect();
  }

  private makeLayout(): Layout {
    const { axes, state } = this.session;
    const width = Math.max(260, this.pane.clientWidth || 520);
    const beside = this.element.parentElement?.dataset.grid !== "off" && (this.element.closest<HTMLElement>(".fv")?.clientWidth ?? 0) > 1180; // the heads
    const widest = (this.element.parentElement?.clientWidth ?? 0) - (beside ? 350 : 2);
    const grid = axes.query.grid ?? axes.key.grid;
    const kind = grid ? "picture" : state.layout === "auto" ? suggested(axes, axes.self ? width : Math.max(width, widest)) : state.layout;
    this.laid = this.name();
    const made = [this.laid, kind, width].join();
    if (made === this.made) return this.layout; // of a long text it takes a while
    this.made = made;
    return kind === "picture" ? pictured(axes, state.special, width) : arrange(kind, axes, state.special, width);
  }

  /** What the places of the words depend on. */
  private name(): string {
    const { call, sequence, level, special, layout } = this.session.state;
    return [call, sequence, level, special, layout].join();
  }

  /** Lays out again where the state asks for it. */
  refresh(): void {
    if (this.laid === this.name()) this.update();
    else this.relayout();
  }

  /** Lays out again; needed when words, their number or the width change. */
  relayout(): void {
    this.layout = this.makeLayout();
    const { layout } = this;
    this.canvas.style.width = `${layout.width}px`;
    this.canvas.style.height = `${layout.height}px`;
    put(this.element, "data-layout", layout.kind);
    for (const element of this.rendered.values()) element.remove();
    this.rendered.clear();
    this.captions.replaceChildren(
      ...layout.captions.map(({ text, x, y, anchor }) => svg("text", { class: "fv-caption", x, y, "text-anchor": anchor }, text)),
    );
    const shared = layout.query === layout.key;
    this.lists.key.hidden = shared;
    put(this.lists.query, "aria-label", shared ? "Words" : "Words that look");
    put(this.lists.key, "aria-label", "Words looked at");
    this.parts.place(layout.frame);
    this.webFor = "";
    this.look();
    this.update();
  }

  /** Which side an element of a list stands for now. */
  private sideOf(list: SideName): SideName {
    return this.layout.query === this.layout.key && this.session.state.direction === "read_by" ? "key" : list;
  }

  private place(): void {
    const { layout, seen } = this;
    const [top, bottom] = [seen.top - 300, seen.top + (seen.room || 600) + 300];
    const wanted = new Set<string>();
    const sides: [SideName, Placed][] = layout.query === layout.key ? [["query", layout.query]] : [["query", layout.query], ["key", layout.key]];
    for (const [name, placed] of sides) {
      const [first, last] = within(placed, top, bottom);
      for (let p = first; p < last; p++) {
        const id = `${name}-${placed.shown[p]}`;
        wanted.add(id);
        if (!this.rendered.has(id)) this.rendered.set(id, this.lists[name].appendChild(this.word(name, placed, p)));
      }
    }
    for (const [id, element] of this.rendered) {
      if (wanted.has(id)) continue;
      element.remove();
      this.rendered.delete(id);
    }
    const height = Math.min(layout.height, (seen.room || layout.height) + 600);
    const from = Math.max(0, Math.min(layout.height - height, seen.top - 300));
    put(this.picture, "viewBox", `0 ${from} ${layout.width} ${height}`);
    put(this.picture, "width", String(layout.width));
    put(this.picture, "height", String(height));
    this.picture.style.top = `${from}px`;
  }

  private word(list: SideName, placed: Placed, p: number): HTMLElement {
    const { axis } = placed;
    const unit = placed.shown[p] as number;
    const element = el("div", {
      class: `fv-word${axis.special[unit] ? " fv-special" : ""}${this.session.generated(axis, unit) ? " fv-generated" : ""}`, role: "option", id: `fv-${list}-${unit}`, "data-token": unit,
      "aria-posinset": p + 1, "aria-setsize": placed.shown.length, title: axis.text[unit] ?? "",
    }, axis.text[unit] || "·");
    element.style.left = `${placed.x[p]}px`;
    element.style.top = `${placed.y[p]}px`;
    element.style.width = `${placed.w[p]}px`;
    element.style.height = `${placed.h}px`;
    element.style.lineHeight = `${placed.h}px`;
    element.style.fontSize = `${this.layout.font}px`;
    return element;
  }

  update(): void {
    this.place();
    const { session, layout } = this;
    drawLines(this.strokes, lines(session, layout));
    drawFigures(this.numbers, figures(session, layout));
    this.shade();
    this.parts.update();
    this.drawWeb();
  }

  private shade(): void {
    const { session, layout } = this;
    const { shown, weights, heads, theme, state } = session;
    const target: SideName | null = shown ? (shown.direction === "reads" ? "key" : "query") : null;
    const active = session.active;
    const other = session.hoveredOther ?? (state.locked ? state.other : null);
    const shared = layout.query === layout.key;
    const lift = flows(layout) ? boost(session) : 1;
    for (const [id, element] of this.rendered) {
      const list: SideName = id.startsWith("query") ? "query" : "key";
      const unit = Number(element.dataset.token);
      const { axis } = list === "query" ? layout.query : layout.key;
      put(element, "data-side", this.sideOf(list));
      element.hidden = !session.written(axis, unit);
      say(element, session.textOf(axis, unit) || "·");
      const lookedAt = weights && (shared || list === target);
      let color = "";
      if (lookedAt) {
        const { head, weight } = strongest(weights, heads, unit);
        const opacity = shade(weight, lift);
        if (opacity) color = alpha(state.all ? headColor(theme, head) : INK[theme].accent, opacity);
      }
      if (element.style.backgroundColor !== color) element.style.backgroundColor = color;
      const chosen = active?.unit === unit && (shared || list === (active.direction === "reads" ? "query" : "key"));
      put(element, "aria-selected", String(chosen));
      element.classList.toggle("fv-chosen", chosen);
      element.classList.toggle("fv-locked", chosen && state.locked);
      const mark = this.mark(list, unit);
      element.classList.toggle("fv-found", mark !== "");
      element.classList.toggle("fv-here", mark === "here");
      element.classList.toggle("fv-other", Boolean(lookedAt) && unit === other);
    }
    for (const name of ["query", "key"] as const) {
      const here = (activePlace(active, layout) || this.parts.has(active)) && (shared || (active?.direction === "reads") === (name === "query")) ? `fv-${name}-${active?.unit}` : "";
      if (here) put(this.lists[name], "aria-activedescendant", here);
      else this.lists[name].removeAttribute("aria-activedescendant");
    }
  }

  /** With no word chosen: every line of the head at once, faintly, where there are few enough words. */
  private drawWeb(): void {
    const { session, layout } = this;
    const { state, axes } = session;
    const few = Math.max(axes.query.length, axes.key.length) <= WEB_LIMIT;
    const wanted = session.active === null && !flows(layout) && few;
    const { call, sequence, head, level, special } = state;
    const name = wanted ? [call, sequence, head, level, special, session.theme, layout.width, layout.kind].join() : "";
    if (name === this.webFor) return;
    this.webFor = name;
    this.web.replaceChildren();
    if (!wanted || !axes.query.length || !axes.key.length) return;
    const [height, width] = [axes.query.length, axes.key.length];
    const tile = session.source.tile({ call, sequence, head, r0: 0, r1: height, c0: 0, c1: width, height, width, how: "max", level });
    tile.then(({ pixels, peak }) => {
      if (this.webFor !== name) return;
      const paths: SVGPathElement[] = [];
      const stroke = INK[session.theme].accent;
      const strength = Math.min(1, 3 * peak); // a head that looks at everything alike stays faint
      layout.query.shown.forEach((i, a) => layout.key.shown.forEach((j, b) => {
        const part = (pixels[i * width + j] as number) / 255;
        if (part < 0.08 || part * peak < 0.03) return;
        const look = { "stroke-width": Math.max(0.6, strength * part * 5), "stroke-opacity": 0.06 + 0.5 * strength * part };
        paths.push(svg("path", { class: "fv-web", fill: "none", d: curve(layout, true, a, b, 0), stroke, ...look }));
      }));
      this.web.replaceChildren(...paths);
    }, (error: unknown) => session.fail(error));
  }

  /** Scrolls the active word into sight. */
  reveal(): void {
    const { pane, session: { active }, layout } = this;
    const here = activePlace(active, layout);
    const box = here ? { y: here.placed.y[here.p] as number, height: here.placed.h } : this.parts.boxOf(active);
    if (!box) return;
    const { y, height: h } = box;
    const down = y + h + 24 - (pane.scrollTop + pane.clientHeight);
    if (y - 24 < pane.scrollTop) pane.scrollTop = Math.max(0, y - 24);
    else if (down > 0) pane.scrollTop += down;
  }

  /** The weights over a picture, or the bare picture. */
  flipOverlay(): void {
    this.parts.flip();
  }

  private look(): void {
    this.seen = { top: this.pane.scrollTop, room: this.pane.clientHeight };
  }

  private placedOf(side: SideName): Placed {
    return side === "query" ? this.layout.query : this.layout.key;
  }

  /** Gives the keyboard to the words. */
  focus(): void {
    this.lists[this.session.state.direction === "reads" || this.lists.key.hidden ? "query" : "key"].focus({ preventScroll: true });
  }

  /** Scrolls a word to the upper part of the pane, unless it is well in sight. */
  show(side: SideName, unit: number): void {
    const placed = this.placedOf(side);
    const p = placed.place[unit] ?? -1;
    if (p < 0) return;
    const { pane } = this;
    const [y, room] = [placed.y[p] as number, pane.clientHeight];
    if (y > pane.scrollTop + 30 && y + placed.h < pane.scrollTop + room - 30) return;
    pane.scrollTop = Math.max(0, y - room / 3);
  }

  /** The first and the last word of a side that can be seen now. */
  sight(side: SideName): [number, number] {
    const { pane } = this;
    const placed = this.placedOf(side);
    const [first, last] = within(placed, pane.scrollTop, pane.scrollTop + pane.clientHeight);
    return [placed.shown[Math.min(first, placed.shown.length - 1)] ?? 0, placed.shown[last - 1] ?? 0];
  }

  private listen(): void {
    this.pane.addEventListener("scroll", framed(() => {
      this.look();
      this.place();
      this.shade();
    }), { passive: true });
    this.canvas.addEventListener("pointermove", (event) => this.hover(event));
    this.canvas.addEventListener("pointerleave", (event) => {
      this.session.pointOther(null);
      this.session.point(null, event.timeStamp);
    });
    this.canvas.addEventListener("click", (event) => this.click(event));
    for (const name of ["query", "key"] as const) {
      this.lists[name].addEventListener("focus", () => this.focused(name));
    }
  }

  private target(event: MouseEvent): { list: SideName; unit: number } | null {
    const element = event.target instanceof Element ? event.target.closest<HTMLElement>(".fv-word") : null;
    if (!element) return this.part(event);
    return { list: element.dataset.side as SideName, unit: Number(element.dataset.token) };
  }

  /** The part of the picture under the pointer. */
  private part(event: MouseEvent): { list: SideName; unit: number } | null {
    const { frame } = this.layout;
    if (!frame) return null;
    const corner = this.canvas.getBoundingClientRect();
    const unit = unitIn(frame, event.clientX - corner.left, event.clientY - corner.top);
    return unit === null ? null : { list: frame.side === "both" ? this.sideOf("query") : frame.side, unit };
  }

  private hover(event: PointerEvent): void {
    if (event.pointerType === "touch") return;
    const { session, layout } = this;
    const over = this.target(event);
    if (!over) return; // between two words the last one stays
    const mine = session.state.direction === "reads" ? "query" : "key";
    if (!session.state.locked) session.point({ unit: over.unit, direction: over.list === "query" ? "reads" : "read_by" }, event.timeStamp);
    else if (over.list !== mine || (layout.query === layout.key && over.unit !== session.state.cursor)) session.pointOther(over.unit);
    else session.pointOther(null);
  }

  private click(event: MouseEvent): void {
    const { session, layout } = this;
    const { state } = session;
    const over = this.target(event);
    if (!over) return;
    const direction = over.list === "query" ? "reads" : "read_by";
    this.lists[layout.query === layout.key ? "query" : over.list].focus({ preventScroll: true });
    if (state.locked && direction !== state.direction) session.set({ other: state.other === over.unit ? null : over.unit });
    else session.set({ direction, cursor: over.unit, other: null, locked: true }, event.timeStamp);
  }

  /** A list that gets the focus shows its first word, if none is chosen yet. */
  private focused(name: SideName): void {
    const { session, layout } = this;
    const side = this.sideOf(name);
    const placed = side === "query" ? layout.query : layout.key;
    const first = this.parts.middle(side) ?? placed.shown[0];
    if (session.active || !this.lists[name].matches(":focus-visible") || first === undefined) return;
    session.set({ direction: side === "query" ? "reads" : "read_by", cursor: first, other: null });
  }

  /** Moves the selected word by places, or by lines of running text. */
  move(key: string): void {
    const { session, layout } = this;
    const { state } = session;
    const placed = state.direction === "reads" ? layout.query : layout.key;
    if (placed.axis.grid && layout.frame) {
      const from = state.cursor ?? this.parts.middle(state.direction === "reads" ? "query" : "key") ?? 0;
      session.set({ cursor: state.cursor === null ? from : step(placed.axis, from, key, state.special), other: null }, performance.now());
      return this.reveal();
    }
    if (!placed.shown.length) return;
    const p = state.cursor === null ? -1 : (placed.place[state.cursor] as number);
    const again = state.cursor === null && this.last < placed.shown.length ? this.last : 0;
    const last = placed.shown.length - 1;
    const back = key === "ArrowLeft" || key === "ArrowUp";
    let next = p < 0 ? again : p + (back ? -1 : 1);
    if (key === "Home") next = 0;
    if (key === "End") next = last;
    if (p >= 0 && flows(layout) && (key === "ArrowUp" || key === "ArrowDown")) next = lineAway(placed, p, back ? -1 : 1);
    this.last = Math.max(0, Math.min(last, next));
    session.set({ cursor: placed.shown[this.last] as number, other: null }, performance.now());
    this.reveal();
  }
}

/** The word nearest below or above. */
function lineAway(placed: Placed, p: number, step: number): number {
  const { x, y, w } = placed;
  const centre = (x[p] as number) + (w[p] as number) / 2;
  let at = p;
  while (at >= 0 && at < y.length && y[at] === y[p]) at += step;
  if (at < 0 || at >= y.length) return p;
  let best = at;
  const away = (q: number) => Math.abs((x[q] as number) + (w[q] as number) / 2 - centre);
  for (let q = at; q >= 0 && q < y.length && y[q] === y[at]; q += step) if (away(q) < away(best)) best = q;
  return best;
}
