// What was computed at one step of a decoder: the weights, the context that they make, and the word that came out.

import { el, framed, number, percent, put, quote, say } from "../dom";
import type { Session } from "../session";
import { aborted, Cache } from "../source";
import { meanWeight } from "../weights";
import { cameOut, headName, headOf } from "./sentences";
import { Strip } from "./strip";

/** So many words get a bar each; of more only the strongest, and one bar for the rest. */
const ALL_BARS = 12;
const SOME_BARS = 10;
const TERMS = 3;

interface Bar {
  text: string;
  part: number;
  note: string;
  mine: boolean;
}

/** A list of bars that keeps its elements, so that a bar grows and shrinks. */
class Bars {
  readonly element: HTMLElement;

  constructor(name: string) {
    this.element = el("ol", { class: "fv-bars", "aria-label": name });
  }

  show(bars: Bar[]): void {
    const { element } = this;
    while (element.childElementCount > bars.length) element.lastElementChild?.remove();
    bars.forEach(({ text, part, note, mine }, n) => {
      const item = element.children[n] ?? element.appendChild(el("li", {},
        el("span", { class: "fv-bar-word" }), el("span", { class: "fv-bar-track" }, el("span", { class: "fv-bar" })), el("span", { class: "fv-bar-value" })));
      const [word, track, value] = Array.from(item.children) as [HTMLElement, HTMLElement, HTMLElement];
      item.classList.toggle("fv-mine", mine);
      say(word, text || "·");
      put(word, "title", text);
      (track.firstElementChild as HTMLElement).style.width = `${100 * Math.max(0, Math.min(1, part))}%`;
      say(value, note);
    });
  }
}

export class StepView {
  readonly element: HTMLElement;
  private readonly title = el("span", { class: "fv-quiet" });
  private readonly over = el("span", {}, "Weights over the source");
  private readonly out = el("span", {}, "Word that came out");
  private readonly weights = new Bars("Weights of this step");
  private readonly words = new Bars("Most probable words");
  private readonly formula = el("p", { class: "fv-formula" });
  private readonly moved = el("p", { class: "fv-quiet" });
  private readonly strip: Strip;
  private readonly change: Strip;
  private readonly word = el("p", { class: "fv-came" });
  private readonly contexts = new Cache<number[] | null>(256);
  private context: { now: number[]; change: number[] | null; cosine: number | null } | null = null;
  private wanted = "";
  private pointed: number | null = null;
  private abort = new AbortController();
  readonly draw = framed(() => this.drawNow());
  private readonly onResize = new ResizeObserver(framed(() => this.drawNow()));

  constructor(private readonly session: Session) {
    const strip = (name: string) => new Strip(session, name, (d) => {
      this.pointed = d;
      this.draw();
    });
    this.strip = strip("context");
    this.change = strip("change");
    const part = (order: string, title: string | HTMLElement, ...inside: HTMLElement[]) => el("div", { class: "fv-step-part" }, el("h3", {}, el("span", { class: "fv-order" }, order), title), ...inside);
    this.element = el("section", { class: "fv-card fv-step", "aria-label": "This step" },
      el("div", { class: "fv-head" }, el("h2", {}, "This step"), this.title),
      el("div", { class: "fv-step-parts" },
        part("1", this.over, this.weights.element),
        part("2", "Context", this.formula, this.strip.element, this.change.element, this.moved),
        part("3", this.out, this.word, this.words.element)));
    this.onResize.observe(this.element);
  }

  close(): void {
    this.onResize.disconnect();
    this.abort.abort();
  }

  update(): void {
    const { session } = this;
    const { step } = session;
    this.element.hidden = !step;
    if (!step) return;
    const came = cameOut(session);
    say(this.title, headName(session));
    say(this.over, session.axes.self ? "Weights over the text" : "Weights over the source");
    say(this.out, session.writing.own ? "Token that came next" : "Word that came out");
    if (came) this.word.replaceChildren(el("strong", {}, came.text || "·"), came.probability === null ? "" : ` ${percent(came.probability)}`);
    else this.word.replaceChildren(el("span", { class: "fv-quiet" }, "not recorded: the text ends here"));
    this.words.show(step.alternatives.map((one, n) => ({ text: one.text, part: one.probability, note: percent(one.probability), mine: n === step.chosen })));
    this.showWeights();
    this.askContext();
  }

  /** The weights of the step, once they are here; at each word of the source what its tokens get together. */
  showWeights(): void {
    const { session } = this;
    const { step, weights, shown, axes, heads, state } = session;
    if (!step || !weights || shown?.direction !== "reads") return;
    const units = Array.from({ length: axes.key.length }, (_, unit) => unit).filter((unit) => (state.special || !axes.key.special[unit]) && session.written(axes.key, unit));
    const of = (unit: number) => meanWeight(weights, heads, unit);
    const ranked = [...units].sort((a, b) => of(b) - of(a));
    const kept = units.length <= ALL_BARS ? units : ranked.slice(0, SOME_BARS).sort((a, b) => a - b);
    const bars: Bar[] = kept.map((unit) => ({ text: axes.key.text[unit] ?? "", part: of(unit), note: number(of(unit)), mine: unit === ranked[0] }));
    const rest = units.filter((unit) => !kept.includes(unit)).reduce((sum, unit) => sum + of(unit), 0);
    if (kept.length < units.length) bars.push({ text: `${units.length - kept.length} others`, part: rest, note: number(rest), mine: false });
    this.weights.show(bars);
    const terms = weights.top(state.head, TERMS, (unit) => session.written(axes.key, unit) > 0).flatMap(([unit, weight], n) => [n ? " + " : "", el("b", {}, number(weight)), ` × ${quote(axes.key.text[unit] ?? "", 16)}`]);
    this.formula.replaceChildren(...terms, axes.key.length > TERMS ? " + …" : "");
  }

  /** What was read at this step and at the one before; a step's pair of positions tells it. */
  private askContext(): void {
    const { session } = this;
    const { call, step, state } = session;
    const row = (step?.token ?? 0) - call.offset;
    const name = [call.index, state.sequence, state.head, row].join();
    if (name === this.wanted) return;
    this.wanted = name;
    this.abort.abort();
    this.abort = new AbortController();
    const before = state.step ? row - 1 : -1;
    Promise.all([this.contextOf(row), before < 0 ? null : this.contextOf(before)]).then(([now, earlier]) => {
      if (this.wanted !== name) return;
      this.context = now && { now, change: earlier && now.map((x, d) => x - (earlier[d] as number)), cosine: earlier && cosine(now, earlier) };
      this.tell();
      this.draw();
    }, (error: unknown) => {
      this.wanted = "";
      if (!aborted(error)) session.fail(error);
    });
  }

  private async contextOf(i: number): Promise<number[] | null> {
    const { source, call, state } = this.session;
    const where = { call: call.index, sequence: state.sequence, head: state.head, i, j: 0 };
    const name = Object.values(where).join();
    const known = this.contexts.get(name);
    if (known !== undefined) return known;
    return this.contexts.set(name, (await source.pair(where, this.abort.signal))?.output ?? null);
  }

  private tell(): void {
    const { context, session } = this;
    const { call, state } = session;
    const what = call.kind === "cross" ? "the encoder’s states" : "the values";
    const head = call.heads > 1 ? `, ${headOf(call, state.head).split(", ").at(-1)}` : "";
    this.strip.set(`= the weighted sum of ${what}${head}`, context?.now ?? null);
    this.change.set("change since the step before", context?.change ?? null);
    if (!context) return say(this.moved, "The values were not recorded.");
    const { now, cosine: turned } = context;
    say(this.moved, `${now.length} numbers, length ${number(Math.hypot(...now))}${turned === null ? "" : `; cosine with the context before ${number(turned)}`}`);
  }

  private drawNow(): void {
    const { context } = this;
    if (!context || this.element.hidden) return;
    const peak = Math.max(0, ...context.now.map(Math.abs), ...(context.change ?? []).map(Math.abs));
    this.strip.draw(this.pointed, peak);
    this.change.draw(this.pointed, peak);
  }
}

function cosine(a: number[], b: number[]): number {
  return a.reduce((sum, x, d) => sum + x * (b[d] as number), 0) / (Math.hypot(...a) * Math.hypot(...b) || 1);
}
