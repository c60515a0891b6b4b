// One vector, drawn.

import { alpha, INK } from "../color";
import { brief, el, number, put, say, sizeCanvas } from "../dom";
import { FONT } from "../layout";
import type { Session } from "../session";

const STRIP_HEIGHT = 38;
const PRINT_LIMIT = 8;

/** One vector as small bars around a zero line. */
export class Strip {
  readonly element: HTMLElement;
  private readonly canvas = el("canvas", { role: "img" });
  private readonly name = el("span", { class: "fv-strip-name" });
  private readonly note = el("span", { class: "fv-strip-note" });
  private values: number[] | null = null;

  constructor(private readonly session: Session, name: string, onPoint: (dimension: number | null) => void) {
    put(this.canvas, "aria-label", name);
    this.element = el("div", { class: "fv-strip" }, el("div", { class: "fv-strip-head" }, this.name, this.note), this.canvas);
    this.canvas.addEventListener("pointermove", (event) => {
      const count = this.values?.length ?? 0;
      const box = this.canvas.getBoundingClientRect();
      onPoint(count ? Math.max(0, Math.min(count - 1, Math.floor(((event.clientX - box.left) / box.width) * count))) : null);
    });
    this.canvas.addEventListener("pointerleave", () => onPoint(null));
  }

  set(name: string, values: number[] | null): void {
    this.values = values;
    say(this.name, name);
    this.element.hidden = values === null;
  }

  draw(pointed: number | null, peak = 0): void {
    const { values, session } = this;
    if (!values) return;
    const ink = INK[session.theme];
    const width = Math.max(60, this.element.clientWidth);
    const print = values.length <= PRINT_LIMIT;
    const context = sizeCanvas(this.canvas, width, STRIP_HEIGHT + (print ? 14 : 0));
    const most = Math.max(peak, ...values.map(Math.abs)) || 1;
    const pitch = width / values.length;
    const gap = pitch > 5 ? 1 : pitch > 2.5 ? 0.5 : 0;
    const middle = STRIP_HEIGHT / 2;
    values.forEach((value, d) => {
      const h = (value / most) * (middle - 1);
      const color = value < 0 ? ink.negative : ink.accent;
      context.fillStyle = pointed === null || pointed === d ? color : alpha(color, 0.35);
      context.fillRect(d * pitch, h < 0 ? middle : middle - h, Math.max(0.6, pitch - gap), Math.max(0.5, Math.abs(h)));
    });
    context.fillStyle = ink.faint;
    context.fillRect(0, middle - 0.5, width, 1);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    if (print) this.print(context, values, pitch);
    say(this.note, pointed === null ? (print ? "" : `${brief(low)} … ${brief(high)}`) : `[${pointed}] ${number(values[pointed], true)}`);
    put(this.canvas, "aria-label", `${this.name.textContent ?? ""}: ${values.length} numbers from ${brief(low)} to ${brief(high)}`);
  }

  /** Few numbers are written out. */
  private print(context: CanvasRenderingContext2D, values: number[], pitch: number): void {
    context.fillStyle = INK[this.session.theme].muted;
    context.font = `10px ${FONT}`;
    context.textAlign = "center";
    values.forEach((value, d) => context.fillText(brief(value), (d + 0.5) * pitch, STRIP_HEIGHT + 10));
  }
}
