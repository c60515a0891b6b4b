// The passages that the chosen word reads, or that read it, the heaviest first, each with its words and a way to it.

import { alpha, INK } from "../color";
import { clip, el, number, quote, say } from "../dom";
import type { Passage } from "../passages";
import { passages } from "../passages";
import type { Session } from "../session";
import { wordless } from "../units";
import type { Axis } from "../units";
import { meanWeight } from "../weights";
import { headName } from "./sentences";
import { place } from "./worldframe";

const MOST = 40;
/** Of the largest weights of a head, how many are looked at. */
const LINKS = 256;
const AROUND = 7;
/** A longer passage is cut to what is around its largest weight. */
const LONGEST = 28;

/** The weights of the chosen word in the chosen head, or their mean over the heads that are shown. */
function links(session: Session): [number, number][] {
  const { weights, heads, state, shown } = session;
  if (!weights || !shown) return [];
  const { special } = session.sides(shown.direction).to;
  const open = (unit: number) => state.special || !special[unit];
  if (heads.length === 1) return weights.top(heads[0] as number, LINKS, open);
  const units = new Set(heads.flatMap((head) => weights.top(head, LINKS, open).map(([unit]) => unit)));
  return Array.from(units, (unit) => [unit, meanWeight(weights, heads, unit)]);
}

export class PassageList {
  readonly element: HTMLElement;
  private readonly title = el("h2", {}, "Passages");
  private readonly facts = el("p", { class: "fv-quiet fv-passage-facts" });
  private readonly list = el("ol", { class: "fv-passages" });
  private built = "";
  private made: Passage[] = [];
  private scrolled = false;

  constructor(private readonly session: Session, private readonly go: (passage: Passage) => void) {
    this.element = el("section", { class: "fv-card fv-pass", "aria-label": "Passages" }, el("div", { class: "fv-head" }, this.title), this.facts, this.list);
    this.list.addEventListener("click", (event) => {
      const button = event.target instanceof Element ? event.target.closest<HTMLElement>(".fv-passage") : null;
      const passage = button && this.made[Number(button.dataset.place)];
      if (passage) this.go(passage);
    });
    this.list.addEventListener("scroll", () => { this.scrolled = true; }, { passive: true });
    this.list.addEventListener("keydown", (event) => this.key(event));
  }

  /** Of the word that was chosen: while others are only passed over, the list stays. */
  update(): void {
    const { session } = this;
    const { shown, weights, state } = session;
    if (!shown || !weights) {
      if (state.cursor === null) this.blank();
      return;
    }
    if (shown.unit !== state.cursor || shown.direction !== state.direction) return;
    const { from, to } = session.sides(shown.direction);
    this.element.hidden = wordless(to); // a picture shows them all
    const found = links(session);
    const name = JSON.stringify([state.call, state.sequence, state.level, state.special, session.theme, session.heads, shown, weights.refined, found.slice(0, 3)]);
    if (name === this.built) return;
    this.built = name;
    this.made = passages(found, MOST);
    const verb = shown.direction === "reads" ? "reads" : "is read by";
    say(this.title, `What ${quote(session.textOf(from, shown.unit), 18)} (${place(from.offset + (from.starts[shown.unit] ?? 0))}) ${verb}`);
    say(this.facts, this.tell(found));
    const kept = this.element.contains(document.activeElement) ? Number((document.activeElement as HTMLElement).dataset.place) : null;
    this.list.replaceChildren(...this.made.map((passage, n) => this.item(passage, n, to)));
    if (this.scrolled) this.list.scrollTop = 0; // which lays out the page
    this.scrolled = false;
    if (kept !== null) this.focus(kept);
  }

  private blank(): void {
    this.built = "";
    this.made = [];
    say(this.title, "Passages");
    say(this.facts, "Click a word in the text, or a place in the map.");
    this.list.replaceChildren();
  }

  /** How much of the whole the list holds. */
  private tell(found: [number, number][]): string {
    const { session } = this;
    const weights = session.weights as NonNullable<Session["weights"]>;
    const held = this.made.reduce((sum, { weight }) => sum + weight, 0);
    const top = found.reduce((sum, [, weight]) => sum + weight, 0);
    const rest = session.heads.reduce((sum, head) => sum + weights.rest(head), 0) / Math.max(1, session.heads.length);
    const all = top + (Number.isFinite(rest) && session.heads.length === 1 ? rest : 0);
    const share = session.heads.length === 1 ? `${number(held)} of ${number(all)}` : `${number(held)} of the mean`;
    const known = weights.refined < 1 ? ` · ${Math.floor(100 * weights.refined)} % of the readers known so far` : "";
    return `${headName(session)} · ${this.made.length === 1 ? "1 passage holds" : `${this.made.length} passages hold`} ${share}${known}`;
  }

  private item(passage: Passage, n: number, axis: Axis): HTMLElement {
    const at = (unit: number) => place(axis.offset + (axis.starts[unit] ?? 0));
    const { first, last, weight, peak } = passage;
    const bar = el("i", { class: "fv-passage-bar", "aria-hidden": "true" });
    bar.style.width = `${Math.max(2, (100 * weight) / (this.made[0]?.weight ?? 1))}%`;
    const where = first === last ? at(first) : `${at(first)}–${at(last)}`;
    return el("li", {}, el("button", { type: "button", class: "fv-passage", "data-place": n, tabindex: n ? "-1" : "0" },
      el("span", { class: "fv-passage-weight" }, number(weight), bar), el("span", { class: "fv-passage-where" }, where),
      el("span", { class: "fv-snippet" }, ...this.snippet(passage, axis, peak))));
  }

  private snippet({ first, last, best, weights }: Passage, axis: Axis, peak: number): (HTMLElement | string)[] {
    const cut = last - first > LONGEST;
    const from = Math.max(0, cut ? best - LONGEST / 2 : first - AROUND);
    const to = Math.min(axis.length - 1, cut ? best + LONGEST / 2 : last + AROUND);
    const parts: (HTMLElement | string)[] = from > 0 ? ["… "] : [];
    for (let unit = from; unit <= to; unit++) {
      const text = clip(axis.text[unit] || "·", 40);
      const space = unit > from && !axis.joined[unit] && !/^[.,;:!?)\]}%…’”]/.test(text) ? " " : "";
      const weight = weights.get(unit);
      if (weight === undefined) {
        parts.push(space + text);
        continue;
      }
      if (space) parts.push(space);
      const mark = el("mark", { title: number(weight, true) }, text);
      mark.style.backgroundColor = alpha(INK[this.session.theme].accent, 0.1 + 0.45 * Math.sqrt(weight / peak));
      parts.push(mark);
    }
    return to < axis.length - 1 ? [...parts, " …"] : parts;
  }

  private focus(n: number): void {
    const buttons = this.list.querySelectorAll<HTMLElement>(".fv-passage");
    const next = buttons[Math.max(0, Math.min(buttons.length - 1, n))];
    if (!next) return;
    for (const button of buttons) button.tabIndex = button === next ? 0 : -1;
    next.focus();
  }

  private key(event: KeyboardEvent): void {
    const at = event.target instanceof Element ? Number((event.target.closest(".fv-passage") as HTMLElement | null)?.dataset.place) : NaN;
    const next: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: MOST };
    const to = next[event.key];
    if (to === undefined || Number.isNaN(at)) return;
    event.preventDefault();
    event.stopPropagation();
    this.focus(to);
  }
}
