// Everything that chooses what is seen, in the order of the Tab key.

import { headColor } from "../color";
import { el, put } from "../dom";
import type { Layout, LayoutKind } from "../layout";
import { numberOf, type Direction, type Kind } from "../protocol";
import type { Session } from "../session";
import { wordless } from "../units";

const KINDS: Record<Kind, string> = { encoder: "Encoder", decoder: "Decoder", cross: "Cross" };

export interface Choice<V extends string> {
  element: HTMLElement;
  show(value: V): void;
}

/** A radio group of buttons: one stop of the Tab key, arrow keys choose. */
export function radios<V extends string>(name: string, options: [V, string][], choose: (value: V) => void): Choice<V> {
  const buttons = options.map(([value, text]) => el("button", { type: "button", role: "radio", "aria-checked": "false", tabindex: "-1", "data-value": value, click: () => choose(value) }, text));
  const element = el("div", { class: "fv-radios", role: "radiogroup", "aria-label": name }, ...buttons);
  element.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const at = buttons.findIndex((button) => button.getAttribute("aria-checked") === "true");
    const next = (at + step + buttons.length) % buttons.length;
    choose((options[next] as [V, string])[0]);
    buttons[next]?.focus();
  });
  const show = (value: V) => {
    for (const button of buttons) {
      const on = button.dataset.value === value;
      put(button, "aria-checked", String(on));
      put(button, "tabindex", on ? "0" : "-1");
    }
  };
  return { element, show };
}

function checkbox(text: string, change: (on: boolean) => void): { element: HTMLElement; input: HTMLInputElement } {
  const input = el("input", { type: "checkbox" });
  input.addEventListener("change", () => change(input.checked));
  return { element: el("label", { class: "fv-check" }, input, text), input };
}

function select(name: string, change: (value: number) => void): { element: HTMLElement; input: HTMLSelectElement } {
  const input = el("select", { "aria-label": name });
  input.addEventListener("change", () => change(Number(input.value)));
  return { element: el("label", { class: "fv-select" }, el("span", {}, name), input), input };
}

function options(input: HTMLSelectElement, list: [number, string][], value: number): void {
  const name = JSON.stringify(list);
  if (input.dataset.of !== name) {
    input.dataset.of = name;
    input.replaceChildren(...list.map(([key, text]) => el("option", { value: key }, text)));
  }
  input.value = String(value);
}

export class Toolbar {
  readonly element: HTMLElement;
  private readonly kind: Choice<Kind>;
  private readonly direction: Choice<Direction>;
  private readonly layout: Choice<LayoutKind>;
  private readonly all: HTMLButtonElement;
  private readonly special: ReturnType<typeof checkbox>;
  private readonly words: ReturnType<typeof checkbox>;
  private readonly sequence: ReturnType<typeof select>;
  private readonly step: ReturnType<typeof select>;
  private readonly legend = el("div", { class: "fv-headlegend", role: "group", "aria-label": "Heads shown" });

  constructor(private readonly session: Session, save: { svg(): void; png(): void }) {
    const { doc } = session;
    const kinds = (["encoder", "decoder", "cross"] as const).filter((kind) => doc.calls.some((call) => call.kind === kind));
    this.kind = radios("Attention", kinds.map((kind) => [kind, KINDS[kind]]), (kind) => this.chooseKind(kind));
    this.direction = radios<Direction>("Direction", [["reads", "Looks at"], ["read_by", "Looked at by"]], (direction) => session.set({ direction }));
    this.layout = radios<LayoutKind>("Layout", [["columns", "Columns"], ["rows", "Rows"], ["text", "Text"]], (layout) => session.set({ layout }));
    this.all = el("button", { type: "button", class: "fv-toggle", "aria-pressed": "false", click: () => session.set({ all: !session.state.all }) }, "All heads");
    this.special = checkbox("Special tokens", (special) => session.set({ special }));
    this.words = checkbox("Whole words", (on) => session.set({ level: on ? "word" : "token" }));
    this.sequence = select(doc.sequences.some(({ picture }) => picture) ? "Picture no." : "Text no.", (sequence) => session.set({ sequence, cursor: null, other: null, locked: false }));
    this.step = select("Step", (call) => session.set({ call }));
    this.kind.element.hidden = kinds.length < 2;
    const button = (text: string, act: () => void) => el("button", { type: "button", class: "fv-plain", click: act }, text);
    this.element = el("div", { class: "fv-controls" },
      el("div", { class: "fv-toolbar", role: "toolbar", "aria-label": "What to show" },
        this.sequence.element, this.kind.element, this.step.element, this.direction.element, this.all, this.special.element, this.words.element,
        el("div", { class: "fv-right" }, this.layout.element, button("Save SVG", save.svg), button("Save PNG", save.png))),
      this.legend);
    this.legend.addEventListener("click", (event) => this.toggleHead(event.target));
  }

  private chooseKind(kind: Kind): void {
    const { doc, call } = this.session;
    const same = doc.calls.filter((other) => other.kind === kind);
    const layer = this.session.layers.indexOf(call);
    const steps = same.filter((other) => other.step === (same[0]?.step ?? 0));
    const next = steps[Math.min(layer, steps.length - 1)];
    if (next) this.session.set({ call: next.index });
  }

  update(layout: Layout["kind"]): void {
    const { session } = this;
    const { state, doc, call } = session;
    this.kind.show(call.kind);
    this.direction.show(state.direction);
    this.layout.element.hidden = layout === "picture";
    if (layout !== "picture") this.layout.show(layout);
    this.words.element.hidden = wordless(session.axes.query) && wordless(session.axes.key);
    put(this.all, "aria-pressed", String(state.all));
    this.all.hidden = call.heads < 2;
    this.special.input.checked = state.special;
    this.words.input.checked = state.level === "word";
    this.sequence.element.hidden = doc.sequences.length < 2;
    options(this.sequence.input, doc.sequences.map((_, n) => [n, String(n + 1)]), state.sequence);
    const steps = doc.calls.filter((other) => other.name === call.name);
    this.step.element.hidden = steps.length < 2;
    options(this.step.input, steps.map((other) => [other.index, String(other.step)]), call.index);
    this.showLegend();
  }

  private showLegend(): void {
    const { session } = this;
    const { call } = session;
    const { heads } = call;
    this.legend.hidden = !session.state.all || heads < 2;
    if (this.legend.hidden) return;
    if (this.legend.childElementCount !== heads) {
      this.legend.replaceChildren(...Array.from({ length: heads }, (_, head) => el("button", { type: "button", class: "fv-chip", "data-head": head }, el("i", { "aria-hidden": "true" }), `head ${numberOf(call, head)}`)));
    }
    Array.from(this.legend.children).forEach((chip, head) => {
      put(chip, "aria-pressed", String(!session.hidden.has(head)));
      (chip.firstElementChild as HTMLElement).style.backgroundColor = headColor(session.theme, head);
    });
  }

  private toggleHead(target: EventTarget | null): void {
    const chip = target instanceof Element ? target.closest<HTMLElement>(".fv-chip") : null;
    if (!chip) return;
    const head = Number(chip.dataset.head);
    const { hidden } = this.session;
    if (!hidden.delete(head)) hidden.add(head);
    this.session.set({});
  }
}

