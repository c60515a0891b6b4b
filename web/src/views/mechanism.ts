// The mechanism of one weight: query times key, summed, scaled, normalised, and what the value adds to the output.

import { el, framed, number, put, quote, say } from "../dom";
import type { Pair } from "../protocol";
import type { Session } from "../session";
import { named, partOf } from "../units";
import type { Axis } from "../units";
import { headOf } from "./sentences";
import { Strip } from "./strip";

/** Without a pair the panel keeps its height this long, so that the page does not jump between two words. */
const CLOSE_MS = 1500;

function isSoftmax(pair: Pair): boolean {
  return pair.statistic_name === "log-sum-exp";
}

export class MechanismView {
  readonly element: HTMLElement;
  private readonly title = el("p", { class: "fv-mech-title" });
  private readonly cards = el("div", { class: "fv-mech-cards" });
  private readonly sum = el("p", { class: "fv-sum" });
  private readonly alike = el("p", { class: "fv-quiet" });
  private readonly shares = el("p", { class: "fv-quiet" });
  private readonly steps = el("dl", { class: "fv-steps" });
  private readonly bars = el("ol", { class: "fv-bars", "aria-label": "Largest weights of this row" });
  private readonly noValues = el("p", { class: "fv-quiet" }, "No values here: they were not recorded, or are not in this page.");
  private readonly strips: Record<"query" | "key" | "products" | "value" | "contribution" | "output", Strip>;
  private pointed: number | null = null;
  private closing: ReturnType<typeof setTimeout> | undefined;
  readonly draw = framed(() => this.drawNow());
  private readonly onResize = new ResizeObserver(framed(() => this.drawNow()));

  constructor(private readonly session: Session) {
    const strip = (name: string) => new Strip(session, name, (d) => this.point(d));
    this.strips = {
      query: strip("query"), key: strip("key"), products: strip("query × key"), value: strip("value"), contribution: strip("contribution"), output: strip("output"),
    };
    const { query, key, products, value, contribution, output } = this.strips;
    const card = (order: string, title: string, what: HTMLElement, ...parts: HTMLElement[]) => el("div", { class: "fv-mech-card" },
      el("h3", {}, el("span", { class: "fv-order" }, order), title), what, el("div", { class: "fv-mech-parts" }, ...parts));
    const blend = el("p", { class: "fv-quiet" }, "Each word hands over its value, in proportion to its weight.");
    this.cards.append(
      card("1", "Compare: query × key", this.alike, query.element, key.element, products.element, this.sum),
      card("2", "Weigh: score to weight", this.shares, this.steps, this.bars),
      card("3", "Blend: weight × value", blend, value.element, contribution.element, output.element, this.noValues),
    );
    this.element = el("section", { class: "fv-card fv-mech fv-unused", "aria-label": "Mechanism" }, el("div", { class: "fv-head" }, el("h2", {}, "Mechanism"), this.title), this.cards);
    this.onResize.observe(this.element);
  }

  close(): void {
    clearTimeout(this.closing);
    this.onResize.disconnect();
  }

  private point(dimension: number | null): void {
    if (dimension === this.pointed) return;
    this.pointed = dimension;
    this.draw();
  }

  /** The words of the pair in quotes, or parts of a picture: at word level, the first token of each. */
  private names(): { query: string; key: string; note: string } {
    const { session } = this;
    const { i, j } = session.pairAt as { i: number; j: number };
    const texts = session.doc.sequences[session.state.sequence];
    const { query, key } = session.axes;
    const text = (axis: Axis, at: number) => (partOf(axis, axis.starts.indexOf(at)) ? named(axis, axis.starts.indexOf(at)) : quote((axis.side === "target" ? texts?.target : texts?.source)?.text[axis.offset + at] ?? ""));
    const whole = session.state.level === "word" && (this.pieces(query.starts, i) || this.pieces(key.starts, j));
    return { query: text(query, i), key: text(key, j), note: whole ? " (first sub-words)" : "" };
  }

  private pieces(starts: Int32Array, position: number): boolean {
    const at = starts.indexOf(position);
    return at >= 0 && (starts[at + 1] ?? position + 1) - position > 1;
  }

  update(): void {
    const { pair, paired } = this.session;
    if (pair && !paired) return; // nothing of another head under this one's name
    this.cards.hidden = Boolean(this.session.call.kept);
    this.element.classList.toggle("fv-empty", !pair);
    clearTimeout(this.closing);
    if (pair) this.element.classList.remove("fv-unused");
    else this.closing = setTimeout(() => this.element.classList.add("fv-unused"), CLOSE_MS);
    this.element.classList.toggle("fv-given", pair?.query.length === 0);
    if (!pair) {
      const { kept } = this.session.call;
      say(this.title, kept ? `This page holds the ${kept} largest weights of each row, and no queries and keys to show how they come about.` : "Choose a word to see how its weight comes about.");
      return;
    }
    const { query, key, note } = this.names();
    say(this.title, `How much ${query} looks at ${key} in ${headOf(this.session.call, this.session.state.head)}${note}`);
    const { strips } = this;
    strips.query.set(`query of ${query}`, pair.query);
    strips.key.set(`key of ${key}`, pair.key);
    strips.products.set("query × key", pair.products);
    strips.value.set(`value of ${key}`, pair.value);
    strips.contribution.set(`× ${number(pair.weight, true)} = contribution`, pair.contribution);
    strips.output.set("output: sum over all keys", pair.output);
    this.noValues.hidden = pair.value !== null;
    this.describe(pair);
    this.fillSteps(pair);
    this.fillBars();
    this.draw();
  }

  /** What the score and the normaliser do, in words; where the page cannot show how, it says so. */
  private describe(pair: Pair): void {
    const { products, score_name, normalizer } = pair;
    if (!pair.query.length) {
      say(this.shares, "This weight was given as a number: the query, the key and the score that it came from are not known.");
      return;
    }
    say(this.alike, products ? "A query asks, a key answers: the more alike, the higher the sum." : `The score ${quote(score_name)} compares query and key.`);
    say(this.sum, products ? `${products.length} products add up to ${number(pair.score, true)}` : `It gives ${number(pair.score, true)}. It is no sum of query × key, so its steps are not shown here.`);
    say(this.shares, isSoftmax(pair) ? "Scale and softmax turn the scores of all keys into weights that add up to 1." : `The normaliser ${quote(normalizer)} turns the scores of a row into weights.`);
  }

  private fillSteps(pair: Pair): void {
    const rows: [string, string][] = pair.query.length ? [["score", number(pair.score, true)]] : [];
    if (pair.scale !== null && pair.scale !== 1) rows.push([`× scale ${number(pair.scale, true)}`, number((pair.score ?? NaN) * pair.scale, true)]);
    if (pair.softcap) rows.push([`soft cap ${number(pair.softcap)}`, number(pair.scaled, true)]);
    if (pair.bias) rows.push([`+ bias ${number(pair.bias, true)}`, number((pair.scaled ?? NaN) + pair.bias, true)]);
    if (!pair.allowed) rows.push(["masked: may not look", "weight 0"]);
    else if (pair.logsumexp !== null) {
      if (pair.sink !== null) rows.push(["sink (in the sum)", number(pair.sink, true)]);
      rows.push([`− log-sum-exp ${number(pair.logsumexp, true)}`, number((pair.scaled ?? NaN) + (pair.bias ?? 0) - pair.logsumexp, true)]);
      rows.push(["exp → weight", number(pair.weight, true)]);
    } else if (!isSoftmax(pair) && pair.statistic !== null) rows.push([`${pair.normalizer}; this row's ${pair.statistic_name}`, number(pair.statistic, true)], ["weight", number(pair.weight, true)]);
    else rows.push(["weight", number(pair.weight, true)]);
    this.steps.replaceChildren(...rows.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))));
  }

  /** The softmax of this row: the largest weights, this pair's own, and the rest. */
  fillBars(): void {
    const { session } = this;
    const { pair, paired, shown, weights, state } = session;
    if (!pair || !paired || !shown || !weights) return;
    const reads = shown.direction === "reads";
    const axis = session.sides(shown.direction).to;
    const top = weights.top(state.head, 6);
    const mine = session.other;
    if (mine !== null && !top.some(([unit]) => unit === mine)) top.splice(Math.min(5, top.length), 1, [mine, state.level === "token" ? (pair.weight ?? 0) : weights.at(state.head, mine)]);
    const most = Math.max(...top.map(([, weight]) => weight), 1e-9);
    put(this.bars, "aria-label", reads ? "Largest weights of this row" : "Who looks at it most");
    this.bars.replaceChildren(...top.map(([unit, weight]) => {
      const bar = el("span", { class: "fv-bar" });
      bar.style.width = `${Math.max(1, (100 * weight) / most)}%`;
      return el("li", { class: unit === mine ? "fv-mine" : "" },
        el("span", { class: "fv-bar-word", title: axis.text[unit] ?? "" }, axis.text[unit] || "·"), el("span", { class: "fv-bar-track" }, bar), el("span", { class: "fv-bar-value" }, number(weight)));
    }));
  }

  private drawNow(): void {
    const { pair } = this.session;
    if (!pair) return;
    const { query, key, products, value, contribution, output } = this.strips;
    const compare = this.pointed !== null && this.pointed < pair.query.length ? this.pointed : null;
    const blend = this.pointed !== null && this.pointed < (pair.value?.length ?? 0) ? this.pointed : null;
    const both = Math.max(...pair.query.map(Math.abs), ...pair.key.map(Math.abs));
    query.draw(compare, both);
    key.draw(compare, both);
    products.draw(compare);
    const shared = Math.max(...(pair.value ?? [0]).map(Math.abs), ...(pair.output ?? [0]).map(Math.abs));
    value.draw(blend, shared);
    contribution.draw(blend, shared);
    output.draw(blend, shared);
  }
}
