// The report of a survey: layers x heads coloured by a measure, one head in numbers and examples, and heads that do the same.

import { alpha, heatTable, INK, type Theme } from "../color";
import { el, put, say, sizeCanvas } from "../dom";
import { Tab } from "../surroundings";
import { clusters, linkage, ordered, type Merge } from "./clusters";
import { linesOf, nameOf, type Example, type Line, type Report } from "./data";

const digits = (value: number | null): string =>
  value === null ? "–" : Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(3);
/** Two digits of an error are as much as it is good for. */
const errorDigits = (value: number): string => (value >= 0.1 ? value.toFixed(2) : value >= 1e-6 ? String(Number(value.toPrecision(2))) : "0");
const TITLES: Record<string, string> = { gini: "inequality", first: "first token", separator: "separators", sink: "sinks" };
const title = (name: string): string => { const text = TITLES[name] ?? name; return text.charAt(0).toUpperCase() + text.slice(1); };

export class ReportPage {
  private readonly around = new Tab();
  private readonly lines: Line[];
  private readonly merges: Merge[];
  private readonly order: number[];
  private readonly root: HTMLElement;
  private readonly themeButton = el("button", { type: "button", class: "fv-plain", click: () => this.setTheme(this.theme === "dark" ? "light" : "dark", true) });
  private readonly about = el("p", { class: "fv-quiet sv-about" });
  private readonly picks: HTMLButtonElement[] = [];
  private readonly cells: HTMLButtonElement[] = [];
  private readonly scale = el("canvas", { "aria-hidden": true });
  private readonly ends = [el("span", {}), el("span", {})];
  private readonly detail = el("section", { class: "fv-card sv-detail", "aria-label": "The head that is looked at" });
  private readonly ranked = el("ol", { class: "sv-ranked" });
  private readonly matrix = el("canvas", { role: "img", "aria-label": "Agreement of all heads, those alike side by side" });
  private readonly matrixSays = el("p", { class: "fv-quiet sv-says", role: "status" });
  private readonly groups = el("div", { class: "sv-groups" });
  private readonly least = el("input", { type: "range", min: 0.5, max: 1, step: 0.01, value: 0.9, "aria-label": "Agreement from which heads do the same" });
  private readonly leastSays = el("output", {});
  private readonly turn = el("button", { type: "button", class: "fv-small", click: () => { this.down = !this.down; this.rank(); } });
  private theme: Theme = "light";
  private measure = 0;
  private head = 0;
  private down = true;

  constructor(private readonly report: Report, element: HTMLElement) {
    this.lines = linesOf(report);
    this.merges = report.agreement ? linkage(report.agreement) : [];
    this.order = ordered(report.heads.length, this.merges);
    this.root = el("div", { class: "fv" },
      el("header", { class: "fv-top" }, el("span", { class: "fv-mark", "aria-hidden": true }), el("span", { class: "fv-brand" }, "foveate"),
        el("span", { class: "fv-title" }, "Survey of heads"), el("span", { class: "fv-spring" }), this.themeButton),
      el("h1", { class: "fv-message" }, report.title), el("p", { class: "fv-quiet sv-lead" }, report.about),
      ...report.notes.map((note) => el("p", { class: "fv-quiet sv-lead" }, note)),
      el("div", { class: "sv-columns" }, el("div", { class: "sv-left" }, this.picture(), this.ranking()), this.detail),
      report.agreement ? this.alike() : null);
    element.replaceWith(this.root);
    this.setTheme(this.around.theme(), false);
    this.around.follow(() => this.setTheme(this.around.theme(), false), () => undefined);
    this.pick(0);
    this.look(this.best());
    this.group();
  }

  private get values(): (number | null)[] { return this.report.measures[this.measure]!.values; }

  private best(): number {
    return this.sorted()[0] ?? 0;
  }

  private sorted(): number[] {
    const values = this.values;
    const known = values.map((_, at) => at).filter((at) => values[at] !== null);
    return known.sort((a, b) => (this.down ? -1 : 1) * (values[a]! - values[b]!) || a - b);
  }

  private picture(): HTMLElement {
    const chips = this.report.measures.map((measure, at) => {
      const chip = el("button", { type: "button", class: "fv-toggle", title: measure.about, click: () => this.pick(at) }, title(measure.name));
      this.picks.push(chip);
      return chip;
    });
    const widest = Math.max(...this.lines.map((line) => line.heads.length));
    const head = el("div", { class: "sv-row sv-numbers", "aria-hidden": true }, el("span", {}, "head"), ...Array.from({ length: widest }, (_, n) => el("span", {}, String(n))));
    const rows = this.lines.map((line) => el("div", { class: "sv-row", role: "row" }, el("span", { class: "sv-label", title: line.module }, line.label),
      ...line.heads.map((at) => this.cell(at))));
    const grid = el("div", { class: "sv-grid", role: "grid", "aria-label": "Layers and heads", keydown: (event: KeyboardEvent) => this.key(event) }, head, ...rows);
    grid.style.setProperty("--heads", String(widest));
    return el("section", { class: "fv-card", "aria-label": "All heads" }, el("div", { class: "sv-picks", role: "group", "aria-label": "Measure" }, ...chips),
      this.about, el("div", { class: "sv-scroll" }, grid), el("div", { class: "sv-scale" }, this.ends[0]!, this.scale, this.ends[1]!));
  }

  private cell(at: number): HTMLButtonElement {
    const cell = el("button", { type: "button", class: "sv-cell", role: "gridcell", tabindex: -1,
      click: () => this.look(at), focus: () => this.look(at), mouseenter: () => this.look(at, false) });
    this.cells[at] = cell;
    return cell;
  }

  private ranking(): HTMLElement {
    return el("section", { class: "fv-card", "aria-label": "Heads in order" },
      el("div", { class: "fv-head" }, el("h2", {}, "In order"), el("span", { class: "fv-spring" }), this.turn), el("div", { class: "sv-ranking" }, this.ranked));
  }

  private alike(): HTMLElement {
    this.least.addEventListener("input", () => this.group());
    this.matrix.addEventListener("mousemove", (event) => this.point(event));
    this.matrix.addEventListener("click", (event) => { const pair = this.under(event); if (pair) this.look(pair[0]); });
    return el("section", { class: "fv-card sv-alike", "aria-label": "Heads that do the same" },
      el("div", {}, el("h2", {}, "Agreement"), el("p", { class: "fv-quiet" }, "How much two heads read in common. Heads that are alike stand side by side."),
        this.matrix, this.matrixSays),
      el("div", {}, el("h2", {}, "Heads that do the same"),
        el("label", { class: "sv-least" }, "agree by ", this.leastSays, " or more", this.least), this.groups));
  }

  private key(event: KeyboardEvent): void {
    const row = this.lines.findIndex((line) => line.heads.includes(this.head));
    const column = this.lines[row]!.heads.indexOf(this.head);
    const step = ({ ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] } as Record<string, [number, number]>)[event.key];
    if (!step) return;
    event.preventDefault();
    const line = this.lines[Math.min(this.lines.length - 1, Math.max(0, row + step[0]))]!;
    const next = line.heads[Math.min(line.heads.length - 1, Math.max(0, column + step[1]))]!;
    this.cells[next]!.focus();
  }

  private pick(at: number): void {
    this.measure = at;
    this.picks.forEach((chip, n) => put(chip, "aria-pressed", String(n === at)));
    const { name, about } = this.report.measures[at]!;
    say(this.about, `${title(name)}: ${about}.`);
    this.paint();
    this.rank();
    if (this.detail.firstChild) this.look(this.head, false);
  }

  private range(): [number, number] {
    const known = this.values.filter((value): value is number => value !== null);
    const [low, high] = [Math.min(...known), Math.max(...known)];
    if (!known.length) return [0, 1];
    return low < 0 ? [-Math.max(-low, high), Math.max(-low, high)] : [low > 0.5 * high ? low : 0, high || 1];
  }

  private colour(value: number | null): string {
    if (value === null) return "transparent";
    const [low, high] = this.range();
    if (value < 0) return alpha(INK[this.theme].negative, Math.min(1, value / low));
    const share = (value - Math.max(0, low)) / (high - Math.max(0, low) || 1);
    const word = heatTable(this.theme)[Math.round(20 + 235 * Math.min(1, Math.max(0, share)))]!;
    return `rgb(${word & 255} ${(word >> 8) & 255} ${(word >> 16) & 255})`;
  }

  private paint(): void {
    const { name, errors } = this.report.measures[this.measure]!;
    this.cells.forEach((cell, at) => {
      const value = this.values[at] ?? null;
      cell.style.background = this.colour(value);
      cell.classList.toggle("sv-none", value === null);
      const error = errors[at] ?? null;
      put(cell, "aria-label", `${nameOf(this.report, at)}: ${title(name)} ${digits(value)}${error ? ` ± ${errorDigits(error)}` : ""}`);
      put(cell, "title", cell.getAttribute("aria-label")!);
    });
    const [low, high] = this.range();
    say(this.ends[0]!, digits(low));
    say(this.ends[1]!, digits(high));
    const [width, height] = [160, 10];
    const context = sizeCanvas(this.scale, width, height);
    context.clearRect(0, 0, width, height);
    for (let x = 0; x < width; x++) {
      context.fillStyle = this.colour(low + ((high - low) * x) / (width - 1));
      context.fillRect(x, 0, 1, height);
    }
    this.drawMatrix();
  }

  private rank(): void {
    say(this.turn, this.down ? "largest first" : "smallest first");
    const values = this.values;
    const top = Math.max(...values.map((value) => Math.abs(value ?? 0))) || 1;
    this.ranked.replaceChildren(...this.sorted().map((at) => {
      const bar = el("span", { class: "sv-bar" });
      bar.style.width = `${(100 * Math.abs(values[at]!)) / top}%`;
      if (values[at]! < 0) bar.classList.add("sv-below");
      return el("li", {}, el("button", { type: "button", class: "sv-rank", "aria-current": at === this.head, click: () => this.look(at) },
        el("span", { class: "sv-name" }, nameOf(this.report, at)), el("span", { class: "sv-track" }, bar), el("span", { class: "sv-value" }, digits(values[at]!))));
    }));
  }

  /** One head in numbers and examples. */
  private look(at: number, hold = true): void {
    if (hold) this.head = at;
    this.cells.forEach((cell, n) => {
      put(cell, "tabindex", n === this.head ? "0" : "-1");
      cell.classList.toggle("sv-chosen", n === this.head);
    });
    const { module, layer, head } = this.report.heads[at]!;
    const rows = this.report.measures.map(({ name, about, values, errors }, n) => el("tr", { class: n === this.measure ? "sv-now" : null },
      el("th", { scope: "row", title: about }, title(name)), el("td", {}, digits(values[at] ?? null)),
      el("td", { class: "fv-quiet" }, errors[at] ? `± ${errorDigits(errors[at]!)}` : "")));
    const examples = this.report.examples?.[at] ?? [];
    const near = this.nearest(at);
    const parts = [
      el("div", { class: "fv-head" }, el("h2", {}, layer === null ? `Head ${head}` : `Layer ${layer}, head ${head}`), el("span", { class: "fv-quiet sv-module" }, module)),
      el("table", { class: "sv-measures" }, el("caption", { class: "fv-hide" }, "Measures with their standard errors"), el("tbody", {}, ...rows)),
      near.length ? el("div", { class: "sv-near" }, el("span", { class: "fv-quiet" }, "Most like it: "), ...near.map((other) => this.chip(other, this.report.agreement![at]![other] ?? null))) : null,
      this.report.examples ? el("h3", {}, "Strongest links") : null,
      this.report.examples ? el("ol", { class: "sv-examples" }, ...examples.map((example) => this.example(example, this.report.heads[at]!.kind === "cross"))) : null,
    ];
    this.detail.replaceChildren(...parts.filter((part) => part !== null));
    this.root.querySelectorAll(".sv-rank").forEach((one) => one.removeAttribute("aria-current"));
    this.drawMatrix();
  }

  private nearest(at: number): number[] {
    const row = this.report.agreement?.[at];
    if (!row) return [];
    return row.map((_, n) => n).filter((n) => n !== at && row[n] !== null).sort((a, b) => row[b]! - row[a]!).slice(0, 4);
  }

  private chip(at: number, value: number | null = null): HTMLElement {
    return el("button", { type: "button", class: "fv-chip sv-chip", click: () => { this.look(at); this.cells[at]!.focus(); } }, nameOf(this.report, at),
      value === null ? null : el("span", { class: "fv-quiet" }, ` ${value.toFixed(2)}`));
  }

  private example(example: Example, cross: boolean): HTMLElement {
    const words = (tokens: string[], marks: [number, string][]) => el("span", { class: "sv-text" }, ...tokens.flatMap((token, at) => {
      const mark = marks.filter(([place]) => place === at).map(([, name]) => name).join(" ");
      return [at ? " " : null, mark ? el("mark", { class: mark }, token) : token];
    }));
    const { row, key, at_query, at_key, around_query, around_key } = example;
    const [first, second] = [row - at_query, key - at_key];   // where in the text both pieces begin
    const apart = cross || Math.max(first, second) > Math.min(first + around_query.length, second + around_key.length);
    const start = Math.min(first, second);
    const joined = first <= second ? [...around_query, ...around_key.slice(first + around_query.length - second)] : [...around_key, ...around_query.slice(second + around_key.length - first)];
    const shown = apart
      ? [words(around_query, [[at_query, "sv-query"]]), el("span", { class: "fv-quiet" }, " … "), words(around_key, [[at_key, "sv-key"]])]
      : [words(joined, [[row - start, "sv-query"], [key - start, "sv-key"]])];
    return el("li", {}, el("div", { class: "sv-link" }, el("b", { class: "sv-query" }, example.query_token), " → ", el("b", { class: "sv-key" }, example.key_token),
      el("span", { class: "fv-spring" }), el("span", { class: "fv-quiet", title: `text ${example.text}, token ${row} reads token ${key}` }, example.weight.toFixed(3))),
      ...shown);
  }

  private side(): number {
    return Math.max(120, Math.min(420, (this.matrix.parentElement?.clientWidth ?? 320)));
  }

  private drawMatrix(): void {
    const { agreement } = this.report;
    if (!agreement || !this.matrix.isConnected) return;
    const n = this.order.length;
    const side = this.side();
    const context = sizeCanvas(this.matrix, side, side);
    const table = heatTable(this.theme);
    context.clearRect(0, 0, side, side);
    const edge = (at: number) => (at * side) / n;
    this.order.forEach((a, row) => this.order.forEach((b, column) => {
      const value = agreement[a]![b];
      if (value === null || value === undefined) return;
      const word = table[Math.round(255 * Math.min(1, Math.max(0, value)) ** 2)]!;
      context.fillStyle = `rgb(${word & 255} ${(word >> 8) & 255} ${(word >> 16) & 255})`;
      context.fillRect(edge(column), edge(row), edge(column + 1) - edge(column) + 0.5, edge(row + 1) - edge(row) + 0.5);
    }));
    const at = this.order.indexOf(this.head);
    context.strokeStyle = INK[this.theme].mark;
    context.lineWidth = 1.5;
    context.strokeRect(0.75, edge(at), side - 1.5, side / n);
  }

  private under(event: MouseEvent): [number, number] | null {
    const box = this.matrix.getBoundingClientRect();
    const n = this.order.length;
    const place = (value: number, size: number) => Math.min(n - 1, Math.max(0, Math.floor((value * n) / size)));
    const [row, column] = [place(event.clientY - box.top, box.height), place(event.clientX - box.left, box.width)];
    return [this.order[row]!, this.order[column]!];
  }

  private point(event: MouseEvent): void {
    const pair = this.under(event);
    if (!pair) return;
    const value = this.report.agreement![pair[0]]![pair[1]] ?? null;
    say(this.matrixSays, `${nameOf(this.report, pair[0])} and ${nameOf(this.report, pair[1])}: ${digits(value)}`);
  }

  private group(): void {
    const least = Number(this.least.value);
    say(this.leastSays, least.toFixed(2));
    const found = clusters(this.report.heads.length, this.merges, least);
    const alone = this.report.heads.length - found.reduce((total, group) => total + group.length, 0);
    this.groups.replaceChildren(
      ...found.map((group) => el("div", { class: "sv-group" }, el("span", { class: "fv-quiet" }, `${group.length} heads`), ...group.map((at) => this.chip(at)))),
      el("p", { class: "fv-quiet" }, found.length ? `${alone} heads are in no group.` : "No two heads agree as much."));
  }

  private setTheme(theme: Theme, chosen: boolean): void {
    this.theme = theme;
    put(this.root, "data-theme", theme);
    this.around.setTheme(theme, chosen);
    say(this.themeButton, theme === "dark" ? "Light" : "Dark");
    this.paint();
  }
}
