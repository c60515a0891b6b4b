// The text to run, examples, progress, and errors in words.

import { el, put, say } from "../dom";
import type { ModelInfo } from "../protocol";
import type { Host } from "../source";

const EVERY_MS = 200;

export class RunBar {
  readonly element: HTMLElement;
  private readonly text = el("textarea", { "aria-label": "Text", rows: 1, spellcheck: "false", placeholder: "Type or paste a text, then press Enter" });
  private readonly target = el("textarea", { "aria-label": "Target text", rows: 1, spellcheck: "false", placeholder: "Target text (empty: the model writes it)" });
  private readonly run = el("button", { type: "submit", class: "fv-run" }, "Run");
  private readonly examples = el("div", { class: "fv-examples", role: "group", "aria-label": "Examples" });
  private running = false;

  constructor(private readonly host: Host, private readonly status: Status, private readonly open: (id: string) => Promise<void>) {
    const form = el("form", { class: "fv-form" }, el("div", { class: "fv-fields" }, this.text, this.target), this.run);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.start();
    });
    this.text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      void this.start();
    });
    this.text.addEventListener("input", () => this.grow());
    this.element = el("section", { class: "fv-runbar", "aria-label": "Run a text" }, form, this.examples);
    this.element.hidden = true;
  }

  /** Follows the run that was under way when the page opened, unless there is a document to look at already. */
  async show(model: ModelInfo, follow: boolean): Promise<void> {
    this.element.hidden = model.kind === "none";
    this.target.hidden = model.kind !== "encoder-decoder";
    this.examples.hidden = !model.examples.length;
    this.examples.replaceChildren(...(model.examples.length ? [el("span", {}, "Try")] : []), ...model.examples.map((example) =>
      el("button", { type: "button", class: "fv-example", click: () => { this.fill(example); void this.start(); } }, example)));
    this.grow();
    if (model.run && follow) await this.watch(model.run);
  }

  /** The text of a document, unless the reader has typed one. */
  suggest(text: string): void {
    if (!this.text.value.trim()) this.fill(text);
  }

  private fill(text: string): void {
    this.text.value = text;
    this.grow();
  }

  /** As high as its text, up to a limit. */
  private grow(): void {
    this.text.style.height = "auto";
    this.text.style.height = `${Math.min(170, Math.max(46, this.text.scrollHeight + 2))}px`;
  }

  private async start(): Promise<void> {
    const text = this.text.value.trim();
    if (this.running) return;
    if (!text) return this.status.fail("Type a text first.");
    this.status.clear();
    try {
      await this.watch(await this.host.start(text, this.target.hidden ? "" : this.target.value.trim()));
    } catch (error) {
      this.status.fail(error instanceof Error ? error.message : String(error));
    }
  }

  /** Follows a run to its end; the page stays usable meanwhile. */
  async watch(run: string): Promise<void> {
    this.running = true;
    this.run.disabled = true;
    this.status.progress(0, "Starting …");
    try {
      for (;;) {
        const { state, progress, message, document } = await this.host.state(run);
        if (state === "failed") throw new Error(message || "The run failed.");
        if (state === "done") {
          if (document) await this.open(document);
          return;
        }
        this.status.progress(progress, message || "Running …");
        await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
      }
    } catch (error) {
      this.status.fail(error instanceof Error ? error.message : String(error));
    } finally {
      this.running = false;
      this.run.disabled = false;
      this.status.progress(null, "");
    }
  }
}

/** Progress, errors, and what is read out. */
export class Status {
  readonly element: HTMLElement;
  readonly live = el("p", { class: "fv-hide", "aria-live": "polite" });
  private readonly bar = el("div", { class: "fv-progress", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": "Progress" });
  private readonly fill = el("span", { class: "fv-progress-fill" });
  private readonly note = el("span", { class: "fv-progress-note" });
  private readonly alert = el("div", { class: "fv-alert", role: "alert" });

  constructor() {
    this.bar.append(this.fill);
    this.element = el("div", { class: "fv-status" }, el("div", { class: "fv-progress-row" }, this.bar, this.note), this.alert, this.live);
    this.progress(null, "");
    this.clear();
  }

  /** Null hides the bar; NaN is a wait of unknown length. */
  progress(part: number | null, message: string): void {
    const row = this.bar.parentElement as HTMLElement;
    row.hidden = part === null;
    if (part === null) return;
    const known = Number.isFinite(part);
    this.bar.classList.toggle("fv-unknown", !known);
    if (known) put(this.bar, "aria-valuenow", String(Math.round(100 * part)));
    else this.bar.removeAttribute("aria-valuenow");
    put(this.bar, "aria-valuetext", message);
    this.fill.style.width = known ? `${Math.max(2, 100 * part)}%` : "30%";
    say(this.note, message);
  }

  fail(message: string): void {
    this.alert.replaceChildren(el("span", {}, message), el("button", { type: "button", class: "fv-small", "aria-label": "Dismiss", click: () => this.clear() }, "×"));
    this.alert.hidden = false;
  }

  clear(): void {
    this.alert.replaceChildren();
    this.alert.hidden = true;
  }
}
