// What the colours of a long map mean: a logarithmic scale, how cells are pooled, and what is exact.

import { INK, logTable } from "../color";
import type { Theme } from "../color";
import { el, say, sizeCanvas } from "../dom";
import type { State } from "../state";
import { radios } from "./toolbar";
import type { Choice } from "./toolbar";

type How = State["how"];

const [WIDTH, HEIGHT] = [132, 9];
const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** 10⁻⁵, or the number itself where it is a plain one. */
function power(exponent: number): string {
  return exponent === 0 ? "1" : `10⁻${RAISED[-exponent]}`;
}

export class LogLegend {
  readonly element: HTMLElement;
  readonly how: Choice<How>;
  private readonly scale = el("canvas", { class: "fv-scale", "aria-hidden": "true" });
  private readonly ends = el("span", { class: "fv-scale-name" });
  private readonly note = el("p", { class: "fv-map-note" });
  private drawn = "";

  constructor(choose: (how: How) => void) {
    this.how = radios<How>("Of many weights in a pixel, show", [["max", "Largest"], ["mean", "Mean"]], choose);
    this.element = el("div", { class: "fv-loglegend" },
      el("div", { class: "fv-legend" }, this.ends, this.scale, "1", el("span", { class: "fv-quiet" }, "weight, logarithmic")), this.note);
  }

  /** `low` is the byte where colours begin. */
  show(theme: Theme, how: How, low: number, note: string): void {
    this.how.show(how);
    say(this.note, note);
    const name = `${theme}/${low}`;
    if (name === this.drawn) return;
    this.drawn = name;
    const context = sizeCanvas(this.scale, WIDTH, HEIGHT);
    const table = logTable(low, theme);
    for (let x = 0; x < WIDTH; x++) {
      const word = table[Math.round(low + ((255 - low) * x) / (WIDTH - 1))] as number;
      context.fillStyle = `rgb(${word & 255}, ${(word >> 8) & 255}, ${(word >> 16) & 255})`;
      context.fillRect(x, 0, 1, HEIGHT);
    }
    context.strokeStyle = INK[theme].faint;
    context.strokeRect(0.5, 0.5, WIDTH - 1, HEIGHT - 1);
    say(this.ends, power(Math.round(((low - 255) * 6) / 254)));
  }
}
