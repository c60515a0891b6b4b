// Walking through the steps of a decoder: back, on, or by itself.

import { el, put, say } from "../dom";
import type { Session } from "../session";
import { stepName } from "./sentences";

/** How long a step stays while the page goes on by itself. */
const PLAY_MS = 1400;

export class Stepper {
  readonly element: HTMLElement;
  private readonly back = this.button("‹", "Previous step", () => this.session.walk(-1));
  private readonly on = this.button("›", "Next step", () => this.session.walk(1));
  private readonly play = el("button", { type: "button", class: "fv-plain fv-play", click: () => this.toggle() }, "Play");
  private readonly slider = el("input", { type: "range", min: 1, step: 1, "aria-label": "Step" });
  private readonly where = el("span", { class: "fv-where" });
  private readonly whole = el("button", { type: "button", class: "fv-plain", click: () => this.session.set({ step: null }) }, "Show all");
  private readonly sample = el("span", { class: "fv-quiet fv-generated" }, "generated");
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** The step that it went to by itself; null while it stands. */
  private due: number | null = null;

  constructor(private readonly session: Session) {
    this.slider.addEventListener("input", () => session.set({ step: session.stops[Number(this.slider.value) - 1] ?? null }, performance.now()));
    this.element = el("div", { class: "fv-stepper", role: "group", "aria-label": "Decoding, step by step" }, this.back, this.play, this.on, this.slider, this.where, this.sample, this.whole);
  }

  private button(text: string, label: string, act: () => void): HTMLButtonElement {
    return el("button", { type: "button", class: "fv-plain", "aria-label": label, title: label, click: act }, text);
  }

  close(): void {
    clearTimeout(this.timer);
  }

  private toggle(): void {
    const { session } = this;
    const { stops, state } = session;
    if (this.due !== null) return this.stop();
    this.goTo(state.step === null || state.step === stops.at(-1) ? stops[0] : state.step);
  }

  private stop(): void {
    clearTimeout(this.timer);
    this.due = null;
    this.update();
  }

  private goTo(step: number | undefined): void {
    const { session } = this;
    if (step === undefined) return this.stop();
    this.due = step;
    session.set({ step }, performance.now());
    this.update();
    this.timer = setTimeout(() => {
      const { stops } = session;
      this.goTo(stops[stops.indexOf(step) + 1]);
    }, PLAY_MS);
  }

  update(): void {
    const { session, due } = this;
    const { stops, steps, state } = session;
    this.element.hidden = !steps.length;
    if (due !== null && state.step !== due) return this.stop(); // the reader went elsewhere
    const at = state.step === null ? -1 : stops.indexOf(state.step);
    const last = stops.length - 1;
    say(this.play, due === null ? "Play" : "Pause");
    this.slider.max = String(Math.max(1, stops.length));
    this.slider.value = String(at < 0 ? stops.length : at + 1);
    const name = at < 0 ? `${stops.length} steps` : stepName(session);
    put(this.slider, "aria-valuetext", name);
    const { own, side } = session.writing;
    say(this.where, at >= 0 ? `Step ${at + 1} of ${stops.length}` : own ? "Step through what was generated" : "Step through the decoding");
    this.sample.hidden = !own || side !== "source";
    this.back.disabled = at === 0;
    this.on.disabled = at === last;
    this.whole.disabled = at < 0;
  }
}
