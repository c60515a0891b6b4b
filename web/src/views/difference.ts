// Two recordings side by side: the same head of both, what a word reads in each, and which heads differ most.

import { Comparison } from "../compare";
import { el, number, put, quote, say } from "../dom";
import type { Compared } from "../protocol";
import type { Session } from "../session";
import { aborted } from "../source";
import type { Source } from "../source";
import { headOf } from "./sentences";
import { Triptych } from "./triptych";
import type { Cell } from "./triptych";

const WORDS = 8;
const HEADS = 12;

type Order = "moved" | "divergence";

export class DifferenceView {
  readonly element: HTMLElement;
  private readonly note = el("p", { class: "fv-quiet fv-differs" });
  private readonly readout = el("p", { class: "fv-readout" }, "Point at a cell");
  private readonly who = el("h3");
  private readonly words = el("table", { class: "fv-table" });
  private readonly heads = el("table", { class: "fv-table fv-ranking" });
  private readonly all = el("button", { type: "button", class: "fv-plain", click: () => this.rank(true) }, "All heads that were compared");
  private readonly comparison: Comparison;
  private readonly maps: Triptych;
  private order: Order = "divergence";
  private whole = false;

  constructor(private readonly session: Session, other: Source, private readonly about: Compared) {
    this.comparison = new Comparison(session, other, about);
    this.maps = new Triptych(session, this.comparison, about, () => this.slot(), (cell) => void this.describe(cell));
    const button = (text: string, label: string, act: () => void) => el("button", { type: "button", class: "fv-small", "aria-label": label, title: label, click: act }, text);
    this.element = el("section", { class: "fv-card fv-difference", "aria-label": "Two recordings side by side" },
      el("div", { class: "fv-head" }, el("h2", {}, "Side by side"), this.note, el("div", { class: "fv-tools" },
        button("−", "Zoom out of both", () => this.maps.zoom(1 / 1.6)), button("+", "Zoom into both", () => this.maps.zoom(1.6)), button("Fit", "Show both whole", () => this.maps.fit()))),
      this.maps.element, el("div", { class: "fv-foot" }, this.readout, this.maps.legend),
      el("div", { class: "fv-two" }, el("div", {}, this.who, this.words), el("div", {}, el("h3", {}, "Heads that differ most"), this.heads, this.all)));
    this.heads.addEventListener("click", (event) => this.choose(event.target));
    session.on("state", () => this.update());
    session.on("weights", () => void this.tellWords());
    session.on("theme", this.maps.draw);
    this.update();
  }

  close(): void {
    this.maps.close();
    this.comparison.close();
  }

  private fail(error: unknown): void {
    if (!aborted(error)) say(this.note, error instanceof Error ? error.message : String(error));
  }

  private update(): void {
    const failed = (error: unknown) => this.fail(error);
    this.comparison.follow().then((changed) => {
      if (!changed) return;
      this.tell();
      void this.tellWords();
    }, failed);
    this.comparison.measure(() => this.rank()).catch(failed);
    this.rank();
  }

  private tell(): void {
    const { found, rows, columns, maps } = this.comparison;
    this.maps.cell = null;
    this.maps.fit();
    if (!found) return;
    const there = found.call !== null;
    const missing = (side: "a" | "b") => Math.max(...[rows, columns].map((slots) => slots[side].filter((unit) => unit < 0).length));
    const parts = [found.note];
    if (there && missing("a") + missing("b")) parts.push(`the texts differ: ${missing("b")} only in ${this.about.label}, ${missing("a")} only in ${this.about.other}, struck out`);
    if (there && !maps) parts.push(found.heads[this.session.state.head] === null ? "the other has no such head" : "too long to be drawn side by side");
    if (there && found.compared && found.compared < found.rows.reduce((sum, [, , size]) => sum + size, 0)) parts.push(`heads are measured on ${found.compared} rows`);
    say(this.note, parts.filter(Boolean).join(" · "));
  }

  /** The slot of the word that is looked at, if it looks. */
  private slot(): number | null {
    const { active } = this.session;
    const at = active?.direction === "reads" ? this.comparison.rows.a.indexOf(active.unit) : -1;
    return at < 0 ? null : at;
  }

  /** What the word reads in one and in the other, the largest differences first. */
  private async tellWords(): Promise<void> {
    if (!this.comparison.ready) return;
    const slot = this.slot();
    this.maps.draw();
    const both = slot === null ? null : await this.comparison.row(slot).catch((error: unknown) => (this.fail(error), null));
    if (!this.comparison.ready || slot !== this.slot()) return;
    if (slot === null || !both) {
      say(this.who, slot === null ? "Choose a word to compare what it reads" : `${quote(this.comparison.text("query", slot), 20)} has no counterpart in ${this.about.other}`);
      return this.words.replaceChildren();
    }
    say(this.who, `What ${quote(this.comparison.text("query", slot), 20)} reads`);
    const change = (at: number) => (both.b[at] || 0) - (both.a[at] || 0);
    const ranked = Array.from(both.a.keys()).sort((x, y) => Math.abs(change(y)) - Math.abs(change(x))).slice(0, WORDS);
    this.words.replaceChildren(
      el("tr", {}, ...["word", this.about.label, this.about.other, "difference"].map((text) => el("th", { scope: "col", title: text }, text))),
      ...ranked.map((at) => {
        const [a, b, by] = [both.a[at] as number, both.b[at] as number, change(at)];
        const alone = Number.isNaN(a) || Number.isNaN(b);
        return el("tr", {}, el("th", { scope: "row" }, this.comparison.text("key", at) || "·"), barred(a), barred(b),
          el("td", { class: alone ? "fv-quiet" : by > 0 ? "fv-more" : "fv-less" }, alone ? "no counterpart" : signed(by)));
      }));
  }

  private async describe(cell: Cell | null): Promise<void> {
    if (!cell) return say(this.readout, "Point at a cell");
    const { comparison } = this;
    if (!comparison.ready) return;
    const both = await comparison.row(cell.r).catch((error: unknown) => (this.fail(error), null));
    if (cell !== this.maps.cell) return;
    const [a, b] = [both?.a[cell.c] ?? NaN, both?.b[cell.c] ?? NaN];
    const text = Number.isNaN(b - a) ? "no counterpart" : `${number(a, true)} and ${number(b, true)}, difference ${signed(b - a, true)}`;
    say(this.readout, `${quote(comparison.text("query", cell.r), 16)} → ${quote(comparison.text("key", cell.c), 16)}  ${text}`);
  }

  /** Heads of all layers, those that differ most first. */
  private rank(whole = this.whole): void {
    const { session, comparison, order } = this;
    this.whole = whole;
    const list = session.layers.flatMap((call) => (comparison.heads.get(call.index)?.[order] ?? []).map((value, head) => ({ call, head, value })));
    list.sort((x, y) => (y.value ?? -1) - (x.value ?? -1));
    const shown = (value: number | null | undefined) => (value === null || value === undefined ? "none there" : number(value));
    const column = (name: Order, text: string, about: string) => el("th", { scope: "col", "aria-sort": order === name ? "descending" : "none" },
      el("button", { type: "button", class: "fv-sort", title: about, "data-order": name }, text));
    this.heads.replaceChildren(
      el("tr", {}, el("th", { scope: "col" }, "head"), column("divergence", "divergence", "Jensen-Shannon divergence of rows in bits, 0 to 1: the mean over rows"),
        column("moved", "moved", "Share of a row’s attention that lies elsewhere, half the sum of absolute differences: the mean over rows")),
      ...list.slice(0, whole ? list.length : HEADS).map(({ call, head }) => {
        const found = comparison.heads.get(call.index);
        const chosen = call.index === session.state.call && head === session.state.head;
        return el("tr", { class: chosen ? "fv-chosen" : "" }, el("th", { scope: "row" }, el("button", { type: "button", class: "fv-sort", "data-call": call.index, "data-head": head }, headOf(call, head))),
          el("td", {}, shown(found?.divergence[head])), el("td", {}, shown(found?.moved[head])));
      }));
    this.all.hidden = whole || list.length <= HEADS;
    put(this.heads, "data-of", String(list.length));
  }

  private choose(target: EventTarget | null): void {
    const button = target instanceof Element ? target.closest<HTMLElement>("button") : null;
    if (!button) return;
    if (button.dataset.order) this.order = button.dataset.order as Order;
    else this.session.set({ call: Number(button.dataset.call), head: Number(button.dataset.head) });
    this.rank();
  }
}

function signed(value: number, exact = false): string {
  return value > 0 ? `+${number(value, exact)}` : value < 0 ? `−${number(-value, exact)}` : "0";
}

function barred(share: number): HTMLElement {
  const bar = el("span", { class: "fv-bar" });
  bar.style.width = `${100 * Math.max(0, Math.min(1, share || 0))}%`;
  return el("td", {}, el("span", { class: "fv-bar-track" }, bar), Number.isNaN(share) ? " none" : ` ${number(share)}`);
}
