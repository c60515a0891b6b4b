// All heads of all layers with their measures, in any order: which of them to look at.

import { brief, el, number, percent, put, say } from "../dom";
import { numberOf, type Call, type HeadMeasures } from "../protocol";
import type { Session } from "../session";
import { aborted, partial } from "../source";
import { drawThumbnail, sampled } from "./thumbnail";

interface Column {
  name: string;
  title: string;
  about: string;
  show(value: number): string;
}

const share = (value: number) => percent(value);
const COLUMNS: Column[] = [
  { name: "entropy", title: "Entropy", about: "of a row's weights, in nats: 0 where one key gets all", show: (value) => number(value) },
  { name: "spread", title: "Spread", about: "entropy as a part of the largest it could be, were all keys that are seen read alike", show: share },
  { name: "distance", title: "Distance", about: "to what is read, in tokens", show: brief },
  { name: "first", title: "First token", about: "share of the first token of the text", show: share },
  { name: "sink", title: "Sinks", about: "share of the four keys that receive most", show: share },
  { name: "previous", title: "Previous", about: "share of the token just before", show: share },
  { name: "duplicate", title: "Duplicate", about: "share of earlier places of the same token", show: share },
  { name: "induction", title: "Induction", about: "share of the tokens that came after the same token before", show: share },
];
const SIDE = 40;
const SOON_MS = 400;
const LATER_MS = 3000;

interface Entry {
  call: Call;
  head: number;
  row: HTMLTableRowElement;
  canvas: HTMLCanvasElement;
  cells: HTMLElement[];
}

export class FinderView {
  readonly element: HTMLDialogElement;
  readonly button = el("button", { type: "button", class: "fv-small", title: "Find a head by what it does (f)", click: () => this.open() }, "Find a head");
  private readonly progress = el("span", { class: "fv-quiet", role: "status" });
  private readonly header = el("tr", {});
  private readonly body = el("tbody", {});
  private readonly table: HTMLElement;
  private readonly known = new Map<number, HeadMeasures>();
  private entries: Entry[] = [];
  private built = "";
  private sorted: { name: string; down: boolean } = { name: "", down: true };
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asking = false;

  constructor(private readonly session: Session) {
    const close = el("button", { type: "button", class: "fv-small", "aria-label": "Close the list of heads", click: () => this.element.close() }, "×");
    this.table = el("table", { class: "fv-finder-table" }, el("caption", { class: "fv-hide" }, "Heads and their measures"), el("thead", {}, this.header), this.body);
    this.element = el("dialog", { class: "fv-finder", "aria-label": "Find a head" },
      el("div", { class: "fv-head" }, el("h2", {}, "Find a head"), this.progress, el("span", { class: "fv-spring" }), close),
      el("p", { class: "fv-quiet" }, "Sort by a measure; choose a head to look at it."),
      el("div", { class: "fv-finder-scroll" }, this.table));
    this.button.hidden = !session.source.heads;
    this.element.addEventListener("click", (event) => this.click(event));
    this.element.addEventListener("close", () => clearTimeout(this.timer));
    this.body.addEventListener("keydown", (event) => this.key(event));
    this.body.addEventListener("focusin", (event) => this.rove(event.target as Element));
  }

  close(): void {
    clearTimeout(this.timer);
    if (this.element.open) this.element.close();
  }

  /** Opens the list, at the head that is looked at. */
  open(): void {
    if (!this.session.source.heads || this.element.open) return;
    this.build();
    this.element.showModal();
    this.update();
    const { call, head } = this.session.state;
    this.entries.find((entry) => entry.call.index === call && entry.head === head)?.row.focus();
    void this.ask();
  }

  /** Draws pictures and numbers anew: there are more of them, or other colours. */
  update(): void {
    if (!this.element.open) return;
    const { thumbnails } = this.session;
    const answers = [...this.known.values()];
    const missing = this.session.layers.filter(({ index }) => !(this.known.get(index)?.measured ?? 0)).length;
    const rows = sampled(answers.filter(({ measured }) => measured));
    say(this.progress, missing ? `measuring ${this.session.layers.length - missing + 1} of ${this.session.layers.length} layers` : rows && `measured on ${rows}`);
    const shown = COLUMNS.map(({ name }) => this.entries.some((entry) => this.value(entry, name) !== null));
    const most = COLUMNS.map(({ name }) => Math.max(1e-12, ...this.entries.map((entry) => this.value(entry, name) ?? 0)));
    for (const entry of this.entries) {
      COLUMNS.forEach(({ name, show }, n) => {
        const cell = entry.cells[n] as HTMLElement;
        const value = this.value(entry, name);
        say(cell, value === null ? "–" : show(value));
        cell.style.setProperty("--part", String(value === null ? 0 : Math.max(0, value / (most[n] as number))));
        cell.hidden = !shown[n] && answers.length > 0;
      });
      const pictures = thumbnails.get(entry.call.index);
      if (pictures) this.draw(entry, pictures);
    }
    COLUMNS.forEach((_, n) => ((this.header.children[n + 2] as HTMLElement).hidden = !shown[n] && answers.length > 0));
    this.order();
  }

  private draw({ canvas, head }: Entry, pictures: Parameters<typeof drawThumbnail>[1]): void {
    const seen = `${pictures.measured};${this.session.theme}`;
    if (canvas.dataset.seen === seen) return;
    canvas.dataset.seen = seen;
    const context = canvas.getContext("2d");
    if (context) drawThumbnail(context, pictures, head, 0, 0, canvas.width, this.session.theme);
  }

  private value({ call, head }: Entry, name: string): number | null {
    const found = this.known.get(call.index);
    const at = found ? found.names.indexOf(name) : -1;
    return found?.values[head]?.[at] ?? null;
  }

  private build(): void {
    const { layers, state } = this.session;
    const name = `${state.sequence}:${layers.map((call) => call.index).join()}`;
    if (name === this.built) return;
    this.built = name;
    this.known.clear();
    const heading = (column: string, title: string, about: string) => el("th", { scope: "col", "data-column": column, title: about }, el("button", { type: "button" }, title));
    this.header.replaceChildren(heading("", "Head", "layer and head, in the order of the model"), el("th", { scope: "col" }, el("span", { class: "fv-hide" }, "Picture")), ...COLUMNS.map(({ name: column, title, about }) => heading(column, title, about)));
    this.entries = layers.flatMap((call) => Array.from({ length: call.heads }, (_, head) => this.entry(call, head)));
  }

  private entry(call: Call, head: number): Entry {
    const canvas = el("canvas", { width: SIDE * 2, height: SIDE * 2, "aria-hidden": "true" });
    const cells = COLUMNS.map(() => el("td", { class: "fv-finder-number" }));
    const row = el("tr", { tabindex: "-1", "data-call": call.index, "data-head": head },
      el("th", { scope: "row" }, el("span", {}, call.label || call.name), el("span", { class: "fv-quiet" }, ` head ${numberOf(call, head)}`)), el("td", {}, canvas), ...cells);
    return { call, head, row, canvas, cells };
  }

  /** Puts the rows in order; what has no number comes last. */
  private order(): void {
    const { name, down } = this.sorted;
    const at = new Map(this.entries.map((entry, n) => [entry, n]));
    const sorted = [...this.entries].sort((a, b) => {
      const [x, y] = [name ? this.value(a, name) : null, name ? this.value(b, name) : null];
      if (x === y) return (at.get(a) as number) - (at.get(b) as number);
      if (x === null || y === null) return x === null ? 1 : -1;
      return down ? y - x : x - y;
    });
    for (const cell of this.header.children) {
      const column = (cell as HTMLElement).dataset.column;
      if (column !== undefined) put(cell, "aria-sort", column !== name ? "none" : down && name ? "descending" : "ascending");
    }
    const { call, head } = this.session.state;
    for (const entry of this.entries) {
      const chosen = entry.call.index === call && entry.head === head;
      put(entry.row, "aria-selected", String(chosen));
      entry.row.classList.toggle("fv-chosen", chosen);
    }
    const rows = sorted.map((entry) => entry.row);
    if (rows.some((row, n) => this.body.children[n] !== row)) {
      const focused = this.body.contains(document.activeElement) ? (document.activeElement as HTMLElement) : null;
      this.body.replaceChildren(...rows);
      focused?.focus({ preventScroll: true });
    }
    if (!this.body.querySelector('tr[tabindex="0"]')) rows[0]?.setAttribute("tabindex", "0");
  }

  private rove(target: Element): void {
    for (const row of this.body.querySelectorAll('tr[tabindex="0"]')) put(row, "tabindex", "-1");
    const row = target.closest("tr");
    if (row) put(row, "tabindex", "0");
  }

  private click(event: MouseEvent): void {
    const target = event.target as Element;
    if (target === this.element) return this.element.close();
    const column = target.closest<HTMLElement>("th[data-column]")?.dataset.column;
    const row = target.closest<HTMLElement>("tr[data-call]");
    if (column !== undefined) {
      this.sorted = { name: column, down: column !== this.sorted.name || !this.sorted.down };
      this.order();
      (this.table.parentElement as HTMLElement).scrollTop = 0;
    } else if (row) this.choose(row);
  }

  private key(event: KeyboardEvent): void {
    const row = (event.target as Element).closest<HTMLElement>("tr[data-call]");
    if (!row) return;
    const rows = [...this.body.children] as HTMLElement[];
    const at = rows.indexOf(row);
    const page = Math.max(1, Math.floor((this.table.parentElement as HTMLElement).clientHeight / row.offsetHeight) - 2);
    const moves: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, PageDown: at + page, PageUp: at - page };
    const to = moves[event.key];
    if (to !== undefined) rows[Math.max(0, Math.min(rows.length - 1, to))]?.focus();
    else if (event.key === "Enter" || event.key === " ") this.choose(row);
    else return;
    event.preventDefault();
  }

  private choose(row: HTMLElement): void {
    this.element.close();
    this.session.set({ call: Number(row.dataset.call), head: Number(row.dataset.head), all: false });
  }

  /** Asks for the measures of all layers; again after a while where more rows will be known. */
  private async ask(): Promise<void> {
    if (this.asking) return;
    this.asking = true;
    try {
      const { layers, state, source } = this.session;
      const { sequence } = state;
      for (const { index } of layers) {
        if (!this.element.open || !source.heads) return;
        if (this.known.has(index) && !partial(this.known.get(index))) continue;
        this.known.set(index, await source.heads({ call: index, sequence }));
        this.update();
      }
      const answers = layers.map(({ index }) => this.known.get(index));
      if (answers.some(partial)) this.timer = setTimeout(() => void this.ask(), answers.some((one) => !one?.measured) ? SOON_MS : LATER_MS);
    } catch (error) {
      if (!aborted(error)) say(this.progress, error instanceof Error ? error.message : String(error));
    } finally {
      this.asking = false;
    }
  }
}
